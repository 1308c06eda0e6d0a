//! The owner of a core's partitions: one inbox, one closed enum, one loop. A connection of the same core calls the same
//! handlers directly.
//!
//! Single-threaded: state is behind `Cell` and `RefCell`, and no borrow is held across a call into the log or an `await`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use levada_protocol::ErrorCode;
use levada_storage::{PartitionConfig, Storage};
use tokio::sync::Mutex;

use crate::broker::encoding::Encoding;
use crate::broker::link::{ConnectionId, Link, Origin};
use crate::broker::message::{DataRequest, ShardMessage, ToConnection};
use crate::broker::partition::PartitionSlot;
use crate::broker::readable::Readable;
use crate::broker::routing::{Owner, Routes, ShardInbox};
use crate::broker::subscription::Subscription;
use crate::config::{Config, Defects, LowWaterPolicy};
use crate::env;
use crate::failure::Failure;
use crate::metadata::{Layout, Snapshot};

/// What a shard is told at start.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Where partitions lie.
    pub layout: Layout,
    /// Settings of a partition whose topic does not say otherwise.
    pub partition: PartitionConfig,
    /// Largest batch, counted uncompressed.
    pub max_batch_bytes: u32,
    /// What happens when free disk space is below the low-water mark.
    pub low_water_policy: LowWaterPolicy,
    /// Rules broken on purpose.
    pub defects: Defects,
}

impl ShardOptions {
    /// From the server's configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            layout: Layout,
            partition: config.partition.clone(),
            max_batch_bytes: config.max_batch_bytes,
            low_water_policy: config.low_water_policy,
            defects: config.defects,
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Where the answer goes.
    pub origin: &'a Origin,
    /// The connection.
    pub link: &'a Arc<Link>,
    /// What its client can read.
    pub readable: Readable,
}

/// Told of every version of metadata after it is installed.
pub type InstallHook = Box<dyn Fn(&Snapshot)>;

/// The owner of a core's partitions.
pub struct Shard {
    pub(super) storage: Storage,
    pub(super) clock: Arc<dyn env::Clock>,
    pub(super) options: ShardOptions,
    pub(super) routes: Routes,
    pub(super) encoding: Encoding,
    pub(super) snapshot: RefCell<Arc<Snapshot>>,
    pub(super) slots: RefCell<BTreeMap<(u32, u32), Rc<PartitionSlot>>>,
    pub(super) subscriptions: RefCell<BTreeMap<(ConnectionId, u32), Rc<Subscription>>>,
    /// Held while a version of metadata is being installed: versions are installed one after the other.
    pub(super) installing: Mutex<()>,
    pub(super) hooks: RefCell<Vec<InstallHook>>,
    closing: Cell<bool>,
}

impl fmt::Debug for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shard").field("shard", &self.routes.shard()).finish_non_exhaustive()
    }
}

impl Shard {
    /// A shard without partitions: they come with the first version of metadata.
    #[must_use]
    pub fn new(
        storage: Storage,
        clock: Arc<dyn env::Clock>,
        options: ShardOptions,
        routes: Routes,
        encoding: Encoding,
    ) -> Rc<Self> {
        Rc::new(Self {
            storage,
            clock,
            options,
            routes,
            encoding,
            snapshot: RefCell::default(),
            slots: RefCell::default(),
            subscriptions: RefCell::default(),
            installing: Mutex::default(),
            hooks: RefCell::default(),
            closing: Cell::new(false),
        })
    }

    /// The loop: handles the inbox until [`ShardMessage::Shutdown`], with background work beside it.
    pub async fn run(self: &Rc<Self>, mut inbox: ShardInbox) {
        let background = tokio::task::spawn_local(Rc::clone(self).background());
        while let Some(message) = inbox.0.recv().await {
            match message {
                ShardMessage::Request { correlation, request, reply_to, link, readable } => {
                    let caller = Caller { origin: &Origin::Remote(reply_to), link: &link, readable };
                    self.handle(&caller, correlation, request);
                }
                ShardMessage::Install(snapshot, reply) => self.start_install(snapshot, reply),
                ShardMessage::Describe(topic_id, reply) => drop(reply.send(self.describe(topic_id))),
                ShardMessage::Resolve(request, reply) => {
                    let shard = Rc::clone(self);
                    tokio::task::spawn_local(async move { drop(reply.send(shard.resolve_position(&request).await)) });
                }
                ShardMessage::Purge { topic_id, partition, reply } => self.start_purge(topic_id, partition, reply),
                ShardMessage::Trim { topic_id, partition, before, reply } => {
                    self.start_trim(topic_id, partition, before, reply);
                }
                ShardMessage::Status(reply) => drop(reply.send(self.status())),
                ShardMessage::Shutdown => break,
            }
        }
        background.abort();
    }

