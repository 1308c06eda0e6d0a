//! The produce spine: accept → decode → admit → encode → order → write → durable → ack, top to bottom in `Shard::produce`.
//!
//! A batch that the log has no room for, or that is being encoded anew, is parked at its partition, behind those parked
//! before it; a task that lives only as long as something is parked writes them when it can. Frames of one connection for
//! one partition therefore apply in the order they came.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::batch::{self, Codec, ProducerHeader};
use levada_protocol::messages::{Durability, PRODUCE_ACK_SERVER_ENCODED, Produce};
use levada_storage::{Append, AppendError, Partition};

use crate::broker::encoding::{Content, Outcome, Work, codec_of};
use crate::broker::link::Origin;
use crate::broker::message::ToConnection;
use crate::broker::partition::PartitionSlot;
use crate::broker::recent_ids::{self, Ids, Known, duplicates};
use crate::broker::shard::{Caller, Shard};
use crate::failure::Failure;
use crate::metadata::state::LEVEL_2;

/// A batch whose checksum, header and messages were found good.
#[derive(Debug)]
struct CheckedBatch {
    bytes: Bytes,
    header: ProducerHeader,
}

/// What is to be written.
#[derive(Debug)]
enum Body {
    /// It is here.
    Whole(Content),
    /// It is being encoded; the partition's `room` is told when it is done.
    Encoding(Outcome),
}

/// A checked batch that its partition admitted, in its place among the connection's others.
#[derive(Debug)]
pub(super) struct OrderedBatch {
    body: Body,
    /// As it was sent.
    header: ProducerHeader,
    ask: levada_storage::Durability,
    /// Whether its connection reads no more while it is parked. Where batches are encoded they are on the connection's
    /// account until they are answered instead ([`Shard::holds_batches`]), so that other partitions' go on.
    stops_reading: bool,
    pub(super) correlation: u32,
    pub(super) origin: Origin,
}

impl OrderedBatch {
    /// What is to be written, once it is known.
    fn content(&mut self) -> Result<Option<&Content>, Failure> {
        if let Body::Encoding(outcome) = &self.body
            && let Some(outcome) = outcome.take()
        {
            self.body = Body::Whole(outcome?);
        }
        Ok(match &self.body {
            Body::Whole(content) => Some(content),
            Body::Encoding(_) => None,
        })
    }

    /// It is in the line.
    fn enter(&self) {
        if self.stops_reading {
            self.origin.park();
        }
    }

    /// It is in the line no more.
    pub(super) fn leave(&self) {
        if self.stops_reading {
            self.origin.unpark();
        }
    }
}

/// How long a parked batch waits for a commit at most before it is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// What became of an ordered batch.
enum Written {
    /// It is in the log; its receipt is on its way or will be.
    Appended,
    /// The log has no room now, or it is still being encoded.
    NotYet(OrderedBatch),
}

impl Shard {
    /// Appends a batch and sees to it that its receipt is given, or the reason why not. The caller's partition is here.
    pub(super) fn produce(self: &Rc<Self>, caller: &Caller<'_>, correlation: u32, request: &Produce, body: Bytes) {
        let outcome = (|| {
            let slot = self.accept(request)?;
            let checked = self.decode(body)?;
            let ask = self.admit(request.durability)?;
            let stops_reading = !slot.holds_batches();
            let header = checked.header;
            let body = self.encode(&slot, checked)?;
            let origin = caller.origin.clone();
            let ordered = OrderedBatch { body, header, ask, stops_reading, correlation, origin };
            let Some(next) = order(&slot, ordered) else { return Ok(()) };
            match self.write(&slot, next)? {
                Written::Appended => {}
                Written::NotYet(batch) => self.park(&slot, batch),
            }
            Ok(())
        })();
        if let Err(failure) = outcome {
            caller.origin.send(ToConnection::Failed(correlation, failure));
        }
    }

    /// Accept: the partition it is for.
    fn accept(&self, request: &Produce) -> Result<Rc<PartitionSlot>, Failure> {
        self.slot(request.topic_id, request.partition)
    }

    /// Decode: nothing is stored that its consumers would refuse.
    fn decode(&self, bytes: Bytes) -> Result<CheckedBatch, Failure> {
        let header = batch::verify_producer(&bytes)?;
        check_limits(&header, self.options.max_batch_bytes)?;
        if header.flags & batch::FLAG_EXTERNAL_SEQUENCE != 0 {
            self.check_external(&header)?;
        }
        Ok(CheckedBatch { bytes, header })
    }

