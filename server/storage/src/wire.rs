//! What the log needs to know of a batch: where its two headers lie and the fields that order, time and index it.
//!
//! The layout is the protocol's (`protocol-spec`); the log reads it and writes only the server part.

/// Server part: length, CRC, base offset, append time, leader epoch.
pub(crate) const SERVER_PART_BYTES: usize = 32;
/// Producer part, directly before the body.
pub(crate) const PRODUCER_PART_BYTES: usize = 72;
/// Both, as stored in front of a body.
pub(crate) const BATCH_HEADER_BYTES: usize = SERVER_PART_BYTES + PRODUCER_PART_BYTES;

const MAGIC: u16 = 0x564C;
const FORMAT: u8 = 1;
const FLAG_EXTERNAL_SEQUENCE: u16 = 2;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes were sliced"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

pub(crate) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

/// The fields of a producer part that the log uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerPart {
    pub(crate) crc: u32,
    pub(crate) message_count: u32,
    pub(crate) last_offset_delta: u32,
    pub(crate) body_bytes: u32,
    pub(crate) producer_id: u64,
    pub(crate) producer_epoch: u32,
    pub(crate) first_sequence: u64,
    pub(crate) external_sequence: bool,
}

impl ProducerPart {
    /// Parses the producer part at the front of `bytes`; says what is wrong with it otherwise.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < PRODUCER_PART_BYTES {
            return Err("shorter than a producer part");
        }
        if u16_at(bytes, 4) != MAGIC {
            return Err("wrong magic");
        }
        if bytes[6] != FORMAT {
            return Err("unknown batch format");
        }
        let part = Self {
            crc: u32_at(bytes, 0),
            message_count: u32_at(bytes, 12),
            last_offset_delta: u32_at(bytes, 16),
            body_bytes: u32_at(bytes, 24),
            producer_id: u64_at(bytes, 48),
            first_sequence: u64_at(bytes, 56),
            producer_epoch: u32_at(bytes, 64),
            external_sequence: u16_at(bytes, 8) & FLAG_EXTERNAL_SEQUENCE != 0,
        };
        if part.message_count == 0 {
            return Err("no messages");
        }
        if part.last_offset_delta < part.message_count - 1 {
            return Err("fewer offsets than messages");
        }
        Ok(part)
    }

    /// Sequence of the batch's last message.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.first_sequence.saturating_add(u64::from(self.message_count) - 1)
    }
}

/// The part the log puts in front of a producer's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerPart {
    /// Bytes of the whole batch: both parts and the body.
    pub(crate) batch_bytes: u32,
    pub(crate) base_offset: u64,
    pub(crate) append_time_us: i64,
    pub(crate) leader_epoch: u32,
}

impl ServerPart {
    pub(crate) fn encode(&self) -> [u8; SERVER_PART_BYTES] {
        let mut bytes = [0; SERVER_PART_BYTES];
        bytes[0..4].copy_from_slice(&self.batch_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.base_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.append_time_us.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.leader_epoch.to_le_bytes());
        let crc = Self::crc(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The part at the front of `bytes` (at least [`SERVER_PART_BYTES`]), if its CRC holds.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..SERVER_PART_BYTES)?;
        (Self::crc(bytes) == u32_at(bytes, 4)).then(|| Self {
            batch_bytes: u32_at(bytes, 0),
            base_offset: u64_at(bytes, 8),
            append_time_us: i64_at(bytes, 16),
            leader_epoch: u32_at(bytes, 24),
        })
    }

    fn crc(bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..SERVER_PART_BYTES])
    }
}

/// The server parts of whole batches given in pieces.
pub(crate) fn batches_in(slices: &[bytes::Bytes]) -> Vec<ServerPart> {
    let mut found = Vec::new();
    let mut head = Vec::with_capacity(SERVER_PART_BYTES);
    let mut skip = 0;
    for slice in slices {
        let mut rest = &slice[..];
        while !rest.is_empty() {
            let step = skip.min(rest.len());
            rest = &rest[step..];
            skip -= step;
            if rest.is_empty() {
                break;
            }
            let taken = (SERVER_PART_BYTES - head.len()).min(rest.len());
            head.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if head.len() == SERVER_PART_BYTES {
                let Some(part) = ServerPart::decode(&head) else { return found };
                skip = (part.batch_bytes as usize).saturating_sub(SERVER_PART_BYTES);
                found.push(part);
                head.clear();
            }
        }
    }
    found
}
