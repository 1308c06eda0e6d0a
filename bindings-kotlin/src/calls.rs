//! Connecting, control calls, and what is asked of the process.

use std::sync::Arc;
use std::time::Duration;

use levada::ErrorCode;
use levada_ffi::{Client, Error};

use crate::events::{NativeOperation, NativeQueue};
use crate::failure::{NativeError, NativeFailure, guarded};
use crate::values::{NativeField, NativeValue, named};

/// What the client calls itself to the server, unless an option does.
const CLIENT_NAME: &str = "levada-kotlin";

/// A connected client.
#[derive(Debug, uniffi::Object)]
pub(crate) struct NativeClient {
    client: Client,
}

impl NativeClient {
    pub(crate) fn new(client: Client) -> Arc<Self> {
        Arc::new(NativeClient { client })
    }
}

/// Connects and authenticates.
#[uniffi::export]
fn connect(options: Vec<NativeField>, queue: &NativeQueue, token: u64) -> Arc<NativeOperation> {
    NativeOperation::new(Client::connect(named(options), CLIENT_NAME, queue.to(token)))
}

/// Live handles of this process.
#[uniffi::export]
fn stats() -> NativeValue {
    levada_ffi::stats().into()
}

/// The error of a second receive on a consumer while another is under way.
#[uniffi::export]
fn concurrent_call() -> NativeFailure {
    Error::new(ErrorCode::ConcurrentCall, "another receive is under way on this consumer").into()
}

/// The error of a receive whose time has passed.
#[uniffi::export]
fn timed_out() -> NativeFailure {
    Error::new(ErrorCode::ClientTimeout, "no message came in time").into()
}

/// The error of an argument that has no form here.
#[uniffi::export]
fn wrong_argument(argument: String, text: String) -> NativeFailure {
    Error::new(ErrorCode::ClientUsage, text).with_detail("argument", argument).into()
}

/// The error of what ended with its client.
#[uniffi::export]
fn ended() -> NativeFailure {
    Error::new(ErrorCode::Closed, "the client was closed while this was under way").with_maybe_applied(true).into()
}

#[uniffi::export]
impl NativeClient {
    /// A control call by name, or `ping`.
    fn call(
        &self,
        operation: String,
        arguments: Vec<NativeField>,
        queue: &NativeQueue,
        token: u64,
    ) -> Arc<NativeOperation> {
        NativeOperation::new(self.client.call(&operation, named(arguments), queue.to(token)))
    }

    /// What the server told at the last handshake: a record, or absent.
    fn server_info(&self) -> Result<NativeValue, NativeError> {
        guarded(|| self.client.server_info().map(NativeValue::from))
    }

    /// A producer, whose acknowledgements go to the queue too.
    fn producer(
        &self,
        topic: String,
        options: Vec<NativeField>,
        queue: &NativeQueue,
        token: u64,
    ) -> Arc<NativeOperation> {
        let acks = Some(queue.queue().clone());
        NativeOperation::new(self.client.producer(&topic, named(options), acks, queue.to(token)))
    }

    /// A consumer.
    fn consumer(
        &self,
        topic: String,
        options: Vec<NativeField>,
        queue: &NativeQueue,
        token: u64,
    ) -> Arc<NativeOperation> {
        NativeOperation::new(self.client.consumer(&topic, named(options), queue.to(token)))
    }

    /// A consumer that is a member of a group.
    fn group_consumer(
        &self,
        group: String,
        topics: Vec<String>,
        options: Vec<NativeField>,
        queue: &NativeQueue,
        token: u64,
    ) -> Arc<NativeOperation> {
        NativeOperation::new(self.client.group_consumer(&group, topics, named(options), queue.to(token)))
    }

    /// Ends everything made from this client.
    fn end(&self, timeout_ms: u64, queue: &NativeQueue, token: u64) -> Arc<NativeOperation> {
        NativeOperation::new(self.client.close(Duration::from_millis(timeout_ms), queue.to(token)))
    }
}
