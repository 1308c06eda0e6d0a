//! How a request fails inside the server: a code of the wire's closed table, words for a person, named values.
//!
//! Owners of state return their own error enums or this; only the edge turns a `Failure` into a frame.

use std::fmt;

use levada_protocol::messages::{Detail, Error};
use levada_protocol::{ErrorCode, names};

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What went wrong and what to do.
    pub message: String,
    /// Values named as in errors.toml.
    pub details: Vec<Detail>,
    /// When to try again, in milliseconds; 0 leaves it to the client's back-off.
    pub retry_after_ms: u32,
}

impl Failure {
    /// A failure with the table's own text.
    #[must_use]
    pub fn new(code: ErrorCode) -> Self {
        Self::because(code, code.text())
    }

    /// A failure with words of its own.
    #[must_use]
    pub fn because(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new(), retry_after_ms: 0 }
    }

    /// The same with a named value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.details.push(Detail::new(name, value));
        self
    }

    /// The same with the time after which to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u32) -> Self {
        self.retry_after_ms = retry_after_ms;
        self
    }

    /// `INVALID_ARGUMENT` that names the argument.
    #[must_use]
    pub fn invalid(argument: &str, message: impl Into<String>) -> Self {
        Self::because(ErrorCode::InvalidArgument, message).with("argument", argument)
    }

    /// The frame that says so.
    #[must_use]
    pub fn to_error(&self) -> Error {
        let mut error = Error::new(self.code, self.message.clone(), self.details.clone());
        error.retry_after_ms = self.retry_after_ms;
        error
    }
}

impl From<names::InvalidName> for Failure {
    fn from(error: names::InvalidName) -> Self {
        Self::because(ErrorCode::InvalidName, error.to_string()).with("name", error.0)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}
