//! The adapter's life: commands under way, handles by name, cancel, reset and shutdown.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use levada::{Client, Consumer, Delivery, Producer};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::calls;
use crate::defects::Defect;

/// How long clients may take to close at a reset.
const RESET: Duration = Duration::from_secs(2);

/// What a name stands for.
#[derive(Clone)]
pub(crate) enum Handle {
    Client(Client),
    Producer(Arc<Producer>),
    Consumer(Arc<Consumer>),
    Delivery(Delivery),
}

/// What came of a command, as the keys beside its id.
pub(crate) enum Reply {
    Ok(Value),
    Err(Value),
    Cancelled,
    AdapterError(String),
}

/// A call under way.
pub(crate) type Call = Pin<Box<dyn Future<Output = Reply> + Send>>;

struct Running {
    cancel: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

pub(crate) struct Session {
    pub(crate) defect: Option<Defect>,
    handles: Mutex<BTreeMap<String, Handle>>,
    running: Mutex<BTreeMap<String, Running>>,
    /// Messages told so far, for the defect that leaves some out.
    pub(crate) told: AtomicU64,
    /// Connections that a defect keeps.
    pub(crate) kept: Mutex<Vec<Client>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(crate) fn new(defect: Option<Defect>) -> Session {
        Session {
            defect,
            handles: Mutex::default(),
            running: Mutex::default(),
            told: AtomicU64::new(0),
            kept: Mutex::default(),
            one_at_a_time: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    pub(crate) fn handle(&self, name: &str) -> Option<Handle> {
        lock(&self.handles).get(name).cloned()
    }

    pub(crate) fn keep(&self, name: &str, handle: Handle) {
        lock(&self.handles).insert(name.to_owned(), handle);
    }

    /// Whether this message of all that are received may be told.
    pub(crate) fn tells_next(&self) -> bool {
        let count = self.told.fetch_add(1, Ordering::Relaxed) + 1;
        !(self.has(Defect::DropSeventh) && count.is_multiple_of(7))
    }

    /// Takes a command; false after `shutdown`.
    pub(crate) async fn take(self: &Arc<Self>, command: Value) -> bool {
        let id = command["id"].as_str().unwrap_or_default().to_owned();
        match command["op"].as_str().unwrap_or_default() {
            "hello" => say(&id, Reply::Ok(hello())),
            "stats" => say(&id, Reply::Ok(self.stats())),
            "cancel" => {
                let target = command["args"]["target"].as_str().unwrap_or_default();
                let cancel = lock(&self.running).get_mut(target).and_then(|running| running.cancel.take());
                say(&id, Reply::Ok(json!({})));
                if let Some(cancel) = cancel {
                    // It may have ended just now.
                    let _ = cancel.send(());
                }
            }
            "reset" => {
                self.reset().await;
                say(&id, Reply::Ok(json!({})));
            }
            "shutdown" => {
                self.reset().await;
                say(&id, Reply::Ok(json!({})));
                if self.has(Defect::HangOnExit) {
                    std::future::pending::<()>().await;
                }
                return false;
            }
            _ => self.start(id, command),
        }
        true
    }

    fn start(self: &Arc<Self>, id: String, command: Value) {
        let (cancel, cancelled) = oneshot::channel();
        let session = Arc::clone(self);
        let task_id = id.clone();
        // The entry is there before the task can take it away.
        let mut running = lock(&self.running);
        let task = tokio::spawn(async move {
            let reply = session.run(&task_id, &command, cancelled).await;
            lock(&session.running).remove(&task_id);
            say(&task_id, reply);
        });
        running.insert(id, Running { cancel: Some(cancel), task });
    }

    async fn run(self: &Arc<Self>, id: &str, command: &Value, mut cancelled: oneshot::Receiver<()>) -> Reply {
        let _turn = match self.has(Defect::OneAtATime) {
            true => Some(self.one_at_a_time.lock().await),
            false => None,
        };
        let mut call = match calls::begin(self, command) {
            Ok(call) => call,
            Err(reply) => return reply,
        };
        // Rust's futures are lazy: the first poll submits the call.
        let first = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        if command["announce"] == true {
            emit(&json!({"id": id, "started": true}));
        }
        if let Poll::Ready(reply) = first {
            return reply;
        }
        tokio::select! {
            biased;
            reply = &mut call => reply,
            Ok(()) = &mut cancelled => {
                if self.has(Defect::LoseOnCancel) {
                    tokio::spawn(call);
                }
                Reply::Cancelled
            }
        }
    }

    fn stats(&self) -> Value {
        let handles = lock(&self.handles);
        let count = |is: fn(&Handle) -> bool| handles.values().filter(|handle| is(handle)).count();
        json!({
            "handles": {
                "clients": count(|handle| matches!(handle, Handle::Client(_))),
                "producers": count(|handle| matches!(handle, Handle::Producer(_))),
                "consumers": count(|handle| matches!(handle, Handle::Consumer(_))),
                "deliveries": count(|handle| matches!(handle, Handle::Delivery(_))),
            },
            "in_flight": lock(&self.running).len(),
        })
    }

    /// Gives up what is under way, closes every handle, forgets all names.
    pub(crate) async fn reset(&self) {
        let running = std::mem::take(&mut *lock(&self.running));
        for running in running.into_values() {
            if let Some(cancel) = running.cancel {
                let _ = cancel.send(());
            }
            // A panic of a call has been told on standard error.
            let _ = running.task.await;
        }
        let handles = std::mem::take(&mut *lock(&self.handles));
        let (clients, rest): (Vec<Handle>, Vec<Handle>) =
            handles.into_values().partition(|handle| matches!(handle, Handle::Client(_)));
        for handle in rest {
            match handle {
                Handle::Consumer(consumer) => drop(consumer.close(RESET).await),
                // Closing the client settles them.
                Handle::Producer(_) | Handle::Delivery(_) | Handle::Client(_) => {}
            }
        }
        for client in clients {
            let Handle::Client(client) = client else { continue };
            if self.has(Defect::LeakConnection) {
                lock(&self.kept).push(client);
            } else {
                // What it says was the case's to hear.
                let _ = client.close(RESET).await;
            }
        }
    }
}

fn hello() -> Value {
    json!({
        "adapter_protocol": [1], "client": "levada-rust", "client_version": env!("CARGO_PKG_VERSION"), "language": "rust",
        "runtime": "tokio", "api": "", "wire_versions": [1, 2], "pid": std::process::id(),
        "features": [
            "core", "admin", "lifecycle", "names", "sequences", "users", "access", "produce", "enqueue", "send_batch", "consume", "seek", "pause", "groups", "cancel",
            "lz4", "zstd", "idempotent", "reconnect", "password", "tls", "discovery", "retry",
        ],
    })
}

fn say(id: &str, reply: Reply) {
    let (key, value) = match reply {
        Reply::Ok(ok) => ("ok", ok),
        Reply::Err(error) => ("err", error),
        Reply::Cancelled => ("cancelled", true.into()),
        Reply::AdapterError(text) => ("adapter_error", text.into()),
    };
    emit(&json!({"id": id, key: value}));
}

/// One line, written whole.
fn emit(line: &Value) {
    let mut text = line.to_string();
    text.push('\n');
    let mut out = std::io::stdout().lock();
    // Without a runner there is nobody to tell.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
