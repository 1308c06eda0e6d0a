//! Records as they are told: fields by the names of the protocol.

use levada::{
    AccessDescription, GroupDescription, GroupInfo, GroupPartitionInfo, MemberInfo, OffsetChange, PartitionInfo,
    PositionResolved, QuotaDescription, ReadOnlyPartition, RoleDescription, SequencesRead, ServerInfo, ServerStatus,
    StoredOffset, StreamDescription, StreamInfo, TokenInfo, TopicDescription, TopicInfo, UserDescription, UserInfo,
};
use serde_json::{Value, json};

use crate::values::name;

fn wide(number: impl ToString) -> Value {
    number.to_string().into()
}

pub(crate) fn server_info(info: &ServerInfo) -> Value {
    use base64::Engine as _;
    let cluster_id = base64::engine::general_purpose::STANDARD.encode(&info.cluster_id);
    json!({
        "server_version": info.server_version, "cluster_id": cluster_id, "node_id": info.node_id,
        "shard_count": info.shard_count, "max_payload_bytes": info.max_payload_bytes,
        "max_batch_bytes": info.max_batch_bytes, "user": info.user, "role": info.role.as_ref().map(name),
    })
}

pub(crate) fn stream(info: &StreamInfo) -> Value {
    json!({
        "stream_id": info.stream_id, "stream": info.stream, "topic_count": info.topic_count,
        "created_at_us": wide(info.created_at_us),
    })
}

pub(crate) fn topic(info: &TopicInfo) -> Value {
    let options = &info.options;
    json!({
        "topic_id": info.topic_id, "stream": info.stream, "topic": info.topic, "created_at_us": wide(info.created_at_us),
        "options": {
            "partition_count": options.partition_count, "durability": name(&options.durability),
            "compression": name(&options.compression), "retention_bytes": options.retention_bytes.map(wide),
            "retention_age_us": options.retention_age_us.map(wide),
            "segment_bytes": options.segment_bytes.map(wide),
        },
    })
}

fn partition(info: &PartitionInfo) -> Value {
    json!({
        "partition": info.partition, "shard": info.shard, "state": name(&info.state), "state_reason": info.state_reason,
        "log_start_offset": wide(info.log_start_offset), "visible_end_offset": wide(info.visible_end_offset),
        "durable_end_offset": wide(info.durable_end_offset), "leader_epoch": info.leader_epoch,
        "size_bytes": wide(info.size_bytes), "segment_count": info.segment_count,
    })
}

pub(crate) fn user(info: &UserInfo) -> Value {
    json!({
        "user_id": info.user_id, "user": info.user, "role": name(&info.role), "created_at_us": wide(info.created_at_us),
        "token_count": info.token_count,
    })
}

pub(crate) fn access(access: &AccessDescription) -> Value {
    json!({
        "user": access.user, "role": name(&access.role), "roles": access.roles, "grants": access.grants,
        "effective": access.effective,
    })
}

pub(crate) fn role(role: &RoleDescription) -> Value {
    json!({"role": role.role, "grants": role.grants, "user_count": role.user_count})
}

pub(crate) fn quota(quota: &QuotaDescription) -> Value {
    json!({
        "user": quota.user, "bytes_in": quota.bytes_in.map(wide), "bytes_out": quota.bytes_out.map(wide),
        "requests": quota.requests, "connections": quota.connections,
    })
}

pub(crate) fn token(info: &TokenInfo) -> Value {
    json!({
        "token_id": info.token_id, "name": info.name, "user": info.user, "created_at_us": wide(info.created_at_us),
        "expires_at_us": info.expires_at_us.map(wide), "scope": info.scope,
    })
}

pub(crate) fn stream_description(description: &StreamDescription) -> Value {
    json!({
        "stream": stream(&description.stream),
        "topics": description.topics.iter().map(topic).collect::<Vec<_>>(),
    })
}

