//! The sending half of a producer: takes batches from the accumulator when the connection is free, numbers and sends them,
//! and decides what an answer, its absence, or the passing of time means for each.
//!
//! Lives in the connection's task and does no I/O: it is told of answers, losses and time, and writes requests to an outlet.
//! Invariant: a batch that may have been appended is only ever sent again under the same number, or reported as unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use levada_protocol::batch::{Codec, SealOptions};
use levada_protocol::messages::{
    Durability, OpenProducer, PRODUCE_ACK_DUPLICATE, PRODUCE_ACK_SERVER_ENCODED, Produce, ProduceAck, ReadSequences,
    ServerFrame,
};
use levada_protocol::{ErrorClass, ErrorCode};

use super::accumulator::{Accumulator, OpenBatch, Pull, TakeOpen, Ticket};
use super::delivery::{BatchReceipt, Receipts};
use super::lane::{Flight, Lane, sequence_of};
use crate::backoff::{Backoff, BackoffOptions};
use crate::environment::Random;
use crate::error::{Error, Result};
use crate::link::{Outlet, Tag};

/// What a core is made with.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) topic_id: u32,
    pub(crate) durability: Durability,
    pub(crate) idempotent: bool,
    pub(crate) max_in_flight: usize,
    pub(crate) codec: Codec,
    pub(crate) level: i32,
    pub(crate) backoff: BackoffOptions,
    /// With a name: the identity it had when it was opened.
    pub(crate) named: Option<Named>,
    /// Messages bring their sequences. Nothing may follow a batch that failed, and nothing is in flight beside one.
    pub(crate) external: bool,
}

/// What a producer with a name begins with.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) identity: (u64, u32),
    /// By partition: where its numbers go on.
    pub(crate) next_sequences: Vec<u64>,
}

/// Under what number a producer speaks.
enum Identity {
    /// None: batches are not numbered.
    Anonymous,
    /// One must be asked for. `uncertain`: an earlier request may have been granted without our knowing.
    Wanted {
        previous: Option<(u64, u32)>,
        at_ms: u64,
        uncertain: bool,
    },
    /// One was asked for.
    Asked {
        previous: Option<(u64, u32)>,
        uncertain: bool,
    },
    /// A producer with a name has a new epoch and asks each partition where its numbers go on.
    Reading {
        identity: (u64, u32),
        unasked: BTreeSet<u32>,
        awaited: BTreeSet<u32>,
        at_ms: u64,
    },
    Known((u64, u32)),
    /// The epoch must change: first everything that can still be settled under the old one is.
    Leaving {
        current: (u64, u32),
        cause: Error,
    },
}

/// What a pump left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// Nothing until something happens.
    Idle,
    /// Something waits for the connection to be free.
    WantsMore,
}

pub(crate) struct ProducerCore {
    accumulator: Arc<Accumulator>,
    terms: Terms,
    random: Arc<dyn Random>,
    identity: Identity,
    identity_backoff: Backoff,
    lanes: BTreeMap<u32, Lane>,
    /// Partitions whose accumulator lane may hold batches.
    busy: BTreeSet<u32>,
    deadline_ms: Option<u64>,
    /// Where the next pump begins, so that no partition starves.
    turn: u32,
}

impl Drop for ProducerCore {
    /// Whoever still holds the closed producer holds no memory of batches.
    fn drop(&mut self) {
        self.accumulator.release();
    }
}

impl ProducerCore {
    pub(crate) fn new(accumulator: Arc<Accumulator>, terms: Terms, random: Arc<dyn Random>) -> ProducerCore {
        let identity = if let Some(named) = &terms.named {
            Identity::Known(named.identity)
        } else if terms.idempotent {
            Identity::Wanted { previous: None, at_ms: 0, uncertain: false }
        } else {
            Identity::Anonymous
        };
        ProducerCore {
            accumulator,
            identity,
            identity_backoff: Backoff::new(terms.backoff),
            terms,
            random,
            lanes: BTreeMap::new(),
            busy: BTreeSet::new(),
            deadline_ms: None,
            turn: 0,
        }
    }

    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    /// Whether nobody will hand over more and everything is settled and answered.
    pub(crate) fn is_finished(&self) -> bool {
        self.accumulator.is_closing()
            && self.accumulator.unsettled_count() == 0
            && self.lanes.values().all(|lane| lane.flights.is_empty())
    }

