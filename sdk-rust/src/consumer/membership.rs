//! The membership of a group, or a reader's use of a group's stored offsets without one: joins and joins again, takes and
//! gives back assignments, and makes commits, one at a time so that none overtakes another.
//!
//! Lives in the connection's task beside the lanes of its consumer and does no I/O. After a loss it joins under the same id,
//! and what it keeps goes on where it was. What is revoked is given back at once, with what was processed.

use std::collections::VecDeque;
use std::sync::Arc;

use super::inbound::{InboundLane, InboundState, LaneKey};
use super::share::{CommitJob, last_commit, topic_name, uncommitted};
use crate::backoff::{Backoff, BackoffOptions};
use crate::environment::Random;
use crate::error::{Error, Result};
use crate::generated::enums::AssignmentKind;
use crate::link::{Outlet, Tag};
use bytes::Bytes;
use levada_protocol::messages::{
    Assignment, Commit, CommitOffset, GroupJoined, JoinGroup, LeaveGroup, Position, PositionKind, ResolvePosition,
    ServerFrame, Strategy,
};
use levada_protocol::{ErrorCode, limits};

/// What a membership is made with.
#[derive(Clone, Debug)]
pub(crate) struct GroupTerms {
    pub(crate) group: String,
    /// How to join; absent for a reader that only uses the stored offsets.
    pub(crate) join: Option<JoinTerms>,
    pub(crate) auto_commit: bool,
    pub(crate) commit_interval_ms: u64,
    /// Bytes kept ready, for all partitions together.
    pub(crate) prefetch_bytes: u64,
    pub(crate) backoff: BackoffOptions,
}

#[derive(Clone, Debug)]
pub(crate) struct JoinTerms {
    pub(crate) topics: Vec<String>,
    pub(crate) instance: Option<String>,
    pub(crate) strategy: Strategy,
    pub(crate) session_timeout_ms: u32,
    pub(crate) release_timeout_ms: u32,
    /// Where to start where nothing is stored.
    pub(crate) otherwise: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be joined, at that time or later.
    Wanted {
        at_ms: u64,
    },
    Asked,
    Joined,
    Leaving,
    /// It left, or cannot be a member.
    Over,
}

/// A partition to be given back of which not even the start is known: what it comes to is asked first.
struct Unplaced {
    serial: u64,
    topic_id: u32,
    partition: u32,
    generation: u64,
    /// `stored`, then `otherwise`; absent while it is asked.
    ask: Option<Position>,
}

/// What the caller of an event should do with lanes.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Lanes, by index, that begin.
    pub(crate) begun: Vec<usize>,
    /// Lanes that end.
    pub(crate) ended: Vec<usize>,
}

pub(crate) struct Membership {
    terms: GroupTerms,
    random: Arc<dyn Random>,
    member: String,
    phase: Phase,
    backoff: Backoff,
    in_flight: Option<CommitJob>,
    /// No commit before that, after one that may be repeated.
    commit_at_ms: u64,
    commit_backoff: Backoff,
    /// Last commits of what was revoked, to be sent together.
    releases: Vec<CommitOffset>,
    releases_in_flight: Vec<CommitOffset>,
    unplaced: Vec<Unplaced>,
    next_serial: u64,
    auto_at_ms: Option<u64>,
    /// The outcome of the last commit before leaving.
    farewell: Option<Result<()>>,
    deadline_ms: Option<u64>,
}

impl Membership {
    pub(crate) fn new(terms: GroupTerms, random: Arc<dyn Random>) -> Membership {
        Membership {
            phase: if terms.join.is_some() { Phase::Wanted { at_ms: 0 } } else { Phase::Joined },
            backoff: Backoff::new(terms.backoff),
            commit_backoff: Backoff::new(terms.backoff),
            terms,
            random,
            member: String::new(),
            in_flight: None,
            commit_at_ms: 0,
            releases: Vec::new(),
            releases_in_flight: Vec::new(),
            unplaced: Vec::new(),
            next_serial: 0,
            auto_at_ms: None,
            farewell: None,
            deadline_ms: None,
        }
    }

    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    pub(crate) fn group(&self) -> &str {
        &self.terms.group
    }

    /// Whether it is that member.
    pub(crate) fn is(&self, group: &str, member: &str) -> bool {
        self.terms.join.is_some() && self.terms.group == group && self.member == member
    }

    /// The member to name in a subscription, and where to start if nothing is stored.
    pub(crate) fn member(&self) -> Option<(&str, &Position)> {
        self.terms.join.as_ref().map(|join| (self.member.as_str(), &join.otherwise))
    }

