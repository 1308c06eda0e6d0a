//! Where messages wait until the connection takes them: one open batch per partition, and those that are full behind it.
//!
//! Shared by the callers' threads and the connection's task under one lock that is held for a copy at most. Knows no sequences
//! and no connection: the task pulls batches when it can send them, and settles them when their fate is known.
//! Bytes count from hand-over until the batch is settled.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use levada_protocol::ErrorCode;
use levada_protocol::batch::{BatchBuilder, BatchLimits, NewMessage, PushError};
use levada_protocol::partitioner::partition_for_key;
use levada_protocol::pool::BufferPool;
use tokio::sync::Notify;

use super::delivery::{BatchDelivery, Completion, Receipts};
use super::sink::{BatchEvent, CompletionSink, NO_TOKEN};
use crate::error::{Error, Result};
use crate::message::{AsMessage, MessageRef};

/// What a message takes in a batch beside its payload, key and headers, at most.
const MESSAGE_OVERHEAD_BYTES: usize = 16 + 8 + 16;
/// Idle buffers a producer keeps for reuse, in bytes.
const POOL_BYTES: usize = 16 << 20;
/// Builders kept for reuse.
const MAX_SPARE_BUILDERS: usize = 8;

/// What an accumulator is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) partition_count: u32,
    pub(crate) batch_bytes: usize,
    pub(crate) batch_messages: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) max_payload_bytes: usize,
    pub(crate) max_buffered_bytes: usize,
    pub(crate) linger_ms: u64,
    pub(crate) delivery_timeout_ms: u64,
    /// Messages bring their sequences.
    pub(crate) external: bool,
}

/// The batches of one producer that no connection has taken yet.
pub(crate) struct Accumulator {
    id: u64,
    sizes: Sizes,
    sink: Option<Arc<dyn CompletionSink>>,
    state: Mutex<State>,
    space: Notify,
    settled: Notify,
}

struct State {
    lanes: Vec<Lane>,
    /// Lanes that hold a batch and that the task has not been told of.
    active: BTreeSet<u32>,
    /// The task has been told to look and has not looked yet.
    scheduled: bool,
    /// Calls that are handing over many messages.
    fillings: usize,
    buffered_bytes: usize,
    /// Where messages without a key go until that batch is closed.
    sticky: u32,
    next_serial: u64,
    unsettled: BTreeSet<u64>,
    /// Open batches below this serial do not linger.
    urgent_below: u64,
    first_failure: Option<Error>,
    phase: Phase,
    pool: BufferPool,
    spare: Vec<BatchBuilder>,
}

#[derive(Clone, Debug)]
enum Phase {
    Open,
    Closing,
    Stopped(Error),
}

#[derive(Default)]
struct Lane {
    open: Option<Box<OpenBatch>>,
    closed: VecDeque<Box<OpenBatch>>,
    /// With external sequences: the lowest that may come next.
    next_sequence: u64,
    /// With external sequences: the first that the server did not have when the producer was opened. A batch holds
    /// none from both sides, so that it is dropped or appended whole.
    known_below: u64,
}

/// A batch that no connection has taken.
pub(crate) struct OpenBatch {
    pub(crate) builder: BatchBuilder,
    pub(crate) ticket: Ticket,
    /// With external sequences: that of its first message. Those of the others follow without gap.
    pub(crate) first_sequence: u64,
    opened_at_ms: u64,
}

/// What remains of a batch until it is settled: who waits and what is counted.
pub(crate) struct Ticket {
    serial: u64,
    completion: Arc<Completion>,
    tokens: Vec<u64>,
    charged_bytes: usize,
    pub(crate) deadline_ms: u64,
}

impl Ticket {
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }
}

/// Why a message was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The buffer is full: wait for space.
    Full,
    /// It will never be taken.
    Failed(Error),
}

/// A message's place: its batch and its index there.
pub(crate) type Place = (Arc<Completion>, u32);

