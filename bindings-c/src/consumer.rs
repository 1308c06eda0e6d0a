//! Consumers: blocking, or by readiness.

use std::ffi::{CString, c_char};
use std::ptr::null;
use std::time::Duration;

use levada_core::{Error as CoreError, ErrorCode, Result, Value as CoreValue};
use levada_ffi as ffi;
use levada_ffi::{Output, TakenMessage, To};

use crate::abi::{ask, c_text, close_timeout, enter, optional_text, out, put, put_optional, text, timeout};
use crate::batch::Batch;
use crate::client::Client;
use crate::error::Error;
use crate::handle::{Opaque, get, make, release};
use crate::operation::{Operation, interrupted, is_interrupted, submit, unexpected, wait};
use crate::options::{Options, named};
use crate::queue::Queue;

/// A good number of messages to receive at a time.
pub const LEVADA_MAX_MESSAGES_DEFAULT: usize = 1000;
/// A good number of bytes to receive at a time.
pub const LEVADA_MAX_BYTES_DEFAULT: usize = 4_194_304;

/// How long a receive of many waits by default.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A consumer. One receive at a time: a second one is LEVADA_E_CONCURRENT_CALL.
#[derive(Debug)]
pub struct Consumer {
    _opaque: [u8; 0],
}

#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) ffi: ffi::Consumer,
    topic: CString,
}

impl Opaque for Consumer {
    type Content = Content;
    const MAGIC: u32 = 0x4C56_4E00;
    const NAME: &'static str = "levada_consumer_t";
}

impl TryFrom<ffi::Consumer> for Content {
    type Error = CoreError;

    fn try_from(ffi: ffi::Consumer) -> Result<Content> {
        Ok(Content { topic: c_text(ffi.topic()?), ffi })
    }
}

/// A consumer of `stream/topic`, or of one partition with `stream/topic:partition`, with the options of ConsumerOptions (NULL:
/// the defaults, from the latest message on).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_open(
    client: *const Client,
    topic: *const c_char,
    options: *const Options,
    consumer: *mut *mut Consumer,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(consumer, "consumer")?;
        let operation = get(client)?.consumer(text(topic, "topic")?, named(options)?, To::Here);
        match wait(&operation, None)? {
            Output::Consumer(consumer) => *place = make::<Consumer>(consumer.try_into()?),
            other => return Err(unexpected(&other)),
        }
        Ok(())
    })
}

/// The same without waiting: levada_event_take_consumer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_open_submit(
    client: *const Client,
    topic: *const c_char,
    options: *const Options,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(client)?.consumer(text(topic, "topic")?, named(options)?, to)))
}

/// The topic it reads; of a member of a group, the topics and patterns. Lives as long as the consumer; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_topic(consumer: *const Consumer) -> *const c_char {
    ask(null(), || Ok(get(consumer)?.topic.as_ptr()))
}

/// The partitions it reads: `count` says how many there are, the first `capacity` of them are put into `partitions`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_partitions(
    consumer: *const Consumer,
    partitions: *mut u32,
    capacity: usize,
    count: *mut usize,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let read = get(consumer)?.ffi.partitions()?;
        for (index, partition) in read.iter().take(capacity).enumerate() {
            put(partitions.wrapping_add(index), *partition, "partitions")?;
        }
        put(count, read.len(), "count")
    })
}

/// Waits for the next message, by default for ever: a batch of one. LEVADA_E_CLIENT_TIMEOUT when the time has passed. With the
/// option `until_end`, a batch of none whose levada_batch_finished is true says that the end is reached. Given up, nothing is
/// lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_receive(
    consumer: *const Consumer,
    timeout_ms: i64,
    batch: *mut *mut Batch,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(batch, "batch")?;
        let (consumer, timeout) = (get(consumer)?, timeout(timeout_ms, None)?);
        match consumer.ffi.receive(timeout, &mut || !is_interrupted())? {
            TakenMessage::Nothing if is_interrupted() => Err(interrupted()),
            TakenMessage::Nothing => {
                let error = CoreError::new(ErrorCode::ClientTimeout, "no message came in time");
                Err(error.with_maybe_applied(false))
            }
            taken => {
                *place = make::<Batch>(taken.into());
                Ok(())
            }
        }
    })
}

