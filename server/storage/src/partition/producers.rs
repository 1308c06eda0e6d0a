//! The producer table: which sequences each producer has appended. A pure function of the log, carried by its state records.

use std::collections::{BTreeMap, VecDeque};

use crate::errors::AppendError;
use crate::wire::{ProducerPart, i64_at, u32_at, u64_at};

/// Batches remembered per producer; a client keeps no more than this in flight.
pub(crate) const RECENT_BATCHES: usize = 64;

/// A batch that a retry may repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecentBatch {
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    pub(crate) base_offset: u64,
    pub(crate) last_offset: u64,
    pub(crate) append_time_us: i64,
    pub(crate) log_index: u64,
}

const RECENT_BYTES: usize = 48;
/// In the count of recent batches on disk: the application numbers.
const EXTERNAL_BIT: u32 = 1 << 31;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Producer {
    epoch: u32,
    /// The application numbers: sequences only grow, over epochs too, and may leave gaps.
    external: bool,
    next_sequence: u64,
    last_time_us: i64,
    recent: VecDeque<RecentBatch>,
}

/// How far a producer has come in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerProgress {
    /// The sequence after that of its last message.
    pub next_sequence: u64,
    /// Offset of its last message.
    pub last_offset: u64,
}

/// What a new epoch does to the numbers of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// They begin at 0.
    BeginsAnew,
    /// They go on where the epoch before ended.
    GoesOn,
}

/// What a batch is to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// The next one, or from no producer.
    New,
    /// In the log already.
    Duplicate(RecentBatch),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    table: BTreeMap<u64, Producer>,
}

impl Producers {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Decides what a batch is, changing nothing.
    pub(crate) fn check(&self, batch: &ProducerPart, numbering: Numbering) -> Result<Sequence, AppendError> {
        if batch.producer_id == 0 {
            return Ok(Sequence::New);
        }
        let first = batch.first_sequence;
        if first.checked_add(u64::from(batch.message_count)).is_none() {
            return Err(AppendError::Malformed("sequence overflows"));
        }
        let Some(producer) = self.table.get(&batch.producer_id) else {
            let fresh = first == 0 || batch.external_sequence;
            return if fresh { Ok(Sequence::New) } else { Err(AppendError::UnknownProducer) };
        };
        let expected = producer.next_sequence;
        if batch.producer_epoch < producer.epoch {
            return Err(AppendError::Fenced { current_epoch: producer.epoch });
        }
        // What the application numbers goes on over epochs, and so do the numbers of a producer with a name.
        let goes_on = match (producer.external, batch.external_sequence) {
            (true, true) => true,
            (_, false) => numbering == Numbering::GoesOn,
            (false, true) => false,
        };
        if producer.epoch < batch.producer_epoch && !goes_on {
            let fresh = first == 0 || batch.external_sequence;
            return if fresh { Ok(Sequence::New) } else { Err(AppendError::SequenceGap { expected: 0 }) };
        }
        if first == expected || (expected < first && batch.external_sequence) {
            return Ok(Sequence::New);
        }
        if expected <= batch.last_sequence() {
            return Err(AppendError::SequenceGap { expected });
        }
        let known = producer
            .recent
            .iter()
            .find(|recent| recent.first_sequence == first && recent.last_sequence == batch.last_sequence());
        known.map_or(Err(AppendError::DuplicateUnknownOffset), |recent| Ok(Sequence::Duplicate(*recent)))
    }

    /// How far a producer has come: the sequence after its last one, and the offset of its last message.
    pub(crate) fn progress(&self, producer_id: u64) -> Option<ProducerProgress> {
        let producer = self.table.get(&producer_id)?;
        let last_offset = producer.recent.back()?.last_offset;
        Some(ProducerProgress { next_sequence: producer.next_sequence, last_offset })
    }

    /// Notes an appended batch.
    pub(crate) fn note(&mut self, batch: &ProducerPart, recent: RecentBatch, limit: usize) {
        if batch.producer_id == 0 {
            return;
        }
        if limit <= self.table.len() && !self.table.contains_key(&batch.producer_id) {
            self.forget_oldest(limit);
        }
        let producer = self.table.entry(batch.producer_id).or_default();
        if producer.epoch < batch.producer_epoch {
            // What the application numbered stays known: it may send it again in any later epoch.
            if !(producer.external && batch.external_sequence) {
                *producer = Producer::default();
            }
            producer.epoch = batch.producer_epoch;
        }
        producer.external = batch.external_sequence;
        producer.next_sequence = recent.last_sequence.saturating_add(1);
        producer.last_time_us = recent.append_time_us;
        if RECENT_BATCHES <= producer.recent.len() {
            producer.recent.pop_front();
        }
        producer.recent.push_back(recent);
    }

