//! The crate against a real server, as a binding uses it: blocking calls, events, readiness and take, close, fork. One test
//! program, so that each counts what is live without others beside it.
#![expect(clippy::unwrap_used, reason = "a test says what must hold")]

mod vocabulary;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use levada::{ErrorCode, MessageRef};
use levada_ffi::{Client, Event, Output, Queue, TakenMessage, To, Value, told};
use vocabulary::{LONG, Server, here, message, offsets, record_of, waiting};

#[test]
fn a_message_sent_by_a_thread_comes_back_with_all_its_parts() {
    let server = Server::start();
    let client = server.client();
    server.topic(&client, "a/b");
    let producer = server.producer(&client, "a/b", None);
    let header = levada::Header::new("n", levada::HeaderValue::I64(-3));
    let sent = MessageRef {
        payload: Some(b"hello"),
        key: Some(b"k"),
        headers: std::slice::from_ref(&header),
        timestamp_us: Some(17),
        id: Some([9; 16]),
        partition: Some(0),
        ..MessageRef::default()
    };
    let Output::Receipt(receipt) = here(&producer.send(sent, To::Here)) else { panic!("not a receipt") };
    assert_eq!((receipt.partition, receipt.offset), (0, Some(0)));

    let consumer = server.consumer(&client, "a/b", &[("from", "earliest")]);
    let TakenMessage::Message(batch, index) = consumer.receive(LONG, &mut || true).unwrap() else { panic!("nothing") };
    let view = batch.message(index).unwrap();
    assert_eq!((view.offset, view.timestamp_us, view.id), (0, 17, Some([9; 16])));
    assert_eq!((view.payload, view.key), (Some(b"hello".as_slice()), Some(b"k".as_slice())));
    assert_eq!(batch.headers(index), [header]);
    assert_eq!(batch.table().len(), 40 * batch.message_count());
}

#[test]
fn acknowledgements_come_to_the_queue_once_for_each_batch() {
    let server = Server::start();
    let client = server.client();
    server.topic(&client, "a/b");
    let queue = Queue::with_fd().unwrap();
    let producer = server.producer(&client, "a/b", Some(queue.clone()));
    for token in 0..1000u64 {
        producer.try_send(message(token.to_string().as_bytes()), token).unwrap();
    }
    let mut seen = BTreeSet::new();
    let mut events = 0;
    while seen.len() < 1000 {
        for event in queue.poll(100, LONG) {
            let Event::Acked { producer: of, outcome, tokens } = event else { panic!("not an acknowledgement") };
            assert_eq!(of, producer.id().unwrap());
            let base = outcome.unwrap().base_offset.unwrap();
            // One producer, one partition: offsets are the order of hand-over.
            assert!(tokens.iter().zip(base..).all(|(token, offset)| *token == offset));
            seen.extend(tokens);
            events += 1;
        }
    }
    assert!(events < 1000, "{events} events for 1000 messages");
}

#[test]
fn giving_up_a_wait_at_any_point_loses_nothing() {
    let server = Server::start();
    let client = server.client();
    server.topic(&client, "a/b");
    let queue = Queue::with_fd().unwrap();
    let producer = server.producer(&client, "a/b", None);
    let consumer = server.consumer(&client, "a/b", &[("from", "earliest")]);
    let mut taken = Vec::new();
    for round in 0..300u64 {
        consumer.arm(&queue, round).unwrap();
        assert!(consumer.arm(&queue, round).unwrap_err().is(ErrorCode::ConcurrentCall));
        let sending = producer.send(message(&round.to_le_bytes()), To::Here);
        match round % 3 {
            // Before it can be ready, after it surely is, and whenever that may be.
            0 => consumer.disarm(),
            1 => {
                here(&sending);
                drop(queue.poll(10, LONG));
                consumer.disarm();
            }
            _ => {
                drop(queue.poll(10, LONG));
                taken.extend(offsets(&consumer.take(usize::MAX, usize::MAX).unwrap().batches));
            }
        }
        if round % 3 != 1 {
            here(&sending);
        }
        // An announcement of a wait given up does no harm.
        drop(queue.drain(10));
    }
    while taken.len() < 300 {
        taken.extend(offsets(&consumer.receive_batch(7, 1 << 20, LONG, &mut || true).unwrap().batches));
    }
    assert_eq!(taken, (0..300).collect::<Vec<u64>>());
}

