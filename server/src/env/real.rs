//! The environment of production: the system's clock and randomness, pinned threads, TCP, the disk that the data directory
//! allows. The only module of the server that reaches for any of them.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc as jobs;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::UNIX_EPOCH;

use levada_storage::FatalError;
use levada_storage::buffer::BufferPool;
use levada_storage::disk::{LocalFuture, Preference, choose_backend, open_disk};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::{
    Accepted, BlockingJob, Clock, Core, CoreEnv, CoreMain, Env, Fatal, Listener, Offload, Platform, Random, Socket,
};
use crate::config::{Config, DiskBackend, Machine};
use crate::discovery::write_private;

/// Free aligned memory a core keeps for reuse.
const POOL_FREE_BYTES: usize = 32 << 20;
/// Exit code after an I/O error that makes the disk untrustworthy (`EX_IOERR`).
pub const EXIT_IO_ERROR: i32 = 74;

/// The system's wall clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock that everybody else is given")]
    fn now_us(&self) -> i64 {
        let since_epoch = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
    }
}

/// The system's randomness.
#[derive(Clone, Copy, Debug)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) {
        // Secrets without randomness are worse than no server.
        getrandom::fill(out).expect("the system gives randomness once it has booted");
    }
}

/// Ends the process at once: nothing may be acknowledged after a flush has failed.
#[derive(Clone, Copy, Debug)]
pub struct ExitOnFatal;

impl Fatal for ExitOnFatal {
    fn on_fatal(&self, error: FatalError) {
        tracing::error!(
            path = %error.path.display(),
            operation = error.operation,
            error = %error.error,
            "the disk failed; stopping without another acknowledgement"
        );
        std::process::exit(EXIT_IO_ERROR);
    }
}

/// Threads, TCP, files.
#[derive(Debug)]
pub struct RealPlatform {
    data_dir: PathBuf,
    preference: Preference,
    fatal: Arc<dyn Fatal>,
    threads: RefCell<Vec<JoinHandle<()>>>,
    running: RefCell<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
    blocking: RefCell<Option<jobs::Sender<BlockingJob>>>,
    worker_count: u16,
    next_processor: Cell<usize>,
}

/// The environment of a server in this process. Must be called on a `LocalSet` of the thread that will be the control
/// thread.
///
/// # Errors
/// When the data directory cannot be made or its disk not be opened.
pub async fn environment(config: &Config, fatal: Arc<dyn Fatal>) -> io::Result<Env> {
    std::fs::create_dir_all(&config.data_dir)?;
    let preference = match config.disk_backend {
        DiskBackend::Auto => Preference::Auto,
        DiskBackend::IoUring => Preference::IoUring,
        DiskBackend::Threads => Preference::Threads,
        DiskBackend::Buffered => Preference::Buffered,
    };
    // Measured once, so that every core uses the same.
    let preference = choose_backend(&config.data_dir, preference).await?;
    // Metadata is a few records: it needs no ring.
    let control_preference =
        if preference == Preference::Buffered { Preference::Buffered } else { Preference::Threads };
    let disk = open_disk(&config.data_dir, control_preference).await?;
    let control = CoreEnv {
        core: Core::Control,
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        disk,
        pool: BufferPool::new(1 << 20),
        fatal: Arc::clone(&fatal),
    };
    let platform = RealPlatform {
        data_dir: config.data_dir.clone(),
        preference,
        fatal,
        threads: RefCell::default(),
        running: RefCell::new(Some(mpsc::channel(1))),
        blocking: RefCell::default(),
        // Half of the cores: the others go on as if nothing were compressed.
        worker_count: config.shard_count.div_ceil(2),
        next_processor: Cell::new(0),
    };
    Ok(Env { control, platform: Rc::new(platform) })
}

