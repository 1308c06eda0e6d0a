//! Which backend serves a data directory: asked for, or measured there.
//!
//! A probe file is written, read back and removed. A backend that fails at it is not used; between those that work the
//! ring is taken if it is not slower than the threads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::real::{Engine, RealDisk};
use super::ring::Ring;
use super::system::{Root, errno};
use super::{BLOCK_BYTES, Disk, Durable, File, OpenMode};
use crate::buffer::BufferPool;

/// The backend a user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// The fastest that works in the data directory.
    #[default]
    Auto,
    /// io_uring with direct I/O, or an error.
    IoUring,
    /// Threads with direct I/O, or an error.
    Threads,
    /// Threads through the page cache.
    Buffered,
}

/// A word that names no backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of auto, io_uring, threads, buffered")]
pub struct UnknownPreference(String);

impl FromStr for Preference {
    type Err = UnknownPreference;

    fn from_str(word: &str) -> Result<Self, UnknownPreference> {
        match word {
            "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::IoUring),
            "threads" => Ok(Self::Threads),
            "buffered" => Ok(Self::Buffered),
            _ => Err(UnknownPreference(word.to_owned())),
        }
    }
}

impl fmt::Display for Preference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Threads => "threads",
            Self::Buffered => "buffered",
        })
    }
}

/// Decides what `Auto` means in a directory, by measuring there; another preference is its own answer. Ask once per process:
/// so short a measurement may well decide otherwise the next time. Must be called on a local task set.
///
/// # Errors
/// Those of the directory.
pub async fn choose_backend(dir: &Path, preference: Preference) -> io::Result<Preference> {
    if preference != Preference::Auto {
        tracing::info!(backend = %preference, dir = %dir.display(), "disk backend as asked for");
        return Ok(preference);
    }
    let root = Arc::new(Root::open(dir)?);
    let threads = match proven(RealDisk::new(Arc::clone(&root), Engine::Threads)).await {
        Ok((_, took)) => took,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            tracing::info!("no direct I/O in blocks of {BLOCK_BYTES} bytes here: writing through the page cache");
            return Ok(Preference::Buffered);
        }
        Err(error) => return Err(error),
    };
    let ring = match ring_disk(&root) {
        Ok(ring) => proven(ring).await,
        Err(error) => Err(error),
    };
    let ring = match ring {
        Ok((_, took)) => took,
        Err(error) => {
            tracing::info!(%error, "io_uring does not work here: writing through threads");
            return Ok(Preference::Threads);
        }
    };
    // So short a probe cannot tell a quarter from noise, and the ring costs less processor time.
    let chosen = if ring <= threads + threads / 4 { Preference::IoUring } else { Preference::Threads };
    tracing::info!(backend = %chosen, io_uring = ?ring, threads = ?threads, dir = %dir.display(), "disk backend measured");
    Ok(chosen)
}

/// Opens the disk of one core on an existing directory. Must be called on a local task set (or local runtime) of the core
/// that will use it. A process with several cores asks [`choose_backend`] first and gives each core its answer.
///
/// # Errors
/// Those of the directory; that of the probe if the wanted backend does not work there (`EINVAL`: no direct I/O).
pub async fn open_disk(dir: &Path, preference: Preference) -> io::Result<Rc<dyn Disk>> {
    let preference = if preference == Preference::Auto { choose_backend(dir, preference).await? } else { preference };
    let root = Arc::new(Root::open(dir)?);
    let disk = match preference {
        Preference::IoUring => proven(ring_disk(&root)?).await?.0,
        Preference::Threads | Preference::Auto => proven(RealDisk::new(root, Engine::Threads)).await?.0,
        Preference::Buffered => RealDisk::new(root, Engine::Buffered),
    };
    tracing::debug!(backend = disk.backend(), dir = %dir.display(), "disk opened");
    Ok(Rc::new(disk))
}

fn ring_disk(root: &Arc<Root>) -> io::Result<RealDisk> {
    Ok(RealDisk::new(Arc::clone(root), Engine::Ring(Rc::new(Ring::start()?))))
}

/// The disk, and what its probe took, if it writes and reads back correctly.
async fn proven(disk: RealDisk) -> io::Result<(RealDisk, Duration)> {
    let path = probe_path();
    let file = disk.open(&path, OpenMode::CreateNew).await?;
    let outcome = probe(&file).await;
    disk.remove_file(&path).await?;
    outcome.map(|took| (disk, took))
}

/// Different for every call of every process, because each core probes by itself.
fn probe_path() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    PathBuf::from(format!(".probe-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

const SMALL_COUNT: u64 = 9;
const LARGE_COUNT: u64 = 3;
const LARGE_BYTES: usize = 1 << 20;

/// Medians of a small and a large durable write, added.
async fn probe(file: &Rc<dyn File>) -> io::Result<Duration> {
    file.reserve((SMALL_COUNT + 1) * BLOCK_BYTES as u64 + LARGE_COUNT * LARGE_BYTES as u64).await?;
    let mut offset = 0;
    timed_write(file, &mut offset, BLOCK_BYTES).await?;
    read_back(file).await?;
    let mut small = Vec::new();
    for _ in 0..SMALL_COUNT {
        small.push(timed_write(file, &mut offset, BLOCK_BYTES).await?);
    }
    let mut large = Vec::new();
    for _ in 0..LARGE_COUNT {
        large.push(timed_write(file, &mut offset, LARGE_BYTES).await?);
    }
    Ok(median(small) + median(large))
}

async fn timed_write(file: &Rc<dyn File>, offset: &mut u64, len: usize) -> io::Result<Duration> {
    let mut buffer = BufferPool::new(0).take(len);
    buffer.as_mut_slice().fill(0x4c);
    let data = buffer.freeze(len);
    let start = Instant::now();
    file.write(data, *offset, Durable::Yes).await?;
    *offset += len as u64;
    Ok(start.elapsed())
}

async fn read_back(file: &Rc<dyn File>) -> io::Result<()> {
    let (buffer, count) = file.read(BufferPool::new(0).take(BLOCK_BYTES), 0).await;
    let same = count? == BLOCK_BYTES && buffer.as_slice().iter().all(|&byte| byte == 0x4c);
    if same { Ok(()) } else { Err(errno(libc::EIO)) }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
