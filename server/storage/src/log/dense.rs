//! Rewriting sparse segments: small commits are mostly padding. A sealed segment that is more than half padding is copied
//! without it, under a new nonce, beside the original, and takes its place by a rename.
//!
//! The copy is whole and durable before the rename, so a crash leaves one or the other. One segment of a core at a time, and
//! only behind the one that holds the log's durable end, where nothing refers to positions. Readers who meet the exchange wait
//! for its end and find their place again by offset.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::scan::{Scanned, Scanner};
use super::{Log, LogState, Phase};
use crate::disk::{BLOCK_BYTES, Durable, File, OpenMode};
use crate::entry::{EntryHeader, FLAG_INDEX_ONLY, Kind, next_start, round_up};
use crate::segment::{DATA_START, Footer, Segment, SegmentHeader, StateRecord, Totals};
use crate::storage::Shared;

/// The copy is written in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;

/// Why there is no copy.
enum Stop {
    /// The original stays as it is, and why.
    Leave(&'static str),
    /// A write, flush or rename failed.
    Failed(PathBuf, io::Error),
}

/// Begins to rewrite the log's sparse segments, unless another log of this core is at it: then the next roll asks again.
pub(super) fn start(log: &Rc<Log>) {
    if log.storage.rewriting.get() {
        return;
    }
    let chosen = choose(&mut log.state.borrow_mut());
    let Some(segment) = chosen else { return };
    let log = Rc::clone(log);
    let storage = Rc::clone(&log.storage);
    storage.rewriting.set(true);
    storage.spawn(Box::pin(async move { run(&log, segment).await }));
}

/// Takes the next segment to look at; none is looked at twice in a process.
fn choose(state: &mut LogState) -> Option<Segment> {
    if state.rewriting.is_some() || !matches!(state.phase, Phase::Open) {
        return None;
    }
    let (from, durable) = (state.rewrite_from, state.durable.segment);
    let found = state.segments.iter().find(|one| from <= one.number && one.number < durable && is_sparse(one))?.clone();
    state.rewriting = Some(found.nonce);
    state.rewrite_from = found.number + 1;
    Some(found)
}

fn is_sparse(segment: &Segment) -> bool {
    let data_bytes = segment.data_end - DATA_START.min(segment.data_end);
    segment.sealed && data_bytes < 2 * segment.totals.padding_bytes
}

async fn run(log: &Rc<Log>, first: Segment) {
    let mut next = Some(first);
    while let Some(segment) = next {
        let outcome = rewrite(log, &segment).await;
        match &outcome {
            Ok(_) => {}
            Err(Stop::Leave(why)) => {
                tracing::warn!(partition = %log.identity, segment = segment.number, why, "a sparse segment is not rewritten");
            }
            Err(Stop::Failed(path, error)) => log.storage.fail(path, "rewrite a sparse segment", error),
        }
        let mut state = log.state.borrow_mut();
        state.rewriting = None;
        if let Ok(dense) = outcome {
            let (before, after) = (segment.data_end, dense.data_end);
            if let Some(place) = state.segments.iter_mut().find(|one| one.nonce == segment.nonce) {
                *place = dense;
            }
            tracing::debug!(partition = %log.identity, segment = segment.number, before, after, "rewrote a sparse segment");
        }
        next = choose(&mut state);
        drop(state);
        log.storage.descriptors.remove(segment.nonce);
        log.storage.cache.borrow_mut().remove_segment(segment.nonce);
        log.announce();
    }
    log.storage.rewriting.set(false);
}

async fn rewrite(log: &Rc<Log>, segment: &Segment) -> Result<Segment, Stop> {
    let storage = &log.storage;
    let disk = &*storage.disk;
    let path = log.path_of(segment.number);
    let temporary = path.with_extension("seg.tmp");
    // Readers of the original that come while the names change must not need its file for the index.
    log.load_index(segment.nonce).await.map_err(|_| Stop::Leave("its index cannot be read"))?;
    let dense = match copy(log, segment, &path, &temporary).await {
        Ok(dense) => dense,
        Err(stop) => {
            // What is left is removed at the next open.
            disk.remove_file(&temporary).await.ok();
            return Err(stop);
        }
    };
    disk.rename(&temporary, &path).await.map_err(|error| Stop::Failed(path.clone(), error))?;
    disk.sync_dir(&log.dir).await.map_err(|error| Stop::Failed(log.dir.clone(), error))?;
    storage.look_at_space().await;
    Ok(dense)
}

/// Writes the copy and makes it durable under its temporary name.
async fn copy(log: &Rc<Log>, segment: &Segment, path: &Path, temporary: &Path) -> Result<Segment, Stop> {
    let storage = &log.storage;
    let original = storage.disk.open(path, OpenMode::Read).await.map_err(|_| Stop::Leave("it cannot be opened"))?;
    let header = read_header(storage, &*original).await.filter(|header| header.nonce == segment.nonce);
    let header = SegmentHeader { nonce: storage.nonce(), ..header.ok_or(Stop::Leave("its header cannot be read"))? };
    let mut scanner = Scanner::new(original, &storage.pool, segment.nonce, round_up(segment.data_end));
    let mut copy = Copy::create(storage, &header, temporary).await?;
    let mut position = DATA_START;
    while position < segment.data_end {
        if storage.is_failed() || !matches!(log.state.borrow().phase, Phase::Open) {
            return Err(Stop::Leave("the log ends"));
        }
        let next = scanner.next(&mut position).await;
        let Some(entry) = next.map_err(|_| Stop::Leave("it cannot be read"))? else { break };
        copy.take(&entry, scanner.payload(&entry))?;
        copy.write_pieces(false).await?;
    }
    let (old, new) = (&segment.totals, &copy.segment.totals);
    let same = |totals: &Totals| (totals.last_index, totals.end_offset, totals.batch_count, totals.last_time_us);
    if next_start(position) < segment.data_end || same(old) != same(new) {
        return Err(Stop::Leave("it does not hold what it should"));
    }
    copy.finish().await
}

async fn read_header(storage: &Rc<Shared>, file: &dyn File) -> Option<SegmentHeader> {
    let (buffer, read) = file.read(storage.pool.take(BLOCK_BYTES), 0).await;
    read.ok().and_then(|count| SegmentHeader::decode(&buffer.as_slice()[..count.min(BLOCK_BYTES)]))
}

/// A segment being written without padding.
struct Copy<'a> {
    storage: &'a Rc<Shared>,
    path: PathBuf,
    file: Rc<dyn File>,
    segment: Segment,
    term: u64,
    state_position: u64,
    /// What is not written yet, from `start`, which is the start of a block.
    bytes: Vec<u8>,
    start: u64,
}

