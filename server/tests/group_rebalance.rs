//! Eight members of one group over real sockets, against the server as a process of its own: 500 changes, and commits of old
//! generations put on their connections. `LEVADA_CAST_SEED` replays a seed, as far as real time lets it;
//! `LEVADA_CAST_CHANGES` makes it longer.
#![expect(clippy::print_stdout, reason = "a test prints what it measured")]

mod cast;
mod child;
#[path = "simulation/random.rs"]
mod random;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use levada::{
    BackoffOptions, ByteStream, ClientOptions, ConnectFuture, Connector, Credentials, Environment, ServerAddress,
};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::cast::{Cast, Dress, Pace};
use crate::child::Server;
use crate::random::Seeded;

/// Sockets of the operating system.
struct Tcp;

impl Connector for Tcp {
    fn connect<'a>(&'a self, address: &'a ServerAddress) -> ConnectFuture<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn a_group_of_eight_keeps_its_promises_through_500_changes() {
    let seed = number("LEVADA_CAST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("LEVADA_CAST_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), "127.0.0.1:0");
    let (address, token) = (server.address.clone(), directory.path().join("data/root.token"));
    let dress: Dress = Rc::new(move |connector| {
        let backoff = BackoffOptions { floor: Duration::from_millis(5), ceiling: Duration::from_millis(100) };
        ClientOptions::new()
            .server(address.clone())
            .credentials(Credentials::token_file(token.clone()))
            .request_timeout(Duration::from_secs(2))
            .backoff(backoff)
            .environment(Environment { connector: Some(connector), ..Environment::default() })
    });
    let pace = Pace {
        members: 8,
        changes: usize::try_from(number("LEVADA_CAST_CHANGES").unwrap_or(500)).unwrap(),
        session: Duration::from_millis(300),
        release: Duration::from_millis(200),
        beat: Duration::from_millis(15),
        patience: Duration::from_secs(5),
        rest: Duration::from_secs(60),
        is_undisturbed: true,
    };
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cast = Cast::new(pace, Arc::new(Tcp), dress, Seeded::new(seed));
    let ledger = cast.ledger();
    LocalSet::new().block_on(&runtime, cast.play(std::future::ready(())));
    drop(server);
    assert_eq!(ledger.broken(), Vec::<String>::new(), "LEVADA_CAST_SEED={seed}");
    let counts = ledger.counts();
    println!("{} changes in {:?}: {counts:?}", pace.changes, started.elapsed());
    // The run must be worth something.
    let fenced: u64 = counts.fenced.values().sum();
    assert!(counts.fenced.keys().all(|code| ["NOT_ASSIGNED", "UNKNOWN_MEMBER"].contains(code)), "{counts:?}");
    assert!(100 < fenced && 100 < counts.taken && 500 < counts.handed && 100 < counts.generation, "{counts:?}");
}
