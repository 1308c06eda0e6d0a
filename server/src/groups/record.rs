//! Everything that can happen to a group and lasts, and its byte form in a coordinator log.
//!
//! A record of the log is what happened to one group at once: a list of events that hold together or not at all. Record:
//! u16 format (1), name of the group, u32 count, then per event u16 kind, u16 version, u32 length, fields. A kind's number
//! and the fields of a version never change; a new field is a new version. An unknown kind or version refuses the record.
//! A snapshot is u16 format (1), u32 count, then the groups, each with its name.

use std::collections::BTreeMap;

use super::assign::Strategy;
use super::state::GroupState;
use crate::metadata::codec::{CodecError, Input, Stored, get_events, put_events, stored_events, stored_struct};
use crate::pattern::TopicPattern;

const RECORD_FORMAT: u16 = 1;
const SNAPSHOT_FORMAT: u16 = 1;

impl Stored for Strategy {
    fn put(&self, out: &mut Vec<u8>) {
        let number: u8 = match self {
            Self::Sticky => 0,
            Self::Range => 1,
            Self::RoundRobin => 2,
        };
        number.put(out);
    }

    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        match u8::get(input)? {
            0 => Ok(Self::Sticky),
            1 => Ok(Self::Range),
            2 => Ok(Self::RoundRobin),
            other => Err(CodecError::UnknownValue(other, "Strategy")),
        }
    }
}

impl Stored for TopicPattern {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_str().to_owned().put(out);
    }

    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        Self::parse(&String::get(input)?).map_err(|_| CodecError::UnknownValue(0, "a pattern of topics"))
    }
}

impl Stored for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        match u8::get(input)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(CodecError::UnknownValue(other, "yes or no")),
        }
    }
}

stored_struct! {
    /// A partition and who got it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    Assigned {
        /// Id of its topic.
        topic_id: u32,
        /// Its number.
        partition: u32,
        /// Whose it is.
        member: String,
        /// Of the assignment.
        generation: u64,
        /// Whether it is being released.
        releasing: bool,
    }
}

stored_struct! {
    /// A partition.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    PartitionKey {
        /// Id of its topic.
        topic_id: u32,
        /// Its number.
        partition: u32,
    }
}

stored_struct! {
    /// An offset of a partition.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    PartitionOffset {
        /// Id of its topic.
        topic_id: u32,
        /// Its number.
        partition: u32,
        /// Of the next message to be read.
        offset: u64,
        /// Leader epoch of the last message done, if there is one.
        epoch: Option<u32>,
    }
}

stored_events! {
    /// Something that happened to a group.
    GroupEvent {
        /// The members or the partitions changed.
        1 v 1 GenerationRaised {
            /// The new one.
            generation: u64,
            /// How partitions are shared out in it.
            strategy: Strategy,
        }
        /// A member joined, or an earlier one reads other topics or waits for other times.
        2 v 1 MemberJoined {
            /// Its id.
            member: String,
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
        /// A member is none any more; what it held is nobody's.
        3 v 1 MemberLeft {
            /// Its id.
            member: String,
            /// Microseconds since the Unix epoch.
            at_us: i64,
        }
        /// A static member took over from the one before it under the same name.
        4 v 1 MemberReplaced {
            /// Id of the earlier one.
            before: String,
            /// Id of the new one, which holds what the earlier one held.
            after: String,
        }
        /// Members got partitions.
        5 v 1 PartitionsAssigned {
            /// Which, and who.
            assigned: Vec<Assigned>,
        }
        /// Partitions are to be released by who holds them.
        6 v 1 PartitionsRevoked {
            /// Which.
            partitions: Vec<PartitionKey>,
        }
        /// Partitions are nobody's.
        7 v 1 PartitionsReleased {
            /// Which.
            partitions: Vec<PartitionKey>,
        }
        /// Offsets were stored.
        8 v 1 OffsetsStored {
            /// Of each partition.
            offsets: Vec<PartitionOffset>,
            /// Microseconds since the Unix epoch.
            at_us: i64,
        }
        /// The offsets of a topic went with it.
        9 v 1 TopicForgotten {
            /// Its id.
            topic_id: u32,
        }
        /// The group and all of it is gone: deleted, expired, or nothing was left of it.
        10 v 1 GroupForgotten {
            /// Microseconds since the Unix epoch.
            at_us: i64,
        }
    }
}

/// The byte form of what happened to a group at once.
#[must_use]
pub fn encode_record(group: &str, events: &[GroupEvent]) -> Vec<u8> {
    let mut out = Vec::new();
    RECORD_FORMAT.put(&mut out);
    group.to_owned().put(&mut out);
    put_events(events, &mut out);
    out
}

/// Reads what happened to a group at once.
///
/// # Errors
/// Whatever is malformed or unknown.
pub fn decode_record(bytes: &[u8]) -> Result<(String, Vec<GroupEvent>), CodecError> {
    let mut input = Input(bytes);
    let format = u16::get(&mut input)?;
    if format != RECORD_FORMAT {
        return Err(CodecError::UnknownEvent { kind: 0, version: format });
    }
    let group = String::get(&mut input)?;
    Ok((group, get_events(input)?))
}

/// The byte form of all groups of a log.
#[must_use]
pub fn encode_snapshot<'a>(groups: impl ExactSizeIterator<Item = (&'a str, &'a GroupState)>) -> Vec<u8> {
    let mut out = Vec::new();
    SNAPSHOT_FORMAT.put(&mut out);
    u32::try_from(groups.len()).expect("groups are counted with 32 bits").put(&mut out);
    for (name, group) in groups {
        name.to_owned().put(&mut out);
        group.put(&mut out);
    }
    out
}

/// Reads all groups of a log.
///
/// # Errors
/// Whatever is malformed or unknown.
pub fn decode_snapshot(bytes: &[u8]) -> Result<BTreeMap<String, GroupState>, CodecError> {
    let mut input = Input(bytes);
    let format = u16::get(&mut input)?;
    if format != SNAPSHOT_FORMAT {
        return Err(CodecError::UnknownSnapshot(format));
    }
    let count = u32::get(&mut input)?;
    let mut groups = BTreeMap::new();
    for _ in 0..count {
        let name = String::get(&mut input)?;
        groups.insert(name, GroupState::get(&mut input)?);
    }
    input.finish()?;
    Ok(groups)
}
