//! The consumer's end: batches as they come out of a frame or a log, verified end to end, their messages as slices.

use bytes::Bytes;

use super::header::{PRODUCER_PART_BYTES, ProducerHeader, SERVER_PART_BYTES, ServerPart};
use super::message::{MessageRefs, MessageSpans, walk_messages};
use super::{BatchError, Codec};
use crate::codec;
use crate::headers::{self, HeaderRefs};
use crate::pool::BufferPool;

/// Checks what a Produce carries: header, lengths, checksum, and every message of an uncompressed body.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_producer(bytes: &[u8]) -> Result<ProducerHeader, BatchError> {
    let header = ProducerHeader::parse(bytes)?;
    if bytes.len() != header.produced_bytes() {
        return Err(BatchError::Length);
    }
    if crc32c::crc32c(&bytes[4..]) != header.crc {
        return Err(BatchError::Checksum);
    }
    let body = &bytes[PRODUCER_PART_BYTES..];
    codec::check(header.codec, body, header.uncompressed_length as usize)?;
    if header.codec == Codec::None {
        walk_messages(&header, body)?;
    }
    Ok(header)
}

/// A whole batch as stored: a slice of the frame or buffer it came in.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    bytes: Bytes,
    server: ServerPart,
    header: ProducerHeader,
}

impl StoredBatch {
    /// Takes the first batch off `body`; `Ok(None)` if that is empty. The server part is verified, for its length must be
    /// trusted; the producer's checksum is not: see [`StoredBatch::verify`].
    ///
    /// # Errors
    /// What is wrong with the first batch; `body` is left as it was.
    pub fn split_first(body: &mut Bytes) -> Result<Option<Self>, BatchError> {
        if body.is_empty() {
            return Ok(None);
        }
        let server = ServerPart::parse(body)?;
        let length = server.batch_length as usize;
        if body.len() < length {
            return Err(BatchError::Length);
        }
        let header = ProducerHeader::parse(&body[SERVER_PART_BYTES..length])?;
        if header.stored_bytes() != length {
            return Err(BatchError::Length);
        }
        if server.base_offset.checked_add(u64::from(header.last_offset_delta) + 1).is_none() {
            return Err(BatchError::Header("base_offset"));
        }
        Ok(Some(Self { bytes: body.split_to(length), server, header }))
    }

    /// Verifies the producer's checksum over header and body.
    ///
    /// # Errors
    /// [`BatchError::Checksum`].
    pub fn verify(&self) -> Result<(), BatchError> {
        let covered = &self.bytes[SERVER_PART_BYTES + 4..];
        if crc32c::crc32c(covered) == self.header.crc { Ok(()) } else { Err(BatchError::Checksum) }
    }

    /// The whole batch.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The server part.
    pub const fn server(&self) -> &ServerPart {
        &self.server
    }

    /// The producer part.
    pub const fn header(&self) -> &ProducerHeader {
        &self.header
    }

    /// Offset of the first message.
    pub const fn base_offset(&self) -> u64 {
        self.server.base_offset
    }

    /// Offset of the last message.
    pub const fn last_offset(&self) -> u64 {
        self.server.base_offset + self.header.last_offset_delta as u64
    }

    /// When it was appended, in microseconds.
    pub const fn append_time_us(&self) -> i64 {
        self.server.append_time_us
    }

    /// Messages in it.
    pub const fn message_count(&self) -> u32 {
        self.header.message_count
    }

    /// Makes the messages readable: a slice if the body is plain, else decompressed into a buffer of `pool`.
    ///
    /// # Errors
    /// A body that cannot be decompressed within the limits.
    pub fn open(&self, pool: &BufferPool) -> Result<OpenBatch, BatchError> {
        let stored = self.bytes.slice(SERVER_PART_BYTES + PRODUCER_PART_BYTES..);
        let length = self.header.uncompressed_length as usize;
        codec::check(self.header.codec, &stored, length)?;
        let body = if self.header.codec == Codec::None {
            stored
        } else {
            let mut buffer = pool.take(length);
            codec::decompress(self.header.codec, &stored, &mut buffer.as_mut_slice()[..length])?;
            buffer.freeze(length)
        };
        Ok(OpenBatch { body, server: self.server, header: self.header })
    }

    /// Its messages, each a slice. A compressed body is decompressed into memory of its own: where many batches are read,
    /// [`StoredBatch::open`] reuses buffers.
    ///
    /// # Errors
    /// A body that cannot be decompressed within the limits.
    pub fn messages(&self) -> Result<Messages, BatchError> {
        Ok(self.open(&BufferPool::new(0))?.into_messages())
    }
}

/// A batch whose body is uncompressed.
#[derive(Debug, Clone)]
pub struct OpenBatch {
    body: Bytes,
    server: ServerPart,
    header: ProducerHeader,
}

impl OpenBatch {
    /// The uncompressed body that spans point into.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The server part.
    pub const fn server(&self) -> &ServerPart {
        &self.server
    }

    /// The producer part.
    pub const fn header(&self) -> &ProducerHeader {
        &self.header
    }

    /// Places of its messages in the body.
    pub fn spans(&self) -> MessageSpans<'_> {
        MessageSpans::new(&self.header, &self.body)
    }

    /// Its messages, borrowed: the fastest way to read them.
    pub fn message_refs(&self) -> MessageRefs<'_> {
        MessageRefs::new(&self.header, &self.body, self.server.base_offset)
    }

    /// Its messages, each sharing the body.
    pub fn into_messages(self) -> Messages {
        Messages { at: 0, index: 0, next_offset_delta: 0, batch: self }
    }
}

/// A message that shares its batch's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Offset in the partition.
    pub offset: u64,
    /// When its batch was appended, in microseconds.
    pub append_time_us: i64,
    /// Timestamp in microseconds, given by the producer.
    pub timestamp_us: i64,
    /// Id, given by the producer.
    pub id: Option<[u8; 16]>,
    /// Key; absent differs from empty.
    pub key: Option<Bytes>,
    /// Encoded headers: see [`Message::headers`].
    pub header_bytes: Bytes,
    /// Payload; null differs from empty.
    pub payload: Option<Bytes>,
}

impl Message {
    /// Its headers in order.
    pub fn headers(&self) -> HeaderRefs<'_> {
        headers::iterate(&self.header_bytes)
    }
}

/// Messages of a batch, each sharing its memory; the first error ends them.
#[derive(Debug, Clone)]
pub struct Messages {
    batch: OpenBatch,
    at: usize,
    index: u32,
    next_offset_delta: u32,
}

impl Iterator for Messages {
    type Item = Result<Message, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut spans = self.batch.spans().resume(self.at, self.index, self.next_offset_delta);
        let item = spans.next();
        (self.at, self.index, self.next_offset_delta) = spans.progress();
        let body = &self.batch.body;
        item.map(|span| {
            span.map(|span| Message {
                offset: self.batch.server.base_offset.wrapping_add(u64::from(span.offset_delta)),
                append_time_us: self.batch.server.append_time_us,
                timestamp_us: span.timestamp_us,
                id: span.id_range().and_then(|range| body[range].first_chunk().copied()),
                key: span.has_key().then(|| body.slice(span.key_range())),
                header_bytes: body.slice(span.headers_range()),
                payload: (!span.is_null()).then(|| body.slice(span.payload_range())),
            })
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.batch.header.message_count - self.index) as usize))
    }
}
