//! Memory that packed payloads are copied into: kept when it is done with, because fresh memory costs more than the copy.

use std::fmt;
use std::mem;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Buffers kept; more are in use only while producers wait for space.
const MAX_KEPT: usize = 4;
/// A larger one is given back.
const MAX_KEPT_BYTES: usize = 4 * 1024 * 1024;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer that is kept when it is dropped.
struct Pooled(Vec<u8>);

/// A copy.
pub(crate) fn copy(bytes: &[u8]) -> Bytes {
    let mut memory = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    memory.clear();
    memory.extend_from_slice(bytes);
    Bytes::from_owner(Pooled(memory))
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if self.0.capacity() <= MAX_KEPT_BYTES {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAX_KEPT {
                kept.push(mem::take(&mut self.0));
            }
        }
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pooled")
    }
}
