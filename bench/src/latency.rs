//! One message at a time per producer, each acknowledged before the next: the latency a careful application sees.

use crate::payload::Payloads;
use crate::report::Recorder;
use crate::run::{BenchError, CLOSE_TIMEOUT, Measured, Shared, Total, together};
use crate::server_process::ServerProcess;
use levada::{Client, MessageRef, Producer, ProducerOptions};
use std::sync::Arc;
use tokio::time::Instant;

pub(crate) async fn run(shared: &Arc<Shared>, process: Option<&ServerProcess>) -> Result<Total, BenchError> {
    let plan = &shared.plan;
    let warm_up = (0..plan.producer_count).map(|index| plan.share(index).0).sum();
    together(shared, process, warm_up, plan.message_count, one).await
}

/// Payloads made in advance.
const PAYLOADS: u64 = 64;

async fn one(shared: Arc<Shared>, index: u32) -> Result<Measured, BenchError> {
    let plan = &shared.plan;
    let (warm_up, measured) = plan.share(index);
    let client = Client::connect(plan.client.clone()).await?;
    let options = ProducerOptions::new().compression(plan.compression).durability(plan.durability);
    let producer = client.producer(&shared.topic, options).await?;
    let payloads = Payloads::new(plan.seed.wrapping_add(index.into()), PAYLOADS, plan.payload_bytes);
    let mut recorder = Recorder::new();
    let partition = index % shared.partition_count;
    send(&shared, &producer, &payloads, partition, warm_up, &mut recorder).await?;
    let mut recorder = Recorder::new();
    shared.start.wait().await;
    shared.start.wait().await;
    send(&shared, &producer, &payloads, partition, measured, &mut recorder).await?;
    tokio::spawn(async move { client.close(CLOSE_TIMEOUT).await });
    Ok(Measured { recorder, message_count: measured, payload_bytes: measured * plan.payload_bytes as u64 })
}

async fn send(
    shared: &Shared,
    producer: &Producer,
    payloads: &Payloads,
    partition: u32,
    message_count: u64,
    recorder: &mut Recorder,
) -> Result<(), BenchError> {
    let payloads = payloads.batch(0, PAYLOADS);
    for payload in payloads.iter().cycle().zip(0..message_count).map(|(payload, _)| payload) {
        let message = MessageRef { payload: Some(payload), partition: Some(partition), ..MessageRef::default() };
        let handed_over = Instant::now();
        producer.send(message).await?;
        recorder.record(handed_over.elapsed());
        shared.progress.add(1);
    }
    Ok(())
}
