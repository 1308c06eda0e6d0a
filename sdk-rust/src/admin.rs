//! Managing a server: streams, topics, users, tokens, and how it is doing.
//!
//! Requests that only read are retried until the request timeout; the others only when they have certainly not been applied.

use bytes::Bytes;
use levada_protocol::messages::{
    AccessGrant, AlterTopic, AlterUser, CreateStream, CreateToken, CreateTopic, CreateUser, DeleteGroup,
    DeleteMessages, DeleteRole, DeleteStream, DeleteToken, DeleteTopic, DeleteUser, DescribeAccess, DescribeGroup,
    DescribeQuota, DescribeStream, DescribeTopic, DescribeUser, GroupInfo, GroupPartitionInfo, ListGroups, ListRoles,
    ListStreams, ListTokens, ListTopics, ListUsers, MemberInfo, MessagesDeleted, OffsetChange, PartitionInfo, Position,
    PositionResolved, PurgeTopic, Quota, ReadOffsets, ReadSequences, ResetOffsets, ResolvePosition, Role,
    SequencesRead, ServerStatus, SetAccess, SetQuota, SetRole, Status, StoredOffset, StreamInfo, TokenScope,
    TopicChanges, TopicInfo, TopicOptions, UserInfo,
};
use levada_protocol::names::Address;
use levada_protocol::{ErrorCode, messages};

use crate::access::{AccessDescription, QuotaDescription, RoleDescription, grant_texts, read_grants};
use crate::client::{Client, Repeat};
use crate::error::{Error, Result};
use crate::generated::options;

/// The managing side of a [`Client`].
///
/// ```no_run
/// # async fn example(client: levada::Client) -> levada::Result<()> {
/// let admin = client.admin();
/// admin.create_topic("shop/orders", levada::topic_options(8)).await?;
/// for topic in admin.list_topics(None).await? {
///     println!("{}/{}: {} partitions", topic.stream, topic.topic, topic.options.partition_count);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// The topic.
    pub topic: TopicInfo,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionInfo>,
    /// Age of its first message at which a segment is sealed, in microseconds; absent: the server decides.
    pub segment_age_us: Option<u64>,
    /// How many of a partition's last messages a new one's id is compared with; absent: none.
    pub dedup_messages: Option<u32>,
}

/// A stream and its topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamDescription {
    /// The stream.
    pub stream: StreamInfo,
    /// Its topics, by name.
    pub topics: Vec<TopicInfo>,
}

/// A group, its members and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group.
    pub group: GroupInfo,
    /// Its members, by id.
    pub members: Vec<MemberInfo>,
    /// What it reads or has stored offsets of, by stream, topic and partition.
    pub partitions: Vec<GroupPartitionInfo>,
}

/// Whether a reset of offsets takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetMode {
    /// It does.
    Apply,
    /// It is only told what would change.
    DryRun,
}

impl From<bool> for ResetMode {
    fn from(dry_run: bool) -> ResetMode {
        if dry_run { ResetMode::DryRun } else { ResetMode::Apply }
    }
}

/// A personal access token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// Never reused.
    pub token_id: u32,
    /// Unique per user.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// When it was created, in microseconds since the Unix epoch.
    pub created_at_us: i64,
    /// When it expires, in microseconds since the Unix epoch; `None`: never.
    pub expires_at_us: Option<i64>,
    /// Grants that say what it may do at most, by pattern; `None`: all that its user may.
    pub scope: Option<Vec<String>>,
}

impl TokenInfo {
    fn new(token: messages::TokenInfo, scope: Option<&[AccessGrant]>) -> TokenInfo {
        let messages::TokenInfo { token_id, name, user, created_at_us, expires_at_us } = token;
        TokenInfo { token_id, name, user, created_at_us, expires_at_us, scope: scope.map(grant_texts) }
    }

    /// Tokens with their scopes, which a server older than version 2 does not tell.
    fn list(tokens: Vec<messages::TokenInfo>, scopes: Option<&[TokenScope]>) -> Vec<TokenInfo> {
        let scope_of = |token_id| {
            let scope = scopes?.iter().find(|scope| scope.token_id == token_id)?;
            Some(scope.grants.as_slice())
        };
        tokens
            .into_iter()
            .map(|token| (scope_of(token.token_id), token))
            .map(|(scope, token)| TokenInfo::new(token, scope))
            .collect()
    }
}

/// A user and its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDescription {
    /// The user.
    pub user: UserInfo,
    /// Its tokens.
    pub tokens: Vec<TokenInfo>,
}

