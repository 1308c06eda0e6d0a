//! Metadata's types and the wire's, by hand: the two evolve at different times.

use std::sync::Arc;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{self as wire, StreamInfo, TokenInfo, TokenScope, TopicInfo, UserInfo};

use super::grants::grant_infos;
use crate::config::check_segment_bytes;
use crate::failure::Failure;
use crate::metadata::model::{Compression, Role, Stream, Token, Topic, TopicOptions, TopicSupplement, User};
use crate::metadata::{Snapshot, State};

/// A durability a topic can have.
///
/// # Errors
/// `UNSUPPORTED` for `quorum`.
pub(super) fn durability(durability: wire::Durability) -> Result<levada_storage::Durability, Failure> {
    match durability {
        wire::Durability::Memory => Ok(levada_storage::Durability::Memory),
        wire::Durability::Disk => Ok(levada_storage::Durability::Disk),
        wire::Durability::Quorum => {
            let message = "durability quorum needs a cluster; a single node offers memory and disk";
            Err(Failure::because(ErrorCode::Unsupported, message).with("what", "durability quorum"))
        }
    }
}

/// The wire's word for a durability.
pub(super) fn durability_info(durability: levada_storage::Durability) -> wire::Durability {
    match durability {
        levada_storage::Durability::Memory => wire::Durability::Memory,
        levada_storage::Durability::Disk => wire::Durability::Disk,
    }
}

pub(super) fn compression(compression: wire::TopicCompression) -> Compression {
    match compression {
        wire::TopicCompression::Producer => Compression::Producer,
        wire::TopicCompression::None => Compression::None,
        wire::TopicCompression::Lz4 => Compression::Lz4,
        wire::TopicCompression::Zstd => Compression::Zstd,
    }
}

fn compression_info(compression: Compression) -> wire::TopicCompression {
    match compression {
        Compression::Producer => wire::TopicCompression::Producer,
        Compression::None => wire::TopicCompression::None,
        Compression::Lz4 => wire::TopicCompression::Lz4,
        Compression::Zstd => wire::TopicCompression::Zstd,
    }
}

pub(super) fn role(role: wire::Role) -> Role {
    match role {
        wire::Role::Admin => Role::Admin,
        wire::Role::Member => Role::Member,
    }
}

/// The wire's word for a role.
pub(crate) fn role_info(role: Role) -> wire::Role {
    match role {
        Role::Admin => wire::Role::Admin,
        Role::Member => wire::Role::Member,
    }
}

/// Settings of a new topic, checked.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the option, `UNSUPPORTED`.
pub(super) fn topic_options(options: &wire::TopicOptions) -> Result<TopicOptions, Failure> {
    let options = TopicOptions {
        partition_count: options.partition_count,
        durability: durability(options.durability)?,
        compression: compression(options.compression),
        retention_bytes: options.retention_bytes,
        retention_age_us: options.retention_age_us,
        segment_bytes: options.segment_bytes,
        supplement: TopicSupplement::default(),
    };
    check_options(&options)?;
    Ok(options)
}

/// Settings of a topic after changes, checked.
///
/// # Errors
/// As [`topic_options`].
pub(super) fn changed_options(now: &TopicOptions, changes: &wire::TopicChanges) -> Result<TopicOptions, Failure> {
    // Zero takes an option back to "no limit" or "the server's default"; absent leaves it.
    let changed = |now: Option<u64>, change: Option<u64>| match change {
        None => now,
        Some(0) => None,
        Some(value) => Some(value),
    };
    let options = TopicOptions {
        partition_count: changes.partition_count.unwrap_or(now.partition_count),
        durability: changes.durability.map_or(Ok(now.durability), durability)?,
        compression: changes.compression.map_or(now.compression, compression),
        retention_bytes: changed(now.retention_bytes, changes.retention_bytes),
        retention_age_us: changed(now.retention_age_us, changes.retention_age_us),
        segment_bytes: changed(now.segment_bytes, changes.segment_bytes),
        supplement: now.supplement,
    };
    if options.partition_count < now.partition_count {
        let message = format!("partitions may only be added: the topic has {}", now.partition_count);
        return Err(Failure::invalid("partition_count", message));
    }
    check_options(&options)?;
    Ok(options)
}

fn check_options(options: &TopicOptions) -> Result<(), Failure> {
    let max_partitions = u32::try_from(levada_protocol::limits::MAX_PARTITIONS_PER_TOPIC).unwrap_or(u32::MAX);
    if !(1..=max_partitions).contains(&options.partition_count) {
        let message = format!("a topic has 1 to {max_partitions} partitions, not {}", options.partition_count);
        return Err(Failure::invalid("partition_count", message));
    }
    for (name, value) in [("retention_bytes", options.retention_bytes), ("retention_age_us", options.retention_age_us)]
    {
        if value == Some(0) {
            return Err(Failure::invalid(name, "0 would keep nothing: leave it out for no limit"));
        }
    }
    options.segment_bytes.map_or(Ok(()), check_segment_bytes).map_err(|words| Failure::invalid("segment_bytes", words))
}

pub(super) fn stream_info(state: &State, stream: &Stream) -> StreamInfo {
    StreamInfo {
        stream_id: stream.stream_id,
        stream: stream.name.clone(),
        topic_count: count(state.topics_of(stream.stream_id)),
        created_at_us: stream.created_at_us,
    }
}

pub(super) fn topic_info(snapshot: &Snapshot, topic: &Topic) -> TopicInfo {
    TopicInfo {
        topic_id: topic.topic_id,
        stream: snapshot.stream_name(topic).to_owned(),
        topic: topic.name.clone(),
        options: wire::TopicOptions {
            partition_count: topic.options.partition_count,
            durability: durability_info(topic.options.durability),
            compression: compression_info(topic.options.compression),
            retention_bytes: topic.options.retention_bytes,
            retention_age_us: topic.options.retention_age_us,
            segment_bytes: topic.options.segment_bytes,
        },
        created_at_us: topic.created_at_us,
    }
}

pub(super) fn user_info(state: &State, user: &User) -> UserInfo {
    UserInfo {
        user_id: user.user_id,
        user: user.name.clone(),
        role: role_info(user.role),
        created_at_us: user.created_at_us,
        token_count: count(state.tokens_of(user.user_id)),
    }
}

pub(super) fn token_info(state: &State, token: &Token) -> TokenInfo {
    TokenInfo {
        token_id: token.token_id,
        name: token.name.clone(),
        user: state.users.get(&token.user_id).map_or_else(String::new, |user| user.name.clone()),
        created_at_us: token.created_at_us,
        expires_at_us: token.expires_at_us,
    }
}

/// The scopes of those tokens that have one.
pub(super) fn token_scopes<'a>(state: &State, tokens: impl Iterator<Item = &'a Arc<Token>>) -> Vec<TokenScope> {
    let scope = |token_id| Some(TokenScope { token_id, grants: grant_infos(state.token_scopes.get(&token_id)?) });
    let mut scopes: Vec<_> = tokens.filter_map(|token| scope(token.token_id)).collect();
    scopes.sort_by_key(|scope| scope.token_id);
    scopes
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
