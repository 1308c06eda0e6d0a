//! The caller's side of a consumer: positions, and the way from received bytes to verified batches.
//!
//! Invariants: a position only moves when messages are handed out in the same call, so giving up a call loses nothing;
//! whatever lies below the position is skipped, so nothing is handed out twice; both checksums of a batch and every message
//! in it are checked before it is handed out.

use std::sync::Arc;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::batch::{self, BatchError, OpenBatch, StoredBatch, walk_messages};
use levada_protocol::messages::{Position, PositionKind};
use levada_protocol::pool::BufferPool;

use super::PartitionRef;
use super::batch::{Batch, ReceivedMessage, Taken};
use super::inbound::{Inbound, InboundLane, Item, LaneKey};
use super::options::OnCorrupt;
use crate::error::{Error, Result};

/// How often a batch that fails its checksum is asked for again: the server checks what it reads, so the way to here may
/// have damaged it, and skipping it then would lose messages that are whole.
const READ_AGAIN: u32 = 2;
/// Decompressed bodies kept for reuse, in bytes.
const POOL_BYTES: usize = 8 << 20;

pub(crate) struct Cursor {
    inbound: Arc<Inbound>,
    lanes: Vec<Lane>,
    pool: BufferPool,
    on_corrupt: OnCorrupt,
    /// Where the next take begins, so that no partition starves.
    turn: usize,
    closed: bool,
    /// Whether a group's stored offsets are used: then it is noted what was processed.
    is_in_group: bool,
    /// Lanes of which the last call handed something out, and how many messages.
    handed: Vec<usize>,
    handed_messages: u64,
}

struct Lane {
    key: LaneKey,
    active: bool,
    life: u64,
    /// Offset of the next message to hand out; unknown until the server told what the start came to.
    position: Option<u64>,
    generation: u64,
    /// Batches received and not looked at.
    rest: Bytes,
    current: Option<Current>,
    /// The position at which a batch failed its checksum, and how often it was asked for again since.
    read_again: (u64, u32),
    until: Option<u64>,
    failed: Option<Error>,
    reported: bool,
    paused: bool,
}

/// A batch of which not everything is handed out.
struct Current {
    open: OpenBatch,
    end_offset: u64,
    stored_bytes: u64,
    /// The walk over its messages one by one, with the offset it has reached.
    walk: Option<(batch::Messages, u64)>,
}

/// What an attempt to take came to.
pub(crate) enum Attempt<T> {
    Got(T),
    Nothing,
    Finished,
}

enum Step {
    /// The lane has a current batch.
    Ready,
    Nothing,
    Finished,
    Failed,
    /// It is not read at present.
    Absent,
}

/// What a call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) max_messages: usize,
    pub(crate) max_bytes: usize,
    pub(crate) max_batches: usize,
}

impl Cursor {
    pub(crate) fn new(inbound: Arc<Inbound>, on_corrupt: OnCorrupt) -> Cursor {
        let is_in_group = inbound.lock().share.is_some();
        let mut cursor = Cursor {
            inbound,
            lanes: Vec::new(),
            pool: BufferPool::new(POOL_BYTES),
            on_corrupt,
            turn: 0,
            closed: false,
            is_in_group,
            handed: Vec::new(),
            handed_messages: 0,
        };
        cursor.sync();
        cursor
    }

    /// Takes notice of lanes that began or ended.
    fn sync(&mut self) {
        let state = self.inbound.lock();
        for (index, inbound) in state.lanes.iter().enumerate() {
            match self.lanes.get_mut(index) {
                None => self.lanes.push(Lane::new(inbound)),
                Some(lane) if lane.life != inbound.life => *lane = Lane::new(inbound),
                Some(lane) => lane.active = inbound.active,
            }
        }
    }

    /// A receive call begins: what the one before handed out counts as processed.
    fn begin(&mut self, wake: &mut bool) -> Result<()> {
        if self.is_in_group {
            self.sync();
        }
        let mut state = self.inbound.lock();
        if self.closed || state.closed {
            return Err(Error::closed("consumer"));
        }
        if self.handed.is_empty() && !self.is_in_group {
            return Ok(());
        }
        for index in self.handed.drain(..) {
            let lane = &mut state.lanes[index];
            if lane.active && lane.life == self.lanes[index].life {
                lane.progress.reached = None;
                lane.progress.processed = lane.handed();
            }
        }
        let count = std::mem::take(&mut self.handed_messages);
        let Some(share) = &mut state.share else { return Ok(()) };
        if let Some(error) = &share.failed {
            return Err(error.clone());
        }
        if count != 0 && share.processed(count) {
            *wake |= state.schedule();
        }
        Ok(())
    }

