//! One group: who is a member, who holds which partition, what is stored. A state machine without I/O, clock or randomness:
//! requests, lost connections, time and topics go in; replies, pushes and events that last come out.
//!
//! A partition has one holding at most, so two members never have the same one. A partition moves in two steps: its holder
//! is told to release it, and only its last commit or the end of the release timeout lets the next member have it. What
//! comes out is to be said only after its events are durable, in order.

mod commits;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use levada_protocol::messages::{Assignment, GroupChanged, GroupJoined, JoinGroup, MembershipEnded};
use levada_protocol::{ErrorCode, limits};

use self::told::Changes;
use super::assign::{self, Key, ReadTopic};
use super::catalog::Catalog;
use super::record::{
    Assigned, GenerationRaised, GroupEvent, GroupForgotten, MemberJoined, MemberLeft, MemberReplaced, OffsetsStored,
    PartitionKey, PartitionOffset, PartitionsAssigned, PartitionsReleased, PartitionsRevoked, TopicForgotten,
};
use super::state::{GroupState, Holding};
use super::strategy;
use crate::broker::ConnectionId;
use crate::failure::Failure;
use crate::pattern::TopicPattern;

/// The present, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never jumps: sessions and releases.
    pub at_ms: u64,
    /// Microseconds since the Unix epoch: what lasts.
    pub at_us: i64,
}

/// What a connection is told without having asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// What a member holds changes.
    Changed(GroupChanged),
    /// A membership ended.
    Ended(MembershipEnded),
    /// A member left, as it asked: its subscriptions end, before the answer.
    Left {
        /// Its group.
        group: String,
        /// Its id.
        member: String,
    },
}

/// What came of an input, besides the answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What lasts, in order.
    pub events: Vec<GroupEvent>,
    /// What connections are told once that is durable.
    pub pushes: Vec<(ConnectionId, Push)>,
}

/// A request to join, checked.
#[derive(Clone, Debug)]
pub struct Joining<'a> {
    request: &'a JoinGroup,
    topics: Vec<TopicPattern>,
    user: &'a str,
    /// The id that a new member gets.
    new_member: String,
}

