//! The run of one client: its adapter and server, every case selected for it in turn, what stays behind, and its known failures.
//!
//! One adapter process and one server serve all cases but those that ask for their own. Whatever a case breaks is replaced before
//! the next one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::adapter::{Adapter, Fault};
use crate::case::{Case, Fresh, Level, Verb};
use crate::client::Description;
use crate::known::{self, Known};
use crate::node::Node;
use crate::process::{self, Usage};
use crate::result::{CaseResult, Outcome, Run};
use crate::select;
use crate::server_step::ServerSide;
use crate::spine::{self, Played, Stage, Trouble, scaled};
use crate::values::{self, Variables};
use crate::wire::{Auth, Wire};

/// How long an adapter may take to say hello.
const HELLO: Duration = Duration::from_secs(30);
/// How long an adapter may take to end.
const EXIT: Duration = Duration::from_secs(5);
/// How often a case about leaks is played after the first time, and how much may stay behind: less than one each time.
const LEAK_ROUNDS: u64 = 5;
/// How long what was let go may take to be gone.
const SETTLE: Duration = Duration::from_secs(3);
/// Attempts of a case listed as flaky.
const FLAKY_ATTEMPTS: u32 = 3;

/// What a run is told.
#[derive(Debug)]
pub struct Settings {
    /// Cases asked for.
    pub cases: Vec<Case>,
    /// Whether they are all there are.
    pub full: bool,
    /// By how much deadlines are longer than written.
    pub scale: f64,
    /// A server that runs already: its address and a file with an admin's token.
    pub server: Option<(String, PathBuf)>,
    /// Folder for data directories and logs, emptied by the caller.
    pub scratch: PathBuf,
    /// Names the run.
    pub run_id: String,
}

/// Runs a client; `progress` hears of each case as it ends, with how many there are.
///
/// # Errors
/// Why it cannot be run at all.
pub fn run(
    description: &Description,
    settings: &Settings,
    progress: &mut dyn FnMut(&CaseResult, usize),
) -> Result<Run, String> {
    let known = match &description.known {
        Some(path) => Known::read(&description.base.join(path))?,
        None => Known::default(),
    };
    let began = Instant::now();
    let started_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut world = World::open(description, settings)?;
    let total = settings.cases.len() + 2;
    let mut cases = vec![world.hello_case()];
    progress(&cases[0], total);
    for case in &settings.cases {
        let mut result = world.case(case);
        while result.outcome.is_failure() && known.is_flaky(&case.id) && result.reruns < FLAKY_ATTEMPTS - 1 {
            let reruns = result.reruns + 1;
            result = world.case(case);
            result.reruns = reruns;
        }
        progress(&result, total);
        cases.push(result);
    }
    let hello = world.hello.clone();
    let server_version = world.server_version.clone();
    cases.push(world.exit_case());
    progress(&cases[cases.len() - 1], total);
    let today = known::day(started_at);
    for wrong in known.apply(&mut cases, settings.full, &today) {
        cases.push(own_case("run/known-failures", "The list of known failures is right", Outcome::Fail, wrong));
    }
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let client = description.name.clone();
    Ok(Run { client, hello, server_version, started_at, took_ms, full: settings.full, cases })
}

/// A case that the run itself is.
fn own_case(id: &str, title: &str, outcome: Outcome, message: String) -> CaseResult {
    CaseResult {
        id: id.to_owned(),
        title: title.to_owned(),
        spec: Vec::new(),
        level: Level::Required,
        outcome,
        message,
        took_ms: 0,
        reruns: 0,
        steps: Vec::new(),
        conversation: Vec::new(),
        log: String::new(),
        usage: BTreeMap::new(),
    }
}

struct World<'a> {
    description: &'a Description,
    settings: &'a Settings,
    node: Option<Node>,
    address: String,
    token_file: PathBuf,
    adapter: Option<Adapter>,
    hello: Value,
    server_version: String,
    next: u64,
}

