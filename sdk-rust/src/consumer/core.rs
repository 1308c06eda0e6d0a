//! The receiving half of a consumer: keeps one subscription per partition alive, passes on what is pushed, and grants the
//! server credit for what was taken.
//!
//! Lives in the connection's task and does no I/O. After a loss it subscribes again after the last message handed out, with
//! its epoch, so that a log that lost its end is noticed. It must not look into batches.

use std::sync::Arc;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::messages::{
    Credit, Deliver, Error as WireError, GroupChanged, MembershipEnded, Position, PositionKind, ServerFrame, Subscribe,
    Subscribed, SubscriptionEnded, Unsubscribe,
};

use super::inbound::{Inbound, InboundLane, InboundState, Item};
use super::membership::{GroupTerms, Membership, Moves};
use super::options::{OnCorrupt, OnOutOfRange, OnTruncated};
use crate::backoff::{Backoff, BackoffOptions};
use crate::environment::Random;
use crate::error::{Error, Result};
use crate::link::{Outlet, Tag};
use crate::producer::core::Pumped;

/// What a core is made with.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) until_end: bool,
    pub(crate) on_corrupt: OnCorrupt,
    pub(crate) on_truncated: OnTruncated,
    pub(crate) on_out_of_range: OnOutOfRange,
    pub(crate) backoff: BackoffOptions,
    /// The group whose stored offsets it uses, as a member or not.
    pub(crate) group: Option<GroupTerms>,
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
    membership: Option<Box<Membership>>,
    /// Subscriptions of partitions that are read no more.
    stale: Vec<u32>,
    deadline_ms: Option<u64>,
    closed: bool,
}

impl Lane {
    fn new(backoff: BackoffOptions) -> Lane {
        Lane { phase: Phase::Wanted { at_ms: 0 }, not_before_ms: 0, backoff: Backoff::new(backoff) }
    }
}

impl ConsumerCore {
    pub(crate) fn new(inbound: Arc<Inbound>, mut terms: Terms, random: Arc<dyn Random>) -> ConsumerCore {
        let lanes = inbound.lock().lanes.iter().map(|_| Lane::new(terms.backoff)).collect();
        let membership = terms.group.take().map(|group| Box::new(Membership::new(group, Arc::clone(&random))));
        let stale = Vec::new();
        ConsumerCore { inbound, terms, random, lanes, membership, stale, deadline_ms: None, closed: false }
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
        self.deadline_ms = None;
        let inbound = Arc::clone(&self.inbound);
        let mut state = inbound.lock();
        state.begin_look();
        let (mut may_subscribe, mut is_stirred) = (true, false);
        if let Some(membership) = &mut self.membership {
            let had_failed = has_failed(&state);
            let is_over = !state.closed && membership.pump(out, &mut state);
            if state.closed && !is_over {
                membership.leave_at_once(out);
            }
            is_stirred = has_failed(&state) != had_failed;
            may_subscribe = membership.is_joined();
            self.deadline_ms = membership.deadline_ms();
        }
        for subscription in self.stale.drain(..) {
            out.release_subscription(subscription);
            out.request(&Unsubscribe { subscription }, Tag::Unsubscribe);
        }
        if state.closed {
            self.closed = true;
            for lane in &mut self.lanes {
                unsubscribe(out, lane);
            }
            drop(state);
            // Whoever waits learns of the end.
            inbound.update(|_| {});
            return Pumped::Idle;
        }
        for index in 0..self.lanes.len() {
            if state.lanes[index].active {
                is_stirred |= self.pump_lane(out, index, &mut state, may_subscribe);
            }
        }
        drop(state);
        if is_stirred {
            inbound.update(|_| {});
        }
        Pumped::Idle
    }

    /// Subscribes and grants credit for one partition; tells whether the caller should look.
    fn pump_lane(&mut self, out: &mut Outlet<'_>, index: usize, state: &mut InboundState, may_subscribe: bool) -> bool {
        let now_ms = out.now_ms();
        let window_bytes = self.membership.as_ref().map(|membership| membership.window_bytes(state));
        let (lane, inbound) = (&mut self.lanes[index], &mut state.lanes[index]);
        if std::mem::take(&mut inbound.restart) {
            unsubscribe(out, lane);
            lane.phase = Phase::Wanted { at_ms: now_ms.max(lane.not_before_ms) };
        }
        match lane.phase {
            Phase::Wanted { .. } if !may_subscribe => {}
            Phase::Wanted { at_ms } if at_ms <= now_ms => {
                let subscription = out.claim_subscription();
                inbound.clear();
                inbound.window_bytes = window_bytes.unwrap_or(inbound.window_bytes);
                let request = subscribe(subscription, inbound, self.membership.as_deref());
                lane.phase = match out.try_request(&request, Tag::Subscribe { lane: index, subscription }) {
                    Ok(()) => Phase::Asked(subscription),
                    Err(error) => {
                        out.release_subscription(subscription);
                        inbound.items.push_back(Item::Failed(error));
                        lane.phase = Phase::Stopped;
                        return true;
                    }
                };
            }
            Phase::Wanted { at_ms } => {
                self.deadline_ms = Some(self.deadline_ms.map_or(at_ms, |known| known.min(at_ms)));
            }
            Phase::Live(subscription) if inbound.owes() => {
                let credit_bytes = std::mem::take(&mut inbound.owed_bytes);
                out.notice(&Credit { subscription, credit_bytes });
            }
            Phase::Asked(_) | Phase::Live(_) | Phase::Stopped => {}
        }
        false
    }

