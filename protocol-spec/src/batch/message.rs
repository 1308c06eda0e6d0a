//! One message in a batch, and the walk over all of them.
//!
//! A walk never reads past the body, whatever the bytes are; offsets it yields ascend, timestamps lie in the range the batch
//! declares, and the last message ends with the body. Header contents are checked only by `walk_messages`.

use super::header::ProducerHeader;
use super::{BatchError, FLAG_SPARSE};
use crate::headers::{self, HeaderRefs};

/// Bytes of a message's fixed header.
pub const MESSAGE_HEADER_BYTES: usize = 16;
/// The message has a key, which may be empty.
pub const MESSAGE_FLAG_HAS_KEY: u32 = 1;
/// The payload is null, which is not the same as empty.
pub const MESSAGE_FLAG_NULL_PAYLOAD: u32 = 2;
/// A 16-byte id precedes the key.
pub const MESSAGE_FLAG_HAS_ID: u32 = 4;
/// The timestamp is absolute: an i64 after the fixed header.
pub const MESSAGE_FLAG_TS64: u32 = 8;
const KNOWN_FLAGS: u32 = MESSAGE_FLAG_HAS_KEY | MESSAGE_FLAG_NULL_PAYLOAD | MESSAGE_FLAG_HAS_ID | MESSAGE_FLAG_TS64;

/// Where the parts of a message are in the uncompressed body. Key, headers and payload follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageSpan {
    /// `MESSAGE_FLAG_*`.
    pub flags: u32,
    /// Offset, counted from the batch's first.
    pub offset_delta: u32,
    /// Timestamp in microseconds.
    pub timestamp_us: i64,
    /// Where the key begins; the id, if there is one, is the 16 bytes before it.
    pub key_start: u32,
    /// Where the payload begins.
    pub payload_start: u32,
    /// Bytes of the payload.
    pub payload_length: u32,
    /// Bytes of the key.
    pub key_length: u16,
    /// Bytes of the headers.
    pub headers_length: u16,
}

/// A message in a body that somebody else owns.
#[derive(Debug, Clone, Copy)]
pub struct MessageRef<'a> {
    /// Offset in the partition.
    pub offset: u64,
    /// Timestamp in microseconds, given by the producer.
    pub timestamp_us: i64,
    /// Id, given by the producer.
    pub id: Option<&'a [u8; 16]>,
    /// Key; absent differs from empty.
    pub key: Option<&'a [u8]>,
    /// Encoded headers: see [`MessageRef::headers`].
    pub header_bytes: &'a [u8],
    /// Payload; null differs from empty.
    pub payload: Option<&'a [u8]>,
}

impl<'a> MessageRef<'a> {
    /// Its headers in order.
    pub fn headers(&self) -> HeaderRefs<'a> {
        headers::iterate(self.header_bytes)
    }
}

impl MessageSpan {
    /// Whether there is a key.
    pub const fn has_key(&self) -> bool {
        self.flags & MESSAGE_FLAG_HAS_KEY != 0
    }

    /// Whether the payload is null.
    pub const fn is_null(&self) -> bool {
        self.flags & MESSAGE_FLAG_NULL_PAYLOAD != 0
    }

    /// Place of the id, if there is one.
    pub fn id_range(&self) -> Option<std::ops::Range<usize>> {
        let end = self.key_start as usize;
        (self.flags & MESSAGE_FLAG_HAS_ID != 0).then(|| end - 16..end)
    }

    /// Place of the key; empty also if there is none.
    pub fn key_range(&self) -> std::ops::Range<usize> {
        let start = self.key_start as usize;
        start..start + usize::from(self.key_length)
    }

    /// Place of the headers.
    pub fn headers_range(&self) -> std::ops::Range<usize> {
        let end = self.payload_start as usize;
        end - usize::from(self.headers_length)..end
    }

