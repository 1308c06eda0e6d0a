//! The producer's end: messages are written once, straight into the batch that goes on the wire.
//!
//! The buffer is a pooled one with room left for the producer part, so sealing an uncompressed batch writes 72 bytes and one
//! checksum. Deltas count from the first message's timestamp; earlier or much later messages carry absolute ones, and sealing
//! moves the base to the least (spec.md §6.3). A push reserves so that this always fits.

use bytes::Bytes;

use super::header::{FLAG_EXTERNAL_SEQUENCE, PRODUCER_PART_BYTES, ProducerHeader, SERVER_PART_BYTES};
use super::message::{
    MESSAGE_FLAG_HAS_ID, MESSAGE_FLAG_HAS_KEY, MESSAGE_FLAG_NULL_PAYLOAD, MESSAGE_FLAG_TS64, MESSAGE_HEADER_BYTES,
};
use crate::codec::{Codec, Compressor};
use crate::headers::{self, Header, HeaderError};
use crate::limits::{MAX_BATCH_BYTES, MAX_HEADERS_BYTES, MAX_KEY_BYTES, MAX_MESSAGES_PER_BATCH};
use crate::pool::{BufferPool, PooledBuffer};

/// Bytes before the first message, as limits count them.
const PARTS_BYTES: usize = SERVER_PART_BYTES + PRODUCER_PART_BYTES;
/// The most a message takes beside key, headers and payload.
const MAX_MESSAGE_OVERHEAD_BYTES: usize = MESSAGE_HEADER_BYTES + 8 + 4 + 16;

/// The largest payload that fits a batch of `max_batch_bytes` alone with the largest key and headers.
pub const fn max_payload_bytes(max_batch_bytes: usize) -> usize {
    max_batch_bytes.saturating_sub(PARTS_BYTES + MAX_MESSAGE_OVERHEAD_BYTES + MAX_KEY_BYTES + MAX_HEADERS_BYTES)
}

/// What a batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes uncompressed, both parts included.
    pub max_batch_bytes: usize,
    /// Messages.
    pub max_messages: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { max_batch_bytes: MAX_BATCH_BYTES, max_messages: MAX_MESSAGES_PER_BATCH }
    }
}

/// A message to push.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewMessage<'a> {
    /// Payload; null differs from empty.
    pub payload: Option<&'a [u8]>,
    /// Key; absent differs from empty.
    pub key: Option<&'a [u8]>,
    /// Headers with unique names.
    pub headers: &'a [Header],
    /// Timestamp in microseconds.
    pub timestamp_us: i64,
    /// Id.
    pub id: Option<[u8; 16]>,
}

/// Why a message was not pushed. The batch is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// It does not fit this batch any more: seal it and push again.
    #[error("the batch is full")]
    Full,
    /// It does not fit any batch.
    #[error("a message of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// What it takes, in bytes.
        size: usize,
        /// What it may take, in bytes.
        limit: usize,
    },
    /// Its key is over the limit.
    #[error("a key of {0} bytes is over the limit of {MAX_KEY_BYTES}")]
    KeyTooLarge(usize),
    /// Its headers are malformed or over the limit.
    #[error(transparent)]
    Headers(#[from] HeaderError),
}

/// How a batch is sealed.
#[derive(Debug, Clone, Copy)]
pub struct SealOptions {
    /// Codec; a body that would not shrink stays uncompressed.
    pub codec: Codec,
    /// Level of zstd.
    pub level: i32,
    /// From `OpenProducer`; 0 without idempotence.
    pub producer_id: u64,
    /// Of the producer; 0 without idempotence.
    pub producer_epoch: u32,
    /// Sequence of the first message; 0 without idempotence.
    pub first_sequence: u64,
    /// Whether the application numbers, and may leave gaps between batches.
    pub external_sequence: bool,
}

impl Default for SealOptions {
    fn default() -> Self {
        let level = crate::codec::DEFAULT_ZSTD_LEVEL;
        Self {
            codec: Codec::None,
            level,
            producer_id: 0,
            producer_epoch: 0,
            first_sequence: 0,
            external_sequence: false,
        }
    }
}

/// Builds batches one after the other.
#[derive(Debug)]
pub struct BatchBuilder {
    limits: BatchLimits,
    pool: BufferPool,
    compressor: Compressor,
    /// Bytes of the last sealed batch: the next is likely as large.
    expected_bytes: usize,
    header_scratch: Vec<u8>,
    buffer: Option<PooledBuffer>,
    /// End of what is written in the buffer.
    end: usize,
    message_count: u32,
    times: Times,
}

/// Timestamps of the open batch.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    /// The first message's: what deltas count from until the batch is sealed.
    first_us: i64,
    min_us: i64,
    max_us: i64,
    /// The greatest delta written.
    max_delta: u32,
}

