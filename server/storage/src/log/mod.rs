//! The log: entries with index and term in segments, made durable by a contiguous prefix. It orders and keeps; offsets,
//! sequences and append times are decided above it and come in with each entry.
//!
//! Life of an entry: [`append`] copies it into the open chunk (readable at once), [`writer`] commits it, `durable` moves,
//! waiters wake. [`scan`] and [`recover`] find the end again after a crash; [`read`] serves whole batches; [`dense`] drops the
//! padding of sealed segments.

pub(crate) mod append;
mod dense;
mod prefix;
pub(crate) mod read;
pub(crate) mod recover;
pub(crate) mod scan;
mod writer;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::buffer::AppendBuffer;
use crate::checkpoint::{Checkpoint, LogKey};
use crate::config::PartitionIdentity;
use crate::disk::Disk;
use crate::errors::{AppendLost, ReadOnlyReason};
use crate::partition::ProgressSink;
use crate::segment::{Footer, Segment, SegmentHeader, file_name};
use crate::storage::Shared;

/// Number of a log's first segment.
pub(super) const FIRST_SEGMENT: u64 = 1;

/// Makes the entries of a log's directory durable, and those of the directories above it that may be as new.
async fn sync_names(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for dir in dir.ancestors().take(4) {
        disk.sync_dir(if dir.as_os_str().is_empty() { Path::new(".") } else { dir }).await?;
    }
    Ok(())
}

/// A place in the log, just behind an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Entries appended since open, local records included.
    pub(crate) sequence: u64,
    /// Index of the last replicated entry.
    pub(crate) index: u64,
    /// End of the message offsets.
    pub(crate) offset: u64,
    pub(crate) segment: u64,
    pub(crate) position: u64,
}

/// What a log can do at the moment.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Open,
    ReadOnly(Rc<ReadOnlyReason>),
    Closing,
    Closed,
    Failed,
}

/// A buffer of entries on its way to the disk.
pub(super) struct Chunk {
    segment: u64,
    nonce: u64,
    /// Position in the segment of the buffer's first byte.
    base: u64,
    buffer: AppendBuffer,
    submitted: usize,
    written: usize,
    /// Place behind the last entry in it.
    end: Mark,
    /// Nothing more is appended.
    closed: bool,
    /// What readers share; made again when it has become too short.
    view: Bytes,
    last_used: u64,
}

/// What the writer does, in order.
pub(super) enum Step {
    Chunk(Chunk),
    Seal { number: u64, nonce: u64, footer: Footer },
    Create(SegmentHeader),
}

/// How the writer task is doing.
#[derive(Default)]
pub(super) struct WriterState {
    running: bool,
    waker: Option<Waker>,
}

/// The open segment, beside its entry at the back of `segments`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Active {
    /// The file's length as reserved.
    reserved: u64,
    /// Everything up to here has been written at least once.
    zeroed_to: u64,
    /// The newest state record and the bytes since.
    state_position: u64,
    durable_state_position: u64,
    bytes_since_state: u64,
    first_append: Option<i64>,
}

/// Settings the log takes from its partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// `None`: every append is committed as soon as the disk takes it. Otherwise appends may wait this long.
    pub(crate) lazy: Option<Duration>,
    pub(crate) segment_bytes: u64,
    pub(crate) pending_bytes: u64,
    pub(crate) roll_age_us: u64,
}

pub(crate) struct LogState {
    pub(crate) phase: Phase,
    pub(crate) segments: VecDeque<Segment>,
    pub(super) active: Option<Active>,
    pub(super) steps: VecDeque<Step>,
    pub(crate) next_segment: u64,
    pub(crate) term: u64,
    pub(crate) appended: Mark,
    pub(crate) durable: Mark,
    pub(crate) pending_bytes: u64,
    pub(crate) policy: Policy,
    /// Sequence up to which a lazy log must be committed now.
    flush_to: u64,
    dirty_since: Option<Instant>,
    /// The disk had no space for a reservation; commits wait, appends are refused.
    pub(crate) stalled: bool,
    /// Sequence that must be durable before a lazy log shows anything: the crash after it is then recognised.
    pub(crate) session_sequence: Option<u64>,
    pub(crate) sink_due: bool,
    chunk_bytes: usize,
    chunk_second: u64,
    registered: bool,
    writer: WriterState,
    small_commits: u32,
    pub(crate) commit_count: u64,
    pub(crate) flush_latency_us: u64,
    pub(super) hints: VecDeque<read::Hint>,
    /// Nonce of the segment that is being rewritten densely.
    rewriting: Option<u64>,
    /// Segments before this number were looked at.
    rewrite_from: u64,
}

