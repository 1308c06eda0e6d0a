//! Reading, resuming, moving and giving up.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_core::Stream as _;
use levada::{Client, Consumer, ConsumerOptions, ErrorCode, OnCorrupt, OnOutOfRange, OnTruncated, Position};

use crate::settle;
use crate::stage::{Stage, TOPIC};

async fn consumer(stage: &Stage, options: ConsumerOptions) -> (Client, Consumer) {
    let client = stage.client().await;
    let consumer = client.consumer(options).await.unwrap();
    (client, consumer)
}

fn from_start() -> ConsumerOptions {
    ConsumerOptions::new(TOPIC).from(Position::EARLIEST)
}

/// Fills a partition with batches of `per_batch` numbered messages.
fn fill(stage: &Stage, partition: u32, batches: u32, per_batch: u32) -> Vec<String> {
    let mut all = Vec::new();
    for batch in 0..batches {
        let payloads: Vec<String> = (0..per_batch).map(|message| (batch * per_batch + message).to_string()).collect();
        stage.append(partition, &payloads.iter().map(String::as_str).collect::<Vec<_>>());
        all.extend(payloads);
    }
    all
}

async fn next(consumer: &Consumer) -> String {
    text(&consumer.receive().await.unwrap().unwrap())
}

/// Long enough for the client to notice a loss and to subscribe again.
async fn reconnected() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

fn text(message: &levada::ReceivedMessage) -> String {
    String::from_utf8(message.payload.as_ref().unwrap().to_vec()).unwrap()
}

