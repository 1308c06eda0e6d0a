//! Where a server is: the URL forms a user may write, parsed once into host, port and whether TLS is spoken.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::error::{Error, Result};

/// The port a server listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7420;

/// Host, port and transport of a server.
///
/// ```
/// use levada::ServerAddress;
///
/// let address: ServerAddress = "levada+tls://example.org".parse()?;
/// assert_eq!((address.host.as_str(), address.port, address.tls), ("example.org", 7420, true));
/// let address: ServerAddress = "[::1]:9000".parse()?;
/// assert_eq!(address.to_string(), "levada://[::1]:9000");
/// # Ok::<(), levada::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
}

impl ServerAddress {
    /// Whether the host names this machine, so that local credentials may be used.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for ServerAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<ServerAddress> {
        let wrong = |why: &str| Error::usage("server", format!("{text:?} is not a server address: {why}"));
        let (tls, rest) = match text.split_once("://") {
            Some(("levada", rest)) => (false, rest),
            Some(("levada+tls", rest)) => (true, rest),
            Some(_) => return Err(wrong("the scheme must be levada or levada+tls")),
            None => (false, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(wrong("credentials do not belong in an address"));
        }
        if rest.contains(['/', '?', '#']) || rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("only a host and a port may follow the scheme"));
        }
        let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
            let (host, after) = bracketed.split_once(']').ok_or_else(|| wrong("a bracket is not closed"))?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(wrong("a colon and a port must follow the bracket")),
            }
        } else if rest.parse::<std::net::Ipv6Addr>().is_ok() {
            (rest, None)
        } else {
            match rest.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        if host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(wrong("an IPv6 address needs brackets before a port"));
        }
        let port = match port {
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(wrong("the port must be 1 to 65535")),
                Ok(port) => port,
            },
            None => DEFAULT_PORT,
        };
        Ok(ServerAddress { host: host.to_owned(), port, tls })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "levada+tls" } else { "levada" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, u16, bool) {
        let address: ServerAddress = text.parse().unwrap();
        (address.host, address.port, address.tls)
    }

    #[test]
    fn every_form_of_address_is_read() {
        assert_eq!(parsed("levada://a.b:1"), ("a.b".into(), 1, false));
        assert_eq!(parsed("levada+tls://a.b"), ("a.b".into(), 7420, true));
        assert_eq!(parsed("levada://a.b/"), ("a.b".into(), 7420, false));
        assert_eq!(parsed("host:65535"), ("host".into(), 65535, false));
        assert_eq!(parsed("127.0.0.1"), ("127.0.0.1".into(), 7420, false));
        assert_eq!(parsed("::1"), ("::1".into(), 7420, false));
        assert_eq!(parsed("[::1]"), ("::1".into(), 7420, false));
        assert_eq!(parsed("levada://[::1]:80"), ("::1".into(), 80, false));
    }

    #[test]
    fn malformed_addresses_are_usage_errors() {
        for text in [
            "",
            ":1",
            "http://a",
            "levada://",
            "a:0",
            "a:65536",
            "a:x",
            "a:",
            "[::1",
            "[::1]x",
            "[x:y]:1",
            "a/b",
            "u:p@a:1",
            "a b",
            "x:y:1",
        ] {
            let error = text.parse::<ServerAddress>().unwrap_err();
            assert!(error.is(levada_protocol::ErrorCode::ClientUsage), "{text:?}");
            assert_eq!(error.detail("argument"), Some("server"));
        }
    }

    #[test]
    fn display_reads_back() {
        for text in ["levada://h:1", "levada+tls://h:2", "levada://[fe80::1]:3"] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn loopback_is_told_apart() {
        for text in ["localhost", "127.0.0.1", "127.9.9.9:1", "[::1]:1"] {
            assert!(text.parse::<ServerAddress>().unwrap().is_loopback(), "{text}");
        }
        for text in ["localhost.evil.org", "10.0.0.1", "[fe80::1]"] {
            assert!(!text.parse::<ServerAddress>().unwrap().is_loopback(), "{text}");
        }
    }
}
