//! The parity matrix of README.md: what each operation is called in each language, and how many cases of the conformance suite
//! each client passed in the last full run, which `conformance/results.json` keeps.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::api::{Api, Operation};
use super::files::{Generated, regions};
use super::names::{camel, lower_camel};

/// A column.
pub(super) struct Language {
    /// Its key in api.toml and its client in the suite.
    pub(super) key: &'static str,
    pub(super) client: &'static str,
    pub(super) title: &'static str,
    /// Between an object and its method.
    joint: &'static str,
    is_camel: bool,
}

/// The columns, in order.
pub(super) const LANGUAGES: [Language; 7] = [
    Language { key: "rust", client: "rust", title: "Rust", joint: "::", is_camel: false },
    Language { key: "python", client: "python", title: "Python", joint: ".", is_camel: false },
    Language { key: "aio", client: "python-asyncio", title: "Python asyncio", joint: ".", is_camel: false },
    Language { key: "node", client: "node", title: "Node", joint: ".", is_camel: true },
    Language { key: "c", client: "c", title: "C", joint: "_", is_camel: false },
    Language { key: "cpp", client: "cpp", title: "C++", joint: "::", is_camel: false },
    Language { key: "kotlin", client: "kotlin", title: "Kotlin, Java", joint: ".", is_camel: true },
];

/// What an operation is called in a language.
pub(super) fn native_name(operation: &Operation, language: &Language) -> String {
    if let Some(name) = operation.names.get(language.key) {
        return name.clone();
    }
    if language.key == "c" {
        let client = if operation.adapter.contains('.') || operation.on == "admin" { "" } else { "client_" };
        return format!("levada_{client}{}", operation.adapter.replace('.', "_"));
    }
    let method = if language.is_camel { lower_camel(&operation.name) } else { operation.name.clone() };
    match operation.on.as_str() {
        "module" => method,
        // C++ has these on its client.
        "admin" if language.key == "cpp" => format!("Client::{method}"),
        on => format!("{}{}{method}", camel(on), language.joint),
    }
}

/// What the last full run of the suite came to.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Results {
    /// Cases of the suite.
    pub(crate) cases: usize,
    /// By client.
    pub(crate) clients: BTreeMap<String, Tally>,
}

/// What one client came to.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tally {
    /// Cases that concern the features it declares.
    pub(crate) selected: usize,
    /// Those it passed.
    pub(crate) passed: usize,
}

#[derive(Deserialize)]
struct Report {
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    client: String,
    full: bool,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    outcome: String,
}

const RESULTS: &str = "conformance/results.json";

