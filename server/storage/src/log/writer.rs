//! The writer: one task per log, alive only while there is something to write. It carries the steps out on disk in order:
//! commits (one under way, two when small; everything that arrives meanwhile forms the next), footers, new segments.
//!
//! Only here does `durable` move, and only over a contiguous prefix of completed commits. An I/O error stops everything.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::SemaphorePermit;
use tokio::time::{Duration, Instant, Sleep};

use super::append::pad;
use super::dense;
use super::{Chunk, FIRST_SEGMENT, Log, LogState, Mark, Phase, Step, sync_names};
use crate::disk::{BLOCK_BYTES, Durable, File, LocalFuture, OpenMode};
use crate::entry::round_up;
use crate::segment::{DATA_START, Footer, SegmentHeader};

/// A second commit may be under way while both are at most this large.
const SMALL_COMMIT_BYTES: usize = 64 << 10;
/// A lazy log commits on its own when this much waits.
const LAZY_COMMIT_BYTES: u64 = 1 << 20;
/// First and largest step of the reserved space.
const MIN_RESERVE_BYTES: u64 = 256 << 10;
const MAX_RESERVE_BYTES: u64 = 64 << 20;
/// A commit up to this is small: it pays to have its space written before, because the first write into reserved space
/// costs a commit of the file system's journal. A larger one would pay more for the zeros than for that.
const SMALL_WRITE_BYTES: u64 = 32 << 10;
/// Small commits in a row before space is zeroed ahead. The first stretch of a segment is zeroed when it is created.
const ZERO_AFTER_COMMITS: u32 = 8;
/// Zeroed ahead at a time: at first and at most.
const MIN_ZERO_BYTES: u64 = MIN_RESERVE_BYTES;
const MAX_ZERO_BYTES: u64 = 1 << 20;
/// What is left when a busy log zeroes more, and when an idle one does.
const BUSY_MARGIN_BYTES: u64 = 2 * SMALL_WRITE_BYTES;
const IDLE_MARGIN_BYTES: u64 = 4 * SMALL_WRITE_BYTES;
/// How often a full disk is asked again.
const SPACE_RETRY: Duration = Duration::from_secs(1);

struct Commit {
    bytes: Bytes,
    offset: u64,
    segment: u64,
    nonce: u64,
    /// What is durable when it and all before it are done.
    mark: Mark,
}

struct Flight<'a> {
    write: LocalFuture<'a, io::Result<()>>,
    result: Option<io::Result<()>>,
    length: usize,
    mark: Mark,
    started: Instant,
}

enum Plan {
    Commit(Commit),
    Seal {
        number: u64,
        nonce: u64,
        footer: Footer,
    },
    Create(SegmentHeader),
    /// Nothing to start now; something may come before the deadline.
    Wait(Option<Instant>),
    Idle,
}

/// The zeroing of space ahead that is under way.
struct Zeroing<'a> {
    write: LocalFuture<'static, io::Result<()>>,
    start: u64,
    end: u64,
    _permit: SemaphorePermit<'a>,
}

pub(super) async fn run(log: Rc<Log>) {
    let storage = Rc::clone(&log.storage);
    let mut writer = Writer { log: &log, flights: VecDeque::new(), zeroing: None };
    loop {
        let plan = writer.plan();
        let done = match plan {
            Plan::Commit(commit) => {
                // Whoever waits for space must hold no permit: what frees space may need one.
                let file = match writer.make_room(&commit).await {
                    Ok(file) => file,
                    Err((path, operation, error)) => return writer.fail(&path, operation, &error),
                };
                let permit = match storage.commits.try_acquire() {
                    Ok(permit) => permit,
                    // Only a writer with nothing under way waits, so those that hold permits always finish.
                    Err(_) if writer.flights.is_empty() => {
                        storage.commits.acquire().await.expect("the semaphore is never closed")
                    }
                    Err(_) => {
                        writer.undo_take(&commit);
                        writer.wait(None).await;
                        continue;
                    }
                };
                writer.start(commit, file, permit);
                writer.zero_ahead(BUSY_MARGIN_BYTES).await;
                Ok(())
            }
            Plan::Seal { number, nonce, footer } => writer.seal(number, nonce, footer).await,
            Plan::Create(header) => writer.create(&header).await,
            Plan::Wait(deadline) => {
                writer.wait(deadline).await;
                Ok(())
            }
            Plan::Idle => {
                writer.zero_ahead(IDLE_MARGIN_BYTES).await;
                if writer.zeroing.is_some() {
                    writer.wait(None).await;
                    continue;
                }
                let mut state = log.state.borrow_mut();
                // What was appended while space was prepared found a writer that runs, and nobody to wake.
                if has_work(&state) {
                    continue;
                }
                state.writer.running = false;
                state.writer.waker = None;
                let checkpoint = Log::checkpoint(&state);
                drop(state);
                if let Some(checkpoint) = checkpoint {
                    storage.note_checkpoint(log.key(), checkpoint);
                }
                return;
            }
        };
        if let Err((path, operation, error)) = done {
            writer.fail(&path, operation, &error);
            return;
        }
    }
}