/// A token just created, with the secret that is shown this once.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The token.
    pub token: TokenInfo,
    /// Its text.
    pub secret: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Options of a topic with that many partitions: durable on disk, kept for ever, compressed as its producers like.
pub fn topic_options(partition_count: u32) -> TopicOptions {
    TopicOptions { partition_count, ..options::default_topic_options() }
}

/// Splits `stream/topic`.
pub(crate) fn parse_topic(text: &str) -> Result<Address> {
    let address = Address::parse(text)
        .map_err(|error| Error::new(ErrorCode::InvalidName, error.to_string()).with_detail("name", text))?;
    Ok(address)
}

fn whole_topic(text: &str) -> Result<(String, String)> {
    let address = parse_topic(text)?;
    match address.partition {
        None => Ok((address.stream, address.topic)),
        Some(_) => Err(Error::usage("topic", format!("{text:?} names a partition where a whole topic is meant"))),
    }
}

/// A change of a topic that changes nothing yet.
fn unaltered(topic: &str) -> Result<AlterTopic> {
    let (stream, topic) = whole_topic(topic)?;
    let changes = options::default_topic_changes();
    Ok(AlterTopic { stream, topic, changes, segment_age_us: None, dedup_messages: None })
}

fn whole_partition(text: &str) -> Result<(Address, u32)> {
    let address = parse_topic(text)?;
    match address.partition {
        Some(partition) => Ok((address, partition)),
        None => Err(Error::usage("partition", format!("{text:?} does not name a partition"))),
    }
}

impl Admin {
    pub(crate) fn new(client: Client) -> Admin {
        Admin { client }
    }

