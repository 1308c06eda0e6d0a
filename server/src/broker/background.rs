//! What a shard does beside requests: housekeeping of its storage once a second, retention every few seconds. One timer per
//! shard, whatever the number of partitions.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use levada_storage::MaintainError;
use tokio::time::MissedTickBehavior;

use crate::broker::partition::PartitionSlot;
use crate::broker::shard::Shard;
use crate::config::LowWaterPolicy;
use crate::metadata::TopicOptions;

const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at retention: it acts on whole segments, so it need not be prompt.
const RETENTION_TICKS: u64 = 5;

impl Shard {
    /// Runs until it is dropped.
    pub(super) async fn background(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0u64;
        loop {
            ticks.tick().await;
            count += 1;
            self.storage.maintain().await;
            if self.options.low_water_policy == LowWaterPolicy::DeleteOldest {
                self.relieve_pressure().await;
            }
            if count.is_multiple_of(RETENTION_TICKS) {
                self.apply_retention().await;
            }
        }
    }

    /// Partitions of topics with such options.
    fn slots_whose(&self, wanted: impl Fn(&TopicOptions) -> bool) -> Vec<Rc<PartitionSlot>> {
        let slots = self.slots.borrow();
        slots.values().filter(|slot| wanted(&slot.topic().options)).map(Rc::clone).collect()
    }

    /// Removes the oldest sealed segments of limited topics until there is space again or nothing is left to remove.
    async fn relieve_pressure(&self) {
        if !self.storage.status().disk_full {
            return;
        }
        let limited = self.slots_whose(is_limited);
        let age_of = |at: usize| Some((limited[at].log().ok()?.oldest_sealed_us()?, at));
        let mut by_age: BTreeSet<(i64, usize)> = (0..limited.len()).filter_map(age_of).collect();
        while self.storage.status().disk_full {
            let Some((_, at)) = by_age.pop_first() else { break };
            let slot = &limited[at];
            let Ok(log) = slot.log() else { continue };
            let (topic_id, partition) = (slot.topic_id, slot.partition);
            match log.remove_oldest_sealed().await {
                Ok(0) => {}
                Ok(freed_bytes) => {
                    tracing::warn!(
                        topic_id,
                        partition,
                        freed_bytes,
                        "low on disk space: removed the oldest segment early"
                    );
                    by_age.extend(age_of(at));
                }
                Err(error) => tracing::warn!(topic_id, partition, %error, "low on disk space: nothing was removed"),
            }
        }
    }

    async fn apply_retention(&self) {
        let aging = self.slots_whose(|options| is_limited(options) || options.supplement.segment_age_us.is_some());
        for slot in aging {
            let Ok(log) = slot.log() else { continue };
            let (topic_id, partition) = (slot.topic_id, slot.partition);
            match log.apply_retention(self.now_us()).await {
                Ok(0) => {}
                Ok(freed_bytes) => tracing::info!(topic_id, partition, freed_bytes, "retention removed segments"),
                Err(MaintainError::Closed | MaintainError::ReadOnly(_) | MaintainError::DiskFull) => {}
                Err(error) => tracing::warn!(topic_id, partition, %error, "retention failed"),
            }
        }
    }
}

/// Whether messages of the topic end by themselves.
fn is_limited(options: &TopicOptions) -> bool {
    options.retention_age_us.is_some() || options.retention_bytes.is_some()
}
