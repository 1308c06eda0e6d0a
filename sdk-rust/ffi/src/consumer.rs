//! A consumer: readiness first, then a take in the caller's own thread, so that giving up a wait cannot lose a message.
//!
//! Messages count as handed out when a take returns them. For takes of one message the rest of a batch is held here, and
//! given back to the core when its partition is sought or paused; of a group's member it is dropped when its partition goes
//! to another.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use levada::{
    Arguments, ConsumerOptions, Error, ErrorCode, FromValue as _, GroupConsumerOptions, PartitionOffset, PartitionRef,
    Position, PositionKind, Result, Value,
};
use tokio::time::Instant;

use crate::batch::Batch;
use crate::client;
use crate::into_value::IntoValue as _;
use crate::operation::{KeepWaiting, Operation, Output, Progress, SLICE, To};
use crate::process::{Handle, Kind};
use crate::queue::{Event, Queue};

/// A consumer. Cloning is cheap.
#[derive(Clone)]
pub struct Consumer {
    inner: Handle<Inner>,
}

struct Inner {
    /// Keeps the connection while only the consumer is left.
    client: Arc<client::Inner>,
    consumer: levada::Consumer,
    state: Mutex<State>,
    /// Apart from the rest, because the core announces from within calls that are made under the other lock.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
}

/// A batch of which some messages are handed out.
struct Held {
    batch: Batch,
    next: usize,
}

/// Who waits; there may be one at a time.
#[derive(Default)]
enum Waiting {
    #[default]
    Nobody,
    Queue(Queue, u64),
    Thread,
}

/// What a take gives.
#[derive(Debug, Default)]
pub struct Taken {
    /// Batches, in order per partition.
    pub batches: Vec<Batch>,
    /// Whether more may be ready.
    pub more: bool,
    /// Whether the end asked for by `until_end` is reached.
    pub finished: bool,
}

/// What a take of one message gives.
#[derive(Debug)]
pub enum TakenMessage {
    /// The message of that index in the batch.
    Message(Batch, usize),
    /// There is none now.
    Nothing,
    /// The end asked for by `until_end` is reached.
    Finished,
}

/// What a thread waits on.
#[derive(Default)]
struct Parker {
    ready: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    fn unpark(&self) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    fn park(&self, timeout: Duration) {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waited looks again in either case.
        drop(self.changed.wait_timeout_while(ready, timeout, |ready| !*ready));
    }
}

impl Consumer {
    pub(crate) async fn open(client: Arc<client::Inner>, options: ConsumerOptions) -> Result<Consumer> {
        let consumer = client.core()?.consumer(options).await?;
        Ok(Consumer::of(client, consumer))
    }

    pub(crate) async fn open_group(client: Arc<client::Inner>, options: GroupConsumerOptions) -> Result<Consumer> {
        let consumer = client.core()?.group_consumer(options).await?;
        Ok(Consumer::of(client, consumer))
    }

    fn of(client: Arc<client::Inner>, consumer: levada::Consumer) -> Consumer {
        let inner = Inner { client, consumer, state: Mutex::default(), waiting: Mutex::default() };
        Consumer { inner: Handle::new(Kind::Consumer, Arc::new(inner)) }
    }

    /// The topic it reads, `stream/topic`; of a member of a group, the topics and patterns.
    ///
    /// # Errors
    /// `FORKED`.
    pub fn topic(&self) -> Result<&str> {
        Ok(self.inner.get()?.consumer.topic())
    }

    /// The partitions it reads.
    ///
    /// # Errors
    /// `FORKED`.
    pub fn partitions(&self) -> Result<Vec<u32>> {
        Ok(self.inner.get()?.consumer.partitions())
    }

    /// Announces once, as [`Event::Ready`], that there is something to take, an error or the end: at once if there is already.
    ///
    /// # Errors
    /// `CONCURRENT_CALL` if somebody waits already; `FORKED`.
    pub fn arm(&self, queue: &Queue, token: u64) -> Result<()> {
        let inner = self.inner.get()?;
        inner.begin(Waiting::Queue(queue.clone(), token))?;
        let is_held = inner.state().held.is_some();
        if is_held {
            inner.announce();
        } else {
            let inner = Arc::downgrade(inner);
            let announce = move || {
                if let Some(inner) = inner.upgrade() {
                    inner.announce();
                }
            };
            self.inner.get()?.consumer.arm(announce);
        }
        Ok(())
    }

