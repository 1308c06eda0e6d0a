//! The life of one core: its storage, its shard, its connections, from start to a clean end.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use levada_storage::{Storage, StorageLimits};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::admin::AdminHandle;
use crate::auth::AuthHandle;
use crate::broker::link::SharedBudget;
use crate::broker::{Routes, Shard, ShardHandle, ShardInbox, ShardOptions};
use crate::config::Config;
use crate::edge::limits::{ConnectionLimits, Connections};
use crate::env::{Accepted, CoreEnv};
use crate::metadata::Snapshot;

/// What all cores share: counts and budgets of the whole server.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) connections: Arc<Connections>,
    pub(crate) budget: Arc<SharedBudget>,
}

impl Shared {
    /// From the configuration.
    ///
    /// # Errors
    /// When the TLS files cannot be read.
    pub(crate) fn new(config: &Config) -> io::Result<Self> {
        Ok(Self {
            connections: Connections::new(ConnectionLimits::of(config.max_connections)),
            budget: SharedBudget::new(config.connections_total_bytes),
        })
    }
}

/// What a core is told at start.
pub(crate) struct ShardStart {
    pub(crate) shard: u16,
    pub(crate) config: Config,
    pub(crate) handles: Arc<[ShardHandle]>,
    pub(crate) inbox: ShardInbox,
    /// Connections from the control thread.
    pub(crate) accepted: mpsc::Receiver<Accepted>,
    /// The version of metadata to start with.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) admin: AdminHandle,
    pub(crate) auth: AuthHandle,
    pub(crate) shared: Shared,
    /// Turns true when the server stops.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Told when every partition is open.
    pub(crate) ready: oneshot::Sender<()>,
}

/// Runs a core until the server stops.
pub(crate) async fn run(env: CoreEnv, start: ShardStart) {
    let ShardStart { shard: number, config, handles, inbox, mut accepted, mut stopping, .. } = start;
    let options = ShardOptions::new(&config);
    let limits = StorageLimits {
        cache_bytes: config.cache_bytes / u64::from(config.shard_count),
        low_water_bytes: config.low_water_bytes,
        ..StorageLimits::default()
    };
    let storage = match Storage::open(env.storage_options(options.layout.checkpoint_dir(), limits)).await {
        Ok(storage) => storage,
        Err(error) => {
            tracing::error!(shard = number, %error, "the storage of a core did not open");
            return;
        }
    };
    let routes = Routes::new(number, Arc::clone(&handles));
    let shard = Shard::new(storage, Arc::clone(&env.clock), options, routes);
    let inbox_loop = tokio::task::spawn_local({
        let shard = Rc::clone(&shard);
        async move { shard.run(inbox).await }
    });
    shard.install(start.snapshot).await;
    if start.ready.send(()).is_err() {
        return;
    }
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stopping.changed() => break,
            Some(connection) = accepted.recv() => {
                connections.spawn_local(async move { drop(connection) });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
    shard.refuse_produce();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(config.shutdown_timeout, drained).await.is_err() {
        tracing::warn!(shard = number, "connections were cut off at the end of the shutdown timeout");
    }
    connections.shutdown().await;
    handles[usize::from(number)].shut_down().await;
    if inbox_loop.await.is_err() {
        tracing::error!(shard = number, "a shard ended in a panic");
    }
    shard.close().await;
}