type Failure = (std::path::PathBuf, &'static str, io::Error);

struct Writer<'a> {
    log: &'a Rc<Log>,
    flights: VecDeque<Flight<'a>>,
    zeroing: Option<Zeroing<'a>>,
}

impl<'a> Writer<'a> {
    /// Decides what is next. Takes what it returns: the state already counts it as submitted.
    fn plan(&mut self) -> Plan {
        let mut state = self.log.state.borrow_mut();
        if std::mem::take(&mut state.sink_due) {
            drop(state);
            self.log.announce();
            state = self.log.state.borrow_mut();
        }
        let busy = !self.flights.is_empty();
        if matches!(state.phase, Phase::Failed) {
            return if busy { Plan::Wait(None) } else { Plan::Idle };
        }
        let state = &mut *state;
        retire_chunks(self.log, state, 0);
        match state.steps.front() {
            None => return if busy { Plan::Wait(None) } else { Plan::Idle },
            Some(Step::Seal { number, nonce, footer }) if !busy => {
                return Plan::Seal { number: *number, nonce: *nonce, footer: *footer };
            }
            Some(Step::Create(header)) if !busy => return Plan::Create(header.clone()),
            Some(Step::Seal { .. } | Step::Create(_)) => return Plan::Wait(None),
            Some(Step::Chunk(_)) => {}
        }
        let Some(at) = first_unsubmitted(state) else {
            return if busy { Plan::Wait(None) } else { Plan::Idle };
        };
        let unsubmitted = unsubmitted_bytes(&state.steps[at]);
        if !self.may_start(unsubmitted) {
            return Plan::Wait(None);
        }
        if let Some(deadline) = lazy_deadline(state, at) {
            return Plan::Wait(Some(deadline));
        }
        let commit = take_commit(state, at);
        if self.zeroing.as_ref().is_some_and(|zeroing| {
            commit.offset < zeroing.end && zeroing.start < commit.offset + commit.bytes.len() as u64
        }) {
            untake(state, &commit);
            return Plan::Wait(None);
        }
        Plan::Commit(commit)
    }

    fn may_start(&self, bytes: usize) -> bool {
        match self.flights.len() {
            0 => true,
            1 => self.flights[0].length <= SMALL_COMMIT_BYTES && bytes <= SMALL_COMMIT_BYTES,
            _ => false,
        }
    }

    fn undo_take(&self, commit: &Commit) {
        untake(&mut self.log.state.borrow_mut(), commit);
    }

    async fn file(&self, number: u64, nonce: u64) -> Result<Rc<dyn File>, Failure> {
        let path = self.log.path_of(number);
        let storage = &self.log.storage;
        storage.descriptors.get(&*storage.disk, nonce, &path, true).await.map_err(|error| (path, "open", error))
    }

    /// The file of a commit, with space for it.
    async fn make_room(&self, commit: &Commit) -> Result<Rc<dyn File>, Failure> {
        let file = self.file(commit.segment, commit.nonce).await?;
        self.reserve(&*file, commit.offset + commit.bytes.len() as u64).await?;
        Ok(file)
    }

    fn start(&mut self, commit: Commit, file: Rc<dyn File>, permit: SemaphorePermit<'a>) {
        let length = commit.bytes.len();
        let write = Box::pin(write_commit(self.log, file, commit.bytes, commit.offset, permit));
        let started = Instant::now();
        self.flights.push_back(Flight { write, result: None, length, mark: commit.mark, started });
    }

