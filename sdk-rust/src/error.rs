//! The one error of this crate: a number from the protocol's closed table, its class, and what a caller needs to decide.
//!
//! A server's error keeps the flags of its frame, so a code newer than this client still says whether to retry. Cloning is
//! cheap: one failure of a batch reaches every message in it.

use std::{fmt, sync::Arc};

use levada_protocol::{ErrorClass, ErrorCode, messages};

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed.
///
/// ```
/// use levada::{ClientOptions, ErrorCode, ServerAddress};
///
/// let error = "levada://host:port".parse::<ServerAddress>().unwrap_err();
/// assert!(error.is(ErrorCode::ClientUsage));
/// assert!(!error.is_retriable());
/// # let _ = ClientOptions::new();
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    number: u16,
    class: ErrorClass,
    retriable: bool,
    maybe_applied: bool,
    retry_after_ms: u32,
    message: String,
    details: Vec<(String, String)>,
}

impl Error {
    /// An error with a known code; flags are those of the table.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error {
            inner: Arc::new(Inner {
                number: code.code(),
                class: code.class(),
                retriable: code.retriable(),
                maybe_applied: code.maybe_applied() == levada_protocol::MaybeApplied::Yes,
                retry_after_ms: 0,
                message: message.into(),
                details: Vec::new(),
            }),
        }
    }

    /// Says whether the call may have taken effect, for codes whose table entry is `varies`.
    #[must_use]
    pub fn with_maybe_applied(mut self, maybe_applied: bool) -> Error {
        Arc::make_mut(&mut self.inner).maybe_applied = maybe_applied;
        self
    }

    /// Adds a named value.
    #[must_use]
    pub fn with_detail(mut self, name: &str, value: impl fmt::Display) -> Error {
        Arc::make_mut(&mut self.inner).details.push((name.to_owned(), value.to_string()));
        self
    }

    /// The code, or `None` if it is newer than this client; [`Error::number`] is always there.
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::from_code(self.inner.number)
    }

    /// The stable number of the code.
    pub fn number(&self) -> u16 {
        self.inner.number
    }

    /// The stable upper-case name of the code; `UNKNOWN` for a code newer than this client.
    pub fn name(&self) -> &'static str {
        self.code().map_or("UNKNOWN", |code| code.name())
    }

    /// The family the code belongs to.
    pub fn class(&self) -> ErrorClass {
        self.inner.class
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        self.inner.retriable
    }

    /// Whether the call may have taken effect although it failed.
    pub fn maybe_applied(&self) -> bool {
        self.inner.maybe_applied
    }

    /// How long the server asks to wait before a retry, in milliseconds; 0 leaves it to the client.
    pub fn retry_after_ms(&self) -> u32 {
        self.inner.retry_after_ms
    }

    /// What went wrong, for a person.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Named values, as listed for the code in the table of errors; numbers are decimal.
    pub fn details(&self) -> impl Iterator<Item = (&str, &str)> {
        self.inner.details.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// One named value.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.details().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Whether this is that code.
    pub fn is(&self, code: ErrorCode) -> bool {
        self.inner.number == code.code()
    }

    /// The error of a frame, whose flags and class are taken at its word.
    pub(crate) fn from_wire(wire: &messages::Error) -> Error {
        let known = ErrorCode::from_code(wire.code);
        let class =
            ErrorClass::try_from(wire.class).ok().or(known.map(ErrorCode::class)).unwrap_or(ErrorClass::Internal);
        Error {
            inner: Arc::new(Inner {
                number: wire.code,
                class,
                retriable: wire.retriable(),
                maybe_applied: wire.maybe_applied(),
                retry_after_ms: wire.retry_after_ms,
                message: wire.message.clone(),
                details: wire.details.iter().map(|detail| (detail.name.clone(), detail.value.clone())).collect(),
            }),
        }
    }

    pub(crate) fn detail_number(&self, name: &str) -> Option<u64> {
        self.detail(name).and_then(|value| value.parse().ok())
    }

    pub(crate) fn usage(argument: &str, message: impl Into<String>) -> Error {
        Error::new(ErrorCode::ClientUsage, message).with_detail("argument", argument)
    }

    pub(crate) fn closed(what: &str) -> Error {
        Error::new(ErrorCode::Closed, format!("the {what} is closed"))
    }

    pub(crate) fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::ClientInternal, message)
    }

    pub(crate) fn connection_lost(reason: impl fmt::Display) -> Error {
        Error::new(ErrorCode::ConnectionLost, format!("the connection ended before the answer came: {reason}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.number(), self.message())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.number())
            .field("name", &self.name())
            .field("class", &self.class())
            .field("retriable", &self.is_retriable())
            .field("maybe_applied", &self.maybe_applied())
            .field("message", &self.message())
            .field("details", &self.inner.details)
            .finish()
    }
}

impl std::error::Error for Error {}
