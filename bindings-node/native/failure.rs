//! Errors on their way to JavaScript: plain objects, from which the TypeScript layer makes instances of its classes.

use std::borrow::Cow;

use levada::Error;
use napi::{Env, Status};

use crate::value::Js;

/// The error as an object.
pub(crate) fn object(error: &Error) -> Js {
    let text = |text: &str| Js::Text(text.to_owned());
    let details = error.details().map(|(name, value)| (Cow::Owned(name.to_owned()), text(value))).collect();
    Js::Record(vec![
        (Cow::Borrowed("number"), Js::Number(f64::from(error.number()))),
        (Cow::Borrowed("name"), Js::Static(error.name())),
        (Cow::Borrowed("class"), Js::Static(error.class().name())),
        (Cow::Borrowed("retriable"), Js::Bool(error.is_retriable())),
        (Cow::Borrowed("maybeApplied"), Js::Bool(error.maybe_applied())),
        (Cow::Borrowed("retryAfterMs"), Js::Number(f64::from(error.retry_after_ms()))),
        (Cow::Borrowed("message"), text(error.message())),
        (Cow::Borrowed("details"), Js::Record(details)),
    ])
}

/// What a call came to: its value, or the error thrown as an object.
pub(crate) fn thrown<T>(env: &Env, outcome: levada::Result<T>) -> napi::Result<T> {
    match outcome {
        Ok(value) => Ok(value),
        Err(error) => {
            env.throw(object(&error))?;
            Err(napi::Error::from_status(Status::PendingException))
        }
    }
}

/// Runs an entry point: a panic inside becomes the error of the core for it.
pub(crate) fn guarded<T>(env: &Env, call: impl FnOnce() -> levada::Result<T>) -> napi::Result<T> {
    thrown(env, levada_ffi::guard(call))
}
