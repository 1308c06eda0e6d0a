//! A durable list of opaque records: the log of metadata and of the coordinators.

use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;

use crate::config::PartitionIdentity;
use crate::errors::{AppendError, AppendLost, MaintainError, OpenError};
use crate::storage::Storage;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the log: dense, the first is 1.
    pub index: u64,
    /// Whether it is a snapshot: it stands for everything before it.
    pub snapshot: bool,
    /// The caller's bytes.
    pub payload: Bytes,
}

/// What a record log held at open: the newest snapshot, if any, then every record after it.
#[derive(Debug, Default)]
pub struct Replay {
    /// In order.
    pub records: Vec<Record>,
    /// Whether the last close was clean.
    pub clean: bool,
    /// Bytes of a torn tail that were cut off; nothing in them was ever acknowledged.
    pub cut_bytes: u64,
}

/// Largest record.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// An append-only list of records, each durable when its future resolves. Records become durable in order.
#[derive(Debug)]
pub struct RecordLog {}

impl RecordLog {
    /// Opens or creates the log in `dir` and returns what it holds.
    ///
    /// # Errors
    /// Damage refuses to open and names file and position.
    pub async fn open(
        _storage: &Storage,
        _dir: PathBuf,
        _identity: PartitionIdentity,
    ) -> Result<(Rc<Self>, Replay), OpenError> {
        Ok((Rc::new(Self {}), Replay::default()))
    }

    /// Appends a record and returns its index; not durable yet.
    ///
    /// # Errors
    /// Nothing was appended.
    pub fn append(&self, _payload: &[u8]) -> Result<u64, AppendError> {
        Err(AppendError::Closed)
    }

    /// Waits until the record of this index and all before it are durable.
    ///
    /// # Errors
    /// When they never will be; the outcome is unknown.
    pub async fn durable(&self, _index: u64) -> Result<(), AppendLost> {
        Err(AppendLost::Closed)
    }

    /// Appends a snapshot, waits until it is durable, then drops everything before it.
    ///
    /// # Errors
    /// See [`MaintainError`]. The records before it stay if the snapshot did not become durable.
    pub async fn snapshot(&self, _payload: &[u8]) -> Result<u64, MaintainError> {
        Err(MaintainError::Closed)
    }

    /// Bytes of records since the newest snapshot: when to take another.
    #[must_use]
    pub fn bytes_since_snapshot(&self) -> u64 {
        0
    }

    /// Flushes and marks the log as cleanly closed.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn close(&self) -> Result<(), MaintainError> {
        Ok(())
    }
}
