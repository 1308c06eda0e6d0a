//! Opening: finds the end of the log again and tells a torn tail from damage.
//!
//! D is the furthest point proven durable: by the hints in every entry that validates (those behind a hole too) and by the
//! checkpoint ring. A place that cannot be read at or after D is a torn tail: it is cut, the segment is sealed there, and
//! appending goes on in a new segment with a new nonce. Before D it is damage: nothing is cut and the log is read-only.
//! A sealed segment is durable in full.
//!
//! Nothing here is shown to anyone before it is durable, and being readable does not make it so: a process that died of a
//! failed flush leaves bytes that read back and that no later flush need save. What lies beyond D is therefore written
//! again as it was read, and flushed, before the log is used.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::sync::Notify;

use super::append::MIN_CHUNK_BYTES;
use super::scan::{Scanned, Scanner};
use super::{Active, FIRST_SEGMENT, Log, LogState, Mark, Phase, Policy, Step, WriterState, sync_names};
use crate::checkpoint::Checkpoint;
use crate::config::PartitionIdentity;
use crate::disk::{BLOCK_BYTES, Durable, File, OpenMode};
use crate::entry::{EntryHeader, FLAG_CLEAN, FLAG_INDEX_ONLY, Kind, STORAGE_HEADER_BYTES, next_start, round_up};
use crate::errors::{OpenError, ReadOnlyReason};
use crate::segment::{
    DATA_START, Footer, SEGMENT_FORMAT, Segment, SegmentHeader, StateRecord, Totals, parse_file_name,
};
use crate::storage::Shared;

/// What is not proven durable is written again in pieces of this size.
const REWRITE_BYTES: usize = 1 << 20;

/// The layer above, rebuilt from the log.
pub(crate) trait Replay {
    /// Forgets everything and continues from this state; `false` if it cannot be read.
    fn on_state(&mut self, upper: &[u8]) -> bool;
    /// The next entry.
    fn on_entry(&mut self, entry: &Scanned, payload: &[u8]);
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) clean: bool,
    pub(crate) empty: bool,
    pub(crate) cut_bytes: u64,
    pub(crate) scanned_bytes: u64,
    pub(crate) defects: Vec<ReadOnlyReason>,
}

/// How much is read at open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// From the newest known state on.
    Tail,
    /// Everything.
    Full,
}

struct Recovery<'a> {
    storage: &'a Rc<Shared>,
    dir: &'a Path,
    identity: PartitionIdentity,
    checkpoint: Option<Checkpoint>,
    replay: &'a mut dyn Replay,
    depth: Depth,
    found: Found,
    segments: VecDeque<Segment>,
    active: Option<Active>,
    steps: VecDeque<Step>,
    term: u64,
    last_index: Option<u64>,
}

/// A segment file as it lies there.
struct OnDisk {
    number: u64,
    path: PathBuf,
    file: Rc<dyn File>,
    len: u64,
    header: SegmentHeader,
    footer: Option<Footer>,
}

/// Where a walk over a segment ended.
struct Walk {
    segment: Segment,
    end: u64,
    clean: bool,
    state_position: u64,
    /// A footer in the chain: the segment was sealed there.
    footer: Option<Footer>,
    unproven: Unproven,
}

/// The end of a segment's chain that nothing proves durable: its bytes from `start` on, as they were read and checked.
#[derive(Default)]
struct Unproven {
    start: u64,
    bytes: Vec<u8>,
}

impl Unproven {
    fn from(start: u64) -> Self {
        Self { start: start.max(DATA_START), bytes: Vec::new() }
    }

    /// Everything before `position` is durable.
    fn prove(&mut self, position: u64) {
        if self.start < position {
            let known = usize::try_from(position - self.start).unwrap_or(usize::MAX).min(self.bytes.len());
            self.bytes.drain(..known);
            self.start = position;
        }
    }

