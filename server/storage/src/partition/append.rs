//! Appending a batch: check, place in the order, copy; and waiting for what the append was promised.

use std::rc::Rc;

use bytes::Bytes;

use super::producers::{Numbering, RecentBatch, Sequence};
use super::{Append, Partition, ProgressSink, Ticket, TicketState, Watch, Watermarks};
use crate::config::Durability;
use crate::entry::{Kind, STORAGE_HEADER_BYTES};
use crate::errors::{AppendError, AppendLost};
use crate::log::append::{BatchMark, NewEntry};
use crate::log::{Phase, Sink};
use crate::wire::{MAX_PRODUCED_BYTES, PRODUCER_PART_BYTES, ProducerPart, SERVER_PART_BYTES, ServerPart};

impl Partition {
    /// Appends a batch (producer part and body, as it came from the producer). Readable by [`Partition::read`] once visible.
    ///
    /// The caller has checked the producer's CRC: it is not computed again here. `ask` raises the topic's durability for
    /// this batch; it never lowers it.
    ///
    /// # Errors
    /// Nothing was appended in any case of [`AppendError`].
    pub fn append(&self, batch: Bytes, ask: Durability) -> Result<Append, AppendError> {
        self.append_numbered(batch, ask, Numbering::BeginsAnew)
    }

    /// The same for a producer whose numbers do not begin anew with an epoch.
    ///
    /// # Errors
    /// As [`Partition::append`].
    pub fn append_numbered(&self, batch: Bytes, ask: Durability, numbering: Numbering) -> Result<Append, AppendError> {
        let part = self.check_shape(&batch)?;
        let topic = self.config.borrow().durability;
        let durability = topic.max(ask);
        if let Sequence::Duplicate(original) = self.state.borrow().producers.check(&part, numbering)? {
            if let Some(lost) = self.log.lost() {
                return Err(if lost == AppendLost::Failed { AppendError::Failed } else { AppendError::Closed });
            }
            self.hurry(topic, ask);
            return Ok(accepted(&original, durability, true));
        }
        self.log.admit(batch.len() + STORAGE_HEADER_BYTES + SERVER_PART_BYTES)?;
        if topic == Durability::Memory {
            self.note_session();
        }
        let original = self.place(&batch, &part);
        self.hurry(topic, ask);
        self.log.kick();
        Ok(accepted(&original, durability, false))
    }

    /// Whether [`Partition::append_numbered`] would append the batch, as far as its producer's sequence says; `false` if it is in the log.
    ///
    /// # Errors
    /// As it would.
    pub fn is_new(&self, batch: &[u8], numbering: Numbering) -> Result<bool, AppendError> {
        let part = self.check_shape(batch)?;
        let is_new = self.state.borrow().producers.check(&part, numbering)? == Sequence::New;
        if is_new && self.log.state.borrow().stalled { Err(AppendError::DiskFull) } else { Ok(is_new) }
    }

    fn check_shape(&self, batch: &[u8]) -> Result<ProducerPart, AppendError> {
        // What is stored must be a batch to those who read it, whatever the configuration says.
        let limit_bytes = self.config.borrow().max_batch_bytes.min(MAX_PRODUCED_BYTES);
        if (limit_bytes as usize) < batch.len() {
            return Err(AppendError::TooLarge { limit_bytes });
        }
        let part = ProducerPart::parse(batch).map_err(AppendError::Malformed)?;
        if part.body_bytes == 0 || part.body_bytes as usize != batch.len() - PRODUCER_PART_BYTES {
            return Err(AppendError::Malformed("body length"));
        }
        Ok(part)
    }

    /// Gives the batch its offsets and time and copies it into the log.
    fn place(&self, batch: &[u8], part: &ProducerPart) -> RecentBatch {
        let mut state = self.state.borrow_mut();
        let now_us = self.log.storage.clock.now_us();
        let append_time_us = state.last_time_us.map_or(now_us, |last| last.max(now_us));
        let base_offset = state.end_offset;
        let last_offset = base_offset + u64::from(part.last_offset_delta);
        let server = ServerPart {
            batch_length: u32::try_from(SERVER_PART_BYTES + batch.len()).expect("batches are at most 16 MiB"),
            base_offset,
            append_time_us,
            leader_epoch: state.epoch(),
        }
        .encode();
        let mark = BatchMark { base_offset, end_offset: last_offset + 1, time_us: append_time_us, crc: part.crc };
        let entry = NewEntry { kind: Kind::Batch, flags: 0, parts: [&server, batch], batch: Some(mark) };
        let placed = self.log.append(&entry, &|out| state.encode(out), now_us);
        let recent = RecentBatch {
            first_sequence: part.first_sequence,
            last_sequence: part.last_sequence(),
            base_offset,
            last_offset,
            append_time_us,
            log_index: placed.index,
        };
        state.end_offset = last_offset + 1;
        state.last_time_us = Some(append_time_us);
        let max_producers = self.config.borrow().max_producers;
        state.producers.note(part, recent, max_producers);
        recent
    }

