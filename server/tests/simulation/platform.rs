//! The environment of a simulated server: cores are tasks, the disk can lose power, the clock is the runtime's, randomness
//! is seeded, and a fatal disk error cuts the server off the network at that very moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use levada_server::env::{
    BlockingJob, Clock, Core, CoreEnv, CoreMain, Env, Fatal, Listener, Offload, Platform, Random,
};
use levada_storage::FatalError;
use levada_storage::buffer::BufferPool;
use levada_storage::crash::CrashDisk;
use levada_storage::disk::LocalFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::net::Net;
use crate::random::Seeded;
use crate::trace::Trace;

const EPOCH_US: i64 = 1_790_000_000_000_000;

/// Wall time that is the runtime's.
#[derive(Clone, Debug)]
pub(crate) struct SimClock {
    started: Instant,
}

impl SimClock {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now() }
    }

    fn us(&self) -> i64 {
        EPOCH_US + i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

impl Clock for SimClock {
    fn now_us(&self) -> i64 {
        self.us()
    }
}

impl levada::Clock for SimClock {
    fn now_us(&self) -> i64 {
        self.us()
    }
}

/// Seeded randomness.
#[derive(Debug)]
pub(crate) struct SimRandom(Mutex<Seeded>);

impl SimRandom {
    pub(crate) fn new(seeded: Seeded) -> Arc<Self> {
        Arc::new(Self(Mutex::new(seeded)))
    }

    fn number(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

impl Random for SimRandom {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.number().to_le_bytes()[..chunk.len()]);
        }
    }
}

impl levada::Random for SimRandom {
    fn next_u64(&self) -> u64 {
        self.number()
    }
}

/// What a real server does by ending the process.
struct SimFatal {
    net: Net,
    trace: Trace,
    told: mpsc::UnboundedSender<()>,
}

impl std::fmt::Debug for SimFatal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SimFatal")
    }
}

impl Fatal for SimFatal {
    fn on_fatal(&self, error: FatalError) {
        self.trace.event("fatal", error.path.as_os_str().len() as u64, 0);
        self.net.sever(false);
        // The world restarts the server; if it is gone, the run is over.
        let _ = self.told.send(());
    }
}

/// Files outside the log, which outlive a server.
pub(crate) type PrivateFiles = Rc<RefCell<BTreeMap<PathBuf, Vec<u8>>>>;

pub(crate) struct SimPlatform {
    control: CoreEnv,
    net: Net,
    cores: RefCell<JoinSet<()>>,
    files: PrivateFiles,
}

/// The environment of one life of the server.
pub(crate) fn environment(
    disk: &CrashDisk,
    net: &Net,
    trace: &Trace,
    seeded: Seeded,
    files: &PrivateFiles,
    told: mpsc::UnboundedSender<()>,
) -> Env {
    let control = CoreEnv {
        core: Core::Control,
        clock: Arc::new(SimClock::new()),
        random: SimRandom::new(seeded),
        disk: Rc::new(disk.clone()),
        pool: BufferPool::new(4 << 20),
        fatal: Arc::new(SimFatal { net: net.clone(), trace: trace.clone(), told }),
    };
    let platform =
        SimPlatform { control: control.clone(), net: net.clone(), cores: RefCell::default(), files: Rc::clone(files) };
    Env { control, platform: Rc::new(platform) }
}

/// Work is done where it is asked for: in one order, at every run.
#[derive(Debug)]
struct Inline;

impl Offload for Inline {
    fn run(&self, job: BlockingJob) {
        job();
    }
}

impl Platform for SimPlatform {
    fn start_core(&self, core: Core, main: CoreMain) -> io::Result<()> {
        let env = CoreEnv { core, ..self.control.clone() };
        self.cores.borrow_mut().spawn_local(main(env));
        Ok(())
    }

    fn join_cores(&self) -> LocalFuture<'_, ()> {
        let mut cores = std::mem::take(&mut *self.cores.borrow_mut());
        Box::pin(async move { while cores.join_next().await.is_some() {} })
    }

    fn listen(&self, _address: SocketAddr) -> LocalFuture<'_, io::Result<Rc<dyn Listener>>> {
        Box::pin(async move { Ok(self.net.listen()) })
    }

    fn run_blocking(&self, job: BlockingJob) {
        job();
    }

    fn offload(&self) -> Arc<dyn Offload> {
        Arc::new(Inline)
    }

    fn write_private(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.files.borrow_mut().insert(path.to_owned(), content.to_vec());
        Ok(())
    }
}
