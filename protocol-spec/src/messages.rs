//! The messages: what the control part of a frame says.
//!
//! The types are generated from `messages.toml`; this module owns the traits they share and the constructors of positions.

use bytes::{Bytes, BytesMut};

pub use crate::generated::enums::*;
pub use crate::generated::frames::{Kind, Request, ServerFrame};
pub use crate::generated::messages::*;
pub use crate::generated::structs::*;
use crate::wire::Reader;
pub use crate::wire::{DecodeError, REQUIRED_TAG, TagWriter};

/// A message of the protocol.
pub trait Message: Sized + std::fmt::Debug {
    /// Its kind in the frame header.
    const KIND: Kind;

    /// Appends its fields without the tagged ones: use [`Message::encode`].
    fn encode_fields(&self, out: &mut BytesMut);

    /// Reads its fields without the tagged ones: use [`Message::decode`].
    ///
    /// # Errors
    /// Whatever is malformed.
    fn decode_fields(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Appends its tagged fields, ascending: use [`Message::encode`].
    fn encode_tagged(&self, _tags: &mut TagWriter<'_>) {}

    /// Takes the value of a tagged field; false if it has none of that tag. Use [`Message::decode`].
    ///
    /// # Errors
    /// Whatever is malformed.
    fn decode_tagged(&mut self, _tag: u16, _reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        Ok(false)
    }

    /// The first protocol version that can say this: of the kind, and of the tagged fields that are there.
    fn since(&self) -> u16 {
        Self::KIND.since()
    }

    /// Appends the control part.
    fn encode(&self, out: &mut BytesMut) {
        self.encode_fields(out);
        self.encode_tagged(&mut TagWriter::new(out));
    }

    /// Reads a control part; `bytes` fields are slices of it.
    ///
    /// # Errors
    /// Whatever is malformed, bytes left over included.
    fn decode(control: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(control);
        let mut message = Self::decode_fields(&mut reader)?;
        reader.finish(|tag, reader| message.decode_tagged(tag, reader))?;
        Ok(message)
    }
}

/// A request, which names its reply.
pub trait Call: Message {
    /// What answers it, unless [`Error`] does.
    type Reply: Reply;
}

/// A reply.
pub trait Reply: Message {
    /// Takes it out of a frame; gives the frame back if that is another message.
    ///
    /// # Errors
    /// The frame, unchanged.
    fn from_frame(frame: ServerFrame) -> Result<Self, Box<ServerFrame>>;
}

/// `flags` of [`ProduceAck`]: the batch was appended earlier, the offset is the original's.
pub const PRODUCE_ACK_DUPLICATE: u8 = 1;
/// `flags` of [`ProduceAck`]: the server re-encoded the batch.
pub const PRODUCE_ACK_SERVER_ENCODED: u8 = 2;

impl Position {
    /// The lowest offset kept.
    pub const EARLIEST: Self = Self { kind: PositionKind::Earliest, value: 0 };
    /// After the last visible message.
    pub const LATEST: Self = Self { kind: PositionKind::Latest, value: 0 };

    /// The stored offset of a group.
    pub const STORED: Self = Self { kind: PositionKind::Stored, value: 0 };

    /// The message of that offset.
    pub const fn offset(offset: u64) -> Self {
        Self { kind: PositionKind::Offset, value: offset }
    }

    /// The first message appended at `time_us` or later.
    pub const fn timestamp(time_us: i64) -> Self {
        Self { kind: PositionKind::Timestamp, value: time_us.cast_unsigned() }
    }

    /// The last `message_count` messages.
    pub const fn last(message_count: u64) -> Self {
        Self { kind: PositionKind::Last, value: message_count }
    }

    /// `value` as the time of a timestamp position, in microseconds.
    pub const fn time_us(&self) -> i64 {
        self.value.cast_signed()
    }
}
