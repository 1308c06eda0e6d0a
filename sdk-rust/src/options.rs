//! What a client is told, in the shapes only Rust has; the rest of it is generated.

use crate::backoff::BackoffOptions;
use crate::credentials::Credentials;
use crate::discovery::Wish;
use crate::environment::Environment;
use crate::transport::TlsOptions;

pub use crate::generated::options::ClientOptions;

impl ClientOptions {
    /// How to authenticate.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> ClientOptions {
        (self.user, self.password, self.token, self.token_file, self.anonymous) = (None, None, None, None, false);
        match credentials {
            Credentials::Anonymous => self.anonymous = true,
            Credentials::Password { user, password } => (self.user, self.password) = (Some(user), Some(password)),
            Credentials::Token(token) => self.token = Some(token),
            Credentials::TokenFile(path) => self.token_file = Some(path),
        }
        self
    }

    /// How TLS is spoken.
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> ClientOptions {
        self.tls_ca_file = tls.ca_file;
        self.tls_server_name = tls.server_name;
        self.tls_dangerously_accept_any_certificate = tls.dangerously_accept_any_certificate;
        self
    }

    /// Bounds of the wait between attempts to connect again and between retries.
    #[must_use]
    pub fn backoff(mut self, backoff: BackoffOptions) -> ClientOptions {
        self.backoff_floor = backoff.floor;
        self.backoff_ceiling = backoff.ceiling;
        self
    }

    /// Connections, clock and randomness.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> ClientOptions {
        self.environment = environment;
        self
    }

    /// The address that connecting would use, discovered as it would be then.
    ///
    /// # Errors
    /// Usage errors of the address or context; `CREDENTIALS_UNREADABLE`.
    pub fn resolve_address(&self) -> crate::Result<crate::ServerAddress> {
        Ok(crate::discovery::Surroundings::of_process().resolve(self.wish())?.address)
    }

    /// What the client calls itself unless it was told: for the clients of other languages.
    #[doc(hidden)]
    #[must_use]
    pub fn default_client_name(mut self, name: &str) -> ClientOptions {
        self.client_name.get_or_insert_with(|| name.to_owned());
        self
    }

    pub(crate) fn wish(&self) -> Wish {
        Wish { server: self.server.clone(), credentials: self.chosen_credentials(), context: self.context.clone() }
    }

    fn chosen_credentials(&self) -> Option<Credentials> {
        match (&self.user, &self.password, &self.token, &self.token_file) {
            (Some(user), Some(password), ..) => Some(Credentials::password(user, password)),
            (_, _, Some(token), _) => Some(Credentials::token(token)),
            (_, _, _, Some(path)) => Some(Credentials::token_file(path)),
            _ => self.anonymous.then_some(Credentials::Anonymous),
        }
    }

    pub(crate) fn tls_options(&self) -> TlsOptions {
        TlsOptions {
            ca_file: self.tls_ca_file.clone(),
            server_name: self.tls_server_name.clone(),
            dangerously_accept_any_certificate: self.tls_dangerously_accept_any_certificate,
        }
    }

    pub(crate) fn backoff_options(&self) -> BackoffOptions {
        BackoffOptions { floor: self.backoff_floor, ceiling: self.backoff_ceiling }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Named, Value};

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn argument(named: Named) -> String {
        let error = ClientOptions::from_values(named).unwrap_err();
        assert!(error.is(crate::ErrorCode::ClientUsage));
        error.detail("argument").unwrap().to_owned()
    }

    #[test]
    fn options_are_read_by_name() {
        let named = vec![
            ("server".into(), text("h:1")),
            ("user".into(), text("ann")),
            ("password".into(), text("hush hush")),
            ("request_timeout_ms".into(), Value::F64(1500.0)),
            ("context".into(), Value::Null),
        ];
        let options = ClientOptions::from_values(named).unwrap();
        assert_eq!(options.chosen_credentials(), Some(Credentials::password("ann", "hush hush")));
        assert_eq!(options.request_timeout.as_millis(), 1500);
        assert_eq!(options.connect_timeout, ClientOptions::new().connect_timeout);
        assert!(!format!("{options:?}").contains("hush"), "{options:?}");
    }

    #[test]
    fn what_is_wrong_with_an_option_is_a_usage_error_that_names_it() {
        assert_eq!(argument(vec![("sever".into(), text("h"))]), "sever");
        assert_eq!(argument(vec![("server".into(), Value::I64(1))]), "server");
        assert_eq!(argument(vec![("token".into(), text(""))]), "token");
        assert_eq!(argument(vec![("connect_timeout_ms".into(), Value::I64(0))]), "connect_timeout_ms");
        assert_eq!(argument(vec![("connect_timeout_ms".into(), Value::U64(u64::MAX))]), "connect_timeout_ms");
        assert_eq!(argument(vec![("user".into(), text("ann"))]), "user");
        assert_eq!(argument(vec![("password".into(), text("hush"))]), "password");
        let both = |one: &'static str, value: Value| vec![("token_file".into(), text("f")), (one.into(), value)];
        assert_eq!(argument(both("token", text("t"))), "token_file");
        assert_eq!(argument(both("anonymous", Value::Bool(true))), "anonymous");
        ClientOptions::from_values(both("anonymous", Value::Bool(false))).unwrap();
    }

    #[test]
    fn the_last_credentials_count() {
        let options =
            ClientOptions::new().credentials(Credentials::token("t")).credentials(Credentials::token_file("f"));
        options.check().unwrap();
        assert_eq!(options.chosen_credentials(), Some(Credentials::token_file("f")));
    }
}
