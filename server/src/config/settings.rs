//! The one table of keys. A field here is a flag, a `LEVADA_*` variable, a key of the file, and a line of `--print-config`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use levada_protocol::limits;
use levada_storage::PartitionConfig;
use serde::Deserialize;

use super::{ByteSize, Config, Defects, PasswordCost, Span, TlsFiles};

/// Segment files kept open unless the process finds out how many it may open.
const DEFAULT_OPEN_FILES: usize = 512;

/// A durable message streaming server in one binary.
///
/// Start it and it listens on 127.0.0.1:7420 with its data in ./levada-data. The first start creates the user `root` and a
/// token that clients on this machine find by themselves: `levada topic create demo/greetings --partitions 4`, then
/// `echo hello | levada produce demo/greetings` and `levada consume demo/greetings --from earliest`.
///
/// Each setting is a flag, an environment variable LEVADA_..., or a key of the TOML file given with --config; the first
/// that says something wins. `--print-config` shows what is in force, with a comment for each key.
#[derive(Clone, Debug, Parser)]
#[command(name = "levada-server", version, max_term_width = 110)]
pub struct Cli {
    /// TOML file with settings
    #[arg(long, env = "LEVADA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the settings in force as a TOML file with comments, and exit
    #[arg(long)]
    pub print_config: bool,
    #[expect(missing_docs, reason = "its documentation would replace that of the program in --help")]
    #[command(flatten)]
    pub settings: Settings,
    /// What to do instead of serving
    #[command(subcommand)]
    pub task: Option<Task>,
}

/// What the program can do instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Task {
    /// Let a data directory use the formats of this version; older servers refuse it from then on
    ///
    /// Until then a server of this version writes nothing into a directory that the version which made it could not read,
    /// so that it can be rolled back. No server may be running on the directory.
    FinalizeUpgrade {
        /// The data directory
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Which implementation reads and writes files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum DiskBackend {
    /// io_uring where the kernel allows it and it measures faster
    #[default]
    Auto,
    /// io_uring
    IoUring,
    /// A small pool of threads
    Threads,
    /// Without direct I/O, for file systems that lack it
    Buffered,
}

/// What happens when free disk space is below the low-water mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum LowWaterPolicy {
    /// Appends are refused until space is freed
    #[default]
    Refuse,
    /// Topics with a retention limit lose their oldest sealed segments before their time; the others keep everything
    DeleteOldest,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One object per line
    Json,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $env:literal, $value_name:literal $(, $extra:meta)*;)*) => {
        /// What flags, environment or a file say; absent is the default.
        #[derive(Clone, Debug, Default, Args, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings {
            $($(#[doc = $doc])+
            #[arg(long, env = $env, value_name = $value_name $(, $extra)*)]
            pub $field: Option<$type>,)*
        }

        impl Settings {
            /// What `self` does not say is taken from `weaker`.
            #[must_use]
            pub fn or(self, weaker: Self) -> Self {
                Self { $($field: self.$field.or(weaker.$field),)* }
            }

            fn keys() -> &'static [&'static str] {
                &[$(stringify!($field),)*]
            }
        }
    };
}

