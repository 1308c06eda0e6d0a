//! Completions for callers that poll instead of awaiting: one event per batch, with the callers' own tokens.

use crate::error::Error;
use crate::producer::delivery::BatchReceipt;

/// The token of a message that was handed over without one.
pub const NO_TOKEN: u64 = u64::MAX;

/// Takes completions of the messages handed over by [`Producer::try_send`](crate::Producer::try_send).
///
/// Both functions are called with no lock of the producer held by the caller's thread but must return at once: they run on
/// the sending thread and on the connection's task.
pub trait CompletionSink: Send + Sync {
    /// Sets a place aside for one message's completion; `false` makes `try_send` answer that it is full.
    fn try_reserve(&self) -> bool {
        true
    }

    /// Gives back a place set aside for a message that was refused after all.
    fn release(&self) {}

    /// A batch is settled.
    fn complete(&self, event: BatchEvent);
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct BatchEvent {
    /// [`Producer::id`](crate::Producer::id) of the producer.
    pub producer: u64,
    /// The receipt of the batch, or why there is none.
    pub outcome: Result<BatchReceipt, Error>,
    /// One token for each message of the batch, in order: message `i` has offset `base_offset + i`.
    pub tokens: Vec<u64>,
}
