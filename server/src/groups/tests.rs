//! The machine of a group against hundreds of random changes, and the bytes of its records.

use std::collections::{BTreeMap, BTreeSet};

use levada_protocol::ErrorCode;
use levada_protocol::messages::{Assignment, Commit, CommitOffset, JoinGroup, Strategy};
use proptest::prelude::*;

use super::assign::Key;
use super::catalog::Catalog;
use super::machine::{Joining, Machine, Now, Outcome, Push};
use super::record::{decode_record, decode_snapshot, encode_record, encode_snapshot};
use super::state::GroupState;
use crate::broker::ConnectionId;

const CHANGES: usize = 500;
const MEMBERS: usize = 8;
const SESSION_MS: u32 = 10_000;
const RELEASE_MS: u32 = 5_000;
const RETENTION_US: i64 = i64::MAX;

/// What a client believes of one membership.
#[derive(Default)]
struct Belief {
    connection: Option<ConnectionId>,
    topics: Vec<String>,
    held: BTreeMap<Key, u64>,
    revoked: BTreeMap<Key, u64>,
}

/// A group, the topics it reads, what its members believe, and what must stay true.
struct World {
    machine: Machine,
    /// What the records say: must be what the machine says.
    replica: GroupState,
    catalog: Catalog,
    topics: BTreeMap<u32, u32>,
    now_ms: u64,
    next_connection: u64,
    next_member: u64,
    members: BTreeMap<String, Belief>,
    /// Whoever got a partition in a generation: nobody else ever does.
    owners: BTreeMap<(Key, u64), String>,
    /// Assignments that have ended, and who had them.
    ended: Vec<(String, Key, u64)>,
    random: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            machine: Machine::new("g"),
            replica: GroupState::default(),
            catalog: Catalog::default(),
            topics: BTreeMap::new(),
            now_ms: 0,
            next_connection: 1,
            next_member: 1,
            members: BTreeMap::new(),
            owners: BTreeMap::new(),
            ended: Vec::new(),
            random: seed,
        };
        world.set_topic(1, 6);
        world.set_topic(2, 3);
        world
    }

    fn below(&mut self, end: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).expect("below a usize")
    }

    fn now(&self) -> Now {
        Now { at_ms: self.now_ms, at_us: i64::try_from(self.now_ms).expect("a short test") * 1000 }
    }

    fn any<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len())].clone())
    }

    fn any_member(&mut self, is_meant: impl Fn(&Belief) -> bool) -> Option<String> {
        let meant: Vec<String> =
            self.members.iter().filter(|(_, belief)| is_meant(belief)).map(|(id, _)| id.clone()).collect();
        self.any(&meant)
    }

    // ------------------------------------------------------------ changes

    fn join(&mut self, member: Option<String>) {
        let topics = match &member {
            Some(id) => self.members[id].topics.clone(),
            None => match self.below(3) {
                0 => vec!["s/t1".to_owned()],
                1 => vec!["s/t1".to_owned(), "s/t2".to_owned()],
                _ => vec!["s/*".to_owned()],
            },
        };
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let request = JoinGroup {
            group: "g".into(),
            member: member.clone().unwrap_or_default(),
            instance: None,
            topics: topics.clone(),
            strategy: Strategy::Sticky,
            session_timeout_ms: SESSION_MS,
            release_timeout_ms: RELEASE_MS,
        };
        let new_member = format!("m{}", self.next_member);
        self.next_member += 1;
        let joining = Joining::new(&request, "u", new_member).expect("a proper request");
        let mut out = Outcome::default();
        let now = self.now();
        match self.machine.join(now, &self.catalog, connection, joining, &mut out) {
            Ok(joined) => {
                let belief = self.members.entry(joined.member.clone()).or_default();
                belief.connection = Some(connection);
                belief.topics = topics;
                // What it held before and is not told again has moved on.
                let before = std::mem::take(&mut belief.held);
                let told: BTreeMap<Key, u64> = joined.assignments.iter().map(place).collect();
                belief.held = told.clone();
                for (key, generation) in before {
                    if told.get(&key) != Some(&generation) {
                        belief.revoked.insert(key, generation);
                    }
                }
                for (key, generation) in told {
                    self.owned(key, generation, &joined.member);
                }
            }
            Err(failure) => {
                let id = member.expect("a new member is welcome");
                assert_eq!(failure.code, ErrorCode::UnknownMember);
                self.forget(&id);
            }
        }
        self.after(out);
    }

    fn leave(&mut self, id: &str) {
        let mut out = Outcome::default();
        let connection = self.members[id].connection.expect("only who is connected leaves");
        let now = self.now();
        self.machine.leave(now, connection, id, &mut out).expect("it is a member");
        self.forget(id);
        self.after(out);
    }

    fn lose(&mut self, id: &str) {
        let belief = self.members.get_mut(id).expect("a member of the test");
        let connection = belief.connection.take().expect("only who is connected is lost");
        let now = self.now();
        self.machine.connection_lost(now, connection);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let mut out = Outcome::default();
        let now = self.now();
        self.machine.tick(now, RETENTION_US, &mut out);
        self.after(out);
    }

    fn set_topic(&mut self, topic_id: u32, partition_count: u32) {
        if partition_count == 0 {
            self.topics.remove(&topic_id);
        } else {
            self.topics.insert(topic_id, partition_count);
        }
        let changed = self.catalog.set(topic_id, "s", &format!("t{topic_id}"), partition_count);
        let mut out = Outcome::default();
        let now = self.now();
        self.machine.topics_changed(now, &self.catalog, &changed, &mut out);
        self.after(out);
    }

    fn try_commit(&mut self, id: &str, offset: CommitOffset) -> Result<(), ErrorCode> {
        let connection = self.members.get(id).and_then(|belief| belief.connection).unwrap_or(ConnectionId(0));
        let commit = Commit { group: "g".into(), member: Some(id.to_owned()), offsets: vec![offset] };
        let mut out = Outcome::default();
        let before = self.machine.state().clone();
        let now = self.now();
        let outcome = self.machine.commit(now, &self.catalog, connection, &commit, &mut out);
        if outcome.is_err() {
            assert_eq!((&before, out.events.len()), (self.machine.state(), 0), "what is refused changes nothing");
        }
        self.after(out);
        outcome.map_err(|failure| failure.code)
    }

    fn commit_own(&mut self) {
        let Some(id) = self.any_member(|belief| belief.connection.is_some() && !belief.held.is_empty()) else { return };
        let held: Vec<(Key, u64)> =
            self.members[&id].held.iter().map(|(key, generation)| (*key, *generation)).collect();
        let (key, generation) = self.any(&held).expect("it holds something");
        let stored = self.machine.state().offsets.get(&key).map_or(0, |stored| stored.offset);
        let offset = stored + self.below(5) as u64;
        assert_eq!(self.try_commit(&id, commit_of(key, generation, offset, false)), Ok(()));
        if 0 < offset {
            let back = self.try_commit(&id, commit_of(key, generation, offset - 1, false));
            assert_eq!(back, Err(ErrorCode::OffsetRegression));
        }
    }

    fn release(&mut self, id: &str) {
        let revoked: Vec<(Key, u64)> =
            self.members[id].revoked.iter().map(|(key, generation)| (*key, *generation)).collect();
        for (key, generation) in revoked {
            let stored = self.machine.state().offsets.get(&key).map_or(0, |stored| stored.offset);
            // It may have been too slow: then nothing of it is taken.
            let outcome = self.try_commit(id, commit_of(key, generation, stored, true));
            assert!(matches!(outcome, Ok(()) | Err(ErrorCode::NotAssigned)), "{outcome:?}");
            if let Some(belief) = self.members.get_mut(id) {
                belief.revoked.remove(&key);
            }
            self.ended.push((id.to_owned(), key, generation));
        }
    }

    fn commit_stale(&mut self) {
        let ended = self.ended.clone();
        let Some((id, key, generation)) = self.any(&ended) else { return };
        let outcome = self.try_commit(&id, commit_of(key, generation, u64::MAX / 2, false));
        assert!(
            matches!(outcome, Err(ErrorCode::NotAssigned | ErrorCode::UnknownMember)),
            "{id} had {key:?} in {generation}, and its commit: {outcome:?}"
        );
    }

    // ------------------------------------------------------------ what follows

    fn forget(&mut self, id: &str) {
        let Some(belief) = self.members.remove(id) else { return };
        for (key, generation) in belief.held.into_iter().chain(belief.revoked) {
            self.ended.push((id.to_owned(), key, generation));
        }
    }

    fn owned(&mut self, key: Key, generation: u64, member: &str) {
        let owner = self.owners.entry((key, generation)).or_insert_with(|| member.to_owned());
        assert_eq!(owner, member, "{key:?} has one owner in generation {generation}");
    }

    /// Takes over what members are told, and looks at what must hold after every change.
    fn after(&mut self, out: Outcome) {
        if !out.events.is_empty() {
            let bytes = encode_record("g", &out.events);
            assert_eq!(decode_record(&bytes).expect("its own bytes"), ("g".to_owned(), out.events.clone()));
        }
        let before = self.replica.offsets.clone();
        for event in &out.events {
            self.replica.apply(event).expect("what happens can happen");
        }
        assert_eq!(&self.replica, self.machine.state());
        for (key, stored) in &before {
            let now = self.replica.offsets.get(key);
            assert!(now.is_none_or(|now| stored.offset <= now.offset), "the offset of {key:?} went back");
        }
        for (_, push) in out.pushes {
            match push {
                Push::Changed(changed) => {
                    for (key, generation) in changed.assigned.iter().map(place) {
                        self.owned(key, generation, &changed.member);
                        let belief = self.members.entry(changed.member.clone()).or_default();
                        belief.held.insert(key, generation);
                        belief.revoked.remove(&key);
                    }
                    for (key, generation) in changed.revoked.iter().map(place) {
                        if let Some(belief) = self.members.get_mut(&changed.member) {
                            belief.held.remove(&key);
                            belief.revoked.insert(key, generation);
                        }
                    }
                }
                Push::Ended(ended) => self.forget(&ended.member),
                Push::Left { member, .. } => self.forget(&member),
            }
        }
        // A group that is forgotten begins anew; ids of members, which never come twice, part it from the one before.
        if self.machine.state().is_void() {
            self.owners.clear();
        }
        // Whose session ran out is told nothing: it is not there.
        let gone: Vec<String> =
            self.members.keys().filter(|id| !self.replica.members.contains_key(*id)).cloned().collect();
        for id in gone {
            self.forget(&id);
        }
    }

    fn step(&mut self) {
        match self.below(12) {
            0 | 1 if self.members.len() < MEMBERS => self.join(None),
            2 => {
                if let Some(id) = self.any_member(|belief| belief.connection.is_some()) {
                    self.leave(&id);
                }
            }
            3 => {
                if let Some(id) = self.any_member(|belief| belief.connection.is_some()) {
                    self.lose(&id);
                }
            }
            4 => {
                if let Some(id) = self.any_member(|belief| belief.connection.is_none()) {
                    self.join(Some(id));
                }
            }
            5 => {
                let ms = self.below(6_000) as u64;
                self.pass(ms);
            }
            6 => {
                let (topic_id, count) = (1 + self.below(3), self.below(8));
                let topic_id = u32::try_from(topic_id).expect("1 to 3");
                let count = u32::try_from(count).expect("0 to 7");
                // A topic only grows, or goes.
                let known = self.topics.get(&topic_id).copied().unwrap_or(0);
                self.set_topic(topic_id, if count == 0 { 0 } else { count.max(known) });
            }
            7 | 8 => self.commit_own(),
            9 => self.commit_stale(),
            _ => {
                if let Some(id) = self.any_member(|belief| belief.connection.is_some() && !belief.revoked.is_empty()) {
                    self.release(&id);
                }
            }
        }
    }

    /// Everybody comes back and releases what it is to release; then every partition that somebody reads has its member.
    fn settle(&mut self) {
        let lost: Vec<String> =
            self.members.iter().filter(|(_, b)| b.connection.is_none()).map(|(id, _)| id.clone()).collect();
        for id in lost {
            self.join(Some(id));
        }
        self.pass(u64::from(RELEASE_MS) + 1);
        self.pass(u64::from(RELEASE_MS) + 1);
        assert!(self.machine.is_settled());
        let wanted: BTreeSet<Key> = self.machine.read_partitions().collect();
        let held: BTreeSet<Key> = self.machine.state().holdings.keys().copied().collect();
        assert_eq!(held, wanted, "every partition that somebody reads is held");
        for (key, holding) in &self.machine.state().holdings {
            let topic = self.catalog.topic(key.0).expect("a topic that is read is there");
            assert!(self.machine.state().members[&holding.member].reads(&topic.stream, topic.name()));
            assert!(!holding.releasing);
        }
    }
}

