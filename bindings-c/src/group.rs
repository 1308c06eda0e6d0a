//! Members of consumer groups: what a consumer has beside its messages when it shares partitions and stores offsets.

use std::ffi::c_char;

use levada_core::{Result, Value as CoreValue};
use levada_ffi::{Output, To, told};

use crate::abi::{Sized32, enter, out, put, put_optional, read_all, text, texts, timeout};
use crate::client::Client;
use crate::consumer::Consumer;
use crate::error::Error;
use crate::handle::{get, make};
use crate::operation::{Operation, submit, unexpected, wait};
use crate::options::{Options, named};
use crate::queue::Queue;
use crate::value::Value;

/// How far a partition is done. Begin with LEVADA_PARTITION_OFFSET_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PartitionOffset {
    /// sizeof(levada_partition_offset_t).
    pub struct_size: u32,
    /// Its number.
    pub partition: u32,
    /// `stream/topic`.
    pub topic: *const c_char,
    /// Of the next message to be read.
    pub offset: u64,
}

// SAFETY: begins with its size; numbers and raw pointers only.
unsafe impl Sized32 for PartitionOffset {
    const NAME: &'static str = "levada_partition_offset_t";
    const FIRST_SIZE: usize = 24;
}

/// A consumer that is a member of a group and reads its share of `topics`: `stream/topic`, with `*` for any run of characters
/// but `/`; with the options of GroupConsumerOptions (NULL: the defaults, from the latest message on where nothing is stored).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_group_open(
    client: *const Client,
    group: *const c_char,
    topics: *const *const c_char,
    topic_count: usize,
    options: *const Options,
    consumer: *mut *mut Consumer,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(consumer, "consumer")?;
        let topics = texts(topics, topic_count, "topics")?;
        let operation = get(client)?.group_consumer(text(group, "group")?, topics, named(options)?, To::Here);
        match wait(&operation, None)? {
            Output::Consumer(consumer) => *place = make::<Consumer>(consumer.try_into()?),
            other => return Err(unexpected(&other)),
        }
        Ok(())
    })
}

/// The same without waiting: levada_event_take_consumer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_group_open_submit(
    client: *const Client,
    group: *const c_char,
    topics: *const *const c_char,
    topic_count: usize,
    options: *const Options,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| {
        let topics = texts(topics, topic_count, "topics")?;
        Ok(get(client)?.group_consumer(text(group, "group")?, topics, named(options)?, to))
    })
}

/// Stores how far the group is: everything handed out so far counts as done. Returns when it is durable. Partitions that went
/// to another member meanwhile are left out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_commit(
    consumer: *const Consumer,
    timeout_ms: i64,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || wait(&get(consumer)?.ffi.commit(To::Here), timeout(timeout_ms, None)?).map(drop))
}

/// The same without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_commit_submit(
    consumer: *const Consumer,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(consumer)?.ffi.commit(to)))
}

/// Stores offsets of the caller's choice, all or none: LEVADA_E_NOT_ASSIGNED if one is another member's. They may go back only
/// after a seek.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_commit_offsets(
    consumer: *const Consumer,
    offsets: *const PartitionOffset,
    count: usize,
    timeout_ms: i64,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let operation = get(consumer)?.ffi.commit_offsets(records(offsets, count)?, To::Here);
        wait(&operation, timeout(timeout_ms, None)?).map(drop)
    })
}

/// The same without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_commit_offsets_submit(
    consumer: *const Consumer,
    offsets: *const PartitionOffset,
    count: usize,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(consumer)?.ffi.commit_offsets(records(offsets, count)?, to)))
}

fn records(offsets: *const PartitionOffset, count: usize) -> Result<CoreValue> {
    let record = |given: PartitionOffset| {
        Ok(CoreValue::Record(vec![
            ("topic".into(), CoreValue::Text(text(given.topic, "topic")?.to_owned())),
            ("partition".into(), CoreValue::U64(given.partition.into())),
            ("offset".into(), CoreValue::U64(given.offset)),
        ]))
    };
    read_all(offsets, count)?.into_iter().map(record).collect::<Result<_>>().map(CoreValue::List)
}

/// The offset the group has stored for a partition, asked of the server, if `known` says that there is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_committed(
    consumer: *const Consumer,
    topic: *const c_char,
    partition: u32,
    timeout_ms: i64,
    offset: *mut u64,
    known: *mut bool,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let operation = get(consumer)?.ffi.committed(text(topic, "topic")?, partition, To::Here);
        let stored = match wait(&operation, timeout(timeout_ms, None)?)? {
            Output::Value(CoreValue::U64(stored)) => Some(stored),
            Output::Nothing => None,
            other => return Err(unexpected(&other)),
        };
        put(offset, stored.unwrap_or_default(), "offset")?;
        put_optional(known, stored.is_some());
        Ok(())
    })
}

/// The same without waiting: levada_event_take_value gives a number, or a value of none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_committed_submit(
    consumer: *const Consumer,
    topic: *const c_char,
    partition: u32,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(consumer)?.ffi.committed(text(topic, "topic")?, partition, to)))
}

/// The partitions it reads now, by topic and number: a list of TopicPartition.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_assignments(
    consumer: *const Consumer,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(value, "value")?;
        *place = make::<Value>(get(consumer)?.ffi.assignments()?.into());
        Ok(())
    })
}

/// Waits, by default for ever, for the next change of what it reads, beginning with what it was assigned first: a record
/// AssignmentChange, or a value of none when the time has passed. Given up at any point, it loses nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_next_change(
    consumer: *const Consumer,
    timeout_ms: i64,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(value, "value")?;
        let operation = get(consumer)?.ffi.next_change(timeout(timeout_ms, None)?, To::Here);
        *place = match wait(&operation, None)? {
            Output::Change(change) => make::<Value>(told(change).into()),
            Output::Nothing => make::<Value>(CoreValue::Null.into()),
            other => return Err(unexpected(&other)),
        };
        Ok(())
    })
}

/// The same without waiting: levada_event_take_value. An event freed before that leaves the change for the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_consumer_next_change_submit(
    consumer: *const Consumer,
    timeout_ms: i64,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(consumer)?.ffi.next_change(timeout(timeout_ms, None)?, to)))
}
