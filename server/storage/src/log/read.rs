//! Reading whole batches: from the chunks on their way to the disk, from the cache, or from cold blocks, which are read
//! once for all who wait and ahead of those who read on. Bytes that come from the disk are checked against every CRC.

use std::io;
use std::rc::Rc;

use bytes::Bytes;

use super::{Log, LogState, Step};
use crate::cache::{COLD_BLOCK_BYTES, Reading};
use crate::disk::BLOCK_BYTES;
use crate::entry::{EntryHeader, Kind, STORAGE_HEADER_BYTES, next_start, round_up};
use crate::errors::ReadError;
use crate::partition::ReadBatches;
use crate::segment::{IndexEntry, Segment, StateRecord};
use crate::wire::{BATCH_HEADER_BYTES, PRODUCER_PART_BYTES, ProducerPart, SERVER_PART_BYTES, ServerPart};

/// Where a reader will most likely go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    offset: u64,
    nonce: u64,
    position: u64,
}

const MAX_HINTS: usize = 32;
/// Cold blocks read ahead of a sequential reader.
const READ_AHEAD_BLOCKS: u64 = 4;

/// A place to read at.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    number: u64,
    nonce: u64,
    position: u64,
    data_end: u64,
    sequential: bool,
}

/// Bytes around a position, as far as they lie together in memory.
struct Window {
    bytes: Bytes,
    start: u64,
    /// From the disk: to be checked.
    cold: bool,
}

impl Window {
    fn from(&self, position: u64) -> &[u8] {
        &self.bytes[usize::try_from(position - self.start).expect("windows are small")..]
    }
}

enum Stop {
    Error(ReadError),
    /// Damage at a position, and where the next entry starts if the entry's own header can be believed.
    Damage(u64, Option<u64>),
}

/// One entry at a cursor.
struct Found {
    header: EntryHeader,
    batch: Option<FoundBatch>,
}

struct FoundBatch {
    server: ServerPart,
    producer: ProducerPart,
}

