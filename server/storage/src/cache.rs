//! Memory that serves readers: buffers just written (tail chunks) and cold blocks read back. Bounded in bytes; of each
//! kind the least recently used goes first, and what nobody read for a while is released.
//!
//! Keys are segment nonces, which are unique and change when a segment is rewritten, so nothing stale can be found.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::Notify;

/// Cold reads are blocks of this size at multiples of it.
pub(crate) const COLD_BLOCK_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shelf {
    Tail,
    Cold,
}

type Key = (Shelf, u64, u64);

struct Entry {
    bytes: Bytes,
    charge_bytes: u64,
    used: u64,
    second: u64,
}

/// Cold blocks may have this part of the budget before they push out each other rather than new data: one reader that
/// starts from the beginning would otherwise empty the cache for everyone, and for itself.
const COLD_SHARE: u64 = 4;

/// The cache of one core.
pub(crate) struct Cache {
    budget_bytes: u64,
    tail_bytes: u64,
    cold_bytes: u64,
    clock: u64,
    second: u64,
    entries: BTreeMap<Key, Entry>,
    /// By last use, each shelf apart.
    order: BTreeMap<(Shelf, u64), Key>,
}

impl Cache {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
            budget_bytes,
            tail_bytes: 0,
            cold_bytes: 0,
            clock: 0,
            second: 0,
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
        }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.tail_bytes + self.cold_bytes
    }

    /// Releases the oldest new data unless no more than `keep_bytes` of it are left; says whether it did.
    pub(crate) fn release_oldest(&mut self, keep_bytes: u64) -> bool {
        keep_bytes < self.tail_bytes && self.release_first(Shelf::Tail)
    }

    /// Keeps a buffer that was written to `position` of a segment.
    pub(crate) fn insert_tail(&mut self, nonce: u64, position: u64, bytes: Bytes, charge_bytes: u64) {
        self.insert((Shelf::Tail, nonce, position), bytes, charge_bytes);
    }

    /// Keeps a cold block.
    pub(crate) fn insert_cold(&mut self, nonce: u64, position: u64, bytes: Bytes) {
        let charge_bytes = bytes.len() as u64;
        self.insert((Shelf::Cold, nonce, position), bytes, charge_bytes);
    }

    /// The buffer that covers `position`, the position of its first byte, and whether it was read from the disk.
    pub(crate) fn find(&mut self, nonce: u64, position: u64) -> Option<(Bytes, u64, bool)> {
        let tail = self
            .entries
            .range((Shelf::Tail, nonce, 0)..=(Shelf::Tail, nonce, position))
            .next_back()
            .filter(|(key, entry)| position < key.2 + entry.bytes.len() as u64)
            .map(|(&key, _)| key);
        let key = tail.or_else(|| {
            let key = (Shelf::Cold, nonce, position - position % COLD_BLOCK_BYTES);
            self.entries.get(&key).is_some_and(|entry| position < key.2 + entry.bytes.len() as u64).then_some(key)
        })?;
        Some((self.touch(key)?, key.2, key.0 == Shelf::Cold))
    }

    /// Whether a cold block is kept with at least `len_bytes`.
    pub(crate) fn has_cold(&self, nonce: u64, position: u64, len_bytes: u64) -> bool {
        self.entries.get(&(Shelf::Cold, nonce, position)).is_some_and(|entry| len_bytes <= entry.bytes.len() as u64)
    }

    /// Forgets everything of a segment.
    pub(crate) fn remove_segment(&mut self, nonce: u64) {
        for shelf in [Shelf::Tail, Shelf::Cold] {
            let keys: Vec<Key> =
                self.entries.range((shelf, nonce, 0)..=(shelf, nonce, u64::MAX)).map(|(&key, _)| key).collect();
            keys.into_iter().for_each(|key| self.remove(key));
        }
    }

    /// Advances the cache's idea of time by one second and releases what was not used for `idle_seconds`.
    pub(crate) fn tick(&mut self, idle_seconds: u64) {
        self.second += 1;
        for shelf in [Shelf::Tail, Shelf::Cold] {
            while let Some(key) = self.first(shelf)
                && self.entries.get(&key).is_none_or(|entry| entry.second + idle_seconds <= self.second)
            {
                self.remove(key);
            }
        }
    }

    /// Releases everything.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        (self.tail_bytes, self.cold_bytes) = (0, 0);
    }

    fn insert(&mut self, key: Key, bytes: Bytes, charge_bytes: u64) {
        self.remove(key);
        if self.budget_bytes < charge_bytes {
            return;
        }
        while self.budget_bytes < self.used_bytes() + charge_bytes && self.evict() {}
        self.clock += 1;
        *self.bytes_of(key.0) += charge_bytes;
        self.order.insert((key.0, self.clock), key);
        self.entries.insert(key, Entry { bytes, charge_bytes, used: self.clock, second: self.second });
    }

    fn touch(&mut self, key: Key) -> Option<Bytes> {
        let entry = self.entries.get_mut(&key)?;
        // The most recent one, which is what a tail reader asks for again and again, needs no reordering.
        if entry.used != self.clock {
            self.order.remove(&(key.0, entry.used));
            self.clock += 1;
            entry.used = self.clock;
            self.order.insert((key.0, self.clock), key);
        }
        entry.second = self.second;
        Some(entry.bytes.clone())
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.order.remove(&(key.0, entry.used));
            *self.bytes_of(key.0) -= entry.charge_bytes;
        }
    }

    /// Makes some room.
    fn evict(&mut self) -> bool {
        let cold_first = self.budget_bytes / COLD_SHARE <= self.cold_bytes;
        let shelves = if cold_first { [Shelf::Cold, Shelf::Tail] } else { [Shelf::Tail, Shelf::Cold] };
        shelves.into_iter().any(|shelf| self.release_first(shelf))
    }

    fn release_first(&mut self, shelf: Shelf) -> bool {
        let first = self.first(shelf);
        first.is_some_and(|key| {
            self.remove(key);
            true
        })
    }

    /// The least recently used of a shelf.
    fn first(&self, shelf: Shelf) -> Option<Key> {
        self.order.range((shelf, 0)..=(shelf, u64::MAX)).next().map(|(_, &key)| key)
    }

    fn bytes_of(&mut self, shelf: Shelf) -> &mut u64 {
        match shelf {
            Shelf::Tail => &mut self.tail_bytes,
            Shelf::Cold => &mut self.cold_bytes,
        }
    }
}

