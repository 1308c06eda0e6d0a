//! What a producer is told, in the shapes only Rust has; the rest of it is generated.

use std::sync::Arc;

use super::sink::CompletionSink;
use crate::generated::enums::CompressionName;

pub use crate::generated::options::ProducerOptions;

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

/// The zstd level where none is given.
pub(crate) const DEFAULT_ZSTD_LEVEL: i32 = 3;

impl ProducerOptions {
    /// Compression of batches. Default: the topic's.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> ProducerOptions {
        (self.compression, self.compression_level) = match compression {
            Compression::Topic => (CompressionName::Topic, None),
            Compression::None => (CompressionName::None, None),
            Compression::Lz4 => (CompressionName::Lz4, None),
            Compression::Zstd(level) => (CompressionName::Zstd, Some(level)),
        };
        self
    }

    /// Where completions of [`Producer::try_send`](crate::Producer::try_send) go: one event per batch.
    #[must_use]
    pub fn completion_sink(mut self, sink: Arc<dyn CompletionSink>) -> ProducerOptions {
        self.sink = Some(sink);
        self
    }

    pub(crate) fn chosen_compression(&self) -> Compression {
        match self.compression {
            CompressionName::Topic => Compression::Topic,
            CompressionName::None => Compression::None,
            CompressionName::Lz4 => Compression::Lz4,
            CompressionName::Zstd => Compression::Zstd(self.compression_level.unwrap_or(DEFAULT_ZSTD_LEVEL)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::value::{Named, Value};

    #[test]
    fn options_out_of_range_are_usage_errors_that_name_the_option() {
        let wrong = [
            (ProducerOptions::new().batch_bytes(0), "batch_bytes"),
            (ProducerOptions::new().max_in_flight(65), "max_in_flight"),
            (ProducerOptions::new().max_in_flight(0), "max_in_flight"),
            (ProducerOptions::new().batch_messages(2_000_000), "batch_messages"),
            (ProducerOptions::new().max_buffered_bytes(0), "max_buffered_bytes"),
            (ProducerOptions::new().compression(Compression::Zstd(20)), "compression_level"),
            (ProducerOptions::new().compression(Compression::Zstd(-1)), "compression_level"),
            (ProducerOptions::new().delivery_timeout(Duration::ZERO), "delivery_timeout_ms"),
            (ProducerOptions::new().linger(Duration::MAX), "linger_ms"),
        ];
        for (options, argument) in wrong {
            assert_eq!(options.check().unwrap_err().detail("argument"), Some(argument));
        }
        ProducerOptions::new().check().unwrap();
    }

    #[test]
    fn compression_is_a_name_and_for_zstd_a_level() {
        let text = |text: &str| Value::Text(text.to_owned());
        let read = |named: Named| ProducerOptions::from_values(named).map(|options| options.chosen_compression());
        assert_eq!(read(vec![("compression".into(), text("zstd"))]).unwrap(), Compression::Zstd(DEFAULT_ZSTD_LEVEL));
        let level = |name: &str| vec![("compression_level".into(), Value::U64(5)), ("compression".into(), text(name))];
        assert_eq!(read(level("zstd")).unwrap(), Compression::Zstd(5));
        assert_eq!(read(level("lz4")).unwrap_err().detail("argument"), Some("compression_level"));
        let error = read(vec![("compression".into(), text("zip"))]).unwrap_err();
        assert_eq!(error.detail("argument"), Some("compression"));
        assert!(error.message().contains("topic, none, lz4 or zstd"), "{error}");
    }
}
