//! The storage header in front of every entry of a segment. It never leaves the node.
//!
//! ```text
//!  0 magic u32        4 version u8   5 kind u8      6 flags u16     8 length u32 (bytes after the header)
//! 12 crc u32 (of the header without this field)    16 nonce u64 (the segment's)
//! 24 log_index u64   32 term u64                   40 durable_index u64            48 commit_index u64
//! 56 payload_crc u32 (0 for batches, which carry their own; 0 for pads)
//! 60 durable_block u32 (first block of this segment not known durable when this was written)
//! ```
//!
//! Replicated kinds take an index of their own; local kinds carry the index of the entry before them. `durable_*` and
//! `commit_index` are hints: proofs of what had become durable, never part of what replicas compare.

use crate::disk::BLOCK_BYTES;
use crate::wire::{u16_at, u32_at, u64_at};

/// Bytes of a storage header.
pub(crate) const STORAGE_HEADER_BYTES: usize = 64;

/// No entry is longer: a batch of 16 MiB with its headers, or a producer table at its cap.
pub(crate) const MAX_ENTRY_BYTES: usize = 48 << 20;

const MAGIC: u32 = u32::from_le_bytes(*b"LVEN");
const VERSION: u8 = 1;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Replicated: server part, producer part, body.
    Batch = 1,
    /// Replicated: opaque bytes of the layer above; takes no message offset.
    Control = 2,
    /// Local: fills a commit up to its block.
    Pad = 0x80,
    /// Local: everything needed to continue from here without what is before.
    State = 0x81,
    /// Local: a new leader epoch after an unclean open.
    Session = 0x82,
    /// Local: messages before an offset are deleted.
    LogStart = 0x83,
    /// Local: the last block of a sealed segment.
    Footer = 0x84,
}

impl Kind {
    fn from_u8(value: u8) -> Option<Self> {
        [Self::Batch, Self::Control, Self::Pad, Self::State, Self::Session, Self::LogStart, Self::Footer]
            .into_iter()
            .find(|kind| *kind as u8 == value)
    }

    /// Whether entries of this kind take a log index.
    pub(crate) fn is_replicated(self) -> bool {
        matches!(self, Self::Batch | Self::Control)
    }
}

/// [`Kind::State`]: the log was closed cleanly right after this record.
pub(crate) const FLAG_CLEAN: u16 = 1;
/// [`Kind::State`]: the index of a segment about to be sealed; carries no state of the layer above.
pub(crate) const FLAG_INDEX_ONLY: u16 = 2;
/// [`Kind::Control`]: stands for all control entries before it.
pub(crate) const FLAG_SNAPSHOT: u16 = 1;

/// A storage header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) kind: Kind,
    pub(crate) flags: u16,
    pub(crate) length: u32,
    pub(crate) nonce: u64,
    pub(crate) log_index: u64,
    pub(crate) term: u64,
    pub(crate) durable_index: u64,
    pub(crate) commit_index: u64,
    pub(crate) payload_crc: u32,
    pub(crate) durable_block: u32,
}

impl EntryHeader {
    pub(crate) fn encode(&self) -> [u8; STORAGE_HEADER_BYTES] {
        let mut bytes = [0; STORAGE_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = VERSION;
        bytes[5] = self.kind as u8;
        bytes[6..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.log_index.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.term.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.durable_index.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.commit_index.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.durable_block.to_le_bytes());
        let crc = header_crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the front of `bytes`, if it is whole, of this format and has a sane length.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..STORAGE_HEADER_BYTES)?;
        if u32_at(bytes, 0) != MAGIC || bytes[4] != VERSION || header_crc(bytes) != u32_at(bytes, 12) {
            return None;
        }
        let header = Self {
            kind: Kind::from_u8(bytes[5])?,
            flags: u16_at(bytes, 6),
            length: u32_at(bytes, 8),
            nonce: u64_at(bytes, 16),
            log_index: u64_at(bytes, 24),
            term: u64_at(bytes, 32),
            durable_index: u64_at(bytes, 40),
            commit_index: u64_at(bytes, 48),
            payload_crc: u32_at(bytes, 56),
            durable_block: u32_at(bytes, 60),
        };
        (header.length as usize <= MAX_ENTRY_BYTES).then_some(header)
    }

    /// CRC stored in an encoded header.
    pub(crate) fn crc_of(encoded: &[u8]) -> u32 {
        u32_at(encoded, 12)
    }

    /// Position just behind an entry that starts at `position`.
    pub(crate) fn end(&self, position: u64) -> u64 {
        position + (STORAGE_HEADER_BYTES + self.length as usize) as u64
    }
}

fn header_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..STORAGE_HEADER_BYTES])
}

/// Where the next entry can start: what is left of a block is too short for a header and skipped.
pub(crate) fn next_start(position: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    let left = block - position % block;
    if left < STORAGE_HEADER_BYTES as u64 { position + left } else { position }
}

/// `position` rounded up to a block.
pub(crate) fn round_up(position: u64) -> u64 {
    position.next_multiple_of(BLOCK_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_header() -> impl Strategy<Value = EntryHeader> {
        let kinds = prop::sample::select(vec![Kind::Batch, Kind::Control, Kind::Pad, Kind::State, Kind::Footer]);
        (kinds, any::<u16>(), 0..u32::try_from(MAX_ENTRY_BYTES).unwrap(), any::<[u64; 5]>(), any::<[u32; 2]>())
            .prop_map(
                |(
                    kind,
                    flags,
                    length,
                    [nonce, log_index, term, durable_index, commit_index],
                    [payload_crc, durable_block],
                )| {
                    EntryHeader {
                        kind,
                        flags,
                        length,
                        nonce,
                        log_index,
                        term,
                        durable_index,
                        commit_index,
                        payload_crc,
                        durable_block,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(header in any_header()) {
            prop_assert_eq!(EntryHeader::decode(&header.encode()), Some(header));
        }

        #[test]
        fn one_flipped_bit_is_no_header(header in any_header(), bit in 0..STORAGE_HEADER_BYTES * 8) {
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(EntryHeader::decode(&bytes), None);
        }
    }

    #[test]
    fn a_short_or_overlong_header_is_refused() {
        let mut header = EntryHeader {
            kind: Kind::Batch,
            flags: 0,
            length: u32::try_from(MAX_ENTRY_BYTES).unwrap() + 1,
            nonce: 1,
            log_index: 1,
            term: 1,
            durable_index: 0,
            commit_index: 0,
            payload_crc: 0,
            durable_block: 0,
        };
        assert_eq!(EntryHeader::decode(&header.encode()), None);
        header.length = 1;
        assert_eq!(EntryHeader::decode(&header.encode()[..63]), None);
    }
}
