//! The one table of who may do what: each request maps to the actions it takes and what it takes them on. A request without
//! a row does not compile, and `admin::matrix` compares every row with what the specification says.
//!
//! Names that a principal may do nothing with are denied, whether they exist or not; lists leave them out. An id that no topic
//! has is not found for anybody: ids are numbers and tell no name.

use levada_protocol::ErrorCode;
use levada_protocol::messages::Request;

use super::rights::{Access, Rights, SYSTEM_STREAM};
use crate::auth::Principal;
use crate::failure::Failure;
use crate::metadata::{Actions, Snapshot};

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need<'a> {
    /// Nothing; handled before anybody is known.
    Nothing,
    /// A user. What is about topics is looked at, or left out, where they are known: lists, and requests of groups.
    User,
    /// To be the user it is about, or an admin. `None` is the caller.
    Oneself(Option<&'a str>),
    /// The same, with a credential that is not bounded: it changes credentials.
    Credentials(Option<&'a str>),
    /// To be an admin.
    Admin,
    /// To be allowed anything on topics of a stream.
    SeeStream(&'a str),
    /// To be allowed to manage all that a stream could have.
    ManageStream(&'a str),
    /// To be allowed anything on a topic.
    SeeTopic(&'a str, &'a str),
    /// Actions on a topic.
    Topic(Actions, &'a str, &'a str),
    /// Actions on a topic that has this id.
    TopicId(Actions, u32),
    /// Actions on each topic of a commit.
    Commit(Actions, &'a [levada_protocol::messages::CommitOffset]),
}

/// The table: what a request does, in words for a refusal, and what it takes.
fn need(request: &Request) -> (&'static str, Need<'_>) {
    match request {
        Request::Hello(_) => ("hello", Need::Nothing),
        Request::Authenticate(_) => ("authenticate", Need::Nothing),
        Request::Ping(_) => ("ping", Need::Nothing),
        Request::CreateStream(create) => ("create stream", Need::ManageStream(&create.stream)),
        Request::DeleteStream(delete) => ("delete stream", Need::ManageStream(&delete.stream)),
        Request::ListStreams(_) => ("list streams", Need::User),
        Request::DescribeStream(describe) => ("describe stream", Need::SeeStream(&describe.stream)),
        Request::CreateTopic(create) => ("create topic", Need::Topic(Actions::ADMIN, &create.stream, &create.topic)),
        Request::AlterTopic(alter) => ("alter topic", Need::Topic(Actions::ADMIN, &alter.stream, &alter.topic)),
        Request::DeleteTopic(delete) => ("delete topic", Need::Topic(Actions::ADMIN, &delete.stream, &delete.topic)),
        Request::PurgeTopic(purge) => ("purge topic", Need::Topic(Actions::ADMIN, &purge.stream, &purge.topic)),
        Request::DeleteMessages(delete) => {
            ("delete messages", Need::Topic(Actions::ADMIN, &delete.stream, &delete.topic))
        }
        Request::ListTopics(list) => ("list topics", list.stream.as_deref().map_or(Need::User, Need::SeeStream)),
        Request::DescribeTopic(describe) => ("describe topic", Need::SeeTopic(&describe.stream, &describe.topic)),
        Request::CreateUser(_) => ("create user", Need::Admin),
        // A role is given by admins only; the own password may be changed by everyone.
        Request::AlterUser(alter) if alter.role.is_some() => ("alter role", Need::Admin),
        Request::AlterUser(alter) => ("alter user", Need::Credentials(Some(&alter.user))),
        Request::DeleteUser(_) => ("delete user", Need::Admin),
        Request::ListUsers(_) => ("list users", Need::Admin),
        Request::DescribeUser(describe) => ("describe user", Need::Oneself(Some(&describe.user))),
        Request::CreateToken(create) => ("create token", Need::Credentials(create.user.as_deref())),
        Request::DeleteToken(delete) => ("delete token", Need::Credentials(delete.user.as_deref())),
        Request::ListTokens(list) => ("list tokens", Need::Oneself(list.user.as_deref())),
        Request::SetAccess(_) => ("set access", Need::Admin),
        Request::DescribeAccess(describe) => ("describe access", Need::Oneself(describe.user.as_deref())),
        Request::SetRole(_) => ("set role", Need::Admin),
        Request::DeleteRole(_) => ("delete role", Need::Admin),
        Request::ListRoles(_) => ("list roles", Need::Admin),
        Request::SetQuota(_) => ("set quota", Need::Admin),
        Request::DescribeQuota(describe) => ("describe quota", Need::Oneself(describe.user.as_deref())),
        Request::Status(_) => ("read status", Need::User),
        Request::OpenProducer(_) => ("open producer", Need::User),
        Request::ReadSequences(read) => ("read sequences", Need::TopicId(Actions::WRITE, read.topic_id)),
        Request::Produce(produce) => ("produce", Need::TopicId(Actions::WRITE, produce.topic_id)),
        Request::Fetch(fetch) => ("fetch", Need::TopicId(Actions::READ, fetch.topic_id)),
        Request::Subscribe(subscribe) => {
            ("subscribe", Need::TopicId(reading(subscribe.group.as_deref()), subscribe.topic_id))
        }
        Request::ResolvePosition(resolve) => {
            ("resolve position", Need::TopicId(reading(resolve.group.as_deref()), resolve.topic_id))
        }
        Request::Unsubscribe(_) => ("unsubscribe", Need::User),
        Request::Credit(_) => ("credit", Need::User),
        Request::Commit(commit) => ("commit", Need::Commit(Actions::GROUP, &commit.offsets)),
        Request::JoinGroup(_) => ("join group", Need::User),
        Request::LeaveGroup(_) => ("leave group", Need::User),
        Request::ReadOffsets(_) => ("read offsets", Need::User),
        Request::ResetOffsets(_) => ("reset offsets", Need::User),
        Request::ListGroups(_) => ("list groups", Need::User),
        Request::DescribeGroup(_) => ("describe group", Need::User),
        Request::DeleteGroup(_) => ("delete group", Need::User),
    }
}

/// The actions that a live subscription goes on needing.
#[must_use]
pub fn subscription_actions(subscribe: &levada_protocol::messages::Subscribe) -> Actions {
    reading(subscribe.group.as_deref())
}

/// What is read for a group takes both.
fn reading(group: Option<&str>) -> Actions {
    if group.is_some() { Actions::READ.or(Actions::GROUP) } else { Actions::READ }
}

/// Whether the principal may send this request.
///
/// # Errors
/// `PERMISSION_DENIED` that names what is missing.
pub fn authorize(
    snapshot: &Snapshot,
    principal: &Principal,
    rights: &mut Rights,
    request: &Request,
) -> Result<(), Failure> {
    let (action, need) = need(request);
    let allowed = match need {
        Need::Nothing => true,
        Need::TopicId(actions, topic_id) => {
            // The shard says that there is no such topic.
            rights.on_topic(snapshot, principal, topic_id).is_none_or(|have| have.contains(actions))
        }
        Need::Commit(actions, offsets) => offsets.iter().all(|offset| {
            rights.on_topic(snapshot, principal, offset.topic_id).is_none_or(|have| have.contains(actions))
        }),
        need => holds(need, rights.access(snapshot, principal)),
    };
    if allowed {
        return Ok(());
    }
    Err(denied(snapshot, rights.access(snapshot, principal), action, need))
}

/// Rows that are not about topic ids.
fn holds(need: Need<'_>, access: &Access) -> bool {
    let is_own = |about: Option<&str>| access.is_known() && about.is_none_or(|user| user == access.user());
    match need {
        Need::Nothing => true,
        Need::User => access.is_known(),
        Need::Oneself(about) => access.is_admin() || is_own(about),
        Need::Credentials(about) => access.is_admin() || (is_own(about) && !access.is_scoped()),
        Need::Admin => access.is_admin(),
        Need::SeeStream(stream) => access.sees_stream(stream),
        Need::ManageStream(stream) => access.manages_stream(stream),
        Need::SeeTopic(stream, topic) => access.sees(stream, topic),
        Need::Topic(actions, stream, topic) => access.may(actions, stream, topic),
        Need::TopicId(..) | Need::Commit(..) => false,
    }
}

/// The refusal: who may not do what on what, and how that could be changed. Tells no name that the caller did not.
#[cold]
fn denied(snapshot: &Snapshot, access: &Access, action: &'static str, need: Need<'_>) -> Failure {
    let whole = |stream: &str| format!("{stream}/*");
    let by_id = |actions: Actions, topic_id: u32| {
        let topic = snapshot.topics.get(&topic_id);
        let named = topic.map(|topic| (snapshot.stream_name(topic), topic.name.as_str()));
        match named.filter(|(stream, topic)| access.sees(stream, topic)) {
            Some((stream, topic)) => {
                missing(access, action, actions.without(access.on(stream, topic)), &format!("{stream}/{topic}"))
            }
            None => plain(access, action, &format!("the topic with id {topic_id}")).with("resource", topic_id),
        }
    };
    match need {
        Need::SeeStream(SYSTEM_STREAM) | Need::ManageStream(SYSTEM_STREAM) | Need::Topic(_, SYSTEM_STREAM, _) => {
            let message =
                format!("user {} may not {action}: {SYSTEM_STREAM} is the server's own stream", access.user());
            Failure::because(ErrorCode::PermissionDenied, message)
                .with("action", action)
                .with("resource", SYSTEM_STREAM)
        }
        Need::SeeStream(stream) => missing(access, action, Actions::READ, &whole(stream)),
        Need::ManageStream(stream) => missing(access, action, Actions::ADMIN, &whole(stream)),
        Need::SeeTopic(stream, topic) => missing(access, action, Actions::READ, &format!("{stream}/{topic}")),
        Need::Topic(actions, stream, topic) => missing(access, action, actions, &format!("{stream}/{topic}")),
        Need::TopicId(actions, topic_id) => by_id(actions, topic_id),
        Need::Commit(actions, offsets) => {
            let lacking = |topic_id| access.on_topic(snapshot, topic_id).is_some_and(|have| !have.contains(actions));
            let first = offsets.iter().map(|offset| offset.topic_id).find(|topic_id| lacking(*topic_id));
            by_id(actions, first.unwrap_or_default())
        }
        Need::Nothing | Need::User | Need::Oneself(_) | Need::Credentials(_) | Need::Admin => {
            let bounds = if access.is_scoped() { " with a token that has a scope" } else { "" };
            let message = format!("user {} may not {action}{bounds}: it takes the role admin", access.user());
            Failure::because(ErrorCode::PermissionDenied, message).with("action", action)
        }
    }
}

/// The refusal of somebody who lacks `actions` on a resource, with the command that would grant them.
pub(crate) fn missing(access: &Access, action: &'static str, actions: Actions, resource: &str) -> Failure {
    let user = access.user();
    let message = if access.is_scoped() {
        format!("user {user} may not {action} on {resource} with this token: {actions} is not granted to both")
    } else {
        format!(
            "user {user} may not {action} on {resource}: grant it with `levada access set {user} --add --grant '{resource}:{actions}'`"
        )
    };
    Failure::because(ErrorCode::PermissionDenied, message).with("action", action).with("resource", resource)
}

fn plain(access: &Access, action: &'static str, resource: &str) -> Failure {
    let message = format!("user {} may not {action} on {resource}", access.user());
    Failure::because(ErrorCode::PermissionDenied, message).with("action", action)
}