    /// Routes a request to the shard that owns the partition: this one's handler at once, another one by its inbox.
    ///
    /// # Errors
    /// `OVERLOADED` or `SHUTTING_DOWN` of the other shard; everything else is answered through the caller's origin.
    pub fn route(
        self: &Rc<Self>,
        caller: &Caller<'_>,
        correlation: u32,
        owner: u16,
        request: DataRequest,
        remote: impl FnOnce() -> tokio::sync::mpsc::Sender<ToConnection>,
    ) -> Result<(), Failure> {
        match self.routes.at(owner) {
            Owner::Here => {
                self.handle(caller, correlation, request);
                Ok(())
            }
            Owner::There(shard) => shard.try_send(ShardMessage::Request {
                correlation,
                request,
                reply_to: remote(),
                link: Arc::clone(caller.link),
                readable: caller.readable,
            }),
        }
    }

    /// Handles a request for a partition of this shard. Answers through the caller's origin, now or later, exactly once.
    fn handle(self: &Rc<Self>, caller: &Caller<'_>, correlation: u32, request: DataRequest) {
        match request {
            DataRequest::Produce(request, body) => self.produce(caller, correlation, &request, body),
            DataRequest::Fetch(request) => self.start_fetch(caller, correlation, request),
            DataRequest::Subscribe(request) => self.subscribe(caller, correlation, request),
            DataRequest::Credit(credit) => self.credit(caller.link.id, &credit),
            DataRequest::Unsubscribe(request) => self.unsubscribe(caller, correlation, &request),
            DataRequest::Cut(subscription) => self.cut(caller.link.id, subscription),
            DataRequest::ResolvePosition(request) => self.start_resolve(caller, correlation, request),
            DataRequest::ReadSequences(request) => self.start_read_sequences(caller, correlation, request),
        }
    }

    /// Whether a batch for that partition, if it is here, is kept in memory until its turn.
    #[must_use]
    pub fn holds_batches(&self, topic_id: u32, partition: u32) -> bool {
        let slots = self.slots.borrow();
        slots.get(&(topic_id, partition)).is_some_and(|slot| slot.holds_batches())
    }

    /// The routes to all shards.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The version of metadata installed here.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Wall time.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        self.clock.now_us()
    }

    /// Calls `hook` after every install.
    pub fn on_install(&self, hook: InstallHook) {
        self.hooks.borrow_mut().push(hook);
    }

    /// Whether no new batches are taken.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Takes no new batches from here on; what was accepted goes on.
    pub fn refuse_produce(&self) {
        self.closing.set(true);
    }

    /// Closes every partition, cleanly where the disk allows, then the storage.
    pub async fn close(&self) {
        self.closing.set(true);
        let slots: Vec<_> = std::mem::take(&mut *self.slots.borrow_mut()).into_values().collect();
        let mut closing = tokio::task::JoinSet::new();
        for slot in slots {
            closing.spawn_local(async move { slot.close(false).await });
        }
        while closing.join_next().await.is_some() {}
        self.storage.close().await;
    }

    /// A partition of this shard.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`, `SHUTTING_DOWN`.
    pub(super) fn slot(&self, topic_id: u32, partition: u32) -> Result<Rc<PartitionSlot>, Failure> {
        match self.slots.borrow().get(&(topic_id, partition)) {
            Some(slot) => Ok(Rc::clone(slot)),
            None => Err(self.no_slot(topic_id, partition)),
        }
    }

    #[cold]
    fn no_slot(&self, topic_id: u32, partition: u32) -> Failure {
        if self.is_closing() {
            return Failure::new(ErrorCode::ShuttingDown);
        }
        match self.snapshot.borrow().topic(topic_id) {
            Err(failure) => failure,
            Ok(topic) if partition < topic.options.partition_count => {
                Failure::because(ErrorCode::PartitionUnavailable, "the partition is being opened")
                    .with("reason", "opening")
            }
            Ok(topic) => {
                let count = topic.options.partition_count;
                let message =
                    format!("the topic has {count} partitions, 0 to {}; not {partition}", count.saturating_sub(1));
                Failure::because(ErrorCode::PartitionNotFound, message).with("partition", partition)
            }
        }
    }
}