/// Waits for messages, by default for 1 s: at most `max_messages` and about `max_bytes` but at least one batch, see
/// LEVADA_MAX_MESSAGES_DEFAULT and LEVADA_MAX_BYTES_DEFAULT. A batch of none says that the time has passed, or that the end is
/// reached: levada_batch_finished. Given up, nothing is lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_receive_batch(
    consumer: *const Consumer,
    max_messages: usize,
    max_bytes: usize,
    timeout_ms: i64,
    batch: *mut *mut Batch,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(batch, "batch")?;
        let (consumer, timeout) = (get(consumer)?, timeout(timeout_ms, Some(RECEIVE_TIMEOUT))?);
        let taken = consumer.ffi.receive_batch(max_messages, max_bytes, timeout, &mut || !is_interrupted())?;
        if taken.batches.is_empty() && !taken.finished && is_interrupted() {
            return Err(interrupted());
        }
        *place = make::<Batch>(taken.into());
        Ok(())
    })
}

/// Announces once, by an event LEVADA_EVENT_READY with that token, that there is something to take: messages, an error or the
/// end. At once if there is already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_arm(
    consumer: *const Consumer,
    queue: *const Queue,
    token: u64,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || get(consumer)?.ffi.arm(get(queue)?, token))
}

/// Ends the wait that levada_consumer_arm began. An event that is in the queue already does no harm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_disarm(consumer: *const Consumer, err: *mut *mut Error) -> i32 {
    enter(err, || {
        get(consumer)?.ffi.disarm();
        Ok(())
    })
}

/// What is ready, without waiting: maybe a batch of none. Ends the wait that levada_consumer_arm began.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_take(
    consumer: *const Consumer,
    max_messages: usize,
    max_bytes: usize,
    batch: *mut *mut Batch,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(batch, "batch")?;
        *place = make::<Batch>(get(consumer)?.ffi.take(max_messages, max_bytes)?.into());
        Ok(())
    })
}

/// The next message, without waiting: a batch of one or none. Ends the wait that levada_consumer_arm began.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_take_message(
    consumer: *const Consumer,
    batch: *mut *mut Batch,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(batch, "batch")?;
        *place = make::<Batch>(get(consumer)?.ffi.take_message()?.into());
        Ok(())
    })
}

/// Moves to another position in one partition, as text: `earliest`, `latest`, `offset(5)`, `timestamp(1700000000000000)`,
/// `last(3)`. What was handed out is not taken back. Here and below `topic` is needed only where the consumer reads that
/// partition of several topics, and else may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_seek(
    consumer: *const Consumer,
    topic: *const c_char,
    partition: u32,
    position: *const c_char,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let position = CoreValue::Text(text(position, "position")?.to_owned());
        get(consumer)?.ffi.seek(optional_text(topic, "topic")?, partition, position)
    })
}

/// Moves to an offset in one partition.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_seek_offset(
    consumer: *const Consumer,
    topic: *const c_char,
    partition: u32,
    offset: u64,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let position = CoreValue::Text(format!("offset({offset})"));
        get(consumer)?.ffi.seek(optional_text(topic, "topic")?, partition, position)
    })
}

/// Offset of the next message to be handed out, if `known` says that the server has told what the start came to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_position(
    consumer: *const Consumer,
    topic: *const c_char,
    partition: u32,
    offset: *mut u64,
    known: *mut bool,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let position = get(consumer)?.ffi.position(optional_text(topic, "topic")?, partition)?;
        put(offset, position.unwrap_or_default(), "offset")?;
        put_optional(known, position.is_some());
        Ok(())
    })
}

/// Stops handing out messages of a partition.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_pause(
    consumer: *const Consumer,
    topic: *const c_char,
    partition: u32,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || get(consumer)?.ffi.pause(optional_text(topic, "topic")?, partition))
}

/// Goes on with a paused partition.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_resume(
    consumer: *const Consumer,
    topic: *const c_char,
    partition: u32,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || get(consumer)?.ffi.resume(optional_text(topic, "topic")?, partition))
}

/// Ends the subscriptions, by default within 5 s; a receive under way fails with LEVADA_E_CLOSED. Closing again does nothing,
/// nor does closing in a child of fork().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_close(
    consumer: *const Consumer,
    timeout_ms: i64,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || wait(&get(consumer)?.ffi.close(close_timeout(timeout_ms)?, To::Here), None).map(drop))
}

/// The same without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_close_submit(
    consumer: *const Consumer,
    timeout_ms: i64,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(consumer)?.ffi.close(close_timeout(timeout_ms)?, to)))
}

/// Frees a consumer. Never waits. Batches it gave live on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_free(consumer: *mut Consumer) {
    release(consumer);
}
