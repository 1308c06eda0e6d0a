//! Consuming: readiness through the queue, then a take in the caller's own thread, with the bytes of a batch lent by address.
//!
//! An address stays valid as long as the hold, or the consumer's current batch, that came with it; the JVM copies from it and
//! lets go at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use levada_ffi::{Batch, Consumer, TABLE_ENTRY_BYTES, TakenMessage};

use crate::events::{NativeOperation, NativeQueue};
use crate::failure::{NativeError, guarded};
use crate::values::NativeValue;

/// There is no message now.
const NOTHING: i64 = -1;
/// The end asked for is reached.
const FINISHED: i64 = -2;
/// Set beside a message's index where its batch is another than that of the message before.
const NEW_BATCH: i64 = 1 << 32;

/// Bytes before a message's key that its id takes.
const ID_BYTES: u32 = 16;
const FLAG_HAS_ID: u32 = 4;

/// A consumer.
#[derive(Debug, uniffi::Object)]
pub(crate) struct NativeConsumer {
    consumer: Consumer,
    /// The batch of the message taken last.
    current: Mutex<Option<Batch>>,
}

/// What a take gives.
#[derive(Debug, uniffi::Record)]
pub(crate) struct NativeTaken {
    batches: Vec<NativeBatch>,
    more: bool,
    finished: bool,
    /// Keeps the addresses valid.
    hold: Option<Arc<NativeHold>>,
}

/// A batch, lent.
#[derive(Debug, uniffi::Record)]
pub(crate) struct NativeBatch {
    topic: String,
    partition: u32,
    base_offset: u64,
    append_time_us: i64,
    message_count: u32,
    /// What the table's offsets count from.
    origin: u32,
    bytes_address: u64,
    bytes_length: u32,
    table_address: u64,
}

/// Keeps batches while their bytes are copied.
#[derive(Debug, uniffi::Object)]
pub(crate) struct NativeHold {
    _batches: Vec<Batch>,
}

#[uniffi::export]
impl NativeHold {}

impl NativeConsumer {
    pub(crate) fn new(consumer: Consumer) -> Arc<Self> {
        Arc::new(NativeConsumer { consumer, current: Mutex::default() })
    }

    fn current_batch(&self) -> MutexGuard<'_, Option<Batch>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[uniffi::export]
impl NativeConsumer {
    /// The topic it reads, or the topics and patterns.
    fn topic(&self) -> Result<String, NativeError> {
        guarded(|| self.consumer.topic().map(str::to_owned))
    }

    /// The partitions it reads.
    fn partitions(&self) -> Result<Vec<u32>, NativeError> {
        guarded(|| self.consumer.partitions())
    }

    /// Announces once, under that token, that there is something to take, an error or the end.
    fn arm(&self, queue: &NativeQueue, token: u64) -> Result<(), NativeError> {
        guarded(|| self.consumer.arm(queue.queue(), token))
    }

    /// Ends the wait that `arm` began.
    fn disarm(&self) {
        self.consumer.disarm();
    }

    /// What is ready, without waiting.
    fn take(&self, max_messages: u64, max_bytes: u64) -> Result<NativeTaken, NativeError> {
        let count = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        guarded(|| {
            let taken = self.consumer.take(count(max_messages), count(max_bytes))?;
            let batches: Vec<NativeBatch> = taken.batches.iter().map(NativeBatch::lend).collect();
            let hold = (!taken.batches.is_empty()).then(|| Arc::new(NativeHold { _batches: taken.batches }));
            Ok(NativeTaken { batches, more: taken.more, finished: taken.finished, hold })
        })
    }

    /// The next message, without waiting: its index in the current batch, or one of the constants.
    fn take_message(&self) -> Result<i64, NativeError> {
        guarded(|| match self.consumer.take_message()? {
            TakenMessage::Nothing => Ok(NOTHING),
            TakenMessage::Finished => Ok(FINISHED),
            TakenMessage::Message(batch, index) => {
                let index = i64::try_from(index).unwrap_or(i64::MAX);
                let mut current = self.current_batch();
                let is_new = current.as_ref().is_none_or(|known| known.table().as_ptr() != batch.table().as_ptr());
                if !is_new {
                    return Ok(index);
                }
                *current = Some(batch);
                Ok(index | NEW_BATCH)
            }
        })
    }

