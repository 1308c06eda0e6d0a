//! The way from a connection to the owner of authentication on the control thread.

use std::net::IpAddr;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{Authenticate, Authenticated};
use tokio::sync::{mpsc, oneshot};

use crate::auth::Principal;
use crate::failure::Failure;

/// An `Authenticate` request and where it came from.
#[derive(Debug)]
pub struct Attempt {
    /// The request.
    pub request: Authenticate,
    /// The other end, for throttling.
    pub peer: IpAddr,
    /// Whether nobody on the way could read it: TLS, or loopback.
    pub confidential: bool,
}

/// A successful authentication.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whom the connection speaks for from here on.
    pub principal: Principal,
    /// The reply.
    pub reply: Authenticated,
}

/// Messages to the owner.
#[derive(Debug)]
pub enum AuthMessage {
    /// Check an attempt.
    Authenticate {
        /// What to check.
        attempt: Attempt,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Session, Failure>>,
    },
}

/// Sends attempts to the owner. Any core may hold one.
#[derive(Clone, Debug)]
pub struct AuthHandle {
    inbox: mpsc::Sender<AuthMessage>,
}

impl AuthHandle {
    /// The other end of `inbox`.
    #[must_use]
    pub fn new(inbox: mpsc::Sender<AuthMessage>) -> Self {
        Self { inbox }
    }

    /// Checks an attempt. May take as long as the password queue and the delay after failures demand.
    ///
    /// # Errors
    /// `AUTH_FAILED`, `TOKEN_EXPIRED`, `TLS_REQUIRED`, `AUTH_BUSY`, `SHUTTING_DOWN`.
    pub async fn authenticate(&self, attempt: Attempt) -> Result<Session, Failure> {
        let (reply, answer) = oneshot::channel();
        self.inbox.try_send(AuthMessage::Authenticate { attempt, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::new(ErrorCode::AuthBusy),
            mpsc::error::TrySendError::Closed(_) => Failure::new(ErrorCode::ShuttingDown),
        })?;
        answer.await.unwrap_or_else(|_| Err(Failure::new(ErrorCode::ShuttingDown)))
    }
}
