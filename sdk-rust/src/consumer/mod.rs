//! Consuming: reads partitions of one topic from positions of the caller's choice, or, as a member of a group, what the
//! server assigns.
//!
//! The receiving half (`core`, and for groups `membership`) lives in the connection's task; the caller's half (`cursor`, and
//! for groups `group`) turns received bytes into verified batches in the caller's own thread; `inbound` and `share` are what
//! they share.

mod batch;
pub(crate) mod core;
mod cursor;
mod group;
mod inbound;
mod membership;
mod options;
mod share;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{Position, PositionKind};

pub use batch::{Batch, Messages, ReceivedMessage, ReceivedRef, Taken, decode_headers};
pub use group::UntoldChange;
pub use options::{ConsumerOptions, GroupConsumerOptions, OnCorrupt, OnOutOfRange, OnTruncated};
pub use share::{AssignmentChange, PartitionOffset, TopicPartition};

use crate::admin::{Admin, parse_topic};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::link::{Link, Resident};
use cursor::{Amount, Attempt, Cursor};
use group::Group;
use inbound::{Inbound, InboundLane, LaneKey};
use membership::GroupTerms;
use share::Share;

/// The smallest window of a partition, in bytes.
const MIN_WINDOW_BYTES: u64 = 64 << 10;

/// A partition, with its topic where the consumer reads several: `0`, or `("shop/orders", 0)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRef<'a> {
    /// `stream/topic`; absent where there is one topic.
    pub topic: Option<&'a str>,
    /// Its number.
    pub partition: u32,
}

impl From<u32> for PartitionRef<'_> {
    fn from(partition: u32) -> Self {
        PartitionRef { topic: None, partition }
    }
}

impl<'a> From<(&'a str, u32)> for PartitionRef<'a> {
    fn from((topic, partition): (&'a str, u32)) -> Self {
        PartitionRef { topic: Some(topic), partition }
    }
}

impl<'a> From<&'a TopicPartition> for PartitionRef<'a> {
    fn from(named: &'a TopicPartition) -> Self {
        PartitionRef { topic: Some(&named.topic), partition: named.partition }
    }
}

/// Reads partitions of one topic, or, as a member of a group, the partitions of any topics that are assigned to it.
///
/// Batches are slices of the bytes received. A call that is given up, by dropping its future or by a timeout, loses nothing:
/// messages count as handed out when the call returns them, not before. After a lost connection reading goes on after the
/// last message handed out.
///
/// ```no_run
/// # async fn example(client: levada::Client) -> levada::Result<()> {
/// use levada::{ConsumerOptions, Position};
///
/// let options = ConsumerOptions::new("shop/orders").from(Position::EARLIEST).until_end();
/// let consumer = client.consumer(options).await?;
/// while let Some(message) = consumer.receive().await? {
///     println!("{}:{} {:?}", message.partition, message.offset, message.payload);
/// }
/// # Ok(()) }
/// ```
pub struct Consumer {
    id: u64,
    topic: String,
    link: Link,
    inbound: Arc<Inbound>,
    cursor: Mutex<Cursor>,
    receiving: AtomicBool,
    /// The group whose stored offsets it uses.
    group: Option<Group>,
}

