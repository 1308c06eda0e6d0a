//! The two fixed parts of a batch. The producer part and the body after it are under the producer's checksum and never
//! rewritten; the server part says where and when the batch was appended, under a checksum of its own.

use super::BatchError;
use crate::codec::Codec;
use crate::limits::{MAX_BATCH_BYTES, MAX_MESSAGES_PER_BATCH};

use super::message::MESSAGE_HEADER_BYTES;

/// Bytes of the server part.
pub const SERVER_PART_BYTES: usize = 32;
/// Bytes of the producer part.
pub const PRODUCER_PART_BYTES: usize = 72;
/// Magic of the producer part: the bytes `LV`.
pub const MAGIC: u16 = 0x564C;
/// The format of batches of version 1.
pub const FORMAT: u8 = 1;

/// Messages carry offset deltas; offsets have gaps.
pub const FLAG_SPARSE: u16 = 1;
/// Sequences are the producer's own numbers: they ascend, with gaps.
pub const FLAG_EXTERNAL_SEQUENCE: u16 = 2;
/// The server encoded the body anew; the checksum is the server's.
pub const FLAG_SERVER_ENCODED: u16 = 4;
const KNOWN_FLAGS: u16 = FLAG_SPARSE | FLAG_EXTERNAL_SEQUENCE | FLAG_SERVER_ENCODED;

/// The producer part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerHeader {
    /// CRC32C of everything after this field, the body included.
    pub crc: u32,
    /// How the body is compressed.
    pub codec: Codec,
    /// `FLAG_*`.
    pub flags: u16,
    /// Messages in the batch, at least 1.
    pub message_count: u32,
    /// Offset of the last message, counted from the first.
    pub last_offset_delta: u32,
    /// Bytes of the body uncompressed.
    pub uncompressed_length: u32,
    /// Bytes of the body as it is.
    pub body_length: u32,
    /// Reference of the messages' timestamp deltas and the least timestamp, in microseconds.
    pub base_timestamp_us: i64,
    /// The greatest timestamp, counted from the least.
    pub max_timestamp_delta_us: u64,
    /// Who produced it; 0 is nobody in particular.
    pub producer_id: u64,
    /// Sequence of the first message.
    pub first_sequence: u64,
    /// Epoch of the producer.
    pub producer_epoch: u32,
}