    /// An older server would take the sequences for its own numbers.
    fn check_external(&self, header: &ProducerHeader) -> Result<(), Failure> {
        if header.producer_id == 0 {
            let message = "an external sequence needs a producer id";
            return Err(Failure::because(ErrorCode::MalformedBatch, message).with("reason", message));
        }
        self.snapshot.borrow().require_level(LEVEL_2, "an external sequence")
    }

    /// Admit: what the request may ask for.
    fn admit(&self, durability: Durability) -> Result<levada_storage::Durability, Failure> {
        if self.is_closing() {
            return Err(Failure::new(ErrorCode::ShuttingDown));
        }
        match durability {
            Durability::Memory => Ok(levada_storage::Durability::Memory),
            Durability::Disk => Ok(levada_storage::Durability::Disk),
            Durability::Quorum => {
                Err(Failure::because(ErrorCode::Unsupported, "durability quorum needs a cluster; ask for disk")
                    .with("what", "quorum"))
            }
        }
    }

    /// Encode: begins it where the topic asks for another codec than the batch has, or for ids that are not in the open.
    fn encode(&self, slot: &Rc<PartitionSlot>, batch: CheckedBatch) -> Result<Body, Failure> {
        let CheckedBatch { bytes, header } = batch;
        let codec = codec_of(slot.compression()).filter(|codec| *codec != header.codec);
        let work = Work { codec, ids: slot.dedup_messages().is_some() };
        if codec.is_none() && !(work.ids && header.codec != Codec::None) {
            let ids = if work.ids { batch::message_ids(&bytes)? } else { Vec::new() };
            return Ok(Body::Whole(Content::as_sent(bytes, ids)));
        }
        // No work for a partition that takes nothing, and no line that nobody would end.
        slot.log()?;
        let told = Rc::clone(slot);
        Ok(Body::Encoding(self.encoding.start(bytes, &header, work, move || told.room.notify_waiters())))
    }

    /// Write, and the way to durable and ack: the receipt is given by the partition when the ticket is reached.
    fn write(self: &Rc<Self>, slot: &Rc<PartitionSlot>, mut batch: OrderedBatch) -> Result<Written, Failure> {
        let log = slot.log()?;
        let (producer_id, producer_epoch) = (batch.header.producer_id, batch.header.producer_epoch);
        let is_external = batch.header.flags & batch::FLAG_EXTERNAL_SEQUENCE != 0;
        let ask = batch.ask;
        let Some(content) = batch.content()? else { return Ok(Written::NotYet(batch)) };
        // A named producer that was taken over is fenced everywhere at once, parked batches included.
        let numbering = self.snapshot.borrow().check_named(producer_id, producer_epoch)?;
        // What a retry sends again is told from its sequences, before its ids; sequences of the application tell all of it.
        if let Some(window) = slot.dedup_messages()
            && !is_external
            && log.is_new(&content.bytes, numbering)?
        {
            match self.look_up(slot, &log, window, &content.ids, ask) {
                Known::None => {}
                Known::NotYet => return Ok(Written::NotYet(batch)),
                Known::Some(known) => return Err(duplicates(&known)),
            }
        }
        let Content { bytes, is_anew, .. } = content;
        let (bytes, flags) = (bytes.clone(), if *is_anew { PRODUCE_ACK_SERVER_ENCODED } else { 0 });
        let length = bytes.len() as u64;
        match log.append_numbered(bytes, ask, numbering) {
            Ok(append) => {
                let OrderedBatch { body, correlation, origin, .. } = batch;
                note_ids(slot, &append, &body);
                // The read buffer is reused as soon as nothing holds a piece of it.
                drop(body);
                slot.appended_bytes.set(slot.appended_bytes.get() + length);
                let before_durable = self.options.defects.ack_before_durable;
                slot.acknowledge(&log, &append, correlation, &origin, flags, before_durable);
                Ok(Written::Appended)
            }
            Err(AppendError::Full) => Ok(Written::NotYet(batch)),
            Err(error) => Err(error.into()),
        }
    }

