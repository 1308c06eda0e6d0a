//! The server is killed again and again under the load of several clients at once, and at the end every message is accounted
//! for: acknowledged ones are stored exactly once, at the offset of their receipt, in the order their client sent them, and
//! nothing is stored that was never sent. The clients say what they were told; what is stored is read by the runner itself.
//! The same clients read it all as members of a group.

mod group;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::group::Group;
use crate::adapter::{Adapter, Fault, Pending, Reply};
use crate::client::Description;
use crate::expect;
use crate::generate::{self, Kind, as_u64};
use crate::node::Node;
use crate::wire::{Auth, Message, Wire};

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often the server is killed.
    pub cycles: u64,
    /// Acknowledgements between two kills, of all clients together.
    pub acks_per_cycle: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Survived {
    /// Messages stored, each acknowledged.
    pub messages: u64,
    /// Messages that the group was handed.
    pub handed: u64,
    /// Commits of the group that were taken.
    pub commits: u64,
    /// The longest that the server took to be ready after a kill.
    pub slowest_start: Duration,
}

const TOPIC: &str = "crash/log";
const PARTITIONS: u32 = 4;
/// The first version that knows groups.
const WIRE_VERSION: u16 = 2;
/// Messages a client has on their way.
const WINDOW: usize = 200;
/// A message may wait for several starts of the server.
const DEADLINE: Duration = Duration::from_secs(120);
/// Without an acknowledgement for that long the load has come to a halt.
const PATIENCE: Duration = Duration::from_secs(60);
/// The client's number is above this bit of a message's index.
const CLIENT_SHIFT: u32 = 48;

/// How far all clients are together.
#[derive(Debug, Default)]
struct Progress {
    acknowledged: Mutex<u64>,
    changed: Condvar,
    stop: AtomicBool,
    /// Clients that ended.
    ended: AtomicU64,
}

