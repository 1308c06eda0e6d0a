//! Open files of one core behind an LRU. A file in use stays open through its own handle after it has left the list.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::disk::{Disk, File, OpenMode};

/// A segment's nonce, and whether the file is open for writing.
type Key = (u64, bool);

pub(crate) struct Descriptors {
    capacity: usize,
    list: RefCell<List>,
}

#[derive(Default)]
struct List {
    clock: u64,
    files: BTreeMap<Key, (Rc<dyn File>, u64)>,
    order: BTreeMap<u64, Key>,
}

impl Descriptors {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), list: RefCell::default() }
    }

    pub(crate) fn count(&self) -> usize {
        self.list.borrow().files.len()
    }

    /// The open file, opened now if it is not.
    pub(crate) async fn get(&self, disk: &dyn Disk, nonce: u64, path: &Path, write: bool) -> io::Result<Rc<dyn File>> {
        if let Some(file) = self.list.borrow_mut().touch((nonce, write)) {
            return Ok(file);
        }
        let mode = if write { OpenMode::ReadWrite } else { OpenMode::Read };
        let file = disk.open(path, mode).await?;
        self.put(nonce, write, Rc::clone(&file));
        Ok(file)
    }

    /// Remembers a file opened by the caller.
    pub(crate) fn put(&self, nonce: u64, write: bool, file: Rc<dyn File>) {
        let mut list = self.list.borrow_mut();
        list.remove((nonce, write));
        while self.capacity <= list.files.len() {
            let Some((_, &oldest)) = list.order.first_key_value() else { break };
            list.remove(oldest);
        }
        list.clock += 1;
        let clock = list.clock;
        list.order.insert(clock, (nonce, write));
        list.files.insert((nonce, write), (file, clock));
    }

    /// Forgets a segment's files.
    pub(crate) fn remove(&self, nonce: u64) {
        let mut list = self.list.borrow_mut();
        list.remove((nonce, false));
        list.remove((nonce, true));
    }

    /// Closes everything not in use.
    pub(crate) fn clear(&self) {
        *self.list.borrow_mut() = List::default();
    }
}

impl List {
    fn touch(&mut self, key: Key) -> Option<Rc<dyn File>> {
        let (file, used) = self.files.get_mut(&key)?;
        let file = Rc::clone(file);
        self.order.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.order.insert(self.clock, key);
        Some(file)
    }

    fn remove(&mut self, key: Key) {
        if let Some((_, used)) = self.files.remove(&key) {
            self.order.remove(&used);
        }
    }
}
