//! A producer: messages are copied before a call returns, whatever happens to the caller afterwards.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use levada::{AsMessage, BatchEvent, CompletionSink, ErrorCode, Header, Message, MessageRef, ProducerOptions, Result};

use crate::client;
use crate::delivery::Delivery;
use crate::operation::{Operation, Output, Progress, To};
use crate::process::{Handle, Kind};
use crate::queue::{Event, Queue};

/// A producer. Cloning is cheap.
#[derive(Clone)]
pub struct Producer {
    inner: Handle<Inner>,
}

struct Inner {
    client: Arc<client::Inner>,
    producer: levada::Producer,
}

/// Where acknowledgements of `try_send` go.
struct Acks(Queue);

impl CompletionSink for Acks {
    fn complete(&self, event: BatchEvent) {
        self.0.push(Event::Acked { producer: event.producer, outcome: event.outcome, tokens: event.tokens });
    }
}

impl Producer {
    pub(crate) async fn open(
        client: Arc<client::Inner>,
        topic: &str,
        options: ProducerOptions,
        acks: Option<Queue>,
    ) -> Result<Producer> {
        let options = match acks {
            Some(queue) => options.completion_sink(Arc::new(Acks(queue))),
            None => options,
        };
        let producer = client.core()?.producer(topic, options).await?;
        Ok(Producer { inner: Handle::new(Kind::Producer, Arc::new(Inner { client, producer })) })
    }

    /// Names it in [`Event::Acked`].
    ///
    /// # Errors
    /// `FORKED`.
    pub fn id(&self) -> Result<u64> {
        Ok(self.inner.get()?.producer.id())
    }

    /// The topic it appends to, `stream/topic`.
    ///
    /// # Errors
    /// `FORKED`.
    pub fn topic(&self) -> Result<&str> {
        Ok(self.inner.get()?.producer.topic())
    }

    /// Partitions of the topic when it was made.
    ///
    /// # Errors
    /// `FORKED`.
    pub fn partition_count(&self) -> Result<u32> {
        Ok(self.inner.get()?.producer.partition_count())
    }

    /// Takes one message without waiting; its acknowledgement comes as [`Event::Acked`] under that token.
    ///
    /// # Errors
    /// `QUEUE_FULL` if there is no space; those of enqueueing; `FORKED`.
    pub fn try_send(&self, message: MessageRef<'_>, token: u64) -> Result<()> {
        self.inner.get()?.producer.try_send(message, token)
    }

    /// Takes one message without waiting and gives its acknowledgement to come.
    ///
    /// # Errors
    /// As [`Producer::try_send`].
    pub fn try_enqueue(&self, message: MessageRef<'_>) -> Result<Delivery> {
        self.inner.get()?.producer.try_enqueue(message).map(Delivery::new)
    }

    /// Takes one message, waiting for space if there is none: `Output::Delivery`. Given up before that, it was not taken.
    pub fn enqueue(&self, message: impl AsMessage, to: To) -> Operation {
        let message = message.as_message();
        match self.try_enqueue(message) {
            Err(error) if error.is(ErrorCode::QueueFull) => {
                let message = owned(&message);
                self.start(to, |inner, _| async move {
                    let delivery = inner.producer.enqueue(&message).await?;
                    Ok(Output::Delivery(Delivery::new(delivery)))
                })
            }
            outcome => Operation::settled(to, outcome.map(Output::Delivery)),
        }
    }

    /// Sends one message and waits for its acknowledgement: `Output::Receipt`. Given up before there is space for it, it was
    /// not taken; later, it is sent all the same.
    pub fn send(&self, message: impl AsMessage, to: To) -> Operation {
        let message = message.as_message();
        let taken = self.inner.get().and_then(|inner| inner.producer.try_enqueue(message));
        match taken {
            Ok(delivery) => Operation::deliver(to, delivery),
            Err(error) if error.is(ErrorCode::QueueFull) => {
                let message = owned(&message);
                self.start(to, |inner, progress| async move {
                    let delivery = inner.producer.enqueue(&message).await?;
                    progress.may_apply();
                    delivery.await.map(Output::Receipt)
                })
            }
            Err(error) => Operation::settled(to, Err(error)),
        }
    }

    /// Sends many messages and waits for their acknowledgements: `Output::Receipts`.
    pub fn send_batch(&self, messages: Vec<Message>, to: To) -> Operation {
        self.start(to, |inner, progress| async move {
            progress.may_apply();
            let delivery = inner.producer.enqueue_batch(messages).await?;
            delivery.await.map(Output::Receipts)
        })
    }

    /// As [`Producer::send_batch`] for payloads that lie one after the other, with those lengths.
    pub fn send_packed(&self, payloads: Bytes, lengths: Vec<u32>, to: To) -> Operation {
        self.start(to, |inner, progress| async move {
            progress.may_apply();
            let delivery = inner.producer.enqueue_packed(&payloads, &lengths).await?;
            // They are in batches now: their memory is not needed until these are acknowledged.
            drop((payloads, lengths));
            delivery.await.map(Output::Receipts)
        })
    }

    /// Waits until everything handed over before is settled: `Output::Nothing`, or the first failure since the last flush.
    pub fn flush(&self, to: To) -> Operation {
        self.start(to, |inner, _| async move { inner.producer.flush().await.map(|()| Output::Nothing) })
    }

    /// Takes no more messages and waits until those taken are settled: `Output::Nothing`, or `CLIENT_TIMEOUT` if some are not
    /// by then. Inherited over fork, or with its client closed, there is nothing to do.
    pub fn close(&self, timeout: Duration, to: To) -> Operation {
        match self.inner.get().and_then(|inner| inner.client.runtime()) {
            Ok(_) => {
                self.start(to, |inner, _| async move { inner.producer.close(timeout).await.map(|()| Output::Nothing) })
            }
            Err(_) => Operation::settled(to, Ok(Output::Nothing)),
        }
    }

    fn start<F>(&self, to: To, work: impl FnOnce(Arc<Inner>, Progress) -> F) -> Operation
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        match self.inner.get().and_then(|inner| Ok((inner, inner.client.runtime()?))) {
            Ok((inner, runtime)) => Operation::start(&runtime, to, |progress| work(Arc::clone(inner), progress)),
            Err(error) => Operation::settled(to, Err(error)),
        }
    }
}

fn owned(message: &MessageRef<'_>) -> Message {
    Message {
        payload: message.payload.map(Bytes::copy_from_slice),
        key: message.key.map(Bytes::copy_from_slice),
        headers: Vec::<Header>::from(message.headers),
        timestamp_us: message.timestamp_us,
        id: message.id,
        partition: message.partition,
        sequence: message.sequence,
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}
