//! Aligned memory that is reused: fresh pages cost more than the copy into them.
//!
//! A [`BufferPool`] hands out memory in power-of-two size classes, aligned to a page. [`AlignedBuffer`] is exclusive (reads,
//! headers under construction); [`AppendBuffer`] only grows, and what it has written can be shared while it grows. Memory
//! goes back to its pool when the last handle to it is dropped, on whichever thread that happens, so the free lists are
//! behind a mutex that only the owning core normally takes. What the pool keeps free is capped in bytes; more goes back to
//! the system. Contents of a reused buffer are whatever was there: callers write before they read, or ask for zeros.
#![expect(unsafe_code, reason = "memory shared between one appender and many readers, mapped by hand")]

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::disk::BLOCK_BYTES;

/// Largest size that is pooled; larger requests are mapped and unmapped each time.
pub const MAX_POOLED_BYTES: usize = 64 << 20;

/// A huge page of the architectures we run on; where it is another size, the advice is merely of less use.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Size classes from [`BLOCK_BYTES`] to [`MAX_POOLED_BYTES`], each twice the one before.
const CLASS_COUNT: usize = (MAX_POOLED_BYTES / BLOCK_BYTES).ilog2() as usize + 1;

/// The buffers of one core. Cloning shares the pool.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

/// What a pool has done so far. Bytes count whole size classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferStats {
    /// Requests served from the free lists.
    pub reused_count: u64,
    /// Requests that took fresh memory from the system.
    pub fresh_count: u64,
    /// Bytes in the hands of callers.
    pub used_bytes: usize,
    /// Bytes kept for reuse.
    pub free_bytes: usize,
}

struct Shared {
    max_free_bytes: usize,
    lists: Mutex<FreeLists>,
}

#[derive(Default)]
struct FreeLists {
    classes: [Vec<Region>; CLASS_COUNT],
    stats: BufferStats,
}

impl BufferPool {
    /// A pool that keeps at most `max_free_bytes` for reuse.
    #[must_use]
    pub fn new(max_free_bytes: usize) -> Self {
        Self { shared: Arc::new(Shared { max_free_bytes, lists: Mutex::default() }) }
    }

    /// A buffer of `len_bytes`, rounded up to [`BLOCK_BYTES`], with unspecified contents.
    #[must_use]
    pub fn take(&self, len_bytes: usize) -> AlignedBuffer {
        let len = round_up_to_block(len_bytes.max(1));
        AlignedBuffer { memory: self.lease(len), len }
    }

    /// A buffer of `len_bytes`, rounded up to [`BLOCK_BYTES`], of zeros.
    #[must_use]
    pub fn take_zeroed(&self, len_bytes: usize) -> AlignedBuffer {
        let mut buffer = self.take(len_bytes);
        buffer.as_mut_slice().fill(0);
        buffer
    }

    /// An empty append buffer for at least `capacity_bytes`: the whole size class can be used.
    #[must_use]
    pub fn append(&self, capacity_bytes: usize) -> AppendBuffer {
        AppendBuffer { memory: Arc::new(self.lease(round_up_to_block(capacity_bytes.max(1)))), len: 0 }
    }

    /// A buffer like [`BufferPool::take`]'s that was never used before: its pages are still to be touched.
    pub(crate) fn fresh(&self, len_bytes: usize) -> AlignedBuffer {
        let len = round_up_to_block(len_bytes.max(1));
        let size = class_of(len).1;
        let mut lists = self.shared.lists();
        lists.stats.fresh_count += 1;
        lists.stats.used_bytes += size;
        drop(lists);
        AlignedBuffer { memory: Lease { region: Some(Region::map(size)), pool: Arc::clone(&self.shared) }, len }
    }

    /// Free buffers of the size class that holds `len_bytes`.
    pub(crate) fn free_count(&self, len_bytes: usize) -> usize {
        let class = class_of(round_up_to_block(len_bytes.max(1))).0;
        class.map_or(0, |class| self.shared.lists().classes[class].len())
    }

