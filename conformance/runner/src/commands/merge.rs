//! `merge`: several reports as one, with its views.

use std::path::PathBuf;
use std::process::ExitCode;

use levada_conformance::report::{self, json};

use super::{HARNESS, USAGE, fail, print};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Reports to put together; of two runs of a client the later counts
    #[arg(required = true, value_name = "REPORT.JSON")]
    reports: Vec<PathBuf>,
    /// Folder for the result
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let reports = arguments.reports.iter().map(|path| json::read(path)).collect::<Result<Vec<_>, _>>();
    let merged = match reports {
        Ok(reports) => json::merge(reports),
        Err(reason) => return fail(USAGE, &reason),
    };
    if let Err(error) = report::write_all(&merged, &arguments.out) {
        return fail(HARNESS, &format!("{}: {error}", arguments.out.display()));
    }
    print(&format!("{} runs in {}", merged.runs.len(), arguments.out.display()));
    ExitCode::SUCCESS
}
