//! A partition's data without any network: offsets, append time, producers, epochs, reads, retention.

mod append;
mod maintain;
mod open;
mod producers;
mod query;
mod state;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use bytes::Bytes;

use crate::config::{Durability, PartitionConfig};
use crate::errors::{AppendLost, ReadOnlyReason};
use crate::log::Log;
pub(crate) use maintain::lost;
pub use producers::{Numbering, ProducerProgress};
use state::PartitionState;
pub(crate) use state::log_start_of;

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
pub struct Watch {
    log: Weak<Log>,
    id: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(log) = self.log.upgrade() {
            log.sinks.borrow_mut().retain(|sink| sink.id != self.id);
        }
    }
}

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
pub struct Partition {
    log: Rc<Log>,
    state: RefCell<PartitionState>,
    config: RefCell<PartitionConfig>,
    next_watch: Cell<u64>,
    /// Whether this run of the process is recorded in the log; a `memory` topic shows nothing before it is.
    session_noted: Cell<bool>,
}
