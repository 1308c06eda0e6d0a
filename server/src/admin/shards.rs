//! What the owner of metadata asks of all shards together.

use std::sync::Arc;

use bytes::Bytes;
use levada_protocol::messages::{PartitionInfo, Position, ReadOnlyPartition};
use levada_storage::disk::LocalFuture;

use crate::failure::Failure;
use crate::metadata::Snapshot;

/// Figures of one shard. Counts and sums since start unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct ShardFigures {
    /// Connections served now.
    pub connection_count: u32,
    /// Subscriptions now.
    pub subscription_count: u32,
    /// Bytes in the cache now.
    pub cache_bytes: u64,
    /// Bytes appended.
    pub appended_bytes: u64,
    /// Commits flushed.
    pub flush_count: u64,
    /// Recent flush latency, median, microseconds.
    pub flush_p50_us: u32,
    /// Recent flush latency, 99th percentile, microseconds.
    pub flush_p99_us: u32,
    /// Partitions that refuse appends.
    pub read_only: Vec<ReadOnlyPartition>,
}

/// All shards. A shard that has stopped counts as having answered.
pub trait Shards {
    /// How many there are.
    fn count(&self) -> u16;
    /// Installs a version on every shard.
    fn install(&self, snapshot: Arc<Snapshot>) -> LocalFuture<'_, ()>;
    /// A topic's partitions, by number.
    fn describe(&self, topic_id: u32) -> LocalFuture<'_, Result<Vec<PartitionInfo>, Failure>>;
    /// Deletes every visible message of a topic's partitions, or of one of them.
    fn purge(&self, topic_id: u32, partition: Option<u32>) -> LocalFuture<'_, Result<(), Failure>>;
    /// Deletes the messages of a partition before a position, durably; gives the new log start.
    fn trim(&self, topic_id: u32, partition: u32, before: Position) -> LocalFuture<'_, Result<u64, Failure>>;
    /// Appends a batch of no producer; returns when it is as durable as its topic says.
    fn append(&self, topic_id: u32, partition: u32, batch: Bytes) -> LocalFuture<'_, Result<(), Failure>>;
    /// Figures of every shard.
    fn figures(&self) -> LocalFuture<'_, Vec<ShardFigures>>;
}
