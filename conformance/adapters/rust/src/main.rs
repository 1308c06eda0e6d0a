//! The conformance adapter of the Rust client: reads commands, makes each one call of `levada`, writes what came of it
//! (`conformance/adapter-protocol.md`). With `--defect NAME` it is wrong on purpose, for the suite's own test.

mod calls;
mod defects;
mod records;
mod session;
mod values;

use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::Arc;

use defects::Defect;
use serde_json::Value;
use session::Session;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let defect = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => None,
        ["--defect", name] => match Defect::from_name(name) {
            Some(defect) => Some(defect),
            None => return complain(&format!("there is no defect {name}")),
        },
        _ => return complain("usage: levada-conformance-rust [--defect NAME]"),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string()),
    };
    let (lines, mut inbox) = tokio::sync::mpsc::channel(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    runtime.block_on(async move {
        let session = Arc::new(Session::new(defect));
        while let Some(line) = inbox.recv().await {
            let command: Value = match serde_json::from_str(&line) {
                Ok(command) => command,
                Err(error) => return complain(&format!("a line is no JSON: {error}")),
            };
            if !session.take(command).await {
                break;
            }
        }
        session.reset().await;
        ExitCode::SUCCESS
    })
}

fn complain(reason: &str) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "levada-conformance-rust: {reason}");
    ExitCode::from(2)
}