/// The instant of a hand-over, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now_ms: u64,
    pub(crate) now_us: i64,
}

impl Accumulator {
    pub(crate) fn new(id: u64, sizes: Sizes, sink: Option<Arc<dyn CompletionSink>>, random: u64) -> Accumulator {
        let first = random % u64::from(sizes.partition_count.max(1));
        Accumulator {
            id,
            sizes,
            sink,
            state: Mutex::new(State {
                lanes: (0..sizes.partition_count).map(|_| Lane::default()).collect(),
                active: BTreeSet::new(),
                scheduled: false,
                fillings: 0,
                buffered_bytes: 0,
                sticky: u32::try_from(first).expect("less than a u32"),
                next_serial: 1,
                unsettled: BTreeSet::new(),
                urgent_below: 0,
                first_failure: None,
                phase: Phase::Open,
                pool: BufferPool::new(POOL_BYTES),
                spare: Vec::new(),
            }),
            space: Notify::new(),
            settled: Notify::new(),
        }
    }

    /// Tells how far an earlier life of the producer came in each partition.
    pub(crate) fn know(&self, next_sequences: &[u64]) {
        for (lane, next) in self.state().lanes.iter_mut().zip(next_sequences) {
            lane.known_below = *next;
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    pub(crate) fn sink(&self) -> Option<&Arc<dyn CompletionSink>> {
        self.sink.as_ref()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it is held would be a defect; what it left is still a list of whole batches.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one message. The flag tells whether the task must be woken.
    pub(crate) fn push(
        &self,
        message: &MessageRef<'_>,
        token: u64,
        moment: Moment,
    ) -> (std::result::Result<Place, Refusal>, bool) {
        let mut state = self.state();
        let place = state.push(&self.sizes, self.sink.is_some(), message, token, moment);
        let place = place.map(|(completion, index)| (Arc::clone(completion), index));
        let wake = place.is_ok() && state.schedule();
        (place, wake)
    }

    /// Begins a call that hands over many messages: until the filling ends, open batches stay open. `estimate_bytes` is what
    /// all of them are expected to take: they begin a batch of their own if that keeps them together.
    pub(crate) fn fill(&self, estimate_bytes: usize) -> Filling<'_> {
        let mut state = self.state();
        state.make_room(&self.sizes, estimate_bytes);
        state.fillings += 1;
        Filling { accumulator: self, ended: false }
    }

    /// Takes messages from `taken` on for as long as there is space. The caller wakes the task afterwards.
    pub(crate) fn push_many<M: AsMessage>(
        &self,
        messages: &[M],
        taken: &mut usize,
        delivery: &mut BatchDelivery,
        moment: Moment,
    ) -> std::result::Result<(), Refusal> {
        let mut state = self.state();
        let has_sink = self.sink.is_some();
        while let Some(message) = messages.get(*taken) {
            let (completion, index) = state.push(&self.sizes, has_sink, &message.as_message(), NO_TOKEN, moment)?;
            delivery.add(completion, index);
            *taken += 1;
        }
        Ok(())
    }

    /// Notes that the task has something to look at. The flag tells whether it must be woken.
    pub(crate) fn schedule(&self) -> bool {
        self.state().schedule()
    }

    /// Waits until `attempt` no longer answers that the buffer is full.
    pub(crate) async fn when_space<T>(
        &self,
        mut attempt: impl FnMut() -> std::result::Result<T, Refusal>,
    ) -> Result<T> {
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Refusal::Failed(error)) => return Err(error),
                Err(Refusal::Full) => {}
            }
            let mut freed = std::pin::pin!(self.space.notified());
            // Registered before the second look, so that space freed in between is not missed.
            freed.as_mut().enable();
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Refusal::Failed(error)) => return Err(error),
                Err(Refusal::Full) => freed.await,
            }
        }
    }

    /// Makes everything handed over so far leave without lingering, and returns the serial to wait for.
    pub(crate) fn begin_flush(&self) -> (u64, bool) {
        let mut state = self.state();
        state.urgent_below = state.next_serial;
        (state.next_serial, state.schedule())
    }

    /// Waits until every batch below `serial` is settled.
    pub(crate) async fn flushed(&self, serial: u64) -> Result<()> {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            {
                let mut state = self.state();
                if state.unsettled.first().is_none_or(|first| serial <= *first) {
                    return state.first_failure.take().map_or(Ok(()), Err);
                }
            }
            settled.await;
        }
    }

    /// Refuses messages from now on. The flag tells whether the task must be woken.
    pub(crate) fn begin_close(&self) -> bool {
        let mut state = self.state();
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closing;
        }
        state.urgent_below = u64::MAX;
        self.space.notify_waiters();
        state.schedule()
    }

    /// Batches not settled yet.
    pub(crate) fn unsettled_count(&self) -> usize {
        self.state().unsettled.len()
    }

    pub(crate) fn is_closing(&self) -> bool {
        !matches!(self.state().phase, Phase::Open)
    }

    // ------------------------------------------------------------ the task's side

    /// The task looks: whoever pushes from here on wakes it again. Lanes with batches are added to `busy`.
    pub(crate) fn begin_pull(&self, busy: &mut BTreeSet<u32>) {
        let mut state = self.state();
        state.scheduled = false;
        busy.append(&mut state.active);
    }

    /// Takes the next batch of a lane: a full one, or the open one if it may leave.
    pub(crate) fn pull(&self, partition: u32, take_open: TakeOpen, now_ms: u64) -> Pull {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(lane) = state.lanes.get_mut(partition as usize) else { return Pull::Empty };
        if let Some(batch) = lane.closed.pop_front() {
            return Pull::Batch(batch);
        }
        let Some(open) = &lane.open else { return Pull::Empty };
        let due_ms = if open.ticket.serial < state.urgent_below { 0 } else { open.opened_at_ms + self.sizes.linger_ms };
        if now_ms < due_ms {
            return Pull::Later(due_ms);
        }
        if 0 < state.fillings {
            return Pull::Filling;
        }
        if take_open == TakeOpen::No {
            return Pull::WhenFree;
        }
        if state.sticky == partition {
            state.sticky = (partition + 1) % self.sizes.partition_count;
        }
        lane.open.take().map_or(Pull::Empty, Pull::Batch)
    }

    /// Gives back a builder whose batch is sealed.
    pub(crate) fn reuse(&self, builder: BatchBuilder) {
        let mut state = self.state();
        if builder.is_empty() && state.spare.len() < MAX_SPARE_BUILDERS {
            state.spare.push(builder);
        }
    }

    /// Takes out the batches of a lane whose time is up.
    pub(crate) fn expired(&self, partition: u32, now_ms: u64) -> (Vec<Ticket>, Option<u64>) {
        let mut state = self.state();
        let Some(lane) = state.lanes.get_mut(partition as usize) else { return (Vec::new(), None) };
        let mut expired = Vec::new();
        while lane.closed.front().is_some_and(|batch| batch.ticket.deadline_ms <= now_ms) {
            expired.extend(lane.closed.pop_front().map(|batch| batch.ticket));
        }
        if lane.closed.is_empty() && lane.open.as_ref().is_some_and(|batch| batch.ticket.deadline_ms <= now_ms) {
            expired.extend(lane.open.take().map(|batch| batch.ticket));
        }
        let next = lane.closed.front().or(lane.open.as_ref()).map(|batch| batch.ticket.deadline_ms);
        (expired, next)
    }

    /// A batch's fate is known.
    pub(crate) fn settle(&self, ticket: Ticket, outcome: Result<Receipts>) {
        {
            let mut state = self.state();
            state.buffered_bytes -= ticket.charged_bytes;
            state.unsettled.remove(&ticket.serial);
            if let Err(error) = &outcome
                && state.first_failure.is_none()
            {
                state.first_failure = Some(error.clone());
            }
        }
        if let Some(sink) = &self.sink {
            self.tell(&**sink, &outcome, ticket.tokens);
        }
        ticket.completion.settle(outcome);
        self.space.notify_waiters();
        self.settled.notify_waiters();
    }

    /// Tells of a batch: once, or for each run of a batch of which the server had some already.
    fn tell(&self, sink: &dyn CompletionSink, outcome: &Result<Receipts>, mut tokens: Vec<u64>) {
        let producer = self.id;
        match outcome {
            Err(error) => sink.complete(BatchEvent { producer, outcome: Err(error.clone()), tokens }),
            Ok(receipts) => {
                for receipt in receipts.iter() {
                    let rest = tokens.split_off((receipt.message_count as usize).min(tokens.len()));
                    let tokens = std::mem::replace(&mut tokens, rest);
                    sink.complete(BatchEvent { producer, outcome: Ok(*receipt), tokens });
                }
            }
        }
    }

    /// Refuses everything from now on with that error, and gives out what is left to be settled.
    pub(crate) fn stop(&self, error: &Error) -> Vec<Ticket> {
        let left = self.drain();
        self.state().phase = Phase::Stopped(error.clone());
        self.space.notify_waiters();
        left
    }

    /// Lets go of the memory kept for batches to come: there will be none.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        state.spare = Vec::new();
        state.pool = BufferPool::new(0);
    }

    /// Takes everything out.
    pub(crate) fn drain(&self) -> Vec<Ticket> {
        let mut state = self.state();
        state.active.clear();
        let mut tickets = Vec::new();
        for lane in &mut state.lanes {
            tickets.extend(lane.closed.drain(..).chain(lane.open.take()).map(|batch| batch.ticket));
        }
        tickets
    }
}