impl<'a> Copy<'a> {
    async fn create(storage: &'a Rc<Shared>, header: &SegmentHeader, path: &Path) -> Result<Self, Stop> {
        let disk = &*storage.disk;
        // Left by an attempt that found no space.
        disk.remove_file(path).await.ok();
        let file = disk.open(path, OpenMode::CreateNew).await.map_err(|error| stop(path, error))?;
        let mut bytes = vec![0; BLOCK_BYTES];
        header.encode_into(&mut bytes);
        let segment = Segment {
            number: header.number,
            nonce: header.nonce,
            sealed: true,
            totals: Totals::new(header.first_index, header.first_offset),
            data_end: DATA_START,
            index_position: 0,
            index: None,
        };
        let path = path.to_path_buf();
        Ok(Self { storage, path, file, segment, term: header.previous_term, state_position: 0, bytes, start: 0 })
    }

    /// Takes an entry over: all but padding and the old index.
    fn take(&mut self, entry: &Scanned, payload: &[u8]) -> Result<(), Stop> {
        let header = entry.header;
        self.term = self.term.max(header.term);
        match header.kind {
            Kind::Pad => {}
            Kind::State if header.flags & FLAG_INDEX_ONLY != 0 => {}
            Kind::State => {
                // It tells the totals and positions of the segment it is in.
                let upper = StateRecord::decode(payload).ok_or(Stop::Leave("a state record cannot be read"))?.upper;
                self.state_position = self.put_state(header, upper);
            }
            _ => {
                self.put(header, payload, entry);
            }
        }
        Ok(())
    }