    /// Whether subscriptions may be made.
    pub(crate) fn is_joined(&self) -> bool {
        self.phase == Phase::Joined
    }

    fn wait_until(&mut self, at_ms: u64) {
        self.deadline_ms = Some(self.deadline_ms.map_or(at_ms, |known| known.min(at_ms)));
    }

    // ------------------------------------------------------------ sending

    /// Joins, commits and leaves. Tells whether it is over.
    pub(crate) fn pump(&mut self, out: &mut Outlet<'_>, state: &mut InboundState) -> bool {
        let now_ms = out.now_ms();
        self.deadline_ms = None;
        match self.phase {
            Phase::Wanted { at_ms } if at_ms <= now_ms => self.join(out, state),
            Phase::Wanted { at_ms } => self.wait_until(at_ms),
            Phase::Joined => {
                self.release(out);
                self.commit(out, state, now_ms);
                return self.leave(out, state);
            }
            Phase::Asked | Phase::Leaving | Phase::Over => {}
        }
        false
    }

    fn join(&mut self, out: &mut Outlet<'_>, state: &mut InboundState) {
        let Some(join) = &self.terms.join else { return };
        let request = JoinGroup {
            group: self.terms.group.clone(),
            member: self.member.clone(),
            instance: join.instance.clone(),
            topics: join.topics.clone(),
            strategy: join.strategy,
            session_timeout_ms: join.session_timeout_ms,
            release_timeout_ms: join.release_timeout_ms,
        };
        match out.try_request(&request, Tag::Join) {
            Ok(()) => self.phase = Phase::Asked,
            Err(error) => self.fail(state, error),
        }
    }

    /// Gives back what was revoked.
    fn release(&mut self, out: &mut Outlet<'_>) {
        for unplaced in &mut self.unplaced {
            if let Some(position) = unplaced.ask.take() {
                let group = (position.kind == PositionKind::Stored).then(|| self.terms.group.clone());
                let (topic_id, partition) = (unplaced.topic_id, unplaced.partition);
                let request = ResolvePosition { topic_id, partition, position, group };
                out.request(&request, Tag::Resolve { serial: unplaced.serial });
            }
        }
        if self.releases_in_flight.is_empty() && !self.releases.is_empty() {
            let count = self.releases.len().min(limits::MAX_COMMIT_OFFSETS);
            self.releases_in_flight = self.releases.drain(..count).collect();
            let offsets = self.releases_in_flight.clone();
            let request = Commit { group: self.terms.group.clone(), member: Some(self.member.clone()), offsets };
            out.request(&request, Tag::Release);
        }
    }

    fn commit(&mut self, out: &mut Outlet<'_>, state: &mut InboundState, now_ms: u64) {
        let Some(share) = &mut state.share else { return };
        share.jobs.retain(|job| !job.is_forsaken());
        if self.in_flight.is_some() {
            return;
        }
        if now_ms < self.commit_at_ms {
            if share.is_behind || !share.jobs.is_empty() || share.leaving.is_some() {
                self.wait_until(self.commit_at_ms);
            }
            return;
        }
        let is_leaving = share.leaving.is_some() && self.farewell.is_none();
        let job = match share.jobs.pop_front() {
            Some(job) => job,
            None if is_leaving && self.terms.auto_commit => {
                let entries = uncommitted(&state.lanes, InboundLane::handed);
                if entries.is_empty() {
                    return;
                }
                CommitJob::new(entries, None)
            }
            None if share.is_behind && !is_leaving => {
                let at_ms = *self.auto_at_ms.get_or_insert(now_ms.saturating_add(self.terms.commit_interval_ms));
                if now_ms < at_ms && !share.is_due() {
                    return self.wait_until(at_ms);
                }
                self.auto_at_ms = None;
                (share.is_behind, share.processed_messages) = (false, 0);
                let entries = uncommitted(&state.lanes, |lane| lane.progress.processed);
                if entries.is_empty() {
                    return;
                }
                CommitJob::new(entries, None)
            }
            None => return,
        };
        let request = Commit {
            group: self.terms.group.clone(),
            member: self.terms.join.is_some().then(|| self.member.clone()),
            offsets: job.entries.iter().map(|entry| entry.commit.clone()).collect(),
        };
        match out.try_request(&request, Tag::Commit) {
            Ok(()) => self.in_flight = Some(CommitJob { sent: true, ..job }),
            Err(error) => job.settle(Err(error)),
        }
    }