/// Whether the open batch may be taken too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeOpen {
    Yes,
    No,
}

/// What a lane has.
pub(crate) enum Pull {
    Batch(Box<OpenBatch>),
    /// Its open batch lingers until then.
    Later(u64),
    /// Its open batch leaves when the connection is free.
    WhenFree,
    /// Its open batch is being filled; the task is woken after that.
    Filling,
    Empty,
}

/// A call that is handing over many messages. The caller wakes the task afterwards.
pub(crate) struct Filling<'a> {
    accumulator: &'a Accumulator,
    ended: bool,
}

impl Filling<'_> {
    /// Ends it. The flag tells whether the task must be woken.
    pub(crate) fn end(mut self) -> bool {
        self.ended = true;
        // In one step: a task that looks in between would find the batch still being filled and not look again.
        let mut state = self.accumulator.state();
        state.fillings -= 1;
        state.schedule()
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.accumulator.state().fillings -= 1;
        }
    }
}

impl State {
    fn schedule(&mut self) -> bool {
        !std::mem::replace(&mut self.scheduled, true)
    }

    fn push(
        &mut self,
        sizes: &Sizes,
        has_sink: bool,
        message: &MessageRef<'_>,
        token: u64,
        moment: Moment,
    ) -> std::result::Result<(&Arc<Completion>, u32), Refusal> {
        match &self.phase {
            Phase::Open => {}
            Phase::Closing => return Err(Refusal::Failed(Error::closed("producer"))),
            Phase::Stopped(error) => return Err(Refusal::Failed(error.clone())),
        }
        let payload_bytes = message.payload.map_or(0, <[u8]>::len);
        if sizes.max_payload_bytes < payload_bytes {
            return Err(Refusal::Failed(payload_too_large(payload_bytes, sizes.max_payload_bytes)));
        }
        let charge = charge_bytes(message);
        if self.buffered_bytes != 0 && sizes.max_buffered_bytes < self.buffered_bytes + charge {
            return Err(Refusal::Full);
        }
        let partition = self.choose(sizes, message)?;
        self.check_sequence(sizes, partition, message)?;
        let new = NewMessage {
            payload: message.payload,
            key: message.key,
            headers: message.headers,
            timestamp_us: message.timestamp_us.unwrap_or(moment.now_us),
            id: message.id,
        };
        let partition = match self.push_open(sizes, partition, &new, moment) {
            Ok(()) => partition,
            Err(PushError::Full) => {
                self.close(sizes, partition);
                let partition = self.choose(sizes, message)?;
                match self.push_open(sizes, partition, &new, moment) {
                    Ok(()) => partition,
                    Err(PushError::Full) => {
                        self.close(sizes, partition);
                        self.push_open(sizes, partition, &new, moment)
                            .map_err(|error| Refusal::Failed(push_error(&error)))?;
                        partition
                    }
                    Err(error) => return Err(Refusal::Failed(push_error(&error))),
                }
            }
            Err(PushError::TooLarge { .. }) => {
                self.push_alone(sizes, partition, &new, moment).map_err(|error| Refusal::Failed(push_error(&error)))?;
                partition
            }
            Err(error) => return Err(Refusal::Failed(push_error(&error))),
        };
        self.buffered_bytes += charge;
        let lane = &mut self.lanes[partition as usize];
        // An oversized message was closed into a batch of its own at once.
        let batch = lane.open.as_mut().or(lane.closed.back_mut()).expect("the message was pushed into one of them");
        batch.ticket.charged_bytes += charge;
        if let Some(sequence) = message.sequence {
            if batch.builder.message_count() == 1 {
                batch.first_sequence = sequence;
            }
            lane.next_sequence = sequence + 1;
        }
        if has_sink {
            batch.ticket.tokens.push(token);
        }
        Ok((&batch.ticket.completion, batch.builder.message_count() - 1))
    }