    fn put_state(&mut self, header: EntryHeader, upper: &[u8]) -> u64 {
        let index = self.segment.index.as_ref().map_or(&[][..], |index| index);
        let record = StateRecord::encode(&self.segment.totals, index, upper);
        let length = u32::try_from(record.len()).expect("a state record is far shorter than 4 GiB");
        let header = EntryHeader { length, payload_crc: crc32c::crc32c(&record), ..header };
        let (position, crc, header) = self.append(header, &record);
        self.segment.totals.add_entry(&header, crc);
        position
    }

    fn put(&mut self, header: EntryHeader, payload: &[u8], entry: &Scanned) {
        let (position, crc, header) = self.append(header, payload);
        let Some(batch) = &entry.batch else { return self.segment.totals.add_entry(&header, crc) };
        let time_us = batch.server.append_time_us;
        self.segment.note_batch(batch.server.base_offset, position, time_us);
        self.segment.totals.add_batch(header.log_index, crc, batch.producer.crc, batch.end_offset(), time_us);
    }

    /// Appends the bytes of an entry; returns its position and header as they are here.
    fn append(&mut self, header: EntryHeader, payload: &[u8]) -> (u64, u32, EntryHeader) {
        let end = self.start + self.bytes.len() as u64;
        let position = next_start(end);
        self.segment.totals.padding_bytes += position - end;
        self.bytes.resize(usize::try_from(position - self.start).expect("pieces are small"), 0);
        // Blocks of the original say nothing here, and all of this is durable before it is found.
        let header = EntryHeader { nonce: self.segment.nonce, durable_block: 0, ..header };
        let encoded = header.encode();
        self.bytes.extend_from_slice(&encoded);
        self.bytes.extend_from_slice(payload);
        self.segment.data_end = header.end(position);
        (position, EntryHeader::crc_of(&encoded), header)
    }

    /// Writes what there is in whole blocks, once it is a piece; with `all` also the rest, followed by zeros.
    async fn write_pieces(&mut self, all: bool) -> Result<(), Stop> {
        while PIECE_BYTES <= self.bytes.len() || (all && !self.bytes.is_empty()) {
            let length = self.bytes.len().min(PIECE_BYTES);
            let mut buffer = self.storage.pool.take_zeroed(length);
            buffer.as_mut_slice()[..length].copy_from_slice(&self.bytes[..length]);
            self.bytes.drain(..length);
            let padded = length.next_multiple_of(BLOCK_BYTES);
            let written = self.file.write(buffer.freeze(padded), self.start, Durable::No).await;
            written.map_err(|error| stop(&self.path, error))?;
            self.start += padded as u64;
        }
        Ok(())
    }

    /// Index, footer, and everything durable.
    async fn finish(mut self) -> Result<Segment, Stop> {
        let header = EntryHeader {
            kind: Kind::State,
            flags: FLAG_INDEX_ONLY,
            length: 0,
            nonce: self.segment.nonce,
            log_index: self.segment.totals.last_index,
            term: self.term,
            durable_index: self.segment.totals.last_index,
            commit_index: self.segment.totals.last_index,
            payload_crc: 0,
            durable_block: 0,
        };
        self.segment.index_position = self.put_state(header, &[]);
        self.write_pieces(true).await?;
        let footer = Footer {
            data_end: self.segment.data_end,
            index_position: self.segment.index_position,
            state_position: self.state_position,
            term: self.term,
            totals: self.segment.totals,
        };
        debug_assert_eq!(self.start, round_up(self.segment.data_end));
        let mut block = self.storage.pool.take_zeroed(BLOCK_BYTES);
        footer.encode_into(block.as_mut_slice(), self.segment.nonce);
        let written = self.file.write(block.freeze(BLOCK_BYTES), self.start, Durable::Yes).await;
        written.map_err(|error| stop(&self.path, error))?;
        self.file.sync().await.map_err(|error| stop(&self.path, error))?;
        Ok(self.segment)
    }
}

/// A full disk leaves the original as it is; any other error of a write is the disk's end.
fn stop(path: &Path, error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Stop::Leave("there is no space for the copy"),
        _ => Stop::Failed(path.to_path_buf(), error),
    }
}