    /// Sends what can be sent now.
    pub(crate) fn pump(&mut self, out: &mut Outlet<'_>) -> Pumped {
        let now_ms = out.now_ms();
        self.look(now_ms);
        let identity = match &self.identity {
            Identity::Anonymous => (0, 0),
            Identity::Known(identity) => *identity,
            Identity::Asked { .. } => return Pumped::Idle,
            Identity::Reading { .. } => {
                self.read_sequences(out);
                return Pumped::Idle;
            }
            Identity::Wanted { .. } => {
                self.ask_identity(out);
                return Pumped::Idle;
            }
            Identity::Leaving { current, .. } => {
                let current = *current;
                self.settle_old_epoch(out, current);
                return Pumped::Idle;
            }
        };
        let is_free = out.is_free();
        let mut pumped = Pumped::Idle;
        let waiting: BTreeSet<u32> = self
            .busy
            .iter()
            .copied()
            .chain(self.lanes.iter().filter(|(_, lane)| !lane.flights.is_empty()).map(|(id, _)| *id))
            .collect();
        let turn = self.turn;
        for partition in waiting.range(turn..).chain(waiting.range(..turn)).copied() {
            if !out.has_room() {
                self.turn = partition;
                return Pumped::WantsMore;
            }
            if self.pump_lane(out, partition, identity, is_free) == Pumped::WantsMore {
                pumped = Pumped::WantsMore;
            }
        }
        pumped
    }

    /// Takes notice of new batches and of time, whether there is a connection or not.
    pub(crate) fn look(&mut self, now_ms: u64) {
        self.accumulator.begin_pull(&mut self.busy);
        self.deadline_ms = None;
        self.expire(now_ms);
        if let Identity::Wanted { at_ms, .. } | Identity::Reading { at_ms, .. } = &self.identity
            && now_ms < *at_ms
        {
            let at_ms = *at_ms;
            self.due(at_ms);
        }
    }

    fn due(&mut self, at_ms: u64) {
        self.deadline_ms = Some(self.deadline_ms.map_or(at_ms, |known| known.min(at_ms)));
    }

    fn lane(&mut self, partition: u32) -> &mut Lane {
        let backoff = self.terms.backoff;
        let named = self.terms.named.as_ref();
        let next = || named.and_then(|named| named.next_sequences.get(partition as usize)).copied().unwrap_or(0);
        self.lanes.entry(partition).or_insert_with(|| Lane::new(Backoff::new(backoff), next()))
    }

    fn pump_lane(&mut self, out: &mut Outlet<'_>, partition: u32, identity: (u64, u32), is_free: bool) -> Pumped {
        let now_ms = out.now_ms();
        let max_in_flight = if self.terms.idempotent { self.terms.max_in_flight } else { 1 };
        let (topic_id, durability) = (self.terms.topic_id, self.terms.durability);
        let lane = self.lane(partition);
        lane.finish_drain(identity);
        if lane.draining {
            return Pumped::Idle;
        }
        if now_ms < lane.hold_until_ms {
            let until = lane.hold_until_ms;
            self.due(until);
            return Pumped::Idle;
        }
        let mut in_flight = lane.in_flight();
        let produce = Produce { topic_id, partition, durability };
        while let Some(index) = lane.next_unsent() {
            if max_in_flight <= in_flight {
                return Pumped::Idle;
            }
            if !out.has_room() {
                return Pumped::WantsMore;
            }
            send(out, &produce, &mut lane.flights[index]);
            in_flight += 1;
        }
        while in_flight < max_in_flight {
            if !out.has_room() {
                return Pumped::WantsMore;
            }
            let take_open = if is_free { TakeOpen::Yes } else { TakeOpen::No };
            match self.accumulator.pull(partition, take_open, now_ms) {
                Pull::Batch(batch) => {
                    let mut flight = self.seal(partition, batch, identity);
                    send(out, &produce, &mut flight);
                    self.lane(partition).flights.push_back(flight);
                    in_flight += 1;
                }
                Pull::Later(at_ms) => {
                    self.due(at_ms);
                    return Pumped::Idle;
                }
                Pull::WhenFree => return Pumped::WantsMore,
                Pull::Filling => return Pumped::Idle,
                Pull::Empty => {
                    self.busy.remove(&partition);
                    return Pumped::Idle;
                }
            }
        }
        Pumped::Idle
    }