impl Log {
    /// Whole batches from `offset` on; see [`crate::Partition::read`]. `None` if `cached_only` and the disk is needed.
    pub(crate) async fn read(
        self: &Rc<Self>,
        offset: u64,
        max_bytes: usize,
        end_offset: u64,
    ) -> Result<ReadBatches, ReadError> {
        if let Some(result) = self.read_cached(offset, max_bytes, end_offset) {
            return result;
        }
        let mut batches = ReadBatches { first_offset: offset, next_offset: offset, ..ReadBatches::default() };
        let Some(mut cursor) = self.locate(offset).await? else { return Ok(batches) };
        loop {
            if cursor.data_end <= next_start(cursor.position) {
                match self.next_segment(&cursor) {
                    Some(next) => cursor = next,
                    None => break,
                }
                continue;
            }
            match self.step_cold(&mut cursor, offset, max_bytes, end_offset, &mut batches).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if 0 < batches.batch_count => break,
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Damage(position, resume)) => {
                    // A segment that was rewritten meanwhile looks damaged under its old nonce.
                    self.rewritten(Some(cursor.nonce)).await;
                    if self.segment_by_nonce(cursor.nonce).is_none() {
                        return Box::pin(self.read(offset, max_bytes, end_offset)).await;
                    }
                    let (next_offset, next_position) = self.behind_damage(&cursor, position, resume).await;
                    if offset < next_offset {
                        let file = self.path_of(cursor.number);
                        return Err(ReadError::Corrupt { first_offset: offset, next_offset, file, position });
                    }
                    // The damage lies before what is asked for.
                    cursor.position = next_position;
                }
            }
        }
        self.remember(&batches, &cursor);
        Ok(batches)
    }

    /// The same from memory only; `None` if it would touch the disk before the first batch.
    pub(crate) fn read_cached(
        &self,
        offset: u64,
        max_bytes: usize,
        end_offset: u64,
    ) -> Option<Result<ReadBatches, ReadError>> {
        let mut batches = ReadBatches { first_offset: offset, next_offset: offset, ..ReadBatches::default() };
        let mut cursor = {
            let state = self.state.borrow();
            self.locate_in_memory(&state, offset)?
        };
        loop {
            if cursor.data_end <= next_start(cursor.position) {
                match self.next_segment(&cursor) {
                    Some(next) => cursor = next,
                    None => break,
                }
                continue;
            }
            cursor.position = next_start(cursor.position);
            let Some(window) = self.window_in_memory(&cursor) else {
                if batches.batch_count == 0 {
                    return None;
                }
                break;
            };
            match take_batches(&window, &mut cursor, offset, max_bytes, end_offset, &mut batches) {
                Ok(Taken::Stop) => break,
                Ok(Taken::NeedMore) => {
                    if batches.batch_count == 0 {
                        return None;
                    }
                    break;
                }
                Ok(Taken::End) => {}
                // The cold path says what is damaged.
                Err(_) if batches.batch_count == 0 => return None,
                Err(_) => break,
            }
        }
        self.remember(&batches, &cursor);
        Some(Ok(batches))
    }

    /// One window's worth of the cold path. `Ok(false)` when the read is complete.
    async fn step_cold(
        self: &Rc<Self>,
        cursor: &mut Cursor,
        offset: u64,
        max_bytes: usize,
        end_offset: u64,
        batches: &mut ReadBatches,
    ) -> Result<bool, Stop> {
        cursor.position = next_start(cursor.position);
        let window = self.window(cursor, cursor.position).await?;
        match take_batches(&window, cursor, offset, max_bytes, end_offset, batches)? {
            Taken::Stop => return Ok(false),
            Taken::End => return Ok(true),
            Taken::NeedMore => {}
        }
        // An entry that crosses the end of its window: gather its pieces.
        let mut pieces = vec![window.bytes.slice(window.bytes.len() - window.from(cursor.position).len()..)];
        let mut cold = window.cold;
        let mut have = pieces[0].len() as u64;
        let head = self.gather_head(cursor, &mut pieces, &mut have, &mut cold).await?;
        let found = parse(&head, cursor, None)?;
        let end = found.header.end(cursor.position);
        let Some(batch) = found.batch else {
            cursor.position = end;
            return Ok(true);
        };
        let next_offset = batch.server.base_offset + u64::from(batch.producer.last_offset_delta) + 1;
        if end_offset < next_offset {
            return Ok(false);
        }
        if next_offset <= offset {
            cursor.position = end;
            return Ok(true);
        }
        follows(batches, &batch, cursor)?;
        let batch_bytes = found.header.length as usize;
        if 0 < batches.batch_count && max_bytes < batches.total_bytes + batch_bytes {
            return Ok(false);
        }
        while have < end - cursor.position {
            self.gather(cursor, &mut pieces, &mut have, &mut cold).await?;
        }
        let mut slices = Vec::with_capacity(pieces.len());
        let (mut skip, mut left) = (STORAGE_HEADER_BYTES, batch_bytes);
        for piece in pieces {
            let from = skip.min(piece.len());
            let to = piece.len().min(from + left);
            skip -= from;
            left -= to - from;
            if from < to {
                slices.push(piece.slice(from..to));
            }
        }
        if cold && !body_holds(&slices, batch.producer.crc) {
            return Err(Stop::Damage(cursor.position, Some(end)));
        }
        note_batch(batches, &batch, next_offset, batch_bytes);
        batches.slices.extend(slices);
        cursor.position = end;
        Ok(batches.total_bytes < max_bytes)
    }

    async fn gather(
        self: &Rc<Self>,
        cursor: &Cursor,
        pieces: &mut Vec<Bytes>,
        have: &mut u64,
        cold: &mut bool,
    ) -> Result<(), Stop> {
        let at = cursor.position + *have;
        if cursor.data_end <= at {
            return Err(Stop::Damage(cursor.position, None));
        }
        let window = self.window(cursor, at).await?;
        let piece = window.bytes.slice(window.bytes.len() - window.from(at).len()..);
        *have += piece.len() as u64;
        *cold |= window.cold;
        pieces.push(piece);
        Ok(())
    }

    /// The entry's headers, contiguous.
    async fn gather_head(
        self: &Rc<Self>,
        cursor: &Cursor,
        pieces: &mut Vec<Bytes>,
        have: &mut u64,
        cold: &mut bool,
    ) -> Result<Vec<u8>, Stop> {
        let wanted = (STORAGE_HEADER_BYTES + BATCH_HEADER_BYTES) as u64;
        while *have < wanted.min(cursor.data_end - cursor.position) {
            self.gather(cursor, pieces, have, cold).await?;
        }
        let mut head = Vec::with_capacity(STORAGE_HEADER_BYTES + BATCH_HEADER_BYTES);
        for piece in pieces.iter() {
            let room = STORAGE_HEADER_BYTES + BATCH_HEADER_BYTES - head.len();
            head.extend_from_slice(&piece[..room.min(piece.len())]);
        }
        Ok(head)
    }

    /// Where the batch with `offset` starts, or one not far before it. `None` when nothing is stored from there on.
    async fn locate(self: &Rc<Self>, offset: u64) -> Result<Option<Cursor>, ReadError> {
        loop {
            let missing = {
                let state = self.state.borrow();
                let Some(segment) = segment_of(&state, offset) else { return Ok(None) };
                if let Some(cursor) = self.locate_in_memory(&state, offset) {
                    return Ok(Some(cursor));
                }
                segment.nonce
            };
            self.load_index(missing).await?;
        }
    }

    fn locate_in_memory(&self, state: &LogState, offset: u64) -> Option<Cursor> {
        let segment = segment_of(state, offset)?;
        let at = |position, sequential| Cursor {
            number: segment.number,
            nonce: segment.nonce,
            position,
            data_end: segment.data_end,
            sequential,
        };
        if let Some(hint) = state.hints.iter().find(|hint| hint.offset == offset && hint.nonce == segment.nonce) {
            return Some(at(hint.position, true));
        }
        let index = match &segment.index {
            Some(index) => index,
            None if !segment.sealed => return None,
            None => return None,
        };
        let after = index.partition_point(|entry| entry.offset <= offset);
        let position = match after.checked_sub(1).and_then(|before| index.get(before)) {
            Some(entry) => entry.position,
            None => index.first().map_or(segment.data_end, |entry| entry.position),
        };
        Some(at(position, false))
    }

    /// Brings the index of a sealed segment into memory: from its index record, or by reading the segment.
    pub(crate) async fn load_index(self: &Rc<Self>, nonce: u64) -> Result<(), ReadError> {
        let Some(segment) = self.segment_by_nonce(nonce) else { return Ok(()) };
        let index = match self.read_index_record(&segment).await {
            Some(index) => index,
            None => self.rebuild_index(&segment).await?,
        };
        let mut state = self.state.borrow_mut();
        if let Some(segment) = state.segments.iter_mut().find(|segment| segment.nonce == nonce) {
            segment.index.get_or_insert(Rc::new(index));
        }
        Ok(())
    }

    fn segment_by_nonce(&self, nonce: u64) -> Option<Segment> {
        self.state.borrow().segments.iter().find(|segment| segment.nonce == nonce).cloned()
    }

    async fn read_index_record(self: &Rc<Self>, segment: &Segment) -> Option<Vec<IndexEntry>> {
        if segment.index_position == 0 {
            return None;
        }
        let storage = &self.storage;
        let path = self.path_of(segment.number);
        let file = storage.descriptors.get(&*storage.disk, segment.nonce, &path, false).await.ok()?;
        let start = segment.index_position - segment.index_position % BLOCK_BYTES as u64;
        let length = usize::try_from(round_up(segment.data_end).checked_sub(start)?).ok()?;
        if (64 << 20) < length {
            return None;
        }
        let (buffer, read) = file.read(storage.pool.take(length.max(1)), start).await;
        let bytes = &buffer.as_slice()[..read.ok()?.min(length)];
        let entry = bytes.get(usize::try_from(segment.index_position - start).ok()?..)?;
        let header = EntryHeader::decode(entry)?;
        let payload = entry.get(STORAGE_HEADER_BYTES..STORAGE_HEADER_BYTES + header.length as usize)?;
        let whole = header.nonce == segment.nonce
            && header.kind == Kind::State
            && header.payload_crc == crc32c::crc32c(payload);
        if !whole {
            return None;
        }
        Some(StateRecord::decode(payload)?.index)
    }

    async fn rebuild_index(self: &Rc<Self>, segment: &Segment) -> Result<Vec<IndexEntry>, ReadError> {
        let mut fresh = Segment { index: None, ..segment.clone() };
        let mut scanner = self.scanner(segment.number, segment.nonce, segment.data_end).await.map_err(io_error)?;
        let mut position = crate::segment::DATA_START;
        while let Some(entry) = scanner.next(&mut position).await.map_err(io_error)? {
            if let Some(batch) = entry.batch {
                fresh.note_batch(batch.server.base_offset, entry.position, batch.server.append_time_us);
            }
        }
        Ok(fresh.index.map(|index| index.to_vec()).unwrap_or_default())
    }

    fn next_segment(&self, cursor: &Cursor) -> Option<Cursor> {
        let state = self.state.borrow();
        let segment = state.segments.iter().find(|segment| cursor.number < segment.number)?;
        Some(Cursor {
            number: segment.number,
            nonce: segment.nonce,
            position: crate::segment::DATA_START,
            data_end: segment.data_end,
            sequential: cursor.sequential,
        })
    }

    fn window_in_memory(&self, cursor: &Cursor) -> Option<Window> {
        self.window_at(cursor, cursor.position)
    }

    fn window_at(&self, cursor: &Cursor, position: u64) -> Option<Window> {
        let mut state = self.state.borrow_mut();
        for step in state.steps.iter_mut().rev() {
            let Step::Chunk(chunk) = step else { continue };
            let length = chunk.buffer.len();
            if chunk.nonce != cursor.nonce || position < chunk.base || chunk.base + length as u64 <= position {
                continue;
            }
            if chunk.view.len() < length {
                chunk.view = chunk.buffer.view(0..length);
            }
            chunk.last_used = self.storage.second.get();
            return Some(Window { bytes: chunk.view.clone(), start: chunk.base, cold: false });
        }
        drop(state);
        let (bytes, start, cold) = self.storage.cache.borrow_mut().find(cursor.nonce, position)?;
        Some(Window { bytes, start, cold })
    }

    async fn window(self: &Rc<Self>, cursor: &Cursor, position: u64) -> Result<Window, Stop> {
        let block = position - position % COLD_BLOCK_BYTES;
        if let Some(window) = self.window_at(cursor, position) {
            if cursor.sequential && window.cold {
                self.read_ahead(cursor, block);
            }
            return Ok(window);
        }
        let reading = self.read_block(cursor, block);
        if cursor.sequential {
            self.read_ahead(cursor, block);
        }
        let bytes = reading.wait().await.map_err(|error| Stop::Error(ReadError::Io(error)))?;
        if block + bytes.len() as u64 <= position {
            return Err(Stop::Damage(position, None));
        }
        Ok(Window { bytes, start: block, cold: true })
    }

    fn read_ahead(self: &Rc<Self>, cursor: &Cursor, block: u64) {
        for ahead in 1..=READ_AHEAD_BLOCKS {
            let next = block + ahead * COLD_BLOCK_BYTES;
            let end = self.readable_end(cursor);
            if end <= next {
                return;
            }
            let length = COLD_BLOCK_BYTES.min(end - next);
            if !self.storage.cache.borrow().has_cold(cursor.nonce, next, length) {
                drop(self.read_block(cursor, next));
            }
        }
    }

    /// End of what is certainly on disk.
    fn readable_end(&self, cursor: &Cursor) -> u64 {
        let durable = self.state.borrow().durable;
        if durable.segment == cursor.number { durable.position } else { round_up(cursor.data_end) }
    }

    /// Starts the read of a cold block, or joins the one under way.
    fn read_block(self: &Rc<Self>, cursor: &Cursor, block: u64) -> Rc<Reading> {
        let key = (cursor.nonce, block);
        if let Some(reading) = self.storage.reading.borrow().get(&key) {
            return Rc::clone(reading);
        }
        let reading = Rc::new(Reading::default());
        self.storage.reading.borrow_mut().insert(key, Rc::clone(&reading));
        let (log, cursor, end) = (Rc::clone(self), *cursor, self.readable_end(cursor));
        let task = Rc::clone(&reading);
        self.storage.spawn(Box::pin(async move {
            let result = log.read_cold(&cursor, block, end).await.map_err(Rc::new);
            log.storage.reading.borrow_mut().remove(&key);
            if let Ok(bytes) = &result {
                log.storage.cache.borrow_mut().insert_cold(cursor.nonce, block, bytes.clone());
            }
            task.finish(result);
        }));
        reading
    }

    async fn read_cold(&self, cursor: &Cursor, block: u64, end: u64) -> io::Result<Bytes> {
        let storage = &self.storage;
        let path = self.path_of(cursor.number);
        let file = storage.descriptors.get(&*storage.disk, cursor.nonce, &path, false).await?;
        let length = usize::try_from(COLD_BLOCK_BYTES.min(end.saturating_sub(block))).expect("at most a mebibyte");
        if length == 0 {
            return Ok(Bytes::new());
        }
        let (buffer, read) = file.read(storage.pool.take(length), block).await;
        Ok(buffer.freeze(read?.min(length)))
    }

    fn remember(&self, batches: &ReadBatches, cursor: &Cursor) {
        if batches.batch_count == 0 {
            return;
        }
        let hint = Hint { offset: batches.next_offset, nonce: cursor.nonce, position: cursor.position };
        let mut state = self.state.borrow_mut();
        if let Some(old) =
            state.hints.iter_mut().find(|old| old.offset == batches.first_offset || old.offset == hint.offset)
        {
            *old = hint;
            return;
        }
        if MAX_HINTS <= state.hints.len() {
            state.hints.pop_front();
        }
        state.hints.push_back(hint);
    }

    /// Offset and position of the first batch behind a damaged place; the segment's end if there is none.
    async fn behind_damage(self: &Rc<Self>, cursor: &Cursor, position: u64, resume: Option<u64>) -> (u64, u64) {
        let end = self.readable_end(cursor).min(cursor.data_end);
        if let Ok(mut scanner) = self.scanner(cursor.number, cursor.nonce, end).await {
            let mut at = resume.unwrap_or_else(|| round_up(position + 1));
            while at < end {
                let mut next = at;
                while let Ok(Some(entry)) = scanner.next(&mut next).await {
                    if let Some(batch) = entry.batch {
                        return (batch.server.base_offset, entry.position);
                    }
                }
                at = round_up(at + 1);
            }
        }
        let state = self.state.borrow();
        let segment = state.segments.iter().find(|segment| segment.nonce == cursor.nonce);
        (segment.map_or(state.durable.offset, |segment| segment.totals.end_offset), cursor.data_end)
    }
}

