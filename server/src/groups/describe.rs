//! What can be read of groups: lists, descriptions with lag, stored offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use levada_protocol::messages::{
    GroupDescribed, GroupInfo, GroupPartitionInfo, GroupState, MemberInfo, OffsetsRead, PartitionInfo, StoredOffset,
};

use super::assign::Key;
use super::catalog::Catalog;
use super::machine::Machine;
use super::strategy;
use crate::broker::ShardHandle;
use crate::failure::Failure;
use crate::pattern::TopicPattern;

pub(super) fn info(group: &Machine) -> GroupInfo {
    let state = group.state();
    let partition_count = u32::try_from(partitions(group).len()).unwrap_or(u32::MAX);
    GroupInfo {
        group: group.name().to_owned(),
        state: match (state.members.is_empty(), group.is_settled()) {
            (true, _) => GroupState::Empty,
            (false, true) => GroupState::Stable,
            (false, false) => GroupState::Moving,
        },
        strategy: strategy::to_wire(state.strategy),
        generation: state.generation,
        member_count: u32::try_from(state.members.len()).unwrap_or(u32::MAX),
        partition_count,
    }
}

fn partitions(group: &Machine) -> BTreeSet<Key> {
    group.read_partitions().chain(group.state().offsets.keys().copied()).collect()
}

/// A description whose partitions know nothing of their logs yet, and their topics, which do.
pub(super) fn describe(group: &Machine, catalog: &Catalog) -> (GroupDescribed, Vec<(u32, GroupPartitionInfo)>) {
    let state = group.state();
    let members = state.members.iter().map(|(id, member)| MemberInfo {
        member: id.clone(),
        instance: member.instance.clone(),
        user: member.user.clone(),
        connected: group.is_connected(id),
        topics: member.topics.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
        partition_count: u32::try_from(state.holdings.values().filter(|holding| holding.member == *id).count())
            .unwrap_or(u32::MAX),
    });
    let described = GroupDescribed { group: info(group), members: members.collect(), partitions: Vec::new() };
    let partitions = partitions(group).into_iter().filter_map(|key| {
        let (topic, holding) = (catalog.topic(key.0)?, state.holdings.get(&key));
        let partition = GroupPartitionInfo {
            stream: topic.stream.to_string(),
            topic: topic.name().to_owned(),
            partition: key.1,
            member: holding.map(|holding| holding.member.clone()),
            generation: holding.map_or(0, |holding| holding.generation),
            stored_offset: state.offsets.get(&key).map(|stored| stored.offset),
            log_start_offset: 0,
            visible_end_offset: 0,
            lag: 0,
        };
        Some((key.0, partition))
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_by(|(_, a), (_, b)| (&a.stream, &a.topic, a.partition).cmp(&(&b.stream, &b.topic, b.partition)));
    (described, partitions)
}

/// Asks the shards how far the logs are.
pub(super) async fn with_lag(
    shards: Arc<[ShardHandle]>,
    mut described: GroupDescribed,
    partitions: Vec<(u32, GroupPartitionInfo)>,
) -> Result<GroupDescribed, Failure> {
    let topics: BTreeSet<u32> = partitions.iter().map(|(topic_id, _)| *topic_id).collect();
    let mut marks: BTreeMap<Key, PartitionInfo> = BTreeMap::new();
    for topic_id in topics {
        for shard in shards.iter() {
            // A topic that went meanwhile is left out.
            let Ok(infos) = shard.describe(topic_id).await else { continue };
            marks.extend(infos.into_iter().map(|info| ((topic_id, info.partition), info)));
        }
    }
    for (topic_id, mut partition) in partitions {
        if let Some(marks) = marks.get(&(topic_id, partition.partition)) {
            partition.log_start_offset = marks.log_start_offset;
            partition.visible_end_offset = marks.visible_end_offset;
            let from = partition.stored_offset.unwrap_or(0).max(marks.log_start_offset);
            partition.lag = marks.visible_end_offset.saturating_sub(from);
            described.partitions.push(partition);
        }
    }
    Ok(described)
}

/// What a group has stored for topics, or for all.
pub(super) fn offsets(group: Option<&Machine>, catalog: &Catalog, patterns: &[TopicPattern]) -> OffsetsRead {
    let stored = group.iter().flat_map(|group| &group.state().offsets).filter_map(|(key, stored)| {
        let topic = catalog.topic(key.0)?;
        let is_asked =
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&topic.stream, topic.name()));
        is_asked.then(|| StoredOffset {
            stream: topic.stream.to_string(),
            topic: topic.name().to_owned(),
            partition: key.1,
            offset: stored.offset,
            epoch: stored.epoch.unwrap_or(0),
            committed_at_us: stored.at_us,
        })
    });
    let mut offsets: Vec<_> = stored.collect();
    offsets.sort_by(|a, b| (&a.stream, &a.topic, a.partition).cmp(&(&b.stream, &b.topic, b.partition)));
    OffsetsRead { offsets }
}
