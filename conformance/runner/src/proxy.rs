//! A TCP proxy between a client and the server that sees frames and mistreats them by rules.
//!
//! Two threads for each connection, one for each direction. A rule is armed from the moment it is set: it counts the
//! frames that match from then on, acts on the nth and as many after it as `times` says, and is spent. What the proxy has
//! seen can be read at any time, so that a case waits for an event and not for time. Frames are understood on plain TCP
//! only; with TLS bytes pass as they come.

use crate::wire;
use serde_json::{Map, Value};
use socket2::SockRef;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Which end a frame is on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// From the server to the client.
    Client,
    /// From the client to the server.
    Server,
}

impl Side {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "client" => Some(Self::Client),
            "server" => Some(Self::Server),
            _ => None,
        }
    }
}

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is not passed on.
    Drop,
    /// It, and what follows it, is passed on later.
    Delay(Duration),
    /// Both connections end with a reset instead.
    Reset,
    /// So many bytes of it are passed on, then both connections are closed.
    CutAfterBytes(usize),
    /// This byte of it is inverted; below 0 counts from its end.
    Corrupt(i64),
    /// The connection towards its receiver is closed for writing instead; the other direction goes on.
    HalfClose,
    /// Neither it nor anything after it in this direction is passed on, and the connections stay open.
    Stall,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Direction.
    pub to: Side,
    /// Name of the message; `None` is any.
    pub kind: Option<String>,
    /// The first frame it acts on, counted from 1 since it was set.
    pub nth: u64,
    /// On how many; `None` is all from then on.
    pub times: Option<u64>,
    /// What it does.
    pub action: Action,
}

impl Rule {
    /// From `{to, kind, nth, times, action}`: `nth` and `times` are 1 if they are not there, `times: all` has no end, and
    /// an action is a word or one of `{delay_ms: n}`, `{cut_after_bytes: n}`, `{corrupt: n}`.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn from_value(value: &Value) -> Result<Self, String> {
        let map = value.as_object().ok_or("a rule is a map")?;
        let known = ["to", "kind", "nth", "times", "action"];
        if let Some(unknown) = map.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("a rule has no {unknown}"));
        }
        let to = map.get("to").and_then(Value::as_str).and_then(Side::from_name);
        let kind = match map.get("kind").and_then(Value::as_str) {
            None | Some("any") => None,
            Some(name) if wire::schema().message(name).is_some() => Some(name.to_owned()),
            Some(name) => return Err(format!("no message {name}")),
        };
        let count = |name: &str| map.get(name).map_or(Some(1), Value::as_u64).filter(|n| 0 < *n);
        let times = match map.get("times").and_then(Value::as_str) {
            Some("all") => None,
            _ => Some(count("times").ok_or("times is a number, or all")?),
        };
        Ok(Self {
            to: to.ok_or("to is client or server")?,
            kind,
            nth: count("nth").ok_or("nth is a number from 1")?,
            times,
            action: Action::from_value(map.get("action").unwrap_or(&Value::Null))?,
        })
    }

    fn concerns(&self, side: Side, name: &str) -> bool {
        self.to == side && self.kind.as_deref().is_none_or(|kind| kind == name)
    }
}

impl Action {
    fn from_value(value: &Value) -> Result<Self, String> {
        let wrong = || format!("no action {value}");
        match value {
            Value::String(word) => match word.as_str() {
                "drop" => Ok(Self::Drop),
                "reset" => Ok(Self::Reset),
                "half_close" => Ok(Self::HalfClose),
                "stall" => Ok(Self::Stall),
                _ => Err(wrong()),
            },
            Value::Object(map) if map.len() == 1 => Self::with_number(map).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }

    fn with_number(map: &Map<String, Value>) -> Option<Self> {
        let (name, value) = map.iter().next()?;
        match name.as_str() {
            "delay_ms" => Some(Self::Delay(Duration::from_millis(value.as_u64()?))),
            "cut_after_bytes" => Some(Self::CutAfterBytes(usize::try_from(value.as_u64()?).ok()?)),
            "corrupt" => Some(Self::Corrupt(value.as_i64()?)),
            _ => None,
        }
    }
}

/// A proxy in front of one server, listening on a port of its own until dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    rules: Vec<Armed>,
    split: bool,
    refuse: bool,
    stopped: bool,
    accepted: u64,
    acted: u64,
    frames: BTreeMap<(Side, String), u64>,
    live: BTreeMap<u64, Live>,
}