impl<'a> World<'a> {
    fn open(description: &'a Description, settings: &'a Settings) -> Result<World<'a>, String> {
        let (node, address, token_file) = match &settings.server {
            Some((address, token_file)) => (None, address.clone(), token_file.clone()),
            None => {
                let node = Node::start(&settings.scratch.join("server"), &[])?;
                let (address, token_file) = (node.address().to_string(), node.token_file());
                (Some(node), address, token_file)
            }
        };
        let wire =
            Wire::connect(address.as_str(), &auth(&token_file)?).map_err(|error| format!("{address}: {error}"))?;
        let server_version = wire.welcome["server_version"].as_str().unwrap_or_default().to_owned();
        let mut world = World {
            description,
            settings,
            node,
            address,
            token_file,
            adapter: None,
            hello: Value::Null,
            server_version,
            next: 0,
        };
        world.ensure_adapter().map_err(|fault| format!("{}: {}", description.name, fault_text(&fault)))?;
        world.hello = world.adapter.as_ref().map(|adapter| adapter.hello.clone()).unwrap_or_default();
        let versions = world.hello.get("adapter_protocol").and_then(Value::as_array).cloned().unwrap_or_default();
        if !versions.contains(&1.into()) {
            return Err(format!(
                "{}: its adapter speaks versions {versions:?} of the protocol, not 1",
                description.name
            ));
        }
        Ok(world)
    }

    fn new_adapter(&mut self, env: &BTreeMap<String, String>) -> Result<Adapter, Fault> {
        self.next += 1;
        let home = self.settings.scratch.join(format!("adapter-{}", self.next));
        std::fs::create_dir_all(&home).map_err(|error| Fault::Crash(error.to_string()))?;
        let mut launch = self.description.launch(&home);
        launch.env.extend(env.clone());
        Adapter::start(&launch, &self.settings.run_id, scaled(HELLO, self.settings.scale))
    }

    fn ensure_adapter(&mut self) -> Result<(), Fault> {
        if self.adapter.is_none() {
            self.adapter = Some(self.new_adapter(&BTreeMap::new())?);
        }
        Ok(())
    }

    /// What the adapter says it can do is what its description says.
    fn hello_case(&self) -> CaseResult {
        let told = self.hello.get("features").and_then(Value::as_array).cloned().unwrap_or_default();
        let told: std::collections::BTreeSet<&str> = told.iter().filter_map(Value::as_str).collect();
        let declared = self.description.features.iter().map(String::as_str).collect();
        let mut wrong = Vec::new();
        if told != declared {
            let differ: Vec<&str> = told.symmetric_difference(&declared).copied().collect();
            wrong.push(format!("hello and client.yaml differ in features: {}", differ.join(", ")));
        }
        for key in ["client", "client_version", "language", "runtime"] {
            if self.hello.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
                wrong.push(format!("hello has no {key}"));
            }
        }
        let outcome = if wrong.is_empty() { Outcome::Pass } else { Outcome::Fail };
        own_case("run/hello", "The adapter says what it is, as its description does", outcome, wrong.join("; "))
    }

    /// The process ends when it is told to.
    fn exit_case(&mut self) -> CaseResult {
        let title = "The adapter ends by itself after shutdown: no thread of the client holds it up";
        let mut result = own_case("run/exit", title, Outcome::Pass, String::new());
        if let Some(mut adapter) = self.adapter.take() {
            self.end(&mut adapter, &mut result);
        }
        result
    }

    /// Ends an adapter in good order. What it finds wrong with itself then is a failure of the case.
    fn end(&self, adapter: &mut Adapter, result: &mut CaseResult) {
        let Err(fault) = adapter.shut_down(scaled(EXIT, self.settings.scale)) else { return };
        if result.outcome.is_failure() {
            return;
        }
        (result.outcome, result.message) = match fault {
            Fault::Timeout(text) => (Outcome::HangOnExit, text),
            Fault::Crash(text) => (Outcome::Crash, text),
        };
        result.log = adapter.log();
    }

    // ------------------------------------------------------------ one case

    fn case(&mut self, case: &Case) -> CaseResult {
        let began = Instant::now();
        let mut result = own_case(&case.id, &case.title, Outcome::Pass, String::new());
        result.spec = case.spec.clone();
        result.level = case.level;
        if let Some(why) = self.not_applicable(case) {
            result.outcome = Outcome::NotApplicable;
            result.message = why;
            return result;
        }
        match case.fresh {
            None => self.shared_case(case, &mut result),
            Some(fresh) => self.fresh_case(case, fresh, &mut result),
        }
        if result.outcome == Outcome::Fail && case.level == Level::Recommended {
            result.outcome = Outcome::NonStrict;
        }
        result.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        result
    }

    fn not_applicable(&self, case: &Case) -> Option<String> {
        let missing: Vec<&str> = case.needs.difference(&self.description.features).map(String::as_str).collect();
        if !missing.is_empty() {
            return Some(format!("the client does not declare {}", missing.join(", ")));
        }
        let needs_own = case.fresh == Some(Fresh::Server) || case.steps.iter().any(|step| step.verb == Verb::Node);
        (needs_own && self.node.is_none()).then(|| "it needs a server of the runner's own".to_owned())
    }

    fn shared_case(&mut self, case: &Case, result: &mut CaseResult) {
        if let Err(reason) = self.mend() {
            result.outcome = Outcome::Harness;
            result.message = reason;
            return;
        }
        let Some(mut adapter) = self.adapter.take() else { return };
        let mut node = self.node.take();
        let is_usable = self.play_on(case, &mut adapter, node.as_mut(), result);
        self.node = node;
        if is_usable {
            self.adapter = Some(adapter);
        }
    }

    /// Makes sure that there is an adapter and a server.
    fn mend(&mut self) -> Result<(), String> {
        if let Some(node) = &mut self.node {
            let _ = node.resume();
            if !node.is_up() {
                node.launch()?;
            }
        }
        self.ensure_adapter().map_err(|fault| fault_text(&fault))
    }

    fn fresh_case(&mut self, case: &Case, fresh: Fresh, result: &mut CaseResult) {
        let outcome = self.on_fresh(case, fresh, result);
        if let Err(reason) = outcome {
            result.outcome = Outcome::Harness;
            result.message = reason;
        }
    }

    fn on_fresh(&mut self, case: &Case, fresh: Fresh, result: &mut CaseResult) -> Result<(), String> {
        self.mend()?;
        let shared = (self.address.clone(), self.token_file.clone());
        let mut own_node = None;
        if fresh == Fresh::Server {
            self.next += 1;
            let home = self.settings.scratch.join(format!("server-{}", self.next));
            let node = Node::start(&home, &case.server_args)?;
            (self.address, self.token_file) = (node.address().to_string(), node.token_file());
            own_node = Some(node);
        }
        let home = own_node.as_ref().or(self.node.as_ref()).map(|node| node.home().display().to_string());
        let variables = Variables::from([
            ("server".to_owned(), self.address.clone().into()),
            ("token_file".to_owned(), self.token_file.display().to_string().into()),
            ("server_home".to_owned(), home.unwrap_or_default().into()),
        ]);
        let env = case.adapter_env.iter().map(|(name, value)| {
            let value = values::substitute(&value.clone().into(), &variables)?;
            Ok::<_, String>((name.clone(), value.as_str().unwrap_or_default().to_owned()))
        });
        let env: BTreeMap<String, String> = env.collect::<Result<_, _>>()?;
        let mut adapter = self.new_adapter(&env).map_err(|fault| fault_text(&fault))?;
        let mut shared_node = if own_node.is_none() { self.node.take() } else { None };
        let is_usable = self.play_on(case, &mut adapter, own_node.as_mut().or(shared_node.as_mut()), result);
        if let Some(node) = shared_node {
            self.node = Some(node);
        }
        (self.address, self.token_file) = shared;
        if is_usable {
            self.end(&mut adapter, result);
        }
        Ok(())
    }

    /// Plays a case, again and again if it is about leaks; tells whether the adapter can go on.
    fn play_on(
        &mut self,
        case: &Case,
        adapter: &mut Adapter,
        mut node: Option<&mut Node>,
        result: &mut CaseResult,
    ) -> bool {
        let mark = adapter.mark();
        let rounds = if case.tags.contains("leak") { 1 + LEAK_ROUNDS } else { 1 };
        let mut first = None;
        for _ in 0..rounds {
            match self.play_once(case, adapter, node.as_deref_mut()) {
                Ok(played) => tell(played, result),
                Err(reason) => (result.outcome, result.message) = (Outcome::Harness, reason),
            }
            if result.outcome.is_failure() {
                break;
            }
            first = first.or_else(|| process::usage(adapter.pid()));
        }
        if rounds != 1 && !result.outcome.is_failure() {
            leak(adapter.pid(), first, result);
        }
        if let Some(usage) = process::usage(adapter.pid()) {
            result.usage = shown(usage);
        }
        if result.outcome.is_failure() {
            let lines = adapter.lines_since(mark);
            let line = |line: &crate::adapter::Line| {
                format!("{:>8.3} {} {}", line.at.as_secs_f64(), line.direction, line.text)
            };
            result.conversation = lines.iter().map(line).collect();
            result.log = adapter.log();
        }
        if result.outcome == Outcome::Crash
            && let Some(status) = adapter.ended()
        {
            result.message.push_str(&format!(" ({status})"));
        }
        !matches!(result.outcome, Outcome::Crash | Outcome::Timeout)
    }

    fn play_once(&mut self, case: &Case, adapter: &mut Adapter, node: Option<&mut Node>) -> Result<Played, String> {
        self.next += 1;
        let addresses = self.address.parse().map_err(|_| format!("{} is no address", self.address))?;
        let server = ServerSide::new(addresses, auth(&self.token_file)?);
        Ok(spine::play(
            case,
            Stage {
                adapter,
                node,
                server,
                address: self.address.clone(),
                token_file: &self.token_file,
                stream: format!("c{}", self.next),
                speaks: self.description.version(),
                scale: self.settings.scale,
            },
        ))
    }
}

