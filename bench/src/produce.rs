//! Batches per producer, a fixed number of them unacknowledged; a batch's latency is from hand-over to acknowledgement.

use crate::payload::Payloads;
use crate::plan::Plan;
use crate::report::Recorder;
use crate::run::{BenchError, CLOSE_TIMEOUT, Measured, Shared, Total, together};
use crate::server_process::ServerProcess;
use bytes::Bytes;
use levada::{BatchDelivery, Client, MessageRef, Producer, ProducerOptions};
use std::collections::VecDeque;
use std::slice;
use std::sync::Arc;
use tokio::time::Instant;

pub(crate) async fn run(shared: &Arc<Shared>, process: Option<&ServerProcess>) -> Result<Total, BenchError> {
    let plan = &shared.plan;
    let warm_up = (0..plan.producer_count).map(|index| plan.share(index).0).sum();
    together(shared, process, warm_up, plan.message_count, one).await
}

/// Fills a topic before it is read; nothing is measured.
pub(crate) async fn fill(shared: &Arc<Shared>, client: &Client) -> Result<(), BenchError> {
    let plan = &shared.plan;
    shared.progress.prepare(plan.message_count);
    let mut sender = Sender::open(shared, client.clone(), 0).await?;
    sender.send(plan.message_count).await?;
    sender.producer.close(CLOSE_TIMEOUT).await?;
    Ok(())
}

async fn one(shared: Arc<Shared>, index: u32) -> Result<Measured, BenchError> {
    let (warm_up, measured) = shared.plan.share(index);
    let client = Client::connect(shared.plan.client.clone()).await?;
    let mut sender = Sender::open(&shared, client.clone(), index).await?;
    sender.send(warm_up).await?;
    sender.recorder = Recorder::new();
    shared.start.wait().await;
    shared.start.wait().await;
    sender.send(measured).await?;
    let payload_bytes = measured * shared.plan.payload_bytes as u64;
    let recorder = sender.recorder;
    // The measured part is over: closing must not count. Its own failure would be one of what was already acknowledged.
    tokio::spawn(async move { client.close(CLOSE_TIMEOUT).await });
    Ok(Measured { recorder, message_count: measured, payload_bytes })
}

struct Sender {
    shared: Arc<Shared>,
    producer: Producer,
    payloads: Payloads,
    recorder: Recorder,
    batches_sent: u64,
    unacknowledged: VecDeque<(Instant, BatchDelivery, u64)>,
}

impl Sender {
    async fn open(shared: &Arc<Shared>, client: Client, index: u32) -> Result<Self, BenchError> {
        let plan = &shared.plan;
        let producer = client.producer(&shared.topic, options(plan)?).await?;
        Ok(Self {
            shared: Arc::clone(shared),
            producer,
            payloads: Payloads::new(plan.seed.wrapping_add(index.into()), plan.batch_messages, plan.payload_bytes),
            recorder: Recorder::new(),
            // Producers begin at different partitions.
            batches_sent: index.into(),
            unacknowledged: VecDeque::new(),
        })
    }

    /// Sends that many messages and waits for the last acknowledgement.
    async fn send(&mut self, message_count: u64) -> Result<(), BenchError> {
        let (in_flight, batch_messages) = (self.shared.plan.in_flight, self.shared.plan.batch_messages);
        let mut left = message_count;
        while left > 0 {
            while self.unacknowledged.len() >= in_flight {
                self.settle_one().await?;
            }
            let count = left.min(batch_messages);
            let partition = u32::try_from(self.batches_sent % u64::from(self.shared.partition_count)).ok();
            let batch = self.payloads.batch(self.batches_sent, count);
            let handed_over = Instant::now();
            let messages = Messages { payloads: batch.iter(), partition };
            let delivery = self.producer.enqueue_batch(messages).await?;
            self.unacknowledged.push_back((handed_over, delivery, count));
            self.batches_sent += 1;
            left -= count;
        }
        while !self.unacknowledged.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), BenchError> {
        let Some((handed_over, delivery, count)) = self.unacknowledged.pop_front() else { return Ok(()) };
        delivery.await?;
        self.recorder.record(handed_over.elapsed());
        self.shared.progress.add(count);
        Ok(())
    }
}

/// The messages of a batch. A named type, because a closure held across an await keeps a future from being `Send`.
struct Messages<'a> {
    payloads: slice::Iter<'a, Bytes>,
    partition: Option<u32>,
}

impl<'a> Iterator for Messages<'a> {
    type Item = MessageRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let payload = self.payloads.next()?;
        Some(MessageRef { payload: Some(payload), partition: self.partition, ..MessageRef::default() })
    }
}

/// Options under which each call of `enqueue_batch` makes one batch.
fn options(plan: &Plan) -> Result<ProducerOptions, BenchError> {
    /// Header, timestamp and alignment of a message, and a batch's parts, at most.
    const OVERHEAD_BYTES: usize = 64;
    const MAX_BATCH_BYTES: usize = 16 << 20;
    let batch_messages = usize::try_from(plan.batch_messages).unwrap_or(usize::MAX);
    let batch_bytes = batch_messages.saturating_mul(plan.payload_bytes.saturating_add(16)).saturating_add(1024);
    if batch_messages == 0 || batch_bytes > MAX_BATCH_BYTES {
        return Err(BenchError::Plan(format!(
            "a batch of {batch_messages} messages of {} bytes is not possible: a batch has 1 message to {} MiB",
            plan.payload_bytes,
            MAX_BATCH_BYTES >> 20
        )));
    }
    let buffered = batch_bytes.saturating_add(OVERHEAD_BYTES).saturating_mul(plan.in_flight + 2);
    Ok(ProducerOptions::new()
        .batch_messages(batch_messages)
        .batch_bytes(batch_bytes)
        .max_in_flight(plan.in_flight)
        .max_buffered_bytes(buffered.max(64 << 20))
        .compression(plan.compression)
        .durability(plan.durability))
}
