//! `list`: what there is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use levada_conformance::client::{self, Description};
use levada_conformance::{run, select, spec};

use super::{FAILED, USAGE, fail, print};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many cases need each feature
    #[arg(long)]
    features: bool,
    /// Clients of this repository with what builds them, a line of JSON each
    #[arg(long)]
    clients: bool,
    /// Sections of the specification that no case cites; exit code 1 if there are any
    #[arg(long)]
    uncovered: bool,
    /// Only cases whose id matches, or with a tag (`tag:leak`)
    #[arg(long, value_name = "PATTERN")]
    run: Vec<String>,
    /// Cases from a folder instead of those built in
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.clients {
        return clients();
    }
    if arguments.uncovered {
        return match select::all(arguments.cases.as_deref()) {
            Ok(cases) => {
                let uncovered = spec::uncovered(&cases);
                uncovered.iter().for_each(|section| print(section));
                if uncovered.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
            }
            Err(bad) => fail(USAGE, &bad.to_string()),
        };
    }
    let cases = match run::choose(arguments.cases.as_deref(), &arguments.run) {
        Ok((cases, _)) => cases,
        Err(reason) => return fail(USAGE, &reason),
    };
    if arguments.features {
        let mut features: BTreeMap<&str, usize> = BTreeMap::new();
        for feature in cases.iter().flat_map(|case| &case.needs) {
            *features.entry(feature).or_insert(0) += 1;
        }
        features.iter().for_each(|(feature, count)| print(&format!("{feature:<12} {count}")));
        return ExitCode::SUCCESS;
    }
    for case in &cases {
        print(&format!("{:<64} {}", case.id, case.title));
    }
    print(&format!("{} cases", cases.len()));
    ExitCode::SUCCESS
}

fn clients() -> ExitCode {
    let Some(folder) = client::folder() else { return fail(USAGE, "--clients is for the repository: run it there") };
    for name in client::names(&folder) {
        match Description::read(&folder.join(format!("{name}.yaml"))) {
            Ok(client) => {
                let line = serde_json::json!({"name": client.name, "build": client.build, "tools": client.tools});
                print(&line.to_string());
            }
            Err(reason) => return fail(USAGE, &reason),
        }
    }
    ExitCode::SUCCESS
}