impl<'a> Joining<'a> {
    /// Checks a request of `user`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` or `INVALID_NAME`.
    pub fn new(request: &'a JoinGroup, user: &'a str, new_member: String) -> Result<Self, Failure> {
        if let Some(instance) = &request.instance {
            levada_protocol::names::check(instance)?;
        }
        if !(1..=limits::MAX_GROUP_TOPICS).contains(&request.topics.len()) {
            let message = format!("1 to {} topics, not {}", limits::MAX_GROUP_TOPICS, request.topics.len());
            return Err(Failure::invalid("topics", message));
        }
        for (argument, value_ms) in
            [("session_timeout_ms", request.session_timeout_ms), ("release_timeout_ms", request.release_timeout_ms)]
        {
            if !(100..=3_600_000).contains(&value_ms) {
                return Err(Failure::invalid(argument, format!("100 ms to an hour, not {value_ms} ms")));
            }
        }
        let topics = request.topics.iter().map(|text| TopicPattern::parse(text)).collect::<Result<_, _>>()?;
        Ok(Self { request, topics, user, new_member })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Connected(ConnectionId),
    /// Without a connection; a member until then.
    Lost {
        until_ms: u64,
    },
}

/// A topic that somebody reads, or still holds a partition of.
#[derive(Clone, Debug)]
struct ReadableTopic {
    stream: Arc<str>,
    topic: Arc<str>,
    /// 0 once it is gone.
    partition_count: u32,
    readers: BTreeSet<String>,
}

/// A group.
#[derive(Clone, Debug)]
pub struct Machine {
    name: String,
    state: GroupState,
    sessions: BTreeMap<String, Session>,
    readable: BTreeMap<u32, ReadableTopic>,
    /// Who is to have each partition.
    targets: BTreeMap<Key, String>,
    /// Until when the holder may release what it is to release.
    releases: BTreeMap<Key, u64>,
}

impl Machine {
    /// A group that nobody knows yet.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: GroupState::default(),
            sessions: BTreeMap::new(),
            readable: BTreeMap::new(),
            targets: BTreeMap::new(),
            releases: BTreeMap::new(),
        }
    }

    /// A group as it was written down: every member has its session timeout to come back.
    #[must_use]
    pub fn restore(name: impl Into<String>, state: GroupState, now: Now, catalog: &Catalog, out: &mut Outcome) -> Self {
        let mut machine = Self { state, ..Self::new(name) };
        for (id, member) in &machine.state.members {
            let until_ms = now.at_ms + u64::from(member.session_timeout_ms);
            machine.sessions.insert(id.clone(), Session::Lost { until_ms });
        }
        for (topic_id, _) in catalog.topics() {
            machine.read_topic(catalog, topic_id);
        }
        for (key, holding) in &machine.state.holdings {
            if holding.releasing {
                machine.releases.insert(*key, now.at_ms + machine.release_timeout_ms(&holding.member));
            } else {
                machine.targets.insert(*key, holding.member.clone());
            }
            machine.readable.entry(key.0).or_insert_with(|| ReadableTopic {
                stream: "".into(),
                topic: "".into(),
                partition_count: 0,
                readers: BTreeSet::new(),
            });
        }
        let gone: Vec<u32> = machine.state.offsets.keys().map(|key| key.0).collect();
        machine.forget_offsets(catalog, gone, out);
        machine.plan();
        let held = |key: &Key| machine.state.holdings.contains_key(key);
        let changed = machine.targets.keys().any(|key| !held(key))
            || machine.state.holdings.keys().any(|key| !machine.targets.contains_key(key));
        if changed {
            machine.raise(out);
        }
        machine.settle(now, "the server has started", out);
        machine.forget_if_void(now, out);
        machine
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What lasts of it.
    #[must_use]
    pub fn state(&self) -> &GroupState {
        &self.state
    }

    /// Whether every partition is with the member it is meant for.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_held = |(key, member): (&Key, &String)| {
            self.state.holdings.get(key).is_some_and(|holding| holding.member == *member && !holding.releasing)
        };
        self.targets.iter().all(is_held) && self.state.holdings.len() == self.targets.len()
    }

    /// Whether a member has a connection.
    #[must_use]
    pub fn is_connected(&self, member: &str) -> bool {
        matches!(self.sessions.get(member), Some(Session::Connected(_)))
    }

    /// The partitions its members read.
    pub fn read_partitions(&self) -> impl Iterator<Item = Key> {
        self.readable.iter().flat_map(|(topic_id, topic)| {
            let topic_id = *topic_id;
            (0..topic.partition_count).map(move |partition| (topic_id, partition))
        })
    }

    /// Becomes a member, or goes on being one.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER`, `TOO_MANY_MEMBERS`, `PERMISSION_DENIED`.
    pub fn join(
        &mut self,
        now: Now,
        catalog: &Catalog,
        speaker: ConnectionId,
        joining: Joining<'_>,
        out: &mut Outcome,
    ) -> Result<GroupJoined, Failure> {
        let Joining { request, topics, user, new_member } = joining;
        let before = self.state.members.get(&request.member);
        let id = if !request.member.is_empty() {
            let is_same = before.is_some_and(|member| member.user == user && member.instance == request.instance);
            if !is_same {
                return Err(unknown_member(&request.member));
            }
            request.member.clone()
        } else if let Some(earlier) = self.static_member(request.instance.as_deref(), user)? {
            self.replace(&earlier, &new_member, out);
            new_member
        } else {
            if limits::MAX_GROUP_MEMBERS <= self.state.members.len() {
                return Err(Failure::new(ErrorCode::TooManyMembers).with("limit", limits::MAX_GROUP_MEMBERS));
            }
            new_member
        };
        if let Some(Session::Connected(earlier)) = self.sessions.insert(id.clone(), Session::Connected(speaker))
            && earlier != speaker
        {
            out.pushes.push((earlier, Push::Ended(self.ended(&id, "another connection speaks for the member now"))));
        }
        let reads_otherwise = self.enter(&id, request, topics, user, out);
        if reads_otherwise {
            self.read_topics_of(catalog, &id);
            if self.state.members.len() == 1 && self.state.holdings.is_empty() {
                self.state.strategy = strategy::from_wire(request.strategy);
            }
            self.raise(out);
            self.plan();
            self.settle(now, "a member joined", out);
        }
        // It learns of what it got from the answer.
        for (_, push) in &mut out.pushes {
            if let Push::Changed(changed) = push
                && changed.member == id
            {
                changed.assigned.clear();
            }
        }
        out.pushes.retain(|(_, push)| !matches!(push, Push::Changed(changed) if changed.revoked.is_empty() && changed.assigned.is_empty()));
        let mut held = told::pieces(self.live_assignments(&id)).into_iter();
        let assignments = held.next().unwrap_or_default();
        for rest in held {
            self.tell_one(speaker, &id, (rest, Vec::new()), 0, "the member holds more than one frame can say", out);
        }
        if !reads_otherwise {
            self.remind_of_releases(now, &id, speaker, out);
        }
        Ok(GroupJoined {
            generation: self.state.generation,
            strategy: strategy::to_wire(self.state.strategy),
            assignments,
            member: id,
        })
    }

    /// Writes a member down if it is new or says other things than before; whether it reads other topics than before.
    fn enter(
        &mut self,
        id: &str,
        request: &JoinGroup,
        topics: Vec<TopicPattern>,
        user: &str,
        out: &mut Outcome,
    ) -> bool {
        let event = MemberJoined {
            member: id.to_owned(),
            instance: request.instance.clone(),
            user: user.to_owned(),
            topics,
            session_timeout_ms: request.session_timeout_ms,
            release_timeout_ms: request.release_timeout_ms,
        };
        let earlier = self.state.members.get(id);
        let reads_otherwise = earlier.is_none_or(|member| member.topics != event.topics);
        let differs = earlier.is_none_or(|member| {
            (member.session_timeout_ms, member.release_timeout_ms)
                != (event.session_timeout_ms, event.release_timeout_ms)
        });
        if reads_otherwise || differs {
            self.happen(event, out);
        }
        reads_otherwise
    }

    fn static_member(&self, instance: Option<&str>, user: &str) -> Result<Option<String>, Failure> {
        let Some(instance) = instance else { return Ok(None) };
        let found = self.state.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance));
        match found {
            Some((_, member)) if member.user != user => {
                let message = format!("the member {instance} speaks for another user");
                Err(Failure::because(ErrorCode::PermissionDenied, message).with("action", "join group"))
            }
            found => Ok(found.map(|(id, _)| id.clone())),
        }
    }

    /// A static member takes over from the one before, under a new id: what is asked under the old one is refused.
    fn replace(&mut self, before: &str, after: &str, out: &mut Outcome) {
        if let Some(Session::Connected(connection)) = self.sessions.remove(before) {
            let ended = self.ended(before, "another instance of the static member took its place");
            out.pushes.push((connection, Push::Ended(ended)));
        }
        self.happen(MemberReplaced { before: before.to_owned(), after: after.to_owned() }, out);
        for target in self.targets.values_mut().filter(|target| *target == before) {
            after.clone_into(target);
        }
        for topic in self.readable.values_mut() {
            if topic.readers.remove(before) {
                topic.readers.insert(after.to_owned());
            }
        }
    }

    /// Tells a member that is back what it was to release meanwhile.
    fn remind_of_releases(&self, now: Now, id: &str, speaker: ConnectionId, out: &mut Outcome) {
        let releasing = self.state.holdings.iter().filter(|(_, holding)| holding.releasing && holding.member == id);
        let revoked: Vec<_> = releasing.map(|(key, holding)| self.assignment(*key, holding)).collect();
        let until_ms =
            self.releases.iter().filter(|(key, _)| self.is_held_by(**key, id)).map(|(_, until_ms)| *until_ms);
        let Some(until_ms) = until_ms.min() else { return };
        let left_ms = u32::try_from(until_ms.saturating_sub(now.at_ms)).unwrap_or(u32::MAX);
        let reason = "these were to be released while the connection was lost";
        self.tell_one(speaker, id, (Vec::new(), revoked), left_ms, reason, out);
    }

    fn is_held_by(&self, key: Key, id: &str) -> bool {
        self.state.holdings.get(&key).is_some_and(|holding| holding.member == id)
    }

    /// Ends a membership at once.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER`.
    pub fn leave(&mut self, now: Now, speaker: ConnectionId, member: &str, out: &mut Outcome) -> Result<(), Failure> {
        self.check_speaker(speaker, member)?;
        let left = Push::Left { group: self.name.clone(), member: member.to_owned() };
        out.pushes.push((speaker, left));
        self.remove_member(now, member, out);
        self.members_went(now, "a member left", out);
        Ok(())
    }

    /// A connection ended: the sessions of its members run from now on.
    pub fn connection_lost(&mut self, now: Now, connection: ConnectionId) {
        for (id, session) in &mut self.sessions {
            if *session == Session::Connected(connection) {
                let timeout_ms = self.state.members.get(id).map_or(0, |member| member.session_timeout_ms);
                *session = Session::Lost { until_ms: now.at_ms + u64::from(timeout_ms) };
            }
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now, retention_us: i64, out: &mut Outcome) {
        let is_over = |session: &Session| matches!(session, Session::Lost { until_ms } if *until_ms <= now.at_ms);
        let expired: Vec<String> =
            self.sessions.iter().filter(|(_, session)| is_over(session)).map(|(id, _)| id.clone()).collect();
        let overdue: Vec<Key> =
            self.releases.iter().filter(|(_, until_ms)| **until_ms <= now.at_ms).map(|(key, _)| *key).collect();
        for id in &expired {
            self.remove_member(now, id, out);
        }
        let overdue: Vec<Key> = overdue.into_iter().filter(|key| self.state.holdings.contains_key(key)).collect();
        self.release(&overdue, out);
        if expired.is_empty() {
            self.settle(now, "a release timeout is over", out);
        } else {
            self.members_went(now, "the session of a member ran out", out);
        }
        let is_dead = self.state.members.is_empty() && !self.state.is_void();
        if is_dead && self.state.touched_at_us.saturating_add(retention_us) <= now.at_us {
            self.happen(GroupForgotten { at_us: now.at_us }, out);
        }
    }

    /// When [`Machine::tick`] wants to be called, if nothing happens before.
    #[must_use]
    pub fn deadline_ms(&self, now: Now, retention_us: i64) -> Option<u64> {
        let sessions = self.sessions.values().filter_map(|session| match session {
            Session::Lost { until_ms } => Some(*until_ms),
            Session::Connected(_) => None,
        });
        let is_dead = self.state.members.is_empty() && !self.state.is_void();
        let expiry = is_dead.then(|| {
            let left_us = self.state.touched_at_us.saturating_add(retention_us).saturating_sub(now.at_us).max(0);
            // Rounded up: who is woken early finds nothing to do.
            now.at_ms.saturating_add(left_us.cast_unsigned().div_ceil(1000))
        });
        sessions.chain(self.releases.values().copied()).chain(expiry).min()
    }

    /// Topics came, went or grew.
    pub fn topics_changed(&mut self, now: Now, catalog: &Catalog, changed: &[u32], out: &mut Outcome) {
        self.forget_offsets(catalog, changed.iter().copied(), out);
        let mut differs = false;
        for topic_id in changed {
            let count = |machine: &Self| machine.readable.get(topic_id).map_or(0, |topic| topic.partition_count);
            let before = count(self);
            self.read_topic(catalog, *topic_id);
            differs |= before != count(self);
        }
        if differs {
            self.raise(out);
            self.plan();
            self.settle(now, "topics changed", out);
        }
        self.forget_if_void(now, out);
    }

    /// Sets stored offsets without a member.
    ///
    /// # Errors
    /// `GROUP_NOT_EMPTY`.
    pub fn reset(&mut self, now: Now, offsets: Vec<PartitionOffset>, out: &mut Outcome) -> Result<(), Failure> {
        self.check_empty()?;
        if !offsets.is_empty() {
            self.happen(OffsetsStored { offsets, at_us: now.at_us }, out);
        }
        Ok(())
    }

    /// Forgets the group.
    ///
    /// # Errors
    /// `GROUP_NOT_EMPTY`.
    pub fn delete(&mut self, now: Now, out: &mut Outcome) -> Result<(), Failure> {
        self.check_empty()?;
        self.happen(GroupForgotten { at_us: now.at_us }, out);
        Ok(())
    }

    /// # Errors
    /// `GROUP_NOT_EMPTY`.
    pub fn check_empty(&self) -> Result<(), Failure> {
        match self.state.members.len() {
            0 => Ok(()),
            count => {
                let (name, s) = (&self.name, if count == 1 { "" } else { "s" });
                let first = format!("`levada group describe {name}` shows who must leave first");
                let message = format!("group {name} has {count} member{s}: {first}");
                Err(Failure::because(ErrorCode::GroupNotEmpty, message).with("member_count", count))
            }
        }
    }

    fn check_speaker(&self, speaker: ConnectionId, member: &str) -> Result<(), Failure> {
        match self.sessions.get(member) {
            Some(Session::Connected(connection)) if *connection == speaker => Ok(()),
            _ => Err(unknown_member(member)),
        }
    }

    /// Takes a member out, with all it held.
    fn remove_member(&mut self, now: Now, id: &str, out: &mut Outcome) {
        self.happen(MemberLeft { member: id.to_owned(), at_us: now.at_us }, out);
        self.sessions.remove(id);
        for topic in self.readable.values_mut() {
            topic.readers.remove(id);
        }
        self.targets.retain(|_, member| member != id);
        let state = &self.state;
        self.releases.retain(|key, _| state.holdings.contains_key(key));
    }

    /// Shares out anew what members left behind.
    fn members_went(&mut self, now: Now, reason: &str, out: &mut Outcome) {
        self.raise(out);
        self.plan();
        self.settle(now, reason, out);
        self.forget_if_void(now, out);
    }

    fn forget_if_void(&mut self, now: Now, out: &mut Outcome) {
        if self.state.is_void() && self.state != GroupState::default() {
            self.happen(GroupForgotten { at_us: now.at_us }, out);
        }
    }

    fn forget_offsets(&mut self, catalog: &Catalog, topics: impl IntoIterator<Item = u32>, out: &mut Outcome) {
        for topic_id in topics {
            let has_any = self.state.offsets.range((topic_id, 0)..=(topic_id, u32::MAX)).next().is_some();
            if has_any && catalog.topic(topic_id).is_none() {
                self.happen(TopicForgotten { topic_id }, out);
            }
        }
    }

    /// Looks up who reads a topic.
    fn read_topic(&mut self, catalog: &Catalog, topic_id: u32) {
        let Some(topic) = catalog.topic(topic_id) else {
            if let Some(gone) = self.readable.get_mut(&topic_id) {
                gone.partition_count = 0;
                gone.readers.clear();
            }
            return;
        };
        let readers = self.state.members.iter().filter(|(_, member)| member.reads(&topic.stream, topic.name()));
        let readers: BTreeSet<String> = readers.map(|(id, _)| id.clone()).collect();
        if readers.is_empty() {
            return;
        }
        let partition_count = topic.partition_count();
        let (stream, name) = (Arc::clone(&topic.stream), topic.name().into());
        self.readable.insert(topic_id, ReadableTopic { stream, topic: name, partition_count, readers });
    }

    /// Looks up what a member reads, which is new or reads other topics than before.
    fn read_topics_of(&mut self, catalog: &Catalog, id: &str) {
        let member = self.state.members.get(id).expect("the member was just written down").clone();
        for (topic_id, topic) in catalog.topics() {
            if member.reads(&topic.stream, topic.name()) {
                let readable = self.readable.entry(topic_id).or_insert_with(|| ReadableTopic {
                    stream: Arc::clone(&topic.stream),
                    topic: topic.name().into(),
                    partition_count: topic.partition_count(),
                    readers: BTreeSet::new(),
                });
                readable.readers.insert(id.to_owned());
            } else if let Some(readable) = self.readable.get_mut(&topic_id) {
                readable.readers.remove(id);
            }
        }
    }

    fn raise(&mut self, out: &mut Outcome) {
        let (generation, strategy) = (self.state.generation + 1, self.state.strategy);
        self.happen(GenerationRaised { generation, strategy }, out);
    }

    /// Decides who is to have each partition.
    fn plan(&mut self) {
        let mut order: Vec<(&str, &String)> =
            self.state.members.iter().map(|(id, member)| (member.instance.as_deref().unwrap_or(id), id)).collect();
        order.sort_unstable();
        let numbers: BTreeMap<&String, usize> = order.iter().enumerate().map(|(at, (_, id))| (*id, at)).collect();
        let topics = self.readable.iter().map(|(topic_id, topic)| {
            let mut readers: Vec<usize> = topic.readers.iter().map(|id| numbers[id]).collect();
            readers.sort_unstable();
            ReadTopic { topic_id: *topic_id, partition_count: topic.partition_count, readers }
        });
        let topics: Vec<ReadTopic> = topics.collect();
        let held = self.targets.iter().filter_map(|(key, id)| Some((*key, *numbers.get(id)?))).collect();
        let shares = assign::assign(self.state.strategy, order.len(), &topics, &held);
        self.targets = shares.into_iter().map(|(key, at)| (key, order[at].1.clone())).collect();
    }

    /// Goes towards the plan: revokes what is to move, gives what is nobody's.
    fn settle(&mut self, now: Now, reason: &str, out: &mut Outcome) {
        let is_astray = |(key, holding): &(&Key, &Holding)| {
            !holding.releasing && self.targets.get(key).is_none_or(|target| *target != holding.member)
        };
        let astray: Vec<Key> = self.state.holdings.iter().filter(is_astray).map(|(key, _)| *key).collect();
        let vacant: Vec<Key> =
            self.targets.keys().filter(|key| !self.state.holdings.contains_key(key)).copied().collect();
        let mut changes: Changes = BTreeMap::new();
        for key in &astray {
            let holding = &self.state.holdings[key];
            let (member, revoked) = (holding.member.clone(), self.assignment(*key, holding));
            self.releases.insert(*key, now.at_ms + self.release_timeout_ms(&member));
            changes.entry(member).or_default().1.push(revoked);
        }
        if !astray.is_empty() {
            self.happen(PartitionsRevoked { partitions: keys(&astray) }, out);
        }
        self.assign_vacant(&vacant, &mut changes, out);
        self.tell(changes, reason, out);
        self.prune();
    }

    /// Gives partitions that are nobody's to those who are to have them.
    fn give(&mut self, _now: Now, vacant: &[Key], reason: &str, out: &mut Outcome) {
        let mut changes = BTreeMap::new();
        self.assign_vacant(vacant, &mut changes, out);
        self.tell(changes, reason, out);
        self.prune();
    }

    fn assign_vacant(&mut self, vacant: &[Key], changes: &mut Changes, out: &mut Outcome) {
        let generation = self.state.generation;
        let assigned = vacant.iter().filter_map(|key| {
            let member = self.targets.get(key)?.clone();
            Some(Assigned { topic_id: key.0, partition: key.1, member, generation, releasing: false })
        });
        let assigned: Vec<Assigned> = assigned.collect();
        if assigned.is_empty() {
            return;
        }
        for Assigned { topic_id, partition, member, .. } in &assigned {
            let holding = Holding { member: member.clone(), generation, releasing: false };
            let assignment = self.assignment((*topic_id, *partition), &holding);
            changes.entry(member.clone()).or_default().0.push(assignment);
        }
        self.happen(PartitionsAssigned { assigned }, out);
    }

    /// Takes partitions from who held them.
    fn release(&mut self, released: &[Key], out: &mut Outcome) {
        if released.is_empty() {
            return;
        }
        for key in released {
            self.releases.remove(key);
        }
        self.happen(PartitionsReleased { partitions: keys(released) }, out);
    }

    /// Forgets topics that nobody reads and nobody holds a part of.
    fn prune(&mut self) {
        let holdings = &self.state.holdings;
        self.readable.retain(|topic_id, topic| {
            !topic.readers.is_empty() || holdings.range((*topic_id, 0)..=(*topic_id, u32::MAX)).next().is_some()
        });
    }

    fn ended(&self, member: &str, message: &str) -> MembershipEnded {
        let failure = Failure::because(ErrorCode::UnknownMember, message).with("member", member);
        let error = failure.to_error();
        MembershipEnded {
            group: self.name.clone(),
            member: member.to_owned(),
            code: error.code,
            class: error.class,
            flags: error.flags,
            message: error.message,
            details: error.details,
        }
    }

    fn live_assignments(&self, id: &str) -> Vec<Assignment> {
        let own = self.state.holdings.iter().filter(|(_, holding)| holding.member == id && !holding.releasing);
        own.map(|(key, holding)| self.assignment(*key, holding)).collect()
    }

    fn assignment(&self, key: Key, holding: &Holding) -> Assignment {
        let (stream, topic) = self
            .readable
            .get(&key.0)
            .map_or_else(Default::default, |topic| (topic.stream.to_string(), topic.topic.to_string()));
        Assignment { topic_id: key.0, stream, topic, partition: key.1, generation: holding.generation }
    }

    fn release_timeout_ms(&self, member: &str) -> u64 {
        self.state.members.get(member).map_or(0, |member| u64::from(member.release_timeout_ms))
    }

    fn happen(&mut self, event: impl Into<GroupEvent>, out: &mut Outcome) {
        let event = event.into();
        self.state.apply(&event).expect("a machine makes events that follow from its state");
        if matches!(event, GroupEvent::GroupForgotten(_)) {
            self.sessions.clear();
            self.readable.clear();
            self.targets.clear();
            self.releases.clear();
        }
        out.events.push(event);
    }
}

fn keys(partitions: &[Key]) -> Vec<PartitionKey> {
    partitions.iter().map(|(topic_id, partition)| PartitionKey { topic_id: *topic_id, partition: *partition }).collect()
}

fn unknown_member(member: &str) -> Failure {
    Failure::new(ErrorCode::UnknownMember).with("member", member)
}

/// `NOT_ASSIGNED`.
#[must_use]
pub fn not_assigned((topic_id, partition): Key, generation: u64) -> Failure {
    let message = format!("partition {partition} is not assigned to this member in generation {generation}");
    let failure = Failure::because(ErrorCode::NotAssigned, message).with("topic", topic_id);
    failure.with("partition", partition).with("generation", generation)
}