    /// Place of the payload; empty also if it is null.
    pub fn payload_range(&self) -> std::ops::Range<usize> {
        let start = self.payload_start as usize;
        start..start + self.payload_length as usize
    }

    /// The message, given the body it was found in and the batch's base offset.
    fn resolve<'a>(&self, body: &'a [u8], base_offset: u64) -> MessageRef<'a> {
        MessageRef {
            offset: base_offset.wrapping_add(u64::from(self.offset_delta)),
            timestamp_us: self.timestamp_us,
            id: self.id_range().and_then(|range| body[range].first_chunk()),
            key: self.has_key().then(|| &body[self.key_range()]),
            header_bytes: &body[self.headers_range()],
            payload: (!self.is_null()).then(|| &body[self.payload_range()]),
        }
    }
}

/// Walks the messages of an uncompressed body; the first error ends the walk.
#[derive(Debug, Clone)]
pub struct MessageSpans<'a> {
    body: &'a [u8],
    at: usize,
    index: u32,
    count: u32,
    sparse: bool,
    next_offset_delta: u32,
    last_offset_delta: u32,
    base_timestamp_us: i64,
    max_timestamp_delta_us: u64,
}

impl<'a> MessageSpans<'a> {
    /// Walks `body`, uncompressed, of the batch with that header.
    pub fn new(header: &ProducerHeader, body: &'a [u8]) -> Self {
        Self {
            body,
            at: 0,
            index: 0,
            count: header.message_count,
            sparse: header.flags & FLAG_SPARSE != 0,
            next_offset_delta: 0,
            last_offset_delta: header.last_offset_delta,
            base_timestamp_us: header.base_timestamp_us,
            max_timestamp_delta_us: header.max_timestamp_delta_us,
        }
    }

    /// The walk at a place that [`MessageSpans::progress`] gave.
    pub(crate) fn resume(mut self, at: usize, index: u32, next_offset_delta: u32) -> Self {
        (self.at, self.index, self.next_offset_delta) = (at, index, next_offset_delta);
        self
    }

    /// Where the walk is: place in the body, index of the next message, the least offset it may have.
    pub(crate) fn progress(&self) -> (usize, u32, u32) {
        (self.at, self.index, self.next_offset_delta)
    }

    #[inline]
    fn span(&mut self) -> Result<MessageSpan, &'static str> {
        let rest = &self.body[self.at..];
        let header: &[u8; MESSAGE_HEADER_BYTES] = rest.first_chunk().ok_or("it ends inside its header")?;
        let [p0, p1, p2, p3, t0, t1, t2, t3, k0, k1, h0, h1, f0, f1, f2, f3] = *header;
        let payload_length = u32::from_le_bytes([p0, p1, p2, p3]);
        let timestamp_delta = u32::from_le_bytes([t0, t1, t2, t3]);
        let key_length = u16::from_le_bytes([k0, k1]);
        let headers_length = u16::from_le_bytes([h0, h1]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);