    /// Ends the wait that [`Consumer::arm`] began; an announcement already in the queue does no harm.
    pub fn disarm(&self) {
        if let Ok(inner) = self.inner.get() {
            inner.disarm();
        }
    }

    /// What is ready, at most `max_messages` messages, without waiting. Ends the wait that [`Consumer::arm`] began.
    ///
    /// # Errors
    /// Those of receiving; `FORKED`.
    pub fn take(&self, max_messages: usize, max_bytes: usize) -> Result<Taken> {
        let inner = self.inner.get()?;
        inner.disarm();
        let mut state = inner.state();
        inner.take(&mut state, max_messages, max_bytes)
    }

    /// The next message, without waiting. Ends the wait that [`Consumer::arm`] began.
    ///
    /// # Errors
    /// Those of receiving; `FORKED`.
    pub fn take_message(&self) -> Result<TakenMessage> {
        let inner = self.inner.get()?;
        inner.disarm();
        let mut state = inner.state();
        inner.take_message(&mut state)
    }

    /// Waits for messages in this thread: at most `max_messages`, of about `max_bytes` stored bytes but at least one batch.
    /// Nothing when `timeout` has passed, `keep_waiting` says no, or the end is reached.
    ///
    /// # Errors
    /// Those of receiving; `CONCURRENT_CALL`; `FORKED`.
    pub fn receive_batch(
        &self,
        max_messages: usize,
        max_bytes: usize,
        timeout: Option<Duration>,
        keep_waiting: KeepWaiting<'_>,
    ) -> Result<Taken> {
        let inner = self.inner.get()?;
        let taken = inner.wait_for(timeout, keep_waiting, |state| {
            let taken = inner.take(state, max_messages, max_bytes)?;
            Ok((!taken.batches.is_empty() || taken.finished).then_some(taken))
        })?;
        Ok(taken.unwrap_or_default())
    }

    /// Waits for one message in this thread; `Nothing` when `timeout` has passed or `keep_waiting` says no.
    ///
    /// # Errors
    /// As [`Consumer::receive_batch`].
    pub fn receive(&self, timeout: Option<Duration>, keep_waiting: KeepWaiting<'_>) -> Result<TakenMessage> {
        let inner = self.inner.get()?;
        let taken = inner.wait_for(timeout, keep_waiting, |state| {
            Ok(Some(inner.take_message(state)?).filter(|taken| !matches!(taken, TakenMessage::Nothing)))
        })?;
        Ok(taken.unwrap_or(TakenMessage::Nothing))
    }

    /// Moves to another position in one partition. What was handed out is not taken back.
    ///
    /// # Errors
    /// `PARTITION_NOT_FOUND` if this consumer does not read it; a usage error for a malformed position, or if the partition is
    /// read of several topics and none is named; `FORKED`.
    pub fn seek(&self, topic: Option<&str>, partition: u32, position: Value) -> Result<()> {
        let inner = self.inner.get()?;
        let position = Position::from_value("position", position)?;
        let which = PartitionRef { topic, partition };
        let mut state = inner.state();
        inner.consumer.seek(which, position)?;
        if state.holds(which) {
            state.held = None;
        }
        Ok(())
    }

    /// Stops handing out messages of a partition.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn pause(&self, topic: Option<&str>, partition: u32) -> Result<()> {
        let inner = self.inner.get()?;
        let which = PartitionRef { topic, partition };
        let mut state = inner.state();
        inner.consumer.pause(which)?;
        if state.holds(which)
            && let Some(held) = state.held.take()
        {
            let position = Position { kind: PositionKind::Offset, value: held.rest().first_offset() };
            inner.consumer.seek(which, position)?;
        }
        Ok(())
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn resume(&self, topic: Option<&str>, partition: u32) -> Result<()> {
        self.inner.get()?.consumer.resume(PartitionRef { topic, partition })
    }

