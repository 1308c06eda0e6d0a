//! What users may do and take: grants, named roles, quotas.

use std::collections::BTreeMap;

use levada_protocol::messages::{
    AccessDescribed, AccessGrant, AccessSet, DeleteRole, DescribeAccess, DescribeQuota, QuotaDescribed, QuotaSet,
    RoleDeleted, RoleInfo, RoleSet, Roles, SetAccess, SetQuota, SetRole,
};
use levada_protocol::{ErrorCode, limits, messages as wire, names};

use super::change::Change;
use super::convert::role_info;
use super::users::user_not_found;
use crate::auth::Principal;
use crate::failure::Failure;
use crate::metadata::event::{
    AccessSet as AccessWasSet, QuotaSet as QuotaWasSet, RoleDeleted as RoleWasDeleted, RoleSet as RoleWasSet,
};
use crate::metadata::{Actions, Grant, Quota, Role, Snapshot};
use crate::pattern::TopicPattern;

/// Grants of a request, checked: by pattern, one for each.
///
/// # Errors
/// `INVALID_NAME` with the pattern, `INVALID_ARGUMENT`.
pub(super) fn grants(given: &[AccessGrant]) -> Result<Vec<Grant>, Failure> {
    if limits::MAX_GRANTS < given.len() {
        return Err(Failure::invalid("grants", format!("at most {} grants in one list", limits::MAX_GRANTS)));
    }
    let mut by_pattern: BTreeMap<TopicPattern, Actions> = BTreeMap::new();
    for grant in given {
        let pattern = TopicPattern::parse(&grant.pattern)?;
        let actions = Actions::from_bits(grant.actions).filter(|actions| !actions.is_none()).ok_or_else(|| {
            let message =
                format!("the grant of `{}` names no action, or one that this server does not know", grant.pattern);
            Failure::invalid("grants", message)
        })?;
        let sum = by_pattern.entry(pattern).or_default();
        *sum = sum.or(actions);
    }
    Ok(by_pattern.into_iter().map(|(pattern, actions)| Grant { pattern, actions }).collect())
}

pub(super) fn grant_infos(grants: &[Grant]) -> Vec<AccessGrant> {
    let info =
        |grant: &Grant| AccessGrant { pattern: grant.pattern.as_str().to_owned(), actions: grant.actions.bits() };
    grants.iter().map(info).collect()
}

fn role_not_found(role: &str) -> Failure {
    Failure::because(ErrorCode::RoleNotFound, format!("no role {role}")).with("role", role)
}

fn named<'a>(principal: &'a Principal, user: Option<&'a str>) -> &'a str {
    user.unwrap_or(&principal.name)
}

pub(super) fn set_access(snapshot: &Snapshot, request: &SetAccess) -> Result<Change, Failure> {
    let user = snapshot.user_named(&request.user).ok_or_else(|| user_not_found(&request.user))?;
    if limits::MAX_USER_ROLES < request.roles.len() {
        return Err(Failure::invalid("roles", format!("at most {} named roles", limits::MAX_USER_ROLES)));
    }
    let mut roles = request.roles.clone();
    roles.sort_unstable();
    roles.dedup();
    if let Some(unknown) = roles.iter().find(|role| !snapshot.roles.contains_key(*role)) {
        return Err(role_not_found(unknown));
    }
    let event = AccessWasSet { user_id: user.user_id, roles, grants: grants(&request.grants)? };
    Ok(Change::new(vec![event.into()], |_| Ok(AccessSet {})))
}

pub(super) fn describe_access(
    snapshot: &Snapshot,
    principal: &Principal,
    request: &DescribeAccess,
) -> Result<AccessDescribed, Failure> {
    let name = named(principal, request.user.as_deref());
    let everything = vec![Grant::everywhere(Actions::ALL)];
    let Some(user) = snapshot.user_named(name) else {
        if request.user.is_none() && snapshot.role(principal) == Some(Role::Admin) {
            // Without authentication the caller is nobody in particular, and may do everything.
            return Ok(AccessDescribed {
                user: name.to_owned(),
                role: wire::Role::Admin,
                roles: Vec::new(),
                grants: Vec::new(),
                effective: grant_infos(&everything),
            });
        }
        return Err(user_not_found(name));
    };
    let access = snapshot.access.get(&user.user_id).map(|access| (**access).clone()).unwrap_or_default();
    let effective = match user.role {
        Role::Admin => everything,
        Role::Member => {
            let mut all = access.grants.clone();
            let of_roles = access.roles.iter().filter_map(|role| snapshot.roles.get(role));
            all.extend(of_roles.flat_map(|grants| grants.iter().cloned()));
            grants(&grant_infos(&all)).unwrap_or(all)
        }
    };
    Ok(AccessDescribed {
        user: user.name.clone(),
        role: role_info(user.role),
        roles: access.roles,
        grants: grant_infos(&access.grants),
        effective: grant_infos(&effective),
    })
}

pub(super) fn set_role(request: &SetRole) -> Result<Change, Failure> {
    names::check(&request.role)?;
    let event = RoleWasSet { role: request.role.clone(), grants: grants(&request.grants)? };
    Ok(Change::new(vec![event.into()], |_| Ok(RoleSet {})))
}

pub(super) fn delete_role(snapshot: &Snapshot, request: &DeleteRole) -> Result<Change, Failure> {
    if !snapshot.roles.contains_key(&request.role) {
        return Err(role_not_found(&request.role));
    }
    let event = RoleWasDeleted { role: request.role.clone() };
    Ok(Change::new(vec![event.into()], |_| Ok(RoleDeleted {})))
}

pub(super) fn list_roles(snapshot: &Snapshot) -> Roles {
    let info = |(role, grants): (&String, &std::sync::Arc<[Grant]>)| RoleInfo {
        role: role.clone(),
        grants: grant_infos(grants),
        user_count: u32::try_from(snapshot.users_with_role(role).count()).unwrap_or(u32::MAX),
    };
    Roles { roles: snapshot.roles.iter().map(info).collect() }
}

pub(super) fn set_quota(snapshot: &Snapshot, request: &SetQuota) -> Result<Change, Failure> {
    let user = snapshot.user_named(&request.user).ok_or_else(|| user_not_found(&request.user))?;
    let wire::Quota { bytes_in, bytes_out, requests, connections } = request.quota;
    let zero = [
        ("bytes_in", bytes_in == Some(0)),
        ("bytes_out", bytes_out == Some(0)),
        ("requests", requests == Some(0)),
        ("connections", connections == Some(0)),
    ];
    if let Some((name, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
        return Err(Failure::invalid(name, "0 would let nothing through: leave it out for no limit"));
    }
    let event = QuotaWasSet { user_id: user.user_id, quota: Quota { bytes_in, bytes_out, requests, connections } };
    Ok(Change::new(vec![event.into()], |_| Ok(QuotaSet {})))
}

pub(super) fn describe_quota(
    snapshot: &Snapshot,
    principal: &Principal,
    request: &DescribeQuota,
) -> Result<QuotaDescribed, Failure> {
    let name = named(principal, request.user.as_deref());
    let user = snapshot.user_named(name).ok_or_else(|| user_not_found(name))?;
    let Quota { bytes_in, bytes_out, requests, connections } =
        snapshot.quotas.get(&user.user_id).cloned().unwrap_or_default();
    let quota = wire::Quota { bytes_in, bytes_out, requests, connections };
    Ok(QuotaDescribed { user: user.name.clone(), quota })
}