    /// Takes the next entry over. What a block's end has no room for a header in is zero.
    fn push(&mut self, entry: &Scanned, payload: &[u8]) {
        let mut position = entry.position;
        for piece in [&entry.header.encode()[..], payload] {
            let end = position + piece.len() as u64;
            if self.start < end {
                let known = self.start.saturating_sub(position);
                let gap_end =
                    usize::try_from(position + known - self.start).expect("segments fit in memory's addresses");
                self.bytes.resize(gap_end.max(self.bytes.len()), 0);
                self.bytes.extend_from_slice(&piece[usize::try_from(known).expect("less than an entry")..]);
            }
            position = end;
        }
    }
}

impl Log {
    /// Opens the log in `dir`; an absent or empty directory is an empty log.
    pub(crate) async fn open(
        storage: &Rc<Shared>,
        dir: PathBuf,
        identity: PartitionIdentity,
        policy: Policy,
        replay: &mut dyn Replay,
        depth: Depth,
    ) -> Result<(Rc<Self>, Found), OpenError> {
        let checkpoint = storage.checkpoint_of((identity.topic_id, identity.partition));
        let mut recovery = Recovery {
            storage,
            dir: &dir,
            identity,
            checkpoint,
            replay,
            depth,
            found: Found::default(),
            segments: VecDeque::new(),
            active: None,
            steps: VecDeque::new(),
            term: 0,
            last_index: None,
        };
        let next_segment = recovery.run().await?;
        let Recovery { found, segments, active, steps, term, .. } = recovery;
        let end = segments.back().map_or(Mark::default(), |segment| Mark {
            sequence: 0,
            index: segment.totals.last_index,
            offset: segment.totals.end_offset,
            segment: segment.number,
            position: segment.data_end,
        });
        let phase = found.defects.first().map_or(Phase::Open, |defect| Phase::ReadOnly(Rc::new(defect.clone())));
        let state = LogState {
            phase,
            segments,
            active,
            steps,
            next_segment,
            term,
            appended: end,
            durable: end,
            pending_bytes: 0,
            policy,
            flush_to: 0,
            dirty_since: None,
            stalled: false,
            session_sequence: None,
            sink_due: false,
            chunk_bytes: MIN_CHUNK_BYTES,
            chunk_second: 0,
            registered: false,
            writer: WriterState::default(),
            small_commits: 0,
            commit_count: 0,
            flush_latency_us: 0,
            hints: VecDeque::new(),
            rewriting: None,
            rewrite_from: 0,
        };
        let log = Rc::new(Self {
            storage: Rc::clone(storage),
            dir,
            identity,
            state: RefCell::new(state),
            progress: Notify::new(),
            sinks: RefCell::default(),
        });
        Ok((log, found))
    }
}

