//! The receiving half of a consumer: keeps one subscription per partition alive, passes on what is pushed, and grants the
//! server credit for what was taken.
//!
//! Lives in the connection's task and does no I/O. After a loss it subscribes again after the last message handed out, with
//! its epoch, so that a log that lost its end is noticed. It must not look into batches.

use std::sync::Arc;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::messages::{
    Credit, Deliver, Error as WireError, Position, PositionKind, ServerFrame, Subscribe, Subscribed, SubscriptionEnded,
    Unsubscribe,
};

use super::inbound::{Inbound, InboundState, Item};
use super::options::{OnCorrupt, OnOutOfRange, OnTruncated};
use crate::backoff::{Backoff, BackoffOptions};
use crate::environment::Random;
use crate::error::{Error, Result};
use crate::link::{Outlet, Tag};
use crate::producer::core::Pumped;

/// What a core is made with.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) topic_id: u32,
    pub(crate) partitions: Vec<u32>,
    pub(crate) window_bytes: u64,
    pub(crate) until_end: bool,
    pub(crate) on_corrupt: OnCorrupt,
    pub(crate) on_truncated: OnTruncated,
    pub(crate) on_out_of_range: OnOutOfRange,
    pub(crate) backoff: BackoffOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A subscription is wanted, at that time or later.
    Wanted {
        at_ms: u64,
    },
    Asked(u32),
    Live(u32),
    /// Nothing until the caller seeks, or moves to where a policy says.
    Stopped,
}

struct Lane {
    phase: Phase,
    /// No new subscription before that, so that a server that keeps refusing is not asked without pause.
    not_before_ms: u64,
    backoff: Backoff,
}

pub(crate) struct ConsumerCore {
    inbound: Arc<Inbound>,
    terms: Terms,
    random: Arc<dyn Random>,
    lanes: Vec<Lane>,
    deadline_ms: Option<u64>,
    closed: bool,
}

