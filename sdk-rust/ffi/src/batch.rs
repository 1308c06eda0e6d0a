//! A received batch as it crosses to another language: the uncompressed bytes, and a table that says where the parts of each
//! message lie. Nothing is converted before it is read.
//!
//! | entry | bytes | |
//! |---|---|---|
//! | payload offset, length | 0, 4 | u32 each, in the bytes |
//! | key offset, length | 8, 12 | u32 each |
//! | headers offset, length | 16, 20 | u32 each; encoded as in spec.md |
//! | offset delta | 24 | u32, from the batch's base offset |
//! | flags | 28 | u32: 1 null payload, 2 has key, 4 has id (the 16 bytes before the key) |
//! | timestamp | 32 | i64, microseconds since the Unix epoch |

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use levada::{Header, MessageSpan};

/// Bytes of an entry of [`Batch::table`], little-endian.
pub const TABLE_ENTRY_BYTES: usize = 40;

const FLAG_NULL_PAYLOAD: u32 = 1;
const FLAG_HAS_KEY: u32 = 2;
const FLAG_HAS_ID: u32 = 4;
const ID_BYTES: usize = 16;

/// Messages of one partition, consecutive in the log. Cloning is cheap; the memory is shared.
#[derive(Clone)]
pub struct Batch {
    whole: Arc<Whole>,
    /// Which of its messages are meant.
    part: Range<usize>,
}

struct Whole {
    batch: levada::Batch,
    table: Vec<u8>,
}

/// A message of a batch, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// Its offset.
    pub offset: u64,
    /// When it happened, in microseconds since the Unix epoch.
    pub timestamp_us: i64,
    /// What it says; absent differs from empty.
    pub payload: Option<&'a [u8]>,
    /// What it is about; absent differs from empty.
    pub key: Option<&'a [u8]>,
    /// The application's own identity.
    pub id: Option<[u8; ID_BYTES]>,
}

struct Entry {
    payload: Range<usize>,
    key: Range<usize>,
    headers: Range<usize>,
    offset_delta: u32,
    flags: u32,
    timestamp_us: i64,
}

impl Batch {
    pub(crate) fn new(batch: levada::Batch) -> Batch {
        let mut table = Vec::with_capacity(batch.message_count() * TABLE_ENTRY_BYTES);
        for span in batch.spans() {
            table.extend_from_slice(&encode(&span));
        }
        let part = 0..table.len() / TABLE_ENTRY_BYTES;
        Batch { whole: Arc::new(Whole { batch, table }), part }
    }

    /// The messages from the `skip`th on, at most `count`.
    pub(crate) fn part(&self, skip: usize, count: usize) -> Batch {
        let start = self.part.start + skip.min(self.part.len());
        let end = start + count.min(self.part.end - start);
        Batch { whole: Arc::clone(&self.whole), part: start..end }
    }

    /// Their topic, `stream/topic`.
    pub fn topic(&self) -> &str {
        self.whole.batch.topic()
    }

    pub(crate) fn core(&self) -> &levada::Batch {
        &self.whole.batch
    }

    /// Their partition.
    pub fn partition(&self) -> u32 {
        self.whole.batch.partition()
    }

    /// What offset deltas count from.
    pub fn base_offset(&self) -> u64 {
        self.whole.batch.base_offset()
    }

    /// Offset of the first message.
    pub fn first_offset(&self) -> u64 {
        self.message(0).map_or(self.whole.batch.first_offset(), |message| message.offset)
    }

    /// Offset after the last message: where a consumer that has handled them goes on.
    pub fn next_offset(&self) -> u64 {
        if self.part.end == self.whole.table.len() / TABLE_ENTRY_BYTES {
            return self.whole.batch.next_offset();
        }
        self.part.len().checked_sub(1).and_then(|last| self.message(last)).map_or(self.first_offset(), |m| m.offset + 1)
    }

    /// When they were appended, in microseconds since the Unix epoch.
    pub fn append_time_us(&self) -> i64 {
        self.whole.batch.append_time_us()
    }

    /// How many messages.
    pub fn message_count(&self) -> usize {
        self.part.len()
    }

    /// The uncompressed bytes that the table points into.
    pub fn bytes(&self) -> &Bytes {
        self.whole.batch.bytes()
    }

    /// An entry of [`TABLE_ENTRY_BYTES`] for each message.
    pub fn table(&self) -> &[u8] {
        &self.whole.table[self.part.start * TABLE_ENTRY_BYTES..self.part.end * TABLE_ENTRY_BYTES]
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        let entry: &[u8; TABLE_ENTRY_BYTES] = self.table().chunks_exact(TABLE_ENTRY_BYTES).nth(index)?.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        let range = |at: usize| word(at) as usize..word(at) as usize + word(at + 4) as usize;
        let timestamp = [32, 33, 34, 35, 36, 37, 38, 39].map(|at| entry[at]);
        Some(Entry {
            payload: range(0),
            key: range(8),
            headers: range(16),
            offset_delta: word(24),
            flags: word(28),
            timestamp_us: i64::from_le_bytes(timestamp),
        })
    }

    /// One message; `None` beyond the last.
    pub fn message(&self, index: usize) -> Option<MessageView<'_>> {
        let entry = self.entry(index)?;
        let bytes = self.bytes();
        let has = |flag: u32| entry.flags & flag != 0;
        let id = entry.key.start.saturating_sub(ID_BYTES)..entry.key.start;
        Some(MessageView {
            offset: self.base_offset() + u64::from(entry.offset_delta),
            timestamp_us: entry.timestamp_us,
            payload: if has(FLAG_NULL_PAYLOAD) { None } else { bytes.get(entry.payload) },
            key: if has(FLAG_HAS_KEY) { bytes.get(entry.key) } else { None },
            id: if has(FLAG_HAS_ID) { bytes.get(id).and_then(|id| id.first_chunk().copied()) } else { None },
        })
    }

    /// The headers of one message, in order; none beyond the last.
    pub fn headers(&self, index: usize) -> Vec<Header> {
        self.entry(index).map_or_else(Vec::new, |entry| self.whole.batch.headers_in(entry.headers))
    }
}

fn encode(span: &MessageSpan) -> [u8; TABLE_ENTRY_BYTES] {
    let mut flags = 0;
    flags |= if span.is_null() { FLAG_NULL_PAYLOAD } else { 0 };
    flags |= if span.has_key() { FLAG_HAS_KEY } else { 0 };
    flags |= if span.id_range().is_some() { FLAG_HAS_ID } else { 0 };
    let headers_start = span.key_start + u32::from(span.key_length);
    let words = [
        span.payload_start,
        span.payload_length,
        span.key_start,
        u32::from(span.key_length),
        headers_start,
        u32::from(span.headers_length),
        span.offset_delta,
        flags,
    ];
    let mut entry = [0; TABLE_ENTRY_BYTES];
    for (place, word) in entry.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    entry[32..].copy_from_slice(&span.timestamp_us.to_le_bytes());
    entry
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("partition", &self.partition())
            .field("first_offset", &self.first_offset())
            .field("message_count", &self.message_count())
            .finish_non_exhaustive()
    }
}