fn place(assignment: &Assignment) -> (Key, u64) {
    ((assignment.topic_id, assignment.partition), assignment.generation)
}

fn commit_of((topic_id, partition): Key, generation: u64, offset: u64, release: bool) -> CommitOffset {
    CommitOffset { topic_id, partition, generation, offset, epoch: Some(1), rewind: false, release }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_partition_has_two_owners_and_no_stale_commit_is_taken(seed in any::<u64>()) {
        let mut world = World::new(seed);
        for _ in 0..CHANGES {
            world.step();
        }
        world.settle();
        let (name, state) = ("g", world.machine.state());
        let snapshot = encode_snapshot([(name, state)].into_iter());
        let read = decode_snapshot(&snapshot).expect("its own bytes");
        prop_assert_eq!(read.get(name), Some(state));
    }

    #[test]
    fn a_record_that_is_cut_or_longer_is_refused(cut in 1_usize..40, more in 1_usize..40) {
        let mut world = World::new(7);
        world.join(None);
        let record = encode_snapshot([("g", world.machine.state())].into_iter());
        prop_assert!(decode_snapshot(&record[..record.len() - cut.min(record.len())]).is_err());
        let longer: Vec<u8> = record.iter().copied().chain(std::iter::repeat_n(0, more)).collect();
        prop_assert!(decode_snapshot(&longer).is_err());
    }
}

#[test]
fn every_prefix_of_a_record_is_refused() {
    let mut world = World::new(7);
    world.join(None);
    world.join(None);
    let snapshot = encode_snapshot([("g", world.machine.state())].into_iter());
    for end in 0..snapshot.len() {
        assert!(decode_snapshot(&snapshot[..end]).is_err(), "{end} bytes of {}", snapshot.len());
    }
}