    fn note_handed(&mut self, index: usize, count: usize) {
        if self.is_in_group {
            if !self.handed.contains(&index) {
                self.handed.push(index);
            }
            self.handed_messages += count as u64;
        }
    }

    /// A layer above keeps part of a batch: `processed_count` more messages of it are processed, and those below `handed`
    /// handed out.
    pub(crate) fn hand_on(&mut self, batch: &Batch, processed: Option<u64>, handed: u64) -> bool {
        let (index, life) = batch.lane();
        let mut state = self.inbound.lock();
        let Some(lane) = state.lanes.get_mut(index).filter(|lane| lane.active && lane.life == life) else {
            return false;
        };
        lane.progress.reached = Some(handed);
        let Some(processed) = processed else { return false };
        lane.progress.processed = Some((processed, Some(batch.leader_epoch())));
        self.handed_messages = self.handed_messages.saturating_sub(1);
        state.share.as_mut().is_some_and(|share| share.processed(1)) && state.schedule()
    }

    /// Whether the partition is still read in the life in which the batch was taken.
    pub(crate) fn is_current(&self, batch: &Batch) -> bool {
        let (index, life) = batch.lane();
        self.inbound.lock().lanes.get(index).is_some_and(|lane| lane.active && lane.life == life)
    }

    /// Takes batches. The flag tells whether the task must be woken.
    pub(crate) fn take(&mut self, amount: Amount) -> (Result<Attempt<Taken>>, bool) {
        let mut wake = false;
        if let Err(error) = self.begin(&mut wake) {
            return (Err(error), wake);
        }
        let mut taken = Taken::default();
        let (mut left_messages, mut left_bytes) = (amount.max_messages, amount.max_bytes as u64);
        let mut live = 0;
        for step in 0..self.lanes.len() {
            let index = (self.turn + step) % self.lanes.len();
            loop {
                match self.step(index, &mut wake) {
                    Step::Ready => {}
                    Step::Nothing => {
                        live += 1;
                        break;
                    }
                    Step::Finished | Step::Failed | Step::Absent => break,
                }
                let size = self.lanes[index].current.as_ref().map_or(0, |current| current.stored_bytes);
                let is_enough = left_messages == 0 || (left_bytes < size && !taken.batches.is_empty());
                if is_enough || taken.batches.len() == amount.max_batches {
                    taken.more = true;
                    // Another partition has its turn first next time.
                    self.turn = index;
                    return (Ok(Attempt::Got(taken)), wake);
                }
                if let Some(batch) = self.hand_out(index, left_messages, &mut wake) {
                    left_messages -= batch.message_count();
                    left_bytes = left_bytes.saturating_sub(size);
                    taken.batches.push(batch);
                }
            }
        }
        self.turn = if self.lanes.is_empty() { 0 } else { (self.turn + 1) % self.lanes.len() };
        if !taken.batches.is_empty() {
            return (Ok(Attempt::Got(taken)), wake);
        }
        (self.nothing(live), wake)
    }

    /// Takes one message.
    pub(crate) fn take_message(&mut self) -> (Result<Attempt<ReceivedMessage>>, bool) {
        let mut wake = false;
        if let Err(error) = self.begin(&mut wake) {
            return (Err(error), wake);
        }
        let mut live = 0;
        for step in 0..self.lanes.len() {
            let index = (self.turn + step) % self.lanes.len();
            loop {
                match self.step(index, &mut wake) {
                    Step::Ready => {}
                    Step::Nothing => {
                        live += 1;
                        break;
                    }
                    Step::Finished | Step::Failed | Step::Absent => break,
                }
                if let Some(message) = self.hand_out_one(index, &mut wake) {
                    self.turn = index;
                    return (Ok(Attempt::Got(message)), wake);
                }
            }
        }
        (self.nothing(live), wake)
    }

    fn nothing<T>(&mut self, live: usize) -> Result<Attempt<T>> {
        let mut lanes = self.lanes.iter_mut().filter(|lane| lane.active);
        let unreported = lanes.find(|lane| lane.failed.is_some() && !lane.reported);
        if let Some(lane) = unreported {
            lane.reported = true;
            return lane.failed.clone().map_or(Ok(Attempt::Nothing), Err);
        }
        if 0 < live {
            return Ok(Attempt::Nothing);
        }
        match self.lanes.iter().filter(|lane| lane.active).find_map(|lane| lane.failed.clone()) {
            Some(error) => Err(error),
            // A member of a group waits for partitions to come.
            None if !self.lanes.iter().any(|lane| lane.active) => Ok(Attempt::Nothing),
            None => Ok(Attempt::Finished),
        }
    }

