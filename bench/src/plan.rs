//! What to measure, and how far it has come.

use levada::{ClientOptions, Compression, Durability};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Batches per producer, several unacknowledged.
    Produce,
    /// Reading a topic from its start to its end.
    Consume,
    /// One message at a time per producer, each acknowledged before the next.
    Latency,
}

impl Kind {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Latency => "latency",
        }
    }
}

/// A run of the load generator.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is measured.
    pub kind: Kind,
    /// How to connect; every producer and consumer has its own connections.
    pub client: ClientOptions,
    /// `stream/topic` that exists; `None` makes a temporary one and deletes it afterwards.
    pub topic: Option<String>,
    /// Partitions of a temporary topic.
    pub partition_count: u32,
    /// Durability of a temporary topic, and the least asked of each acknowledgement.
    pub durability: Durability,
    /// Messages measured, warm-up not counted.
    pub message_count: u64,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// Messages of a batch.
    pub batch_messages: u64,
    /// Producers, or consumers.
    pub producer_count: u32,
    /// Batches each producer keeps unacknowledged.
    pub in_flight: usize,
    /// Codec of the batches.
    pub compression: Compression,
    /// Messages sent before measuring begins, in percent of `message_count`.
    pub warm_up_percent: u32,
    /// Seed of the payload bytes.
    pub seed: u64,
}

impl Plan {
    /// Messages of producer `index`, warm-up messages of each producer first: `(warm_up, measured)`.
    pub(crate) fn share(&self, index: u32) -> (u64, u64) {
        let count = u64::from(self.producer_count.max(1));
        let measured = self.message_count / count + u64::from(u64::from(index) < self.message_count % count);
        (measured * u64::from(self.warm_up_percent) / 100, measured)
    }
}

/// Where a run stands; read by whoever shows it, written by the run.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
}

const PHASES: [&str; 4] = ["connecting", "preparing", "warming up", "measuring"];

impl Progress {
    /// What is being done.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        PHASES[usize::from(self.phase.load(Ordering::Relaxed)).min(PHASES.len() - 1)]
    }

    /// Messages done and to do in this phase; 0 to do where that is unknown.
    #[must_use]
    pub fn messages(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    pub(crate) fn prepare(&self, total: u64) {
        self.enter(1, total);
    }

    pub(crate) fn warm_up(&self, total: u64) {
        self.enter(2, total);
    }

    pub(crate) fn measure(&self, total: u64) {
        self.enter(3, total);
    }

    pub(crate) fn add(&self, messages: u64) {
        self.done.fetch_add(messages, Ordering::Relaxed);
    }

    fn enter(&self, phase: u8, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }
}
