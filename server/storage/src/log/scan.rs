//! Walking the entries of a segment file with every check: header, nonce, length, CRCs of payload, server part and body.

use std::io;
use std::rc::Rc;

use super::Log;
use crate::buffer::BufferPool;
use crate::disk::{BLOCK_BYTES, File};
use crate::entry::{EntryHeader, Kind, STORAGE_HEADER_BYTES, next_start};
use crate::wire::{BATCH_HEADER_BYTES, ProducerPart, SERVER_PART_BYTES, ServerPart};

const READ_BYTES: usize = 1 << 20;

/// The headers of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScannedBatch {
    pub(crate) server: ServerPart,
    pub(crate) producer: ProducerPart,
}

impl ScannedBatch {
    /// One past its last offset.
    pub(crate) fn end_offset(&self) -> u64 {
        self.server.base_offset + u64::from(self.producer.last_offset_delta) + 1
    }
}

/// An entry that passed every check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanned {
    pub(crate) position: u64,
    pub(crate) header: EntryHeader,
    pub(crate) header_crc: u32,
    pub(crate) batch: Option<ScannedBatch>,
}

/// A window that slides over a file.
pub(crate) struct Scanner {
    file: Rc<dyn File>,
    pool: BufferPool,
    nonce: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
    pub(crate) read_bytes: u64,
}

impl Log {
    /// A scanner over a segment's file up to `end`.
    pub(crate) async fn scanner(&self, number: u64, nonce: u64, end: u64) -> io::Result<Scanner> {
        let storage = &self.storage;
        let path = self.path_of(number);
        let file = storage.descriptors.get(&*storage.disk, nonce, &path, false).await?;
        Ok(Scanner::new(file, &storage.pool, nonce, end))
    }
}

impl Scanner {
    pub(crate) fn new(file: Rc<dyn File>, pool: &BufferPool, nonce: u64, end: u64) -> Self {
        Self { file, pool: pool.clone(), nonce, end, window: Vec::new(), window_start: 0, read_bytes: 0 }
    }

    /// The entry at `position`, which moves behind it; `None` where no whole entry starts, `position` unmoved but for
    /// the skipped end of a block.
    pub(crate) async fn next(&mut self, position: &mut u64) -> io::Result<Option<Scanned>> {
        *position = next_start(*position);
        let at = *position;
        if self.end < at + STORAGE_HEADER_BYTES as u64 || !self.fill(at, STORAGE_HEADER_BYTES).await? {
            return Ok(None);
        }
        let head = self.slice(at, STORAGE_HEADER_BYTES);
        let Some(header) = EntryHeader::decode(head).filter(|header| header.nonce == self.nonce) else {
            return Ok(None);
        };
        let header_crc = EntryHeader::crc_of(head);
        let length = header.length as usize;
        if self.end < header.end(at) || !self.fill(at, STORAGE_HEADER_BYTES + length).await? {
            return Ok(None);
        }
        let payload = self.slice(at + STORAGE_HEADER_BYTES as u64, length);
        let batch = match header.kind {
            Kind::Batch => match check_batch(payload) {
                Some(batch) => Some(batch),
                None => return Ok(None),
            },
            Kind::Pad if payload.iter().any(|&byte| byte != 0) => return Ok(None),
            Kind::Pad => None,
            _ if crc32c::crc32c(payload) != header.payload_crc => return Ok(None),
            _ => None,
        };
        *position = header.end(at);
        Ok(Some(Scanned { position: at, header, header_crc, batch }))
    }

    /// Payload of the entry found last.
    pub(crate) fn payload(&self, entry: &Scanned) -> &[u8] {
        self.slice(entry.position + STORAGE_HEADER_BYTES as u64, entry.header.length as usize)
    }

    /// Whether everything from `position` to the end of the file is zero.
    pub(crate) async fn is_zero_from(&mut self, position: u64) -> io::Result<bool> {
        let mut at = position;
        while at < self.end {
            let length = usize::try_from((self.end - at).min(READ_BYTES as u64)).expect("at most a mebibyte");
            if !self.fill(at, length).await? {
                return Ok(true);
            }
            if self.slice(at, length).iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += length as u64;
        }
        Ok(true)
    }

    fn slice(&self, position: u64, length: usize) -> &[u8] {
        let from = usize::try_from(position - self.window_start).expect("windows are small");
        &self.window[from..from + length]
    }

    /// Brings `length` bytes at `position` into the window; `false` if the file ends before.
    async fn fill(&mut self, position: u64, length: usize) -> io::Result<bool> {
        let block = BLOCK_BYTES as u64;
        let window_end = self.window_start + self.window.len() as u64;
        if position < self.window_start || window_end < position {
            self.window.clear();
            self.window_start = position - position % block;
        } else if window_end < position + length as u64 {
            let keep_from = position - position % block;
            let drop = usize::try_from(keep_from - self.window_start.min(keep_from)).expect("windows are small");
            self.window.drain(..drop);
            self.window_start += drop as u64;
        }
        while self.window_start + (self.window.len() as u64) < position + length as u64 {
            let from = self.window_start + self.window.len() as u64;
            if !from.is_multiple_of(block) || self.end <= from {
                return Ok(false);
            }
            let (buffer, read) = self.file.read(self.pool.take(READ_BYTES), from).await;
            let count = read?.min(usize::try_from(self.end - from).unwrap_or(usize::MAX));
            if count == 0 {
                return Ok(false);
            }
            self.read_bytes += count as u64;
            self.window.extend_from_slice(&buffer.as_slice()[..count]);
        }
        Ok(true)
    }
}

fn check_batch(payload: &[u8]) -> Option<ScannedBatch> {
    let server = ServerPart::parse(payload).ok()?;
    if server.batch_length as usize != payload.len() || payload.len() < BATCH_HEADER_BYTES {
        return None;
    }
    let producer = ProducerPart::parse(&payload[SERVER_PART_BYTES..]).ok()?;
    let whole = producer.body_bytes as usize == payload.len() - BATCH_HEADER_BYTES
        && crc32c::crc32c(&payload[SERVER_PART_BYTES + 4..]) == producer.crc;
    whole.then_some(ScannedBatch { server, producer })
}
