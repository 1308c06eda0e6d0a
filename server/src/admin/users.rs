//! Users: create, alter, delete, list, describe. Passwords arrive here as hashes.

use levada_protocol::messages::{
    AlterUser, CreateUser, DeleteUser, DescribeUser, UserAltered, UserCreated, UserDeleted, UserDescribed, Users,
};
use levada_protocol::{ErrorCode, limits, names};

use super::change::Change;
use super::convert::{role, token_info, token_scopes, user_info};
use super::grants::grants;
use crate::failure::Failure;
use crate::metadata::event::{
    AccessSet, UserAltered as UserWasAltered, UserCreated as UserWasCreated, UserDeleted as UserWasDeleted,
};
use crate::metadata::{Role, Snapshot, UserAccess};

/// Shortest password.
const MIN_PASSWORD_BYTES: usize = 8;

pub(super) fn user_not_found(user: &str) -> Failure {
    Failure::because(ErrorCode::UserNotFound, format!("no user {user}")).with("user", user)
}

/// Looks at a password before time is spent on its hash.
pub(super) fn check_password(password: &[u8]) -> Result<(), Failure> {
    if (MIN_PASSWORD_BYTES..=limits::MAX_PASSWORD_BYTES).contains(&password.len()) {
        return Ok(());
    }
    let message = format!("a password has {MIN_PASSWORD_BYTES} to {} bytes", limits::MAX_PASSWORD_BYTES);
    Err(Failure::invalid("password", message))
}

pub(super) fn create(snapshot: &Snapshot, request: CreateUser, hash: String, now_us: i64) -> Result<Change, Failure> {
    names::check(&request.user)?;
    if snapshot.user_named(&request.user).is_some() {
        let message = format!("user {} exists already", request.user);
        return Err(Failure::because(ErrorCode::AlreadyExists, message).with("name", request.user));
    }
    // A client that knows of grants says which; the events hold together or not at all.
    let grants = grants(request.grants.as_deref().unwrap_or_default())?;
    let user_id = snapshot.next_user_id;
    let event = UserWasCreated {
        user_id,
        name: request.user.clone(),
        role: role(request.role),
        password_hash: hash,
        at_us: now_us,
    };
    // A new user has what members had before there were grants, unless this is said.
    let is_said = grants != UserAccess::before_grants().grants;
    let access = is_said.then(|| AccessSet { user_id, roles: Vec::new(), grants }.into());
    let events = std::iter::once(event.into()).chain(access).collect();
    Ok(Change::new(events, move |snapshot| {
        let user = snapshot.user_named(&request.user).ok_or_else(|| user_not_found(&request.user))?;
        Ok(UserCreated { user: user_info(snapshot, user) })
    }))
}

pub(super) fn alter(snapshot: &Snapshot, request: AlterUser, password_hash: Option<String>) -> Result<Change, Failure> {
    let user = snapshot.user_named(&request.user).ok_or_else(|| user_not_found(&request.user))?;
    let role = request.role.map(role);
    if role == Some(Role::Member) {
        keep_an_admin(snapshot, user.user_id)?;
    }
    let event = UserWasAltered { user_id: user.user_id, password_hash, role };
    let events = if event.password_hash.is_some() || role.is_some() { vec![event.into()] } else { Vec::new() };
    Ok(Change::new(events, move |snapshot| {
        let user = snapshot.user_named(&request.user).ok_or_else(|| user_not_found(&request.user))?;
        Ok(UserAltered { user: user_info(snapshot, user) })
    }))
}

pub(super) fn delete(snapshot: &Snapshot, request: &DeleteUser) -> Result<Change, Failure> {
    let user = snapshot.user_named(&request.user).ok_or_else(|| user_not_found(&request.user))?;
    keep_an_admin(snapshot, user.user_id)?;
    Ok(Change::new(vec![UserWasDeleted { user_id: user.user_id }.into()], |_| Ok(UserDeleted {})))
}

/// Somebody else is left who may do everything.
fn keep_an_admin(snapshot: &Snapshot, without: u32) -> Result<(), Failure> {
    let mut others = snapshot.users.values().filter(|user| user.user_id != without);
    if others.any(|user| user.role == Role::Admin) {
        return Ok(());
    }
    Err(Failure::because(ErrorCode::Conflict, "this is the last admin: give another user the role first"))
}

pub(super) fn list(snapshot: &Snapshot) -> Users {
    Users { users: snapshot.users_by_name().map(|user| user_info(snapshot, user)).collect() }
}

pub(super) fn describe(snapshot: &Snapshot, request: &DescribeUser) -> Result<UserDescribed, Failure> {
    let user = snapshot.user_named(&request.user).ok_or_else(|| user_not_found(&request.user))?;
    let tokens = snapshot.tokens_of(user.user_id).map(|token| token_info(snapshot, token)).collect();
    let scopes = Some(token_scopes(snapshot, snapshot.tokens_of(user.user_id)));
    Ok(UserDescribed { user: user_info(snapshot, user), tokens, scopes })
}
