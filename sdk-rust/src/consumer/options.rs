//! What a consumer is told, in the shapes only Rust has; the rest of it is generated.

use levada_protocol::messages::Position;

pub use crate::generated::enums::{OnCorrupt, OnOutOfRange, OnTruncated};
pub use crate::generated::options::{ConsumerOptions, GroupConsumerOptions};

impl ConsumerOptions {
    /// Where to start in one partition.
    #[must_use]
    pub fn partition_from(mut self, partition: u32, position: Position) -> ConsumerOptions {
        self.partition_from.insert(partition, position);
        self
    }

    /// Stops at the end of each partition as it was when the consumer subscribed.
    #[must_use]
    pub fn until_end(mut self) -> ConsumerOptions {
        self.until_end = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Named, Value};

    #[test]
    fn options_are_read_by_name() {
        let named: Named = vec![
            ("partitions".into(), Value::List(vec![Value::I64(1), Value::F64(2.0)])),
            ("from".into(), Value::Text("offset(5)".into())),
            ("partition_from".into(), Value::Record(vec![("2".into(), Value::Text("latest".into()))])),
            ("until_end".into(), Value::Bool(true)),
            ("on_corrupt".into(), Value::Text("skip".into())),
        ];
        let options = ConsumerOptions::from_values("a/b", named).unwrap();
        assert_eq!((options.topic.as_str(), options.partitions), ("a/b", Some(vec![1, 2])));
        assert_eq!((options.from, options.partition_from[&2].clone()), (Position::offset(5), Position::LATEST));
        assert_eq!((options.until_end, options.on_corrupt), (true, OnCorrupt::Skip));
        assert_eq!(options.prefetch_bytes, 16 << 20);
    }

    #[test]
    fn what_is_wrong_with_an_option_is_a_usage_error_that_names_it() {
        let wrong: [(&'static str, Value); 7] = [
            ("prefetch_bytes", Value::U64(0)),
            ("prefetch_bytes", Value::U64(u64::MAX)),
            ("from", Value::Text("recent".into())),
            ("partitions", Value::List(vec![Value::I64(-1)])),
            ("partition_from", Value::Record(vec![("+1".into(), Value::Text("latest".into()))])),
            ("on_truncated", Value::Text("skip".into())),
            ("untilEnd", Value::Bool(true)),
        ];
        for (name, value) in wrong {
            let error = ConsumerOptions::from_values("a/b", vec![(name.into(), value)]).unwrap_err();
            assert_eq!(error.detail("argument"), Some(name));
        }
    }
}
