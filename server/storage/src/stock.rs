//! Memory for chunks. A page touched for the first time can cost more than writing it to the disk (a virtual machine may
//! have to get it from its host first), so a core never does that in the middle of a stream: while a thread of the disk
//! touches fresh memory, chunks take over the oldest of the cache. The cache so grows as fast as memory can be had.

use std::rc::Rc;

use tokio::time::Instant;

use crate::buffer::AppendBuffer;
use crate::storage::Shared;

/// Smaller chunks are cheap to touch, and many logs have one each.
const MIN_STOCKED_BYTES: usize = 1 << 20;
/// Free memory to have at hand, in chunks of the size that is asked for.
const STOCK_COUNT: usize = 4;
/// What the cache holds of new data at least, however slow memory is.
const MIN_CACHE_BYTES: u64 = 32 << 20;

/// Pause after each touch, in times of what it took: slow memory then takes a quarter of a core from others, while fast
/// memory still comes faster than a disk can write.
const PAUSES: u32 = 3;

/// An append buffer for at least `capacity_bytes`.
pub(crate) fn chunk_memory(storage: &Rc<Shared>, capacity_bytes: usize) -> AppendBuffer {
    if MIN_STOCKED_BYTES <= capacity_bytes {
        refill(storage, capacity_bytes);
        let mut cache = storage.cache.borrow_mut();
        while storage.pool.free_count(capacity_bytes) == 0 && cache.release_oldest(MIN_CACHE_BYTES) {}
    }
    storage.pool.append(capacity_bytes)
}

/// Has fresh memory touched aside until there is some in stock, as long as the cache may grow.
fn refill(storage: &Rc<Shared>, capacity_bytes: usize) {
    let is_needed = move |storage: &Shared| {
        let cache = storage.cache.borrow();
        let growth_bytes = (STOCK_COUNT * capacity_bytes) as u64;
        storage.pool.free_count(capacity_bytes) < STOCK_COUNT
            && cache.used_bytes() + growth_bytes <= storage.limits.cache_bytes
    };
    if !is_needed(storage) || storage.stocking.replace(true) {
        return;
    }
    let shared = Rc::clone(storage);
    storage.spawn(Box::pin(async move {
        while is_needed(&shared) {
            let fresh = shared.pool.fresh(capacity_bytes);
            let began = Instant::now();
            // Dropped, it is in the pool's free list.
            drop(shared.disk.touch(fresh).await);
            tokio::time::sleep(began.elapsed() * PAUSES).await;
        }
        shared.stocking.set(false);
    }));
}
