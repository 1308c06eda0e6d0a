//! Appending: an entry goes into the open chunk of the open segment; chunks, state records and segments follow from size
//! and age. Everything here is synchronous and in memory; the writer does the same steps on disk, in the same order.

use std::rc::Rc;

use bytes::Bytes;

use super::{Active, Chunk, Log, LogState, Mark, Phase, Step};
use crate::disk::BLOCK_BYTES;
use crate::entry::{EntryHeader, FLAG_INDEX_ONLY, Kind, MAX_ENTRY_BYTES, STORAGE_HEADER_BYTES, next_start, round_up};
use crate::errors::AppendError;
use crate::segment::{DATA_START, Footer, SEGMENT_FORMAT, Segment, SegmentHeader, StateRecord, Totals};
use crate::stock::chunk_memory;
use crate::storage::Shared;

/// Chunks grow from this while they fill quickly.
pub(super) const MIN_CHUNK_BYTES: usize = 64 << 10;
/// Largest chunk, and so the largest commit, unless one entry is larger.
const MAX_CHUNK_BYTES: usize = 4 << 20;
/// A state record is written each time this much was appended, or eight times its own length.
const STATE_INTERVAL_BYTES: u64 = 16 << 20;

/// A message batch as the index and the totals see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchMark {
    pub(crate) base_offset: u64,
    pub(crate) end_offset: u64,
    pub(crate) time_us: i64,
    /// The producer's CRC.
    pub(crate) crc: u32,
}

/// An entry to append.
pub(crate) struct NewEntry<'a> {
    pub(crate) kind: Kind,
    pub(crate) flags: u16,
    /// The payload, in pieces.
    pub(crate) parts: [&'a [u8]; 2],
    pub(crate) batch: Option<BatchMark>,
}

/// Where an entry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) index: u64,
    pub(crate) sequence: u64,
}

/// Writes the state of the layer above behind what is in the vector.
pub(crate) type EncodeState<'a> = &'a dyn Fn(&mut Vec<u8>);

impl Log {
    /// Why no message entry can be appended now.
    pub(crate) fn admit(&self, entry_bytes: usize) -> Result<(), AppendError> {
        if self.storage.is_failed() {
            return Err(AppendError::Failed);
        }
        let state = self.state.borrow();
        match &state.phase {
            Phase::Open => {}
            Phase::ReadOnly(reason) => return Err(AppendError::ReadOnly(Rc::clone(reason))),
            Phase::Closing | Phase::Closed => return Err(AppendError::Closed),
            Phase::Failed => return Err(AppendError::Failed),
        }
        if state.stalled || self.storage.is_full() {
            return Err(AppendError::DiskFull);
        }
        if 0 < state.pending_bytes && state.policy.pending_bytes < state.pending_bytes + entry_bytes as u64 {
            return Err(AppendError::Full);
        }
        Ok(())
    }

    /// Appends an entry. Admission is the caller's business; the writer is started by the caller too ([`Log::kick`]).
    pub(crate) fn append(&self, entry: &NewEntry<'_>, encode_state: EncodeState<'_>, now_us: i64) -> Placed {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let payload_bytes: usize = entry.parts.iter().map(|part| part.len()).sum();
        debug_assert!(payload_bytes <= MAX_ENTRY_BYTES);
        let entry_bytes = STORAGE_HEADER_BYTES + payload_bytes;
        self.make_segment(state, entry_bytes as u64, encode_state, now_us);
        let placed = self.put(state, entry);
        let active = state.active.as_mut().expect("make_segment opened one");
        active.bytes_since_state += entry_bytes as u64;
        active.first_append.get_or_insert(now_us);
        placed
    }

    /// Changes the term (leader epoch) of what is appended from now on.
    pub(crate) fn set_term(&self, term: u64) {
        self.state.borrow_mut().term = term;
    }

    /// Seals the open segment; the next append starts another.
    pub(crate) fn seal(&self) {
        let mut state = self.state.borrow_mut();
        if state.active.is_some() {
            self.seal_active(&mut state);
        }
    }

    /// Ensures an open segment with room, headed by a state record that is recent enough.
    fn make_segment(&self, state: &mut LogState, entry_bytes: u64, encode_state: EncodeState<'_>, now_us: i64) {
        if let Some(active) = state.active {
            let end = state.segments.back().map_or(0, |segment| segment.data_end);
            let too_long = DATA_START < end && state.policy.segment_bytes < round_up(end + entry_bytes);
            let too_old = active
                .first_append
                .is_some_and(|first| state.policy.roll_age_us < u64::try_from(now_us - first).unwrap_or(0));
            if active.first_append.is_some() && (too_long || too_old) {
                self.seal_active(state);
            }
        }
        if state.active.is_none() {
            self.open_segment(state, now_us);
            self.put_state(state, 0, encode_state);
        } else if let Some(active) = state.active
            && STATE_INTERVAL_BYTES <= active.bytes_since_state
        {
            self.put_state(state, 0, encode_state);
        }
    }