impl Results {
    fn read(root: &Path) -> Result<Option<Results>> {
        match std::fs::read_to_string(root.join(RESULTS)) {
            Ok(text) => serde_json::from_str(&text).context(RESULTS).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The tallies of a report of full runs.
    pub(crate) fn of_report(text: &str) -> Result<Results> {
        let report: Report = serde_json::from_str(text).context("a report of the conformance suite")?;
        let mut results = Results::default();
        for run in report.runs {
            ensure!(run.full, "{}: not every case was run", run.client);
            let count = |wanted: &[&str]| run.cases.iter().filter(|case| wanted.contains(&&*case.outcome)).count();
            let selected = run.cases.len() - count(&["n/a"]);
            results.cases = results.cases.max(run.cases.len());
            results.clients.insert(run.client, Tally { selected, passed: count(&["pass", "non-strict"]) });
        }
        Ok(results)
    }

    fn covers(&self, other: &Results) -> bool {
        other.clients.keys().all(|client| self.clients.contains_key(client))
    }
}

/// Keeps what a report of full runs says: `cargo xtask results REPORT`. With `check` nothing is written, and a report of all the
/// clients that are kept must say what is kept.
pub(crate) fn keep(root: &Path, report: &Path, check: bool) -> Result<()> {
    let text = std::fs::read_to_string(report).with_context(|| format!("reading {}", report.display()))?;
    let mut results = Results::of_report(&text)?;
    let kept = Results::read(root)?.unwrap_or_default();
    if check {
        if results.covers(&kept) && results != kept {
            bail!("{RESULTS} says {kept:?}, the run {results:?}: run `cargo xtask results {}`", report.display());
        }
        return Ok(());
    }
    for (client, tally) in kept.clients {
        results.clients.entry(client).or_insert(tally);
    }
    let text = serde_json::to_string_pretty(&results)? + "\n";
    std::fs::write(root.join(RESULTS), text).context(RESULTS)?;
    super::files::run(root, false)
}

pub(super) fn files(root: &Path, api: &Api) -> Result<Generated> {
    let readme = std::fs::read_to_string(root.join("README.md")).context("README.md")?;
    let results = Results::read(root)?;
    let readme = regions(&readme, |name| match name {
        "parity" => Ok(matrix(api, results.as_ref())),
        "overhead" => super::overhead::table(root),
        other => bail!("README.md has an unknown region {other}"),
    })?;
    Ok(vec![(PathBuf::from("README.md"), readme)])
}

fn matrix(api: &Api, results: Option<&Results>) -> String {
    let mut out = String::from("| Operation |");
    for language in &LANGUAGES {
        let _ = write!(out, " {} |", language.title);
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(LANGUAGES.len()));
    for operation in &api.operations {
        let _ = write!(out, "| {} |", operation.adapter);
        for language in &LANGUAGES {
            let _ = write!(out, " `{}` |", native_name(operation, language));
        }
        out.push('\n');
    }
    if let Some(results) = results {
        let _ = write!(out, "| **cases passed**, of {} |", results.cases);
        for language in &LANGUAGES {
            match results.clients.get(language.client) {
                Some(tally) if tally.passed == tally.selected => {
                    let _ = write!(out, " **{}** |", tally.passed);
                }
                Some(tally) => {
                    let _ = write!(out, " {} of {} |", tally.passed, tally.selected);
                }
                None => out.push_str(" not run |"),
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::protocol::Protocol;

    fn api() -> Api {
        let root = crate::tree::root();
        Api::read(&root, &Protocol::read(&root).unwrap()).unwrap()
    }

    /// What each language's public sources hold: the last word of a name must be declared there.
    const SOURCES: &[(&str, &[&str], &[&str])] = &[
        ("c", &["bindings-c/include/levada.h"], &["{}("]),
        ("cpp", &["bindings-c/include/levada.hpp"], &[" {}("]),
        (
            "python",
            &["bindings-python/python/levada/_client.py", "bindings-python/python/levada/_generated.py"],
            &["def {}("],
        ),
        (
            "aio",
            &["bindings-python/python/levada/aio/_client.py", "bindings-python/python/levada/_generated.py"],
            &["def {}(", "class {}"],
        ),
        (
            "node",
            &[
                "bindings-node/src/client.ts",
                "bindings-node/src/producer.ts",
                "bindings-node/src/consumer.ts",
                "bindings-node/src/generated.ts",
            ],
            &[" {}("],
        ),
        (
            "kotlin",
            &[
                "bindings-kotlin/src/main/kotlin/dev/levada/Levada.kt",
                "bindings-kotlin/src/main/kotlin/dev/levada/Client.kt",
                "bindings-kotlin/src/main/kotlin/dev/levada/Producer.kt",
                "bindings-kotlin/src/main/kotlin/dev/levada/Consumer.kt",
                "bindings-kotlin/src/main/kotlin/dev/levada/Generated.kt",
            ],
            &["fun {}("],
        ),
        (
            "rust",
            &[
                "sdk-rust/src/client.rs",
                "sdk-rust/src/admin.rs",
                "sdk-rust/src/producer/mod.rs",
                "sdk-rust/src/consumer/mod.rs",
                "sdk-rust/src/consumer/group.rs",
                "sdk-rust/src/producer/delivery.rs",
            ],
            &["fn {}(", "fn {}<", "pub struct {}"],
        ),
    ];

    #[test]
    fn every_name_of_the_matrix_is_declared_in_its_language() {
        let (root, api) = (crate::tree::root(), api());
        let mut missing = Vec::new();
        for (key, paths, forms) in SOURCES {
            let language = LANGUAGES.iter().find(|language| language.key == *key).unwrap();
            let texts: Option<String> =
                paths.iter().map(|path| std::fs::read_to_string(root.join(path)).ok()).collect();
            // A language whose sources are not there yet has only its generated part.
            let Some(text) = texts else { continue };
            for operation in &api.operations {
                let name = native_name(operation, language);
                let plain = name.split(" (").next().unwrap();
                let word = plain.rsplit(['.', ':', ' ']).next().unwrap();
                let place = if *key == "cpp" { class_body(&text, plain) } else { &text };
                if !forms.iter().any(|form| place.contains(&form.replace("{}", word))) {
                    missing.push(name);
                }
            }
        }
        assert_eq!(missing, Vec::<String>::new());
    }

    /// What the class that a name in C++ begins with declares: a call on one class says nothing about another.
    fn class_body<'a>(header: &'a str, name: &str) -> &'a str {
        let class = name.split("::").next().unwrap();
        let body = header.split_once(&format!("\nclass {class} {{\n")).map(|(_, body)| body);
        body.and_then(|body| body.split_once("\n};")).map_or("", |(body, _)| body)
    }

    #[test]
    fn a_report_is_tallied_by_client_and_must_be_of_whole_runs() {
        let report = |full: bool| {
            format!(
                r#"{{"runs": [{{"client": "c", "full": {full}, "cases":
                [{{"outcome": "pass"}}, {{"outcome": "n/a"}}, {{"outcome": "fail"}}, {{"outcome": "non-strict"}}]}}]}}"#
            )
        };
        let results = Results::of_report(&report(true)).unwrap();
        assert_eq!((results.cases, &results.clients["c"]), (4, &Tally { selected: 3, passed: 2 }));
        assert!(Results::of_report(&report(false)).is_err());
    }

    #[test]
    fn the_matrix_tells_what_was_passed() {
        let mut results = Results { cases: 9, clients: BTreeMap::new() };
        results.clients.insert("rust".into(), Tally { selected: 9, passed: 9 });
        results.clients.insert("node".into(), Tally { selected: 8, passed: 7 });
        let matrix = matrix(&api(), Some(&results));
        assert!(matrix.contains("of 9 | **9** | not run | not run | 7 of 8 |"), "{matrix}");
        assert!(matrix.contains("| topic.create | `Admin::create_topic` | `Admin.create_topic` |"), "{matrix}");
    }
}
