//! Which shard owns a partition, and the ways to the other shards. Nothing here ever waits for another core: a full inbox is
//! `OVERLOADED`.

use std::sync::Arc;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::messages::{Durability, PartitionInfo, Position, PositionResolved, Produce, ResolvePosition};
use tokio::sync::{mpsc, oneshot};

use crate::broker::link::{ConnectionId, Link, Outbound, SharedBudget};
use crate::broker::message::{DataRequest, ShardMessage, ToConnection};
use crate::broker::readable::Readable;
use crate::broker::status::ShardStatus;
use crate::failure::Failure;
use crate::metadata::Snapshot;

/// Messages that wait for a shard. Each may hold a batch, which is charged to its connection.
const INBOX_MESSAGES: usize = 1024;

/// The receiving end of a shard's inbox.
#[derive(Debug)]
pub struct ShardInbox(pub(super) mpsc::Receiver<ShardMessage>);

/// The way to a shard from any core.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    inbox: mpsc::Sender<ShardMessage>,
}

impl ShardHandle {
    /// Handle and inbox of a shard to be started.
    #[must_use]
    pub fn channel() -> (Self, ShardInbox) {
        let (inbox, receiver) = mpsc::channel(INBOX_MESSAGES);
        (Self { inbox }, ShardInbox(receiver))
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// `OVERLOADED` or `SHUTTING_DOWN`; nothing was sent.
    pub fn try_send(&self, message: ShardMessage) -> Result<(), Failure> {
        self.inbox.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::new(ErrorCode::Overloaded),
            mpsc::error::TrySendError::Closed(_) => Failure::new(ErrorCode::ShuttingDown),
        })
    }

    /// Has the shard install a version of metadata, and waits until it has. Waits for room in the inbox: for the control
    /// thread only.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub async fn install(&self, snapshot: Arc<Snapshot>) -> Result<(), Failure> {
        self.ask(|reply| ShardMessage::Install(snapshot, reply)).await
    }

    /// The shard's partitions of a topic, by number. For the control thread only.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub async fn describe(&self, topic_id: u32) -> Result<Vec<PartitionInfo>, Failure> {
        self.ask(|reply| ShardMessage::Describe(topic_id, reply)).await?
    }

    /// What a position comes to in a partition of this shard. For the control thread only.
    ///
    /// # Errors
    /// As for the request.
    pub async fn resolve(&self, request: ResolvePosition) -> Result<PositionResolved, Failure> {
        self.ask(|reply| ShardMessage::Resolve(request, reply)).await?
    }

    /// Durably deletes every message visible now. Partitions of other shards are none of its business. For the control
    /// thread only.
    ///
    /// # Errors
    /// What the log says, of the first partition that refuses.
    pub async fn purge(&self, topic_id: u32, partition: Option<u32>) -> Result<(), Failure> {
        self.ask(|reply| ShardMessage::Purge { topic_id, partition, reply }).await?
    }

    /// Durably deletes the messages of a partition before a position; gives the new log start. For the control thread
    /// only.
    ///
    /// # Errors
    /// What the position or the log says.
    pub async fn trim(&self, topic_id: u32, partition: u32, before: Position) -> Result<u64, Failure> {
        self.ask(|reply| ShardMessage::Trim { topic_id, partition, before, reply }).await?
    }

    /// Appends a batch of no producer, the server's own; returns when it is as durable as its topic says. For the control
    /// thread only.
    ///
    /// # Errors
    /// What a Produce is answered.
    pub async fn append(&self, topic_id: u32, partition: u32, batch: Bytes) -> Result<(), Failure> {
        let (reply_to, mut replies) = mpsc::channel(1);
        // Nothing but the one answer is ever sent back, so the budget is never asked.
        let link = Arc::new(Link::new(ConnectionId(u64::MAX), Outbound::new(1, SharedBudget::new(1))));
        let produce = Produce { topic_id, partition, durability: Durability::Memory };
        let request = DataRequest::Produce(produce, batch);
        let readable = Readable::default();
        self.try_send(ShardMessage::Request { correlation: 1, request, reply_to, link, readable })?;
        match replies.recv().await {
            Some(ToConnection::Reply(..)) => Ok(()),
            Some(ToConnection::Failed(_, failure)) => Err(failure),
            _ => Err(Failure::new(ErrorCode::ShuttingDown)),
        }
    }

    /// Figures. For the control thread only.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub async fn status(&self) -> Result<ShardStatus, Failure> {
        self.ask(ShardMessage::Status).await
    }

    /// Lets [`crate::broker::Shard::run`] return. For the control thread only.
    pub async fn shut_down(&self) {
        // A closed inbox is a shard that has returned already.
        drop(self.inbox.send(ShardMessage::Shutdown).await);
    }

    /// Sends a notice that must arrive. Waits for room in the inbox: for tasks of their own only, never in a core's loop.
    pub async fn send_notice(
        &self,
        request: DataRequest,
        reply_to: mpsc::Sender<ToConnection>,
        link: Arc<Link>,
        readable: Readable,
    ) {
        let message = ShardMessage::Request { correlation: 0, request, reply_to, link, readable };
        // A closed inbox is a shard that takes no more part.
        drop(self.inbox.send(message).await);
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> ShardMessage) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let closed = || Failure::new(ErrorCode::ShuttingDown);
        self.inbox.send(message(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }
}