    fn open_segment(&self, state: &mut LogState, now_us: i64) {
        let (first_index, first_offset) = (state.appended.index + 1, state.appended.offset);
        let header = SegmentHeader {
            format: SEGMENT_FORMAT,
            identity: self.identity,
            number: state.next_segment,
            nonce: self.storage.nonce(),
            first_index,
            first_offset,
            previous_term: state.term,
            created_us: now_us,
        };
        state.segments.push_back(Segment {
            number: header.number,
            nonce: header.nonce,
            sealed: false,
            totals: Totals::new(first_index, first_offset),
            data_end: DATA_START,
            index_position: 0,
            index: None,
        });
        state.next_segment += 1;
        state.active = Some(Active { zeroed_to: DATA_START, ..Active::default() });
        state.steps.push_back(Step::Create(header));
    }

    fn put_state(&self, state: &mut LogState, flags: u16, encode_state: EncodeState<'_>) {
        let mut upper = Vec::new();
        encode_state(&mut upper);
        self.put_state_bytes(state, flags, &upper);
    }

    /// Appends a state record of the open segment.
    pub(crate) fn append_state(&self, flags: u16, encode_state: EncodeState<'_>, now_us: i64) -> Placed {
        let mut state = self.state.borrow_mut();
        if state.active.is_none() {
            self.open_segment(&mut state, now_us);
        }
        self.put_state(&mut state, flags, encode_state);
        Placed { index: state.appended.index, sequence: state.appended.sequence }
    }

    fn put_state_bytes(&self, state: &mut LogState, flags: u16, upper: &[u8]) -> u64 {
        let segment = state.segments.back().expect("a state record belongs to the open segment");
        let index = segment.index.as_ref().map_or(&[][..], |index| index);
        let record = StateRecord::encode(&segment.totals, index, upper);
        let entry = NewEntry { kind: Kind::State, flags, parts: [&record, &[]], batch: None };
        let position = self.put_at(state, &entry).1;
        let active = state.active.as_mut().expect("a state record belongs to the open segment");
        if flags & FLAG_INDEX_ONLY == 0 {
            active.state_position = position;
            active.bytes_since_state = 0;
        }
        position
    }

    /// Closes the open segment in memory: index record, padding, footer.
    fn seal_active(&self, state: &mut LogState) {
        let index_position = self.put_state_bytes(state, FLAG_INDEX_ONLY, &[]);
        close_chunk(state);
        let state_position = state.active.map_or(0, |active| active.state_position);
        let term = state.term;
        let segment = state.segments.back_mut().expect("an active segment is the last one");
        segment.sealed = true;
        segment.index_position = index_position;
        let footer =
            Footer { data_end: segment.data_end, index_position, state_position, term, totals: segment.totals };
        let step = Step::Seal { number: segment.number, nonce: segment.nonce, footer };
        state.steps.push_back(step);
        state.active = None;
    }

    fn put(&self, state: &mut LogState, entry: &NewEntry<'_>) -> Placed {
        self.put_at(state, entry).0
    }

    /// Copies an entry into the open chunk, which is replaced if it is too small.
    fn put_at(&self, state: &mut LogState, entry: &NewEntry<'_>) -> (Placed, u64) {
        let payload_bytes: usize = entry.parts.iter().map(|part| part.len()).sum();
        let entry_bytes = STORAGE_HEADER_BYTES + payload_bytes;
        self.make_chunk(state, entry_bytes);
        if entry.kind.is_replicated() {
            state.appended.index += 1;
        }
        state.appended.sequence += 1;
        let header = new_header(state, entry, payload_bytes).encode();
        let segment = state.segments.back_mut().expect("make_chunk has a segment");
        let Some(Step::Chunk(chunk)) = state.steps.back_mut() else { unreachable!("make_chunk left an open chunk") };
        let position = chunk.base + chunk.buffer.len() as u64;
        chunk.buffer.append(&header);
        entry.parts.iter().for_each(|part| chunk.buffer.append(part));
        let header_crc = EntryHeader::crc_of(&header);
        if let Some(batch) = entry.batch {
            segment.note_batch(batch.base_offset, position, batch.time_us);
            segment.totals.add_batch(state.appended.index, header_crc, batch.crc, batch.end_offset, batch.time_us);
            state.appended.offset = batch.end_offset;
        } else {
            let header = EntryHeader::decode(&header).expect("a header that was just encoded decodes");
            segment.totals.add_entry(&header, header_crc);
        }
        segment.data_end = position + entry_bytes as u64;
        state.appended.segment = segment.number;
        state.appended.position = segment.data_end;
        chunk.end = state.appended;
        chunk.last_used = self.storage.second.get();
        state.pending_bytes += entry_bytes as u64;
        (Placed { index: state.appended.index, sequence: state.appended.sequence }, position)
    }

