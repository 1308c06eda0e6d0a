//! The way from a connection to the owner of metadata on the control thread.

use levada_protocol::ErrorCode;
use levada_protocol::messages::*;
use tokio::sync::{mpsc, oneshot};

use crate::audit::Audit;
use crate::auth::Principal;
use crate::failure::Failure;

macro_rules! admin_replies {
    ($($name:ident),* $(,)?) => {
        /// The answer to a request that is not about messages.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AdminReply {
            $(#[doc = concat!("[`levada_protocol::messages::", stringify!($name), "`].")] $name($name),)*
        }

        impl AdminReply {
            /// Kind of its frame.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => $name::KIND,)* }
            }

            /// Answers the request with it.
            pub fn answer(&self, connection: &mut levada_protocol::server::Connection, correlation: u32) {
                match self { $(Self::$name(reply) => connection.reply(correlation, reply),)* }
            }
        }

        $(impl From<$name> for AdminReply {
            fn from(reply: $name) -> Self {
                Self::$name(reply)
            }
        })*
    };
}

admin_replies!(
    StreamCreated,
    StreamDeleted,
    Streams,
    StreamDescribed,
    TopicCreated,
    TopicAltered,
    TopicDeleted,
    TopicPurged,
    Topics,
    TopicDescribed,
    UserCreated,
    UserAltered,
    UserDeleted,
    Users,
    UserDescribed,
    TokenCreated,
    TokenDeleted,
    Tokens,
    AccessSet,
    AccessDescribed,
    RoleSet,
    RoleDeleted,
    Roles,
    QuotaSet,
    QuotaDescribed,
    ServerStatus,
    ProducerOpened,
    GroupJoined,
    GroupLeft,
    Committed,
    OffsetsRead,
    OffsetsReset,
    Groups,
    GroupDescribed,
    GroupDeleted,
    MessagesDeleted,
);

/// Messages to the owner of metadata.
#[derive(Debug)]
pub enum AdminMessage {
    /// A request of a connection.
    Request {
        /// Who asks; already authorised.
        principal: Principal,
        /// What.
        request: Box<Request>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<AdminReply, Failure>>,
    },
}

/// Sends requests to the owner of metadata. Any core may hold one.
#[derive(Clone, Debug)]
pub struct AdminHandle {
    inbox: mpsc::Sender<AdminMessage>,
    audit: Audit,
}

impl AdminHandle {
    /// The other end of `inbox`.
    #[must_use]
    pub fn new(inbox: mpsc::Sender<AdminMessage>) -> Self {
        Self { inbox, audit: Audit::default() }
    }

    /// The same, with a log of who asked for what.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// The log of who asked for what.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Carries out a request that [`crate::admin::authorize`] has let through. A change is answered when it is durable and
    /// every core has installed it.
    ///
    /// # Errors
    /// Whatever the request says; `OVERLOADED` when too many wait, `UNKNOWN_KIND` for requests about messages.
    pub async fn handle(&self, principal: Principal, request: Request) -> Result<AdminReply, Failure> {
        let (reply, answer) = oneshot::channel();
        let message = AdminMessage::Request { principal, request: Box::new(request), reply };
        self.inbox.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::new(ErrorCode::Overloaded),
            mpsc::error::TrySendError::Closed(_) => Failure::new(ErrorCode::ShuttingDown),
        })?;
        answer.await.unwrap_or_else(|_| Err(Failure::new(ErrorCode::ShuttingDown)))
    }
}
