//! Many active partitions on one core: one file each, against the same load on a single log (a journal).
//!
//! `cargo run --release -p levada-storage --example partitions_probe -- DIR [BACKEND] [PARTITIONS] [MESSAGES]`
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a command for people that measures time"
)]

mod support;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use levada_storage::{Durability, Partition, PartitionConfig};
use support::{batch, open, percentile, storage};

/// Each producer keeps this many messages under way: 8 connections with a window each.
const WINDOW: usize = 16;
const PRODUCERS: usize = 8;

async fn load(partitions: Rc<Vec<Rc<Partition>>>, messages: usize, name: &str) {
    let one = batch(1, 1024);
    let left = Rc::new(Cell::new(messages));
    let times = Rc::new(RefCell::new(Vec::with_capacity(messages)));
    let start = Instant::now();
    let tasks: Vec<_> = (0..PRODUCERS * WINDOW)
        .map(|number| {
            let (partitions, left, times, one) = (partitions.clone(), left.clone(), times.clone(), one.clone());
            tokio::task::spawn_local(async move {
                let mut at = number * 7919;
                while 0 < left.get() {
                    left.set(left.get() - 1);
                    at = (at * 31 + 17) % 1_000_003;
                    let partition = &partitions[at % partitions.len()];
                    let begun = Instant::now();
                    let append = partition.append(one.clone(), Durability::Disk).unwrap();
                    partition.durable(append.ticket).await.unwrap();
                    times.borrow_mut().push(begun.elapsed().as_micros());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let elapsed = start.elapsed();
    let mut times = times.take();
    times.sort_unstable();
    let commits: u64 = partitions.iter().map(|partition| partition.status().commit_count).sum();
    println!(
        "{name}: {:.0} messages/s, p50 {} us, p99 {} us, {commits} commits",
        f64::from(u32::try_from(times.len()).unwrap()) / elapsed.as_secs_f64(),
        percentile(&times, 0.5),
        percentile(&times, 0.99),
    );
}

async fn measure(dir: PathBuf, backend: String, count: u32, messages: usize) {
    let storage = storage(&dir, &backend, 256 << 20).await;
    println!("backend {}", storage.disk().backend());
    let mut partitions = Vec::new();
    for number in 0..count {
        partitions.push(open(&storage, 1000 + number, PartitionConfig::default()).await);
    }
    let partitions = Rc::new(partitions);
    // The first round creates the files; the second is the steady state.
    load(partitions.clone(), messages.min(4 * count as usize), &format!("{count} partitions, first messages")).await;
    load(partitions, messages, &format!("{count} partitions")).await;
    let journal = Rc::new(vec![open(&storage, 1, PartitionConfig::default()).await]);
    load(journal, messages, "one journal").await;
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let dir = PathBuf::from(arguments.get(1).expect("a directory"));
    let backend = arguments.get(2).cloned().unwrap_or_else(|| "auto".to_owned());
    let count = arguments.get(3).map_or(1000, |text| text.parse().expect("a number of partitions"));
    let messages = arguments.get(4).map_or(100_000, |text| text.parse().expect("a number of messages"));
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, measure(dir, backend, count, messages));
}
