//! The vocabulary of the broker's scenarios: a few cores on one runtime, each with its shard and edge over a disk in memory,
//! and a client of a dozen lines around the protocol's own machine.

#![allow(dead_code, reason = "each scenario file uses a part of the vocabulary")]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::batch::{BatchBuilder, BatchLimits, NewMessage, SealOptions, StoredBatch};
use levada_protocol::client::{self, ClientConfig, ClientEvent};
use levada_protocol::messages::*;
use levada_protocol::{Call, Reply, ServerFrame};
use levada_server::admin::{AdminHandle, AdminMessage};
use levada_server::auth::{AuthHandle, AuthMessage};
use levada_server::broker::link::SharedBudget;
use levada_server::broker::{Encoding, Routes, Shard, ShardHandle, ShardOptions};
use levada_server::config::{Defects, LowWaterPolicy};
use levada_server::edge::{ConnectionLimits, Connections, Edge, EdgeOptions};
use levada_server::env::{Accepted, BlockingJob, Clock, Duplex, Offload, Random, Socket};
use levada_server::groups::{GroupsHandle, GroupsOptions, GroupsOwner};
use levada_server::metadata::event::{ClusterBorn, Event, StreamCreated, TopicAltered, TopicCreated, TopicDeleted};
use levada_server::metadata::model::TopicSupplement;
use levada_server::metadata::store::FORMAT_LEVEL;
use levada_server::metadata::{Compression, Layout, Snapshot, State, TopicOptions};
use levada_storage::buffer::BufferPool;
use levada_storage::crash::{CrashDisk, CrashOptions};
use levada_storage::disk::Disk;
use levada_storage::{FatalError, FatalHook, PartitionConfig, Storage, StorageLimits, StorageOptions, TokioSpawn};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

/// Runs a scenario on a paused clock.
pub(crate) fn scenario(steps: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("the scenario holds");
    LocalSet::new().block_on(&runtime, in_time(steps, Duration::from_secs(24 * 3600)));
}

/// A scenario that waits for what never comes fails, instead of waiting for ever.
async fn in_time(steps: impl Future<Output = ()>, limit: Duration) {
    timeout(limit, steps).await.expect("the scenario ends");
}

/// Runs a scenario with real sockets, and so on the real clock.
pub(crate) fn scenario_on_sockets(steps: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the scenario holds");
    LocalSet::new().block_on(&runtime, in_time(steps, Duration::from_secs(120)));
}

/// What a world is made with.
#[derive(Clone)]
pub(crate) struct WorldOptions {
    pub(crate) cores: u16,
    pub(crate) disk: CrashOptions,
    pub(crate) partition: PartitionConfig,
    pub(crate) edge: EdgeOptions,
    pub(crate) total_bytes: u64,
    pub(crate) limits: ConnectionLimits,
    pub(crate) tls: Option<tokio_rustls::TlsAcceptor>,
    pub(crate) serves_groups: bool,
    /// Partitions of the topics that are there from the start.
    pub(crate) topics: Vec<u32>,
    pub(crate) group_retention: Duration,
    /// Formats the directory may be written with.
    pub(crate) format_level: u32,
    pub(crate) low_water_policy: LowWaterPolicy,
    pub(crate) offload: Arc<dyn Offload>,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            cores: 1,
            disk: CrashOptions::default(),
            partition: PartitionConfig::default(),
            edge: EdgeOptions {
                insecure_dev: true,
                connection_bytes: 64 << 20,
                auth_timeout: Duration::from_secs(5),
                idle_timeout: Duration::from_secs(120),
                slow_timeout: Duration::from_secs(30),
                max_batch_bytes: 16 << 20,
            },
            total_bytes: 256 << 20,
            limits: ConnectionLimits::of(1000),
            tls: None,
            serves_groups: false,
            topics: Vec::new(),
            group_retention: Duration::from_secs(7 * 24 * 3600),
            format_level: FORMAT_LEVEL,
            low_water_policy: LowWaterPolicy::Refuse,
            offload: Arc::new(Inline),
        }
    }
}