    /// Sequences of the application's own only grow, and those of a batch follow each other without gap.
    fn check_sequence(
        &mut self,
        sizes: &Sizes,
        partition: u32,
        message: &MessageRef<'_>,
    ) -> std::result::Result<(), Refusal> {
        let wrong = |words: String| Refusal::Failed(Error::usage("sequence", words));
        let sequence = match message.sequence {
            None if !sizes.external => return Ok(()),
            None => return Err(wrong("a producer with external sequences needs one with each message".into())),
            Some(_) if !sizes.external => return Err(wrong("the producer numbers by itself".into())),
            Some(u64::MAX) => return Err(wrong("the largest number is not used".into())),
            Some(sequence) => sequence,
        };
        if message.partition.is_none() && message.key.is_none() {
            return Err(wrong("a message with a sequence names its partition or has a key".into()));
        }
        let Lane { open, next_sequence, known_below, .. } = &self.lanes[partition as usize];
        if sequence < *next_sequence {
            let last = next_sequence - 1;
            return Err(wrong(format!("{sequence} does not follow {last}: sequences of a partition only grow")));
        }
        if open.is_some() && (sequence != *next_sequence || sequence == *known_below) {
            self.close(sizes, partition);
        }
        Ok(())
    }

    fn choose(&self, sizes: &Sizes, message: &MessageRef<'_>) -> std::result::Result<u32, Refusal> {
        match (message.partition, message.key) {
            (Some(partition), _) if partition < sizes.partition_count => Ok(partition),
            (Some(partition), _) => Err(Refusal::Failed(
                Error::new(ErrorCode::PartitionNotFound, format!("the topic has no partition {partition}"))
                    .with_detail("partition", partition),
            )),
            (None, Some(key)) => Ok(partition_for_key(key, sizes.partition_count)),
            (None, None) => Ok(self.sticky),
        }
    }

