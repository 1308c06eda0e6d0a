//! What the benchmarks of other languages are compared with (`bindings-python/bench/bench.py`): 1 KiB messages in batch
//! calls with every payload read, and one at a time, as JSON.
//!
//! `cargo run --profile ci -p levada --example baseline -- TOPIC [MESSAGES]`, on an empty topic.
#![expect(clippy::print_stdout, reason = "it has something to say")]

use std::time::{Duration, Instant};

use levada::{Client, ClientOptions, ConsumerOptions, Position, ProducerOptions};

const PAYLOAD_BYTES: usize = 1024;
const BATCH_MESSAGES: usize = 1000;
const SINGLE_COUNT: usize = 2000;
const REPEATS: usize = 3;

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::main(worker_threads = 2)]
async fn main() -> levada::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "bench/baseline".to_owned());
    let count: usize = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(500_000);
    let client = Client::connect(ClientOptions::new()).await?;
    let producer = client.producer(&topic, ProducerOptions::new()).await?;
    let payload: Vec<u8> = (0..=u8::MAX).cycle().take(PAYLOAD_BYTES).collect();
    let batch = vec![payload.as_slice(); BATCH_MESSAGES];
    producer.send_batch(&batch).await?;

    let started = now();
    for _ in 0..count / BATCH_MESSAGES {
        producer.send_batch(&batch).await?;
    }
    let send_batch = rate(count, started.elapsed());

    let started = now();
    for _ in 0..count {
        drop(producer.enqueue(payload.as_slice()).await?);
    }
    producer.flush().await?;
    let enqueue = rate(count, started.elapsed());

    let mut samples = Vec::with_capacity(SINGLE_COUNT);
    for _ in 0..SINGLE_COUNT {
        let started = now();
        producer.send(payload.as_slice()).await?;
        samples.push(started.elapsed());
    }
    samples.sort_unstable();
    let share =
        |percent: usize| samples.get(samples.len() * percent / 100).map_or(0.0, |took| took.as_secs_f64() * 1e6);

    let mut fastest: Option<(usize, Duration)> = None;
    for _ in 0..REPEATS {
        let read = consume(&client, &topic).await?;
        fastest = Some(fastest.map_or(read, |known| if known.1 <= read.1 { known } else { read }));
    }
    let receive_batch = fastest.map_or_else(String::new, |(count, took)| rate(count, took));
    println!(
        "{{\"client\": \"rust\", \"send_batch\": {send_batch}, \"enqueue\": {enqueue}, \"send_one\": {{\"p50_us\": {:.1}, \
         \"p90_us\": {:.1}, \"p99_us\": {:.1}}}, \"receive_batch\": {receive_batch}}}",
        share(50),
        share(90),
        share(99)
    );
    client.close(Duration::from_secs(5)).await
}

/// Reads a topic to its end, every byte of every payload.
async fn consume(client: &Client, topic: &str) -> levada::Result<(usize, Duration)> {
    let consumer = client.consumer(ConsumerOptions::new(topic).from(Position::EARLIEST).until_end()).await?;
    let (mut count, mut sum) = (0, 0_u64);
    let started = now();
    loop {
        let batches = consumer.receive_batch(BATCH_MESSAGES, 4 << 20, Duration::from_secs(10)).await?;
        if batches.is_empty() {
            break;
        }
        for message in batches.iter().flat_map(levada::Batch::messages) {
            count += 1;
            let bytes = message.payload.unwrap_or_default();
            sum = bytes.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        }
    }
    std::hint::black_box(sum);
    Ok((count, started.elapsed()))
}

fn rate(count: usize, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let per_second = count as f64 / seconds;
    let mib = per_second * PAYLOAD_BYTES as f64 / f64::from(1 << 20);
    format!("{{\"messages_per_s\": {per_second:.0}, \"mib_per_s\": {mib:.1}, \"seconds\": {seconds:.3}}}")
}