async fn rest(consumer: &Consumer) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(message) = consumer.receive().await.unwrap() {
        all.push(text(&message));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn everything_up_to_the_end_is_read_once_in_order() {
    let stage = Stage::new(1);
    let all = fill(&stage, 0, 10, 7);
    let (_client, consumer) = consumer(&stage, from_start().until_end()).await;
    let first = consumer.receive().await.unwrap().unwrap();
    assert_eq!((first.partition, first.offset, first.append_time_us, text(&first).as_str()), (0, 0, 7, "0"));
    stage.append(0, &["too late"]);
    assert_eq!(rest(&consumer).await, all[1..]);
    assert!(consumer.receive().await.unwrap().is_none(), "the end stays the end");
    assert_eq!(consumer.position(0), Some(70));
}

#[tokio::test(start_paused = true)]
async fn an_empty_log_ends_at_once() {
    let stage = Stage::new(3);
    let (_client, consumer) = consumer(&stage, from_start().until_end()).await;
    assert!(consumer.receive().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_follower_waits_for_what_comes() {
    let stage = Stage::new(1);
    fill(&stage, 0, 1, 3);
    let (_client, consumer) = consumer(&stage, ConsumerOptions::new(TOPIC)).await;
    let waiting = tokio::time::timeout(Duration::from_secs(5), consumer.receive());
    assert!(waiting.await.is_err());
    stage.append(0, &["new"]);
    assert_eq!(next(&consumer).await, "new");
    assert_eq!(consumer.position(0), Some(4));
}

#[tokio::test(start_paused = true)]
async fn latest_is_the_end_when_the_consumer_is_made() {
    let stage = Stage::new(2);
    let (_client, consumer) = consumer(&stage, ConsumerOptions::new(TOPIC)).await;
    assert_eq!((consumer.position(0), consumer.position(1)), (Some(0), Some(0)));
    stage.append(1, &["right after"]);
    assert_eq!(next(&consumer).await, "right after");
}

#[tokio::test(start_paused = true)]
async fn batches_come_whole_or_cut_to_measure() {
    let stage = Stage::new(1);
    let all = fill(&stage, 0, 4, 10);
    let (_client, consumer) = consumer(&stage, from_start()).await;
    let whole = consumer.next_batch().await.unwrap().unwrap();
    assert_eq!((whole.first_offset(), whole.next_offset(), whole.message_count()), (0, 10, 10));
    let mut read: Vec<String> =
        whole.messages().map(|message| String::from_utf8(message.payload.unwrap().to_vec()).unwrap()).collect();
    let mut counts = Vec::new();
    while consumer.position(0) != Some(40) {
        let batches = consumer.receive_batch(7, 1 << 20, Duration::from_secs(1)).await.unwrap();
        counts.push(batches.iter().map(levada::Batch::message_count).sum::<usize>());
        for batch in batches {
            let offsets: Vec<u64> = batch.messages().map(|message| message.offset).collect();
            assert_eq!(offsets, (batch.first_offset()..batch.next_offset()).collect::<Vec<_>>());
            read.extend(batch.to_messages().iter().map(text));
        }
    }
    assert_eq!(read, all);
    assert!(counts.iter().all(|count| (1..=7).contains(count)), "{counts:?}");
    assert!(consumer.receive_batch(7, 100, Duration::from_secs(1)).await.unwrap().is_empty(), "time runs out");
}

#[tokio::test(start_paused = true)]
async fn max_bytes_gives_at_least_one_batch() {
    let stage = Stage::new(1);
    fill(&stage, 0, 4, 10);
    let (_client, consumer) = consumer(&stage, from_start()).await;
    settle().await;
    let taken = consumer.try_take(1000, 1).unwrap();
    assert_eq!(taken.batches.len(), 1);
    assert!(taken.more);
    let taken = consumer.try_take(1000, 1 << 20).unwrap();
    assert_eq!(taken.batches.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn messages_below_the_position_are_skipped() {
    let stage = Stage::new(1);
    let all = fill(&stage, 0, 3, 10);
    for start in [0, 1, 9, 10, 15, 29] {
        let (_client, consumer) =
            consumer(&stage, ConsumerOptions::new(TOPIC).from(Position::offset(start)).until_end()).await;
        assert_eq!(rest(&consumer).await, all[usize::try_from(start).unwrap()..]);
    }
    let (_client, consumer) = consumer(&stage, ConsumerOptions::new(TOPIC).from(Position::last(4)).until_end()).await;
    assert_eq!(rest(&consumer).await, all[26..]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_neither_repeats_nor_skips() {
    let stage = Stage::new(1);
    let all = fill(&stage, 0, 20, 5);
    let (_client, consumer) = consumer(&stage, from_start().until_end()).await;
    let mut read = Vec::new();
    for count in 0.. {
        if count % 13 == 7 {
            stage.cut();
            // Sometimes the loss is noticed at once, sometimes in the middle of the next batch.
            if count % 2 == 0 {
                reconnected().await;
            }
        }
        match consumer.receive().await.unwrap() {
            Some(message) => read.push(text(&message)),
            None => break,
        }
    }
    assert_eq!(read, all);
    assert!(4 < stage.connections());
}

#[tokio::test(start_paused = true)]
async fn no_more_is_prefetched_than_the_window_and_one_batch() {
    let stage = Stage::new(1);
    let payload = "x".repeat(10_000);
    for _ in 0..100 {
        stage.append(0, &[&payload]);
    }
    let window = 65_536;
    let (_client, consumer) = consumer(&stage, from_start().prefetch_bytes(window)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let batch = 10_000 + 16 + 104;
    assert!(stage.delivered_bytes() < window + batch, "{}", stage.delivered_bytes());
    for taken in 1..=100u64 {
        consumer.next_batch().await.unwrap().unwrap();
        settle().await;
        assert!(stage.delivered_bytes() < window + batch + taken * batch);
    }
    let credited = stage.credited_bytes();
    assert!(credited <= 100 * batch && 100 * batch - window / 4 <= credited, "{credited}");
}

#[tokio::test(start_paused = true)]
async fn giving_up_a_receive_at_any_point_loses_nothing() {
    let stage = Stage::new(2);
    let mut all = fill(&stage, 0, 10, 3);
    all.extend(fill(&stage, 1, 10, 3));
    all.sort();
    // Polls each future a given number of times before it is dropped.
    for polls in 0..4usize {
        let (_client, consumer) = consumer(&stage, from_start().until_end()).await;
        let mut read = Vec::new();
        let mut ended = false;
        while !ended {
            let mut receiving = Box::pin(consumer.receive());
            for _ in 0..polls {
                let outcome = poll_fn(|context| std::task::Poll::Ready(receiving.as_mut().poll(context))).await;
                match outcome {
                    std::task::Poll::Ready(Ok(Some(message))) => {
                        read.push(text(&message));
                        break;
                    }
                    std::task::Poll::Ready(Ok(None)) => {
                        ended = true;
                        break;
                    }
                    std::task::Poll::Ready(Err(error)) => panic!("{error}"),
                    std::task::Poll::Pending => settle().await,
                }
            }
            drop(receiving);
            let batches = consumer.receive_batch(2, 1, Duration::from_millis(1)).await.unwrap();
            read.extend(batches.iter().flat_map(levada::Batch::to_messages).map(|message| text(&message)));
            ended |= batches.is_empty() && polls == 0 && read.len() == all.len();
        }
        read.sort();
        assert_eq!(read, all, "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_its_end_is_told_or_followed() {
    for policy in [OnTruncated::Stop, OnTruncated::Rewind] {
        let stage = Stage::new(1);
        fill(&stage, 0, 3, 2);
        let (_client, consumer) = consumer(&stage, from_start().on_truncated(policy)).await;
        for _ in 0..5 {
            consumer.receive().await.unwrap().unwrap();
        }
        // One message of the lost batches is still unread when the connection goes.
        stage.truncate(0, 2);
        stage.cut();
        stage.append(0, &["new 2", "new 3", "new 4", "new 5", "new 6"]);
        reconnected().await;
        match policy {
            OnTruncated::Stop => {
                let error = consumer.receive().await.unwrap_err();
                assert!(error.is(ErrorCode::LogTruncated), "{error}");
                assert_eq!(error.detail("divergence_offset"), Some("2"));
                assert!(consumer.receive().await.is_err(), "it stays stopped");
                consumer.seek(0, Position::offset(2)).unwrap();
            }
            OnTruncated::Rewind => {}
        }
        for number in 2..7 {
            assert_eq!(next(&consumer).await, format!("new {number}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_gone_follows_the_policy() {
    let stage = Stage::new(1);
    fill(&stage, 0, 3, 10);
    stage.trim(0, 20);
    let at_five = || ConsumerOptions::new(TOPIC).from(Position::offset(5));
    let (_client, stopped) = consumer(&stage, at_five()).await;
    assert!(stopped.receive().await.unwrap_err().is(ErrorCode::OffsetOutOfRange));
    let (_client, earliest) = consumer(&stage, at_five().on_out_of_range(OnOutOfRange::Earliest)).await;
    assert_eq!(next(&earliest).await, "20");
    let (_client, latest) = consumer(&stage, at_five().on_out_of_range(OnOutOfRange::Latest)).await;
    let mut receiving = Box::pin(next(&latest));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut receiving).await.is_err());
    stage.append(0, &["after"]);
    assert_eq!(receiving.await, "after");
}

#[tokio::test(start_paused = true)]
async fn damaged_batches_stop_or_are_skipped() {
    let stage = Stage::new(1);
    let all = fill(&stage, 0, 3, 2);
    stage.damage(0, 1);
    let (_client, stopping) = consumer(&stage, from_start().until_end()).await;
    assert_eq!((next(&stopping).await, next(&stopping).await), ("0".into(), "1".into()));
    let error = stopping.receive().await.unwrap_err();
    assert!(error.is(ErrorCode::CorruptBatch), "{error}");
    assert_eq!((error.detail("first_offset"), error.detail("next_offset")), (Some("2"), Some("4")));
    stopping.seek(0, Position::offset(4)).unwrap();
    assert_eq!(rest(&stopping).await, all[4..]);
    let (_client, skipping) = consumer(&stage, from_start().until_end().on_corrupt(OnCorrupt::Skip)).await;
    assert_eq!(rest(&skipping).await, ["0", "1", "4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn seek_moves_and_what_was_under_way_does_not_appear() {
    let stage = Stage::new(1);
    let all = fill(&stage, 0, 10, 3);
    let (_client, consumer) = consumer(&stage, from_start().until_end()).await;
    assert_eq!(next(&consumer).await, "0");
    consumer.seek(0, Position::offset(20)).unwrap();
    assert_eq!(consumer.position(0), Some(20));
    assert_eq!(next(&consumer).await, "20");
    consumer.seek(0, Position::offset(4)).unwrap();
    consumer.seek(0, Position::EARLIEST).unwrap();
    assert_eq!(rest(&consumer).await, all);
    consumer.seek(0, Position::last(1)).unwrap();
    assert_eq!(rest(&consumer).await, all[29..]);
    assert!(consumer.seek(1, Position::EARLIEST).unwrap_err().is(ErrorCode::PartitionNotFound));
}

#[tokio::test(start_paused = true)]
async fn a_paused_partition_is_silent_and_the_others_go_on() {
    let stage = Stage::new(2);
    fill(&stage, 0, 2, 2);
    fill(&stage, 1, 2, 2);
    let (_client, consumer) = consumer(&stage, from_start().until_end()).await;
    consumer.pause(0).unwrap();
    for _ in 0..4 {
        assert_eq!(consumer.receive().await.unwrap().unwrap().partition, 1);
    }
    let mut waiting = Box::pin(consumer.receive());
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut waiting).await.is_err());
    consumer.resume(0).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().partition, 0);
    assert_eq!(rest(&consumer).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_second_receive_at_once_is_refused() {
    let stage = Stage::new(1);
    let (_client, consumer) = consumer(&stage, from_start()).await;
    let mut first = Box::pin(consumer.receive());
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut first).await.is_err());
    assert!(consumer.receive().await.unwrap_err().is(ErrorCode::ConcurrentCall));
    drop(first);
    stage.append(0, &["a"]);
    assert_eq!(next(&consumer).await, "a");
}

#[tokio::test(start_paused = true)]
async fn close_ends_a_receive_under_way() {
    let stage = Stage::new(1);
    let (client, consumer) = consumer(&stage, from_start()).await;
    let consumer = Arc::new(consumer);
    let receiving = tokio::spawn({
        let consumer = Arc::clone(&consumer);
        async move { consumer.receive().await }
    });
    settle().await;
    consumer.close(Duration::from_secs(1)).await.unwrap();
    assert!(receiving.await.unwrap().unwrap_err().is(ErrorCode::Closed));
    let other = client.consumer(from_start()).await.unwrap();
    client.close(Duration::from_secs(1)).await.unwrap();
    assert!(other.receive().await.unwrap_err().is(ErrorCode::Closed));
}

#[tokio::test(start_paused = true)]
async fn arming_calls_back_once_when_there_is_something() {
    let stage = Stage::new(1);
    let (_client, consumer) = consumer(&stage, from_start()).await;
    settle().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let count = || {
        let calls = Arc::clone(&calls);
        move || {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    };
    consumer.arm(count());
    settle().await;
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    stage.append(0, &["a"]);
    stage.append(0, &["b"]);
    settle().await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    consumer.arm(count());
    assert_eq!(calls.load(Ordering::Relaxed), 2, "at once: something is there");
    assert_eq!(consumer.try_take(10, 1 << 20).unwrap().batches.len(), 2);
    assert!(consumer.try_take(10, 1 << 20).unwrap().batches.is_empty());
    consumer.arm(count());
    consumer.close(Duration::ZERO).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3, "closing calls back too");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_a_stream_of_messages_and_gives_one_of_batches() {
    let stage = Stage::new(1);
    let all = fill(&stage, 0, 4, 3);
    let (client, mut messages) = consumer(&stage, from_start().until_end()).await;
    let mut read = Vec::new();
    while let Some(message) = poll_fn(|context| Pin::new(&mut messages).poll_next(context)).await {
        read.push(text(&message.unwrap()));
    }
    assert_eq!(read, all);
    let consumer = client.consumer(from_start().until_end()).await.unwrap();
    let mut batches = consumer.batches();
    let mut count = 0;
    while let Some(batch) = poll_fn(|context| Pin::new(&mut batches).poll_next(context)).await {
        count += batch.unwrap().message_count();
    }
    assert_eq!(count, 12);
}

#[tokio::test(start_paused = true)]
async fn partitions_are_chosen_and_checked() {
    let stage = Stage::new(4);
    fill(&stage, 2, 1, 1);
    let (client, one) = consumer(&stage, ConsumerOptions::new("play/act:2").from(Position::EARLIEST).until_end()).await;
    assert_eq!(one.partitions(), [2]);
    assert_eq!(rest(&one).await.len(), 1);
    let some = client.consumer(from_start().partitions([3, 1])).await.unwrap();
    assert_eq!(some.partitions(), [1, 3]);
    for wrong in [from_start().partitions([4]), ConsumerOptions::new("play/act:4")] {
        assert!(client.consumer(wrong).await.unwrap_err().is(ErrorCode::PartitionNotFound));
    }
    for wrong in [from_start().partitions([]), ConsumerOptions::new("play/act:1").partitions([1])] {
        assert!(client.consumer(wrong).await.unwrap_err().is(ErrorCode::ClientUsage));
    }
}
