//! What the `levada-server` binary does: settings, logs, the lock, signals, exit codes. In the library, so that a program which
//! carries a server within itself can be one.
//!
//! Standard output carries exactly one line, when the server is ready; all words are on standard error. Exit codes: 0 after
//! a clean stop, 1 if the server could not start, 2 for a wrong flag or setting, 74 after an I/O error of the disk.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;
use tracing_subscriber::EnvFilter;

use crate::config::{Cli, Config, LogFormat, Settings, Task};
use crate::discovery::{self, DiscoveryFile};
use crate::env::real::{DirectoryLock, ExitOnFatal, environment, machine, raise_open_files};
use crate::metadata::Layout;
use crate::server::{FirstStart, Server};
use crate::upgrade::{self, Finalized};

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// Runs a server until a signal ends it; the whole process is its.
pub fn main(cli: &Cli) -> ExitCode {
    let settings = match cli.settings() {
        Ok(settings) => settings.effective(machine()),
        Err(error) => return complain(EXIT_USAGE, &error),
    };
    if cli.print_config {
        let mut out = std::io::stdout().lock();
        return match settings.clone().decide(machine()).map(|_| out.write_all(settings.to_toml().as_bytes())) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => complain(EXIT_USAGE, &error),
        };
    }
    if let Err(error) = start_logs(&settings) {
        return complain(EXIT_USAGE, &error);
    }
    let config = match settings.decide(machine()) {
        Ok(config) => config,
        Err(error) => return complain(EXIT_USAGE, &error),
    };
    let done = match &cli.task {
        None => run(config),
        Some(Task::FinalizeUpgrade { dir }) => finalize_upgrade(Config { data_dir: dir.clone(), ..config }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(EXIT_FAILED, &error),
    }
}

fn complain(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    say(&format!("levada-server: {error}"));
    ExitCode::from(code)
}

/// For a person; standard error may be gone, and then nobody listens.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn start_logs(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    let filter = settings.log.as_deref().unwrap_or("info");
    let filter = EnvFilter::builder().parse(filter).map_err(|error| format!("log: {error}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format.unwrap_or_default() {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

/// Segment files kept open at most, whatever the system allows: each takes kernel memory.
const MAX_OPEN_FILES: usize = 65_536;

fn lock(data_dir: &Path) -> Result<DirectoryLock, String> {
    DirectoryLock::take(data_dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => {
            format!("another server is running on the data directory {}", data_dir.display())
        }
        _ => format!("cannot use the data directory {}: {error}", data_dir.display()),
    })
}

fn finalize_upgrade(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let shown = config.data_dir.display().to_string();
    if !config.data_dir.is_dir() {
        return Err(format!("{shown} is no directory").into());
    }
    let _lock = lock(&config.data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = LocalSet::new().block_on(&runtime, async {
        let env = environment(&config, Arc::new(ExitOnFatal)).await?;
        upgrade::finalize(&env).await.map_err(Box::<dyn std::error::Error>::from)
    });
    match done.map_err(|error| format!("{shown}: {error}"))? {
        Finalized { from, to } if from == to => say(&format!("{shown} has format level {to} already")),
        Finalized { from, to } => {
            say(&format!("{shown} went from format level {from} to {to}; servers that do not know it refuse it now"));
        }
    }
    Ok(())
}

fn run(mut config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let _lock = lock(&config.data_dir)?;
    // The other half is for connections.
    config.open_files = usize::try_from(raise_open_files() / 2).unwrap_or(usize::MAX).min(MAX_OPEN_FILES);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(config))
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = Signals::new()?;
    let env = environment(&config, Arc::new(ExitOnFatal)).await?;
    let data_dir = std::path::absolute(&config.data_dir)?;
    let insecure_dev = config.insecure_dev;
    let server = Server::start(env, config).await?;
    let address = server.address();
    let token_file = (!insecure_dev).then(|| data_dir.join(Layout.root_token_path()));
    let discovery = write_discovery(address, &data_dir, token_file.as_deref());
    greet(address, &data_dir, server.first_start(), token_file.as_deref());
    announce(address, &data_dir);
    signals.next().await;
    tracing::info!("stopping");
    drop(discovery);
    tokio::select! {
        biased;
        () = server.shutdown() => {}
        () = signals.next() => {
            tracing::warn!("stopping at once on the second signal; the next start recovers");
            std::process::exit(i32::from(EXIT_FAILED));
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// The one line on standard output.
fn announce(address: SocketAddr, data_dir: &Path) {
    let mut out = std::io::stdout().lock();
    let line = writeln!(out, "levada-server ready tcp={address} data={}", data_dir.display());
    if let Err(error) = line.and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads standard output");
    }
}

fn greet(address: SocketAddr, data_dir: &Path, first_start: Option<&FirstStart>, token_file: Option<&Path>) {
    say(&format!("levada-server {} listens on {address}, data in {}", env!("CARGO_PKG_VERSION"), data_dir.display()));
    if let Some(first_start) = first_start {
        // Logs and files keep what they are given; a terminal shows it to whoever started the server.
        if std::io::stderr().is_terminal() {
            say(&format!("created user root with password {} (shown this once)", first_start.root_password));
        } else {
            say(
                "created user root; its password is shown on a terminal only: set one with `levada user alter root --password`",
            );
        }
    }
    match token_file {
        Some(path) => say(&format!("clients of this user on this machine find the token in {}", path.display())),
        None => say("authentication is off (--insecure-dev)"),
    }
    say("try:  levada topic create demo/greetings --partitions 1");
    say("      echo hello | levada produce demo/greetings");
    say("      levada consume demo/greetings --from earliest");
}

fn write_discovery(address: SocketAddr, data_dir: &Path, token_file: Option<&Path>) -> Option<DiscoveryFile> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let folder = discovery::folder(variable("XDG_RUNTIME_DIR"), variable("HOME"))?;
    match DiscoveryFile::write(&folder, address, data_dir, token_file) {
        Ok(file) => Some(file),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "no discovery file: clients need LEVADA_TOKEN_FILE");
            None
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