    /// Brings the next batch of a lane to hand, if there is one.
    fn step(&mut self, index: usize, wake: &mut bool) -> Step {
        loop {
            let lane = &mut self.lanes[index];
            {
                let mut state = self.inbound.lock();
                let inbound = &mut state.lanes[index];
                if !inbound.active || inbound.life != lane.life {
                    (lane.rest, lane.current) = (Bytes::new(), None);
                    return Step::Absent;
                }
                if inbound.generation != lane.generation {
                    lane.generation = inbound.generation;
                    (lane.rest, lane.current) = (Bytes::new(), None);
                }
                if std::mem::take(&mut inbound.moved) {
                    lane.position = offset_of(&inbound.start);
                }
                lane.position = lane.position.or(inbound.resolved);
                lane.until = inbound.until;
                if lane.failed.is_some() {
                    return Step::Failed;
                }
                if let (Some(position), Some(until)) = (lane.position, lane.until)
                    && until <= position
                {
                    return Step::Finished;
                }
                if lane.paused {
                    return Step::Nothing;
                }
                if lane.current.is_some() {
                    return Step::Ready;
                }
                if lane.rest.is_empty() {
                    inbound.busy = false;
                    match inbound.items.pop_front() {
                        Some(Item::Batches(bytes)) => (lane.rest, inbound.busy) = (bytes, true),
                        Some(Item::Failed(error)) => {
                            (lane.failed, lane.reported) = (Some(error), false);
                            return Step::Failed;
                        }
                        Some(Item::Moved(start)) => {
                            lane.position = offset_of(&start);
                            inbound.restart_at(start);
                            *wake |= state.schedule();
                            continue;
                        }
                        None => return Step::Nothing,
                    }
                }
            }
            if let Err(error) = self.open_next(index, wake) {
                let lane = &mut self.lanes[index];
                lane.rest = Bytes::new();
                (lane.failed, lane.reported) = (Some(error), false);
                return Step::Failed;
            }
        }
    }

    /// Takes the first batch off the received bytes and opens it, unless all of it is to be skipped.
    fn open_next(&mut self, index: usize, wake: &mut bool) -> Result<()> {
        let lane = &mut self.lanes[index];
        let position = lane.position.unwrap_or(0);
        let stored = match StoredBatch::split_first(&mut lane.rest) {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(()),
            Err(_) if self.read_again(index, position, wake) => return Ok(()),
            Err(error) => return Err(corrupt(position, None, &error)),
        };
        let end_offset = stored.last_offset() + 1;
        let stored_bytes = stored.bytes().len() as u64;
        if end_offset <= position {
            self.pay(index, stored_bytes, wake);
            return Ok(());
        }
        match open(&stored, &self.pool) {
            Ok(open) => {
                lane.current = Some(Current { open, end_offset, stored_bytes, walk: None });
                Ok(())
            }
            Err(BatchError::Checksum) if self.read_again(index, position, wake) => Ok(()),
            Err(error) if self.on_corrupt == OnCorrupt::Skip => {
                let partition = self.lanes[index].key.partition;
                tracing::warn!(partition, first_offset = stored.base_offset(), %error, "a damaged batch is skipped");
                self.commit(index, end_offset, stored.server().leader_epoch, stored_bytes, wake);
                Ok(())
            }
            Err(error) => Err(corrupt(stored.base_offset(), Some(end_offset), &error)),
        }
    }

    /// Asks for everything from the position on again, unless that has been tried; tells whether it did.
    fn read_again(&mut self, index: usize, position: u64, wake: &mut bool) -> bool {
        let lane = &mut self.lanes[index];
        let times = if lane.read_again.0 == position { lane.read_again.1 } else { 0 };
        let mut state = self.inbound.lock();
        let inbound = &mut state.lanes[index];
        if times == READ_AGAIN || inbound.generation != lane.generation {
            return false;
        }
        tracing::warn!(partition = lane.key.partition, position, "a batch arrived damaged and is asked for again");
        lane.read_again = (position, times + 1);
        (lane.rest, lane.current) = (Bytes::new(), None);
        inbound.clear();
        inbound.restart = true;
        *wake |= state.schedule();
        true
    }