    async fn read<C: messages::Call + Clone + Send + 'static>(&self, call: C) -> Result<C::Reply> {
        self.client.call(call, Repeat::Freely).await
    }

    async fn change<C: messages::Call + Clone + Send + 'static>(&self, call: C) -> Result<C::Reply> {
        self.client.call(call, Repeat::UnlessApplied).await
    }

    /// Creates a stream.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `INVALID_NAME`, `PERMISSION_DENIED`.
    pub async fn create_stream(&self, stream: &str) -> Result<StreamInfo> {
        Ok(self.change(CreateStream { stream: stream.to_owned() }).await?.stream)
    }

    /// Deletes a stream, with its topics if `topics` says so, and returns how many those were.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`; `CONFLICT` if it has topics that are to stay.
    pub async fn delete_stream(&self, stream: &str, topics: DeleteTopics) -> Result<u32> {
        let topics = topics == DeleteTopics::Too;
        Ok(self.change(DeleteStream { stream: stream.to_owned(), topics }).await?.topic_count)
    }

    /// All streams, by name.
    ///
    /// # Errors
    /// Those of any request.
    pub async fn list_streams(&self) -> Result<Vec<StreamInfo>> {
        Ok(self.read(ListStreams {}).await?.streams)
    }

    /// A stream and its topics.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`.
    pub async fn describe_stream(&self, stream: &str) -> Result<StreamDescription> {
        let reply = self.read(DescribeStream { stream: stream.to_owned() }).await?;
        Ok(StreamDescription { stream: reply.stream, topics: reply.topics })
    }

    /// Creates `stream/topic`, and the stream if it is absent.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `INVALID_NAME`, `INVALID_ARGUMENT`, `UNSUPPORTED`, `PERMISSION_DENIED`.
    pub async fn create_topic(&self, topic: &str, options: TopicOptions) -> Result<TopicInfo> {
        let (stream, topic) = whole_topic(topic)?;
        options::check_topic_options(&options)?;
        Ok(self.change(CreateTopic { stream, topic, options }).await?.topic)
    }

    /// Changes a topic.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `INVALID_ARGUMENT` where partitions would shrink.
    pub async fn alter_topic(&self, topic: &str, changes: TopicChanges) -> Result<TopicInfo> {
        options::check_topic_changes(&changes)?;
        let alter = AlterTopic { changes, ..unaltered(topic)? };
        Ok(self.change(alter).await?.topic)
    }

    /// Raises the number of partitions. The order of a key's messages breaks across the change.
    ///
    /// # Errors
    /// As [`Admin::alter_topic`].
    pub async fn set_partition_count(&self, topic: &str, partition_count: u32) -> Result<TopicInfo> {
        let changes = TopicChanges { partition_count: Some(partition_count), ..options::default_topic_changes() };
        self.alter_topic(topic, changes).await
    }

    /// Deletes a topic and its data.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let (stream, topic) = whole_topic(topic)?;
        self.change(DeleteTopic { stream, topic }).await?;
        Ok(())
    }

    /// Removes every message visible now from `stream/topic`, or from one partition with `stream/topic:partition`.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`.
    pub async fn purge_topic(&self, topic: &str) -> Result<()> {
        let Address { stream, topic, partition } = parse_topic(topic)?;
        self.change(PurgeTopic { stream, topic, partition }).await?;
        Ok(())
    }

    /// Durably deletes the messages of `stream/topic:partition` before a position; offsets stay as they are.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`; `OFFSET_OUT_OF_RANGE` beyond the end; `UNSUPPORTED` by an older server.
    pub async fn delete_messages(&self, partition: &str, before: Position) -> Result<MessagesDeleted> {
        let (Address { stream, topic, .. }, partition) = whole_partition(partition)?;
        self.change(DeleteMessages { stream, topic, partition, before }).await
    }

    /// Sets the age of its first message at which a segment of a topic is sealed, in microseconds, from a second to a
    /// day; absent: the server decides.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `INVALID_ARGUMENT`; `UNSUPPORTED` by an older server or before its upgrade is finalized.
    pub async fn set_segment_age(&self, topic: &str, segment_age_us: Option<u64>) -> Result<()> {
        let segment_age_us = Some(segment_age_us.unwrap_or(0));
        self.change(AlterTopic { segment_age_us, ..unaltered(topic)? }).await?;
        Ok(())
    }

    /// Sets how many of a partition's last messages, 1 to 100,000, a new one's id is compared with: what is there already
    /// is not appended again, and its receipt says so (see [`Receipt::duplicate`](crate::Receipt)). Absent: none.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `INVALID_ARGUMENT`; `UNSUPPORTED` by an older server or before its upgrade is finalized.
    pub async fn set_dedup_messages(&self, topic: &str, dedup_messages: Option<u32>) -> Result<()> {
        let dedup_messages = Some(dedup_messages.unwrap_or(0));
        self.change(AlterTopic { dedup_messages, ..unaltered(topic)? }).await?;
        Ok(())
    }

    /// How far the caller's named producer has come in `stream/topic:partition`. What it counts is durable.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`; `UNSUPPORTED` by an older server.
    pub async fn producer_progress(&self, name: &str, partition: &str) -> Result<SequencesRead> {
        let (address, partition) = whole_partition(partition)?;
        let description = self.describe_topic(&format!("{}/{}", address.stream, address.topic)).await?;
        let topic_id = description.topic.topic_id;
        self.read(ReadSequences { producer_id: 0, name: Some(name.to_owned()), topic_id, partition }).await
    }

    /// Topics of a stream, or of all, by name.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`.
    pub async fn list_topics(&self, stream: Option<&str>) -> Result<Vec<TopicInfo>> {
        Ok(self.read(ListTopics { stream: stream.map(str::to_owned) }).await?.topics)
    }

    /// A topic and its partitions.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`.
    pub async fn describe_topic(&self, topic: &str) -> Result<TopicDescription> {
        let (stream, topic) = whole_topic(topic)?;
        let reply = self.read(DescribeTopic { stream, topic }).await?;
        let messages::TopicDescribed { topic, partitions, segment_age_us, dedup_messages } = reply;
        Ok(TopicDescription { topic, partitions, segment_age_us, dedup_messages })
    }

    /// What offset a position in `stream/topic:partition` comes to now.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`.
    pub async fn resolve_position(&self, partition: &str, position: Position) -> Result<PositionResolved> {
        let (address, partition) = whole_partition(partition)?;
        let description = self.describe_topic(&format!("{}/{}", address.stream, address.topic)).await?;
        self.read(ResolvePosition { topic_id: description.topic.topic_id, partition, position, group: None }).await
    }

    /// All consumer groups, by name.
    ///
    /// # Errors
    /// Those of any request.
    pub async fn list_groups(&self) -> Result<Vec<GroupInfo>> {
        Ok(self.read(ListGroups {}).await?.groups)
    }

    /// A consumer group, its members, and its partitions with their lag.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        let reply = self.read(DescribeGroup { group: group.to_owned() }).await?;
        Ok(GroupDescription { group: reply.group, members: reply.members, partitions: reply.partitions })
    }

    /// Deletes a group without members, and what it has stored.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`, `GROUP_NOT_EMPTY`, `PERMISSION_DENIED`.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        self.change(DeleteGroup { group: group.to_owned() }).await.map(drop)
    }

    /// The offsets a group has stored, of topics and patterns such as `shop/*`, or of all.
    ///
    /// # Errors
    /// `INVALID_NAME`, `PERMISSION_DENIED`.
    pub async fn group_offsets(&self, group: &str, topics: Option<&[String]>) -> Result<Vec<StoredOffset>> {
        let topics = topics.unwrap_or_default().to_vec();
        Ok(self.read(ReadOffsets { group: group.to_owned(), topics }).await?.offsets)
    }

    /// Sets the stored offsets of a group without members to a position, in one partition or in all.
    ///
    /// # Errors
    /// `GROUP_NOT_EMPTY`, `PERMISSION_DENIED`, `INVALID_NAME`.
    pub async fn reset_offsets(
        &self,
        group: &str,
        topics: &[String],
        position: Position,
        partition: Option<u32>,
        mode: ResetMode,
    ) -> Result<Vec<OffsetChange>> {
        let request = ResetOffsets {
            group: group.to_owned(),
            topics: topics.to_vec(),
            partition,
            position,
            dry_run: mode == ResetMode::DryRun,
        };
        Ok(self.change(request).await?.changes)
    }

    /// Creates a user, with grants to start with, as in [`Admin::set_access`]; a member without any may do nothing.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `INVALID_NAME`, `INVALID_ARGUMENT` for a short password, `PERMISSION_DENIED`.
    pub async fn create_user(&self, user: &str, password: &str, role: Role, grants: &[String]) -> Result<UserInfo> {
        let password = Bytes::copy_from_slice(password.as_bytes());
        let grants = read_grants(grants)?;
        // An older server gives every member what there is, and is only asked for what it knows.
        let grants = (!grants.is_empty()).then_some(grants);
        Ok(self.change(CreateUser { user: user.to_owned(), password, role, grants }).await?.user)
    }

    /// Changes a user's password or role. Sessions that a new password replaces end right after; if this client's is one of
    /// them, it hears the answer first, and then needs a new connection with the new password.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `INVALID_ARGUMENT`, `PERMISSION_DENIED`.
    pub async fn alter_user(&self, user: &str, password: Option<&str>, role: Option<Role>) -> Result<UserInfo> {
        let password = password.map(|password| Bytes::copy_from_slice(password.as_bytes()));
        Ok(self.change(AlterUser { user: user.to_owned(), password, role }).await?.user)
    }

    /// Deletes a user with its tokens.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `CONFLICT` for the last admin, `PERMISSION_DENIED`.
    pub async fn delete_user(&self, user: &str) -> Result<()> {
        self.change(DeleteUser { user: user.to_owned() }).await?;
        Ok(())
    }

    /// All users, by name.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub async fn list_users(&self) -> Result<Vec<UserInfo>> {
        Ok(self.read(ListUsers {}).await?.users)
    }

    /// A user and its tokens.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `PERMISSION_DENIED`.
    pub async fn describe_user(&self, user: &str) -> Result<UserDescription> {
        let reply = self.read(DescribeUser { user: user.to_owned() }).await?;
        Ok(UserDescription { user: reply.user, tokens: TokenInfo::list(reply.tokens, reply.scopes.as_deref()) })
    }

    /// Creates a personal access token, for the caller unless a user is named. `scope` is a list of grants, as in
    /// [`Admin::set_access`], that say what it may do at most; without, it may do all that its user may.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `INVALID_NAME`, `PERMISSION_DENIED`.
    pub async fn create_token(
        &self,
        name: &str,
        user: Option<&str>,
        expires_at_us: Option<i64>,
        scope: Option<&[String]>,
    ) -> Result<NewToken> {
        let scope = scope.map(read_grants).transpose()?;
        let call = CreateToken { name: name.to_owned(), user: user.map(str::to_owned), expires_at_us, scope };
        let reply = self.change(call).await?;
        Ok(NewToken { token: TokenInfo::new(reply.token, reply.scope.as_deref()), secret: reply.secret })
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// `TOKEN_NOT_FOUND`, `PERMISSION_DENIED`.
    pub async fn delete_token(&self, name: &str, user: Option<&str>) -> Result<()> {
        self.change(DeleteToken { name: name.to_owned(), user: user.map(str::to_owned) }).await?;
        Ok(())
    }

    /// Tokens of the caller, or of a user.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `PERMISSION_DENIED`.
    pub async fn list_tokens(&self, user: Option<&str>) -> Result<Vec<TokenInfo>> {
        let reply = self.read(ListTokens { user: user.map(str::to_owned) }).await?;
        Ok(TokenInfo::list(reply.tokens, reply.scopes.as_deref()))
    }

    /// Replaces what a member may do: its named roles, and grants such as `shop/*:read,write`. A grant is a pattern of
    /// topics, with `*` for any run of characters but `/`, and some of the actions `read`, `write`, `admin` and `group`.
    ///
    /// ```no_run
    /// # async fn example(client: levada::Client) -> levada::Result<()> {
    /// let grants = ["shop/orders:read".to_owned(), "shop/carts:read,write".to_owned()];
    /// client.admin().set_access("bob", &["auditors".to_owned()], &grants).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `ROLE_NOT_FOUND`, `INVALID_NAME` for a pattern, `PERMISSION_DENIED`.
    pub async fn set_access(&self, user: &str, roles: &[String], grants: &[String]) -> Result<()> {
        let roles = roles.to_vec();
        self.change(SetAccess { user: user.to_owned(), roles, grants: read_grants(grants)? }).await?;
        Ok(())
    }

    /// What the caller, or a user, may do.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `PERMISSION_DENIED`.
    pub async fn describe_access(&self, user: Option<&str>) -> Result<AccessDescription> {
        let reply = self.read(DescribeAccess { user: user.map(str::to_owned) }).await?;
        Ok(AccessDescription {
            user: reply.user,
            role: reply.role,
            roles: reply.roles,
            grants: grant_texts(&reply.grants),
            effective: grant_texts(&reply.effective),
        })
    }

    /// Creates a named role, or replaces what it allows, for all who have it.
    ///
    /// # Errors
    /// `INVALID_NAME`, `PERMISSION_DENIED`.
    pub async fn set_role(&self, role: &str, grants: &[String]) -> Result<()> {
        self.change(SetRole { role: role.to_owned(), grants: read_grants(grants)? }).await?;
        Ok(())
    }

    /// Deletes a named role and takes it from all who have it.
    ///
    /// # Errors
    /// `ROLE_NOT_FOUND`, `PERMISSION_DENIED`.
    pub async fn delete_role(&self, role: &str) -> Result<()> {
        self.change(DeleteRole { role: role.to_owned() }).await?;
        Ok(())
    }

    /// All named roles, by name.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub async fn list_roles(&self) -> Result<Vec<RoleDescription>> {
        Ok(self.read(ListRoles {}).await?.roles.into_iter().map(RoleDescription::from).collect())
    }

    /// Replaces what a user may take of the server.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `INVALID_ARGUMENT` for a limit of 0, `PERMISSION_DENIED`.
    pub async fn set_quota(&self, user: &str, quota: Quota) -> Result<()> {
        options::check_quota(&quota)?;
        self.change(SetQuota { user: user.to_owned(), quota }).await?;
        Ok(())
    }

    /// What the caller, or a user, may take of the server.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `PERMISSION_DENIED`.
    pub async fn describe_quota(&self, user: Option<&str>) -> Result<QuotaDescription> {
        let reply = self.read(DescribeQuota { user: user.map(str::to_owned) }).await?;
        let Quota { bytes_in, bytes_out, requests, connections } = reply.quota;
        Ok(QuotaDescription { user: reply.user, bytes_in, bytes_out, requests, connections })
    }

    /// How the server is.
    ///
    /// # Errors
    /// Those of any request.
    pub async fn status(&self) -> Result<ServerStatus> {
        self.read(Status {}).await
    }
}

/// Whether deleting a stream deletes its topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteTopics {
    /// A stream with topics is not deleted.
    No,
    /// They go with it.
    Too,
}

impl From<bool> for DeleteTopics {
    fn from(too: bool) -> DeleteTopics {
        if too { DeleteTopics::Too } else { DeleteTopics::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_checked_before_anything_is_sent() {
        assert_eq!(whole_topic("a/b").unwrap(), ("a".into(), "b".into()));
        assert!(whole_topic("a").unwrap_err().is(ErrorCode::InvalidName));
        assert!(whole_topic("a/b:1").unwrap_err().is(ErrorCode::ClientUsage));
        assert_eq!(parse_topic("a/b:1").unwrap().partition, Some(1));
    }

    #[test]
    fn the_secret_of_a_new_token_is_not_debugged() {
        let token = TokenInfo {
            token_id: 1,
            name: "n".into(),
            user: "u".into(),
            created_at_us: 0,
            expires_at_us: None,
            scope: None,
        };
        assert!(!format!("{:?}", NewToken { token, secret: "hush".into() }).contains("hush"));
    }
}
