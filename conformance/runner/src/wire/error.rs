//! What can go wrong for the suite's own client: its peer's errors, its peer's faults, and its caller's.

use super::schema::schema;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::io;

/// An Error frame, or a SubscriptionEnded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// Number of the code.
    pub code: u16,
    /// Name of the code in spec.md, or `CODE_n` for one it does not list.
    pub name: String,
    /// Class, by name, or `class_n`.
    pub class: String,
    /// The same request may succeed later.
    pub retriable: bool,
    /// The request may have taken effect.
    pub maybe_applied: bool,
    /// When to try again; 0 leaves it to the client.
    pub retry_after_ms: u32,
    /// What the server said.
    pub message: String,
    /// Named values.
    pub details: BTreeMap<String, String>,
}

impl ServerError {
    /// From the decoded fields of Error or SubscriptionEnded.
    #[must_use]
    pub fn from_fields(fields: &Value) -> Self {
        let number = |name: &str| fields[name].as_u64().unwrap_or(0);
        let code = u16::try_from(number("code")).unwrap_or(u16::MAX);
        let class = u8::try_from(number("class")).unwrap_or(u8::MAX);
        let details = fields["details"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|detail| Some((detail["name"].as_str()?.to_owned(), detail["value"].as_str()?.to_owned())));
        Self {
            code,
            name: schema().error_by_code(code).map_or_else(|| format!("CODE_{code}"), |known| known.name.clone()),
            class: schema().class_name(class).map_or_else(|| format!("class_{class}"), str::to_owned),
            retriable: number("flags") & 1 != 0,
            maybe_applied: number("flags") & 2 != 0,
            retry_after_ms: u32::try_from(number("retry_after_ms")).unwrap_or(u32::MAX),
            message: fields["message"].as_str().unwrap_or_default().to_owned(),
            details: details.collect(),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name, self.code, self.message)
    }
}

/// Why a call of the suite's own client failed.
#[derive(Debug)]
pub enum WireError {
    /// The socket failed.
    Io(io::Error),
    /// Nothing came in time.
    Timeout,
    /// The peer closed the connection.
    Closed,
    /// The peer answered Error.
    Server(Box<ServerError>),
    /// The peer sent what spec.md forbids.
    Refused(String),
    /// The caller asked for what cannot be.
    Usage(String),
}

impl WireError {
    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused(what.into())
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::Usage(what.into())
    }

    /// The peer's Error, if that is what it is.
    #[must_use]
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "socket: {error}"),
            Self::Timeout => f.write_str("nothing came in time"),
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::Server(error) => write!(f, "{error}"),
            Self::Refused(what) => write!(f, "the peer broke the protocol: {what}"),
            Self::Usage(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for WireError {}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}
