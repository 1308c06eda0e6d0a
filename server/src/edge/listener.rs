//! The edge of a core: takes the sockets the control thread accepted, finds out by the first byte whether they speak TLS or
//! plain, and keeps one task for each until shutdown.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::messages::GoodbyeReason;
use levada_protocol::pool::BufferPool;
use levada_protocol::server;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::admin::AdminHandle;
use crate::auth::{AuthHandle, Principal};
use crate::broker::link::SharedBudget;
use crate::broker::{ConnectionId, Mailbox, Shard, ToConnection};
use crate::config::Config;
use crate::edge::connection::ConnectionTask;
use crate::edge::limits::{Admitted, Connections};
use crate::edge::tls::Replay;
use crate::env::{Accepted, Stream};
use crate::groups::GroupsHandle;
use crate::metadata::Snapshot;

/// First byte of a TLS handshake record.
const TLS_FIRST_BYTE: u8 = 0x16;
/// First byte of the native preface.
const NATIVE_FIRST_BYTE: u8 = levada_protocol::limits::PREFACE[0];
/// Unused buffers of large frames a core keeps: a window of a few batches.
const KEPT_FRAME_BYTES: usize = 32 << 20;

/// What an edge is told at start.
#[derive(Clone, Debug)]
pub struct EdgeOptions {
    /// Without authentication.
    pub insecure_dev: bool,
    /// Memory one connection may hold.
    pub connection_bytes: usize,
    /// From accept to Authenticated, TLS handshake included.
    pub auth_timeout: Duration,
    /// Silence after which a connection is closed.
    pub idle_timeout: Duration,
    /// Unsent bytes, or a frame begun, without progress for this long end a connection.
    pub slow_timeout: Duration,
    /// Largest batch, counted uncompressed.
    pub max_batch_bytes: u32,
}

impl EdgeOptions {
    /// From the server's configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            insecure_dev: config.insecure_dev,
            connection_bytes: usize::try_from(config.connection_bytes).unwrap_or(usize::MAX),
            auth_timeout: config.auth_timeout,
            idle_timeout: config.idle_timeout,
            slow_timeout: config.slow_consumer_timeout,
            max_batch_bytes: config.max_batch_bytes,
        }
    }
}

/// The edge of a core.
pub struct Edge {
    pub(super) options: EdgeOptions,
    pub(super) shard: Rc<Shard>,
    pub(super) auth: AuthHandle,
    pub(super) admin: AdminHandle,
    pub(super) groups: GroupsHandle,
    pub(super) budget: Arc<SharedBudget>,
    tls: Option<TlsAcceptor>,
    pub(super) connections: Arc<Connections>,
    frame_buffers: BufferPool,
    /// What times of connection machines count from.
    started: Instant,
    next_id: Cell<u64>,
    live: RefCell<BTreeMap<ConnectionId, Rc<Live>>>,
    all_gone: Notify,
    closing: Cell<bool>,
    /// [`crate::metadata::State::access_version`] that connections have heard of.
    access_version: Cell<u64>,
}

/// A connection as its edge knows it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) mailbox: Rc<Mailbox>,
    pub(super) principal: RefCell<Option<Principal>>,
}

impl fmt::Debug for Edge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Edge").field("connection_count", &self.live.borrow().len()).finish_non_exhaustive()
    }
}

impl Edge {
    /// The edge of the core of `shard`. `connections` and `budget` are shared by all cores.
    #[must_use]
    pub fn new(
        options: EdgeOptions,
        shard: Rc<Shard>,
        (auth, admin, groups): (AuthHandle, AdminHandle, GroupsHandle),
        tls: Option<TlsAcceptor>,
        connections: Arc<Connections>,
        budget: Arc<SharedBudget>,
    ) -> Rc<Self> {
        let edge = Rc::new(Self {
            options,
            shard,
            auth,
            admin,
            groups,
            budget,
            tls,
            connections,
            frame_buffers: BufferPool::new(KEPT_FRAME_BYTES),
            started: Instant::now(),
            next_id: Cell::new(1),
            live: RefCell::default(),
            all_gone: Notify::new(),
            closing: Cell::new(false),
            access_version: Cell::new(0),
        });
        let weak = Rc::downgrade(&edge);
        edge.shard.on_install(Box::new(move |snapshot| {
            if let Some(edge) = weak.upgrade() {
                edge.on_install(snapshot);
            }
        }));
        edge
    }

