//! A segment: its header block, its footer block, its sparse index, and what is summed up over its entries.
//!
//! ```text
//! header block (4096): magic "LVDASEG1", format u32 @8, crc u32 @12 (of the block, this field zero), cluster u128 @16,
//!   node u64 @32, topic u32 @40, partition u32 @44, number u64 @48, nonce u64 @56, first_index u64 @64,
//!   first_offset u64 @72, previous term u64 @80, created i64 us @88
//! entries from 4096 on
//! footer block (sealed segments only, the last block of the file): an entry of kind Footer whose payload is
//!   data_end u64, index_position u64, state_position u64, then the totals
//! ```

use std::rc::Rc;

use crate::config::PartitionIdentity;
use crate::disk::BLOCK_BYTES;
use crate::entry::{EntryHeader, Kind, STORAGE_HEADER_BYTES};
use crate::wire::{i64_at, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"LVDASEG1";
/// Format number of segments.
pub(crate) const SEGMENT_FORMAT: u32 = 1;
/// Position of the first entry.
pub(crate) const DATA_START: u64 = BLOCK_BYTES as u64;
/// Distance in bytes between two index entries.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 256 << 10;

/// File name of a segment.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:010}.seg")
}

/// Number of the segment with this file name.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) format: u32,
    pub(crate) identity: PartitionIdentity,
    pub(crate) number: u64,
    pub(crate) nonce: u64,
    pub(crate) first_index: u64,
    pub(crate) first_offset: u64,
    pub(crate) previous_term: u64,
    pub(crate) created_us: i64,
}

impl SegmentHeader {
    /// Writes the header into a zeroed block.
    pub(crate) fn encode_into(&self, block: &mut [u8]) {
        block[0..8].copy_from_slice(MAGIC);
        block[8..12].copy_from_slice(&self.format.to_le_bytes());
        block[16..32].copy_from_slice(&self.identity.cluster_id.to_le_bytes());
        block[32..40].copy_from_slice(&self.identity.node_id.to_le_bytes());
        block[40..44].copy_from_slice(&self.identity.topic_id.to_le_bytes());
        block[44..48].copy_from_slice(&self.identity.partition.to_le_bytes());
        block[48..56].copy_from_slice(&self.number.to_le_bytes());
        block[56..64].copy_from_slice(&self.nonce.to_le_bytes());
        block[64..72].copy_from_slice(&self.first_index.to_le_bytes());
        block[72..80].copy_from_slice(&self.first_offset.to_le_bytes());
        block[80..88].copy_from_slice(&self.previous_term.to_le_bytes());
        block[88..96].copy_from_slice(&self.created_us.to_le_bytes());
        let crc = Self::crc(block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
    }

    /// The header in a block, if the block is whole.
    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let block = block.get(..BLOCK_BYTES)?;
        if &block[..8] != MAGIC || Self::crc(block) != u32_at(block, 12) {
            return None;
        }
        Some(Self {
            format: u32_at(block, 8),
            identity: PartitionIdentity {
                cluster_id: u128::from_le_bytes(block[16..32].try_into().expect("sixteen bytes were sliced")),
                node_id: u64_at(block, 32),
                topic_id: u32_at(block, 40),
                partition: u32_at(block, 44),
            },
            number: u64_at(block, 48),
            nonce: u64_at(block, 56),
            first_index: u64_at(block, 64),
            first_offset: u64_at(block, 72),
            previous_term: u64_at(block, 80),
            created_us: i64_at(block, 88),
        })
    }

    fn crc(block: &[u8]) -> u32 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &[0; 4]);
        crc32c::crc32c_append(crc, &block[16..BLOCK_BYTES])
    }
}

/// What is summed up over the entries of a segment. Two segments with equal totals hold the same entries: the hash runs
/// over the CRCs of every header and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) first_index: u64,
    /// Index of the last replicated entry; `first_index - 1` while there is none.
    pub(crate) last_index: u64,
    pub(crate) first_offset: u64,
    pub(crate) end_offset: u64,
    /// Append time of the first batch; `i64::MIN` while there is none.
    pub(crate) first_time_us: i64,
    pub(crate) last_time_us: i64,
    pub(crate) entry_count: u64,
    pub(crate) batch_count: u64,
    pub(crate) padding_bytes: u64,
    pub(crate) hash: [u64; 2],
}

