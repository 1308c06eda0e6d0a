//! What a run found, in the form of the report (`conformance/schema/report.schema.json`): one file holds runs of any number of
//! clients, and files can be merged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::case::Level;

/// Version of the report's form.
pub const REPORT_VERSION: u32 = 1;

/// A report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub report: u32,
    /// Version of the suite.
    pub suite_version: String,
    /// One entry per run of a client.
    pub runs: Vec<Run>,
}

/// The run of one client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Name of its description: the column.
    pub client: String,
    /// What its adapter said about itself.
    pub hello: Value,
    /// Version of the server.
    pub server_version: String,
    /// When it began, in seconds since the Unix epoch.
    pub started_at: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Whether every case was asked for.
    pub full: bool,
    /// What became of each case.
    pub cases: Vec<CaseResult>,
}

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As expected.
    Pass,
    /// As allowed but discouraged, or a recommended case that failed.
    NonStrict,
    /// Failed, as is known.
    Xfail,
    /// The client does not declare what the case needs.
    #[serde(rename = "n/a")]
    NotApplicable,
    /// Not as expected.
    Fail,
    /// Known to fail, and passed: the list is wrong.
    Xpass,
    /// Declared and then not there.
    Unsupported,
    /// No answer in time.
    Timeout,
    /// The adapter ended, or broke the protocol.
    Crash,
    /// The adapter did not end.
    HangOnExit,
    /// Descriptors, threads or handles stayed behind.
    Leak,
    /// The adapter was at fault.
    AdapterError,
    /// The runner was at fault, or the server.
    Harness,
}

impl Outcome {
    /// Whether a run with it fails.
    pub fn is_failure(self) -> bool {
        !matches!(self, Outcome::Pass | Outcome::NonStrict | Outcome::Xfail | Outcome::NotApplicable)
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::NonStrict => "non-strict",
            Outcome::Xfail => "xfail",
            Outcome::NotApplicable => "n/a",
            Outcome::Fail => "fail",
            Outcome::Xpass => "xpass",
            Outcome::Unsupported => "unsupported",
            Outcome::Timeout => "timeout",
            Outcome::Crash => "crash",
            Outcome::HangOnExit => "hang-on-exit",
            Outcome::Leak => "leak",
            Outcome::AdapterError => "adapter-error",
            Outcome::Harness => "harness",
        }
    }
}

/// A case's part of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseResult {
    /// Its id.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// Sections of the specification.
    pub spec: Vec<String>,
    /// How much it counts.
    pub level: Level,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, where it is not a plain pass.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How often it was run, if not once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reruns: u32,
    /// Its steps, as far as they were done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepResult>,
    /// The conversation with the adapter, for a failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversation: Vec<String>,
    /// The end of the adapter's log, for a failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log: String,
    /// The adapter's process after the case: `descriptors`, `threads`, `resident_bytes`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub usage: BTreeMap<String, u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this form")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A step's part of a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepResult {
    /// What was done.
    pub what: String,
    /// What came of it, in few words.
    pub outcome: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Run {
    /// How many cases came to each outcome.
    pub fn counts(&self) -> BTreeMap<Outcome, usize> {
        let mut counts = BTreeMap::new();
        for case in &self.cases {
            *counts.entry(case.outcome).or_insert(0) += 1;
        }
        counts
    }

    /// Whether anything failed.
    pub fn failed(&self) -> bool {
        self.cases.iter().any(|case| case.outcome.is_failure())
    }
}
