//! The owner of authentication: tickets, delays, and the one place where a secret is compared.
//!
//! Every attempt costs an attacker the same whether the user exists or not: unknown users are checked against the hash of a
//! password nobody has.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::messages::{AuthMethod, Authenticated};
use levada_protocol::{ErrorCode, limits};
use subtle::ConstantTimeEq as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::admin::role_info;
use crate::audit::{Audit, Record};
use crate::auth::handle::{Attempt, AuthMessage, Session};
use crate::auth::throttle::Throttle;
use crate::auth::tickets::Tickets;
use crate::auth::{Credential, Hasher, Principal, TokenSecret};
use crate::env::{Clock, Random};
use crate::failure::Failure;
use crate::metadata::{Role, Snapshot};

/// Password attempts that may be delayed or waiting for their hash; more are turned away.
const MAX_PASSWORD_ATTEMPTS: usize = 64;

/// What the owner is made with.
#[derive(Clone, Debug)]
pub struct AuthOptions {
    /// Everybody is admitted.
    pub insecure_dev: bool,
    /// Secrets are taken over connections that others could read.
    pub allow_plaintext: bool,
    /// Life of a ticket.
    pub ticket_lifetime: Duration,
    /// Hears of every password and token that was shown. A ticket goes on with what was recorded when it was given.
    pub audit: Audit,
}

/// The owner. Its state changes in one task at a time: the core is single-threaded and nothing is borrowed over a wait.
pub struct Authenticator {
    options: AuthOptions,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    metadata: watch::Receiver<Arc<Snapshot>>,
    hasher: Rc<Hasher>,
    /// The hash that unknown users are checked against.
    nobodys_hash: String,
    tickets: RefCell<Tickets>,
    throttle: RefCell<Throttle>,
    password_attempts: Cell<usize>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authenticator").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// An owner that knows the users of the newest version in `metadata`.
    ///
    /// # Errors
    /// When the first hash cannot be made.
    pub async fn new(
        options: AuthOptions,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metadata: watch::Receiver<Arc<Snapshot>>,
        hasher: Rc<Hasher>,
    ) -> Result<Rc<Self>, Failure> {
        let mut nobodys_password = [0; 32];
        random.fill(&mut nobodys_password);
        let nobodys_hash = hasher.hash(Bytes::copy_from_slice(&nobodys_password)).await?;
        Ok(Rc::new(Self {
            options,
            clock,
            random,
            metadata,
            hasher,
            nobodys_hash,
            tickets: RefCell::default(),
            throttle: RefCell::default(),
            password_attempts: Cell::new(0),
        }))
    }