    /// Leaves once nothing is left to commit, if the caller closes. Tells whether it is over.
    fn leave(&mut self, out: &mut Outlet<'_>, state: &mut InboundState) -> bool {
        let Some(share) = &mut state.share else { return false };
        let is_idle = self.in_flight.is_none() && share.jobs.is_empty() && self.commit_at_ms <= out.now_ms();
        if share.leaving.is_none() || !is_idle {
            return false;
        }
        if self.leave_at_once(out) {
            self.phase = Phase::Leaving;
            return false;
        }
        self.say_goodbye(state);
        true
    }

    /// Leaves without waiting; tells whether there was something to leave. A static member stays one, so that a restart
    /// moves nothing.
    pub(crate) fn leave_at_once(&mut self, out: &mut Outlet<'_>) -> bool {
        let stays = self.terms.join.as_ref().is_none_or(|join| join.instance.is_some());
        if stays || self.phase != Phase::Joined {
            return false;
        }
        out.request(&LeaveGroup { group: self.terms.group.clone(), member: self.member.clone() }, Tag::Leave);
        true
    }

    /// Tells the caller that closes how its last commit went.
    fn say_goodbye(&mut self, state: &mut InboundState) {
        self.phase = Phase::Over;
        if let Some(leaving) = state.share.as_mut().and_then(|share| share.leaving.take()) {
            // A caller whose time is over does not want to know.
            let _ = leaving.send(self.farewell.take().unwrap_or(Ok(())));
        }
        state.close();
    }

    // ------------------------------------------------------------ answers

    /// An answer to one of its requests.
    pub(crate) fn on_reply(
        &mut self,
        tag: Tag,
        outcome: Result<(ServerFrame, Bytes)>,
        state: &mut InboundState,
        now_ms: u64,
    ) -> Moves {
        match (tag, outcome) {
            (Tag::Join, Ok((ServerFrame::GroupJoined(joined), _))) => return self.on_joined(&joined, state),
            (Tag::Join, Ok((other, _))) => self.fail(state, misplaced("JoinGroup", &other)),
            (Tag::Join, Err(error)) => return self.on_join_failed(error, state, now_ms),
            (Tag::Commit, Ok(_)) => {
                self.commit_backoff.reset();
                if let Some(job) = self.in_flight.take() {
                    job.entries.iter().for_each(|entry| entry.settle(&mut state.lanes));
                    job.settle(Ok(()));
                }
            }
            (Tag::Commit, Err(error)) => return self.on_commit_failed(error, state, now_ms),
            (Tag::Release, outcome) => {
                let released = std::mem::take(&mut self.releases_in_flight);
                match outcome {
                    Err(error) if error.is_retriable() => self.releases.extend(released),
                    // The server gives the partitions on by itself when their time is over.
                    Err(error) => tracing::debug!(%error, "a release came to nothing"),
                    Ok(_) => {}
                }
            }
            (Tag::Leave, _) => self.say_goodbye(state),
            (Tag::Resolve { serial }, outcome) => self.on_resolved(serial, outcome),
            _ => {}
        }
        Moves::default()
    }

    fn on_joined(&mut self, joined: &GroupJoined, state: &mut InboundState) -> Moves {
        self.phase = Phase::Joined;
        self.backoff.reset();
        self.member.clone_from(&joined.member);
        let is_given_back = |assignment: &&Assignment| {
            let is_it = |topic_id, partition, generation| {
                (topic_id, partition, generation) == (assignment.topic_id, assignment.partition, assignment.generation)
            };
            self.releases.iter().any(|it| is_it(it.topic_id, it.partition, it.generation))
                || self.unplaced.iter().any(|it| is_it(it.topic_id, it.partition, it.generation))
        };
        let held: Vec<&Assignment> = joined.assignments.iter().filter(|it| !is_given_back(it)).collect();
        let is_kept = |lane: &InboundLane| held.iter().any(|assignment| is_same(lane, assignment));
        let lost = indices(&state.lanes, |lane| lane.active && !is_kept(lane));
        end(state, AssignmentKind::Lost, &lost);
        let begun = begin(state, held.into_iter());
        if let Some(share) = &mut state.share {
            share.joined = true;
        }
        Moves { begun, ended: lost }
    }

    fn on_join_failed(&mut self, error: Error, state: &mut InboundState, now_ms: u64) -> Moves {
        if error.is(ErrorCode::UnknownMember) && !self.member.is_empty() {
            return self.on_expelled(&error, state, now_ms);
        }
        if error.is_retriable() {
            let wait_ms = self.backoff.next_ms(self.random.next_u64()).max(u64::from(error.retry_after_ms()));
            self.phase = Phase::Wanted { at_ms: now_ms.saturating_add(wait_ms) };
            return Moves::default();
        }
        self.fail(state, error);
        let ended = indices(&state.lanes, |lane| lane.active);
        end(state, AssignmentKind::Lost, &ended);
        Moves { begun: Vec::new(), ended }
    }

