//! The way from a shard back to a connection: a mailbox on the same core, a bounded channel from another one, and the
//! budget of bytes that may wait for the connection's socket.
//!
//! A connection has at most `max_requests_in_flight` unanswered requests and takes every delivery out of its budget first,
//! so neither way can overflow; a channel that is full all the same belongs to a connection that has stopped, and what is
//! sent there is dropped with it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};

use crate::broker::message::ToConnection;

/// A connection of this process: the shard that serves it in the upper 16 bits, a counter in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Messages a connection can have waiting from other cores: a reply for each request in flight, and deliveries of at least
/// [`MIN_CHARGE_BYTES`] each.
pub const REMOTE_INBOX_MESSAGES: usize = 4096;
/// What a delivery is charged at least, so that a budget bounds their number too.
pub const MIN_CHARGE_BYTES: usize = 4096;
/// Unit in which the budget of all connections together is counted, so that it fits a semaphore.
const SHARED_UNIT_BYTES: usize = 4096;

/// Replies and deliveries from shards on the connection's own core.
#[derive(Debug, Default)]
pub struct Mailbox {
    queue: RefCell<VecDeque<ToConnection>>,
    waker: RefCell<Option<Waker>>,
    parked_count: Cell<usize>,
}

impl Mailbox {
    /// Puts a message in and wakes the connection.
    pub fn push(&self, message: ToConnection) {
        self.queue.borrow_mut().push_back(message);
        self.wake();
    }

