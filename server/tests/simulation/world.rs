//! One simulated machine: a server with two shards on a disk that can lose power, and clients of the real client library on
//! a network that misbehaves. A run is a function of its seed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use levada::{BackoffOptions, Client, ClientOptions, Connector, Credentials, Durability, Environment};
use levada_server::auth::TokenSecret;
use levada_server::config::{Config, Defects, Machine, PasswordCost, Settings};
use levada_server::env::Env;
use levada_server::metadata::event::{ClusterBorn, TokenCreated, UserCreated};
use levada_server::metadata::{Layout, MetadataStore, Role};
use levada_server::server::Server;
use levada_storage::crash::{CrashDisk, CrashOptions};
use levada_storage::{Storage, StorageLimits};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};

use crate::history::History;
use crate::net::Net;
use crate::platform::{PrivateFiles, SimClock, SimRandom, environment};
use crate::random::Seeded;
use crate::trace::Trace;

/// Space of the simulated disk while it is not short.
pub(crate) const CAPACITY_BYTES: u64 = 256 << 20;

/// A topic that clients write to and read from, and what they saw.
pub(crate) struct Feed {
    pub(crate) topic: &'static str,
    pub(crate) durability: Durability,
    /// Whether it drops messages by id; its producers then send whatever they are unsure of again, as other producers.
    pub(crate) drops_duplicates: bool,
    pub(crate) history: RefCell<History>,
    /// How often a consumer was told that the log had lost what it had read.
    pub(crate) truncated_count: Cell<u64>,
}

impl Feed {
    fn new(topic: &'static str, durability: Durability, drops_duplicates: bool) -> Rc<Self> {
        Rc::new(Self {
            topic,
            durability,
            drops_duplicates,
            history: RefCell::default(),
            truncated_count: Cell::new(0),
        })
    }
}

/// A life of the server.
struct Life {
    task: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Life {
    /// What resolves when the server has stopped.
    fn order_to_stop(&mut self) -> oneshot::Receiver<()> {
        drop(self.stop.take());
        self.ended.take().unwrap_or_else(|| oneshot::channel().1)
    }
}

pub(crate) struct World {
    pub(crate) random: RefCell<Seeded>,
    pub(crate) trace: Trace,
    pub(crate) net: Net,
    pub(crate) feeds: [Rc<Feed>; 3],
    pub(crate) defects: Defects,
    disk: RefCell<CrashDisk>,
    files: PrivateFiles,
    life: RefCell<Option<Life>>,
    fatal: mpsc::UnboundedSender<()>,
    clock: SimClock,
    next_session: RefCell<u64>,
}

impl World {
    /// A world without a server yet. The receiver is told of fatal disk errors.
    pub(crate) fn new(seed: u64, defects: Defects) -> (Rc<Self>, mpsc::UnboundedReceiver<()>) {
        let mut random = Seeded::new(seed);
        let trace = Trace::new();
        let options =
            CrashOptions { capacity_bytes: CAPACITY_BYTES, min_delay: Duration::ZERO, max_delay: random.millis(0..6) };
        let (fatal, told) = mpsc::unbounded_channel();
        let world = Self {
            net: Net::new(random.fork(), trace.clone()),
            disk: RefCell::new(CrashDisk::new(random.next(), options)),
            feeds: [
                Feed::new("sim/events", Durability::Disk, false),
                Feed::new("sim/payments", Durability::Disk, true),
                Feed::new("sim/glimpses", Durability::Memory, false),
            ],
            defects,
            files: PrivateFiles::default(),
            life: RefCell::default(),
            fatal,
            clock: SimClock::new(),
            next_session: RefCell::new(1),
            random: RefCell::new(random),
            trace,
        };
        (Rc::new(world), told)
    }

    fn config(&self) -> Config {
        let machine = Machine { cores: 2, memory_bytes: 256 << 20 };
        let mut config = Settings::default().decide(machine).expect("the defaults fit each other");
        config.shard_count = 2;
        config.partition.segment_bytes = 64 << 10;
        config.low_water_bytes = Some(0);
        config.cache_bytes = 2 << 20;
        config.password_cost = PasswordCost { memory_kib: 8, passes: 1 };
        config.defects = self.defects;
        config
    }

    /// What a life of the server is given.
    pub(crate) fn env(&self) -> Env {
        let seeded = self.random.borrow_mut().fork();
        environment(&self.disk.borrow(), &self.net, &self.trace, seeded, &self.files, self.fatal.clone())
    }

