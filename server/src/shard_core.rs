//! The life of one core: its storage, its shard, its connections, from start to a clean end.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use levada_storage::{Storage, StorageLimits};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;

use crate::admin::AdminHandle;
use crate::auth::AuthHandle;
use crate::broker::link::SharedBudget;
use crate::broker::{Encoding, Routes, Shard, ShardHandle, ShardInbox, ShardOptions};
use crate::config::{Config, TlsFiles};
use crate::edge::{ConnectionLimits, Connections, Edge, EdgeOptions, tls};
use crate::env::{Accepted, CoreEnv};
use crate::groups::GroupsHandle;
use crate::metadata::Snapshot;

/// What all cores share: counts and budgets of the whole server, its TLS identity.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) connections: Arc<Connections>,
    pub(crate) budget: Arc<SharedBudget>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) encoding: Encoding,
}

impl Shared {
    /// From the configuration.
    ///
    /// # Errors
    /// When the TLS files cannot be read.
    pub(crate) fn new(config: &Config, encoding: Encoding) -> io::Result<Self> {
        let acceptor = |files: &TlsFiles| {
            let named = |path: &Path| {
                let path = path.display().to_string();
                move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
            };
            let cert = std::fs::read(&files.cert).map_err(named(&files.cert))?;
            let key = std::fs::read(&files.key).map_err(named(&files.key))?;
            tls::acceptor(&cert, &key).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        };
        Ok(Self {
            tls: config.tls.as_ref().map(acceptor).transpose()?,
            connections: Connections::new(ConnectionLimits::of(config.max_connections)),
            budget: SharedBudget::new(config.connections_total_bytes),
            encoding,
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
    pub(crate) groups: GroupsHandle,
    pub(crate) shared: Shared,
    /// Closes when the server stops.
    pub(crate) stopping: oneshot::Receiver<()>,
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
        open_files: config.open_files / usize::from(config.shard_count),
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
    let Shared { connections, budget, tls, encoding } = start.shared;
    let shard = Shard::new(storage, Arc::clone(&env.clock), options, routes, encoding);
    let inbox_loop = tokio::task::spawn_local({
        let shard = Rc::clone(&shard);
        async move { shard.run(inbox).await }
    });
    let handlers = (start.auth, start.admin, start.groups);
    let edge = Edge::new(EdgeOptions::new(&config), Rc::clone(&shard), handlers, tls, connections, budget);
    shard.install(start.snapshot).await;
    if start.ready.send(()).is_err() {
        return;
    }
    loop {
        tokio::select! {
            biased;
            _ = &mut stopping => break,
            connection = accepted.recv() => match connection {
                Some(connection) => edge.accept(connection),
                // The control thread accepts no more: it is about to say that the server stops.
                None => {
                    let _stopped = (&mut stopping).await;
                    break;
                }
            },
        }
    }
    shard.refuse_produce();
    edge.shut_down(config.shutdown_timeout).await;
    handles[usize::from(number)].shut_down().await;
    if inbox_loop.await.is_err() {
        tracing::error!(shard = number, "a shard ended in a panic");
    }
    tracing::debug!(shard = number, "closing partitions");
    shard.close().await;
    tracing::debug!(shard = number, "closed");
}
