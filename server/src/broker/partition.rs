//! A partition on its owning shard: the log, the receipts that wait for it, the requests that wait for room in it, and the
//! readers that wait for its end to move.
//!
//! Receipts are given in the order of the log, many per flush, by [`ProgressSink::on_progress`]: nothing else ever builds
//! one. No borrow is held across a call into the log, which may call back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{Durability, PRODUCE_ACK_DUPLICATE, PartitionInfo, PartitionState, ProduceAck};
use levada_storage::{Append, Partition, ProgressSink, Ticket, TicketState, Watch};
use tokio::sync::Notify;

use crate::broker::encoding::codec_of;
use crate::broker::link::Origin;
use crate::broker::message::{DataReply, ToConnection};
use crate::broker::produce::OrderedBatch;
use crate::broker::recent_ids::Ids;
use crate::failure::Failure;
use crate::metadata::model::{Compression, Topic};

/// A partition of this shard.
#[derive(Debug)]
pub struct PartitionSlot {
    /// Its topic's id.
    pub topic_id: u32,
    /// Its number.
    pub partition: u32,
    topic: RefCell<Arc<Topic>>,
    log: RefCell<LogState>,
    watch: RefCell<Option<Watch>>,
    /// Receipts to be given, in the order of the log.
    waiting: RefCell<VecDeque<Waiting>>,
    /// Batches that wait for the log to take appends again, or to be encoded, in the order of arrival.
    pub(super) parked: RefCell<VecDeque<OrderedBatch>>,
    /// Told when the visible end moves or the partition ends.
    pub progress: Notify,
    /// Told of every commit and every batch encoded: what is parked may be written.
    pub(super) room: Notify,
    /// Ids of its last messages, where its topic drops duplicates.
    pub(super) ids: RefCell<Ids>,
    last_visible_end: Cell<u64>,
    /// Bytes of batches appended since start.
    pub(super) appended_bytes: Cell<u64>,
}

#[derive(Clone, Debug)]
enum LogState {
    Open(Rc<Partition>),
    Failed(Rc<str>),
    Deleted,
    Closed,
}

/// A receipt that waits for its ticket.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    correlation: u32,
    origin: Origin,
    ack: ProduceAck,
}

impl PartitionSlot {
    /// A partition with its opened log, or why it could not be opened.
    pub(super) fn new(topic: Arc<Topic>, partition: u32, log: Result<Rc<Partition>, String>) -> Rc<Self> {
        let visible_end = log.as_ref().map_or(0, |log| log.watermarks().visible_end_offset);
        let state = match &log {
            Ok(log) => LogState::Open(Rc::clone(log)),
            Err(reason) => LogState::Failed(reason.as_str().into()),
        };
        let slot = Rc::new(Self {
            topic_id: topic.topic_id,
            partition,
            topic: RefCell::new(topic),
            log: RefCell::new(state),
            watch: RefCell::new(None),
            waiting: RefCell::default(),
            parked: RefCell::default(),
            progress: Notify::new(),
            room: Notify::new(),
            ids: RefCell::new(Ids::Unread),
            last_visible_end: Cell::new(visible_end),
            appended_bytes: Cell::new(0),
        });
        if let Ok(log) = log {
            let sink: Rc<dyn ProgressSink> = Rc::<Self>::clone(&slot);
            let watch = log.watch(sink, 0);
            *slot.watch.borrow_mut() = Some(watch);
        }
        slot
    }

    /// The log, if the partition is open.
    ///
    /// # Errors
    /// `PARTITION_UNAVAILABLE` with the reason, `TOPIC_NOT_FOUND` or `SHUTTING_DOWN`.
    pub fn log(&self) -> Result<Rc<Partition>, Failure> {
        match &*self.log.borrow() {
            LogState::Open(log) => Ok(Rc::clone(log)),
            LogState::Failed(reason) => {
                Err(Failure::because(ErrorCode::PartitionUnavailable, format!("the partition did not open: {reason}"))
                    .with("reason", reason))
            }
            LogState::Deleted => Err(self.deleted()),
            LogState::Closed => Err(Failure::new(ErrorCode::ShuttingDown)),
        }
    }

    /// What its end means for a reader: why nothing more comes.
    pub fn ended(&self) -> Option<Failure> {
        self.log().err()
    }

    fn deleted(&self) -> Failure {
        Failure::because(ErrorCode::TopicNotFound, "the topic was deleted").with("topic", self.topic_id)
    }

    /// Its topic.
    pub fn topic(&self) -> Arc<Topic> {
        Arc::clone(&self.topic.borrow())
    }

    /// The codec that its topic asks for.
    pub(super) fn compression(&self) -> Compression {
        self.topic.borrow().options.compression
    }

    /// How many of its last messages a new one's id is compared with, if its topic drops duplicates.
    pub(super) fn dedup_messages(&self) -> Option<u32> {
        self.topic.borrow().options.supplement.dedup_messages
    }

    /// Whether batches for it are kept in memory until they are ready to be written.
    pub(super) fn holds_batches(&self) -> bool {
        codec_of(self.compression()).is_some() || self.dedup_messages().is_some()
    }

    pub(super) fn set_topic(&self, topic: Arc<Topic>) {
        *self.topic.borrow_mut() = topic;
    }