    /// Forgets producers that have not appended since `before_us`.
    pub(crate) fn expire(&mut self, before_us: i64) {
        self.table.retain(|_, producer| before_us <= producer.last_time_us);
    }

    /// Makes room for a sixteenth of the table at once, so that a full table costs little per append.
    fn forget_oldest(&mut self, limit: usize) {
        let mut by_age: Vec<(i64, u64)> = self.table.iter().map(|(&id, p)| (p.last_time_us, id)).collect();
        by_age.sort_unstable();
        let excess = self.table.len().saturating_sub(limit) + (limit / 16).max(1);
        for (_, id) in by_age.into_iter().take(excess) {
            self.table.remove(&id);
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.table.len() as u64).to_le_bytes());
        for (id, producer) in &self.table {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&producer.epoch.to_le_bytes());
            let external = if producer.external { EXTERNAL_BIT } else { 0 };
            let count = u32::try_from(producer.recent.len()).unwrap_or(0);
            out.extend_from_slice(&(count | external).to_le_bytes());
            out.extend_from_slice(&producer.next_sequence.to_le_bytes());
            out.extend_from_slice(&producer.last_time_us.to_le_bytes());
            for recent in &producer.recent {
                for word in [recent.first_sequence, recent.last_sequence, recent.base_offset, recent.last_offset] {
                    out.extend_from_slice(&word.to_le_bytes());
                }
                out.extend_from_slice(&recent.append_time_us.to_le_bytes());
                out.extend_from_slice(&recent.log_index.to_le_bytes());
            }
        }
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut take = |length: usize| {
            let (head, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            Some(head)
        };
        let count = u64_at(take(8)?, 0);
        let mut table = BTreeMap::new();
        for _ in 0..count {
            let head = take(32)?;
            let recent_count = (u32_at(head, 12) & !EXTERNAL_BIT) as usize;
            let recent = take(recent_count.checked_mul(RECENT_BYTES)?)?
                .chunks_exact(RECENT_BYTES)
                .map(|at| RecentBatch {
                    first_sequence: u64_at(at, 0),
                    last_sequence: u64_at(at, 8),
                    base_offset: u64_at(at, 16),
                    last_offset: u64_at(at, 24),
                    append_time_us: i64_at(at, 32),
                    log_index: u64_at(at, 40),
                })
                .collect();
            let producer = Producer {
                epoch: u32_at(head, 8),
                external: u32_at(head, 12) & EXTERNAL_BIT != 0,
                next_sequence: u64_at(head, 16),
                last_time_us: i64_at(head, 24),
                recent,
            };
            table.insert(u64_at(head, 0), producer);
        }
        Some(Self { table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(producers: &Producers, batch: &ProducerPart) -> Result<Sequence, AppendError> {
        producers.check(batch, Numbering::BeginsAnew)
    }

    fn batch(id: u64, epoch: u32, first: u64, count: u32) -> ProducerPart {
        ProducerPart {
            crc: 0,
            message_count: count,
            last_offset_delta: count - 1,
            body_bytes: 0,
            producer_id: id,
            producer_epoch: epoch,
            first_sequence: first,
            external_sequence: false,
        }
    }

    fn note(producers: &mut Producers, part: ProducerPart, at: u64) -> RecentBatch {
        let recent = RecentBatch {
            first_sequence: part.first_sequence,
            last_sequence: part.last_sequence(),
            base_offset: at,
            last_offset: at + u64::from(part.last_offset_delta),
            append_time_us: at as i64,
            log_index: at + 1,
        };
        producers.note(&part, recent, 16);
        recent
    }

    #[test]
    fn sequences_are_followed_repeated_gapped_and_fenced() {
        let mut producers = Producers::default();
        assert_eq!(check(&producers, &batch(7, 1, 5, 1)), Err(AppendError::UnknownProducer));
        let first = note(&mut producers, batch(7, 1, 0, 10), 100);
        assert_eq!(check(&producers, &batch(7, 1, 10, 3)), Ok(Sequence::New));
        assert_eq!(check(&producers, &batch(7, 1, 0, 10)), Ok(Sequence::Duplicate(first)));
        assert_eq!(check(&producers, &batch(7, 1, 0, 5)), Err(AppendError::DuplicateUnknownOffset));
        assert_eq!(check(&producers, &batch(7, 1, 11, 1)), Err(AppendError::SequenceGap { expected: 10 }));
        assert_eq!(check(&producers, &batch(7, 1, 5, 10)), Err(AppendError::SequenceGap { expected: 10 }));
        assert_eq!(check(&producers, &batch(7, 0, 10, 1)), Err(AppendError::Fenced { current_epoch: 1 }));
        assert_eq!(check(&producers, &batch(7, 2, 10, 1)), Err(AppendError::SequenceGap { expected: 0 }));
        note(&mut producers, batch(7, 2, 0, 1), 200);
        assert_eq!(check(&producers, &batch(7, 2, 1, 1)), Ok(Sequence::New));
        assert_eq!(check(&producers, &batch(7, 1, 10, 1)), Err(AppendError::Fenced { current_epoch: 2 }));
    }

    #[test]
    fn sequences_of_the_application_leave_gaps_and_go_on_over_epochs() {
        let mut producers = Producers::default();
        let external = |epoch, first, count| ProducerPart { external_sequence: true, ..batch(7, epoch, first, count) };
        assert_eq!(check(&producers, &external(1, 5, 1)), Ok(Sequence::New));
        let original = note(&mut producers, external(1, 5, 3), 100);
        assert_eq!(check(&producers, &external(1, 5, 3)), Ok(Sequence::Duplicate(original)));
        assert_eq!(check(&producers, &external(1, 2, 1)), Err(AppendError::DuplicateUnknownOffset));
        assert_eq!(check(&producers, &external(1, 7, 2)), Err(AppendError::SequenceGap { expected: 8 }));
        assert_eq!(check(&producers, &external(1, 50, 2)), Ok(Sequence::New));
        // The next epoch knows what was appended in this one, and so does the table after a restart.
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        producers = Producers::decode(&bytes).expect("it was just encoded");
        assert_eq!(check(&producers, &external(2, 5, 3)), Ok(Sequence::Duplicate(original)));
        note(&mut producers, external(2, 9, 1), 103);
        assert_eq!(check(&producers, &external(2, 5, 3)), Ok(Sequence::Duplicate(original)));
        assert_eq!(check(&producers, &external(1, 10, 1)), Err(AppendError::Fenced { current_epoch: 2 }));
        assert_eq!(producers.progress(7), Some(ProducerProgress { next_sequence: 10, last_offset: 103 }));
        // Numbers of the client's own begin anew in an epoch of their own.
        assert_eq!(check(&producers, &batch(7, 3, 0, 1)), Ok(Sequence::New));
    }

    #[test]
    fn the_numbers_of_a_name_go_on_where_the_epoch_before_ended() {
        let mut producers = Producers::default();
        note(&mut producers, batch(7, 1, 0, 10), 100);
        let go_on = |producers: &Producers, part| producers.check(&part, Numbering::GoesOn);
        assert_eq!(go_on(&producers, batch(7, 2, 10, 1)), Ok(Sequence::New));
        // What is behind a batch that was refused must not be taken for the first of the epoch.
        assert_eq!(go_on(&producers, batch(7, 2, 11, 1)), Err(AppendError::SequenceGap { expected: 10 }));
        assert_eq!(go_on(&producers, batch(7, 2, 0, 1)), Err(AppendError::DuplicateUnknownOffset));
        assert_eq!(check(&producers, &batch(7, 2, 10, 1)), Err(AppendError::SequenceGap { expected: 0 }));
        note(&mut producers, batch(7, 2, 10, 1), 110);
        assert_eq!(go_on(&producers, batch(7, 2, 11, 1)), Ok(Sequence::New));
    }

    #[test]
    fn the_table_round_trips_and_keeps_its_caps() {
        let mut producers = Producers::default();
        for number in 0..200 {
            note(&mut producers, batch(1, 1, number, 1), number);
        }
        assert_eq!(check(&producers, &batch(1, 1, 100, 1)), Err(AppendError::DuplicateUnknownOffset));
        assert!(matches!(check(&producers, &batch(1, 1, 136, 1)), Ok(Sequence::Duplicate(_))));
        for id in 2..40 {
            note(&mut producers, batch(id, 1, 0, 1), 200 + id);
        }
        assert!(producers.len() <= 16);
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        assert_eq!(Producers::decode(&bytes), Some(producers.clone()));
        for length in 0..bytes.len() {
            assert_eq!(Producers::decode(&bytes[..length]), None);
        }
        producers.expire(i64::MAX);
        assert_eq!(producers.len(), 0);
    }
}
