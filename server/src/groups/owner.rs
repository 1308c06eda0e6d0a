//! The owner of groups: one inbox, one loop. It never waits for the disk: what follows from a change is said by the
//! coordinator log when the change is durable. It follows the topics as every core has installed them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use levada_protocol::messages::{
    Committed, GroupDeleted, GroupLeft, OffsetsReset, PositionKind, Request, ResetOffsets,
};
use levada_protocol::{ErrorCode, limits, names};
use levada_storage::{PartitionIdentity, Storage};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::catalog::Catalog;
use super::coordinator::{COORDINATOR_COUNT, Coordinator, Word, coordinator_of};
use super::handle::{GroupsMessage, PositionQuery, Speaker};
use super::machine::{Joining, Machine, Now, Outcome, Push};
use super::record::{encode_record, encode_snapshot};
use super::state::GroupState;
use super::{access, describe, reset};
use crate::admin::{Access, AdminReply};
use crate::auth::Principal;
use crate::broker::{ConnectionId, ShardHandle, ToConnection};
use crate::env::{Clock, Random};
use crate::failure::Failure;
use crate::metadata::state::LEVEL_2;
use crate::metadata::{Layout, Snapshot};
use crate::pattern::TopicPattern;

/// Time after which a log that had no room is asked again.
const RETRY_PERIOD: Duration = Duration::from_millis(20);

type Answer = Result<AdminReply, Failure>;

/// What the owner is told at start.
#[derive(Clone, Debug)]
pub struct GroupsOptions {
    /// Where the coordinator logs are.
    pub layout: Layout,
    /// How long stored offsets of a group outlast its last member and its last commit.
    pub retention: Duration,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// For the ids of members.
    pub random: Arc<dyn Random>,
}

/// What comes back to the owner from the tasks it started.
enum Inner {
    Reset { speaker: Speaker, correlation: u32, group: String, meant: Vec<reset::Meant> },
}

/// A connection that speaks for members.
struct Speaking {
    speaker: Speaker,
    groups: BTreeSet<String>,
}

/// The owner.
pub struct GroupsOwner {
    options: GroupsOptions,
    shards: Arc<[ShardHandle]>,
    installed: watch::Receiver<Arc<Snapshot>>,
    catalog: Catalog,
    coordinators: Vec<Coordinator>,
    groups: BTreeMap<String, Machine>,
    /// When each group wants to be looked at, and the same the other way round.
    deadlines: BTreeSet<(u64, String)>,
    armed: BTreeMap<String, u64>,
    speaking: BTreeMap<ConnectionId, Speaking>,
    started: Instant,
    inner_sender: mpsc::UnboundedSender<Inner>,
    inner: mpsc::UnboundedReceiver<Inner>,
}

impl std::fmt::Debug for GroupsOwner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GroupsOwner").field("group_count", &self.groups.len()).finish_non_exhaustive()
    }
}

impl GroupsOwner {
    /// Opens the coordinator logs. A damaged one freezes its groups only. `installed` is the version of metadata that
    /// every shard has.
    pub async fn open(
        options: GroupsOptions,
        storage: &Storage,
        shards: Arc<[ShardHandle]>,
        mut installed: watch::Receiver<Arc<Snapshot>>,
    ) -> Self {
        let snapshot = Arc::clone(&installed.borrow_and_update());
        let identity = PartitionIdentity {
            cluster_id: snapshot.cluster_id,
            node_id: u64::from(snapshot.node_id),
            ..PartitionIdentity::default()
        };
        let (inner_sender, inner) = mpsc::unbounded_channel();
        let mut owner = Self {
            options,
            shards,
            installed,
            catalog: Catalog::default(),
            coordinators: Vec::new(),
            groups: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            armed: BTreeMap::new(),
            speaking: BTreeMap::new(),
            started: Instant::now(),
            inner_sender,
            inner,
        };
        owner.catalog.follow(&snapshot);
        for number in 0..COORDINATOR_COUNT {
            let layout = owner.options.layout;
            let (coordinator, groups) = Coordinator::open(storage, layout, identity, number).await;
            owner.coordinators.push(coordinator);
            for (name, state) in groups {
                owner.restore(name, state);
            }
        }
        owner
    }