impl Times {
    /// The delta of a message, or `None` if its timestamp must be absolute.
    fn delta(&self, timestamp_us: i64) -> Option<u32> {
        let delta = u32::try_from(timestamp_us.checked_sub(self.first_us)?).ok()?;
        let shift = u32::try_from(self.first_us.abs_diff(self.min_us)).ok()?;
        delta.checked_add(shift).map(|_| delta)
    }

    /// Whether the base can still be moved down to `timestamp_us` without a delta overflowing.
    fn allows(&self, timestamp_us: i64) -> bool {
        self.first_us <= timestamp_us
            || u32::try_from(self.first_us.abs_diff(timestamp_us))
                .is_ok_and(|shift| self.max_delta.checked_add(shift).is_some())
    }
}

impl BatchBuilder {
    /// A builder with a pool of its own that keeps the buffers of a few full batches.
    pub fn new(limits: BatchLimits) -> Self {
        Self::with_pool(limits, BufferPool::new(limits.max_batch_bytes.saturating_mul(4)))
    }

    /// A builder that takes its buffers from `pool`.
    pub fn with_pool(limits: BatchLimits, pool: BufferPool) -> Self {
        Self {
            limits: BatchLimits {
                max_batch_bytes: limits.max_batch_bytes.min(MAX_BATCH_BYTES),
                max_messages: limits.max_messages.min(MAX_MESSAGES_PER_BATCH),
            },
            pool,
            compressor: Compressor::new(),
            expected_bytes: 0,
            header_scratch: Vec::new(),
            buffer: None,
            end: PRODUCER_PART_BYTES,
            message_count: 0,
            times: Times::default(),
        }
    }

    /// Bytes of the open batch as limits count them: both parts and the messages, uncompressed.
    pub const fn len_bytes(&self) -> usize {
        SERVER_PART_BYTES + self.end
    }

    /// Messages in the open batch.
    pub const fn message_count(&self) -> u32 {
        self.message_count
    }

    /// Whether there is nothing to seal.
    pub const fn is_empty(&self) -> bool {
        self.message_count == 0
    }

    /// Appends a message.
    ///
    /// # Errors
    /// Why it was not pushed; the batch is as it was.
    #[inline]
    pub fn push(&mut self, message: &NewMessage<'_>) -> Result<(), PushError> {
        let plain = message.key.is_none() && message.headers.is_empty() && message.id.is_none();
        if plain
            && self.message_count != 0
            && let (Some(payload), Some(delta)) = (message.payload, self.times.delta(message.timestamp_us))
        {
            return self.push_plain(payload, delta, message.timestamp_us);
        }
        self.push_any(message)
    }

    /// Appends a message that is a payload and a delta.
    #[inline]
    fn push_plain(&mut self, payload: &[u8], delta: u32, timestamp_us: i64) -> Result<(), PushError> {
        let target = self.reserve(MESSAGE_HEADER_BYTES + payload.len())?;
        let (header, rest) = target.split_at_mut(MESSAGE_HEADER_BYTES);
        header.copy_from_slice(&message_header(payload.len(), delta, 0, 0, 0));
        rest.copy_from_slice(payload);
        self.count(timestamp_us, delta);
        Ok(())
    }

    fn push_any(&mut self, message: &NewMessage<'_>) -> Result<(), PushError> {
        let key = message.key.unwrap_or_default();
        if MAX_KEY_BYTES < key.len() {
            return Err(PushError::KeyTooLarge(key.len()));
        }
        let mut encoded = std::mem::take(&mut self.header_scratch);
        encoded.clear();
        let outcome = headers::encode(message.headers, &mut encoded)
            .map_err(PushError::from)
            .and_then(|()| self.push_encoded(message, key, &encoded));
        self.header_scratch = encoded;
        outcome
    }

