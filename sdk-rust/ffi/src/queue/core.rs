//! Events, whether the queue is closed, and the wake: what must hold whoever is interrupted where.
//!
//! Invariants: whenever events wait, a wake has been given, or is about to be by the thread that put the first of them there;
//! after `close` has returned no wake is given and no event is kept. Waking has a lock of its own, so that `close` waits for
//! one under way and nobody waits for a wake to take an event.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::sync::{Mutex, MutexGuard};

pub(super) type Wake = Box<dyn Fn() + Send + Sync>;

pub(super) struct Core<E> {
    state: Mutex<State<E>>,
    wake: Mutex<Option<Wake>>,
}

pub(super) struct State<E> {
    events: VecDeque<E>,
    closed: bool,
}

impl<E> State<E> {
    /// Whether a thread that wants events must wait.
    pub(super) fn is_idle(&self) -> bool {
        self.events.is_empty() && !self.closed
    }
}

impl<E> Core<E> {
    pub(super) fn new(wake: Wake) -> Core<E> {
        let state = State { events: VecDeque::new(), closed: false };
        Core { state: Mutex::new(state), wake: Mutex::new(Some(wake)) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<E>> {
        // Whole between any two statements, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event; whether the caller must give a wake now.
    pub(super) fn push(&self, event: E) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.events.push_back(event);
        state.events.len() == 1
    }

    pub(super) fn wake(&self) {
        if let Some(wake) = &*self.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
    }

    /// The oldest events; `emptied` runs under the lock if none are left, so that whoever adds the next one wakes after it.
    pub(super) fn take(&self, max: usize, emptied: impl FnOnce()) -> Vec<E> {
        let mut state = self.lock();
        let count = max.min(state.events.len());
        let taken = state.events.drain(..count).collect();
        if state.events.is_empty() {
            emptied();
        }
        taken
    }

    /// Refuses events from now on and gives those that waited; waits for a wake under way.
    pub(super) fn close(&self) -> VecDeque<E> {
        let dropped = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.events)
        };
        self.wake.lock().unwrap_or_else(PoisonError::into_inner).take();
        dropped
    }
}
