//! What the caller of a group's reader and its membership in the connection's task share: how far each partition is, commits
//! asked for, and changes of assignments not asked for yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use levada_protocol::messages::CommitOffset;
use tokio::sync::oneshot;

use super::inbound::InboundLane;
use crate::error::{Error, Result};
use crate::generated::enums::AssignmentKind;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// `stream/topic`.
    pub topic: String,
    /// Its number.
    pub partition: u32,
}

/// How far a partition is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOffset {
    /// `stream/topic`.
    pub topic: String,
    /// Its number.
    pub partition: u32,
    /// Of the next message to be read.
    pub offset: u64,
}

/// What changed about the partitions that a group's member reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentChange {
    /// What happened.
    pub kind: AssignmentKind,
    /// To which partitions, by topic and number.
    pub partitions: Vec<TopicPartition>,
}

/// How far the group is in a partition, as its reader knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Offset after the last message handed out, where a layer above keeps some of what it took.
    pub(crate) reached: Option<u64>,
    /// Offset after the last message processed, and the epoch there.
    pub(crate) processed: Option<(u64, Option<u32>)>,
    /// The offset committed last, or where reading began.
    pub(crate) floor: Option<u64>,
    /// How often the position was moved, and how often when the last commit was made.
    seeks: u64,
    settled_seeks: u64,
}

impl Progress {
    /// The position was moved: what is committed next may be lower.
    pub(crate) fn seek(&mut self) {
        (self.reached, self.processed) = (None, None);
        self.seeks += 1;
    }

    fn rewinds(&self) -> bool {
        self.seeks != self.settled_seeks
    }
}

/// What of a commit concerns a lane.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    lane: usize,
    life: u64,
    seeks: u64,
    pub(crate) commit: CommitOffset,
}

impl Entry {
    pub(crate) fn new(index: usize, lane: &InboundLane, offset: u64, epoch: Option<u32>) -> Entry {
        let commit = CommitOffset {
            topic_id: lane.key.topic_id,
            partition: lane.key.partition,
            generation: lane.assigned_in,
            offset,
            epoch,
            rewind: lane.progress.rewinds(),
            release: false,
        };
        Entry { lane: index, life: lane.life, seeks: lane.progress.seeks, commit }
    }

    /// Whether it is of this lane, as the lane is assigned now.
    fn is_of(&self, index: usize, lane: &InboundLane) -> bool {
        self.lane == index && self.life == lane.life
    }

    /// It is durable.
    pub(crate) fn settle(&self, lanes: &mut [InboundLane]) {
        if let Some(lane) = lanes.get_mut(self.lane).filter(|lane| lane.life == self.life && lane.active) {
            lane.progress.floor = Some(self.commit.offset);
            lane.progress.settled_seeks = self.seeks;
        }
    }
}

/// Entries for what was handed out, or only for what was processed, where that is not committed yet. After a commit of more
/// than that, which the caller asked for, nothing goes back without a seek.
pub(crate) fn uncommitted(
    lanes: &[InboundLane],
    up_to: impl Fn(&InboundLane) -> Option<(u64, Option<u32>)>,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (index, lane) in lanes.iter().enumerate().filter(|(_, lane)| lane.active) {
        if let Some((offset, epoch)) = up_to(lane)
            && (lane.progress.rewinds() || lane.progress.floor.is_none_or(|floor| floor < offset))
        {
            entries.push(Entry::new(index, lane, offset, epoch));
        }
    }
    entries
}

/// The last commit of a lane that is revoked; `None` if not even its start is known. `pending` is the newest commit of it that
/// is not answered yet: the last one must not fall behind it, nor behind what is stored.
pub(crate) fn last_commit(
    index: usize,
    lane: &InboundLane,
    auto_commit: bool,
    pending: Option<&Entry>,
) -> Option<CommitOffset> {
    let progress = &lane.progress;
    let pending = pending.filter(|entry| entry.seeks == progress.seeks);
    let pending = pending.map(|entry| (entry.commit.offset, entry.commit.epoch));
    let done = progress.processed.filter(|_| auto_commit).into_iter().chain(pending).max_by_key(|(offset, _)| *offset);
    // What is stored stays with the epoch it was stored with; that of the lane is of a later message.
    let floor = progress.floor.map(|floor| (floor, None));
    let (offset, epoch) = match (done, floor) {
        (Some(done), Some(floor)) if done.0 < floor.0 && !progress.rewinds() => floor,
        (done, floor) => done.or(floor)?,
    };
    Some(CommitOffset { release: true, ..Entry::new(index, lane, offset, epoch).commit })
}

/// A commit that somebody waits for.
#[derive(Debug)]
pub(crate) struct CommitJob {
    pub(crate) entries: Vec<Entry>,
    /// Nobody waits for commits made by themselves.
    pub(crate) reply: Option<oneshot::Sender<Result<()>>>,
    /// It may have been stored: it is asked for until there is an answer, or what comes after it could fall behind it.
    pub(crate) sent: bool,
}

impl CommitJob {
    pub(crate) fn new(entries: Vec<Entry>, reply: Option<oneshot::Sender<Result<()>>>) -> CommitJob {
        CommitJob { entries, reply, sent: false }
    }

    pub(crate) fn settle(self, outcome: Result<()>) {
        if let Some(reply) = self.reply {
            // Whoever gave up does not want to know.
            let _ = reply.send(outcome);
        }
    }

