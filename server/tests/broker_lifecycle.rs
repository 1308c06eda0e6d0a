//! Scenarios of a partition's life: named producers, sequences of the application's own, deletion up to a position,
//! segments by age.

mod broker_world;

use std::rc::Rc;
use std::time::Duration;

use broker_world::*;
use levada_protocol::batch::SealOptions;
use levada_protocol::client::ClientConfig;
use levada_protocol::messages::*;
use levada_server::metadata::event::{FormatLevelRaised, NamedProducerOpened, ProducerIdBlock, TopicSupplemented};
use levada_server::metadata::model::TopicSupplement;

async fn world_of(topics: u32) -> (Rc<World>, u32) {
    let world = World::new().await;
    world.happen(ProducerIdBlock { next_producer_id: 100 }).await;
    let topic = world.topic(topics).await;
    (world, topic)
}

async fn name(world: &World, epoch: u32) {
    world.happen(NamedProducerOpened { producer_id: 9, user_id: 0, name: "n".into(), epoch, at_us: 0 }).await;
}

fn of_epoch(producer_epoch: u32, first_sequence: u64) -> SealOptions {
    SealOptions { producer_id: 9, producer_epoch, first_sequence, ..SealOptions::default() }
}

fn external(producer_epoch: u32, first_sequence: u64) -> SealOptions {
    SealOptions { external_sequence: true, ..of_epoch(producer_epoch, first_sequence) }
}

fn progress(topic_id: u32, partition: u32) -> ReadSequences {
    ReadSequences { producer_id: 0, name: Some("n".into()), topic_id, partition }
}

#[test]
fn a_name_that_was_taken_over_is_fenced_in_every_partition_at_once() {
    scenario(async {
        let (world, topic) = world_of(2).await;
        name(&world, 1).await;
        let mut client = world.client().await;
        let batch = client.batch(&["a", "b"], of_epoch(1, 0));
        client.produce_batch(topic, 0, batch).await.unwrap();
        name(&world, 2).await;
        let invented = client.batch(&["x"], of_epoch(3, 2));
        let refused = client.produce_batch(topic, 0, invented).await.unwrap_err();
        assert_eq!(code(&refused), "FENCED", "an epoch that nobody was given fences nobody");
        // The second partition has never seen the new epoch.
        for partition in [0, 1] {
            let stale = client.batch(&["x"], of_epoch(1, 2 * (1 - u64::from(partition))));
            let fenced = client.produce_batch(topic, partition, stale).await.unwrap_err();
            assert_eq!(code(&fenced), "FENCED");
            assert_eq!(detail(&fenced.details, "current_epoch").as_deref(), Some("2"));
        }
        let read = client.call(&progress(topic, 0)).await.unwrap();
        assert_eq!((read.producer_id, read.next_sequence, read.last_offset), (9, 2, Some(1)));
        let behind = client.batch(&["d"], of_epoch(2, 3));
        assert_eq!(code(&client.produce_batch(topic, 0, behind).await.unwrap_err()), "SEQUENCE_GAP");
        let next = client.batch(&["c"], of_epoch(2, 2));
        assert_eq!(client.produce_batch(topic, 0, next).await.unwrap().base_offset, 2);
        let read = client.call(&progress(topic, 1)).await.unwrap();
        assert_eq!((read.next_sequence, read.last_offset), (0, None));
    });
}

#[test]
fn what_is_told_of_a_producer_is_durable() {
    scenario(async {
        let world = World::new().await;
        world.happen(ProducerIdBlock { next_producer_id: 100 }).await;
        let topic = world.topic_with(memory_topic()).await;
        let mut client = world.client().await;
        let batch = client.batch(&["session"], SealOptions::default());
        client.produce_batch(topic, 0, batch).await.unwrap();
        let batch = client.batch(&["a"], of_epoch(1, 0));
        client.produce_batch(topic, 0, batch).await.unwrap();
        let request = ReadSequences { producer_id: 9, name: None, topic_id: topic, partition: 0 };
        assert_eq!(client.call(&request).await.unwrap().next_sequence, 1);
        // The power fails before the topic's own flush.
        let disk = world.disk.crash_with(levada_storage::crash::Survival::SyncedOnly, 0);
        let world = World::on(disk, WorldOptions::default()).await;
        let topic = world.topic_with(memory_topic()).await;
        let (_, texts) = world.client().await.fetch(from_start(topic, 0)).await.unwrap();
        assert_eq!(texts, ["session", "a"]);
    });
}