settings! {
    /// Directory of all data; created if absent
    data_dir: PathBuf = "LEVADA_DATA_DIR", "DIR";
    /// Address and port of the native protocol, plain and TLS; port 0 takes a free one
    listen: SocketAddr = "LEVADA_LISTEN", "ADDR:PORT";
    /// Address and port of HTTP; accepted and not yet served
    http_listen: SocketAddr = "LEVADA_HTTP_LISTEN", "ADDR:PORT";
    /// Cores to use; each owns its share of the partitions
    cores: u16 = "LEVADA_CORES", "N";
    /// Turn authentication off; only with a loopback address
    insecure_dev: bool = "LEVADA_INSECURE_DEV", "BOOL", num_args(0..=1), default_missing_value("true"), require_equals(true);
    /// Take passwords and tokens without TLS from other machines
    allow_plaintext_auth: bool = "LEVADA_ALLOW_PLAINTEXT_AUTH", "BOOL", num_args(0..=1), default_missing_value("true"), require_equals(true);
    /// Record logins and changes in the topic _levada/audit, which admins can read
    audit: bool = "LEVADA_AUDIT", "BOOL", num_args(0..=1), default_missing_value("true"), require_equals(true);
    /// TLS certificate chain, PEM
    tls_cert: PathBuf = "LEVADA_TLS_CERT", "FILE";
    /// TLS private key, PEM
    tls_key: PathBuf = "LEVADA_TLS_KEY", "FILE";
    /// How files are read and written
    disk_backend: DiskBackend = "LEVADA_DISK_BACKEND", "BACKEND";
    /// Memory for recent and recently read messages, all cores together; default a quarter of the memory, 1 GiB at most
    cache_bytes: ByteSize = "LEVADA_CACHE_BYTES", "SIZE";
    /// Free disk space below which appends are refused; default 5 % of the disk, 1 GiB at most
    low_water_bytes: ByteSize = "LEVADA_LOW_WATER_BYTES", "SIZE";
    /// What happens when free disk space is below low_water_bytes
    low_water_policy: LowWaterPolicy = "LEVADA_LOW_WATER_POLICY", "POLICY";
    /// Size at which a segment is sealed, unless its topic says otherwise
    segment_bytes: ByteSize = "LEVADA_SEGMENT_BYTES", "SIZE";
    /// How long messages of a topic with durability memory may wait for the disk
    flush_interval: Span = "LEVADA_FLUSH_INTERVAL", "TIME";
    /// How long an idle producer is remembered for the detection of duplicates
    producer_expiry: Span = "LEVADA_PRODUCER_EXPIRY", "TIME";
    /// How long stored offsets outlast the last member and the last commit of their group
    group_retention: Span = "LEVADA_GROUP_RETENTION", "TIME";
    /// Largest batch, counted uncompressed
    max_batch_bytes: ByteSize = "LEVADA_MAX_BATCH_BYTES", "SIZE";
    /// Connections, all cores together
    max_connections: u32 = "LEVADA_MAX_CONNECTIONS", "N";
    /// Memory one connection may hold
    connection_bytes: ByteSize = "LEVADA_CONNECTION_BYTES", "SIZE";
    /// Memory all connections together may hold
    connections_total_bytes: ByteSize = "LEVADA_CONNECTIONS_TOTAL_BYTES", "SIZE";
    /// Time from connecting to being authenticated
    auth_timeout: Span = "LEVADA_AUTH_TIMEOUT", "TIME";
    /// Silence after which a connection is closed
    idle_timeout: Span = "LEVADA_IDLE_TIMEOUT", "TIME";
    /// A connection that takes none of the bytes waiting for it this long is closed
    slow_consumer_timeout: Span = "LEVADA_SLOW_CONSUMER_TIMEOUT", "TIME";
    /// How long a shutdown waits for requests under way
    shutdown_timeout: Span = "LEVADA_SHUTDOWN_TIMEOUT", "TIME";
    /// Life of a session ticket
    ticket_lifetime: Span = "LEVADA_TICKET_LIFETIME", "TIME";
    /// How log lines look
    log_format: LogFormat = "LEVADA_LOG_FORMAT", "FORMAT";
    /// What is logged: error, warn, info, debug, trace, or directives like levada_server::edge=debug
    log: String = "LEVADA_LOG", "FILTER";
}

/// Why the settings are not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has an unknown key or a bad value.
    #[error("in the configuration file {}: {message}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, with the key and the line.
        message: String,
    },
    /// A value does not fit.
    #[error("{key}: {message}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

/// The machine, as far as defaults depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: usize,
    /// Memory this process may use, bytes.
    pub memory_bytes: u64,
}

impl Cli {
    /// Flags and environment over the file they name.
    ///
    /// # Errors
    /// When the file cannot be read or has an unknown key.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let Some(path) = &self.config else { return Ok(self.settings.clone()) };
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
        Ok(self.settings.clone().or(Settings::parse(path, &text)?))
    }
}

