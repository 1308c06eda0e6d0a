//! How fast one core's log is on a real disk, without a network: throughput, commit latency, reads.
//!
//! `cargo run --release -p levada-storage --example log_probe -- DIR [BACKEND] [MIB]`
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a command for people that measures time"
)]

mod support;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use levada_storage::{AppendError, Durability, Partition, PartitionConfig};
use support::{batch, open, percentile, storage};

/// Appends as fast as back-pressure and a window of batches allow.
async fn pour(partition: &Rc<Partition>, batch: &Bytes, total_bytes: u64, window: usize) -> Duration {
    let start = Instant::now();
    let mut tickets = std::collections::VecDeque::new();
    let mut sent = 0;
    while sent < total_bytes {
        match partition.append(batch.clone(), Durability::Disk) {
            Ok(append) => {
                sent += batch.len() as u64;
                tickets.push_back(append.ticket);
            }
            Err(AppendError::Full) => partition.writable().await,
            Err(error) => panic!("{error}"),
        }
        if window <= tickets.len() {
            partition.durable(tickets.pop_front().unwrap()).await.unwrap();
        }
    }
    for ticket in tickets {
        partition.durable(ticket).await.unwrap();
    }
    start.elapsed()
}

async fn latency(partition: &Rc<Partition>, batch: &Bytes, count: usize) {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        let append = partition.append(batch.clone(), Durability::Disk).unwrap();
        partition.durable(append.ticket).await.unwrap();
        times.push(start.elapsed().as_micros());
    }
    times.sort_unstable();
    println!("one at a time: p50 {} us, p99 {} us", percentile(&times, 0.5), percentile(&times, 0.99));
}

async fn drain(partition: &Rc<Partition>, name: &str) {
    let start = Instant::now();
    let (mut offset, end, mut bytes) = (0, partition.watermarks().visible_end_offset, 0);
    while offset < end {
        let read = match partition.try_read_cached(offset, 1 << 20) {
            Some(read) => read,
            None => partition.read(offset, 1 << 20).await,
        };
        let read = read.unwrap();
        offset = read.next_offset;
        bytes += read.total_bytes as u64;
    }
    report(name, bytes, start.elapsed());
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn report(name: &str, bytes: u64, elapsed: Duration) {
    println!("{name}: {:.0} MB/s ({} MiB in {elapsed:.2?})", bytes as f64 / elapsed.as_secs_f64() / 1e6, bytes >> 20);
}

async fn measure(dir: PathBuf, backend: String, mib: u64) {
    let cache_bytes = std::env::var("CACHE_MIB").ok().map_or(2048, |text| text.parse::<u64>().unwrap()) << 20;
    let cached = storage(&dir, &backend, cache_bytes).await;
    println!("backend {}", cached.disk().backend());
    let partition = open(&cached, 1, PartitionConfig::default()).await;
    for (count, bytes, window) in [(1000, 1000, 4), (1000, 1000, 16), (1000, 100, 16), (20_000, 32, 8)] {
        let one = batch(count, bytes);
        let total = mib << 20;
        let elapsed = pour(&partition, &one, total, window).await;
        report(&format!("{count} x {bytes} B, window {window}"), total, elapsed);
        let status = partition.status();
        println!("  commits so far {}, recent {} us each", status.commit_count, status.flush_latency_us);
    }
    let small = batch(1, 1024);
    latency(&open(&cached, 2, PartitionConfig::default()).await, &small, 5000).await;
    for window in [8, 64] {
        let many = open(&cached, 10 + u32::try_from(window).unwrap(), PartitionConfig::default()).await;
        let elapsed = pour(&many, &small, 20_000 * small.len() as u64, window).await;
        println!("1 x 1024 B, window {window}: {:.0} batches/s", 20_000.0 / elapsed.as_secs_f64());
    }
    let hot = open(&cached, 3, PartitionConfig::default()).await;
    pour(&hot, &batch(1000, 1000), 1 << 30, 8).await;
    drain(&hot, "read 1 GiB from the cache").await;
    partition.close().await.unwrap();
    let cold = storage(&dir, &backend, 64 << 20).await;
    let partition = open(&cold, 1, PartitionConfig::default()).await;
    drain(&partition, "read cold").await;
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let dir = PathBuf::from(arguments.get(1).expect("a directory"));
    let backend = arguments.get(2).cloned().unwrap_or_else(|| "auto".to_owned());
    let mib = arguments.get(3).map_or(1024, |text| text.parse().expect("a number of mebibytes"));
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, measure(dir, backend, mib));
}
