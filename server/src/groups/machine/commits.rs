//! What a group stores: commits, and the position that a reader starts at. A commit is taken whole or not at all.

use std::collections::BTreeSet;

use levada_protocol::messages::{Commit, CommitOffset};
use levada_protocol::{ErrorCode, limits};

use super::{Machine, Now, Outcome, not_assigned};
use crate::broker::ConnectionId;
use crate::failure::Failure;
use crate::groups::assign::Key;
use crate::groups::catalog::Catalog;
use crate::groups::record::{OffsetsStored, PartitionOffset};
use crate::groups::state::{Holding, StoredPosition};

impl Machine {
    /// Stores offsets, all or none.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER`, `NOT_ASSIGNED`, `GROUP_NOT_EMPTY`, `OFFSET_REGRESSION`, `INVALID_ARGUMENT`, `TOPIC_NOT_FOUND`,
    /// `PARTITION_NOT_FOUND`; nothing is stored.
    pub fn commit(
        &mut self,
        now: Now,
        catalog: &Catalog,
        speaker: ConnectionId,
        commit: &Commit,
        out: &mut Outcome,
    ) -> Result<(), Failure> {
        self.check_commit(catalog, speaker, commit)?;
        let is_kept = |offset: &&CommitOffset| catalog.topic(offset.topic_id).is_some();
        let offsets: Vec<_> =
            commit.offsets.iter().filter(is_kept).map(|offset| self.partition_offset(offset)).collect();
        if !offsets.is_empty() {
            self.happen(OffsetsStored { offsets, at_us: now.at_us }, out);
        }
        let is_released = |key: &Key| self.state.holdings.get(key).is_some_and(|holding| holding.releasing);
        let released = commit.offsets.iter().filter(|offset| offset.release);
        let released: Vec<Key> =
            released.map(|offset| (offset.topic_id, offset.partition)).filter(is_released).collect();
        if commit.member.is_some() && !released.is_empty() {
            self.release(&released, out);
            self.give(now, &released, "a partition was released", out);
        }
        Ok(())
    }

    /// Who repeats what is stored, without knowing its epoch, leaves it as it is.
    fn partition_offset(&self, commit: &CommitOffset) -> PartitionOffset {
        let CommitOffset { topic_id, partition, offset, epoch, .. } = *commit;
        let stored = self.state.offsets.get(&(topic_id, partition)).filter(|stored| stored.offset == offset);
        PartitionOffset { topic_id, partition, offset, epoch: epoch.or(stored.and_then(|stored| stored.epoch)) }
    }

    fn check_commit(&self, catalog: &Catalog, speaker: ConnectionId, commit: &Commit) -> Result<(), Failure> {
        if limits::MAX_COMMIT_OFFSETS < commit.offsets.len() {
            let message = format!("{} partitions at most in one commit", limits::MAX_COMMIT_OFFSETS);
            return Err(Failure::invalid("offsets", message));
        }
        match &commit.member {
            Some(member) => self.check_speaker(speaker, member)?,
            None => self.check_empty()?,
        }
        let mut seen = BTreeSet::new();
        for offset in &commit.offsets {
            let key = (offset.topic_id, offset.partition);
            if !seen.insert(key) {
                return Err(Failure::invalid("offsets", format!("partition {} is named twice", offset.partition)));
            }
            match &commit.member {
                Some(member) => {
                    let holding = self.state.holdings.get(&key);
                    let is_own =
                        |holding: &&Holding| holding.member == *member && holding.generation == offset.generation;
                    holding.filter(is_own).ok_or_else(|| not_assigned(key, offset.generation))?;
                }
                None if offset.generation != 0 => return Err(not_assigned(key, offset.generation)),
                None => check_partition(catalog, key)?,
            }
            if let Some(stored) = self.state.offsets.get(&key)
                && offset.offset < stored.offset
                && !offset.rewind
            {
                let message = format!(
                    "offset {} of partition {} is below the stored {}, and the commit does not say rewind",
                    offset.offset, key.1, stored.offset
                );
                let failure = Failure::because(ErrorCode::OffsetRegression, message);
                let failure = failure.with("topic", key.0).with("partition", key.1);
                return Err(failure.with("stored_offset", stored.offset));
            }
        }
        Ok(())
    }

    /// What is stored for a partition, for a subscription. A reader that is a member must hold the partition.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER`, `NOT_ASSIGNED`.
    pub fn position(
        &self,
        speaker: ConnectionId,
        assignment: Option<(&str, u64)>,
        key: Key,
    ) -> Result<Option<StoredPosition>, Failure> {
        if let Some((member, generation)) = assignment {
            self.check_speaker(speaker, member)?;
            let is_live = self.state.holdings.get(&key).is_some_and(|holding| {
                holding.member == member && holding.generation == generation && !holding.releasing
            });
            if !is_live {
                return Err(not_assigned(key, generation));
            }
        }
        Ok(self.state.offsets.get(&key).copied())
    }
}

fn check_partition(catalog: &Catalog, (topic_id, partition): Key) -> Result<(), Failure> {
    let topic = catalog.topic(topic_id).ok_or_else(|| {
        Failure::because(ErrorCode::TopicNotFound, format!("no topic has the id {topic_id}")).with("topic", topic_id)
    })?;
    if topic.partition_count() <= partition {
        let message = format!("topic {}/{} has no partition {partition}", topic.stream, topic.name());
        return Err(Failure::because(ErrorCode::PartitionNotFound, message).with("partition", partition));
    }
    Ok(())
}
