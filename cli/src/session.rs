//! The connection a command works with: which server, as whom, and how a client's error becomes a [`Failure`].

use crate::args::GlobalArgs;
use crate::failure::{Exit, Failure, plain};
use crate::screen::Screen;
use crate::secret;
use levada::{Client, ClientOptions, Credentials, ErrorClass, ErrorCode, TlsOptions};
use std::time::Duration;

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) global: GlobalArgs,
    pub(crate) screen: Screen,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Session {
    pub(crate) fn new(global: GlobalArgs) -> Self {
        let screen = Screen::new(global.output, global.quiet);
        Self { global, screen }
    }

    /// How to connect. What is not said is found by the client itself: environment, saved context, local server.
    pub(crate) fn client_options(&self) -> Result<ClientOptions, Failure> {
        let mut options = ClientOptions::new().client_name("levada-cli").connect_timeout(CONNECT_TIMEOUT);
        if let Some(server) = &self.global.server {
            options = options.server(server);
        }
        if let Some(context) = &self.global.context {
            options = options.context(context);
        }
        if let Some(path) = &self.global.token_file {
            // The client reads it at every connection; a wrong path is told before one is tried.
            let unreadable = |error| Failure::usage(format!("cannot read {}: {}", path.display(), plain(&error)));
            std::fs::File::open(path).map_err(unreadable)?;
            options = options.credentials(Credentials::token_file(path));
        }
        if let Some(user) = &self.global.login {
            let password = secret::login_password(user, self.global.login_password_file.as_deref())?;
            options = options.credentials(Credentials::password(user, password));
        }
        if let Some(path) = &self.global.ca_file {
            options = options.tls(TlsOptions { ca_file: Some(path.clone()), ..TlsOptions::default() });
        }
        Ok(options)
    }

    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Client::connect(self.client_options()?).await.map_err(|error| {
            let is_wrong_login = error.is(ErrorCode::AuthFailed) && self.global.login.is_some();
            let failure = Failure::from(error);
            if is_wrong_login { failure.hint("Check the name and the password of --login") } else { failure }
        })
    }
}

/// Ends the connections; what could matter has been answered before.
pub(crate) async fn close(client: &Client) {
    let _ = client.close(CLOSE_TIMEOUT).await;
}

impl From<levada::Error> for Failure {
    fn from(error: levada::Error) -> Self {
        let exit = exit_of(&error);
        let Some(code) = error.code() else {
            return Failure::new(exit, format!("error {}: {}", error.number(), error.message()));
        };
        let text = match (code, error.detail("address")) {
            (ErrorCode::ConnectFailed, Some(address)) => format!("cannot reach {}", plain_address(address)),
            (ErrorCode::ClientUsage | ErrorCode::CredentialsUnreadable, _) => error.message().to_owned(),
            _ => format!("{}: {}", code.name(), error.message()),
        };
        let failure = Failure::new(exit, text);
        match hint(code, &error) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn plain_address(address: &str) -> &str {
    address.strip_prefix("levada://").unwrap_or(address)
}

fn exit_of(error: &levada::Error) -> Exit {
    match (error.class(), error.code()) {
        (_, Some(ErrorCode::TooLarge | ErrorCode::MalformedBatch | ErrorCode::DeliveryTimeout)) => Exit::Failed,
        (ErrorClass::Connection, _) | (_, Some(ErrorCode::ClientTimeout)) => Exit::Unreachable,
        (ErrorClass::Auth, _) => Exit::Denied,
        (ErrorClass::Usage, _) => Exit::Usage,
        _ => Exit::Failed,
    }
}

fn hint(code: ErrorCode, error: &levada::Error) -> Option<String> {
    let hint = match code {
        ErrorCode::ConnectFailed => return Some(connect_hint(error)),
        ErrorCode::ConnectionLost | ErrorCode::ClientTimeout => "Is the server still running? `levada ping` tells",
        ErrorCode::TlsFailed => {
            "Does the server speak TLS, and is its certificate signed by an authority in --ca-file?"
        }
        ErrorCode::Unauthenticated => {
            "Use --token-file FILE or --login USER, or save a server with `levada context add`"
        }
        ErrorCode::AuthFailed | ErrorCode::TokenExpired => {
            "Check --token-file, LEVADA_TOKEN_FILE or the context in use (`levada context list`)"
        }
        ErrorCode::PermissionDenied => {
            "Ask an admin, or log in as another user; `levada access show` tells what you may do"
        }
        ErrorCode::TlsRequired => "Use levada+tls://HOST:PORT",
        ErrorCode::StreamNotFound => "`levada stream list` shows what there is",
        ErrorCode::TopicNotFound => {
            "`levada topic list` shows what there is; `levada topic create STREAM/TOPIC` makes one"
        }
        ErrorCode::DiskFull => {
            "Free some space, or let retention remove old messages: `levada topic alter --retention-bytes`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn connect_hint(error: &levada::Error) -> String {
    let address = error.detail("address").map(plain_address).unwrap_or_default();
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if local {
        return "Is the server running? Start it with `levada-server`".to_owned();
    }
    format!("Is the address right, and is the server running there? ({})", error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_server_is_named_with_what_to_do() {
        let error = levada::Error::new(ErrorCode::ConnectFailed, "connection refused")
            .with_detail("address", "levada://127.0.0.1:7420");
        let failure = Failure::from(error);
        assert_eq!(
            failure.to_string(),
            "cannot reach 127.0.0.1:7420. Is the server running? Start it with `levada-server`"
        );
        assert_eq!(failure.exit(), Exit::Unreachable);
        let error = levada::Error::new(ErrorCode::ConnectFailed, "no such host")
            .with_detail("address", "levada://db.example:1");
        assert!(!Failure::from(error).to_string().contains("levada-server"));
    }

    #[test]
    fn exit_codes_follow_the_class_of_the_error() {
        for (code, exit) in [
            (ErrorCode::AlreadyExists, Exit::Failed),
            (ErrorCode::TopicNotFound, Exit::Failed),
            (ErrorCode::InvalidName, Exit::Usage),
            (ErrorCode::TooLarge, Exit::Failed),
            (ErrorCode::TlsFailed, Exit::Unreachable),
            (ErrorCode::PermissionDenied, Exit::Denied),
            (ErrorCode::AuthFailed, Exit::Denied),
            (ErrorCode::AuthBusy, Exit::Failed),
            (ErrorCode::CredentialsUnreadable, Exit::Usage),
            (ErrorCode::DeliveryTimeout, Exit::Failed),
        ] {
            assert_eq!(Failure::from(levada::Error::new(code, "x")).exit(), exit, "{code:?}");
        }
    }

    #[test]
    fn a_servers_error_shows_its_name() {
        let failure = Failure::from(levada::Error::new(ErrorCode::AlreadyExists, "topic a/b exists already"));
        assert_eq!(failure.to_string(), "ALREADY_EXISTS: topic a/b exists already");
    }
}
