//! What the client takes from the outside: connections, wall time and random bits. Each is a trait object with one real
//! implementation, so that a simulation can put its own in place. Timers are `tokio::time`; tasks are spawned on the
//! runtime the client is connected from.

use std::{fmt, future::Future, io, pin::Pin, sync::Arc, time::SystemTime};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::address::ServerAddress;
use crate::error::Result;
use crate::transport::{SystemConnector, TlsOptions};

/// A connected byte stream.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// What [`Connector::connect`] returns.
pub type ConnectFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send + 'a>>;

/// Opens byte streams to servers.
pub trait Connector: Send + Sync {
    /// Opens one to that address: with TLS if the address says so. The caller bounds the time.
    fn connect<'a>(&'a self, address: &'a ServerAddress) -> ConnectFuture<'a>;
}

/// Tells wall time.
pub trait Clock: Send + Sync {
    /// Microseconds since the Unix epoch.
    fn now_us(&self) -> i64;
}

/// Gives random bits.
pub trait Random: Send + Sync {
    /// 64 of them.
    fn next_u64(&self) -> u64;
}

/// The outside of a client.
///
/// ```
/// use levada::{ClientOptions, Clock, Environment};
/// use std::sync::Arc;
///
/// struct Noon;
/// impl Clock for Noon {
///     fn now_us(&self) -> i64 {
///         12 * 3_600_000_000
///     }
/// }
///
/// let environment = Environment { clock: Arc::new(Noon), ..Environment::default() };
/// let options = ClientOptions::new().environment(environment);
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct Environment {
    /// Opens connections. `None`: TCP and TLS, with the client's TLS options.
    pub connector: Option<Arc<dyn Connector>>,
    /// Stamps messages.
    pub clock: Arc<dyn Clock>,
    /// Jitter and first choices of partitions.
    pub random: Arc<dyn Random>,
}

impl Environment {
    pub(crate) fn connector(&self, tls: &TlsOptions) -> Result<Arc<dyn Connector>> {
        match &self.connector {
            Some(connector) => Ok(Arc::clone(connector)),
            None => Ok(Arc::new(SystemConnector::new(tls)?)),
        }
    }
}

impl Default for Environment {
    fn default() -> Self {
        Environment { connector: None, clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("own_connector", &self.connector.is_some()).finish_non_exhaustive()
    }
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one implementation that the parameter stands for")]
    fn now_us(&self) -> i64 {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
        }
    }
}

/// The random source of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next_u64(&self) -> u64 {
        // Jitter that is always zero still works, so a system without entropy is no reason to fail.
        getrandom::u64().unwrap_or(0)
    }
}