    fn on_commit_failed(&mut self, error: Error, state: &mut InboundState, now_ms: u64) -> Moves {
        let Some(job) = self.in_flight.take() else { return Moves::default() };
        let Some(share) = &mut state.share else { return Moves::default() };
        if error.is_retriable() {
            let wait_ms = self.commit_backoff.next_ms(self.random.next_u64()).max(u64::from(error.retry_after_ms()));
            self.commit_at_ms = now_ms.saturating_add(wait_ms);
            if job.reply.is_some() {
                share.jobs.push_front(job);
            } else {
                share.is_behind = true;
            }
            return Moves::default();
        }
        if job.reply.is_none() {
            tracing::debug!(%error, "a commit came to nothing");
            // What is still held is committed with the next one.
            share.is_behind = share.leaving.is_none();
            if share.leaving.is_some() {
                let is_gone = error.is(ErrorCode::NotAssigned) || error.is(ErrorCode::UnknownMember);
                self.farewell = Some(if is_gone { Ok(()) } else { Err(error.clone()) });
            }
        }
        let is_expelled = error.is(ErrorCode::UnknownMember) && self.phase == Phase::Joined;
        job.settle(Err(error.clone()));
        if is_expelled { self.on_ended(error, state, now_ms) } else { Moves::default() }
    }

    fn on_resolved(&mut self, serial: u64, outcome: Result<(ServerFrame, Bytes)>) {
        let Some(at) = self.unplaced.iter().position(|unplaced| unplaced.serial == serial) else { return };
        match outcome {
            Ok((ServerFrame::PositionResolved(resolved), _)) => {
                let Unplaced { topic_id, partition, generation, .. } = self.unplaced.swap_remove(at);
                self.releases.push(CommitOffset {
                    topic_id,
                    partition,
                    generation,
                    offset: resolved.offset,
                    epoch: None,
                    rewind: false,
                    release: true,
                });
            }
            Err(error) if error.is(ErrorCode::NoStoredOffset) => {
                self.unplaced[at].ask = self.terms.join.as_ref().map(|join| join.otherwise.clone());
            }
            Err(error) if error.is_retriable() => self.unplaced[at].ask = Some(Position::STORED),
            _ => drop(self.unplaced.swap_remove(at)),
        }
    }

    // ------------------------------------------------------------ pushes

    /// The server gives and takes.
    pub(crate) fn on_changed(
        &mut self,
        assigned: &[Assignment],
        revoked: &[Assignment],
        state: &mut InboundState,
    ) -> Moves {
        let ended = indices(&state.lanes, |lane| lane.active && revoked.iter().any(|it| is_same(lane, it)));
        for index in &ended {
            let lane = &state.lanes[*index];
            let waiting = state.share.iter().flat_map(|share| share.jobs.iter().rev());
            let pending = waiting.chain(&self.in_flight).find_map(|job| job.entry_of(*index, lane));
            let last = last_commit(*index, lane, self.terms.auto_commit, pending);
            // Commits that wait their turn, or must be made again, come when the partition is given back.
            for job in state.share.iter_mut().flat_map(|share| &mut share.jobs).chain(&mut self.in_flight) {
                job.leave_out(*index, lane);
            }
            match last {
                Some(commit) => self.releases.push(commit),
                None => {
                    self.next_serial += 1;
                    self.unplaced.push(Unplaced {
                        serial: self.next_serial,
                        topic_id: lane.key.topic_id,
                        partition: lane.key.partition,
                        generation: lane.assigned_in,
                        ask: Some(Position::STORED),
                    });
                }
            }
        }
        end(state, AssignmentKind::Revoked, &ended);
        Moves { begun: begin(state, assigned.iter()), ended }
    }

    /// It is no member any more: joins anew, unless another took its name.
    pub(crate) fn on_ended(&mut self, error: Error, state: &mut InboundState, now_ms: u64) -> Moves {
        let is_static = self.terms.join.as_ref().is_some_and(|join| join.instance.is_some());
        if error.is(ErrorCode::UnknownMember) && !is_static {
            return self.on_expelled(&error, state, now_ms);
        }
        self.fail(state, error);
        let ended = indices(&state.lanes, |lane| lane.active);
        end(state, AssignmentKind::Lost, &ended);
        Moves { begun: Vec::new(), ended }
    }

