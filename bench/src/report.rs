//! What a run measured. The field names are what scripts read from `levada bench --output json`.

use crate::machine::Machine;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `produce`, `consume` or `latency`.
    pub bench: &'static str,
    /// `stream/topic`.
    pub topic: String,
    /// Whether the topic was made for this run and deleted after it.
    pub temporary_topic: bool,
    /// Partitions of the topic.
    pub partition_count: u32,
    /// Durability of the acknowledgements: `memory` or `disk`.
    pub durability: String,
    /// Codec of the batches.
    pub compression: String,
    /// Producers, or consumers.
    pub producer_count: u32,
    /// Batches each producer kept unacknowledged.
    pub in_flight: usize,
    /// Messages of a batch.
    pub batch_messages: u64,
    /// Payload of a message; of an existing topic, the mean.
    pub payload_bytes: u64,
    /// Messages measured.
    pub message_count: u64,
    /// Their payloads together.
    pub total_bytes: u64,
    /// Wall time of the measured part.
    pub seconds: f64,
    /// Payload megabytes (10^6 bytes) per second.
    pub megabytes_per_second: f64,
    /// Messages per second.
    pub messages_per_second: f64,
    /// What a latency is of: `batch`, `message` or `receive`.
    pub latency_of: &'static str,
    /// Latencies.
    pub latency_us: Latencies,
    /// The server's use of this machine during the measured part.
    pub server: Option<ServerUse>,
    /// Version the server announced.
    pub server_version: String,
    /// The server's disk backend.
    pub disk_backend: String,
    /// Where the client ran.
    pub machine: Machine,
    /// Seed of the payload bytes.
    pub seed: u64,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latencies {
    /// How many.
    pub count: u64,
    /// Least.
    pub min: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Greatest.
    pub max: f64,
}

/// A server's use of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ServerUse {
    /// CPU time during the measured part, all threads.
    pub cpu_seconds: f64,
    /// The same as a share of one core, in percent.
    pub cpu_percent: f64,
    /// Resident memory at the end of the measured part.
    pub rss_bytes: u64,
    /// The most resident memory since it started.
    pub peak_rss_bytes: Option<u64>,
}

/// Collects latencies of one producer, in nanoseconds up to ten minutes, to three digits.
#[derive(Debug)]
pub(crate) struct Recorder {
    histogram: Histogram<u64>,
}

const MAX_LATENCY_NS: u64 = 600_000_000_000;

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { histogram: Histogram::new_with_bounds(1, MAX_LATENCY_NS, 3).expect("the bounds are constant and valid") }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(MAX_LATENCY_NS);
        self.histogram.saturating_record(latency_ns);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all recorders have the same bounds");
    }

    pub(crate) fn latencies(&self) -> Latencies {
        if self.histogram.is_empty() {
            return Latencies::default();
        }
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile: f64| us(self.histogram.value_at_quantile(quantile));
        Latencies {
            count: self.histogram.len(),
            min: us(self.histogram.min()),
            mean: self.histogram.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: us(self.histogram.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let (mut all, mut other) = (Recorder::new(), Recorder::new());
        (1..=500).for_each(|ms| all.record(Duration::from_millis(ms)));
        (501..=1000).for_each(|ms| other.record(Duration::from_millis(ms)));
        all.merge(&other);
        let latencies = all.latencies();
        assert_eq!(latencies.count, 1000);
        for (is, should_ms) in
            [(latencies.p50, 500.0), (latencies.p99, 990.0), (latencies.max, 1000.0), (latencies.mean, 500.5)]
        {
            assert!((is / 1000.0 - should_ms).abs() < should_ms * 0.002, "{is} µs is not {should_ms} ms");
        }
        assert_eq!(Recorder::new().latencies(), Latencies::default());
    }

    #[test]
    fn a_latency_beyond_the_bounds_is_kept_as_the_greatest() {
        let mut recorder = Recorder::new();
        recorder.record(Duration::from_secs(100_000));
        assert!(recorder.latencies().max >= 599_000_000.0);
    }
}
