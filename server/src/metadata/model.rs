//! What metadata is made of: streams, topics, users, tokens. Disk types: the wire has its own, converted by `admin`.

use std::fmt;

use levada_storage::{Durability, PartitionConfig};

use crate::metadata::codec::{CodecError, Input, Stored, stored_struct};

/// Codec of what a topic stores: what its producers use unless told otherwise, and what the server makes of other batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// The producer's choice.
    #[default]
    Producer,
    /// None.
    None,
    /// LZ4 blocks.
    Lz4,
    /// Zstandard frames.
    Zstd,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Everything but managing streams, topics, users and other users' tokens.
    Member,
}

macro_rules! stored_enum {
    ($name:ident { $($number:literal => $variant:ident,)* }) => {
        impl Stored for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let number: u8 = match self { $(Self::$variant => $number,)* };
                number.put(out);
            }
            fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
                match u8::get(input)? {
                    $($number => Ok(Self::$variant),)*
                    other => Err(CodecError::UnknownValue(other, stringify!($name))),
                }
            }
        }
    };
}
stored_enum!(Compression { 0 => Producer, 1 => None, 2 => Lz4, 3 => Zstd, });
stored_enum!(Role { 0 => Admin, 1 => Member, });
stored_enum!(Durability { 0 => Memory, 1 => Disk, });

/// Settings of a topic. Its byte form is that of format level 1, without what has events of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOptions {
    /// Partitions, from 1.
    pub partition_count: u32,
    /// What an acknowledgement means at least.
    pub durability: Durability,
    /// Codec of what is stored.
    pub compression: Compression,
    /// Bytes kept per partition; absent is unlimited.
    pub retention_bytes: Option<u64>,
    /// Age kept by append time, microseconds; absent is unlimited.
    pub retention_age_us: Option<u64>,
    /// Size at which a segment is sealed; absent is the server's default.
    pub segment_bytes: Option<u64>,
    /// The rest. Set by `TopicSupplemented` alone.
    pub supplement: TopicSupplement,
}

impl Stored for TopicOptions {
    fn put(&self, out: &mut Vec<u8>) {
        self.partition_count.put(out);
        self.durability.put(out);
        self.compression.put(out);
        self.retention_bytes.put(out);
        self.retention_age_us.put(out);
        self.segment_bytes.put(out);
    }

    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            partition_count: Stored::get(input)?,
            durability: Stored::get(input)?,
            compression: Stored::get(input)?,
            retention_bytes: Stored::get(input)?,
            retention_age_us: Stored::get(input)?,
            segment_bytes: Stored::get(input)?,
            supplement: TopicSupplement::default(),
        })
    }
}

impl TopicOptions {
    /// Settings of each of its partitions; what the topic does not say comes from `defaults`.
    #[must_use]
    pub fn partition_config(&self, defaults: &PartitionConfig) -> PartitionConfig {
        PartitionConfig {
            durability: self.durability,
            segment_bytes: self.segment_bytes.unwrap_or(defaults.segment_bytes),
            retention_bytes: self.retention_bytes,
            retention_age_us: self.retention_age_us,
            segment_roll_age_us: self.supplement.segment_age_us.unwrap_or(defaults.segment_roll_age_us),
            ..defaults.clone()
        }
    }
}

stored_struct! {
    /// A stream: a namespace of topics.
    #[derive(Clone, Debug, PartialEq, Eq)]
    Stream {
        /// Never reused.
        stream_id: u32,
        /// Unique.
        name: String,
        /// Microseconds since the Unix epoch.
        created_at_us: i64,
    }
}

stored_struct! {
    /// A topic.
    #[derive(Clone, Debug, PartialEq, Eq)]
    Topic {
        /// Never reused; names its directory.
        topic_id: u32,
        /// The stream it belongs to.
        stream_id: u32,
        /// Unique in its stream.
        name: String,
        /// Settings now.
        options: TopicOptions,
        /// Microseconds since the Unix epoch.
        created_at_us: i64,
    }
}

stored_struct! {
    /// A user.
    #[derive(Clone, PartialEq, Eq)]
    User {
        /// Never reused.
        user_id: u32,
        /// Unique.
        name: String,
        /// What the user may do.
        role: Role,
        /// Argon2id in PHC form.
        password_hash: String,
        /// Raised by every change of the password: what was proven with an earlier one no longer counts.
        password_version: u32,
        /// Microseconds since the Unix epoch.
        created_at_us: i64,
    }
}

impl fmt::Debug for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("User")
            .field("user_id", &self.user_id)
            .field("name", &self.name)
            .field("role", &self.role)
            .field("password_version", &self.password_version)
            .finish_non_exhaustive()
    }
}

stored_struct! {
    /// A personal access token, known by the digest of its secret.
    #[derive(Clone, PartialEq, Eq)]
    Token {
        /// Never reused.
        token_id: u32,
        /// Whose it is.
        user_id: u32,
        /// Unique per user.
        name: String,
        /// SHA-256 of the 32 secret bytes.
        digest: [u8; 32],
        /// Microseconds since the Unix epoch.
        created_at_us: i64,
        /// When it ends to be valid; absent is never.
        expires_at_us: Option<i64>,
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Token")
            .field("token_id", &self.token_id)
            .field("user_id", &self.user_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

stored_struct! {
    /// The newest epoch given to a producer that asked for more than its first.
    #[derive(Clone, Debug, PartialEq, Eq)]
    ProducerEpoch {
        /// Whose.
        producer_id: u64,
        /// Newest given.
        epoch: u32,
        /// When, microseconds since the Unix epoch.
        raised_at_us: i64,
    }
}

stored_struct! {
    /// A producer with a name keeps its identity over restarts.
    #[derive(Clone, Debug, PartialEq, Eq)]
    NamedProducer {
        /// Its id.
        producer_id: u64,
        /// Whose it is.
        user_id: u32,
        /// Unique per user.
        name: String,
        /// Newest epoch given: older ones are fenced.
        epoch: u32,
        /// When, microseconds since the Unix epoch.
        opened_at_us: i64,
    }
}

stored_struct! {
    /// What a topic has beside the settings of format level 1.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    TopicSupplement {
        /// Age of its first message at which a segment is sealed, microseconds; absent: the server decides.
        segment_age_us: Option<u64>,
        /// How many of a partition's last messages a new one's id is compared with; absent: none.
        dedup_messages: Option<u32>,
    }
}
