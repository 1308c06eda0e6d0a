//! A durable list of opaque records: the log of metadata and of the coordinators. The same `Log` as a partition's, with
//! control entries instead of batches. Damage refuses to open: what is missing here would be deleted elsewhere.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;

use crate::config::PartitionIdentity;
use crate::entry::{FLAG_CLEAN, FLAG_SNAPSHOT, Kind};
use crate::errors::{AppendError, AppendLost, MaintainError, OpenError};
use crate::log::append::NewEntry;
use crate::log::recover::{Depth, Replay as LogReplay};
use crate::log::scan::Scanned;
use crate::log::{Log, Phase, Policy};
use crate::partition::lost;
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

const SEGMENT_BYTES: u64 = 64 << 20;
const PENDING_BYTES: u64 = 32 << 20;

/// An append-only list of records, each durable when its future resolves. Records become durable in order.
#[derive(Debug)]
pub struct RecordLog {
    log: Rc<Log>,
    bytes_since_snapshot: Cell<u64>,
    /// Sequences of the log that are not durable yet, per record, ascending.
    pending: RefCell<std::collections::VecDeque<(u64, u64)>>,
}

#[derive(Default)]
struct Collect {
    records: Vec<Record>,
}

impl LogReplay for Collect {
    fn on_state(&mut self, _upper: &[u8]) -> bool {
        true
    }

    fn on_entry(&mut self, entry: &Scanned, payload: &[u8]) {
        if entry.header.kind != Kind::Control {
            return;
        }
        let snapshot = entry.header.flags & FLAG_SNAPSHOT != 0;
        if snapshot {
            self.records.clear();
        }
        let payload = Bytes::copy_from_slice(payload);
        self.records.push(Record { index: entry.header.log_index, snapshot, payload });
    }
}

impl RecordLog {
    /// Opens or creates the log in `dir` and returns what it holds.
    ///
    /// # Errors
    /// Damage refuses to open and names file and position.
    pub async fn open(
        storage: &Storage,
        dir: PathBuf,
        identity: PartitionIdentity,
    ) -> Result<(Rc<Self>, Replay), OpenError> {
        let policy =
            Policy { lazy: None, segment_bytes: SEGMENT_BYTES, pending_bytes: PENDING_BYTES, roll_age_us: u64::MAX };
        let mut collect = Collect::default();
        let (log, found) = Log::open(&storage.shared, dir, identity, policy, &mut collect, Depth::Full).await?;
        if let Some(defect) = found.defects.into_iter().next() {
            return Err(OpenError::Damaged(defect));
        }
        check_start(&log, &collect)?;
        log.kick();
        let since = collect.records.iter().filter(|record| !record.snapshot).map(|record| record.payload.len() as u64);
        let records = Self { bytes_since_snapshot: Cell::new(since.sum()), pending: RefCell::default(), log };
        let replay = Replay { records: collect.records, clean: found.clean, cut_bytes: found.cut_bytes };
        Ok((Rc::new(records), replay))
    }

    /// Appends a record and returns its index; not durable yet.
    ///
    /// # Errors
    /// Nothing was appended.
    pub fn append(&self, payload: &[u8]) -> Result<u64, AppendError> {
        let index = self.put(payload, 0)?;
        self.bytes_since_snapshot.set(self.bytes_since_snapshot.get() + payload.len() as u64);
        Ok(index)
    }

    fn put(&self, payload: &[u8], flags: u16) -> Result<u64, AppendError> {
        if MAX_RECORD_BYTES < payload.len() {
            let limit_bytes = u32::try_from(MAX_RECORD_BYTES).expect("16 MiB");
            return Err(AppendError::TooLarge { limit_bytes });
        }
        // Metadata may use the space that a nearly full disk refuses to messages.
        match self.log.admit(payload.len()) {
            Err(AppendError::DiskFull) if !self.log.state.borrow().stalled => {}
            other => other?,
        }
        let entry = NewEntry { kind: Kind::Control, flags, parts: [payload, &[]], batch: None };
        let placed = self.log.append(&entry, &|_| {}, self.log.storage.clock.now_us());
        let durable = self.log.state.borrow().durable.index;
        let mut pending = self.pending.borrow_mut();
        while pending.front().is_some_and(|&(index, _)| index <= durable) {
            pending.pop_front();
        }
        pending.push_back((placed.index, placed.sequence));
        drop(pending);
        self.log.kick();
        Ok(placed.index)
    }

    /// Waits until the record of this index and all before it are durable.
    ///
    /// # Errors
    /// When they never will be; the outcome is unknown.
    pub async fn durable(&self, index: u64) -> Result<(), AppendLost> {
        let sequence = self.pending.borrow().iter().find(|&&(of, _)| of == index).map_or(0, |&(_, sequence)| sequence);
        self.log.durable_to(sequence).await
    }

    /// Appends a snapshot, waits until it is durable, then drops everything before it.
    ///
    /// # Errors
    /// See [`MaintainError`]. The records before it stay if the snapshot did not become durable.
    pub async fn snapshot(&self, payload: &[u8]) -> Result<u64, MaintainError> {
        // The snapshot starts a segment, so that all before it are wholly before the snapshot.
        self.log.seal();
        let index = self.put(payload, FLAG_SNAPSHOT).map_err(|error| match error {
            AppendError::DiskFull | AppendError::Full => MaintainError::DiskFull,
            AppendError::Failed => MaintainError::Failed,
            _ => MaintainError::Closed,
        })?;
        self.bytes_since_snapshot.set(0);
        self.durable(index).await.map_err(lost)?;
        self.log.remove_before_index(index).await;
        Ok(index)
    }

    /// Bytes of records since the newest snapshot: when to take another.
    #[must_use]
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.bytes_since_snapshot.get()
    }

    /// Flushes and marks the log as cleanly closed.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn close(&self) -> Result<(), MaintainError> {
        let open = {
            let mut state = self.log.state.borrow_mut();
            let open = matches!(state.phase, Phase::Open);
            if open {
                state.phase = Phase::Closing;
            }
            open && !state.segments.is_empty()
        };
        let outcome = if open {
            let placed = self.log.append_state(FLAG_CLEAN, &|_| {}, self.log.storage.clock.now_us());
            self.log.kick();
            self.log.durable_to(placed.sequence).await.map_err(lost)
        } else {
            Ok(())
        };
        self.log.state.borrow_mut().phase = Phase::Closed;
        self.log.announce();
        self.log.forget_memory();
        outcome
    }
}

/// The log starts at its first record, or at a snapshot.
fn check_start(log: &Log, collect: &Collect) -> Result<(), OpenError> {
    let state = log.state.borrow();
    let Some(first) = state.segments.front() else { return Ok(()) };
    let starts_with_snapshot = collect.records.first().is_some_and(|record| record.snapshot);
    if first.totals.first_index <= 1 || starts_with_snapshot {
        return Ok(());
    }
    Err(OpenError::Damaged(crate::errors::ReadOnlyReason {
        file: log.path_of(first.number),
        position: 0,
        what: "segments are missing before this one".to_owned(),
    }))
}
