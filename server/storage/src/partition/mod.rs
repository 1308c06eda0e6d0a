//! A partition's data without any network: offsets, append time, producers, epochs, reads, retention.

use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;

use crate::config::{Durability, PartitionConfig, PartitionIdentity};
use crate::errors::{AppendError, AppendLost, MaintainError, OpenError, ReadError, ReadOnlyReason, Truncated};
use crate::storage::Storage;

/// Proof that a batch was accepted, to be exchanged for the durability it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Log index of the batch; tickets of one partition are reached in ascending order of it.
    pub log_index: u64,
    /// What was asked: the topic's level, or more.
    pub durability: Durability,
}

/// State of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketState {
    /// Not yet.
    Pending,
    /// Reached, with the durability that holds.
    Reached(Durability),
    /// Never will be.
    Lost(AppendLost),
}

/// An accepted batch. It is not acknowledged before its ticket is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append {
    /// Offset of its first message.
    pub base_offset: u64,
    /// Offset of its last message.
    pub last_offset: u64,
    /// Append time of the batch, microseconds since the Unix epoch.
    pub append_time_us: i64,
    /// Whether it was in the log already: the values are those of the original.
    pub duplicate: bool,
    /// To be exchanged for the durability reached; the original's for a duplicate.
    pub ticket: Ticket,
}

/// Offsets that move. Ends are one past the last message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// First message kept.
    pub log_start_offset: u64,
    /// End of what consumers may see.
    pub visible_end_offset: u64,
    /// End of what is on disk and flushed.
    pub durable_end_offset: u64,
    /// End of what was accepted.
    pub appended_end_offset: u64,
    /// Current leader epoch: raised by every unclean open.
    pub leader_epoch: u32,
}

/// Stored batches, in order: server part, producer part and body each.
#[derive(Clone, Debug, Default)]
pub struct ReadBatches {
    /// The bytes. Concatenated they are whole batches; one batch may continue in the next slice.
    pub slices: Vec<Bytes>,
    /// Sum of the slices' lengths.
    pub total_bytes: usize,
    /// Batches in them.
    pub batch_count: usize,
    /// Offset of the first message in them; may be below the offset asked for.
    pub first_offset: u64,
    /// Where to read on.
    pub next_offset: u64,
    /// Leader epoch of the last batch.
    pub leader_epoch: u32,
}

/// A message's place by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    /// First offset of the first batch appended at or after the time asked for; the visible end if there is none.
    pub offset: u64,
    /// Append time of that batch.
    pub append_time_us: Option<i64>,
}

/// Called synchronously whenever tickets may have been reached or lost, or the visible end has moved. At most once per
/// commit, so one loop can acknowledge everything that one flush made durable.
pub trait ProgressSink {
    /// `token` is the one given with [`Partition::watch`]. Must not append; it may look at watermarks and tickets.
    fn on_progress(&self, token: u64);
}

/// A registered sink; dropping it ends the calls.
#[derive(Debug)]
pub struct Watch {}

/// What was found at open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the log ended with the mark of a clean close (or was empty).
    pub clean: bool,
    /// Index of the last durable entry.
    pub last_durable_index: u64,
    /// Bytes behind the last whole entry that were cut off as a torn tail.
    pub cut_bytes: u64,
    /// Whether acknowledged entries may be missing.
    pub loss: Loss,
    /// Damage found, in order.
    pub defects: Vec<ReadOnlyReason>,
    /// Bytes read to find the end.
    pub scanned_bytes: u64,
}

/// Whether acknowledged entries may be missing after an open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that was acknowledged is missing.
    #[default]
    No,
    /// Messages of a `memory` topic acknowledged shortly before the crash may be.
    Possible,
    /// Damage before a proven-durable point.
    Yes,
}

/// Figures of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Why it takes no appends.
    pub read_only: Option<Rc<ReadOnlyReason>>,
    /// Segments, the open one included.
    pub segment_count: usize,
    /// Physical bytes of data, reserved space excluded.
    pub size_bytes: u64,
    /// Bytes waiting for the disk.
    pub pending_bytes: u64,
    /// Producers remembered.
    pub producer_count: usize,
    /// Append time of the last batch, microseconds.
    pub last_append_time_us: Option<i64>,
    /// Commits since open.
    pub commit_count: u64,
    /// Moving average of the time of a durable commit, microseconds.
    pub flush_latency_us: u64,
}

/// One partition on one core.
#[derive(Debug)]
pub struct Partition {}

