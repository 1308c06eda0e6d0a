//! What the server says about its things, in the shapes that `--output json` prints. Times are RFC 3339.

use crate::units::rfc3339;
use levada::{
    AccessDescription, GroupInfo, GroupPartitionInfo, MemberInfo, OffsetChange, PartitionInfo, QuotaDescription,
    RoleDescription, ServerStatus, StoredOffset, StreamInfo, TokenInfo, TopicInfo, UserInfo,
};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct StreamView {
    pub(crate) stream: String,
    pub(crate) stream_id: u32,
    pub(crate) topic_count: u32,
    pub(crate) created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) topics: Option<Vec<TopicView>>,
}

#[derive(Serialize)]
pub(crate) struct TopicView {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) topic_id: u32,
    pub(crate) partition_count: u32,
    pub(crate) durability: &'static str,
    pub(crate) compression: &'static str,
    /// Null is unlimited.
    pub(crate) retention_bytes: Option<u64>,
    /// Null is unlimited.
    pub(crate) retention_age_us: Option<u64>,
    /// Null is the server's default.
    pub(crate) segment_bytes: Option<u64>,
    /// Absent is the server's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segment_age_us: Option<u64>,
    /// Absent: no ids are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dedup_messages: Option<u32>,
    pub(crate) created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partitions: Option<Vec<PartitionView>>,
}

#[derive(Serialize)]
pub(crate) struct PartitionView {
    pub(crate) partition: u32,
    pub(crate) state: &'static str,
    pub(crate) state_reason: String,
    pub(crate) log_start_offset: u64,
    pub(crate) visible_end_offset: u64,
    pub(crate) durable_end_offset: u64,
    pub(crate) message_count: u64,
    pub(crate) size_bytes: u64,
    pub(crate) segment_count: u32,
    pub(crate) leader_epoch: u32,
    pub(crate) shard: u16,
}

#[derive(Serialize)]
pub(crate) struct GroupView {
    pub(crate) group: String,
    pub(crate) state: &'static str,
    pub(crate) strategy: &'static str,
    pub(crate) generation: u64,
    pub(crate) member_count: u32,
    pub(crate) partition_count: u32,
    /// Of all partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lag: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<Vec<MemberView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partitions: Option<Vec<GroupPartitionView>>,
}

#[derive(Serialize)]
pub(crate) struct MemberView {
    pub(crate) member: String,
    pub(crate) instance: Option<String>,
    pub(crate) user: String,
    pub(crate) connected: bool,
    pub(crate) topics: Vec<String>,
    pub(crate) partition_count: u32,
}

#[derive(Serialize)]
pub(crate) struct GroupPartitionView {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// Null is nobody.
    pub(crate) member: Option<String>,
    pub(crate) generation: u64,
    /// Null is none.
    pub(crate) stored_offset: Option<u64>,
    pub(crate) log_start_offset: u64,
    pub(crate) visible_end_offset: u64,
    pub(crate) lag: u64,
}

#[derive(Serialize)]
pub(crate) struct StoredOffsetView {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) epoch: u32,
    pub(crate) committed_at: String,
}

#[derive(Serialize)]
pub(crate) struct OffsetChangeView {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// Null is nothing stored.
    pub(crate) before: Option<u64>,
    pub(crate) after: u64,
}

#[derive(Serialize)]
pub(crate) struct UserView {
    pub(crate) user: String,
    pub(crate) user_id: u32,
    pub(crate) role: &'static str,
    pub(crate) token_count: u32,
    pub(crate) created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<Vec<TokenView>>,
}

#[derive(Serialize)]
pub(crate) struct TokenView {
    pub(crate) name: String,
    pub(crate) token_id: u32,
    pub(crate) user: String,
    pub(crate) created_at: String,
    /// Null is never.
    pub(crate) expires_at: Option<String>,
    /// Null is all that its user may.
    pub(crate) scope: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct AccessView {
    pub(crate) user: String,
    pub(crate) role: &'static str,
    pub(crate) roles: Vec<String>,
    pub(crate) grants: Vec<String>,
    pub(crate) effective: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct RoleView {
    pub(crate) role: String,
    pub(crate) grants: Vec<String>,
    pub(crate) user_count: u32,
}

/// Null is unlimited.
#[derive(Serialize)]
pub(crate) struct QuotaView {
    pub(crate) user: String,
    pub(crate) bytes_in: Option<u64>,
    pub(crate) bytes_out: Option<u64>,
    pub(crate) requests: Option<u32>,
    pub(crate) connections: Option<u32>,
}

impl From<AccessDescription> for AccessView {
    fn from(access: AccessDescription) -> Self {
        let AccessDescription { user, role, roles, grants, effective } = access;
        Self { user, role: role.name(), roles, grants, effective }
    }
}

impl From<RoleDescription> for RoleView {
    fn from(role: RoleDescription) -> Self {
        let RoleDescription { role, grants, user_count } = role;
        Self { role, grants, user_count }
    }
}

impl From<QuotaDescription> for QuotaView {
    fn from(quota: QuotaDescription) -> Self {
        let QuotaDescription { user, bytes_in, bytes_out, requests, connections } = quota;
        Self { user, bytes_in, bytes_out, requests, connections }
    }
}

#[derive(Serialize)]
pub(crate) struct StatusView {
    pub(crate) server_version: String,
    pub(crate) node_id: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) shard_count: u16,
    pub(crate) disk_backend: String,
    pub(crate) stream_count: u32,
    pub(crate) topic_count: u32,
    pub(crate) partition_count: u32,
    pub(crate) connection_count: u32,
    pub(crate) subscription_count: u32,
    pub(crate) disk_total_bytes: u64,
    pub(crate) disk_free_bytes: u64,
    pub(crate) cache_bytes: u64,
    pub(crate) appended_bytes: u64,
    pub(crate) flush_count: u64,
    pub(crate) flush_p50_us: u32,
    pub(crate) flush_p99_us: u32,
    pub(crate) read_only_partitions: Vec<ReadOnlyView>,
}

#[derive(Serialize)]
pub(crate) struct ReadOnlyView {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) reason: String,
}

