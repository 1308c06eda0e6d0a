//! Producing: one message that is acknowledged through the queue, or many in one call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use levada::ErrorCode;
use levada_ffi::{Delivery, Error, Message, MessageRef, Producer};

use crate::events::{NativeOperation, NativeQueue};
use crate::failure::{NativeError, guarded};
use crate::values::NativeMessage;

/// A producer.
#[derive(Debug, uniffi::Object)]
pub(crate) struct NativeProducer {
    producer: Producer,
}

impl NativeProducer {
    pub(crate) fn new(producer: Producer) -> Arc<Self> {
        Arc::new(NativeProducer { producer })
    }
}

fn borrowed(message: &Message) -> MessageRef<'_> {
    MessageRef {
        payload: message.payload.as_deref(),
        key: message.key.as_deref(),
        headers: &message.headers,
        timestamp_us: message.timestamp_us,
        id: message.id,
        partition: message.partition,
        sequence: message.sequence,
    }
}

#[uniffi::export]
impl NativeProducer {
    /// The topic it appends to.
    fn topic(&self) -> Result<String, NativeError> {
        guarded(|| self.producer.topic().map(str::to_owned))
    }

    /// Partitions of the topic when it was made.
    fn partition_count(&self) -> Result<u32, NativeError> {
        guarded(|| self.producer.partition_count())
    }

    /// Takes one message without waiting; its acknowledgement comes through the queue under that token. False: no space.
    fn try_send(&self, message: NativeMessage, token: u64) -> Result<bool, NativeError> {
        guarded(|| {
            let message = Message::try_from(message)?;
            match self.producer.try_send(borrowed(&message), token) {
                Ok(()) => Ok(true),
                Err(error) if error.is(ErrorCode::QueueFull) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// Takes one message as soon as there is space for it, and gives its acknowledgement to come.
    fn enqueue(
        &self,
        message: NativeMessage,
        queue: &NativeQueue,
        token: u64,
    ) -> Result<Arc<NativeOperation>, NativeError> {
        guarded(|| {
            let message = Message::try_from(message)?;
            Ok(NativeOperation::new(self.producer.enqueue(message, queue.to(token))))
        })
    }

    /// Sends one message, as soon as there is space for it, and waits for its acknowledgement.
    fn send(
        &self,
        message: NativeMessage,
        queue: &NativeQueue,
        token: u64,
    ) -> Result<Arc<NativeOperation>, NativeError> {
        guarded(|| {
            let message = Message::try_from(message)?;
            Ok(NativeOperation::new(self.producer.send(message, queue.to(token))))
        })
    }

    /// Sends many messages.
    fn send_batch(
        &self,
        messages: Vec<NativeMessage>,
        queue: &NativeQueue,
        token: u64,
    ) -> Result<Arc<NativeOperation>, NativeError> {
        guarded(|| {
            let messages = messages.into_iter().map(Message::try_from).collect::<Result<_, _>>()?;
            Ok(NativeOperation::new(self.producer.send_batch(messages, queue.to(token))))
        })
    }

    /// Sends many payloads: `count` lengths, little-endian u32, then the payloads one after the other.
    fn send_packed(
        &self,
        packed: &[u8],
        count: u32,
        queue: &NativeQueue,
        token: u64,
    ) -> Result<Arc<NativeOperation>, NativeError> {
        guarded(|| {
            let Some((lengths, payloads)) = packed.split_at_checked(count as usize * 4) else {
                return Err(Error::new(ErrorCode::ClientInternal, "packed payloads end within their lengths"));
            };
            let lengths = lengths.as_chunks::<4>().0.iter().map(|length| u32::from_le_bytes(*length)).collect();
            let payloads = Bytes::copy_from_slice(payloads);
            Ok(NativeOperation::new(self.producer.send_packed(payloads, lengths, queue.to(token))))
        })
    }

    /// Waits until everything handed over before is settled.
    fn flush(&self, queue: &NativeQueue, token: u64) -> Arc<NativeOperation> {
        NativeOperation::new(self.producer.flush(queue.to(token)))
    }

    /// Takes no more messages and waits until those taken are settled.
    fn end(&self, timeout_ms: u64, queue: &NativeQueue, token: u64) -> Arc<NativeOperation> {
        NativeOperation::new(self.producer.close(Duration::from_millis(timeout_ms), queue.to(token)))
    }
}

/// The acknowledgement of an enqueued message, to come.
#[derive(Debug, uniffi::Object)]
pub(crate) struct NativeDelivery {
    delivery: Delivery,
}

impl NativeDelivery {
    pub(crate) fn new(delivery: Delivery) -> Arc<Self> {
        Arc::new(NativeDelivery { delivery })
    }
}

#[uniffi::export]
impl NativeDelivery {
    /// Waits for the outcome.
    fn wait(&self, queue: &NativeQueue, token: u64) -> Arc<NativeOperation> {
        NativeOperation::new(self.delivery.wait(queue.to(token)))
    }
}