#[derive(Debug)]
struct TestClock(Instant);

impl Clock for TestClock {
    fn now_us(&self) -> i64 {
        1_700_000_000_000_000 + i64::try_from(self.0.elapsed().as_micros()).expect("the scenario holds")
    }
}

struct StorageClock(Arc<TestClock>);

impl levada_storage::Clock for StorageClock {
    fn now_us(&self) -> i64 {
        Clock::now_us(&*self.0)
    }
}

/// Numbers that are all different.
#[derive(Debug, Default)]
struct TestRandom(std::sync::atomic::AtomicU64);

impl Random for TestRandom {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let number = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Work is done where it is asked for: in one order, at every run.
#[derive(Debug)]
pub(crate) struct Inline;

impl Offload for Inline {
    fn run(&self, job: BlockingJob) {
        job();
    }
}

struct Fatal;

impl FatalHook for Fatal {
    fn on_fatal(&self, error: FatalError) {
        panic!("the disk failed: {error:?}");
    }
}

/// A few cores.
pub(crate) struct World {
    pub(crate) disk: CrashDisk,
    pub(crate) shards: Vec<Rc<Shard>>,
    pub(crate) handles: Vec<ShardHandle>,
    pub(crate) edges: Vec<Rc<Edge>>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) auth: RefCell<Option<mpsc::Receiver<AuthMessage>>>,
    admin: tokio::sync::Mutex<mpsc::Receiver<AdminMessage>>,
    installed: watch::Sender<Arc<Snapshot>>,
    stop_groups: RefCell<Option<oneshot::Sender<()>>>,
    groups: RefCell<Option<tokio::task::JoinHandle<()>>>,
    state: RefCell<State>,
    version: Cell<u64>,
    next_id: Cell<u32>,
}

impl World {
    pub(crate) async fn new() -> Rc<Self> {
        Self::with(WorldOptions::default()).await
    }

    pub(crate) async fn with_cores(cores: u16) -> Rc<Self> {
        Self::with(WorldOptions { cores, ..WorldOptions::default() }).await
    }

    pub(crate) async fn with(options: WorldOptions) -> Rc<Self> {
        Self::on(CrashDisk::new(1, options.disk.clone()), options).await
    }

    /// With a topic of one partition and so many clients.
    pub(crate) async fn with_clients<const COUNT: usize>() -> (Rc<Self>, u32, [Client; COUNT]) {
        let world = Self::new().await;
        let topic = world.topic(1).await;
        let mut clients = Vec::new();
        for _ in 0..COUNT {
            clients.push(world.client().await);
        }
        let Ok(clients) = clients.try_into() else { panic!("as many as were pushed") };
        (world, topic, clients)
    }

