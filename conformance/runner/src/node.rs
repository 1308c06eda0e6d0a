//! The server under the clients: a process of its own, which is this very program run again, so that stopping, killing and starting
//! it again on the same data are the real things.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to be ready, and to stop.
const LIMIT: Duration = Duration::from_secs(30);

/// A server and its data directory.
#[derive(Debug)]
pub struct Node {
    child: Option<Child>,
    home: PathBuf,
    args: Vec<String>,
    address: SocketAddr,
}

impl Node {
    /// Starts a server with its data in `home/data`, at a free port of the loopback.
    ///
    /// # Errors
    /// Why it is not ready.
    pub fn start(home: &Path, args: &[String]) -> Result<Node, String> {
        std::fs::create_dir_all(home).map_err(|error| format!("{}: {error}", home.display()))?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = Node { child: None, home: home.to_owned(), args: args.to_vec(), address: any };
        node.launch()?;
        Ok(node)
    }

    /// Where it listens, before and after it was started again.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Where its discovery file is found: the `HOME` of a user on the same machine.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The file with the token of its root user.
    pub fn token_file(&self) -> PathBuf {
        self.data_dir().join("root.token")
    }

    /// Whether it runs.
    pub fn is_up(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts it again on the same data, at the same address.
    ///
    /// # Errors
    /// Why it is not ready.
    pub fn launch(&mut self) -> Result<(), String> {
        if self.is_up() {
            return Err("the server is running already".to_owned());
        }
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let log_path = self.home.join("server.log");
        let log = std::fs::File::options().create(true).append(true).open(&log_path);
        let mut command = Command::new(program);
        command
            .args(["serve", "--data-dir"])
            .arg(self.data_dir())
            .args(["--listen", &self.address.to_string()])
            .args(&self.args)
            .env("HOME", &self.home)
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.map_err(|error| format!("{}: {error}", log_path.display()))?);
        let mut child = command.spawn().map_err(|error| format!("cannot start a server: {error}"))?;
        let stdout = child.stdout.take();
        self.child = Some(child);
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
        }
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("tcp="));
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            return Err(format!("the server is not ready: {}", tail.join(" / ")));
        };
        self.address = address;
        Ok(())
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// If it does not end, or not well.
    pub fn stop(&mut self) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Err("the server is not running".to_owned()) };
        signal(&child, rustix::process::Signal::TERM)?;
        let asked = Instant::now();
        while asked.elapsed() < LIMIT {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("SIGTERM ends the server with {status}")),
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(error.to_string()),
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(format!("the server did not stop within {LIMIT:?}"))
    }

    /// Stops its clock, as it were: it neither reads nor answers until [`Node::resume`].
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&mut self) -> Result<(), String> {
        signal(self.child.as_ref().ok_or("the server is not running")?, rustix::process::Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&mut self) -> Result<(), String> {
        signal(self.child.as_ref().ok_or("the server is not running")?, rustix::process::Signal::CONT)
    }
}

fn signal(child: &Child, signal: rustix::process::Signal) -> Result<(), String> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).ok_or("the server has no pid")?;
    rustix::process::kill_process(pid, signal).map_err(|error| error.to_string())
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
