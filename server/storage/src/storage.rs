//! What the partitions of one core share: disk, buffers, cache, descriptors, limits, clock, checkpoints.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use tokio::sync::{Notify, Semaphore};

use crate::buffer::BufferPool;
use crate::cache::{Cache, Reading};
use crate::checkpoint::{Checkpoint, CheckpointRing, Checkpoints, LogKey};
use crate::descriptors::Descriptors;
use crate::disk::{Disk, LocalFuture};
use crate::errors::OpenError;
use crate::log::Log;

/// Logs of a core that zero space ahead at the same time.
const ZEROINGS_IN_FLIGHT: usize = 4;

/// Wall time.
pub trait Clock {
    /// Microseconds since the Unix epoch.
    fn now_us(&self) -> i64;
}

/// Starts a task on the current core. The task ends by itself.
pub trait Spawn {
    /// Runs `task` to its end, concurrently with the caller.
    fn spawn(&self, task: LocalFuture<'static, ()>);
}

/// Spawns on the current tokio `LocalSet` (or local runtime).
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(&self, task: LocalFuture<'static, ()>) {
        tokio::task::spawn_local(task);
    }
}

/// A write or flush that failed with an I/O error: nothing on that descriptor can be trusted any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatalError {
    /// File that failed.
    pub path: PathBuf,
    /// What was being done.
    pub operation: &'static str,
    /// The system's words.
    pub error: String,
}

/// Called once for the first fatal error of a core. Stops the process in production, records in tests.
pub trait FatalHook {
    /// The process must not acknowledge anything more; it should exit.
    fn on_fatal(&self, error: FatalError);
}

/// Limits of one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageLimits {
    /// Bytes of tail buffers and cold blocks kept for readers.
    pub cache_bytes: u64,
    /// Cached memory not read for this long is released.
    pub cache_idle: std::time::Duration,
    /// Files kept open.
    pub open_files: usize,
    /// Commits under way at the same time.
    pub commits_in_flight: usize,
    /// Free space below which appends answer `DiskFull`. `None` is min(1 GiB, 5 % of the file system).
    pub low_water_bytes: Option<u64>,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            cache_idle: std::time::Duration::from_secs(30),
            open_files: 512,
            commits_in_flight: 32,
            low_water_bytes: None,
        }
    }
}

/// Everything a core's storage is made from.
pub struct StorageOptions {
    /// The disk.
    pub disk: Rc<dyn Disk>,
    /// Wall time.
    pub clock: Rc<dyn Clock>,
    /// Task spawner; [`TokioSpawn`] in production.
    pub spawn: Rc<dyn Spawn>,
    /// What stops the process.
    pub fatal: Rc<dyn FatalHook>,
    /// Memory.
    pub pool: BufferPool,
    /// Seed of the segment nonces: random in production, fixed in a simulation.
    pub seed: u64,
    /// Directory of the checkpoint rings of all cores; created if missing.
    pub checkpoint_dir: PathBuf,
    /// Number of this core: names its checkpoint ring.
    pub core: u32,
    /// Limits.
    pub limits: StorageLimits,
}

impl std::fmt::Debug for StorageOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StorageOptions").field("core", &self.core).finish_non_exhaustive()
    }
}

/// The storage of one core. Cloning shares it.
#[derive(Clone)]
pub struct Storage {
    pub(crate) shared: Rc<Shared>,
}

/// What the logs of this core share.
pub(crate) struct Shared {
    pub(crate) disk: Rc<dyn Disk>,
    pub(crate) clock: Rc<dyn Clock>,
    spawn: Rc<dyn Spawn>,
    fatal: Rc<dyn FatalHook>,
    pub(crate) pool: BufferPool,
    core: u32,
    pub(crate) limits: StorageLimits,
    pub(crate) cache: RefCell<Cache>,
    /// A sparse segment of some log is being rewritten.
    pub(crate) rewriting: Cell<bool>,
    /// Fresh memory is being touched.
    pub(crate) stocking: Cell<bool>,
    pub(crate) reading: RefCell<BTreeMap<(u64, u64), Rc<Reading>>>,
    pub(crate) descriptors: Descriptors,
    pub(crate) commits: Semaphore,
    /// Logs whose space ahead is being zeroed.
    pub(crate) zeroings: Semaphore,
    ring: CheckpointRing,
    checkpoints: RefCell<Checkpoints>,
    space_dir: PathBuf,
    free_bytes: Cell<u64>,
    disk_full: Cell<bool>,
    pub(crate) space_freed: Notify,
    failed: Cell<bool>,
    random: Cell<u64>,
    /// Logs that hold memory or have something to do; looked at once a second.
    active: RefCell<Vec<Weak<Log>>>,
    pub(crate) second: Cell<u64>,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Storage").field("core", &self.shared.core).finish_non_exhaustive()
    }
}

/// Figures of one core's storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageStatus {
    /// Bytes in the cache.
    pub cache_bytes: u64,
    /// Files open.
    pub open_files: usize,
    /// Free bytes of the file system at the last look.
    pub free_bytes: u64,
    /// Whether appends are refused for lack of space.
    pub disk_full: bool,
    /// Whether a fatal error has happened.
    pub failed: bool,
}

