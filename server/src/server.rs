//! The server put together: metadata, authentication and listener on the control thread, a shard with its connections on
//! every core; and taken apart again in an order that loses nothing.
//!
//! Start: metadata, directories, authentication, shards (each opens its partitions), listener. Shutdown: listener,
//! connections (they say goodbye), requests under way up to a deadline, partitions closed cleanly, metadata log.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::messages::{PartitionInfo, Position, ReadOnlyPartition};
use levada_storage::disk::LocalFuture;
use levada_storage::{OpenError, Storage, StorageLimits};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::{AdminHandle, MetadataOwner, ShardFigures, Shards};
use crate::audit::Audit;
use crate::auth::{AuthHandle, AuthOptions, Authenticator, Hasher, TokenSecret};
use crate::broker::{Encoding, ShardHandle};
use crate::config::Config;
use crate::edge::limits::Connections;
use crate::env::{Accepted, Core, Env, Listener};
use crate::failure::Failure;
use crate::groups::{GroupsHandle, GroupsOptions, GroupsOwner};
use crate::metadata::event::{ClusterBorn, TokenCreated, UserCreated};
use crate::metadata::store::FORMAT_LEVEL;
use crate::metadata::{CommitError, Layout, MetadataError, MetadataStore, Role, Snapshot, directories};
use crate::shard_core::{self, ShardStart};