impl Partition {
    /// Opens the partition in `dir`, recovering it if the last close was not clean. Creates nothing before the first append.
    ///
    /// # Errors
    /// When the disk refuses or the directory belongs to something else. Damage is not an error: the partition opens
    /// read-only and the report says where.
    pub async fn open(
        _storage: &Storage,
        _dir: PathBuf,
        _identity: PartitionIdentity,
        _config: PartitionConfig,
    ) -> Result<(Rc<Self>, OpenReport), OpenError> {
        Ok((Rc::new(Self {}), OpenReport::default()))
    }

    /// Appends a batch (producer part and body, as it came from the producer). Readable by [`Partition::read`] once visible.
    ///
    /// The caller has checked the producer's CRC: it is not computed again here. `ask` raises the topic's durability for
    /// this batch; it never lowers it.
    ///
    /// # Errors
    /// Nothing was appended in any case of [`AppendError`].
    pub fn append(&self, _batch: Bytes, _ask: Durability) -> Result<Append, AppendError> {
        Err(AppendError::Closed)
    }

    /// Resolves when an append has a chance again after [`AppendError::Full`].
    pub async fn writable(&self) {}

    /// Current watermarks, from memory.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        Watermarks::default()
    }

    /// State of a ticket now.
    #[must_use]
    pub fn ticket_state(&self, _ticket: Ticket) -> TicketState {
        TicketState::Lost(AppendLost::Closed)
    }

    /// Waits until a ticket is reached and tells the durability that holds.
    ///
    /// # Errors
    /// When it never will be; the outcome is unknown.
    pub async fn durable(&self, _ticket: Ticket) -> Result<Durability, AppendLost> {
        Err(AppendLost::Closed)
    }

    /// Waits until the visible end is beyond `offset` (or the partition is closed), and returns it.
    pub async fn visible_beyond(&self, _offset: u64) -> u64 {
        0
    }

    /// Calls `sink` with `token` on every progress until the returned watch is dropped.
    #[must_use]
    pub fn watch(&self, _sink: Rc<dyn ProgressSink>, _token: u64) -> Watch {
        Watch {}
    }

    /// Reads whole batches from the one that holds `offset` on: at least one, no more than `max_bytes` otherwise, never
    /// past the visible end. At the visible end it returns none.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(&self, _offset: u64, _max_bytes: usize) -> Result<ReadBatches, ReadError> {
        Err(ReadError::Closed)
    }

    /// The same from memory: `None` if it would touch the disk.
    pub fn try_read_cached(&self, _offset: u64, _max_bytes: usize) -> Option<Result<ReadBatches, ReadError>> {
        None
    }

    /// The first batch appended at or after a time.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn offset_for_time(&self, _append_time_us: i64) -> Result<TimedOffset, ReadError> {
        Err(ReadError::Closed)
    }

    /// The offset `count` messages before the visible end, at least the log start.
    #[must_use]
    pub fn offset_for_last(&self, _count: u64) -> u64 {
        0
    }

    /// Whether a consumer that saw `offset` as its next one under `epoch` still sees the same log.
    ///
    /// # Errors
    /// Where the log differs.
    pub fn check_epoch(&self, _offset: u64, _epoch: u32) -> Result<(), Truncated> {
        Ok(())
    }

    /// Deletes all messages before `offset` (at most the visible end), durably, and returns the new log start.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn delete_before(&self, _offset: u64) -> Result<u64, MaintainError> {
        Err(MaintainError::Closed)
    }

    /// Removes sealed segments that retention no longer keeps and returns the bytes freed.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn apply_retention(&self, _now_us: i64) -> Result<u64, MaintainError> {
        Err(MaintainError::Closed)
    }

    /// Current settings.
    #[must_use]
    pub fn config(&self) -> PartitionConfig {
        PartitionConfig::default()
    }

    /// Changes the settings. They hold for the next append.
    pub fn set_config(&self, _config: PartitionConfig) {}

    /// Waits until everything appended so far is durable.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn flush(&self) -> Result<(), MaintainError> {
        Err(MaintainError::Closed)
    }

    /// Flushes, marks the log as cleanly closed and refuses everything from then on.
    ///
    /// # Errors
    /// See [`MaintainError`]. The partition is closed in any case.
    pub async fn close(&self) -> Result<(), MaintainError> {
        Ok(())
    }

    /// Figures for `levada status`.
    #[must_use]
    pub fn status(&self) -> PartitionStatus {
        PartitionStatus::default()
    }
}
