//! The caller's side of a group: commits, what is assigned, and what changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{PositionKind, ReadOffsets};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::inbound::{Inbound, InboundLane, InboundState};
use super::membership::{GroupTerms, JoinTerms};
use super::share::{AssignmentChange, CommitJob, Entry, PartitionOffset, Step, TopicPartition, uncommitted};
use super::{Batch, Consumer, GroupConsumerOptions};
use crate::admin::parse_topic;
use crate::backoff::BackoffOptions;
use crate::client::{Client, Repeat};
use crate::error::{Error, Result};

/// The group whose stored offsets a consumer uses.
pub(super) struct Group {
    client: Client,
    name: String,
    is_member: bool,
}

impl Group {
    pub(super) fn new(client: &Client, name: &str, is_member: bool) -> Group {
        Group { client: client.clone(), name: name.to_owned(), is_member }
    }
}

/// What options come to.
pub(super) fn terms(options: &GroupConsumerOptions, backoff: BackoffOptions) -> Result<GroupTerms> {
    if options.topics.is_empty() {
        return Err(Error::usage("topics", "there must be at least one topic"));
    }
    if options.from.kind == PositionKind::Stored {
        return Err(Error::usage("from", "`from` says where to start where nothing is stored"));
    }
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let join = JoinTerms {
        topics: options.topics.clone(),
        instance: options.instance.clone(),
        strategy: options.strategy,
        session_timeout_ms: u32::try_from(ms(options.session_timeout)).unwrap_or(u32::MAX),
        release_timeout_ms: u32::try_from(ms(options.release_timeout)).unwrap_or(u32::MAX),
        otherwise: options.from.clone(),
    };
    Ok(GroupTerms {
        group: options.group.clone(),
        join: Some(join),
        auto_commit: options.auto_commit,
        commit_interval_ms: ms(options.commit_interval),
        prefetch_bytes: options.prefetch_bytes,
        backoff,
    })
}

impl Consumer {
    fn group(&self) -> Result<&Group> {
        self.group.as_ref().ok_or_else(|| {
            let text = "this consumer is for no group: use group_consumer, or give the option `group`";
            Error::new(ErrorCode::ClientUsage, text).with_detail("argument", "group")
        })
    }

    /// Stores how far the group is: everything handed out so far counts as done. Returns when it is durable. Partitions that
    /// went to another member meanwhile are left out.
    ///
    /// # Errors
    /// `NOT_ASSIGNED` or `UNKNOWN_MEMBER` if the server gave partitions to another member and this one has not heard of it;
    /// `GROUP_NOT_EMPTY` without being a member; `CLIENT_TIMEOUT`; a usage error for a consumer without a group.
    pub async fn commit(&self) -> Result<()> {
        let group = self.group()?;
        self.commit_entries(group, |state| Ok(uncommitted(&state.lanes, InboundLane::handed))).await
    }

    /// Stores offsets of the caller's choice, all or none. They may go back only after a seek.
    ///
    /// # Errors
    /// As [`Consumer::commit`]; `OFFSET_REGRESSION`.
    pub async fn commit_offsets(&self, offsets: &[PartitionOffset]) -> Result<()> {
        let group = self.group()?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = offsets.iter().find(|one| !seen.insert((one.topic.as_str(), one.partition))) {
            let text = format!("{}:{} is named twice", twice.topic, twice.partition);
            return Err(Error::usage("offsets", text));
        }
        self.commit_entries(group, |state| offsets.iter().map(|one| entry(state, one, group.is_member)).collect()).await
    }

