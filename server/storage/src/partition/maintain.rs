//! Keeping a partition in shape: deletion, retention, settings, flush, close.

use std::rc::Rc;

use super::Partition;
use super::open::policy;
use crate::config::{Durability, PartitionConfig};
use crate::entry::{FLAG_CLEAN, Kind};
use crate::errors::{AppendLost, MaintainError};
use crate::log::Phase;
use crate::log::append::NewEntry;

impl Partition {
    /// Deletes all messages before `offset` (at most the visible end), durably, and returns the new log start.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn delete_before(&self, offset: u64) -> Result<u64, MaintainError> {
        self.check_maintainable()?;
        // It would wait for space, and whoever frees space may be the one who asks.
        if self.log.state.borrow().stalled {
            return Err(MaintainError::DiskFull);
        }
        // A deletion must not become durable before what it deletes is.
        self.flush().await?;
        let marks = self.watermarks();
        let offset = offset.min(marks.visible_end_offset);
        if offset <= marks.log_start_offset {
            return Ok(marks.log_start_offset);
        }
        if self.worth_sealing(offset) {
            self.log.seal();
        }
        let sequence = self.note_log_start(offset);
        self.log.kick();
        self.log.durable_to(sequence).await.map_err(lost)?;
        self.remove_dead_segments().await;
        Ok(offset)
    }

    /// Removes sealed segments that retention no longer keeps and returns the bytes freed.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn apply_retention(&self, now_us: i64) -> Result<u64, MaintainError> {
        self.check_maintainable()?;
        self.seal_old(now_us);
        let Some(offset) = self.retention_offset(now_us) else { return Ok(0) };
        let before = self.log.size_bytes();
        self.delete_before(offset).await?;
        Ok(before.saturating_sub(self.log.size_bytes()))
    }

    /// Append time of the last message in the oldest segment that could be removed whole, in µs since 1970-01-01 UTC.
    #[must_use]
    pub fn oldest_sealed_us(&self) -> Option<i64> {
        self.oldest_sealed().map(|(time_us, _)| time_us)
    }

    /// Removes the oldest sealed segment, durably, with what lies before it, and returns the bytes freed.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn remove_oldest_sealed(&self) -> Result<u64, MaintainError> {
        self.check_maintainable()?;
        let Some((_, end_offset)) = self.oldest_sealed() else { return Ok(0) };
        let before = self.log.size_bytes();
        self.delete_before(end_offset).await?;
        Ok(before.saturating_sub(self.log.size_bytes()))
    }

    /// Time and end offset of the oldest sealed segment with messages that consumers may see.
    fn oldest_sealed(&self) -> Option<(i64, u64)> {
        let visible = self.watermarks().visible_end_offset;
        let log = self.log.state.borrow();
        let oldest = log.segments.iter().find(|segment| 0 < segment.totals.batch_count)?;
        let is_whole = oldest.sealed && oldest.totals.end_offset <= visible;
        is_whole.then_some((oldest.totals.last_time_us, oldest.totals.end_offset))
    }

    /// Seals the open segment when its first message is older than the roll age, so that retention can reach it.
    fn seal_old(&self, now_us: i64) {
        let due = {
            let log = self.log.state.borrow();
            let roll_age_us = i64::try_from(log.policy.roll_age_us).unwrap_or(i64::MAX);
            log.segments.back().is_some_and(|segment| {
                let first = segment.totals.first_time_us;
                !segment.sealed && first != i64::MIN && roll_age_us < now_us.saturating_sub(first)
            })
        };
        if due {
            self.log.seal();
            self.log.kick();
        }
    }

    /// The log start that retention asks for, if it removes at least one segment.
    fn retention_offset(&self, now_us: i64) -> Option<u64> {
        let config = self.config.borrow();
        let log = self.log.state.borrow();
        let mut total: u64 = log.segments.iter().map(crate::segment::Segment::size_bytes).sum();
        let mut offset = None;
        for segment in log.segments.iter().filter(|segment| segment.sealed) {
            if log.durable.offset < segment.totals.end_offset {
                break;
            }
            let age_us = now_us.saturating_sub(segment.totals.last_time_us);
            let too_old = segment.totals.batch_count == 0
                || config.retention_age_us.is_some_and(|limit| i64::try_from(limit).is_ok_and(|limit| limit < age_us));
            let too_much = config.retention_bytes.is_some_and(|limit| limit + segment.size_bytes() <= total);
            if !too_old && !too_much {
                break;
            }
            total -= segment.size_bytes();
            if 0 < segment.totals.batch_count {
                offset = Some(segment.totals.end_offset);
            }
        }
        offset
    }

    /// Whether the open segment holds enough dead bytes to be sealed so that its file can go.
    fn worth_sealing(&self, offset: u64) -> bool {
        let log = self.log.state.borrow();
        log.segments.back().is_some_and(|segment| {
            !segment.sealed && segment.totals.end_offset <= offset && (1 << 20) <= segment.data_end
        })
    }

    pub(super) fn note_log_start(&self, offset: u64) -> u64 {
        let record = offset.to_le_bytes();
        let entry = NewEntry { kind: Kind::LogStart, flags: 0, parts: [&record, &[]], batch: None };
        let now_us = self.log.storage.clock.now_us();
        let mut state = self.state.borrow_mut();
        let placed = self.log.append(&entry, &|out| state.encode(out), now_us);
        state.log_start_offset = offset;
        placed.sequence
    }

    /// Removes the files of sealed segments that lie wholly before the log start, which is durable.
    pub(super) async fn remove_dead_segments(&self) {
        let log_start_offset = self.state.borrow().log_start_offset;
        self.log.remove_before(log_start_offset).await;
    }

    /// Changes the settings. They hold for the next append.
    pub fn set_config(&self, config: PartitionConfig) {
        let was = std::mem::replace(&mut *self.config.borrow_mut(), config);
        let config = self.config.borrow();
        self.log.state.borrow_mut().policy = policy(&config);
        if was.durability == Durability::Memory && config.durability == Durability::Disk {
            // The writer may be asleep until the flush interval of the old setting.
            let sequence = self.log.state.borrow().appended.sequence;
            self.log.request_flush(sequence);
        }
    }

    /// Waits until everything appended so far is durable.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn flush(&self) -> Result<(), MaintainError> {
        let sequence = self.log.state.borrow().appended.sequence;
        self.log.durable_to(sequence).await.map_err(lost)
    }

    /// Waits until the message at `offset` is durable, but not for space on the disk.
    ///
    /// # Errors
    /// [`MaintainError::DiskFull`] where it would wait for space; else see [`MaintainError`].
    pub async fn flush_through(&self, offset: u64) -> Result<(), MaintainError> {
        let sequence = self.log.state.borrow().appended.sequence;
        let is_durable = || {
            let durable = self.log.state.borrow().durable;
            (offset < durable.offset || sequence <= durable.sequence) && !self.log.storage.is_failed()
        };
        if !is_durable() {
            self.log.request_flush(sequence);
        }
        loop {
            let notified = self.log.progress.notified();
            if is_durable() {
                return Ok(());
            }
            if let Some(reason) = self.log.lost() {
                return Err(lost(reason));
            }
            if self.log.state.borrow().stalled {
                return Err(MaintainError::DiskFull);
            }
            notified.await;
        }
    }

    /// Flushes, marks the log as cleanly closed and refuses everything from then on.
    ///
    /// # Errors
    /// See [`MaintainError`]. The partition is closed in any case.
    pub async fn close(&self) -> Result<(), MaintainError> {
        let outcome = self.close_cleanly().await;
        {
            let mut log = self.log.state.borrow_mut();
            if !matches!(log.phase, Phase::Failed) {
                log.phase = Phase::Closed;
            }
        }
        self.log.announce();
        // It notices; and nothing may come into the directory after this.
        self.log.rewritten(None).await;
        self.log.forget_memory();
        outcome
    }

    async fn close_cleanly(&self) -> Result<(), MaintainError> {
        {
            let mut log = self.log.state.borrow_mut();
            match &log.phase {
                Phase::Open => log.phase = Phase::Closing,
                Phase::ReadOnly(_) | Phase::Closed => return Ok(()),
                Phase::Closing | Phase::Failed => return Err(MaintainError::Closed),
            }
        }
        let untouched = {
            let log = self.log.state.borrow();
            log.segments.is_empty() || (log.appended.sequence == 0 && log.durable.sequence == 0 && log.is_quiet())
        };
        if untouched {
            return Ok(());
        }
        if self.log.state.borrow().stalled {
            return Err(MaintainError::DiskFull);
        }
        let now_us = self.log.storage.clock.now_us();
        let placed = {
            let mut state = self.state.borrow_mut();
            let expiry_us = i64::try_from(self.config.borrow().producer_expiry_us).unwrap_or(i64::MAX);
            let last = state.last_time_us.unwrap_or(i64::MIN);
            state.producers.expire(last.saturating_sub(expiry_us));
            self.log.append_state(FLAG_CLEAN, &|out| state.encode(out), now_us)
        };
        self.log.kick();
        self.log.durable_to(placed.sequence).await.map_err(lost)
    }

    fn check_maintainable(&self) -> Result<(), MaintainError> {
        if self.log.storage.is_failed() {
            return Err(MaintainError::Failed);
        }
        match &self.log.state.borrow().phase {
            Phase::Open => Ok(()),
            Phase::ReadOnly(reason) => Err(MaintainError::ReadOnly(Rc::clone(reason))),
            Phase::Closing | Phase::Closed => Err(MaintainError::Closed),
            Phase::Failed => Err(MaintainError::Failed),
        }
    }
}

pub(crate) fn lost(lost: AppendLost) -> MaintainError {
    match lost {
        AppendLost::Failed => MaintainError::Failed,
        AppendLost::Closed => MaintainError::Closed,
    }
}