    fn seal(&mut self, partition: u32, mut batch: Box<OpenBatch>, (producer_id, producer_epoch): (u64, u32)) -> Flight {
        let numbered = self.terms.idempotent;
        let (codec, level, external_sequence) = (self.terms.codec, self.terms.level, self.terms.external);
        let lane = self.lane(partition);
        let message_count = batch.builder.message_count();
        let first_sequence = match (external_sequence, numbered) {
            (true, _) => batch.first_sequence,
            (false, true) => lane.next_sequence,
            (false, false) => 0,
        };
        lane.next_sequence = first_sequence + u64::from(message_count);
        let options = SealOptions { codec, level, producer_id, producer_epoch, first_sequence, external_sequence };
        let sealed = batch.builder.seal(&options).expect("a batch is opened with a message in it");
        self.accumulator.reuse(batch.builder);
        Flight {
            parts: vec![sealed],
            message_count,
            serial: batch.ticket.serial(),
            deadline_ms: batch.ticket.deadline_ms,
            ticket: Some(batch.ticket),
            sent: false,
            maybe_applied: false,
            dropped: Vec::new(),
        }
    }

    // ------------------------------------------------------------ identity

    fn ask_identity(&mut self, out: &mut Outlet<'_>) {
        let Identity::Wanted { previous, at_ms, uncertain } = &self.identity else { return };
        let (previous, at_ms, uncertain) = (*previous, *at_ms, *uncertain);
        // A producer that has nothing to send needs no number yet.
        if out.now_ms() < at_ms || (self.busy.is_empty() && self.lanes.values().all(|lane| lane.flights.is_empty())) {
            return;
        }
        let (producer_id, producer_epoch) = previous.unwrap_or((0, 0));
        // The name is for the first epoch; later ones must not take over from a successor.
        out.request(&OpenProducer { producer_id, producer_epoch, name: None }, Tag::OpenProducer);
        self.identity = Identity::Asked { previous, uncertain };
    }

    fn read_sequences(&mut self, out: &mut Outlet<'_>) {
        let topic_id = self.terms.topic_id;
        let Identity::Reading { identity, unasked, awaited, at_ms } = &mut self.identity else { return };
        if out.now_ms() < *at_ms {
            return;
        }
        while out.has_room()
            && let Some(partition) = unasked.pop_first()
        {
            let request = ReadSequences { producer_id: identity.0, name: None, topic_id, partition };
            out.request(&request, Tag::ReadSequences { partition });
            awaited.insert(partition);
        }
    }

    fn on_sequences(&mut self, partition: u32, outcome: Result<(ServerFrame, Bytes)>, now_ms: u64) {
        let Identity::Reading { identity, unasked, awaited, at_ms } = &mut self.identity else { return };
        if !awaited.remove(&partition) {
            return;
        }
        match outcome {
            Ok((ServerFrame::SequencesRead(read), _)) => {
                let named = self.terms.named.as_mut();
                if let Some(next) = named.and_then(|named| named.next_sequences.get_mut(partition as usize)) {
                    *next = read.next_sequence;
                }
                let is_last = unasked.is_empty() && awaited.is_empty();
                let identity = *identity;
                if is_last {
                    self.begin_epoch(identity);
                }
            }
            Ok((other, _)) => self.stop(&unexpected(&other)),
            Err(error) if error.is_retriable() => {
                unasked.insert(partition);
                let random = self.random.next_u64();
                *at_ms = now_ms + self.identity_backoff.next_ms(random).max(u64::from(error.retry_after_ms()));
            }
            Err(error) => self.stop(&error),
        }
    }

    /// Everything that waits is numbered anew, from 0 or from where the partition says.
    fn begin_epoch(&mut self, identity: (u64, u32)) {
        self.identity = Identity::Known(identity);
        let named = self.terms.named.as_ref();
        for (partition, lane) in &mut self.lanes {
            (lane.draining, lane.renumber_from, lane.stale) = (false, None, false);
            let next = named.and_then(|named| named.next_sequences.get(*partition as usize)).copied();
            lane.number_from(next.unwrap_or(0), identity);
        }
    }

