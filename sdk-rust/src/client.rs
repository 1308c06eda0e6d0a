//! The client: where everything else comes from. Holds two links to the server, one for producing and one for consuming and
//! control, and retries requests that may be repeated.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::messages::{Call, Ping, Reply as _, Role, Welcome};
use tokio::time::{Instant, timeout_at};

use crate::address::ServerAddress;
use crate::admin::Admin;
use crate::backoff::{Backoff, BackoffOptions};
use crate::consumer::{Consumer, ConsumerOptions, GroupConsumerOptions};
use crate::discovery::Surroundings;
use crate::environment::{Clock, Random};
use crate::error::{Error, Result};
use crate::link::{Link, LinkTerms};
use crate::options::ClientOptions;
use crate::producer::accumulator::Accumulator;
use crate::producer::{Producer, ProducerOptions, unsettled};

/// A connection to a server, shared by everything made from it. Cloning is cheap.
///
/// The client belongs to the tokio runtime it was connected on. A lost connection is repaired in the background.
///
/// ```no_run
/// # async fn example() -> levada::Result<()> {
/// use levada::{Client, ClientOptions, Credentials};
/// use std::time::Duration;
///
/// // Finds a server on this machine, or the one that the environment or the saved context names.
/// let local = Client::connect(ClientOptions::new()).await?;
///
/// let options = ClientOptions::new().server("levada+tls://example.org").credentials(Credentials::token("lvt_…"));
/// let remote = Client::connect(options).await?;
/// println!("{:?}", remote.server_info());
/// remote.close(Duration::from_secs(5)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    terms: Arc<LinkTerms>,
    control: Link,
    /// Dials when there is a producer. No handle of the runtime is kept to start it later: that would keep the runtime's
    /// descriptors for as long as somebody holds a closed client.
    produce: Link,
    clock: Arc<dyn Clock>,
    next_id: AtomicU64,
    producers: Mutex<BTreeMap<u64, Weak<Accumulator>>>,
    closed: AtomicBool,
    /// Batches that were unacknowledged when it was closed.
    left_batches: AtomicUsize,
}

/// What is known about the server and the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Version of the server.
    pub server_version: String,
    /// 16 bytes, one for each data directory's birth.
    pub cluster_id: Bytes,
    /// Number of the node.
    pub node_id: u32,
    /// Cores that serve.
    pub shard_count: u16,
    /// Largest payload of a message, in bytes.
    pub max_payload_bytes: u32,
    /// Largest batch, in bytes before compression.
    pub max_batch_bytes: u32,
    /// User the client speaks for; absent where the server asks for none.
    pub user: Option<String>,
    /// Role of that user.
    pub role: Option<Role>,
}

/// When a request that failed may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It only reads.
    Freely,
    /// Unless it may have taken effect.
    UnlessApplied,
}