/// A connection that is open, at least in one direction.
#[derive(Debug)]
struct Live {
    client: TcpStream,
    server: TcpStream,
    half_ended: bool,
}

#[derive(Debug)]
struct Armed {
    rule: Rule,
    seen: u64,
}

impl Proxy {
    /// Listens on a free port of the loopback and connects to `upstream` for every connection it accepts.
    ///
    /// # Errors
    /// Of the socket.
    pub fn start(upstream: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let state = State {
            upstream,
            rules: Vec::new(),
            split: false,
            refuse: false,
            stopped: false,
            accepted: 0,
            acted: 0,
            frames: BTreeMap::new(),
            live: BTreeMap::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections go from now on: a server that was started again has another port.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.shared.lock().upstream = upstream;
    }

    /// Arms another rule.
    pub fn add_rule(&self, rule: Rule) {
        self.shared.change(|state| state.rules.push(Armed { rule, seen: 0 }));
    }

    /// Forgets all rules; what they stalled goes on.
    pub fn clear_rules(&self) {
        self.shared.change(|state| state.rules.clear());
    }

    /// Whether every write is of one byte.
    pub fn set_split(&self, split: bool) {
        self.shared.change(|state| state.split = split);
    }

    /// Whether new connections are closed at once.
    pub fn set_refuse(&self, refuse: bool) {
        self.shared.change(|state| state.refuse = refuse);
    }

    /// Ends all connections there are, with a reset.
    pub fn reset_connections(&self) {
        self.shared.lock().reset_all();
    }

    /// Connections accepted so far, refused ones too.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// Connections that are open.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.shared.lock().live.len() as u64
    }

    /// Frames of a message that came in one direction so far, whatever became of them.
    #[must_use]
    pub fn frames(&self, to: Side, kind: &str) -> u64 {
        self.shared.lock().frames.get(&(to, kind.to_owned())).copied().unwrap_or(0)
    }

    /// How often rules have acted.
    #[must_use]
    pub fn acted(&self) -> u64 {
        self.shared.lock().acted
    }

    /// A counter by its name in cases: `connections`, `open`, `acted`, `to_client.NAME`, `to_server.NAME`.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        match name.split_once('.') {
            None => match name {
                "connections" => Some(self.connections()),
                "open" => Some(self.open_connections()),
                "acted" => Some(self.acted()),
                _ => None,
            },
            Some((to, kind)) => {
                let side = Side::from_name(to.strip_prefix("to_")?)?;
                wire::schema().message(kind).map(|_| self.frames(side, kind))
            }
        }
    }

    /// Waits until `condition` holds; false if it did not in time.
    #[must_use]
    pub fn wait(&self, timeout: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let deadline = std::time::Instant::now() + timeout;
        loop {
            if condition(self) {
                return true;
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return false;
            }
            // A change between the look and the wait is seen a little later.
            let nap = left.min(Duration::from_millis(20));
            drop(self.shared.changed.wait_timeout(self.shared.lock(), nap));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.stopped = true;
            state.reset_all();
        });
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl State {
    fn reset_all(&self) {
        for live in self.live.values() {
            reset(&live.client);
            reset(&live.server);
        }
    }

    /// One direction has ended; with the other, or with both at once, so has the connection.
    fn ended(&mut self, number: u64, whole: bool) {
        match self.live.get_mut(&number) {
            Some(live) if !whole && !live.half_ended => live.half_ended = true,
            _ => drop(self.live.remove(&number)),
        }
    }
}

fn reset(stream: &TcpStream) {
    // A linger time of zero makes the close a reset; both fail only on a connection that has ended already.
    drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
    drop(stream.shutdown(Shutdown::Both));
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let mut state = shared.lock();
        if state.stopped {
            return;
        }
        state.accepted += 1;
        let (number, upstream, refuse) = (state.accepted, state.upstream, state.refuse);
        drop(state);
        shared.changed.notify_all();
        if refuse {
            continue;
        }
        if let Ok(server) = TcpStream::connect_timeout(&upstream, Duration::from_secs(5)) {
            begin(number, client, server, shared);
        }
    }
}

fn begin(number: u64, client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let copies = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
    let (Ok(from_client), Ok(from_server), Ok(kept_client), Ok(kept_server)) = copies else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let live = Live { client: kept_client, server: kept_server, half_ended: false };
    shared.change(|state| drop(state.live.insert(number, live)));
    let to_server = Pump { side: Side::Server, number, from: from_client, to: server, shared: Arc::clone(shared) };
    let to_client = Pump { side: Side::Client, number, from: from_server, to: client, shared: Arc::clone(shared) };
    thread::spawn(move || to_server.run());
    thread::spawn(move || to_client.run());
}

