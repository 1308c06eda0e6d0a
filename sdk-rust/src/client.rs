//! The client: placeholder until the connection machine is in.
use std::time::Duration;

use levada_protocol::messages;

use crate::admin::Admin;
use crate::consumer::{Consumer, ConsumerOptions};
use crate::error::{Error, Result};
use crate::options::ClientOptions;
use crate::producer::{Producer, ProducerOptions};

/// A connection to a server, shared by everything made from it. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Client {}

/// What is known about the server and the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Version of the server.
    pub server_version: String,
    /// 16 bytes, one for each data directory's birth.
    pub cluster_id: bytes::Bytes,
    /// Number of the node.
    pub node_id: u32,
    /// Cores that serve.
    pub shard_count: u16,
    /// Largest payload of a message, in bytes.
    pub max_payload_bytes: u32,
    /// Largest batch, in bytes before compression.
    pub max_batch_bytes: u32,
    /// User the client speaks for; absent where the server asks for none.
    pub user: Option<String>,
    /// Role of that user.
    pub role: Option<messages::Role>,
}

#[derive(Clone, Copy)]
pub(crate) enum Repeat {
    Freely,
    UnlessApplied,
}

impl Client {
    /// Connects and authenticates, once; later losses are repaired in the background.
    ///
    /// # Errors
    /// `CONNECT_FAILED`, `TLS_FAILED`, errors of class auth, usage errors of the options.
    pub async fn connect(options: impl Into<ClientOptions>) -> Result<Client> {
        let _ = options.into();
        Err(Error::internal("not yet"))
    }

    pub(crate) async fn call<C: messages::Call>(&self, _call: C, _repeat: Repeat) -> Result<C::Reply> {
        Err(Error::internal("not yet"))
    }

    /// The managing side.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// A producer to `stream/topic`.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, usage errors of the options.
    pub async fn producer(&self, topic: &str, options: ProducerOptions) -> Result<Producer> {
        let _ = (topic, options);
        Err(Error::internal("not yet"))
    }

    /// A consumer.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`, usage errors of the options.
    pub async fn consumer(&self, options: ConsumerOptions) -> Result<Consumer> {
        let _ = options;
        Err(Error::internal("not yet"))
    }

    /// What is known about the server.
    pub fn server_info(&self) -> Option<ServerInfo> {
        None
    }

    /// Asks for a sign of life and returns how long it took.
    ///
    /// # Errors
    /// Those of any request.
    pub async fn ping(&self) -> Result<Duration> {
        Err(Error::internal("not yet"))
    }

    /// Flushes and closes every producer, closes every consumer, ends the connections.
    ///
    /// # Errors
    /// `CLIENT_TIMEOUT` if something was still unacknowledged then.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        let _ = timeout;
        Err(Error::internal("not yet"))
    }
}