    /// Hands out what is left of the current batch, or as much as may be.
    fn hand_out(&mut self, index: usize, max_messages: usize, wake: &mut bool) -> Option<Batch> {
        let lane = &mut self.lanes[index];
        let current = lane.current.take()?;
        let position = lane.position.unwrap_or(0);
        let epoch = current.open.server().leader_epoch;
        let Some(batch) =
            Batch::of((index, lane.life), &lane.key, current.open.clone(), position, max_messages, lane.until)
        else {
            // Nothing in it is wanted: all of it lies behind the place to stop at, or in a gap.
            let end_offset = lane.until.map_or(current.end_offset, |until| until.min(current.end_offset)).max(position);
            self.commit(index, end_offset, epoch, current.stored_bytes, wake);
            return None;
        };
        let is_done = current.end_offset <= batch.next_offset();
        let done_bytes = if is_done { current.stored_bytes } else { 0 };
        if !is_done {
            lane.current = Some(current);
        }
        if !self.commit(index, batch.next_offset(), epoch, done_bytes, wake) {
            return None;
        }
        self.note_handed(index, batch.message_count());
        Some(batch)
    }

    fn hand_out_one(&mut self, index: usize, wake: &mut bool) -> Option<ReceivedMessage> {
        let lane = &mut self.lanes[index];
        let mut current = lane.current.take()?;
        let position = lane.position.unwrap_or(0);
        let (mut walk, reached) = match current.walk.take() {
            Some((walk, reached)) if reached == position => (walk, reached),
            _ => (current.open.clone().into_messages(), current.open.server().base_offset),
        };
        let epoch = current.open.server().leader_epoch;
        let found = walk.by_ref().filter_map(std::result::Result::ok).find(|message| position <= message.offset);
        let found = found.filter(|message| lane.until.is_none_or(|until| message.offset < until));
        let Some(message) = found else {
            let end_offset = lane.until.map_or(current.end_offset, |until| until.min(current.end_offset)).max(reached);
            self.commit(index, end_offset.max(position), epoch, current.stored_bytes, wake);
            return None;
        };
        let next = message.offset + 1;
        let done_bytes = if current.end_offset <= next { current.stored_bytes } else { 0 };
        if next < current.end_offset {
            current.walk = Some((walk, next));
            lane.current = Some(current);
        }
        let (topic, partition) = (Arc::clone(&lane.key.topic), lane.key.partition);
        if !self.commit(index, next, epoch, done_bytes, wake) {
            return None;
        }
        self.note_handed(index, 1);
        Some(ReceivedMessage::of(topic, partition, message))
    }

    /// Moves the position, unless what was received has become void meanwhile: then nothing may be handed out.
    fn commit(&mut self, index: usize, next_offset: u64, epoch: u32, done_bytes: u64, wake: &mut bool) -> bool {
        let lane = &mut self.lanes[index];
        let mut state = self.inbound.lock();
        let inbound = &mut state.lanes[index];
        if inbound.generation != lane.generation {
            return false;
        }
        lane.position = Some(next_offset);
        inbound.start = Position::offset(next_offset);
        inbound.epoch = Some(epoch);
        inbound.busy = lane.current.is_some() || !lane.rest.is_empty();
        inbound.owed_bytes += done_bytes;
        if inbound.owes() {
            *wake |= state.schedule();
        }
        true
    }

    /// Lets the server send as many bytes again.
    fn pay(&mut self, index: usize, done_bytes: u64, wake: &mut bool) {
        let mut state = self.inbound.lock();
        let inbound = &mut state.lanes[index];
        if inbound.generation == self.lanes[index].generation {
            inbound.owed_bytes += done_bytes;
            if inbound.owes() {
                *wake |= state.schedule();
            }
        }
    }

    // ------------------------------------------------------------ control

    fn index_of(&self, which: PartitionRef<'_>) -> Result<usize> {
        let partition = which.partition;
        let mut found = self.lanes.iter().enumerate().filter(|(_, lane)| {
            lane.active && lane.key.partition == partition && which.topic.is_none_or(|topic| *topic == *lane.key.topic)
        });
        match (found.next(), found.next()) {
            (Some((index, _)), None) => Ok(index),
            (Some(_), Some(_)) => {
                Err(Error::usage("topic", format!("partition {partition} is read of several topics: name one")))
            }
            (None, _) => {
                let text = format!("this consumer does not read partition {partition}");
                let topic = which.topic.map(|topic| format!(" of {topic}")).unwrap_or_default();
                Err(Error::new(ErrorCode::PartitionNotFound, text + &topic).with_detail("partition", partition))
            }
        }
    }