    /// On a disk that was in use before.
    pub(crate) async fn on(disk: CrashDisk, options: WorldOptions) -> Rc<Self> {
        let (routes, inboxes): (Vec<_>, Vec<_>) = (0..options.cores).map(|_| ShardHandle::channel()).unzip();
        let all: Arc<[ShardHandle]> = routes.clone().into();
        let clock = Arc::new(TestClock(Instant::now()));
        let (auth_sender, auth) = mpsc::channel(8);
        let (admin_sender, admin) = mpsc::channel(8);
        let (groups, groups_inbox) = GroupsHandle::channel();
        let connections = Connections::new(options.limits);
        let budget = SharedBudget::new(options.total_bytes);
        let encoding = Encoding::new(Arc::clone(&options.offload));
        let (mut shards, mut edges) = (Vec::new(), Vec::new());
        for (core, inbox) in (0..options.cores).zip(inboxes) {
            let storage = Storage::open(StorageOptions {
                disk: Rc::new(disk.clone()) as Rc<dyn Disk>,
                clock: Rc::new(StorageClock(Arc::clone(&clock))),
                spawn: Rc::new(TokioSpawn),
                fatal: Rc::new(Fatal),
                pool: BufferPool::new(64 << 20),
                seed: u64::from(core),
                checkpoint_dir: Layout.checkpoint_dir(),
                core: u32::from(core),
                limits: StorageLimits::default(),
            });
            let shard_options = ShardOptions {
                layout: Layout,
                partition: options.partition.clone(),
                max_batch_bytes: options.edge.max_batch_bytes,
                low_water_policy: options.low_water_policy,
                defects: Defects::default(),
            };
            let shard = Shard::new(
                storage.await.expect("the scenario holds"),
                Arc::clone(&clock) as Arc<dyn Clock>,
                shard_options,
                Routes::new(core, Arc::clone(&all)),
                encoding.clone(),
            );
            let handles =
                (AuthHandle::new(auth_sender.clone()), AdminHandle::new(admin_sender.clone()), groups.clone());
            edges.push(Edge::new(
                options.edge.clone(),
                Rc::clone(&shard),
                handles,
                options.tls.clone(),
                Arc::clone(&connections),
                Arc::clone(&budget),
            ));
            shards.push(Rc::clone(&shard));
            tokio::task::spawn_local(async move { shard.run(inbox).await });
        }
        let (installed, newest) = watch::channel(Arc::default());
        let storage = Storage::open(StorageOptions {
            disk: Rc::new(disk.clone()) as Rc<dyn Disk>,
            clock: Rc::new(StorageClock(Arc::clone(&clock))),
            spawn: Rc::new(TokioSpawn),
            fatal: Rc::new(Fatal),
            pool: BufferPool::new(64 << 20),
            seed: 77,
            checkpoint_dir: Layout.metadata_checkpoint_dir(),
            core: 77,
            limits: StorageLimits::default(),
        });
        let group_options = GroupsOptions {
            layout: Layout,
            retention: options.group_retention,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(TestRandom::default()),
        };
        let storage = storage.await.expect("the scenario holds");
        let mut state = State::default();
        let born = ClusterBorn { cluster_id: 7, node_id: 1, format_level: options.format_level, at_us: 0 };
        state.apply(&Event::from(born)).expect("the scenario holds");
        state
            .apply(&Event::from(StreamCreated { stream_id: 1, name: "s".into(), at_us: 0 }))
            .expect("the scenario holds");
        let (stop_groups, groups_stopped) = oneshot::channel();
        let world = Self {
            disk,
            installed,
            stop_groups: RefCell::new(Some(stop_groups)),
            groups: RefCell::new(None),
            shards,
            handles: routes,
            edges,
            connections,
            auth: RefCell::new(Some(auth)),
            admin: tokio::sync::Mutex::new(admin),
            state: RefCell::new(state),
            version: Cell::new(1),
            next_id: Cell::new(1),
        };
        world.install().await;
        for partition_count in options.topics {
            world.topic(partition_count).await;
        }
        if options.serves_groups {
            let owner = GroupsOwner::open(group_options, &storage, all, newest).await;
            *world.groups.borrow_mut() = Some(tokio::task::spawn_local(owner.run(groups_inbox, groups_stopped)));
        }
        Rc::new(world)
    }

    /// Applies an event and installs the new version everywhere.
    pub(crate) async fn happen(&self, event: impl Into<Event>) {
        self.state.borrow_mut().apply(&event.into()).expect("the scenario holds");
        self.install().await;
    }

    async fn install(&self) {
        let version = self.version.get() + 1;
        self.version.set(version);
        let snapshot = Arc::new(Snapshot::new(version, self.state.borrow().clone()));
        for handle in &self.handles {
            handle.install(Arc::clone(&snapshot)).await.expect("the scenario holds");
        }
        self.installed.send_replace(snapshot);
    }

    pub(crate) async fn topic(&self, partition_count: u32) -> u32 {
        self.topic_with(topic_options(partition_count)).await
    }

    pub(crate) async fn topic_with(&self, options: TopicOptions) -> u32 {
        let topic_id = self.next_id.get();
        self.next_id.set(topic_id + 1);
        let name = format!("t{topic_id}");
        self.happen(TopicCreated { topic_id, stream_id: 1, name, options, at_us: 0 }).await;
        topic_id
    }

