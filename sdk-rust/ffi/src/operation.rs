//! An operation under way: waited for by its caller's thread, or announced in a queue; settled exactly once.
//!
//! Cancelling settles it at once with `CANCELLED` and drops its future. Whether it may have been applied is what its future
//! last said of itself through [`Progress`]. A future that is dropped by the end of the runtime settles with `CLOSED`.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use levada::{BatchReceipt, Error, ErrorCode, Receipt, Result, UntoldChange, Value};
use tokio::sync::Notify;

use crate::client::Client;
use crate::consumer::Consumer;
use crate::delivery::Delivery;
use crate::guard::Guarded;
use crate::into_value::IntoValue;
use crate::process::{Handle, Kind};
use crate::producer::Producer;
use crate::queue::{Event, Queue};

/// Asked at least ten times a second while a thread waits; `false` gives up waiting.
pub type KeepWaiting<'a> = &'a mut dyn FnMut() -> bool;

/// How long a thread waits before it asks whether to go on: a person's Ctrl-C must not feel late.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// Where an outcome goes.
#[derive(Debug)]
pub enum To {
    /// To whoever calls [`Operation::wait`].
    Here,
    /// To a queue, with the caller's token.
    Queue(Queue, u64),
}

/// What an operation gives.
#[derive(Debug)]
pub enum Output {
    /// Nothing but that it is done.
    Nothing,
    /// A connected client.
    Client(Client),
    /// A producer.
    Producer(Producer),
    /// A consumer.
    Consumer(Consumer),
    /// An acknowledgement to come.
    Delivery(Delivery),
    /// The answer to a control call.
    Value(Value),
    /// A change of what a member of a group reads. Dropped untold, it is the next one again.
    Change(UntoldChange),
    /// The acknowledgement of a message.
    Receipt(Receipt),
    /// The acknowledgements of messages sent together.
    Receipts(Vec<BatchReceipt>),
}

/// A change as a value, for a caller who is told of it now.
pub fn told(change: UntoldChange) -> Value {
    change.tell().into_value()
}

/// An operation under way. Dropping it forgets it; it goes on.
#[derive(Clone)]
pub struct Operation {
    inner: Handle<Inner>,
}

pub(crate) struct Inner {
    slot: Mutex<Slot>,
    settled: Condvar,
    cancelled: Notify,
    /// Whether it may have taken effect if it ended now.
    applied: AtomicBool,
    to: To,
}

enum Slot {
    Waiting,
    Settled(Result<Output>),
    Taken,
}

/// What a future says of itself while it runs.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Inner>);

impl Progress {
    /// From now on it may take effect although its caller hears an error.
    pub(crate) fn may_apply(&self) {
        self.0.applied.store(true, Ordering::Release);
    }
}

impl Operation {
    fn waiting(to: To) -> (Operation, Arc<Inner>) {
        let inner = Arc::new(Inner {
            slot: Mutex::new(Slot::Waiting),
            settled: Condvar::new(),
            cancelled: Notify::new(),
            applied: AtomicBool::new(false),
            to,
        });
        (Operation { inner: Handle::new(Kind::Operation, Arc::clone(&inner)) }, inner)
    }

    /// An operation whose outcome is known.
    pub(crate) fn settled(to: To, outcome: Result<Output>) -> Operation {
        let (operation, inner) = Operation::waiting(to);
        inner.settle(outcome);
        operation
    }

