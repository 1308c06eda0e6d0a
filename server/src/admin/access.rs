//! The one table of who may do what. A request without a row does not compile.

use levada_protocol::ErrorCode;
use levada_protocol::messages::Request;

use crate::auth::Principal;
use crate::failure::Failure;
use crate::metadata::{Role, Snapshot};

/// Who may send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access<'a> {
    /// Whoever has connected; handled before anybody is known.
    Everybody,
    /// Every user.
    Member,
    /// The user it is about, or an admin. `None` is the caller.
    Owner(Option<&'a str>),
    /// Admins.
    Admin,
}

/// The table: what a request does, in words for a refusal, and who may.
fn access(request: &Request) -> (&'static str, Access<'_>) {
    match request {
        Request::Hello(_) => ("hello", Access::Everybody),
        Request::Authenticate(_) => ("authenticate", Access::Everybody),
        Request::Ping(_) => ("ping", Access::Everybody),
        Request::CreateStream(_) => ("create stream", Access::Admin),
        Request::DeleteStream(_) => ("delete stream", Access::Admin),
        Request::ListStreams(_) => ("list streams", Access::Member),
        Request::DescribeStream(_) => ("describe stream", Access::Member),
        Request::CreateTopic(_) => ("create topic", Access::Admin),
        Request::AlterTopic(_) => ("alter topic", Access::Admin),
        Request::DeleteTopic(_) => ("delete topic", Access::Admin),
        Request::PurgeTopic(_) => ("purge topic", Access::Admin),
        Request::DeleteMessages(_) => ("delete messages", Access::Admin),
        Request::ListTopics(_) => ("list topics", Access::Member),
        Request::DescribeTopic(_) => ("describe topic", Access::Member),
        Request::CreateUser(_) => ("create user", Access::Admin),
        // A role is given by admins only; the own password may be changed by everyone.
        Request::AlterUser(alter) if alter.role.is_some() => ("alter role", Access::Admin),
        Request::AlterUser(alter) => ("alter user", Access::Owner(Some(&alter.user))),
        Request::DeleteUser(_) => ("delete user", Access::Admin),
        Request::ListUsers(_) => ("list users", Access::Admin),
        Request::DescribeUser(describe) => ("describe user", Access::Owner(Some(&describe.user))),
        Request::CreateToken(create) => ("create token", Access::Owner(create.user.as_deref())),
        Request::DeleteToken(delete) => ("delete token", Access::Owner(delete.user.as_deref())),
        Request::ListTokens(list) => ("list tokens", Access::Owner(list.user.as_deref())),
        Request::Status(_) => ("read status", Access::Member),
        Request::OpenProducer(_) => ("open producer", Access::Member),
        Request::ReadSequences(_) => ("read sequences", Access::Member),
        Request::Produce(_) => ("produce", Access::Member),
        Request::Fetch(_) => ("fetch", Access::Member),
        Request::Subscribe(_) => ("subscribe", Access::Member),
        Request::Unsubscribe(_) => ("unsubscribe", Access::Member),
        Request::ResolvePosition(_) => ("resolve position", Access::Member),
        Request::Credit(_) => ("credit", Access::Member),
        Request::JoinGroup(_) => ("join group", Access::Member),
        Request::LeaveGroup(_) => ("leave group", Access::Member),
        Request::Commit(_) => ("commit", Access::Member),
        Request::ReadOffsets(_) => ("read offsets", Access::Member),
        Request::ResetOffsets(_) => ("reset offsets", Access::Member),
        Request::ListGroups(_) => ("list groups", Access::Member),
        Request::DescribeGroup(_) => ("describe group", Access::Member),
        Request::DeleteGroup(_) => ("delete group", Access::Member),
    }
}

/// Whether the principal may send this request.
///
/// # Errors
/// `PERMISSION_DENIED` that names the action.
pub fn authorize(snapshot: &Snapshot, principal: &Principal, request: &Request) -> Result<(), Failure> {
    let (action, access) = access(request);
    let role = snapshot.role(principal);
    let allowed = match access {
        Access::Everybody => true,
        Access::Member => role.is_some(),
        Access::Owner(about) => match role {
            Some(Role::Admin) => true,
            Some(Role::Member) => about.is_none_or(|user| user == &*principal.name),
            None => false,
        },
        Access::Admin => role == Some(Role::Admin),
    };
    if allowed {
        return Ok(());
    }
    Err(Failure::because(ErrorCode::PermissionDenied, format!("user {} may not {action}", principal.name))
        .with("action", action))
}
