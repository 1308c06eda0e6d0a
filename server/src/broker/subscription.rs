//! A subscription on the shard that owns its partition: credit → data → room → read → deliver, in `Subscription::push`.
//!
//! One task each, asleep on whichever of the four it lacks. Catching up and following the end are the same loop: what is
//! cached is read at once, what is not from the disk. Room is taken first come, first served, so the subscriptions of a
//! connection take turns.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{Credit, Deliver, Subscribe, Subscribed, Unsubscribe};
use levada_storage::Partition;
use tokio::sync::Notify;

use crate::broker::fetch;
use crate::broker::link::{ConnectionId, Link, Origin};
use crate::broker::message::{DataReply, Delivery, ToConnection};
use crate::broker::partition::PartitionSlot;
use crate::broker::position;
use crate::broker::readable::Readable;
use crate::broker::shard::{Caller, Shard};
use crate::failure::Failure;

/// Bytes of one Deliver, unless a single batch is larger: large enough that its costs vanish, small enough that replies
/// and other subscriptions get a word in.
const DELIVER_BYTES: usize = 1 << 20;

/// A live subscription.
#[derive(Debug)]
pub struct Subscription {
    id: u32,
    /// Stored bytes that may still be sent; below zero after an overdraft.
    credit_bytes: Cell<i64>,
    cancelled: Cell<bool>,
    /// Told when credit comes or the subscription is cancelled.
    signal: Notify,
    origin: Origin,
    link: Arc<Link>,
    readable: Readable,
}

/// Why a push ends.
enum End {
    /// The client ended it, or is gone: nothing more is sent.
    Cancelled,
    /// The server ends it.
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<levada_storage::ReadError> for End {
    fn from(error: levada_storage::ReadError) -> Self {
        Self::Failed(error.into())
    }
}

impl Shard {
    /// Begins a push. Credit and its end are known from now on, even while the position is being looked up.
    pub(super) fn subscribe(self: &Rc<Self>, caller: &Caller<'_>, correlation: u32, request: Subscribe) {
        let key = (caller.link.id, request.subscription);
        let subscription = Rc::new(Subscription {
            id: request.subscription,
            credit_bytes: Cell::new(saturated(request.credit_bytes)),
            cancelled: Cell::new(false),
            signal: Notify::new(),
            origin: caller.origin.clone(),
            link: Arc::clone(caller.link),
            readable: caller.readable,
        });
        if self.subscriptions.borrow().contains_key(&key) {
            let failure = Failure::because(ErrorCode::Conflict, "the subscription id is in use on this connection");
            return caller.origin.send(ToConnection::Failed(correlation, failure));
        }
        self.subscriptions.borrow_mut().insert(key, Rc::clone(&subscription));
        let shard = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let end = tokio::select! {
                biased;
                end = shard.run_subscription(&subscription, correlation, &request) => end,
                () = subscription.link.closed() => End::Cancelled,
            };
            shard.forget(key, &subscription);
            if let End::Failed(failure) = end
                && !subscription.cancelled.get()
            {
                subscription.origin.send(ToConnection::Ended(subscription.id, Box::new(failure)));
            }
        });
    }

    /// Looks up the position, answers, and pushes until there is a reason to end.
    async fn run_subscription(&self, subscription: &Subscription, correlation: u32, request: &Subscribe) -> End {
        let start = async {
            let slot = self.slot(request.topic_id, request.partition)?;
            let log = slot.log()?;
            let (start, marks) = position::resolve(&log, &request.position, request.epoch).await?;
            Ok::<_, Failure>((slot, log, start, marks))
        };
        let (slot, log, start, marks) = match start.await {
            Ok(found) => found,
            Err(failure) => {
                subscription.origin.send(ToConnection::Failed(correlation, failure));
                return End::Cancelled;
            }
        };
        let reply = Subscribed {
            start_offset: start,
            log_start_offset: marks.log_start_offset,
            visible_end_offset: marks.visible_end_offset,
            leader_epoch: marks.leader_epoch,
        };
        subscription.origin.send(ToConnection::Reply(correlation, DataReply::Subscribed(reply)));
        match subscription.push(&slot, &log, start).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// Lets a push go on. Unknown ones have just ended.
    pub(super) fn credit(&self, connection: ConnectionId, credit: &Credit) {
        if let Some(subscription) = self.subscriptions.borrow().get(&(connection, credit.subscription)) {
            let left = subscription.credit_bytes.get();
            subscription.credit_bytes.set(left.saturating_add(saturated(credit.credit_bytes)));
            subscription.signal.notify_one();
        }
    }

    /// Ends a push: nothing of it is sent from here on.
    pub(super) fn unsubscribe(&self, caller: &Caller<'_>, correlation: u32, request: &Unsubscribe) {
        let ended = self.subscriptions.borrow_mut().remove(&(caller.link.id, request.subscription));
        caller.origin.send(match ended {
            Some(subscription) => {
                subscription.cancelled.set(true);
                subscription.signal.notify_one();
                ToConnection::Reply(correlation, DataReply::Unsubscribed(request.subscription))
            }
            None => ToConnection::Failed(correlation, not_found(request.subscription)),
        });
    }

    /// Ends a push without a word: the connection has said why.
    pub(super) fn cut(&self, connection: ConnectionId, subscription: u32) {
        if let Some(subscription) = self.subscriptions.borrow_mut().remove(&(connection, subscription)) {
            subscription.cancelled.set(true);
            subscription.signal.notify_one();
        }
    }

    /// Takes an ended subscription off the list, unless its id names another one by now.
    fn forget(&self, key: (ConnectionId, u32), subscription: &Rc<Subscription>) {
        let mut subscriptions = self.subscriptions.borrow_mut();
        if subscriptions.get(&key).is_some_and(|known| Rc::ptr_eq(known, subscription)) {
            subscriptions.remove(&key);
        }
    }
}

