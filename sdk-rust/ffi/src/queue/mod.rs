//! The completion queue: where outcomes wait for the thread that asked for them. One per asyncio loop, Node environment, JVM
//! or C caller.
//!
//! What must hold whoever is interrupted where is in `core`, which loom explores (`tests/loom.rs`); here are the ways to be
//! woken: a callback, a descriptor, a parked thread.

mod core;
mod sync;

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, PoisonError};
use std::time::Duration;

use levada::{BatchReceipt, Result};

use crate::operation::Output;
use crate::process::{self, Handle, Kind};
use core::{Core, Wake};

/// Something a caller asked to hear of.
#[derive(Debug)]
pub enum Event {
    /// An operation has ended.
    Done {
        /// The caller's word for it.
        token: u64,
        /// How.
        outcome: Result<Output>,
    },
    /// A batch of messages of `Producer::try_send` is settled.
    Acked {
        /// [`Producer::id`](crate::Producer::id) of the producer.
        producer: u64,
        /// The receipt of the batch, or why there is none.
        outcome: Result<BatchReceipt>,
        /// One token for each message of the batch, in order: message `i` has offset `base_offset + i`.
        tokens: Vec<u64>,
    },
    /// An armed consumer has something: messages, an error or the end.
    Ready {
        /// The caller's word for it.
        token: u64,
    },
}

/// Events of one loop. Cloning is cheap.
#[derive(Clone)]
pub struct Queue {
    inner: Handle<Inner>,
}

struct Inner {
    core: Core<Event>,
    arrived: Condvar,
    descriptor: Option<RawFd>,
}

impl Queue {
    /// A queue that calls `wake` when an event lands while it is empty: from any thread; it must not block, nor use the queue.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Queue {
        Queue::made(Box::new(wake), None)
    }

    /// A queue with a descriptor that is readable while events wait: non-blocking, close-on-exec, owned by the queue.
    ///
    /// # Errors
    /// Those of `eventfd`.
    pub fn with_fd() -> io::Result<Queue> {
        let descriptor = descriptor::open()?;
        Ok(Queue::made(Box::new(move || descriptor::raise(descriptor)), Some(descriptor)))
    }

    fn made(wake: Wake, descriptor: Option<RawFd>) -> Queue {
        process::watch_forks();
        let inner = Inner { core: Core::new(wake), arrived: Condvar::new(), descriptor };
        Queue { inner: Handle::new(Kind::Queue, Arc::new(inner)) }
    }

    /// The descriptor of [`Queue::with_fd`].
    pub fn fd(&self) -> Option<RawFd> {
        self.inner.get().ok()?.descriptor
    }

    pub(crate) fn push(&self, event: Event) {
        let Ok(inner) = self.inner.get() else { return };
        if inner.core.push(event) {
            inner.arrived.notify_all();
            inner.core.wake();
        }
    }

    /// The oldest events, at most `max`, without waiting. A caller that was woken drains until nothing comes.
    pub fn drain(&self, max: usize) -> Vec<Event> {
        self.inner.get().map_or_else(|_| Vec::new(), |inner| inner.core.take(max, || inner.lower()))
    }

    /// The oldest events, at most `max`; waits for the first, until `timeout` if there is one. Empty after that, or once the
    /// queue is closed.
    pub fn poll(&self, max: usize, timeout: Option<Duration>) -> Vec<Event> {
        let Ok(inner) = self.inner.get() else { return Vec::new() };
        let state = inner.core.lock();
        let waited = match timeout {
            None => inner.arrived.wait_while(state, |state| state.is_idle()),
            Some(timeout) => match inner.arrived.wait_timeout_while(state, timeout, |state| state.is_idle()) {
                Ok((state, _)) => Ok(state),
                Err(poisoned) => Ok(poisoned.into_inner().0),
            },
        };
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        inner.core.take(max, || inner.lower())
    }

    /// Drops what waits and takes no more; no wake is given afterwards.
    pub fn close(&self) {
        if let Ok(inner) = self.inner.get() {
            // Outcomes may own handles, whose drop must not run under the lock.
            drop(inner.core.close());
            inner.arrived.notify_all();
        }
    }
}

impl Inner {
    fn lower(&self) {
        if let Some(descriptor) = self.descriptor {
            descriptor::lower(descriptor);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor {
            descriptor::close(descriptor);
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// An eventfd.
#[expect(unsafe_code, reason = "the standard library has no eventfd")]
mod descriptor {
    use std::io;
    use std::os::fd::RawFd;

    pub(super) fn open() -> io::Result<RawFd> {
        // SAFETY: no pointers; the result is checked.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 { Err(io::Error::last_os_error()) } else { Ok(descriptor) }
    }

    pub(super) fn raise(descriptor: RawFd) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes; the queue that calls this owns the descriptor and is alive. Only a full counter
        // fails, and then it is readable anyway.
        let _ = unsafe { libc::write(descriptor, one.as_ptr().cast(), one.len()) };
    }

    pub(super) fn lower(descriptor: RawFd) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes; as above. Failing means that it was not raised.
        let _ = unsafe { libc::read(descriptor, count.as_mut_ptr().cast(), count.len()) };
    }

    pub(super) fn close(descriptor: RawFd) {
        // SAFETY: the queue owns the descriptor and is being dropped, so nobody uses it again.
        let _ = unsafe { libc::close(descriptor) };
    }
}
