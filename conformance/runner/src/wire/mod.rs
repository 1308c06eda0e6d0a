//! The protocol as `protocol-spec/spec.md` tells it, for both ends of a connection.
//!
//! Nothing here knows the product's Rust code: layouts of messages are read from the tables of that page, the rest is
//! written from its sentences. Writers write malformed things on request, readers refuse them. All calls block.

mod batch;
mod client;
mod control;
mod crc;
mod error;
mod frame;
mod name;
mod partitioner;
mod schema;

pub use batch::{Batch, Codec, Flaw, HeaderValue, Message, Producer, flags, message_flags};
pub use client::{Ack, Auth, Fetched, Subscription, Wire};
pub use control::{bytes_of, decode, encode, number};
pub use crc::crc32c;
pub use error::{ServerError, WireError};
pub use frame::{Frame, PREFACE, read_frame_bytes};
pub use name::valid_name;
pub use partitioner::{key_hash, partition_of_key};
pub use schema::{ErrorCode, Field, MessageType, Nature, Schema, Type, schema};

/// Bytes as lower-case hex digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of hex digits; `None` if they are not.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
