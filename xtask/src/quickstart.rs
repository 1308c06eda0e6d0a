//! Runs the `sh` blocks of the README and of `docs/quick-start.md` as a newcomer would type them: the real binaries, a server
//! in an empty directory, one shell per page. Blocks of other languages are not run.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::tree;

const PAGES: [&str; 2] = ["README.md", "docs/quick-start.md"];
/// Names the whole `flights.csv`; without it the committed sample is used.
const FLIGHTS_VARIABLE: &str = "LEVADA_FLIGHTS_CSV";
const SAMPLE: &str = "docs/data/flights-sample.csv";

/// Runs every page; returns how many passed and failed.
#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
pub(crate) fn check(binaries: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut passed, mut failed) = (0, 0);
    for page in PAGES {
        match run_page(page, binaries) {
            Ok(()) => passed += 1,
            Err(error) => {
                failed += 1;
                println!("{page}: {error:#}");
            }
        }
    }
    Ok((passed, failed))
}

fn run_page(page: &str, binaries: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(tree::root().join(page)).with_context(|| format!("read {page}"))?;
    let blocks = shell_blocks(&text);
    ensure!(!blocks.is_empty(), "no `sh` block: is the page still a quick start?");
    let home = Scratch::new(page)?;
    let flights = std::env::var_os(FLIGHTS_VARIABLE).map_or_else(|| tree::root().join(SAMPLE), PathBuf::from);
    std::fs::copy(&flights, home.path.join("flights.csv")).with_context(|| format!("copy {}", flights.display()))?;
    let server = Server::start(binaries, &home.path)?;
    let script = format!("set -eux\n{}", blocks.join("\n"));
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
    let status = Command::new("bash")
        .args(["-c", &script])
        .current_dir(&home.path)
        .env("PATH", path)
        .env("HOME", &home.path)
        .env("LEVADA_SERVER", &server.address)
        .env("LEVADA_TOKEN_FILE", home.path.join("data/root.token"))
        .stdin(Stdio::null())
        .status()
        .context("bash")?;
    ensure!(status.success(), "a command of the page failed: {status}");
    server.stop()
}

/// The contents of the blocks that open with exactly three backticks and `sh`.
fn shell_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"));
        }
    }
    blocks
}

/// An empty directory that goes away.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(page: &str) -> anyhow::Result<Scratch> {
        let name = format!("levada-{}-{}", page.replace(['/', '.'], "-"), std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies in the system's temporary folder, where it harms nobody.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A running server. Dropping it kills it, so that a failed page leaves none behind.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(binaries: &Path, home: &Path) -> anyhow::Result<Server> {
        let log = File::create(home.join("server.log"))?;
        let mut child = Command::new(binaries.join("levada-server"))
            .arg("--data-dir")
            .arg(home.join("data"))
            .args(["--listen", "127.0.0.1:0"])
            .env("HOME", home)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start levada-server")?;
        let output = child.stdout.take().expect("standard output was piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("tcp=")).map(str::to_owned);
        let mut server = Server { child, address: String::new() };
        match address {
            Some(address) => server.address = address,
            None => bail!("the server is not ready: {line:?}; {}", std::fs::read_to_string(home.join("server.log"))?),
        }
        Ok(server)
    }

    fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "the server is gone");
        let status = self.child.wait()?;
        ensure!(status.success(), "SIGTERM ends the server with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::shell_blocks;

    #[test]
    fn only_shell_blocks_are_taken() {
        let page = "a\n```console\n$ no\n```\n```sh\none\ntwo\n```\n```rust\nno\n```\n```sh\nthree\n```\n";
        assert_eq!(shell_blocks(page), ["one\ntwo", "three"]);
    }
}