/// Sends batches numbered from `first_sequence` on until one waits for space on the disk that has just become too small.
async fn fill_up(world: &World, client: &mut Client, topic: u32, producer_id: u64, first_sequence: u64) -> u64 {
    world.disk.set_capacity(16 << 20);
    let mut sequence = first_sequence;
    loop {
        let text = "x".repeat(1 << 20);
        let options =
            SealOptions { producer_id, producer_epoch: 1, first_sequence: sequence, ..SealOptions::default() };
        let batch = client.batch(&[&text], options);
        match client.produce_batch(topic, 0, batch).await {
            Ok(_) => sequence += 1,
            Err(error) => {
                assert_eq!(code(&error), "APPEND_UNKNOWN", "it was accepted and waits");
                return sequence;
            }
        }
        assert!(sequence < 100, "the disk never filled");
    }
}

#[test]
fn how_far_a_producer_came_needs_no_space_unless_its_own_batch_waits_for_it() {
    scenario(async {
        let (world, topic) = world_of(1).await;
        let mut client = world.client().await;
        let batch = client.batch(&["a"], of_epoch(1, 0));
        client.produce_batch(topic, 0, batch).await.unwrap();
        let waiting = fill_up(&world, &mut client, topic, 10, 0).await;
        let read = |producer_id| ReadSequences { producer_id, name: None, topic_id: topic, partition: 0 };
        let answer = tokio::time::timeout(Duration::from_secs(1), client.call(&read(9))).await;
        assert_eq!(answer.expect("all of it is durable").unwrap().next_sequence, 1);
        let refused = tokio::time::timeout(Duration::from_secs(1), client.call(&read(10))).await;
        let refused = refused.expect("nobody waits for space").unwrap_err();
        assert!(code(&refused) == "DISK_FULL" && refused.retriable(), "{refused:?}");
        world.disk.set_capacity(1 << 30);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(client.call(&read(10)).await.unwrap().next_sequence, waiting + 1, "what waited was written");
    });
}

#[test]
fn sequences_of_the_application_are_appended_once_whatever_the_epoch() {
    scenario(async {
        let (world, topic) = world_of(1).await;
        name(&world, 1).await;
        let mut client = world.client().await;
        for (epoch, first, texts) in [(1, 5, &["a", "b"][..]), (1, 20, &["c"][..])] {
            let batch = client.batch(texts, external(epoch, first));
            assert_eq!(client.produce_batch(topic, 0, batch).await.unwrap().flags, 0);
        }
        name(&world, 2).await;
        let again = client.batch(&["a", "b"], external(2, 5));
        let ack = client.produce_batch(topic, 0, again).await.unwrap();
        assert_eq!((ack.base_offset, ack.flags), (0, PRODUCE_ACK_DUPLICATE));
        let before = client.batch(&["z"], external(2, 11));
        assert_eq!(code(&client.produce_batch(topic, 0, before).await.unwrap_err()), "DUPLICATE_UNKNOWN_OFFSET");
        let across = client.batch(&["c", "d"], external(2, 20));
        assert_eq!(code(&client.produce_batch(topic, 0, across).await.unwrap_err()), "SEQUENCE_GAP");
        let next = client.batch(&["d"], external(2, 21));
        assert_eq!(client.produce_batch(topic, 0, next).await.unwrap().base_offset, 3);
        let nameless = SealOptions { external_sequence: true, ..SealOptions::default() };
        let nameless = client.batch(&["x"], nameless);
        assert_eq!(code(&client.produce_batch(topic, 0, nameless).await.unwrap_err()), "MALFORMED_BATCH");
        let (_, texts) = client.fetch(from_start(topic, 0)).await.unwrap();
        assert_eq!(texts, ["a", "b", "c", "d"]);
    });
}

