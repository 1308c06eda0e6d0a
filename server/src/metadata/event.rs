//! Everything that can happen to metadata, and its byte form in the metadata log.
//!
//! A record of the log is one change: a list of events that hold together or not at all. Record: u16 format (1), u32 count,
//! then per event u16 kind, u16 version, u32 length, fields. A kind's number and the fields of a version never change; a new
//! field is a new version. An unknown kind or version refuses the record: it was written by a newer server.

use crate::metadata::access::{Grant, Quota};
use crate::metadata::codec::{CodecError, Input, Stored, get_events, put_events, stored_events};
use crate::metadata::model::{Role, TopicOptions, TopicSupplement};

const RECORD_FORMAT: u16 = 1;

stored_events! {
    /// Something that happened to metadata.
    Event {
        /// A data directory began. The first event of every log.
        1 v 1 ClusterBorn {
            /// Random; in every segment header.
            cluster_id: u128,
            /// This node.
            node_id: u32,
            /// Formats this directory may be written with.
            format_level: u32,
            /// Microseconds since the Unix epoch.
            at_us: i64,
        }
        /// The directory may be written with formats that servers before do not know.
        2 v 1 FormatLevelRaised {
            /// The new level.
            format_level: u32,
            /// Microseconds since the Unix epoch.
            at_us: i64,
        }
        /// A stream was created.
        3 v 1 StreamCreated {
            /// Its id.
            stream_id: u32,
            /// Its name.
            name: String,
            /// Microseconds since the Unix epoch.
            at_us: i64,
        }
        /// A stream without topics was deleted.
        4 v 1 StreamDeleted {
            /// Which.
            stream_id: u32,
        }
        /// A topic was created.
        5 v 1 TopicCreated {
            /// Its id.
            topic_id: u32,
            /// Its stream.
            stream_id: u32,
            /// Its name.
            name: String,
            /// Its settings.
            options: TopicOptions,
            /// Microseconds since the Unix epoch.
            at_us: i64,
        }
        /// A topic's settings changed.
        6 v 1 TopicAltered {
            /// Which.
            topic_id: u32,
            /// All settings, after the change.
            options: TopicOptions,
        }
        /// A topic was deleted; its files may still be there. The tombstone without which nothing is ever removed.
        7 v 1 TopicDeleted {
            /// Which.
            topic_id: u32,
        }
        /// The files of a deleted topic are gone.
        8 v 1 TopicRemoved {
            /// Which.
            topic_id: u32,
        }
        /// A user was created. It has what every member had before there were grants, until an [`AccessSet`] says otherwise.
        9 v 1 UserCreated {
            /// Its id.
            user_id: u32,
            /// Its name.
            name: String,
            /// What it may do.
            role: Role,
            /// Argon2id in PHC form.
            password_hash: String,
            /// Microseconds since the Unix epoch.
            at_us: i64,
        }
        /// A user's password or role changed.
        10 v 1 UserAltered {
            /// Which.
            user_id: u32,
            /// The new hash; absent leaves it.
            password_hash: Option<String>,
            /// The new role; absent leaves it.
            role: Option<Role>,
        }
        /// A user was deleted with its tokens.
        11 v 1 UserDeleted {
            /// Which.
            user_id: u32,
        }
        /// A token was created.
        12 v 1 TokenCreated {
            /// Its id.
            token_id: u32,
            /// Whose it is.
            user_id: u32,
            /// Its name.
            name: String,
            /// SHA-256 of its secret.
            digest: [u8; 32],
            /// Microseconds since the Unix epoch.
            at_us: i64,
            /// When it ends to be valid.
            expires_at_us: Option<i64>,
        }
        /// A token was revoked.
        13 v 1 TokenDeleted {
            /// Which.
            token_id: u32,
        }
        /// Producer ids up to this one (exclusive) may have been given out.
        14 v 1 ProducerIdBlock {
            /// First id of the next block.
            next_producer_id: u64,
        }
        /// A producer took a further epoch.
        15 v 1 ProducerEpochRaised {
            /// Which.
            producer_id: u64,
            /// The epoch it took.
            epoch: u32,
            /// Microseconds since the Unix epoch.
            at_us: i64,
        }
        /// What a member may do was replaced.
        32 v 1 AccessSet {
            /// Whose.
            user_id: u32,
            /// Named roles it has.
            roles: Vec<String>,
            /// Grants of its own.
            grants: Vec<Grant>,
        }
        /// A named role came to be, or allows something else.
        33 v 1 RoleSet {
            /// Its name.
            role: String,
            /// What it allows.
            grants: Vec<Grant>,
        }
        /// A named role is gone, and nobody has it any more.
        34 v 1 RoleDeleted {
            /// Its name.
            role: String,
        }
        /// A token was given bounds.
        35 v 1 TokenScoped {
            /// Which.
            token_id: u32,
            /// What it may do at most.
            scope: Vec<Grant>,
        }
        /// What a user may take was replaced.
        36 v 1 QuotaSet {
            /// Whose.
            user_id: u32,
            /// Its limits.
            quota: Quota,
        }
        /// A named producer came to be or took its next epoch. From format level 2.
        37 v 1 NamedProducerOpened {
            /// Its id, the same for ever.
            producer_id: u64,
            /// Whose it is.
            user_id: u32,
            /// Its name, unique per user.
            name: String,
            /// The epoch it took.
            epoch: u32,
            /// Microseconds since the Unix epoch.
            at_us: i64,
        }
        /// What a topic has beside the settings of format level 1 changed. From format level 2.
        38 v 1 TopicSupplemented {
            /// Which.
            topic_id: u32,
            /// All of it.
            supplement: TopicSupplement,
        }
    }
}

impl Event {
    /// What a server of format level 1 would not read, in words for a refusal. `None`: it reads the event.
    #[must_use]
    pub fn beyond_level_1(&self) -> Option<&'static str> {
        match self {
            Self::AccessSet(_) => Some("saying what a user may do"),
            Self::RoleSet(_) | Self::RoleDeleted(_) => Some("a named role"),
            Self::TokenScoped(_) => Some("the scope of a token"),
            Self::QuotaSet(_) => Some("a quota"),
            Self::NamedProducerOpened(_) => Some("a named producer"),
            Self::TopicSupplemented(_) => Some("a segment age, or dropping messages by id"),
            Self::ClusterBorn(_)
            | Self::FormatLevelRaised(_)
            | Self::StreamCreated(_)
            | Self::StreamDeleted(_)
            | Self::TopicCreated(_)
            | Self::TopicAltered(_)
            | Self::TopicDeleted(_)
            | Self::TopicRemoved(_)
            | Self::UserCreated(_)
            | Self::UserAltered(_)
            | Self::UserDeleted(_)
            | Self::TokenCreated(_)
            | Self::TokenDeleted(_)
            | Self::ProducerIdBlock(_)
            | Self::ProducerEpochRaised(_) => None,
        }
    }
}

/// The byte form of one change.
#[must_use]
pub fn encode_record(events: &[Event]) -> Vec<u8> {
    let mut out = Vec::new();
    RECORD_FORMAT.put(&mut out);
    put_events(events, &mut out);
    out
}

/// Reads one change.
///
/// # Errors
/// Whatever is malformed or unknown.
pub fn decode_record(bytes: &[u8]) -> Result<Vec<Event>, CodecError> {
    let mut input = Input(bytes);
    let format = u16::get(&mut input)?;
    if format != RECORD_FORMAT {
        return Err(CodecError::UnknownEvent { kind: 0, version: format });
    }
    get_events(input)
}
