//! The commands, a file each, and how they speak and end.

pub(crate) mod crash;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod merge;
pub(crate) mod run;
pub(crate) mod selftest;
pub(crate) mod show;
pub(crate) mod soak;
pub(crate) mod vectors;

use std::io::Write as _;
use std::process::ExitCode;

pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const CANNOT_RUN: u8 = 3;
pub(crate) const HARNESS: u8 = 4;

/// What was asked for, on standard output. Nobody may be listening any more.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What a person should know, on standard error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Ends with a reason.
pub(crate) fn fail(code: u8, reason: &str) -> ExitCode {
    say(&format!("levada-conformance: {reason}"));
    ExitCode::from(code)
}

/// A folder that goes away.
pub(crate) struct Scratch {
    pub(crate) path: std::path::PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> std::io::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("levada-conformance-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed harms nobody.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
