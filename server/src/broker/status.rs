//! Figures of a shard for `levada status`.

use crate::broker::shard::Shard;

/// Figures of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStatus {
    /// Partitions it owns.
    pub partition_count: u32,
    /// Live subscriptions on them.
    pub subscription_count: u32,
    /// Name of its disk backend.
    pub disk_backend: &'static str,
    /// Bytes in its cache.
    pub cache_bytes: u64,
    /// Bytes of batches appended since start.
    pub appended_bytes: u64,
    /// Durable commits since start.
    pub flush_count: u64,
    /// Recent time of a durable commit, one figure per partition that had any, microseconds.
    pub flush_latencies_us: Vec<u64>,
    /// Partitions that take no appends, and why.
    pub read_only: Vec<ReadOnly>,
    /// Free bytes of the file system at the last look.
    pub disk_free_bytes: u64,
}

/// A partition that takes no appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnly {
    /// Topic.
    pub topic_id: u32,
    /// Its number.
    pub partition: u32,
    /// Why.
    pub reason: String,
}

impl Shard {
    /// Figures now.
    #[must_use]
    pub fn status(&self) -> ShardStatus {
        let storage = self.storage.status();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut status = ShardStatus {
            partition_count: count(self.slots.borrow().len()),
            subscription_count: count(self.subscriptions.borrow().len()),
            disk_backend: self.storage.disk().backend(),
            cache_bytes: storage.cache_bytes,
            disk_free_bytes: storage.free_bytes,
            ..ShardStatus::default()
        };
        for slot in self.slots.borrow().values() {
            status.appended_bytes += slot.appended_bytes.get();
            let reason = match slot.log() {
                Ok(log) => {
                    let partition = log.status();
                    status.flush_count += partition.commit_count;
                    if 0 < partition.commit_count {
                        status.flush_latencies_us.push(partition.flush_latency_us);
                    }
                    partition.read_only.map(|reason| reason.to_string())
                }
                Err(failure) => Some(failure.message),
            };
            if let Some(reason) = reason {
                status.read_only.push(ReadOnly { topic_id: slot.topic_id, partition: slot.partition, reason });
            }
        }
        status
    }
}
