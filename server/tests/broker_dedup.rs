//! Scenarios of topics that drop messages whose id they have already.

mod broker_world;

use std::rc::Rc;
use std::time::Duration;

use broker_world::*;
use bytes::Bytes;
use levada_protocol::batch::{BatchBuilder, BatchLimits, Codec, NewMessage, SealOptions};
use levada_protocol::messages::*;
use levada_server::metadata::event::TopicSupplemented;
use levada_server::metadata::model::TopicSupplement;
use levada_storage::crash::Survival;

/// Messages whose payload is their id's first byte.
fn batch(ids: &[u8], options: SealOptions) -> Bytes {
    let mut builder = BatchBuilder::new(BatchLimits::default());
    for number in ids {
        let payload = [b'a' + number];
        let message = NewMessage { payload: Some(&payload), id: Some([*number; 16]), ..NewMessage::default() };
        builder.push(&message).expect("the scenario holds");
    }
    builder.seal(&options).expect("the scenario holds")
}

fn plain(ids: &[u8]) -> Bytes {
    batch(ids, SealOptions::default())
}

fn dedup(topic_id: u32, dedup_messages: Option<u32>) -> TopicSupplemented {
    TopicSupplemented { topic_id, supplement: TopicSupplement { dedup_messages, ..TopicSupplement::default() } }
}

/// A topic that compares with its last `messages`.
async fn dedup_topic(world: &Rc<World>, messages: u32) -> u32 {
    let topic_id = world.topic(1).await;
    world.happen(dedup(topic_id, Some(messages))).await;
    topic_id
}

/// Name, indices and offsets of a refusal.
fn told(refused: Result<ProduceAck, Error>) -> (&'static str, String, String) {
    let error = refused.expect_err("it holds what the log has");
    let detail = |name| detail(&error.details, name).unwrap_or_default();
    (code(&error), detail("indices"), detail("offsets"))
}

async fn all(client: &mut Client, topic: u32) -> String {
    client.fetch(from_start(topic, 0)).await.expect("the scenario holds").1.concat()
}

#[test]
fn what_the_log_has_is_named_and_nothing_of_its_batch_is_appended() {
    scenario(async {
        let (world, _, [mut client]) = World::with_clients().await;
        let topic = dedup_topic(&world, 100).await;
        client.produce_batch(topic, 0, plain(&[0, 1])).await.unwrap();
        let refused = client.produce_batch(topic, 0, plain(&[2, 1, 3, 0, 2])).await;
        assert_eq!(told(refused), ("DUPLICATE_MESSAGES", "1,3,4".into(), "1,0,-".into()));
        assert_eq!(client.produce_batch(topic, 0, plain(&[2, 3])).await.unwrap().base_offset, 2);
        client.produce(topic, 0, &["without an id", "without an id"]).await.unwrap();
        assert_eq!(all(&mut client, topic).await, "abcdwithout an idwithout an id");
    });
}

#[test]
fn only_the_last_messages_count() {
    scenario(async {
        let (world, _, [mut client]) = World::with_clients().await;
        let topic = dedup_topic(&world, 2).await;
        for number in 0..3 {
            client.produce_batch(topic, 0, plain(&[number])).await.unwrap();
        }
        assert_eq!(told(client.produce_batch(topic, 0, plain(&[1])).await).1, "0");
        client.produce_batch(topic, 0, plain(&[0])).await.unwrap();
        world.happen(dedup(topic, None)).await;
        client.produce_batch(topic, 0, plain(&[0])).await.unwrap();
        world.happen(dedup(topic, Some(3))).await;
        assert_eq!(told(client.produce_batch(topic, 0, plain(&[2])).await).2, "2", "what came meanwhile counts too");
        assert_eq!(all(&mut client, topic).await, "abcaa");
    });
}

#[test]
fn a_retry_is_known_by_its_sequence_before_its_ids() {
    scenario(async {
        let (world, _, [mut client]) = World::with_clients().await;
        let topic = dedup_topic(&world, 100).await;
        let numbered = |first_sequence, ids: &[u8]| {
            batch(ids, SealOptions { producer_id: 9, producer_epoch: 1, first_sequence, ..SealOptions::default() })
        };
        client.produce_batch(topic, 0, numbered(0, &[0, 1])).await.unwrap();
        let again = client.produce_batch(topic, 0, numbered(0, &[0, 1])).await.unwrap();
        assert_eq!((again.base_offset, again.flags), (0, PRODUCE_ACK_DUPLICATE));
        assert_eq!(told(client.produce_batch(topic, 0, numbered(2, &[1, 2])).await).1, "0");
        let rest = client.produce_batch(topic, 0, numbered(2, &[2])).await.unwrap();
        assert_eq!((rest.base_offset, rest.flags), (2, 0), "a refusal takes no sequence");
    });
}

