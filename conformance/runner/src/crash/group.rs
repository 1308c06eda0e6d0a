//! The readers of a crash: one member of one group for each client. They commit what they have processed, and what the server
//! took from them it never loses: stored offsets do not go back, nothing below them comes again, and in the end the group
//! has been handed every message.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Caller, PATIENCE, TOPIC};
use crate::adapter::Reply;
use crate::client::Description;
use crate::expect;
use crate::generate::as_u64;
use crate::node::Node;
use crate::values;
use crate::wire::{Message, Wire};

const GROUP: &str = "crash-readers";
/// Longer than any restart: nobody's partitions move because the server is away.
const SESSION_MS: u64 = 120_000;
/// How long a reader waits for messages before it looks whether it is to end.
const GLANCE_MS: u64 = 100;
/// What a commit may be answered: the partition has gone to the other reader.
const MOVED: [&str; 3] = ["NOT_ASSIGNED", "UNKNOWN_MEMBER", "OFFSET_REGRESSION"];
/// What leaves it open: the server was killed meanwhile.
const UNKNOWN: [&str; 3] = ["CLIENT_TIMEOUT", "CONNECTION_LOST", "CANNOT_CONNECT"];

/// Offsets by partition.
type Offsets = BTreeMap<u32, u64>;

#[derive(Debug, Default)]
struct State {
    /// Which message was handed out, by partition and offset.
    handed: BTreeMap<(u32, u64), u64>,
    /// Offsets below are all handed out.
    done: Offsets,
    /// What the server said is stored.
    committed: Offsets,
    /// What the server showed to be stored.
    shown: Offsets,
    commits: u64,
    ended: bool,
}

impl State {
    /// The server shows what is stored: not less than it said before, nor than it showed before.
    fn show(&mut self, said: Offsets, stored: &Offsets) -> Result<(), String> {
        for (partition, least) in said.into_iter().chain(std::mem::take(&mut self.shown)) {
            let is = stored.get(&partition).copied();
            if is.is_none_or(|is| is < least) {
                return Err(format!("{least} was stored for partition {partition}, and after a kill it is {is:?}"));
            }
        }
        self.shown.clone_from(stored);
        Ok(())
    }

    /// A message was handed out, to a reader that knew what was stored when it asked.
    fn hand(&mut self, known: &Offsets, (partition, offset): (u32, u64), index: u64) -> Result<(), String> {
        if let Some(floor) = known.get(&partition).filter(|floor| offset < **floor) {
            return Err(format!("{partition}:{offset} comes again, after {floor} was committed"));
        }
        if let Some(earlier) = self.handed.insert((partition, offset), index).filter(|earlier| *earlier != index) {
            return Err(format!("{partition}:{offset} was handed out as {earlier}, and now as {index}"));
        }
        let mut done = self.done.get(&partition).copied().unwrap_or(0);
        while self.handed.contains_key(&(partition, done)) {
            done += 1;
        }
        self.done.insert(partition, done);
        Ok(())
    }
}

/// What all readers know together.
#[derive(Debug, Default)]
pub(super) struct Group {
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
}

/// A reader that runs.
pub(super) type Running = JoinHandle<Result<(), String>>;

