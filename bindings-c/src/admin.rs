//! Control calls, each with a function of its own. Their answers are values, read by name; `value` may be NULL everywhere.

use std::ffi::c_char;

use levada_core::{Named, Result, Value as CoreValue};

use crate::abi::{enter, optional_text, out_optional, text, texts};
use crate::client::{Client, call};
use crate::error::Error;
use crate::handle::make;
use crate::options::{Options, named};
use crate::value::Value;

/// In place of the number of a partition: all of them.
pub const LEVADA_ALL_PARTITIONS: i64 = -1;

fn admin(
    client: *const Client,
    name: &str,
    value: *mut *mut Value,
    err: *mut *mut Error,
    arguments: impl FnOnce() -> Result<Named>,
) -> i32 {
    enter(err, || {
        let place = out_optional(value);
        let answer = call(client, name, arguments()?)?;
        if let Some(place) = place {
            *place = make::<Value>(answer.into());
        }
        Ok(())
    })
}

fn given(value: *const c_char, name: &str) -> Result<CoreValue> {
    Ok(CoreValue::Text(text(value, name)?.to_owned()))
}

fn given_list(values: *const *const c_char, count: usize, name: &str) -> Result<CoreValue> {
    Ok(CoreValue::List(texts(values, count, name)?.into_iter().map(CoreValue::Text).collect()))
}

fn given_optional(value: *const c_char, name: &str) -> Result<CoreValue> {
    Ok(optional_text(value, name)?.map_or(CoreValue::Null, |text| CoreValue::Text(text.to_owned())))
}

/// Creates a stream: a record StreamInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_stream_create(
    client: *const Client,
    stream: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "create_stream", value, err, || Ok(vec![("stream".into(), given(stream, "stream")?)]))
}

/// Deletes a stream, with its topics if `topics` says so: how many those were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_stream_delete(
    client: *const Client,
    stream: *const c_char,
    topics: bool,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "delete_stream", value, err, || {
        Ok(vec![("stream".into(), given(stream, "stream")?), ("topics".into(), CoreValue::Bool(topics))])
    })
}

/// All streams, by name: a list of StreamInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_stream_list(
    client: *const Client,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "list_streams", value, err, || Ok(Named::new()))
}

/// A stream and its topics: a record StreamDescription.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_stream_describe(
    client: *const Client,
    stream: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "describe_stream", value, err, || Ok(vec![("stream".into(), given(stream, "stream")?)]))
}

/// Creates `stream/topic`, and the stream if it is absent, with the options of TopicOptions (NULL: the defaults): a record
/// TopicInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_topic_create(
    client: *const Client,
    topic: *const c_char,
    options: *const Options,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "create_topic", value, err, || {
        Ok(vec![("topic".into(), given(topic, "topic")?), ("options".into(), CoreValue::Record(named(options)?))])
    })
}

/// Changes a topic, with the options of TopicChanges: a record TopicInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_topic_alter(
    client: *const Client,
    topic: *const c_char,
    changes: *const Options,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "alter_topic", value, err, || {
        Ok(vec![("topic".into(), given(topic, "topic")?), ("changes".into(), CoreValue::Record(named(changes)?))])
    })
}

/// Deletes a topic and its data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_topic_delete(
    client: *const Client,
    topic: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "delete_topic", value, err, || Ok(vec![("topic".into(), given(topic, "topic")?)]))
}

/// Removes every message visible now from `stream/topic`, or from one partition with `stream/topic:partition`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_topic_purge(
    client: *const Client,
    topic: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "purge_topic", value, err, || Ok(vec![("topic".into(), given(topic, "topic")?)]))
}

/// Durably deletes the messages of `stream/topic:partition` before a position (`earliest`, `offset:5`, `time:...`); offsets
/// stay as they are: a record MessagesDeleted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_topic_trim(
    client: *const Client,
    partition: *const c_char,
    before: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "delete_messages", value, err, || {
        Ok(vec![("partition".into(), given(partition, "partition")?), ("before".into(), given(before, "before")?)])
    })
}

/// Sets the age of its first message at which a segment of a topic is sealed, in microseconds, from a second to a day; 0:
/// the server decides.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_topic_set_segment_age(
    client: *const Client,
    topic: *const c_char,
    segment_age_us: u64,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "set_segment_age", value, err, || {
        let age = if segment_age_us == 0 { CoreValue::Null } else { CoreValue::U64(segment_age_us) };
        Ok(vec![("topic".into(), given(topic, "topic")?), ("segment_age_us".into(), age)])
    })
}

