//! The log: segments, recovery and retention over a small [`disk::Disk`] trait. Knows no network.

pub mod buffer;
pub mod disk;
