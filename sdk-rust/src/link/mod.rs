//! A link: one connection to the server that repairs itself, and the one task that owns it.
//!
//! The task owns the protocol machine, the requests that wait for answers, and the sending halves of producers and consumers
//! that live on the link. Everything reaches it through one inbox. It must not know what batches or positions mean.

mod driver;
mod outlet;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::client::Connection;
use levada_protocol::frame::FrameError;
use levada_protocol::messages::{AuthMethod, Authenticate, Authenticated, Call, ServerFrame, Welcome};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(crate) use driver::Driver;
pub(crate) use outlet::{Outlet, Tag};

use crate::address::ServerAddress;
use crate::backoff::BackoffOptions;
use crate::consumer::core::ConsumerCore;
use crate::credentials::Credentials;
use crate::discovery;
use crate::environment::{Connector, Random};
use crate::error::{Error, Result};
use crate::producer::core::ProducerCore;

/// What a link is made with. Sibling links share it, and with it the session ticket.
pub(crate) struct LinkTerms {
    pub(crate) address: ServerAddress,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) credentials: Credentials,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) backoff: BackoffOptions,
    pub(crate) client_name: String,
    /// What all times of the link count from.
    pub(crate) epoch: Instant,
    pub(crate) session: Mutex<Session>,
}

/// What the last successful handshake told.
#[derive(Clone, Default)]
pub(crate) struct Session {
    pub(crate) welcome: Option<Box<Welcome>>,
    pub(crate) authenticated: Option<Box<Authenticated>>,
    ticket: Option<Bytes>,
}

impl LinkTerms {
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn session(&self) -> Session {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, welcome: Box<Welcome>, authenticated: Option<Box<Authenticated>>) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.ticket =
            authenticated.as_ref().map(|granted| granted.ticket.clone()).filter(|ticket| !ticket.is_empty());
        session.welcome = Some(welcome);
        session.authenticated = authenticated;
    }

    /// A ticket was refused: the next handshake shows the credentials themselves, or the ticket that the client's other link
    /// has got meanwhile.
    fn forget_ticket(&self, refused: &Bytes) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.ticket.as_ref() == Some(refused) {
            session.ticket = None;
        }
    }

    /// What the next handshake shows: the session's ticket if there is one, else the credentials.
    fn authenticate(&self) -> Result<Option<Authenticate>> {
        if let Some(ticket) = self.session().ticket {
            return Ok(Some(Authenticate { method: AuthMethod::Ticket, user: String::new(), secret: ticket }));
        }
        let token =
            |text: String| Authenticate { method: AuthMethod::Token, user: String::new(), secret: Bytes::from(text) };
        Ok(match &self.credentials {
            Credentials::Anonymous => None,
            Credentials::Password { user, password } => Some(Authenticate {
                method: AuthMethod::Password,
                user: user.clone(),
                secret: Bytes::copy_from_slice(password.as_bytes()),
            }),
            Credentials::Token(text) => Some(token(text.clone())),
            Credentials::TokenFile(path) => Some(token(discovery::read_token(path)?)),
        })
    }
}

/// A frame that answers a request, and its body.
pub(crate) type Answer = (ServerFrame, Bytes);

/// What a link's task is told.
pub(crate) enum Command {
    /// Connect now if not connected, and tell how that went.
    Connect(oneshot::Sender<Result<()>>),
    /// Send a request.
    Call(PendingCall),
    /// Take in a producer or a consumer.
    Add(u64, Box<Resident>),
    /// A producer or a consumer has something to do.
    Wake(u64),
    /// End the connection and the task.
    Close,
}

/// Queues a request and returns its correlation.
type Submit = Box<dyn FnOnce(&mut Connection) -> std::result::Result<u32, FrameError> + Send>;

/// A request that waits for its turn, then for its answer.
pub(crate) struct PendingCall {
    submit: Submit,
    reply: oneshot::Sender<Result<Answer>>,
}

/// What lives on a link.
pub(crate) enum Resident {
    Producer(ProducerCore),
    Consumer(ConsumerCore),
}

/// The way to a link's task. The inbox is not bounded by itself: each producer and consumer has at most one wake in it, and
/// each caller waits for the answer to the call it put there.
#[derive(Clone)]
pub(crate) struct Link {
    inbox: mpsc::UnboundedSender<Command>,
}

impl Link {
    /// Starts the task on the present runtime.
    pub(crate) fn start(terms: Arc<LinkTerms>, runtime: &tokio::runtime::Handle) -> Link {
        let (inbox, commands) = mpsc::unbounded_channel();
        runtime.spawn(Driver::new(terms, commands).run());
        Link { inbox }
    }

    /// Waits for the first handshake, or for the failure of one attempt.
    pub(crate) async fn connect(&self) -> Result<()> {
        let (reply, outcome) = oneshot::channel();
        self.send(Command::Connect(reply))?;
        outcome.await.unwrap_or_else(|_| Err(Error::closed("client")))
    }

    /// Sends a request once and waits for its answer.
    pub(crate) async fn call<C: Call + Send + 'static>(&self, call: C) -> Result<Answer> {
        let (reply, outcome) = oneshot::channel();
        let submit = Box::new(move |connection: &mut Connection| connection.request(&call));
        self.send(Command::Call(PendingCall { submit, reply }))?;
        outcome.await.unwrap_or_else(|_| Err(Error::closed("client")))
    }

    pub(crate) fn add(&self, id: u64, resident: Resident) -> Result<()> {
        self.send(Command::Add(id, Box::new(resident)))
    }

    /// Wakes a resident; if the task has ended, its residents have been told.
    pub(crate) fn wake(&self, id: u64) {
        let _ = self.inbox.send(Command::Wake(id));
    }

    pub(crate) fn close(&self) {
        let _ = self.inbox.send(Command::Close);
    }

    /// Waits until the task has ended.
    pub(crate) async fn closed(&self) {
        self.inbox.closed().await;
    }

    fn send(&self, command: Command) -> Result<()> {
        self.inbox.send(command).map_err(|_| Error::closed("client"))
    }
}
