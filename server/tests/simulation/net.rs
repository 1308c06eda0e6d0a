//! A network in memory: connections with latency, limited windows, reads and writes in odd pieces, resets, and silences in
//! which bytes are held back. Everything it decides follows from its seed.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use levada::{ByteStream, ConnectFuture, Connector, ServerAddress};
use levada_server::env::{Accepted, Listener, Socket};
use levada_storage::disk::LocalFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::random::Seeded;
use crate::trace::Trace;

/// Bytes under way in one direction.
const WINDOW_BYTES: usize = 128 << 10;
/// A silence nobody waits out.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Clone)]
pub(crate) struct Net {
    shared: Arc<Mutex<State>>,
    trace: Trace,
}

struct State {
    random: Seeded,
    listener: Option<mpsc::UnboundedSender<Accepted>>,
    links: BTreeMap<u64, [Arc<Mutex<Pipe>>; 2]>,
    next_link: u64,
}

/// One direction of a connection.
struct Pipe {
    chunks: VecDeque<(Instant, Bytes)>,
    queued_bytes: usize,
    newest_at: Instant,
    held_until: Instant,
    is_closed: bool,
    is_reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new() -> Arc<Mutex<Self>> {
        let now = Instant::now();
        Arc::new(Mutex::new(Self {
            chunks: VecDeque::new(),
            queued_bytes: 0,
            newest_at: now,
            held_until: now,
            is_closed: false,
            is_reset: false,
            reader: None,
            writer: None,
        }))
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn reset(&mut self) {
        self.is_reset = true;
        self.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net {
    pub(crate) fn new(random: Seeded, trace: Trace) -> Self {
        let state = State { random, listener: None, links: BTreeMap::new(), next_link: 1 };
        Self { shared: Arc::new(Mutex::new(state)), trace }
    }

    /// The server is there from now on.
    pub(crate) fn listen(&self) -> Rc<dyn Listener> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.shared).listener = Some(sender);
        Rc::new(SimListener { queue: tokio::sync::Mutex::new(receiver) })
    }

    /// The server is gone: with resets, or without a word.
    pub(crate) fn sever(&self, silently: bool) {
        let mut state = lock(&self.shared);
        state.listener = None;
        for (_, pipes) in std::mem::take(&mut state.links) {
            for pipe in pipes {
                let mut pipe = lock(&pipe);
                if silently {
                    pipe.held_until = Instant::now() + FOR_EVER;
                } else {
                    pipe.reset();
                }
            }
        }
    }

    /// Resets one connection, if there is any.
    pub(crate) fn reset_one(&self) {
        let mut state = lock(&self.shared);
        let Some(link) = state.pick() else { return };
        self.trace.event("net.reset", link, 0);
        for pipe in state.links.remove(&link).into_iter().flatten() {
            lock(&pipe).reset();
        }
    }

    /// Holds back everything on one connection for a while.
    pub(crate) fn stall_one(&self, duration: Duration) {
        let mut state = lock(&self.shared);
        let Some(link) = state.pick() else { return };
        self.trace.event("net.stall", link, duration.as_millis().try_into().unwrap_or(0));
        for pipe in state.links.get(&link).into_iter().flatten() {
            let mut pipe = lock(pipe);
            pipe.held_until = Instant::now() + duration;
            pipe.wake();
        }
    }

    fn connect(&self) -> io::Result<Endpoint> {
        let mut state = lock(&self.shared);
        state.links.retain(|_, pipes| pipes.iter().any(|pipe| !lock(pipe).is_closed));
        let Some(listener) = state.listener.clone() else { return Err(io::ErrorKind::ConnectionRefused.into()) };
        let link = state.next_link;
        state.next_link += 1;
        let (there, back) = (Pipe::new(), Pipe::new());
        state.links.insert(link, [Arc::clone(&there), Arc::clone(&back)]);
        let endpoint = |incoming: &Arc<Mutex<Pipe>>, outgoing: &Arc<Mutex<Pipe>>| Endpoint {
            net: self.clone(),
            link,
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
            sleep: None,
        };
        let port = 10_000 + u16::try_from(link % 50_000).unwrap_or(0);
        let peer = SocketAddr::from(([127, 0, 0, 1], port));
        let accepted = Accepted { peer, socket: Socket::Simulated(Box::new(endpoint(&there, &back))) };
        self.trace.event("net.connect", link, 0);
        listener.send(accepted).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(endpoint(&back, &there))
    }
}

impl State {
    fn pick(&mut self) -> Option<u64> {
        let count = self.links.len() as u64;
        let index = (count != 0).then(|| self.random.below(0..count))?;
        self.links.keys().nth(usize::try_from(index).ok()?).copied()
    }

