//! Scenarios of producing: receipts, order, duplicates, gaps, other cores, refusals, shutdown.

mod broker_world;

use std::time::Duration;

use broker_world::*;
use levada_protocol::batch::SealOptions;
use levada_protocol::client::ClientEvent;
use levada_protocol::messages::*;
use levada_server::config::LowWaterPolicy;
use levada_server::metadata::TopicOptions;
use levada_storage::PartitionConfig;
use levada_storage::crash::CrashOptions;

fn sequenced(first_sequence: u64) -> SealOptions {
    SealOptions { producer_id: 9, producer_epoch: 1, first_sequence, ..SealOptions::default() }
}

#[test]
fn what_was_acknowledged_is_read_back() {
    scenario(async {
        let (_world, topic, [mut client]) = World::with_clients().await;
        let first = client.produce(topic, 0, &["a", "b"]).await.unwrap();
        let second = client.produce(topic, 0, &["c"]).await.unwrap();
        assert_eq!((first.base_offset, second.base_offset), (0, 2));
        assert_eq!((first.durability, first.flags), (Durability::Disk, 0));
        assert!(first.append_time_us <= second.append_time_us);
        let (head, texts) = client.fetch(from_start(topic, 0)).await.unwrap();
        assert_eq!((head.start_offset, head.log_start_offset, head.visible_end_offset), (0, 0, 3));
        assert_eq!(texts, ["a", "b", "c"]);
    });
}

#[test]
fn a_memory_topic_says_memory_unless_more_is_asked() {
    scenario(async {
        let world = World::new().await;
        let topic = world.topic_with(memory_topic()).await;
        let mut client = world.client().await;
        // The first of a session is on disk before it shows: with it, that there is a session to be missed.
        client.produce(topic, 0, &["a"]).await.unwrap();
        assert_eq!(client.produce(topic, 0, &["b"]).await.unwrap().durability, Durability::Memory);
        let batch = client.batch(&["c"], SealOptions::default());
        let request = Produce { topic_id: topic, partition: 0, durability: Durability::Disk };
        let (ack, _) = client.call_with(&request, vec![batch]).await.unwrap();
        assert_eq!((ack.base_offset, ack.durability), (2, Durability::Disk));
    });
}

#[test]
fn pipelined_batches_keep_their_order() {
    scenario(async {
        let disk = CrashOptions { max_delay: Duration::from_millis(3), ..CrashOptions::default() };
        let world = World::with(WorldOptions { disk, ..WorldOptions::default() }).await;
        let topic = world.topic(1).await;
        let mut client = world.client().await;
        let asked: Vec<u32> = (0..60)
            .map(|number| {
                let batch = client.batch(&[&number.to_string()], sequenced(number));
                client.send_produce(topic, 0, batch)
            })
            .collect();
        for (number, asked) in asked.into_iter().enumerate() {
            let (ack, _) = client.answer::<ProduceAck>(asked).await.unwrap();
            assert_eq!(ack.base_offset, number as u64);
        }
        let (_, texts) = client.fetch(from_start(topic, 0)).await.unwrap();
        assert_eq!(texts, (0..60).map(|number| number.to_string()).collect::<Vec<_>>());
    });
}

#[test]
fn a_duplicate_gets_the_offset_of_its_original_and_only_when_that_is_durable() {
    scenario(async {
        let delay = Duration::from_millis(50);
        let disk = CrashOptions { min_delay: delay, max_delay: delay, ..CrashOptions::default() };
        let world = World::with(WorldOptions { disk, ..WorldOptions::default() }).await;
        let topic = world.topic(1).await;
        let (mut client, mut retry) = (world.client().await, world.client().await);
        let batch = client.batch(&["a", "b"], sequenced(0));
        let original = client.send_produce(topic, 0, batch.clone());
        client.flush().await;
        let duplicate = retry.send_produce(topic, 0, batch.clone());
        retry.flush().await;
        let (first, _) = client.answer::<ProduceAck>(original).await.unwrap();
        let (again, _) = retry.answer::<ProduceAck>(duplicate).await.unwrap();
        assert_eq!((again.base_offset, again.append_time_us), (first.base_offset, first.append_time_us));
        assert_eq!((first.flags, again.flags), (0, PRODUCE_ACK_DUPLICATE));
        let late = retry.produce_batch(topic, 0, batch).await.unwrap();
        assert_eq!((late.base_offset, late.flags), (0, PRODUCE_ACK_DUPLICATE));
        let (_, texts) = client.fetch(from_start(topic, 0)).await.unwrap();
        assert_eq!(texts, ["a", "b"]);
    });
}