    /// Offset of the next message to be handed out; `None` until the server has told what the start came to.
    ///
    /// # Errors
    /// `FORKED`.
    pub fn position(&self, topic: Option<&str>, partition: u32) -> Result<Option<u64>> {
        let inner = self.inner.get()?;
        let which = PartitionRef { topic, partition };
        let state = inner.state();
        let held = state.held.as_ref().filter(|held| held.is_of(which));
        Ok(held.map(|held| held.rest().first_offset()).or_else(|| inner.consumer.position(which)))
    }

    /// Stores how far the group is: everything handed out so far counts as done. `Output::Nothing` when it is durable.
    pub fn commit(&self, to: To) -> Operation {
        self.start(to, |inner, progress| async move {
            progress.may_apply();
            inner.consumer.commit().await.map(|()| Output::Nothing)
        })
    }

    /// Stores offsets, all or none: `Output::Nothing`. `offsets` is a list of records `{topic, partition, offset}`.
    pub fn commit_offsets(&self, offsets: Value, to: To) -> Operation {
        let offsets = match read_offsets(offsets) {
            Ok(offsets) => offsets,
            Err(error) => return Operation::settled(to, Err(error)),
        };
        self.start(to, |inner, progress| async move {
            progress.may_apply();
            inner.consumer.commit_offsets(&offsets).await.map(|()| Output::Nothing)
        })
    }

    /// The offset the group has stored for a partition: `Output::Value` of a number, or `Output::Nothing`.
    pub fn committed(&self, topic: &str, partition: u32, to: To) -> Operation {
        let topic = topic.to_owned();
        self.start(to, move |inner, _| async move {
            let stored = inner.consumer.committed(&topic, partition).await?;
            Ok(stored.map_or(Output::Nothing, |offset| Output::Value(Value::U64(offset))))
        })
    }

    /// The partitions it reads now: a list of records `{topic, partition}`.
    ///
    /// # Errors
    /// `FORKED`.
    pub fn assignments(&self) -> Result<Value> {
        Ok(self.inner.get()?.consumer.assignments().into_value())
    }

    /// The next change of what it reads: `Output::Change`, whose value is a record `{kind, partitions}`, or `Output::Nothing`
    /// when `timeout` has passed. Given up at any point, it loses nothing.
    pub fn next_change(&self, timeout: Option<Duration>, to: To) -> Operation {
        self.start(to, move |inner, _| async move {
            let change = inner.consumer.untold_change(timeout).await?;
            Ok(change.map_or(Output::Nothing, Output::Change))
        })
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

    /// Ends the subscriptions: `Output::Nothing`; who waits hears `CLOSED`. Inherited over fork there is nothing to do.
    pub fn close(&self, timeout: Duration, to: To) -> Operation {
        let inner = match self.inner.get() {
            Ok(inner) => inner,
            Err(_) => return Operation::settled(to, Ok(Output::Nothing)),
        };
        inner.state().held = None;
        match inner.client.runtime() {
            Ok(runtime) => {
                let inner = Arc::clone(inner);
                Operation::start(&runtime, to, |_| async move {
                    inner.consumer.close(timeout).await.map(|()| Output::Nothing)
                })
            }
            Err(_) => Operation::settled(to, Ok(Output::Nothing)),
        }
    }
}

impl State {
    fn holds(&self, which: PartitionRef<'_>) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_of(which))
    }
}

impl Held {
    fn is_of(&self, which: PartitionRef<'_>) -> bool {
        self.batch.partition() == which.partition && which.topic.is_none_or(|topic| topic == self.batch.topic())
    }

    /// Offset of the message at an index, or after the last.
    fn offset_at(&self, index: usize) -> u64 {
        self.batch.message(index).map_or(self.batch.next_offset(), |message| message.offset)
    }

    fn rest(&self) -> Batch {
        self.batch.part(self.next, usize::MAX)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Messages move out of it whole, so that a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, who: Waiting) -> Result<()> {
        let mut waiting = self.waiting();
        if !matches!(*waiting, Waiting::Nobody) {
            return Err(Error::new(ErrorCode::ConcurrentCall, "another receive is under way on this consumer"));
        }
        *waiting = who;
        Ok(())
    }

