//! A disk on a file system: names always through the thread pool, bytes through the ring or the pool.
//!
//! Every operation starts when it is called. A file is closed after its last handle and last operation.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::pool::Pool;
use super::ring::Ring;
use super::system::{self, Root};
use super::{BLOCK_BYTES, DirEntry, Disk, Durable, File, LocalFuture, OpenMode, Space, check_read, check_write};
use crate::buffer::AlignedBuffer;

/// How bytes get to the device.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    Ring(Rc<Ring>),
    /// The pool, with direct I/O.
    Threads,
    /// The pool, through the page cache.
    Buffered,
}

#[derive(Debug)]
pub(super) struct RealDisk {
    root: Arc<Root>,
    pool: Rc<Pool>,
    engine: Engine,
}

impl RealDisk {
    pub(super) fn new(root: Arc<Root>, engine: Engine) -> Self {
        Self { root, pool: Rc::default(), engine }
    }

    fn on_names<'a, T: Send + 'static>(
        &self,
        call: impl FnOnce(&Root) -> io::Result<T> + Send + 'static,
    ) -> LocalFuture<'a, io::Result<T>> {
        let root = Arc::clone(&self.root);
        self.pool.run(move || call(&root))
    }
}

impl Disk for RealDisk {
    fn touch(&self, mut memory: AlignedBuffer) -> LocalFuture<'_, AlignedBuffer> {
        self.pool.run(move || {
            memory.as_mut_slice().chunks_mut(BLOCK_BYTES).for_each(|page| page[0] = 0);
            memory
        })
    }

    fn open<'a>(&'a self, path: &'a Path, mode: OpenMode) -> LocalFuture<'a, io::Result<Rc<dyn File>>> {
        let wanted = path.to_owned();
        let direct = !matches!(self.engine, Engine::Buffered);
        let opened = self.on_names(move |root| root.open_file(&wanted, mode, direct));
        Box::pin(async move {
            let file = RealFile {
                file: Arc::new(opened.await?),
                path: path.to_owned(),
                pool: Rc::clone(&self.pool),
                engine: self.engine.clone(),
            };
            Ok(Rc::new(file) as Rc<dyn File>)
        })
    }

    fn list<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<Vec<DirEntry>>> {
        let dir = dir.to_owned();
        self.on_names(move |root| root.list(&dir))
    }

    fn create_dir_all<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        let dir = dir.to_owned();
        self.on_names(move |root| root.create_dir_all(&dir))
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        let dir = dir.to_owned();
        self.on_names(move |root| root.sync_dir(&dir))
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.on_names(move |root| root.rename(&from, &to))
    }

    fn remove_file<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        let path = path.to_owned();
        self.on_names(move |root| root.remove(&path, false))
    }

    fn remove_dir<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        let path = path.to_owned();
        self.on_names(move |root| root.remove(&path, true))
    }

    fn space<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<Space>> {
        let path = path.to_owned();
        self.on_names(move |root| root.space(&path))
    }

    fn backend(&self) -> &'static str {
        match self.engine {
            Engine::Ring(_) => "io_uring",
            Engine::Threads => "threads",
            Engine::Buffered => "buffered",
        }
    }
}

struct RealFile {
    file: Arc<fs::File>,
    path: PathBuf,
    pool: Rc<Pool>,
    engine: Engine,
}

impl RealFile {
    fn on_file<'a, T: Send + 'static>(&self, call: impl FnOnce(&fs::File) -> T + Send + 'static) -> LocalFuture<'a, T> {
        let file = Arc::clone(&self.file);
        self.pool.run(move || call(&file))
    }
}

impl File for RealFile {
    fn write(&self, data: Bytes, offset: u64, durable: Durable) -> LocalFuture<'_, io::Result<()>> {
        if let Err(misaligned) = check_write(&data, offset) {
            return Box::pin(std::future::ready(Err(misaligned)));
        }
        match &self.engine {
            Engine::Ring(ring) => ring.write(Arc::clone(&self.file), data, offset, durable),
            Engine::Threads | Engine::Buffered => {
                self.on_file(move |file| system::write_all(file, &data, offset, durable))
            }
        }
    }

    fn read(&self, mut buffer: AlignedBuffer, offset: u64) -> LocalFuture<'_, (AlignedBuffer, io::Result<usize>)> {
        if let Err(misaligned) = check_read(offset) {
            return Box::pin(std::future::ready((buffer, Err(misaligned))));
        }
        match &self.engine {
            Engine::Ring(ring) => ring.read(Arc::clone(&self.file), buffer, offset),
            Engine::Threads | Engine::Buffered => self.on_file(move |file| {
                let outcome = system::read_full(file, &mut buffer, offset);
                (buffer, outcome)
            }),
        }
    }

    fn sync(&self) -> LocalFuture<'_, io::Result<()>> {
        match &self.engine {
            Engine::Ring(ring) => ring.sync(Arc::clone(&self.file)),
            Engine::Threads | Engine::Buffered => self.on_file(fs::File::sync_data),
        }
    }

    fn reserve(&self, len_bytes: u64) -> LocalFuture<'_, io::Result<()>> {
        self.on_file(move |file| system::reserve(file, len_bytes))
    }

    fn truncate(&self, len_bytes: u64) -> LocalFuture<'_, io::Result<()>> {
        self.on_file(move |file| file.set_len(len_bytes))
    }

    fn len(&self) -> LocalFuture<'_, io::Result<u64>> {
        self.on_file(|file| file.metadata().map(|found| found.len()))
    }

    fn path(&self) -> PathBuf {
        self.path.clone()
    }
}
