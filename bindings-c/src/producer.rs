//! Producers and deliveries.

use std::ffi::{CString, c_char};

use levada_core::Result;
use levada_ffi as ffi;
use levada_ffi::{Output, To};

use crate::abi::{
    ask, bytes, c_text, close_timeout, enter, numbers, out, out_optional, put, text, timeout, write_optional,
};
use crate::client::Client;
use crate::error::Error;
use crate::handle::{Opaque, get, get_optional, make, release};
use crate::message::{Message, Receipt, Receipts, messages, with_message};
use crate::operation::{Operation, submit, unexpected, wait};
use crate::options::{Options, named};
use crate::queue::Queue;

/// A producer to one topic, shared by all threads.
#[derive(Debug)]
pub struct Producer {
    _opaque: [u8; 0],
}

#[derive(Debug)]
pub(crate) struct Content {
    ffi: ffi::Producer,
    topic: CString,
}

impl Opaque for Producer {
    type Content = Content;
    const MAGIC: u32 = 0x4C56_5500;
    const NAME: &'static str = "levada_producer_t";
}

impl TryFrom<ffi::Producer> for Content {
    type Error = levada_core::Error;

    fn try_from(ffi: ffi::Producer) -> Result<Content> {
        Ok(Content { topic: c_text(ffi.topic()?), ffi })
    }
}

/// The acknowledgement of one enqueued message, to come.
#[derive(Debug)]
pub struct Delivery {
    _opaque: [u8; 0],
}

impl Opaque for Delivery {
    type Content = ffi::Delivery;
    const MAGIC: u32 = 0x4C56_4400;
    const NAME: &'static str = "levada_delivery_t";
}

fn acks(queue: *const Queue) -> Result<Option<ffi::Queue>> {
    Ok(get_optional(queue)?.cloned())
}

/// A producer to `stream/topic`, with the options of ProducerOptions (NULL: the defaults). `acks` is the queue where
/// acknowledgements of levada_producer_try_send go; NULL if that is not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_open(
    client: *const Client,
    topic: *const c_char,
    options: *const Options,
    acks_queue: *const Queue,
    producer: *mut *mut Producer,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(producer, "producer")?;
        let operation = get(client)?.producer(text(topic, "topic")?, named(options)?, acks(acks_queue)?, To::Here);
        match wait(&operation, None)? {
            Output::Producer(producer) => *place = make::<Producer>(producer.try_into()?),
            other => return Err(unexpected(&other)),
        }
        Ok(())
    })
}

/// The same without waiting: levada_event_take_producer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_open_submit(
    client: *const Client,
    topic: *const c_char,
    options: *const Options,
    acks_queue: *const Queue,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| {
        Ok(get(client)?.producer(text(topic, "topic")?, named(options)?, acks(acks_queue)?, to))
    })
}

/// What names this producer in levada_event_producer. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_id(producer: *const Producer) -> u64 {
    ask(0, || get(producer)?.ffi.id())
}

/// The topic it appends to. Lives as long as the producer; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_topic(producer: *const Producer) -> *const c_char {
    ask(std::ptr::null(), || Ok(get(producer)?.topic.as_ptr()))
}

/// How many partitions the topic had when the producer was made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_partition_count(producer: *const Producer) -> u32 {
    ask(0, || get(producer)?.ffi.partition_count())
}

/// Sends one message and waits for its acknowledgement; `receipt` may be NULL. The message is copied before the call waits.
/// By default it waits as long as the producer's `delivery_timeout_ms`; a shorter time-out gives up the wait, not the message:
/// levada_error_maybe_applied tells whether it was taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_send(
    producer: *const Producer,
    message: *const Message,
    timeout_ms: i64,
    receipt: *mut Receipt,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let (producer, timeout) = (get(producer)?, timeout(timeout_ms, None)?);
        let operation = with_message(message, |message| Ok(producer.ffi.send(message, To::Here)))?;
        give_receipt(wait(&operation, timeout)?, receipt)
    })
}

fn give_receipt(output: Output, receipt: *mut Receipt) -> Result<()> {
    match output {
        Output::Receipt(given) => write_optional(receipt, || given.into()),
        other => Err(unexpected(&other)),
    }
}

/// The same without waiting: levada_event_receipt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_send_submit(
    producer: *const Producer,
    message: *const Message,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| {
        let producer = get(producer)?;
        with_message(message, |message| Ok(producer.ffi.send(message, to)))
    })
}

/// Takes one message without waiting, or refuses it with LEVADA_E_QUEUE_FULL. Its acknowledgement comes to the producer's
/// queue of acknowledgements, in an event LEVADA_EVENT_ACKED with the tokens of a whole batch: the fastest way to send single
/// messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_try_send(
    producer: *const Producer,
    message: *const Message,
    token: u64,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let producer = get(producer)?;
        with_message(message, |message| producer.ffi.try_send(message, token))
    })
}

/// Copies one message into the open batch and gives its acknowledgement to come, if `delivery` is not NULL; waits only while
/// the producer's buffer is full.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_enqueue(
    producer: *const Producer,
    message: *const Message,
    timeout_ms: i64,
    delivery: *mut *mut Delivery,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out_optional(delivery);
        let (producer, timeout) = (get(producer)?, timeout(timeout_ms, None)?);
        let operation = with_message(message, |message| Ok(producer.ffi.enqueue(message, To::Here)))?;
        match (wait(&operation, timeout)?, place) {
            (Output::Delivery(delivery), Some(place)) => *place = make::<Delivery>(delivery),
            (Output::Delivery(_), None) => {}
            (other, _) => return Err(unexpected(&other)),
        }
        Ok(())
    })
}

