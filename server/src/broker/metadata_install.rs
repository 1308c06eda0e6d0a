//! Installing a version of metadata on a shard: opens the partitions of new topics, changes settings, closes the partitions
//! of topics that are gone, then tells the connections. Removes no files.

use std::rc::Rc;
use std::sync::Arc;

use levada_protocol::messages::{PartitionInfo, Position, PositionKind};
use levada_storage::{Loss, OpenReport, Partition};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::broker::partition::PartitionSlot;
use crate::broker::position;
use crate::broker::shard::Shard;
use crate::failure::Failure;
use crate::metadata::Snapshot;
use crate::metadata::model::Topic;

/// Partitions being opened at the same time on one shard: enough to keep the disk busy while recovering.
const OPENING_AT_ONCE: usize = 16;

impl Shard {
    pub(super) fn start_install(self: &Rc<Self>, snapshot: Arc<Snapshot>, reply: oneshot::Sender<()>) {
        let shard = Rc::clone(self);
        tokio::task::spawn_local(async move {
            shard.install(snapshot).await;
            // Nobody may be waiting any more; the version is installed all the same.
            let _ = reply.send(());
        });
    }

    /// Installs a version; an older one than the present changes nothing.
    pub async fn install(self: &Rc<Self>, snapshot: Arc<Snapshot>) {
        let _one_at_a_time = self.installing.lock().await;
        if self.is_closing() || snapshot.version() < self.snapshot.borrow().version() {
            return;
        }
        self.close_deleted(&snapshot).await;
        self.open_new(&snapshot).await;
        *self.snapshot.borrow_mut() = Arc::clone(&snapshot);
        for hook in &*self.hooks.borrow() {
            hook(&snapshot);
        }
    }

    /// Closes partitions whose topic is gone. They leave the map first, so that nothing new finds them.
    async fn close_deleted(&self, snapshot: &Snapshot) {
        let gone: Vec<_> = {
            let mut slots = self.slots.borrow_mut();
            let keys: Vec<_> = slots.keys().filter(|key| snapshot.topic(key.0).is_err()).copied().collect();
            keys.iter().filter_map(|key| slots.remove(key)).collect()
        };
        if gone.is_empty() {
            return;
        }
        // The topic must be unknown before its readers are told, or they would find it again.
        *self.snapshot.borrow_mut() = Arc::new(snapshot.clone());
        let mut closing = JoinSet::new();
        for slot in gone {
            closing.spawn_local(async move { slot.close(true).await });
        }
        while closing.join_next().await.is_some() {}
    }

    /// Opens partitions that are not open yet, and passes changed settings on to the others.
    async fn open_new(self: &Rc<Self>, snapshot: &Arc<Snapshot>) {
        let turns = Rc::new(Semaphore::new(OPENING_AT_ONCE));
        let mut opening = JoinSet::new();
        for topic in snapshot.topics.values() {
            for partition in 0..topic.options.partition_count {
                if !self.routes.is_here(topic.topic_id, partition) {
                    continue;
                }
                let known = self.slots.borrow().get(&(topic.topic_id, partition)).cloned();
                if let Some(slot) = known {
                    self.reconfigure(&slot, topic);
                    continue;
                }
                let (shard, snapshot) = (Rc::clone(self), Arc::clone(snapshot));
                let (topic, turns) = (Arc::clone(topic), Rc::clone(&turns));
                opening.spawn_local(async move {
                    let _turn = turns.acquire().await;
                    shard.open(&snapshot, topic, partition).await;
                });
            }
        }
        while opening.join_next().await.is_some() {}
    }

    async fn open(&self, snapshot: &Snapshot, topic: Arc<Topic>, partition: u32) {
        let topic_id = topic.topic_id;
        let directory = self.options.layout.partition_dir(topic_id, partition);
        let config = topic.options.partition_config(&self.options.partition);
        let opened = Partition::open(&self.storage, directory, snapshot.identity(topic_id, partition), config).await;
        let log = match opened {
            Ok((log, report)) => {
                tell(topic_id, partition, &report);
                Ok(log)
            }
            Err(error) => {
                tracing::error!(topic_id, partition, %error, "a partition did not open");
                Err(error.to_string())
            }
        };
        let slot = PartitionSlot::new(topic, partition, log);
        self.slots.borrow_mut().insert((topic_id, partition), slot);
    }

    fn reconfigure(&self, slot: &PartitionSlot, topic: &Arc<Topic>) {
        if Arc::ptr_eq(&slot.topic(), topic) {
            return;
        }
        slot.set_topic(Arc::clone(topic));
        if let Ok(log) = slot.log() {
            log.set_config(topic.options.partition_config(&self.options.partition));
        }
    }

    /// This shard's partitions of a topic, by number.
    pub(super) fn describe(&self, topic_id: u32) -> Result<Vec<PartitionInfo>, Failure> {
        self.snapshot.borrow().topic(topic_id)?;
        let slots = self.slots.borrow();
        let own = slots.range((topic_id, 0)..=(topic_id, u32::MAX));
        Ok(own.map(|(_, slot)| slot.info(self.routes.shard())).collect())
    }

    pub(super) fn start_purge(
        self: &Rc<Self>,
        topic_id: u32,
        partition: Option<u32>,
        reply: oneshot::Sender<Result<(), Failure>>,
    ) {
        let shard = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let outcome = shard.purge(topic_id, partition).await;
            let _ = reply.send(outcome);
        });
    }

    pub(super) fn start_trim(
        self: &Rc<Self>,
        topic_id: u32,
        partition: u32,
        before: Position,
        reply: oneshot::Sender<Result<u64, Failure>>,
    ) {
        let shard = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let outcome = shard.trim(topic_id, partition, &before).await;
            let _ = reply.send(outcome);
        });
    }

    /// Deletes what lies before a position. What the log has lost already is no error: it is gone, as asked.
    async fn trim(&self, topic_id: u32, partition: u32, before: &Position) -> Result<u64, Failure> {
        let log = self.slot(topic_id, partition)?.log()?;
        let marks = log.watermarks();
        let below_start = before.kind == PositionKind::Offset && before.value < marks.log_start_offset;
        if below_start {
            return Ok(marks.log_start_offset);
        }
        let (offset, _) = position::resolve(&log, before, None).await?;
        Ok(log.delete_before(offset).await?)
    }

    async fn purge(&self, topic_id: u32, partition: Option<u32>) -> Result<(), Failure> {
        let slots: Vec<_> = {
            let slots = self.slots.borrow();
            let own = slots.range((topic_id, 0)..=(topic_id, u32::MAX));
            own.filter(|(key, _)| partition.is_none_or(|partition| key.1 == partition))
                .map(|(_, slot)| Rc::clone(slot))
                .collect()
        };
        for slot in slots {
            let log = slot.log()?;
            log.delete_before(log.watermarks().visible_end_offset).await?;
        }
        Ok(())
    }
}

/// Says what was found at open, if it is worth an operator's time.
fn tell(topic_id: u32, partition: u32, report: &OpenReport) {
    for defect in &report.defects {
        tracing::error!(topic_id, partition, %defect, "damage in a partition");
    }
    match report.loss {
        Loss::Yes => tracing::error!(topic_id, partition, "acknowledged messages are missing"),
        Loss::Possible => {
            tracing::warn!(topic_id, partition, "messages acknowledged with durability memory may be missing");
        }
        Loss::No if !report.clean => {
            tracing::info!(topic_id, partition, cut_bytes = report.cut_bytes, "recovered after an unclean end");
        }
        Loss::No => {}
    }
}
