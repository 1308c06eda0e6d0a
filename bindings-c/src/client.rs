//! Clients, and control calls by name.

use std::ffi::c_char;

use levada_core::{Named, Result, Value as CoreValue};
use levada_ffi as ffi;
use levada_ffi::{Output, To};

use crate::abi::{close_timeout, enter, out, out_optional, put_optional, text, timeout};
use crate::error::Error;
use crate::handle::{Opaque, get, make, release};
use crate::operation::{Operation, submit, unexpected, wait};
use crate::options::{Options, named};
use crate::queue::Queue;
use crate::value::Value;

/// What a server calls this client, unless an option does.
const CLIENT_NAME: &str = "levada-c";

/// A client: connections to a server, repaired by themselves. Made once and shared by all threads.
#[derive(Debug)]
pub struct Client {
    _opaque: [u8; 0],
}

impl Opaque for Client {
    type Content = ffi::Client;
    const MAGIC: u32 = 0x4C56_4300;
    const NAME: &'static str = "levada_client_t";
}

/// A control call in the calling thread.
pub(crate) fn call(client: *const Client, name: &str, arguments: Named) -> Result<CoreValue> {
    match wait(&get(client)?.call(name, arguments, To::Here), None)? {
        Output::Value(value) => Ok(value),
        Output::Nothing => Ok(CoreValue::Null),
        other => Err(unexpected(&other)),
    }
}

/// Connects and authenticates, with the options of ClientOptions; NULL takes all from the environment: LEVADA_SERVER and
/// LEVADA_TOKEN_FILE, a saved context, or a server of the same user on this machine. Fails after one attempt; later losses
/// are repaired in the background.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_client_open(
    options: *const Options,
    timeout_ms: i64,
    client: *mut *mut Client,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(client, "client")?;
        let timeout = timeout(timeout_ms, None)?;
        match wait(&ffi::Client::connect(named(options)?, CLIENT_NAME, To::Here), timeout)? {
            Output::Client(client) => *place = make::<Client>(client),
            other => return Err(unexpected(&other)),
        }
        Ok(())
    })
}

/// The same without waiting: levada_event_take_client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_client_open_submit(
    options: *const Options,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(ffi::Client::connect(named(options)?, CLIENT_NAME, to)))
}

/// Lets every producer settle what it has taken, then ends everything made from this client. By default after 5 s at most;
/// LEVADA_E_CLIENT_TIMEOUT says that something was unacknowledged then, and the client is closed all the same. Calls made
/// afterwards fail with LEVADA_E_CLOSED. Closing again does nothing, nor does closing in a child of fork().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_client_close(client: *const Client, timeout_ms: i64, err: *mut *mut Error) -> i32 {
    enter(err, || wait(&get(client)?.close(close_timeout(timeout_ms)?, To::Here), None).map(drop))
}

/// The same without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_client_close_submit(
    client: *const Client,
    timeout_ms: i64,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(client)?.close(close_timeout(timeout_ms)?, to)))
}

/// Frees a client. Never waits: a client that is not closed is dropped with what is unacknowledged. Producers and consumers
/// made from it live on until they are freed themselves.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_client_free(client: *mut Client) {
    release(client);
}

/// Asks for a sign of life; gives the time it took, in microseconds, if `round_trip_us` is not NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_client_ping(
    client: *const Client,
    timeout_ms: i64,
    round_trip_us: *mut i64,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let operation = get(client)?.call("ping", Named::new(), To::Here);
        match wait(&operation, timeout(timeout_ms, None)?)? {
            Output::Value(took) => {
                put_optional(round_trip_us, took.as_i64().unwrap_or_default());
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    })
}

/// What the server told at the last handshake: a record ServerInfo.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_client_server_info(
    client: *const Client,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(value, "value")?;
        *place = make::<Value>(get(client)?.server_info()?.into());
        Ok(())
    })
}

/// Makes a control call by its name in docs/reference/api.md, such as `create_topic`, with its arguments by name (NULL: none).
/// Every one of them also has a function of its own. `value` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_client_call(
    client: *const Client,
    call: *const c_char,
    arguments: *const Options,
    timeout_ms: i64,
    value: *mut *mut Value,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out_optional(value);
        let operation = get(client)?.call(text(call, "call")?, named(arguments)?, To::Here);
        let value = match wait(&operation, timeout(timeout_ms, None)?)? {
            Output::Value(value) => value,
            Output::Nothing => CoreValue::Null,
            other => return Err(unexpected(&other)),
        };
        if let Some(place) = place {
            *place = make::<Value>(value.into());
        }
        Ok(())
    })
}

/// The same without waiting, and `ping` as well: levada_event_take_value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_client_call_submit(
    client: *const Client,
    call: *const c_char,
    arguments: *const Options,
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
) -> i32 {
    submit(queue, token, operation, err, |to| Ok(get(client)?.call(text(call, "call")?, named(arguments)?, to)))
}