/// All shards, and which of them this one is.
#[derive(Clone, Debug)]
pub struct Routes {
    shard: u16,
    shards: Arc<[ShardHandle]>,
}

/// Where a partition lives.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// On this core.
    Here,
    /// On another one.
    There(&'a ShardHandle),
}

impl Routes {
    /// The routes as seen from `shard`, which is one of `shards`.
    #[must_use]
    pub fn new(shard: u16, shards: Arc<[ShardHandle]>) -> Self {
        Self { shard, shards }
    }

    /// This shard.
    #[must_use]
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// How many there are.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    /// The shard that owns a partition: the same on every core and at every start with the same number of shards.
    #[must_use]
    pub fn shard_of(&self, topic_id: u32, partition: u32) -> u16 {
        shard_of(topic_id, partition, self.shard_count())
    }

    /// Whether this shard owns a partition.
    #[must_use]
    pub fn is_here(&self, topic_id: u32, partition: u32) -> bool {
        self.shard_of(topic_id, partition) == self.shard
    }

    /// Where a partition lives.
    #[must_use]
    pub fn owner(&self, topic_id: u32, partition: u32) -> Owner<'_> {
        self.at(self.shard_of(topic_id, partition))
    }

    /// A shard by number.
    #[must_use]
    pub fn at(&self, shard: u16) -> Owner<'_> {
        if shard == self.shard { Owner::Here } else { Owner::There(&self.shards[usize::from(shard)]) }
    }
}

/// Spreads the partitions of a topic evenly: neighbours live on different shards, and topics begin at different ones.
#[must_use]
pub fn shard_of(topic_id: u32, partition: u32, shard_count: u16) -> u16 {
    let spread = u64::from(topic_id).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let shard = (spread + u64::from(partition)) % u64::from(shard_count.max(1));
    u16::try_from(shard).expect("less than the number of shards")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_topic_are_spread_evenly() {
        for topic in 1..50 {
            let mut counts = [0; 4];
            for partition in 0..40 {
                counts[usize::from(shard_of(topic, partition, 4))] += 1;
            }
            assert_eq!(counts, [10; 4]);
        }
    }

    #[test]
    fn single_partition_topics_do_not_all_meet_on_one_shard() {
        let on_first = (1..1001).filter(|topic| shard_of(*topic, 0, 2) == 0).count();
        assert!((400..600).contains(&on_first), "{on_first}");
    }
}
