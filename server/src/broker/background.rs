//! What a shard does beside requests: housekeeping of its storage once a second, retention every few seconds. One timer per
//! shard, whatever the number of partitions.

use std::rc::Rc;
use std::time::Duration;

use levada_storage::MaintainError;
use tokio::time::MissedTickBehavior;

use crate::broker::shard::Shard;

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
            if count.is_multiple_of(RETENTION_TICKS) {
                self.apply_retention().await;
            }
        }
    }

    async fn apply_retention(&self) {
        let kept: Vec<_> = {
            let slots = self.slots.borrow();
            let limited = slots.values().filter(|slot| {
                let options = &slot.topic().options;
                options.retention_age_us.is_some()
                    || options.retention_bytes.is_some()
                    || options.segment_age_us.is_some()
            });
            limited.map(Rc::clone).collect()
        };
        for slot in kept {
            let Ok(log) = slot.log() else { continue };
            let (topic_id, partition) = (slot.topic_id, slot.partition);
            match log.apply_retention(self.now_us()).await {
                Ok(0) => {}
                Ok(freed_bytes) => tracing::info!(topic_id, partition, freed_bytes, "retention removed segments"),
                Err(MaintainError::Closed | MaintainError::ReadOnly(_)) => {}
                Err(error) => tracing::warn!(topic_id, partition, %error, "retention failed"),
            }
        }
    }
}
