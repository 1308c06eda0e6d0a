//! `show`: a case as it is written, with the file it stands in.

use std::process::ExitCode;

use levada_conformance::select::{self, CASES};

use super::{USAGE, fail, print};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Id of the case, or of its suite
    id: String,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let id = arguments.id.split('[').next().unwrap_or(&arguments.id);
    let cases = match select::all(None) {
        Ok(cases) => cases,
        Err(bad) => return fail(USAGE, &bad.to_string()),
    };
    let file = cases.iter().find(|case| {
        let own = case.id.split('[').next().unwrap_or(&case.id);
        own == id || own.rsplit_once('/').is_some_and(|(suite, _)| suite == id)
    });
    let Some(case) = file else { return fail(USAGE, &format!("there is no case {id}: see `levada-conformance list`")) };
    let text = CASES.iter().find(|(name, _)| *name == case.file).map_or("", |(_, text)| *text);
    print(&format!("# conformance/cases/{}", case.file));
    print(&entry(text, id.rsplit('/').next().unwrap_or(id)).unwrap_or_else(|| text.to_owned()));
    ExitCode::SUCCESS
}

/// The lines of one case, and what stands above all of them.
fn entry(text: &str, id: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_start = |line: &str| line.trim_start().starts_with("- id:");
    let start = lines.iter().position(|line| line.trim_start() == format!("- id: {id}"))?;
    let end = lines[start + 1..].iter().position(|line| is_start(line)).map_or(lines.len(), |at| start + 1 + at);
    let head = lines.iter().position(|line| is_start(line))?;
    Some([&lines[..head], &lines[start..end]].concat().join("\n"))
}