    fn push_encoded(&mut self, message: &NewMessage<'_>, key: &[u8], headers: &[u8]) -> Result<(), PushError> {
        let payload = message.payload.unwrap_or_default();
        let is_first = self.message_count == 0;
        if !is_first && !self.times.allows(message.timestamp_us) {
            return Err(PushError::Full);
        }
        let delta = if is_first { Some(0) } else { self.times.delta(message.timestamp_us) };
        let mut flags = 0;
        let mut length = MESSAGE_HEADER_BYTES + key.len() + headers.len() + payload.len();
        for (present, flag, extra) in [
            (message.key.is_some(), MESSAGE_FLAG_HAS_KEY, 0),
            (message.payload.is_none(), MESSAGE_FLAG_NULL_PAYLOAD, 0),
            (message.id.is_some(), MESSAGE_FLAG_HAS_ID, 16),
            (delta.is_none(), MESSAGE_FLAG_TS64, 8),
        ] {
            if present {
                flags |= flag;
                length += extra;
            }
        }
        let key_length = u16::try_from(key.len()).expect("at most max_key_bytes");
        let headers_length = u16::try_from(headers.len()).expect("at most max_headers_bytes");
        let mut target = self.reserve(length)?;
        let mut put = |bytes: &[u8]| {
            let (field, rest) = std::mem::take(&mut target).split_at_mut(bytes.len());
            field.copy_from_slice(bytes);
            target = rest;
        };
        put(&message_header(payload.len(), delta.unwrap_or(0), key_length, headers_length, flags));
        if delta.is_none() {
            put(&message.timestamp_us.to_le_bytes());
        }
        if let Some(id) = &message.id {
            put(id);
        }
        put(key);
        put(headers);
        put(payload);
        if is_first {
            let first_us = message.timestamp_us;
            self.times = Times { first_us, min_us: first_us, max_us: first_us, max_delta: 0 };
        }
        self.count(message.timestamp_us, delta.unwrap_or(0));
        Ok(())
    }

    /// Appends messages that are payloads only, packed one after the other, with one timestamp. Returns how many fitted;
    /// when that is fewer than all, seal the batch and push the rest.
    ///
    /// # Errors
    /// A payload that fits no batch, if it is the first of those; [`PushError::Full`] never.
    pub fn push_packed(&mut self, payloads: &[u8], lengths: &[u32], timestamp_us: i64) -> Result<usize, PushError> {
        let mut rest = payloads;
        for (pushed, length) in lengths.iter().enumerate() {
            let (payload, behind) = rest
                .split_at_checked(*length as usize)
                .ok_or(PushError::TooLarge { size: *length as usize, limit: rest.len() })?;
            match self.push(&NewMessage { payload: Some(payload), timestamp_us, ..NewMessage::default() }) {
                Ok(()) => rest = behind,
                Err(PushError::Full) => return Ok(pushed),
                Err(_) if pushed != 0 => return Ok(pushed),
                Err(error) => return Err(error),
            }
        }
        Ok(lengths.len())
    }

    /// As [`BatchBuilder::push_packed`] for payloads of one size: the fastest way in. What is left over at the end of
    /// `payloads` is ignored.
    ///
    /// # Errors
    /// A payload that fits no batch.
    pub fn push_fixed(&mut self, payloads: &[u8], size: usize, timestamp_us: i64) -> Result<usize, PushError> {
        let wanted = payloads.len().checked_div(size).unwrap_or(0);
        if wanted == 0 {
            return Ok(0);
        }
        let first = NewMessage { payload: Some(&payloads[..size]), timestamp_us, ..NewMessage::default() };
        match self.push(&first) {
            Ok(()) => {}
            Err(PushError::Full) => return Ok(0),
            Err(error) => return Err(error),
        }
        let Some(delta) = self.times.delta(timestamp_us) else { return Ok(1) };
        let stride = MESSAGE_HEADER_BYTES + size;
        let room = (self.limits.max_batch_bytes - self.len_bytes()) / stride;
        let fitting = (wanted - 1).min(room).min(self.limits.max_messages - self.message_count as usize);
        if fitting == 0 {
            return Ok(1);
        }
        let target = self.reserve_many(fitting * stride);
        let header = message_header(size, delta, 0, 0, 0);
        for (message, payload) in target.chunks_exact_mut(stride).zip(payloads[size..].chunks_exact(size)) {
            let (head, body) = message.split_at_mut(MESSAGE_HEADER_BYTES);
            head.copy_from_slice(&header);
            body.copy_from_slice(payload);
        }
        self.message_count += u32::try_from(fitting).expect("at most max_messages_per_batch");
        Ok(1 + fitting)
    }

    /// Room for one message; it counts as written.
    #[inline]
    fn reserve(&mut self, length: usize) -> Result<&mut [u8], PushError> {
        let limit = self.limits.max_batch_bytes;
        if limit < self.len_bytes() + length || self.limits.max_messages <= self.message_count as usize {
            return Err(self.refusal(length));
        }
        Ok(self.reserve_many(length))
    }

    #[cold]
    fn refusal(&self, length: usize) -> PushError {
        let limit = self.limits.max_batch_bytes.saturating_sub(PARTS_BYTES);
        if limit < length { PushError::TooLarge { size: length, limit } } else { PushError::Full }
    }

    #[inline]
    fn reserve_many(&mut self, length: usize) -> &mut [u8] {
        let start = self.end;
        self.end += length;
        if self.buffer.as_ref().is_none_or(|buffer| buffer.capacity() < self.end) {
            self.grow(start);
        }
        let buffer = self.buffer.as_mut().expect("grown to hold the end");
        &mut buffer.as_mut_slice()[start..self.end]
    }

