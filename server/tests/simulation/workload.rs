//! What the clients do: producers that retry, consumers that follow, an administrator who creates and deletes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use levada::{
    ClientOptions, Consumer, ConsumerOptions, Durability, ErrorCode, Message, Position, Producer, ProducerOptions,
    Receipt, TopicOptions, topic_options,
};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::history::FinalLog;
use crate::random::Seeded;
use crate::world::{Feed, KnownTopics, World};

pub(crate) const PARTITIONS: u32 = 3;

/// Creates the feed's topic, whatever happens meanwhile.
pub(crate) async fn create_topic(world: &World, feed: &Feed) {
    let client = world.client().await;
    let options = TopicOptions { durability: feed.durability, ..topic_options(PARTITIONS) };
    loop {
        match client.admin().create_topic(feed.topic, options.clone()).await {
            Ok(_) => break,
            Err(error) if error.is(ErrorCode::AlreadyExists) => break,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    while feed.drops_duplicates && client.admin().set_dedup_messages(feed.topic, Some(1000)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A message of one feed, and its number in the history.
struct Sending {
    number: usize,
    partition: u32,
    value: String,
}

impl Sending {
    fn message(&self, feed: &Feed, random: &mut Seeded) -> Message {
        let padding = usize::try_from(random.below(0..2000)).unwrap_or(0);
        let message = Message::new(format!("{} {:padding$}", self.value, "")).partition(self.partition);
        // No two values of a feed are the same.
        let id = || std::array::from_fn(|at| self.value.as_bytes().get(at).copied().unwrap_or_default());
        if feed.drops_duplicates { message.id(id()) } else { message }
    }
}

/// Bursts after which a message that still is not acknowledged is given up.
const MAX_BURSTS: u32 = 500;

async fn new_producer(world: &World, feed: &Feed, random: &mut Seeded) -> Producer {
    loop {
        let client = world.client().await;
        let options = ProducerOptions::new()
            .batch_messages(usize::try_from(random.below(1..6)).unwrap_or(1))
            .max_in_flight(usize::try_from(random.below(1..6)).unwrap_or(1))
            // Without numbers whatever is lost on its way is of unknown fate.
            .idempotent(!feed.drops_duplicates || random.one_in(2))
            .delivery_timeout(Duration::from_secs(random.below(5..60)));
        match client.producer(feed.topic, options).await {
            Ok(producer) => return producer,
            Err(error) => {
                world.trace.event(error.name(), 0, 0);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Sends `message_count` messages in bursts. Ends when the fate of each is as clear as it will be: where the topic drops
/// duplicates, it is acknowledged.
pub(crate) async fn produce(world: Rc<World>, feed: Rc<Feed>, name: u64, message_count: u64, mut random: Seeded) {
    let mut producer = new_producer(&world, &feed, &mut random).await;
    let mut session = world.session();
    let (mut sent, mut unsure): (u64, Vec<Sending>) = (0, Vec::new());
    for _ in 0..MAX_BURSTS {
        if sent == message_count && unsure.is_empty() {
            break;
        }
        // Each outcome is written down when it is known, not in the order of sending.
        let mut burst = JoinSet::new();
        for _ in 0..random.below(1..9) {
            let sending = if let Some(sending) = unsure.pop() {
                feed.history.borrow_mut().again(sending.number, world.session());
                sending
            } else if sent < message_count {
                let partition = u32::try_from(random.below(0..u64::from(PARTITIONS))).unwrap_or(0);
                let value = format!("p{name}-{sent}");
                sent += 1;
                let number = feed.history.borrow_mut().invoke(session, partition, value.clone());
                Sending { number, partition, value }
            } else {
                break;
            };
            let message = sending.message(&feed, &mut random);
            let delivery = producer.enqueue(message).await;
            let (world, feed) = (Rc::clone(&world), Rc::clone(&feed));
            burst.spawn_local(async move {
                let outcome = match delivery {
                    Ok(delivery) => delivery.await,
                    Err(error) => Err(error),
                };
                if note(&world, &feed, sending.number, outcome) { None } else { Some(sending) }
            });
        }
        let broken: Vec<Sending> = burst.join_all().await.into_iter().flatten().collect();
        if !broken.is_empty() {
            let _closed = producer.close(Duration::from_secs(1)).await;
            producer = new_producer(&world, &feed, &mut random).await;
            session = world.session();
        }
        if feed.drops_duplicates {
            unsure.extend(broken);
        }
        tokio::time::sleep(random.millis(0..60)).await;
    }
    let _closed = producer.close(Duration::from_secs(5)).await;
}

/// Writes down what became of a message; whether it was acknowledged.
fn note(world: &World, feed: &Feed, number: usize, outcome: levada::Result<Receipt>) -> bool {
    let mut history = feed.history.borrow_mut();
    match &outcome {
        Ok(receipt) => {
            world.trace.event("acked", number as u64, receipt.offset.unwrap_or(u64::MAX));
            history.acked(number, receipt.partition, receipt.offset);
        }
        Err(error) => {
            world.trace.event(error.name(), number as u64, 0);
            if !error.maybe_applied() {
                history.failed(number);
            }
        }
    }
    outcome.is_ok()
}

/// Follows the topic from the start until told to stop; what it reads is written down. An application that goes on by offset
/// alone, as this one does when it makes a new consumer, cannot be told of losses: it is a new reader then, unless nothing is
/// ever lost.
pub(crate) async fn consume(world: Rc<World>, feed: Rc<Feed>, mut stop: oneshot::Receiver<()>) {
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let mut session = world.session();
    loop {
        if feed.durability == Durability::Memory {
            next.clear();
            session = world.session();
        }
        let consumer = tokio::select! {
            biased;
            _ = &mut stop => return,
            consumer = new_consumer(&world, &feed, &next) => consumer,
        };
        loop {
            let received = tokio::select! {
                biased;
                _ = &mut stop => return,
                received = consumer.receive_batch(100, 1 << 20, Duration::from_millis(500)) => received,
            };
            match received {
                Ok(batches) => {
                    for message in batches.iter().flat_map(levada::Batch::to_messages) {
                        let value = value_of(message.payload.as_deref());
                        world.trace.event("read", u64::from(message.partition), message.offset);
                        next.insert(message.partition, message.offset + 1);
                        feed.history.borrow_mut().read(session, message.partition, message.offset, value);
                    }
                }
                Err(error) => {
                    world.trace.event(error.name(), 0, 0);
                    let is_told = error.is(ErrorCode::LogTruncated);
                    feed.truncated_count.set(feed.truncated_count.get() + u64::from(is_told));
                    // Nothing that a consumer can see on a topic with durability disk is ever taken back; from one with
                    // durability memory, nothing without the word for it.
                    let is_allowed = is_told && feed.durability == Durability::Memory;
                    if (is_told || error.is(ErrorCode::OffsetOutOfRange)) && !is_allowed {
                        feed.history.borrow_mut().noticed.push(format!("a consumer met {error}"));
                        return;
                    }
                    break;
                }
            }
        }
    }
}

async fn new_consumer(world: &World, feed: &Feed, next: &BTreeMap<u32, u64>) -> Consumer {
    let client = world.client().await;
    let mut options = ConsumerOptions::new(feed.topic).partitions(0..PARTITIONS).from(Position::EARLIEST);
    for (partition, offset) in next {
        options = options.partition_from(*partition, Position::offset(*offset));
    }
    loop {
        match client.consumer(options.clone()).await {
            Ok(consumer) => return consumer,
            Err(error) => {
                world.trace.event(error.name(), 0, 0);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn value_of(payload: Option<&[u8]>) -> String {
    let text = String::from_utf8_lossy(payload.unwrap_or_default()).into_owned();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Creates and deletes topics and remembers what was answered for certain: true is there, false is gone.
pub(crate) async fn administer(world: Rc<World>, known: KnownTopics, mut random: Seeded) {
    let client = world.client().await;
    let admin = client.admin();
    for number in 0..4 {
        let topic = format!("adm/t{number}");
        if admin.create_topic(&topic, topic_options(1)).await.is_ok() {
            known.borrow_mut().insert(topic.clone(), true);
            if random.one_in(3) {
                known.borrow_mut().remove(&topic);
                if admin.delete_topic(&topic).await.is_ok() {
                    known.borrow_mut().insert(topic, false);
                }
            }
        }
        tokio::time::sleep(random.millis(0..300)).await;
    }
}

/// Reads the whole topic with a new client, until its end.
pub(crate) async fn read_all(feed: &Feed, options: ClientOptions) -> levada::Result<FinalLog> {
    let client = levada::Client::connect(options).await?;
    let consumer_options =
        ConsumerOptions::new(feed.topic).partitions(0..PARTITIONS).from(Position::EARLIEST).until_end();
    let consumer = client.consumer(consumer_options).await?;
    let mut log: FinalLog = (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect();
    while let Some(message) = consumer.receive().await? {
        let value = value_of(message.payload.as_deref());
        log.entry(message.partition).or_default().push((message.offset, value));
    }
    Ok(log)
}