/// A receive under way; there may be one at a time.
struct Receiving<'a>(&'a AtomicBool);

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Consumer {
    pub(crate) async fn open(client: &Client, options: ConsumerOptions) -> Result<Consumer> {
        options.check()?;
        let address = parse_topic(&options.topic)?;
        let topic = format!("{}/{}", address.stream, address.topic);
        let description = Admin::new(client.clone()).describe_topic(&topic).await?;
        let count = description.topic.options.partition_count;
        let mut partitions = match (options.partitions, address.partition) {
            (Some(_), Some(_)) => {
                return Err(Error::usage("partitions", "a partition is named in the topic and as an option"));
            }
            (Some(partitions), None) => partitions,
            (None, Some(partition)) => vec![partition],
            (None, None) => (0..count).collect(),
        };
        partitions.sort_unstable();
        partitions.dedup();
        if partitions.is_empty() {
            return Err(Error::usage("partitions", "there must be at least one partition"));
        }
        if let Some(missing) =
            partitions.iter().chain(options.partition_from.keys()).find(|partition| count <= **partition)
        {
            let text = format!("{topic} has no partition {missing}");
            return Err(Error::new(ErrorCode::PartitionNotFound, text).with_detail("partition", missing));
        }
        let starts: Vec<(u32, Position)> = partitions
            .iter()
            .map(|partition| (*partition, options.partition_from.get(partition).unwrap_or(&options.from).clone()))
            .collect();
        if options.group.is_none() && starts.iter().any(|(_, start)| start.kind == PositionKind::Stored) {
            return Err(needs_group("from"));
        }
        let window_bytes = window_bytes(options.prefetch_bytes, partitions.len() as u64);
        let (name, topic_id) = (Arc::<str>::from(topic.as_str()), description.topic.topic_id);
        let lane = |(partition, start)| {
            InboundLane::new(LaneKey { topic: Arc::clone(&name), topic_id, partition }, start, window_bytes)
        };
        let share = options.group.is_some().then(Share::without_member);
        let inbound = Inbound::new(starts.into_iter().map(lane).collect(), share);
        let group = options.group.map(|group| GroupTerms {
            group,
            join: None,
            auto_commit: false,
            commit_interval_ms: 0,
            prefetch_bytes: options.prefetch_bytes,
            backoff: client.backoff(),
        });
        let terms = core::Terms {
            until_end: options.until_end,
            on_corrupt: options.on_corrupt,
            on_truncated: options.on_truncated,
            on_out_of_range: options.on_out_of_range,
            backoff: client.backoff(),
            group,
        };
        Consumer::place(client, topic, inbound, terms).await
    }

    /// Joins a group and reads what it assigns.
    pub(crate) async fn open_group(client: &Client, options: GroupConsumerOptions) -> Result<Consumer> {
        options.check()?;
        let topic = options.topics.join(", ");
        let group = group::terms(&options, client.backoff())?;
        let share = Share::of_member(options.auto_commit, options.commit_messages);
        let terms = core::Terms {
            until_end: false,
            on_corrupt: options.on_corrupt,
            on_truncated: options.on_truncated,
            on_out_of_range: options.on_out_of_range,
            backoff: client.backoff(),
            group: Some(group),
        };
        Consumer::place(client, topic, Inbound::new(Vec::new(), Some(share)), terms).await
    }

    async fn place(client: &Client, topic: String, inbound: Arc<Inbound>, terms: core::Terms) -> Result<Consumer> {
        let id = client.next_id();
        let link = client.control();
        let group = terms.group.as_ref().map(|terms| Group::new(client, &terms.group, terms.join.is_some()));
        let cursor = Mutex::new(Cursor::new(Arc::clone(&inbound), terms.on_corrupt));
        let core = core::ConsumerCore::new(Arc::clone(&inbound), terms, client.random());
        link.add(id, Resident::Consumer(core))?;
        let consumer = Consumer { id, topic, link, inbound, cursor, receiving: AtomicBool::new(false), group };
        // So that "latest" means now, and not some time after this call.
        let timeout = client.terms().request_timeout;
        match tokio::time::timeout(timeout, poll_fn(|context| consumer.poll_placed(context))).await {
            Ok(placed) => placed.map(|()| consumer),
            Err(_) => {
                let text = format!("the server did not answer a subscription within {timeout:?}");
                Err(Error::new(ErrorCode::ClientTimeout, text).with_maybe_applied(false))
            }
        }
    }

    /// Polls until every partition is subscribed to, or has failed; of a group, until it is a member besides.
    fn poll_placed(&self, context: &Context<'_>) -> Poll<Result<()>> {
        loop {
            let version = {
                let state = self.inbound.lock();
                if let Some(error) = state.share.as_ref().and_then(|share| share.failed.clone()) {
                    return Poll::Ready(Err(error));
                }
                let is_placed = |lane: &InboundLane| lane.resolved.is_some() || !lane.items.is_empty() || !lane.active;
                let is_member = state.share.as_ref().is_none_or(|share| share.joined);
                if state.closed || (is_member && state.lanes.iter().all(is_placed)) {
                    return Poll::Ready(Ok(()));
                }
                state.version
            };
            if !self.inbound.watch(version, context.waker()) {
                return Poll::Pending;
            }
        }
    }

    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        // A panic in it would be a defect; positions only move together with what is handed out.
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Result<Receiving<'_>> {
        if self.receiving.swap(true, Ordering::Acquire) {
            let text = "another receive is under way on this consumer";
            return Err(Error::new(ErrorCode::ConcurrentCall, text));
        }
        Ok(Receiving(&self.receiving))
    }

    fn attempt<T>(&self, take: impl FnOnce(&mut Cursor) -> (Result<Attempt<T>>, bool)) -> Result<Attempt<T>> {
        let (outcome, wake) = take(&mut self.cursor());
        if wake {
            self.link.wake(self.id);
        }
        outcome
    }

    /// Polls until something can be taken; `None` at the end.
    fn poll_take<T>(
        &self,
        context: &Context<'_>,
        mut take: impl FnMut(&mut Cursor) -> (Result<Attempt<T>>, bool),
    ) -> Poll<Result<Option<T>>> {
        loop {
            let version = self.inbound.lock().version;
            match self.attempt(&mut take) {
                Ok(Attempt::Got(value)) => return Poll::Ready(Ok(Some(value))),
                Ok(Attempt::Finished) => return Poll::Ready(Ok(None)),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Attempt::Nothing) => {}
            }
            if !self.inbound.watch(version, context.waker()) {
                return Poll::Pending;
            }
        }
    }

    /// The next message; `None` at the end asked for by [`ConsumerOptions::until_end`].
    ///
    /// Cancel-safe. For speed prefer [`Consumer::receive_batch`].
    ///
    /// # Errors
    /// What the policies of [`ConsumerOptions`] do not deal with (`CORRUPT_BATCH`, `LOG_TRUNCATED`, `OFFSET_OUT_OF_RANGE`);
    /// that the topic is gone or may not be read; `CONCURRENT_CALL`, `CLOSED`. Lost connections are no errors.
    pub async fn receive(&self) -> Result<Option<ReceivedMessage>> {
        let _receiving = self.begin()?;
        poll_fn(|context| self.poll_take(context, Cursor::take_message)).await
    }

    /// The next batches: at most `max_messages` messages, of about `max_bytes` stored bytes but at least one batch.
    /// Empty when `timeout` has passed or the end asked for by [`ConsumerOptions::until_end`] is reached.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`Consumer::receive`].
    pub async fn receive_batch(&self, max_messages: usize, max_bytes: usize, timeout: Duration) -> Result<Vec<Batch>> {
        let amount = amount(max_messages, max_bytes)?;
        let _receiving = self.begin()?;
        let taken = poll_fn(|context| self.poll_take(context, |cursor| cursor.take(amount)));
        match tokio::time::timeout(timeout, taken).await {
            Ok(taken) => Ok(taken?.map_or_else(Vec::new, |taken| taken.batches)),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The next batch, whole; `None` at the end asked for by [`ConsumerOptions::until_end`].
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`Consumer::receive`].
    pub async fn next_batch(&self) -> Result<Option<Batch>> {
        let _receiving = self.begin()?;
        poll_fn(|context| self.poll_batch(context)).await
    }

    fn poll_batch(&self, context: &Context<'_>) -> Poll<Result<Option<Batch>>> {
        self.poll_take(context, |cursor| cursor.take(ONE_BATCH))
            .map_ok(|taken| taken.and_then(|taken| taken.batches.into_iter().next()))
    }

    /// Whole batches as a stream.
    pub fn batches(&self) -> Batches<'_> {
        Batches { consumer: self }
    }

    /// What is ready, without waiting: see [`Consumer::receive_batch`].
    ///
    /// # Errors
    /// As [`Consumer::receive`].
    pub fn try_take(&self, max_messages: usize, max_bytes: usize) -> Result<Taken> {
        let amount = amount(max_messages, max_bytes)?;
        Ok(match self.attempt(|cursor| cursor.take(amount))? {
            Attempt::Got(taken) => taken,
            Attempt::Nothing => Taken::default(),
            Attempt::Finished => Taken { finished: true, ..Taken::default() },
        })
    }

    /// Calls back once when there is something to take, an error, or the end: at once if there is already. The callback runs
    /// on the connection's task or the caller's thread and must return at once; arming again replaces it.
    pub fn arm(&self, callback: impl FnOnce() + Send + 'static) {
        let version = self.inbound.lock().version;
        if self.cursor().is_ready() {
            callback();
        } else {
            self.inbound.arm(version, Box::new(callback));
        }
    }

    /// Moves to another position in one partition. What was handed out is not taken back.
    ///
    /// # Errors
    /// `PARTITION_NOT_FOUND` if this consumer does not read it; a usage error if it reads that partition of several topics and
    /// none is named.
    pub fn seek<'a>(&self, partition: impl Into<PartitionRef<'a>>, position: Position) -> Result<()> {
        if position.kind == PositionKind::Stored && self.group.is_none() {
            return Err(needs_group("position"));
        }
        if self.cursor().seek(partition.into(), position)? {
            self.link.wake(self.id);
        }
        Ok(())
    }

    /// Stops handing out messages of a partition; at most its share of the prefetched bytes is kept.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn pause<'a>(&self, partition: impl Into<PartitionRef<'a>>) -> Result<()> {
        self.cursor().set_paused(partition.into(), true)
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn resume<'a>(&self, partition: impl Into<PartitionRef<'a>>) -> Result<()> {
        self.cursor().set_paused(partition.into(), false)
    }

    /// Offset of the next message to be handed out; `None` until the server has told what the start came to.
    pub fn position<'a>(&self, partition: impl Into<PartitionRef<'a>>) -> Option<u64> {
        self.cursor().position(partition.into())
    }

    /// The partitions it reads, of a member of a group those it reads now.
    pub fn partitions(&self) -> Vec<u32> {
        self.cursor().partitions()
    }

    /// The topic it reads, `stream/topic`; of a member of a group, the topics and patterns.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Ends the subscriptions; a receive under way fails with `CLOSED`. A plain consumer needs no answer of the server for
    /// that. A member of a group first commits what it handed out, if it commits by itself, and leaves its group, unless it
    /// is static.
    ///
    /// # Errors
    /// `CLIENT_TIMEOUT` if the last commit was not answered in time, or that commit's own; it is closed all the same.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        let outcome = self.say_goodbye(timeout).await;
        self.end();
        outcome
    }

    fn end(&self) {
        if self.cursor().close() {
            self.link.wake(self.id);
        }
    }
}

fn window_bytes(prefetch_bytes: u64, partition_count: u64) -> u64 {
    (prefetch_bytes / partition_count.max(1)).max(MIN_WINDOW_BYTES)
}

fn needs_group(argument: &str) -> Error {
    Error::usage(argument, "the position `stored` is that of a group: give the option `group`, or use group_consumer")
}

const ONE_BATCH: Amount = Amount { max_messages: usize::MAX, max_bytes: usize::MAX, max_batches: 1 };

fn amount(max_messages: usize, max_bytes: usize) -> Result<Amount> {
    if max_messages == 0 {
        return Err(Error::usage("max_messages", "max_messages must not be 0"));
    }
    Ok(Amount { max_messages, max_bytes, max_batches: usize::MAX })
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("id", &self.id).field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Whole batches of a [`Consumer`]; ends where the consumer does.
#[derive(Debug)]
pub struct Batches<'a> {
    consumer: &'a Consumer,
}

impl futures_core::Stream for Batches<'_> {
    type Item = Result<Batch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.consumer.poll_batch(context).map(Result::transpose)
    }
}

impl futures_core::Stream for Consumer {
    type Item = Result<ReceivedMessage>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_take(context, Cursor::take_message).map(Result::transpose)
    }
}