#[test]
fn messages_taken_one_by_one_batches_seeks_and_pauses_agree_on_the_position() {
    let server = Server::start();
    let client = server.client();
    server.topic(&client, "a/b");
    let producer = server.producer(&client, "a/b", None);
    let lengths = vec![1; 10];
    here(&producer.send_packed(Bytes::from_static(b"0123456789"), lengths, To::Here));
    let consumer = server.consumer(&client, "a/b", &[("from", "earliest")]);
    let next = || match consumer.receive(LONG, &mut || true).unwrap() {
        TakenMessage::Message(batch, index) => batch.message(index).unwrap().offset,
        other => panic!("{other:?}"),
    };
    assert_eq!([next(), next()], [0, 1]);
    assert_eq!(consumer.position(None, 0).unwrap(), Some(2));
    let taken = consumer.receive_batch(3, usize::MAX, LONG, &mut || true).unwrap();
    assert_eq!(offsets(&taken.batches), [2, 3, 4]);
    assert_eq!((taken.batches[0].first_offset(), taken.batches[0].next_offset()), (2, 5));
    assert_eq!(next(), 5);
    consumer.pause(None, 0).unwrap();
    let paused = consumer.receive(Some(Duration::from_millis(50)), &mut || true).unwrap();
    assert!(matches!(paused, TakenMessage::Nothing), "{paused:?}");
    consumer.resume(None, 0).unwrap();
    assert_eq!([next(), next()], [6, 7]);
    consumer.seek(None, 0, Value::Text("offset(1)".to_owned())).unwrap();
    assert_eq!([next(), next()], [1, 2]);
}

#[test]
fn the_end_asked_for_is_told_and_stays() {
    let server = Server::start();
    let client = server.client();
    server.topic(&client, "a/b");
    here(&server.producer(&client, "a/b", None).send(message(b"x"), To::Here));
    let consumer = server.consumer(&client, "a/b", &[("from", "earliest"), ("until_end", "true")]);
    assert!(matches!(consumer.receive(LONG, &mut || true).unwrap(), TakenMessage::Message(..)));
    for _ in 0..2 {
        assert!(matches!(consumer.receive(LONG, &mut || true).unwrap(), TakenMessage::Finished));
        assert!(consumer.receive_batch(1, 1, LONG, &mut || true).unwrap().finished);
    }
}

#[test]
fn a_closed_client_answers_closed_and_closing_again_does_nothing() {
    let server = Server::start();
    let client = server.client();
    server.topic(&client, "a/b");
    let producer = server.producer(&client, "a/b", None);
    let consumer = server.consumer(&client, "a/b", &[]);
    here(&client.close(LONG.unwrap(), To::Here));
    here(&client.close(LONG.unwrap(), To::Here));
    for operation in [
        client.call("list_topics", Vec::new(), To::Here),
        producer.send(message(b"x"), To::Here),
        producer.flush(To::Here),
        client.producer("a/b", Vec::new(), None, To::Here),
    ] {
        let error = waiting(&operation).unwrap_err();
        assert!(error.is(ErrorCode::Closed), "{error}");
    }
    assert!(consumer.receive(LONG, &mut || true).unwrap_err().is(ErrorCode::Closed));
    here(&producer.close(LONG.unwrap(), To::Here));
    here(&consumer.close(LONG.unwrap(), To::Here));
}