    fn make_chunk(&self, state: &mut LogState, entry_bytes: usize) {
        let segment = state.segments.back().expect("entries go to a segment");
        let (number, nonce) = (segment.number, segment.nonce);
        if let Some(Step::Chunk(chunk)) = state.steps.back_mut()
            && !chunk.closed
            && chunk.segment == number
        {
            align(chunk, segment_totals(&mut state.segments), &state.durable, state.term);
            if entry_bytes <= chunk.buffer.remaining() {
                return;
            }
            close_chunk(state);
        }
        let capacity = next_chunk_bytes(&self.storage, state).max(entry_bytes);
        let base = round_up(state.segments.back().map_or(DATA_START, |segment| segment.data_end));
        let chunk = Chunk {
            segment: number,
            nonce,
            base,
            buffer: chunk_memory(&self.storage, capacity),
            submitted: 0,
            written: 0,
            end: state.appended,
            closed: false,
            view: Bytes::new(),
            last_used: self.storage.second.get(),
        };
        state.steps.push_back(Step::Chunk(chunk));
    }
}

fn segment_totals(segments: &mut std::collections::VecDeque<Segment>) -> &mut Totals {
    &mut segments.back_mut().expect("an open chunk has a segment").totals
}

/// The size of the next chunk: twice the last one while they fill within a second, the smallest after a pause.
fn next_chunk_bytes(storage: &Shared, state: &mut LogState) -> usize {
    let second = storage.second.get();
    state.chunk_bytes = if second <= state.chunk_second + 1 {
        (state.chunk_bytes * 2).clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES)
    } else {
        MIN_CHUNK_BYTES
    };
    state.chunk_second = second;
    state.chunk_bytes
}

fn new_header(state: &LogState, entry: &NewEntry<'_>, payload_bytes: usize) -> EntryHeader {
    let segment = state.segments.back().expect("entries go to a segment");
    let payload_crc = match entry.kind {
        Kind::Batch | Kind::Pad => 0,
        _ => entry.parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part)),
    };
    EntryHeader {
        kind: entry.kind,
        flags: entry.flags,
        length: u32::try_from(payload_bytes).expect("entries are far shorter than 4 GiB"),
        nonce: segment.nonce,
        log_index: state.appended.index,
        term: state.term,
        durable_index: state.durable.index,
        commit_index: state.durable.index,
        payload_crc,
        durable_block: durable_block(&state.durable, segment.number),
    }
}

fn durable_block(durable: &Mark, segment: u64) -> u32 {
    if durable.segment == segment { u32::try_from(durable.position / BLOCK_BYTES as u64).unwrap_or(0) } else { 0 }
}

/// Skips what is left of a block when no header fits into it.
fn align(chunk: &mut Chunk, totals: &mut Totals, durable: &Mark, term: u64) {
    let position = chunk.base + chunk.buffer.len() as u64;
    if next_start(position) != position {
        pad(chunk, totals, durable, term);
    }
}

/// Fills a chunk up to its block with a pad entry, which carries the newest durable position.
pub(super) fn pad(chunk: &mut Chunk, totals: &mut Totals, durable: &Mark, term: u64) {
    let position = chunk.base + chunk.buffer.len() as u64;
    let gap = usize::try_from(round_up(position) - position).expect("less than a block");
    if gap < STORAGE_HEADER_BYTES {
        totals.padding_bytes += gap as u64;
        chunk.buffer.append_zeros(gap);
        return;
    }
    let header = EntryHeader {
        kind: Kind::Pad,
        flags: 0,
        length: u32::try_from(gap - STORAGE_HEADER_BYTES).expect("less than a block"),
        nonce: chunk.nonce,
        log_index: chunk.end.index,
        term,
        durable_index: durable.index,
        commit_index: durable.index,
        payload_crc: 0,
        durable_block: durable_block(durable, chunk.segment),
    };
    totals.padding_bytes += gap as u64;
    chunk.buffer.append(&header.encode());
    chunk.buffer.append_zeros(gap - STORAGE_HEADER_BYTES);
}

/// Ends the open chunk, if there is one.
pub(super) fn close_chunk(state: &mut LogState) {
    let (durable, term) = (state.durable, state.term);
    if let Some(Step::Chunk(chunk)) = state.steps.back_mut()
        && !chunk.closed
    {
        if let Some(segment) = state.segments.back_mut()
            && segment.number == chunk.segment
        {
            pad(chunk, &mut segment.totals, &durable, term);
            segment.data_end = chunk.base + chunk.buffer.len() as u64;
        }
        chunk.closed = true;
    }
}
