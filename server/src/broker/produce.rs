//! The produce spine: accept → decode → admit → order → write → durable → ack, top to bottom in `Shard::produce`.
//!
//! A batch that the log has no room for is parked at its partition, behind those parked before it; a task that lives only
//! as long as something is parked writes them when there is room. Frames of one connection for one partition therefore
//! apply in the order they came.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::batch::{self, ProducerHeader};
use levada_protocol::messages::{Durability, Produce};
use levada_storage::AppendError;

use crate::broker::link::Origin;
use crate::broker::message::ToConnection;
use crate::broker::partition::PartitionSlot;
use crate::broker::shard::{Caller, Shard};
use crate::failure::Failure;
use crate::metadata::state::LEVEL_2;

/// A batch whose checksum, header and messages were found good.
#[derive(Debug)]
struct CheckedBatch {
    bytes: Bytes,
    producer: (u64, u32),
}

/// A checked batch that its partition admitted, in its place among the connection's others.
#[derive(Debug)]
pub(super) struct OrderedBatch {
    bytes: Bytes,
    /// Id and epoch.
    producer: (u64, u32),
    ask: levada_storage::Durability,
    pub(super) correlation: u32,
    pub(super) origin: Origin,
}

/// How long a parked batch waits for a commit at most before it is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// What became of an ordered batch.
enum Written {
    /// It is in the log; its receipt is on its way or will be.
    Appended,
    /// The log has no room now.
    NoRoom(OrderedBatch),
}

impl Shard {
    /// Appends a batch and sees to it that its receipt is given, or the reason why not. The caller's partition is here.
    pub(super) fn produce(self: &Rc<Self>, caller: &Caller<'_>, correlation: u32, request: &Produce, body: Bytes) {
        let outcome = (|| {
            let slot = self.accept(request)?;
            let checked = self.decode(body)?;
            let ask = self.admit(request.durability)?;
            let CheckedBatch { bytes, producer } = checked;
            let ordered = OrderedBatch { bytes, producer, ask, correlation, origin: caller.origin.clone() };
            let Some(next) = order(&slot, ordered) else { return Ok(()) };
            match self.write(&slot, next)? {
                Written::Appended => {}
                Written::NoRoom(batch) => self.park(&slot, batch),
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
        Ok(CheckedBatch { bytes, producer: (header.producer_id, header.producer_epoch) })
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

    /// Write, and the way to durable and ack: the receipt is given by the partition when the ticket is reached.
    fn write(&self, slot: &Rc<PartitionSlot>, batch: OrderedBatch) -> Result<Written, Failure> {
        let log = slot.log()?;
        let length = batch.bytes.len() as u64;
        let OrderedBatch { bytes, producer, ask, correlation, origin } = batch;
        // A named producer that was taken over is fenced everywhere at once, parked batches included.
        let numbering = self.snapshot.borrow().check_named(producer.0, producer.1)?;
        match log.append_numbered(bytes.clone(), ask, numbering) {
            Ok(append) => {
                // The read buffer is reused as soon as nothing holds a piece of it.
                drop(bytes);
                slot.appended_bytes.set(slot.appended_bytes.get() + length);
                slot.acknowledge(&log, &append, correlation, &origin, self.options.defects.ack_before_durable);
                Ok(Written::Appended)
            }
            Err(AppendError::Full) => Ok(Written::NoRoom(OrderedBatch { bytes, producer, ask, correlation, origin })),
            Err(error) => Err(error.into()),
        }
    }

    /// Parks a batch at the end of its partition's line.
    fn park(self: &Rc<Self>, slot: &Rc<PartitionSlot>, batch: OrderedBatch) {
        batch.origin.park();
        slot.parked.borrow_mut().push_back(batch);
        let (shard, slot) = (Rc::clone(self), Rc::clone(slot));
        tokio::task::spawn_local(async move { shard.write_parked(&slot).await });
    }

    /// Writes what is parked, in order, as the log makes room. One such task runs per partition: it is started by the
    /// first batch that parks, and later ones find the line not empty.
    async fn write_parked(&self, slot: &Rc<PartitionSlot>) {
        loop {
            let Ok(log) = slot.log() else { return slot.refuse_parked() };
            log.writable().await;
            // Made before the attempts, so that no commit between them and the wait is missed.
            let moved = slot.room.notified();
            loop {
                // Nothing else runs between taking the first and putting it back, so no other overtakes it.
                let Some(batch) = slot.parked.borrow_mut().pop_front() else { return };
                let (correlation, origin) = (batch.correlation, batch.origin.clone());
                match self.write(slot, batch) {
                    Ok(Written::Appended) => origin.unpark(),
                    Ok(Written::NoRoom(batch)) => {
                        slot.parked.borrow_mut().push_front(batch);
                        break;
                    }
                    Err(failure) => {
                        origin.unpark();
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

/// Order: behind what is parked already; gives the batch back if its turn is now.
fn order(slot: &PartitionSlot, batch: OrderedBatch) -> Option<OrderedBatch> {
    let mut parked = slot.parked.borrow_mut();
    if parked.is_empty() {
        return Some(batch);
    }
    batch.origin.park();
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
