//! The batches of one partition that are numbered: in order, each sent, waiting to be sent again, or given up.
//!
//! Invariants: sequences ascend without gap from the front; a batch is only sent while all before it are sent or settled;
//! after any refusal nothing is sent until every answer is in, and then it goes on from the lowest that is not acknowledged.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use levada_protocol::batch::{PRODUCER_PART_BYTES, ProducerHeader, without_messages};

use super::accumulator::Ticket;
use crate::backoff::Backoff;

/// A numbered batch.
pub(crate) struct Flight {
    /// Its producer part and body, in one piece or two.
    pub(crate) parts: Vec<Bytes>,
    pub(crate) message_count: u32,
    /// `None` once its fate was told while an answer is still to come.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) serial: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) sent: bool,
    /// An earlier attempt may have been appended.
    pub(crate) maybe_applied: bool,
    /// Messages it had that the log has already: their indices as it was handed over, ascending, and their offsets there.
    pub(crate) dropped: Vec<(u32, Option<u64>)>,
}

impl Flight {
    /// Leaves out messages that the server names by their indices; `false` if it named none of this batch.
    pub(crate) fn leave_out(&mut self, known: &BTreeMap<u32, Option<u64>>, level: i32) -> bool {
        if known.is_empty() || known.last_key_value().is_some_and(|(index, _)| self.message_count <= *index) {
            return false;
        }
        let whole: Bytes = match self.parts.as_slice() {
            [whole] => whole.clone(),
            parts => parts.concat().into(),
        };
        let Ok(rest) = without_messages(&whole, &known.keys().copied().collect(), level) else { return false };
        // Indices count what was left the last time; those of before are counted in again.
        let total = self.message_count + u32::try_from(self.dropped.len()).expect("a batch counts in 32 bits");
        let gone: BTreeMap<u32, Option<u64>> = std::mem::take(&mut self.dropped).into_iter().collect();
        let left = (0..total).filter(|index| !gone.contains_key(index));
        let named = left.zip(0..).filter_map(|(original, index)| known.get(&index).map(|offset| (original, *offset)));
        let named: BTreeMap<u32, Option<u64>> = named.collect();
        self.message_count -= u32::try_from(named.len()).expect("a batch counts in 32 bits");
        self.dropped = gone.into_iter().chain(named).collect::<BTreeMap<_, _>>().into_iter().collect();
        self.parts = rest.into_iter().collect();
        true
    }
}

pub(crate) struct Lane {
    pub(crate) flights: VecDeque<Flight>,
    pub(crate) next_sequence: u64,
    /// Nothing is sent until every answer is in.
    pub(crate) draining: bool,
    /// The sequence of a batch that was given up although it was certainly not appended: once drained, what is left is
    /// numbered from there, so that no gap remains.
    pub(crate) renumber_from: Option<u64>,
    /// The server does not know this lane's sequences any more: only a new epoch helps.
    pub(crate) stale: bool,
    pub(crate) hold_until_ms: u64,
    pub(crate) backoff: Backoff,
}

impl Lane {
    pub(crate) fn new(backoff: Backoff, next_sequence: u64) -> Lane {
        Lane {
            flights: VecDeque::new(),
            next_sequence,
            draining: false,
            renumber_from: None,
            stale: false,
            hold_until_ms: 0,
            backoff,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flights.iter().filter(|flight| flight.sent).count()
    }

    pub(crate) fn index_of(&self, serial: u64) -> Option<usize> {
        self.flights.iter().position(|flight| flight.serial == serial)
    }

    /// The first batch that must be sent again.
    pub(crate) fn next_unsent(&self) -> Option<usize> {
        self.flights.iter().position(|flight| !flight.sent)
    }

    pub(crate) fn has_uncertain(&self) -> bool {
        self.flights.iter().any(|flight| flight.maybe_applied)
    }

    /// Ends draining once every answer is in.
    pub(crate) fn finish_drain(&mut self, identity: (u64, u32)) {
        if !self.draining || self.flights.iter().any(|flight| flight.sent) {
            return;
        }
        self.draining = false;
        if let Some(free) = self.renumber_from.take() {
            // What follows the batch that was given up was refused with it; what precedes it keeps its numbers.
            let first = self.flights.front().map_or(free, |flight| sequence_of(flight).min(free));
            self.number_from(first, identity);
        }
    }

    /// Numbers everything from that sequence on.
    pub(crate) fn number_from(&mut self, first_sequence: u64, identity: (u64, u32)) {
        self.next_sequence = first_sequence;
        for flight in &mut self.flights {
            number(flight, self.next_sequence, identity);
            self.next_sequence += u64::from(flight.message_count);
        }
    }
}

pub(crate) fn sequence_of(flight: &Flight) -> u64 {
    flight.parts.first().and_then(|part| ProducerHeader::parse(part).ok()).map_or(0, |header| header.first_sequence)
}

/// Rewrites the producer part of a sealed batch for another place in the sequence; the body stays where it is.
fn number(flight: &mut Flight, first_sequence: u64, (producer_id, producer_epoch): (u64, u32)) {
    let Some(mut header) = flight.parts.first().and_then(|part| ProducerHeader::parse(part).ok()) else { return };
    let body = match flight.parts.as_slice() {
        [_, body] => body.clone(),
        [whole] => whole.slice(PRODUCER_PART_BYTES..),
        _ => return,
    };
    header.producer_id = producer_id;
    header.producer_epoch = producer_epoch;
    header.first_sequence = first_sequence;
    header.crc = crc32c::crc32c_append(crc32c::crc32c(&header.encode()[4..]), &body);
    flight.parts = vec![Bytes::copy_from_slice(&header.encode()), body];
}

#[cfg(test)]
mod tests {
    use levada_protocol::batch::{BatchBuilder, BatchLimits, NewMessage, SealOptions};

    use super::*;

    fn flight(message_count: u32) -> Flight {
        let mut builder = BatchBuilder::new(BatchLimits::default());
        for number in 0..message_count {
            let payload = number.to_string();
            let message = NewMessage { payload: Some(payload.as_bytes()), ..NewMessage::default() };
            builder.push(&message).unwrap();
        }
        let options = SealOptions { producer_id: 7, producer_epoch: 2, first_sequence: 40, ..SealOptions::default() };
        Flight {
            parts: vec![builder.seal(&options).unwrap()],
            message_count,
            ticket: None,
            serial: 0,
            deadline_ms: 0,
            sent: false,
            maybe_applied: false,
            dropped: Vec::new(),
        }
    }

    #[test]
    fn what_is_left_out_keeps_the_index_it_was_handed_over_with() {
        let mut flight = flight(5);
        assert!(flight.leave_out(&BTreeMap::from([(1, Some(10)), (3, None)]), 3));
        assert_eq!((flight.message_count, sequence_of(&flight)), (3, 40));
        assert!(flight.leave_out(&BTreeMap::from([(0, Some(11)), (2, Some(12))]), 3), "what was 0 and 4");
        assert_eq!(flight.dropped, [(0, Some(11)), (1, Some(10)), (3, None), (4, Some(12))]);
        assert!(flight.leave_out(&BTreeMap::from([(0, Some(13))]), 3));
        assert_eq!((flight.message_count, flight.parts.len()), (0, 0));
    }

    #[test]
    fn messages_that_are_not_there_cannot_be_left_out() {
        let mut flight = flight(2);
        assert!(!flight.leave_out(&BTreeMap::new(), 3) && !flight.leave_out(&BTreeMap::from([(2, None)]), 3));
        assert_eq!((flight.message_count, flight.dropped.len()), (2, 0));
    }
}