    /// Makes sure that a write up to `end` cannot fail for lack of space. Waits while the disk is full.
    async fn reserve(&self, file: &dyn File, end: u64) -> Result<(), Failure> {
        loop {
            let target = {
                let state = self.log.state.borrow();
                let Some(active) = &state.active else { return Ok(()) };
                if end <= active.reserved {
                    return Ok(());
                }
                self.reserve_target(active.reserved, end, state.policy.segment_bytes)
            };
            match file.reserve(target).await {
                Ok(()) => {
                    let mut state = self.log.state.borrow_mut();
                    if let Some(active) = &mut state.active {
                        active.reserved = active.reserved.max(target);
                    }
                    drop(state);
                    unstall(self.log);
                    return Ok(());
                }
                Err(error) if is_no_space(&error) => self.stall(&file.path()).await?,
                Err(error) => return Err((file.path(), "reserve", error)),
            }
        }
    }

    fn reserve_target(&self, reserved: u64, end: u64, segment_bytes: u64) -> u64 {
        let step =
            reserved.clamp(MIN_RESERVE_BYTES, MAX_RESERVE_BYTES).min((self.log.storage.free_bytes() / 10).max(1));
        // A segment takes its footer and last padding beyond its size.
        let limit = round_up(segment_bytes) + 4 * BLOCK_BYTES as u64;
        round_up((reserved + step).min(limit).max(end))
    }

    async fn stall(&self, path: &Path) -> Result<(), Failure> {
        stall(self.log).await.map_err(|closed| (path.to_path_buf(), "wait for space", closed))
    }

    async fn create(&self, header: &SegmentHeader) -> Result<(), Failure> {
        let log = self.log;
        let storage = &log.storage;
        let path = log.path_of(header.number);
        let first_bytes = first_bytes(log.state.borrow().policy.segment_bytes);
        let file = loop {
            match self.create_file(header, &path, first_bytes).await {
                Ok(file) => break file,
                Err(error) if is_no_space(&error) => self.stall(&path).await?,
                Err(error) => return Err((path, "create segment", error)),
            }
        };
        storage.descriptors.put(header.nonce, true, file);
        let mut state = log.state.borrow_mut();
        state.steps.pop_front();
        if state.segments.back().is_some_and(|segment| segment.number == header.number)
            && let Some(active) = &mut state.active
        {
            active.reserved = first_bytes;
            active.zeroed_to = first_bytes;
        }
        drop(state);
        unstall(log);
        Ok(())
    }

    /// The file with its header, and zeros where its first commits will be, in one write.
    async fn create_file(&self, header: &SegmentHeader, path: &Path, first_bytes: u64) -> io::Result<Rc<dyn File>> {
        let log = self.log;
        let disk = &*log.storage.disk;
        if header.number == FIRST_SEGMENT {
            disk.create_dir_all(&log.dir).await?;
        }
        let file = match disk.open(path, OpenMode::CreateNew).await {
            Ok(file) => file,
            // Left by an attempt that found no space.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(path, OpenMode::ReadWrite).await?,
            Err(error) => return Err(error),
        };
        file.reserve(first_bytes).await?;
        let length = usize::try_from(first_bytes).expect("less than a mebibyte");
        let mut start = log.storage.pool.take_zeroed(length);
        header.encode_into(start.as_mut_slice());
        file.write(start.freeze(length), 0, Durable::Yes).await?;
        // The header's durable write covers its data and size; the sync covers the file itself on every file system.
        file.sync().await?;
        // The log's directory appears with its first segment, and may be there already without being durable.
        if header.number == FIRST_SEGMENT {
            sync_names(disk, &log.dir).await?
        } else {
            disk.sync_dir(&log.dir).await?
        }
        Ok(file)
    }

    async fn seal(&self, number: u64, nonce: u64, footer: Footer) -> Result<(), Failure> {
        let log = self.log;
        let file = self.file(number, nonce).await?;
        let mut block = log.storage.pool.take_zeroed(BLOCK_BYTES);
        footer.encode_into(block.as_mut_slice(), nonce);
        let position = round_up(footer.data_end);
        let end = position + BLOCK_BYTES as u64;
        let footer = block.freeze(BLOCK_BYTES);
        loop {
            // Reserved space may end right before the footer.
            let written = match file.reserve(end).await {
                Ok(()) => file.write(footer.clone(), position, Durable::Yes).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => break,
                Err(error) if is_no_space(&error) => self.stall(&file.path()).await?,
                Err(error) => return Err((file.path(), "write footer", error)),
            }
        }
        unstall(log);
        file.truncate(end).await.map_err(|error| (file.path(), "truncate", error))?;
        // A footer is known by its place at the end of the file.
        file.sync().await.map_err(|error| (file.path(), "flush footer", error))?;
        let checkpoint = {
            let mut state = log.state.borrow_mut();
            state.steps.pop_front();
            Log::checkpoint(&state)
        };
        log.storage.descriptors.remove(nonce);
        if let Some(checkpoint) = checkpoint {
            log.storage.note_checkpoint(log.key(), checkpoint);
        }
        Ok(())
    }

