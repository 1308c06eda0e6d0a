//! Errors as they cross: whole, because the server's word about retrying and about effects must reach the caller.

use std::fmt;

use levada_ffi::Error;

/// Why a call failed.
#[derive(Clone, Debug, uniffi::Record)]
pub(crate) struct NativeFailure {
    /// Number of the code.
    number: u16,
    /// Name of the code.
    name: String,
    /// Class of the code.
    class_name: String,
    /// Whether the same call may succeed later.
    retriable: bool,
    /// Whether it may have taken effect although it failed.
    maybe_applied: bool,
    /// How long the server asks to wait before a retry, in milliseconds; 0 leaves it to the caller.
    retry_after_ms: u32,
    /// What went wrong, for a person.
    text: String,
    /// Named values.
    details: Vec<NativeDetail>,
}

/// A named value of an error.
#[derive(Clone, Debug, uniffi::Record)]
pub(crate) struct NativeDetail {
    name: String,
    value: String,
}

/// The error of a call that fails at once.
#[derive(Debug, uniffi::Error)]
pub(crate) enum NativeError {
    /// It failed.
    Failed {
        /// Why.
        failure: NativeFailure,
    },
}

impl From<Error> for NativeFailure {
    fn from(error: Error) -> Self {
        let detail = |(name, value): (&str, &str)| NativeDetail { name: name.to_owned(), value: value.to_owned() };
        NativeFailure {
            number: error.number(),
            name: error.name().to_owned(),
            class_name: error.class().name().to_owned(),
            retriable: error.is_retriable(),
            maybe_applied: error.maybe_applied(),
            retry_after_ms: error.retry_after_ms(),
            text: error.message().to_owned(),
            details: error.details().map(detail).collect(),
        }
    }
}

impl From<Error> for NativeError {
    fn from(error: Error) -> Self {
        NativeError::Failed { failure: error.into() }
    }
}

impl fmt::Display for NativeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NativeError::Failed { failure } = self;
        write!(f, "{} ({}): {}", failure.name, failure.number, failure.text)
    }
}

impl std::error::Error for NativeError {}

/// Runs an entry point that may fail; a panic is an error too.
pub(crate) fn guarded<T>(body: impl FnOnce() -> levada_ffi::Result<T>) -> Result<T, NativeError> {
    Ok(levada_ffi::guard(body)?)
}