    pub(crate) fn seek(&mut self, which: PartitionRef<'_>, position: Position) -> Result<bool> {
        self.sync();
        let index = self.index_of(which)?;
        let lane = &mut self.lanes[index];
        (lane.rest, lane.current, lane.failed, lane.reported) = (Bytes::new(), None, None, false);
        lane.position = offset_of(&position);
        self.handed.retain(|handed| *handed != index);
        let mut wake = false;
        self.inbound.update(|state| {
            let inbound = &mut state.lanes[index];
            inbound.restart_at(position);
            inbound.moved = false;
            wake = state.schedule();
        });
        Ok(wake)
    }

    pub(crate) fn set_paused(&mut self, which: PartitionRef<'_>, paused: bool) -> Result<()> {
        self.sync();
        let index = self.index_of(which)?;
        self.lanes[index].paused = paused;
        // A waiting caller must look again.
        self.inbound.update(|_| {});
        Ok(())
    }

    pub(crate) fn position(&mut self, which: PartitionRef<'_>) -> Option<u64> {
        self.sync();
        let index = self.index_of(which).ok()?;
        let lane = &self.lanes[index];
        let state = self.inbound.lock();
        let inbound = &state.lanes[index];
        let own = if inbound.moved { offset_of(&inbound.start) } else { lane.position };
        own.or(inbound.resolved)
    }

    /// The partitions read now.
    pub(crate) fn partitions(&mut self) -> Vec<u32> {
        self.sync();
        self.lanes.iter().filter(|lane| lane.active).map(|lane| lane.key.partition).collect()
    }

    /// Whether a take would give something now.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.sync();
        let state = self.inbound.lock();
        let is_over = |lane: &Lane| {
            lane.failed.is_some()
                || matches!((lane.position, lane.until), (Some(position), Some(until)) if until <= position)
        };
        let mut active = self.lanes.iter().filter(|lane| lane.active).peekable();
        self.closed
            || state.closed
            || state.share.as_ref().is_some_and(|share| share.failed.is_some())
            || (active.peek().is_some() && active.all(is_over))
            || self.lanes.iter().zip(&state.lanes).filter(|(lane, _)| lane.active).any(|(lane, inbound)| {
                let has_data = !lane.rest.is_empty() || lane.current.is_some() || !inbound.items.is_empty();
                (has_data && !lane.paused && lane.failed.is_none()) || (lane.failed.is_some() && !lane.reported)
            })
    }

    /// Hands nothing out any more; what was handed out counts as processed.
    pub(crate) fn stop(&mut self) {
        self.closed = true;
        for lane in &mut self.lanes {
            (lane.rest, lane.current) = (Bytes::new(), None);
        }
    }

    pub(crate) fn close(&mut self) -> bool {
        self.stop();
        let mut wake = false;
        self.inbound.update(|state| {
            state.close();
            wake = state.schedule();
        });
        wake
    }
}

impl Lane {
    fn new(inbound: &InboundLane) -> Lane {
        Lane {
            key: inbound.key.clone(),
            active: inbound.active,
            life: inbound.life,
            position: offset_of(&inbound.start),
            generation: inbound.generation,
            rest: Bytes::new(),
            current: None,
            read_again: (0, 0),
            until: None,
            failed: None,
            reported: false,
            paused: false,
        }
    }
}

/// The offset that a position names, if it names one.
fn offset_of(position: &Position) -> Option<u64> {
    (position.kind == PositionKind::Offset).then_some(position.value)
}

/// Verifies a batch end to end and makes its messages readable.
fn open(stored: &StoredBatch, pool: &BufferPool) -> std::result::Result<OpenBatch, BatchError> {
    stored.verify()?;
    let open = stored.open(pool)?;
    walk_messages(open.header(), open.body())?;
    Ok(open)
}

fn corrupt(first_offset: u64, next_offset: Option<u64>, error: &BatchError) -> Error {
    let corrupt =
        Error::new(ErrorCode::CorruptBatch, format!("the batch at offset {first_offset} is damaged: {error}"))
            .with_detail("first_offset", first_offset);
    match next_offset {
        Some(next_offset) => corrupt.with_detail("next_offset", next_offset),
        None => corrupt,
    }
}
