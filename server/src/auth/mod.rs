//! Who a connection speaks for: passwords, tokens, session tickets.

mod handle;
mod principal;

pub use handle::{Attempt, AuthHandle, AuthMessage, Session};
pub use principal::{Credential, Principal};
