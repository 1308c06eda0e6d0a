//! Everything the server takes from outside: wall time, randomness, cores, disk, network, blocking work, the end of the
//! process. Production passes [`real`]; a simulation passes its own, and then the whole server is one deterministic task
//! tree on one paused runtime.
//!
//! Timers are not here: everyone uses `tokio::time`, which a paused runtime drives. Nothing below may be reached another
//! way (`SystemTime::now`, `std::net`, `std::thread`): a lint says so.

pub mod real;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use levada_storage::buffer::BufferPool;
use levada_storage::disk::{Disk, LocalFuture};
use levada_storage::{FatalError, FatalHook, StorageLimits, StorageOptions, TokioSpawn};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Wall time. Shared by all cores.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Microseconds since the Unix epoch.
    fn now_us(&self) -> i64;
}

/// Randomness fit for secrets in production, a seeded sequence in a simulation. Shared by all cores.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills `out`.
    fn fill(&self, out: &mut [u8]);

    /// A random number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// Told of a disk that can no longer be trusted. Production ends the process at once, without an acknowledgement more.
pub trait Fatal: Send + Sync + fmt::Debug {
    /// The first fatal error of a core.
    fn on_fatal(&self, error: FatalError);
}

/// Which thread of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Core {
    /// Metadata, authentication, listener.
    Control,
    /// A shard: partitions and connections. Counted from 0.
    Shard(u16),
}

/// What a core gets when it starts. Stays on that core.
#[derive(Clone)]
pub struct CoreEnv {
    /// Which one it is.
    pub core: Core,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Its disk.
    pub disk: Rc<dyn Disk>,
    /// Its aligned memory.
    pub pool: BufferPool,
    /// What ends the process.
    pub fatal: Arc<dyn Fatal>,
}

impl fmt::Debug for CoreEnv {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CoreEnv").field("core", &self.core).finish_non_exhaustive()
    }
}

impl CoreEnv {
    /// What the storage of this core is made from.
    #[must_use]
    pub fn storage_options(&self, checkpoint_dir: PathBuf, limits: StorageLimits) -> StorageOptions {
        let core = match self.core {
            Core::Control => 0,
            Core::Shard(shard) => u32::from(shard),
        };
        StorageOptions {
            disk: Rc::clone(&self.disk),
            clock: Rc::new(StorageClock(Arc::clone(&self.clock))),
            spawn: Rc::new(TokioSpawn),
            fatal: Rc::new(StorageFatal(Arc::clone(&self.fatal))),
            pool: self.pool.clone(),
            seed: self.random.next_u64(),
            checkpoint_dir,
            core,
            limits,
        }
    }
}

struct StorageClock(Arc<dyn Clock>);

impl levada_storage::Clock for StorageClock {
    fn now_us(&self) -> i64 {
        self.0.now_us()
    }
}

struct StorageFatal(Arc<dyn Fatal>);

impl FatalHook for StorageFatal {
    fn on_fatal(&self, error: FatalError) {
        self.0.on_fatal(error);
    }
}

/// The life of a core, from its start to its end.
pub type CoreMain = Box<dyn FnOnce(CoreEnv) -> LocalFuture<'static, ()> + Send>;

/// Work that would hold up a core: password hashing, compression.
pub type BlockingJob = Box<dyn FnOnce() + Send>;

/// Where cores put work that would hold them up. Jobs are begun in the order they come; several may run at a time.
pub trait Offload: Send + Sync + fmt::Debug {
    /// Runs `job`, now or later. It is dropped if nothing is left to run it.
    fn run(&self, job: BlockingJob);
}

/// Cores, listeners and files outside the log. Belongs to the control thread.
pub trait Platform {
    /// Starts a core: in production a pinned OS thread with a runtime of its own; in a simulation a local task.
    ///
    /// # Errors
    /// When the thread or its disk cannot be had.
    fn start_core(&self, core: Core, main: CoreMain) -> io::Result<()>;

    /// Waits until every core started has ended.
    fn join_cores(&self) -> LocalFuture<'_, ()>;

    /// Starts listening; port 0 takes a free one.
    fn listen(&self, address: SocketAddr) -> LocalFuture<'_, io::Result<Rc<dyn Listener>>>;

    /// Runs `job` off the control thread. One job runs at a time.
    fn run_blocking(&self, job: BlockingJob);

    /// Threads for work that would hold up a core.
    fn offload(&self) -> Arc<dyn Offload>;

    /// Writes a small file only its owner may read, durably, over what was there. The path is relative to the data
    /// directory.
    ///
    /// # Errors
    /// What the file system says.
    fn write_private(&self, path: &Path, content: &[u8]) -> io::Result<()>;
}

/// What a server is started with, on the control thread.
#[derive(Clone)]
pub struct Env {
    /// The control thread's own clock, randomness and disk.
    pub control: CoreEnv,
    /// Cores, listeners, files.
    pub platform: Rc<dyn Platform>,
}

impl fmt::Debug for Env {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Env").field("control", &self.control).finish_non_exhaustive()
    }
}

/// A listening socket. Lives on the control thread, which hands what it accepts to the cores.
pub trait Listener {
    /// Where it listens.
    fn local_address(&self) -> SocketAddr;
    /// The next connection.
    fn accept(&self) -> LocalFuture<'_, io::Result<Accepted>>;
}

/// A connection on its way to a core.
#[derive(Debug)]
pub struct Accepted {
    /// The other end.
    pub peer: SocketAddr,
    /// The connection, not yet registered with a runtime.
    pub socket: Socket,
}

/// A connection that can cross threads.
pub enum Socket {
    /// The kernel's, non-blocking.
    Tcp(std::net::TcpStream),
    /// A simulation's.
    Simulated(Box<dyn Duplex>),
}

impl fmt::Debug for Socket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Simulated(_) => "Simulated",
        })
    }
}

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Socket {
    /// Registers the connection with the runtime of the core that calls.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(socket) => Stream::Tcp(tokio::net::TcpStream::from_std(socket)?),
            Self::Simulated(duplex) => Stream::Simulated(duplex),
        })
    }
}

/// A connection on its core.
pub enum Stream {
    /// The kernel's.
    Tcp(tokio::net::TcpStream),
    /// A simulation's.
    Simulated(Box<dyn Duplex>),
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Simulated(_) => "Simulated",
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Simulated(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, data),
            Self::Simulated(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Simulated(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Simulated(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Simulated(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Simulated(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