    fn restore(&mut self, name: String, state: GroupState) {
        let mut out = Outcome::default();
        let machine = Machine::restore(name.clone(), state, self.now(), &self.catalog, &mut out);
        self.groups.insert(name.clone(), machine);
        self.record(&name, out, Vec::new());
        self.rearm(&name);
    }

    /// Serves `inbox` until all its senders are gone or `stop` fires, then closes the logs.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<GroupsMessage>, mut stop: oneshot::Receiver<()>) {
        loop {
            let deadline = self.deadlines.first().map(|(at_ms, _)| self.started + Duration::from_millis(*at_ms));
            let has_backlog = self.coordinators.iter().any(Coordinator::has_backlog);
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Ok(()) = self.installed.changed() => self.follow(),
                Some(inner) = self.inner.recv() => self.on_inner(inner),
                () = tokio::time::sleep_until(deadline.unwrap_or(self.started)), if deadline.is_some() => self.tick(),
                () = tokio::time::sleep(RETRY_PERIOD), if has_backlog => {}
                message = inbox.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => break,
                },
            }
            // In every turn: a timer that each message starts anew might never end.
            self.coordinators.iter_mut().for_each(Coordinator::retry);
            self.take_snapshots().await;
        }
        inbox.close();
        while let Some(message) = inbox.recv().await {
            refuse(message);
        }
        for coordinator in self.coordinators {
            coordinator.close().await;
        }
    }

    fn now(&self) -> Now {
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { at_ms, at_us: self.options.clock.now_us() }
    }

    fn retention_us(&self) -> i64 {
        i64::try_from(self.options.retention.as_micros()).unwrap_or(i64::MAX)
    }

    /// Takes over the topics there are now.
    fn follow(&mut self) {
        let snapshot = Arc::clone(&self.installed.borrow_and_update());
        let changed = self.catalog.follow(&snapshot);
        if changed.is_empty() {
            return;
        }
        let names: Vec<String> = self.groups.keys().cloned().collect();
        for name in names {
            let now = self.now();
            let Some(group) = self.groups.get_mut(&name) else { continue };
            let mut out = Outcome::default();
            group.topics_changed(now, &self.catalog, &changed, &mut out);
            if out != Outcome::default() {
                self.conclude(&name, out, Vec::new());
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        let due: Vec<String> =
            self.deadlines.iter().take_while(|(at_ms, _)| *at_ms <= now.at_ms).map(|(_, name)| name.clone()).collect();
        let retention_us = self.retention_us();
        for name in due {
            let Some(group) = self.groups.get_mut(&name) else {
                self.rearm(&name);
                continue;
            };
            let mut out = Outcome::default();
            group.tick(now, retention_us, &mut out);
            self.conclude(&name, out, Vec::new());
        }
    }

    fn on_message(&mut self, message: GroupsMessage) {
        match message {
            GroupsMessage::Request { speaker, principal, correlation, request } => {
                self.on_request(speaker, &principal, correlation, *request);
            }
            GroupsMessage::Position { speaker, correlation, query } => self.on_position(speaker, correlation, &query),
            GroupsMessage::Gone(connection) => {
                let now = self.now();
                let Some(Speaking { groups, .. }) = self.speaking.remove(&connection) else { return };
                for name in groups {
                    if let Some(group) = self.groups.get_mut(&name) {
                        group.connection_lost(now, connection);
                    }
                    self.rearm(&name);
                }
            }
        }
    }

    /// Servers of format level 1 do not read coordinator logs.
    fn check_level(&self, request: &Request) -> Result<(), Failure> {
        match request {
            Request::JoinGroup(_) | Request::Commit(_) | Request::ResetOffsets(_) => {
                self.installed.borrow().require_level(LEVEL_2, "a consumer group")
            }
            _ => Ok(()),
        }
    }

    /// The table of requests. What fails here has changed nothing and is answered at once; what is written down or read is
    /// answered by the log of its group.
    fn on_request(&mut self, speaker: Speaker, principal: &Principal, correlation: u32, request: Request) {
        let allowed = Access::of(&self.installed.borrow(), principal);
        let group = group_of(&request).and_then(|name| self.groups.get(name));
        let may = access::check(&allowed, &self.catalog, group, &request).and_then(|()| self.check_level(&request));
        if let Err(failure) = may {
            return speaker.send(answer(correlation, Err(failure)));
        }
        let outcome = match request {
            Request::ListGroups(_) => return self.list(&allowed, speaker, correlation),
            Request::ResetOffsets(request) => self.start_reset(&speaker, correlation, request),
            Request::DescribeGroup(request) => self.start_describe(&speaker, correlation, &request.group),
            Request::ReadOffsets(request) => self.read_offsets(&request.group, &request.topics).map(|reply| {
                let words = vec![(speaker.clone(), answer(correlation, Ok(reply)))];
                self.coordinators[coordinator_of(&request.group)].say(words);
            }),
            Request::JoinGroup(request) => {
                let group = request.group.clone();
                let new_member = format!("{:016x}", self.options.random.next_u64());
                self.change(&group, &speaker, correlation, |group, now, catalog, out| {
                    let joining = Joining::new(&request, &principal.name, new_member)?;
                    group.join(now, catalog, speaker.connection, joining, out).map(Into::into)
                })
            }
            Request::LeaveGroup(request) => self.change(&request.group, &speaker, correlation, |group, now, _, out| {
                group.leave(now, speaker.connection, &request.member, out)?;
                Ok(GroupLeft {}.into())
            }),
            Request::Commit(request) => {
                self.change(&request.group, &speaker, correlation, |group, now, catalog, out| {
                    group.commit(now, catalog, speaker.connection, &request, out)?;
                    Ok(Committed {}.into())
                })
            }
            Request::DeleteGroup(request) => match self.groups.contains_key(&request.group) {
                true => self.change(&request.group, &speaker, correlation, |group, now, _, out| {
                    group.delete(now, out)?;
                    Ok(GroupDeleted {}.into())
                }),
                false => self.check(&request.group).and_then(|()| Err(not_found(&request.group))),
            },
            other => Err(Failure::new(ErrorCode::UnknownKind).with("kind", other.kind().code())),
        };
        if let Err(failure) = outcome {
            speaker.send(answer(correlation, Err(failure)));
        }
    }

    /// Whether a group of this name can be used now.
    fn check(&self, name: &str) -> Result<(), Failure> {
        names::check(name)?;
        self.coordinators[coordinator_of(name)].check()
    }

    /// Puts something into a group, which comes to be if it was not there.
    fn change(
        &mut self,
        name: &str,
        speaker: &Speaker,
        correlation: u32,
        input: impl FnOnce(&mut Machine, Now, &Catalog, &mut Outcome) -> Answer,
    ) -> Result<(), Failure> {
        self.check(name)?;
        let now = self.now();
        let group = self.groups.entry(name.to_owned()).or_insert_with(|| Machine::new(name));
        let mut out = Outcome::default();
        let outcome = input(group, now, &self.catalog, &mut out);
        match outcome {
            Ok(reply) => {
                if let AdminReply::GroupJoined(_) = &reply {
                    let speaking = self.speaking.entry(speaker.connection);
                    let speaker = speaker.clone();
                    let speaking = speaking.or_insert_with(|| Speaking { speaker, groups: BTreeSet::new() });
                    speaking.groups.insert(name.to_owned());
                }
                self.conclude(name, out, vec![(speaker.clone(), answer(correlation, Ok(reply)))]);
                Ok(())
            }
            Err(failure) => {
                debug_assert!(out.events.is_empty(), "what is refused changes nothing");
                if group.state().is_void() {
                    self.groups.remove(name);
                }
                Err(failure)
            }
        }
    }

    /// Writes down what happened, says what follows, and looks after the group's time.
    fn conclude(&mut self, name: &str, out: Outcome, replies: Vec<Word>) {
        self.record(name, out, replies);
        if self.groups.get(name).is_some_and(|group| group.state().is_void()) {
            self.groups.remove(name);
        }
        self.rearm(name);
    }

    fn record(&mut self, name: &str, out: Outcome, replies: Vec<Word>) {
        let speaking = &self.speaking;
        let to_word = |(connection, push): (ConnectionId, Push)| {
            let Speaking { speaker, .. } = speaking.get(&connection)?;
            Some((speaker.clone(), ToConnection::Group(Box::new(push))))
        };
        // Who leaves is told first, so that its subscriptions have ended when the answer comes.
        let (first, after): (Vec<_>, Vec<_>) =
            out.pushes.into_iter().partition(|(_, push)| matches!(push, Push::Left { .. }));
        let mut words: Vec<Word> = first.into_iter().filter_map(to_word).collect();
        words.extend(replies);
        words.extend(after.into_iter().filter_map(to_word));
        let coordinator = &mut self.coordinators[coordinator_of(name)];
        if !out.events.is_empty() {
            coordinator.append(encode_record(name, &out.events), words);
        } else if !words.is_empty() {
            coordinator.say(words);
        }
    }

    fn rearm(&mut self, name: &str) {
        let now = self.now();
        let wanted = self.groups.get(name).and_then(|group| group.deadline_ms(now, self.retention_us()));
        if self.armed.get(name).copied() == wanted {
            return;
        }
        if let Some(armed) = self.armed.remove(name) {
            self.deadlines.remove(&(armed, name.to_owned()));
        }
        if let Some(wanted) = wanted {
            self.armed.insert(name.to_owned(), wanted);
            self.deadlines.insert((wanted, name.to_owned()));
        }
    }

    fn on_position(&self, speaker: Speaker, correlation: u32, query: &PositionQuery) {
        let key = (query.topic_id, query.partition);
        let assignment = query.assignment.as_ref().map(|(member, generation)| (member.as_str(), *generation));
        let found = self.check(&query.group).and_then(|()| match (self.groups.get(&query.group), assignment) {
            (Some(group), assignment) => group.position(speaker.connection, assignment, key),
            (None, Some((member, _))) => Err(Failure::new(ErrorCode::UnknownMember).with("member", member)),
            (None, None) => Ok(None),
        });
        match found {
            Ok(found) => {
                let words = vec![(speaker, ToConnection::GroupPosition(correlation, Ok(found)))];
                self.coordinators[coordinator_of(&query.group)].say(words);
            }
            Err(failure) => speaker.send(ToConnection::GroupPosition(correlation, Err(failure))),
        }
    }

    fn list(&self, allowed: &Access, speaker: Speaker, correlation: u32) {
        let reply = access::visible(allowed, &self.catalog, self.groups.values());
        let durable: Vec<_> = self.coordinators.iter().map(Coordinator::durable).collect();
        tokio::task::spawn_local(async move {
            for durable in durable {
                if let Err(failure) = durable.await {
                    return speaker.send(answer(correlation, Err(failure)));
                }
            }
            speaker.send(answer(correlation, Ok(reply.into())));
        });
    }

    fn read_offsets(&self, name: &str, topics: &[String]) -> Answer {
        self.check(name)?;
        if limits::MAX_GROUP_TOPICS < topics.len() {
            return Err(Failure::invalid("topics", format!("{} at most", limits::MAX_GROUP_TOPICS)));
        }
        let patterns = topics.iter().map(|text| TopicPattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(describe::offsets(self.groups.get(name), &self.catalog, &patterns).into())
    }

    fn start_describe(&self, speaker: &Speaker, correlation: u32, name: &str) -> Result<(), Failure> {
        self.check(name)?;
        let group = self.groups.get(name).ok_or_else(|| not_found(name))?;
        let (described, partitions) = describe::describe(group, &self.catalog);
        let durable = self.coordinators[coordinator_of(name)].durable();
        let (speaker, shards) = (speaker.clone(), Arc::clone(&self.shards));
        tokio::task::spawn_local(async move {
            let outcome = match durable.await {
                Ok(()) => describe::with_lag(shards, described, partitions).await,
                Err(failure) => Err(failure),
            };
            speaker.send(answer(correlation, outcome.map(Into::into)));
        });
        Ok(())
    }

    /// Finds out what the position comes to; then the request comes back as [`Inner::Reset`].
    fn start_reset(&self, speaker: &Speaker, correlation: u32, request: ResetOffsets) -> Result<(), Failure> {
        self.check(&request.group)?;
        let group = self.groups.get(&request.group);
        group.map_or(Ok(()), Machine::check_empty)?;
        let meant = reset::meant(group, &self.catalog, &request)?;
        debug_assert!(request.position.kind != PositionKind::Stored, "refused above");
        let (speaker, shards, inner) = (speaker.clone(), Arc::clone(&self.shards), self.inner_sender.clone());
        tokio::task::spawn_local(async move {
            match reset::resolve(shards, request.position, meant).await {
                Err(failure) => speaker.send(answer(correlation, Err(failure))),
                Ok(meant) if request.dry_run => {
                    let changes = meant.into_iter().map(|(_, change)| change).collect();
                    speaker.send(answer(correlation, Ok(OffsetsReset { changes }.into())));
                }
                Ok(meant) => {
                    let group = request.group;
                    let back = Inner::Reset { speaker, correlation, group, meant };
                    if let Err(mpsc::error::SendError(Inner::Reset { speaker, .. })) = inner.send(back) {
                        speaker.send(answer(correlation, Err(Failure::new(ErrorCode::ShuttingDown))));
                    }
                }
            }
        });
        Ok(())
    }

    fn on_inner(&mut self, inner: Inner) {
        let Inner::Reset { speaker, correlation, group, mut meant } = inner;
        // Topics may have gone, and commits may have come, while the shards were asked.
        meant.retain(|(topic_id, _)| self.catalog.topic(*topic_id).is_some());
        let outcome = self.change(&group, &speaker, correlation, |group, now, _, out| {
            for (topic_id, change) in &mut meant {
                let stored = group.state().offsets.get(&(*topic_id, change.partition));
                change.before = stored.map(|stored| stored.offset);
            }
            group.reset(now, reset::to_store(&meant), out)?;
            Ok(OffsetsReset { changes: meant.into_iter().map(|(_, change)| change).collect() }.into())
        });
        if let Err(failure) = outcome {
            speaker.send(answer(correlation, Err(failure)));
        }
    }

    async fn take_snapshots(&mut self) {
        for (number, coordinator) in self.coordinators.iter_mut().enumerate() {
            if coordinator.wants_snapshot() {
                let own = self.groups.iter().filter(|(name, _)| coordinator_of(name) == number);
                let own: Vec<_> = own.map(|(name, group)| (name.as_str(), group.state())).collect();
                coordinator.snapshot(encode_snapshot(own.into_iter())).await;
            }
        }
    }
}

fn answer(correlation: u32, outcome: Answer) -> ToConnection {
    ToConnection::Admin(correlation, outcome.map(Box::new))
}

fn not_found(group: &str) -> Failure {
    Failure::because(ErrorCode::GroupNotFound, format!("no group {group}")).with("group", group)
}

/// Answers what nobody will look at any more.
fn refuse(message: GroupsMessage) {
    let failure = Failure::new(ErrorCode::ShuttingDown);
    match message {
        GroupsMessage::Request { speaker, correlation, .. } => speaker.send(answer(correlation, Err(failure))),
        GroupsMessage::Position { speaker, correlation, .. } => {
            speaker.send(ToConnection::GroupPosition(correlation, Err(failure)));
        }
        GroupsMessage::Gone(_) => {}
    }
}

/// The group that a request is about.
fn group_of(request: &Request) -> Option<&str> {
    match request {
        Request::ReadOffsets(request) => Some(&request.group),
        Request::ResetOffsets(request) => Some(&request.group),
        Request::DescribeGroup(request) => Some(&request.group),
        Request::DeleteGroup(request) => Some(&request.group),
        Request::JoinGroup(request) => Some(&request.group),
        Request::Commit(request) => Some(&request.group),
        _ => None,
    }
}
