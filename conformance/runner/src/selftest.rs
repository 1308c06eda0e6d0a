//! Proof that the suite catches what it should: clients that are wrong on purpose, defect by defect, and the cases that must fail for
//! them and pass without (`conformance/selftest/defects.yaml`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::adapter::{Adapter, Fault};
use crate::case::Case;
use crate::client::Description;
use crate::result::{CaseResult, Outcome};
use crate::run::{self, Settings};
use crate::select;

const DEFECTS: &str = include_str!("../../selftest/defects.yaml");

/// A way to be wrong.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defect {
    /// What the client is told.
    pub name: String,
    /// What it does then.
    pub does: String,
    /// Cases each of which must catch it.
    pub caught_by: Vec<String>,
}

/// A client that is made wrong, and how it is told. `{defect}` in words of it is the name of the defect, `{selftest}` the folder of
/// what is loaded before adapters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its description in `conformance/clients`.
    pub name: String,
    /// Added to its command, where there is a defect.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Added to its environment, always: what is loaded to make a client wrong must do no harm by itself.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The defects it can have; empty for all.
    #[serde(default)]
    pub only: Vec<String>,
}

/// All that is to be shown.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Who is made wrong.
    pub clients: Vec<Subject>,
    /// In which ways.
    pub defects: Vec<Defect>,
}

/// What became of a defect.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What each named case came to.
    pub cases: Vec<(String, Outcome)>,
    /// Cases that did not do what they should.
    pub wrong: Vec<String>,
}

/// How long an adapter may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The plan.
///
/// # Errors
/// If it is wrong.
pub fn plan() -> Result<Plan, String> {
    let plan: Plan = crate::yaml::read(DEFECTS).map_err(|error| format!("selftest/defects.yaml: {error}"))?;
    let cases = select::all(None).map_err(|bad| bad.to_string())?;
    for defect in &plan.defects {
        for named in &defect.caught_by {
            if !cases.iter().any(|case| is_named(case, named)) {
                return Err(format!("selftest/defects.yaml: {}: there is no case {named}", defect.name));
            }
        }
    }
    for subject in &plan.clients {
        if let Some(unknown) = subject.only.iter().find(|name| !plan.defects.iter().any(|known| known.name == **name)) {
            return Err(format!("selftest/defects.yaml: {}: there is no defect {unknown}", subject.name));
        }
    }
    Ok(plan)
}

impl Subject {
    /// An adapter that takes `--defect NAME`.
    pub fn taking_argument(name: &str) -> Subject {
        let arguments = vec!["--defect".to_owned(), "{defect}".to_owned()];
        Subject { name: name.to_owned(), arguments, env: BTreeMap::new(), only: Vec::new() }
    }

    /// Whether it can have that defect.
    pub fn can_have(&self, defect: &Defect) -> bool {
        self.only.is_empty() || self.only.contains(&defect.name)
    }

    /// The client of that description, with a defect or without.
    pub fn told(&self, description: &Description, defect: Option<&Defect>) -> Description {
        let folder = description.base.join("../selftest");
        let folder = folder.canonicalize().unwrap_or(folder).display().to_string();
        let name = defect.map_or("none", |defect| &defect.name);
        let filled = |text: &str| text.replace("{defect}", name).replace("{selftest}", &folder);
        let mut told = description.clone();
        // What is known to fail is no excuse here.
        told.known = None;
        if defect.is_some() {
            told.command.extend(self.arguments.iter().map(|word| filled(word)));
        }
        told.env.extend(self.env.iter().map(|(key, value)| (key.clone(), filled(value))));
        told
    }
}

/// Whether a client's adapter starts: it may not be built.
///
/// # Errors
/// Why it does not, in a line.
pub fn starts(description: &Description, scratch: &Path) -> Result<(), String> {
    let started = Adapter::start(&description.launch(scratch), "selftest", START_LIMIT);
    let ended = started.and_then(|mut adapter| adapter.shut_down(START_LIMIT));
    ended.map_err(|fault| match fault {
        Fault::Crash(text) | Fault::Timeout(text) => text.lines().next().unwrap_or_default().to_owned(),
    })
}

fn is_named(case: &Case, id: &str) -> bool {
    case.id == id || case.id.split('[').next() == Some(id)
}

/// Runs a client over the cases named, each of which must catch the defect it was given, or pass if it was given none.
///
/// # Errors
/// If it cannot be run.
pub fn examine(
    description: &Description,
    defect: Option<&Defect>,
    named: &BTreeSet<&str>,
    scratch: &Path,
    scale: f64,
) -> Result<Finding, String> {
    let cases = select::all(None).map_err(|bad| bad.to_string())?;
    let cases = cases.into_iter().filter(|case| named.iter().any(|id| is_named(case, id))).collect();
    let settings = Settings {
        cases,
        full: false,
        scale,
        server: None,
        scratch: scratch.to_owned(),
        run_id: "selftest".to_owned(),
    };
    let run = run::run(description, &settings, &mut |_, _| {})?;
    let of = |id: &&str| -> Vec<&CaseResult> {
        run.cases.iter().filter(|case| case.id == **id || case.id.split('[').next() == Some(*id)).collect()
    };
    let mut wrong = Vec::new();
    let mut outcomes = Vec::new();
    for id in named {
        let results = of(id);
        let caught = results.iter().any(|case| case.outcome.is_failure() && case.outcome != Outcome::Harness);
        let clean = results.iter().all(|case| case.outcome == Outcome::Pass);
        if results.is_empty() || if defect.is_some() { !caught } else { !clean } {
            wrong.push((*id).to_owned());
        }
        outcomes.extend(results.iter().map(|case| (case.id.clone(), case.outcome)));
    }
    Ok(Finding { cases: outcomes, wrong })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_that_defects_name_exist() {
        let plan = plan().unwrap_or_else(|reason| panic!("{reason}"));
        assert!(10 <= plan.defects.len());
        assert!(plan.defects.iter().all(|defect| !defect.caught_by.is_empty()));
    }

    #[test]
    fn a_client_is_told_its_defect_and_keeps_what_it_had() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
        let plan = plan().unwrap_or_else(|reason| panic!("{reason}"));
        for subject in &plan.clients {
            let plain = Description::read(&folder.join(format!("{}.yaml", subject.name))).unwrap();
            let words = |description: &Description| format!("{:?} {:?}", description.command, description.env);
            let wrong = words(&subject.told(&plain, plan.defects.first()));
            assert!(wrong.contains(&plan.defects[0].name) && !wrong.contains("{defect}"), "{wrong}");
            let right = words(&subject.told(&plain, None));
            assert!(!right.contains(&plan.defects[0].name) && !right.contains("{selftest}"), "{right}");
            assert!(wrong.contains(&plain.command[0]));
        }
    }
}
