//! What a process has once: the runtime, the table of live handles, and knowledge of having been forked.
//!
//! All of it hangs from one atomic pointer. A child of `fork` has none of its parent's threads, and locks may be held by
//! threads that are gone: so a handle remembers how many forks its process had seen, compares that before it touches any
//! lock, and answers `FORKED` in a child; dropping it there does nothing. The child's first client makes a new state and
//! leaks the old one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use levada::{Error, ErrorCode, Result, Value};
use tokio::runtime::Runtime;

use crate::client;

/// Forks this process is away from the one that loaded the library.
static FORKS: AtomicU32 = AtomicU32::new(0);
static STATE: AtomicPtr<State> = AtomicPtr::new(std::ptr::null_mut());

/// How long tasks may take to end when the last client closes.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);
/// Threads of the runtime: one for each of the two connections of a client.
const WORKER_THREADS: usize = 2;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Client,
    Producer,
    Consumer,
    Operation,
    Queue,
}

const KIND_COUNT: usize = 5;

struct State {
    forks: u32,
    live: [AtomicUsize; KIND_COUNT],
    next_client: AtomicU64,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    runtime: Option<Runtime>,
    lease_count: usize,
    clients: BTreeMap<u64, Weak<client::Inner>>,
}

/// Begins to count forks. Called before the first handle is made.
#[expect(unsafe_code, reason = "the standard library does not tell of forks")]
pub(crate) fn watch_forks() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::SeqCst);
    }
    if !WATCHED.swap(true, Ordering::SeqCst) {
        // SAFETY: the handler does nothing but an atomic addition, and the library is never unloaded (linked nodelete).
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
}

/// How many forks this process is away from the one that loaded the library.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// The state of this process; a child of `fork` gets a fresh one.
#[expect(unsafe_code, reason = "a reference to a leaked allocation, from an atomic pointer")]
fn state() -> &'static State {
    loop {
        let known = STATE.load(Ordering::Acquire);
        // SAFETY: the pointer is null or came from `Box::into_raw` below and is never freed.
        if let Some(state) = unsafe { known.as_ref() }
            && state.forks == forks()
        {
            return state;
        }
        let fresh = Box::into_raw(Box::new(State {
            forks: forks(),
            live: [const { AtomicUsize::new(0) }; KIND_COUNT],
            next_client: AtomicU64::new(1),
            shared: Mutex::default(),
        }));
        if STATE.compare_exchange(known, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: nobody else has seen it.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

impl State {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A shared thing that belongs to the process it was made in.
pub(crate) struct Handle<T> {
    forks: u32,
    inner: ManuallyDrop<Arc<Counted<T>>>,
}

struct Counted<T> {
    kind: Kind,
    value: Arc<T>,
}

impl<T> Handle<T> {
    pub(crate) fn new(kind: Kind, value: Arc<T>) -> Handle<T> {
        state().live[kind as usize].fetch_add(1, Ordering::Relaxed);
        Handle { forks: forks(), inner: ManuallyDrop::new(Arc::new(Counted { kind, value })) }
    }

    /// The thing; `FORKED` in a child of the process that made it.
    pub(crate) fn get(&self) -> Result<&Arc<T>> {
        if self.forks == forks() { Ok(&self.inner.value) } else { Err(forked()) }
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Handle { forks: self.forks, inner: ManuallyDrop::new(Arc::clone(&self.inner)) }
    }
}

impl<T> Drop for Handle<T> {
    #[expect(unsafe_code, reason = "a child of fork must leak what its parent's threads may hold locks of")]
    fn drop(&mut self) {
        if self.forks == forks() {
            // SAFETY: dropped once, here; nothing uses the handle afterwards.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        state().live[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

fn forked() -> Error {
    let text = "this handle was made before fork() and belongs to the parent process; connect anew in the child";
    Error::new(ErrorCode::Forked, text)
}

/// Whether this process is a child, by fork, of the one that loaded the library.
pub fn is_inherited() -> bool {
    forks() != 0
}

/// A client's share of the runtime, which ends with the last of them.
pub(crate) struct Lease {
    forks: u32,
    handle: tokio::runtime::Handle,
}

impl Lease {
    /// Takes a share, and starts the runtime if it is the first.
    pub(crate) fn take() -> Result<Lease> {
        watch_forks();
        let state = state();
        let mut shared = state.shared();
        let handle = match &shared.runtime {
            Some(runtime) => runtime.handle().clone(),
            None => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(WORKER_THREADS)
                    .thread_name("levada")
                    .enable_all()
                    .build()
                    .map_err(|error| {
                        Error::new(ErrorCode::ClientInternal, format!("threads could not be started: {error}"))
                    })?;
                shared.runtime.insert(runtime).handle().clone()
            }
        };
        shared.lease_count += 1;
        Ok(Lease { forks: state.forks, handle })
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.handle
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.forks != forks() {
            return;
        }
        let last = {
            let mut shared = state().shared();
            shared.lease_count -= 1;
            if shared.lease_count == 0 { shared.runtime.take() } else { None }
        };
        if let Some(runtime) = last {
            // A runtime must not be shut down from one of its own threads.
            let ending = std::thread::Builder::new().name("levada-close".to_owned());
            let runtime = Arc::new(Mutex::new(Some(runtime)));
            let mine = Arc::clone(&runtime);
            let take = |runtime: &Mutex<Option<Runtime>>| runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
            let started = ending.spawn(move || {
                if let Some(runtime) = take(&mine) {
                    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
                }
            });
            if started.is_err()
                && let Some(runtime) = take(&runtime)
            {
                runtime.shutdown_background();
            }
        }
    }
}

/// Enters a client in the table of those [`close_all`] closes, and gives it a number.
pub(crate) fn register(client: &Arc<client::Inner>) -> u64 {
    let state = state();
    let id = state.next_client.fetch_add(1, Ordering::Relaxed);
    state.shared().clients.insert(id, Arc::downgrade(client));
    id
}

pub(crate) fn unregister(id: u64) {
    state().shared().clients.remove(&id);
}

/// Closes every client that is still open, for the end of a process; gives the number of batches left unacknowledged.
pub fn close_all(timeout: Duration) -> usize {
    let clients: Vec<_> = state().shared().clients.values().filter_map(Weak::upgrade).collect();
    clients.iter().map(|client| client.close_blocking(timeout)).sum()
}

/// Live handles of this process: `{clients, producers, consumers, operations, queues}`.
pub fn stats() -> Value {
    let state = state();
    let count = |kind: Kind| Value::U64(state.live[kind as usize].load(Ordering::Relaxed) as u64);
    let named = |name: &'static str, kind| (Cow::Borrowed(name), count(kind));
    Value::Record(vec![
        named("clients", Kind::Client),
        named("producers", Kind::Producer),
        named("consumers", Kind::Consumer),
        named("operations", Kind::Operation),
        named("queues", Kind::Queue),
    ])
}
