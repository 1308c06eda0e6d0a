//! Buffers that come back: fresh memory costs more to touch than to fill, so frames, batches and decompressed bodies live in
//! pooled allocations.
//!
//! A `PooledBuffer` is taken, written, and either dropped or frozen into `Bytes`; when the last slice of it is gone, the
//! allocation returns to its pool. Buffers are always initialised, so they can be read into as plain slices. The pool keeps a bounded number of bytes and knows how many are out, which is what a memory budget asks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// The smallest allocation.
const MIN_CLASS_BYTES: usize = 4096;
/// Number of doublings: 4 KiB to 64 MiB; larger ones are not kept.
const DOUBLINGS: usize = 14;
/// Number of sizes: four from each doubling to the next, so that at most a fifth of a buffer is not asked for.
const CLASS_COUNT: usize = DOUBLINGS * 4 + 1;

/// A pool; clones share it.
#[derive(Debug, Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max_idle_bytes: usize,
    in_use_bytes: AtomicUsize,
    idle: Mutex<Idle>,
}

#[derive(Debug)]
struct Idle {
    bytes: usize,
    classes: [Vec<Vec<u8>>; CLASS_COUNT],
}

impl Default for Idle {
    fn default() -> Self {
        Self { bytes: 0, classes: std::array::from_fn(|_| Vec::new()) }
    }
}

impl BufferPool {
    /// A pool that keeps at most `max_idle_bytes` of unused buffers.
    pub fn new(max_idle_bytes: usize) -> Self {
        let shared = Shared { max_idle_bytes, in_use_bytes: AtomicUsize::new(0), idle: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a buffer of at least `capacity` bytes, whose content is whatever it was.
    pub fn take(&self, capacity: usize) -> PooledBuffer {
        let bytes = rounded(capacity);
        let buffer = match self.reuse(capacity) {
            Some(mut buffer) => {
                buffer.resize(bytes, 0);
                buffer
            }
            None => vec![0; bytes],
        };
        self.lend(buffer, 0)
    }

    /// Takes an empty vector with room for `capacity` bytes; [`BufferPool::share`] makes it one of the pool's.
    pub(crate) fn take_empty(&self, capacity: usize) -> Vec<u8> {
        let mut buffer = self.reuse(capacity).unwrap_or_else(|| Vec::with_capacity(rounded(capacity)));
        buffer.clear();
        buffer
    }

    /// A filled vector as shared bytes; it comes to the pool when the last of them is gone.
    pub(crate) fn share(&self, buffer: Vec<u8>) -> Bytes {
        let length = buffer.len();
        Bytes::from_owner(self.lend(buffer, length))
    }

    fn lend(&self, buffer: Vec<u8>, length: usize) -> PooledBuffer {
        self.shared.in_use_bytes.fetch_add(buffer.capacity(), Ordering::Relaxed);
        PooledBuffer { buffer, length, shared: Arc::clone(&self.shared) }
    }

    /// A free buffer, as it was left.
    fn reuse(&self, capacity: usize) -> Option<Vec<u8>> {
        let class = class_of(capacity)?;
        let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = idle.classes[class].pop()?;
        idle.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Bytes of buffers that are out, frozen ones included.
    pub fn in_use_bytes(&self) -> usize {
        self.shared.in_use_bytes.load(Ordering::Relaxed)
    }

    /// Bytes kept for reuse.
    pub fn idle_bytes(&self) -> usize {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Gives the unused buffers back to the allocator.
    pub fn shrink(&self) {
        *self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner) = Idle::default();
    }
}

/// The class whose buffers hold `capacity` bytes; none if it is too large to keep.
fn class_of(capacity: usize) -> Option<usize> {
    let Some(above) = capacity.checked_sub(MIN_CLASS_BYTES + 1) else { return Some(0) };
    let doubling = (above / MIN_CLASS_BYTES + 1).ilog2() as usize;
    let base = MIN_CLASS_BYTES << doubling;
    let class = doubling * 4 + (capacity - base).div_ceil(base / 4);
    (class < CLASS_COUNT).then_some(class)
}

/// What a buffer for `capacity` bytes is made to hold.
fn rounded(capacity: usize) -> usize {
    class_of(capacity).map_or(capacity, class_bytes)
}

/// Bytes of the buffers of a class.
const fn class_bytes(class: usize) -> usize {
    if class == 0 {
        return MIN_CLASS_BYTES;
    }
    let base = MIN_CLASS_BYTES << ((class - 1) / 4);
    base + base / 4 * ((class - 1) % 4 + 1)
}

/// A buffer taken from a pool: its whole capacity can be written, its first `length` bytes become the `Bytes`.
#[derive(Debug)]
pub struct PooledBuffer {
    buffer: Vec<u8>,
    length: usize,
    shared: Arc<Shared>,
}

impl PooledBuffer {
    /// All of it.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// All of it.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// Bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// Its first `length` bytes as shared bytes, without a copy.
    ///
    /// # Panics
    /// If it holds fewer.
    pub fn freeze(mut self, length: usize) -> Bytes {
        assert!(length <= self.buffer.len(), "freezing {length} of {} bytes", self.buffer.len());
        self.length = length;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let capacity = buffer.capacity();
        self.shared.in_use_bytes.fetch_sub(capacity, Ordering::Relaxed);
        let Some(class) = class_of(capacity).filter(|class| class_bytes(*class) == capacity) else {
            return;
        };
        let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + capacity <= self.shared.max_idle_bytes {
            idle.bytes += capacity;
            idle.classes[class].push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_buffer_returns_when_its_last_slice_is_gone() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(8000);
        buffer.as_mut_slice()[..3].copy_from_slice(b"abc");
        let first = buffer.as_slice().as_ptr();
        let bytes = buffer.freeze(3);
        let slice = bytes.slice(1..);
        drop(bytes);
        assert_eq!((&slice[..], pool.in_use_bytes(), pool.idle_bytes()), (&b"bc"[..], 8192, 0));
        drop(slice);
        assert_eq!((pool.in_use_bytes(), pool.idle_bytes()), (0, 8192));
        assert_eq!(pool.take(8192).as_slice().as_ptr(), first, "the same memory again");
    }

    #[test]
    fn classes_hold_what_is_asked_and_little_more() {
        for capacity in (1..200_000).step_by(7).chain([4096, 4097, 8192, 1 << 20, (1 << 20) + 1, 64 << 20]) {
            let bytes = class_bytes(class_of(capacity).unwrap());
            assert!(capacity <= bytes && bytes <= capacity.max(3277) * 5 / 4, "{capacity} {bytes}");
            assert_eq!(class_of(bytes), class_of(capacity));
        }
        assert_eq!(class_of((64 << 20) + 1), None);
    }

    #[test]
    fn a_pool_keeps_no_more_than_it_may() {
        let pool = BufferPool::new(4096);
        let (one, two, large) = (pool.take(1), pool.take(1), pool.take(100 << 20));
        assert_eq!(large.capacity(), 100 << 20);
        drop((one, two, large));
        assert_eq!(pool.idle_bytes(), 4096);
        pool.shrink();
        assert_eq!(pool.idle_bytes(), 0);
    }
}
