//! What a principal may do, by one version of metadata: its role, its grants, those of its named roles, the scope of its
//! token. Deny is what is left when nothing allows.
//!
//! [`Access`] answers for any name; [`Rights`] remembers the answers for topic ids, so that the hot path looks one up.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::{Credential, Principal};
use crate::metadata::{Actions, Grant, Role, Snapshot};

/// The stream of the server's own topics: admins read it, nobody else touches it, and its name cannot be taken.
pub const SYSTEM_STREAM: &str = "_levada";

/// What a principal may do.
#[derive(Clone, Debug)]
pub struct Access {
    user: Arc<str>,
    role: Option<Role>,
    /// Its own grants, then those of each named role.
    grants: Vec<Arc<[Grant]>>,
    scope: Option<Arc<[Grant]>>,
}

impl Access {
    /// That of a principal. One that is no longer admitted may do nothing.
    #[must_use]
    pub fn of(snapshot: &Snapshot, principal: &Principal) -> Self {
        let role = snapshot.role(principal).filter(|_| snapshot.admits(principal));
        let mut grants: Vec<Arc<[Grant]>> = Vec::new();
        if role == Some(Role::Member)
            && let Some(access) = snapshot.access.get(&principal.user_id)
        {
            grants.push(access.grants.as_slice().into());
            grants.extend(access.roles.iter().filter_map(|role| snapshot.roles.get(role)).cloned());
        }
        let scope = match principal.credential {
            Credential::Token { token_id } => snapshot.token_scopes.get(&token_id).cloned(),
            Credential::InsecureDev | Credential::Password { .. } => None,
        };
        Self { user: Arc::clone(&principal.name), role, grants, scope }
    }

    /// Name of the user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether there is such a user at all.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.role.is_some()
    }

    /// Whether a token sets bounds.
    #[must_use]
    pub fn is_scoped(&self) -> bool {
        self.scope.is_some()
    }

    /// Whether everything is allowed, users and roles included. A token with a scope is never that.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.role == Some(Role::Admin) && !self.is_scoped()
    }

    /// What may be done with a topic of that name, whether it exists or not.
    #[must_use]
    pub fn on(&self, stream: &str, topic: &str) -> Actions {
        if stream == SYSTEM_STREAM {
            return if self.is_admin() { Actions::READ.or(Actions::GROUP) } else { Actions::NONE };
        }
        let allowed = |grants: &[Grant]| {
            let fitting = grants.iter().filter(|grant| grant.pattern.matches(stream, topic));
            fitting.fold(Actions::NONE, |sum, grant| sum.or(grant.actions))
        };
        let own = match self.role {
            None => Actions::NONE,
            Some(Role::Admin) => Actions::ALL,
            Some(Role::Member) => self.grants.iter().fold(Actions::NONE, |sum, grants| sum.or(allowed(grants))),
        };
        self.scope.as_deref().map_or(own, |scope| own.and(allowed(scope)))
    }

    /// What may be done with a topic; `None` if there is none of that id.
    #[must_use]
    pub fn on_topic(&self, snapshot: &Snapshot, topic_id: u32) -> Option<Actions> {
        let topic = snapshot.topics.get(&topic_id)?;
        Some(self.on(snapshot.stream_name(topic), &topic.name))
    }

    /// Whether all of `actions` are allowed on a topic of that name.
    #[must_use]
    pub fn may(&self, actions: Actions, stream: &str, topic: &str) -> bool {
        self.on(stream, topic).contains(actions)
    }

    /// Whether a topic may be known to exist: anything may be done with it.
    #[must_use]
    pub fn sees(&self, stream: &str, topic: &str) -> bool {
        !self.on(stream, topic).is_none()
    }

    /// Whether a stream may be known to exist: something may be done with topics it has or could have.
    #[must_use]
    pub fn sees_stream(&self, stream: &str) -> bool {
        if stream == SYSTEM_STREAM {
            return self.is_admin();
        }
        self.everyone(|grants| grants.iter().any(|grant| grant.pattern.matches_stream(stream)))
    }

    /// Whether a stream may be created and deleted: whatever topics it has or could have may be, too.
    #[must_use]
    pub fn manages_stream(&self, stream: &str) -> bool {
        let whole =
            |grant: &Grant| grant.pattern.matches_whole_stream(stream) && grant.actions.contains(Actions::ADMIN);
        stream != SYSTEM_STREAM && self.everyone(|grants| grants.iter().any(whole))
    }

    /// Whether the user's side and the token's both hold.
    fn everyone(&self, holds: impl Fn(&[Grant]) -> bool) -> bool {
        let own = match self.role {
            None => false,
            Some(Role::Admin) => true,
            Some(Role::Member) => self.grants.iter().any(|grants| holds(grants)),
        };
        own && self.scope.as_deref().is_none_or(holds)
    }
}

/// What the principal of a connection may do, remembered until metadata or the principal changes.
#[derive(Debug, Default)]
pub struct Rights {
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    version: u64,
    access: Access,
    by_topic: BTreeMap<u32, Actions>,
}

impl Rights {
    /// Forgets everything: the connection speaks for somebody else.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// What the principal may do now.
    pub fn access(&mut self, snapshot: &Snapshot, principal: &Principal) -> &Access {
        &self.known(snapshot, principal).access
    }

    /// What the principal may do with a topic now; `None` if there is none of that id.
    pub fn on_topic(&mut self, snapshot: &Snapshot, principal: &Principal, topic_id: u32) -> Option<Actions> {
        let known = self.known(snapshot, principal);
        if let Some(actions) = known.by_topic.get(&topic_id) {
            return Some(*actions);
        }
        let actions = known.access.on_topic(snapshot, topic_id)?;
        known.by_topic.insert(topic_id, actions);
        Some(actions)
    }

    fn known(&mut self, snapshot: &Snapshot, principal: &Principal) -> &mut Known {
        let version = snapshot.version();
        if self.known.as_ref().is_some_and(|known| known.version != version) {
            self.known = None;
        }
        self.known.get_or_insert_with(|| {
            let access = Access::of(snapshot, principal);
            Known { version, access, by_topic: BTreeMap::new() }
        })
    }
}