    pub(crate) async fn alter_topic(&self, topic_id: u32, options: TopicOptions) {
        self.happen(TopicAltered { topic_id, options }).await;
    }

    pub(crate) async fn delete_topic(&self, topic_id: u32) {
        self.happen(TopicDeleted { topic_id }).await;
    }

    /// Stops the owner of groups cleanly.
    pub(crate) async fn stop_groups(&self) {
        drop(self.stop_groups.borrow_mut().take());
        let running = self.groups.borrow_mut().take();
        running.expect("the scenario holds").await.expect("the scenario holds");
    }

    /// The next request to the control thread, which the scenario plays.
    pub(crate) async fn admin_request(&self) -> Option<AdminMessage> {
        self.admin.lock().await.recv().await
    }

    /// A partition of the topic that lives on the core.
    pub(crate) fn partition_on(&self, topic_id: u32, core: u16) -> u32 {
        let routes = self.shards[0].routes();
        (0..).find(|partition| routes.shard_of(topic_id, *partition) == core).expect("the scenario holds")
    }

    /// A raw stream to the first core, through `buffer_bytes` in each direction.
    pub(crate) fn dial(&self, core: u16, buffer_bytes: usize) -> Box<dyn Duplex> {
        let (near, far) = tokio::io::duplex(buffer_bytes);
        self.take(core, Socket::Simulated(Box::new(far)));
        Box::new(near)
    }

    fn take(&self, core: u16, socket: Socket) {
        let peer = "127.0.0.1:9".parse().expect("the scenario holds");
        self.edges[usize::from(core)].accept(Accepted { peer, socket });
    }

    /// A raw TCP connection to the first core.
    pub(crate) async fn dial_tcp(&self, core: u16) -> tokio::net::TcpStream {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("the scenario holds");
        let near = tokio::net::TcpStream::connect(listener.local_addr().expect("the scenario holds"))
            .await
            .expect("the scenario holds");
        let (far, _) = listener.accept().await.expect("the scenario holds");
        near.set_nodelay(true).expect("the scenario holds");
        self.take(core, Socket::Tcp(far.into_std().expect("the scenario holds")));
        near
    }

    /// A client of the first core, ready.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(0).await
    }

    pub(crate) async fn client_of(&self, core: u16) -> Client {
        Client::ready(self.dial(core, 1 << 20), ClientConfig::default()).await
    }

    pub(crate) async fn tcp_client(&self) -> Client {
        Client::ready(Box::new(self.dial_tcp(0).await), ClientConfig::default()).await
    }
}

pub(crate) fn topic_options(partition_count: u32) -> TopicOptions {
    TopicOptions {
        partition_count,
        durability: levada_storage::Durability::Disk,
        compression: Compression::Producer,
        retention_bytes: None,
        retention_age_us: None,
        segment_bytes: None,
        supplement: TopicSupplement::default(),
    }
}

pub(crate) fn memory_topic() -> TopicOptions {
    TopicOptions { durability: levada_storage::Durability::Memory, ..topic_options(1) }
}

/// A client around the protocol's machine.
pub(crate) struct Client {
    pub(crate) machine: client::Connection,
    stream: Box<dyn Duplex>,
    started: Instant,
    builder: BatchBuilder,
}

impl Client {
    pub(crate) fn new(stream: Box<dyn Duplex>, config: ClientConfig) -> Self {
        let machine = client::Connection::new(config, levada_protocol::pool::BufferPool::new(8 << 20), 0);
        Self { machine, stream, started: Instant::now(), builder: BatchBuilder::new(BatchLimits::default()) }
    }

    pub(crate) async fn ready(stream: Box<dyn Duplex>, config: ClientConfig) -> Self {
        let mut client = Self::new(stream, config);
        assert!(matches!(client.next().await, Some(ClientEvent::Ready { .. })));
        client
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("the scenario holds")
    }

