//! Scenarios of consuming: credit, positions, long polls, turns, ends.

mod broker_world;

use std::time::Duration;

use broker_world::*;
use levada_protocol::batch::{Codec, SealOptions};
use levada_protocol::client::{ClientConfig, ClientEvent};
use levada_protocol::messages::*;
use levada_storage::crash::Survival;
use tokio::time::timeout;

const PLENTY: u64 = 1 << 30;

#[test]
fn a_subscription_catches_up_and_then_follows() {
    scenario(async {
        let (_world, topic, [mut producer, mut consumer]) = World::with_clients().await;
        producer.produce(topic, 0, &["a", "b"]).await.unwrap();
        let begun = consumer.subscribe(1, (topic, 0), Position::EARLIEST, PLENTY).await.unwrap();
        assert_eq!((begun.start_offset, begun.visible_end_offset), (0, 2));
        assert_eq!(consumer.delivery().await.texts(), ["a", "b"]);
        for text in ["c", "d"] {
            producer.produce(topic, 0, &[text]).await.unwrap();
            let delivered = consumer.delivery().await;
            assert_eq!((delivered.texts(), delivered.head.subscription), (vec![text], 1));
        }
        assert!(consumer.hears_nothing().await);
    });
}

#[test]
fn credit_is_overdrawn_by_one_batch_at_most_and_none_pauses() {
    scenario(async {
        let (_world, topic, [mut producer, mut consumer]) = World::with_clients().await;
        let mut bytes = Vec::new();
        for _ in 0..6 {
            let batch = producer.large_batch(10_000);
            bytes.push(batch.len() as u64 + 32);
            producer.produce_batch(topic, 0, batch).await.unwrap();
        }
        consumer.subscribe(1, (topic, 0), Position::EARLIEST, 0).await.unwrap();
        assert!(consumer.hears_nothing().await);
        consumer.credit(1, 1).await;
        assert_eq!(consumer.delivery().await.bytes, bytes[0]);
        // What was overdrawn is owed: one byte less than that is still nothing.
        consumer.credit(1, bytes[0] - 1).await;
        assert!(consumer.hears_nothing().await);
        consumer.credit(1, bytes[0] + 1).await;
        let (mut received, mut count) = (0, 0);
        while received <= bytes[0] {
            let delivered = consumer.delivery().await;
            received += delivered.bytes;
            count += delivered.messages.len();
        }
        assert_eq!(count, 2);
        assert!(consumer.hears_nothing().await);
        consumer.credit(99, PLENTY).await;
        consumer.credit(1, PLENTY).await;
        let rest = consumer.delivery().await;
        assert_eq!(rest.messages.first().unwrap().0, 3);
    });
}

#[test]
fn unsubscribe_is_the_last_word_on_a_subscription() {
    scenario(async {
        let world = World::with_cores(2).await;
        let topic = world.topic(2).await;
        for core in 0..2 {
            let partition = world.partition_on(topic, core);
            let (mut producer, mut consumer) = (world.client().await, world.client().await);
            consumer.subscribe(7, (topic, partition), Position::LATEST, PLENTY).await.unwrap();
            producer.produce(topic, partition, &["a"]).await.unwrap();
            assert_eq!(consumer.delivery().await.texts(), ["a"]);
            consumer.call(&Unsubscribe { subscription: 7 }).await.unwrap();
            producer.produce(topic, partition, &["b"]).await.unwrap();
            assert!(consumer.hears_nothing().await);
            let error = consumer.call(&Unsubscribe { subscription: 7 }).await.unwrap_err();
            assert_eq!(code(&error), "SUBSCRIPTION_NOT_FOUND");
            assert_eq!(world.shards[usize::from(core)].status().subscription_count, 0);
        }
    });
}

#[test]
fn an_id_in_use_is_a_conflict() {
    scenario(async {
        let (_world, topic, [mut consumer]) = World::with_clients().await;
        consumer.subscribe(1, (topic, 0), Position::EARLIEST, 1).await.unwrap();
        let error = consumer.subscribe(1, (topic, 0), Position::EARLIEST, 1).await.unwrap_err();
        assert_eq!(code(&error), "CONFLICT");
        let error = consumer.subscribe(2, (topic + 9, 0), Position::EARLIEST, 1).await.unwrap_err();
        assert_eq!(code(&error), "TOPIC_NOT_FOUND");
        consumer.subscribe(2, (topic, 0), Position::EARLIEST, 1).await.unwrap();
    });
}

