//! Who a connection speaks for: passwords, tokens, session tickets.
//!
//! [`Authenticator`] is the one owner, on the control thread; connections reach it through an [`AuthHandle`]. A
//! [`Principal`] remembers what was proven, so that a later change of it ends the session. No secret is ever logged.

mod handle;
mod hasher;
mod owner;
mod principal;
mod throttle;
mod tickets;
mod token;

pub use handle::{Attempt, AuthHandle, AuthMessage, Session};
pub use hasher::Hasher;
pub use owner::{AuthOptions, Authenticator};
pub use principal::{Credential, Principal};
pub use token::TokenSecret;