    /// The batch of the message taken last. Valid until the next take of a message, or `drop_current`.
    fn current(&self) -> Option<NativeBatch> {
        self.current_batch().as_ref().map(NativeBatch::lend)
    }

    /// Lets go of the batch of the message taken last.
    fn drop_current(&self) {
        *self.current_batch() = None;
    }

    /// Moves to another position in one partition.
    fn seek(&self, topic: Option<String>, partition: u32, position: NativeValue) -> Result<(), NativeError> {
        guarded(|| self.consumer.seek(topic.as_deref(), partition, position.into()))
    }

    /// Stops handing out messages of a partition.
    fn pause(&self, topic: Option<String>, partition: u32) -> Result<(), NativeError> {
        guarded(|| self.consumer.pause(topic.as_deref(), partition))
    }

    /// Goes on with a paused partition.
    fn resume(&self, topic: Option<String>, partition: u32) -> Result<(), NativeError> {
        guarded(|| self.consumer.resume(topic.as_deref(), partition))
    }

    /// Offset of the next message to be handed out.
    fn position(&self, topic: Option<String>, partition: u32) -> Result<Option<u64>, NativeError> {
        guarded(|| self.consumer.position(topic.as_deref(), partition))
    }

    /// Stores how far the group is.
    fn commit(&self, queue: &NativeQueue, token: u64) -> Arc<NativeOperation> {
        NativeOperation::new(self.consumer.commit(queue.to(token)))
    }

    /// Stores offsets: a list of records.
    fn commit_offsets(&self, offsets: NativeValue, queue: &NativeQueue, token: u64) -> Arc<NativeOperation> {
        NativeOperation::new(self.consumer.commit_offsets(offsets.into(), queue.to(token)))
    }

    /// The offset the group has stored: a number, or nothing.
    fn committed(&self, topic: String, partition: u32, queue: &NativeQueue, token: u64) -> Arc<NativeOperation> {
        NativeOperation::new(self.consumer.committed(&topic, partition, queue.to(token)))
    }

    /// The partitions it reads now: a list of records.
    fn assignments(&self) -> Result<NativeValue, NativeError> {
        guarded(|| self.consumer.assignments().map(NativeValue::from))
    }

    /// The next change of what it reads: a record, or nothing when the time has passed.
    fn next_change(&self, timeout_ms: Option<u64>, queue: &NativeQueue, token: u64) -> Arc<NativeOperation> {
        NativeOperation::new(self.consumer.next_change(timeout_ms.map(Duration::from_millis), queue.to(token)))
    }

    /// Ends the subscriptions.
    fn end(&self, timeout_ms: u64, queue: &NativeQueue, token: u64) -> Arc<NativeOperation> {
        *self.current_batch() = None;
        NativeOperation::new(self.consumer.close(Duration::from_millis(timeout_ms), queue.to(token)))
    }
}

impl NativeBatch {
    /// Only the bytes that its messages lie in: it may be a small part of a large batch.
    fn lend(batch: &Batch) -> NativeBatch {
        let (mut start, mut end) = (u32::MAX, 0);
        for entry in batch.table().as_chunks::<TABLE_ENTRY_BYTES>().0 {
            let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
            let id_bytes = if word(28) & FLAG_HAS_ID != 0 { ID_BYTES } else { 0 };
            start = start.min(word(0)).min(word(8).saturating_sub(id_bytes)).min(word(16));
            end = [0, 8, 16].map(|at| word(at).saturating_add(word(at + 4))).into_iter().fold(end, u32::max);
        }
        let lent = batch.bytes().get(start as usize..end as usize).unwrap_or_default();
        NativeBatch {
            topic: batch.topic().to_owned(),
            partition: batch.partition(),
            base_offset: batch.base_offset(),
            append_time_us: batch.append_time_us(),
            message_count: u32::try_from(batch.message_count()).unwrap_or(u32::MAX),
            origin: start,
            bytes_address: lent.as_ptr().expose_provenance() as u64,
            bytes_length: u32::try_from(lent.len()).unwrap_or(0),
            table_address: batch.table().as_ptr().expose_provenance() as u64,
        }
    }
}
