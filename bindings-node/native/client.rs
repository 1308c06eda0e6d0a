//! Clients, and operations under way.

use std::fmt;
use std::time::Duration;

use levada_ffi::To;
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;

use crate::failure;
use crate::value::{self, Js};

/// A call under way.
#[napi(js_name = "Operation")]
pub struct NativeOperation {
    operation: levada_ffi::Operation,
}

impl From<levada_ffi::Operation> for NativeOperation {
    fn from(operation: levada_ffi::Operation) -> Self {
        NativeOperation { operation }
    }
}

impl fmt::Debug for NativeOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeOperation")
    }
}

#[napi]
impl NativeOperation {
    /// Gives it up: its event tells CANCELLED, unless it had ended already.
    #[napi(catch_unwind)]
    pub fn cancel(&self, env: Env) -> napi::Result<()> {
        failure::guarded(&env, || {
            self.operation.cancel();
            Ok(())
        })
    }
}

/// A time limit from JavaScript's milliseconds; what is no duration is none.
pub(crate) fn duration(milliseconds: f64) -> Duration {
    Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(Duration::MAX)
}

/// A client.
#[napi(js_name = "Client")]
pub struct NativeClient {
    client: levada_ffi::Client,
    queue: levada_ffi::Queue,
}

impl NativeClient {
    pub(crate) fn new(client: levada_ffi::Client, queue: levada_ffi::Queue) -> Self {
        NativeClient { client, queue }
    }

    fn to(&self, token: f64) -> To {
        To::Queue(self.queue.clone(), value::token(token))
    }
}

impl fmt::Debug for NativeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeClient")
    }
}

#[napi]
impl NativeClient {
    /// Calls a control operation by its name with arguments by theirs; `token` gets a value.
    #[napi(catch_unwind)]
    pub fn call(
        &self,
        env: Env,
        operation: String,
        arguments: Object<'_>,
        token: f64,
    ) -> napi::Result<NativeOperation> {
        let arguments = value::named(&arguments)?;
        failure::guarded(&env, || Ok(self.client.call(&operation, arguments, self.to(token)).into()))
    }

    /// What the server told at the last handshake.
    #[napi(catch_unwind)]
    pub fn server_info(&self, env: Env) -> napi::Result<Js> {
        failure::guarded(&env, || self.client.server_info().map(value::to_js))
    }

    /// `token` gets a producer.
    #[napi(catch_unwind)]
    pub fn producer(&self, env: Env, topic: String, options: Object<'_>, token: f64) -> napi::Result<NativeOperation> {
        let options = value::named(&options)?;
        failure::guarded(&env, || {
            Ok(self.client.producer(&topic, options, Some(self.queue.clone()), self.to(token)).into())
        })
    }

    /// `token` gets a consumer.
    #[napi(catch_unwind)]
    pub fn consumer(&self, env: Env, topic: String, options: Object<'_>, token: f64) -> napi::Result<NativeOperation> {
        let options = value::named(&options)?;
        failure::guarded(&env, || Ok(self.client.consumer(&topic, options, self.to(token)).into()))
    }

    /// `token` gets a consumer that is a member of a group.
    #[napi(catch_unwind)]
    pub fn group_consumer(
        &self,
        env: Env,
        group: String,
        topics: Vec<String>,
        options: Object<'_>,
        token: f64,
    ) -> napi::Result<NativeOperation> {
        let options = value::named(&options)?;
        failure::guarded(&env, || Ok(self.client.group_consumer(&group, topics, options, self.to(token)).into()))
    }

    /// Settles what producers have taken, then ends everything made from the client.
    #[napi(catch_unwind)]
    pub fn close(&self, env: Env, timeout_ms: f64, token: f64) -> napi::Result<NativeOperation> {
        failure::guarded(&env, || Ok(self.client.close(duration(timeout_ms), self.to(token)).into()))
    }
}