        let mut key_start = self.at + MESSAGE_HEADER_BYTES;
        let mut timestamp_delta_us = u64::from(timestamp_delta);
        if flags != 0 || key_length != 0 {
            check_flags(flags, payload_length, key_length, timestamp_delta)?;
            if flags & MESSAGE_FLAG_TS64 != 0 {
                let absolute = i64::from_le_bytes(self.extra(&mut key_start)?);
                timestamp_delta_us = u64::try_from(i128::from(absolute) - i128::from(self.base_timestamp_us))
                    .map_err(|_| "its timestamp is below the batch's least")?;
            }
        }
        if self.max_timestamp_delta_us < timestamp_delta_us {
            return Err("its timestamp is above the batch's greatest");
        }
        let offset_delta = self.offset_delta(&mut key_start)?;
        if flags & MESSAGE_FLAG_HAS_ID != 0 {
            self.extra::<16>(&mut key_start)?;
        }
        let payload_start = key_start + usize::from(key_length) + usize::from(headers_length);
        let end = payload_start + payload_length as usize;
        if self.body.len() < end {
            return Err("it ends beyond the body");
        }
        self.at = end;
        let in_body = |at: usize| u32::try_from(at).expect("a body is at most max_batch_bytes");
        Ok(MessageSpan {
            flags,
            offset_delta,
            timestamp_us: self.base_timestamp_us.wrapping_add_unsigned(timestamp_delta_us),
            key_start: in_body(key_start),
            payload_start: in_body(payload_start),
            payload_length,
            key_length,
            headers_length,
        })
    }

    /// Takes an optional fixed-width field at `at` and moves `at` behind it.
    fn extra<const N: usize>(&self, at: &mut usize) -> Result<[u8; N], &'static str> {
        let field = self.body.get(*at..).and_then(<[u8]>::first_chunk).ok_or("it ends beyond the body")?;
        *at += N;
        Ok(*field)
    }

    #[inline]
    fn offset_delta(&mut self, at: &mut usize) -> Result<u32, &'static str> {
        if !self.sparse {
            return Ok(self.index);
        }
        let delta = u32::from_le_bytes(self.extra(at)?);
        let is_last = self.index + 1 == self.count;
        if delta < self.next_offset_delta || self.last_offset_delta < delta {
            return Err("its offset is out of order");
        }
        if is_last && delta != self.last_offset_delta {
            return Err("its offset is not the batch's last");
        }
        self.next_offset_delta = delta.saturating_add(1);
        Ok(delta)
    }
}

fn check_flags(flags: u32, payload_length: u32, key_length: u16, timestamp_delta: u32) -> Result<(), &'static str> {
    if flags & !KNOWN_FLAGS != 0 {
        return Err("it has an unknown flag");
    }
    if flags & MESSAGE_FLAG_HAS_KEY == 0 && key_length != 0 {
        return Err("it has key bytes but no key");
    }
    if flags & MESSAGE_FLAG_NULL_PAYLOAD != 0 && payload_length != 0 {
        return Err("it has payload bytes but its payload is null");
    }
    if flags & MESSAGE_FLAG_TS64 != 0 && timestamp_delta != 0 {
        return Err("it has two timestamps");
    }
    Ok(())
}

impl Iterator for MessageSpans<'_> {
    type Item = Result<MessageSpan, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.count {
            return None;
        }
        let index = self.index;
        let mut span = self.span();
        self.index += 1;
        if self.index == self.count && self.at != self.body.len() && span.is_ok() {
            span = Err("bytes follow the last message");
        }
        Some(span.map_err(|reason| {
            self.index = self.count;
            BatchError::Message { index, reason }
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.count - self.index) as usize;
        (0, Some(left))
    }
}

/// Messages of a body, borrowed from it.
#[derive(Debug, Clone)]
pub struct MessageRefs<'a> {
    spans: MessageSpans<'a>,
    base_offset: u64,
}

impl<'a> MessageRefs<'a> {
    /// Messages of `body`, uncompressed, whose first has `base_offset`.
    pub fn new(header: &ProducerHeader, body: &'a [u8], base_offset: u64) -> Self {
        Self { spans: MessageSpans::new(header, body), base_offset }
    }
}

impl<'a> Iterator for MessageRefs<'a> {
    type Item = Result<MessageRef<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let span = self.spans.next()?;
        Some(span.map(|span| span.resolve(self.spans.body, self.base_offset)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

/// Checks every message of an uncompressed body, headers included.
///
/// # Errors
/// The first message that is malformed.
pub fn walk_messages(header: &ProducerHeader, body: &[u8]) -> Result<(), BatchError> {
    for (span, index) in MessageSpans::new(header, body).zip(0..) {
        let span = span?;
        if span.headers_length != 0 {
            headers::check(&body[span.headers_range()]).map_err(|error| BatchError::Headers { index, error })?;
        }
    }
    Ok(())
}
