//! An adapter's process and the line protocol spoken with it (`conformance/adapter-protocol.md`).
//!
//! One thread reads its replies, one its log. Whatever breaks the protocol is a fault that stays: the process is of no use then and
//! is killed with all its descendants. Knows nothing of cases.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The longest line of the protocol, in bytes.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// Lines of the conversation kept for the report.
const KEPT_LINES: usize = 400;
/// Characters of a line kept for the report.
const KEPT_CHARS: usize = 600;
/// Log kept for the report, in bytes.
const KEPT_LOG_BYTES: usize = 16 << 10;
/// How long the end of the log of a process that is gone may take to be read.
const LOG_LAG: Duration = Duration::from_secs(1);
/// How much longer than its deadline a command may take before the adapter counts as stuck.
pub const GRACE: Duration = Duration::from_secs(2);

/// How an adapter is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables it gets beside those of the runner.
    pub env: BTreeMap<String, String>,
    /// Folder that a relative program is in.
    pub base: PathBuf,
    /// Its working directory and `HOME`.
    pub home: PathBuf,
}

/// Why an adapter is of no more use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ended, or broke the protocol.
    Crash(String),
    /// It did not reply in time.
    Timeout(String),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The call succeeded.
    Ok(Value),
    /// The call failed with an error of the client.
    Err(Value),
    /// The call was given up; with the error, if the language has one for it.
    Cancelled(Option<Value>),
    /// The client has no such operation.
    Unsupported(String),
    /// The adapter is at fault.
    AdapterError(String),
}

/// A line of the conversation, for the report.
#[derive(Clone, Debug)]
pub struct Line {
    /// When, since the adapter started.
    pub at: Duration,
    /// `>` to the adapter, `<` from it.
    pub direction: char,
    /// What, shortened.
    pub text: String,
}

#[derive(Debug, Default)]
struct State {
    pending: BTreeSet<String>,
    started: BTreeSet<String>,
    replies: BTreeMap<String, (Reply, Instant)>,
    fault: Option<Fault>,
    lines: VecDeque<Line>,
    log: VecDeque<u8>,
    has_log_ended: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    born: Instant,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, direction: char, text: &str) {
        let mut shown: String = text.chars().take(KEPT_CHARS).collect();
        if shown.len() < text.len() {
            shown.push_str(&format!("… ({} bytes)", text.len()));
        }
        let mut state = self.state();
        if state.lines.len() == KEPT_LINES {
            state.lines.pop_front();
        }
        state.lines.push_back(Line { at: self.born.elapsed(), direction, text: shown });
    }

    fn fail(&self, fault: Fault) {
        let mut state = self.state();
        state.fault.get_or_insert(fault);
        self.changed.notify_all();
    }
}

/// A running adapter.
#[derive(Debug)]
pub struct Adapter {
    child: Child,
    stdin: Option<ChildStdin>,
    shared: Arc<Shared>,
    next_id: u64,
    is_killed: bool,
    /// What it said about itself.
    pub hello: Value,
}

/// A command under way.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Its id.
    pub id: String,
    /// What it is, for a person.
    pub what: String,
    /// When it was sent.
    pub sent: Instant,
    /// How long it may take.
    pub deadline: Duration,
}