    /// What the pool has done so far.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        self.shared.lists().stats
    }

    /// Gives all free memory back to the system.
    pub fn shrink(&self) {
        let mut lists = self.shared.lists();
        lists.classes.iter_mut().for_each(Vec::clear);
        lists.stats.free_bytes = 0;
    }

    fn lease(&self, len: usize) -> Lease {
        let (class, size) = class_of(len);
        let region = {
            let mut lists = self.shared.lists();
            let reused = class.and_then(|class| lists.classes[class].pop());
            match reused {
                Some(_) => {
                    lists.stats.reused_count += 1;
                    lists.stats.free_bytes -= size;
                }
                None => lists.stats.fresh_count += 1,
            }
            lists.stats.used_bytes += size;
            reused
        };
        Lease { region: Some(region.unwrap_or_else(|| Region::map(size))), pool: Arc::clone(&self.shared) }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BufferPool").field("stats", &self.stats()).finish()
    }
}

impl Shared {
    fn lists(&self) -> MutexGuard<'_, FreeLists> {
        // The lists are consistent between any two statements, so a panic elsewhere while they were held changes nothing.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, region: Region) {
        let size = region.size;
        let mut lists = self.lists();
        lists.stats.used_bytes -= size;
        if let Some(class) = class_of(size).0
            && lists.stats.free_bytes + size <= self.max_free_bytes
        {
            lists.stats.free_bytes += size;
            lists.classes[class].push(region);
        } else {
            // Unmapping is a system call: not under the lock.
            drop(lists);
            drop(region);
        }
    }
}

/// A whole aligned buffer, for reads and for commits under construction.
pub struct AlignedBuffer {
    memory: Lease,
    len: usize,
}

impl AlignedBuffer {
    /// Usable bytes, a multiple of [`BLOCK_BYTES`].
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a buffer has at least one block")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Another buffer of the same length from the same pool, with unspecified contents.
    pub(crate) fn substitute(&self) -> Self {
        BufferPool { shared: Arc::clone(&self.memory.pool) }.take(self.len)
    }

    /// All of it.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the region holds at least `len` initialised bytes (mapped as zeros, only ever overwritten), and `self`
        // is its only handle, so no one writes while the borrow lasts.
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr(), self.len) }
    }

    /// All of it.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start().as_ptr(), self.len) }
    }

    /// Shares the first `len` bytes without a copy; the memory returns to the pool with the last of the shares.
    ///
    /// # Panics
    /// If `len` is larger than the buffer.
    #[must_use]
    pub fn freeze(mut self, len: usize) -> Bytes {
        assert!(len <= self.len, "freeze of {len} bytes of a buffer of {}", self.len);
        self.len = len;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AlignedBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}

/// A buffer that is only ever appended to: what has been written can be shared as [`Bytes`] while more is appended
/// behind it, so an open commit is readable without a copy.
pub struct AppendBuffer {
    memory: Arc<Lease>,
    len: usize,
}

impl AppendBuffer {
    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes it can hold in all, a multiple of [`BLOCK_BYTES`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.size()
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.capacity() - self.len
    }

    /// Copies `bytes` behind what is there.
    ///
    /// # Panics
    /// If they do not fit: ask [`AppendBuffer::remaining`] first.
    pub fn append(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.remaining(), "append of {} bytes to {} remaining", bytes.len(), self.remaining());
        // SAFETY: the assertion keeps the copy inside the region. Bytes at `len` and beyond belong to this handle alone:
        // views cover only bytes before the `len` of their time, and `len` never falls. `bytes` cannot overlap them for
        // the same reason.
        unsafe {
            self.memory.start().add(self.len).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
        self.len += bytes.len();
    }