    /// Mostly quick, sometimes slow.
    fn latency(&mut self) -> Duration {
        if self.random.one_in(16) { self.random.millis(1..30) } else { self.random.millis(0..3) }
    }

    /// How much of `length` bytes goes through at once: mostly all, sometimes a small piece.
    fn piece(&mut self, length: usize) -> usize {
        if self.random.one_in(4) && 1 < length {
            let most = length.min(600) as u64;
            usize::try_from(self.random.below(1..most + 1)).unwrap_or(1)
        } else {
            length
        }
    }
}

struct SimListener {
    queue: tokio::sync::Mutex<mpsc::UnboundedReceiver<Accepted>>,
}

impl Listener for SimListener {
    fn local_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7420))
    }

    fn accept(&self) -> LocalFuture<'_, io::Result<Accepted>> {
        Box::pin(async move {
            match self.queue.lock().await.recv().await {
                Some(accepted) => Ok(accepted),
                // The server was severed from the network; it is about to end.
                None => std::future::pending().await,
            }
        })
    }
}

impl Connector for Net {
    fn connect<'a>(&'a self, _address: &'a ServerAddress) -> ConnectFuture<'a> {
        Box::pin(async move {
            let latency = lock(&self.shared).latency();
            tokio::time::sleep(latency).await;
            Net::connect(self).map(|endpoint| Box::new(endpoint) as Box<dyn ByteStream>)
        })
    }
}

/// One end of a connection.
pub(crate) struct Endpoint {
    net: Net,
    link: u64,
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Endpoint {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let now = Instant::now();
            let mut pipe = lock(&this.incoming);
            if pipe.is_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let due = match pipe.chunks.front() {
                Some((at, _)) => (*at).max(pipe.held_until),
                None if pipe.is_closed && pipe.held_until <= now => return Poll::Ready(Ok(())),
                None if pipe.is_closed => pipe.held_until,
                None => {
                    pipe.reader = Some(context.waker().clone());
                    return Poll::Pending;
                }
            };
            if due <= now {
                let most = pipe.chunks.front().map_or(0, |(_, chunk)| chunk.len().min(out.remaining()));
                let count = lock(&this.net.shared).piece(most);
                let Some((_, chunk)) = pipe.chunks.front_mut() else { continue };
                out.put_slice(&chunk[..count]);
                chunk.advance(count);
                if chunk.is_empty() {
                    pipe.chunks.pop_front();
                }
                pipe.queued_bytes -= count;
                pipe.writer.take().into_iter().for_each(Waker::wake);
                drop(pipe);
                this.net.trace.event("net.read", this.link, count as u64);
                return Poll::Ready(Ok(()));
            }
            pipe.reader = Some(context.waker().clone());
            drop(pipe);
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            // The timer's clock is coarser than the due time: look again a moment later.
            if Instant::now() < due {
                sleep.as_mut().reset(due + Duration::from_millis(1));
            }
        }
    }
}

impl AsyncWrite for Endpoint {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut pipe = lock(&this.outgoing);
        if pipe.is_reset || pipe.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW_BYTES.saturating_sub(pipe.queued_bytes);
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let (count, latency) = {
            let mut state = lock(&this.net.shared);
            (state.piece(data.len().min(room)), state.latency())
        };
        let at = (Instant::now() + latency).max(pipe.newest_at);
        pipe.newest_at = at;
        pipe.chunks.push_back((at, Bytes::copy_from_slice(&data[..count])));
        pipe.queued_bytes += count;
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.outgoing);
        pipe.is_closed = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let mut outgoing = lock(&self.outgoing);
        outgoing.is_closed = true;
        outgoing.wake();
        drop(outgoing);
        // Whoever still writes to this end learns that nobody reads.
        let mut incoming = lock(&self.incoming);
        incoming.is_closed = true;
        incoming.wake();
    }
}
