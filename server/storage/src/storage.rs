//! What the partitions of one core share: disk, buffers, cache, descriptors, limits, clock, checkpoints.

use std::path::PathBuf;
use std::rc::Rc;

use crate::buffer::BufferPool;
use crate::disk::{Disk, LocalFuture};
use crate::errors::OpenError;

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
    options: Rc<StorageOptions>,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Storage").field("core", &self.options.core).finish_non_exhaustive()
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
        Ok(Self { options: Rc::new(options) })
    }

    /// Figures for `levada status`.
    #[must_use]
    pub fn status(&self) -> StorageStatus {
        StorageStatus::default()
    }

    /// Releases idle cache, closes idle files, looks at free space. Call about once a second; cheap when nothing is due.
    pub async fn maintain(&self) {}

    /// Writes what the checkpoint ring still holds. Call after every partition is closed.
    pub async fn close(&self) {}

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &Rc<dyn Disk> {
        &self.options.disk
    }
}