    /// What it says of a lane, as the lane is assigned now.
    pub(crate) fn entry_of(&self, index: usize, lane: &InboundLane) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is_of(index, lane))
    }

    /// A lane's last commit says what this one would have.
    pub(crate) fn leave_out(&mut self, index: usize, lane: &InboundLane) {
        self.entries.retain(|entry| !entry.is_of(index, lane));
    }

    /// Whether somebody waited and gave up before it was sent.
    pub(crate) fn is_forsaken(&self) -> bool {
        !self.sent && self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

/// Changes that wait; beyond that they are told as one step.
const MAX_CHANGES: usize = 100;

/// Assignments by partition, with the generation of each.
type Held = BTreeMap<TopicPartition, u64>;

/// A change, with the generations.
pub(crate) type Step = (AssignmentKind, Held);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Whether what was processed is committed without being asked, and after how many messages at once.
    pub(crate) auto_commit: bool,
    pub(crate) commit_messages: Option<u64>,
    /// Commits asked for.
    pub(crate) jobs: VecDeque<CommitJob>,
    /// Messages processed since the last commit made by itself.
    pub(crate) processed_messages: u64,
    /// Something was processed since then.
    pub(crate) is_behind: bool,
    /// It is a member now, or needs not be one.
    pub(crate) joined: bool,
    /// It cannot be a member.
    pub(crate) failed: Option<Error>,
    /// The caller closes and waits for the last commit.
    pub(crate) leaving: Option<oneshot::Sender<Result<()>>>,
    changes: VecDeque<Step>,
    /// What is held, and what the caller has been told of.
    held: Held,
    told: Held,
    has_news: bool,
}

impl Share {
    /// For a reader that only uses the stored offsets.
    pub(crate) fn without_member() -> Share {
        Share { joined: true, ..Share::default() }
    }

    pub(crate) fn of_member(auto_commit: bool, commit_messages: Option<u64>) -> Share {
        Share { auto_commit, commit_messages, ..Share::default() }
    }

    /// Notes that messages were processed; tells whether the task should know.
    pub(crate) fn processed(&mut self, count: u64) -> bool {
        if !self.auto_commit {
            return false;
        }
        self.processed_messages += count;
        let is_first = !std::mem::replace(&mut self.is_behind, true);
        is_first || self.is_due()
    }

    /// Whether so many messages were processed that a commit is due.
    pub(crate) fn is_due(&self) -> bool {
        self.commit_messages.is_some_and(|most| most <= self.processed_messages)
    }

    /// Notes a change of assignments.
    pub(crate) fn change<'a>(&mut self, kind: AssignmentKind, lanes: impl Iterator<Item = &'a InboundLane>) {
        let of = |lane: &InboundLane| {
            (TopicPartition { topic: lane.key.topic.to_string(), partition: lane.key.partition }, lane.assigned_in)
        };
        let changed: Held = lanes.map(of).collect();
        if changed.is_empty() {
            return;
        }
        apply(&mut self.held, kind, &changed);
        self.has_news = true;
        self.changes.push_back((kind, changed));
        if MAX_CHANGES < self.changes.len() {
            self.coalesce();
        }
    }

    /// Replaces all that waits by the step from what was told to what is held.
    fn coalesce(&mut self) {
        let missing = |from: &Held, to: &Held| -> Held {
            let missing = from.iter().filter(|(name, generation)| to.get(*name) != Some(*generation));
            missing.map(|(name, generation)| (name.clone(), *generation)).collect()
        };
        let gone = (AssignmentKind::Lost, missing(&self.told, &self.held));
        let new = (AssignmentKind::Assigned, missing(&self.held, &self.told));
        self.changes = [gone, new].into_iter().filter(|(_, changed)| !changed.is_empty()).collect();
    }

    pub(crate) fn next_change(&mut self) -> Option<Step> {
        let step = self.changes.pop_front()?;
        apply(&mut self.told, step.0, &step.1);
        Some(step)
    }

    /// Takes back a change that nobody was told of: it is the next one again.
    pub(crate) fn put_back(&mut self, (kind, changed): Step) {
        let back = match kind {
            AssignmentKind::Assigned => AssignmentKind::Lost,
            AssignmentKind::Revoked | AssignmentKind::Lost => AssignmentKind::Assigned,
        };
        apply(&mut self.told, back, &changed);
        self.has_news = true;
        self.changes.push_front((kind, changed));
    }

    pub(crate) fn assignments(&self) -> Vec<TopicPartition> {
        self.held.keys().cloned().collect()
    }

    /// Whether somebody who waits for a change should look.
    pub(crate) fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Nobody is answered from now on.
    pub(crate) fn close(&mut self) {
        self.jobs.clear();
        self.changes.clear();
        self.held.clear();
        self.leaving = None;
    }
}

fn apply(held: &mut Held, kind: AssignmentKind, changed: &Held) {
    match kind {
        AssignmentKind::Assigned => held.extend(changed.iter().map(|(name, generation)| (name.clone(), *generation))),
        AssignmentKind::Revoked | AssignmentKind::Lost => held.retain(|name, _| !changed.contains_key(name)),
    }
}

/// The topic of an assignment, `stream/topic`.
pub(crate) fn topic_name(stream: &str, topic: &str) -> Arc<str> {
    Arc::from(format!("{stream}/{topic}"))
}