#[test]
fn positions_come_to_offsets() {
    scenario(async {
        let (_world, topic, [mut client]) = World::with_clients().await;
        let mut times = Vec::new();
        for text in ["a", "b", "c", "d"] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            times.push(client.produce(topic, 0, &[text]).await.unwrap().append_time_us);
        }
        for (position, offset) in [
            (Position::EARLIEST, 0),
            (Position::LATEST, 4),
            (Position::last(1), 3),
            (Position::last(100), 0),
            (Position::offset(4), 4),
            (Position::timestamp(times[2]), 2),
            (Position::timestamp(times[2] + 1), 3),
            (Position::timestamp(times[3] + 1), 4),
            (Position::timestamp(0), 0),
        ] {
            let resolve = ResolvePosition { topic_id: topic, partition: 0, position: position.clone(), group: None };
            let resolved = client.call(&resolve).await.unwrap();
            assert_eq!((resolved.offset, resolved.visible_end_offset), (offset, 4), "{position:?}");
        }
        let beyond = ResolvePosition { topic_id: topic, partition: 0, position: Position::offset(5), group: None };
        let error = client.call(&beyond).await.unwrap_err();
        assert_eq!((code(&error), error.detail("visible_end_offset")), ("OFFSET_OUT_OF_RANGE", Some("4")));
        let stored = Position { kind: PositionKind::Stored, value: 0 };
        let error = client.subscribe(1, (topic, 0), stored, 1).await.unwrap_err();
        assert_eq!(code(&error), "UNSUPPORTED");
    });
}

#[test]
fn a_fetch_waits_for_what_it_asks_and_no_longer() {
    scenario(async {
        let (_world, topic, [mut producer, mut consumer]) = World::with_clients().await;
        let long = Fetch { max_wait_ms: 5_000, min_bytes: 400, ..from_start(topic, 0) };
        let asked = consumer.machine.request(&long).unwrap();
        consumer.flush().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        producer.produce(topic, 0, &["a"]).await.unwrap();
        let early = timeout(Duration::from_secs(1), consumer.next()).await;
        assert!(early.is_err(), "one small batch is less than min_bytes");
        producer.produce(topic, 0, &["b"; 20]).await.unwrap();
        let (_, body) = consumer.answer::<Fetched>(asked).await.unwrap();
        assert_eq!(payloads(body).len(), 21);
        let started = tokio::time::Instant::now();
        let patient = Fetch { max_wait_ms: 3_000, min_bytes: 1, position: Position::LATEST, ..from_start(topic, 0) };
        let (head, texts) = consumer.fetch(patient).await.unwrap();
        assert_eq!((head.start_offset, texts.len()), (21, 0));
        let waited = started.elapsed();
        assert!((Duration::from_secs(3)..Duration::from_millis(3_100)).contains(&waited), "{waited:?}");
    });
}

#[test]
fn deletion_ends_subscriptions_and_waiting_fetches() {
    scenario(async {
        let world = World::with_cores(2).await;
        let topic = world.topic(2).await;
        let mut consumer = world.client().await;
        for (id, core) in [(1, 0), (2, 1)] {
            let partition = world.partition_on(topic, core);
            consumer.subscribe(id, (topic, partition), Position::LATEST, PLENTY).await.unwrap();
        }
        let mut waiting = world.client().await;
        let long = Fetch { max_wait_ms: 50_000, min_bytes: 1, ..from_start(topic, 0) };
        let asked = waiting.machine.request(&long).unwrap();
        waiting.flush().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.delete_topic(topic).await;
        let mut ended = [consumer.ended().await, consumer.ended().await];
        ended.sort_by_key(|end| end.subscription);
        assert_eq!(ended.each_ref().map(|end| end.subscription), [1, 2]);
        assert!(ended.iter().all(|end| end.code == levada_protocol::ErrorCode::TopicNotFound.code()));
        let error = waiting.answer::<Fetched>(asked).await.unwrap_err();
        assert_eq!(code(&error), "TOPIC_NOT_FOUND");
    });
}

