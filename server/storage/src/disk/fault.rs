//! Failures on demand: a plan of which operation fails, and a wrapper that carries it out over any disk.
//!
//! The wrapper fails an operation instead of passing it on, and counts what is asked of a file afterwards: a correct owner
//! asks nothing more. The crash model takes the same plan but fails operations half-way.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use super::{DirEntry, Disk, Durable, File, LocalFuture, OpenMode, Space};
use crate::buffer::AlignedBuffer;

/// A kind of operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// Any write.
    Write,
    /// A write with [`Durable::Yes`], a sync of a file or of a directory.
    Flush,
    /// Any read.
    Read,
}

/// What an operation is to a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Write(Durable),
    Sync,
    Read,
}

/// Failures to come.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultPlan {
    faults: Vec<Fault>,
}

#[derive(Clone, Debug)]
struct Fault {
    point: FaultPoint,
    /// Matching operations until the failing one, which is the last of them.
    remaining_count: u64,
    errno: i32,
}

impl FaultPlan {
    /// Makes the `nth` matching operation from now (the first is 1) fail.
    pub(crate) fn fail(&mut self, point: FaultPoint, nth: u64, errno: i32) {
        self.faults.push(Fault { point, remaining_count: nth, errno });
    }

    /// Counts an operation and returns its failure, if it is its turn.
    pub(crate) fn check(&mut self, operation: Operation) -> io::Result<()> {
        let mut failure = None;
        self.faults.retain_mut(|fault| {
            if fault.point.matches(operation) {
                fault.remaining_count = fault.remaining_count.saturating_sub(1);
                if fault.remaining_count == 0 {
                    failure = Some(fault.errno);
                }
            }
            fault.remaining_count != 0
        });
        failure.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

impl FaultPoint {
    fn matches(self, operation: Operation) -> bool {
        match self {
            Self::Write => matches!(operation, Operation::Write(_)),
            Self::Flush => matches!(operation, Operation::Write(Durable::Yes) | Operation::Sync),
            Self::Read => operation == Operation::Read,
        }
    }
}

/// A disk whose chosen operations fail. Clones share the plan.
#[derive(Clone)]
pub struct FaultDisk {
    inner: Rc<dyn Disk>,
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    plan: RefCell<FaultPlan>,
    failed_count: Cell<u64>,
    asked_after_failure_count: Cell<u64>,
}

impl FaultDisk {
    /// Wraps a disk; nothing fails yet.
    #[must_use]
    pub fn new(inner: Rc<dyn Disk>) -> Self {
        Self { inner, shared: Rc::default() }
    }

    /// Makes the `nth` matching operation from now (the first is 1) fail with `errno`, for instance `libc::EIO`.
    pub fn fail(&self, point: FaultPoint, nth: u64, errno: i32) {
        self.shared.plan.borrow_mut().fail(point, nth, errno);
    }

    /// Failures carried out.
    #[must_use]
    pub fn failed_count(&self) -> u64 {
        self.shared.failed_count.get()
    }

    /// Writes and syncs asked of a file handle after one of its writes or syncs had failed.
    #[must_use]
    pub fn asked_after_failure_count(&self) -> u64 {
        self.shared.asked_after_failure_count.get()
    }
}

impl std::fmt::Debug for FaultDisk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FaultDisk").field("over", &self.inner.backend()).field("shared", &self.shared).finish()
    }
}

impl Shared {
    fn check(&self, operation: Operation) -> io::Result<()> {
        let checked = self.plan.borrow_mut().check(operation);
        if checked.is_err() {
            self.failed_count.set(self.failed_count.get() + 1);
        }
        checked
    }
}

impl Disk for FaultDisk {
    fn touch(&self, memory: AlignedBuffer) -> LocalFuture<'_, AlignedBuffer> {
        self.inner.touch(memory)
    }

    fn open<'a>(&'a self, path: &'a Path, mode: OpenMode) -> LocalFuture<'a, io::Result<Rc<dyn File>>> {
        let opened = self.inner.open(path, mode);
        Box::pin(async move {
            let file = FaultFile { inner: opened.await?, shared: Rc::clone(&self.shared), failed: Cell::new(false) };
            Ok(Rc::new(file) as Rc<dyn File>)
        })
    }

    fn list<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<Vec<DirEntry>>> {
        self.inner.list(dir)
    }

    fn create_dir_all<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        self.inner.create_dir_all(dir)
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        match self.shared.check(Operation::Sync) {
            Ok(()) => self.inner.sync_dir(dir),
            Err(failure) => ready(Err(failure)),
        }
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        self.inner.rename(from, to)
    }

    fn remove_file<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        self.inner.remove_file(path)
    }

    fn remove_dir<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        self.inner.remove_dir(path)
    }

    fn space<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<Space>> {
        self.inner.space(path)
    }

    fn backend(&self) -> &'static str {
        self.inner.backend()
    }
}

struct FaultFile {
    inner: Rc<dyn File>,
    shared: Rc<Shared>,
    failed: Cell<bool>,
}

impl FaultFile {
    fn check(&self, operation: Operation) -> io::Result<()> {
        if self.failed.get() {
            self.shared.asked_after_failure_count.set(self.shared.asked_after_failure_count.get() + 1);
        }
        let checked = self.shared.check(operation);
        if checked.is_err() {
            self.failed.set(true);
        }
        checked
    }
}

impl File for FaultFile {
    fn write(&self, data: Bytes, offset: u64, durable: Durable) -> LocalFuture<'_, io::Result<()>> {
        match self.check(Operation::Write(durable)) {
            Ok(()) => self.inner.write(data, offset, durable),
            Err(failure) => ready(Err(failure)),
        }
    }

    fn read(&self, buffer: AlignedBuffer, offset: u64) -> LocalFuture<'_, (AlignedBuffer, io::Result<usize>)> {
        // A failed read leaves a descriptor as good as it was, so it does not count against what is asked later.
        match self.shared.check(Operation::Read) {
            Ok(()) => self.inner.read(buffer, offset),
            Err(failure) => ready((buffer, Err(failure))),
        }
    }

    fn sync(&self) -> LocalFuture<'_, io::Result<()>> {
        match self.check(Operation::Sync) {
            Ok(()) => self.inner.sync(),
            Err(failure) => ready(Err(failure)),
        }
    }

    fn reserve(&self, len_bytes: u64) -> LocalFuture<'_, io::Result<()>> {
        self.inner.reserve(len_bytes)
    }

    fn truncate(&self, len_bytes: u64) -> LocalFuture<'_, io::Result<()>> {
        self.inner.truncate(len_bytes)
    }

    fn len(&self) -> LocalFuture<'_, io::Result<u64>> {
        self.inner.len()
    }

    fn path(&self) -> PathBuf {
        self.inner.path()
    }
}

fn ready<'a, T: 'a>(value: T) -> LocalFuture<'a, T> {
    Box::pin(std::future::ready(value))
}