impl Settings {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// With the key and the line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::File {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })
    }

    /// The settings with every default filled in.
    #[must_use]
    pub fn effective(self, machine: Machine) -> Self {
        let cache_bytes = (machine.memory_bytes / 4).clamp(16 << 20, 1 << 30);
        let size = |bytes: u64| Some(ByteSize(bytes));
        let span = |seconds: u64| Some(Span(Duration::from_secs(seconds)));
        let partition = PartitionConfig::default();
        self.or(Self {
            data_dir: Some("./levada-data".into()),
            listen: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7420)),
            http_listen: None,
            cores: Some(u16::try_from(machine.cores.clamp(1, 64)).expect("clamped to 64")),
            insecure_dev: Some(false),
            allow_plaintext_auth: Some(false),
            audit: Some(false),
            tls_cert: None,
            tls_key: None,
            disk_backend: Some(DiskBackend::Auto),
            cache_bytes: size(cache_bytes),
            low_water_bytes: None,
            low_water_policy: Some(LowWaterPolicy::Refuse),
            segment_bytes: size(partition.segment_bytes),
            flush_interval: Some(Span(partition.flush_interval)),
            producer_expiry: Some(Span(Duration::from_micros(partition.producer_expiry_us))),
            group_retention: span(7 * 24 * 3600),
            max_batch_bytes: size(limits::MAX_BATCH_BYTES as u64),
            max_connections: Some(10_000),
            connection_bytes: size(64 << 20),
            connections_total_bytes: size((machine.memory_bytes / 4).clamp(64 << 20, 1 << 30)),
            auth_timeout: span(5),
            idle_timeout: span(120),
            slow_consumer_timeout: span(30),
            shutdown_timeout: span(10),
            ticket_lifetime: span(24 * 3600),
            log_format: Some(LogFormat::Text),
            log: Some("info".into()),
        })
    }

    /// The settings as a TOML file with the help of each key as its comment.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let command = Cli::command();
        let mut out = String::new();
        for key in Self::keys() {
            let argument = command.get_arguments().find(|argument| argument.get_id() == key);
            let help = argument.and_then(|argument| argument.get_help()).map(ToString::to_string).unwrap_or_default();
            let value = self.value(key);
            let _ = writeln!(out, "# {help}");
            let _ = match value {
                Some(value) => writeln!(out, "{key} = {value}\n"),
                None => writeln!(out, "# {key} =\n"),
            };
        }
        out
    }

    /// A value as TOML writes it.
    fn value(&self, key: &str) -> Option<String> {
        fn text(value: Option<impl ToString>) -> Option<String> {
            value.map(|value| toml::Value::String(value.to_string()).to_string())
        }
        fn plain(value: Option<impl ToString>) -> Option<String> {
            value.map(|value| value.to_string())
        }
        fn path(value: Option<&PathBuf>) -> Option<String> {
            text(value.map(|value| value.display()))
        }
        fn choice(value: Option<impl ValueEnum>) -> Option<String> {
            text(value.and_then(|value| value.to_possible_value()).map(|value| value.get_name().to_owned()))
        }
        match key {
            "data_dir" => path(self.data_dir.as_ref()),
            "listen" => text(self.listen),
            "http_listen" => text(self.http_listen),
            "cores" => plain(self.cores),
            "insecure_dev" => plain(self.insecure_dev),
            "allow_plaintext_auth" => plain(self.allow_plaintext_auth),
            "audit" => plain(self.audit),
            "tls_cert" => path(self.tls_cert.as_ref()),
            "tls_key" => path(self.tls_key.as_ref()),
            "disk_backend" => choice(self.disk_backend),
            "cache_bytes" => text(self.cache_bytes),
            "low_water_bytes" => text(self.low_water_bytes),
            "low_water_policy" => choice(self.low_water_policy),
            "segment_bytes" => text(self.segment_bytes),
            "flush_interval" => text(self.flush_interval),
            "producer_expiry" => text(self.producer_expiry),
            "group_retention" => text(self.group_retention),
            "max_batch_bytes" => text(self.max_batch_bytes),
            "max_connections" => plain(self.max_connections),
            "connection_bytes" => text(self.connection_bytes),
            "connections_total_bytes" => text(self.connections_total_bytes),
            "auth_timeout" => text(self.auth_timeout),
            "idle_timeout" => text(self.idle_timeout),
            "slow_consumer_timeout" => text(self.slow_consumer_timeout),
            "shutdown_timeout" => text(self.shutdown_timeout),
            "ticket_lifetime" => text(self.ticket_lifetime),
            "log_format" => choice(self.log_format),
            "log" => text(self.log.as_ref()),
            _ => None,
        }
    }

    /// Checks the settings and decides everything they leave open.
    ///
    /// # Errors
    /// The setting that does not fit, and what to do.
    pub fn decide(self, machine: Machine) -> Result<Config, ConfigError> {
        let filled = self.effective(machine);
        let expect = "effective() fills every key that has a default";
        let listen = filled.listen.expect(expect);
        let insecure_dev = filled.insecure_dev.expect(expect);
        check(!insecure_dev || listen.ip().is_loopback(), "insecure_dev", || {
            format!("turns authentication off, so it needs a loopback address; listen is {listen}")
        })?;
        let shard_count = filled.cores.expect(expect);
        check((1..=256).contains(&shard_count), "cores", || format!("must be 1 to 256, not {shard_count}"))?;
        let tls = match (filled.tls_cert, filled.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err(value_error("tls_key", "is needed beside tls_cert")),
            (None, Some(_)) => return Err(value_error("tls_cert", "is needed beside tls_key")),
        };
        let max_batch_bytes = filled.max_batch_bytes.expect(expect).0;
        check((65_536..=limits::MAX_BATCH_BYTES as u64).contains(&max_batch_bytes), "max_batch_bytes", || {
            format!("must be 64KiB to {}", ByteSize(limits::MAX_BATCH_BYTES as u64))
        })?;
        let segment_bytes = filled.segment_bytes.expect(expect).0;
        check_segment_bytes(segment_bytes).map_err(|message| value_error("segment_bytes", message))?;
        let connection_bytes = filled.connection_bytes.expect(expect).0;
        check(2 * max_batch_bytes <= connection_bytes, "connection_bytes", || {
            format!("must be at least twice max_batch_bytes, {}", ByteSize(2 * max_batch_bytes))
        })?;
        let connections_total_bytes = filled.connections_total_bytes.expect(expect).0;
        check(connection_bytes <= connections_total_bytes, "connections_total_bytes", || {
            format!("must be at least connection_bytes, {}", ByteSize(connection_bytes))
        })?;
        let max_connections = filled.max_connections.expect(expect);
        check(0 < max_connections, "max_connections", || "must be at least 1".into())?;
        let duration = |key: &'static str, span: Option<Span>| {
            let Span(duration) = span.expect(expect);
            check(Duration::ZERO < duration, key, || "must be longer than nothing".into()).map(|()| duration)
        };
        let partition = PartitionConfig {
            segment_bytes,
            flush_interval: duration("flush_interval", filled.flush_interval)?,
            producer_expiry_us: u64::try_from(duration("producer_expiry", filled.producer_expiry)?.as_micros())
                .unwrap_or(u64::MAX),
            max_batch_bytes: u32::try_from(max_batch_bytes).expect("checked against the protocol's limit") + 4096,
            ..PartitionConfig::default()
        };
        Ok(Config {
            data_dir: filled.data_dir.expect(expect),
            listen,
            shard_count,
            insecure_dev,
            allow_plaintext_auth: filled.allow_plaintext_auth.expect(expect),
            audit: filled.audit.expect(expect),
            tls,
            disk_backend: filled.disk_backend.expect(expect),
            cache_bytes: filled.cache_bytes.expect(expect).0,
            low_water_bytes: filled.low_water_bytes.map(|size| size.0),
            low_water_policy: filled.low_water_policy.expect(expect),
            open_files: DEFAULT_OPEN_FILES,
            partition,
            group_retention: duration("group_retention", filled.group_retention)?,
            max_batch_bytes: u32::try_from(max_batch_bytes).expect("checked against the protocol's limit"),
            max_connections,
            connection_bytes,
            connections_total_bytes,
            auth_timeout: duration("auth_timeout", filled.auth_timeout)?,
            idle_timeout: duration("idle_timeout", filled.idle_timeout)?,
            slow_consumer_timeout: duration("slow_consumer_timeout", filled.slow_consumer_timeout)?,
            shutdown_timeout: duration("shutdown_timeout", filled.shutdown_timeout)?,
            ticket_lifetime: duration("ticket_lifetime", filled.ticket_lifetime)?,
            password_cost: PasswordCost::default(),
            defects: Defects::default(),
        })
    }
}

