//! Proof that the suite catches what it should: an adapter that is wrong on purpose, defect by defect, and the cases that must fail for it
//! and pass without it (`conformance/selftest/defects.yaml`).

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

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
    /// What the adapter is told: `--defect NAME`.
    pub name: String,
    /// What it does then.
    pub does: String,
    /// Cases each of which must catch it.
    pub caught_by: Vec<String>,
}

/// What became of a defect.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The defect; `none` is the adapter as it should be.
    pub defect: String,
    /// What each named case came to.
    pub cases: Vec<(String, Outcome)>,
    /// Cases that did not do what they should.
    pub wrong: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    defects: Vec<Defect>,
}

/// All defects.
///
/// # Errors
/// If the list is wrong.
pub fn defects() -> Result<Vec<Defect>, String> {
    let file: File = crate::yaml::read(DEFECTS).map_err(|error| format!("selftest/defects.yaml: {error}"))?;
    let cases = select::all(None).map_err(|bad| bad.to_string())?;
    for defect in &file.defects {
        for named in &defect.caught_by {
            if !cases.iter().any(|case| is_named(case, named)) {
                return Err(format!("selftest/defects.yaml: {}: there is no case {named}", defect.name));
            }
        }
    }
    Ok(file.defects)
}

fn is_named(case: &Case, id: &str) -> bool {
    case.id == id || case.id.split('[').next() == Some(id)
}

/// Runs the adapter with a defect, or without any, over the cases named.
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
    let mut description = description.clone();
    description.known = None;
    if let Some(defect) = defect {
        description.command.extend(["--defect".to_owned(), defect.name.clone()]);
    }
    let settings = Settings {
        cases,
        full: false,
        scale,
        server: None,
        scratch: scratch.to_owned(),
        run_id: "selftest".to_owned(),
    };
    let run = run::run(&description, &settings, &mut |_, _| {})?;
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
    Ok(Finding { defect: defect.map_or("none", |defect| &defect.name).to_owned(), cases: outcomes, wrong })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_that_defects_name_exist() {
        let defects = defects().unwrap_or_else(|reason| panic!("{reason}"));
        assert!(10 <= defects.len());
        assert!(defects.iter().all(|defect| !defect.caught_by.is_empty()));
    }
}
