//! The stage's groups: it assigns nothing by itself but what a test says, and remembers what members did.

use std::collections::{BTreeMap, VecDeque};

use levada::ErrorCode;
use levada_protocol::messages::*;

use crate::stage::{Serving, Stage, State, error};

/// A push that waits for the connection of its member.
enum Push {
    Change { member: String, assigned: Vec<u32>, revoked: Vec<u32> },
    End { member: String, code: ErrorCode },
}

/// All that the stage knows of its one group.
#[derive(Default)]
pub(crate) struct Coordinator {
    /// Members, with the number of the connection that speaks for each.
    members: BTreeMap<String, usize>,
    /// Who holds a partition, in which generation.
    held: BTreeMap<u32, (String, u64)>,
    generation: u64,
    /// What the next members get when they join.
    on_join: VecDeque<Vec<u32>>,
    pushes: Vec<Push>,
    /// What the next commits are refused with.
    refusals: VecDeque<ErrorCode>,
    pub(crate) hold_commits: bool,
    /// Commits are stored, and the answers are lost.
    pub(crate) swallow_answers: bool,
    pub(crate) stored: BTreeMap<u32, u64>,
    pub(crate) joins: Vec<JoinGroup>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) left: Vec<String>,
}

impl Coordinator {
    fn assign(&mut self, member: &str, partitions: &[u32]) -> Vec<Assignment> {
        self.generation += 1;
        for partition in partitions {
            self.held.insert(*partition, (member.to_owned(), self.generation));
        }
        let of = |(partition, (_, generation)): (&u32, &(String, u64))| assignment(*partition, *generation);
        self.held.iter().filter(|(partition, _)| partitions.contains(partition)).map(of).collect()
    }

    fn is_held(&self, partition: u32, member: &str, generation: u64) -> bool {
        self.held.get(&partition) == Some(&(member.to_owned(), generation))
    }
}

fn assignment(partition: u32, generation: u64) -> Assignment {
    Assignment { topic_id: 9, stream: "play".into(), topic: "act".into(), partition, generation }
}

impl Stage {
    /// What the next member gets when it joins.
    pub(crate) fn cast(&self, partitions: &[u32]) {
        self.change(|state| state.coordinator.on_join.push_back(partitions.to_vec()));
    }

    pub(crate) fn reassign(&self, member: &str, assigned: &[u32], revoked: &[u32]) {
        let (assigned, revoked) = (assigned.to_vec(), revoked.to_vec());
        self.change(|state| {
            state.coordinator.pushes.push(Push::Change { member: member.to_owned(), assigned, revoked });
        });
    }

    /// The session of a member runs out; if it is connected it is told.
    pub(crate) fn expel(&self, member: &str, code: ErrorCode) {
        self.change(|state| state.coordinator.pushes.push(Push::End { member: member.to_owned(), code }));
    }

    /// The session of a member that is away runs out.
    pub(crate) fn forget(&self, member: &str) {
        self.change(|state| {
            state.coordinator.members.remove(member);
            state.coordinator.held.retain(|_, (holder, _)| holder != member);
        });
    }

    pub(crate) fn refuse_commits(&self, codes: &[ErrorCode]) {
        self.change(|state| state.coordinator.refusals.extend(codes));
    }

    pub(crate) fn stored(&self, partition: u32) -> Option<u64> {
        self.state().coordinator.stored.get(&partition).copied()
    }

    pub(crate) fn commits(&self) -> Vec<Commit> {
        self.state().coordinator.commits.clone()
    }

    pub(crate) fn joins(&self) -> Vec<JoinGroup> {
        self.state().coordinator.joins.clone()
    }
}

/// Tells members of this connection what is to be told.
pub(crate) fn push(serving: &mut Serving, state: &mut State) {
    let coordinator = &mut state.coordinator;
    let mut later = Vec::new();
    for push in std::mem::take(&mut coordinator.pushes) {
        let (Push::Change { member, .. } | Push::End { member, .. }) = &push;
        if coordinator.members.get(member) != Some(&serving.number) {
            later.push(push);
            continue;
        }
        match push {
            Push::Change { member, assigned, revoked } => {
                let revoked: Vec<_> =
                    revoked.iter().map(|partition| assignment(*partition, coordinator.held[partition].1)).collect();
                for gone in &revoked {
                    serving.end_subscription(gone.partition);
                }
                let assigned = coordinator.assign(&member, &assigned);
                let (group, generation) = ("cast".to_owned(), coordinator.generation);
                let (release_within_ms, reason) = (1000, "the script says so".to_owned());
                let changed = GroupChanged { group, member, generation, assigned, revoked, release_within_ms, reason };
                serving.machine.push(&changed);
            }
            Push::End { member, code } => {
                let Error { code, class, flags, message, details, .. } = error(code, &[]);
                coordinator.members.remove(&member);
                coordinator.held.retain(|_, (holder, _)| *holder != member);
                let group = "cast".to_owned();
                serving.machine.push(&MembershipEnded { group, member, code, class, flags, message, details });
            }
        }
    }
    coordinator.pushes = later;
}