#[test]
fn a_codec_the_client_did_not_declare_ends_the_subscription_where_it_begins() {
    scenario(async {
        let (world, topic, [mut producer]) = World::with_clients().await;
        producer.produce(topic, 0, &["plain"]).await.unwrap();
        let text = "z".repeat(500);
        let squeezed = producer.batch(&[&text], SealOptions { codec: Codec::Zstd, ..SealOptions::default() });
        producer.produce_batch(topic, 0, squeezed).await.unwrap();
        let simple = ClientConfig { codecs: vec![0], ..ClientConfig::default() };
        let mut consumer = Client::ready(world.dial(0, 1 << 20), simple).await;
        consumer.subscribe(1, (topic, 0), Position::EARLIEST, PLENTY).await.unwrap();
        assert_eq!(consumer.delivery().await.texts(), ["plain"]);
        let end = consumer.ended().await;
        assert_eq!(end.code, levada_protocol::ErrorCode::UnsupportedFormat.code());
        let offset = end.details.iter().find(|detail| detail.name == "offset").map(|detail| detail.value.as_str());
        assert_eq!(offset, Some("1"));
        let at_it = Fetch { position: Position::offset(1), ..from_start(topic, 0) };
        assert_eq!(code(&consumer.fetch(at_it).await.unwrap_err()), "UNSUPPORTED_FORMAT");
        let mut able = world.client().await;
        assert_eq!(able.fetch(from_start(topic, 0)).await.unwrap().1, ["plain", &text]);
    });
}

#[test]
fn subscriptions_of_one_connection_take_turns() {
    scenario(async {
        let world = World::new().await;
        let topic = world.topic(2).await;
        let mut producer = world.client().await;
        for partition in 0..2 {
            for _ in 0..30 {
                let batch = producer.large_batch(1 << 19);
                producer.produce_batch(topic, partition, batch).await.unwrap();
            }
        }
        let mut consumer = Client::ready(world.dial(0, 64 << 10), ClientConfig::default()).await;
        for partition in 0..2 {
            let request = Subscribe {
                subscription: partition,
                topic_id: topic,
                partition,
                position: Position::EARLIEST,
                epoch: None,
                credit_bytes: PLENTY,
                group: None,
                member: None,
                generation: None,
                otherwise: None,
            };
            consumer.machine.request(&request).unwrap();
        }
        let mut received = [0u64; 2];
        while received[0] + received[1] < 20 << 20 {
            if let Some(ClientEvent::Push { frame: levada_protocol::ServerFrame::Deliver(head), body }) =
                consumer.next().await
            {
                received[head.subscription as usize] += body.len() as u64;
            }
        }
        assert!(received.iter().all(|bytes| 6 << 20 < *bytes), "{received:?}");
    });
}

#[test]
fn purged_messages_are_out_of_range() {
    scenario(async {
        let (world, topic, [mut producer, mut consumer]) = World::with_clients().await;
        producer.produce(topic, 0, &["a", "b"]).await.unwrap();
        consumer.subscribe(1, (topic, 0), Position::EARLIEST, 0).await.unwrap();
        world.handles[0].purge(topic, None).await.unwrap();
        producer.produce(topic, 0, &["c"]).await.unwrap();
        consumer.credit(1, PLENTY).await;
        let end = consumer.ended().await;
        assert_eq!(end.code, levada_protocol::ErrorCode::OffsetOutOfRange.code());
        let begun = consumer.subscribe(2, (topic, 0), Position::EARLIEST, PLENTY).await.unwrap();
        assert_eq!((begun.start_offset, begun.log_start_offset), (2, 2));
        assert_eq!(consumer.delivery().await.texts(), ["c"]);
    });
}