    /// Starts the task of a connection.
    pub fn accept(self: &Rc<Self>, accepted: Accepted) {
        let edge = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let peer = accepted.peer;
            if edge.closing.get() {
                return;
            }
            let admitted = match edge.connections.admit(peer.ip()) {
                Ok(admitted) => admitted,
                Err(refused) => return tracing::warn!(%peer, %refused, "connection refused"),
            };
            match accepted.socket.open() {
                Ok(stream) => edge.serve(stream, peer, admitted).await,
                Err(error) => tracing::warn!(%peer, %error, "a connection could not be registered"),
            }
        });
    }

    async fn serve(self: Rc<Self>, mut stream: Stream, peer: SocketAddr, admitted: Admitted) {
        if let Stream::Tcp(socket) = &stream
            && let Err(error) = socket.set_nodelay(true)
        {
            tracing::debug!(%peer, %error, "no TCP_NODELAY");
        }
        let Ok(Ok(first)) = timeout(self.options.auth_timeout, stream.read_u8()).await else {
            return tracing::debug!(%peer, "closed before the first byte");
        };
        match (first, &self.tls) {
            (NATIVE_FIRST_BYTE, _) => {
                let confidential = peer.ip().is_loopback();
                self.speak(stream, Some(first), peer, confidential, admitted).await;
            }
            (TLS_FIRST_BYTE, Some(acceptor)) => {
                let handshake = Box::pin(acceptor.accept(Replay::new(first, stream)));
                match timeout(self.options.auth_timeout, handshake).await {
                    Ok(Ok(stream)) => self.speak(stream, None, peer, true, admitted).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                }
            }
            (TLS_FIRST_BYTE, None) => tracing::debug!(%peer, "TLS asked for, none configured"),
            _ => tracing::debug!(%peer, first, "neither TLS nor the native protocol"),
        }
    }

    /// Runs the native protocol on a stream until its end.
    async fn speak<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        self: &Rc<Self>,
        stream: S,
        first: Option<u8>,
        peer: SocketAddr,
        confidential: bool,
        admitted: Admitted,
    ) {
        let id = self.new_id();
        let live = Rc::new(Live { mailbox: Rc::default(), principal: RefCell::default() });
        self.live.borrow_mut().insert(id, Rc::clone(&live));
        let _gone = Gone { edge: self, id };
        let config = self.machine_config();
        let machine = server::Connection::new(config, self.frame_buffers.clone(), self.now_ms());
        // On the heap and freed with the connection: the handshake's memory is not kept for its life, nor the other way.
        let mut task = Box::new(ConnectionTask::new(Rc::clone(self), live, id, stream, machine, peer.ip(), admitted));
        task.confidential = confidential;
        if let Some(first) = first {
            task.replay(first);
        }
        let end = task.run().await;
        tracing::debug!(%peer, %end, "connection ended");
    }

    fn new_id(&self) -> ConnectionId {
        let count = self.next_id.get();
        self.next_id.set(count + 1);
        ConnectionId(u64::from(self.shard.routes().shard()) << 48 | count)
    }

    fn machine_config(&self) -> server::ServerConfig {
        let (snapshot, routes) = (self.shard.snapshot(), self.shard.routes());
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        server::ServerConfig {
            cluster_id: Bytes::copy_from_slice(&snapshot.cluster_id.to_be_bytes()),
            node_id: snapshot.node_id,
            shard: routes.shard(),
            shard_count: routes.shard_count(),
            auth_required: !self.options.insecure_dev,
            auth_timeout_ms: millis(self.options.auth_timeout),
            idle_timeout_ms: u32::try_from(self.options.idle_timeout.as_millis()).unwrap_or(u32::MAX),
            max_batch_bytes: self.options.max_batch_bytes,
            ..server::ServerConfig::default()
        }
    }

    /// Milliseconds since the edge was made: the clock of the connection machines.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The moment of a machine's time.
    pub(super) fn instant_of(&self, ms: u64) -> Instant {
        self.started + Duration::from_millis(ms)
    }

    /// Connections on this core.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.live.borrow().len()
    }

    /// Says goodbye to connections that may no longer be, and lets the others look at what they may do.
    fn on_install(&self, snapshot: &Snapshot) {
        self.part_from_revoked(snapshot);
        if self.access_version.replace(snapshot.access_version) != snapshot.access_version {
            for live in self.live.borrow().values() {
                live.mailbox.push(ToConnection::AccessChanged);
            }
        }
    }

    /// Says goodbye to connections whose user is gone or has changed the password, or whose token was revoked.
    fn part_from_revoked(&self, snapshot: &Snapshot) {
        for live in self.live.borrow().values() {
            let revoked = live.principal.borrow().as_ref().is_some_and(|principal| !snapshot.admits(principal));
            if revoked {
                let text = "what this connection authenticated with was revoked";
                live.mailbox.push(ToConnection::Goodbye(GoodbyeReason::Revoked, text));
            }
        }
    }

    /// Takes no more connections or requests, lets the produce requests under way be answered, says goodbye to all, and
    /// returns when all are gone or `limit` is over.
    pub async fn shut_down(&self, limit: Duration) {
        self.closing.set(true);
        let all_gone = self.all_gone.notified();
        for live in self.live.borrow().values() {
            live.mailbox.push(ToConnection::Goodbye(GoodbyeReason::Shutdown, "the server is shutting down"));
        }
        if self.live.borrow().is_empty() {
            return;
        }
        if timeout(limit, all_gone).await.is_err() {
            tracing::warn!(connection_count = self.connection_count(), "connections did not end in time");
        }
    }
}

/// Takes a connection off the list, whatever ends its task.
struct Gone<'a> {
    edge: &'a Rc<Edge>,
    id: ConnectionId,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let mut live = self.edge.live.borrow_mut();
        live.remove(&self.id);
        if live.is_empty() {
            self.edge.all_gone.notify_waiters();
        }
    }
}
