//! Bytes of one simulated file: a length and the blocks that were ever written, shared until they change.
//!
//! Absent blocks read as zero. Blocks beyond the length may exist only while a crash is being resolved (`trim` ends that).
//! Knows nothing of what is durable.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::disk::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What a device writes as a whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len_bytes: u64,
    /// Blocks below this number are reserved.
    reserved_blocks: u64,
    /// Each exactly one block long.
    blocks: BTreeMap<u64, Bytes>,
}

impl Content {
    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Writes whole blocks and grows the length over them.
    pub(super) fn write(&mut self, offset: u64, data: &Bytes) {
        for (block, range) in blocks_of(offset, data.len()) {
            self.blocks.insert(block, data.slice(range));
        }
        self.grow(offset + data.len() as u64);
    }

    /// Writes only the sectors that `survives` picks, by their number within `data`; leaves the length as it is.
    pub(super) fn write_sectors(&mut self, offset: u64, data: &Bytes, mut survives: impl FnMut(usize) -> bool) {
        const SECTORS_PER_BLOCK: usize = BLOCK_BYTES / SECTOR_BYTES;
        for (block, range) in blocks_of(offset, data.len()) {
            let first = range.start / SECTOR_BYTES;
            let kept: [bool; SECTORS_PER_BLOCK] = std::array::from_fn(|sector| survives(first + sector));
            if kept.iter().all(|&kept| kept) {
                self.blocks.insert(block, data.slice(range));
            } else if kept.contains(&true) {
                let mut torn = self.block(block);
                for sector in (0..SECTORS_PER_BLOCK).filter(|&sector| kept[sector]) {
                    let within = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                    torn[within.clone()].copy_from_slice(&data[range.start + within.start..range.start + within.end]);
                }
                self.blocks.insert(block, torn.into());
            }
        }
    }

    pub(super) fn grow(&mut self, len_bytes: u64) {
        self.len_bytes = self.len_bytes.max(len_bytes);
    }

    pub(super) fn reserve(&mut self, len_bytes: u64) {
        self.reserved_blocks = self.reserved_blocks.max(len_bytes.div_ceil(BLOCK));
        self.grow(len_bytes);
    }

    /// Sets the length; bytes cut off read as zero if the file grows again.
    pub(super) fn set_len(&mut self, len_bytes: u64) {
        self.len_bytes = len_bytes;
        self.trim();
    }

    /// Drops what lies beyond the length.
    pub(super) fn trim(&mut self) {
        self.reserved_blocks = self.reserved_blocks.min(self.len_bytes.div_ceil(BLOCK));
        drop(self.blocks.split_off(&self.len_bytes.div_ceil(BLOCK)));
        let last = self.len_bytes / BLOCK;
        if self.blocks.contains_key(&last) {
            let mut cut = self.block(last);
            let kept = usize::try_from(self.len_bytes % BLOCK).expect("below the size of a block");
            cut[kept..].fill(0);
            self.blocks.insert(last, cut.into());
        }
    }

    /// Copies from `offset` and returns how much there was before the end.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let available = self.len_bytes.saturating_sub(offset);
        let count = usize::try_from(available).unwrap_or(usize::MAX).min(out.len());
        for (block, range) in blocks_of(offset, count) {
            let target = &mut out[range];
            match self.blocks.get(&block) {
                Some(bytes) => target.copy_from_slice(&bytes[..target.len()]),
                None => target.fill(0),
            }
        }
        count
    }

    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        let mut flipped = self.block(offset / BLOCK);
        let within = usize::try_from(offset % BLOCK).expect("below the size of a block");
        flipped[within] ^= 1 << (bit % 8);
        self.blocks.insert(offset / BLOCK, flipped.into());
    }

    /// Blocks it takes on the device.
    pub(super) fn allocated_blocks(&self) -> u64 {
        self.reserved_blocks + self.blocks.range(self.reserved_blocks..).count() as u64
    }

    /// Blocks a write would newly take.
    pub(super) fn blocks_to_write(&self, offset: u64, len: usize) -> u64 {
        let fresh = |block: &u64| self.reserved_blocks <= *block && !self.blocks.contains_key(block);
        blocks_of(offset, len).map(|(block, _)| block).filter(fresh).count() as u64
    }

    /// Blocks a reservation would newly take.
    pub(super) fn blocks_to_reserve(&self, len_bytes: u64) -> u64 {
        let end = len_bytes.div_ceil(BLOCK);
        if end <= self.reserved_blocks {
            return 0;
        }
        end - self.reserved_blocks - self.blocks.range(self.reserved_blocks..end).count() as u64
    }

    fn block(&self, block: u64) -> Vec<u8> {
        self.blocks.get(&block).map_or_else(|| vec![0; BLOCK_BYTES], |bytes| bytes.to_vec())
    }
}

/// Blocks under `len` bytes at a block-aligned `offset`, each with its range within the bytes.
fn blocks_of(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let first = offset / BLOCK;
    (0..len.div_ceil(BLOCK_BYTES))
        .map(move |index| (first + index as u64, index * BLOCK_BYTES..((index + 1) * BLOCK_BYTES).min(len)))
}