impl Client {
    /// Connects and authenticates; fails after one attempt. Later losses are repaired in the background.
    ///
    /// # Errors
    /// `CONNECT_FAILED`, `TLS_FAILED`, errors of class auth, usage errors of the options, `CREDENTIALS_UNREADABLE`.
    pub async fn connect(options: impl Into<ClientOptions>) -> Result<Client> {
        let options = options.into();
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::usage("runtime", "Client::connect must be called within a tokio runtime"))?;
        options.check()?;
        let destination = Surroundings::of_process().resolve(options.wish())?;
        let mut tls = options.tls_options();
        tls.ca_file = tls.ca_file.or(destination.ca_file);
        let connector = options.environment.connector(&tls)?;
        let backoff = options.backoff_options();
        let terms = Arc::new(LinkTerms {
            address: destination.address,
            connector,
            random: options.environment.random,
            credentials: destination.credentials,
            connect_timeout: options.connect_timeout,
            request_timeout: options.request_timeout,
            backoff,
            client_name: options.client_name.unwrap_or_else(|| "levada-rust".to_owned()),
            epoch: Instant::now(),
            session: Mutex::default(),
        });
        let control = Link::start(Arc::clone(&terms), &runtime);
        control.connect().await?;
        let produce = Link::start(Arc::clone(&terms), &runtime);
        Ok(Client {
            inner: Arc::new(Inner {
                terms,
                control,
                produce,
                clock: options.environment.clock,
                next_id: AtomicU64::new(1),
                producers: Mutex::default(),
                closed: AtomicBool::new(false),
                left_batches: AtomicUsize::new(0),
            }),
        })
    }

    /// The managing side.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// A producer to `stream/topic`.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PERMISSION_DENIED`, usage errors of the options.
    pub async fn producer(&self, topic: &str, options: ProducerOptions) -> Result<Producer> {
        Producer::open(self, topic, options).await
    }

    /// A consumer.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`, `PERMISSION_DENIED`, usage errors of the options.
    pub async fn consumer(&self, options: ConsumerOptions) -> Result<Consumer> {
        Consumer::open(self, options).await
    }

    /// A consumer that is a member of a group and reads its share of the group's topics.
    ///
    /// ```no_run
    /// # async fn example(client: levada::Client) -> levada::Result<()> {
    /// use levada::{GroupConsumerOptions, Position};
    /// use std::time::Duration;
    ///
    /// let options = GroupConsumerOptions::new("billing", ["shop/*"]).from(Position::EARLIEST);
    /// let consumer = client.group_consumer(options).await?;
    /// while let Some(message) = consumer.receive().await? {
    ///     println!("{}:{} {}", message.topic, message.partition, message.offset);
    /// }
    /// consumer.close(Duration::from_secs(5)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `TOO_MANY_MEMBERS`, `GROUP_UNAVAILABLE`, `PERMISSION_DENIED`, `UNSUPPORTED` by a server older than groups, usage errors
    /// of the options.
    pub async fn group_consumer(&self, options: GroupConsumerOptions) -> Result<Consumer> {
        Consumer::open_group(self, options).await
    }

    /// What the server told at the last handshake.
    pub fn server_info(&self) -> Option<ServerInfo> {
        let session = self.inner.terms.session();
        let welcome = session.welcome?;
        Some(ServerInfo {
            server_version: welcome.server_version.clone(),
            cluster_id: welcome.cluster_id.clone(),
            node_id: welcome.node_id,
            shard_count: welcome.shard_count,
            max_payload_bytes: welcome.max_payload_bytes,
            max_batch_bytes: welcome.max_batch_bytes,
            user: session.authenticated.as_ref().map(|granted| granted.user.clone()),
            role: session.authenticated.as_ref().map(|granted| granted.role),
        })
    }

    /// The address the client is connected to.
    pub fn server_address(&self) -> &ServerAddress {
        &self.inner.terms.address
    }

    /// Asks for a sign of life and returns how long it took.
    ///
    /// # Errors
    /// Those of any request.
    pub async fn ping(&self) -> Result<Duration> {
        let asked = Instant::now();
        self.call(Ping {}, Repeat::Freely).await?;
        Ok(asked.elapsed())
    }

    /// Lets every producer settle what it has taken, then ends everything made from this client.
    ///
    /// # Errors
    /// `CLIENT_TIMEOUT` if something was still unacknowledged then; the client is closed all the same, and the deliveries of
    /// those messages fail with `CLOSED`.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        self.inner.closed.store(true, Ordering::Release);
        let producers: Vec<Arc<Accumulator>> = self.producers().values().filter_map(Weak::upgrade).collect();
        for producer in &producers {
            if producer.begin_close() {
                self.inner.produce.wake(producer.id());
            }
        }
        let mut outcome = Ok(());
        for producer in &producers {
            let settled = match timeout_at(deadline, producer.flushed(u64::MAX)).await {
                Ok(settled) => settled,
                Err(_) => Err(unsettled(producer.unsettled_count())),
            };
            outcome = outcome.and(settled);
        }
        self.inner.left_batches.fetch_add(self.unsettled_batches(), Ordering::Relaxed);
        for link in [&self.inner.produce, &self.inner.control] {
            link.close();
            // The task ends after it has told its residents; it does not wait for the network.
            link.closed().await;
        }
        outcome
    }

    /// Batches that its close left unacknowledged.
    pub fn left_batches(&self) -> usize {
        self.inner.left_batches.load(Ordering::Relaxed)
    }

    /// Batches of its producers that are not settled.
    fn unsettled_batches(&self) -> usize {
        self.producers().values().filter_map(Weak::upgrade).map(|producer| producer.unsettled_count()).sum()
    }

    // ------------------------------------------------------------ for the rest of the crate

    /// Sends a request and waits for its reply, again and again until the request timeout where that is harmless.
    pub(crate) async fn call<C: Call + Clone + Send + 'static>(&self, call: C, repeat: Repeat) -> Result<C::Reply> {
        let terms = &self.inner.terms;
        let deadline = Instant::now() + terms.request_timeout;
        let mut backoff = Backoff::new(terms.backoff);
        let mut refusal: Option<Error> = None;
        loop {
            let error = match timeout_at(deadline, self.inner.control.call(call.clone())).await {
                Ok(Ok((frame, _))) => {
                    return C::Reply::from_frame(frame).map_err(|frame| {
                        Error::new(
                            ErrorCode::BadFrame,
                            format!("the server answered with another request's reply: {frame:?}"),
                        )
                        .with_maybe_applied(true)
                    });
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    let before = refusal.map(|error| format!("; the attempt before it: {error}")).unwrap_or_default();
                    let text = format!("no answer within {:?}{before}", terms.request_timeout);
                    return Err(
                        Error::new(ErrorCode::ClientTimeout, text).with_maybe_applied(repeat == Repeat::UnlessApplied)
                    );
                }
            };
            let is_harmless = repeat == Repeat::Freely || !error.maybe_applied();
            if !error.is_retriable() || !is_harmless {
                return Err(error);
            }
            let wait_ms = backoff.next_ms(terms.random.next_u64()).max(u64::from(error.retry_after_ms()));
            let next = Instant::now() + Duration::from_millis(wait_ms);
            if deadline <= next {
                return Err(error);
            }
            tokio::time::sleep_until(next).await;
            refusal = Some(error);
        }
    }

    fn producers(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Weak<Accumulator>>> {
        self.inner.producers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn remember(&self, accumulator: &Arc<Accumulator>) {
        let mut producers = self.producers();
        producers.retain(|_, known| known.strong_count() != 0);
        producers.insert(accumulator.id(), Arc::downgrade(accumulator));
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.inner.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn control(&self) -> Link {
        self.inner.control.clone()
    }

    pub(crate) fn produce_link(&self) -> Link {
        self.inner.produce.clone()
    }

    pub(crate) fn terms(&self) -> Arc<LinkTerms> {
        Arc::clone(&self.inner.terms)
    }

    pub(crate) fn welcome(&self) -> Option<Box<Welcome>> {
        self.inner.terms.session().welcome
    }

    pub(crate) fn backoff(&self) -> BackoffOptions {
        self.inner.terms.backoff
    }

    pub(crate) fn random(&self) -> Arc<dyn Random> {
        Arc::clone(&self.inner.terms.random)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.inner.clock)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.inner.terms.address).finish_non_exhaustive()
    }
}
