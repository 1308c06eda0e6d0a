//! What a client proves itself with. Secrets never appear in `Debug` and are only turned into bytes for `Authenticate`.

use std::{fmt, path::PathBuf};

/// How a client authenticates.
///
/// ```
/// use levada::Credentials;
///
/// let credentials = Credentials::password("root", "open sesame");
/// assert_eq!(format!("{credentials:?}"), r#"Password { user: "root", .. }"#);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// None at all: for servers that ask for none.
    Anonymous,
    /// A user's name and password.
    Password {
        /// Name of the user.
        user: String,
        /// The password.
        password: String,
    },
    /// The text of a personal access token.
    Token(String),
    /// A file that holds a token; read at every connection, so that it may be replaced.
    TokenFile(PathBuf),
}

impl Credentials {
    /// A user's name and password.
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Credentials {
        Credentials::Password { user: user.into(), password: password.into() }
    }

    /// The text of a personal access token.
    pub fn token(text: impl Into<String>) -> Credentials {
        Credentials::Token(text.into())
    }

    /// A file that holds a token.
    pub fn token_file(path: impl Into<PathBuf>) -> Credentials {
        Credentials::TokenFile(path.into())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Anonymous => f.write_str("Anonymous"),
            Credentials::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Credentials::Token(_) => f.write_str("Token(..)"),
            Credentials::TokenFile(path) => f.debug_tuple("TokenFile").field(path).finish(),
        }
    }
}
