//! The server as a process of its own, for tests that kill it, watch it, or want real sockets between it and its clients.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use levada::{Client, ClientOptions, Credentials};
use tokio::time::Instant;

/// A running server, killed when dropped. Its log is `server.log` of its directory.
pub(crate) struct Server {
    child: Child,
    /// Kept open: a server that cannot say something must not fail for it.
    output: BufReader<ChildStdout>,
    pub(crate) address: String,
    /// From its start to its word that it is ready.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// Starts the server of this build in `directory`, to listen on `listen`.
    pub(crate) fn start(directory: &Path, listen: &str) -> Self {
        Self::start_as(&[env!("CARGO_BIN_EXE_levada-server")], directory, &["--listen", listen])
    }

    /// Starts a program that is a server, or runs one, with more arguments.
    pub(crate) fn start_as(program: &[&str], directory: &Path, arguments: &[&str]) -> Self {
        let started = Instant::now();
        let log = std::fs::File::options().create(true).append(true).open(directory.join("server.log"));
        let mut child = Command::new(program[0])
            .args(&program[1..])
            .arg("--data-dir")
            .arg(directory.join("data"))
            .args(arguments)
            .env("HOME", directory)
            .env_remove("XDG_RUNTIME_DIR")
            .stdout(Stdio::piped())
            .stderr(log.expect("the log can be written"))
            .spawn()
            .expect("the server starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("the server's line");
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("tcp=")).map(str::to_owned);
        let said = || std::fs::read_to_string(directory.join("server.log")).unwrap_or_default();
        let address = address.unwrap_or_else(|| panic!("the server is not ready: {line:?}\n{}", said()));
        Self { child, output, address, ready_after: started.elapsed() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }

    /// Waits for its end; what it prints ends with it.
    pub(crate) fn end(mut self) -> ExitStatus {
        let mut rest = String::new();
        while self.output.read_line(&mut rest).is_ok_and(|count| 0 < count) {}
        self.child.wait().expect("it has ended")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client with the root token of the server's directory.
pub(crate) async fn connect(directory: &Path, address: &str) -> Client {
    let token = Credentials::token_file(directory.join("data/root.token"));
    Client::connect(ClientOptions::new().server(address).credentials(token)).await.expect("the server answers")
}
