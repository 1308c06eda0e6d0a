//! What the connection's task and the caller of a consumer share: per partition, what was received and not taken, where a
//! new subscription would begin, and how many taken bytes the server may send anew.
//!
//! One lock, held for a few moves. Positions live with the caller: here is only what was told last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use levada_protocol::messages::Position;

use crate::error::Error;

pub(crate) type Callback = Box<dyn FnOnce() + Send>;

/// Something a partition has for the caller.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// Stored batches, back to back.
    Batches(Bytes),
    /// The partition does not go on until a seek.
    Failed(Error),
    /// A policy says where to go on, once everything before is handed out.
    Moved(Position),
}

/// One partition.
#[derive(Debug)]
pub(crate) struct InboundLane {
    pub(crate) items: VecDeque<Item>,
    /// Bytes the caller is done with, to be granted to the server again.
    pub(crate) owed_bytes: u64,
    /// Where a new subscription begins.
    pub(crate) start: Position,
    /// Epoch of the last message handed out.
    pub(crate) epoch: Option<u32>,
    /// What the start came to, once known.
    pub(crate) resolved: Option<u64>,
    /// Where to stop, if asked to.
    pub(crate) until: Option<u64>,
    /// Changes whenever what was received before is void.
    pub(crate) generation: u64,
    /// The caller asked for a new subscription.
    pub(crate) restart: bool,
    /// The caller has something at hand that it has not handed out.
    pub(crate) busy: bool,
    /// The caller's position is void: it is where the start is.
    pub(crate) moved: bool,
}

impl InboundLane {
    /// Voids what was received.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.owed_bytes = 0;
        self.generation += 1;
        self.busy = false;
    }

    /// Asks for a new subscription that begins there.
    pub(crate) fn restart_at(&mut self, start: Position) {
        self.clear();
        (self.start, self.epoch, self.resolved) = (start, None, None);
        self.restart = true;
    }
}

/// See the module.
pub(crate) struct Inbound {
    state: Mutex<InboundState>,
}

pub(crate) struct InboundState {
    pub(crate) lanes: Vec<InboundLane>,
    /// Grows with everything a waiting caller may want to look at.
    pub(crate) version: u64,
    pub(crate) closed: bool,
    waker: Option<Waker>,
    armed: Option<Callback>,
    /// The task has been told to look and has not looked yet.
    scheduled: bool,
}

impl Inbound {
    pub(crate) fn new(starts: impl IntoIterator<Item = Position>) -> Arc<Inbound> {
        let lane = |start| InboundLane {
            items: VecDeque::new(),
            owed_bytes: 0,
            start,
            epoch: None,
            resolved: None,
            until: None,
            generation: 0,
            restart: false,
            busy: false,
            moved: false,
        };
        let lanes = starts.into_iter().map(lane).collect();
        let state = InboundState { lanes, version: 0, closed: false, waker: None, armed: None, scheduled: false };
        Arc::new(Inbound { state: Mutex::new(state) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, InboundState> {
        // Every change under it is whole before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then tells a waiting caller to look.
    pub(crate) fn update(&self, change: impl FnOnce(&mut InboundState)) {
        let (waker, armed) = {
            let mut state = self.lock();
            change(&mut state);
            state.version += 1;
            (state.waker.take(), state.armed.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(callback) = armed {
            callback();
        }
    }

    /// Whether something has happened since `version`; if not, the waker is woken when it does.
    pub(crate) fn watch(&self, version: u64, waker: &Waker) -> bool {
        let mut state = self.lock();
        if state.version != version {
            return true;
        }
        match &mut state.waker {
            Some(known) => known.clone_from(waker),
            None => state.waker = Some(waker.clone()),
        }
        false
    }

    /// Calls back when something has happened since `version`: at once if it has.
    pub(crate) fn arm(&self, version: u64, callback: Callback) {
        {
            let mut state = self.lock();
            if state.version == version {
                state.armed = Some(callback);
                return;
            }
        }
        callback();
    }
}

impl InboundState {
    /// Whether the task must be woken: it has not been told since it looked last.
    pub(crate) fn schedule(&mut self) -> bool {
        !std::mem::replace(&mut self.scheduled, true)
    }

    /// Nothing is handed out from now on, so that nothing is kept.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for lane in &mut self.lanes {
            lane.clear();
        }
    }

    /// The task looks.
    pub(crate) fn begin_look(&mut self) {
        self.scheduled = false;
    }
}