/// Range of the size of a segment, for the file and for topics.
///
/// # Errors
/// In words.
pub fn check_segment_bytes(segment_bytes: u64) -> Result<(), String> {
    let range = 1 << 20..=1 << 40;
    if range.contains(&segment_bytes) { Ok(()) } else { Err("a segment must have 1MiB to 1TiB".into()) }
}

fn value_error(key: &'static str, message: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, message: message.into() }
}

fn check(holds: bool, key: &'static str, message: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(value_error(key, message())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { cores: 2, memory_bytes: 8 << 30 };

    fn file(text: &str) -> Result<Settings, ConfigError> {
        Settings::parse(Path::new("levada.toml"), text)
    }

    #[test]
    fn printed_settings_read_back_the_same() {
        let printed = Settings::default().effective(MACHINE).to_toml();
        assert_eq!(file(&printed).unwrap().to_toml(), printed);
        for key in Settings::keys() {
            assert!(printed.contains(&format!("{key} =")), "{key} is not printed:\n{printed}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let cli = Cli::try_parse_from(["levada-server", "--cores", "3", "--insecure-dev"]).unwrap();
        let settings = cli.settings.or(file("cores = 1\nmax_connections = 7").unwrap());
        let config = settings.decide(MACHINE).unwrap();
        assert_eq!((config.shard_count, config.max_connections, config.insecure_dev), (3, 7, true));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = file("coers = 1").unwrap_err().to_string();
        assert!(error.contains("coers") && error.contains("levada.toml"), "{error}");
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        for (text, key) in [
            ("insecure_dev = true\nlisten = \"0.0.0.0:7420\"", "insecure_dev"),
            ("cores = 0", "cores"),
            ("tls_cert = \"x\"", "tls_key"),
            ("tls_key = \"x\"", "tls_cert"),
            ("max_batch_bytes = \"1TiB\"", "max_batch_bytes"),
            ("segment_bytes = 10", "segment_bytes"),
            ("connection_bytes = \"1MiB\"", "connection_bytes"),
            ("connections_total_bytes = \"1MiB\"", "connections_total_bytes"),
            ("max_connections = 0", "max_connections"),
            ("idle_timeout = \"0s\"", "idle_timeout"),
        ] {
            let error = file(text).unwrap().decide(MACHINE).unwrap_err().to_string();
            assert!(error.starts_with(key), "{text}: {error}");
        }
    }
}