    /// Gives the receipt of an append, with `flags` in it, when its ticket is reached: now, or on the progress that reaches it.
    pub(super) fn acknowledge(
        &self,
        log: &Partition,
        append: &Append,
        correlation: u32,
        origin: &Origin,
        flags: u8,
        before_durable: bool,
    ) {
        let ack = ProduceAck {
            base_offset: append.base_offset,
            append_time_us: append.append_time_us,
            leader_epoch: log.watermarks().leader_epoch,
            durability: wire_durability(append.ticket.durability),
            flags: flags | if append.duplicate { PRODUCE_ACK_DUPLICATE } else { 0 },
        };
        match log.ticket_state(append.ticket) {
            TicketState::Pending if before_durable => origin.send(acknowledged(correlation, ack)),
            TicketState::Pending => {
                let waiting = Waiting { ticket: append.ticket, correlation, origin: origin.clone(), ack };
                self.insert(waiting);
            }
            TicketState::Reached(durability) => {
                let ack = ProduceAck { durability: wire_durability(durability), ..ack };
                origin.send(acknowledged(correlation, ack));
            }
            TicketState::Lost(lost) => origin.send(ToConnection::Failed(correlation, lost.into())),
        }
    }

    /// Puts a receipt where its ticket belongs: at the end, unless a duplicate joins its original.
    fn insert(&self, waiting: Waiting) {
        let mut queue = self.waiting.borrow_mut();
        let index = waiting.ticket.log_index;
        let behind = queue.iter().rev().take_while(|other| index < other.ticket.log_index).count();
        let at = queue.len() - behind;
        queue.insert(at, waiting);
    }

    /// Ends the partition: parked requests and readers learn why, receipts that can still come do come while the log
    /// closes.
    pub(super) async fn close(&self, deleted: bool) {
        let state = if deleted { LogState::Deleted } else { LogState::Closed };
        let before = std::mem::replace(&mut *self.log.borrow_mut(), state);
        self.refuse_parked();
        self.progress.notify_waiters();
        let LogState::Open(log) = before else { return };
        if let Err(error) = log.close().await {
            tracing::warn!(topic_id = self.topic_id, partition = self.partition, %error, "a partition did not close cleanly");
        }
        self.settle(&log);
        drop(self.watch.borrow_mut().take());
        // What the closed log has not made durable it never will.
        let lost: Vec<Waiting> = self.waiting.borrow_mut().drain(..).collect();
        for waiting in lost {
            waiting.origin.send(ToConnection::Failed(waiting.correlation, levada_storage::AppendLost::Closed.into()));
        }
    }

    /// Answers every parked request with the reason why the partition takes none.
    pub(super) fn refuse_parked(&self) {
        let Err(failure) = self.log() else { return };
        let parked: Vec<OrderedBatch> = self.parked.borrow_mut().drain(..).collect();
        for batch in parked {
            batch.leave();
            batch.origin.send(ToConnection::Failed(batch.correlation, failure.clone()));
        }
    }

    /// Gives every receipt whose ticket is reached, or says that it never will be.
    fn settle(&self, log: &Partition) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(first) = waiting.front() {
            let outcome = match log.ticket_state(first.ticket) {
                TicketState::Pending if log.is_stalled() => Err(waits_for_space()),
                TicketState::Pending => break,
                TicketState::Reached(durability) => Ok(wire_durability(durability)),
                TicketState::Lost(lost) => Err(lost.into()),
            };
            let Some(Waiting { correlation, origin, ack, .. }) = waiting.pop_front() else { break };
            origin.send(match outcome {
                Ok(durability) => acknowledged(correlation, ProduceAck { durability, ..ack }),
                Err(failure) => ToConnection::Failed(correlation, failure),
            });
        }
    }

    /// As its owner sees it.
    pub fn info(&self, shard: u16) -> PartitionInfo {
        let Ok(log) = self.log() else {
            let reason = self.ended().map(|failure| failure.message).unwrap_or_default();
            return PartitionInfo {
                partition: self.partition,
                shard,
                state: PartitionState::Unavailable,
                state_reason: reason,
                log_start_offset: 0,
                visible_end_offset: 0,
                durable_end_offset: 0,
                leader_epoch: 0,
                size_bytes: 0,
                segment_count: 0,
            };
        };
        let (marks, status) = (log.watermarks(), log.status());
        let reason = status.read_only.as_ref().map(ToString::to_string);
        PartitionInfo {
            partition: self.partition,
            shard,
            state: if reason.is_none() { PartitionState::Writable } else { PartitionState::ReadOnly },
            state_reason: reason.unwrap_or_default(),
            log_start_offset: marks.log_start_offset,
            visible_end_offset: marks.visible_end_offset,
            durable_end_offset: marks.durable_end_offset,
            leader_epoch: marks.leader_epoch,
            size_bytes: status.size_bytes,
            segment_count: u32::try_from(status.segment_count).unwrap_or(u32::MAX),
        }
    }
}

impl ProgressSink for PartitionSlot {
    fn on_progress(&self, _token: u64) {
        // During close the state has been taken out already; close settles what is left.
        let Ok(log) = self.log() else { return };
        self.settle(&log);
        self.room.notify_waiters();
        let visible_end = log.watermarks().visible_end_offset;
        if self.last_visible_end.replace(visible_end) != visible_end {
            self.progress.notify_waiters();
        }
    }
}

fn acknowledged(correlation: u32, ack: ProduceAck) -> ToConnection {
    ToConnection::Reply(correlation, DataReply::ProduceAck(ack))
}

/// An accepted batch that cannot be written before space is freed: its producer is not kept waiting for that. Sent again
/// with the same sequence it joins the original.
fn waits_for_space() -> Failure {
    Failure::because(ErrorCode::AppendUnknown, "the disk is full; the batch was accepted and waits for space")
}

fn wire_durability(durability: levada_storage::Durability) -> Durability {
    match durability {
        levada_storage::Durability::Memory => Durability::Memory,
        levada_storage::Durability::Disk => Durability::Disk,
    }
}