impl Subscription {
    /// The push itself.
    async fn push(
        &self,
        slot: &PartitionSlot,
        log: &Rc<Partition>,
        start: u64,
    ) -> Result<std::convert::Infallible, End> {
        let mut offset = start;
        loop {
            let credit_bytes = self.credit().await?;
            self.data_beyond(slot, log, offset).await?;
            let wanted = DELIVER_BYTES.min(self.link.outbound.max_bytes()).min(credit_bytes);
            let mut charge = self.link.outbound.take(wanted).await.ok_or(End::Cancelled)?;
            let outcome = self.read(slot, log, offset, wanted).await;
            let read = match outcome {
                Ok(read) => read,
                Err(end) => {
                    self.link.outbound.cancel(charge);
                    return Err(end);
                }
            };
            self.link.outbound.settle(&mut charge, read.total_bytes);
            offset = read.next_offset;
            self.credit_bytes.set(self.credit_bytes.get().saturating_sub(saturated(read.total_bytes as u64)));
            let marks = log.watermarks();
            let head = Deliver {
                subscription: self.id,
                log_start_offset: marks.log_start_offset,
                visible_end_offset: marks.visible_end_offset,
            };
            let delivery = Delivery { head, slices: read.slices, charge };
            self.origin.send(ToConnection::Deliver(Box::new(delivery)));
        }
    }

    async fn read(
        &self,
        slot: &PartitionSlot,
        log: &Rc<Partition>,
        offset: u64,
        wanted: usize,
    ) -> Result<levada_storage::ReadBatches, End> {
        let read = match fetch::read(log, offset, wanted).await {
            Ok(read) => read,
            // A closed log has a better reason than that it is closed.
            Err(error) => return Err(slot.ended().map_or_else(|| error.into(), End::Failed)),
        };
        if self.cancelled.get() {
            return Err(End::Cancelled);
        }
        Ok(fetch::readable_part(read, self.readable)?)
    }

    /// Waits for credit and tells how much there is.
    async fn credit(&self) -> Result<usize, End> {
        loop {
            if self.cancelled.get() {
                return Err(End::Cancelled);
            }
            match usize::try_from(self.credit_bytes.get()) {
                Ok(credit_bytes) if 0 < credit_bytes => return Ok(credit_bytes),
                _ => self.signal.notified().await,
            }
        }
    }

    /// Waits until a message at `offset` is visible.
    async fn data_beyond(&self, slot: &PartitionSlot, log: &Partition, offset: u64) -> Result<(), End> {
        loop {
            let moved = slot.progress.notified();
            if self.cancelled.get() {
                return Err(End::Cancelled);
            }
            if let Some(failure) = slot.ended() {
                return Err(failure.into());
            }
            if offset < log.watermarks().visible_end_offset {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = moved => {}
                () = self.signal.notified() => {}
            }
        }
    }
}

fn not_found(subscription: u32) -> Failure {
    let message = format!("no subscription {subscription} on this connection");
    Failure::because(ErrorCode::SubscriptionNotFound, message).with("subscription", subscription)
}

fn saturated(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
