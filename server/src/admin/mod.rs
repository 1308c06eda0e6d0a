//! Requests that are not about messages: streams, topics, users, tokens, status, producer identities.
//!
//! [`authorize`] is asked for every request of a connection, data requests included; the rest run on the control thread.

mod access;
mod handle;

pub use access::authorize;
pub use handle::{AdminHandle, AdminMessage, AdminReply};