    /// Serves `inbox` until all its senders are gone.
    pub async fn run(self: Rc<Self>, mut inbox: mpsc::Receiver<AuthMessage>) {
        while let Some(AuthMessage::Authenticate { attempt, reply }) = inbox.recv().await {
            let owner = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                let (peer, method, claimed) = (attempt.peer, attempt.request.method, attempt.request.user.clone());
                let outcome = owner.check(attempt).await;
                owner.record(peer, method, claimed, &outcome);
                if let Err(failure) = &outcome {
                    tracing::info!(%peer, code = failure.code.name(), "authentication failed");
                }
                drop(reply.send(outcome));
            });
        }
    }

    fn record(&self, peer: IpAddr, method: AuthMethod, claimed: String, outcome: &Result<Session, Failure>) {
        if method == AuthMethod::Ticket || !self.options.audit.is_on() {
            return;
        }
        // Of a token that is not known nobody knows whose it is.
        let user = outcome.as_ref().map_or(claimed, |session| session.principal.name.to_string());
        let failure = outcome.as_ref().err().map(|failure| failure.code);
        let resource = method.name().to_owned();
        self.options.audit.record(Record { user, peer, action: "login", resource, failure });
    }

    async fn check(&self, attempt: Attempt) -> Result<Session, Failure> {
        if self.options.insecure_dev {
            return Ok(self.session(Principal::insecure_dev(), Role::Admin, None));
        }
        if !attempt.confidential && !self.options.allow_plaintext {
            return Err(Failure::new(ErrorCode::TlsRequired));
        }
        match attempt.request.method {
            AuthMethod::Password => self.check_password(attempt).await,
            AuthMethod::Token => self.check_token(&attempt.request.secret),
            AuthMethod::Ticket => self.check_ticket(&attempt.request.secret),
        }
    }

    async fn check_password(&self, attempt: Attempt) -> Result<Session, Failure> {
        let Attempt { request, peer, .. } = attempt;
        if limits::MAX_PASSWORD_BYTES < request.secret.len() || limits::MAX_NAME_BYTES < request.user.len() {
            return Err(Failure::new(ErrorCode::AuthFailed));
        }
        if MAX_PASSWORD_ATTEMPTS <= self.password_attempts.get() {
            return Err(Failure::new(ErrorCode::AuthBusy).retry_after_ms(1000));
        }
        self.password_attempts.set(self.password_attempts.get() + 1);
        let _attempt = Counted(&self.password_attempts);
        let delay = self.throttle.borrow().delay(peer, &request.user, Instant::now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let user = self.snapshot().user_named(&request.user).cloned();
        let hash = user.as_ref().map_or_else(|| self.nobodys_hash.clone(), |user| user.password_hash.clone());
        let right = self.hasher.verify(hash, request.secret).await?;
        let Some(user) = user.filter(|_| right) else {
            self.throttle.borrow_mut().failed(peer, &request.user, Instant::now());
            return Err(Failure::new(ErrorCode::AuthFailed));
        };
        let principal = Principal {
            user_id: user.user_id,
            name: user.name.as_str().into(),
            credential: Credential::Password { version: user.password_version },
        };
        // The password may have changed while it was being checked.
        if !self.snapshot().admits(&principal) {
            return Err(Failure::new(ErrorCode::AuthFailed));
        }
        self.throttle.borrow_mut().succeeded(peer, &request.user);
        Ok(self.session(principal, user.role, None))
    }

    fn check_token(&self, text: &[u8]) -> Result<Session, Failure> {
        let digest = TokenSecret::parse(text).ok_or_else(|| Failure::new(ErrorCode::AuthFailed))?.digest();
        let snapshot = self.snapshot();
        let token = snapshot.token_with_digest(&digest).ok_or_else(|| Failure::new(ErrorCode::AuthFailed))?;
        let user = snapshot.users.get(&token.user_id).filter(|_| bool::from(token.digest.ct_eq(&digest)));
        let user = user.ok_or_else(|| Failure::new(ErrorCode::AuthFailed))?;
        if token.expires_at_us.is_some_and(|expires_at_us| expires_at_us <= self.clock.now_us()) {
            return Err(Failure::new(ErrorCode::TokenExpired));
        }
        let principal = Principal {
            user_id: user.user_id,
            name: user.name.as_str().into(),
            credential: Credential::Token { token_id: token.token_id },
        };
        Ok(self.session(principal, user.role, token.expires_at_us))
    }

    fn check_ticket(&self, secret: &[u8]) -> Result<Session, Failure> {
        let found = self.tickets.borrow_mut().find(secret, self.clock.now_us());
        let (principal, expires_at_us) = found.ok_or_else(|| Failure::new(ErrorCode::TokenExpired))?;
        let snapshot = self.snapshot();
        let role = snapshot.role(&principal).filter(|_| snapshot.admits(&principal));
        let role = role.ok_or_else(|| Failure::new(ErrorCode::TokenExpired))?;
        // The same ticket goes on: using it does not prolong it.
        let reply = Authenticated {
            user: principal.name.to_string(),
            role: role_info(role),
            ticket: Bytes::copy_from_slice(secret),
            ticket_expires_at_us: expires_at_us,
        };
        Ok(Session { principal, reply })
    }

    fn session(&self, principal: Principal, role: Role, no_later_than_us: Option<i64>) -> Session {
        let lifetime_us = i64::try_from(self.options.ticket_lifetime.as_micros()).unwrap_or(i64::MAX);
        let expires_at_us = self.clock.now_us().saturating_add(lifetime_us);
        let expires_at_us = no_later_than_us.map_or(expires_at_us, |limit_us| expires_at_us.min(limit_us));
        let ticket = self.tickets.borrow_mut().issue(principal.clone(), expires_at_us, &*self.random);
        let reply = Authenticated {
            user: principal.name.to_string(),
            role: role_info(role),
            ticket,
            ticket_expires_at_us: expires_at_us,
        };
        Session { principal, reply }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.metadata.borrow())
    }
}

struct Counted<'a>(&'a Cell<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
