//! A fingerprint of a run: a hash over everything that happened between the parts of it, with the time of each event. Two
//! runs of one seed must agree.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

#[derive(Clone, Debug)]
pub(crate) struct Trace {
    shared: Arc<Mutex<State>>,
    started: Instant,
}

#[derive(Debug)]
struct State {
    hash: u64,
    event_count: u64,
}

impl Trace {
    pub(crate) fn new() -> Self {
        let state = State { hash: 0xCBF2_9CE4_8422_2325, event_count: 0 };
        let trace = Self { shared: Arc::new(Mutex::new(state)), started: Instant::now() };
        trace.event("start", 0, 0);
        trace
    }

    /// Records an event with two numbers that tell it from others.
    pub(crate) fn event(&self, kind: &str, one: u64, other: u64) {
        let at_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let words = [at_us, one, other].map(u64::to_le_bytes);
        for byte in kind.bytes().chain(words.into_iter().flatten()) {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        state.event_count += 1;
        if std::env::var_os("LEVADA_SIM_TRACE").is_some() {
            tracing::info!(at_us, kind, one, other, "event");
        }
    }

    pub(crate) fn fingerprint(&self) -> (u64, u64) {
        let state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        (state.hash, state.event_count)
    }
}
