//! Plays one case, from its setup to its reset: the spine of the suite. Each step becomes a command to the adapter, or an act of the
//! runner itself, and its outcome is held against what the case expects.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::adapter::{Adapter, Fault, Pending, Reply};
use crate::case::{Case, Step, Verb};
use crate::expect::{self, Outcome, Verdict};
use crate::generate::as_u64;
use crate::node::Node;
use crate::node_step;
use crate::proxy_step::ProxySide;
use crate::result::StepResult;
use crate::server_step::{ServerSide, StepError};
use crate::values::{self, Variables};
use crate::wire_step::FakeSide;

/// How long a step may take that says nothing about it.
const STEP: Duration = Duration::from_secs(10);
/// Between two attempts of a step that is repeated until it matches.
const PAUSE: Duration = Duration::from_millis(20);

/// What a case is played on.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The client.
    pub adapter: &'a mut Adapter,
    /// The server's process; absent if the server is somebody else's.
    pub node: Option<&'a mut Node>,
    /// The suite's own client.
    pub server: ServerSide,
    /// Where the server listens.
    pub address: String,
    /// File with a token of an admin.
    pub token_file: &'a Path,
    /// Name of the stream that belongs to this case.
    pub stream: String,
    /// Highest version of the protocol that the client says it speaks.
    pub speaks: u16,
    /// By how much every deadline is longer than written.
    pub scale: f64,
}

/// Why a case did not pass.
#[derive(Debug)]
pub enum Trouble {
    /// The client does otherwise.
    Fail(String),
    /// The adapter ended or got stuck.
    Fault(Fault),
    /// The client lacks what it declares.
    Unsupported(String),
    /// The adapter is at fault.
    AdapterError(String),
    /// The case, the runner or the server is at fault.
    Harness(String),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Fault(fault)
    }
}

/// What became of a case.
#[derive(Debug)]
pub struct Played {
    /// Met, met in a discouraged way (why), or not.
    pub verdict: Result<Option<String>, Trouble>,
    /// The steps done.
    pub steps: Vec<StepResult>,
}

/// Plays a case and resets the adapter behind it.
pub fn play(case: &Case, stage: Stage<'_>) -> Played {
    let mut play = Play {
        variables: variables(case, &stage),
        stage,
        background: BTreeMap::new(),
        proxy: ProxySide::default(),
        fake: FakeSide::default(),
        steps: Vec::new(),
        discouraged: None,
    };
    let mut verdict = play.all(case);
    if verdict.is_ok() {
        verdict = play.fake.objection().map_or(Ok(()), |why| Err(Trouble::Fail(why)));
    }
    let reset = play.reset();
    if verdict.is_ok() {
        verdict = reset;
    }
    play.clean_up();
    Played { verdict: verdict.map(|()| play.discouraged), steps: play.steps }
}

fn variables(case: &Case, stage: &Stage<'_>) -> Variables {
    let mut variables = Variables::new();
    variables.insert("stream".to_owned(), stage.stream.clone().into());
    variables.insert("speaks".to_owned(), stage.speaks.into());
    variables.insert("server".to_owned(), stage.address.clone().into());
    variables.insert("token_file".to_owned(), stage.token_file.display().to_string().into());
    if let Ok(token) = std::fs::read_to_string(stage.token_file) {
        variables.insert("token".to_owned(), token.trim().into());
    }
    variables.extend(case.axes.iter().map(|(axis, value)| (axis.clone(), value.clone())));
    variables
}

struct Play<'a> {
    stage: Stage<'a>,
    variables: Variables,
    background: BTreeMap<String, Pending>,
    proxy: ProxySide,
    fake: FakeSide,
    steps: Vec<StepResult>,
    discouraged: Option<String>,
}