    /// Whether it is that member of that group.
    pub(crate) fn is_member(&self, group: &str, member: &str) -> bool {
        self.membership.as_ref().is_some_and(|membership| membership.is(group, member))
    }

    pub(crate) fn on_group_changed(&mut self, changed: &GroupChanged) {
        self.change_membership(|membership, state| membership.on_changed(&changed.assigned, &changed.revoked, state));
    }

    pub(crate) fn on_membership_ended(&mut self, ended: &MembershipEnded, now_ms: u64) {
        let error = WireError {
            code: ended.code,
            class: ended.class,
            flags: ended.flags,
            retry_after_ms: 0,
            message: ended.message.clone(),
            details: ended.details.clone(),
        };
        let error = Error::from_wire(&error);
        self.change_membership(|membership, state| membership.on_ended(error, state, now_ms));
    }

    /// Lets the membership take note of something, and lanes begin and end as it says.
    fn change_membership(&mut self, change: impl FnOnce(&mut Membership, &mut InboundState) -> Moves) {
        let Some(membership) = &mut self.membership else { return };
        let mut moves = Moves::default();
        self.inbound.update(|state| moves = change(membership, state));
        for index in moves.ended {
            if let Phase::Asked(subscription) | Phase::Live(subscription) = self.lanes[index].phase {
                self.stale.push(subscription);
            }
            self.lanes[index].phase = Phase::Stopped;
        }
        for index in moves.begun {
            if index == self.lanes.len() {
                self.lanes.push(Lane::new(self.terms.backoff));
            }
            self.lanes[index] = Lane::new(self.terms.backoff);
        }
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
        let Tag::Subscribe { lane: index, subscription } = tag else {
            return self.change_membership(|membership, state| membership.on_reply(tag, outcome, state, now_ms));
        };
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
            inbound.progress.floor = inbound.progress.floor.or(Some(subscribed.start_offset));
            if until_end && inbound.until.is_none() {
                inbound.until = Some(subscribed.visible_end_offset);
            }
        });
    }

    fn on_failed(&mut self, index: usize, error: Error, now_ms: u64) {
        if self.membership.as_ref().is_some_and(|membership| membership.member().is_some()) {
            match error.code() {
                // A change of assignments comes, or has come, that says what becomes of it.
                Some(ErrorCode::NotAssigned | ErrorCode::TopicNotFound | ErrorCode::PartitionNotFound) => {
                    self.lanes[index].phase = Phase::Stopped;
                    return;
                }
                Some(ErrorCode::UnknownMember) => {
                    return self
                        .change_membership(|membership, state| membership.on_ended(error.clone(), state, now_ms));
                }
                _ => {}
            }
        }
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
                let partition = self.inbound.lock().lanes[index].key.partition;
                tracing::warn!(partition, %error, ?start, "a consumer moves");
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
        self.stale.clear();
        if let Some(membership) = &mut self.membership {
            self.inbound.update(|state| membership.on_lost(state, now_ms));
        }
    }

    /// The server will not have us.
    pub(crate) fn on_refused_connection(&mut self, error: &Error) {
        self.change_membership(|membership, state| {
            membership.fail(state, error.clone());
            Moves::default()
        });
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

fn has_failed(state: &InboundState) -> bool {
    state.share.as_ref().is_some_and(|share| share.failed.is_some())
}

fn subscribe(subscription: u32, inbound: &InboundLane, membership: Option<&Membership>) -> Subscribe {
    let is_stored = inbound.start.kind == PositionKind::Stored;
    let member = membership.and_then(Membership::member);
    Subscribe {
        subscription,
        topic_id: inbound.key.topic_id,
        partition: inbound.key.partition,
        position: inbound.start.clone(),
        epoch: inbound.epoch,
        credit_bytes: inbound.window_bytes,
        group: membership.filter(|_| is_stored || member.is_some()).map(|membership| membership.group().to_owned()),
        member: member.map(|(member, _)| member.to_owned()),
        generation: member.map(|_| inbound.assigned_in),
        otherwise: member.filter(|_| is_stored).map(|(_, otherwise)| otherwise.clone()),
    }
}

fn unsubscribe(out: &mut Outlet<'_>, lane: &mut Lane) {
    if let Phase::Asked(subscription) | Phase::Live(subscription) = lane.phase {
        out.release_subscription(subscription);
        out.request(&Unsubscribe { subscription }, Tag::Unsubscribe);
        lane.phase = Phase::Stopped;
    }
}
