//! Errors as the wire carries them: the closed table, and the frame's own word for codes a client does not know.

pub use crate::generated::errors::{ErrorClass, ErrorCode};
use crate::messages::{Detail, Error};

/// Whether a failed request may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MaybeApplied {
    /// It has not.
    No,
    /// It may have.
    Yes,
    /// It depends: the frame's flag tells.
    Varies,
}

/// Flag of an error: the same request may succeed later.
pub const ERROR_RETRIABLE: u8 = 1;
/// Flag of an error: the request may have taken effect.
pub const ERROR_MAYBE_APPLIED: u8 = 2;

impl ErrorCode {
    /// Its number.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The flags of a frame that carries it; where the table says "varies", cautiously set.
    pub const fn flags(self) -> u8 {
        let retriable = if self.retriable() { ERROR_RETRIABLE } else { 0 };
        let maybe_applied = match self.maybe_applied() {
            MaybeApplied::No => 0,
            MaybeApplied::Yes | MaybeApplied::Varies => ERROR_MAYBE_APPLIED,
        };
        retriable | maybe_applied
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Error {
    /// The frame of an error of the table.
    pub fn new(code: ErrorCode, message: impl Into<String>, details: Vec<Detail>) -> Self {
        Self {
            code: code.code(),
            class: code.class().code(),
            flags: code.flags(),
            retry_after_ms: 0,
            message: message.into(),
            details,
        }
    }

    /// Whether the same request may succeed later.
    pub const fn retriable(&self) -> bool {
        self.flags & ERROR_RETRIABLE != 0
    }

    /// Whether the request may have taken effect.
    pub const fn maybe_applied(&self) -> bool {
        self.flags & ERROR_MAYBE_APPLIED != 0
    }

    /// The value of a detail.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.details.iter().find(|detail| detail.name == name).map(|detail| detail.value.as_str())
    }
}

impl Detail {
    /// A named value.
    pub fn new(name: impl Into<String>, value: impl std::fmt::Display) -> Self {
        Self { name: name.into(), value: value.to_string() }
    }
}