impl Play<'_> {
    fn all(&mut self, case: &Case) -> Result<(), Trouble> {
        for topic in &case.setup {
            let args = self.substituted(&Value::Object(topic.clone()))?;
            let args = args.as_object().cloned().unwrap_or_default();
            self.stage
                .server
                .act("create_topic", &args)
                .map_err(|error| Trouble::Harness(format!("setup: {error:?}")))?;
        }
        for (index, step) in case.steps.iter().enumerate() {
            let began = Instant::now();
            let what = format!("{}. {}", index + 1, describe(step));
            let outcome = self.step(step);
            let told = match &outcome {
                Ok(told) => told.clone(),
                Err(trouble) => tell(trouble).to_owned(),
            };
            self.steps.push(StepResult { what: what.clone(), outcome: told, took_ms: millis(began.elapsed()) });
            outcome.map_err(|trouble| trouble.at(&what))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<String, Trouble> {
        match step.verb {
            Verb::Do if step.in_background.is_some() => self.begin(step),
            Verb::Do => self.repeated(step),
            Verb::Wait => self.wait(step),
            Verb::Cancel => self.cancel(step),
            Verb::Server | Verb::Proxy | Verb::Node | Verb::Wire => self.own(step),
        }
    }

    // ------------------------------------------------------------ calls of the client

    fn begin(&mut self, step: &Step) -> Result<String, Trouble> {
        let args = self.call_args(step)?;
        let pending = self.send(step, &args, true, self.limit(step))?;
        let name = step.in_background.clone().unwrap_or_default();
        self.background.insert(name, pending);
        Ok("under way".to_owned())
    }

    fn send(&mut self, step: &Step, args: &Value, announce: bool, limit: Duration) -> Result<Pending, Trouble> {
        let (on, makes) = (step.on.as_deref(), step.makes.as_deref());
        let on = on.map(|on| self.text(on)).transpose()?;
        let makes = makes.map(|makes| self.text(makes)).transpose()?;
        Ok(self.stage.adapter.send(&step.subject, on.as_deref(), makes.as_deref(), args, announce, limit)?)
    }

    fn call_args(&self, step: &Step) -> Result<Value, Trouble> {
        let mut args = self.substituted(&Value::Object(step.args.clone()))?;
        if step.subject == "connect" {
            self.fill_connect(&mut args);
        }
        values::arguments_to_wire(&args).map_err(Trouble::Harness)
    }

    /// Where and who, unless the case is about that; what a case sets to null is left out.
    fn fill_connect(&self, args: &mut Value) {
        let options = args["options"].as_object().cloned().unwrap_or_default();
        let mut filled = Map::new();
        filled.insert("server".to_owned(), self.stage.address.clone().into());
        let credentials = ["token", "token_file", "user", "password", "anonymous", "context"];
        if !options.keys().any(|key| credentials.contains(&key.as_str())) {
            filled.insert("token_file".to_owned(), self.variables["token_file"].clone());
        }
        filled.extend(options);
        filled.retain(|_, value| !value.is_null());
        args["options"] = Value::Object(filled);
    }

    fn repeated(&mut self, step: &Step) -> Result<String, Trouble> {
        let mut told = String::new();
        for index in 0..step.repeat.unwrap_or(1) {
            self.variables.insert("i".to_owned(), index.into());
            told = self.until_done(step)?;
        }
        Ok(told)
    }

    /// One call, or as many as `until` asks for.
    fn until_done(&mut self, step: &Step) -> Result<String, Trouble> {
        let began = Instant::now();
        let limit = self.limit(step);
        let mut messages = Vec::new();
        loop {
            let args = self.call_args(step)?;
            let left = limit.saturating_sub(began.elapsed());
            let pending = self.send(step, &args, false, left.max(Duration::from_millis(100)))?;
            let (reply, _) = self.stage.adapter.wait(&pending)?;
            let finished = take_messages(&reply, &mut messages);
            let outcome = self.outcome(reply, messages.clone(), began.elapsed());
            let is_late = limit <= began.elapsed();
            let enough = match &step.until {
                None => true,
                Some(until) => match (until.get("count").and_then(as_u64), until.contains_key("match")) {
                    (Some(count), _) => count <= messages.len() as u64 || finished,
                    (None, true) => self.expected(step, &outcome).is_ok(),
                    (None, false) => finished,
                },
            };
            let failed = !matches!(outcome.reply, Reply::Ok(_))
                && !step.until.as_ref().is_some_and(|until| until.contains_key("match"));
            if enough || failed || is_late {
                return self.settle(step, &outcome);
            }
            if step.until.as_ref().is_some_and(|until| until.contains_key("match")) {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn outcome(&self, reply: Reply, messages: Vec<Value>, took: Duration) -> Outcome {
        Outcome { reply, messages, took_ms: millis(took), scale: self.stage.scale }
    }

    fn expected(&self, step: &Step, outcome: &Outcome) -> Result<Verdict, Trouble> {
        let expect = step.expect.as_ref().map(|expect| self.substituted(expect)).transpose()?;
        expect::check(expect.as_ref(), outcome).map_err(Trouble::Fail)
    }

    /// Holds an outcome against the expectation and keeps what the case wants kept.
    fn settle(&mut self, step: &Step, outcome: &Outcome) -> Result<String, Trouble> {
        match &outcome.reply {
            Reply::Unsupported(feature) => return Err(Trouble::Unsupported(feature.clone())),
            Reply::AdapterError(text) => return Err(Trouble::AdapterError(text.clone())),
            _ => {}
        }
        if let Verdict::NonStrict(why) = self.expected(step, outcome)? {
            self.discouraged.get_or_insert(why);
        }
        expect::check_order(&outcome.messages).map_err(Trouble::Fail)?;
        for (name, path) in &step.save {
            let value = match (&outcome.reply, path.strip_prefix("error.")) {
                (Reply::Err(error), Some(path)) => values::at_path(error, path),
                (Reply::Ok(ok), None) => values::at_path(ok, path),
                _ => None,
            };
            let value = value.cloned().ok_or_else(|| Trouble::Fail(format!("the result has no {path}")))?;
            self.variables.insert(name.clone(), value);
        }
        Ok(expect::show(&outcome.reply))
    }

    fn background(&mut self, name: &str) -> Result<Pending, Trouble> {
        self.background.get(name).cloned().ok_or_else(|| Trouble::Harness(format!("no call {name:?} is under way")))
    }

    fn wait(&mut self, step: &Step) -> Result<String, Trouble> {
        if let Some(name) = step.subject.strip_suffix(".started") {
            let pending = self.background(name)?;
            self.stage.adapter.wait_started(&pending)?;
            return Ok("started".to_owned());
        }
        let pending = self.background(&step.subject)?;
        self.background.remove(&step.subject);
        let (reply, took) = self.stage.adapter.wait(&pending)?;
        let mut messages = Vec::new();
        take_messages(&reply, &mut messages);
        let outcome = self.outcome(reply, messages, took);
        self.settle(step, &outcome)
    }

    fn cancel(&mut self, step: &Step) -> Result<String, Trouble> {
        let pending = self.background(&step.subject)?;
        self.background.remove(&step.subject);
        match self.stage.adapter.ask("cancel", &json!({"target": pending.id}), self.limit(step))? {
            Reply::Ok(_) => {}
            Reply::Unsupported(feature) => return Err(Trouble::Unsupported(feature)),
            other => return Err(Trouble::AdapterError(format!("cancel: {}", expect::show(&other)))),
        }
        let (reply, took) = self.stage.adapter.wait(&pending)?;
        let mut messages = Vec::new();
        take_messages(&reply, &mut messages);
        let outcome = self.outcome(reply, messages, took);
        let mut step = step.clone();
        step.expect.get_or_insert_with(|| "cancelled".into());
        self.settle(&step, &outcome)
    }

    // ------------------------------------------------------------ acts of the runner

    fn own(&mut self, step: &Step) -> Result<String, Trouble> {
        let mut told = String::new();
        for index in 0..step.repeat.unwrap_or(1) {
            self.variables.insert("i".to_owned(), index.into());
            told = self.own_until_done(step)?;
        }
        Ok(told)
    }

    fn own_until_done(&mut self, step: &Step) -> Result<String, Trouble> {
        let began = Instant::now();
        let limit = self.limit(step);
        loop {
            let args = self.substituted(&Value::Object(step.args.clone()))?;
            let args = args.as_object().cloned().unwrap_or_default();
            let reply = match self.act(step, &args, limit) {
                Ok(ok) => Reply::Ok(ok),
                Err(StepError::Refused(error)) => Reply::Err(error),
                Err(StepError::Broken(text)) => return Err(Trouble::Harness(text)),
            };
            if let Reply::Ok(ok) = &reply
                && ok["timed_out"] == true
            {
                return Err(Trouble::Fail(format!("what the case waits for did not happen: {ok}")));
            }
            let mut messages = Vec::new();
            take_messages(&reply, &mut messages);
            let outcome = self.outcome(reply, messages, began.elapsed());
            let repeats = step.until.is_some() && began.elapsed() < limit;
            if repeats && self.expected(step, &outcome).is_err() {
                std::thread::sleep(PAUSE);
                continue;
            }
            return self.settle(step, &outcome);
        }
    }

    fn act(&mut self, step: &Step, args: &Map<String, Value>, limit: Duration) -> Result<Value, StepError> {
        match step.verb {
            Verb::Server => self.stage.server.act(&step.subject, args),
            Verb::Node => {
                self.stage.server.forget();
                let node = self.stage.node.as_deref_mut().ok_or("the server is not the runner's own".to_owned())?;
                node_step::act(node, &step.subject, args)
            }
            Verb::Proxy => {
                let upstream = self.stage.address.clone();
                let told = self.proxy.act(&step.subject, args, &upstream, limit)?;
                if let Some(address) = self.proxy.address() {
                    self.variables.insert("proxy".to_owned(), address.into());
                }
                Ok(told)
            }
            _ => {
                let told = self.fake.act(&step.subject, args, limit)?;
                if let Some(address) = self.fake.address() {
                    self.variables.insert("fake".to_owned(), address.into());
                }
                Ok(told)
            }
        }
    }

    // ------------------------------------------------------------ the end

    fn reset(&mut self) -> Result<(), Trouble> {
        match self.stage.adapter.ask("reset", &json!({}), scaled(STEP, self.stage.scale))? {
            Reply::Ok(_) => {}
            other => return Err(Trouble::AdapterError(format!("reset: {}", expect::show(&other)))),
        }
        for pending in std::mem::take(&mut self.background).into_values() {
            // Each command is answered before the reset is.
            self.stage.adapter.wait(&Pending { deadline: Duration::ZERO, sent: Instant::now(), ..pending })?;
        }
        Ok(())
    }

    /// What is left would only be in the way; a server that a case left stopped is started again by the run.
    fn clean_up(&mut self) {
        self.proxy = ProxySide::default();
        self.fake = FakeSide::default();
        if self.stage.node.as_deref_mut().is_none_or(Node::is_up) {
            let stream = Map::from_iter([("stream".to_owned(), Value::from(self.stage.stream.clone()))]);
            let _ = self.stage.server.act("delete_stream", &stream);
        }
    }

    fn substituted(&self, value: &Value) -> Result<Value, Trouble> {
        values::substitute(value, &self.variables).map_err(Trouble::Harness)
    }

    fn text(&self, text: &str) -> Result<String, Trouble> {
        let value = self.substituted(&text.into())?;
        Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    fn limit(&self, step: &Step) -> Duration {
        scaled(step.deadline_ms.map_or(STEP, Duration::from_millis), self.stage.scale)
    }
}

/// A duration as written, times the scale of deadlines.
pub fn scaled(duration: Duration, scale: f64) -> Duration {
    duration.mul_f64(scale)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Takes the messages of a reply; tells whether the consumer says it is finished.
fn take_messages(reply: &Reply, messages: &mut Vec<Value>) -> bool {
    let Reply::Ok(ok) = reply else { return false };
    match (ok.get("message"), ok.get("messages").and_then(Value::as_array)) {
        (Some(message), _) if message.is_object() => messages.push(message.clone()),
        (_, Some(several)) => messages.extend(several.iter().filter(|message| message.is_object()).cloned()),
        _ => {}
    }
    ok.get("finished").and_then(Value::as_bool).unwrap_or(false)
}

fn describe(step: &Step) -> String {
    let verb = format!("{:?}", step.verb).to_lowercase();
    let on = step.on.as_ref().map_or(String::new(), |on| format!(" on {on}"));
    format!("{verb} {}{on}", step.subject)
}

fn tell(trouble: &Trouble) -> &str {
    match trouble {
        Trouble::Fail(text) | Trouble::Unsupported(text) | Trouble::AdapterError(text) | Trouble::Harness(text) => text,
        Trouble::Fault(Fault::Crash(text) | Fault::Timeout(text)) => text,
    }
}

impl Trouble {
    /// Says at which step.
    fn at(self, what: &str) -> Trouble {
        let at = |text: String| format!("step {what}: {text}");
        match self {
            Trouble::Fail(text) => Trouble::Fail(at(text)),
            Trouble::Unsupported(text) => Trouble::Unsupported(at(text)),
            Trouble::AdapterError(text) => Trouble::AdapterError(at(text)),
            Trouble::Harness(text) => Trouble::Harness(at(text)),
            Trouble::Fault(Fault::Crash(text)) => Trouble::Fault(Fault::Crash(at(text))),
            Trouble::Fault(Fault::Timeout(text)) => Trouble::Fault(Fault::Timeout(at(text))),
        }
    }
}