    /// Runs a future on the runtime.
    pub(crate) fn spawn<F>(runtime: &tokio::runtime::Handle, to: To, work: impl FnOnce(Progress) -> F) -> Operation
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        let (operation, inner) = Operation::waiting(to);
        let future = work(Progress(Arc::clone(&inner)));
        inner.spawn(runtime, future);
        operation
    }

    /// Polls a future in this thread first, and runs it on the runtime only if it must wait: for what seldom does.
    pub(crate) fn start<F>(runtime: &tokio::runtime::Handle, to: To, work: impl FnOnce(Progress) -> F) -> Operation
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        let (operation, inner) = Operation::waiting(to);
        let mut future = Box::pin(work(Progress(Arc::clone(&inner))));
        let polled = {
            let _entered = runtime.enter();
            future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        match polled {
            Poll::Ready(outcome) => inner.settle(outcome),
            Poll::Pending => inner.spawn(runtime, future),
        }
        operation
    }

    /// Waits for an acknowledgement without a task: whoever settles the batch settles the operation.
    pub(crate) fn deliver(to: To, delivery: levada::Delivery) -> Operation {
        let (operation, inner) = Operation::waiting(to);
        inner.applied.store(true, Ordering::Release);
        Arc::new(Awaited { delivery: Mutex::new(Some(delivery)), inner }).wake();
        operation
    }

    /// Waits for the outcome of an operation that was given [`To::Here`], until `timeout` if there is one, and as long as
    /// `keep_waiting` says so. `None` if it gave up: the operation goes on. The outcome is given once.
    pub fn wait(&self, timeout: Option<Duration>, keep_waiting: KeepWaiting<'_>) -> Option<Result<Output>> {
        let inner = match self.inner.get() {
            Ok(inner) => inner,
            Err(error) => return Some(Err(error)),
        };
        let mut left = timeout;
        loop {
            let slice = left.map_or(SLICE, |left| left.min(SLICE));
            if let Some(outcome) = inner.wait(slice) {
                return Some(outcome);
            }
            left = left.map(|left| left.saturating_sub(slice));
            if left.is_some_and(|left| left.is_zero()) || !keep_waiting() {
                return None;
            }
        }
    }

    /// Gives the operation up, unless it has ended: its outcome is `CANCELLED`. What was sent already may still take effect,
    /// and the error says so.
    pub fn cancel(&self) {
        if let Ok(inner) = self.inner.get() {
            let text = "the caller gave up waiting";
            let applied = inner.applied.load(Ordering::Acquire);
            inner.settle(Err(Error::new(ErrorCode::Cancelled, text).with_maybe_applied(applied)));
            inner.cancelled.notify_one();
        }
    }
}

impl Inner {
    fn spawn<F>(self: Arc<Self>, runtime: &tokio::runtime::Handle, future: F)
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        let ending = Ending(self);
        runtime.spawn(async move {
            let inner = Arc::clone(&ending.0);
            let future = Guarded(Box::pin(future));
            tokio::select! {
                biased;
                () = inner.cancelled.notified() => {}
                outcome = future => inner.settle(outcome),
            }
            drop(ending);
        });
    }

    /// The first outcome counts.
    fn settle(&self, outcome: Result<Output>) {
        let event = {
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            if !matches!(*slot, Slot::Waiting) {
                return;
            }
            match &self.to {
                To::Here => {
                    *slot = Slot::Settled(outcome);
                    None
                }
                To::Queue(queue, token) => {
                    *slot = Slot::Taken;
                    Some((queue, Event::Done { token: *token, outcome }))
                }
            }
        };
        match event {
            Some((queue, event)) => queue.push(event),
            None => self.settled.notify_all(),
        }
    }

    fn wait(&self, slice: Duration) -> Option<Result<Output>> {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut slot, _) = self
            .settled
            .wait_timeout_while(slot, slice, |slot| matches!(slot, Slot::Waiting))
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Taken) {
            Slot::Waiting => {
                *slot = Slot::Waiting;
                None
            }
            Slot::Settled(outcome) => Some(outcome),
            Slot::Taken => {
                Some(Err(Error::new(ErrorCode::ClientInternal, "the outcome of this operation was taken already")))
            }
        }
    }
}

/// Settles an operation whose task ends without an outcome, because the runtime ended.
struct Ending(Arc<Inner>);

impl Drop for Ending {
    fn drop(&mut self) {
        let applied = self.0.applied.load(Ordering::Acquire);
        let error = Error::new(ErrorCode::Closed, "the client was closed while this was under way");
        self.0.settle(Err(error.with_maybe_applied(applied)));
    }
}

/// A delivery that settles an operation when it is woken.
struct Awaited {
    delivery: Mutex<Option<levada::Delivery>>,
    inner: Arc<Inner>,
}

impl Wake for Awaited {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut place = self.delivery.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(delivery) = place.as_mut() else { return };
        if let Poll::Ready(outcome) = pin!(delivery).poll(&mut Context::from_waker(&waker)) {
            place.take();
            drop(place);
            self.inner.settle(outcome.map(Output::Receipt));
        }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").finish_non_exhaustive()
    }
}