    /// Pushes into the open batch of a lane, opening one if there is none.
    fn push_open(
        &mut self,
        sizes: &Sizes,
        partition: u32,
        message: &NewMessage<'_>,
        moment: Moment,
    ) -> std::result::Result<(), PushError> {
        if let Some(open) = &mut self.lanes[partition as usize].open {
            return open.builder.push(message);
        }
        let mut builder = self.spare.pop().unwrap_or_else(|| {
            let limits = BatchLimits {
                max_batch_bytes: sizes.batch_bytes.min(sizes.max_batch_bytes),
                max_messages: sizes.batch_messages,
            };
            BatchBuilder::with_pool(limits, self.pool.clone())
        });
        if let Err(error) = builder.push(message) {
            self.spare.push(builder);
            return Err(error);
        }
        let batch = self.open_batch(sizes, builder, moment);
        self.lanes[partition as usize].open = Some(batch);
        self.active.insert(partition);
        Ok(())
    }

    /// Gives a message larger than the aim a batch of its own, behind what its lane has open.
    fn push_alone(
        &mut self,
        sizes: &Sizes,
        partition: u32,
        message: &NewMessage<'_>,
        moment: Moment,
    ) -> std::result::Result<(), PushError> {
        let limits = BatchLimits { max_batch_bytes: sizes.max_batch_bytes, max_messages: 1 };
        let mut builder = BatchBuilder::with_pool(limits, self.pool.clone());
        builder.push(message)?;
        self.close(sizes, partition);
        let batch = self.open_batch(sizes, builder, moment);
        self.lanes[partition as usize].closed.push_back(batch);
        self.active.insert(partition);
        Ok(())
    }

