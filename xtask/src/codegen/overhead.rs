//! The table of README.md that says what each binding costs beside the Rust client, from what `cargo xtask overhead` measured last.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::parity::LANGUAGES;

/// What one run measured, the Rust client first.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Overhead {
    pub(crate) clients: Vec<Client>,
}

/// Medians of one client.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    /// Its name in the conformance suite.
    pub(crate) name: String,
    pub(crate) send_batch_per_s: f64,
    pub(crate) enqueue_per_s: f64,
    pub(crate) receive_batch_per_s: f64,
    pub(crate) send_one_p50_us: f64,
    pub(crate) send_one_p99_us: f64,
}

const MEASURED: &str = "bench/overhead.json";

/// Keeps what was measured, and writes the table.
pub(crate) fn keep(root: &Path, overhead: &Overhead) -> Result<()> {
    std::fs::write(root.join(MEASURED), serde_json::to_string_pretty(overhead)? + "\n").context(MEASURED)?;
    super::files::run(root, false)
}

pub(super) fn table(root: &Path) -> Result<String> {
    let text = std::fs::read_to_string(root.join(MEASURED)).context(MEASURED)?;
    let overhead: Overhead = serde_json::from_str(&text).context(MEASURED)?;
    let rust = overhead.clients.first().with_context(|| format!("{MEASURED} is empty"))?;
    let mut out = String::from(
        "| Client | Batches sent | One by one, enqueued | Batches received | One at a time, p50 | p99 |\n|---|---|---|---|---|---|\n",
    );
    let rate = |own: f64, of_rust: f64| format!("{:.2} M/s ({:.2})", own / 1e6, own / of_rust);
    for client in &overhead.clients {
        let language = LANGUAGES.iter().find(|language| language.client == client.name);
        let title = language.with_context(|| format!("{MEASURED}: no client {}", client.name))?.title;
        let _ = writeln!(
            out,
            "| {title} | {} | {} | {} | {:.0} µs ({:.2}) | {:.0} µs |",
            rate(client.send_batch_per_s, rust.send_batch_per_s),
            rate(client.enqueue_per_s, rust.enqueue_per_s),
            rate(client.receive_batch_per_s, rust.receive_batch_per_s),
            client.send_one_p50_us,
            client.send_one_p50_us / rust.send_one_p50_us,
            client.send_one_p99_us,
        );
    }
    Ok(out)
}
