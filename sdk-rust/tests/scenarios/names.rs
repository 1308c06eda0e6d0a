//! Producers with names, and sequences that the application brings.

use std::time::Duration;

use levada::{Client, ErrorCode, Message, Producer, ProducerOptions};
use tokio::time::Instant;

use crate::stage::{Act, Stage, TOPIC};

fn named() -> ProducerOptions {
    ProducerOptions::new().name("ledger")
}

async fn open(client: &Client, options: ProducerOptions) -> Producer {
    client.producer(TOPIC, options).await.unwrap()
}

fn numbered(sequence: u64) -> Message {
    Message::new(sequence.to_string()).partition(0).sequence(sequence)
}

fn external() -> ProducerOptions {
    named().external_sequence(true)
}

#[tokio::test(start_paused = true)]
async fn a_name_goes_on_where_its_predecessor_ended_and_fences_it() {
    let stage = Stage::new(2);
    let client = stage.client().await;
    let first = open(&client, named()).await;
    assert_eq!((first.last_sequence(0), first.last_sequence(1), first.last_sequence(2)), (None, None, None));
    for payload in ["a", "b", "c"] {
        first.send(Message::new(payload).partition(1)).await.unwrap();
    }
    let second = open(&client, named()).await;
    assert_eq!((second.last_sequence(0), second.last_sequence(1)), (None, Some(2)));
    second.send(Message::new("d").partition(1)).await.unwrap();
    let fenced = first.send(Message::new("e").partition(1)).await.unwrap_err();
    assert!(fenced.is(ErrorCode::Fenced), "{fenced}");
    assert_eq!(stage.payloads(1), ["a", "b", "c", "d"]);
    let seen = stage.seen();
    assert_eq!(seen[3].producer_id, seen[0].producer_id);
    assert_eq!((seen[3].producer_epoch, seen[3].first_sequence), (seen[0].producer_epoch + 1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_name_asks_many_partitions_at_once_but_not_all() {
    let stage = Stage::new(1000);
    let client = stage.client().await;
    let first = open(&client, named()).await;
    for partition in [0, 33, 33, 999] {
        first.send(Message::new("a").partition(partition)).await.unwrap();
    }
    stage.delay_sequences(Duration::from_secs(1));
    let begun = Instant::now();
    let second = open(&client, named()).await;
    let took_s = begun.elapsed().as_secs_f64().round();
    assert_eq!(took_s, 32.0, "1000 partitions, 32 of them at once");
    let known: Vec<_> = (0..1000).filter_map(|partition| Some((partition, second.last_sequence(partition)?))).collect();
    assert_eq!(known, [(0, 0), (33, 1), (999, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_must_change_its_epoch_asks_how_far_it_came() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    let producer = open(&client, named()).await;
    producer.send("a").await.unwrap();
    producer.send("b").await.unwrap();
    // Its fate is given up as unknown, which ends the epoch.
    let hasty = open(&client, named().delivery_timeout(Duration::from_secs(1))).await;
    stage.script([Act::Late(Duration::from_secs(5))]);
    let error = hasty.send("c").await.unwrap_err();
    assert!(error.is(ErrorCode::DeliveryTimeout) && error.maybe_applied(), "{error}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    hasty.send("d").await.unwrap();
    assert_eq!(stage.payloads(0), ["a", "b", "c", "d"]);
    let last = stage.seen().pop().unwrap();
    assert_eq!((last.producer_epoch, last.first_sequence), (3, 3), "c was appended after all");
}

#[tokio::test(start_paused = true)]
async fn what_a_name_had_appended_is_dropped_when_it_comes_again() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    let first = open(&client, external()).await;
    for sequence in [3, 4, 9] {
        first.send(numbered(sequence)).await.unwrap();
    }
    // Appended, and its acknowledgement is lost with the process.
    stage.script([Act::Ignore, Act::Behave]);
    drop(first.enqueue(numbered(11)).await.unwrap());
    crate::settle().await;
    stage.cut();
    first.send(numbered(12)).await.unwrap();

    let second = open(&client, external()).await;
    assert_eq!(second.last_sequence(0), Some(12));
    let mut deliveries = Vec::new();
    for sequence in [3, 4, 9, 11, 12, 13, 20] {
        deliveries.push(second.enqueue(numbered(sequence)).await.unwrap());
    }
    let mut dropped = Vec::new();
    for delivery in deliveries {
        dropped.push(delivery.await.unwrap().duplicate);
    }
    assert_eq!(dropped, [true, true, true, true, true, false, false]);
    assert_eq!(stage.payloads(0), ["3", "4", "9", "11", "12", "13", "20"]);
    assert_eq!(stage.max_unanswered(), 1, "a later batch would hide that an earlier one is missing");
}

#[tokio::test(start_paused = true)]
async fn a_batch_holds_only_sequences_that_follow_each_other() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    let producer = open(&client, external()).await;
    let sequences = [1, 2, 3, 7, 8, 10];
    producer.send_batch(sequences.map(numbered)).await.unwrap();
    let batches: Vec<_> = stage.seen().iter().map(|seen| (seen.first_sequence, seen.message_count)).collect();
    assert_eq!(batches, [(1, 3), (7, 2), (10, 1)]);
    // What was known when the producer was opened never shares a batch with what follows.
    let again = open(&client, external()).await;
    again.send_batch((10..14).map(numbered)).await.unwrap();
    let batches: Vec<_> = stage.seen()[3..].iter().map(|seen| (seen.first_sequence, seen.message_count)).collect();
    assert_eq!(batches, [(10, 1), (11, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_ends_a_producer_with_sequences_of_the_application() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    let producer = open(&client, external()).await;
    producer.send(numbered(1)).await.unwrap();
    stage.script([Act::Refuse(ErrorCode::MalformedBatch, vec![])]);
    let refused = producer.enqueue(numbered(2)).await.unwrap();
    let behind = producer.enqueue(numbered(4)).await.unwrap();
    assert!(refused.await.unwrap_err().is(ErrorCode::MalformedBatch));
    let error = behind.await.unwrap_err();
    assert!(error.is(ErrorCode::MalformedBatch) && !error.maybe_applied(), "{error}");
    assert!(producer.send(numbered(5)).await.is_err());
    assert_eq!(stage.payloads(0), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn lost_connections_neither_double_nor_drop_a_sequence() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    let producer = open(&client, external()).await;
    stage.script([Act::CutAfter, Act::Behave, Act::CutBefore, Act::FailUnknown]);
    let mut offsets = Vec::new();
    for sequence in [5, 6, 8] {
        offsets.push(producer.send(numbered(sequence)).await.unwrap().offset);
    }
    assert_eq!(offsets, [Some(0), Some(1), Some(2)]);
    assert_eq!(stage.payloads(0), ["5", "6", "8"]);
}

#[tokio::test(start_paused = true)]
async fn options_and_sequences_that_contradict_each_other_are_usage_errors() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    for (options, argument) in
        [(named().idempotent(false), "name"), (ProducerOptions::new().external_sequence(true), "external_sequence")]
    {
        let error = client.producer(TOPIC, options).await.unwrap_err();
        assert_eq!(error.detail("argument"), Some(argument), "{error}");
    }
    let plain = open(&client, ProducerOptions::new()).await;
    let numbering = open(&client, external()).await;
    numbering.send(numbered(5)).await.unwrap();
    for (producer, message) in [
        (&plain, numbered(1)),
        (&numbering, Message::new("none").partition(0)),
        (&numbering, Message::new("anywhere").sequence(9)),
        (&numbering, numbered(5)),
        (&numbering, numbered(u64::MAX)),
    ] {
        let error = producer.send(message).await.unwrap_err();
        assert_eq!(error.detail("argument"), Some("sequence"), "{error}");
    }
    numbering.send(numbered(6)).await.unwrap();
}