/// Encoded length of [`Totals`].
pub(crate) const TOTALS_BYTES: usize = 88;

impl Totals {
    pub(crate) fn new(first_index: u64, first_offset: u64) -> Self {
        Self {
            first_index,
            last_index: first_index.saturating_sub(1),
            first_offset,
            end_offset: first_offset,
            first_time_us: i64::MIN,
            last_time_us: i64::MIN,
            entry_count: 0,
            batch_count: 0,
            padding_bytes: 0,
            hash: [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F],
        }
    }

    /// Counts an entry that is not a batch.
    pub(crate) fn add_entry(&mut self, header: &EntryHeader, header_crc: u32) {
        if header.kind == Kind::Pad {
            self.padding_bytes += u64::from(header.length) + STORAGE_HEADER_BYTES as u64;
            return;
        }
        if header.kind.is_replicated() {
            self.last_index = header.log_index;
        }
        self.entry_count += 1;
        self.mix(header_crc, header.payload_crc);
    }

    /// Counts a batch.
    pub(crate) fn add_batch(&mut self, log_index: u64, header_crc: u32, body_crc: u32, end_offset: u64, time_us: i64) {
        self.last_index = log_index;
        self.entry_count += 1;
        self.batch_count += 1;
        self.end_offset = end_offset;
        if self.first_time_us == i64::MIN {
            self.first_time_us = time_us;
        }
        self.last_time_us = time_us;
        self.mix(header_crc, body_crc);
    }

    fn mix(&mut self, high: u32, low: u32) {
        let word = u64::from(high) << 32 | u64::from(low);
        self.hash[0] = fmix64(self.hash[0] ^ word).wrapping_add(self.hash[1]);
        self.hash[1] = fmix64(self.hash[1].rotate_left(23) ^ word.wrapping_mul(0x9FB2_1C65_1E98_DF25)) ^ self.hash[0];
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for word in [self.first_index, self.last_index, self.first_offset, self.end_offset] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.first_time_us.to_le_bytes());
        out.extend_from_slice(&self.last_time_us.to_le_bytes());
        for word in [self.entry_count, self.batch_count, self.padding_bytes, self.hash[0], self.hash[1]] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..TOTALS_BYTES)?;
        Some(Self {
            first_index: u64_at(bytes, 0),
            last_index: u64_at(bytes, 8),
            first_offset: u64_at(bytes, 16),
            end_offset: u64_at(bytes, 24),
            first_time_us: i64_at(bytes, 32),
            last_time_us: i64_at(bytes, 40),
            entry_count: u64_at(bytes, 48),
            batch_count: u64_at(bytes, 56),
            padding_bytes: u64_at(bytes, 64),
            hash: [u64_at(bytes, 72), u64_at(bytes, 80)],
        })
    }
}

fn fmix64(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    word ^= word >> 33;
    word = word.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    word ^ (word >> 33)
}

/// The footer of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Position behind the last entry; between it and the footer's block is padding, or what was cut.
    pub(crate) data_end: u64,
    /// Position of the record that holds the index, 0 if there is none.
    pub(crate) index_position: u64,
    /// Position of the newest state record, 0 if unknown.
    pub(crate) state_position: u64,
    /// The log's term when it was sealed; stands in the entry's header.
    pub(crate) term: u64,
    pub(crate) totals: Totals,
}

impl Footer {
    /// Writes the footer entry into a zeroed block. A footer that was read is written back bit for bit.
    pub(crate) fn encode_into(&self, block: &mut [u8], nonce: u64) {
        let mut payload = Vec::with_capacity(BLOCK_BYTES);
        payload.extend_from_slice(&self.data_end.to_le_bytes());
        payload.extend_from_slice(&self.index_position.to_le_bytes());
        payload.extend_from_slice(&self.state_position.to_le_bytes());
        self.totals.encode(&mut payload);
        payload.resize(BLOCK_BYTES - STORAGE_HEADER_BYTES, 0);
        let header = EntryHeader {
            kind: Kind::Footer,
            flags: 0,
            length: u32::try_from(payload.len()).expect("less than a block"),
            nonce,
            log_index: self.totals.last_index,
            term: self.term,
            durable_index: self.totals.last_index,
            commit_index: self.totals.last_index,
            payload_crc: crc32c::crc32c(&payload),
            durable_block: 0,
        };
        block[..STORAGE_HEADER_BYTES].copy_from_slice(&header.encode());
        block[STORAGE_HEADER_BYTES..].copy_from_slice(&payload);
    }

