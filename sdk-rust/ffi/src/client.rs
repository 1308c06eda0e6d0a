//! A connected client, and its share of the process's runtime.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use levada::{
    ClientOptions, ConsumerOptions, Error, ErrorCode, GroupConsumerOptions, Named, ProducerOptions, Result, Value,
};

use crate::consumer::Consumer;
use crate::generated::calls;
use crate::into_value::IntoValue as _;
use crate::operation::{Operation, Output, Progress, To};
use crate::process::{self, Handle, Kind, Lease};
use crate::producer::Producer;
use crate::queue::Queue;

/// A connected client. Cloning is cheap. Producers and consumers keep it alive until it is closed.
#[derive(Clone)]
pub struct Client {
    inner: Handle<Inner>,
}

pub(crate) struct Inner {
    /// Gone once closed, whoever holds the client still: a language that collects garbage may hold it for long.
    open: Mutex<Option<Open>>,
    id: OnceLock<u64>,
}

/// What an open client has.
struct Open {
    client: levada::Client,
    lease: Lease,
}

impl Client {
    /// Connects and authenticates: `Output::Client`. `language` names the binding to the server, unless an option does.
    pub fn connect(options: Named, language: &'static str, to: To) -> Operation {
        let options = match ClientOptions::from_values(options) {
            Ok(options) => options.default_client_name(language),
            Err(error) => return Operation::settled(to, Err(error)),
        };
        let lease = match Lease::take() {
            Ok(lease) => lease,
            Err(error) => return Operation::settled(to, Err(error)),
        };
        let runtime = lease.runtime().clone();
        Operation::spawn(&runtime, to, move |_| async move {
            let client = levada::Client::connect(options).await?;
            let inner = Arc::new(Inner { open: Mutex::new(Some(Open { client, lease })), id: OnceLock::new() });
            let _ = inner.id.set(process::register(&inner));
            Ok(Output::Client(Client { inner: Handle::new(Kind::Client, inner) }))
        })
    }

    fn start<F>(&self, to: To, work: impl FnOnce(Arc<Inner>, Progress) -> F) -> Operation
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        match self.inner.get().and_then(|inner| Ok((inner, inner.runtime()?))) {
            Ok((inner, runtime)) => Operation::spawn(&runtime, to, |progress| work(Arc::clone(inner), progress)),
            Err(error) => Operation::settled(to, Err(error)),
        }
    }

    /// A control call by its name in api.toml, or `ping`, which gives microseconds: `Output::Value` or `Output::Nothing`.
    pub fn call(&self, operation: &str, arguments: Named, to: To) -> Operation {
        let operation = operation.to_owned();
        self.start(to, |inner, progress| async move {
            if calls::effect(&operation) == Some(calls::Effect::Change) {
                progress.may_apply();
            }
            calls::call(&inner.core()?, &operation, arguments).await.map(|value| match value {
                Value::Null => Output::Nothing,
                value => Output::Value(value),
            })
        })
    }

    /// What the server told at the last handshake: a record, or null.
    ///
    /// # Errors
    /// `CLOSED`; `FORKED`.
    pub fn server_info(&self) -> Result<Value> {
        Ok(self.inner.get()?.core()?.server_info().map_or(Value::Null, |info| info.into_value()))
    }

    /// A producer: `Output::Producer`. Completions of its `try_send` go to `acks`.
    pub fn producer(&self, topic: &str, options: Named, acks: Option<Queue>, to: To) -> Operation {
        let topic = topic.to_owned();
        self.start(to, |inner, _| async move {
            let options = ProducerOptions::from_values(options)?;
            Producer::open(inner, &topic, options, acks).await.map(Output::Producer)
        })
    }

    /// A consumer: `Output::Consumer`.
    pub fn consumer(&self, topic: &str, options: Named, to: To) -> Operation {
        let topic = topic.to_owned();
        self.start(to, |inner, _| async move {
            let options = ConsumerOptions::from_values(topic, options)?;
            Consumer::open(inner, options).await.map(Output::Consumer)
        })
    }

    /// A consumer that is a member of a group: `Output::Consumer`.
    pub fn group_consumer(&self, group: &str, topics: Vec<String>, options: Named, to: To) -> Operation {
        let group = group.to_owned();
        self.start(to, |inner, progress| async move {
            let options = GroupConsumerOptions::from_values(group, topics, options)?;
            progress.may_apply();
            Consumer::open_group(inner, options).await.map(Output::Consumer)
        })
    }

    /// Lets every producer settle what it has taken, then ends everything made from this client. Closing again does nothing.
    /// `CLIENT_TIMEOUT` says that something was unacknowledged then; the client is closed all the same.
    pub fn close(&self, timeout: Duration, to: To) -> Operation {
        let inner = match self.inner.get() {
            Ok(inner) => inner,
            // What was inherited over fork is the parent's to close.
            Err(_) => return Operation::settled(to, Ok(Output::Nothing)),
        };
        match inner.runtime() {
            Ok(runtime) => {
                let inner = Arc::clone(inner);
                Operation::spawn(&runtime, to, |_| async move { inner.close(timeout).await.map(|()| Output::Nothing) })
            }
            Err(_) => Operation::settled(to, Ok(Output::Nothing)),
        }
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part<T>(&self, part: impl FnOnce(&Open) -> T) -> Result<T> {
        self.open().as_ref().map(part).ok_or_else(|| Error::new(ErrorCode::Closed, "the client is closed"))
    }

    /// The client of the core; `CLOSED` once closed.
    pub(crate) fn core(&self) -> Result<levada::Client> {
        self.part(|open| open.client.clone())
    }

    /// The runtime; `CLOSED` once closed.
    pub(crate) fn runtime(&self) -> Result<tokio::runtime::Handle> {
        self.part(|open| open.lease.runtime().clone())
    }

    async fn close(&self, timeout: Duration) -> Result<()> {
        // Closed by another call meanwhile.
        let Ok(client) = self.core() else { return Ok(()) };
        let outcome = client.close(timeout).await;
        if let Some(id) = self.id.get() {
            process::unregister(*id);
        }
        let open = self.open().take();
        // The last lease ends the runtime, from a thread of its own.
        drop(open);
        outcome
    }

    /// Closes from a thread that is not the runtime's; gives the number of batches left unacknowledged.
    pub(crate) fn close_blocking(&self, timeout: Duration) -> usize {
        let Ok((client, runtime)) = self.part(|open| (open.client.clone(), open.lease.runtime().clone())) else {
            return 0;
        };
        // The count below says what the error would.
        let _ = runtime.block_on(self.close(timeout));
        client.left_batches()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            process::unregister(*id);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
