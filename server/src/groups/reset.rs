//! Setting stored offsets to a position: which partitions are meant, and what the position comes to in each.

use std::sync::Arc;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{OffsetChange, Position, PositionKind, ResetOffsets, ResolvePosition};

use super::catalog::Catalog;
use super::machine::Machine;
use super::record::PartitionOffset;
use crate::broker::{ShardHandle, routing};
use crate::failure::Failure;
use crate::pattern::TopicPattern;

/// A partition and what the reset does to it, offset unknown yet.
pub(super) type Meant = (u32, OffsetChange);

/// The partitions of a request.
///
/// # Errors
/// `INVALID_ARGUMENT`, `INVALID_NAME`, `TOPIC_NOT_FOUND`.
pub(super) fn meant(group: Option<&Machine>, catalog: &Catalog, request: &ResetOffsets) -> Result<Vec<Meant>, Failure> {
    if request.position.kind == PositionKind::Stored {
        return Err(Failure::invalid("position", "stored offsets cannot be reset to what is stored"));
    }
    if request.topics.is_empty() {
        return Err(Failure::invalid("topics", "which topics?"));
    }
    let mut meant = Vec::new();
    let patterns = request.topics.iter().map(|text| TopicPattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
    for pattern in &patterns {
        let is_found = catalog.topics().any(|(_, topic)| pattern.matches(&topic.stream, topic.name()));
        if !is_found && !pattern.as_str().contains('*') {
            let message = format!("no topic {}", pattern.as_str());
            return Err(Failure::because(ErrorCode::TopicNotFound, message).with("topic", pattern.as_str()));
        }
    }
    for (topic_id, topic) in catalog.topics() {
        if !patterns.iter().any(|pattern| pattern.matches(&topic.stream, topic.name())) {
            continue;
        }
        for partition in 0..topic.partition_count() {
            if request.partition.is_some_and(|only| only != partition) {
                continue;
            }
            let stored = group.and_then(|group| group.state().offsets.get(&(topic_id, partition)));
            let change = OffsetChange {
                stream: topic.stream.to_string(),
                topic: topic.name().to_owned(),
                partition,
                before: stored.map(|stored| stored.offset),
                after: 0,
            };
            meant.push((topic_id, change));
        }
    }
    meant.sort_by(|(_, a), (_, b)| (&a.stream, &a.topic, a.partition).cmp(&(&b.stream, &b.topic, b.partition)));
    Ok(meant)
}

/// Asks the shards what the position comes to.
pub(super) async fn resolve(
    shards: Arc<[ShardHandle]>,
    position: Position,
    mut meant: Vec<Meant>,
) -> Result<Vec<Meant>, Failure> {
    let shard_count = u16::try_from(shards.len()).unwrap_or(u16::MAX);
    let is_offset = position.kind == PositionKind::Offset;
    for (topic_id, change) in &mut meant {
        let shard = &shards[usize::from(routing::shard_of(*topic_id, change.partition, shard_count))];
        let asked = if is_offset { Position::EARLIEST } else { position.clone() };
        let request =
            ResolvePosition { topic_id: *topic_id, partition: change.partition, position: asked, group: None };
        let resolved = shard.resolve(request).await?;
        change.after = if is_offset {
            position.value.clamp(resolved.log_start_offset, resolved.visible_end_offset)
        } else {
            resolved.offset
        };
    }
    Ok(meant)
}

/// What is to be stored.
pub(super) fn to_store(meant: &[Meant]) -> Vec<PartitionOffset> {
    let offset = |(topic_id, change): &Meant| PartitionOffset {
        topic_id: *topic_id,
        partition: change.partition,
        offset: change.after,
        epoch: None,
    };
    meant.iter().map(offset).collect()
}
