//! What a case is: data read from YAML, checked as far as that is possible without running it. Unknown keys, operations, features
//! and sections of the specification are errors with the file and the case named. Knows nothing of adapters or servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ops, spec};

/// How much a client must conform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A failure fails the run.
    #[default]
    Required,
    /// A failure is reported as non-strict.
    Recommended,
}

/// What a case does not share with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fresh {
    /// A process of its own for the adapter, ended with the case.
    Adapter,
    /// A server of its own, with an empty data directory, and an adapter.
    Server,
}

/// One runnable case: its axes are resolved.
#[derive(Clone, Debug)]
pub struct Case {
    /// `suite/id`, with `[axis=value]` where it has axes.
    pub id: String,
    /// What it shows, in a sentence.
    pub title: String,
    /// Sections of the specification it holds a client to.
    pub spec: Vec<String>,
    /// How much it counts.
    pub level: Level,
    /// Features without which it says nothing.
    pub needs: BTreeSet<String>,
    /// Words to select it by.
    pub tags: BTreeSet<String>,
    /// What it does not share.
    pub fresh: Option<Fresh>,
    /// Arguments for the server's command line; with `fresh: server`.
    pub server_args: Vec<String>,
    /// Variables of the adapter's environment; with `fresh`.
    pub adapter_env: BTreeMap<String, String>,
    /// Values of its axes.
    pub axes: BTreeMap<String, Value>,
    /// Topics made before the first step.
    pub setup: Vec<Map<String, Value>>,
    /// What is done.
    pub steps: Vec<Step>,
    /// File it was read from.
    pub file: String,
}

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One call of the client.
    Do,
    /// Gives up a call under way.
    Cancel,
    /// Waits for a call under way, or for it to have started.
    Wait,
    /// The runner's own client does something at the server.
    Server,
    /// The proxy between client and server.
    Proxy,
    /// The server's process.
    Node,
    /// The server written by the case.
    Wire,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is.
    pub verb: Verb,
    /// What is done: an operation, a call's name, an action.
    pub subject: String,
    /// Handle it is done on.
    pub on: Option<String>,
    /// Handle it makes.
    pub makes: Option<String>,
    /// Name of the call under way, if the case does not wait for its end here.
    pub in_background: Option<String>,
    /// What must come of it.
    pub expect: Option<Value>,
    /// When a repeated call has done enough.
    pub until: Option<Map<String, Value>>,
    /// How often it is done, with `$i` from 0.
    pub repeat: Option<u64>,
    /// Values of the result to keep: name to path.
    pub save: BTreeMap<String, String>,
    /// Milliseconds the step may take, before scaling.
    pub deadline_ms: Option<u64>,
    /// Everything else: arguments by name.
    pub args: Map<String, Value>,
}

/// A defect of a case file.
#[derive(Debug)]
pub struct BadCase {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.reason)
    }
}