    /// Makes the data directory that a server of that format level makes at its first start.
    pub(crate) async fn begin_at_level(&self, format_level: u32) {
        let env = self.env();
        let secret = TokenSecret::generate(&*env.control.random);
        self.files.borrow_mut().insert("root.token".into(), secret.text().into_bytes());
        let options = env.control.storage_options(Layout.metadata_checkpoint_dir(), StorageLimits::default());
        let storage = Storage::open(options).await.expect("the disk is empty");
        let mut store = MetadataStore::open(&storage, Layout).await.expect("the disk is empty");
        let (name, password_hash, digest) = (String::from("root"), String::new(), secret.digest());
        let events = [
            ClusterBorn { cluster_id: 7, node_id: 1, format_level, at_us: 0 }.into(),
            UserCreated { user_id: 1, name: name.clone(), role: Role::Admin, password_hash, at_us: 0 }.into(),
            TokenCreated { token_id: 1, user_id: 1, name, digest, at_us: 0, expires_at_us: None }.into(),
        ];
        store.commit(&events).await.expect("the disk is empty");
        store.close().await;
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Errors
    /// What it says, or that it does not come up.
    pub(crate) async fn start(&self) -> Result<(), String> {
        let env = self.env();
        let config = self.config();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let cores = LocalSet::new();
        cores.spawn_local(async move {
            match Server::start(env, config).await {
                Ok(server) => {
                    drop(ready.send(Ok(())));
                    // A dropped sender is an order to stop as well.
                    let _ = stopped.await;
                    server.shutdown().await;
                    // Nobody waits any more if the world has ended meanwhile.
                    let _ = end.send(());
                }
                Err(error) => drop(ready.send(Err(error.to_string()))),
            }
        });
        let task = tokio::task::spawn_local(cores);
        *self.life.borrow_mut() = Some(Life { task, stop: Some(stop), ended: Some(ended) });
        let started = tokio::time::timeout(Duration::from_secs(60), is_ready).await;
        let outcome = match started {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the server ended while it started".into()),
            Err(_) => Err("the server did not start in 60 s".into()),
        };
        self.trace.event("start", u64::from(outcome.is_ok()), 0);
        outcome
    }

    /// Ends the server at once. Mostly the power fails; otherwise only the process dies, and the next one reads what was
    /// never flushed.
    pub(crate) async fn crash(&self) {
        let keeps_power = self.random.borrow_mut().one_in(3);
        self.end(keeps_power).await;
    }

    /// Cuts the power: whatever was not flushed may be gone.
    pub(crate) async fn cut_power(&self) {
        self.end(false).await;
    }

    /// Nothing the server does from now on reaches anybody.
    async fn end(&self, keeps_power: bool) {
        let (seed, silently) = {
            let mut random = self.random.borrow_mut();
            (random.next(), random.one_in(4))
        };
        self.trace.event(if keeps_power { "exit" } else { "crash" }, seed, u64::from(silently));
        let disk = self.disk();
        let image = if keeps_power { disk.exit_now(seed) } else { disk.crash_now(seed) };
        for feed in &self.feeds {
            feed.history.borrow_mut().crashed();
        }
        self.net.sever(silently);
        let life = self.life.borrow_mut().take();
        if let Some(life) = life {
            life.task.abort();
            let _aborted = life.task.await;
        }
        image.set_capacity(CAPACITY_BYTES);
        *self.disk.borrow_mut() = image;
    }

    /// Stops the server as SIGTERM does.
    pub(crate) async fn stop(&self) -> Result<(), String> {
        self.trace.event("stop", 0, 0);
        let stopped = {
            // Whoever gives up waiting leaves the task where a power cut finds it.
            let ended = self.life.borrow_mut().as_mut().map(Life::order_to_stop);
            let Some(ended) = ended else { return Ok(()) };
            tokio::time::timeout(Duration::from_secs(60), ended).await
        };
        self.net.sever(false);
        match stopped {
            Ok(Ok(())) => {
                // What is still running ends with the process.
                let life = self.life.borrow_mut().take();
                if let Some(life) = life {
                    life.task.abort();
                    // Aborted on purpose.
                    let _ = life.task.await;
                }
                Ok(())
            }
            Ok(Err(_)) => Err("the server panicked while it stopped".into()),
            Err(_) => Err("the server did not stop in 60 s".into()),
        }
    }

    /// The disk of the present life.
    pub(crate) fn disk(&self) -> CrashDisk {
        self.disk.borrow().clone()
    }

    pub(crate) fn root_token(&self) -> String {
        let files = self.files.borrow();
        let content = files.get(Path::new("root.token")).cloned().unwrap_or_default();
        String::from_utf8(content).unwrap_or_default().trim().to_owned()
    }

    pub(crate) fn options(&self, credentials: Credentials) -> ClientOptions {
        self.options_through(Arc::new(self.net.clone()), credentials)
    }

    /// Options of a client whose connections somebody else makes.
    pub(crate) fn options_through(&self, connector: Arc<dyn Connector>, credentials: Credentials) -> ClientOptions {
        let environment = Environment {
            connector: Some(connector),
            clock: Arc::new(self.clock.clone()),
            random: SimRandom::new(self.random.borrow_mut().fork()),
        };
        ClientOptions::new()
            .server("127.0.0.1:7420")
            .credentials(credentials)
            .connect_timeout(Duration::from_secs(3))
            .request_timeout(Duration::from_secs(5))
            .backoff(BackoffOptions::default())
            .environment(environment)
    }

    /// A client of the user root; tries until it gets through.
    pub(crate) async fn client(&self) -> Client {
        loop {
            let options = self.options(Credentials::token(self.root_token()));
            match Client::connect(options).await {
                Ok(client) => return client,
                Err(error) => {
                    self.trace.event(error.name(), 0, 0);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    pub(crate) fn session(&self) -> u64 {
        let mut next = self.next_session.borrow_mut();
        *next += 1;
        *next - 1
    }
}

/// The topics whose creation or deletion was answered, for a look at the end.
pub(crate) type KnownTopics = Rc<RefCell<BTreeMap<String, bool>>>;