impl Storage {
    /// Reads the checkpoint rings and makes the storage ready.
    ///
    /// # Errors
    /// When the checkpoint directory cannot be listed, read or created. Damaged checkpoints are not an error.
    pub async fn open(options: StorageOptions) -> Result<Self, OpenError> {
        let dir = options.checkpoint_dir;
        let (ring, checkpoints) = CheckpointRing::open(&*options.disk, &options.pool, &dir, options.core)
            .await
            .map_err(|source| OpenError::Io { path: dir.clone(), source })?;
        let storage = Self {
            shared: Rc::new(Shared {
                cache: RefCell::new(Cache::new(options.limits.cache_bytes)),
                rewriting: Cell::new(false),
                stocking: Cell::new(false),
                reading: RefCell::default(),
                descriptors: Descriptors::new(options.limits.open_files),
                commits: Semaphore::new(options.limits.commits_in_flight.max(1)),
                zeroings: Semaphore::new(ZEROINGS_IN_FLIGHT),
                disk: options.disk,
                clock: options.clock,
                spawn: options.spawn,
                fatal: options.fatal,
                pool: options.pool,
                core: options.core,
                limits: options.limits,
                ring,
                checkpoints: RefCell::new(checkpoints),
                space_dir: dir,
                free_bytes: Cell::new(u64::MAX),
                disk_full: Cell::new(false),
                space_freed: Notify::new(),
                failed: Cell::new(false),
                random: Cell::new(options.seed),
                active: RefCell::default(),
                second: Cell::new(0),
            }),
        };
        storage.shared.look_at_space().await;
        Ok(storage)
    }

    /// Figures for `levada status`.
    #[must_use]
    pub fn status(&self) -> StorageStatus {
        StorageStatus {
            cache_bytes: self.shared.cache.borrow().used_bytes(),
            open_files: self.shared.descriptors.count(),
            free_bytes: self.shared.free_bytes.get(),
            disk_full: self.shared.disk_full.get(),
            failed: self.shared.failed.get(),
        }
    }

    /// Releases idle memory and looks at free space. Call about once a second; cheap when nothing is due.
    pub async fn maintain(&self) {
        self.shared.second.set(self.shared.second.get() + 1);
        self.shared.cache.borrow_mut().tick(self.shared.limits.cache_idle.as_secs().max(1));
        let logs: Vec<Rc<Log>> = {
            let mut active = self.shared.active.borrow_mut();
            active.retain(|log| log.strong_count() > 0);
            active.iter().filter_map(Weak::upgrade).collect()
        };
        let idle: Vec<*const Log> = logs.iter().filter(|log| log.release_if_idle()).map(Rc::as_ptr).collect();
        self.shared.active.borrow_mut().retain(|log| !idle.contains(&log.as_ptr()));
        if self.shared.active.borrow().is_empty() && self.shared.cache.borrow().used_bytes() == 0 {
            self.shared.pool.shrink();
        }
        self.shared.look_at_space().await;
    }

    /// Writes what the checkpoint ring still holds. Call after every partition is closed.
    pub async fn close(&self) {
        self.shared.ring.flush(&*self.shared.disk).await;
        self.shared.cache.borrow_mut().clear();
        self.shared.descriptors.clear();
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &Rc<dyn Disk> {
        &self.shared.disk
    }
}

impl Shared {
    pub(crate) fn note_checkpoint(self: &Rc<Self>, key: LogKey, checkpoint: Checkpoint) {
        if self.ring.note(key, checkpoint) {
            let storage = Rc::clone(self);
            self.spawn(Box::pin(async move { storage.ring.run(&*storage.disk).await }));
        }
    }

    pub(crate) async fn look_at_space(&self) {
        let Ok(space) = self.disk.space(&self.space_dir).await else { return };
        let low_water = self.limits.low_water_bytes.unwrap_or_else(|| (1 << 30).min(space.total_bytes / 20));
        self.free_bytes.set(space.free_bytes);
        self.disk_full.set(space.free_bytes < low_water);
        if !self.disk_full.get() {
            self.space_freed.notify_waiters();
        }
    }

    pub(crate) fn spawn(&self, task: LocalFuture<'static, ()>) {
        self.spawn.spawn(task);
    }

    /// A random number that is never zero (SplitMix64).
    pub(crate) fn nonce(&self) -> u64 {
        self.random.set(self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        let mut word = self.random.get();
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)).max(1)
    }

    /// Keeps the nonces of a restart with the same seed apart from those of the run before.
    pub(crate) fn stir(&self, nonce: u64) {
        self.random.set(self.random.get().rotate_left(17) ^ nonce);
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failed.get()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.disk_full.get()
    }

    pub(crate) fn set_full(&self) {
        self.disk_full.set(true);
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes.get()
    }

    /// Records that the disk failed; the hook hears of the first time only.
    pub(crate) fn fail(&self, path: &Path, operation: &'static str, error: &std::io::Error) {
        if !self.failed.replace(true) {
            let error = FatalError { path: path.to_path_buf(), operation, error: error.to_string() };
            tracing::error!(path = %error.path.display(), operation, error = %error.error, "the disk failed");
            self.fatal.on_fatal(error);
        }
    }

    pub(crate) fn checkpoint_of(&self, key: LogKey) -> Option<Checkpoint> {
        let found = self.checkpoints.borrow().get(&key).copied();
        if let Some(checkpoint) = found {
            self.ring.adopt(key, checkpoint);
        }
        found
    }

    pub(crate) fn register(&self, log: Weak<Log>) {
        self.active.borrow_mut().push(log);
    }
}
