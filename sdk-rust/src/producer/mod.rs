//! Producing: hands messages over to batches and tells what became of them.
//!
//! The caller's half copies messages into the accumulator; the sending half (`core`) lives in the connection's task.

pub(crate) mod accumulator;
pub(crate) mod core;
pub(crate) mod delivery;
mod lane;
mod named;
mod options;
pub(crate) mod sink;

use std::sync::Arc;
use std::time::Duration;

use levada_protocol::ErrorCode;
use levada_protocol::batch::Codec;
use levada_protocol::messages::TopicCompression;
use tokio::time::Instant;

pub use delivery::{BatchDelivery, BatchReceipt, Delivery, Receipt};
pub use options::{Compression, ProducerOptions};
pub use sink::{BatchEvent, CompletionSink, NO_TOKEN};

use crate::admin::{Admin, parse_topic};
use crate::client::Client;
use crate::environment::Clock;
use crate::error::{Error, Result};
use crate::link::{Link, Resident};
use crate::message::{AsMessage, MessageRef};
use accumulator::{Accumulator, Filling, Moment, Refusal, Sizes, charge_bytes};
use options::DEFAULT_ZSTD_LEVEL;

/// Appends messages to one topic.
///
/// Dropping a producer without [`Producer::close`] sends what it has taken as long as the runtime lives, and tells nobody.
///
/// ```no_run
/// # async fn example(client: levada::Client) -> levada::Result<()> {
/// use levada::{Message, ProducerOptions};
/// use std::time::Duration;
///
/// let producer = client.producer("shop/orders", ProducerOptions::new()).await?;
/// let receipt = producer.send(Message::new("a pound of apples").key("alice")).await?;
/// println!("partition {} offset {:?}", receipt.partition, receipt.offset);
/// producer.send_batch(["one", "two", "three"]).await?;
/// producer.close(Duration::from_secs(10)).await?;
/// # Ok(()) }
/// ```
pub struct Producer {
    topic: String,
    accumulator: Arc<Accumulator>,
    link: Link,
    /// What the link's times count from. Not its terms: a closed producer would keep the trusted certificates.
    epoch: Instant,
    clock: Arc<dyn Clock>,
    /// With a name: where the one before had come to, by partition.
    next_sequences: Vec<u64>,
}

/// Messages taken from an iterator at a time: outside the lock, for an iterator may do anything.
const MESSAGES_AT_ONCE: usize = 512;

impl Producer {
    pub(crate) async fn open(client: &Client, topic: &str, options: ProducerOptions) -> Result<Producer> {
        options.check()?;
        check_name(&options)?;
        let address = parse_topic(topic)?;
        if address.partition.is_some() {
            return Err(Error::usage("topic", "a producer is for a whole topic; messages name their partition"));
        }
        let description = Admin::new(client.clone()).describe_topic(topic).await?;
        let welcome = client.welcome();
        let (max_batch_bytes, max_payload_bytes, max_in_flight) =
            welcome.map_or((options.batch_bytes, options.batch_bytes, 1), |welcome| {
                let (batch, payload) = (welcome.max_batch_bytes as usize, welcome.max_payload_bytes as usize);
                (batch, payload, usize::from(welcome.max_in_flight))
            });
        let sizes = Sizes {
            partition_count: description.topic.options.partition_count.max(1),
            batch_bytes: options.batch_bytes,
            batch_messages: options.batch_messages,
            max_batch_bytes,
            max_payload_bytes,
            max_buffered_bytes: options.max_buffered_bytes,
            linger_ms: as_ms(options.linger),
            delivery_timeout_ms: as_ms(options.delivery_timeout),
            external: options.external_sequence,
        };
        let (codec, level) = codec_of(options.chosen_compression(), description.topic.options.compression);
        let topic_id = description.topic.topic_id;
        let named = match &options.name {
            Some(name) => Some(named::open(client, name, topic_id, sizes.partition_count).await?),
            None => None,
        };
        let next_sequences = named.as_ref().map(|named| named.next_sequences.clone()).unwrap_or_default();
        let max_in_flight = if options.external_sequence { 1 } else { max_in_flight.max(1) };
        let terms = core::Terms {
            topic_id,
            durability: options.durability,
            idempotent: options.idempotent,
            max_in_flight: options.max_in_flight.min(max_in_flight),
            codec,
            level,
            backoff: client.backoff(),
            named,
            external: options.external_sequence,
        };
        let id = client.next_id();
        let random = client.random();
        let accumulator = Arc::new(Accumulator::new(id, sizes, options.sink, random.next_u64()));
        accumulator.know(&next_sequences);
        let link = client.produce_link();
        let core = core::ProducerCore::new(Arc::clone(&accumulator), terms, random);
        link.add(id, Resident::Producer(core))?;
        client.remember(&accumulator);
        let (topic, epoch, clock) = (topic.to_owned(), client.terms().epoch, client.clock());
        Ok(Producer { topic, accumulator, link, epoch, clock, next_sequences })
    }