    /// Takes a buffer that holds up to `self.end`, and copies what is written (up to `start`) into it.
    #[cold]
    fn grow(&mut self, start: usize) {
        let known = self.buffer.as_ref().map_or(self.expected_bytes, |buffer| buffer.capacity() * 2);
        let mut larger = self.pool.take(self.end.max(known));
        if let Some(smaller) = &self.buffer {
            larger.as_mut_slice()[..start].copy_from_slice(&smaller.as_slice()[..start]);
        }
        self.buffer = Some(larger);
    }

    #[inline]
    fn count(&mut self, timestamp_us: i64, delta: u32) {
        self.message_count += 1;
        self.times.min_us = self.times.min_us.min(timestamp_us);
        self.times.max_us = self.times.max_us.max(timestamp_us);
        self.times.max_delta = self.times.max_delta.max(delta);
    }

    /// Closes the batch and begins the next: its producer part and body, ready for a Produce. `None` if it is empty.
    pub fn seal(&mut self, options: &SealOptions) -> Option<Bytes> {
        let mut buffer = self.buffer.take()?;
        let (end, times) = (self.end, self.times);
        let message_count = std::mem::take(&mut self.message_count);
        self.end = PRODUCER_PART_BYTES;
        self.expected_bytes = end;
        let plain = &mut buffer.as_mut_slice()[..end];
        if times.min_us < times.first_us {
            let shift = u32::try_from(times.first_us.abs_diff(times.min_us)).expect("push allows only shifts that fit");
            shift_deltas(&mut plain[PRODUCER_PART_BYTES..], message_count, shift);
        }
        let uncompressed_length = u32::try_from(end - PRODUCER_PART_BYTES).expect("at most max_batch_bytes");
        let mut header = ProducerHeader {
            crc: 0,
            codec: Codec::None,
            flags: if options.external_sequence { FLAG_EXTERNAL_SEQUENCE } else { 0 },
            message_count,
            last_offset_delta: message_count - 1,
            uncompressed_length,
            body_length: uncompressed_length,
            base_timestamp_us: times.min_us,
            max_timestamp_delta_us: times.max_us.abs_diff(times.min_us),
            producer_id: options.producer_id,
            first_sequence: options.first_sequence,
            producer_epoch: options.producer_epoch,
        };
        if let Some((compressed, length)) = self.compress(options, &plain[PRODUCER_PART_BYTES..]) {
            header.codec = options.codec;
            header.body_length = u32::try_from(length).expect("less than the uncompressed length");
            buffer = compressed;
        }
        let produced = header.produced_bytes();
        header.seal(&mut buffer.as_mut_slice()[..produced]);
        Some(buffer.freeze(produced))
    }

    /// The compressed body behind room for the producer part, if compressing pays.
    fn compress(&mut self, options: &SealOptions, body: &[u8]) -> Option<(PooledBuffer, usize)> {
        if options.codec == Codec::None {
            return None;
        }
        let mut target = self.pool.take(PRODUCER_PART_BYTES + Compressor::bound(options.codec, body.len()));
        let output = &mut target.as_mut_slice()[PRODUCER_PART_BYTES..];
        let length = self.compressor.compress(options.codec, options.level, body, output)?;
        Some((target, length))
    }
}

#[inline]
fn message_header(payload: usize, delta: u32, key: u16, headers: u16, flags: u32) -> [u8; MESSAGE_HEADER_BYTES] {
    let payload = u32::try_from(payload).expect("at most max_batch_bytes");
    let packed = u128::from(payload)
        | u128::from(delta) << 32
        | u128::from(key) << 64
        | u128::from(headers) << 80
        | u128::from(flags) << 96;
    packed.to_le_bytes()
}

/// Adds `shift` to the delta of every message that has one.
fn shift_deltas(body: &mut [u8], message_count: u32, shift: u32) {
    let mut rest = body;
    for _ in 0..message_count {
        let [p0, p1, p2, p3, t0, t1, t2, t3, k0, k1, h0, h1, f0, f1, f2, f3, ..] = *rest else { return };
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        let mut length = MESSAGE_HEADER_BYTES
            + u32::from_le_bytes([p0, p1, p2, p3]) as usize
            + usize::from(u16::from_le_bytes([k0, k1]))
            + usize::from(u16::from_le_bytes([h0, h1]));
        length += if flags & MESSAGE_FLAG_HAS_ID == 0 { 0 } else { 16 };
        if flags & MESSAGE_FLAG_TS64 == 0 {
            let delta = u32::from_le_bytes([t0, t1, t2, t3]) + shift;
            rest[4..8].copy_from_slice(&delta.to_le_bytes());
        } else {
            length += 8;
        }
        rest = &mut rest[length..];
    }
}