impl std::error::Error for BadCase {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    suite: String,
    #[serde(default)]
    spec: Option<OneOrMany>,
    #[serde(default)]
    level: Level,
    #[serde(default)]
    needs: BTreeSet<String>,
    #[serde(default)]
    tags: BTreeSet<String>,
    #[serde(default)]
    setup: Vec<Map<String, Value>>,
    cases: Vec<CaseEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseEntry {
    id: String,
    title: String,
    #[serde(default)]
    spec: Option<OneOrMany>,
    #[serde(default)]
    level: Option<Level>,
    #[serde(default)]
    needs: BTreeSet<String>,
    #[serde(default)]
    tags: BTreeSet<String>,
    #[serde(default)]
    fresh: Option<Fresh>,
    #[serde(default)]
    server_args: Vec<String>,
    #[serde(default)]
    adapter_env: BTreeMap<String, String>,
    #[serde(default)]
    axes: BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    setup: Option<Vec<Map<String, Value>>>,
    steps: Vec<Map<String, Value>>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// Reads the cases of one file.
///
/// # Errors
/// [`BadCase`] with the first defect.
pub fn parse(file: &str, text: &str) -> Result<Vec<Case>, BadCase> {
    let bad = |reason: String| BadCase { file: file.to_owned(), reason };
    let suite: SuiteFile = crate::yaml::read(text).map_err(bad)?;
    let folder = file.strip_suffix(".yaml").unwrap_or(file);
    if !folder.ends_with(&suite.suite) {
        return Err(bad(format!("suite is {:?}, and that is not where the file lies", suite.suite)));
    }
    let mut cases = Vec::new();
    let mut names = BTreeSet::new();
    for entry in &suite.cases {
        let named = |reason: String| bad(format!("case {}: {reason}", entry.id));
        if !names.insert(entry.id.clone()) {
            return Err(named("there are two of that name".to_owned()));
        }
        if !entry.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
            return Err(named("an id is lower-case words with hyphens".to_owned()));
        }
        let case = one_case(file, &suite, entry).map_err(named)?;
        cases.extend(expand(case, &entry.axes).map_err(named)?);
    }
    Ok(cases)
}

fn one_case(file: &str, suite: &SuiteFile, entry: &CaseEntry) -> Result<Case, String> {
    let spec = entry.spec.clone().or_else(|| suite.spec.clone()).map(OneOrMany::into_vec).unwrap_or_default();
    if spec.is_empty() {
        return Err("it names no section of the specification (`spec`)".to_owned());
    }
    for section in &spec {
        if !spec::has_section(section) {
            return Err(format!("spec.md has no section {section:?}{}", spec::nearest(section)));
        }
    }
    let mut steps = Vec::new();
    for (index, raw) in entry.steps.iter().enumerate() {
        steps.push(step(raw.clone()).map_err(|reason| format!("step {}: {reason}", index + 1))?);
    }
    if steps.is_empty() {
        return Err("it has no steps".to_owned());
    }
    let mut needs: BTreeSet<String> = suite.needs.union(&entry.needs).cloned().collect();
    needs.extend(steps.iter().filter_map(needed_feature));
    if let Some(unknown) = needs.iter().find(|name| !ops::is_feature(name)) {
        return Err(format!("there is no feature {unknown:?}"));
    }
    if !entry.server_args.is_empty() && entry.fresh != Some(Fresh::Server) {
        return Err("`server_args` go with `fresh: server`".to_owned());
    }
    if !entry.adapter_env.is_empty() && entry.fresh.is_none() {
        return Err("`adapter_env` goes with `fresh`".to_owned());
    }
    Ok(Case {
        id: format!("{}/{}", suite.suite, entry.id),
        title: entry.title.clone(),
        spec,
        level: entry.level.unwrap_or(suite.level),
        needs,
        tags: suite.tags.union(&entry.tags).cloned().collect(),
        fresh: entry.fresh,
        server_args: entry.server_args.clone(),
        adapter_env: entry.adapter_env.clone(),
        axes: BTreeMap::new(),
        setup: entry.setup.clone().unwrap_or_else(|| suite.setup.clone()),
        steps,
        file: file.to_owned(),
    })
}

fn needed_feature(step: &Step) -> Option<String> {
    match step.verb {
        Verb::Do => ops::find(&step.subject).map(|op| op.feature.to_owned()),
        Verb::Cancel => Some("cancel".to_owned()),
        _ => None,
    }
}

const VERBS: &[(&str, Verb)] = &[
    ("do", Verb::Do),
    ("cancel", Verb::Cancel),
    ("wait", Verb::Wait),
    ("server", Verb::Server),
    ("proxy", Verb::Proxy),
    ("node", Verb::Node),
    ("wire", Verb::Wire),
];

fn step(mut raw: Map<String, Value>) -> Result<Step, String> {
    let mut verbs = VERBS.iter().filter(|(name, _)| raw.contains_key(*name));
    let (Some((name, verb)), None) = (verbs.next(), verbs.next()) else {
        return Err("has exactly one of do, cancel, wait, server, proxy, node, wire".to_owned());
    };
    let subject = text(raw.remove(*name).unwrap_or_default(), name)?;
    let mut take = |key: &str| raw.remove(key).map(|value| text(value, key)).transpose();
    let (on, makes, in_background) = (take("on")?, take("as")?, take("async")?);
    let expect = raw.remove("expect");
    let until = match raw.remove("until") {
        None => None,
        Some(Value::Object(until)) => Some(until),
        Some(other) => {
            return Err(format!("`until` is {{count: n}}, {{finished: true}} or {{match: true}}, not {other}"));
        }
    };
    let number = |value: Option<Value>, key: &str| match value {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| format!("`{key}` is a number")),
    };
    let repeat = number(raw.remove("repeat"), "repeat")?;
    let deadline_ms = number(raw.remove("deadline_ms"), "deadline_ms")?;
    let save = match raw.remove("save") {
        None => BTreeMap::new(),
        Some(value) => serde_json::from_value(value).map_err(|error| format!("`save` is name: path: {error}"))?,
    };
    let step =
        Step { verb: *verb, subject, on, makes, in_background, expect, until, repeat, save, deadline_ms, args: raw };
    check_step(&step)?;
    Ok(step)
}

