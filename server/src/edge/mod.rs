//! Sockets and what speaks on them, on every core: TLS, connection tasks, limits, and the table from inner errors to the
//! wire's codes.
//!
//! Reading order: [`listener`] takes a socket and finds out what it speaks; [`connection`] is its loop; `dispatch` is what
//! a request leads to, `groups` what of it goes through the owner of groups. Must not know segment files.

mod access;
pub mod connection;
mod dispatch;
pub mod errors;
mod groups;
pub mod limits;
pub mod listener;
pub mod quota;
pub mod tls;

pub use limits::{ConnectionLimits, Connections};
pub use listener::{Edge, EdgeOptions};