    fn open_batch(&mut self, sizes: &Sizes, builder: BatchBuilder, moment: Moment) -> Box<OpenBatch> {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.unsettled.insert(serial);
        let ticket = Ticket {
            serial,
            completion: Arc::new(Completion::default()),
            tokens: Vec::new(),
            charged_bytes: 0,
            deadline_ms: moment.now_ms.saturating_add(sizes.delivery_timeout_ms),
        };
        Box::new(OpenBatch { builder, ticket, first_sequence: 0, opened_at_ms: moment.now_ms })
    }

    /// Moves the open batch of a lane behind the full ones.
    fn close(&mut self, sizes: &Sizes, partition: u32) {
        let lane = &mut self.lanes[partition as usize];
        if let Some(open) = lane.open.take() {
            lane.closed.push_back(open);
            if self.sticky == partition {
                self.sticky = (partition + 1) % sizes.partition_count;
            }
        }
    }

    /// Closes the batch that messages without a key go to, if `estimate_bytes` fit a batch but not this one any more.
    fn make_room(&mut self, sizes: &Sizes, estimate_bytes: usize) {
        let Some(open) = self.lanes.get(self.sticky as usize).and_then(|lane| lane.open.as_ref()) else { return };
        let filled = open.builder.len_bytes();
        if estimate_bytes < sizes.batch_bytes && sizes.batch_bytes < filled + estimate_bytes {
            self.close(sizes, self.sticky);
        }
    }
}

/// What a message counts for in the buffer, in bytes.
pub(crate) fn charge_bytes(message: &MessageRef<'_>) -> usize {
    let headers: usize = message.headers.iter().map(|header| header.name.len() + 16).sum();
    MESSAGE_OVERHEAD_BYTES + message.payload.map_or(0, <[u8]>::len) + message.key.map_or(0, <[u8]>::len) + headers
}

fn payload_too_large(size: usize, limit: usize) -> Error {
    Error::new(ErrorCode::TooLarge, format!("a payload of {size} bytes is over the limit of {limit}"))
        .with_detail("limit", limit)
        .with_detail("size", size)
}

fn push_error(error: &PushError) -> Error {
    match error {
        PushError::TooLarge { size, limit } => {
            Error::new(ErrorCode::TooLarge, error.to_string()).with_detail("limit", limit).with_detail("size", size)
        }
        PushError::KeyTooLarge(size) => Error::new(ErrorCode::TooLarge, error.to_string())
            .with_detail("limit", levada_protocol::limits::MAX_KEY_BYTES)
            .with_detail("size", size),
        PushError::Headers(_) => Error::usage("headers", error.to_string()),
        PushError::Full => Error::internal("a message fits no empty batch and yet is not too large"),
    }
}