#[test]
fn what_was_taken_before_close_is_delivered() {
    let server = Server::start();
    let client = server.client();
    server.topic(&client, "a/b");
    let producer = server.producer(&client, "a/b", None);
    let deliveries: Vec<_> = (0..500).map(|_| producer.try_enqueue(message(b"x")).unwrap()).collect();
    here(&client.close(LONG.unwrap(), To::Here));
    let kept = deliveries.iter().map(|delivery| delivery.try_receipt().unwrap().unwrap().offset.unwrap());
    assert_eq!(kept.collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
}

#[test]
fn control_calls_give_records_and_errors_by_name() {
    let server = Server::start();
    let client = server.client();
    let created = server.topic(&client, "a/b");
    assert_eq!(record_of(&created, "topic"), Value::Text("b".to_owned()));
    let again = client.call("create_topic", vocabulary::named(&[("topic", "a/b")]), To::Here);
    let error = waiting(&again).unwrap_err();
    assert!(error.is(ErrorCode::AlreadyExists), "{error}");
    let unknown = waiting(&client.call("paint_topic", Vec::new(), To::Here)).unwrap_err();
    assert!(unknown.is(ErrorCode::ClientUsage), "{unknown}");
    let Output::Value(Value::I64(took_us)) = here(&client.call("ping", Vec::new(), To::Here)) else {
        panic!("no time")
    };
    assert!(0 < took_us);
}

#[test]
fn children_of_fork_are_refused_what_they_inherit_and_work_anew_while_the_parent_sends() {
    const FORKS: u64 = 200;
    let server = Server::start();
    let client = server.client();
    server.topic(&client, "a/b");
    let producer = server.producer(&client, "a/b", None);
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let failures: u64 = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    here(&producer.send(message(b"parent"), To::Here));
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let failed = (0..FORKS)
            .filter(|_| {
                vocabulary::fails_in_child(|| {
                    let refused = waiting(&producer.send(message(b"x"), To::Here)).unwrap_err();
                    let mine: Client = server.client();
                    let producer = server.producer(&mine, "a/b", None);
                    here(&producer.send(message(b"child"), To::Here));
                    here(&mine.close(LONG.unwrap(), To::Here));
                    refused.is(ErrorCode::Forked)
                })
            })
            .count() as u64;
        stop.store(true, Ordering::Relaxed);
        failed
    });
    assert_eq!(failures, 0);
    let consumer = server.consumer(&client, "a/b", &[("from", "earliest"), ("until_end", "true")]);
    let mut count = 0;
    loop {
        let taken = consumer.receive_batch(usize::MAX, 1 << 20, LONG, &mut || true).unwrap();
        count += taken.batches.iter().map(|batch| batch.message_count() as u64).sum::<u64>();
        if taken.finished {
            break;
        }
    }
    assert_eq!(count, sent.load(Ordering::Relaxed) + FORKS);
}

#[test]
fn a_change_that_is_dropped_on_its_way_is_the_next_one_again() {
    let server = Server::start();
    let client = server.client();
    server.topic(&client, "live/changes");
    let member = client.group_consumer("changes", vec!["live/changes".to_owned()], Vec::new(), To::Here);
    let Output::Consumer(consumer) = here(&member) else { panic!("a member") };
    // With the event that nobody looked at, with the queue, and with the operation that nobody waited for.
    let queue = Queue::new(|| {});
    let _given_up = consumer.next_change(None, To::Queue(queue.clone(), 1));
    assert_eq!(queue.poll(1, LONG).len(), 1);
    let _given_up = consumer.next_change(None, To::Queue(queue.clone(), 2));
    queue.close();
    drop(consumer.next_change(None, To::Here));
    let cancelled = consumer.next_change(None, To::Here);
    cancelled.cancel();
    drop(cancelled);
    let Output::Change(change) = here(&consumer.next_change(LONG, To::Here)) else { panic!("a change") };
    assert_eq!(record_of(&told(change), "kind"), Value::Text("assigned".to_owned()));
    assert!(matches!(here(&consumer.next_change(Some(Duration::ZERO), To::Here)), Output::Nothing));
}
