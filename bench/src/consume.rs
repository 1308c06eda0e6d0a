//! Reading from the start to the end the topic had then. Each consumer takes its share of the partitions. The latency is
//! how long a consumer waited for its next batch. Every payload is looked at, so that nothing lazy goes unmeasured.

use crate::produce;
use crate::report::Recorder;
use crate::run::{BenchError, CLOSE_TIMEOUT, Measured, Shared, Total, together};
use crate::server_process::ServerProcess;
use crate::topic::BenchTopic;
use levada::{Client, ConsumerOptions, Position};
use std::sync::Arc;
use tokio::time::Instant;

pub(crate) async fn run(
    shared: &Arc<Shared>,
    process: Option<&ServerProcess>,
    client: &Client,
    topic: &BenchTopic,
) -> Result<Total, BenchError> {
    if shared.plan.producer_count > shared.partition_count {
        let (consumers, partitions) = (shared.plan.producer_count, shared.partition_count);
        return Err(BenchError::Plan(format!(
            "{consumers} consumers cannot share {partitions} partitions: use --partitions {consumers}"
        )));
    }
    if topic.is_temporary() {
        produce::fill(shared, client).await?;
    }
    let partitions = client.admin().describe_topic(&shared.topic).await?.partitions;
    let messages = partitions.iter().map(|p| p.visible_end_offset.saturating_sub(p.log_start_offset)).sum();
    if messages == 0 {
        return Err(BenchError::Plan(format!("topic {} has no messages to read", shared.topic)));
    }
    together(shared, process, 0, messages, one).await
}

async fn one(shared: Arc<Shared>, index: u32) -> Result<Measured, BenchError> {
    let client = Client::connect(shared.plan.client.clone()).await?;
    let partitions = (index..shared.partition_count).step_by(shared.plan.producer_count as usize);
    let options = ConsumerOptions::new(&shared.topic).partitions(partitions).from(Position::EARLIEST).until_end();
    shared.start.wait().await;
    shared.start.wait().await;
    let consumer = client.consumer(options).await?;
    let mut measured = Measured { recorder: Recorder::new(), message_count: 0, payload_bytes: 0 };
    let mut asked = Instant::now();
    while let Some(batch) = consumer.next_batch().await? {
        measured.recorder.record(asked.elapsed());
        let (mut message_count, mut payload_bytes) = (0, 0);
        for message in batch.messages() {
            message_count += 1;
            payload_bytes += message.payload.map_or(0, <[u8]>::len) as u64;
        }
        measured.message_count += message_count;
        measured.payload_bytes += payload_bytes;
        shared.progress.add(message_count);
        asked = Instant::now();
    }
    tokio::spawn(async move { client.close(CLOSE_TIMEOUT).await });
    Ok(measured)
}