fn auth(token_file: &Path) -> Result<Auth, String> {
    match std::fs::read_to_string(token_file) {
        Ok(token) => Ok(Auth::Token(token.trim().to_owned())),
        // Servers that ask for no credentials have no such file.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Auth::None),
        Err(error) => Err(format!("{}: {error}", token_file.display())),
    }
}

fn fault_text(fault: &Fault) -> String {
    match fault {
        Fault::Crash(text) | Fault::Timeout(text) => text.clone(),
    }
}

fn tell(played: Played, result: &mut CaseResult) {
    result.steps = played.steps;
    (result.outcome, result.message) = match played.verdict {
        Ok(None) => (Outcome::Pass, String::new()),
        Ok(Some(why)) => (Outcome::NonStrict, why),
        Err(Trouble::Fail(text)) => (Outcome::Fail, text),
        Err(Trouble::Fault(Fault::Crash(text))) => (Outcome::Crash, text),
        Err(Trouble::Fault(Fault::Timeout(text))) => (Outcome::Timeout, text),
        Err(Trouble::Unsupported(text)) => (Outcome::Unsupported, format!("declared, and yet: {text}")),
        Err(Trouble::AdapterError(text)) => (Outcome::AdapterError, text),
        Err(Trouble::Harness(text)) => (Outcome::Harness, text),
    };
}

