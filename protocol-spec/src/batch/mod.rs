//! Batches: the one representation of messages from the producer's memory to the consumer's.
//!
//! `header` the two fixed parts before the messages and their checksums; `message` the layout of one message and the walk
//! over many; `builder` the producer's end; `stored` the consumer's; `reencode` another codec for the same messages. Layouts:
//! spec.md §4.

mod builder;
mod header;
mod ids;
mod message;
mod reencode;
mod stored;
#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, BatchLimits, NewMessage, PushError, SealOptions, max_payload_bytes};
pub use header::{
    FLAG_EXTERNAL_SEQUENCE, FLAG_SERVER_ENCODED, FLAG_SPARSE, FORMAT, MAGIC, PRODUCER_PART_BYTES, ProducerHeader,
    SERVER_PART_BYTES, ServerPart,
};
pub use ids::{IdsByIndex, ids, message_ids, without_messages};
pub use message::{
    MESSAGE_FLAG_HAS_ID, MESSAGE_FLAG_HAS_KEY, MESSAGE_FLAG_NULL_PAYLOAD, MESSAGE_FLAG_TS64, MESSAGE_HEADER_BYTES,
    MessageRef, MessageRefs, MessageSpan, MessageSpans, walk_messages,
};
pub use reencode::Reencoder;
pub use stored::{Message, Messages, OpenBatch, StoredBatch, verify_producer};

pub use crate::codec::Codec;
pub use crate::headers::{Header, HeaderValue};

use crate::codec::CodecError;
use crate::headers::HeaderError;

/// Why bytes are not a batch, or not an intact one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end inside it, or its lengths do not agree with each other.
    #[error("the lengths of a batch do not agree with its bytes")]
    Length,
    /// A checksum does not match.
    #[error("a batch fails its checksum")]
    Checksum,
    /// It is in a format, codec or dictionary that version 1 does not have.
    #[error("a batch has an unknown {0}")]
    Unknown(&'static str),
    /// A field of its header is out of range.
    #[error("field {0} of a batch is out of range")]
    Header(&'static str),
    /// One of its messages is malformed.
    #[error("message {index} of a batch is malformed: {reason}")]
    Message {
        /// Which, from 0.
        index: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// The headers of a message are malformed.
    #[error("headers of message {index} of a batch: {error}")]
    Headers {
        /// Which message, from 0.
        index: u32,
        /// What is wrong.
        error: HeaderError,
    },
    /// Its body cannot be decompressed.
    #[error(transparent)]
    Codec(#[from] CodecError),
}