fn io_error(error: io::Error) -> ReadError {
    ReadError::Io(Rc::new(error))
}

/// The segment that holds `offset`, or the first one after it.
fn segment_of(state: &LogState, offset: u64) -> Option<&Segment> {
    let after = state.segments.partition_point(|segment| segment.totals.end_offset <= offset);
    state.segments.get(after)
}

enum Taken {
    /// The read is complete.
    Stop,
    /// The entry at the cursor goes on behind the window.
    NeedMore,
    /// The window is used up.
    End,
}

/// Takes batches out of a window until it ends or the read is complete.
fn take_batches(
    window: &Window,
    cursor: &mut Cursor,
    offset: u64,
    max_bytes: usize,
    end_offset: u64,
    batches: &mut ReadBatches,
) -> Result<Taken, Stop> {
    let window_end = window.start + window.bytes.len() as u64;
    loop {
        cursor.position = next_start(cursor.position);
        if cursor.data_end <= cursor.position || window_end <= cursor.position {
            return Ok(Taken::End);
        }
        let rest = window.from(cursor.position);
        if rest.len() < STORAGE_HEADER_BYTES + BATCH_HEADER_BYTES && window_end < cursor.data_end {
            return Ok(Taken::NeedMore);
        }
        let found = parse(rest, cursor, Some(rest.len()))?;
        let end = found.header.end(cursor.position);
        let Some(batch) = found.batch else {
            if window_end < end {
                cursor.position = end;
                return Ok(Taken::End);
            }
            cursor.position = end;
            continue;
        };
        let next_offset = batch.server.base_offset + u64::from(batch.producer.last_offset_delta) + 1;
        if end_offset < next_offset {
            return Ok(Taken::Stop);
        }
        let batch_bytes = found.header.length as usize;
        if next_offset <= offset {
            cursor.position = end;
            continue;
        }
        follows(batches, &batch, cursor)?;
        if 0 < batches.batch_count && max_bytes < batches.total_bytes + batch_bytes {
            return Ok(Taken::Stop);
        }
        if window_end < end {
            return Ok(Taken::NeedMore);
        }
        let from = usize::try_from(cursor.position - window.start).expect("windows are small") + STORAGE_HEADER_BYTES;
        let slice = window.bytes.slice(from..from + batch_bytes);
        if window.cold && !body_holds(std::slice::from_ref(&slice), batch.producer.crc) {
            return Err(Stop::Damage(cursor.position, Some(end)));
        }
        note_batch(batches, &batch, next_offset, batch_bytes);
        batches.slices.push(slice);
        cursor.position = end;
        if max_bytes <= batches.total_bytes {
            return Ok(Taken::Stop);
        }
    }
}

