//! What the log needs to know of a batch: where its two headers lie and the fields that order, time and index it.
//!
//! The layout is the protocol's. Of the producer part the log reads only these fields: a codec or flag that a later version
//! stored is no damage to it, and whoever needs more has the protocol's own reader.

use levada_protocol::batch::{FLAG_EXTERNAL_SEQUENCE, FORMAT, MAGIC};
pub(crate) use levada_protocol::batch::{PRODUCER_PART_BYTES, SERVER_PART_BYTES, ServerPart};

/// Longest producer part and body that make a batch of the protocol.
#[expect(clippy::cast_possible_truncation, reason = "16 MiB")]
pub(crate) const MAX_PRODUCED_BYTES: u32 = (levada_protocol::limits::MAX_BATCH_BYTES - SERVER_PART_BYTES) as u32;
/// Both parts, as stored in front of a body.
pub(crate) const BATCH_HEADER_BYTES: usize = SERVER_PART_BYTES + PRODUCER_PART_BYTES;

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
                let Ok(part) = ServerPart::parse(&head) else { return found };
                skip = (part.batch_length as usize).saturating_sub(SERVER_PART_BYTES);
                found.push(part);
                head.clear();
            }
        }
    }
    found
}
