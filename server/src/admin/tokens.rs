//! Personal access tokens: create, delete, list. The secret is in the reply to create and nowhere else.

use std::sync::Arc;

use levada_protocol::messages::{CreateToken, DeleteToken, ListTokens, TokenCreated, TokenDeleted, Tokens};
use levada_protocol::{ErrorCode, names};

use super::change::Change;
use super::convert::{token_info, token_scopes};
use super::grants::{grant_infos, grants};
use super::users::user_not_found;
use crate::auth::{Principal, TokenSecret};
use crate::failure::Failure;
use crate::metadata::Snapshot;
use crate::metadata::event::{TokenCreated as TokenWasCreated, TokenDeleted as TokenWasDeleted, TokenScoped};
use crate::metadata::model::User;

fn owner<'a>(snapshot: &'a Snapshot, principal: &Principal, named: Option<&str>) -> Result<&'a Arc<User>, Failure> {
    let name = named.unwrap_or(&principal.name);
    snapshot.user_named(name).ok_or_else(|| user_not_found(name))
}

fn token_not_found(name: &str) -> Failure {
    Failure::because(ErrorCode::TokenNotFound, format!("no token {name}")).with("token", name)
}

pub(super) fn create(
    snapshot: &Snapshot,
    principal: &Principal,
    request: CreateToken,
    secret: TokenSecret,
    now_us: i64,
) -> Result<Change, Failure> {
    names::check(&request.name)?;
    let user_id = owner(snapshot, principal, request.user.as_deref())?.user_id;
    if snapshot.token_of(user_id, &request.name).is_some() {
        let message = format!("token {} exists already", request.name);
        return Err(Failure::because(ErrorCode::AlreadyExists, message).with("name", request.name));
    }
    if request.expires_at_us.is_some_and(|expires_at_us| expires_at_us <= now_us) {
        return Err(Failure::invalid("expires_at_us", "the token would have expired already"));
    }
    let scope = request.scope.as_deref().map(grants).transpose()?;
    let token_id = snapshot.next_token_id;
    let event = TokenWasCreated {
        token_id,
        user_id,
        name: request.name.clone(),
        digest: secret.digest(),
        at_us: now_us,
        expires_at_us: request.expires_at_us,
    };
    let mut events = vec![event.into()];
    events.extend(scope.map(|scope| TokenScoped { token_id, scope }.into()));
    Ok(Change::new(events, move |snapshot| {
        let token = snapshot.token_of(user_id, &request.name).ok_or_else(|| token_not_found(&request.name))?;
        let scope = snapshot.token_scopes.get(&token_id).map(|scope| grant_infos(scope));
        Ok(TokenCreated { token: token_info(snapshot, token), secret: secret.text(), scope })
    }))
}

pub(super) fn delete(snapshot: &Snapshot, principal: &Principal, request: &DeleteToken) -> Result<Change, Failure> {
    let user_id = owner(snapshot, principal, request.user.as_deref())?.user_id;
    let token = snapshot.token_of(user_id, &request.name).ok_or_else(|| token_not_found(&request.name))?;
    Ok(Change::new(vec![TokenWasDeleted { token_id: token.token_id }.into()], |_| Ok(TokenDeleted {})))
}

pub(super) fn list(snapshot: &Snapshot, principal: &Principal, request: &ListTokens) -> Result<Tokens, Failure> {
    let user_id = owner(snapshot, principal, request.user.as_deref())?.user_id;
    let mut tokens: Vec<_> = snapshot.tokens_of(user_id).map(|token| token_info(snapshot, token)).collect();
    tokens.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Tokens { tokens, scopes: Some(token_scopes(snapshot, snapshot.tokens_of(user_id))) })
}
