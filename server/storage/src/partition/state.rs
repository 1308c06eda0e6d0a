//! What a partition knows beside its log: a pure function of the entries, carried by state records.

use crate::entry::{EntryHeader, Kind};
use crate::log::recover::Replay;
use crate::log::scan::Scanned;
use crate::partition::producers::{Producers, RecentBatch};
use crate::wire::{i64_at, u32_at, u64_at};

/// A leader epoch and the first offset appended under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochStart {
    pub(crate) epoch: u32,
    pub(crate) offset: u64,
}

/// Epochs remembered; consumers that come back after more crashes than this are told the oldest.
const MAX_EPOCHS: usize = 256;

#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionState {
    pub(crate) epochs: Vec<EpochStart>,
    pub(crate) log_start_offset: u64,
    pub(crate) end_offset: u64,
    pub(crate) last_time_us: Option<i64>,
    pub(crate) producers: Producers,
}

const FIXED_BYTES: usize = 32;

impl PartitionState {
    pub(crate) fn epoch(&self) -> u32 {
        self.epochs.last().map_or(0, |last| last.epoch)
    }

    pub(crate) fn start_epoch(&mut self, epoch: u32) {
        // Nothing was appended under an epoch that starts where the next one does.
        let offset = self.end_offset;
        self.epochs.push(EpochStart { epoch, offset });
        if MAX_EPOCHS < self.epochs.len() {
            self.epochs.remove(0);
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.log_start_offset.to_le_bytes());
        out.extend_from_slice(&self.end_offset.to_le_bytes());
        out.extend_from_slice(&self.last_time_us.unwrap_or(i64::MIN).to_le_bytes());
        out.extend_from_slice(&(self.epochs.len() as u64).to_le_bytes());
        for epoch in &self.epochs {
            out.extend_from_slice(&u64::from(epoch.epoch).to_le_bytes());
            out.extend_from_slice(&epoch.offset.to_le_bytes());
        }
        self.producers.encode(out);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..FIXED_BYTES)?;
        let count = usize::try_from(u64_at(fixed, 24)).ok()?;
        let rest = &bytes[FIXED_BYTES..];
        let epoch_bytes = count.checked_mul(16).filter(|&length| length <= rest.len())?;
        let last_time_us = i64_at(fixed, 16);
        Some(Self {
            log_start_offset: u64_at(fixed, 0),
            end_offset: u64_at(fixed, 8),
            last_time_us: (last_time_us != i64::MIN).then_some(last_time_us),
            epochs: rest[..epoch_bytes]
                .chunks_exact(16)
                .map(|at| EpochStart { epoch: u32_at(at, 0), offset: u64_at(at, 8) })
                .collect(),
            producers: Producers::decode(&rest[epoch_bytes..])?,
        })
    }

    fn on_batch(&mut self, header: &EntryHeader, entry: &Scanned, max_producers: usize) {
        let Some(batch) = &entry.batch else { return };
        let base_offset = batch.server.base_offset;
        let last_offset = base_offset + u64::from(batch.producer.last_offset_delta);
        self.end_offset = last_offset + 1;
        self.last_time_us = Some(batch.server.append_time_us);
        let recent = RecentBatch {
            first_sequence: batch.producer.first_sequence,
            last_sequence: batch.producer.last_sequence(),
            base_offset,
            last_offset,
            append_time_us: batch.server.append_time_us,
            log_index: header.log_index,
        };
        self.producers.note(&batch.producer, recent, max_producers);
    }
}

/// The log start that a partition's state record tells.
pub(crate) fn log_start_of(upper: &[u8]) -> Option<u64> {
    PartitionState::decode(upper).map(|state| state.log_start_offset)
}

/// Rebuilds the state from a log.
pub(crate) struct StateReplay {
    pub(crate) state: PartitionState,
    pub(crate) max_producers: usize,
}

impl Replay for StateReplay {
    fn on_state(&mut self, upper: &[u8]) -> bool {
        let Some(state) = PartitionState::decode(upper) else { return false };
        self.state = state;
        true
    }

    fn on_entry(&mut self, entry: &Scanned, payload: &[u8]) {
        match entry.header.kind {
            Kind::Batch => self.state.on_batch(&entry.header, entry, self.max_producers),
            Kind::Session if 4 <= payload.len() => self.state.start_epoch(u32_at(payload, 0)),
            Kind::LogStart if 8 <= payload.len() => {
                self.state.log_start_offset = self.state.log_start_offset.max(u64_at(payload, 0));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_round_trips_and_short_state_is_refused() {
        let mut state =
            PartitionState { log_start_offset: 3, end_offset: 9, last_time_us: Some(-5), ..Default::default() };
        state.start_epoch(1);
        state.end_offset = 20;
        state.start_epoch(4);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        let back = PartitionState::decode(&bytes).expect("it was just encoded");
        assert_eq!((back.log_start_offset, back.end_offset, back.last_time_us), (3, 20, Some(-5)));
        assert_eq!(back.epochs, state.epochs);
        assert_eq!(back.epoch(), 4);
        assert!((0..bytes.len()).all(|length| PartitionState::decode(&bytes[..length]).is_none()));
    }
}