    /// The footer in a block of the segment with this nonce.
    pub(crate) fn decode(block: &[u8], nonce: u64) -> Option<(EntryHeader, Self)> {
        let header = EntryHeader::decode(block)?;
        let payload = block.get(STORAGE_HEADER_BYTES..BLOCK_BYTES)?;
        if header.kind != Kind::Footer
            || header.nonce != nonce
            || header.length as usize != payload.len()
            || header.payload_crc != crc32c::crc32c(payload)
        {
            return None;
        }
        let footer = Self {
            data_end: u64_at(payload, 0),
            index_position: u64_at(payload, 8),
            state_position: u64_at(payload, 16),
            term: header.term,
            totals: Totals::decode(&payload[24..])?,
        };
        Some((header, footer))
    }
}

/// One mark of the sparse index: a batch and where its entry starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u64,
    pub(crate) position: u64,
    pub(crate) time_us: i64,
}

/// A segment in memory.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// Random, unique: also the key of its cached blocks and descriptors.
    pub(crate) nonce: u64,
    pub(crate) sealed: bool,
    pub(crate) totals: Totals,
    /// Position behind the last entry appended.
    pub(crate) data_end: u64,
    /// Of a sealed segment: where its index record is, 0 if it has none.
    pub(crate) index_position: u64,
    /// Complete for the open segment; of a sealed one `None` until it is needed.
    pub(crate) index: Option<Rc<Vec<IndexEntry>>>,
}

impl Segment {
    /// Physical bytes, reserved space excluded.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.data_end.next_multiple_of(BLOCK_BYTES as u64) + if self.sealed { BLOCK_BYTES as u64 } else { 0 }
    }

    /// Marks a batch in the index if it is far enough from the last mark.
    pub(crate) fn note_batch(&mut self, offset: u64, position: u64, time_us: i64) {
        let index = Rc::make_mut(self.index.get_or_insert_default());
        if index.last().is_none_or(|last| last.position + INDEX_INTERVAL_BYTES <= position) {
            index.push(IndexEntry { offset, position, time_us });
        }
    }
}

/// Payload of a [`Kind::State`] record: totals and index of its segment up to the record, and the state of the layer above.
pub(crate) struct StateRecord<'a> {
    pub(crate) totals: Totals,
    pub(crate) index: Vec<IndexEntry>,
    pub(crate) upper: &'a [u8],
}

impl<'a> StateRecord<'a> {
    pub(crate) fn encode(totals: &Totals, index: &[IndexEntry], upper: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(TOTALS_BYTES + 8 + index.len() * 24 + upper.len());
        totals.encode(&mut out);
        out.extend_from_slice(&(index.len() as u64).to_le_bytes());
        for entry in index {
            out.extend_from_slice(&entry.offset.to_le_bytes());
            out.extend_from_slice(&entry.position.to_le_bytes());
            out.extend_from_slice(&entry.time_us.to_le_bytes());
        }
        out.extend_from_slice(upper);
        out
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let totals = Totals::decode(bytes)?;
        let rest = bytes.get(TOTALS_BYTES + 8..)?;
        let count = usize::try_from(u64_at(bytes, TOTALS_BYTES)).ok()?;
        let index_bytes = count.checked_mul(24).filter(|&length| length <= rest.len())?;
        let index = rest[..index_bytes]
            .chunks_exact(24)
            .map(|entry| IndexEntry {
                offset: u64_at(entry, 0),
                position: u64_at(entry, 8),
                time_us: i64_at(entry, 16),
            })
            .collect();
        Some(Self { totals, index, upper: &rest[index_bytes..] })
    }
}