impl Group {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many commits were taken.
    pub(super) fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Waits until something is true of what was handed out and taken.
    fn wait(&self, what: &str, is_true: impl Fn(&State) -> bool) -> Result<(), String> {
        let (mut state, started) = (self.lock(), Instant::now());
        while !is_true(&state) {
            if state.ended || PATIENCE <= started.elapsed() {
                return Err(format!("the readers have come to a halt: {what}"));
            }
            state = self.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Waits until another commit was taken.
    pub(super) fn go_on(&self) -> Result<(), String> {
        let before = self.commits();
        self.wait("no commit is taken", |state| before < state.commits)
    }

    /// After a start of the server: what it shows to be stored is not below what it said, nor below what it showed before.
    pub(super) fn look(&self, wire: &mut Wire) -> Result<Offsets, String> {
        let floor = self.lock().committed.clone();
        let reply =
            wire.request("ReadOffsets", &json!({"group": GROUP, "topics": []})).map_err(|error| error.to_string())?;
        let stored: Option<Offsets> = reply["offsets"].as_array().and_then(|all| all.iter().map(place).collect());
        let stored = stored.ok_or_else(|| format!("unreadable offsets: {reply}"))?;
        self.lock().show(floor, &stored)?;
        Ok(stored)
    }

    /// Ends the readers when all of the log is handed out, and looks at what they got; messages handed out, repeated ones
    /// counted once.
    pub(super) fn finish(
        &self,
        readers: Vec<Running>,
        log: &[(u32, Vec<Message>)],
        node: &Node,
    ) -> Result<u64, String> {
        let ends: Offsets = log.iter().map(|(partition, messages)| (*partition, messages.len() as u64)).collect();
        let is_done =
            |state: &State| ends.iter().all(|(partition, end)| state.done.get(partition).copied().unwrap_or(0) == *end);
        let waited = self.wait("not every message comes", is_done);
        self.stop.store(true, Ordering::Release);
        for reader in readers {
            reader.join().unwrap_or_else(|_| Err("a reader's thread panicked".to_owned()))?;
        }
        waited?;
        let stored = self.look(&mut super::connect(node)?)?;
        for (partition, end) in ends.iter().filter(|(_, end)| 0 < **end) {
            if stored.get(partition) != Some(end) {
                let is = stored.get(partition);
                return Err(format!(
                    "all {end} messages of partition {partition} were committed, and stored is {is:?}"
                ));
            }
        }
        let state = self.lock();
        for (partition, messages) in log {
            for message in messages {
                let index =
                    message.payload.as_deref().and_then(<[u8]>::first_chunk).map(|first| u64::from_le_bytes(*first));
                let handed = state.handed.get(&(*partition, message.offset)).copied();
                if handed != index {
                    return Err(format!(
                        "{partition}:{} was handed out as {handed:?}, and is {index:?}",
                        message.offset
                    ));
                }
            }
        }
        Ok(state.handed.len() as u64)
    }
}

/// Partition and offset of a stored offset.
fn place(stored: &Value) -> Option<(u32, u64)> {
    let partition = as_u64(&stored["partition"]).and_then(|partition| u32::try_from(partition).ok())?;
    Some((partition, as_u64(&stored["offset"])?))
}

/// A member of the group.
struct Reader {
    caller: Caller,
    group: Arc<Group>,
}

/// Makes a client a member of the group, and lets it read from then on.
pub(super) fn start(client: &Description, home: &Path, options: &Value, group: &Arc<Group>) -> Result<Running, String> {
    let mut reader = Reader { caller: Caller::start(client, home)?, group: Arc::clone(group) };
    reader.caller.call("connect", None, Some("c"), &json!({"options": options}))?;
    let options = json!({
        "from": "earliest", "auto_commit": false, "session_timeout_ms": SESSION_MS, "release_timeout_ms": SESSION_MS,
    });
    let member = json!({"group": GROUP, "topics": [TOPIC], "options": options});
    reader.caller.call("group.open", Some("c"), Some("k"), &member)?;
    let named = client.name.clone();
    Ok(std::thread::spawn(move || {
        let outcome = reader.run().map_err(|reason| format!("{named}, reading: {reason}"));
        if outcome.is_err() {
            reader.group.lock().ended = true;
            reader.group.changed.notify_all();
        }
        outcome
    }))
}

impl Reader {
    fn run(&mut self) -> Result<(), String> {
        let amount = json!({"max_messages": 500, "max_bytes": (1u64 << 20).to_string(), "timeout_ms": GLANCE_MS});
        let mut uncommitted = Offsets::new();
        while !self.group.stop.load(Ordering::Acquire) || !uncommitted.is_empty() {
            let known = self.group.lock().committed.clone();
            let received = self.caller.call("consumer.receive_batch", Some("k"), None, &amount)?;
            let messages = received["messages"].as_array().ok_or_else(|| format!("no messages: {received}"))?;
            for message in messages {
                let (partition, offset) = place(message).ok_or_else(|| format!("no place: {message}"))?;
                let first = values::bytes(&json!({"base64": message["payload"]["first"]}), 0)?;
                let index = first.first_chunk().map(|first| u64::from_le_bytes(*first));
                let index = index.ok_or_else(|| format!("not what was sent: {message}"))?;
                self.group.lock().hand(&known, (partition, offset), index)?;
                uncommitted.insert(partition, offset + 1);
            }
            self.commit(&mut uncommitted)?;
        }
        self.caller.call("consumer.close", Some("k"), None, &json!({}))?;
        self.caller.call("close", Some("c"), None, &json!({}))?;
        self.caller.shut_down()
    }

    /// Says how far it is. What is left open is said again.
    fn commit(&mut self, uncommitted: &mut Offsets) -> Result<(), String> {
        if uncommitted.is_empty() {
            return Ok(());
        }
        let one = |(partition, offset): (&u32, &u64)| json!({"topic": TOPIC, "partition": partition, "offset": offset.to_string()});
        let offsets: Vec<Value> = uncommitted.iter().map(one).collect();
        let name =
            match self.caller.try_call("consumer.commit_offsets", Some("k"), None, &json!({"offsets": offsets}))? {
                Reply::Ok(_) => String::new(),
                Reply::Err(error) => error["name"].as_str().unwrap_or("an error without a name").to_owned(),
                other => return Err(format!("consumer.commit_offsets: {}", expect::show(&other))),
            };
        if UNKNOWN.contains(&name.as_str()) {
            return Ok(());
        }
        let taken = std::mem::take(uncommitted);
        if name.is_empty() {
            let mut state = self.group.lock();
            for (partition, offset) in taken {
                let known = state.committed.entry(partition).or_default();
                *known = offset.max(*known);
            }
            state.commits += 1;
            drop(state);
            self.group.changed.notify_all();
        } else if !MOVED.contains(&name.as_str()) {
            return Err(format!("consumer.commit_offsets: {name}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_back_comes_again_or_is_another_is_told() {
        let mut state = State::default();
        let offsets = |offset| Offsets::from([(1, offset)]);
        assert_eq!((state.show(offsets(5), &offsets(5)), state.show(offsets(5), &offsets(7))), (Ok(()), Ok(())));
        assert!(state.show(offsets(5), &offsets(6)).unwrap_err().contains("7 was stored"), "less than it showed");
        assert!(state.show(offsets(8), &offsets(7)).unwrap_err().contains("8 was stored"), "less than it said");
        assert!(state.show(offsets(8), &Offsets::new()).unwrap_err().contains("None"));
        assert_eq!(state.hand(&offsets(0), (1, 0), 10), Ok(()));
        assert_eq!(state.hand(&offsets(0), (1, 2), 12), Ok(()));
        assert_eq!(state.done, offsets(1), "up to what is missing");
        assert_eq!(state.hand(&offsets(0), (1, 0), 10), Ok(()), "once more is allowed");
        assert!(state.hand(&offsets(0), (1, 0), 11).unwrap_err().contains("now as 11"));
        assert!(state.hand(&offsets(2), (1, 1), 11).unwrap_err().contains("comes again"));
    }
}
