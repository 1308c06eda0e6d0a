//! What the connections of a fake server share: its script, its logs, and what it has seen.

use super::script::{Script, Step};
use crate::wire::Frame;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn new(script: Script) -> Self {
        let state = State {
            script,
            answered: BTreeMap::new(),
            stopped: false,
            accepted: Vec::new(),
            live: BTreeMap::new(),
            seen: BTreeMap::new(),
            deferred: Vec::new(),
            refusals: Vec::new(),
            topics: Vec::new(),
            logs: BTreeMap::new(),
            producers: 0,
            subscriptions: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.notify();
    }

    pub(super) fn nap(&self, time: Duration) {
        drop(self.changed.wait_timeout(self.lock(), time));
    }
}

/// A subscription: where its next batch begins in the log of its partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) topic_id: u32,
    pub(super) partition: u32,
    pub(super) next_batch: usize,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) script: Script,
    /// Frames of each kind since the script was set.
    answered: BTreeMap<String, usize>,
    stopped: bool,
    accepted: Vec<Instant>,
    live: BTreeMap<u64, TcpStream>,
    seen: BTreeMap<String, Vec<Value>>,
    /// Requests whose answer is put off, by connection.
    pub(super) deferred: Vec<(u64, Frame, Value)>,
    pub(super) refusals: Vec<String>,
    /// Names; the id of a topic is its place, from 1.
    pub(super) topics: Vec<String>,
    pub(super) logs: BTreeMap<(u32, u32), Vec<Vec<u8>>>,
    pub(super) producers: u64,
    /// By connection and number.
    pub(super) subscriptions: BTreeMap<(u64, u32), Live>,
}

impl State {
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.disconnect();
    }

    pub(super) fn disconnect(&self) {
        for stream in self.live.values() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    pub(super) fn set_script(&mut self, script: Script) {
        self.script = script;
        self.answered.clear();
    }

    /// Takes a connection in; `None` if the server has stopped.
    pub(super) fn accepted(&mut self, stream: TcpStream) -> Option<u64> {
        if self.stopped {
            return None;
        }
        self.accepted.push(Instant::now());
        let number = self.accepted.len() as u64;
        self.live.insert(number, stream);
        Some(number)
    }

    pub(super) fn closed(&mut self, number: u64) {
        self.live.remove(&number);
        self.subscriptions.retain(|(connection, _), _| *connection != number);
    }

    pub(super) fn take_deferred(&mut self, number: u64) -> Vec<(Frame, Value)> {
        let own = self.deferred.extract_if(.., |(connection, ..)| *connection == number);
        own.map(|(_, frame, fields)| (frame, fields)).collect()
    }

    pub(super) fn connections(&self) -> Vec<(u64, TcpStream)> {
        let copies = self.live.iter().filter_map(|(number, stream)| Some((*number, stream.try_clone().ok()?)));
        copies.collect()
    }

    pub(super) fn accept_times_ms(&self) -> Vec<u64> {
        let Some(first) = self.accepted.first() else { return Vec::new() };
        let since = |time: &Instant| u64::try_from(time.duration_since(*first).as_millis()).unwrap_or(u64::MAX);
        self.accepted.iter().map(since).collect()
    }

    pub(super) fn counter(&self, name: &str) -> Option<u64> {
        let count = match name {
            "connections" => self.accepted.len(),
            "open" => self.live.len(),
            "refused" => self.refusals.len(),
            other => self.seen.get(other.strip_prefix("seen.")?).map_or(0, Vec::len),
        };
        Some(count as u64)
    }

    pub(super) fn seen(&self, name: &str, index: i64) -> Option<Value> {
        let frames = self.seen.get(name)?;
        let from_start = if index < 0 { i64::try_from(frames.len()).ok()? + index } else { index };
        frames.get(usize::try_from(from_start).ok()?).cloned()
    }

    /// Notes a frame and finds what the script says about it.
    pub(super) fn on_frame(&mut self, name: &str, fields: Value) -> Vec<Step> {
        self.seen.entry(name.to_owned()).or_default().push(fields);
        let count = self.answered.entry(name.to_owned()).or_default();
        let index = *count;
        *count += 1;
        let script = &self.script;
        let steps = script.nth.get(name).and_then(|list| list.get(index)).or_else(|| script.every.get(name));
        steps.cloned().unwrap_or_else(|| vec![Step::Default])
    }
}
