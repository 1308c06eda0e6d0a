//! What the tests speak: a server that lives as long as its value, and runs of the command line with what they printed.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// A server in a temporary directory, killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
    pub(crate) directory: TempDir,
}

/// What a run of the command line did.
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

pub(crate) fn server_binary() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_levada")).with_file_name("levada-server");
    assert!(
        beside.exists(),
        "{} is not there: build it with `cargo build -p levada-server`, in the same profile and target directory",
        beside.display()
    );
    beside
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_in(TempDir::new().expect("a temporary directory"))
    }

    /// Starts on what an earlier server left.
    pub(crate) fn start_in(directory: TempDir) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(directory.path().join("server.log"));
        let mut process = Command::new(server_binary())
            .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data-dir"])
            .arg(directory.path().join("data"))
            .env("HOME", directory.path())
            .env("XDG_RUNTIME_DIR", directory.path().join("run"))
            .stdout(Stdio::piped())
            .stderr(log.expect("a log file"))
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("the server's line");
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("tcp="));
        let Some(address) = address else {
            let log = std::fs::read_to_string(directory.path().join("server.log")).unwrap_or_default();
            panic!("the server said {line:?} instead of `levada-server ready tcp=…`; its log:\n{log}");
        };
        assert!(line.starts_with("levada-server ready "), "{line:?}");
        Self { process, address: address.to_owned(), directory }
    }

    /// Asks it to stop and gives its directory back.
    pub(crate) fn stop(mut self) -> TempDir {
        signal(&self.process, "TERM");
        let status = self.process.wait().expect("the server ends");
        assert!(status.success(), "a stopped server ends with 0, not {status}");
        std::mem::replace(&mut self.directory, TempDir::new().expect("a temporary directory"))
    }

    /// The command line as the user who started the server.
    pub(crate) fn command(&self) -> Command {
        let mut command = levada(self.directory.path());
        command.env("LEVADA_SERVER", &self.address);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        run(self.command().args(arguments), b"")
    }

    /// Runs what must succeed and returns its standard output as text.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        self.run(arguments).succeeded(arguments).text()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.must(&[&["--output", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} printed {text:?}: {error}"))
    }

    /// Produces `input` with more flags and returns how many messages were acknowledged.
    pub(crate) fn produce(&self, topic: &str, flags: &[&str], input: &[u8]) -> u64 {
        let run = run(self.command().args(["produce", topic]).args(flags), input).succeeded(flags);
        assert!(run.stdout.is_empty(), "produce prints nothing on standard output");
        run.acknowledged()
    }

    /// The messages that `consume` prints as JSON.
    pub(crate) fn consume(&self, flags: &[&str]) -> Vec<Value> {
        let text = self.must(&[&["consume", "--output", "json"], flags].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Run {
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.stdout).expect("text")
    }

    pub(crate) fn succeeded(self, what: &[&str]) -> Self {
        assert!(self.status.success(), "{what:?} ended with {}: {}", self.status, self.stderr);
        self
    }

    /// Ended with that exit code, one line on standard error that begins and goes on as told, and no output.
    pub(crate) fn failed(&self, code: i32, says: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{}", self.stderr);
        assert!(self.stderr.contains("levada: ") || code == 2, "{:?}", self.stderr);
        for words in says {
            assert!(self.stderr.contains(words), "{:?} does not say {words:?}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert!(self.stdout.is_empty(), "{:?}", String::from_utf8_lossy(&self.stdout));
    }

    /// The number before "messages acknowledged".
    pub(crate) fn acknowledged(&self) -> u64 {
        let line = self.stderr.lines().find(|line| line.contains("acknowledged"));
        let line = line.unwrap_or_else(|| panic!("nothing about acknowledgements in {:?}", self.stderr));
        line.split(' ').next().and_then(|number| number.parse().ok()).expect("a number comes first")
    }
}

/// The command line with nothing of this machine's user in its environment.
pub(crate) fn levada(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_levada"));
    for variable in ["LEVADA_SERVER", "LEVADA_TOKEN_FILE", "LEVADA_CONTEXT", "XDG_CONFIG_HOME"] {
        command.env_remove(variable);
    }
    command.env("HOME", home).env("XDG_RUNTIME_DIR", home.join("run"));
    command
}

/// Runs to the end with that standard input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Run {
    let mut child = spawn(command);
    let mut stdin = child.stdin.take().expect("piped");
    let written = std::thread::scope(|scope| {
        let writing = scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().expect("the command line ends");
        // A command that fails before it reads all leaves the rest unread.
        let _ = writing.join().expect("the writer does not panic");
        output
    });
    Run { status: written.status, stdout: written.stdout, stderr: String::from_utf8(written.stderr).expect("text") }
}

pub(crate) fn spawn(command: &mut Command) -> Child {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    piped.spawn().expect("the command line starts")
}

pub(crate) fn signal(process: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(process.id().to_string()).status();
    assert!(status.expect("kill runs").success());
}
