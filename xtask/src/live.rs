//! What tasks need that run the real binaries: an empty directory, a server in it, and the command line beside it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// An empty directory that goes away.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new(parent: &Path, name: &str) -> anyhow::Result<Scratch> {
        let path = parent.join(format!("levada-{}-{}", name.replace(['/', '.'], "-"), std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed harms nobody.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A running server. Dropping it kills it, so that a failure leaves none behind.
pub(crate) struct Server {
    child: Child,
    /// Kept open: a server that cannot say something must not fail for it.
    _output: BufReader<ChildStdout>,
    binaries: PathBuf,
    home: PathBuf,
    pub(crate) address: String,
    /// From its start to its line on standard output.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// Starts the server with its data in `home/data`, at `listen`.
    pub(crate) fn start(binaries: &Path, home: &Path, listen: &str) -> anyhow::Result<Server> {
        let log = home.join("server.log");
        let started = now();
        let mut child = Command::new(binaries.join("levada-server"))
            .arg("--data-dir")
            .arg(home.join("data"))
            .args(["--listen", listen])
            .env("HOME", home)
            .env_remove("XDG_RUNTIME_DIR")
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .spawn()
            .context("start levada-server")?;
        let mut output = BufReader::new(child.stdout.take().expect("standard output was piped"));
        let mut line = String::new();
        output.read_line(&mut line)?;
        let ready_after = started.elapsed();
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("tcp=")).map(str::to_owned);
        let (binaries, home) = (binaries.to_owned(), home.to_owned());
        let is_ready = address.is_some();
        let address = address.unwrap_or_default();
        let server = Server { child, _output: output, binaries, home, address, ready_after };
        if !is_ready {
            bail!("the server is not ready: {line:?}; {}", std::fs::read_to_string(log)?);
        }
        Ok(server)
    }

    /// A program that finds this server by its environment, and the binaries by its path.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let (binaries, path) = (self.binaries.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command
            .current_dir(&self.home)
            .env("PATH", format!("{binaries}:{binaries}/examples:{path}"))
            .env("HOME", &self.home)
            .env("LEVADA_SERVER", &self.address)
            .env("LEVADA_TOKEN_FILE", self.home.join("data/root.token"))
            .stdin(Stdio::null());
        command
    }

    /// The command line.
    pub(crate) fn levada(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.binaries.join("levada"));
        command.args(arguments);
        command
    }

    /// What the command line prints, if it succeeds.
    pub(crate) fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.levada(arguments).stderr(Stdio::inherit()).output().context("levada")?;
        ensure!(output.status.success(), "levada {}: {}", arguments.join(" "), output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// As `kill -9`.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "the server is gone");
        let status = self.child.wait()?;
        ensure!(status.success(), "SIGTERM ends the server with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already after `stop` and `kill`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a task reports how long it took; nothing here is simulated")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