#[test]
fn a_missing_batch_is_named_and_nothing_is_appended() {
    scenario(async {
        let (_world, topic, [mut client]) = World::with_clients().await;
        let first = client.batch(&["a"], sequenced(0));
        client.produce_batch(topic, 0, first).await.unwrap();
        let third = client.batch(&["c"], sequenced(2));
        let error = client.produce_batch(topic, 0, third).await.unwrap_err();
        assert_eq!((code(&error), error.detail("expected")), ("SEQUENCE_GAP", Some("1")));
        assert!(error.retriable() && !error.maybe_applied());
        let fenced = client.batch(&["x"], SealOptions { producer_epoch: 0, ..sequenced(0) });
        assert!(client.produce_batch(topic, 0, fenced).await.is_err());
        let unknown = client.batch(&["x"], SealOptions { producer_id: 10, ..sequenced(4) });
        assert_eq!(code(&client.produce_batch(topic, 0, unknown).await.unwrap_err()), "UNKNOWN_PRODUCER");
        assert_eq!(client.fetch(from_start(topic, 0)).await.unwrap().1, ["a"]);
    });
}

#[test]
fn a_damaged_batch_is_refused_and_the_connection_goes_on() {
    scenario(async {
        let (_world, topic, [mut client]) = World::with_clients().await;
        let mut damaged = client.batch(&["abc"], SealOptions::default()).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let error = client.produce_batch(topic, 0, damaged.clone().into()).await.unwrap_err();
        assert_eq!(code(&error), "CHECKSUM_MISMATCH");
        damaged.truncate(30);
        let error = client.produce_batch(topic, 0, damaged.into()).await.unwrap_err();
        assert_eq!(code(&error), "MALFORMED_BATCH");
        assert_eq!(client.produce(topic, 0, &["ok"]).await.unwrap().base_offset, 0);
    });
}

#[test]
fn what_cannot_be_done_is_said_in_the_right_words() {
    scenario(async {
        let mut options = WorldOptions::default();
        options.edge.max_batch_bytes = 64 << 10;
        let world = World::with(options).await;
        let topic = world.topic(2).await;
        let mut client = world.client().await;
        let error = client.produce(topic + 1, 0, &["a"]).await.unwrap_err();
        assert_eq!((code(&error), error.detail("topic")), ("TOPIC_NOT_FOUND", Some("2")));
        let error = client.produce(topic, 2, &["a"]).await.unwrap_err();
        assert_eq!((code(&error), error.detail("partition")), ("PARTITION_NOT_FOUND", Some("2")));
        let large = client.large_batch((64 << 10) - 104 - 16 + 1);
        let error = client.produce_batch(topic, 0, large).await.unwrap_err();
        assert_eq!((code(&error), error.detail("size")), ("TOO_LARGE", Some("65537")));
        let fits = client.large_batch((64 << 10) - 104 - 16);
        client.produce_batch(topic, 0, fits).await.unwrap();
        let batch = client.batch(&["a"], SealOptions::default());
        let request = Produce { topic_id: topic, partition: 0, durability: Durability::Quorum };
        let error = client.call_with(&request, vec![batch]).await.unwrap_err();
        assert_eq!((code(&error), error.detail("what")), ("UNSUPPORTED", Some("quorum")));
    });
}

#[test]
fn a_partition_of_another_core_serves_the_same() {
    scenario(async {
        let world = World::with_cores(2).await;
        let topic = world.topic(4).await;
        let there = world.partition_on(topic, 1);
        let mut client = world.client_of(0).await;
        let asked: Vec<u32> = (0..20)
            .map(|number| {
                let batch = client.batch(&[&number.to_string()], sequenced(number));
                client.send_produce(topic, there, batch)
            })
            .collect();
        for (number, asked) in asked.into_iter().enumerate() {
            assert_eq!(client.answer::<ProduceAck>(asked).await.unwrap().0.base_offset, number as u64);
        }
        client.subscribe(5, (topic, there), Position::offset(18), 1 << 20).await.unwrap();
        assert_eq!(client.delivery().await.texts(), ["18", "19"]);
        let error = client.produce(topic, 40, &["a"]).await.unwrap_err();
        assert_eq!(code(&error), "PARTITION_NOT_FOUND");
        client.call(&Unsubscribe { subscription: 5 }).await.unwrap();
    });
}

#[test]
fn batches_the_log_has_no_room_for_wait_in_order() {
    scenario(async {
        let delay = Duration::from_millis(20);
        let disk = CrashOptions { min_delay: delay, max_delay: delay, ..CrashOptions::default() };
        let partition = PartitionConfig { pending_bytes: 100_000, ..PartitionConfig::default() };
        let world = World::with(WorldOptions { disk, partition, cores: 2, ..WorldOptions::default() }).await;
        let topic = world.topic(2).await;
        for core in 0..2 {
            let (partition, mut client) = (world.partition_on(topic, core), world.client_of(0).await);
            let asked: Vec<u32> = (0..20)
                .map(|_| {
                    let batch = client.large_batch(40_000);
                    client.send_produce(topic, partition, batch)
                })
                .collect();
            for (number, asked) in asked.into_iter().enumerate() {
                assert_eq!(client.answer::<ProduceAck>(asked).await.unwrap().0.base_offset, number as u64);
            }
        }
    });
}

