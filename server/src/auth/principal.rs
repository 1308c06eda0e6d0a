//! The outcome of authentication, as a connection keeps it.

use std::sync::Arc;

/// What was proven; decides which later change ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing: the server runs with `--insecure-dev`.
    InsecureDev,
    /// The user's password, in this version.
    Password {
        /// `User::password_version` at that time.
        version: u32,
    },
    /// A token.
    Token {
        /// Which.
        token_id: u32,
    },
}

/// Whom a connection speaks for. A ticket gives the principal it was issued to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user; 0 with `--insecure-dev`.
    pub user_id: u32,
    /// Its name.
    pub name: Arc<str>,
    /// What was proven.
    pub credential: Credential,
}

impl Principal {
    /// Everybody, on a server without authentication.
    #[must_use]
    pub fn insecure_dev() -> Self {
        Self { user_id: 0, name: "insecure-dev".into(), credential: Credential::InsecureDev }
    }
}
