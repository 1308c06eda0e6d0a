//! `levada status`: figures of all shards together.

use levada_protocol::messages::ServerStatus;
use levada_storage::disk::Space;

use super::shards::ShardFigures;
use crate::metadata::Snapshot;

/// Read-only partitions told of at most.
const MAX_READ_ONLY: usize = 100;

/// What does not come from shards or metadata.
pub(super) struct Surroundings {
    pub(super) uptime_ms: u64,
    pub(super) disk_backend: &'static str,
    pub(super) space: Space,
}

pub(super) fn status(snapshot: &Snapshot, shards: &[ShardFigures], around: &Surroundings) -> ServerStatus {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let worst = |figure: fn(&ShardFigures) -> u32| shards.iter().map(figure).max().unwrap_or(0);
    let partitions: u64 = snapshot.topics.values().map(|topic| u64::from(topic.options.partition_count)).sum();
    ServerStatus {
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        node_id: snapshot.node_id,
        uptime_ms: around.uptime_ms,
        shard_count: u16::try_from(shards.len()).unwrap_or(u16::MAX),
        disk_backend: around.disk_backend.to_owned(),
        stream_count: count(snapshot.streams.len()),
        topic_count: count(snapshot.topics.len()),
        partition_count: u32::try_from(partitions).unwrap_or(u32::MAX),
        connection_count: shards.iter().map(|shard| shard.connection_count).sum(),
        subscription_count: shards.iter().map(|shard| shard.subscription_count).sum(),
        disk_total_bytes: around.space.total_bytes,
        disk_free_bytes: around.space.free_bytes,
        cache_bytes: shards.iter().map(|shard| shard.cache_bytes).sum(),
        appended_bytes: shards.iter().map(|shard| shard.appended_bytes).sum(),
        flush_count: shards.iter().map(|shard| shard.flush_count).sum(),
        flush_p50_us: worst(|shard| shard.flush_p50_us),
        flush_p99_us: worst(|shard| shard.flush_p99_us),
        read_only_partitions: shards
            .iter()
            .flat_map(|shard| shard.read_only.iter().cloned())
            .take(MAX_READ_ONLY)
            .collect(),
    }
}
