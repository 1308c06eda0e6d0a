//! Control calls by name.

use levada::{Error, ErrorCode, Named, Result, Value};

/// Whether a call changes something, so that giving it up leaves a doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Change,
}

/// The effect of the call of that name.
pub(crate) fn effect(_: &str) -> Option<Effect> {
    Some(Effect::Change)
}

/// Makes the call of that name.
pub(crate) async fn call(_: &levada::Client, operation: &str, _: Named) -> Result<Value> {
    Err(Error::new(ErrorCode::ClientUsage, format!("there is no operation {operation:?}")))
}