#[test]
fn sequences_of_the_application_need_version_2_and_a_finalized_upgrade() {
    scenario(async {
        let world = World::with(WorldOptions { format_level: 1, ..WorldOptions::default() }).await;
        let topic = world.topic(1).await;
        let mut client = world.client().await;
        let batch = client.batch(&["a"], external(1, 0));
        let refused = client.produce_batch(topic, 0, batch.clone()).await.unwrap_err();
        assert_eq!(code(&refused), "UNSUPPORTED");
        assert!(refused.message.contains("finalize-upgrade"), "{}", refused.message);
        world.happen(FormatLevelRaised { format_level: 2, at_us: 0 }).await;
        let config = ClientConfig { max_version: 1, ..ClientConfig::default() };
        let mut old = Client::ready(world.dial(0, 1 << 20), config).await;
        assert_eq!(code(&old.produce_batch(topic, 0, batch.clone()).await.unwrap_err()), "UNSUPPORTED");
        client.produce_batch(topic, 0, batch).await.unwrap();
    });
}

#[test]
fn what_lies_before_a_position_is_deleted_for_good() {
    scenario(async {
        let (world, topic, [mut client]) = World::with_clients().await;
        for text in ["a", "b", "c", "d", "e"] {
            client.produce(topic, 0, &[text]).await.unwrap();
        }
        let at = |kind, value| Position { kind, value };
        let trim = |before| world.handles[0].trim(topic, 0, before);
        assert_eq!(trim(at(PositionKind::Offset, 2)).await, Ok(2));
        assert_eq!(trim(at(PositionKind::Offset, 1)).await, Ok(2), "it is gone already");
        assert_eq!(trim(at(PositionKind::Last, 2)).await, Ok(3));
        let beyond = trim(at(PositionKind::Offset, 6)).await.unwrap_err();
        assert_eq!(beyond.code, levada_protocol::ErrorCode::OffsetOutOfRange);
        assert!(world.handles[0].trim(topic, 1, Position::LATEST).await.is_err());
        let disk = world.disk.crash_with(levada_storage::crash::Survival::SyncedOnly, 0);
        let world = World::on(disk, WorldOptions::default()).await;
        let topic = world.topic(1).await;
        let mut client = world.client().await;
        let (head, texts) = client.fetch(from_start(topic, 0)).await.unwrap();
        assert_eq!((head.log_start_offset, texts), (3, vec!["d".to_owned(), "e".to_owned()]));
        assert_eq!(world.handles[0].trim(topic, 0, Position::LATEST).await, Ok(5));
        assert_eq!(client.produce(topic, 0, &["f"]).await.unwrap().base_offset, 5);
    });
}

#[test]
fn segments_are_sealed_at_the_age_that_the_topic_says() {
    scenario(async {
        let (world, topic) = world_of(1).await;
        let mut client = world.client().await;
        let segments = async || world.handles[0].describe(topic).await.unwrap()[0].segment_count;
        client.produce(topic, 0, &["a"]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        client.produce(topic, 0, &["b"]).await.unwrap();
        assert_eq!(segments().await, 1, "a day, unless the topic says otherwise");
        let supplement = TopicSupplement { segment_age_us: Some(60_000_000), ..TopicSupplement::default() };
        world.happen(TopicSupplemented { topic_id: topic, supplement }).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        client.produce(topic, 0, &["c"]).await.unwrap();
        assert_eq!(segments().await, 2);
        tokio::time::sleep(Duration::from_secs(30)).await;
        client.produce(topic, 0, &["d"]).await.unwrap();
        assert_eq!(segments().await, 2);
        tokio::time::sleep(Duration::from_secs(40)).await;
        client.produce(topic, 0, &["e"]).await.unwrap();
        assert_eq!(segments().await, 3);
    });
}

#[test]
fn messages_live_no_longer_than_the_retention_age_and_a_quarter() {
    scenario(async {
        let world = World::new().await;
        let options = topic_options(1);
        let hour_us = 3_600_000_000;
        let topic =
            world.topic_with(levada_server::metadata::TopicOptions { retention_age_us: Some(hour_us), ..options });
        let topic = topic.await;
        let mut client = world.client().await;
        for minute in 0..180u64 {
            client.produce(topic, 0, &[&minute.to_string()]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            let (_, texts) = client.fetch(from_start(topic, 0)).await.unwrap();
            let oldest: u64 = texts.first().unwrap().parse().unwrap();
            let age = minute + 1 - oldest;
            assert!(minute < 60 || (60..=76).contains(&age), "at minute {minute} the oldest has {age} minutes");
        }
    });
}