    /// Sends what is queued.
    pub(crate) async fn flush(&mut self) {
        while 0 < self.machine.outbound_bytes() {
            let mut slices: Vec<IoSlice<'_>> = Vec::new();
            self.machine.slices(&mut slices);
            let Ok(count) = self.stream.write_vectored(&slices).await else { return };
            drop(slices);
            let now_ms = self.now_ms();
            self.machine.on_sent(count, now_ms);
        }
        let _ = self.stream.flush().await;
    }

    /// The next event; `None` when the server has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<ClientEvent> {
        loop {
            if let Some(event) = self.machine.poll_event().expect("the server keeps to the protocol") {
                return Some(event);
            }
            self.flush().await;
            match self.stream.read_buf(self.machine.read_buffer()).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {
                    let now_ms = self.now_ms();
                    self.machine.on_received(now_ms);
                }
            }
        }
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn hears_nothing(&mut self) -> bool {
        self.hears_nothing_within(Duration::from_secs(20)).await
    }

    pub(crate) async fn hears_nothing_within(&mut self, time: Duration) -> bool {
        timeout(time, self.next()).await.is_err()
    }

    /// A request and its answer. Nothing else may come in between.
    pub(crate) async fn call<C: Call>(&mut self, request: &C) -> Result<C::Reply, Error> {
        self.call_with(request, Vec::new()).await.map(|(reply, _)| reply)
    }

    pub(crate) async fn call_with<C: Call>(
        &mut self,
        request: &C,
        body: Vec<Bytes>,
    ) -> Result<(C::Reply, Bytes), Error> {
        let asked = self.machine.request_with_body(request, body).expect("the scenario holds");
        self.answer(asked).await
    }

    /// The answer to a request, if that is what comes next.
    pub(crate) async fn answer<R: Reply>(&mut self, asked: u32) -> Result<(R, Bytes), Error> {
        match self.next().await.expect("an answer, not the end of the connection") {
            ClientEvent::Reply { correlation, frame, body } => {
                assert_eq!(correlation, asked);
                Ok((R::from_frame(frame).expect("the kind that answers the request"), body))
            }
            ClientEvent::Failed { correlation, error } => {
                assert_eq!(correlation, asked);
                Err(error)
            }
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    /// Batch of messages with these payloads.
    pub(crate) fn batch(&mut self, payloads: &[&str], options: SealOptions) -> Bytes {
        for payload in payloads {
            let message = NewMessage { payload: Some(payload.as_bytes()), timestamp_us: 1, ..NewMessage::default() };
            self.builder.push(&message).expect("the scenario holds");
        }
        self.builder.seal(&options).expect("the scenario holds")
    }

    /// One message of `bytes`.
    pub(crate) fn large_batch(&mut self, bytes: usize) -> Bytes {
        let payload = vec![b'x'; bytes];
        let message = NewMessage { payload: Some(&payload), timestamp_us: 1, ..NewMessage::default() };
        self.builder.push(&message).expect("the scenario holds");
        self.builder.seal(&SealOptions::default()).expect("the scenario holds")
    }

    pub(crate) fn send_produce(&mut self, topic_id: u32, partition: u32, batch: Bytes) -> u32 {
        let request = Produce { topic_id, partition, durability: Durability::Memory };
        self.machine.request_with_body(&request, vec![batch]).expect("the scenario holds")
    }

    pub(crate) async fn produce(
        &mut self,
        topic_id: u32,
        partition: u32,
        payloads: &[&str],
    ) -> Result<ProduceAck, Error> {
        let batch = self.batch(payloads, SealOptions::default());
        self.produce_batch(topic_id, partition, batch).await
    }

    pub(crate) async fn produce_batch(
        &mut self,
        topic_id: u32,
        partition: u32,
        batch: Bytes,
    ) -> Result<ProduceAck, Error> {
        let asked = self.send_produce(topic_id, partition, batch);
        self.answer(asked).await.map(|(ack, _)| ack)
    }

    pub(crate) async fn fetch(&mut self, request: Fetch) -> Result<(Fetched, Vec<String>), Error> {
        let (head, body) = self.call_with(&request, Vec::new()).await?;
        let start = head.start_offset;
        Ok((head, payloads(body).into_iter().filter(|(offset, _)| start <= *offset).map(|(_, text)| text).collect()))
    }

    pub(crate) async fn subscribe(
        &mut self,
        subscription: u32,
        (topic_id, partition): (u32, u32),
        position: Position,
        credit_bytes: u64,
    ) -> Result<Subscribed, Error> {
        self.call(&Subscribe {
            subscription,
            topic_id,
            partition,
            position,
            epoch: None,
            credit_bytes,
            group: None,
            member: None,
            generation: None,
            otherwise: None,
        })
        .await
    }

    pub(crate) async fn credit(&mut self, subscription: u32, credit_bytes: u64) {
        self.machine.notice(&Credit { subscription, credit_bytes }).expect("the scenario holds");
        self.flush().await;
    }

    /// The next delivery: subscription, messages with their offsets, stored bytes.
    pub(crate) async fn delivery(&mut self) -> Delivered {
        match self.next().await.expect("a delivery, not the end of the connection") {
            ClientEvent::Push { frame: ServerFrame::Deliver(head), body } => {
                Delivered { bytes: body.len() as u64, messages: payloads(body), head }
            }
            other => panic!("expected a delivery, got {other:?}"),
        }
    }

    /// The next push, which says that a subscription has ended.
    pub(crate) async fn ended(&mut self) -> SubscriptionEnded {
        match self.next().await.expect("a push, not the end of the connection") {
            ClientEvent::Push { frame: ServerFrame::SubscriptionEnded(ended), .. } => ended,
            other => panic!("expected the end of a subscription, got {other:?}"),
        }
    }

    /// The reason the server gives for ending the connection, which it then does.
    pub(crate) async fn goodbye(&mut self) -> GoodbyeReason {
        let reason = match self.next().await.expect("a goodbye first") {
            ClientEvent::Goodbye(goodbye) => goodbye.reason,
            other => panic!("expected a goodbye, got {other:?}"),
        };
        assert_eq!(self.next().await, None);
        reason
    }

    pub(crate) fn into_stream(self) -> Box<dyn Duplex> {
        self.stream
    }
}

/// What a Deliver held.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) head: Deliver,
    pub(crate) messages: Vec<(u64, String)>,
    pub(crate) bytes: u64,
}