#[test]
fn a_full_disk_refuses_definitely_and_reads_go_on() {
    scenario(async {
        let disk = CrashOptions { capacity_bytes: 64 << 20, ..CrashOptions::default() };
        let world = World::with(WorldOptions { disk, ..WorldOptions::default() }).await;
        let topic = world.topic(1).await;
        let mut client = world.client().await;
        let mut appended = 0;
        let error = loop {
            let batch = client.large_batch(1 << 20);
            match client.produce_batch(topic, 0, batch).await {
                Ok(_) => appended += 1,
                Err(error) => break error,
            }
            assert!(appended < 100, "the disk never filled");
        };
        assert!(["DISK_FULL", "APPEND_UNKNOWN"].contains(&code(&error)), "{error:?}");
        assert!(error.retriable());
        let (head, texts) = client.fetch(from_start(topic, 0)).await.unwrap();
        assert!(!texts.is_empty() && appended <= head.visible_end_offset);
    });
}

/// A disk of 64 MiB with a topic that keeps everything and one of a year; says whether the second took 100 MiB, and where it begins.
async fn more_than_the_disk_holds(low_water_policy: LowWaterPolicy) -> (bool, u64) {
    let disk = CrashOptions { capacity_bytes: 64 << 20, ..CrashOptions::default() };
    let partition = PartitionConfig { segment_bytes: 4 << 20, ..PartitionConfig::default() };
    let world = World::with(WorldOptions { disk, partition, low_water_policy, ..WorldOptions::default() }).await;
    let kept = world.topic(1).await;
    let year = 365 * 24 * 3600 * 1_000_000;
    let limited = world.topic_with(TopicOptions { retention_age_us: Some(year), ..topic_options(1) }).await;
    let mut client = world.client().await;
    for _ in 0..6 {
        let batch = client.large_batch(1 << 20);
        client.produce_batch(kept, 0, batch).await.expect("the scenario holds");
    }
    let (mut appended, mut refusals) = (0, 0);
    while appended < 100 && refusals < 10 {
        let batch = client.large_batch(1 << 20);
        match client.produce_batch(limited, 0, batch).await {
            Ok(_) => (appended, refusals) = (appended + 1, 0),
            Err(error) => {
                assert_eq!(code(&error), "DISK_FULL");
                refusals += 1;
            }
        }
        // A megabyte a second: the server looks at its disk that often.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (head, texts) = client.fetch(from_start(kept, 0)).await.expect("the scenario holds");
    assert!(head.log_start_offset == 0 && !texts.is_empty(), "what has no limit stays whole");
    let (head, _) =
        client.fetch(Fetch { position: Position::LATEST, ..from_start(limited, 0) }).await.expect("the scenario holds");
    (appended == 100, head.log_start_offset)
}

#[test]
fn below_the_low_water_mark_old_segments_go_early_where_that_is_the_policy() {
    scenario(async {
        let (is_whole, start) = more_than_the_disk_holds(LowWaterPolicy::DeleteOldest).await;
        assert!(is_whole && 0 < start, "{start}");
        assert_eq!(more_than_the_disk_holds(LowWaterPolicy::Refuse).await, (false, 0));
    });
}

#[test]
fn a_deleted_topic_refuses_and_a_new_one_has_another_id() {
    scenario(async {
        let (world, topic, [mut client]) = World::with_clients().await;
        client.produce(topic, 0, &["a"]).await.unwrap();
        world.delete_topic(topic).await;
        assert_eq!(code(&client.produce(topic, 0, &["b"]).await.unwrap_err()), "TOPIC_NOT_FOUND");
        let next = world.topic(1).await;
        assert_eq!(client.produce(next, 0, &["c"]).await.unwrap().base_offset, 0);
    });
}

#[test]
fn partitions_grow_and_settings_change_while_open() {
    scenario(async {
        let world = World::with_cores(2).await;
        let topic = world.topic(1).await;
        let mut client = world.client().await;
        client.produce(topic, 0, &["a"]).await.unwrap();
        let options = levada_server::metadata::TopicOptions {
            durability: levada_storage::Durability::Memory,
            ..topic_options(3)
        };
        world.alter_topic(topic, options).await;
        client.produce(topic, 0, &["b"]).await.unwrap();
        assert_eq!(client.produce(topic, 0, &["c"]).await.unwrap().durability, Durability::Memory);
        for partition in 1..3 {
            assert_eq!(client.produce(topic, partition, &["c"]).await.unwrap().base_offset, 0);
        }
    });
}

#[test]
fn retention_never_takes_the_segment_that_is_written_to() {
    scenario(async {
        let world = World::new().await;
        let options = levada_server::metadata::TopicOptions { retention_bytes: Some(1), ..topic_options(1) };
        let topic = world.topic_with(options).await;
        let mut client = world.client().await;
        client.produce(topic, 0, &["a", "b"]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let (head, texts) = world.client().await.fetch(from_start(topic, 0)).await.unwrap();
        assert_eq!((head.log_start_offset, texts), (0, vec!["a".to_owned(), "b".to_owned()]));
    });
}

#[test]
fn describe_and_purge_see_all_partitions_of_their_shard() {
    scenario(async {
        let world = World::with_cores(2).await;
        let topic = world.topic(4).await;
        let mut client = world.client().await;
        for partition in 0..4 {
            client.produce(topic, partition, &["a", "b"]).await.unwrap();
        }
        let mut seen = Vec::new();
        for handle in &world.handles {
            handle.purge(topic, None).await.unwrap();
            seen.extend(handle.describe(topic).await.unwrap());
        }
        seen.sort_by_key(|info| info.partition);
        assert_eq!(seen.iter().map(|info| info.partition).collect::<Vec<_>>(), [0, 1, 2, 3]);
        for info in &seen {
            assert_eq!((info.log_start_offset, info.visible_end_offset), (2, 2));
            assert_eq!(info.state, PartitionState::Writable);
        }
        assert_eq!(client.produce(topic, 0, &["c"]).await.unwrap().base_offset, 2);
        let status = world.handles[0].status().await.unwrap();
        assert_eq!(status.partition_count, 2);
        assert!(0 < status.flush_count && 0 < status.appended_bytes);
    });
}

#[test]
fn shutdown_answers_what_is_under_way_and_says_goodbye() {
    scenario(async {
        let delay = Duration::from_millis(30);
        let disk = CrashOptions { min_delay: delay, max_delay: delay, ..CrashOptions::default() };
        let world = World::with(WorldOptions { disk, ..WorldOptions::default() }).await;
        let topic = world.topic(1).await;
        let mut client = world.client().await;
        client.produce(topic, 0, &["before"]).await.unwrap();
        let asked: Vec<u32> = (0..10)
            .map(|number| {
                let batch = client.batch(&[&number.to_string()], sequenced(number));
                client.send_produce(topic, 0, batch)
            })
            .collect();
        client.flush().await;
        // The requests are with the server; none can be durable yet.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let (edge, shard) = (world.edges[0].clone(), world.shards[0].clone());
        let down = tokio::task::spawn_local(async move {
            edge.shut_down(Duration::from_secs(10)).await;
            shard.close().await;
        });
        for asked in asked {
            client.answer::<ProduceAck>(asked).await.unwrap();
        }
        assert_eq!(client.goodbye().await, GoodbyeReason::Shutdown);
        down.await.unwrap();
        assert_eq!(world.connections.count(), 0);
    });
}

#[test]
fn requests_after_the_shard_closed_are_told_so() {
    scenario(async {
        let (world, topic, [mut client]) = World::with_clients().await;
        world.shards[0].close().await;
        assert_eq!(code(&client.produce(topic, 0, &["a"]).await.unwrap_err()), "SHUTTING_DOWN");
        assert!(matches!(client.fetch(from_start(topic, 0)).await, Err(error) if code(&error) == "SHUTTING_DOWN"));
    });
}

#[test]
fn acknowledged_messages_survive_a_power_cut() {
    scenario(async {
        let disk = CrashOptions { max_delay: Duration::from_millis(3), ..CrashOptions::default() };
        let world = World::with(WorldOptions { disk, ..WorldOptions::default() }).await;
        let topic = world.topic(1).await;
        let mut client = world.client().await;
        let mut acknowledged = 0;
        for number in 0..40 {
            let batch = client.batch(&[&number.to_string()], sequenced(number));
            client.send_produce(topic, 0, batch);
        }
        while acknowledged < 20 {
            match client.next().await {
                Some(ClientEvent::Reply { .. }) => acknowledged += 1,
                other => panic!("{other:?}"),
            }
        }
        world.disk.record();
        for seed in 0..20 {
            let after = world.disk.image(0, seed);
            let options = WorldOptions::default();
            let revived = World::on(after, options).await;
            assert_eq!(revived.topic(1).await, topic);
            let mut reader = revived.client().await;
            let (_, texts) = reader.fetch(from_start(topic, 0)).await.unwrap();
            assert!(acknowledged <= texts.len(), "seed {seed}: {} of {acknowledged}", texts.len());
            let expected: Vec<_> = (0..texts.len()).map(|number| number.to_string()).collect();
            assert_eq!(texts, expected, "seed {seed}");
        }
    });
}
