//! Metadata as every core sees it: one version, immutable, read without a lock.
//!
//! What a shard does when it installs a version: opens its partitions of new topics, changes settings, closes the
//! partitions of topics that are gone (their subscriptions end with `TOPIC_NOT_FOUND`), and says goodbye to connections
//! whose principal is no longer admitted. Then it acknowledges. It removes no files: the control thread does, after every
//! shard has acknowledged, and only for topics with a tombstone.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use levada_protocol::ErrorCode;
use levada_storage::{Numbering, PartitionIdentity};

use crate::auth::{Credential, Principal};
use crate::failure::Failure;
use crate::metadata::model::{Role, Topic};
use crate::metadata::state::State;

/// One version of all metadata.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    version: u64,
    state: State,
}

impl Deref for Snapshot {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Snapshot {
    /// A version; versions grow with every change.
    #[must_use]
    pub fn new(version: u64, state: State) -> Self {
        Self { version, state }
    }

    /// Its number.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A topic by id.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`.
    pub fn topic(&self, topic_id: u32) -> Result<&Arc<Topic>, Failure> {
        self.state.topics.get(&topic_id).ok_or_else(|| {
            Failure::because(
                ErrorCode::TopicNotFound,
                format!("no topic has the id {topic_id}; it may have been deleted"),
            )
            .with("topic", topic_id)
        })
    }

    /// A topic by name.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND` or `TOPIC_NOT_FOUND`.
    pub fn find_topic(&self, stream: &str, topic: &str) -> Result<&Arc<Topic>, Failure> {
        if self.state.stream_named(stream).is_none() {
            return Err(stream_not_found(stream));
        }
        self.state.topic_named(stream, topic).ok_or_else(|| {
            Failure::because(ErrorCode::TopicNotFound, format!("no topic {stream}/{topic}"))
                .with("topic", format!("{stream}/{topic}"))
        })
    }

    /// The name of a topic's stream.
    #[must_use]
    pub fn stream_name(&self, topic: &Topic) -> &str {
        self.state.streams.get(&topic.stream_id).map_or("", |stream| &stream.name)
    }

    /// Whether what a connection proved at its start still holds: the user exists, the password is the same, the token was
    /// not revoked. (Expiry is looked at when a connection authenticates.)
    #[must_use]
    pub fn admits(&self, principal: &Principal) -> bool {
        let user = self.state.users.get(&principal.user_id);
        match principal.credential {
            Credential::InsecureDev => true,
            Credential::Password { version } => user.is_some_and(|user| user.password_version == version),
            Credential::Token { token_id } => {
                user.is_some()
                    && self.state.tokens.get(&token_id).is_some_and(|token| token.user_id == principal.user_id)
            }
        }
    }

    /// What the principal may do now.
    #[must_use]
    pub fn role(&self, principal: &Principal) -> Option<Role> {
        match principal.credential {
            Credential::InsecureDev => Some(Role::Admin),
            _ => self.state.users.get(&principal.user_id).map(|user| user.role),
        }
    }

    /// Whether the directory may be written with formats of that level. `what` is what needs it.
    ///
    /// # Errors
    /// `UNSUPPORTED` that says how to get there.
    pub fn require_level(&self, level: u32, what: &str) -> Result<(), Failure> {
        if level <= self.state.format_level {
            return Ok(());
        }
        let message = format!(
            "{what} needs format level {level} of the data directory, which is at {}: stop the server and run `levada-server finalize-upgrade DIR`",
            self.state.format_level
        );
        Err(Failure::because(ErrorCode::Unsupported, message).with("what", what))
    }

    /// How a producer is numbered, and whether the epoch is its newest, if it has a name: every core knows that one before
    /// anybody is told, so a higher one was given to nobody.
    ///
    /// # Errors
    /// `FENCED`.
    pub fn check_named(&self, producer_id: u64, producer_epoch: u32) -> Result<Numbering, Failure> {
        match self.state.named_producers.get(&producer_id) {
            None => Ok(Numbering::BeginsAnew),
            Some(named) if named.epoch == producer_epoch => Ok(Numbering::GoesOn),
            Some(named) => Err(Failure::new(ErrorCode::Fenced).with("current_epoch", named.epoch)),
        }
    }

    /// What the segment headers of a partition carry.
    #[must_use]
    pub fn identity(&self, topic_id: u32, partition: u32) -> PartitionIdentity {
        PartitionIdentity {
            cluster_id: self.state.cluster_id,
            node_id: u64::from(self.state.node_id),
            topic_id,
            partition,
        }
    }
}

/// `STREAM_NOT_FOUND`.
#[must_use]
pub fn stream_not_found(stream: &str) -> Failure {
    Failure::because(ErrorCode::StreamNotFound, format!("no stream {stream}")).with("stream", stream)
}

/// Where everything of a data directory is. Paths are relative to it, as the disk wants them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout;

impl Layout {
    /// The directory itself.
    #[must_use]
    pub fn root(self) -> &'static Path {
        Path::new("")
    }

    /// The metadata log.
    #[must_use]
    pub fn metadata_dir(self) -> PathBuf {
        "metadata".into()
    }

    /// Checkpoints of the metadata log's core.
    #[must_use]
    pub fn metadata_checkpoint_dir(self) -> PathBuf {
        "metadata-checkpoints".into()
    }

    /// A coordinator log, which holds groups and stored offsets.
    #[must_use]
    pub fn coordinator_dir(self, number: u32) -> PathBuf {
        Path::new("coordinator").join(format!("{number:02}"))
    }

    /// Checkpoints of the shards.
    #[must_use]
    pub fn checkpoint_dir(self) -> PathBuf {
        "checkpoints".into()
    }

    /// All topics, by numeric id.
    #[must_use]
    pub fn topics_dir(self) -> PathBuf {
        "topics".into()
    }

    /// One topic.
    #[must_use]
    pub fn topic_dir(self, topic_id: u32) -> PathBuf {
        self.topics_dir().join(topic_id.to_string())
    }

    /// One partition.
    #[must_use]
    pub fn partition_dir(self, topic_id: u32, partition: u32) -> PathBuf {
        self.topic_dir(topic_id).join(partition.to_string())
    }

    /// Where directories go that metadata does not know.
    #[must_use]
    pub fn quarantine_dir(self) -> PathBuf {
        "quarantine".into()
    }

    /// The token of the root user that clients on this machine find by themselves.
    #[must_use]
    pub fn root_token_path(self) -> PathBuf {
        "root.token".into()
    }
}
