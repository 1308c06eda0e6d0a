//! What a client is told: where, who, how long to wait, and its environment.

use std::time::Duration;

use crate::backoff::BackoffOptions;
use crate::credentials::Credentials;
use crate::discovery::Wish;
use crate::environment::Environment;
use crate::transport::TlsOptions;

/// How a client connects. What is left open is discovered: `LEVADA_SERVER` and `LEVADA_TOKEN_FILE`, then the selected
/// saved context, then the file that a server on this machine leaves for its own user.
///
/// ```
/// use levada::{ClientOptions, Credentials};
/// use std::time::Duration;
///
/// let options = ClientOptions::new()
///     .server("levada+tls://example.org:7420")
///     .credentials(Credentials::token_file("/run/secrets/levada"))
///     .request_timeout(Duration::from_secs(10));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub(crate) wish: Wish,
    pub(crate) tls: TlsOptions,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) backoff: BackoffOptions,
    pub(crate) client_name: String,
    pub(crate) environment: Environment,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            wish: Wish::default(),
            tls: TlsOptions::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            backoff: BackoffOptions::default(),
            client_name: "levada-rust".to_owned(),
            environment: Environment::default(),
        }
    }
}

impl ClientOptions {
    /// Options with everything left to discovery.
    pub fn new() -> ClientOptions {
        ClientOptions::default()
    }

    /// Address of the server: `levada://host:port`, `levada+tls://host:port` or `host:port`.
    #[must_use]
    pub fn server(mut self, server: impl Into<String>) -> ClientOptions {
        self.wish.server = Some(server.into());
        self
    }

    /// How to authenticate.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> ClientOptions {
        self.wish.credentials = Some(credentials);
        self
    }

    /// The saved context to use; an address given by [`ClientOptions::server`] wins over the context's.
    #[must_use]
    pub fn context(mut self, name: impl Into<String>) -> ClientOptions {
        self.wish.context = Some(name.into());
        self
    }

    /// How TLS is spoken.
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> ClientOptions {
        self.tls = tls;
        self
    }

    /// How long one attempt to connect may take, authentication included. Default 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientOptions {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may take, its retries included; a connection that leaves one unanswered longer is given up.
    /// Default 30 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> ClientOptions {
        self.request_timeout = timeout;
        self
    }

    /// Bounds of the wait between attempts to connect again and between retries.
    #[must_use]
    pub fn backoff(mut self, backoff: BackoffOptions) -> ClientOptions {
        self.backoff = backoff;
        self
    }

    /// What the client calls itself to the server. Default `levada-rust`.
    #[must_use]
    pub fn client_name(mut self, name: impl Into<String>) -> ClientOptions {
        self.client_name = name.into();
        self
    }

    /// Connections, clock and randomness.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> ClientOptions {
        self.environment = environment;
        self
    }
}

impl ClientOptions {
    /// The address that connecting would use, discovered as it would be then.
    ///
    /// # Errors
    /// Usage errors of the address or context; `CREDENTIALS_UNREADABLE`.
    pub fn resolve_address(&self) -> crate::Result<crate::ServerAddress> {
        Ok(crate::discovery::Surroundings::of_process().resolve(self.wish.clone())?.address)
    }
}

impl From<&str> for ClientOptions {
    fn from(server: &str) -> ClientOptions {
        ClientOptions::new().server(server)
    }
}

impl From<String> for ClientOptions {
    fn from(server: String) -> ClientOptions {
        ClientOptions::new().server(server)
    }
}