impl Recovery<'_> {
    /// Returns the number of the next segment.
    async fn run(&mut self) -> Result<u64, OpenError> {
        let numbers = self.list().await?;
        let mut files = Vec::with_capacity(numbers.len());
        let mut next_segment = numbers.last().map_or(FIRST_SEGMENT, |last| last + 1);
        for (at, &number) in numbers.iter().enumerate() {
            let last = at + 1 == numbers.len();
            match self.look(number, last).await? {
                Some(file) => files.push(file),
                // The torn beginning of a segment: the number is free again.
                None => next_segment = number,
            }
        }
        self.check_sequence(&files);
        self.found.empty = files.is_empty();
        self.found.clean = files.is_empty();
        let count = files.len();
        let replay_from = self.replay_from(&files).await?;
        for (at, file) in files.into_iter().enumerate() {
            self.take(file, at + 1 == count, replay_from <= at).await?;
        }
        Ok(next_segment)
    }

    /// The last segment that begins with a whole state record: what follows must be replayed. A segment whose first commit
    /// was lost has none.
    async fn replay_from(&self, files: &[OnDisk]) -> Result<usize, OpenError> {
        if self.depth == Depth::Full {
            return Ok(0);
        }
        for (at, on_disk) in files.iter().enumerate().rev() {
            let nonce = on_disk.header.nonce;
            let mut scanner = Scanner::new(Rc::clone(&on_disk.file), &self.storage.pool, nonce, on_disk.len);
            let mut position = DATA_START;
            let first = scanner.next(&mut position).await;
            let first = first.map_err(|source| OpenError::Io { path: on_disk.path.clone(), source })?;
            if first.as_ref().is_some_and(is_full_state) {
                return Ok(at);
            }
        }
        Ok(0)
    }

    async fn list(&self) -> Result<Vec<u64>, OpenError> {
        let entries = match self.storage.disk.list(self.dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(OpenError::Io { path: self.dir.to_path_buf(), source }),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            if let Some(number) = parse_file_name(&entry.name).filter(|_| !entry.is_dir) {
                numbers.push(number);
            } else if entry.name.ends_with(".tmp") && !entry.is_dir {
                // A rewrite that did not get to its rename.
                let path = self.dir.join(&entry.name);
                self.storage.disk.remove_file(&path).await.map_err(|source| OpenError::Io { path, source })?;
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads a segment's header and footer. `None` if the file is the torn beginning of the last segment; it is removed.
    async fn look(&mut self, number: u64, last: bool) -> Result<Option<OnDisk>, OpenError> {
        let path = self.dir.join(crate::segment::file_name(number));
        let io = |source| OpenError::Io { path: path.clone(), source };
        let file = self.storage.disk.open(&path, OpenMode::Read).await.map_err(io)?;
        let len = file.len().await.map_err(io)?;
        let block = self.block(&*file, 0).await.map_err(io)?;
        let mut header = SegmentHeader::decode(&block);
        if let Some(header) = &header {
            self.check_header(header, number, &path)?;
        } else {
            let first = self.block(&*file, DATA_START).await.map_err(io)?;
            let mut scanner = Scanner::new(Rc::clone(&file), &self.storage.pool, 0, len);
            let untouched = scanner.is_zero_from(DATA_START).await.map_err(io)?;
            let proven = self.checkpoint.is_some_and(|checkpoint| number <= checkpoint.segment);
            if last && untouched && !proven {
                drop((scanner, file));
                self.storage.disk.remove_file(&path).await.map_err(io)?;
                self.storage.disk.sync_dir(self.dir).await.map_err(io)?;
                return Ok(None);
            }
            self.defect(&path, 0, "damaged segment header");
            header = self.guess_header(number, &first);
        }
        let Some(header) = header else { return Ok(None) };
        self.storage.stir(header.nonce);
        let footer = self.footer(&*file, len, header.nonce).await.map_err(io)?;
        Ok(Some(OnDisk { number, path, file, len, header, footer }))
    }

    fn check_header(&self, header: &SegmentHeader, number: u64, path: &Path) -> Result<(), OpenError> {
        if header.format != SEGMENT_FORMAT {
            return Err(OpenError::UnknownFormat { path: path.to_path_buf(), format: header.format });
        }
        if header.identity != self.identity || header.number != number {
            let found = format!("segment {} of {:?}", header.number, header.identity);
            return Err(OpenError::WrongIdentity { path: path.to_path_buf(), found });
        }
        Ok(())
    }

    /// What a damaged header must have said, from the first entry; only to read on, never to append.
    fn guess_header(&self, number: u64, first: &[u8]) -> Option<SegmentHeader> {
        let entry = EntryHeader::decode(first)?;
        let record = first.get(STORAGE_HEADER_BYTES..STORAGE_HEADER_BYTES + crate::segment::TOTALS_BYTES)?;
        let totals = Totals::decode(record)?;
        Some(SegmentHeader {
            format: SEGMENT_FORMAT,
            identity: self.identity,
            number,
            nonce: entry.nonce,
            first_index: totals.first_index,
            first_offset: totals.first_offset,
            previous_term: entry.term,
            created_us: 0,
        })
    }

    async fn footer(&self, file: &dyn File, len: u64, nonce: u64) -> io::Result<Option<Footer>> {
        let block = BLOCK_BYTES as u64;
        if len < DATA_START + block || !len.is_multiple_of(block) {
            return Ok(None);
        }
        let bytes = self.block(file, len - block).await?;
        let footer = Footer::decode(&bytes, nonce).map(|(_, footer)| footer);
        Ok(footer.filter(|footer| round_up(footer.data_end) + block == len))
    }

    async fn block(&self, file: &dyn File, position: u64) -> io::Result<Vec<u8>> {
        let (buffer, read) = file.read(self.storage.pool.take(BLOCK_BYTES), position).await;
        let mut bytes = buffer.as_slice()[..read?.min(BLOCK_BYTES)].to_vec();
        bytes.resize(BLOCK_BYTES, 0);
        Ok(bytes)
    }

    fn defect(&mut self, file: &Path, position: u64, what: &str) {
        let defect = ReadOnlyReason { file: file.to_path_buf(), position, what: what.to_owned() };
        tracing::error!(%defect, "damaged log");
        self.found.defects.push(defect);
    }

    /// No segment may be missing between two others, nor behind the last one that is proven durable.
    fn check_sequence(&mut self, files: &[OnDisk]) {
        for pair in files.windows(2) {
            if pair[0].number + 1 != pair[1].number {
                self.defect(&pair[1].path, 0, "a segment is missing before this one");
            }
        }
        let last = files.last().map_or(0, |file| file.number);
        if let Some(checkpoint) = self.checkpoint
            && last < checkpoint.segment
        {
            let path = self.dir.join(crate::segment::file_name(checkpoint.segment));
            self.defect(&path, 0, "a segment that held durable entries is missing");
        }
    }

    async fn take(&mut self, on_disk: OnDisk, last: bool, replay: bool) -> Result<(), OpenError> {
        let io = |source| OpenError::Io { path: on_disk.path.clone(), source };
        self.term = self.term.max(on_disk.header.previous_term);
        if let Some(last_index) = self.last_index
            && last_index + 1 != on_disk.header.first_index
            && self.found.defects.is_empty()
        {
            self.defect(&on_disk.path, 0, "entries are missing before this segment");
        }
        if let (Some(footer), false) = (on_disk.footer, replay) {
            let segment = sealed_segment(&on_disk.header, &footer);
            self.last_index = Some(segment.totals.last_index);
            self.segments.push_back(segment);
            return Ok(());
        }
        let mut scanner = Scanner::new(Rc::clone(&on_disk.file), &self.storage.pool, on_disk.header.nonce, on_disk.len);
        let walk = self.walk(&on_disk, &mut scanner).await.map_err(io)?;
        let outcome = self.judge(&on_disk, &mut scanner, walk, last).await.map_err(io);
        self.found.scanned_bytes += scanner.read_bytes;
        outcome
    }

    /// Follows the chain of entries from the newest known state, or from the start.
    async fn walk(&mut self, on_disk: &OnDisk, scanner: &mut Scanner) -> io::Result<Walk> {
        let known = match self.depth {
            Depth::Tail => on_disk.footer.map_or_else(
                || self.checkpoint.filter(|c| c.nonce == on_disk.header.nonce).map_or(0, |c| c.state_position),
                |footer| footer.state_position,
            ),
            Depth::Full => 0,
        };
        if DATA_START < known
            && let Some(walk) = self.walk_from(on_disk, scanner, known).await?
        {
            return Ok(walk);
        }
        Ok(self.walk_from(on_disk, scanner, DATA_START).await?.expect("a walk from the start always has a result"))
    }

    /// `None` if there is no state record at `start` (and it is not the start of the data).
    async fn walk_from(&mut self, on_disk: &OnDisk, scanner: &mut Scanner, start: u64) -> io::Result<Option<Walk>> {
        let header = &on_disk.header;
        let mut segment = Segment {
            number: on_disk.number,
            nonce: header.nonce,
            sealed: false,
            totals: Totals::new(header.first_index, header.first_offset),
            data_end: start,
            index_position: 0,
            index: None,
        };
        let mut walk_end = start;
        let (mut clean, mut state_position, mut footer, mut first) = (false, 0, None, true);
        let ring = self.checkpoint.filter(|checkpoint| checkpoint.nonce == header.nonce);
        let mut unproven = Unproven::from(ring.map_or(start, |ring| ring.position.max(start)));
        loop {
            let mut position = walk_end;
            let Some(entry) = scanner.next(&mut position).await? else { break };
            let payload = scanner.payload(&entry);
            if first && DATA_START < start {
                let Some(record) = Some(payload).filter(|_| is_full_state(&entry)).and_then(StateRecord::decode) else {
                    return Ok(None);
                };
                segment.totals = record.totals;
                segment.index = Some(Rc::new(record.index));
            }
            first = false;
            if entry.header.kind == Kind::Footer {
                footer = Footer::decode(&whole(&entry, payload), header.nonce).map(|(_, footer)| footer);
                break;
            }
            if !follows(&segment.totals, &entry, self.term) {
                break;
            }
            self.count(&mut segment, &entry);
            if entry.header.kind != Kind::Pad {
                clean = entry.header.kind == Kind::State && entry.header.flags & FLAG_CLEAN != 0;
                if is_full_state(&entry) {
                    state_position = entry.position;
                    if StateRecord::decode(payload).is_none_or(|record| !self.replay.on_state(record.upper)) {
                        break;
                    }
                } else {
                    self.replay.on_entry(&entry, payload);
                }
            }
            unproven.prove(u64::from(entry.header.durable_block) * BLOCK_BYTES as u64);
            unproven.push(&entry, payload);
            walk_end = position;
            segment.data_end = position;
        }
        Ok(Some(Walk { segment, end: walk_end, clean, state_position, footer, unproven }))
    }

    fn count(&mut self, segment: &mut Segment, entry: &Scanned) {
        self.term = self.term.max(entry.header.term);
        if let Some(batch) = &entry.batch {
            let server = &batch.server;
            segment.note_batch(server.base_offset, entry.position, server.append_time_us);
            segment.totals.add_batch(
                entry.header.log_index,
                entry.header_crc,
                batch.producer.crc,
                batch.end_offset(),
                server.append_time_us,
            );
        } else {
            segment.totals.add_entry(&entry.header, entry.header_crc);
        }
    }

    /// Decides what the end of a walk means.
    async fn judge(&mut self, on_disk: &OnDisk, scanner: &mut Scanner, walk: Walk, last: bool) -> io::Result<()> {
        let mut segment = walk.segment;
        let stop = next_start(walk.end);
        self.found.clean = walk.clean && last;
        if let Some(footer) = walk.footer.or(on_disk.footer) {
            // A clean close ends in an open segment; one that was sealed last was cut, repaired, or about to be followed.
            self.found.clean = false;
            if round_up(footer.data_end) < round_up(walk.end) || walk.end.max(stop) < footer.data_end {
                self.defect(&on_disk.path, stop, "a sealed segment is damaged");
            } else if walk.end != footer.data_end && stop != footer.data_end {
                self.defect(&on_disk.path, stop, "a sealed segment is longer than its footer says");
            }
            let index = segment.index.take();
            let mut sealed = sealed_segment(&on_disk.header, &footer);
            sealed.index = index.filter(|_| self.found.defects.is_empty());
            if last && self.found.defects.is_empty() {
                self.settle_footer(on_disk, &footer).await?;
            }
            self.finish_segment(sealed);
            return Ok(());
        }
        let behind = self.look_behind(scanner, stop, on_disk.len, segment.totals.last_index).await?;
        if let Some(footer) = behind.footer.filter(|footer| footer.data_end == walk.end || footer.data_end == stop) {
            self.found.clean = false;
            if last && self.found.defects.is_empty() {
                self.settle_footer(on_disk, &footer).await?;
            }
            let mut sealed = sealed_segment(&on_disk.header, &footer);
            sealed.index = segment.index.take();
            self.finish_segment(sealed);
            return Ok(());
        }
        if !last {
            // No segment follows one that is not sealed: its footer was durable.
            self.defect(&on_disk.path, stop, "the footer of a sealed segment is damaged");
            segment.sealed = true;
            self.extend_behind_hole(scanner, &mut segment, stop, on_disk.len, u64::MAX).await?;
            self.finish_segment(segment);
            return Ok(());
        }
        let ring = self.checkpoint.filter(|checkpoint| checkpoint.nonce == on_disk.header.nonce);
        let durable_position = behind.durable_position.max(ring.map_or(0, |ring| ring.position));
        let durable_index = behind.durable_index.max(ring.map_or(0, |ring| ring.index));
        if stop < durable_position || segment.totals.last_index < durable_index {
            self.found.clean = false;
            self.defect(&on_disk.path, stop, "damage before a point that was proven durable");
            self.extend_behind_hole(scanner, &mut segment, stop, on_disk.len, durable_index).await?;
            self.finish_segment(segment);
            return Ok(());
        }
        if self.found.defects.is_empty() {
            self.settle_entries(on_disk, walk.end, walk.unproven).await?;
        }
        let whole = stop.is_multiple_of(BLOCK_BYTES as u64) && behind.zero;
        if whole && self.found.defects.is_empty() {
            self.active = Some(Active {
                reserved: on_disk.len,
                zeroed_to: stop,
                state_position: walk.state_position,
                durable_state_position: walk.state_position,
                bytes_since_state: stop.saturating_sub(walk.state_position),
                first_append: Some(on_disk.header.created_us),
            });
        } else if self.found.defects.is_empty() {
            let footer = Footer {
                data_end: walk.end,
                index_position: 0,
                state_position: walk.state_position,
                term: self.term,
                totals: segment.totals,
            };
            self.cut(&mut segment, &footer, on_disk, behind.zero);
        }
        self.finish_segment(segment);
        Ok(())
    }

    fn finish_segment(&mut self, segment: Segment) {
        self.last_index = Some(segment.totals.last_index);
        self.segments.push_back(segment);
    }

    /// Seals the segment at its last whole entry. The writer does it before anything is appended behind it.
    fn cut(&mut self, segment: &mut Segment, footer: &Footer, on_disk: &OnDisk, zero: bool) {
        self.found.clean = false;
        if !zero {
            self.found.cut_bytes = on_disk.len - footer.data_end;
        }
        segment.sealed = true;
        self.steps.push_back(Step::Seal { number: segment.number, nonce: segment.nonce, footer: *footer });
    }

    /// Makes a sealing durable: its footer was submitted only when everything before it was, but may itself be lost, or
    /// the truncation behind it.
    async fn settle_footer(&self, on_disk: &OnDisk, footer: &Footer) -> io::Result<()> {
        let file = self.storage.disk.open(&on_disk.path, OpenMode::ReadWrite).await?;
        let mut block = self.storage.pool.take_zeroed(BLOCK_BYTES);
        footer.encode_into(block.as_mut_slice(), on_disk.header.nonce);
        let position = round_up(footer.data_end);
        file.write(block.freeze(BLOCK_BYTES), position, Durable::No).await?;
        file.truncate(position + BLOCK_BYTES as u64).await?;
        file.sync().await
    }

    /// Makes the end of the chain durable. An entry in the segment proves its header and its name, for they come first.
    async fn settle_entries(&self, on_disk: &OnDisk, end: u64, unproven: Unproven) -> io::Result<()> {
        if unproven.bytes.is_empty() && DATA_START < end {
            return Ok(());
        }
        let disk = &*self.storage.disk;
        let file = disk.open(&on_disk.path, OpenMode::ReadWrite).await?;
        if end == DATA_START {
            let mut block = self.storage.pool.take_zeroed(BLOCK_BYTES);
            on_disk.header.encode_into(block.as_mut_slice());
            file.write(block.freeze(BLOCK_BYTES), 0, Durable::No).await?;
        }
        let mut position = unproven.start;
        for piece in unproven.bytes.chunks(REWRITE_BYTES) {
            let length = piece.len().next_multiple_of(BLOCK_BYTES);
            let mut buffer = self.storage.pool.take_zeroed(length);
            buffer.as_mut_slice()[..piece.len()].copy_from_slice(piece);
            file.write(buffer.freeze(length), position, Durable::No).await?;
            position += length as u64;
        }
        file.sync().await?;
        if end == DATA_START {
            sync_names(disk, self.dir).await?;
        }
        Ok(())
    }

    /// Everything behind a place that cannot be read: whether it is all zero, and what its entries prove.
    async fn look_behind(&self, scanner: &mut Scanner, stop: u64, len: u64, last_index: u64) -> io::Result<Behind> {
        let mut behind = Behind { zero: scanner.is_zero_from(stop).await?, ..Behind::default() };
        if behind.zero {
            return Ok(behind);
        }
        let mut block = round_up(stop);
        while block < len {
            let mut position = block;
            while let Some(entry) = scanner.next(&mut position).await? {
                if entry.header.kind == Kind::Footer {
                    let payload = scanner.payload(&entry);
                    behind.footer =
                        Footer::decode(&whole(&entry, payload), entry.header.nonce).map(|(_, footer)| footer);
                }
                if entry.header.kind.is_replicated() && entry.header.log_index <= last_index {
                    continue;
                }
                behind.durable_index = behind.durable_index.max(entry.header.durable_index);
                let proven = u64::from(entry.header.durable_block) * BLOCK_BYTES as u64;
                behind.durable_position = behind.durable_position.max(proven);
            }
            block = round_up(position.max(block + 1));
        }
        Ok(behind)
    }

    /// Lets the entries behind a damaged place be read, up to the last one that is proven durable.
    async fn extend_behind_hole(
        &mut self,
        scanner: &mut Scanner,
        segment: &mut Segment,
        stop: u64,
        len: u64,
        durable_index: u64,
    ) -> io::Result<()> {
        let mut block = round_up(stop + 1);
        while block < len {
            let mut position = block;
            while let Some(entry) = scanner.next(&mut position).await? {
                let index = entry.header.log_index;
                if entry.header.kind == Kind::Footer || durable_index < index || index < segment.totals.last_index {
                    continue;
                }
                self.count(segment, &entry);
                segment.data_end = position;
            }
            block = round_up(position.max(block + 1));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Behind {
    zero: bool,
    durable_index: u64,
    durable_position: u64,
    footer: Option<Footer>,
}

fn is_full_state(entry: &Scanned) -> bool {
    entry.header.kind == Kind::State && entry.header.flags & FLAG_INDEX_ONLY == 0
}

/// Indexes are dense over replicated entries, local records repeat the last one, and terms never fall.
fn follows(totals: &Totals, entry: &Scanned, term: u64) -> bool {
    let expected = totals.last_index + u64::from(entry.header.kind.is_replicated());
    entry.header.log_index == expected && (entry.header.kind == Kind::Pad || term <= entry.header.term)
}

/// An entry's bytes again, header and payload, as a block.
fn whole(entry: &Scanned, payload: &[u8]) -> Vec<u8> {
    [&entry.header.encode()[..], payload].concat()
}

fn sealed_segment(header: &SegmentHeader, footer: &Footer) -> Segment {
    Segment {
        number: header.number,
        nonce: header.nonce,
        sealed: true,
        totals: footer.totals,
        data_end: footer.data_end,
        index_position: footer.index_position,
        index: None,
    }
}
