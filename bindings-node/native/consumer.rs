//! Consumers. Taking never blocks: the TypeScript layer arms, waits for readiness and takes.

use std::cell::RefCell;
use std::fmt;

use levada_ffi::{Batch, TakenMessage, To};
use napi::{Env, Unknown};
use napi_derive::napi;

use crate::batch::NativeBatch;
use crate::client::{NativeOperation, duration};
use crate::failure;
use crate::value::{self, Js};

/// A consumer.
#[napi(js_name = "Consumer")]
pub struct NativeConsumer {
    consumer: levada_ffi::Consumer,
    queue: levada_ffi::Queue,
    /// The batch that messages are taken from one by one: JavaScript has it already.
    current: RefCell<Option<Batch>>,
}

/// What `takeMessage` gives when there is no message.
const NOTHING: i32 = -1;
const FINISHED: i32 = -2;
/// Added to the index of a message that is the first taken from its batch, which `current` gives.
const NEW_BATCH: i32 = 1 << 30;

impl NativeConsumer {
    pub(crate) fn new(consumer: levada_ffi::Consumer, queue: levada_ffi::Queue) -> Self {
        NativeConsumer { consumer, queue, current: RefCell::new(None) }
    }

    fn to(&self, token: f64) -> To {
        To::Queue(self.queue.clone(), value::token(token))
    }
}

impl fmt::Debug for NativeConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeConsumer")
    }
}

/// Batches taken.
#[napi(js_name = "Taken")]
#[derive(Debug)]
pub struct NativeTaken {
    batches: RefCell<Vec<Option<Batch>>>,
    more: bool,
    finished: bool,
}

#[napi]
impl NativeTaken {
    /// How many batches.
    #[napi(getter, catch_unwind)]
    pub fn count(&self) -> u32 {
        u32::try_from(self.batches.borrow().len()).unwrap_or(u32::MAX)
    }

    /// Whether there is more to take at once.
    #[napi(getter, catch_unwind)]
    pub fn more(&self) -> bool {
        self.more
    }

    /// Whether the end asked for is reached.
    #[napi(getter, catch_unwind)]
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// One of the batches; each is given once.
    #[napi(catch_unwind)]
    pub fn batch(&self, index: u32) -> Option<NativeBatch> {
        let batch = self.batches.borrow_mut().get_mut(index as usize)?.take()?;
        Some(NativeBatch { batch })
    }
}

#[napi]
impl NativeConsumer {
    /// Name of the topic.
    #[napi(getter, catch_unwind)]
    pub fn topic(&self, env: Env) -> napi::Result<String> {
        failure::guarded(&env, || Ok(self.consumer.topic()?.to_owned()))
    }

    /// Numbers of the partitions.
    #[napi(getter, catch_unwind)]
    pub fn partitions(&self, env: Env) -> napi::Result<Vec<u32>> {
        failure::guarded(&env, || self.consumer.partitions())
    }

    /// `token` gets readiness once, when there is something to take, an error or the end.
    #[napi(catch_unwind)]
    pub fn arm(&self, env: Env, token: f64) -> napi::Result<()> {
        failure::guarded(&env, || self.consumer.arm(&self.queue, value::token(token)))
    }

    /// Forgets an arm.
    #[napi(catch_unwind)]
    pub fn disarm(&self, env: Env) -> napi::Result<()> {
        failure::guarded(&env, || {
            self.consumer.disarm();
            Ok(())
        })
    }

    /// Takes batches.
    #[napi(catch_unwind)]
    pub fn take(&self, env: Env, max_messages: f64, max_bytes: f64) -> napi::Result<NativeTaken> {
        failure::guarded(&env, || {
            let taken = self.consumer.take(count(max_messages), count(max_bytes))?;
            let batches = taken.batches.into_iter().map(Some).collect();
            Ok(NativeTaken { batches: RefCell::new(batches), more: taken.more, finished: taken.finished })
        })
    }