    fn disarm(&self) {
        let mut waiting = self.waiting();
        if matches!(*waiting, Waiting::Queue(..)) {
            *waiting = Waiting::Nobody;
        }
    }

    /// Tells the queue that waits, if one does still.
    fn announce(&self) {
        let waiting = match &*self.waiting() {
            Waiting::Queue(queue, token) => Some((queue.clone(), *token)),
            Waiting::Nobody | Waiting::Thread => None,
        };
        if let Some((queue, token)) = waiting {
            queue.push(Event::Ready { token });
        }
    }

    /// The batch that is held, unless its partition is read no more.
    fn held(&self, state: &mut State) -> Option<Held> {
        state.held.take().filter(|held| self.consumer.is_current(held.batch.core()))
    }

    /// Tells the core how much of a batch is handed out: what came before `first` is processed, since this is another call.
    fn hand_on(&self, held: &Held, first: usize) {
        if self.consumer.is_in_group() {
            let processed = (first != 0).then(|| held.offset_at(first));
            self.consumer.hand_on(held.batch.core(), processed, held.offset_at(held.next));
        }
    }

    fn take(&self, state: &mut State, max_messages: usize, max_bytes: usize) -> Result<Taken> {
        if let Some(mut held) = self.held(state)
            && max_messages != 0
        {
            let part = held.batch.part(held.next, max_messages);
            let first = held.next;
            held.next += part.message_count();
            self.hand_on(&held, first);
            if held.next < held.batch.message_count() {
                state.held = Some(held);
            }
            return Ok(Taken { batches: vec![part], more: true, finished: false });
        }
        let taken = self.consumer.try_take(max_messages, max_bytes)?;
        let batches = taken.batches.into_iter().map(Batch::new).collect();
        Ok(Taken { batches, more: taken.more, finished: taken.finished })
    }

    fn take_message(&self, state: &mut State) -> Result<TakenMessage> {
        let mut held = match self.held(state) {
            Some(held) => held,
            None => {
                // One byte is one batch.
                let taken = self.consumer.try_take(usize::MAX, 1)?;
                match taken.batches.into_iter().next() {
                    Some(batch) => Held { batch: Batch::new(batch), next: 0 },
                    None if taken.finished => return Ok(TakenMessage::Finished),
                    None => return Ok(TakenMessage::Nothing),
                }
            }
        };
        let (batch, index) = (held.batch.clone(), held.next);
        held.next += 1;
        self.hand_on(&held, index);
        if held.next < batch.message_count() {
            state.held = Some(held);
        }
        Ok(TakenMessage::Message(batch, index))
    }

    /// Looks, and waits and looks again, until there is something.
    fn wait_for<T>(
        &self,
        timeout: Option<Duration>,
        keep_waiting: KeepWaiting<'_>,
        mut look: impl FnMut(&mut State) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.begin(Waiting::Thread)?;
        let _ended = Ended(self);
        loop {
            let parker = Arc::new(Parker::default());
            let ready = Arc::clone(&parker);
            if let Some(found) = look(&mut self.state())? {
                return Ok(Some(found));
            }
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()).min(SLICE));
            if left.is_zero() {
                return Ok(None);
            }
            // Fires at once if something came since the look.
            self.consumer.arm(move || ready.unpark());
            parker.park(left);
            if !keep_waiting() {
                return Ok(None);
            }
        }
    }
}

fn read_offsets(offsets: Value) -> Result<Vec<PartitionOffset>> {
    let wrong =
        || Error::new(ErrorCode::ClientUsage, "offsets must be a list of records").with_detail("argument", "offsets");
    let Value::List(items) = offsets else { return Err(wrong()) };
    let read = |item| {
        let Value::Record(fields) = item else { return Err(wrong()) };
        let mut given = Arguments::new(fields, &["topic", "partition", "offset"])?;
        Ok(PartitionOffset {
            topic: given.require("topic")?,
            partition: given.require("partition")?,
            offset: given.require("offset")?,
        })
    };
    items.into_iter().map(read).collect()
}

/// A thread waits no more.
struct Ended<'a>(&'a Inner);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        *self.0.waiting() = Waiting::Nobody;
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}
