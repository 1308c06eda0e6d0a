//! The batches of one partition that are numbered: in order, each sent, waiting to be sent again, or given up.
//!
//! Invariants: sequences ascend without gap from the front; a batch is only sent while all before it are sent or settled;
//! after any refusal nothing is sent until every answer is in, and then it goes on from the lowest that is not acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;
use levada_protocol::batch::{PRODUCER_PART_BYTES, ProducerHeader};

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