    /// Takes one message: its index in the current batch; with 2^30 added if that has changed; -1 if there is none, -2 at
    /// the end.
    #[napi(catch_unwind)]
    pub fn take_message(&self, env: Env) -> napi::Result<i32> {
        failure::guarded(&env, || {
            Ok(match self.consumer.take_message()? {
                TakenMessage::Nothing => NOTHING,
                TakenMessage::Finished => FINISHED,
                TakenMessage::Message(batch, index) => {
                    let index = i32::try_from(index).unwrap_or(i32::MAX).min(NEW_BATCH - 1);
                    let mut current = self.current.borrow_mut();
                    if current.as_ref().is_some_and(|current| is_same(current, &batch)) {
                        index
                    } else {
                        *current = Some(batch);
                        index + NEW_BATCH
                    }
                }
            })
        })
    }

    /// The batch that the last message was taken from.
    #[napi(catch_unwind)]
    pub fn current(&self) -> Option<NativeBatch> {
        self.current.borrow().clone().map(|batch| NativeBatch { batch })
    }

    /// Moves to a position in a partition.
    #[napi(catch_unwind)]
    pub fn seek(&self, env: Env, topic: Option<String>, partition: u32, position: Unknown<'_>) -> napi::Result<()> {
        let position = value::from_js(&position)?;
        failure::guarded(&env, || self.consumer.seek(topic.as_deref(), partition, position))
    }

    /// Stops handing out messages of a partition.
    #[napi(catch_unwind)]
    pub fn pause(&self, env: Env, topic: Option<String>, partition: u32) -> napi::Result<()> {
        failure::guarded(&env, || self.consumer.pause(topic.as_deref(), partition))
    }

    /// Goes on with a partition.
    #[napi(catch_unwind)]
    pub fn resume(&self, env: Env, topic: Option<String>, partition: u32) -> napi::Result<()> {
        failure::guarded(&env, || self.consumer.resume(topic.as_deref(), partition))
    }

    /// Offset of the next message of a partition.
    #[napi(catch_unwind)]
    pub fn position(&self, env: Env, topic: Option<String>, partition: u32) -> napi::Result<Js> {
        failure::guarded(&env, || Ok(self.consumer.position(topic.as_deref(), partition)?.map_or(Js::Null, Js::U64)))
    }

    /// Stores how far the group is: all that was handed out.
    #[napi(catch_unwind)]
    pub fn commit(&self, env: Env, token: f64) -> napi::Result<NativeOperation> {
        failure::guarded(&env, || Ok(self.consumer.commit(self.to(token)).into()))
    }

    /// Stores offsets: an array of `{ topic, partition, offset }`.
    #[napi(catch_unwind)]
    pub fn commit_offsets(&self, env: Env, offsets: Unknown<'_>, token: f64) -> napi::Result<NativeOperation> {
        let offsets = value::from_js(&offsets)?;
        failure::guarded(&env, || Ok(self.consumer.commit_offsets(offsets, self.to(token)).into()))
    }

    /// `token` gets the offset the group has stored for a partition, or nothing.
    #[napi(catch_unwind)]
    pub fn committed(&self, env: Env, topic: String, partition: u32, token: f64) -> napi::Result<NativeOperation> {
        failure::guarded(&env, || Ok(self.consumer.committed(&topic, partition, self.to(token)).into()))
    }

    /// The partitions read now: `{ topic, partition }` each.
    #[napi(catch_unwind)]
    pub fn assignments(&self, env: Env) -> napi::Result<Js> {
        failure::guarded(&env, || self.consumer.assignments().map(value::to_js))
    }

    /// `token` gets the next change of what is read, or nothing when the time has passed; absent: it waits for ever.
    #[napi(catch_unwind)]
    pub fn next_change(&self, env: Env, timeout_ms: Option<f64>, token: f64) -> napi::Result<NativeOperation> {
        failure::guarded(&env, || Ok(self.consumer.next_change(timeout_ms.map(duration), self.to(token)).into()))
    }

    /// Ends the subscriptions.
    #[napi(catch_unwind)]
    pub fn close(&self, env: Env, timeout_ms: f64, token: f64) -> napi::Result<NativeOperation> {
        failure::guarded(&env, || {
            self.current.take();
            Ok(self.consumer.close(duration(timeout_ms), self.to(token)).into())
        })
    }
}

/// Whether both are the same batch: while one is kept, no other can lie where it lies.
fn is_same(a: &Batch, b: &Batch) -> bool {
    std::ptr::eq(a.table(), b.table())
}

/// A count from a number of JavaScript: what is beyond the range is the nearest in it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "such a cast saturates")]
fn count(number: f64) -> usize {
    number as usize
}