fn text(value: Value, key: &str) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("`{key}` is a name, not {other}")),
    }
}

fn check_step(step: &Step) -> Result<(), String> {
    if step.verb != Verb::Do {
        let only_do =
            [("on", step.on.is_some()), ("async", step.in_background.is_some()), ("as", step.makes.is_some())];
        if let (Some((key, _)), true) =
            (only_do.iter().find(|(_, given)| *given), matches!(step.verb, Verb::Cancel | Verb::Wait | Verb::Node))
        {
            return Err(format!("`{key}` does not go with this kind of step"));
        }
        return Ok(());
    }
    if step.in_background.is_some() && (step.expect.is_some() || step.until.is_some() || step.repeat.is_some()) {
        return Err("an `async` call takes its `expect` in the step that waits for it, and is one call".to_owned());
    }
    let op = ops::find(&step.subject).ok_or_else(|| format!("there is no operation {:?}", step.subject))?;
    if op.on != step.on.is_some() {
        return Err(format!("{} {} `on`", op.name, if op.on { "needs" } else { "takes no" }));
    }
    if !op.makes && step.makes.is_some() {
        return Err(format!("{} makes no handle for `as`", op.name));
    }
    if let Some(unknown) = step.args.keys().find(|key| !op.args.contains(&key.as_str())) {
        return Err(format!("{} has no argument {unknown:?}; it has: {}", op.name, op.args.join(", ")));
    }
    if let Some(until) = &step.until {
        let known = ["count", "finished", "match"];
        if until.len() != 1 || !until.keys().all(|key| known.contains(&key.as_str())) {
            return Err("`until` has exactly one of count, finished, match".to_owned());
        }
    }
    Ok(())
}

/// One case for each combination of the axes' values.
fn expand(case: Case, axes: &BTreeMap<String, Vec<Value>>) -> Result<Vec<Case>, String> {
    let mut cases = vec![case];
    for (axis, values) in axes {
        if values.is_empty() {
            return Err(format!("axis {axis} has no values"));
        }
        cases = cases
            .into_iter()
            .flat_map(|case| values.iter().map(move |value| with_axis(case.clone(), axis, value)))
            .collect();
    }
    Ok(cases)
}

/// A value that is the name of a feature (codecs) is needed.
fn with_axis(mut case: Case, axis: &str, value: &Value) -> Case {
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    case.id = match case.id.strip_suffix(']') {
        Some(open) => format!("{open},{axis}={shown}]"),
        None => format!("{}[{axis}={shown}]", case.id),
    };
    if ops::is_feature(&shown) {
        case.needs.insert(shown);
    }
    case.axes.insert(axis.to_owned(), value.clone());
    case
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "suite: consume/x\nspec: \"7.1 Positions\"\ncases:\n";

    fn parsed(case: &str) -> Result<Vec<Case>, BadCase> {
        parse("consume/x.yaml", &format!("{HEAD}{case}"))
    }

    fn reason(case: &str) -> String {
        parsed(case).unwrap_err().reason
    }

    #[test]
    fn a_case_has_one_entry_per_combination_of_its_axes() {
        let cases = parsed(
            "  - id: a\n    title: t\n    axes: {codec: [none, lz4], n: [1, 2]}\n    steps:\n      - {do: ping, on: c}\n",
        )
        .unwrap();
        let ids: Vec<&str> = cases.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(ids[0], "consume/x/a[codec=none,n=1]");
        assert_eq!(ids.len(), 4);
        assert!(cases[3].needs.contains("lz4"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(reason("  - {id: a, title: t, stepz: []}\n").contains("stepz"));
        assert!(reason("  - {id: a, title: t, steps: [{do: produce, on: c}]}\n").contains("no operation"));
        assert!(reason("  - {id: a, title: t, steps: [{do: ping, on: c, topic: x}]}\n").contains("no argument"));
        assert!(reason("  - {id: a, title: t, steps: [{do: ping}]}\n").contains("needs `on`"));
        assert!(reason("  - {id: a, title: t, steps: [{do: ping, on: c, wait: x}]}\n").contains("exactly one"));
        assert!(reason("  - {id: a, title: t, needs: [magic], steps: [{do: ping, on: c}]}\n").contains("magic"));
        assert!(reason("  - {id: a, title: t, spec: 99 Magic, steps: [{do: ping, on: c}]}\n").contains("no section"));
    }
}