/// Offsets are dense: a gap means that what lies between was misread.
fn follows(batches: &ReadBatches, batch: &FoundBatch, cursor: &Cursor) -> Result<(), Stop> {
    if batches.next_offset < batch.server.base_offset {
        return Err(Stop::Damage(cursor.position, Some(cursor.position)));
    }
    Ok(())
}

fn note_batch(batches: &mut ReadBatches, batch: &FoundBatch, next_offset: u64, batch_bytes: usize) {
    if batches.batch_count == 0 {
        batches.first_offset = batch.server.base_offset;
    }
    batches.batch_count += 1;
    batches.total_bytes += batch_bytes;
    batches.next_offset = next_offset;
    batches.leader_epoch = batch.server.leader_epoch;
}

/// Parses the entry at the cursor. `available` bounds nothing when the rest is still to be gathered.
fn parse(bytes: &[u8], cursor: &Cursor, available: Option<usize>) -> Result<Found, Stop> {
    let damage = || Stop::Damage(cursor.position, None);
    let header = EntryHeader::decode(bytes).filter(|header| header.nonce == cursor.nonce).ok_or_else(damage)?;
    if cursor.data_end < header.end(cursor.position) && available.is_some_and(|count| count < header.length as usize) {
        return Err(damage());
    }
    if header.kind != Kind::Batch {
        return Ok(Found { header, batch: None });
    }
    let parts = bytes.get(STORAGE_HEADER_BYTES..STORAGE_HEADER_BYTES + BATCH_HEADER_BYTES).ok_or_else(damage)?;
    let server = ServerPart::parse(parts).map_err(|_| damage())?;
    let producer = ProducerPart::parse(&parts[SERVER_PART_BYTES..]).map_err(|_| damage())?;
    if server.batch_length != header.length || (header.length as usize) < SERVER_PART_BYTES + PRODUCER_PART_BYTES {
        return Err(damage());
    }
    Ok(Found { header, batch: Some(FoundBatch { server, producer }) })
}

/// Whether the producer's CRC holds over a batch given in pieces.
fn body_holds(slices: &[Bytes], crc: u32) -> bool {
    // The CRC covers everything behind itself: the first field of the producer part.
    let mut skip = SERVER_PART_BYTES + 4;
    let mut found = 0;
    for slice in slices {
        let from = skip.min(slice.len());
        skip -= from;
        found = crc32c::crc32c_append(found, &slice[from..]);
    }
    found == crc
}