#[test]
fn an_offset_that_was_lost_and_given_again_is_never_taken_for_the_first() {
    scenario(async {
        let world = World::new().await;
        let topic = world.topic_with(memory_topic()).await;
        let mut client = world.client().await;
        client.produce(topic, 0, &["a", "b"]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        client.produce(topic, 0, &["c", "d"]).await.unwrap();
        let (head, texts) = client.fetch(from_start(topic, 0)).await.unwrap();
        assert_eq!(texts, ["a", "b", "c", "d"]);
        let read_under = Some(head.leader_epoch);

        // The power fails before c and d are on disk.
        let world = World::on(world.disk.crash_with(Survival::SyncedOnly, 0), WorldOptions::default()).await;
        assert_eq!(world.topic_with(memory_topic()).await, topic);
        let mut client = world.client().await;
        let told = |error: &Error| (code(error), detail(&error.details, "divergence_offset"));
        let lost = ("LOG_TRUNCATED", Some("2".to_owned()));
        let at = |offset, epoch| Fetch { position: Position::offset(offset), epoch, ..from_start(topic, 0) };
        assert_eq!(told(&client.fetch(at(4, read_under)).await.unwrap_err()), lost, "nothing is there yet");
        let ack = client.produce(topic, 0, &["x", "y", "z"]).await.unwrap();
        assert_eq!(ack.base_offset, 2, "c's offset is x's now");
        assert_ne!(Some(ack.leader_epoch), read_under);
        for offset in [3, 4] {
            assert_eq!(told(&client.fetch(at(offset, read_under)).await.unwrap_err()), lost, "as y or z");
            let (subscription, position) = (u32::try_from(offset).unwrap(), Position::offset(offset));
            let (epoch, credit_bytes) = (read_under, PLENTY);
            let subscribe = Subscribe {
                subscription,
                topic_id: topic,
                partition: 0,
                position,
                epoch,
                credit_bytes,
                group: None,
                member: None,
                generation: None,
                otherwise: None,
            };
            assert_eq!(told(&client.call(&subscribe).await.unwrap_err()), lost, "as y or z");
        }
        assert_eq!(client.fetch(at(2, read_under)).await.unwrap().1, ["x", "y", "z"], "b was not lost");
        assert_eq!(client.fetch(at(4, Some(ack.leader_epoch))).await.unwrap().1, ["z"]);
    });
}

#[test]
fn a_batch_that_rots_on_disk_is_named_and_never_served() {
    scenario(async {
        let (world, topic, [mut client]) = World::with_clients().await;
        for text in ["sound", "rotten", "sound again"] {
            client.produce(topic, 0, &[text]).await.unwrap();
        }
        world.shards[0].close().await;
        let disk = world.disk.crash_now(0);
        rot(&disk, topic, 0, b"rotten");

        let world = World::on(disk, WorldOptions::default()).await;
        assert_eq!(world.topic(1).await, topic);
        let mut client = world.client().await;
        let range = (Some("1".to_owned()), Some("2".to_owned()));
        let named = |details: &[Detail]| (detail(details, "first_offset"), detail(details, "next_offset"));
        let at = |offset| Fetch { position: Position::offset(offset), ..from_start(topic, 0) };
        assert_eq!(client.fetch(at(0)).await.unwrap().1, ["sound"]);
        let error = client.fetch(at(1)).await.unwrap_err();
        assert_eq!(code(&error), "CORRUPT_BATCH");
        assert_eq!(named(&error.details), range);
        assert_eq!(client.fetch(at(2)).await.unwrap().1, ["sound again"]);
        client.subscribe(1, (topic, 0), Position::EARLIEST, PLENTY).await.unwrap();
        assert_eq!(client.delivery().await.texts(), ["sound"]);
        let end = client.ended().await;
        assert_eq!(end.code, levada_protocol::ErrorCode::CorruptBatch.code());
        assert_eq!(named(&end.details), range);
        client.subscribe(2, (topic, 0), Position::offset(2), PLENTY).await.unwrap();
        assert_eq!(client.delivery().await.texts(), ["sound again"]);
    });
}

#[test]
fn a_closed_connection_leaves_nothing_behind() {
    scenario(async {
        let world = World::with_cores(2).await;
        let topic = world.topic(2).await;
        let mut consumer = world.client().await;
        for (id, core) in [(1, 0), (2, 1)] {
            let partition = world.partition_on(topic, core);
            consumer.subscribe(id, (topic, partition), Position::LATEST, PLENTY).await.unwrap();
        }
        drop(consumer);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let live: u32 = world.shards.iter().map(|shard| shard.status().subscription_count).sum();
        assert_eq!((live, world.connections.count()), (0, 0));
    });
}