/// Requests that may wait for the owner of metadata or of authentication.
const CONTROL_INBOX: usize = 256;
/// Connections on their way to a core.
const HANDOVER_INBOX: usize = 64;
/// Wait after an accept that failed: for want of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Cache of the control thread: it reads its log once, at start.
const CONTROL_CACHE_BYTES: u64 = 1 << 20;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Metadata refuses.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The control thread's storage refuses.
    #[error("the storage did not open: {0}")]
    Storage(#[from] OpenError),
    /// The first records could not be written.
    #[error("the metadata of a new data directory could not be written: {0}")]
    FirstStart(#[from] CommitError),
    /// A file or directory refuses.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// The authenticator did not start.
    #[error("authentication did not start: {0}")]
    Auth(Failure),
    /// A core ended before it was ready; its log says why.
    #[error("core {0} did not start")]
    Core(u16),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    move |source| StartError::Io { what, source }
}

/// What a first start made.
#[derive(Clone, Debug)]
pub struct FirstStart {
    /// Password of the user `root`; kept nowhere.
    pub root_password: String,
}

/// A running server. Lives on the control thread.
pub struct Server {
    address: SocketAddr,
    first_start: Option<FirstStart>,
    env: Env,
    shards: Rc<AllShards>,
    audit: Audit,
    stop_accepting: oneshot::Sender<()>,
    stop_groups: oneshot::Sender<()>,
    groups: tokio::task::JoinHandle<()>,
    stop_metadata: oneshot::Sender<()>,
    metadata: tokio::task::JoinHandle<()>,
    /// One order to stop per core. Not one for all: who waits together is woken in no certain order.
    stop_cores: Vec<oneshot::Sender<()>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts a server; it serves when this returns. Must be called on a `LocalSet` of the control thread.
    ///
    /// # Errors
    /// See [`StartError`]; everything that was started has been stopped or ends with the process.
    pub async fn start(env: Env, config: Config) -> Result<Self, StartError> {
        // First, so that a port in use is found before anything is opened or written.
        let listener = env.platform.listen(config.listen).await;
        let listener = listener.map_err(io_error(format!("cannot listen on {}", config.listen)))?;
        let address = listener.local_address();
        let layout = Layout;
        let hasher =
            Rc::new(Hasher::new(Rc::clone(&env.platform), Arc::clone(&env.control.random), config.password_cost));
        let (store, first_start) = open_metadata(&env, layout, &hasher).await?;
        let quarantine = directories::quarantine_unknown(&*env.control.disk, layout, store.snapshot()).await;
        quarantine.map_err(io_error("looking through the topic directories"))?;

        let (published, newest) = watch::channel(Arc::clone(store.snapshot()));
        let (audit, audit_writer) = match config.audit.then(|| Audit::new(Arc::clone(&env.control.clock))) {
            Some((audit, writer)) => (audit, Some(writer)),
            None => (Audit::default(), None),
        };
        let auth = start_auth(&env, &config, newest, Rc::clone(&hasher), audit.clone()).await?;
        let (admin_inbox, admin_requests) = mpsc::channel(CONTROL_INBOX);
        let admin = AdminHandle::new(admin_inbox).with_audit(audit.clone());

        let (groups, groups_inbox) = GroupsHandle::channel();
        let handles = (admin.clone(), auth, groups);
        let cores = start_cores(&env, &config, store.snapshot(), &handles).await?;
        let stop_cores = cores.stop_cores;
        let (installed, newest_installed) = watch::channel(Arc::clone(store.snapshot()));
        let group_options = GroupsOptions {
            layout,
            retention: config.group_retention,
            clock: Arc::clone(&env.control.clock),
            random: Arc::clone(&env.control.random),
        };
        let groups =
            GroupsOwner::open(group_options, store.storage(), Arc::clone(&cores.handles), newest_installed).await;
        let (stop_groups, groups_stopped) = oneshot::channel();
        let groups = tokio::task::spawn_local(groups.run(groups_inbox, groups_stopped));
        let shards = Rc::new(AllShards {
            handles: cores.handles,
            installed,
            connections: cores.connections,
            newest: published.subscribe(),
        });

        if let Some(writer) = audit_writer {
            let shards = Rc::clone(&shards) as Rc<dyn Shards>;
            tokio::task::spawn_local(writer.run(published.subscribe(), admin, shards));
        }
        let owner = MetadataOwner::new(
            env.control.clone(),
            layout,
            store,
            published,
            Rc::clone(&shards) as Rc<dyn Shards>,
            hasher,
        );
        let (stop_metadata, metadata_stopped) = oneshot::channel();
        let metadata = tokio::task::spawn_local(owner.run(admin_requests, metadata_stopped));

        let (stop_accepting, accepting_stopped) = oneshot::channel();
        tokio::task::spawn_local(accept(listener, cores.handovers, accepting_stopped));
        Ok(Self {
            address,
            first_start,
            env,
            shards,
            audit,
            stop_accepting,
            stop_groups,
            groups,
            stop_metadata,
            metadata,
            stop_cores,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was made, if this was the first start of the data directory.
    #[must_use]
    pub fn first_start(&self) -> Option<&FirstStart> {
        self.first_start.as_ref()
    }

    /// Stops cleanly: nothing acknowledged is lost, and the next start has nothing to recover.
    pub async fn shutdown(self) {
        drop(self.stop_accepting);
        self.audit.settle().await;
        // Groups first: their logs are in the storage of metadata.
        drop(self.stop_groups);
        if self.groups.await.is_err() {
            tracing::error!("the owner of groups ended in a panic");
        }
        // Metadata next: its owner must not wait for a shard that has stopped, and its last version is on every shard.
        drop(self.stop_metadata);
        drop(self.stop_cores);
        if self.metadata.await.is_err() {
            tracing::error!("the owner of metadata ended in a panic");
        }
        tracing::debug!("metadata closed");
        self.env.platform.join_cores().await;
        drop(self.shards);
    }
}

/// Opens the metadata log; a new one gets its first records.
async fn open_metadata(
    env: &Env,
    layout: Layout,
    hasher: &Hasher,
) -> Result<(MetadataStore, Option<FirstStart>), StartError> {
    let disk = &env.control.disk;
    disk.create_dir_all(&layout.metadata_dir()).await.map_err(io_error("creating the data directory"))?;
    disk.sync_dir(layout.root()).await.map_err(io_error("creating the data directory"))?;
    let limits = StorageLimits { cache_bytes: CONTROL_CACHE_BYTES, ..StorageLimits::default() };
    let storage = Storage::open(env.control.storage_options(layout.metadata_checkpoint_dir(), limits)).await?;
    let mut store = MetadataStore::open(&storage, layout).await?;
    if store.snapshot().cluster_id != 0 {
        return Ok((store, None));
    }
    let first_start = begin(env, layout, hasher, &mut store).await?;
    Ok((store, Some(first_start)))
}

/// The first records of a data directory: its identity, the user root, root's token. One change, so that a crash leaves
/// all of it or nothing; the token file is written before, and again if that crash comes.
async fn begin(
    env: &Env,
    layout: Layout,
    hasher: &Hasher,
    store: &mut MetadataStore,
) -> Result<FirstStart, StartError> {
    let random = &*env.control.random;
    let token = TokenSecret::generate(random);
    let root_password = password(random);
    let text = format!("{}\n", token.text());
    let written = env.platform.write_private(&layout.root_token_path(), text.as_bytes());
    written.map_err(io_error("writing root.token"))?;
    let password_hash = hasher.hash(root_password.clone().into()).await.map_err(StartError::Auth)?;
    let at_us = env.control.clock.now_us();
    let mut cluster_id = [0; 16];
    random.fill(&mut cluster_id);
    // 0 means "not born yet".
    let cluster_id = u128::from_le_bytes(cluster_id).max(1);
    let (user_id, token_id) = (1, 1);
    let role = Role::Admin;
    let digest = token.digest();
    store
        .commit(&[
            ClusterBorn { cluster_id, node_id: 1, format_level: FORMAT_LEVEL, at_us }.into(),
            UserCreated { user_id, name: "root".into(), role, password_hash, at_us }.into(),
            TokenCreated { token_id, user_id, name: "root".into(), digest, at_us, expires_at_us: None }.into(),
        ])
        .await?;
    Ok(FirstStart { root_password })
}

/// 20 characters out of 32 that are not taken for one another: 100 bits.
fn password(random: &dyn crate::env::Random) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 20];
    random.fill(&mut bytes);
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

async fn start_auth(
    env: &Env,
    config: &Config,
    newest: watch::Receiver<Arc<Snapshot>>,
    hasher: Rc<Hasher>,
    audit: Audit,
) -> Result<AuthHandle, StartError> {
    let options = AuthOptions {
        insecure_dev: config.insecure_dev,
        allow_plaintext: config.allow_plaintext_auth,
        ticket_lifetime: config.ticket_lifetime,
        audit,
    };
    let (clock, random) = (Arc::clone(&env.control.clock), Arc::clone(&env.control.random));
    let owner = Authenticator::new(options, clock, random, newest, hasher).await.map_err(StartError::Auth)?;
    let (inbox, attempts) = mpsc::channel(CONTROL_INBOX);
    tokio::task::spawn_local(owner.run(attempts));
    Ok(AuthHandle::new(inbox))
}

/// What the control thread keeps of the cores.
struct Cores {
    handles: Arc<[ShardHandle]>,
    handovers: Vec<mpsc::Sender<Accepted>>,
    connections: Arc<Connections>,
    stop_cores: Vec<oneshot::Sender<()>>,
}

async fn start_cores(
    env: &Env,
    config: &Config,
    snapshot: &Arc<Snapshot>,
    (admin, auth, groups): &(AdminHandle, AuthHandle, GroupsHandle),
) -> Result<Cores, StartError> {
    let (handles, inboxes): (Vec<_>, Vec<_>) = (0..config.shard_count).map(|_| ShardHandle::channel()).unzip();
    let handles: Arc<[ShardHandle]> = handles.into();
    let shared = shard_core::Shared::new(config, Encoding::new(env.platform.offload()))
        .map_err(io_error("reading the TLS files"))?;
    let (mut handovers, mut ready, mut stop_cores) = (Vec::new(), Vec::new(), Vec::new());
    for (shard, inbox) in (0..config.shard_count).zip(inboxes) {
        let (handover, accepted) = mpsc::channel(HANDOVER_INBOX);
        let (is_ready, core_ready) = oneshot::channel();
        let (stop, stopping) = oneshot::channel();
        stop_cores.push(stop);
        let start = ShardStart {
            shard,
            config: config.clone(),
            handles: Arc::clone(&handles),
            inbox,
            accepted,
            snapshot: Arc::clone(snapshot),
            admin: admin.clone(),
            auth: auth.clone(),
            groups: groups.clone(),
            shared: shared.clone(),
            stopping,
            ready: is_ready,
        };
        let main = Box::new(move |env| Box::pin(shard_core::run(env, start)) as LocalFuture<'static, ()>);
        env.platform.start_core(Core::Shard(shard), main).map_err(io_error(format!("starting core {shard}")))?;
        handovers.push(handover);
        ready.push((shard, core_ready));
    }
    for (shard, core_ready) in ready {
        core_ready.await.map_err(|_| StartError::Core(shard))?;
    }
    Ok(Cores { handles, handovers, connections: shared.connections, stop_cores })
}

/// Hands connections to the cores in turn. A core whose inbox is full is skipped; if all are, the connection is dropped:
/// the client's back-off is the queue.
async fn accept(listener: Rc<dyn Listener>, cores: Vec<mpsc::Sender<Accepted>>, mut stop: oneshot::Receiver<()>) {
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        let mut connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        for _ in 0..cores.len() {
            turn = (turn + 1) % cores.len();
            match cores[turn].try_send(connection) {
                Ok(()) => break,
                Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => {
                    connection = back
                }
            }
        }
    }
}

/// Every shard, for the owner of metadata.
struct AllShards {
    handles: Arc<[ShardHandle]>,
    connections: Arc<Connections>,
    newest: watch::Receiver<Arc<Snapshot>>,
    /// The version that every shard has.
    installed: watch::Sender<Arc<Snapshot>>,
}

impl Shards for AllShards {
    fn count(&self) -> u16 {
        u16::try_from(self.handles.len()).unwrap_or(u16::MAX)
    }

    fn install(&self, snapshot: Arc<Snapshot>) -> LocalFuture<'_, ()> {
        Box::pin(async move {
            let mut installs = tokio::task::JoinSet::new();
            for handle in self.handles.iter() {
                let (handle, snapshot) = (handle.clone(), Arc::clone(&snapshot));
                // A shard that has stopped has nothing to install.
                installs.spawn_local(async move { drop(handle.install(snapshot).await) });
            }
            while installs.join_next().await.is_some() {}
            self.installed.send_replace(snapshot);
        })
    }

    fn describe(&self, topic_id: u32) -> LocalFuture<'_, Result<Vec<PartitionInfo>, Failure>> {
        Box::pin(async move {
            let mut partitions = Vec::new();
            for handle in self.handles.iter() {
                partitions.extend(handle.describe(topic_id).await?);
            }
            partitions.sort_by_key(|partition| partition.partition);
            Ok(partitions)
        })
    }

    fn purge(&self, topic_id: u32, partition: Option<u32>) -> LocalFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            for handle in self.handles.iter() {
                handle.purge(topic_id, partition).await?;
            }
            Ok(())
        })
    }

    fn trim(&self, topic_id: u32, partition: u32, before: Position) -> LocalFuture<'_, Result<u64, Failure>> {
        Box::pin(async move {
            let owner = crate::broker::routing::shard_of(topic_id, partition, self.count());
            match self.handles.get(usize::from(owner)) {
                Some(handle) => handle.trim(topic_id, partition, before).await,
                None => Err(Failure::new(ErrorCode::ShuttingDown)),
            }
        })
    }

    fn append(&self, topic_id: u32, partition: u32, batch: Bytes) -> LocalFuture<'_, Result<(), Failure>> {
        let owner = crate::broker::routing::shard_of(topic_id, partition, self.count());
        let handle = self.handles[usize::from(owner)].clone();
        Box::pin(async move { handle.append(topic_id, partition, batch).await })
    }

    fn figures(&self) -> LocalFuture<'_, Vec<ShardFigures>> {
        Box::pin(async move {
            let mut figures = Vec::new();
            for handle in self.handles.iter() {
                if let Ok(status) = handle.status().await {
                    figures.push(self.figures_of(status));
                }
            }
            // Connections are counted for the whole server.
            if let Some(first) = figures.first_mut() {
                first.connection_count = self.connections.count();
            }
            figures
        })
    }
}

impl AllShards {
    fn figures_of(&self, status: crate::broker::ShardStatus) -> ShardFigures {
        let snapshot = self.newest.borrow();
        let read_only = status.read_only.into_iter().map(|partition| {
            let topic = snapshot.topics.get(&partition.topic_id);
            ReadOnlyPartition {
                stream: topic.map_or_else(String::new, |topic| snapshot.stream_name(topic).to_owned()),
                topic: topic.map_or_else(String::new, |topic| topic.name.clone()),
                partition: partition.partition,
                reason: partition.reason,
            }
        });
        let mut latencies = status.flush_latencies_us;
        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let index = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
            latencies.get(index).map_or(0, |latency| u32::try_from(*latency).unwrap_or(u32::MAX))
        };
        ShardFigures {
            connection_count: 0,
            subscription_count: status.subscription_count,
            cache_bytes: status.cache_bytes,
            appended_bytes: status.appended_bytes,
            flush_count: status.flush_count,
            flush_p50_us: percentile(50),
            flush_p99_us: percentile(99),
            read_only: read_only.collect(),
        }
    }
}