    async fn commit_entries(
        &self,
        group: &Group,
        entries: impl FnOnce(&InboundState) -> Result<Vec<Entry>>,
    ) -> Result<()> {
        let (reply, outcome) = oneshot::channel();
        let wake = {
            let mut state = self.inbound.lock();
            if state.closed {
                return Err(Error::closed("consumer"));
            }
            let entries = entries(&state)?;
            let Some(share) = &mut state.share else { return Ok(()) };
            if let Some(error) = &share.failed {
                return Err(error.clone());
            }
            if entries.is_empty() {
                return Ok(());
            }
            share.jobs.push_back(CommitJob::new(entries, Some(reply)));
            state.schedule()
        };
        if wake {
            self.link.wake(self.id);
        }
        let timeout = group.client.terms().request_timeout;
        match tokio::time::timeout(timeout, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::closed("consumer").with_maybe_applied(true)),
            Err(_) => {
                let text = format!("a commit was not answered within {timeout:?}");
                Err(Error::new(ErrorCode::ClientTimeout, text).with_maybe_applied(true))
            }
        }
    }

    /// The offset the group has stored for a partition, asked of the server; `None` if there is none.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; a usage error for a consumer without a group.
    pub async fn committed(&self, topic: &str, partition: u32) -> Result<Option<u64>> {
        let group = self.group()?;
        let address = parse_topic(topic)?;
        let request = ReadOffsets { group: group.name.clone(), topics: vec![topic.to_owned()] };
        let stored = group.client.call(request, Repeat::Freely).await?.offsets;
        let is_it = |stored: &&levada_protocol::messages::StoredOffset| {
            (&stored.stream, &stored.topic, stored.partition) == (&address.stream, &address.topic, partition)
        };
        Ok(stored.iter().find(is_it).map(|stored| stored.offset))
    }

    /// The partitions it reads now, by topic and number.
    pub fn assignments(&self) -> Vec<TopicPartition> {
        let state = self.inbound.lock();
        match &state.share {
            Some(share) if self.group.as_ref().is_some_and(|group| group.is_member) => share.assignments(),
            _ => {
                let name = |lane: &InboundLane| TopicPartition {
                    topic: lane.key.topic.to_string(),
                    partition: lane.key.partition,
                };
                state.lanes.iter().map(name).collect()
            }
        }
    }

    /// The next change of what it reads, beginning with what it was assigned first; `None` when `timeout` has passed. Changes
    /// wait until they are asked for; where more than a hundred wait, they are told as one step from what was told last.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// `CLOSED`; why it cannot be a member any more; a usage error for a consumer that is no member of a group.
    pub async fn next_change(&self, timeout: Option<Duration>) -> Result<Option<AssignmentChange>> {
        Ok(self.untold_change(timeout).await?.map(UntoldChange::tell))
    }

    /// [`Consumer::next_change`] for layers on whose way to the caller a change may be dropped: then it is the next one again.
    #[doc(hidden)]
    pub async fn untold_change(&self, timeout: Option<Duration>) -> Result<Option<UntoldChange>> {
        if !self.group.as_ref().is_some_and(|group| group.is_member) {
            let text = "this consumer is no member of a group, so that nothing changes: use group_consumer";
            return Err(Error::new(ErrorCode::ClientUsage, text).with_detail("argument", "group"));
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let changed = self.inbound.changed();
            {
                let mut state = self.inbound.lock();
                let is_closed = state.closed;
                if let Some(share) = &mut state.share {
                    if let Some(step) = share.next_change() {
                        return Ok(Some(UntoldChange { step: Some(step), inbound: Arc::clone(&self.inbound) }));
                    }
                    if let Some(error) = &share.failed {
                        return Err(error.clone());
                    }
                }
                if is_closed {
                    return Err(Error::closed("consumer"));
                }
            }
            match deadline {
                None => changed.await,
                Some(deadline) => {
                    if tokio::time::timeout_at(deadline, changed).await.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Commits a last time and leaves the group.
    pub(super) async fn say_goodbye(&self, timeout: Duration) -> Result<()> {
        self.cursor().stop();
        let (leaving, outcome) = oneshot::channel();
        let mut wake = false;
        self.inbound.update(|state| {
            if !state.closed
                && let Some(share) = state.share.as_mut().filter(|share| share.failed.is_none())
            {
                share.leaving = Some(leaving);
                wake = state.schedule();
            }
        });
        if wake {
            self.link.wake(self.id);
        }
        match tokio::time::timeout(timeout, outcome).await {
            Ok(Ok(outcome)) => outcome,
            // There was nothing to wait for, or the client is closed.
            Ok(Err(_)) => Ok(()),
            Err(_) => {
                let text = format!("the last commit was not answered within {timeout:?}");
                Err(Error::new(ErrorCode::ClientTimeout, text).with_maybe_applied(true))
            }
        }
    }

    /// Whether it uses a group's stored offsets, so that [`Consumer::hand_on`] says something.
    #[doc(hidden)]
    pub fn is_in_group(&self) -> bool {
        self.group.is_some()
    }

    /// For layers that take batches and hand out single messages: of a batch taken, those below `handed` are handed out, and
    /// those below `processed` processed.
    #[doc(hidden)]
    pub fn hand_on(&self, batch: &Batch, processed: Option<u64>, handed: u64) {
        if self.group.is_some() && self.cursor().hand_on(batch, processed, handed) {
            self.link.wake(self.id);
        }
    }

    /// Whether the partition of a batch taken is still read, so that the rest of it may be handed out.
    #[doc(hidden)]
    pub fn is_current(&self, batch: &Batch) -> bool {
        self.group.is_none() || self.cursor().is_current(batch)
    }
}

/// A change on its way to the caller.
#[doc(hidden)]
pub struct UntoldChange {
    step: Option<Step>,
    inbound: Arc<Inbound>,
}

impl UntoldChange {
    /// The caller has it.
    pub fn tell(mut self) -> AssignmentChange {
        let (kind, changed) = self.step.take().expect("it is told once, and only dropped after that");
        AssignmentChange { kind, partitions: changed.into_keys().collect() }
    }
}

impl Drop for UntoldChange {
    fn drop(&mut self) {
        let Some(step) = self.step.take() else { return };
        self.inbound.update(|state| {
            if !state.closed
                && let Some(share) = &mut state.share
            {
                share.put_back(step);
            }
        });
    }
}

impl std::fmt::Debug for UntoldChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UntoldChange").field("step", &self.step).finish_non_exhaustive()
    }
}

fn entry(state: &InboundState, wanted: &PartitionOffset, is_member: bool) -> Result<Entry> {
    let is_it =
        |lane: &InboundLane| lane.active && *lane.key.topic == *wanted.topic && lane.key.partition == wanted.partition;
    let Some(index) = state.lanes.iter().position(is_it) else {
        let text = format!("{}:{} is not read by this consumer", wanted.topic, wanted.partition);
        let code = if is_member { ErrorCode::NotAssigned } else { ErrorCode::PartitionNotFound };
        return Err(Error::new(code, text).with_detail("partition", wanted.partition));
    };
    let lane = &state.lanes[index];
    // The epoch is known where reading stands.
    let epoch = lane.handed().filter(|(offset, _)| *offset == wanted.offset).and_then(|(_, epoch)| epoch);
    Ok(Entry::new(index, lane, wanted.offset, epoch))
}
