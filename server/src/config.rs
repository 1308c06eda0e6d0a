//! What an operator may say: flags before environment before TOML file before defaults.
//!
//! [`Settings`] is the one table of keys; flags, `LEVADA_*` variables, the file and `--print-config` all come from it.
//! [`Config`] is what the server runs with: everything decided, checked, in plain units.

mod settings;
mod units;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use levada_storage::PartitionConfig;

pub use settings::{
    Cli, ConfigError, DiskBackend, LogFormat, LowWaterPolicy, Machine, Settings, Task, check_segment_bytes,
};
pub use units::{ByteSize, Span};

/// Cost of a password hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for PasswordCost {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2 }
    }
}

/// Paths of the TLS identity, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// What the server runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data directory.
    pub data_dir: PathBuf,
    /// Where the native protocol listens.
    pub listen: SocketAddr,
    /// Shards; one core each.
    pub shard_count: u16,
    /// No authentication; loopback only.
    pub insecure_dev: bool,
    /// Takes credentials without TLS off loopback.
    pub allow_plaintext_auth: bool,
    /// Whether the audit log is written.
    pub audit: bool,
    /// TLS identity; none: plain only.
    pub tls: Option<TlsFiles>,
    /// Disk backend.
    pub disk_backend: DiskBackend,
    /// Cache of all shards together.
    pub cache_bytes: u64,
    /// Free space below which appends are refused; `None` is min(1 GiB, 5 %).
    pub low_water_bytes: Option<u64>,
    /// What happens besides below that.
    pub low_water_policy: LowWaterPolicy,
    /// Segment files that all shards together keep open.
    pub open_files: usize,
    /// Settings of a partition whose topic does not say otherwise.
    pub partition: PartitionConfig,
    /// How long stored offsets outlast the last member and the last commit of their group.
    pub group_retention: Duration,
    /// Largest batch, counted uncompressed.
    pub max_batch_bytes: u32,
    /// Connections of all shards together.
    pub max_connections: u32,
    /// Memory one connection may hold: requests being received and answers not yet sent.
    pub connection_bytes: u64,
    /// Memory all connections together may hold.
    pub connections_total_bytes: u64,
    /// From accept to Authenticated, TLS handshake included.
    pub auth_timeout: Duration,
    /// Silence after which a connection is closed.
    pub idle_timeout: Duration,
    /// Unsent bytes without progress for this long end a connection.
    pub slow_consumer_timeout: Duration,
    /// How long shutdown waits for produce requests under way.
    pub shutdown_timeout: Duration,
    /// Life of a session ticket.
    pub ticket_lifetime: Duration,
    /// Cost of a password hash.
    pub password_cost: PasswordCost,
    /// Faults on purpose, for tests of the tests.
    pub defects: Defects,
}

/// Rules broken on purpose, to show that the simulation would notice. No flag sets one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defects {
    /// Acknowledge a produce when it is appended instead of when it is durable.
    pub ack_before_durable: bool,
}
