//! What lasts of a group, and the one function that changes it: members, who holds which partition, stored offsets.
//!
//! Invariants: only members hold partitions; generations only grow. An event that breaks one is refused: the log is damaged
//! or the owner has a defect.

use std::collections::BTreeMap;

use super::assign::{Key, Strategy};
use super::record::{Assigned, GroupEvent, PartitionKey};
use crate::metadata::codec::{CodecError, Input, Stored, stored_struct};
use crate::metadata::state::Contradiction;
use crate::pattern::TopicPattern;

stored_struct! {
    /// A member, as far as it lasts: its connection does not.
    #[derive(Clone, Debug, PartialEq, Eq)]
    Member {
        /// Name of a static member.
        instance: Option<String>,
        /// Whom it speaks for.
        user: String,
        /// What it reads.
        topics: Vec<TopicPattern>,
        /// How long it stays a member without a connection.
        session_timeout_ms: u32,
        /// How long it may take to release what is revoked.
        release_timeout_ms: u32,
    }
}

impl Member {
    /// Whether it reads a topic.
    #[must_use]
    pub fn reads(&self, stream: &str, topic: &str) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(stream, topic))
    }
}

stored_struct! {
    /// An assignment.
    #[derive(Clone, Debug, PartialEq, Eq)]
    Holding {
        /// Whose.
        member: String,
        /// In which the member got it.
        generation: u64,
        /// Whether the member has been told to release it.
        releasing: bool,
    }
}

stored_struct! {
    /// How far a partition is done.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    StoredPosition {
        /// Of the next message to be read.
        offset: u64,
        /// Leader epoch of the last message done, if there is one.
        epoch: Option<u32>,
        /// Microseconds since the Unix epoch.
        at_us: i64,
    }
}

/// A group, as far as it lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Raised by every change of members or partitions.
    pub generation: u64,
    /// How partitions are shared out.
    pub strategy: Strategy,
    /// Members by id.
    pub members: BTreeMap<String, Member>,
    /// Who holds what.
    pub holdings: BTreeMap<Key, Holding>,
    /// What is stored.
    pub offsets: BTreeMap<Key, StoredPosition>,
    /// The last commit or the end of the last membership, in microseconds since the Unix epoch.
    pub touched_at_us: i64,
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Contradiction> {
    if holds { Ok(()) } else { Err(Contradiction(what())) }
}

impl GroupState {
    /// Applies one event.
    ///
    /// # Errors
    /// When the event cannot have happened in this state.
    pub fn apply(&mut self, event: &GroupEvent) -> Result<(), Contradiction> {
        match event {
            GroupEvent::GenerationRaised(raised) => {
                ensure(self.generation < raised.generation, || format!("generation {} again", raised.generation))?;
                self.generation = raised.generation;
                self.strategy = raised.strategy;
            }
            GroupEvent::MemberJoined(joined) => {
                let member = Member {
                    instance: joined.instance.clone(),
                    user: joined.user.clone(),
                    topics: joined.topics.clone(),
                    session_timeout_ms: joined.session_timeout_ms,
                    release_timeout_ms: joined.release_timeout_ms,
                };
                self.members.insert(joined.member.clone(), member);
            }
            GroupEvent::MemberLeft(left) => {
                ensure(self.members.remove(&left.member).is_some(), || format!("no member {}", left.member))?;
                self.holdings.retain(|_, holding| holding.member != left.member);
                self.touched_at_us = self.touched_at_us.max(left.at_us);
            }
            GroupEvent::MemberReplaced(replaced) => {
                let member = self.members.remove(&replaced.before);
                let member = member.ok_or_else(|| Contradiction(format!("no member {}", replaced.before)))?;
                self.members.insert(replaced.after.clone(), member);
                for holding in self.holdings.values_mut().filter(|holding| holding.member == replaced.before) {
                    holding.member.clone_from(&replaced.after);
                }
            }
            GroupEvent::PartitionsAssigned(event) => {
                for Assigned { topic_id, partition, member, generation, releasing } in &event.assigned {
                    ensure(self.members.contains_key(member), || format!("no member {member}"))?;
                    let holding = Holding { member: member.clone(), generation: *generation, releasing: *releasing };
                    let earlier = self.holdings.insert((*topic_id, *partition), holding);
                    ensure(earlier.is_none(), || format!("partition {topic_id}/{partition} was held"))?;
                }
            }
            GroupEvent::PartitionsRevoked(revoked) => {
                for PartitionKey { topic_id, partition } in &revoked.partitions {
                    let holding = self.holdings.get_mut(&(*topic_id, *partition));
                    holding.ok_or_else(|| not_held(*topic_id, *partition))?.releasing = true;
                }
            }
            GroupEvent::PartitionsReleased(released) => {
                for PartitionKey { topic_id, partition } in &released.partitions {
                    let holding = self.holdings.remove(&(*topic_id, *partition));
                    holding.ok_or_else(|| not_held(*topic_id, *partition))?;
                }
            }
            GroupEvent::OffsetsStored(stored) => {
                for offset in &stored.offsets {
                    let position = StoredPosition { offset: offset.offset, epoch: offset.epoch, at_us: stored.at_us };
                    self.offsets.insert((offset.topic_id, offset.partition), position);
                }
                self.touched_at_us = self.touched_at_us.max(stored.at_us);
            }
            GroupEvent::TopicForgotten(forgotten) => self.offsets.retain(|key, _| key.0 != forgotten.topic_id),
            GroupEvent::GroupForgotten(_) => *self = Self::default(),
        }
        Ok(())
    }

    /// Whether nothing is left of it.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.members.is_empty() && self.offsets.is_empty()
    }
}

fn not_held(topic_id: u32, partition: u32) -> Contradiction {
    Contradiction(format!("partition {topic_id}/{partition} was nobody's"))
}

impl Stored for GroupState {
    fn put(&self, out: &mut Vec<u8>) {
        self.generation.put(out);
        self.strategy.put(out);
        self.touched_at_us.put(out);
        put_map(&self.members, out);
        put_map(&self.holdings, out);
        put_map(&self.offsets, out);
    }

    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let generation = u64::get(input)?;
        let strategy = Strategy::get(input)?;
        let touched_at_us = i64::get(input)?;
        let (members, holdings, offsets) = (get_map(input)?, get_map(input)?, get_map(input)?);
        Ok(Self { generation, strategy, members, holdings, offsets, touched_at_us })
    }
}

impl Stored for Key {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        Ok((u32::get(input)?, u32::get(input)?))
    }
}

fn put_map<K: Stored, V: Stored>(map: &BTreeMap<K, V>, out: &mut Vec<u8>) {
    u32::try_from(map.len()).expect("members and partitions are counted with 32 bits").put(out);
    for (key, value) in map {
        key.put(out);
        value.put(out);
    }
}

fn get_map<K: Stored + Ord, V: Stored>(input: &mut Input<'_>) -> Result<BTreeMap<K, V>, CodecError> {
    let count = u32::get(input)?;
    let mut map = BTreeMap::new();
    for _ in 0..count {
        map.insert(K::get(input)?, V::get(input)?);
    }
    Ok(map)
}