    /// On a memory topic: commits now if the producer asked for the disk, and lets watchers know of the new visible end.
    fn hurry(&self, topic: Durability, ask: Durability) {
        if topic == Durability::Disk {
            return;
        }
        if ask == Durability::Disk {
            let sequence = self.log.state.borrow().appended.sequence;
            self.log.request_flush(sequence);
        }
        self.log.progress.notify_waiters();
        if !self.log.sinks.borrow().is_empty() {
            self.log.state.borrow_mut().sink_due = true;
        }
    }

    /// Resolves when an append has a chance again after [`AppendError::Full`].
    pub async fn writable(&self) {
        loop {
            let notified = self.log.progress.notified();
            {
                let state = self.log.state.borrow();
                let room = state.pending_bytes * 2 <= state.policy.pending_bytes;
                if room || !matches!(state.phase, Phase::Open) || self.log.storage.is_failed() {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Whether what was accepted waits for space on the disk: appends are refused until some is freed.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.log.state.borrow().stalled
    }

    /// Current watermarks, from memory.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        let state = self.state.borrow();
        let log = self.log.state.borrow();
        let lazy = log.policy.lazy.is_some() && log.session_sequence.is_none();
        let visible = if lazy { log.appended.offset } else { log.durable.offset };
        Watermarks {
            log_start_offset: state.log_start_offset,
            visible_end_offset: visible.max(state.log_start_offset),
            durable_end_offset: log.durable.offset,
            appended_end_offset: log.appended.offset,
            leader_epoch: state.epoch(),
        }
    }

    /// State of a ticket now.
    #[must_use]
    pub fn ticket_state(&self, ticket: Ticket) -> TicketState {
        // After a failure nothing is acknowledged any more, not even what was durable before it.
        if self.log.storage.is_failed() {
            return TicketState::Lost(AppendLost::Failed);
        }
        {
            let log = self.log.state.borrow();
            if ticket.log_index <= log.durable.index {
                return TicketState::Reached(Durability::Disk);
            }
            let in_memory = log.session_sequence.is_none() && matches!(log.phase, Phase::Open | Phase::Closing);
            if ticket.durability == Durability::Memory && in_memory {
                return TicketState::Reached(Durability::Memory);
            }
        }
        self.log.lost().map_or(TicketState::Pending, TicketState::Lost)
    }

    /// Waits until a ticket is reached and tells the durability that holds.
    ///
    /// # Errors
    /// When it never will be; the outcome is unknown.
    pub async fn durable(&self, ticket: Ticket) -> Result<Durability, AppendLost> {
        loop {
            let notified = self.log.progress.notified();
            match self.ticket_state(ticket) {
                TicketState::Reached(durability) => return Ok(durability),
                TicketState::Lost(lost) => return Err(lost),
                TicketState::Pending => notified.await,
            }
        }
    }

    /// Waits until the visible end is beyond `offset` (or the partition is closed), and returns it.
    pub async fn visible_beyond(&self, offset: u64) -> u64 {
        loop {
            let notified = self.log.progress.notified();
            let visible = self.watermarks().visible_end_offset;
            if offset < visible || self.log.lost().is_some() {
                return visible;
            }
            notified.await;
        }
    }

    /// Calls `sink` with `token` on every progress until the returned watch is dropped.
    #[must_use]
    pub fn watch(&self, sink: Rc<dyn ProgressSink>, token: u64) -> Watch {
        let id = self.next_watch.replace(self.next_watch.get() + 1);
        self.log.sinks.borrow_mut().push(Sink { id, sink, token });
        Watch { log: Rc::downgrade(&self.log), id }
    }
}

fn accepted(batch: &RecentBatch, durability: Durability, duplicate: bool) -> Append {
    Append {
        base_offset: batch.base_offset,
        last_offset: batch.last_offset,
        append_time_us: batch.append_time_us,
        duplicate,
        ticket: Ticket { log_index: batch.log_index, durability },
    }
}
