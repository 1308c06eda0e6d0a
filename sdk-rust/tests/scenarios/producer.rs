//! Batching, order, retries and endings of producers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use levada::{
    BatchEvent, Client, CompletionSink, Compression, Delivery, ErrorCode, Header, HeaderValue, Message, Producer,
    ProducerOptions,
};
use tokio::time::Instant;

use crate::settle;
use crate::stage::{Act, Stage, TOPIC};

async fn producer(stage: &Stage, options: ProducerOptions) -> (Client, Producer) {
    let client = stage.client().await;
    let producer = client.producer(TOPIC, options).await.unwrap();
    (client, producer)
}

async fn enqueue(producer: &Producer, names: impl IntoIterator<Item = u32>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for name in names {
        deliveries.push(producer.enqueue(name.to_string()).await.unwrap());
    }
    deliveries
}

/// Hands messages over one by one, letting each leave before the next comes.
async fn enqueue_apart(producer: &Producer, names: impl IntoIterator<Item = u32>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for name in names {
        deliveries.push(producer.enqueue(name.to_string()).await.unwrap());
        settle().await;
    }
    deliveries
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_receipt_tells_where_the_message_went() {
    let stage = Stage::new(1);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    let receipt = producer.send("first").await.unwrap();
    assert_eq!((receipt.partition, receipt.offset, receipt.append_time_us), (0, Some(0), 7));
    assert_eq!(receipt.durability, levada::Durability::Disk);
    assert!(!receipt.duplicate);
    assert_eq!(producer.send("second").await.unwrap().offset, Some(1));
    assert_eq!(stage.payloads(0), ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn messages_handed_over_together_leave_together() {
    let stage = Stage::new(1);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    let deliveries = enqueue(&producer, 0..10).await;
    for (offset, delivery) in (0u64..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, Some(offset));
    }
    assert_eq!(stage.batch_sizes(), [10]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_lingers_as_long_as_asked() {
    let stage = Stage::new(1);
    let (_client, producer) = producer(&stage, ProducerOptions::new().linger(Duration::from_millis(20))).await;
    let before = Instant::now();
    let first = producer.enqueue("a").await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let second = producer.enqueue("b").await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert!((20..25).contains(&before.elapsed().as_millis()), "{:?}", before.elapsed());
    assert_eq!(stage.batch_sizes(), [2]);

    let before = Instant::now();
    let third = producer.enqueue("c").await.unwrap();
    producer.flush().await.unwrap();
    assert!(before.elapsed() < Duration::from_millis(5), "a flush does not linger");
    assert_eq!(third.try_receipt().unwrap().unwrap().offset, Some(2));
}

#[tokio::test(start_paused = true)]
async fn batches_are_cut_by_bytes_and_by_count() {
    let stage = Stage::new(1);
    let (client, by_count) = producer(&stage, ProducerOptions::new().batch_messages(3)).await;
    by_count.send_batch(numbers(0..7)).await.unwrap();
    assert_eq!(stage.batch_sizes(), [3, 3, 1]);
    let by_bytes = client.producer(TOPIC, ProducerOptions::new().batch_bytes(1000)).await.unwrap();
    by_bytes.send_batch(vec![vec![b'x'; 400]; 4]).await.unwrap();
    assert_eq!(stage.batch_sizes()[3..], [2, 2]);
    by_bytes.send(vec![b'y'; 5000]).await.unwrap();
    assert_eq!(stage.batch_sizes()[5..], [1], "a message larger than the aim has a batch for itself");
    let error = by_bytes.send(vec![b'z'; 17 << 20]).await.unwrap_err();
    assert!(error.is(ErrorCode::TooLarge), "{error}");
    assert!(error.detail("limit").is_some());
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_call_stay_together_where_they_fit() {
    let stage = Stage::new(1);
    stage.always(Act::Hold);
    let (_client, producer) = producer(&stage, ProducerOptions::new().batch_bytes(10_000).max_in_flight(1)).await;
    drop(enqueue_apart(&producer, 0..1).await);
    for _ in 0..3 {
        drop(producer.enqueue_batch(vec![vec![b'x'; 600]; 10]).await.unwrap());
    }
    stage.release();
    producer.flush().await.unwrap();
    assert_eq!(stage.batch_sizes(), [1, 10, 10, 10]);
}

/// An iterator that lets other threads run between its messages.
struct Halting(u32);

impl Iterator for Halting {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        std::thread::yield_now();
        self.0 = self.0.checked_sub(1)?;
        Some(self.0.to_string())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_does_not_leave_while_it_is_filled() {
    let stage = Stage::new(1);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    for _ in 0..20 {
        producer.enqueue_batch(Halting(2000)).await.unwrap().await.unwrap();
    }
    assert_eq!(stage.batch_sizes(), [2000; 20]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_window_is_in_flight_and_order_is_kept() {
    let stage = Stage::new(1);
    stage.always(Act::Hold);
    let (_client, producer) = producer(&stage, ProducerOptions::new().max_in_flight(5)).await;
    let deliveries = enqueue_apart(&producer, 0..12).await;
    assert_eq!(stage.batch_sizes(), [1, 1, 1, 1, 1], "five are in flight, the rest waits");
    stage.release();
    for (offset, delivery) in (0u64..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, Some(offset));
    }
    assert_eq!(stage.batch_sizes(), [1, 1, 1, 1, 1, 7], "what waited became one batch");
    assert_eq!(stage.max_unanswered(), 5);
    assert_eq!(stage.payloads(0), numbers(0..12));
}

#[tokio::test(start_paused = true)]
async fn the_server_may_allow_fewer_in_flight() {
    let stage = Stage::new(1);
    stage.allow_in_flight(2);
    stage.always(Act::Hold);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    drop(enqueue_apart(&producer, 0..5).await);
    assert_eq!(stage.batch_sizes(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_is_asked_for_again_without_a_duplicate() {
    let stage = Stage::new(1);
    stage.script([Act::Behave, Act::CutAfter]);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    assert!(!producer.send("0").await.unwrap().duplicate);
    let receipt = producer.send("1").await.unwrap();
    assert!(receipt.duplicate);
    assert_eq!(receipt.offset, Some(1));
    assert_eq!(stage.payloads(0), numbers(0..2));
    let seen = stage.seen();
    assert_eq!(seen[1], seen[2], "the same batch under the same number");
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_with_a_full_window_keeps_order_and_count() {
    for cut in [Act::CutBefore, Act::CutAfter] {
        for place in 0..5 {
            let stage = Stage::new(1);
            stage.script(
                [Act::Hold, Act::Hold, Act::Hold, Act::Hold, Act::Hold].into_iter().take(place).chain([cut.clone()]),
            );
            let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
            let deliveries = enqueue_apart(&producer, 0..9).await;
            for (offset, delivery) in (0u64..).zip(deliveries) {
                assert_eq!(delivery.await.unwrap().offset, Some(offset), "{cut:?} at {place}");
            }
            assert_eq!(stage.payloads(0), numbers(0..9), "{cut:?} at {place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_may_pass_is_retried_in_order() {
    for code in [ErrorCode::Overloaded, ErrorCode::DiskFull, ErrorCode::AppendUnknown, ErrorCode::ChecksumMismatch] {
        let stage = Stage::new(1);
        stage.script([Act::Behave, Act::Refuse(code, vec![]), Act::Behave, Act::Behave]);
        let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
        let deliveries = enqueue_apart(&producer, 0..4).await;
        for (offset, delivery) in (0u64..).zip(deliveries) {
            assert_eq!(delivery.await.unwrap().offset, Some(offset), "{code}");
        }
        assert_eq!(stage.payloads(0), numbers(0..4), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_gap_the_client_drains_and_resends_from_the_lowest() {
    let stage = Stage::new(1);
    // The first is refused while others are on their way: those meet a gap.
    stage.script([Act::Refuse(ErrorCode::Overloaded, vec![])]);
    let (_client, producer) = producer(&stage, ProducerOptions::new().batch_messages(1)).await;
    let deliveries = enqueue(&producer, 0..5).await;
    for (offset, delivery) in (0u64..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, Some(offset));
    }
    let sequences: Vec<u64> = stage.seen().iter().map(|seen| seen.first_sequence).collect();
    assert_eq!(sequences, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    assert_eq!(stage.payloads(0), numbers(0..5));
}

#[tokio::test(start_paused = true)]
async fn a_batch_refused_for_good_leaves_no_gap() {
    let stage = Stage::new(1);
    stage.script([Act::Behave, Act::Refuse(ErrorCode::MalformedBatch, vec![])]);
    let (_client, producer) = producer(&stage, ProducerOptions::new().batch_messages(1)).await;
    let mut deliveries = enqueue(&producer, 0..5).await;
    let refused = deliveries.remove(1).await.unwrap_err();
    assert!(refused.is(ErrorCode::MalformedBatch), "{refused}");
    assert!(!refused.maybe_applied());
    for (offset, delivery) in (0u64..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, Some(offset));
    }
    assert_eq!(stage.payloads(0), ["0", "2", "3", "4"]);
    assert!(producer.flush().await.unwrap_err().is(ErrorCode::MalformedBatch), "a flush tells the first failure");
    producer.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fenced_producer_stops() {
    let stage = Stage::new(1);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    producer.send("0").await.unwrap();
    stage.take_over(stage.seen()[0].producer_id);
    let error = producer.send("1").await.unwrap_err();
    assert!(error.is(ErrorCode::Fenced), "{error}");
    let error = producer.enqueue("2").await.unwrap_err();
    assert!(error.is(ErrorCode::Fenced), "{error}");
    assert_eq!(stage.payloads(0), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_producer_takes_a_new_epoch_and_goes_on() {
    let stage = Stage::new(1);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    producer.send("0").await.unwrap();
    stage.forget_producers();
    producer.send("1").await.unwrap();
    producer.send("2").await.unwrap();
    assert_eq!(stage.payloads(0), numbers(0..3));
    let epochs: Vec<u32> = stage.seen().iter().map(|seen| seen.producer_epoch).collect();
    assert_eq!(epochs, [1, 1, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_lost_with_the_log_is_reported_as_unknown() {
    let stage = Stage::new(1);
    stage.script([Act::Behave, Act::CutAfter, Act::Refuse(ErrorCode::LogTruncated, vec![("divergence_offset", 1)])]);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    producer.send("0").await.unwrap();
    let error = producer.send("1").await.unwrap_err();
    assert!(error.is(ErrorCode::LogTruncated), "{error}");
    assert!(error.maybe_applied());
    producer.send("2").await.unwrap();
    assert_eq!(stage.seen().last().unwrap().producer_epoch, 2);
    assert_eq!(stage.seen().last().unwrap().first_sequence, 0);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_unknown_offset_is_a_success() {
    let stage = Stage::new(1);
    stage.script([Act::Refuse(ErrorCode::DuplicateUnknownOffset, vec![])]);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    let receipt = producer.send("0").await.unwrap();
    assert_eq!(receipt.offset, None);
    assert!(receipt.duplicate);
}

#[tokio::test(start_paused = true)]
async fn only_the_delivery_timeout_abandons_a_batch_that_was_sent() {
    let stage = Stage::new(1);
    stage.always(Act::Ignore);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    let before = Instant::now();
    let lost = producer.enqueue("0").await.unwrap();
    let error = lost.await.unwrap_err();
    assert!(error.is(ErrorCode::DeliveryTimeout), "{error}");
    assert!(error.maybe_applied());
    assert_eq!(before.elapsed().as_secs(), 120);
    assert!(1 < stage.connections(), "connections that do not answer are given up meanwhile");
    stage.always(Act::Behave);
    producer.send("1").await.unwrap();
    assert_eq!(stage.payloads(0), ["1"]);
    let last = stage.seen().pop().unwrap();
    assert_eq!((last.producer_epoch, last.first_sequence), (2, 0), "the rest goes under a new epoch");
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_certainly_not_applied() {
    let stage = Stage::new(1);
    let options = ProducerOptions::new().delivery_timeout(Duration::from_secs(5));
    let (_client, producer) = producer(&stage, options).await;
    stage.refuse_connections(true);
    stage.cut();
    let before = Instant::now();
    let error = producer.send("0").await.unwrap_err();
    assert!(error.is(ErrorCode::DeliveryTimeout), "{error}");
    assert!(!error.maybe_applied());
    assert_eq!(before.elapsed().as_secs(), 5);
    stage.refuse_connections(false);
    assert_eq!(producer.send("1").await.unwrap().offset, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_callers_wait_or_refuses_them() {
    let stage = Stage::new(1);
    stage.always(Act::Hold);
    let (_client, producer) = producer(&stage, ProducerOptions::new().max_buffered_bytes(1000)).await;
    let first = producer.try_enqueue(vec![b'x'; 900]).unwrap();
    let error = producer.try_enqueue(vec![b'x'; 900]).unwrap_err();
    assert!(error.is(ErrorCode::QueueFull) && error.is_retriable(), "{error}");
    let waiting = tokio::time::timeout(Duration::from_secs(5), producer.enqueue("late"));
    assert!(waiting.await.is_ok(), "a small message still fits");
    let waiting = tokio::time::timeout(Duration::from_secs(5), producer.enqueue(vec![b'x'; 900]));
    assert!(waiting.await.is_err(), "it waits for space");
    stage.release();
    let second = producer.enqueue(vec![b'y'; 900]).await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    let stored: Vec<usize> = stage.payloads(0).iter().map(String::len).collect();
    assert_eq!(stored, [900, 4, 900], "the one that gave up waiting was not sent");
}

#[tokio::test(start_paused = true)]
async fn a_message_larger_than_the_whole_buffer_still_passes() {
    let stage = Stage::new(1);
    let (_client, producer) = producer(&stage, ProducerOptions::new().max_buffered_bytes(10)).await;
    producer.send(vec![b'x'; 900]).await.unwrap();
    producer.send_batch(vec![vec![b'x'; 900]; 3]).await.unwrap();
    assert_eq!(stage.payloads(0).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn giving_up_a_delivery_does_not_take_the_message_back() {
    let stage = Stage::new(1);
    stage.always(Act::Hold);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    let sending = tokio::time::timeout(Duration::from_secs(1), producer.send("0"));
    assert!(sending.await.is_err());
    drop(producer.enqueue("1").await.unwrap());
    stage.release();
    producer.flush().await.unwrap();
    assert_eq!(stage.payloads(0), numbers(0..2));
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_what_is_in_flight() {
    let stage = Stage::new(1);
    stage.always(Act::Hold);
    let (_client, producer) = producer(&stage, ProducerOptions::new().linger(Duration::from_secs(60))).await;
    let deliveries = enqueue(&producer, 0..3).await;
    let error = producer.close(Duration::from_secs(2)).await.unwrap_err();
    assert!(error.is(ErrorCode::ClientTimeout) && error.maybe_applied(), "{error}");
    assert!(producer.enqueue("late").await.unwrap_err().is(ErrorCode::Closed));
    stage.release();
    producer.close(Duration::from_secs(2)).await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(stage.payloads(0), numbers(0..3));
}

#[tokio::test(start_paused = true)]
async fn closing_the_client_settles_its_producers_or_tells() {
    let stage = Stage::new(1);
    let (client, first) = producer(&stage, ProducerOptions::new().linger(Duration::from_secs(60))).await;
    let delivery = first.enqueue("0").await.unwrap();
    client.close(Duration::from_secs(1)).await.unwrap();
    delivery.await.unwrap();

    let (client, second) = producer(&stage, ProducerOptions::new()).await;
    stage.always(Act::Ignore);
    let delivery = second.enqueue("1").await.unwrap();
    let error = client.close(Duration::from_secs(1)).await.unwrap_err();
    assert!(error.is(ErrorCode::ClientTimeout), "{error}");
    let error = delivery.await.unwrap_err();
    assert!(error.is(ErrorCode::Closed) && error.maybe_applied(), "{error:?}");
    assert!(second.enqueue("2").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_producer_still_sends_what_it_took() {
    let stage = Stage::new(1);
    let (client, producer) = producer(&stage, ProducerOptions::new()).await;
    let delivery = producer.enqueue("0").await.unwrap();
    drop((client, producer));
    delivery.await.unwrap();
    assert_eq!(stage.payloads(0), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn keys_choose_partitions_and_partitions_can_be_chosen() {
    let stage = Stage::new(8);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    let mut of_key = std::collections::BTreeMap::new();
    for round in 0..3 {
        for key in ["a", "b", "c", ""] {
            let receipt = producer.send(Message::new(format!("{key}{round}")).key(key)).await.unwrap();
            let wanted = levada_protocol::partitioner::partition_for_key(key.as_bytes(), 8);
            assert_eq!(receipt.partition, wanted);
            assert_eq!(*of_key.entry(key).or_insert(receipt.partition), receipt.partition);
        }
    }
    assert_eq!(producer.send(Message::new("x").key("a").partition(5)).await.unwrap().partition, 5);
    let error = producer.send(Message::new("x").partition(8)).await.unwrap_err();
    assert!(error.is(ErrorCode::PartitionNotFound), "{error}");
    let spread: std::collections::BTreeSet<u32> = {
        let mut partitions = std::collections::BTreeSet::new();
        for _ in 0..8 {
            partitions.insert(producer.send("no key").await.unwrap().partition);
        }
        partitions
    };
    assert_eq!(spread.len(), 8, "messages without a key go round, a batch each");
}

#[tokio::test(start_paused = true)]
async fn every_codec_and_every_part_of_a_message_arrives() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd(1)] {
        let stage = Stage::new(1);
        let (_client, producer) = producer(&stage, ProducerOptions::new().compression(compression)).await;
        let message =
            Message::new("x".repeat(5000)).key("k").header("n", HeaderValue::U64(7)).timestamp_us(-5).id([9; 16]);
        let receipts = producer.send_batch([&message, &message]).await.unwrap();
        assert_eq!(receipts.len(), 1);
        assert_eq!(receipts[0].message_count, 2);
        assert_eq!(stage.payloads(0)[1].len(), 5000);
        let twice = message.clone().header("n", HeaderValue::Bool(true));
        assert!(producer.send(&twice).await.is_err(), "names of headers are unique");
    }
    let _ = Header::new("n", HeaderValue::Bool(true));
}

#[tokio::test(start_paused = true)]
async fn without_idempotence_one_batch_is_in_flight_and_an_unknown_fate_is_told() {
    let stage = Stage::new(1);
    let (_client, producer) = producer(&stage, ProducerOptions::new().idempotent(false)).await;
    producer.send("0").await.unwrap();
    stage.script([Act::CutAfter]);
    let error = producer.send("1").await.unwrap_err();
    assert!(error.is(ErrorCode::ConnectionLost) && error.maybe_applied(), "{error:?}");
    stage.script([Act::Refuse(ErrorCode::Overloaded, vec![])]);
    producer.send("2").await.unwrap();
    assert_eq!(stage.payloads(0), numbers(0..3));
    stage.always(Act::Hold);
    drop(enqueue_apart(&producer, 3..6).await);
    assert_eq!(stage.max_unanswered(), 1);
    assert!(stage.seen().iter().all(|seen| seen.producer_id == 0));
}

#[derive(Default)]
struct Sink {
    events: Mutex<Vec<BatchEvent>>,
    places: Mutex<usize>,
}

impl CompletionSink for Sink {
    fn try_reserve(&self) -> bool {
        let mut places = self.places.lock().unwrap();
        if *places == 3 {
            return false;
        }
        *places += 1;
        true
    }

    fn release(&self) {
        *self.places.lock().unwrap() -= 1;
    }

    fn complete(&self, event: BatchEvent) {
        *self.places.lock().unwrap() -= event.tokens.len();
        self.events.lock().unwrap().push(event);
    }
}

#[tokio::test(start_paused = true)]
async fn completions_come_one_event_per_batch_with_the_callers_tokens() {
    let stage = Stage::new(1);
    let sink = Arc::new(Sink::default());
    let options = ProducerOptions::new().completion_sink(Arc::clone(&sink) as Arc<dyn CompletionSink>);
    let (_client, producer) = producer(&stage, options).await;
    for token in [10, 20, 30] {
        producer.try_send("x", token).unwrap();
    }
    assert!(producer.try_send("x", 40).unwrap_err().is(ErrorCode::QueueFull), "no place for its completion");
    producer.flush().await.unwrap();
    stage.script([Act::Refuse(ErrorCode::MalformedBatch, vec![])]);
    producer.try_send("x", 50).unwrap();
    producer.flush().await.unwrap_err();
    let events = std::mem::take(&mut *sink.events.lock().unwrap());
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].tokens, [10, 20, 30]);
    assert_eq!(events[0].outcome.as_ref().unwrap().base_offset, Some(0));
    assert_eq!(events[1].tokens, [50]);
    assert!(events[1].outcome.as_ref().unwrap_err().is(ErrorCode::MalformedBatch));
    assert_eq!(events[1].producer, producer.id());
    assert_eq!(*sink.places.lock().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn packed_payloads_are_split_by_their_lengths() {
    let stage = Stage::new(1);
    let (_client, producer) = producer(&stage, ProducerOptions::new()).await;
    let receipts = producer.enqueue_packed(b"onetwothree", &[3, 3, 5]).await.unwrap().await.unwrap();
    assert_eq!(receipts[0].message_count, 3);
    assert_eq!(stage.payloads(0), ["one", "two", "three"]);
    assert!(producer.enqueue_packed(b"one", &[2]).await.unwrap_err().is(ErrorCode::ClientUsage));
}
