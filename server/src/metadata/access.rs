//! What users may do and take, as metadata keeps it: grants of actions on patterns of topics, named roles made of them, the
//! scopes of tokens, quotas. What follows from them for a request is decided in `admin`.

use std::fmt;

use crate::metadata::codec::{CodecError, Input, Stored, stored_struct};
use crate::pattern::TopicPattern;

/// A set of actions on a topic.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Actions(u8);

impl Actions {
    /// None.
    pub const NONE: Self = Self(0);
    /// Fetch, subscribe, look up positions.
    pub const READ: Self = Self(1);
    /// Append.
    pub const WRITE: Self = Self(2);
    /// Create, alter, purge, delete.
    pub const ADMIN: Self = Self(4);
    /// Be a member of groups that read it, and store offsets.
    pub const GROUP: Self = Self(8);
    /// All there are.
    pub const ALL: Self = Self(15);
    /// What a member could do before there were grants.
    pub const BEFORE_GRANTS: Self = Self(1 | 2 | 8);

    /// From the bits of the wire and the disk; they are the same for good.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits & !Self::ALL.0 == 0).then_some(Self(bits))
    }

    /// The bits of the wire and the disk.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `wanted` are among them.
    #[must_use]
    pub fn contains(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those of either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of `self` that `other` lacks.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [(Self::READ, "read"), (Self::WRITE, "write"), (Self::ADMIN, "admin"), (Self::GROUP, "group")];
        let mut rest = "";
        for (_, name) in named.into_iter().filter(|(action, _)| self.contains(*action)) {
            write!(formatter, "{rest}{name}")?;
            rest = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Actions({self})")
    }
}

impl Stored for Actions {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let bits = u8::get(input)?;
        Self::from_bits(bits).ok_or(CodecError::UnknownValue(bits, "a set of actions"))
    }
}

stored_struct! {
    /// Actions on the topics that a pattern matches.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    Grant {
        /// Which topics.
        pattern: TopicPattern,
        /// What may be done with them.
        actions: Actions,
    }
}

impl Grant {
    /// Those actions on every topic.
    #[must_use]
    pub fn everywhere(actions: Actions) -> Self {
        Self { pattern: TopicPattern::every(), actions }
    }
}

stored_struct! {
    /// What a member may do.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    UserAccess {
        /// Named roles it has.
        roles: Vec<String>,
        /// Grants of its own.
        grants: Vec<Grant>,
    }
}

impl UserAccess {
    /// What every member could do before there were grants, and what one that was created then keeps.
    #[must_use]
    pub fn before_grants() -> Self {
        Self { roles: Vec::new(), grants: vec![Grant::everywhere(Actions::BEFORE_GRANTS)] }
    }
}

stored_struct! {
    /// What a user may take of the server, all its connections together; absent is unlimited.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    Quota {
        /// Bytes a second it may send.
        bytes_in: Option<u64>,
        /// Bytes a second it is sent.
        bytes_out: Option<u64>,
        /// Requests a second.
        requests: Option<u32>,
        /// Connections at a time.
        connections: Option<u32>,
    }
}
