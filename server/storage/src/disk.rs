//! The disk as the log sees it: a directory of files with aligned, positioned, completion-based I/O.
//!
//! Four implementations pass the same tests: io_uring and a thread pool (both O_DIRECT), a buffered fallback for file
//! systems without O_DIRECT, and a crash model for simulation (`crash`). A `Disk` belongs to one core and is not `Send`.
//!
//! Paths are relative to the disk's directory and cannot leave it: `..`, absolute paths and symbolic links are refused.
//! An operation starts when its method is called, not when its future is first polled; dropping the future detaches it and
//! the operation still completes. Errors of the system keep their `raw_os_error`.
//!
//! Rules every caller keeps: a write's offset and length are multiples of [`BLOCK_BYTES`]; a file is written by one
//! owner; after a failed write or sync that says `EIO`, nothing more is asked of that descriptor.

mod choice;
pub mod fault;
mod pool;
mod real;
mod ring;
mod system;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;

pub use self::choice::{Preference, UnknownPreference, choose_backend, open_disk};
use crate::buffer::AlignedBuffer;

/// Unit of alignment of every write, and of the smallest commit.
pub const BLOCK_BYTES: usize = 4096;

/// A future of one core.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Whether a write's completion means that it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// In the device's hands; a later sync makes it durable.
    No,
    /// Durable (data and the size needed to read it back) when the write completes.
    Yes,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist; writing fails.
    Read,
    /// The file must exist.
    ReadWrite,
    /// The file must not exist. Its directory entry is durable only after [`Disk::sync_dir`].
    CreateNew,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Last component of its path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Space of the file system under a path, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total_bytes: u64,
    /// What an unprivileged process may still take.
    pub free_bytes: u64,
}

/// Directory operations and opening of files.
pub trait Disk {
    /// Writes to every page of fresh memory away from the core's thread. Where memory costs nothing, it comes back at once.
    fn touch(&self, memory: AlignedBuffer) -> LocalFuture<'_, AlignedBuffer> {
        Box::pin(std::future::ready(memory))
    }
    /// Opens or creates a file.
    fn open<'a>(&'a self, path: &'a Path, mode: OpenMode) -> LocalFuture<'a, io::Result<Rc<dyn File>>>;
    /// Entries of a directory, sorted by name.
    fn list<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<Vec<DirEntry>>>;
    /// Creates a directory and its missing parents. Durable after `sync_dir` of each parent.
    fn create_dir_all<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<()>>;
    /// Makes the entries of a directory durable: creations, renames and removals.
    fn sync_dir<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<()>>;
    /// Renames a file or directory over nothing or over a file.
    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> LocalFuture<'a, io::Result<()>>;
    /// Removes a file.
    fn remove_file<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<()>>;
    /// Removes an empty directory.
    fn remove_dir<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<()>>;
    /// Space of the file system that holds `path`.
    fn space<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<Space>>;
    /// Name for logs and `levada status`: `io_uring`, `threads`, `buffered` or `simulated`.
    fn backend(&self) -> &'static str;
}

/// An open file. Dropping it closes it; operations under way finish first.
#[expect(clippy::len_without_is_empty, reason = "the length of a file is asked of the system, not of a collection")]
pub trait File {
    /// Writes all of `data` at `offset`. Both are multiples of [`BLOCK_BYTES`], and `data` starts at an address that is
    /// too (it is a slice of a [`crate::buffer::AppendBuffer`] or [`AlignedBuffer`]). The bytes stay readable by
    /// others while the write is under way.
    fn write(&self, data: Bytes, offset: u64, durable: Durable) -> LocalFuture<'_, io::Result<()>>;
    /// Fills `buffer` from `offset` (a multiple of [`BLOCK_BYTES`]) and returns it with the number of bytes read, which
    /// is short only at the end of the file.
    fn read(&self, buffer: AlignedBuffer, offset: u64) -> LocalFuture<'_, (AlignedBuffer, io::Result<usize>)>;
    /// Makes every completed write durable (fdatasync).
    fn sync(&self) -> LocalFuture<'_, io::Result<()>>;
    /// Reserves space so that writes inside `0..len_bytes` cannot fail for lack of it. The file's length becomes at
    /// least `len_bytes`; reserved and never written bytes read as zero.
    fn reserve(&self, len_bytes: u64) -> LocalFuture<'_, io::Result<()>>;
    /// Cuts the file to `len_bytes` and gives its reserved space back.
    fn truncate(&self, len_bytes: u64) -> LocalFuture<'_, io::Result<()>>;
    /// Length in bytes, reserved space included.
    fn len(&self) -> LocalFuture<'_, io::Result<u64>>;
    /// The path it was opened by, for messages.
    fn path(&self) -> PathBuf;
}

/// Refuses a write that direct I/O could not do, on every backend alike.
pub(crate) fn check_write(data: &Bytes, offset: u64) -> io::Result<()> {
    let aligned = data.len().is_multiple_of(BLOCK_BYTES)
        && offset.is_multiple_of(BLOCK_BYTES as u64)
        && data.as_ptr().addr().is_multiple_of(BLOCK_BYTES)
        && offset.checked_add(data.len() as u64).is_some_and(|end| i64::try_from(end).is_ok());
    if aligned { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}

/// Refuses a read that direct I/O could not do, on every backend alike.
pub(crate) fn check_read(offset: u64) -> io::Result<()> {
    let aligned = offset.is_multiple_of(BLOCK_BYTES as u64) && i64::try_from(offset).is_ok();
    if aligned { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}