impl ConsumerCore {
    pub(crate) fn new(inbound: Arc<Inbound>, terms: Terms, random: Arc<dyn Random>) -> ConsumerCore {
        let lane =
            || Lane { phase: Phase::Wanted { at_ms: 0 }, not_before_ms: 0, backoff: Backoff::new(terms.backoff) };
        let lanes = terms.partitions.iter().map(|_| lane()).collect();
        ConsumerCore { inbound, terms, random, lanes, deadline_ms: None, closed: false }
    }

    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.closed
    }

    /// Takes notice of being closed, without a connection.
    pub(crate) fn look(&mut self) {
        self.deadline_ms = None;
        let mut state = self.inbound.lock();
        state.begin_look();
        self.closed = state.closed;
        for (lane, inbound) in self.lanes.iter_mut().zip(&mut state.lanes) {
            if std::mem::take(&mut inbound.restart) {
                lane.phase = Phase::Wanted { at_ms: lane.not_before_ms };
            }
        }
    }

    /// Subscribes and grants credit.
    pub(crate) fn pump(&mut self, out: &mut Outlet<'_>) -> Pumped {
        let now_ms = out.now_ms();
        self.deadline_ms = None;
        let inbound = Arc::clone(&self.inbound);
        let mut state = inbound.lock();
        state.begin_look();
        if state.closed {
            self.closed = true;
            for lane in &mut self.lanes {
                unsubscribe(out, lane);
            }
            return Pumped::Idle;
        }
        for (index, (lane, inbound)) in self.lanes.iter_mut().zip(&mut state.lanes).enumerate() {
            if std::mem::take(&mut inbound.restart) {
                unsubscribe(out, lane);
                lane.phase = Phase::Wanted { at_ms: now_ms.max(lane.not_before_ms) };
            }
            match lane.phase {
                Phase::Wanted { at_ms } if at_ms <= now_ms => {
                    let subscription = out.claim_subscription();
                    inbound.clear();
                    let request = Subscribe {
                        subscription,
                        topic_id: self.terms.topic_id,
                        partition: self.terms.partitions[index],
                        position: inbound.start.clone(),
                        epoch: inbound.epoch,
                        credit_bytes: self.terms.window_bytes,
                        group: None,
                        member: None,
                        generation: None,
                        otherwise: None,
                    };
                    out.request(&request, Tag::Subscribe { lane: index, subscription });
                    lane.phase = Phase::Asked(subscription);
                }
                Phase::Wanted { at_ms } => {
                    self.deadline_ms = Some(self.deadline_ms.map_or(at_ms, |known| known.min(at_ms)));
                }
                // Granting in quarters keeps notices few and the server's view close.
                Phase::Live(subscription) if self.terms.window_bytes / 4 <= inbound.owed_bytes => {
                    let credit_bytes = std::mem::take(&mut inbound.owed_bytes);
                    out.notice(&Credit { subscription, credit_bytes });
                }
                Phase::Asked(_) | Phase::Live(_) | Phase::Stopped => {}
            }
        }
        Pumped::Idle
    }

    fn lane_of(&self, subscription: u32) -> Option<usize> {
        let wanted = |lane: &Lane| matches!(lane.phase, Phase::Asked(id) | Phase::Live(id) if id == subscription);
        self.lanes.iter().position(wanted)
    }

    pub(crate) fn on_deliver(&mut self, deliver: &Deliver, body: Bytes) {
        let Some(index) = self.lane_of(deliver.subscription) else { return };
        self.inbound.update(|state| state.lanes[index].items.push_back(Item::Batches(body)));
    }

    pub(crate) fn on_ended(&mut self, ended: &SubscriptionEnded, now_ms: u64) {
        let Some(index) = self.lane_of(ended.subscription) else { return };
        let error = WireError {
            code: ended.code,
            class: ended.class,
            flags: ended.flags,
            retry_after_ms: 0,
            message: ended.message.clone(),
            details: ended.details.clone(),
        };
        self.on_failed(index, Error::from_wire(&error), now_ms);
    }

    pub(crate) fn on_reply(&mut self, tag: Tag, outcome: Result<(ServerFrame, Bytes)>, now_ms: u64) {
        let Tag::Subscribe { lane: index, subscription } = tag else { return };
        // A seek may have replaced the subscription meanwhile.
        if self.lanes[index].phase != Phase::Asked(subscription) {
            return;
        }
        match outcome {
            Ok((ServerFrame::Subscribed(subscribed), _)) => self.on_subscribed(index, subscription, &subscribed),
            Ok((other, _)) => {
                let error =
                    Error::new(ErrorCode::BadFrame, format!("Subscribe was answered with another's reply: {other:?}"));
                self.fail(index, error);
            }
            Err(error) => self.on_failed(index, error, now_ms),
        }
    }

    fn on_subscribed(&mut self, index: usize, subscription: u32, subscribed: &Subscribed) {
        let lane = &mut self.lanes[index];
        lane.phase = Phase::Live(subscription);
        lane.backoff.reset();
        let until_end = self.terms.until_end;
        self.inbound.update(|state| {
            let inbound = &mut state.lanes[index];
            if inbound.start.kind != PositionKind::Offset {
                // From here on the place is known: a loss before the first message must not move it.
                inbound.start = Position::offset(subscribed.start_offset);
                inbound.epoch = inbound.epoch.or(Some(subscribed.leader_epoch));
            }
            inbound.resolved = Some(subscribed.start_offset);
            if until_end && inbound.until.is_none() {
                inbound.until = Some(subscribed.visible_end_offset);
            }
        });
    }

    fn on_failed(&mut self, index: usize, error: Error, now_ms: u64) {
        let go_on = match error.code() {
            Some(ErrorCode::LogTruncated) if self.terms.on_truncated == OnTruncated::Rewind => {
                error.detail_number("divergence_offset").map(Position::offset)
            }
            Some(ErrorCode::OffsetOutOfRange) => match self.terms.on_out_of_range {
                OnOutOfRange::Stop => None,
                OnOutOfRange::Earliest => Some(Position::EARLIEST),
                OnOutOfRange::Latest => Some(Position::LATEST),
            },
            Some(ErrorCode::CorruptBatch) if self.terms.on_corrupt == OnCorrupt::Skip => {
                error.detail_number("next_offset").map(Position::offset)
            }
            _ => None,
        };
        let lane = &mut self.lanes[index];
        match go_on {
            Some(start) => {
                tracing::warn!(partition = self.terms.partitions[index], %error, ?start, "a consumer moves");
                lane.not_before_ms = now_ms + lane.backoff.next_ms(self.random.next_u64());
                lane.phase = Phase::Stopped;
                self.inbound.update(|state| {
                    let inbound = &mut state.lanes[index];
                    if inbound.busy || !inbound.items.is_empty() {
                        // The caller moves when it has taken what came before.
                        inbound.items.push_back(Item::Moved(start));
                    } else {
                        inbound.restart_at(start);
                        inbound.moved = true;
                    }
                });
            }
            None if error.is_retriable() => {
                let wait_ms = lane.backoff.next_ms(self.random.next_u64()).max(u64::from(error.retry_after_ms()));
                lane.phase = Phase::Wanted { at_ms: now_ms + wait_ms };
            }
            None => self.fail(index, error),
        }
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.lanes[index].phase = Phase::Stopped;
        self.inbound.update(|state| state.lanes[index].items.push_back(Item::Failed(error)));
    }

    /// The connection ended: every subscription with it.
    pub(crate) fn on_lost(&mut self, now_ms: u64) {
        for lane in &mut self.lanes {
            if matches!(lane.phase, Phase::Asked(_) | Phase::Live(_)) {
                lane.phase = Phase::Wanted { at_ms: now_ms };
            }
        }
    }

    /// The server will not have us.
    pub(crate) fn on_refused_connection(&mut self, error: &Error) {
        for index in 0..self.lanes.len() {
            if self.lanes[index].phase != Phase::Stopped {
                self.fail(index, error.clone());
            }
        }
    }

    /// Ends the consumer.
    pub(crate) fn stop(&mut self) {
        self.closed = true;
        self.inbound.update(InboundState::close);
    }
}

fn unsubscribe(out: &mut Outlet<'_>, lane: &mut Lane) {
    if let Phase::Asked(subscription) | Phase::Live(subscription) = lane.phase {
        out.release_subscription(subscription);
        out.request(&Unsubscribe { subscription }, Tag::Unsubscribe);
        lane.phase = Phase::Stopped;
    }
}