    /// What the ids of a batch are to a partition whose last `window` messages count: those that are as safe as the batch
    /// asks to be. Reads them back from the log if that was not done yet.
    fn look_up(
        self: &Rc<Self>,
        slot: &Rc<PartitionSlot>,
        log: &Rc<Partition>,
        window: u32,
        ids: &[(u32, [u8; 16])],
        ask: levada_storage::Durability,
    ) -> Known {
        let mut state = slot.ids.borrow_mut();
        match &*state {
            Ids::Known(recent) if recent.window() == window => {
                let marks = log.watermarks();
                let safe_end = match ask {
                    levada_storage::Durability::Memory => marks.visible_end_offset,
                    levada_storage::Durability::Disk => marks.durable_end_offset,
                };
                recent.find(ids, marks.log_start_offset, safe_end)
            }
            Ids::Reading => Known::NotYet,
            Ids::Known(_) | Ids::Unread => {
                *state = Ids::Reading;
                let (encoding, slot, log) = (self.encoding.clone(), Rc::clone(slot), Rc::clone(log));
                let end = log.watermarks().appended_end_offset;
                tokio::task::spawn_local(async move {
                    let read = recent_ids::read(&log, &encoding, window, end).await;
                    // The topic may have kept duplicates meanwhile, and have more by now.
                    let read = read.filter(|_| log.watermarks().appended_end_offset == end);
                    *slot.ids.borrow_mut() = read.map_or(Ids::Unread, Ids::Known);
                    slot.room.notify_waiters();
                });
                Known::NotYet
            }
        }
    }

    /// Parks a batch at the end of its partition's line.
    fn park(self: &Rc<Self>, slot: &Rc<PartitionSlot>, batch: OrderedBatch) {
        batch.enter();
        slot.parked.borrow_mut().push_back(batch);
        let (shard, slot) = (Rc::clone(self), Rc::clone(slot));
        tokio::task::spawn_local(async move { shard.write_parked(&slot).await });
    }

    /// Writes what is parked, in order, as the log makes room and batches are encoded. One such task runs per partition: it
    /// is started by the first batch that parks, and later ones find the line not empty.
    async fn write_parked(self: &Rc<Self>, slot: &Rc<PartitionSlot>) {
        loop {
            let Ok(log) = slot.log() else { return slot.refuse_parked() };
            log.writable().await;
            // Made before the attempts, so that nothing told between them and the wait is missed.
            let moved = slot.room.notified();
            loop {
                // Nothing else runs between taking the first and putting it back, so no other overtakes it.
                let Some(batch) = slot.parked.borrow_mut().pop_front() else { return };
                let (correlation, origin, stopped_reading) =
                    (batch.correlation, batch.origin.clone(), batch.stops_reading);
                let leave = || {
                    if stopped_reading {
                        origin.unpark();
                    }
                };
                match self.write(slot, batch) {
                    Ok(Written::Appended) => leave(),
                    Ok(Written::NotYet(batch)) => {
                        slot.parked.borrow_mut().push_front(batch);
                        break;
                    }
                    Err(failure) => {
                        leave();
                        origin.send(ToConnection::Failed(correlation, failure));
                    }
                }
            }
            // A batch larger than half the log's allowance has no room even when the log calls itself writable.
            tokio::select! {
                biased;
                () = moved => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}

/// Keeps the ids of what was appended, where the topic drops duplicates.
fn note_ids(slot: &PartitionSlot, append: &Append, body: &Body) {
    let mut ids = slot.ids.borrow_mut();
    match (&mut *ids, slot.dedup_messages(), body) {
        // Should the topic ask for them again, what came meanwhile counts too.
        (_, None, _) => *ids = Ids::Unread,
        (Ids::Known(recent), Some(_), Body::Whole(content)) if !append.duplicate => {
            recent.note(append.base_offset, append.last_offset + 1, &content.ids);
        }
        _ => {}
    }
}

/// Order: behind what is parked already; gives the batch back if its turn is now.
fn order(slot: &PartitionSlot, batch: OrderedBatch) -> Option<OrderedBatch> {
    let mut parked = slot.parked.borrow_mut();
    if parked.is_empty() {
        return Some(batch);
    }
    batch.enter();
    parked.push_back(batch);
    None
}

/// Limits, and flags that no producer may set.
fn check_limits(header: &ProducerHeader, max_batch_bytes: u32) -> Result<(), Failure> {
    let size = (batch::SERVER_PART_BYTES + batch::PRODUCER_PART_BYTES) as u64 + u64::from(header.uncompressed_length);
    if u64::from(max_batch_bytes) < size {
        let message = format!("a batch of {size} bytes is over the limit of {max_batch_bytes}");
        let failure = Failure::because(ErrorCode::TooLarge, message);
        return Err(failure.with("limit", max_batch_bytes).with("size", size));
    }
    for (flag, name) in [
        (batch::FLAG_SPARSE, "sparse batches in Produce"),
        (batch::FLAG_SERVER_ENCODED, "server-encoded batches in Produce"),
    ] {
        if header.flags & flag != 0 {
            return Err(Failure::because(ErrorCode::Unsupported, format!("there are no {name}")).with("what", name));
        }
    }
    Ok(())
}
