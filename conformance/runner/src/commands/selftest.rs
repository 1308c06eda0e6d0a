//! `selftest`: every defect caught, and nothing found without one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use levada_conformance::client::Description;
use levada_conformance::selftest;

use super::{CANNOT_RUN, FAILED, HARNESS, Scratch, USAGE, fail, print};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Description of an adapter that takes `--defect NAME` [default: that of the Rust client]
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Only these defects; may be repeated
    #[arg(long, value_name = "NAME")]
    defect: Vec<String>,
    /// Multiply every deadline
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    deadline_scale: f64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let defects = match selftest::defects() {
        Ok(defects) => defects,
        Err(reason) => return fail(HARNESS, &reason),
    };
    if let Some(unknown) = arguments.defect.iter().find(|name| !defects.iter().any(|defect| defect.name == **name)) {
        let names: Vec<&str> = defects.iter().map(|defect| defect.name.as_str()).collect();
        return fail(USAGE, &format!("there is no defect {unknown}; there are: {}", names.join(", ")));
    }
    let path = arguments.conf.clone().or_else(|| Some(levada_conformance::client::folder()?.join("rust.yaml")));
    let Some(path) = path else { return fail(USAGE, "run it in the repository, or name an adapter with --conf") };
    let description = match Description::read(&path) {
        Ok(description) => description,
        Err(reason) => return fail(USAGE, &reason),
    };
    let chosen = |name: &str| arguments.defect.is_empty() || arguments.defect.iter().any(|wanted| wanted == name);
    let every: BTreeSet<&str> = defects
        .iter()
        .filter(|defect| chosen(&defect.name))
        .flat_map(|defect| defect.caught_by.iter().map(String::as_str))
        .collect();
    let mut wrong = 0;
    let mut examine = |defect: Option<&selftest::Defect>, named: &BTreeSet<&str>| {
        let scratch = Scratch::new().map_err(|error| error.to_string())?;
        let finding = selftest::examine(&description, defect, named, &scratch.path, arguments.deadline_scale)?;
        let outcomes: Vec<String> =
            finding.cases.iter().map(|(id, outcome)| format!("{id} {}", outcome.name())).collect();
        let verdict = match (finding.wrong.is_empty(), defect.is_some()) {
            (true, true) => "caught",
            (true, false) => "passes",
            (false, true) => "NOT CAUGHT",
            (false, false) => "FAILS",
        };
        if defect.is_some() || !finding.wrong.is_empty() {
            print(&format!("{:<20} {verdict:<10} {}", finding.defect, outcomes.join(", ")));
        } else {
            print(&format!("{:<20} {verdict:<10} all {} cases named below", "none", outcomes.len()));
        }
        wrong += finding.wrong.len();
        Ok::<(), String>(())
    };
    let clean = examine(None, &every);
    let outcome = clean.and_then(|()| {
        defects
            .iter()
            .filter(|defect| chosen(&defect.name))
            .try_for_each(|defect| examine(Some(defect), &defect.caught_by.iter().map(String::as_str).collect()))
    });
    if let Err(reason) = outcome {
        return fail(CANNOT_RUN, &reason);
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