impl Delivered {
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.messages.iter().map(|(_, text)| text.as_str()).collect()
    }
}

/// Messages of verified batches, with their offsets.
pub(crate) fn payloads(mut body: Bytes) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    while let Some(batch) = StoredBatch::split_first(&mut body).expect("the scenario holds") {
        batch.verify().expect("the scenario holds");
        let messages = batch.messages().expect("the scenario holds");
        for message in messages.map(Result::unwrap) {
            let payload = message.payload.unwrap_or_default();
            found.push((message.offset, String::from_utf8_lossy(&payload).into_owned()));
        }
    }
    found
}

pub(crate) fn from_start(topic_id: u32, partition: u32) -> Fetch {
    Fetch {
        topic_id,
        partition,
        position: Position::EARLIEST,
        epoch: None,
        max_bytes: 1 << 20,
        min_bytes: 0,
        max_wait_ms: 0,
    }
}

/// Name of the error's code.
pub(crate) fn code(error: &Error) -> &'static str {
    levada_protocol::ErrorCode::from_code(error.code).map_or("?", |code| code.name())
}

/// A detail of an error.
pub(crate) fn detail(details: &[Detail], name: &str) -> Option<String> {
    details.iter().find(|detail| detail.name == name).map(|detail| detail.value.clone())
}

/// Flips a bit of the first place in a partition's first segment that holds `bytes`.
pub(crate) fn rot(disk: &CrashDisk, topic_id: u32, partition: u32, bytes: &[u8]) {
    let segment = Layout.partition_dir(topic_id, partition).join("0000000001.seg");
    let content = disk.contents(&segment).expect("the segment is there");
    let at = content.windows(bytes.len()).position(|window| window == bytes).expect("the segment holds it");
    disk.flip_bit(&segment, at as u64, 0).expect("the segment holds it");
}