/// One log on one core.
pub(crate) struct Log {
    pub(crate) storage: Rc<Shared>,
    pub(crate) dir: PathBuf,
    pub(crate) identity: PartitionIdentity,
    pub(crate) state: RefCell<LogState>,
    /// Durable or visible has moved, room was made, or the phase changed.
    pub(crate) progress: Notify,
    pub(crate) sinks: RefCell<Vec<Sink>>,
}

pub(crate) struct Sink {
    pub(crate) id: u64,
    pub(crate) sink: Rc<dyn ProgressSink>,
    pub(crate) token: u64,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Log").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Log {
    pub(crate) fn path_of(&self, number: u64) -> PathBuf {
        self.dir.join(file_name(number))
    }

    pub(crate) fn key(&self) -> LogKey {
        (self.identity.topic_id, self.identity.partition)
    }

    /// Why nothing appended from now on, or still pending, will become durable.
    pub(crate) fn lost(&self) -> Option<AppendLost> {
        if self.storage.is_failed() {
            return Some(AppendLost::Failed);
        }
        match self.state.borrow().phase {
            Phase::Open | Phase::Closing | Phase::ReadOnly(_) => None,
            Phase::Failed => Some(AppendLost::Failed),
            Phase::Closed => Some(AppendLost::Closed),
        }
    }

    /// Waits until everything up to `sequence` is durable, making lazy logs commit it now.
    pub(crate) async fn durable_to(self: &Rc<Self>, sequence: u64) -> Result<(), AppendLost> {
        self.request_flush(sequence);
        loop {
            let notified = self.progress.notified();
            if sequence <= self.state.borrow().durable.sequence && !self.storage.is_failed() {
                return Ok(());
            }
            if let Some(lost) = self.lost() {
                return Err(lost);
            }
            notified.await;
        }
    }

    /// Makes a lazy log commit everything up to `sequence` now.
    pub(crate) fn request_flush(self: &Rc<Self>, sequence: u64) {
        {
            let mut state = self.state.borrow_mut();
            if state.flush_to < sequence {
                state.flush_to = sequence;
            }
            if sequence <= state.durable.sequence {
                return;
            }
        }
        self.kick();
    }

    /// Starts the writer, or wakes it.
    pub(crate) fn kick(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        if state.writer.running {
            let waker = state.writer.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return;
        }
        state.writer.running = true;
        if !std::mem::replace(&mut state.registered, true) {
            self.storage.register(Rc::downgrade(self));
        }
        drop(state);
        self.storage.spawn(Box::pin(writer::run(Rc::clone(self))));
    }

    /// Waits until the segment with this nonce, or with none given any segment, is not being rewritten.
    pub(crate) async fn rewritten(&self, nonce: Option<u64>) {
        loop {
            let notified = self.progress.notified();
            let rewriting = self.state.borrow().rewriting;
            if rewriting.is_none() || (nonce.is_some() && rewriting != nonce) {
                return;
            }
            notified.await;
        }
    }

    /// Wakes everyone who waits, and calls the sinks. Never while the state is borrowed.
    pub(crate) fn announce(&self) {
        self.progress.notify_waiters();
        let count = self.sinks.borrow().len();
        for number in 0..count {
            let sink = self.sinks.borrow().get(number).map(|entry| (Rc::clone(&entry.sink), entry.token));
            if let Some((sink, token)) = sink {
                sink.on_progress(token);
            }
        }
    }

    /// Lets go of the open chunk if nothing was appended or read for the idle time; says whether nothing is held any more.
    pub(crate) fn release_if_idle(&self) -> bool {
        let mut state = self.state.borrow_mut();
        if state.writer.running {
            return false;
        }
        let idle_seconds = self.storage.limits.cache_idle.as_secs().max(1);
        let second = self.storage.second.get();
        match state.steps.back() {
            Some(Step::Chunk(chunk)) if chunk.written == chunk.buffer.len() => {
                if second < chunk.last_used + idle_seconds {
                    return false;
                }
                state.steps.pop_back();
            }
            Some(_) => return false,
            None => {}
        }
        state.hints = VecDeque::new();
        state.chunk_bytes = append::MIN_CHUNK_BYTES;
        state.registered = false;
        true
    }

    /// What the checkpoint ring should know now.
    pub(super) fn checkpoint(state: &LogState) -> Option<Checkpoint> {
        let segment = state.segments.iter().rev().find(|segment| segment.number == state.durable.segment)?;
        let state_position = match state.active {
            Some(active) if state.segments.back().is_some_and(|last| last.number == segment.number) => {
                active.durable_state_position
            }
            _ => 0,
        };
        Some(Checkpoint {
            segment: segment.number,
            nonce: segment.nonce,
            position: state.durable.position,
            index: state.durable.index,
            state_position,
        })
    }

    /// Bytes in all segments.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.state.borrow().segments.iter().map(Segment::size_bytes).sum()
    }
}
