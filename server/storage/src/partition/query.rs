//! Reading and looking up: batches by offset, offsets by time and by distance from the end, epochs.

use super::producers::ProducerProgress;
use super::{Partition, PartitionStatus, ReadBatches, TimedOffset};
use crate::config::PartitionConfig;
use crate::errors::{ReadError, Truncated};
use crate::log::Phase;

impl Partition {
    /// Reads whole batches from the one that holds `offset` on: at least one, no more than `max_bytes` otherwise, never
    /// past the visible end. At the visible end it returns none.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(&self, offset: u64, max_bytes: usize) -> Result<ReadBatches, ReadError> {
        match self.check_range(offset)? {
            Some(end_offset) => self.log.read(offset, max_bytes, end_offset).await,
            None => Ok(ReadBatches { first_offset: offset, next_offset: offset, ..ReadBatches::default() }),
        }
    }

    /// The same from memory: `None` if it would touch the disk.
    pub fn try_read_cached(&self, offset: u64, max_bytes: usize) -> Option<Result<ReadBatches, ReadError>> {
        match self.check_range(offset) {
            Err(error) => Some(Err(error)),
            Ok(Some(end_offset)) => self.log.read_cached(offset, max_bytes, end_offset),
            Ok(None) => Some(Ok(ReadBatches { first_offset: offset, next_offset: offset, ..ReadBatches::default() })),
        }
    }

    /// The visible end if there is something to read at `offset`.
    fn check_range(&self, offset: u64) -> Result<Option<u64>, ReadError> {
        if matches!(self.log.state.borrow().phase, Phase::Closed) {
            return Err(ReadError::Closed);
        }
        let marks = self.watermarks();
        let (log_start_offset, visible_end_offset) = (marks.log_start_offset, marks.visible_end_offset);
        if offset < log_start_offset || visible_end_offset < offset {
            return Err(ReadError::OutOfRange { log_start_offset, visible_end_offset });
        }
        Ok((offset < visible_end_offset).then_some(visible_end_offset))
    }

    /// The first batch appended at or after a time.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn offset_for_time(&self, append_time_us: i64) -> Result<TimedOffset, ReadError> {
        let marks = self.watermarks();
        let none = TimedOffset { offset: marks.visible_end_offset, append_time_us: None };
        let Some(mut offset) = self.log.offset_before_time(append_time_us).await? else { return Ok(none) };
        offset = offset.max(marks.log_start_offset);
        while offset < marks.visible_end_offset {
            let batches = self.read(offset, 256 << 10).await?;
            if batches.batch_count == 0 {
                break;
            }
            let found = crate::wire::batches_in(&batches.slices)
                .into_iter()
                .find(|server| append_time_us <= server.append_time_us);
            if let Some(server) = found {
                let offset = server.base_offset.max(marks.log_start_offset);
                return Ok(TimedOffset { offset, append_time_us: Some(server.append_time_us) });
            }
            offset = batches.next_offset;
        }
        Ok(none)
    }

    /// The offset `count` messages before the visible end, at least the log start.
    #[must_use]
    pub fn offset_for_last(&self, count: u64) -> u64 {
        let marks = self.watermarks();
        marks.visible_end_offset.saturating_sub(count).max(marks.log_start_offset)
    }

    /// Whether a consumer that saw `offset` as its next one under `epoch` still sees the same log.
    ///
    /// # Errors
    /// Where the log differs.
    pub fn check_epoch(&self, offset: u64, epoch: u32) -> Result<(), Truncated> {
        let marks = self.watermarks();
        let state = self.state.borrow();
        let end = state.epochs.iter().find(|start| epoch < start.epoch).map_or(marks.appended_end_offset, |s| s.offset);
        if end < offset || marks.leader_epoch < epoch {
            return Err(Truncated { divergence_offset: end.min(offset) });
        }
        Ok(())
    }

    /// How far a producer has come, as far as was appended: it may not be durable yet.
    #[must_use]
    pub fn producer_progress(&self, producer_id: u64) -> Option<ProducerProgress> {
        self.state.borrow().producers.progress(producer_id)
    }

    /// Current settings.
    #[must_use]
    pub fn config(&self) -> PartitionConfig {
        self.config.borrow().clone()
    }

    /// Figures for `levada status`.
    #[must_use]
    pub fn status(&self) -> PartitionStatus {
        let state = self.state.borrow();
        let log = self.log.state.borrow();
        PartitionStatus {
            read_only: match &log.phase {
                Phase::ReadOnly(reason) => Some(reason.clone()),
                _ => None,
            },
            segment_count: log.segments.len(),
            size_bytes: log.segments.iter().map(crate::segment::Segment::size_bytes).sum(),
            pending_bytes: log.pending_bytes,
            producer_count: state.producers.len(),
            last_append_time_us: state.last_time_us,
            commit_count: log.commit_count,
            flush_latency_us: log.flush_latency_us,
        }
    }
}
