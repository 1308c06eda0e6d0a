//! One closed error enum per operation. Each says what a caller must know to act: wait, fix, retry or give up.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use thiserror::Error;

/// Why a partition takes no appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnlyReason {
    /// File with the damage.
    pub file: PathBuf,
    /// Byte position in it.
    pub position: u64,
    /// What was found.
    pub what: String,
}

impl std::fmt::Display for ReadOnlyReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} at byte {} of {}", self.what, self.position, self.file.display())
    }
}

/// Why an append was refused. Nothing was appended in any of these cases.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// Too many bytes wait for the disk: wait ([`crate::Partition::writable`]), then try again.
    #[error("too many bytes wait for the disk")]
    Full,
    /// A batch of this producer is missing before this one.
    #[error("sequence gap: expected {expected}")]
    SequenceGap {
        /// First sequence the partition expects next.
        expected: u64,
    },
    /// The batch is already in the log, too long ago for its offset to be known.
    #[error("duplicate of a batch whose offset is no longer known")]
    DuplicateUnknownOffset,
    /// A newer epoch of this producer has appended.
    #[error("producer fenced by epoch {current_epoch}")]
    Fenced {
        /// Epoch the partition knows.
        current_epoch: u32,
    },
    /// The producer's state expired, or the batch continues a sequence this partition has never seen.
    #[error("unknown producer")]
    UnknownProducer,
    /// Damage before a proven-durable point, or an operator's request.
    #[error("partition is read-only: {0}")]
    ReadOnly(Rc<ReadOnlyReason>),
    /// No space left; reads, retention and commits of what was accepted go on. Retriable.
    #[error("disk is full")]
    DiskFull,
    /// Larger than a batch may be.
    #[error("batch is larger than {limit_bytes} bytes")]
    TooLarge {
        /// Largest accepted size of producer part and body.
        limit_bytes: u32,
    },
    /// Not a batch: what is wrong with it.
    #[error("malformed batch: {0}")]
    Malformed(&'static str),
    /// The partition is closed or closing.
    #[error("partition is closed")]
    Closed,
    /// The disk failed and the process is stopping.
    #[error("the disk failed")]
    Failed,
}

/// Why a ticket will never be reached. The batch may or may not be in the log after a restart.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AppendLost {
    /// The disk failed and the process is stopping.
    #[error("the disk failed; outcome unknown")]
    Failed,
    /// The partition was closed first.
    #[error("the partition was closed; outcome unknown")]
    Closed,
}

/// Why a read gave nothing.
#[derive(Clone, Debug, Error)]
pub enum ReadError {
    /// No message with this offset is kept or visible.
    #[error("offset out of range: {log_start_offset}..{visible_end_offset}")]
    OutOfRange {
        /// First offset kept.
        log_start_offset: u64,
        /// One past the last visible offset.
        visible_end_offset: u64,
    },
    /// The stored bytes are damaged. Reading on from `next_offset` skips them.
    #[error("corrupt batches {first_offset}..{next_offset} at byte {position} of {}", file.display())]
    Corrupt {
        /// First offset that cannot be served.
        first_offset: u64,
        /// First offset after the damage.
        next_offset: u64,
        /// File with the damage.
        file: PathBuf,
        /// Byte position in it.
        position: u64,
    },
    /// The disk refused.
    #[error("read failed")]
    Io(#[source] Rc<io::Error>),
    /// The partition is closed.
    #[error("partition is closed")]
    Closed,
}

/// What a consumer saw at an offset is no longer in the log.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("log was cut at offset {divergence_offset}")]
pub struct Truncated {
    /// First offset at which the log differs from what the consumer knew.
    pub divergence_offset: u64,
}

/// Why a partition or log did not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The disk refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being opened.
        path: PathBuf,
        /// The disk's answer.
        source: io::Error,
    },
    /// The directory belongs to another partition, node or cluster.
    #[error("{} holds another partition: {found}", path.display())]
    WrongIdentity {
        /// The segment.
        path: PathBuf,
        /// Identity in its header.
        found: String,
    },
    /// Written by a newer version of this software.
    #[error("{} has format {format}, which this version does not know", path.display())]
    UnknownFormat {
        /// The segment.
        path: PathBuf,
        /// Its format number.
        format: u32,
    },
    /// Damage that this kind of log does not open with (metadata and coordinator logs).
    #[error("damaged: {0}")]
    Damaged(ReadOnlyReason),
}

/// Why a maintenance call (flush, retention, deletion, close) did not do all of its work.
#[derive(Clone, Debug, Error)]
pub enum MaintainError {
    /// The partition is read-only.
    #[error("partition is read-only: {0}")]
    ReadOnly(Rc<ReadOnlyReason>),
    /// No space for the record that the work needs.
    #[error("disk is full")]
    DiskFull,
    /// The disk refused.
    #[error("disk refused")]
    Io(#[source] Rc<io::Error>),
    /// The partition is closed.
    #[error("partition is closed")]
    Closed,
    /// The disk failed and the process is stopping.
    #[error("the disk failed")]
    Failed,
}
