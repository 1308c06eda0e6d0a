//! The report as JSON, and several of them as one.

use std::path::Path;

use crate::result::{REPORT_VERSION, Report};

/// Writes it.
///
/// # Errors
/// Of the file system.
pub fn write(report: &Report, path: &Path) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    std::fs::write(path, text)
}

/// Reads one.
///
/// # Errors
/// What is wrong with it.
pub fn read(path: &Path) -> Result<Report, String> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| at(&error))?;
    let report: Report = serde_json::from_str(&text).map_err(|error| at(&error))?;
    if report.report != REPORT_VERSION {
        return Err(at(&format!("a report of version {}, not {REPORT_VERSION}", report.report)));
    }
    Ok(report)
}

/// Puts runs together; of two runs of a client the later counts.
pub fn merge(reports: Vec<Report>) -> Report {
    let mut merged =
        Report { report: REPORT_VERSION, suite_version: env!("CARGO_PKG_VERSION").to_owned(), runs: Vec::new() };
    for run in reports.into_iter().flat_map(|report| report.runs) {
        match merged.runs.iter_mut().find(|known| known.client == run.client) {
            Some(known) if known.started_at <= run.started_at => *known = run,
            Some(_) => {}
            None => merged.runs.push(run),
        }
    }
    merged
}