/// Sets how many of a partition's last messages, 1 to 100,000, a new one's id is compared with; 0: none. A message whose id is
/// there already is not appended again, and its receipt says so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_topic_set_dedup_messages(
    client: *const Client,
    topic: *const c_char,
    dedup_messages: u32,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "set_dedup_messages", value, err, || {
        let messages = if dedup_messages == 0 { CoreValue::Null } else { CoreValue::U64(dedup_messages.into()) };
        Ok(vec![("topic".into(), given(topic, "topic")?), ("dedup_messages".into(), messages)])
    })
}

/// How far the caller's named producer has come in `stream/topic:partition`: a record SequencesRead. What it counts is durable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_topic_producer_progress(
    client: *const Client,
    name: *const c_char,
    partition: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "producer_progress", value, err, || {
        Ok(vec![("name".into(), given(name, "name")?), ("partition".into(), given(partition, "partition")?)])
    })
}

/// Topics of a stream, or of all (NULL), by name: a list of TopicInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_topic_list(
    client: *const Client,
    stream: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "list_topics", value, err, || Ok(vec![("stream".into(), given_optional(stream, "stream")?)]))
}

/// A topic and its partitions: a record TopicDescription.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_topic_describe(
    client: *const Client,
    topic: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "describe_topic", value, err, || Ok(vec![("topic".into(), given(topic, "topic")?)]))
}

/// What offset a position in `stream/topic:partition` comes to now: a record PositionResolved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_position_resolve(
    client: *const Client,
    partition: *const c_char,
    position: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "resolve_position", value, err, || {
        Ok(vec![
            ("partition".into(), given(partition, "partition")?),
            ("position".into(), given(position, "position")?),
        ])
    })
}

/// All consumer groups, by name: a list of GroupInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_group_list(client: *const Client, value: *mut *mut Value, err: *mut *mut Error) -> i32 {
    admin(client, "list_groups", value, err, || Ok(Named::new()))
}

/// A consumer group, its members, and its partitions with their lag: a record GroupDescription.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_group_describe(
    client: *const Client,
    group: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "describe_group", value, err, || Ok(vec![("group".into(), given(group, "group")?)]))
}

/// Deletes a group without members, and what it has stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_group_delete(
    client: *const Client,
    group: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "delete_group", value, err, || Ok(vec![("group".into(), given(group, "group")?)]))
}

/// The offsets a group has stored, of topics and patterns, or of all (none given): a list of StoredOffset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_group_offsets(
    client: *const Client,
    group: *const c_char,
    topics: *const *const c_char,
    topic_count: usize,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "group_offsets", value, err, || {
        Ok(vec![
            ("group".into(), given(group, "group")?),
            ("topics".into(), given_list(topics, topic_count, "topics")?),
        ])
    })
}

/// Sets the stored offsets of a group without members to a position, of one partition or of all (LEVADA_ALL_PARTITIONS); with
/// `dry_run` it only tells what would change: a list of OffsetChange.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_group_reset_offsets(
    client: *const Client,
    group: *const c_char,
    topics: *const *const c_char,
    topic_count: usize,
    partition: i64,
    position: *const c_char,
    dry_run: bool,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "reset_offsets", value, err, || {
        let partition = if partition == LEVADA_ALL_PARTITIONS { CoreValue::Null } else { CoreValue::I64(partition) };
        Ok(vec![
            ("group".into(), given(group, "group")?),
            ("topics".into(), given_list(topics, topic_count, "topics")?),
            ("position".into(), given(position, "position")?),
            ("partition".into(), partition),
            ("dry_run".into(), CoreValue::Bool(dry_run)),
        ])
    })
}

/// Creates a user with `grant_count` grants such as `shop/orders:read,write`; a member without any may do nothing: a record
/// UserInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_user_create(
    client: *const Client,
    user: *const c_char,
    password: *const c_char,
    role: *const c_char,
    grants: *const *const c_char,
    grant_count: usize,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "create_user", value, err, || {
        Ok(vec![
            ("user".into(), given(user, "user")?),
            ("password".into(), given(password, "password")?),
            ("role".into(), given(role, "role")?),
            ("grants".into(), given_list(grants, grant_count, "grants")?),
        ])
    })
}

/// Changes a user's password or role (NULL: stays); sessions that a new password replaces end right after: a record UserInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_user_alter(
    client: *const Client,
    user: *const c_char,
    password: *const c_char,
    role: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "alter_user", value, err, || {
        Ok(vec![
            ("user".into(), given(user, "user")?),
            ("password".into(), given_optional(password, "password")?),
            ("role".into(), given_optional(role, "role")?),
        ])
    })
}

