//! Runs the `sh` blocks of the README and of `docs/quick-start.md` as a newcomer would type them, then the Rust program the
//! page shows or names: the real binaries, a server in an empty directory, one shell per page.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::live::{Scratch, Server};
use crate::tree;

/// Pages, and the example that each runs in the end; a page of commands alone runs none.
const PAGES: [(&str, &str); 7] = [
    ("README.md", "hello"),
    ("docs/quick-start.md", "flights flights.csv"),
    ("docs/groups.md", ""),
    ("docs/compression.md", ""),
    ("docs/permissions.md", ""),
    ("docs/exactly-once.md", "importer orders.txt\nimporter orders.txt | grep 'after line Some(19)'"),
    ("docs/retention.md", ""),
];
/// Names the whole `flights.csv`; without it the committed sample is used.
const FLIGHTS_VARIABLE: &str = "LEVADA_FLIGHTS_CSV";
const SAMPLE: &str = "docs/data/flights-sample.csv";

/// Runs every page; returns how many passed and failed.
#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
pub(crate) fn check(binaries: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut passed, mut failed) = (0, 0);
    for (page, program) in PAGES {
        match run_page(page, program, binaries) {
            Ok(()) => passed += 1,
            Err(error) => {
                failed += 1;
                println!("{page}: {error:#}");
            }
        }
    }
    Ok((passed, failed))
}

fn run_page(page: &str, program: &str, binaries: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(tree::root().join(page)).with_context(|| format!("read {page}"))?;
    let blocks: Vec<String> = tree::fenced_blocks(&text, "sh").into_iter().map(|(_, block)| block).collect();
    ensure!(!blocks.is_empty(), "no `sh` block: is the page still a quick start?");
    let home = Scratch::new(&std::env::temp_dir(), page)?;
    let flights = std::env::var_os(FLIGHTS_VARIABLE).map_or_else(|| tree::root().join(SAMPLE), PathBuf::from);
    std::fs::copy(&flights, home.path.join("flights.csv")).with_context(|| format!("copy {}", flights.display()))?;
    let server = Server::start(binaries, &home.path, "127.0.0.1:0")?;
    let script = format!("set -eux\n{}\n{program}\n", blocks.join("\n"));
    let status = server.command("bash").args(["-c", &script]).status().context("bash")?;
    ensure!(status.success(), "a command of the page failed: {status}");
    server.stop()
}