    /// Before the epoch changes: sends what may have been appended again under the old one, where that still tells.
    fn settle_old_epoch(&mut self, out: &mut Outlet<'_>, current: (u64, u32)) {
        let now_ms = out.now_ms();
        let (topic_id, durability) = (self.terms.topic_id, self.terms.durability);
        let mut pending = false;
        let mut due = None;
        for (partition, lane) in &mut self.lanes {
            lane.finish_drain(current);
            pending |= lane.in_flight() != 0;
            if lane.stale || lane.draining || !lane.has_uncertain() {
                continue;
            }
            pending = true;
            if now_ms < lane.hold_until_ms {
                due = Some(due.map_or(lane.hold_until_ms, |known: u64| known.min(lane.hold_until_ms)));
                continue;
            }
            let produce = Produce { topic_id, partition: *partition, durability };
            for flight in lane.flights.iter_mut().filter(|flight| flight.maybe_applied && !flight.sent) {
                send(out, &produce, flight);
            }
        }
        if let Some(at_ms) = due {
            self.due(at_ms);
        }
        if !pending {
            self.leave_epoch(current);
            self.ask_identity(out);
        }
    }

    fn leave_epoch(&mut self, current: (u64, u32)) {
        let Identity::Leaving { cause, .. } = std::mem::replace(
            &mut self.identity,
            Identity::Wanted { previous: Some(current), at_ms: 0, uncertain: false },
        ) else {
            return;
        };
        tracing::warn!(producer = self.accumulator.id(), %cause, "taking a new epoch; batches of unknown fate are reported");
        let mut unknown = Vec::new();
        for lane in self.lanes.values_mut() {
            let (lost, kept) = std::mem::take(&mut lane.flights).into_iter().partition(|flight| flight.maybe_applied);
            lane.flights = kept;
            unknown.extend::<std::collections::VecDeque<Flight>>(lost);
        }
        for ticket in unknown.into_iter().filter_map(|flight| flight.ticket) {
            self.accumulator.settle(ticket, Err(cause.clone().with_maybe_applied(true)));
        }
    }

    /// The epoch cannot go on: see [`ProducerCore::settle_old_epoch`].
    fn leave(&mut self, cause: Error) {
        if self.terms.external {
            return self.stop(&cause);
        }
        if let Identity::Known(current) = self.identity {
            self.identity = Identity::Leaving { current, cause };
        }
    }

    fn on_identity(&mut self, outcome: Result<(ServerFrame, Bytes)>, now_ms: u64) {
        let Identity::Asked { previous, uncertain } = &self.identity else { return };
        let (previous, uncertain) = (*previous, *uncertain);
        match outcome {
            Ok((ServerFrame::ProducerOpened(opened), _)) => {
                self.identity_backoff.reset();
                let identity = (opened.producer_id, opened.producer_epoch);
                match &self.terms.named {
                    None => self.begin_epoch(identity),
                    Some(named) => {
                        let unasked = (0u32..).zip(&named.next_sequences).map(|(partition, _)| partition).collect();
                        self.identity = Identity::Reading { identity, unasked, awaited: BTreeSet::new(), at_ms: 0 };
                    }
                }
            }
            Ok((other, _)) => self.stop(&unexpected(&other)),
            // Our own request, whose answer was lost, moved the epoch on: take a new number altogether.
            // A producer with a name does not: it might be a successor that took it over.
            Err(error) if error.is(ErrorCode::Fenced) && uncertain && self.terms.named.is_none() => {
                self.identity = Identity::Wanted { previous: None, at_ms: 0, uncertain: false };
            }
            Err(error) if error.is_retriable() => {
                let wait = self.wait_ms(&error, None);
                let uncertain = uncertain || error.maybe_applied();
                self.identity = Identity::Wanted { previous, at_ms: now_ms + wait, uncertain };
            }
            Err(error) => self.stop(&error),
        }
    }

    fn wait_ms(&mut self, error: &Error, partition: Option<u32>) -> u64 {
        let random = self.random.next_u64();
        let backoff = match partition {
            Some(partition) => &mut self.lane(partition).backoff,
            None => &mut self.identity_backoff,
        };
        backoff.next_ms(random).max(u64::from(error.retry_after_ms()))
    }

    // ------------------------------------------------------------ answers