impl Platform for RealPlatform {
    fn start_core(&self, core: Core, main: CoreMain) -> io::Result<()> {
        let (data_dir, preference, fatal) = (self.data_dir.clone(), self.preference, Arc::clone(&self.fatal));
        let name = match core {
            Core::Control => "levada-control".to_owned(),
            Core::Shard(shard) => format!("levada-{shard}"),
        };
        let running = self.running.borrow().as_ref().map(|(sender, _)| sender.clone());
        let processor = self.next_processor.replace(self.next_processor.get() + 1);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            pin(processor);
            if let Err(error) = run_core(core, &data_dir, preference, fatal, main) {
                tracing::error!(?core, %error, "a core did not start");
            }
            drop(running);
        })?;
        self.threads.borrow_mut().push(thread);
        Ok(())
    }

    fn join_cores(&self) -> LocalFuture<'_, ()> {
        Box::pin(async move {
            let running = self.running.borrow_mut().take();
            if let Some((sender, mut receiver)) = running {
                drop(sender);
                // Nobody sends: this resolves when the last core has dropped its sender.
                let _none = receiver.recv().await;
            }
            for thread in self.threads.borrow_mut().drain(..) {
                if thread.join().is_err() {
                    tracing::error!("a core ended in a panic");
                }
            }
        })
    }

    fn listen(&self, address: SocketAddr) -> LocalFuture<'_, io::Result<Rc<dyn Listener>>> {
        Box::pin(async move {
            let listener = tokio::net::TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Rc::new(RealListener { listener, address }) as Rc<dyn Listener>)
        })
    }

    fn run_blocking(&self, job: BlockingJob) {
        let mut blocking = self.blocking.borrow_mut();
        let jobs = blocking.get_or_insert_with(|| {
            let (jobs, inbox) = jobs::channel::<BlockingJob>();
            let run = move || inbox.into_iter().for_each(|job| job());
            if let Err(error) = std::thread::Builder::new().name("levada-passwords".into()).spawn(run) {
                tracing::error!(%error, "no thread for password checks");
            }
            jobs
        });
        // If the thread is gone, the job's result channel closes with it and the caller learns of it.
        drop(jobs.send(job));
    }

    fn offload(&self) -> Arc<dyn Offload> {
        Workers::start(self.worker_count)
    }

    fn write_private(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        write_private(&self.data_dir.join(path), content)
    }
}

/// Threads that share one queue. They run where the system likes: they are started by the control thread, which is not
/// bound to a processor.
#[derive(Debug)]
struct Workers {
    jobs: jobs::Sender<BlockingJob>,
}

impl Workers {
    fn start(count: u16) -> Arc<Self> {
        let (jobs, inbox) = jobs::channel::<BlockingJob>();
        let inbox = Arc::new(Mutex::new(inbox));
        for number in 0..count {
            let inbox = Arc::clone(&inbox);
            let next = move || inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let run = move || std::iter::from_fn(|| next().ok()).for_each(|job| job());
            if let Err(error) = std::thread::Builder::new().name(format!("levada-work-{number}")).spawn(run) {
                tracing::error!(%error, "no thread for compression");
            }
        }
        Arc::new(Self { jobs })
    }
}

impl Offload for Workers {
    fn run(&self, job: BlockingJob) {
        // If the threads are gone, the job's result channel closes with it and the caller learns of it.
        drop(self.jobs.send(job));
    }
}

fn run_core(
    core: Core,
    data_dir: &Path,
    preference: Preference,
    fatal: Arc<dyn Fatal>,
    main: CoreMain,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let env = CoreEnv {
            core,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            disk: open_disk(data_dir, preference).await?,
            pool: BufferPool::new(POOL_FREE_BYTES),
            fatal,
        };
        main(env).await;
        Ok(())
    })
}

/// Binds the calling thread to one of the processors the process may use. An optimisation: if it is not allowed, the thread
/// runs where the system likes.
fn pin(index: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect();
    if processors.len() < 2 {
        return;
    }
    let mut one = CpuSet::new();
    one.set(processors[index % processors.len()]);
    if let Err(error) = sched_setaffinity(None, &one) {
        tracing::debug!(%error, "thread not pinned");
    }
}

struct RealListener {
    listener: tokio::net::TcpListener,
    address: SocketAddr,
}

impl Listener for RealListener {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> LocalFuture<'_, io::Result<Accepted>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Accepted { peer, socket: Socket::Tcp(stream.into_std()?) })
        })
    }
}

/// The lock of a data directory, held while the server runs.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: std::fs::File,
}

impl DirectoryLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// `WouldBlock` if another server has it; else what the file system says.
    pub fn take(data_dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(data_dir)?;
        let path = data_dir.join("lock");
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_open_files() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => now.maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            now.current.unwrap_or(u64::MAX)
        }
    }
}

/// Processors and memory this process may use, containers included.
#[must_use]
pub fn machine() -> Machine {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let total = meminfo_bytes("MemTotal:").unwrap_or(4 << 30);
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    Machine { cores, memory_bytes: limit.map_or(total, |limit| limit.min(total)) }
}

fn meminfo_bytes(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}
