//! `run`: clients against cases, a line per case, a table at the end, reports in a folder.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use levada_conformance::client::{self, Description};
use levada_conformance::known::Known;
use levada_conformance::report::{self, table};
use levada_conformance::result::{CaseResult, Outcome, REPORT_VERSION, Report, Run};
use levada_conformance::run::{self, Settings};

use super::{CANNOT_RUN, FAILED, HARNESS, Scratch, USAGE, fail, print, say};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A client of this repository by the name of its description in conformance/clients; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "conf")]
    client: Vec<String>,
    /// The client.yaml of a client of your own; may be repeated
    #[arg(long, value_name = "FILE")]
    conf: Vec<PathBuf>,
    /// Another command for the adapter than the description's, split at spaces
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// Only cases whose id matches (`consume/**`), or with a tag (`tag:leak`); may be repeated
    #[arg(long, value_name = "PATTERN")]
    run: Vec<String>,
    /// A server that runs already; cases that stop or replace the server are left out then
    #[arg(long, value_name = "HOST:PORT", requires = "token_file")]
    server: Option<String>,
    /// File with a token of an admin of --server
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Folder for report.json, junit.xml, matrix.md and matrix.html
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Multiply every deadline, for slow machines and sanitizers
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    deadline_scale: f64,
    /// Cases from a folder instead of those built in
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Take what passes off the list of known failures; only after a full run
    #[arg(long)]
    fix: bool,
    /// Only failures and the table
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let descriptions = match descriptions(arguments) {
        Ok(descriptions) => descriptions,
        Err(reason) => return fail(USAGE, &reason),
    };
    let (cases, full) = match run::choose(arguments.cases.as_deref(), &arguments.run) {
        Ok(chosen) => chosen,
        Err(reason) => return fail(USAGE, &reason),
    };
    if arguments.fix && !full {
        return fail(USAGE, "--fix needs a full run: without --run");
    }
    if !arguments.deadline_scale.is_finite() || arguments.deadline_scale < 0.1 {
        return fail(USAGE, "--deadline-scale is a number from 0.1");
    }
    let mut report =
        Report { report: REPORT_VERSION, suite_version: env!("CARGO_PKG_VERSION").to_owned(), runs: Vec::new() };
    let mut cannot_run = false;
    for description in &descriptions {
        let scratch = match Scratch::new() {
            Ok(scratch) => scratch,
            Err(error) => return fail(HARNESS, &format!("no folder for data: {error}")),
        };
        let settings = Settings {
            cases: cases.clone(),
            full,
            scale: arguments.deadline_scale,
            server: arguments.server.clone().zip(arguments.token_file.clone()),
            scratch: scratch.path.clone(),
            run_id: format!("r{}", std::process::id()),
        };
        let mut progress = Progress::new(&description.name, arguments.quiet);
        match run::run(description, &settings, &mut |case, total| progress.case(case, total)) {
            Ok(run) => {
                progress.end();
                if arguments.fix {
                    fix(description, &run);
                }
                report.runs.push(run);
            }
            Err(reason) => {
                progress.end();
                say(&format!("levada-conformance: cannot run: {reason}"));
                cannot_run = true;
            }
        }
    }
    print(&summary(&report));
    if let Some(folder) = &arguments.out {
        if let Err(error) = report::write_all(&report, folder) {
            return fail(HARNESS, &format!("{}: {error}", folder.display()));
        }
        print(&format!("reports in {}", folder.display()));
    }
    let harness = report.runs.iter().flat_map(|run| &run.cases).any(|case| case.outcome == Outcome::Harness);
    match (cannot_run, harness, report.runs.iter().any(Run::failed)) {
        (true, _, _) => ExitCode::from(CANNOT_RUN),
        (_, true, _) => ExitCode::from(HARNESS),
        (_, _, true) => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

fn descriptions(arguments: &Arguments) -> Result<Vec<Description>, String> {
    let mut descriptions = Vec::new();
    for path in &arguments.conf {
        descriptions.push(Description::read(path)?);
    }
    for name in &arguments.client {
        let folder = client::folder()
            .ok_or("--client names clients of this repository: run it there, or describe yours with --conf")?;
        let path = folder.join(format!("{name}.yaml"));
        if !path.is_file() {
            return Err(format!("there is no client {name}; there are: {}", client::names(&folder).join(", ")));
        }
        descriptions.push(Description::read(&path)?);
    }
    if let Some(command) = &arguments.command {
        let [description] = &mut descriptions[..] else {
            return Err("--command goes with exactly one --conf or --client".to_owned());
        };
        description.command = command.split_whitespace().map(str::to_owned).collect();
        description.base = std::env::current_dir().map_err(|error| error.to_string())?;
    }
    if descriptions.is_empty() {
        return Err("name a client: --client NAME, or --conf client.yaml".to_owned());
    }
    Ok(descriptions)
}

fn fix(description: &Description, run: &Run) {
    let Some(path) = description.known.as_ref().map(|path| description.base.join(path)) else { return };
    let passing: Vec<&str> =
        run.cases.iter().filter(|case| case.outcome == Outcome::Xpass).map(|case| case.id.as_str()).collect();
    let written = Known::read(&path)
        .and_then(|known| known.without(&passing))
        .and_then(|text| std::fs::write(&path, text).map_err(|error| error.to_string()));
    match written {
        Ok(()) => say(&format!("{}: {} entries taken off", path.display(), passing.len())),
        Err(reason) => say(&format!("{}: {reason}", path.display())),
    }
}

/// A line per case; on a terminal, one line that changes while cases pass.
struct Progress {
    client: String,
    quiet: bool,
    terminal: bool,
    done: usize,
}

impl Progress {
    fn new(client: &str, quiet: bool) -> Progress {
        Progress { client: client.to_owned(), quiet, terminal: std::io::stderr().is_terminal(), done: 0 }
    }

    fn case(&mut self, case: &CaseResult, total: usize) {
        self.done += 1;
        let (client, done) = (&self.client, self.done);
        let line = format!("{client} {done}/{total} {:<13} {} ({} ms)", case.outcome.name(), case.id, case.took_ms);
        if case.outcome.is_failure() || case.outcome == Outcome::Xfail || case.outcome == Outcome::NonStrict {
            self.clear();
            say(&line);
            say(&format!("    {}", case.message));
            if case.outcome == Outcome::Crash {
                // It may be all there is to tell why.
                case.log.lines().for_each(|line| say(&format!("    | {line}")));
            }
        } else if self.terminal {
            let shown: String = line.chars().take(100).collect();
            let _ = write!(std::io::stderr(), "\r\x1b[2K{shown}");
            let _ = std::io::stderr().flush();
        } else if !self.quiet {
            say(&line);
        }
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }

    fn end(&self) {
        self.clear();
    }
}

fn summary(report: &Report) -> String {
    let mut lines = vec![format!(
        "\n{:<16} {:>6} {:>6} {:>6} {:>6} {:>6} {:>8}",
        "client", "passed", "loose", "xfail", "n/a", "failed", "seconds"
    )];
    for run in &report.runs {
        let counts = run.counts();
        let count = |outcome| counts.get(&outcome).copied().unwrap_or(0);
        let failed: usize = counts.iter().filter(|(outcome, _)| outcome.is_failure()).map(|(_, count)| count).sum();
        lines.push(format!(
            "{:<16} {:>6} {:>6} {:>6} {:>6} {:>6} {:>8.1}",
            run.client,
            count(Outcome::Pass),
            count(Outcome::NonStrict),
            count(Outcome::Xfail),
            count(Outcome::NotApplicable),
            failed,
            std::time::Duration::from_millis(run.took_ms).as_secs_f64()
        ));
    }
    for run in &report.runs {
        let (passed, total) = table::score(&run.cases);
        if passed != total {
            let failed = run.cases.iter().filter(|case| case.outcome.is_failure());
            lines.extend(failed.map(|case| format!("{}: {} {}", run.client, case.outcome.name(), case.id)));
        }
    }
    lines.join("\n")
}
