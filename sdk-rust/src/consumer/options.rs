//! What a consumer is told, and the numbers it is told by default.

use std::collections::BTreeMap;

use levada_protocol::messages::Position;

/// What a consumer does about a stored batch whose bytes are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnCorrupt {
    /// Fails with `CORRUPT_BATCH`; a seek goes on elsewhere.
    #[default]
    Stop,
    /// Goes on after it.
    Skip,
}

/// What a consumer does when the log lost messages it has handed out (`LOG_TRUNCATED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnTruncated {
    /// Fails with `LOG_TRUNCATED`, whose detail `divergence_offset` says where to seek.
    #[default]
    Stop,
    /// Goes on from where the logs part; offsets handed out before come again with other messages.
    Rewind,
}

/// What a consumer does when its position is not in the log, because retention removed it or it lies beyond the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnOutOfRange {
    /// Fails with `OFFSET_OUT_OF_RANGE`; a seek goes on elsewhere.
    #[default]
    Stop,
    /// Goes on from the lowest offset kept.
    Earliest,
    /// Goes on after the last message.
    Latest,
}

/// What a consumer reads and how.
///
/// ```
/// use levada::{ConsumerOptions, Position};
///
/// let options = ConsumerOptions::new("shop/orders").partitions([0, 1]).from(Position::EARLIEST).until_end();
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    pub(crate) topic: String,
    pub(crate) partitions: Option<Vec<u32>>,
    pub(crate) start: Position,
    pub(crate) starts: BTreeMap<u32, Position>,
    pub(crate) until_end: bool,
    pub(crate) prefetch_bytes: u64,
    pub(crate) on_corrupt: OnCorrupt,
    pub(crate) on_truncated: OnTruncated,
    pub(crate) on_out_of_range: OnOutOfRange,
}

impl ConsumerOptions {
    /// Reads `stream/topic`, or one partition of it with `stream/topic:partition`, from the end on.
    pub fn new(topic: impl Into<String>) -> ConsumerOptions {
        ConsumerOptions {
            topic: topic.into(),
            partitions: None,
            start: Position::LATEST,
            starts: BTreeMap::new(),
            until_end: false,
            prefetch_bytes: 16 << 20,
            on_corrupt: OnCorrupt::default(),
            on_truncated: OnTruncated::default(),
            on_out_of_range: OnOutOfRange::default(),
        }
    }

    /// Which partitions. Default all there are when the consumer is made.
    #[must_use]
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> ConsumerOptions {
        self.partitions = Some(partitions.into_iter().collect());
        self
    }

    /// Where to start. Default [`Position::LATEST`].
    #[must_use]
    pub fn from(mut self, position: Position) -> ConsumerOptions {
        self.start = position;
        self
    }

    /// Where to start in one partition.
    #[must_use]
    pub fn partition_from(mut self, partition: u32, position: Position) -> ConsumerOptions {
        self.starts.insert(partition, position);
        self
    }

    /// Stops at the end of each partition as it was when the consumer subscribed.
    #[must_use]
    pub fn until_end(mut self) -> ConsumerOptions {
        self.until_end = true;
        self
    }

    /// Bytes kept ready, for all partitions together. Default 16 MiB; one batch per partition may come on top.
    #[must_use]
    pub fn prefetch_bytes(mut self, bytes: u64) -> ConsumerOptions {
        self.prefetch_bytes = bytes;
        self
    }

    /// What to do about damaged batches. Default stop.
    #[must_use]
    pub fn on_corrupt(mut self, policy: OnCorrupt) -> ConsumerOptions {
        self.on_corrupt = policy;
        self
    }

    /// What to do when the log lost its end. Default stop.
    #[must_use]
    pub fn on_truncated(mut self, policy: OnTruncated) -> ConsumerOptions {
        self.on_truncated = policy;
        self
    }

    /// What to do when the position is not in the log. Default stop.
    #[must_use]
    pub fn on_out_of_range(mut self, policy: OnOutOfRange) -> ConsumerOptions {
        self.on_out_of_range = policy;
        self
    }
}