/// One direction of one connection.
struct Pump {
    side: Side,
    number: u64,
    from: TcpStream,
    to: TcpStream,
    shared: Arc<Shared>,
}

/// How a direction ended.
enum End {
    /// Its sender closed it: so does the proxy, and the other direction goes on.
    Half,
    /// Both connections are over.
    Whole,
}

impl Pump {
    fn run(mut self) {
        let end = self.pass();
        match end {
            End::Half => drop(self.to.shutdown(Shutdown::Write)),
            End::Whole => drop((self.to.shutdown(Shutdown::Both), self.from.shutdown(Shutdown::Both))),
        }
        self.shared.change(|state| state.ended(self.number, matches!(end, End::Whole)));
    }

    fn pass(&mut self) -> End {
        if self.side == Side::Server {
            let mut preface = [0; 8];
            if self.from.read_exact(&mut preface[..1]).is_err() {
                return End::Half;
            }
            if preface[0] != wire::PREFACE[0] {
                return self.pass_bytes(&preface[..1]);
            }
            if self.from.read_exact(&mut preface[1..]).is_err() || self.write(&preface).is_err() {
                return End::Half;
            }
        }
        loop {
            match wire::read_frame_bytes(&mut self.from) {
                Ok(frame) => {
                    if let Err(end) = self.frame(frame) {
                        return end;
                    }
                }
                Err(wire::WireError::Closed) => return End::Half,
                Err(_) => return End::Whole,
            }
        }
    }

    /// What is not the protocol passes as it comes.
    fn pass_bytes(&mut self, first: &[u8]) -> End {
        let mut chunk = vec![0; 1 << 16];
        let mut written = self.write(first);
        while written.is_ok() {
            match self.from.read(&mut chunk) {
                Ok(0) => return End::Half,
                Ok(length) => written = self.write(&chunk[..length]),
                Err(_) => break,
            }
        }
        End::Whole
    }

    fn frame(&mut self, mut frame: Vec<u8>) -> Result<(), End> {
        let kind = u16::from_le_bytes([frame[4], frame[5]]);
        let action = self.action_on(&wire::schema().kind_name(kind));
        match action {
            None => {}
            Some(Action::Drop) => return Ok(()),
            Some(Action::Delay(time)) => thread::sleep(time),
            Some(Action::Reset) => {
                reset(&self.to);
                reset(&self.from);
                return Err(End::Whole);
            }
            Some(Action::CutAfterBytes(count)) => {
                let end = count.min(frame.len());
                drop(self.write(&frame[..end]));
                return Err(End::Whole);
            }
            Some(Action::Corrupt(at)) => {
                let length = i64::try_from(frame.len()).unwrap_or(i64::MAX);
                let at = if at < 0 { length + at } else { at };
                if let Some(byte) = usize::try_from(at).ok().and_then(|at| frame.get_mut(at)) {
                    *byte = !*byte;
                }
            }
            Some(Action::HalfClose) => return Err(End::Half),
            Some(Action::Stall) => self.stall()?,
        }
        self.write(&frame).map_err(|_| End::Whole)
    }

    /// Counts a frame and finds what the first rule that is due makes of it.
    fn action_on(&self, name: &str) -> Option<Action> {
        let mut action = None;
        self.shared.change(|state| {
            *state.frames.entry((self.side, name.to_owned())).or_default() += 1;
            for armed in &mut state.rules {
                if !armed.rule.concerns(self.side, name) {
                    continue;
                }
                armed.seen += 1;
                let past = armed.seen.checked_sub(armed.rule.nth);
                if action.is_none() && past.is_some_and(|past| armed.rule.times.is_none_or(|times| past < times)) {
                    action = Some(armed.rule.action);
                    state.acted += 1;
                }
            }
        });
        action
    }

    /// Holds this direction until the rules are cleared or the connection ends.
    fn stall(&self) -> Result<(), End> {
        let mut state = self.shared.lock();
        loop {
            // While nothing is read here, it is the other direction that learns of the end.
            if state.stopped || state.live.get(&self.number).is_none_or(|live| live.half_ended) {
                return Err(End::Whole);
            }
            if state.rules.iter().all(|armed| armed.rule.action != Action::Stall) {
                return Ok(());
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.shared.lock().split {
            for byte in bytes {
                self.to.write_all(std::slice::from_ref(byte))?;
            }
            return Ok(());
        }
        self.to.write_all(bytes)
    }
}
