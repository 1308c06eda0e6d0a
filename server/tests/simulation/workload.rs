//! What the clients do: producers that retry, consumers that follow, an administrator who creates and deletes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use levada::{
    ClientOptions, Consumer, ConsumerOptions, ErrorCode, Message, Position, Producer, ProducerOptions, topic_options,
};
use tokio::sync::oneshot;

use crate::history::FinalLog;
use crate::random::Seeded;
use crate::world::{KnownTopics, World};

pub(crate) const TOPIC: &str = "sim/events";
pub(crate) const PARTITIONS: u32 = 3;

/// Creates the topic, whatever happens meanwhile.
pub(crate) async fn create_topic(world: &World) {
    let client = world.client().await;
    loop {
        match client.admin().create_topic(TOPIC, topic_options(PARTITIONS)).await {
            Ok(_) => return,
            Err(error) if error.is(ErrorCode::AlreadyExists) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn new_producer(world: &World, random: &mut Seeded) -> Producer {
    loop {
        let client = world.client().await;
        let options = ProducerOptions::new()
            .batch_messages(usize::try_from(random.below(1..6)).unwrap_or(1))
            .max_in_flight(usize::try_from(random.below(1..6)).unwrap_or(1))
            .delivery_timeout(Duration::from_secs(random.below(5..60)));
        match client.producer(TOPIC, options).await {
            Ok(producer) => return producer,
            Err(error) => {
                world.trace.event(error.name(), 0, 0);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Sends `message_count` messages in bursts. Ends when the fate of each is as clear as it will be.
pub(crate) async fn produce(world: Rc<World>, name: u64, message_count: u64, mut random: Seeded) {
    let mut producer = new_producer(&world, &mut random).await;
    let mut session = world.session();
    let mut sent = 0;
    while sent < message_count {
        let mut burst = Vec::new();
        for _ in 0..random.below(1..9).min(message_count - sent) {
            let partition = u32::try_from(random.below(0..u64::from(PARTITIONS))).unwrap_or(0);
            let value = format!("p{name}-{sent}");
            let padding = usize::try_from(random.below(0..2000)).unwrap_or(0);
            let payload = format!("{value} {:padding$}", "");
            let number = world.history.borrow_mut().invoke(session, partition, value);
            sent += 1;
            match producer.enqueue(Message::new(payload).partition(partition)).await {
                Ok(delivery) => burst.push((number, delivery)),
                Err(error) if error.maybe_applied() => {}
                Err(_) => world.history.borrow_mut().failed(number),
            }
        }
        let mut is_broken = false;
        for (number, delivery) in burst {
            match delivery.await {
                Ok(receipt) => {
                    world.trace.event("acked", number as u64, receipt.offset.unwrap_or(u64::MAX));
                    world.history.borrow_mut().acked(number, receipt.partition, receipt.offset);
                }
                Err(error) => {
                    world.trace.event(error.name(), number as u64, 0);
                    is_broken = true;
                    if !error.maybe_applied() {
                        world.history.borrow_mut().failed(number);
                    }
                }
            }
        }
        if is_broken {
            let _closed = producer.close(Duration::from_secs(1)).await;
            producer = new_producer(&world, &mut random).await;
            session = world.session();
        }
        tokio::time::sleep(random.millis(0..60)).await;
    }
    let _closed = producer.close(Duration::from_secs(5)).await;
}

/// Follows the topic from the start until told to stop; what it reads is written down.
pub(crate) async fn consume(world: Rc<World>, mut stop: oneshot::Receiver<()>) {
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let session = world.session();
    loop {
        let consumer = tokio::select! {
            biased;
            _ = &mut stop => return,
            consumer = new_consumer(&world, &next) => consumer,
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
                        world.history.borrow_mut().read(session, message.partition, message.offset, value);
                    }
                }
                Err(error) => {
                    world.trace.event(error.name(), 0, 0);
                    // Nothing that a consumer can see on a topic with durability disk is ever taken back.
                    if matches!(error.code(), Some(ErrorCode::LogTruncated | ErrorCode::OffsetOutOfRange)) {
                        world.history.borrow_mut().noticed.push(format!("a consumer met {error}"));
                        return;
                    }
                    break;
                }
            }
        }
    }
}

async fn new_consumer(world: &World, next: &BTreeMap<u32, u64>) -> Consumer {
    let client = world.client().await;
    let mut options = ConsumerOptions::new(TOPIC).partitions(0..PARTITIONS).from(Position::EARLIEST);
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
pub(crate) async fn read_all(options: ClientOptions) -> levada::Result<FinalLog> {
    let client = levada::Client::connect(options).await?;
    let consumer_options = ConsumerOptions::new(TOPIC).partitions(0..PARTITIONS).from(Position::EARLIEST).until_end();
    let consumer = client.consumer(consumer_options).await?;
    let mut log: FinalLog = (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect();
    while let Some(message) = consumer.receive().await? {
        let value = value_of(message.payload.as_deref());
        log.entry(message.partition).or_default().push((message.offset, value));
    }
    Ok(log)
}
