//! Producing.
pub(crate) mod delivery;
mod options;
pub(crate) mod sink;

use std::time::Duration;

pub use delivery::{BatchDelivery, BatchReceipt, Delivery, Receipt};
pub use options::{Compression, ProducerOptions};
pub use sink::{BatchEvent, CompletionSink, NO_TOKEN};

use crate::error::{Error, Result};
use crate::message::AsMessage;

/// Appends messages to one topic.
#[derive(Debug)]
pub struct Producer {}

impl Producer {
    /// Names this producer in [`BatchEvent`].
    pub fn id(&self) -> u64 {
        0
    }

    /// Sends one message and waits for its acknowledgement.
    ///
    /// # Errors
    /// That of the delivery.
    pub async fn send(&self, message: impl AsMessage) -> Result<Receipt> {
        self.enqueue(message).await?.await
    }

    /// Copies one message into the open batch; waits only while the buffer is full.
    ///
    /// # Errors
    /// `TOO_LARGE`, `CLOSED`, `FENCED`.
    pub async fn enqueue(&self, message: impl AsMessage) -> Result<Delivery> {
        self.try_enqueue(message)
    }

    /// As [`Producer::enqueue`], without waiting.
    ///
    /// # Errors
    /// `QUEUE_FULL` besides those of [`Producer::enqueue`].
    pub fn try_enqueue(&self, message: impl AsMessage) -> Result<Delivery> {
        let _ = message.as_message();
        Err(Error::internal("not yet"))
    }

    /// Sends many messages and waits for their acknowledgements.
    ///
    /// # Errors
    /// The first failure.
    pub async fn send_batch<M: AsMessage>(&self, messages: impl IntoIterator<Item = M>) -> Result<Vec<BatchReceipt>> {
        self.enqueue_batch(messages).await?.await
    }

    /// Copies many messages into batches; waits only while the buffer is full.
    ///
    /// # Errors
    /// Those of [`Producer::enqueue`]; messages before the refused one are under way.
    pub async fn enqueue_batch<M: AsMessage>(&self, messages: impl IntoIterator<Item = M>) -> Result<BatchDelivery> {
        let _ = messages.into_iter();
        Err(Error::internal("not yet"))
    }

    /// As `try_enqueue`, with the completion going to the sink under that token.
    ///
    /// # Errors
    /// `QUEUE_FULL` besides those of [`Producer::enqueue`].
    pub fn try_send(&self, message: impl AsMessage, token: u64) -> Result<()> {
        let _ = (message.as_message(), token);
        Err(Error::internal("not yet"))
    }

    /// Waits until everything handed over before is settled.
    ///
    /// # Errors
    /// The first failure since the last flush.
    pub async fn flush(&self) -> Result<()> {
        Err(Error::internal("not yet"))
    }

    /// Flushes and ends the producer.
    ///
    /// # Errors
    /// `CLIENT_TIMEOUT` if something was still unacknowledged then; else as [`Producer::flush`].
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        let _ = timeout;
        Err(Error::internal("not yet"))
    }

    /// Partitions of the topic when the producer was made.
    pub fn partition_count(&self) -> u32 {
        0
    }
}
