//! Aligned memory that is reused: fresh pages cost more than the copy into them.

use bytes::Bytes;

/// A whole aligned buffer, for reads and for commits under construction.
#[derive(Debug)]
pub struct AlignedBuffer {}

/// A buffer that is only ever appended to: what has been written can be shared as [`Bytes`] while more is appended
/// behind it, so an open commit is readable without a copy.
#[derive(Debug)]
pub struct AppendBuffer {}

impl AppendBuffer {
    /// Shares a written range.
    pub fn view(&self, _range: std::ops::Range<usize>) -> Bytes {
        Bytes::new()
    }
}