    /// The oldest message.
    pub fn pop(&self) -> Option<ToConnection> {
        self.queue.borrow_mut().pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Remembers whom to wake on the next message.
    pub fn listen(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
    }

    /// Produce requests of this connection that wait for their partition to take appends again. While there are any, the
    /// connection reads no more: what it would read waits in the kernel, and then in the producer.
    pub fn parked_count(&self) -> usize {
        self.parked_count.get()
    }

    pub(crate) fn park(&self) {
        self.parked_count.set(self.parked_count.get() + 1);
    }

    pub(crate) fn unpark(&self) {
        self.parked_count.set(self.parked_count.get().saturating_sub(1));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Where the answer to a request goes.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A connection of this core.
    Local(Rc<Mailbox>),
    /// A connection of another core.
    Remote(mpsc::Sender<ToConnection>),
}

impl Origin {
    /// Sends an answer or a delivery. Never waits; a connection that is gone takes nothing.
    pub fn send(&self, message: ToConnection) {
        match self {
            Self::Local(mailbox) => mailbox.push(message),
            Self::Remote(inbox) => drop(inbox.try_send(message)),
        }
    }

    pub(crate) fn park(&self) {
        if let Self::Local(mailbox) = self {
            mailbox.park();
        }
    }

    pub(crate) fn unpark(&self) {
        if let Self::Local(mailbox) = self {
            mailbox.unpark();
        }
    }
}

/// What all parties know about a connection, on any core.
#[derive(Debug)]
pub struct Link {
    /// Which connection.
    pub id: ConnectionId,
    /// Bytes that may wait for its socket.
    pub outbound: Outbound,
    closed: AtomicBool,
    close: Notify,
}

impl Link {
    /// Of a new connection.
    #[must_use]
    pub fn new(id: ConnectionId, outbound: Outbound) -> Self {
        Self { id, outbound, closed: AtomicBool::new(false), close: Notify::new() }
    }

    /// Tells every shard that works for the connection that it is gone.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.outbound.own.close();
        self.close.notify_waiters();
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Resolves when the connection is gone.
    pub async fn closed(&self) {
        let notified = self.close.notified();
        if !self.is_closed() {
            notified.await;
        }
    }
}

/// The budget of bytes that wait for a connection's socket, within the budget of all connections. First come, first
/// served: of many subscriptions of a connection each gets its turn.
#[derive(Debug)]
pub struct Outbound {
    own: Semaphore,
    own_bytes: usize,
    shared: Arc<SharedBudget>,
}

/// Bytes that all connections of the server together may hold: bodies being received and answers not yet sent.
#[derive(Debug)]
pub struct SharedBudget {
    units: Semaphore,
    total_units: usize,
}

impl SharedBudget {
    /// A budget of about `total_bytes`.
    #[must_use]
    pub fn new(total_bytes: u64) -> Arc<Self> {
        let total_units = usize::try_from(total_bytes).unwrap_or(usize::MAX) / SHARED_UNIT_BYTES;
        let total_units = total_units.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Arc::new(Self { units: Semaphore::new(total_units), total_units })
    }

    fn units_of(&self, bytes: usize) -> u32 {
        let units = bytes.div_ceil(SHARED_UNIT_BYTES).clamp(1, self.total_units);
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    /// Takes `bytes` now, if they are there.
    pub fn try_take(self: &Arc<Self>, bytes: usize) -> Option<SharedCharge> {
        let units = self.units_of(bytes);
        let permit = self.units.try_acquire_many(units).ok()?;
        permit.forget();
        Some(SharedCharge { budget: Arc::clone(self), units })
    }

    /// Takes `bytes` when they are there, in the order of asking.
    pub async fn take(self: &Arc<Self>, bytes: usize) -> SharedCharge {
        let units = self.units_of(bytes);
        if let Ok(permit) = self.units.acquire_many(units).await {
            permit.forget();
        }
        SharedCharge { budget: Arc::clone(self), units }
    }
}

/// Bytes taken from the shared budget; given back when dropped.
#[derive(Debug)]
pub struct SharedCharge {
    budget: Arc<SharedBudget>,
    units: u32,
}

impl SharedCharge {
    /// Gives back what is beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let units = self.budget.units_of(bytes).min(self.units);
        self.budget.units.add_permits((self.units - units) as usize);
        self.units = units;
    }
}

impl Drop for SharedCharge {
    fn drop(&mut self) {
        self.budget.units.add_permits(self.units as usize);
    }
}

/// Bytes of a delivery taken from the budgets. The part of the connection is given back with [`Outbound::give_back`] when
/// they have left through the socket.
#[derive(Debug)]
pub struct OutboundCharge {
    /// Bytes taken from the connection's own budget.
    pub own_bytes: usize,
    shared: SharedCharge,
}

impl Outbound {
    /// A budget of `own_bytes` for one connection.
    #[must_use]
    pub fn new(own_bytes: usize, shared: Arc<SharedBudget>) -> Self {
        let own_bytes = own_bytes.clamp(MIN_CHARGE_BYTES, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { own: Semaphore::new(own_bytes), own_bytes, shared }
    }

    /// Most bytes one [`Outbound::take`] can ask for.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.own_bytes
    }

    /// Takes room for `bytes` (at least [`MIN_CHARGE_BYTES`], at most all there is). `None`: the connection is gone.
    pub async fn take(&self, bytes: usize) -> Option<OutboundCharge> {
        let own_bytes = bytes.clamp(MIN_CHARGE_BYTES, self.own_bytes);
        let permits = u32::try_from(own_bytes).ok()?;
        let permit = match self.own.try_acquire_many(permits) {
            Ok(permit) => permit,
            Err(_) => self.own.acquire_many(permits).await.ok()?,
        };
        // The permit goes back by itself if the wait for the shared budget is abandoned.
        let shared = match self.shared.try_take(own_bytes) {
            Some(shared) => shared,
            None => self.shared.take(own_bytes).await,
        };
        SemaphorePermit::forget(permit);
        Some(OutboundCharge { own_bytes, shared })
    }

    /// Adjusts a charge to the bytes that turned out to be needed. More than was taken is not charged: one batch may
    /// overdraw.
    pub fn settle(&self, charge: &mut OutboundCharge, bytes: usize) {
        let own_bytes = bytes.clamp(MIN_CHARGE_BYTES, charge.own_bytes.max(MIN_CHARGE_BYTES));
        if own_bytes < charge.own_bytes {
            self.own.add_permits(charge.own_bytes - own_bytes);
            charge.own_bytes = own_bytes;
            charge.shared.shrink_to(own_bytes);
        }
    }

    /// Gives back a charge that was not used.
    pub fn cancel(&self, charge: OutboundCharge) {
        self.own.add_permits(charge.own_bytes);
    }

    /// Gives back bytes that have left through the socket.
    pub fn give_back(&self, own_bytes: usize) {
        self.own.add_permits(own_bytes);
    }
}