impl ProducerHeader {
    /// Reads the header at the start of `bytes` and checks every field against the others; the checksum is not looked at.
    ///
    /// # Errors
    /// The field that is out of range.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let part: &[u8; PRODUCER_PART_BYTES] = bytes.first_chunk().ok_or(BatchError::Length)?;
        let (u16_at, u32_at, u64_at) = (
            |at: usize| u16::from_le_bytes([part[at], part[at + 1]]),
            |at: usize| u32::from_le_bytes([part[at], part[at + 1], part[at + 2], part[at + 3]]),
            |at: usize| {
                let mut out = [0; 8];
                out.copy_from_slice(&part[at..at + 8]);
                u64::from_le_bytes(out)
            },
        );
        if u16_at(4) != MAGIC {
            return Err(BatchError::Header("magic"));
        }
        if part[6] != FORMAT {
            return Err(BatchError::Unknown("format"));
        }
        let header = Self {
            crc: u32_at(0),
            codec: Codec::try_from(part[7]).map_err(|_| BatchError::Unknown("codec"))?,
            flags: u16_at(8),
            message_count: u32_at(12),
            last_offset_delta: u32_at(16),
            uncompressed_length: u32_at(20),
            body_length: u32_at(24),
            base_timestamp_us: u64_at(32).cast_signed(),
            max_timestamp_delta_us: u64_at(40),
            producer_id: u64_at(48),
            first_sequence: u64_at(56),
            producer_epoch: u32_at(64),
        };
        if u16_at(10) != 0 || u32_at(68) != 0 {
            return Err(BatchError::Header("reserved"));
        }
        if u32_at(28) != 0 {
            return Err(BatchError::Unknown("dictionary_id"));
        }
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), BatchError> {
        let count = self.message_count as usize;
        let uncompressed = self.uncompressed_length as usize;
        let max_body = MAX_BATCH_BYTES - SERVER_PART_BYTES - PRODUCER_PART_BYTES;
        let sparse = self.flags & FLAG_SPARSE != 0;
        let last = self.message_count.wrapping_sub(1);
        if self.flags & !KNOWN_FLAGS != 0 {
            return Err(BatchError::Unknown("flag"));
        }
        if count == 0 || MAX_MESSAGES_PER_BATCH < count {
            return Err(BatchError::Header("message_count"));
        }
        if self.last_offset_delta < last || (!sparse && self.last_offset_delta != last) {
            return Err(BatchError::Header("last_offset_delta"));
        }
        if max_body < uncompressed || uncompressed < count * MESSAGE_HEADER_BYTES {
            return Err(BatchError::Header("uncompressed_length"));
        }
        let plain = self.codec == Codec::None;
        if self.body_length == 0
            || self.uncompressed_length < self.body_length
            || (plain && self.body_length != self.uncompressed_length)
        {
            return Err(BatchError::Header("body_length"));
        }
        if self.base_timestamp_us.checked_add_unsigned(self.max_timestamp_delta_us).is_none() {
            return Err(BatchError::Header("max_timestamp_delta"));
        }
        if self.first_sequence.checked_add(u64::from(self.message_count)).is_none() {
            return Err(BatchError::Header("first_sequence"));
        }
        if self.producer_id == 0 && (self.producer_epoch != 0 || self.first_sequence != 0) {
            return Err(BatchError::Header("producer_id"));
        }
        Ok(())
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; PRODUCER_PART_BYTES] {
        let mut out = [0; PRODUCER_PART_BYTES];
        out[0..4].copy_from_slice(&self.crc.to_le_bytes());
        out[4..6].copy_from_slice(&MAGIC.to_le_bytes());
        out[6] = FORMAT;
        out[7] = self.codec.code();
        out[8..10].copy_from_slice(&self.flags.to_le_bytes());
        out[12..16].copy_from_slice(&self.message_count.to_le_bytes());
        out[16..20].copy_from_slice(&self.last_offset_delta.to_le_bytes());
        out[20..24].copy_from_slice(&self.uncompressed_length.to_le_bytes());
        out[24..28].copy_from_slice(&self.body_length.to_le_bytes());
        out[32..40].copy_from_slice(&self.base_timestamp_us.to_le_bytes());
        out[40..48].copy_from_slice(&self.max_timestamp_delta_us.to_le_bytes());
        out[48..56].copy_from_slice(&self.producer_id.to_le_bytes());
        out[56..64].copy_from_slice(&self.first_sequence.to_le_bytes());
        out[64..68].copy_from_slice(&self.producer_epoch.to_le_bytes());
        out
    }

    /// Writes header and checksum over the first bytes of `batch`, whose body is in place.
    pub fn seal(mut self, batch: &mut [u8]) {
        self.crc = 0;
        batch[..PRODUCER_PART_BYTES].copy_from_slice(&self.encode());
        let crc = crc32c::crc32c(&batch[4..]);
        batch[..4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Bytes of the producer part and the body: what a Produce carries.
    pub const fn produced_bytes(&self) -> usize {
        PRODUCER_PART_BYTES + self.body_length as usize
    }

    /// Bytes of the whole batch as it is stored.
    pub const fn stored_bytes(&self) -> usize {
        SERVER_PART_BYTES + self.produced_bytes()
    }

    /// Whether offsets have gaps.
    pub const fn is_sparse(&self) -> bool {
        self.flags & FLAG_SPARSE != 0
    }

    /// The greatest timestamp, in microseconds.
    pub const fn max_timestamp_us(&self) -> i64 {
        self.base_timestamp_us.saturating_add_unsigned(self.max_timestamp_delta_us)
    }
}

/// The server part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerPart {
    /// Bytes of the whole batch: both parts and the body.
    pub batch_length: u32,
    /// Offset of the first message.
    pub base_offset: u64,
    /// When it was appended, in microseconds.
    pub append_time_us: i64,
    /// Epoch of the partition's leader when it was appended.
    pub leader_epoch: u32,
}

impl ServerPart {
    /// The part's bytes, checksum included.
    pub fn encode(&self) -> [u8; SERVER_PART_BYTES] {
        let mut out = [0; SERVER_PART_BYTES];
        out[0..4].copy_from_slice(&self.batch_length.to_le_bytes());
        out[8..16].copy_from_slice(&self.base_offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.append_time_us.to_le_bytes());
        out[24..28].copy_from_slice(&self.leader_epoch.to_le_bytes());
        let crc = Self::checksum(&out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the part at the start of `bytes` and verifies its checksum.
    ///
    /// # Errors
    /// A damaged part, or a length no batch has.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let part: &[u8; SERVER_PART_BYTES] = bytes.first_chunk().ok_or(BatchError::Length)?;
        let [l0, l1, l2, l3, c0, c1, c2, c3, rest @ ..] = *part;
        if u32::from_le_bytes([c0, c1, c2, c3]) != Self::checksum(part) {
            return Err(BatchError::Checksum);
        }
        let [o0, o1, o2, o3, o4, o5, o6, o7, t0, t1, t2, t3, t4, t5, t6, t7, e0, e1, e2, e3, r0, r1, r2, r3] = rest;
        let server = Self {
            batch_length: u32::from_le_bytes([l0, l1, l2, l3]),
            base_offset: u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            append_time_us: i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            leader_epoch: u32::from_le_bytes([e0, e1, e2, e3]),
        };
        if [r0, r1, r2, r3] != [0; 4] {
            return Err(BatchError::Header("reserved"));
        }
        let length = server.batch_length as usize;
        if length <= SERVER_PART_BYTES + PRODUCER_PART_BYTES || MAX_BATCH_BYTES < length {
            return Err(BatchError::Header("batch_length"));
        }
        Ok(server)
    }

    /// CRC32C of the part without the checksum.
    fn checksum(part: &[u8; SERVER_PART_BYTES]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&part[..4]), &part[8..])
    }
}
