//! The matrix behind the views: rows are cases by section of the specification, columns are clients.

use std::collections::BTreeMap;

use crate::result::{CaseResult, Report};
use crate::spec;

/// A section with its cases.
#[derive(Debug)]
pub struct Section<'a> {
    /// Number and name; empty for what the run itself is.
    pub name: &'a str,
    /// Its cases by id.
    pub rows: Vec<Row<'a>>,
}

/// A case in every client.
#[derive(Debug)]
pub struct Row<'a> {
    /// Id of the case.
    pub id: &'a str,
    /// What it shows.
    pub title: &'a str,
    /// One cell per run of the report.
    pub cells: Vec<Option<&'a CaseResult>>,
}

/// The matrix of a report. A case stands under the first section it cites.
pub fn sections(report: &Report) -> Vec<Section<'_>> {
    let mut rows: BTreeMap<(Vec<u32>, &str), BTreeMap<&str, Row<'_>>> = BTreeMap::new();
    for (column, run) in report.runs.iter().enumerate() {
        for case in &run.cases {
            let section = case.spec.first().map_or("", String::as_str);
            let row = rows.entry((spec::order(section), section)).or_default().entry(&case.id).or_insert_with(|| Row {
                id: &case.id,
                title: &case.title,
                cells: vec![None; report.runs.len()],
            });
            row.cells[column] = Some(case);
        }
    }
    rows.into_iter().map(|((_, name), rows)| Section { name, rows: rows.into_values().collect() }).collect()
}

/// Passed and run, for a badge: `118 of 120`.
pub fn score(cases: &[CaseResult]) -> (usize, usize) {
    use crate::result::Outcome::{NonStrict, NotApplicable, Pass};
    let run = cases.iter().filter(|case| case.outcome != NotApplicable).count();
    let passed = cases.iter().filter(|case| matches!(case.outcome, Pass | NonStrict)).count();
    (passed, run)
}
