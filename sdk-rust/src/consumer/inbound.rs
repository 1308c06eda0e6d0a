//! What the connection's task and the caller of a consumer share: per partition, what was received and not taken, where a
//! new subscription would begin, and how many taken bytes the server may send anew.
//!
//! One lock, held for a few moves. Positions live with the caller: here is only what was told last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use levada_protocol::messages::{Position, PositionKind};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::share::{Progress, Share};
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

/// A partition, as the caller and as the server name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneKey {
    /// `stream/topic`.
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: u32,
    pub(crate) partition: u32,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct InboundLane {
    pub(crate) key: LaneKey,
    /// Whether it is read: partitions of a group's member come and go, and a lane keeps its place for when it comes again.
    pub(crate) active: bool,
    /// Counts how often it became active, so that what was taken in an earlier life is known.
    pub(crate) life: u64,
    /// Generation of the assignment, for a member of a group.
    pub(crate) assigned_in: u64,
    /// Bytes the server may send ahead.
    pub(crate) window_bytes: u64,
    /// How far a group's reader is.
    pub(crate) progress: Progress,
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
    pub(crate) fn new(key: LaneKey, start: Position, window_bytes: u64) -> InboundLane {
        InboundLane {
            key,
            active: true,
            life: 0,
            assigned_in: 0,
            window_bytes,
            progress: Progress::default(),
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
        }
    }

    /// Whether the caller is done with so much that the server should hear of it. In quarters, so that notices are few and
    /// the server's view is close.
    pub(crate) fn owes(&self) -> bool {
        self.window_bytes / 4 <= self.owed_bytes
    }

    /// Offset after the last message handed out, and the epoch there, once they are known.
    pub(crate) fn handed(&self) -> Option<(u64, Option<u32>)> {
        let offset = (self.start.kind == PositionKind::Offset).then_some(self.start.value);
        Some((self.progress.reached.or(offset)?, self.epoch))
    }

    /// Begins a new life as another assignment of the partition.
    pub(crate) fn activate(&mut self, start: Position, assigned_in: u64) {
        self.clear();
        (self.start, self.epoch, self.resolved, self.until) = (start, None, None, None);
        (self.restart, self.moved) = (false, false);
        (self.active, self.assigned_in, self.progress) = (true, assigned_in, Progress::default());
        self.life += 1;
    }

    /// Drops what was received: the partition is read no more.
    pub(crate) fn deactivate(&mut self) {
        self.clear();
        (self.active, self.restart, self.moved) = (false, false, false);
    }

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
        self.progress.seek();
        self.restart = true;
    }
}

/// See the module.
pub(crate) struct Inbound {
    state: Mutex<InboundState>,
    /// Tells whoever waits for a change of assignments.
    changed: Notify,
}

pub(crate) struct InboundState {
    pub(crate) lanes: Vec<InboundLane>,
    /// What a reader for a group shares besides.
    pub(crate) share: Option<Share>,
    /// Grows with everything a waiting caller may want to look at.
    pub(crate) version: u64,
    pub(crate) closed: bool,
    waker: Option<Waker>,
    armed: Option<Callback>,
    /// The task has been told to look and has not looked yet.
    scheduled: bool,
}

impl Inbound {
    pub(crate) fn new(lanes: Vec<InboundLane>, share: Option<Share>) -> Arc<Inbound> {
        let state =
            InboundState { lanes, share, version: 0, closed: false, waker: None, armed: None, scheduled: false };
        Arc::new(Inbound { state: Mutex::new(state), changed: Notify::new() })
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
            if state.share.as_mut().is_some_and(Share::has_news) || state.closed {
                self.changed.notify_waiters();
            }
            (state.waker.take(), state.armed.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(callback) = armed {
            callback();
        }
    }

    /// Ends with the next change of assignments, or the end.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
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
        if let Some(share) = &mut self.share {
            share.close();
        }
    }

    /// The task looks.
    pub(crate) fn begin_look(&mut self) {
        self.scheduled = false;
    }
}