    pub(crate) fn on_reply(&mut self, tag: Tag, outcome: Result<(ServerFrame, Bytes)>, now_ms: u64) {
        match tag {
            Tag::OpenProducer => self.on_identity(outcome, now_ms),
            Tag::ReadSequences { partition } => self.on_sequences(partition, outcome, now_ms),
            Tag::Produce { partition, serial } => self.on_produced(partition, serial, outcome, now_ms),
            _ => {}
        }
    }

    fn on_produced(&mut self, partition: u32, serial: u64, outcome: Result<(ServerFrame, Bytes)>, now_ms: u64) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        let Some(index) = lane.index_of(serial) else { return };
        lane.flights[index].sent = false;
        match outcome {
            Ok((ServerFrame::ProduceAck(ack), _)) => {
                lane.backoff.reset();
                let receipt = receipt(partition, lane.flights[index].message_count, &ack);
                self.finish(partition, index, Ok(receipt));
            }
            Ok((other, _)) => self.refused(partition, index, unexpected(&other), now_ms),
            Err(error) => self.refused(partition, index, error, now_ms),
        }
    }

    fn finish(&mut self, partition: u32, index: usize, outcome: Result<BatchReceipt>) {
        let failure = outcome.as_ref().err().cloned();
        let Some(flight) = self.lane(partition).flights.remove(index) else { return };
        if let Some(ticket) = flight.ticket {
            let outcome = outcome.map(|receipt| match flight.dropped.as_slice() {
                [] => receipt.into(),
                dropped => Receipts::with_dropped(receipt, dropped),
            });
            self.accumulator.settle(ticket, outcome);
        }
        if let Some(failure) = failure.filter(|_| self.terms.external) {
            self.stop(&failure);
        }
    }

    fn refused(&mut self, partition: u32, index: usize, error: Error, now_ms: u64) {
        let (durability, idempotent, external) = (self.terms.durability, self.terms.idempotent, self.terms.external);
        let lane = self.lane(partition);
        let flight = &mut lane.flights[index];
        let Some(code) = error.code() else {
            return self.refused_for_class(partition, index, error, now_ms);
        };
        match code {
            ErrorCode::DuplicateUnknownOffset => {
                let message_count = flight.message_count;
                let receipt = BatchReceipt {
                    partition,
                    base_offset: None,
                    message_count,
                    append_time_us: 0,
                    durability,
                    duplicate: true,
                    server_encoded: false,
                };
                self.finish(partition, index, Ok(receipt));
            }
            ErrorCode::DuplicateMessages => self.leave_out(partition, index, &error),
            ErrorCode::Fenced => self.stop(&error),
            ErrorCode::UnknownProducer | ErrorCode::LogTruncated if idempotent => {
                lane.draining = true;
                lane.stale = true;
                self.leave(error);
            }
            // Part of the batch is in the log: sent whole it can be neither appended nor dropped.
            ErrorCode::SequenceGap if external => self.finish(partition, index, Err(error)),
            ErrorCode::SequenceGap if idempotent => {
                let first_sequence = sequence_of(flight);
                let expected = error.detail_number("expected");
                if expected.is_none_or(|expected| expected <= first_sequence) {
                    flight.maybe_applied = false;
                }
                lane.draining = true;
                // Nothing unacknowledged is before the first batch: what the server misses there was acknowledged once.
                if index == 0
                    && expected.is_some_and(|expected| expected < first_sequence)
                    && lane.renumber_from.is_none()
                {
                    lane.stale = true;
                    self.leave(error);
                }
            }
            _ => self.refused_for_class(partition, index, error, now_ms),
        }
    }

    /// The log has some of the messages already: what is left of the batch goes again in its place.
    fn leave_out(&mut self, partition: u32, index: usize, error: &Error) {
        let (level, durability, idempotent) = (self.terms.level, self.terms.durability, self.terms.idempotent);
        let lane = self.lane(partition);
        let flight = &mut lane.flights[index];
        let first_sequence = sequence_of(flight);
        let known = duplicates(error);
        let is_told = flight.leave_out(&known, level);
        flight.maybe_applied = false;
        lane.draining = true;
        if idempotent {
            lane.renumber_from = Some(lane.renumber_from.map_or(first_sequence, |known| known.min(first_sequence)));
        }
        let flight = &lane.flights[index];
        if !is_told {
            self.finish(partition, index, Err(error.clone()));
        } else if flight.message_count == 0 {
            let nothing = BatchReceipt {
                partition,
                base_offset: None,
                message_count: 0,
                append_time_us: 0,
                durability,
                duplicate: true,
                server_encoded: false,
            };
            self.finish(partition, index, Ok(nothing));
        } else if flight.ticket.is_none() {
            // Its fate was told already.
            lane.flights.remove(index);
        }
    }

    fn refused_for_class(&mut self, partition: u32, index: usize, error: Error, now_ms: u64) {
        let idempotent = self.terms.idempotent;
        let unknown = error.maybe_applied() || self.lane(partition).flights[index].maybe_applied;
        if error.is_retriable() && (idempotent || !error.maybe_applied()) {
            let wait = self.wait_ms(&error, Some(partition));
            let lane = self.lane(partition);
            lane.flights[index].maybe_applied = unknown;
            lane.draining = true;
            lane.hold_until_ms = now_ms + wait;
            // A batch whose fate was told already is not sent again.
            if lane.flights[index].ticket.is_none() {
                lane.flights.remove(index);
            }
            return;
        }
        let first_sequence = sequence_of(&self.lane(partition).flights[index]);
        self.finish(partition, index, Err(error.clone().with_maybe_applied(unknown)));
        if !idempotent {
            return;
        }
        let lane = self.lane(partition);
        lane.draining = true;
        if unknown {
            lane.stale = true;
            self.leave(error);
        } else {
            lane.renumber_from = Some(lane.renumber_from.map_or(first_sequence, |known| known.min(first_sequence)));
        }
    }

    /// The connection ended: whatever was sent and not answered may have been appended.
    pub(crate) fn on_lost(&mut self, now_ms: u64, error: &Error) {
        if let Identity::Asked { previous, .. } = &self.identity {
            self.identity = Identity::Wanted { previous: *previous, at_ms: now_ms, uncertain: true };
        }
        if let Identity::Reading { unasked, awaited, .. } = &mut self.identity {
            unasked.append(awaited);
        }
        let idempotent = self.terms.idempotent;
        let mut failed = Vec::new();
        for lane in self.lanes.values_mut() {
            for flight in lane.flights.iter_mut().filter(|flight| flight.sent) {
                flight.sent = false;
                flight.maybe_applied = true;
                if !idempotent {
                    failed.extend(flight.ticket.take());
                }
            }
            lane.flights.retain(|flight| flight.ticket.is_some());
        }
        for ticket in failed {
            self.accumulator.settle(ticket, Err(error.clone().with_maybe_applied(true)));
        }
    }

    /// The server will not have us: fails what waits, and starts afresh if that changes.
    pub(crate) fn on_refused_connection(&mut self, error: &Error) {
        self.fail_all(error);
        if self.terms.idempotent {
            let previous = match &self.identity {
                Identity::Known(identity)
                | Identity::Reading { identity, .. }
                | Identity::Leaving { current: identity, .. } => Some(*identity),
                Identity::Wanted { previous, .. } | Identity::Asked { previous, .. } => *previous,
                Identity::Anonymous => None,
            };
            self.identity = Identity::Wanted { previous, at_ms: 0, uncertain: true };
        }
    }

    /// Ends the producer with that error.
    pub(crate) fn stop(&mut self, error: &Error) {
        let left = self.accumulator.stop(error);
        self.fail_all(error);
        for ticket in left {
            self.accumulator.settle(ticket, Err(error.clone()));
        }
    }

    fn fail_all(&mut self, error: &Error) {
        let flights: Vec<Flight> =
            std::mem::take(&mut self.lanes).into_values().flat_map(|lane| lane.flights).collect();
        for flight in flights {
            let unknown = flight.maybe_applied || flight.sent;
            self.settle_failed(flight.ticket, error, unknown);
        }
        for ticket in self.accumulator.drain() {
            self.settle_failed(Some(ticket), error, false);
        }
        self.busy.clear();
    }

    fn settle_failed(&self, ticket: Option<Ticket>, error: &Error, unknown: bool) {
        if let Some(ticket) = ticket {
            self.accumulator.settle(ticket, Err(error.clone().with_maybe_applied(unknown || error.maybe_applied())));
        }
    }

    // ------------------------------------------------------------ time

    /// Gives up what has waited for longer than the delivery timeout, and notes when the next will have.
    fn expire(&mut self, now_ms: u64) {
        let mut next = None;
        let mut later = |at_ms: u64| next = Some(next.map_or(at_ms, |known: u64| known.min(at_ms)));
        let mut settled: Vec<(Ticket, Error)> = Vec::new();
        let mut cause = None;
        for lane in self.lanes.values_mut() {
            let mut index = 0;
            while let Some(flight) = lane.flights.get_mut(index) {
                if flight.ticket.is_none() || now_ms < flight.deadline_ms {
                    if flight.ticket.is_some() {
                        later(flight.deadline_ms);
                    }
                    index += 1;
                    continue;
                }
                let unknown = flight.sent || flight.maybe_applied;
                let error = delivery_timeout(unknown);
                settled.extend(flight.ticket.take().map(|ticket| (ticket, error.clone())));
                lane.draining = true;
                if unknown {
                    flight.maybe_applied = true;
                    lane.stale = true;
                    cause = Some(error);
                } else {
                    let free = sequence_of(flight);
                    lane.renumber_from = Some(lane.renumber_from.map_or(free, |known| known.min(free)));
                }
                if flight.sent {
                    index += 1;
                } else {
                    lane.flights.remove(index);
                }
            }
        }
        for partition in &self.busy {
            let (expired, deadline_ms) = self.accumulator.expired(*partition, now_ms);
            settled.extend(expired.into_iter().map(|ticket| (ticket, delivery_timeout(false))));
            deadline_ms.into_iter().for_each(&mut later);
        }
        let failure = settled.first().map(|(_, error)| error.clone()).filter(|_| self.terms.external);
        for (ticket, error) in settled {
            self.accumulator.settle(ticket, Err(error));
        }
        if let Some(failure) = failure {
            return self.stop(&failure);
        }
        self.deadline_ms = next;
        if let Some(cause) = cause.filter(|_| self.terms.idempotent) {
            self.leave(cause);
        }
    }
}

