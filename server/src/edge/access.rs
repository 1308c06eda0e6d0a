//! What a connection may do and take: asked for every request, and again for what is under way when somebody's rights change.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::messages::{Credit, Request};
use levada_protocol::{ErrorCode, messages};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::admin;
use crate::auth::Principal;
use crate::broker::{DataRequest, ToConnection};
use crate::edge::connection::ConnectionTask;
use crate::failure::Failure;
use crate::metadata::{Actions, Quota, Snapshot};

/// A live subscription as its connection knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pushing {
    /// The shard that pushes.
    pub(super) owner: u16,
    /// What it reads.
    pub(super) topic_id: u32,
    /// What the principal has to be allowed for as long as it lives.
    pub(super) actions: Actions,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ConnectionTask<S> {
    pub(super) fn authorize(&mut self, request: &Request) -> Result<(), Failure> {
        let principal = self.live.principal.borrow();
        let principal = principal.as_ref().ok_or_else(|| Failure::new(ErrorCode::Unauthenticated))?;
        admin::authorize(&self.edge.shard.snapshot(), principal, &mut self.rights, request)
    }

    /// Whether what was allowed when it began still is.
    pub(super) fn still_may(&mut self, actions: Actions, topic_id: u32) -> bool {
        let principal = self.live.principal.borrow();
        let Some(principal) = principal.as_ref() else { return false };
        let now = self.rights.on_topic(&self.edge.shard.snapshot(), principal, topic_id);
        // A topic that is gone ends its subscriptions by itself, with a better reason.
        now.is_none_or(|have| have.contains(actions))
    }

    /// Ends the subscriptions that are no longer allowed: nothing of them is sent from here on.
    pub(super) fn on_access_changed(&mut self) {
        if let (Some(metered), Some(principal)) = (&self.metered, self.live.principal.borrow().as_ref()) {
            metered.set(&quota(&self.edge.shard.snapshot(), principal), self.edge.shard.now_us());
        }
        let live: Vec<u32> = self.subscriptions.keys().copied().collect();
        for subscription in live {
            // One that is still beginning is looked at when it has begun.
            if !self.subscribing.values().any(|beginning| *beginning == subscription) {
                self.cut_unless_allowed(subscription);
            }
        }
    }

    /// Ends a subscription if it is no longer allowed.
    pub(super) fn cut_unless_allowed(&mut self, subscription: u32) {
        let Some(pushing) = self.subscriptions.get(&subscription).copied() else { return };
        if self.still_may(pushing.actions, pushing.topic_id) {
            return;
        }
        self.cut(subscription, &withdrawn());
    }

    /// Whom the connection speaks for from here on.
    ///
    /// # Errors
    /// `TOO_MANY_CONNECTIONS` of that user.
    pub(super) fn speak_for(&mut self, principal: Principal) -> Result<(), Failure> {
        // Not that of an earlier Authenticate of the same user, which would be counted beside this one.
        self.metered = None;
        let quota = quota(&self.edge.shard.snapshot(), &principal);
        let meters = self.edge.connections.meters();
        self.metered = Some(meters.connect(principal.user_id, &quota, self.edge.shard.now_us())?);
        *self.live.principal.borrow_mut() = Some(principal);
        self.rights.forget();
        self.admitted.authenticated();
        Ok(())
    }

    /// Counts a request against the user's quota.
    ///
    /// # Errors
    /// `THROTTLED`.
    pub(super) fn meter(&self, request: &Request, body_bytes: usize) -> Result<(), Failure> {
        // What ends or lets go on what is there costs nothing.
        if matches!(request, Request::Unsubscribe(_) | Request::Credit(_)) {
            return Ok(());
        }
        let is_read = matches!(request, Request::Fetch(_) | Request::Subscribe(_));
        let now_us = self.edge.shard.now_us();
        self.metered.as_ref().map_or(Ok(()), |metered| metered.admit(body_bytes, is_read, now_us))
    }

    /// Counts what goes out against the user's quota.
    pub(super) fn meter_out(&self, slices: &[Bytes]) {
        if let Some(metered) = &self.metered {
            metered.sent(slices.iter().map(Bytes::len).sum());
        }
    }

    /// Lets a push go on, when the user's quota lets it.
    pub(super) fn grant(&mut self, credit: Credit) {
        let Some(pushing) = self.subscriptions.get(&credit.subscription).copied() else { return };
        let now_us = self.edge.shard.now_us();
        let Some(wait_ms) = self.metered.as_ref().and_then(|metered| metered.send_wait_ms(now_us)) else {
            return self.notify(pushing.owner, DataRequest::Credit(credit));
        };
        let mailbox = Rc::clone(&self.live.mailbox);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(u64::from(wait_ms))).await;
            mailbox.push(ToConnection::Credit(credit));
        });
    }

    /// What a client of before there were grants means: a member that may do what members could then.
    pub(super) fn as_meant(&self, request: Request) -> Request {
        match request {
            Request::CreateUser(mut create) if self.machine.version() < FIRST_VERSION_WITH_GRANTS => {
                let (pattern, actions) = ("*/*".to_owned(), Actions::BEFORE_GRANTS.bits());
                create.grants = Some(vec![messages::AccessGrant { pattern, actions }]);
                Request::CreateUser(create)
            }
            request => request,
        }
    }
}

fn quota(snapshot: &Snapshot, principal: &Principal) -> Quota {
    snapshot.quotas.get(&principal.user_id).cloned().unwrap_or_default()
}

/// The version of the protocol from which on a new member may do nothing.
const FIRST_VERSION_WITH_GRANTS: u16 = 2;

/// What was allowed once.
pub(super) fn withdrawn() -> Failure {
    Failure::because(ErrorCode::PermissionDenied, "what this takes is no longer granted").with("action", "subscribe")
}