    /// Appends `count` zeros.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn append_zeros(&mut self, count: usize) {
        assert!(count <= self.remaining(), "append of {count} zeros to {} remaining", self.remaining());
        // SAFETY: as in `append`.
        unsafe { self.memory.start().add(self.len).write_bytes(0, count) };
        self.len += count;
    }

    /// Fills with zeros up to the next multiple of [`BLOCK_BYTES`] and returns how many that took. Always fits.
    pub fn pad_to_block(&mut self) -> usize {
        let count = self.len.next_multiple_of(BLOCK_BYTES) - self.len;
        self.append_zeros(count);
        count
    }

    /// Shares a written range without a copy. Appending may go on; the shared bytes never change again.
    ///
    /// # Panics
    /// If the range is not written yet.
    #[must_use]
    pub fn view(&self, range: Range<usize>) -> Bytes {
        assert!(range.start <= range.end && range.end <= self.len, "view of {range:?} of {} written", self.len);
        Bytes::from_owner(View { memory: Arc::clone(&self.memory), range })
    }

    /// All written bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: bytes before `len` are initialised and never written again while any handle to the region lives.
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr(), self.len) }
    }

    /// Empties the buffer for reuse if no view of it is alive; says whether it did.
    pub fn try_clear(&mut self) -> bool {
        let alone = Arc::get_mut(&mut self.memory).is_some();
        if alone {
            self.len = 0;
        }
        alone
    }
}

impl fmt::Debug for AppendBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AppendBuffer")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// Owner of a shared range of an append buffer.
struct View {
    memory: Arc<Lease>,
    range: Range<usize>,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `AppendBuffer::view` checked that the range was written, and written bytes are not written again while
        // this handle keeps the region from the pool (`try_clear` needs to be the only handle).
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr().add(self.range.start), self.range.len()) }
    }
}

/// A region on loan from a pool.
struct Lease {
    /// Absent only while it is being dropped.
    region: Option<Region>,
    pool: Arc<Shared>,
}

impl Lease {
    fn region(&self) -> &Region {
        self.region.as_ref().expect("a lease has its region until it is dropped")
    }

    fn start(&self) -> NonNull<u8> {
        self.region().start
    }

    fn size(&self) -> usize {
        self.region().size
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(region) = self.region.take() {
            self.pool.give_back(region);
        }
    }
}