fn send(out: &mut Outlet<'_>, produce: &Produce, flight: &mut Flight) {
    let tag = Tag::Produce { partition: produce.partition, serial: flight.serial };
    out.request_with_body(produce, flight.parts.clone(), tag);
    flight.sent = true;
}

/// The messages that `DUPLICATE_MESSAGES` names: their indices in the batch, and their offsets where it knows them.
fn duplicates(error: &Error) -> BTreeMap<u32, Option<u64>> {
    let list = |name| -> Vec<&str> { error.detail(name).unwrap_or_default().split(',').collect() };
    let (indices, offsets) = (list("indices"), list("offsets"));
    let read = |(index, offset): (&&str, &&str)| {
        let offset = if *offset == "-" { None } else { Some(offset.parse().ok()?) };
        Some((index.parse().ok()?, offset))
    };
    let known: Option<BTreeMap<_, _>> = indices.iter().zip(&offsets).map(read).collect();
    known.filter(|known| known.len() == indices.len() && known.len() == offsets.len()).unwrap_or_default()
}

fn delivery_timeout(unknown: bool) -> Error {
    let text = if unknown {
        "the batch was not acknowledged in time; whether it was appended is unknown"
    } else {
        "the batch could not be sent in time; it was not appended"
    };
    Error::new(ErrorCode::DeliveryTimeout, text).with_maybe_applied(unknown)
}

fn unexpected(frame: &ServerFrame) -> Error {
    Error::new(ErrorCode::BadFrame, format!("the server answered a request with another's reply: {frame:?}"))
        .with_maybe_applied(true)
}

fn receipt(partition: u32, message_count: u32, ack: &ProduceAck) -> BatchReceipt {
    BatchReceipt {
        partition,
        base_offset: Some(ack.base_offset),
        message_count,
        append_time_us: ack.append_time_us,
        durability: ack.durability,
        duplicate: ack.flags & PRODUCE_ACK_DUPLICATE != 0,
        server_encoded: ack.flags & PRODUCE_ACK_SERVER_ENCODED != 0,
    }
}

/// Whether a failure to connect will not go away by itself.
pub(crate) fn is_final(error: &Error) -> bool {
    !error.is_retriable() && matches!(error.class(), ErrorClass::Auth | ErrorClass::Unsupported | ErrorClass::Usage)
}