fn shown(usage: Usage) -> BTreeMap<String, u64> {
    BTreeMap::from([
        ("descriptors".to_owned(), usage.descriptors),
        ("threads".to_owned(), usage.threads),
        ("resident_bytes".to_owned(), usage.resident_bytes),
    ])
}

/// Compares with what there was after the first time: whatever is kept once is no leak.
fn leak(pid: u32, first: Option<Usage>, result: &mut CaseResult) {
    let Some(first) = first else { return };
    let began = Instant::now();
    loop {
        let Some(now) = process::usage(pid) else { return };
        let grown = |before: u64, after: u64| after.saturating_sub(before);
        let (descriptors, threads) = (grown(first.descriptors, now.descriptors), grown(first.threads, now.threads));
        if descriptors < LEAK_ROUNDS && threads < LEAK_ROUNDS {
            return;
        }
        if SETTLE < began.elapsed() {
            result.outcome = Outcome::Leak;
            result.message =
                format!("{LEAK_ROUNDS} more rounds left {descriptors} descriptors and {threads} threads behind");
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Cases of a selection, and whether it is all of them.
///
/// # Errors
/// As [`select::all`]; or nothing is selected.
pub fn choose(folder: Option<&Path>, patterns: &[String]) -> Result<(Vec<Case>, bool), String> {
    let all = select::all(folder).map_err(|bad| bad.to_string())?;
    let count = all.len();
    let cases: Vec<Case> = all.into_iter().filter(|case| select::wanted(case, patterns)).collect();
    if cases.is_empty() {
        return Err(format!("no case answers to {}", patterns.join(", ")));
    }
    let full = cases.len() == count;
    Ok((cases, full))
}