    /// Waits for a completion, an append that can be started, or the deadline.
    async fn wait(&mut self, deadline: Option<Instant>) {
        let mut sleep = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        let mut polled = false;
        let outcome =
            std::future::poll_fn(|context| self.poll(context, sleep.as_mut().map(|s| s.as_mut()), &mut polled)).await;
        if let Err((path, operation, error)) = outcome {
            self.fail(&path, operation, &error);
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        sleep: Option<Pin<&mut Sleep>>,
        polled: &mut bool,
    ) -> Poll<Result<(), Failure>> {
        let mut progressed = self.poll_zeroing(context)?;
        for flight in &mut self.flights {
            if flight.result.is_none()
                && let Poll::Ready(result) = flight.write.as_mut().poll(context)
            {
                flight.result = Some(result);
            }
        }
        while self.flights.front().is_some_and(|flight| flight.result.is_some()) {
            let flight = self.flights.pop_front().expect("just looked at");
            self.finish(flight);
            progressed = true;
        }
        if progressed || sleep.is_some_and(|sleep| sleep.poll(context).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        // Woken by an append: go and plan again.
        if std::mem::replace(polled, true) && self.log.state.borrow().writer.waker.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.log.state.borrow_mut().writer.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_zeroing(&mut self, context: &mut Context<'_>) -> Result<bool, Failure> {
        let Some(zeroing) = &mut self.zeroing else { return Ok(false) };
        let Poll::Ready(result) = zeroing.write.as_mut().poll(context) else { return Ok(false) };
        let end = zeroing.end;
        self.zeroing = None;
        if let Err(error) = result {
            if is_no_space(&error) {
                // The commits will say so, if they find no space either.
                return Ok(true);
            }
            let number = self.log.state.borrow().appended.segment;
            return Err((self.log.path_of(number), "zero ahead", error));
        }
        if let Some(active) = &mut self.log.state.borrow_mut().active {
            active.zeroed_to = active.zeroed_to.max(end);
        }
        Ok(true)
    }

    /// The commits before this one are done: what it holds is durable now.
    fn finish(&mut self, flight: Flight<'a>) {
        let log = self.log;
        match flight.result.expect("finished flights have a result") {
            Ok(()) => {}
            Err(error) => return self.fail(&log.path_of(flight.mark.segment), "write", &error),
        }
        if log.storage.is_failed() {
            return;
        }
        let latency_us = u64::try_from(flight.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (checkpoint, rolled) = {
            let mut state = log.state.borrow_mut();
            let state = &mut *state;
            if !matches!(state.phase, Phase::Open | Phase::Closing | Phase::ReadOnly(_)) {
                return;
            }
            let rolled = state.durable.segment < flight.mark.segment;
            state.durable = flight.mark;
            state.commit_count += 1;
            state.flush_latency_us =
                if state.commit_count == 1 { latency_us } else { (state.flush_latency_us * 7 + latency_us) / 8 };
            state.small_commits =
                if flight.length as u64 <= SMALL_WRITE_BYTES { state.small_commits.saturating_add(1) } else { 0 };
            if state.durable.sequence == state.appended.sequence {
                state.pending_bytes = 0;
                state.dirty_since = None;
            } else {
                state.pending_bytes = state.pending_bytes.saturating_sub(flight.length as u64);
                state.dirty_since = state.dirty_since.map(|_| Instant::now());
            }
            if state.session_sequence.is_some_and(|session| session <= state.durable.sequence) {
                state.session_sequence = None;
            }
            let state_moved = note_state_position(state, &flight.mark);
            retire_chunks(log, state, flight.length);
            (state_moved.then(|| Log::checkpoint(state)).flatten(), rolled)
        };
        if let Some(checkpoint) = checkpoint {
            log.storage.note_checkpoint(log.key(), checkpoint);
        }
        if rolled {
            dense::start(log);
        }
        log.announce();
    }

    fn fail(&mut self, path: &Path, operation: &'static str, error: &io::Error) {
        let log = self.log;
        let closed = matches!(log.state.borrow().phase, Phase::Closed);
        if !closed {
            log.storage.fail(path, operation, error);
        }
        {
            let mut state = log.state.borrow_mut();
            if !closed {
                state.phase = Phase::Failed;
            }
            state.writer.running = false;
            state.writer.waker = None;
        }
        self.flights.clear();
        log.announce();
    }

    /// Starts to zero the space ahead of small commits when less than `margin_bytes` of it is left.
    async fn zero_ahead(&mut self, margin_bytes: u64) {
        let log = self.log;
        let (number, nonce, position, active, segment_bytes) = {
            let state = log.state.borrow();
            let (Some(active), Some(segment), Phase::Open) = (state.active, state.segments.back(), &state.phase) else {
                return;
            };
            if state.policy.lazy.is_some()
                || state.small_commits < ZERO_AFTER_COMMITS
                || log.storage.is_full()
                || self.zeroing.is_some()
                || active.reserved == 0
            {
                return;
            }
            (segment.number, segment.nonce, round_up(segment.data_end), active, state.policy.segment_bytes)
        };
        if position + margin_bytes <= active.zeroed_to {
            return;
        }
        // With many logs at it, each in turn: zeros must not crowd commits out.
        let Ok(permit) = log.storage.zeroings.try_acquire() else { return };
        // Commits go on at `position` while the zeros are written a little ahead of it.
        let start = active.zeroed_to.max(position + SMALL_WRITE_BYTES);
        let length = active.zeroed_to.next_power_of_two().clamp(MIN_ZERO_BYTES, MAX_ZERO_BYTES);
        let end = (start + length).min(round_up(segment_bytes));
        if end <= start {
            return;
        }
        let Ok(file) = self.file(number, nonce).await else { return };
        if active.reserved < end {
            let target = self.reserve_target(active.reserved, end, segment_bytes);
            if file.reserve(target).await.is_err() {
                return;
            }
            if let Some(active) = &mut log.state.borrow_mut().active {
                active.reserved = active.reserved.max(target);
            }
        }
        let length = usize::try_from(end - start).expect("at most a mebibyte");
        let zeros = log.storage.pool.take_zeroed(length).freeze(length);
        let write = Box::pin(async move { file.write(zeros, start, Durable::Yes).await });
        self.zeroing = Some(Zeroing { write, start, end, _permit: permit });
    }
}

/// Carries a commit out. A write that finds no space, though it was reserved, is made again when there may be some: the
/// bytes are still here, nobody was told that they are durable, and those on the disk are the same or none.
async fn write_commit<'a>(
    log: &'a Rc<Log>,
    file: Rc<dyn File>,
    bytes: Bytes,
    offset: u64,
    permit: SemaphorePermit<'a>,
) -> io::Result<()> {
    let mut permit = Some(permit);
    loop {
        match file.write(bytes.clone(), offset, Durable::Yes).await {
            Err(error) if is_no_space(&error) => {
                drop(permit.take());
                stall(log).await?;
                permit = Some(log.storage.commits.acquire().await.expect("the semaphore is never closed"));
            }
            done => {
                if done.is_ok() {
                    unstall(log);
                }
                return done;
            }
        }
    }
}

/// Waits until space may have been freed. Appends are refused from now on; nothing accepted is lost. An error if the log
/// was closed meanwhile: then its files are another's.
async fn stall(log: &Log) -> io::Result<()> {
    let newly = !std::mem::replace(&mut log.state.borrow_mut().stalled, true);
    log.storage.set_full();
    if newly {
        tracing::warn!(partition = %log.identity, "disk is full: appends are refused until space is freed");
        log.announce();
    }
    tokio::select! {
        biased;
        () = log.storage.space_freed.notified() => {}
        () = tokio::time::sleep(SPACE_RETRY) => {}
    }
    if matches!(log.state.borrow().phase, Phase::Closed) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

fn unstall(log: &Log) {
    if std::mem::take(&mut log.state.borrow_mut().stalled) {
        log.announce();
    }
}

/// What is reserved and zeroed when a segment is created: room for its footer and last padding, if it is that short.
fn first_bytes(segment_bytes: u64) -> u64 {
    MIN_RESERVE_BYTES.min(round_up(segment_bytes) + 4 * BLOCK_BYTES as u64)
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn unsubmitted_bytes(step: &Step) -> usize {
    let Step::Chunk(chunk) = step else { return 0 };
    chunk.buffer.len() - chunk.submitted
}

/// Whether the writer would find something to do.
fn has_work(state: &LogState) -> bool {
    if matches!(state.phase, Phase::Failed) {
        return false;
    }
    matches!(state.steps.front(), Some(Step::Seal { .. } | Step::Create(_))) || first_unsubmitted(state).is_some()
}

/// The first chunk with something to write, if only chunks come before it.
fn first_unsubmitted(state: &LogState) -> Option<usize> {
    for (at, step) in state.steps.iter().enumerate() {
        match step {
            Step::Chunk(chunk) if chunk.submitted < chunk.buffer.len() => return Some(at),
            Step::Chunk(_) => {}
            Step::Seal { .. } | Step::Create(_) => return None,
        }
    }
    None
}

/// When a lazy log must commit; `None` if now.
fn lazy_deadline(state: &mut LogState, at: usize) -> Option<Instant> {
    let delay = state.policy.lazy?;
    let Step::Chunk(chunk) = &state.steps[at] else { return None };
    let urgent = chunk.closed
        || state.durable.sequence < state.flush_to
        || state.session_sequence.is_some()
        || LAZY_COMMIT_BYTES <= state.pending_bytes
        || !matches!(state.phase, Phase::Open);
    if urgent {
        return None;
    }
    let deadline = *state.dirty_since.get_or_insert_with(Instant::now) + delay;
    (Instant::now() < deadline).then_some(deadline)
}

/// Takes everything unsubmitted of a chunk as one commit, padded to its block.
fn take_commit(state: &mut LogState, at: usize) -> Commit {
    let (durable, term) = (state.durable, state.term);
    let Step::Chunk(chunk) = &mut state.steps[at] else { unreachable!("only chunks have unsubmitted bytes") };
    if !chunk.closed {
        let segment = state.segments.back_mut().expect("an open chunk has a segment");
        pad(chunk, &mut segment.totals, &durable, term);
        segment.data_end = chunk.base + chunk.buffer.len() as u64;
    }
    take_chunk(chunk)
}

fn take_chunk(chunk: &mut Chunk) -> Commit {
    let range = chunk.submitted..chunk.buffer.len();
    chunk.submitted = range.end;
    Commit {
        offset: chunk.base + range.start as u64,
        mark: Mark { position: chunk.base + range.end as u64, ..chunk.end },
        bytes: chunk.buffer.view(range),
        segment: chunk.segment,
        nonce: chunk.nonce,
    }
}

/// Gives a commit back that could not be started. Nothing was appended to its chunk since.
fn untake(state: &mut LogState, commit: &Commit) {
    for step in &mut state.steps {
        if let Step::Chunk(chunk) = step
            && chunk.nonce == commit.nonce
            && chunk.base <= commit.offset
            && commit.offset < chunk.base + chunk.buffer.len() as u64
        {
            chunk.submitted = usize::try_from(commit.offset - chunk.base).expect("inside a buffer");
        }
    }
}

/// Whether a newer state record has become durable.
fn note_state_position(state: &mut LogState, mark: &Mark) -> bool {
    let last = state.segments.back().map_or(0, |segment| segment.number);
    let Some(active) = &mut state.active else { return false };
    let moved = last == mark.segment
        && active.state_position < mark.position
        && active.durable_state_position != active.state_position;
    if moved {
        active.durable_state_position = active.state_position;
    }
    moved
}

/// Counts written bytes off the chunks in order and hands finished ones to the cache.
fn retire_chunks(log: &Log, state: &mut LogState, mut length: usize) {
    for step in &mut state.steps {
        let Step::Chunk(chunk) = step else { break };
        let part = length.min(chunk.submitted - chunk.written);
        chunk.written += part;
        length -= part;
        if length == 0 {
            break;
        }
    }
    while let Some(Step::Chunk(chunk)) = state.steps.front() {
        if !chunk.closed || chunk.written < chunk.buffer.len() {
            break;
        }
        let Some(Step::Chunk(chunk)) = state.steps.pop_front() else { break };
        let length = chunk.buffer.len();
        let charge_bytes = chunk.buffer.capacity() as u64;
        log.storage.cache.borrow_mut().insert_tail(chunk.nonce, chunk.base, chunk.buffer.view(0..length), charge_bytes);
    }
    debug_assert!(state.segments.back().is_none_or(|segment| DATA_START <= segment.data_end));
}