pub(crate) fn topic_description(description: &TopicDescription) -> Value {
    json!({
        "topic": topic(&description.topic),
        "partitions": description.partitions.iter().map(partition).collect::<Vec<_>>(),
        "segment_age_us": description.segment_age_us.map(wide),
        "dedup_messages": description.dedup_messages,
    })
}

pub(crate) fn user_description(description: &UserDescription) -> Value {
    json!({
        "user": user(&description.user),
        "tokens": description.tokens.iter().map(token).collect::<Vec<_>>(),
    })
}

pub(crate) fn position(resolved: &PositionResolved) -> Value {
    json!({
        "offset": wide(resolved.offset), "log_start_offset": wide(resolved.log_start_offset),
        "visible_end_offset": wide(resolved.visible_end_offset), "leader_epoch": resolved.leader_epoch,
    })
}

pub(crate) fn sequences(read: &SequencesRead) -> Value {
    json!({
        "producer_id": wide(read.producer_id), "next_sequence": wide(read.next_sequence),
        "last_offset": read.last_offset.map(wide),
    })
}

pub(crate) fn status(status: &ServerStatus) -> Value {
    json!({
        "server_version": status.server_version, "node_id": status.node_id, "uptime_ms": wide(status.uptime_ms),
        "shard_count": status.shard_count, "disk_backend": status.disk_backend, "stream_count": status.stream_count,
        "topic_count": status.topic_count, "partition_count": status.partition_count,
        "connection_count": status.connection_count, "subscription_count": status.subscription_count,
        "disk_total_bytes": wide(status.disk_total_bytes), "disk_free_bytes": wide(status.disk_free_bytes),
        "cache_bytes": wide(status.cache_bytes), "appended_bytes": wide(status.appended_bytes),
        "flush_count": wide(status.flush_count), "flush_p50_us": status.flush_p50_us, "flush_p99_us": status.flush_p99_us,
        "read_only_partitions": status.read_only_partitions.iter().map(read_only).collect::<Vec<_>>(),
    })
}

fn read_only(info: &ReadOnlyPartition) -> Value {
    json!({"stream": info.stream, "topic": info.topic, "partition": info.partition, "reason": info.reason})
}

pub(crate) fn group(info: &GroupInfo) -> Value {
    json!({
        "group": info.group, "state": name(&info.state), "strategy": name(&info.strategy),
        "generation": wide(info.generation), "member_count": info.member_count, "partition_count": info.partition_count,
    })
}

fn member(info: &MemberInfo) -> Value {
    json!({
        "member": info.member, "instance": info.instance, "user": info.user, "connected": info.connected,
        "topics": info.topics, "partition_count": info.partition_count,
    })
}

fn group_partition(info: &GroupPartitionInfo) -> Value {
    json!({
        "stream": info.stream, "topic": info.topic, "partition": info.partition, "member": info.member,
        "generation": wide(info.generation), "stored_offset": info.stored_offset.map(wide),
        "log_start_offset": wide(info.log_start_offset), "visible_end_offset": wide(info.visible_end_offset),
        "lag": wide(info.lag),
    })
}

pub(crate) fn group_description(description: &GroupDescription) -> Value {
    json!({
        "group": group(&description.group),
        "members": description.members.iter().map(member).collect::<Vec<_>>(),
        "partitions": description.partitions.iter().map(group_partition).collect::<Vec<_>>(),
    })
}

pub(crate) fn stored_offset(info: &StoredOffset) -> Value {
    json!({
        "stream": info.stream, "topic": info.topic, "partition": info.partition, "offset": wide(info.offset),
        "epoch": info.epoch, "committed_at_us": wide(info.committed_at_us),
    })
}

pub(crate) fn offset_change(info: &OffsetChange) -> Value {
    json!({
        "stream": info.stream, "topic": info.topic, "partition": info.partition, "before": info.before.map(wide),
        "after": wide(info.after),
    })
}