impl Adapter {
    /// Starts it and exchanges hello.
    ///
    /// # Errors
    /// A [`Fault`] if it cannot be started or says no proper hello.
    pub fn start(launch: &Launch, run_id: &str, deadline: Duration) -> Result<Adapter, Fault> {
        let mut child = spawn(launch)?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), born: Instant::now() });
        let stdin = child.stdin.take();
        if let Some(stdout) = child.stdout.take() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || read_replies(stdout, &shared));
        }
        if let Some(stderr) = child.stderr.take() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || read_log(stderr, &shared));
        }
        let mut adapter = Adapter { child, stdin, shared, next_id: 0, is_killed: false, hello: Value::Null };
        let args = json!({"adapter_protocol": [1], "run_id": run_id});
        let pending = adapter.send("hello", None, None, &args, false, deadline)?;
        adapter.hello = match adapter.wait(&pending)? {
            (Reply::Ok(hello), _) => hello,
            (other, _) => return Err(adapter.give_up(&format!("answers hello with {other:?}"))),
        };
        Ok(adapter)
    }

    /// The process whose descriptors and threads count.
    pub fn pid(&self) -> u32 {
        let told = self.hello.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok());
        told.unwrap_or_else(|| self.child.id())
    }

    /// Sends a command.
    ///
    /// # Errors
    /// A [`Fault`] if the process is of no use any more.
    pub fn send(
        &mut self,
        op: &str,
        on: Option<&str>,
        makes: Option<&str>,
        args: &Value,
        announce: bool,
        deadline: Duration,
    ) -> Result<Pending, Fault> {
        let id = self.next_id.to_string();
        self.next_id += 1;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let mut command = json!({"id": id, "op": op, "args": args, "deadline_ms": deadline_ms});
        for (key, value) in [("on", on), ("as", makes)] {
            if let Some(value) = value {
                command[key] = value.into();
            }
        }
        if announce {
            command["announce"] = true.into();
        }
        let mut line = command.to_string();
        self.shared.note('>', &line);
        line.push('\n');
        let fault = {
            let mut state = self.shared.state();
            state.pending.insert(id.clone());
            state.fault.clone()
        };
        if let Some(fault) = fault {
            return Err(fault);
        }
        let written = match &mut self.stdin {
            Some(stdin) => stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        if let Err(error) = written {
            // The reader knows better why.
            std::thread::sleep(Duration::from_millis(50));
            return Err(self.give_up(&format!("takes no commands: {error}")));
        }
        Ok(Pending { id, what: op.to_owned(), sent: Instant::now(), deadline })
    }

    /// Waits for the reply and tells how long it took.
    ///
    /// # Errors
    /// A [`Fault`] if none comes.
    pub fn wait(&mut self, pending: &Pending) -> Result<(Reply, Duration), Fault> {
        let until = pending.sent + pending.deadline + GRACE;
        let found = self.wait_for(until, |state| state.replies.remove(&pending.id));
        match found {
            Ok(Some((reply, at))) => Ok((reply, at.saturating_duration_since(pending.sent))),
            Ok(None) => {
                let text = format!("{} was not answered within {:?}", pending.what, pending.deadline + GRACE);
                self.shared.fail(Fault::Timeout(text.clone()));
                self.kill();
                Err(Fault::Timeout(text))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Waits until the command is under way. A reply counts as well.
    ///
    /// # Errors
    /// A [`Fault`] if that does not happen.
    pub fn wait_started(&mut self, pending: &Pending) -> Result<(), Fault> {
        let until = pending.sent + pending.deadline + GRACE;
        let found = self.wait_for(until, |state| {
            (state.started.contains(&pending.id) || state.replies.contains_key(&pending.id)).then_some(())
        })?;
        found.ok_or_else(|| {
            let text = format!("{} was not announced as started within {:?}", pending.what, pending.deadline + GRACE);
            self.shared.fail(Fault::Timeout(text.clone()));
            self.kill();
            Fault::Timeout(text)
        })
    }

    fn wait_for<T>(&self, until: Instant, mut look: impl FnMut(&mut State) -> Option<T>) -> Result<Option<T>, Fault> {
        let mut state = self.shared.state();
        loop {
            if let Some(found) = look(&mut state) {
                return Ok(Some(found));
            }
            if let Some(fault) = &state.fault {
                return Err(fault.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One command and its reply.
    ///
    /// # Errors
    /// A [`Fault`] if none comes.
    pub fn ask(&mut self, op: &str, args: &Value, deadline: Duration) -> Result<Reply, Fault> {
        let pending = self.send(op, None, None, args, false, deadline)?;
        Ok(self.wait(&pending)?.0)
    }

    /// Ends it as the protocol says: `shutdown`, then exit status 0 in time.
    ///
    /// # Errors
    /// What it did instead.
    pub fn shut_down(&mut self, limit: Duration) -> Result<(), Fault> {
        let asked = Instant::now();
        let pending = self.send("shutdown", None, None, &json!({}), false, limit)?;
        match self.wait(&pending)? {
            (Reply::Ok(_), _) => {}
            (other, _) => return Err(self.give_up(&format!("answers shutdown with {other:?}"))),
        }
        drop(self.stdin.take());
        while asked.elapsed() < limit + GRACE {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(Fault::Crash(format!("shutdown ends with {status}"))),
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(Fault::Crash(error.to_string())),
            }
        }
        self.kill();
        Err(Fault::Timeout(format!("still running {:?} after shutdown", asked.elapsed())))
    }

    /// The conversation since `mark`.
    pub fn lines_since(&self, mark: Duration) -> Vec<Line> {
        self.shared.state().lines.iter().filter(|line| mark <= line.at).cloned().collect()
    }

    /// Now, on the clock of the conversation.
    pub fn mark(&self) -> Duration {
        self.shared.born.elapsed()
    }

    /// How it ended, if it did so by itself: with a signal, or with the status of a sanitizer that found something.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let asked = Instant::now();
        while !self.is_killed && asked.elapsed() < LOG_LAG {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                ended => return ended.ok().flatten(),
            }
        }
        None
    }

    /// The end of what it wrote on standard error; all of that, if it is gone.
    pub fn log(&self) -> String {
        let is_late = |state: &mut State| (state.fault.is_some() || self.stdin.is_none()) && !state.has_log_ended;
        let waited = self.shared.changed.wait_timeout_while(self.shared.state(), LOG_LAG, is_late);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let bytes: Vec<u8> = state.log.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn give_up(&mut self, reason: &str) -> Fault {
        self.shared.fail(Fault::Crash(reason.to_owned()));
        self.kill();
        self.shared.state().fault.clone().unwrap_or_else(|| Fault::Crash(reason.to_owned()))
    }

    fn kill(&mut self) {
        self.is_killed = !matches!(self.child.try_wait(), Ok(Some(_)));
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // Gone already is as good.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(launch: &Launch) -> Result<Child, Fault> {
    let Some((program, arguments)) = launch.command.split_first() else {
        return Err(Fault::Crash("the client's description has an empty command".to_owned()));
    };
    let program = locate(program, &launch.base);
    let arguments = arguments.iter().map(|argument| match argument.starts_with("./") || argument.starts_with("../") {
        true => launch.base.join(argument).into_os_string(),
        false => argument.into(),
    });
    let mut command = std::process::Command::new(&program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ours = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("LEVADA_"));
    for name in ours.chain(["XDG_RUNTIME_DIR".to_owned(), "XDG_CONFIG_HOME".to_owned(), "XDG_STATE_HOME".to_owned()]) {
        command.env_remove(name);
    }
    command.env("HOME", &launch.home).envs(&launch.env).current_dir(&launch.home).process_group(0);
    command.spawn().map_err(|error| Fault::Crash(format!("cannot start {}: {error}", program.display())))
}

/// A program with a slash is relative to the description that names it; others are looked up as a shell does.
fn locate(program: &str, base: &Path) -> PathBuf {
    if program.contains('/') { base.join(program) } else { PathBuf::from(program) }
}

fn read_log(mut stderr: impl Read, shared: &Shared) {
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut chunk) {
        let mut state = shared.state();
        state.log.extend(&chunk[..count]);
        let over = state.log.len().saturating_sub(KEPT_LOG_BYTES);
        state.log.drain(..over);
    }
    shared.state().has_log_ended = true;
    shared.changed.notify_all();
}

fn read_replies(stdout: impl Read, shared: &Shared) {
    let mut reader = BufReader::with_capacity(64 << 10, stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => return shared.fail(Fault::Crash("the adapter ended".to_owned())),
            Ok(_) if line.ends_with(b"\n") => {}
            Ok(_) => return shared.fail(Fault::Crash("a line has no end within 16 MiB".to_owned())),
            Err(error) => return shared.fail(Fault::Crash(format!("standard output: {error}"))),
        }
        let text = String::from_utf8_lossy(&line);
        shared.note('<', text.trim_end());
        if let Err(reason) = take_line(&text, shared) {
            return shared.fail(Fault::Crash(reason));
        }
    }
}

fn take_line(text: &str, shared: &Shared) -> Result<(), String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("a line is no JSON: {error}: {text:.200}"))?;
    let id = value.get("id").and_then(Value::as_str).ok_or_else(|| format!("a line has no id: {text:.200}"))?;
    let reply = reply_of(&value)?;
    let mut state = shared.state();
    if !state.pending.contains(id) {
        return Err(format!("a reply to {id:?}, which nobody asked for or which is answered already: {text:.200}"));
    }
    match reply {
        None => {
            state.started.insert(id.to_owned());
        }
        Some(reply) => {
            state.pending.remove(id);
            state.replies.insert(id.to_owned(), (reply, Instant::now()));
        }
    }
    shared.changed.notify_all();
    Ok(())
}

/// `None` is the `started` event.
fn reply_of(value: &Value) -> Result<Option<Reply>, String> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let kinds = ["ok", "err", "cancelled", "unsupported", "adapter_error", "started"];
    // An error may stand beside `cancelled`.
    let present: Vec<&str> =
        kinds.into_iter().filter(|key| !value.get(*key).unwrap_or(&Value::Null).is_null()).collect();
    match present.as_slice() {
        ["ok"] if value["ok"].is_object() => Ok(Some(Reply::Ok(value["ok"].clone()))),
        ["err"] if value["err"].is_object() => Ok(Some(Reply::Err(value["err"].clone()))),
        ["cancelled"] | ["err", "cancelled"] => Ok(Some(Reply::Cancelled(value.get("err").cloned()))),
        ["unsupported"] => Ok(Some(Reply::Unsupported(text("unsupported").unwrap_or_default()))),
        ["adapter_error"] => Ok(Some(Reply::AdapterError(text("adapter_error").unwrap_or_default()))),
        ["started"] => Ok(None),
        _ => Err(format!("a reply has exactly one of {}: {value}", kinds.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_says_exactly_one_thing() {
        let parsed = |text: &str| reply_of(&serde_json::from_str(text).unwrap());
        assert_eq!(parsed(r#"{"id":"1","ok":{}}"#), Ok(Some(Reply::Ok(json!({})))));
        assert_eq!(parsed(r#"{"id":"1","started":true}"#), Ok(None));
        assert_eq!(parsed(r#"{"id":"1","cancelled":true}"#), Ok(Some(Reply::Cancelled(None))));
        assert!(parsed(r#"{"id":"1","ok":{},"err":{}}"#).is_err());
        assert!(parsed(r#"{"id":"1"}"#).is_err());
        assert!(parsed(r#"{"id":"1","ok":5}"#).is_err());
    }
}
