//! The real server is killed with SIGKILL under load, twenty times (`LEVADA_KILL_CYCLES` for more), and started again.
//! Idempotent producers go on through it all; at the end the log is read and every message accounted for:
//! acknowledged ones exactly once, at the offset of their receipt, in the order each producer sent them, and nothing that was never sent.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails where it stands, and prints what it measured"
)]

mod child;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use levada::{Client, ConsumerOptions, Message, Position, Producer, ProducerOptions, Receipt};
use tokio::sync::{Notify, mpsc};

use crate::child::{Server, connect};

const PRODUCERS: u64 = 4;
const PARTITIONS: u32 = 4;
/// Acknowledgements between two kills, all producers together.
const ACKS_PER_CYCLE: u64 = 2_000;
const TOPIC: &str = "crash/log";

/// What a producer was told, by the number of the message.
type Receipts = BTreeMap<u64, levada::Result<Receipt>>;

/// The progress all producers share.
#[derive(Default)]
struct Progress {
    acknowledged: AtomicU64,
    changed: Notify,
    stop: AtomicBool,
}

impl Progress {
    async fn reach(&self, count: u64) {
        while self.acknowledged.load(Ordering::Acquire) < count {
            self.changed.notified().await;
        }
    }
}

fn payload(producer: u64, number: u64) -> String {
    format!("producer {producer} message {number:010} {}", "x".repeat(usize::try_from(number % 300).unwrap()))
}

fn parse(payload: &[u8]) -> (u64, u64) {
    let text = std::str::from_utf8(payload).unwrap();
    let words: Vec<&str> = text.split(' ').collect();
    (words[1].parse().unwrap(), words[3].parse().unwrap())
}

/// Sends numbered messages under one key until told to stop; deliveries are awaited in order beside it.
async fn produce(producer: Producer, id: u64, progress: Arc<Progress>) -> Receipts {
    let (deliveries, mut waiting) = mpsc::channel::<(u64, levada::Delivery)>(1_000);
    let counter = progress.clone();
    let receipts = tokio::spawn(async move {
        let mut receipts = Receipts::new();
        while let Some((number, delivery)) = waiting.recv().await {
            let outcome = delivery.await;
            if outcome.is_ok() {
                counter.acknowledged.fetch_add(1, Ordering::AcqRel);
                counter.changed.notify_one();
            }
            receipts.insert(number, outcome);
        }
        receipts
    });
    let mut number = 0;
    while !progress.stop.load(Ordering::Acquire) {
        let message = Message::new(payload(id, number)).key(format!("producer {id}"));
        let delivery = producer.enqueue(message).await.unwrap();
        deliveries.send((number, delivery)).await.unwrap();
        number += 1;
    }
    drop(deliveries);
    producer.close(Duration::from_secs(60)).await.unwrap();
    receipts.await.unwrap()
}

/// The whole log: partition and offset of each payload, in order.
async fn read_all(client: &Client) -> Vec<(u32, u64, (u64, u64))> {
    let options = ConsumerOptions::new(TOPIC).from(Position::EARLIEST).until_end();
    let consumer = client.consumer(options).await.unwrap();
    let mut log = Vec::new();
    while let Some(message) = consumer.receive().await.unwrap() {
        log.push((message.partition, message.offset, parse(&message.payload.unwrap())));
    }
    log
}

fn check(receipts: &[Receipts], log: &[(u32, u64, (u64, u64))]) {
    let mut places = BTreeMap::new();
    let mut last_of_producer: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    let mut next_of_partition: BTreeMap<u32, u64> = BTreeMap::new();
    for &(partition, offset, (producer, number)) in log {
        assert_eq!(*next_of_partition.entry(partition).or_default(), offset, "a hole in partition {partition}");
        next_of_partition.insert(partition, offset + 1);
        let earlier = places.insert((producer, number), (partition, offset));
        assert_eq!(
            earlier, None,
            "message {number} of producer {producer} is stored twice, again at {partition}:{offset}"
        );
        let last = last_of_producer.insert((partition, producer), number);
        assert!(last.is_none_or(|last| last < number), "producer {producer}: {number} comes after {last:?}");
    }
    let mut acknowledged = 0;
    for (producer, receipts) in (0..).zip(receipts) {
        for (number, outcome) in receipts {
            let place = places.remove(&(producer, *number));
            let receipt =
                outcome.as_ref().unwrap_or_else(|error| panic!("message {number} of {producer} failed: {error}"));
            let (partition, offset) =
                place.unwrap_or_else(|| panic!("message {number} of producer {producer} is lost"));
            assert_eq!(receipt.partition, partition);
            assert!(receipt.offset.is_none_or(|told| told == offset), "told {:?}, is at {offset}", receipt.offset);
            acknowledged += 1;
        }
    }
    assert!(places.is_empty(), "stored but never sent: {places:?}");
    assert_eq!(acknowledged, log.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_duplicated_or_reordered_by_kill_9() {
    let cycles: u64 = std::env::var("LEVADA_KILL_CYCLES").map_or(20, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), "127.0.0.1:0");
    let address = server.address.clone();
    let client = connect(directory.path(), &address).await;
    client.admin().create_topic(TOPIC, levada::topic_options(PARTITIONS)).await.unwrap();

    let progress = Arc::new(Progress::default());
    let mut tasks = Vec::new();
    for id in 0..PRODUCERS {
        let client = connect(directory.path(), &address).await;
        let producer = client.producer(TOPIC, ProducerOptions::new()).await.unwrap();
        tasks.push(tokio::spawn(produce(producer, id, progress.clone())));
    }
    let mut slowest_start = Duration::ZERO;
    for cycle in 0..cycles {
        let goal = progress.acknowledged.load(Ordering::Acquire) + ACKS_PER_CYCLE;
        let progressed = tokio::time::timeout(Duration::from_secs(60), progress.reach(goal)).await;
        assert!(progressed.is_ok(), "cycle {cycle}: no progress in a minute");
        server.kill();
        server = Server::start(directory.path(), &address);
        slowest_start = slowest_start.max(server.ready_after);
    }
    progress.stop.store(true, Ordering::Release);
    let mut receipts = Vec::new();
    for task in tasks {
        receipts.push(task.await.unwrap());
    }
    let log = read_all(&client).await;
    check(&receipts, &log);
    println!("{cycles} kills, {} messages, all accounted for; slowest start {slowest_start:?}", log.len());
}