impl Serving {
    fn end_subscription(&mut self, partition: u32) {
        let ended: Vec<u32> = self
            .subscriptions
            .iter()
            .filter(|(_, subscription)| {
                subscription.partition == partition as usize && subscription.generation.is_some()
            })
            .map(|(id, _)| *id)
            .collect();
        for subscription in ended {
            self.subscriptions.remove(&subscription);
            let Error { code, class, flags, message, details, .. } = error(ErrorCode::NotAssigned, &[]);
            self.machine.subscription_revoked(&SubscriptionEnded {
                subscription,
                code,
                class,
                flags,
                message,
                details,
            });
        }
    }
}

/// Where a subscription under a group begins.
pub(crate) fn start_of(state: &State, subscribe: &Subscribe) -> Result<Position, Error> {
    let coordinator = &state.coordinator;
    if let (Some(member), Some(generation)) = (&subscribe.member, subscribe.generation)
        && !coordinator.is_held(subscribe.partition, member, generation)
    {
        return Err(error(ErrorCode::NotAssigned, &[]));
    }
    if subscribe.position.kind != PositionKind::Stored {
        return Ok(subscribe.position.clone());
    }
    match (coordinator.stored.get(&subscribe.partition), &subscribe.otherwise) {
        (Some(offset), _) => Ok(Position::offset(*offset)),
        (None, Some(otherwise)) => Ok(otherwise.clone()),
        (None, None) => Err(error(ErrorCode::NoStoredOffset, &[])),
    }
}

pub(crate) fn request(serving: &mut Serving, state: &mut State, correlation: u32, request: Request) {
    match request {
        Request::JoinGroup(join) => {
            let coordinator = &mut state.coordinator;
            coordinator.joins.push(join.clone());
            if !join.member.is_empty() && !coordinator.members.contains_key(&join.member) {
                return serving.machine.fail(correlation, &error(ErrorCode::UnknownMember, &[]));
            }
            let is_new = join.member.is_empty();
            let member = if is_new { format!("member-{}", coordinator.joins.len()) } else { join.member };
            coordinator.members.insert(member.clone(), serving.number);
            if is_new {
                let wanted = coordinator.on_join.pop_front().unwrap_or_default();
                coordinator.assign(&member, &wanted);
            }
            let held = coordinator.held.iter().filter(|(_, (holder, _))| *holder == member);
            let assignments = held.map(|(partition, (_, generation))| assignment(*partition, *generation)).collect();
            let generation = coordinator.generation;
            let reply = GroupJoined { member, generation, strategy: join.strategy, assignments };
            serving.machine.reply(correlation, &reply);
        }
        Request::LeaveGroup(leave) => {
            state.coordinator.members.remove(&leave.member);
            state.coordinator.left.push(leave.member);
            serving.machine.reply(correlation, &GroupLeft {});
        }
        Request::Commit(commit) => {
            if state.coordinator.hold_commits {
                return;
            }
            match apply(state, commit) {
                Ok(()) if state.coordinator.swallow_answers => {}
                Ok(()) => serving.machine.reply(correlation, &Committed {}),
                Err(refusal) => serving.machine.fail(correlation, &refusal),
            }
        }
        Request::ReadOffsets(_) => {
            let stored = |(partition, offset): (&u32, &u64)| StoredOffset {
                stream: "play".into(),
                topic: "act".into(),
                partition: *partition,
                offset: *offset,
                epoch: 1,
                committed_at_us: 0,
            };
            let offsets = state.coordinator.stored.iter().map(stored).collect();
            serving.machine.reply(correlation, &OffsetsRead { offsets });
        }
        Request::ResolvePosition(resolve) => {
            let (visible_end_offset, leader_epoch) = state.end_of(resolve.partition);
            let offset = match resolve.position.kind {
                PositionKind::Stored => state.coordinator.stored.get(&resolve.partition).copied(),
                PositionKind::Latest => Some(visible_end_offset),
                _ => Some(0),
            };
            match offset {
                Some(offset) => {
                    let reply = PositionResolved { offset, log_start_offset: 0, visible_end_offset, leader_epoch };
                    serving.machine.reply(correlation, &reply);
                }
                None => serving.machine.fail(correlation, &error(ErrorCode::NoStoredOffset, &[])),
            }
        }
        other => {
            let what = u64::from(other.kind().code());
            serving.machine.fail(correlation, &error(ErrorCode::Unsupported, &[("what", what)]));
        }
    }
}

/// The rules of commits, as the protocol has them.
fn apply(state: &mut State, commit: Commit) -> Result<(), Error> {
    let coordinator = &mut state.coordinator;
    coordinator.commits.push(commit.clone());
    if let Some(code) = coordinator.refusals.pop_front() {
        return Err(error(code, &[]));
    }
    for one in &commit.offsets {
        match &commit.member {
            Some(member) if !coordinator.is_held(one.partition, member, one.generation) => {
                return Err(error(ErrorCode::NotAssigned, &[("partition", u64::from(one.partition))]));
            }
            None if !coordinator.members.is_empty() => return Err(error(ErrorCode::GroupNotEmpty, &[])),
            _ => {}
        }
        if coordinator.stored.get(&one.partition).is_some_and(|stored| one.offset < *stored) && !one.rewind {
            return Err(error(ErrorCode::OffsetRegression, &[]));
        }
    }
    for one in &commit.offsets {
        coordinator.stored.insert(one.partition, one.offset);
        if one.release {
            coordinator.held.remove(&one.partition);
        }
    }
    Ok(())
}