    /// Names this producer in [`BatchEvent`].
    pub fn id(&self) -> u64 {
        self.accumulator.id()
    }

    /// The topic it appends to, `stream/topic`.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Partitions of the topic when the producer was made; keys are spread over these.
    pub fn partition_count(&self) -> u32 {
        self.accumulator.sizes().partition_count
    }

    /// The sequence of the last message that this producer's name had appended to a partition when it was opened, durably;
    /// `None`: none, or it has no name. With external sequences, go on with the message after it.
    pub fn last_sequence(&self, partition: u32) -> Option<u64> {
        self.next_sequences.get(partition as usize)?.checked_sub(1)
    }

    fn moment(&self) -> Moment {
        Moment { now_ms: as_ms(self.epoch.elapsed()), now_us: self.clock.now_us() }
    }

    fn push(&self, message: &MessageRef<'_>, token: u64) -> std::result::Result<Delivery, Refusal> {
        let (place, wake) = self.accumulator.push(message, token, self.moment());
        if wake {
            self.link.wake(self.id());
        }
        place.map(|(completion, index)| Delivery::new(completion, index))
    }

    fn full(&self) -> Error {
        let limit = self.accumulator.sizes().max_buffered_bytes;
        Error::new(ErrorCode::QueueFull, format!("{limit} bytes of unacknowledged messages are kept already"))
            .with_detail("limit", limit)
    }

    /// Sends one message and waits for its acknowledgement: `enqueue(message).await?.await`.
    ///
    /// Dropped before the message is taken, it was not sent; dropped after, it is sent all the same.
    ///
    /// # Errors
    /// Those of [`Producer::enqueue`], then the fate of the message: `DELIVERY_TIMEOUT`, `FENCED`, or the server's refusal.
    pub async fn send(&self, message: impl AsMessage) -> Result<Receipt> {
        self.enqueue(message).await?.await
    }

    /// Copies one message into the open batch and gives its acknowledgement to come; waits only while the buffer is full.
    ///
    /// Cancel-safe: dropped while it waits, the message was not taken.
    ///
    /// # Errors
    /// `TOO_LARGE`, `PARTITION_NOT_FOUND`, a usage error for malformed headers; `CLOSED`; `FENCED` once fenced.
    pub async fn enqueue(&self, message: impl AsMessage) -> Result<Delivery> {
        self.accumulator.when_space(|| self.push(&message.as_message(), NO_TOKEN)).await
    }

    /// As [`Producer::enqueue`], without waiting.
    ///
    /// # Errors
    /// `QUEUE_FULL` besides those of [`Producer::enqueue`].
    pub fn try_enqueue(&self, message: impl AsMessage) -> Result<Delivery> {
        self.push(&message.as_message(), NO_TOKEN).map_err(|refusal| match refusal {
            Refusal::Full => self.full(),
            Refusal::Failed(error) => error,
        })
    }

    /// Sends many messages and waits for their acknowledgements.
    ///
    /// # Errors
    /// As [`Producer::send`]: the first failure.
    pub async fn send_batch<M: AsMessage>(&self, messages: impl IntoIterator<Item = M>) -> Result<Vec<BatchReceipt>> {
        self.enqueue_batch(messages).await?.await
    }

    /// Copies many messages into batches and gives their acknowledgements to come; waits only while the buffer is full.
    /// Messages without a key stay together where they fit one batch.
    ///
    /// # Errors
    /// Those of [`Producer::enqueue`]; messages before the one that is refused are under way. The same if it is dropped
    /// while it waits.
    pub async fn enqueue_batch<M: AsMessage>(&self, messages: impl IntoIterator<Item = M>) -> Result<BatchDelivery> {
        let mut messages = messages.into_iter();
        let mut delivery = BatchDelivery::default();
        let expected = messages.size_hint().0;
        let mut chunk: Vec<M> = Vec::with_capacity(expected.clamp(1, MESSAGES_AT_ONCE));
        chunk.extend(messages.by_ref().take(MESSAGES_AT_ONCE));
        let estimate_bytes = chunk
            .first()
            .map_or(0, |first| charge_bytes(&first.as_message()).saturating_mul(expected.max(chunk.len())));
        let mut filling = Some(self.accumulator.fill(estimate_bytes));
        while !chunk.is_empty() {
            let mut taken = 0;
            let mut attempt = || self.accumulator.push_many(&chunk, &mut taken, &mut delivery, self.moment());
            match attempt() {
                Ok(()) => {}
                Err(Refusal::Failed(error)) => {
                    self.end_filling(filling.take());
                    return Err(error);
                }
                Err(Refusal::Full) => {
                    // What is full must leave, or there will be no space.
                    self.end_filling(filling.take());
                    let attempt = || {
                        let outcome = attempt();
                        if self.accumulator.schedule() {
                            self.wake();
                        }
                        outcome
                    };
                    self.accumulator.when_space(attempt).await?;
                    filling = Some(self.accumulator.fill(0));
                }
            }
            chunk.clear();
            chunk.extend(messages.by_ref().take(MESSAGES_AT_ONCE));
        }
        self.end_filling(filling);
        Ok(delivery)
    }