#[test]
fn a_restart_forgets_no_id() {
    scenario(async {
        let world = World::new().await;
        let topic = dedup_topic(&world, 100).await;
        let mut client = world.client().await;
        client.produce_batch(topic, 0, plain(&[0])).await.unwrap();
        let zipped = batch(&[1; 1], SealOptions { codec: Codec::Zstd, ..SealOptions::default() });
        client.produce_batch(topic, 0, zipped).await.unwrap();
        for _ in 0..50 {
            client
                .produce(topic, 0, &["a message that has no id of its own, and a few more of the same"])
                .await
                .unwrap();
        }
        let world = World::on(world.disk.crash_with(Survival::SyncedOnly, 0), WorldOptions::default()).await;
        assert_eq!(dedup_topic(&world, 100).await, topic);
        let mut client = world.client().await;
        assert_eq!(told(client.produce_batch(topic, 0, plain(&[5, 1, 0])).await).2, "1,0");
        assert_eq!(client.produce_batch(topic, 0, plain(&[5])).await.unwrap().base_offset, 52);
    });
}

#[test]
fn who_asks_for_the_disk_hears_of_a_duplicate_when_it_is_there() {
    scenario(async {
        let world = World::new().await;
        let topic = world.topic_with(memory_topic()).await;
        let mut client = world.client().await;
        world.happen(dedup(topic, Some(100))).await;
        // The first of a life goes to the disk at once.
        client.produce_batch(topic, 0, plain(&[5])).await.unwrap();
        client.produce_batch(topic, 0, plain(&[0])).await.unwrap();
        assert_eq!(told(client.produce_batch(topic, 0, plain(&[0])).await).2, "1", "in memory it is there at once");
        let on_disk = Produce { topic_id: topic, partition: 0, durability: Durability::Disk };
        let asked = client.machine.request_with_body(&on_disk, vec![plain(&[0])]).unwrap();
        assert_eq!(told(client.answer::<ProduceAck>(asked).await.map(|(ack, _)| ack)).2, "1");
        let world = World::on(world.disk.crash_with(Survival::SyncedOnly, 0), WorldOptions::default()).await;
        assert_eq!(world.topic_with(memory_topic()).await, topic);
        assert_eq!(all(&mut world.client().await, topic).await, "fa");
    });
}

#[test]
fn on_a_full_disk_nobody_waits_for_ids() {
    scenario(async {
        let (world, _, [mut client]) = World::with_clients().await;
        let topic = dedup_topic(&world, 100).await;
        world.disk.set_capacity(16 << 20);
        let waits = loop {
            let batch = client.large_batch(1 << 20);
            if let Err(error) = client.produce_batch(topic, 0, batch).await {
                break code(&error).to_owned();
            }
        };
        assert_eq!(waits, "APPEND_UNKNOWN", "it was accepted and waits for space");
        // Another window: the ids are to be read again, up to what waits.
        world.happen(dedup(topic, Some(200))).await;
        for ids in [[0], [1]] {
            let refused =
                tokio::time::timeout(Duration::from_secs(1), client.produce_batch(topic, 0, plain(&ids))).await;
            assert_eq!(told(refused.expect("it is answered")).0, "DISK_FULL");
        }
        world.disk.set_capacity(1 << 30);
        tokio::time::sleep(Duration::from_secs(10)).await;
        client.produce_batch(topic, 0, plain(&[0])).await.unwrap();
        assert_eq!(told(client.produce_batch(topic, 0, plain(&[0])).await).1, "0");
    });
}

#[test]
fn a_compressed_batch_is_looked_into_in_its_turn() {
    scenario(async {
        let (world, _, [mut client]) = World::with_clients().await;
        let topic = dedup_topic(&world, 1000).await;
        let zipped = SealOptions { codec: Codec::Lz4, ..SealOptions::default() };
        let asked: Vec<u32> = (0..4)
            .flat_map(|round: u8| {
                let ids: Vec<u8> = (10 * round..10 * round + 10).collect();
                [batch(&ids, zipped), plain(&[100 + round]), batch(&ids, zipped)]
            })
            .map(|batch| client.send_produce(topic, 0, batch))
            .collect();
        let mut outcomes = Vec::new();
        for asked in asked {
            let outcome = client.answer::<ProduceAck>(asked).await;
            outcomes.push(outcome.map_or_else(|error| code(&error).to_owned(), |(ack, _)| ack.base_offset.to_string()));
        }
        let refused = "DUPLICATE_MESSAGES";
        assert_eq!(outcomes, ["0", "10", refused, "11", "21", refused, "22", "32", refused, "33", "43", refused]);
    });
}