    /// The server does not know the member: everything is lost, and it joins as a new one.
    pub(crate) fn on_expelled(&mut self, error: &Error, state: &mut InboundState, now_ms: u64) -> Moves {
        tracing::warn!(group = self.terms.group, member = self.member, %error, "a member joins its group anew");
        self.member.clear();
        self.releases.clear();
        self.unplaced.clear();
        let wait_ms = self.backoff.next_ms(self.random.next_u64());
        self.phase = Phase::Wanted { at_ms: now_ms.saturating_add(wait_ms) };
        let ended = indices(&state.lanes, |lane| lane.active);
        end(state, AssignmentKind::Lost, &ended);
        Moves { begun: Vec::new(), ended }
    }

    /// The connection ended: what was asked is asked again after joining.
    pub(crate) fn on_lost(&mut self, state: &mut InboundState, now_ms: u64) {
        self.releases.append(&mut self.releases_in_flight);
        if let (Some(job), Some(share)) = (self.in_flight.take(), &mut state.share) {
            if job.reply.is_some() {
                share.jobs.push_front(job);
            } else {
                share.is_behind = true;
            }
        }
        for unplaced in &mut self.unplaced {
            unplaced.ask = Some(Position::STORED);
        }
        match self.phase {
            Phase::Asked | Phase::Joined if self.terms.join.is_some() => {
                self.phase = Phase::Wanted { at_ms: now_ms };
            }
            // The session timeout does the rest.
            Phase::Leaving => self.say_goodbye(state),
            _ => {}
        }
    }

    /// It cannot be a member: every call says why.
    pub(crate) fn fail(&mut self, state: &mut InboundState, error: Error) {
        self.phase = Phase::Over;
        let Some(share) = &mut state.share else { return };
        for job in self.in_flight.take().into_iter().chain(share.jobs.drain(..).collect::<VecDeque<_>>()) {
            job.settle(Err(error.clone()));
        }
        share.failed = Some(error);
        if share.leaving.is_some() {
            self.say_goodbye(state);
        }
    }

    /// Bytes that one partition may keep ready.
    pub(crate) fn window_bytes(&self, state: &InboundState) -> u64 {
        let active = state.lanes.iter().filter(|lane| lane.active).count() as u64;
        super::window_bytes(self.terms.prefetch_bytes, active)
    }
}

fn is_same(lane: &InboundLane, assignment: &Assignment) -> bool {
    let (key, it) = (&lane.key, assignment);
    (key.topic_id, key.partition, lane.assigned_in) == (it.topic_id, it.partition, it.generation)
}

fn indices(lanes: &[InboundLane], is_meant: impl Fn(&InboundLane) -> bool) -> Vec<usize> {
    lanes.iter().enumerate().filter(|(_, lane)| is_meant(lane)).map(|(index, _)| index).collect()
}

fn end(state: &mut InboundState, kind: AssignmentKind, ended: &[usize]) {
    if let Some(share) = &mut state.share {
        share.change(kind, ended.iter().map(|index| &state.lanes[*index]));
    }
    for index in ended {
        state.lanes[*index].deactivate();
    }
}

/// Begins the lanes of what is assigned and not read yet.
fn begin<'a>(state: &mut InboundState, assigned: impl Iterator<Item = &'a Assignment>) -> Vec<usize> {
    let mut begun = Vec::new();
    for assignment in assigned {
        let is_it =
            |lane: &InboundLane| (lane.key.topic_id, lane.key.partition) == (assignment.topic_id, assignment.partition);
        let index = match state.lanes.iter().position(is_it) {
            Some(index) if state.lanes[index].active && is_same(&state.lanes[index], assignment) => continue,
            Some(index) => index,
            None => {
                let key = LaneKey {
                    topic: topic_name(&assignment.stream, &assignment.topic),
                    topic_id: assignment.topic_id,
                    partition: assignment.partition,
                };
                state.lanes.push(InboundLane::new(key, Position::STORED, 0));
                state.lanes.len() - 1
            }
        };
        state.lanes[index].activate(Position::STORED, assignment.generation);
        begun.push(index);
    }
    if let Some(share) = &mut state.share {
        share.change(AssignmentKind::Assigned, begun.iter().map(|index| &state.lanes[*index]));
    }
    begun
}

fn misplaced(request: &str, frame: &ServerFrame) -> Error {
    Error::new(ErrorCode::BadFrame, format!("{request} was answered with another's reply: {frame:?}"))
}
