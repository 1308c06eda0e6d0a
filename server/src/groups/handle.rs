//! The way from a connection to the owner of groups on the control thread, and back.
//!
//! Answers and pushes of a connection come through one inbox, so that they keep their order: a member hears what it got
//! before it hears what changes.

use levada_protocol::ErrorCode;
use levada_protocol::messages::Request;
use tokio::sync::mpsc;

use crate::auth::Principal;
use crate::broker::{ConnectionId, ToConnection};
use crate::failure::Failure;

/// Messages that wait for the owner: all members of a large group at once.
const INBOX_MESSAGES: usize = 8192;

/// A connection, as the owner of groups knows it.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Which.
    pub connection: ConnectionId,
    /// Its inbox. Without a bound, because nothing may be lost and the owner waits for nobody: what is in it are answers to
    /// the requests in flight, and what changed since the connection had its last turn.
    pub inbox: mpsc::UnboundedSender<ToConnection>,
}

impl Speaker {
    /// Sends; a connection that is gone takes nothing.
    pub fn send(&self, message: ToConnection) {
        drop(self.inbox.send(message));
    }
}

/// What a subscription or a position asks of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionQuery {
    /// The group.
    pub group: String,
    /// The member that subscribes, and the generation of its assignment; none for a reader without membership.
    pub assignment: Option<(String, u64)>,
    /// Of the partition.
    pub topic_id: u32,
    /// Its number.
    pub partition: u32,
}

/// Everything that reaches the owner.
#[derive(Debug)]
pub enum GroupsMessage {
    /// A request of a connection, answered with [`ToConnection::Admin`].
    Request {
        /// Whose.
        speaker: Speaker,
        /// Who asks; already authorised.
        principal: Principal,
        /// Under which it is answered.
        correlation: u32,
        /// What.
        request: Box<Request>,
    },
    /// Is the assignment live, and what is stored? Answered with [`ToConnection::GroupPosition`].
    Position {
        /// Whose.
        speaker: Speaker,
        /// Under which it is answered.
        correlation: u32,
        /// What.
        query: PositionQuery,
    },
    /// A connection that speaks for members has ended.
    Gone(ConnectionId),
}

/// Sends to the owner of groups. Any core may hold one.
#[derive(Clone, Debug)]
pub struct GroupsHandle {
    inbox: mpsc::Sender<GroupsMessage>,
}

impl GroupsHandle {
    /// A handle and the other end.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<GroupsMessage>) {
        let (inbox, messages) = mpsc::channel(INBOX_MESSAGES);
        (Self { inbox }, messages)
    }

    /// Asks; the answer comes through the speaker's inbox, always.
    ///
    /// # Errors
    /// `OVERLOADED` or `SHUTTING_DOWN`; nothing was sent.
    pub fn ask(&self, message: GroupsMessage) -> Result<(), Failure> {
        self.inbox.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::new(ErrorCode::Overloaded),
            mpsc::error::TrySendError::Closed(_) => Failure::new(ErrorCode::ShuttingDown),
        })
    }

    /// Tells that a connection has ended. Must arrive, so it waits for room in a task of its own if need be.
    pub fn gone(&self, connection: ConnectionId) {
        if let Err(mpsc::error::TrySendError::Full(message)) = self.inbox.try_send(GroupsMessage::Gone(connection)) {
            let inbox = self.inbox.clone();
            tokio::task::spawn_local(async move { drop(inbox.send(message).await) });
        }
    }
}