    fn end_filling(&self, filling: Option<Filling<'_>>) {
        if filling.is_some_and(Filling::end) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.link.wake(self.id());
    }

    /// As [`Producer::enqueue_batch`] for payloads that lie one after the other in `payloads`, with those lengths.
    ///
    /// # Errors
    /// Those of [`Producer::enqueue_batch`]; a usage error if the lengths do not add up to the payloads.
    pub async fn enqueue_packed(&self, payloads: &[u8], lengths: &[u32]) -> Result<BatchDelivery> {
        let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        if total != payloads.len() as u64 {
            return Err(Error::usage(
                "lengths",
                format!("lengths add up to {total}, payloads are {} bytes", payloads.len()),
            ));
        }
        self.enqueue_batch(Packed { rest: payloads, lengths: lengths.iter() }).await
    }

    /// Takes one message without waiting; its completion goes to [`ProducerOptions::completion_sink`] under that token.
    ///
    /// # Errors
    /// `QUEUE_FULL` if there is no space for the message or its completion; a usage error if there is no sink; else those of
    /// [`Producer::enqueue`].
    pub fn try_send(&self, message: impl AsMessage, token: u64) -> Result<()> {
        let Some(sink) = self.accumulator.sink() else {
            return Err(Error::usage("completion_sink", "try_send needs a completion sink"));
        };
        if !sink.try_reserve() {
            return Err(self.full());
        }
        match self.push(&message.as_message(), token) {
            Ok(delivery) => {
                drop(delivery);
                Ok(())
            }
            Err(refusal) => {
                sink.release();
                Err(match refusal {
                    Refusal::Full => self.full(),
                    Refusal::Failed(error) => error,
                })
            }
        }
    }

    /// Waits until everything handed over before is settled; open batches do not linger.
    ///
    /// # Errors
    /// The first failure of a batch since the last flush.
    pub async fn flush(&self) -> Result<()> {
        let (serial, wake) = self.accumulator.begin_flush();
        if wake {
            self.link.wake(self.id());
        }
        self.accumulator.flushed(serial).await
    }

    /// Takes no more messages and waits until those taken are settled.
    ///
    /// # Errors
    /// `CLIENT_TIMEOUT` if some are not by then: they are still being sent, and their deliveries tell. Else as
    /// [`Producer::flush`].
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        self.begin_close();
        match tokio::time::timeout(timeout, self.accumulator.flushed(u64::MAX)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unsettled(self.accumulator.unsettled_count())),
        }
    }

    fn begin_close(&self) {
        if self.accumulator.begin_close() {
            self.link.wake(self.id());
        }
    }
}

fn check_name(options: &ProducerOptions) -> Result<()> {
    if options.name.is_some() && !options.idempotent {
        return Err(Error::usage("name", "a producer with a name numbers its batches: leave idempotent on"));
    }
    if options.external_sequence && options.name.is_none() {
        return Err(Error::usage("external_sequence", "sequences outlive the process: give the producer a name"));
    }
    Ok(())
}

/// Payloads that lie one after the other.
struct Packed<'a> {
    rest: &'a [u8],
    lengths: std::slice::Iter<'a, u32>,
}

impl<'a> Iterator for Packed<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (payload, rest) = self.rest.split_at_checked(*self.lengths.next()? as usize)?;
        self.rest = rest;
        Some(payload)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.lengths.size_hint()
    }
}

pub(crate) fn unsettled(batches: usize) -> Error {
    let text = format!("{batches} batches were not acknowledged in time; they are still being sent");
    Error::new(ErrorCode::ClientTimeout, text).with_maybe_applied(true)
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.begin_close();
        let left = self.accumulator.unsettled_count();
        if left != 0 {
            tracing::warn!(topic = self.topic, batches = left, "a producer was dropped before it was closed");
        }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("id", &self.id()).field("topic", &self.topic).finish_non_exhaustive()
    }
}

fn codec_of(asked: Compression, topic: TopicCompression) -> (Codec, i32) {
    match (asked, topic) {
        (Compression::None, _) | (Compression::Topic, TopicCompression::Producer | TopicCompression::None) => {
            (Codec::None, 0)
        }
        (Compression::Lz4, _) | (Compression::Topic, TopicCompression::Lz4) => (Codec::Lz4, 0),
        (Compression::Zstd(level), _) => (Codec::Zstd, level),
        (Compression::Topic, TopicCompression::Zstd) => (Codec::Zstd, DEFAULT_ZSTD_LEVEL),
    }
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