/// Private anonymous memory of the process, mapped as zeros.
struct Region {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: a region is plain memory that any thread may read, write and unmap; who may do so when is decided by the
// handles above, which are `&mut` for writing (`AlignedBuffer`, `AppendBuffer`) and never overlap a reader.
unsafe impl Send for Region {}
// SAFETY: as above; a shared `Region` only gives out its address.
unsafe impl Sync for Region {}

impl Region {
    /// Regions that hold whole huge pages are aligned to them and asked for as such: a fresh one costs one fault per huge
    /// page, and the kernel pins it for direct I/O by the huge page.
    fn map(size: usize) -> Self {
        if size < HUGE_PAGE_BYTES {
            return Self { start: map_pages(size), size };
        }
        let mapped = size + HUGE_PAGE_BYTES;
        let start = map_pages(mapped);
        let head = start.addr().get().next_multiple_of(HUGE_PAGE_BYTES) - start.addr().get();
        // SAFETY: `head + size` is at most `mapped`, so the region lies inside the mapping, and what is cut off lies
        // beside it; nobody knows of any of it yet. `madvise` changes no content; its refusal only costs time.
        unsafe {
            let region = start.add(head);
            if 0 < head {
                libc::munmap(start.as_ptr().cast(), head);
            }
            if 0 < mapped - head - size {
                libc::munmap(region.add(size).as_ptr().cast(), mapped - head - size);
            }
            libc::madvise(region.as_ptr().cast(), size, libc::MADV_HUGEPAGE);
            Self { start: region, size }
        }
    }
}

/// New private anonymous memory of the process.
fn map_pages(size: usize) -> NonNull<u8> {
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    match NonNull::new(address.cast()) {
        Some(start) if address != libc::MAP_FAILED => start,
        _ => out_of_memory(size),
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made by `map`, to which no handle is left. Its failure leaks memory and harms nothing.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// Ends the process as every other failed allocation does.
fn out_of_memory(size: usize) -> ! {
    let layout = std::alloc::Layout::from_size_align(size, BLOCK_BYTES)
        .expect("sizes come from slices and are far below the limit of a layout");
    std::alloc::handle_alloc_error(layout)
}

/// The class that holds `len` bytes and its size; no class if it is not pooled.
fn class_of(len: usize) -> (Option<usize>, usize) {
    if MAX_POOLED_BYTES < len {
        return (None, len);
    }
    let size = len.next_power_of_two().max(BLOCK_BYTES);
    (Some((size / BLOCK_BYTES).ilog2() as usize), size)
}

fn round_up_to_block(len: usize) -> usize {
    len.next_multiple_of(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_at_least_as_long_as_asked() {
        let pool = BufferPool::new(1 << 30);
        for asked in [0, 1, 4095, 4096, 4097, 65_536, 100_000, (1 << 20) + 1, MAX_POOLED_BYTES, MAX_POOLED_BYTES + 1] {
            let buffer = pool.take(asked);
            assert!(asked <= buffer.len() && buffer.len().is_multiple_of(BLOCK_BYTES), "{asked}");
            assert_eq!(buffer.as_slice().as_ptr().addr() % BLOCK_BYTES, 0, "{asked}");
            assert!(asked <= pool.append(asked).capacity(), "{asked}");
        }
    }

    #[test]
    fn dropped_memory_is_reused_even_when_dropped_on_another_thread() {
        let pool = BufferPool::new(1 << 20);
        let address = pool.take(5000).as_slice().as_ptr().addr();
        let frozen = pool.take(8000).freeze(10);
        assert_eq!(frozen.as_ptr().addr(), address);
        std::thread::scope(|scope| {
            scope.spawn(move || drop(frozen));
        });
        assert_eq!(pool.take(8192).as_slice().as_ptr().addr(), address);
        let stats = pool.stats();
        assert_eq!((stats.fresh_count, stats.reused_count, stats.used_bytes, stats.free_bytes), (1, 2, 0, 8192));
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_cap_and_nothing_after_shrink() {
        let pool = BufferPool::new(3 * BLOCK_BYTES);
        let held: Vec<_> = (0..5).map(|_| pool.take(1)).collect();
        assert_eq!(pool.stats().used_bytes, 5 * BLOCK_BYTES);
        drop(held);
        assert_eq!((pool.stats().used_bytes, pool.stats().free_bytes), (0, 3 * BLOCK_BYTES));
        drop(pool.take(4 * BLOCK_BYTES));
        assert_eq!(pool.stats().free_bytes, 3 * BLOCK_BYTES);
        pool.shrink();
        assert_eq!(pool.stats().free_bytes, 0);
    }

    #[test]
    fn zeroed_means_zeroed_on_reuse() {
        let pool = BufferPool::new(1 << 20);
        pool.take(1).as_mut_slice().fill(7);
        assert_eq!(pool.take(1).as_slice()[0], 7);
        assert!(pool.take_zeroed(1).as_slice().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn views_stay_as_they_were_while_the_buffer_grows_and_after_it_is_gone() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.append(8192);
        buffer.append(b"spring");
        let first = buffer.view(0..6);
        buffer.append(b" terrace");
        let second = buffer.view(3..14);
        assert_eq!(buffer.pad_to_block(), 4096 - 14);
        assert_eq!(buffer.pad_to_block(), 0);
        assert_eq!((buffer.len(), buffer.remaining()), (4096, 4096));
        assert!(!buffer.try_clear());
        let whole = buffer.view(0..4096);
        drop(buffer);
        assert_eq!((&first[..], &second[..]), (&b"spring"[..], &b"ing terrace"[..]));
        assert!(whole[14..].iter().all(|&byte| byte == 0));
        assert_eq!(first.as_ptr().addr() % BLOCK_BYTES, 0);
        drop((first, second));
        assert_eq!(pool.stats().used_bytes, 8192);
        drop(whole);
        assert_eq!(pool.stats().used_bytes, 0);
    }

    #[test]
    fn a_cleared_buffer_starts_over() {
        let mut buffer = BufferPool::new(0).append(4096);
        buffer.append(&[1; 4096]);
        assert!(buffer.try_clear());
        assert_eq!((buffer.len(), buffer.remaining()), (0, 4096));
    }

    #[test]
    #[should_panic(expected = "append of 4097 bytes to 4096 remaining")]
    fn more_than_fits_is_refused() {
        BufferPool::new(0).append(1).append(&[0; 4097]);
    }

    #[test]
    #[should_panic(expected = "of 3 written")]
    fn bytes_not_written_yet_cannot_be_seen() {
        let mut buffer = BufferPool::new(0).append(1);
        buffer.append(b"abc");
        let _ = buffer.view(0..4);
    }
}