impl Progress {
    fn acknowledge(&self) {
        *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    fn count(&self) -> u64 {
        *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, goal: u64) -> Result<(), String> {
        let mut count = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let mut moved = Instant::now();
        while *count < goal {
            let before = *count;
            count = self.changed.wait_timeout(count, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
            if before != *count {
                moved = Instant::now();
            }
            if PATIENCE <= moved.elapsed() || self.ended.load(Ordering::Acquire) != 0 {
                return Err(format!("the load has come to a halt at {} acknowledgements", *count));
            }
        }
        Ok(())
    }
}

/// A receipt: partition and offset. The offset is absent if an earlier attempt was stored too long ago to tell.
type Place = (u32, Option<u64>);

/// Kills the server under the load of the clients.
///
/// # Errors
/// What was lost, stored twice or out of order, or not handed out; or why it could not be done.
pub fn run(clients: &[Description], folder: &Path, plan: Plan) -> Result<Survived, String> {
    let mut node = Node::start(&folder.join("crash-server"), &[])?;
    let mut wire = connect(&node)?;
    wire.create_topic(TOPIC, PARTITIONS, &json!({})).map_err(|error| error.to_string())?;
    let (progress, group) = (Arc::new(Progress::default()), Arc::new(Group::default()));
    let (mut loads, mut readers) = (Vec::new(), Vec::new());
    let options = json!({"server": node.address().to_string(), "token_file": node.token_file().display().to_string()});
    let home = |name: String| {
        let home = folder.join(name);
        std::fs::create_dir_all(&home).map(|()| home).map_err(|error| error.to_string())
    };
    for (number, client) in clients.iter().enumerate() {
        readers.push(group::start(client, &home(format!("crash-{number}-reader-home"))?, &options, &group)?);
    }
    for (number, client) in (0..).zip(clients) {
        let caller = Caller::start(client, &home(format!("crash-{number}-home"))?)?;
        let mut load = Load { caller, number, progress: Arc::clone(&progress), receipts: BTreeMap::new() };
        let (named, options) = (client.name.clone(), options.clone());
        loads.push(std::thread::spawn(move || {
            let outcome = load.run(&options).map_err(|reason| format!("{named}: {reason}"));
            load.progress.ended.fetch_add(1, Ordering::AcqRel);
            load.progress.changed.notify_all();
            outcome.map(|()| load.receipts)
        }));
    }
    let killed = kill(&mut node, &progress, &group, plan);
    progress.stop.store(true, Ordering::Release);
    let mut receipts = Vec::new();
    for load in loads {
        receipts.push(load.join().unwrap_or_else(|_| Err("a client's thread panicked".to_owned()))?);
    }
    let slowest_start = killed?;
    let log = read(&node)?;
    let messages = check(&receipts, &log)?;
    let handed = group.finish(readers, &log, &node)?;
    node.kill();
    Ok(Survived { messages, handed, commits: group.commits(), slowest_start })
}

fn connect(node: &Node) -> Result<Wire, String> {
    let token = std::fs::read_to_string(node.token_file()).map_err(|error| error.to_string())?;
    Wire::connect_speaking(node.address(), &Auth::Token(token.trim_end().to_owned()), WIRE_VERSION)
        .map_err(|error| error.to_string())
}

fn kill(node: &mut Node, progress: &Progress, group: &Group, plan: Plan) -> Result<Duration, String> {
    let mut slowest = Duration::ZERO;
    for cycle in 0..plan.cycles {
        let goal = progress.count() + plan.acks_per_cycle;
        progress.reach(goal).map_err(|reason| format!("cycle {cycle}: {reason}"))?;
        group.go_on().map_err(|reason| format!("cycle {cycle}: {reason}"))?;
        node.kill();
        let killed = Instant::now();
        node.launch()?;
        slowest = slowest.max(killed.elapsed());
        group.look(&mut connect(node)?).map_err(|reason| format!("cycle {cycle}: {reason}"))?;
    }
    Ok(slowest)
}

/// One client and what it was told.
struct Load {
    caller: Caller,
    number: u64,
    progress: Arc<Progress>,
    receipts: BTreeMap<u64, Place>,
}

impl Load {
    /// Sends numbered messages under one key until told to stop, and waits for their receipts in order.
    fn run(&mut self, options: &Value) -> Result<(), String> {
        self.caller.call("connect", None, Some("c"), &json!({"options": options}))?;
        let topic = json!({"topic": TOPIC, "options": {"delivery_timeout_ms": 120_000}});
        self.caller.call("producer.open", Some("c"), Some("p"), &topic)?;
        let mut waiting: VecDeque<(u64, Pending)> = VecDeque::new();
        let mut next = 0;
        while !self.progress.stop.load(Ordering::Acquire) {
            if WINDOW <= waiting.len() {
                self.settle(&mut waiting)?;
            }
            let delivery = format!("d{next}");
            let index = self.number << CLIENT_SHIFT | next;
            let payload = json!({"gen": "seq", "size": size_of_message(next), "index": index.to_string()});
            // Eight digits of base64: one key for each client, so that one partition has all of its messages.
            let message = json!({"payload": payload, "key": format!("{:08}", self.number)});
            self.caller.call("producer.enqueue", Some("p"), Some(&delivery), &json!({"message": message}))?;
            waiting.push_back((next, self.caller.send("delivery.wait", Some(&delivery), None, &json!({}))?));
            next += 1;
        }
        while !waiting.is_empty() {
            self.settle(&mut waiting)?;
        }
        self.caller.call("close", Some("c"), None, &json!({}))?;
        self.caller.shut_down()
    }

    fn settle(&mut self, waiting: &mut VecDeque<(u64, Pending)>) -> Result<(), String> {
        let Some((number, pending)) = waiting.pop_front() else { return Ok(()) };
        let receipt = self.caller.finish("delivery.wait", &pending)?;
        let partition = as_u64(&receipt["partition"]).and_then(|partition| u32::try_from(partition).ok());
        let partition = partition.ok_or_else(|| format!("a receipt without a partition: {receipt}"))?;
        self.receipts.insert(number, (partition, as_u64(&receipt["offset"])));
        self.progress.acknowledge();
        Ok(())
    }
}

/// A client that does what it is told.
struct Caller {
    adapter: Adapter,
}

impl Caller {
    fn start(client: &Description, home: &Path) -> Result<Self, String> {
        let adapter = Adapter::start(&client.launch(home), "crash", DEADLINE).map_err(|fault| text(&fault))?;
        Ok(Self { adapter })
    }

    fn call(&mut self, op: &str, on: Option<&str>, makes: Option<&str>, args: &Value) -> Result<Value, String> {
        let pending = self.send(op, on, makes, args)?;
        self.finish(op, &pending)
    }

    /// A call that may fail.
    fn try_call(&mut self, op: &str, on: Option<&str>, makes: Option<&str>, args: &Value) -> Result<Reply, String> {
        let pending = self.send(op, on, makes, args)?;
        self.adapter.wait(&pending).map(|(reply, _)| reply).map_err(|fault| text(&fault))
    }

    fn send(&mut self, op: &str, on: Option<&str>, makes: Option<&str>, args: &Value) -> Result<Pending, String> {
        self.adapter.send(op, on, makes, args, false, DEADLINE).map_err(|fault| text(&fault))
    }

    fn finish(&mut self, op: &str, pending: &Pending) -> Result<Value, String> {
        match self.adapter.wait(pending).map_err(|fault| text(&fault))? {
            (Reply::Ok(ok), _) => Ok(ok),
            (other, _) => Err(format!("{op}: {}", expect::show(&other))),
        }
    }

    fn shut_down(&mut self) -> Result<(), String> {
        self.adapter.shut_down(Duration::from_secs(5)).map_err(|fault| text(&fault))
    }
}

/// Payloads of many sizes, so that batches end everywhere.
fn size_of_message(number: u64) -> usize {
    16 + usize::try_from(number % 300).expect("less than 300")
}

/// What is stored: partition, and its messages in order.
fn read(node: &Node) -> Result<Vec<(u32, Vec<Message>)>, String> {
    let mut wire = connect(node)?;
    let all = (0..PARTITIONS).map(|partition| Ok((partition, wire.fetch_all(TOPIC, partition)?)));
    all.collect::<Result<_, crate::wire::WireError>>().map_err(|error| error.to_string())
}

/// Number of messages, if each is accounted for.
fn check(receipts: &[BTreeMap<u64, Place>], log: &[(u32, Vec<Message>)]) -> Result<u64, String> {
    let mut places: BTreeMap<(u64, u64), (u32, u64)> = BTreeMap::new();
    for (partition, messages) in log {
        let mut last_of_client: BTreeMap<u64, u64> = BTreeMap::new();
        for (expected, message) in (0..).zip(messages) {
            let place = format!("{partition}:{}", message.offset);
            if message.offset != expected {
                return Err(format!("{place} comes where offset {expected} should be"));
            }
            let payload = message.payload.as_deref().unwrap_or_default();
            let first = payload.first_chunk().ok_or_else(|| format!("{place} is not what was sent"))?;
            let index = u64::from_le_bytes(*first);
            let (client, number) = (index >> CLIENT_SHIFT, index & ((1 << CLIENT_SHIFT) - 1));
            if payload != generate::bytes(Kind::Seq, 0, index, size_of_message(number)) {
                return Err(format!("{place} is not what was sent"));
            }
            if let Some(earlier) = places.insert((client, number), (*partition, message.offset)) {
                return Err(format!("message {number} of client {client} is stored twice: {earlier:?} and {place}"));
            }
            if last_of_client.insert(client, number).is_some_and(|last| number <= last) {
                return Err(format!("message {number} of client {client} is out of order at {place}"));
            }
        }
    }
    for (client, receipts) in (0..).zip(receipts) {
        for (number, told) in receipts {
            let stored = places.remove(&(client, *number));
            let (partition, offset) = stored.ok_or_else(|| format!("message {number} of client {client} is lost"))?;
            if told.0 != partition || told.1.is_some_and(|told| told != offset) {
                return Err(format!(
                    "message {number} of client {client} is at {partition}:{offset}, its receipt says {told:?}"
                ));
            }
        }
    }
    match places.keys().next() {
        Some((client, number)) => {
            Err(format!("message {number} of client {client} is stored and was not acknowledged"))
        }
        None => Ok(receipts.iter().map(|receipts| receipts.len() as u64).sum()),
    }
}

fn text(fault: &Fault) -> String {
    match fault {
        Fault::Crash(text) | Fault::Timeout(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(offset: u64, number: u64) -> Message {
        Message { offset, ..Message::new(generate::bytes(Kind::Seq, 0, number, size_of_message(number))) }
    }

    fn checked(receipts: &[(u64, u64)], log: Vec<Message>) -> Result<u64, String> {
        let receipts = receipts.iter().map(|(number, offset)| (*number, (0, Some(*offset)))).collect();
        check(&[receipts], &[(0, log)])
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_place_is_told() {
        assert_eq!(checked(&[(0, 0), (1, 1)], vec![stored(0, 0), stored(1, 1)]), Ok(2));
        let wrong = |receipts, log, what: &str| {
            let told = checked(receipts, log).expect_err("this is wrong");
            assert!(told.contains(what), "{told}");
        };
        wrong(&[(0, 0), (1, 1)], vec![stored(0, 0)], "is lost");
        wrong(&[(0, 0)], vec![stored(0, 0), stored(1, 0)], "stored twice");
        wrong(&[(0, 1), (1, 0)], vec![stored(0, 1), stored(1, 0)], "out of order");
        wrong(&[(0, 1)], vec![stored(0, 0)], "its receipt says");
        wrong(&[(0, 0)], vec![stored(0, 0), stored(1, 1)], "was not acknowledged");
        wrong(&[(0, 1)], vec![stored(1, 0)], "should be");
        wrong(&[(0, 0)], vec![Message { offset: 0, ..Message::new("something else") }], "not what was sent");
    }
}
