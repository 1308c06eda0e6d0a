//! What a producer is told, and the numbers it is told by default.

use std::{fmt, sync::Arc, time::Duration};

use levada_protocol::messages::Durability;

use super::sink::CompletionSink;
use crate::error::{Error, Result};

/// How a producer compresses its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// As the topic says.
    #[default]
    Topic,
    /// Not at all.
    None,
    /// LZ4: cheap.
    Lz4,
    /// Zstandard at a level from 1 (fast) to 19 (small).
    Zstd(i32),
}

/// The zstd level where a topic says zstd without one.
pub(crate) const DEFAULT_ZSTD_LEVEL: i32 = 3;

/// How a producer works.
///
/// ```
/// use levada::{Compression, ProducerOptions};
/// use std::time::Duration;
///
/// let options = ProducerOptions::new().linger(Duration::from_millis(5)).compression(Compression::Lz4);
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct ProducerOptions {
    pub(crate) batch_bytes: usize,
    pub(crate) batch_messages: usize,
    pub(crate) linger: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) compression: Compression,
    pub(crate) idempotent: bool,
    pub(crate) durability: Durability,
    pub(crate) delivery_timeout: Duration,
    pub(crate) max_buffered_bytes: usize,
    pub(crate) sink: Option<Arc<dyn CompletionSink>>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        ProducerOptions {
            batch_bytes: 1 << 20,
            batch_messages: levada_protocol::limits::MAX_MESSAGES_PER_BATCH,
            linger: Duration::ZERO,
            max_in_flight: 8,
            compression: Compression::Topic,
            idempotent: true,
            durability: Durability::Memory,
            delivery_timeout: Duration::from_secs(120),
            max_buffered_bytes: 64 << 20,
            sink: None,
        }
    }
}

impl ProducerOptions {
    /// The defaults.
    pub fn new() -> ProducerOptions {
        ProducerOptions::default()
    }

    /// Size a batch aims at, in bytes before compression. Default 1 MiB. A larger message has a batch for itself.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> ProducerOptions {
        self.batch_bytes = bytes;
        self
    }

    /// Messages a batch holds at most. Default: the protocol's limit.
    #[must_use]
    pub fn batch_messages(mut self, count: usize) -> ProducerOptions {
        self.batch_messages = count;
        self
    }

    /// How long a batch that is not full waits for more. Default 0: it leaves as soon as the connection is free, so that
    /// batches grow by themselves under load.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> ProducerOptions {
        self.linger = linger;
        self
    }

    /// Unacknowledged batches per partition, 1 to 64; the server may allow fewer. Default 8. Without idempotence it is 1.
    #[must_use]
    pub fn max_in_flight(mut self, count: usize) -> ProducerOptions {
        self.max_in_flight = count;
        self
    }

    /// Compression of batches. Default: the topic's.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> ProducerOptions {
        self.compression = compression;
        self
    }

    /// Whether batches are numbered, so that a retry never duplicates. Default true. Without, a batch whose fate is
    /// unknown fails at once.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> ProducerOptions {
        self.idempotent = idempotent;
        self
    }

    /// The least an acknowledgement must mean; the topic's own durability is the floor. Default: only the topic's.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> ProducerOptions {
        self.durability = durability;
        self
    }

    /// How long a message may stay unacknowledged, from hand-over. Default 120 s. Nothing else abandons a batch that may
    /// have reached the server.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> ProducerOptions {
        self.delivery_timeout = timeout;
        self
    }

    /// Bytes of unacknowledged messages that are kept; beyond that `enqueue` waits and `try_enqueue` refuses. Default 64 MiB.
    #[must_use]
    pub fn max_buffered_bytes(mut self, bytes: usize) -> ProducerOptions {
        self.max_buffered_bytes = bytes;
        self
    }

    /// Where completions of [`Producer::try_send`](crate::Producer::try_send) go: one event per batch.
    #[must_use]
    pub fn completion_sink(mut self, sink: Arc<dyn CompletionSink>) -> ProducerOptions {
        self.sink = Some(sink);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let in_range = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::usage(name, format!("{name} must be {low} to {high}, not {value}")))
            }
        };
        in_range("batch_bytes", self.batch_bytes, 1, levada_protocol::limits::MAX_BATCH_BYTES)?;
        in_range("batch_messages", self.batch_messages, 1, levada_protocol::limits::MAX_MESSAGES_PER_BATCH)?;
        in_range("max_in_flight", self.max_in_flight, 1, levada_protocol::limits::MAX_IN_FLIGHT)?;
        in_range("max_buffered_bytes", self.max_buffered_bytes, 1, usize::MAX)?;
        if let Compression::Zstd(level) = self.compression
            && !(1..=19).contains(&level)
        {
            return Err(Error::usage("compression", format!("a zstd level must be 1 to 19, not {level}")));
        }
        if self.delivery_timeout.is_zero() {
            return Err(Error::usage("delivery_timeout", "delivery_timeout must not be zero"));
        }
        Ok(())
    }
}

impl fmt::Debug for ProducerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerOptions")
            .field("batch_bytes", &self.batch_bytes)
            .field("batch_messages", &self.batch_messages)
            .field("linger", &self.linger)
            .field("max_in_flight", &self.max_in_flight)
            .field("compression", &self.compression)
            .field("idempotent", &self.idempotent)
            .field("durability", &self.durability)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("max_buffered_bytes", &self.max_buffered_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_usage_errors_that_name_the_option() {
        let wrong = [
            (ProducerOptions::new().batch_bytes(0), "batch_bytes"),
            (ProducerOptions::new().max_in_flight(65), "max_in_flight"),
            (ProducerOptions::new().max_in_flight(0), "max_in_flight"),
            (ProducerOptions::new().batch_messages(2_000_000), "batch_messages"),
            (ProducerOptions::new().max_buffered_bytes(0), "max_buffered_bytes"),
            (ProducerOptions::new().compression(Compression::Zstd(20)), "compression"),
            (ProducerOptions::new().delivery_timeout(Duration::ZERO), "delivery_timeout"),
        ];
        for (options, argument) in wrong {
            assert_eq!(options.check().unwrap_err().detail("argument"), Some(argument));
        }
        ProducerOptions::new().check().unwrap();
    }
}