/// A cold block being read: everyone who wants it waits for the same read.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) result: RefCell<Option<Result<Bytes, Rc<io::Error>>>>,
    pub(crate) done: Cell<bool>,
    pub(crate) notify: Notify,
}

impl Reading {
    pub(crate) fn finish(&self, result: Result<Bytes, Rc<io::Error>>) {
        *self.result.borrow_mut() = Some(result);
        self.done.set(true);
        self.notify.notify_waiters();
    }

    pub(crate) async fn wait(&self) -> Result<Bytes, Rc<io::Error>> {
        loop {
            // Registered before the look, so that a finish in between is not missed.
            let notified = self.notify.notified();
            if self.done.get() {
                return self.result.borrow().clone().expect("a finished read has a result");
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fill: u8, len: usize) -> Bytes {
        Bytes::from(vec![fill; len])
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_budget_holds() {
        let mut cache = Cache::new(300);
        for number in 0..3_u8 {
            cache.insert_tail(7, u64::from(number) * 100, block(number, 100), 100);
        }
        assert_eq!(cache.find(7, 50).map(|found| found.1), Some(0));
        cache.insert_tail(7, 300, block(3, 100), 100);
        assert_eq!(cache.used_bytes(), 300);
        assert!(cache.find(7, 150).is_none());
        assert_eq!(cache.find(7, 399).map(|(bytes, at, _)| (bytes[0], at)), Some((3, 300)));
        assert_eq!(cache.find(7, 0).map(|found| found.1), Some(0));
        cache.insert_tail(7, 1000, block(9, 301), 301);
        assert!(cache.find(7, 1000).is_none());
    }

    #[test]
    fn a_tail_buffer_is_found_before_the_cold_block_around_it() {
        let mut cache = Cache::new(10 << 20);
        cache.insert_cold(1, 0, block(1, 1 << 20));
        cache.insert_tail(1, 4096, block(2, 4096), 4096);
        assert_eq!(cache.find(1, 5000).map(|(bytes, at, _)| (bytes[0], at)), Some((2, 4096)));
        assert_eq!(cache.find(1, 9000).map(|(bytes, at, _)| (bytes[0], at)), Some((1, 0)));
        assert!(cache.find(2, 9000).is_none());
        cache.remove_segment(1);
        assert_eq!(cache.used_bytes(), 0);
        assert!(cache.find(1, 5000).is_none());
    }

    #[test]
    fn a_reader_from_the_beginning_does_not_push_out_what_it_will_read() {
        let mut cache = Cache::new(800);
        (0..8).for_each(|number| cache.insert_tail(7, 10_000 + number * 100, block(1, 100), 100));
        for number in 0..20 {
            cache.insert_cold(7, number * COLD_BLOCK_BYTES, block(2, 100));
        }
        assert_eq!(cache.used_bytes(), 800);
        let kept = (0..8).filter(|number| cache.find(7, 10_000 + number * 100).is_some_and(|found| !found.2)).count();
        assert_eq!(kept, 6, "a quarter went to cold blocks");
        assert!(cache.has_cold(7, 19 * COLD_BLOCK_BYTES, 100) && !cache.has_cold(7, 17 * COLD_BLOCK_BYTES, 100));
    }

    #[test]
    fn memory_for_new_chunks_comes_from_the_oldest_down_to_a_floor() {
        let mut cache = Cache::new(800);
        (0..4).for_each(|number| cache.insert_tail(7, number * 100, block(1, 100), 100));
        assert!(cache.release_oldest(200) && cache.release_oldest(200) && !cache.release_oldest(200));
        assert!(cache.find(7, 100).is_none() && cache.find(7, 200).is_some());
    }

    #[test]
    fn what_nobody_reads_is_released() {
        let mut cache = Cache::new(10 << 20);
        cache.insert_tail(1, 0, block(1, 10), 10);
        cache.insert_tail(1, 10, block(2, 10), 10);
        cache.tick(2);
        assert!(cache.find(1, 0).is_some());
        cache.tick(2);
        assert!(cache.find(1, 10).is_none());
        assert!(cache.find(1, 0).is_some());
        cache.tick(2);
        cache.tick(2);
        assert_eq!(cache.used_bytes(), 0);
    }
}
