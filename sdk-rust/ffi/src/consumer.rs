//! A consumer: readiness first, then a take in the caller's own thread, so that giving up a wait cannot lose a message.
//!
//! Messages count as handed out when a take returns them. For takes of one message the rest of a batch is held here, and
//! given back to the core when its partition is sought or paused.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use levada::{ConsumerOptions, Error, ErrorCode, FromValue as _, Position, PositionKind, Result, Value};
use tokio::time::Instant;

use crate::batch::Batch;
use crate::client;
use crate::operation::{KeepWaiting, Operation, Output, SLICE, To};
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
        let inner = Inner { client, consumer, state: Mutex::default(), waiting: Mutex::default() };
        Ok(Consumer { inner: Handle::new(Kind::Consumer, Arc::new(inner)) })
    }

    /// The topic it reads, `stream/topic`.
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
    /// `PARTITION_NOT_FOUND` if this consumer does not read it; a usage error for a malformed position; `FORKED`.
    pub fn seek(&self, partition: u32, position: Value) -> Result<()> {
        let inner = self.inner.get()?;
        let position = Position::from_value("position", position)?;
        let mut state = inner.state();
        inner.consumer.seek(partition, position)?;
        if state.holds(partition) {
            state.held = None;
        }
        Ok(())
    }

    /// Stops handing out messages of a partition.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn pause(&self, partition: u32) -> Result<()> {
        let inner = self.inner.get()?;
        let mut state = inner.state();
        inner.consumer.pause(partition)?;
        if state.holds(partition)
            && let Some(held) = state.held.take()
        {
            let position = Position { kind: PositionKind::Offset, value: held.rest().first_offset() };
            inner.consumer.seek(partition, position)?;
        }
        Ok(())
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn resume(&self, partition: u32) -> Result<()> {
        self.inner.get()?.consumer.resume(partition)
    }

    /// Offset of the next message to be handed out; `None` until the server has told what the start came to.
    ///
    /// # Errors
    /// `FORKED`.
    pub fn position(&self, partition: u32) -> Result<Option<u64>> {
        let inner = self.inner.get()?;
        let state = inner.state();
        let held = state.held.as_ref().filter(|held| held.batch.partition() == partition);
        Ok(held.map(|held| held.rest().first_offset()).or_else(|| inner.consumer.position(partition)))
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
    fn holds(&self, partition: u32) -> bool {
        self.held.as_ref().is_some_and(|held| held.batch.partition() == partition)
    }
}

impl Held {
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

    fn take(&self, state: &mut State, max_messages: usize, max_bytes: usize) -> Result<Taken> {
        if let Some(mut held) = state.held.take()
            && max_messages != 0
        {
            let part = held.batch.part(held.next, max_messages);
            held.next += part.message_count();
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
        let mut held = match state.held.take() {
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
