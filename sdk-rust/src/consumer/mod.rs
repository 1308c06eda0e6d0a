//! Consuming.
mod batch;
mod options;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

pub use batch::{Batch, Messages, ReceivedMessage, ReceivedRef, Taken};
pub use options::{ConsumerOptions, OnCorrupt, OnOutOfRange, OnTruncated};

use crate::error::{Error, Result};
use levada_protocol::messages::Position;

/// Reads partitions of one topic.
#[derive(Debug)]
pub struct Consumer {}

impl Consumer {
    /// The next message; `None` at the end asked for by [`ConsumerOptions::until_end`].
    ///
    /// # Errors
    /// See the policies of [`ConsumerOptions`]; `CONCURRENT_CALL`, `CLOSED`.
    pub async fn receive(&self) -> Result<Option<ReceivedMessage>> {
        Err(Error::internal("not yet"))
    }

    /// The next batches, at least one message unless time runs out or the end is reached: then it is empty.
    ///
    /// # Errors
    /// As [`Consumer::receive`].
    pub async fn receive_batch(&self, max_messages: usize, max_bytes: usize, timeout: Duration) -> Result<Vec<Batch>> {
        let _ = (max_messages, max_bytes, timeout);
        Err(Error::internal("not yet"))
    }

    /// The next whole batch; `None` at the end asked for by [`ConsumerOptions::until_end`].
    ///
    /// # Errors
    /// As [`Consumer::receive`].
    pub async fn next_batch(&self) -> Result<Option<Batch>> {
        Err(Error::internal("not yet"))
    }

    /// Whole batches as a stream.
    pub fn batches(&self) -> Batches<'_> {
        Batches { consumer: self }
    }

    /// What is ready, without waiting.
    ///
    /// # Errors
    /// As [`Consumer::receive`].
    pub fn try_take(&self, max_messages: usize, max_bytes: usize) -> Result<Taken> {
        let _ = (max_messages, max_bytes);
        Err(Error::internal("not yet"))
    }

    /// Calls back once when there is something to take, an error or the end; at once if there is already.
    pub fn arm(&self, callback: impl FnOnce() + Send + 'static) {
        let _ = callback;
    }

    /// Moves to another position in one partition; messages handed out are not taken back.
    ///
    /// # Errors
    /// `PARTITION_NOT_FOUND` if this consumer does not read it.
    pub fn seek(&self, partition: u32, position: Position) -> Result<()> {
        let _ = (partition, position);
        Err(Error::internal("not yet"))
    }

    /// Stops handing out messages of a partition.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn pause(&self, partition: u32) -> Result<()> {
        let _ = partition;
        Err(Error::internal("not yet"))
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn resume(&self, partition: u32) -> Result<()> {
        let _ = partition;
        Err(Error::internal("not yet"))
    }

    /// Offset of the next message to be handed out; `None` until the server has told what the start came to.
    pub fn position(&self, partition: u32) -> Option<u64> {
        let _ = partition;
        None
    }

    /// The partitions it reads.
    pub fn partitions(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Ends the subscriptions.
    ///
    /// # Errors
    /// `CLIENT_TIMEOUT` if the server did not answer in time; the consumer is closed all the same.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        let _ = timeout;
        Err(Error::internal("not yet"))
    }
}

/// Whole batches of a [`Consumer`].
#[derive(Debug)]
pub struct Batches<'a> {
    consumer: &'a Consumer,
}

impl futures_core::Stream for Batches<'_> {
    type Item = Result<Batch>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let _ = self.consumer;
        Poll::Ready(None)
    }
}

impl futures_core::Stream for Consumer {
    type Item = Result<ReceivedMessage>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}