/// Deletes a user with its tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_user_delete(
    client: *const Client,
    user: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "delete_user", value, err, || Ok(vec![("user".into(), given(user, "user")?)]))
}

/// All users, by name: a list of UserInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_user_list(client: *const Client, value: *mut *mut Value, err: *mut *mut Error) -> i32 {
    admin(client, "list_users", value, err, || Ok(Named::new()))
}

/// A user and its tokens: a record UserDescription.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_user_describe(
    client: *const Client,
    user: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "describe_user", value, err, || Ok(vec![("user".into(), given(user, "user")?)]))
}

/// Creates a personal access token, for the caller unless a user is named (NULL: the caller), until `expires_at_us` in
/// microseconds since the Unix epoch (0: for ever): a record NewToken, whose secret is shown this once. `scope` is a list of
/// `scope_count` grants that say what it may do at most (NULL: all that its user may).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_token_create(
    client: *const Client,
    name: *const c_char,
    user: *const c_char,
    expires_at_us: i64,
    scope: *const *const c_char,
    scope_count: usize,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "create_token", value, err, || {
        Ok(vec![
            ("name".into(), given(name, "name")?),
            ("user".into(), given_optional(user, "user")?),
            ("expires_at_us".into(), if expires_at_us == 0 { CoreValue::Null } else { CoreValue::I64(expires_at_us) }),
            ("scope".into(), if scope.is_null() { CoreValue::Null } else { given_list(scope, scope_count, "scope")? }),
        ])
    })
}

/// Revokes a token of the caller, or of a user (NULL: the caller).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_token_delete(
    client: *const Client,
    name: *const c_char,
    user: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "delete_token", value, err, || {
        Ok(vec![("name".into(), given(name, "name")?), ("user".into(), given_optional(user, "user")?)])
    })
}

/// Tokens of the caller (NULL), or of a user: a list of TokenInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_token_list(
    client: *const Client,
    user: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "list_tokens", value, err, || Ok(vec![("user".into(), given_optional(user, "user")?)]))
}

/// Replaces what a member may do: `role_count` named roles, and `grant_count` grants such as `shop/orders:read,write`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_access_set(
    client: *const Client,
    user: *const c_char,
    roles: *const *const c_char,
    role_count: usize,
    grants: *const *const c_char,
    grant_count: usize,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "set_access", value, err, || {
        Ok(vec![
            ("user".into(), given(user, "user")?),
            ("roles".into(), given_list(roles, role_count, "roles")?),
            ("grants".into(), given_list(grants, grant_count, "grants")?),
        ])
    })
}

/// What the caller (NULL), or a user, may do: a record AccessDescription.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_access_describe(
    client: *const Client,
    user: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "describe_access", value, err, || Ok(vec![("user".into(), given_optional(user, "user")?)]))
}

/// Creates a named role, or replaces what it allows, for all who have it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_role_set(
    client: *const Client,
    role: *const c_char,
    grants: *const *const c_char,
    grant_count: usize,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "set_role", value, err, || {
        Ok(vec![("role".into(), given(role, "role")?), ("grants".into(), given_list(grants, grant_count, "grants")?)])
    })
}

/// Deletes a named role and takes it from all who have it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_role_delete(
    client: *const Client,
    role: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "delete_role", value, err, || Ok(vec![("role".into(), given(role, "role")?)]))
}

/// All named roles, by name: a list of RoleDescription.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_role_list(client: *const Client, value: *mut *mut Value, err: *mut *mut Error) -> i32 {
    admin(client, "list_roles", value, err, || Ok(Named::new()))
}

/// Replaces what a user may take of the server, with the options of Quota (NULL: no limits).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_quota_set(
    client: *const Client,
    user: *const c_char,
    quota: *const Options,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "set_quota", value, err, || {
        Ok(vec![("user".into(), given(user, "user")?), ("quota".into(), CoreValue::Record(named(quota)?))])
    })
}

/// What the caller (NULL), or a user, may take of the server: a record QuotaDescription.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_quota_describe(
    client: *const Client,
    user: *const c_char,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    admin(client, "describe_quota", value, err, || Ok(vec![("user".into(), given_optional(user, "user")?)]))
}

/// How the server is: a record ServerStatus.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_status(client: *const Client, value: *mut *mut Value, err: *mut *mut Error) -> i32 {
    admin(client, "status", value, err, || Ok(Named::new()))
}
