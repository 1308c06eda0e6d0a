//! All that can be asked of a shard, and all that a shard tells a connection.

use std::sync::Arc;

use bytes::Bytes;
use levada_protocol::messages::{
    Credit, Deliver, Fetch, Fetched, GoodbyeReason, PartitionInfo, Position, PositionResolved, Produce, ProduceAck,
    ReadSequences, ResolvePosition, SequencesRead, Subscribe, Subscribed, Unsubscribe,
};
use tokio::sync::{mpsc, oneshot};

use crate::broker::link::{Link, OutboundCharge};
use crate::broker::readable::Readable;
use crate::broker::status::ShardStatus;
use crate::failure::Failure;
use crate::metadata::Snapshot;

/// A request about messages, on its way to the shard that owns the partition.
#[derive(Clone, Debug)]
pub enum DataRequest {
    /// Append a batch: its producer part and body.
    Produce(Produce, Bytes),
    /// Read once.
    Fetch(Fetch),
    /// Start a push.
    Subscribe(Subscribe),
    /// Let a push go on.
    Credit(Credit),
    /// End a push.
    Unsubscribe(Unsubscribe),
    /// End a push whose assignment is gone. A notice: nobody waits for an answer.
    Cut(u32),
    /// What a position comes to.
    ResolvePosition(ResolvePosition),
    /// How far a producer has come.
    ReadSequences(ReadSequences),
}

/// Everything that reaches a shard.
#[derive(Debug)]
pub enum ShardMessage {
    /// A request of a connection on another core.
    Request {
        /// Of the request; 0 in notices.
        correlation: u32,
        /// What is asked.
        request: DataRequest,
        /// Where the answer goes.
        reply_to: mpsc::Sender<ToConnection>,
        /// The connection.
        link: Arc<Link>,
        /// What its client can read.
        readable: Readable,
    },
    /// A new version of metadata; answered when it is installed.
    Install(Arc<Snapshot>, oneshot::Sender<()>),
    /// This shard's partitions of a topic, by number.
    Describe(u32, oneshot::Sender<Result<Vec<PartitionInfo>, Failure>>),
    /// What a position comes to.
    Resolve(ResolvePosition, oneshot::Sender<Result<PositionResolved, Failure>>),
    /// Delete every visible message of a topic's partitions here, or of one of them.
    Purge {
        /// Which topic.
        topic_id: u32,
        /// Which partition; `None` is all.
        partition: Option<u32>,
        /// Answered when the new log start is durable.
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    /// Delete the messages of a partition before a position.
    Trim {
        /// Which topic.
        topic_id: u32,
        /// Which partition.
        partition: u32,
        /// The first that stays.
        before: Position,
        /// Answered with the new log start when that is durable.
        reply: oneshot::Sender<Result<u64, Failure>>,
    },
    /// Figures.
    Status(oneshot::Sender<ShardStatus>),
    /// Take no more requests; [`crate::broker::Shard::run`] returns.
    Shutdown,
}

/// What a shard tells a connection.
#[derive(Debug)]
pub enum ToConnection {
    /// The answer to a request.
    Reply(u32, DataReply),
    /// A request failed.
    Failed(u32, Failure),
    /// Batches of a subscription.
    Deliver(Box<Delivery>),
    /// A shard ended a subscription.
    Ended(u32, Box<Failure>),
    /// Credit of a client whose quota was used up when it came.
    Credit(Credit),
    /// Somebody's rights have changed: what is under way may no longer be allowed.
    AccessChanged,
    /// The connection is to be closed once the requests that change something are answered.
    Goodbye(GoodbyeReason, &'static str),
    /// The control thread answered an administrative request.
    Admin(u32, Result<Box<crate::admin::AdminReply>, Failure>),
    /// The owner of groups knows whether the assignment of a subscription is live, and what is stored for it.
    GroupPosition(u32, Result<Option<crate::groups::StoredPosition>, Failure>),
    /// Something changed for a member that the connection speaks for.
    Group(Box<crate::groups::Push>),
    /// The control thread knows now whom the connection speaks for.
    Session(u32, Box<crate::auth::Session>),
}

/// Answers to requests about messages.
#[derive(Debug)]
pub enum DataReply {
    /// The receipt of a batch.
    ProduceAck(ProduceAck),
    /// Batches read once.
    Fetched(Box<FetchedBatches>),
    /// A push has begun.
    Subscribed(Subscribed),
    /// A push has ended; nothing of it may follow.
    Unsubscribed(u32),
    /// What a position came to.
    PositionResolved(PositionResolved),
    /// How far a producer has come.
    SequencesRead(SequencesRead),
}

/// Batches of a Fetch.
#[derive(Debug)]
pub struct FetchedBatches {
    /// The reply.
    pub head: Fetched,
    /// Whole batches.
    pub slices: Vec<Bytes>,
    /// Room taken for them.
    pub charge: Option<OutboundCharge>,
}

/// Batches of a subscription.
#[derive(Debug)]
pub struct Delivery {
    /// The push.
    pub head: Deliver,
    /// Whole batches.
    pub slices: Vec<Bytes>,
    /// Room taken for them.
    pub charge: OutboundCharge,
}
