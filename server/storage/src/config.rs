//! What a partition and a core's storage are configured with. Values are checked by the layer above (names, ranges of the
//! configuration file); here they are clamped to what the format can hold.

use std::fmt;

/// When a message counts as safe. Ordered: a produce may ask for more than its topic gives, never for less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In the server's memory; on disk within `flush_interval`.
    Memory,
    /// On disk and flushed.
    #[default]
    Disk,
}

impl fmt::Display for Durability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}

/// Whose data a directory holds. Written into every segment header, so that a directory moved to the wrong place is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionIdentity {
    /// Random identity of the cluster (of the data directory, for a single node).
    pub cluster_id: u128,
    /// Node that writes.
    pub node_id: u64,
    /// Numeric topic id, never reused. The server's own logs use ids from `0xFFFF_0000` up.
    pub topic_id: u32,
    /// Partition number within the topic.
    pub partition: u32,
}

impl fmt::Display for PartitionIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.topic_id, self.partition)
    }
}

/// Settings of one partition. All can change while it is open ([`crate::Partition::set_config`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Level every append reaches at least.
    pub durability: Durability,
    /// Size at which a segment is sealed.
    pub segment_bytes: u64,
    /// Age of its first message at which a segment is sealed. At most 24 h, and a quarter of the retention age.
    pub segment_roll_age_us: u64,
    /// Physical bytes to keep; sealed segments beyond it go. `None` keeps all.
    pub retention_bytes: Option<u64>,
    /// Age by append time beyond which sealed segments go. `None` keeps all.
    pub retention_age_us: Option<u64>,
    /// How long a `memory` append may wait before it is written and flushed.
    pub flush_interval: std::time::Duration,
    /// Bytes appended and not yet durable (not yet written, on memory topics) beyond which appends answer `Full`.
    pub pending_bytes: u64,
    /// Largest accepted batch: producer part and body.
    pub max_batch_bytes: u32,
    /// Append time after which an idle producer's state is forgotten.
    pub producer_expiry_us: u64,
    /// Producers remembered; beyond it the longest idle is forgotten.
    pub max_producers: usize,
}

/// Segments are sealed at this size unless configured otherwise.
pub const DEFAULT_SEGMENT_BYTES: u64 = 256 << 20;
/// No segment stays open longer than this: retention by age works on whole segments.
pub const MAX_SEGMENT_ROLL_AGE_US: u64 = 24 * 3600 * 1_000_000;

impl Default for PartitionConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Disk,
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            segment_roll_age_us: MAX_SEGMENT_ROLL_AGE_US,
            retention_bytes: None,
            retention_age_us: None,
            flush_interval: std::time::Duration::from_secs(1),
            // Two commits under way, one forming, and one being received.
            pending_bytes: 16 << 20,
            max_batch_bytes: (16 << 20) + 4096,
            producer_expiry_us: 7 * 24 * 3600 * 1_000_000,
            max_producers: 10_000,
        }
    }
}

impl PartitionConfig {
    /// The age at which a segment is sealed: `segment_roll_age_us`, a quarter of the retention age, or a day.
    #[must_use]
    pub fn effective_roll_age_us(&self) -> u64 {
        let by_retention = self.retention_age_us.map_or(u64::MAX, |age| (age / 4).max(1));
        self.segment_roll_age_us.min(by_retention).min(MAX_SEGMENT_ROLL_AGE_US)
    }
}