impl From<StreamInfo> for StreamView {
    fn from(info: StreamInfo) -> Self {
        let StreamInfo { stream_id, stream, topic_count, created_at_us } = info;
        Self { stream, stream_id, topic_count, created_at: rfc3339(created_at_us), topics: None }
    }
}

impl From<TopicInfo> for TopicView {
    fn from(info: TopicInfo) -> Self {
        Self {
            stream: info.stream,
            topic: info.topic,
            topic_id: info.topic_id,
            partition_count: info.options.partition_count,
            durability: info.options.durability.name(),
            compression: info.options.compression.name(),
            retention_bytes: info.options.retention_bytes,
            retention_age_us: info.options.retention_age_us,
            segment_bytes: info.options.segment_bytes,
            segment_age_us: None,
            dedup_messages: None,
            created_at: rfc3339(info.created_at_us),
            partitions: None,
        }
    }
}

impl From<PartitionInfo> for PartitionView {
    fn from(info: PartitionInfo) -> Self {
        Self {
            partition: info.partition,
            state: info.state.name(),
            state_reason: info.state_reason,
            log_start_offset: info.log_start_offset,
            visible_end_offset: info.visible_end_offset,
            durable_end_offset: info.durable_end_offset,
            message_count: info.visible_end_offset.saturating_sub(info.log_start_offset),
            size_bytes: info.size_bytes,
            segment_count: info.segment_count,
            leader_epoch: info.leader_epoch,
            shard: info.shard,
        }
    }
}

impl From<GroupInfo> for GroupView {
    fn from(info: GroupInfo) -> Self {
        Self {
            group: info.group,
            state: info.state.name(),
            strategy: info.strategy.name(),
            generation: info.generation,
            member_count: info.member_count,
            partition_count: info.partition_count,
            lag: None,
            members: None,
            partitions: None,
        }
    }
}

impl From<MemberInfo> for MemberView {
    fn from(info: MemberInfo) -> Self {
        let MemberInfo { member, instance, user, connected, topics, partition_count } = info;
        Self { member, instance, user, connected, topics, partition_count }
    }
}

impl From<GroupPartitionInfo> for GroupPartitionView {
    fn from(info: GroupPartitionInfo) -> Self {
        Self {
            stream: info.stream,
            topic: info.topic,
            partition: info.partition,
            member: info.member,
            generation: info.generation,
            stored_offset: info.stored_offset,
            log_start_offset: info.log_start_offset,
            visible_end_offset: info.visible_end_offset,
            lag: info.lag,
        }
    }
}

impl From<StoredOffset> for StoredOffsetView {
    fn from(stored: StoredOffset) -> Self {
        let StoredOffset { stream, topic, partition, offset, epoch, committed_at_us } = stored;
        Self { stream, topic, partition, offset, epoch, committed_at: rfc3339(committed_at_us) }
    }
}

impl From<OffsetChange> for OffsetChangeView {
    fn from(change: OffsetChange) -> Self {
        let OffsetChange { stream, topic, partition, before, after } = change;
        Self { stream, topic, partition, before, after }
    }
}

impl From<UserInfo> for UserView {
    fn from(info: UserInfo) -> Self {
        Self {
            user: info.user,
            user_id: info.user_id,
            role: info.role.name(),
            token_count: info.token_count,
            created_at: rfc3339(info.created_at_us),
            tokens: None,
        }
    }
}

impl From<TokenInfo> for TokenView {
    fn from(info: TokenInfo) -> Self {
        Self {
            name: info.name,
            token_id: info.token_id,
            user: info.user,
            created_at: rfc3339(info.created_at_us),
            expires_at: info.expires_at_us.map(rfc3339),
            scope: info.scope,
            secret: None,
        }
    }
}

impl From<ServerStatus> for StatusView {
    fn from(status: ServerStatus) -> Self {
        let read_only = status.read_only_partitions.into_iter().map(|p| ReadOnlyView {
            stream: p.stream,
            topic: p.topic,
            partition: p.partition,
            reason: p.reason,
        });
        Self {
            server_version: status.server_version,
            node_id: status.node_id,
            uptime_ms: status.uptime_ms,
            shard_count: status.shard_count,
            disk_backend: status.disk_backend,
            stream_count: status.stream_count,
            topic_count: status.topic_count,
            partition_count: status.partition_count,
            connection_count: status.connection_count,
            subscription_count: status.subscription_count,
            disk_total_bytes: status.disk_total_bytes,
            disk_free_bytes: status.disk_free_bytes,
            cache_bytes: status.cache_bytes,
            appended_bytes: status.appended_bytes,
            flush_count: status.flush_count,
            flush_p50_us: status.flush_p50_us,
            flush_p99_us: status.flush_p99_us,
            read_only_partitions: read_only.collect(),
        }
    }
}