/// The same without waiting: levada_event_take_delivery.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_enqueue_submit(
    producer: *const Producer,
    message: *const Message,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| {
        let producer = get(producer)?;
        with_message(message, |message| Ok(producer.ffi.enqueue(message, to)))
    })
}

/// Sends many messages and waits for their acknowledgements. In a list, each struct is as large as the first says. `receipts`
/// may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_send_batch(
    producer: *const Producer,
    list: *const Message,
    count: usize,
    timeout_ms: i64,
    receipts: *mut *mut Receipts,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out_optional(receipts);
        let (producer, timeout) = (get(producer)?, timeout(timeout_ms, None)?);
        let operation = producer.ffi.send_batch(messages(list, count)?, To::Here);
        give_receipts(wait(&operation, timeout)?, place)
    })
}

fn give_receipts(output: Output, place: Option<&mut *mut Receipts>) -> Result<()> {
    match (output, place) {
        (Output::Receipts(receipts), Some(place)) => *place = make::<Receipts>(receipts),
        (Output::Receipts(_), None) => {}
        (other, _) => return Err(unexpected(&other)),
    }
    Ok(())
}

/// The same without waiting: levada_event_take_receipts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_send_batch_submit(
    producer: *const Producer,
    list: *const Message,
    count: usize,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(producer)?.ffi.send_batch(messages(list, count)?, to)))
}

fn packed(
    payloads: *const u8,
    payloads_len: usize,
    lengths: *const u32,
    count: usize,
) -> Result<(bytes::Bytes, Vec<u32>)> {
    let payloads = bytes(payloads, payloads_len, "payloads")?.unwrap_or_default();
    Ok((bytes::Bytes::copy_from_slice(payloads), numbers(lengths, count, "lengths")?.to_vec()))
}

/// Sends many messages that are payloads only, lying one after the other, with those lengths: the fastest way to send what is
/// there already. `receipts` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_send_packed(
    producer: *const Producer,
    payloads: *const u8,
    payloads_len: usize,
    lengths: *const u32,
    count: usize,
    timeout_ms: i64,
    receipts: *mut *mut Receipts,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out_optional(receipts);
        let (producer, timeout) = (get(producer)?, timeout(timeout_ms, None)?);
        let (payloads, lengths) = packed(payloads, payloads_len, lengths, count)?;
        give_receipts(wait(&producer.ffi.send_packed(payloads, lengths, To::Here), timeout)?, place)
    })
}

/// The same without waiting: levada_event_take_receipts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_send_packed_submit(
    producer: *const Producer,
    payloads: *const u8,
    payloads_len: usize,
    lengths: *const u32,
    count: usize,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| {
        let (payloads, lengths) = packed(payloads, payloads_len, lengths, count)?;
        Ok(get(producer)?.ffi.send_packed(payloads, lengths, to))
    })
}

/// Waits until everything handed over before is settled; open batches do not linger. Fails with the first failure since the
/// last flush.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_flush(
    producer: *const Producer,
    timeout_ms: i64,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || wait(&get(producer)?.ffi.flush(To::Here), timeout(timeout_ms, None)?).map(drop))
}

/// The same without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_flush_submit(
    producer: *const Producer,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(producer)?.ffi.flush(to)))
}

/// Takes no more messages and waits until those taken are settled, by default 5 s at most: LEVADA_E_CLIENT_TIMEOUT if some are
/// not by then. Closing again does nothing, nor does closing in a child of fork().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_close(
    producer: *const Producer,
    timeout_ms: i64,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || wait(&get(producer)?.ffi.close(close_timeout(timeout_ms)?, To::Here), None).map(drop))
}

/// The same without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_close_submit(
    producer: *const Producer,
    timeout_ms: i64,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(producer)?.ffi.close(close_timeout(timeout_ms)?, to)))
}

/// Frees a producer. Never waits: flush or close it first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_producer_free(producer: *mut Producer) {
    release(producer);
}

/// Waits for the acknowledgement; `receipt` may be NULL. May be asked any number of times, by any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_delivery_wait(
    delivery: *const Delivery,
    timeout_ms: i64,
    receipt: *mut Receipt,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let operation = get(delivery)?.wait(To::Here);
        give_receipt(wait(&operation, timeout(timeout_ms, None)?)?, receipt)
    })
}

/// The same without waiting: levada_event_receipt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_delivery_wait_submit(
    delivery: *const Delivery,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(delivery)?.wait(to)))
}

/// Looks whether it is there: `settled` says so, and then `receipt` is filled (it may be NULL), or the message's error is told.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_delivery_try(
    delivery: *const Delivery,
    settled: *mut bool,
    receipt: *mut Receipt,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        put(settled, false, "settled")?;
        match get(delivery)?.try_receipt() {
            None => Ok(()),
            Some(outcome) => {
                put(settled, true, "settled")?;
                let given = outcome?;
                write_optional(receipt, || given.into())
            }
        }
    })
}

/// Frees a delivery. The message is sent all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_delivery_free(delivery: *mut Delivery) {
    release(delivery);
}
