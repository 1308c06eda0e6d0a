//! The fetch spine: accept → position → wait → room → read → reply, in `Shard::fetch`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{Fetch, Fetched};
use levada_storage::{Partition, ReadBatches, ReadError};
use tokio::time::Instant;

use crate::broker::link::Link;
use crate::broker::message::{DataReply, FetchedBatches, ToConnection};
use crate::broker::partition::PartitionSlot;
use crate::broker::position;
use crate::broker::readable::{Readable, Unreadable, prefix};
use crate::broker::shard::{Caller, Shard};
use crate::failure::Failure;

/// A fetch never waits longer than this, whatever it asks for.
const MAX_WAIT: Duration = Duration::from_secs(60);

impl Shard {
    /// Answers a fetch on behalf of a connection; gives up when that is gone.
    pub(super) fn start_fetch(self: &Rc<Self>, caller: &Caller<'_>, correlation: u32, request: Fetch) {
        let (shard, origin) = (Rc::clone(self), caller.origin.clone());
        let (link, readable) = (Arc::clone(caller.link), caller.readable);
        tokio::task::spawn_local(async move {
            let outcome = tokio::select! {
                biased;
                outcome = shard.fetch(&request, &link, readable) => outcome,
                () = link.closed() => return,
            };
            origin.send(match outcome {
                Ok(fetched) => ToConnection::Reply(correlation, DataReply::Fetched(Box::new(fetched))),
                Err(failure) => ToConnection::Failed(correlation, failure),
            });
        });
    }

    async fn fetch(&self, request: &Fetch, link: &Link, readable: Readable) -> Result<FetchedBatches, Failure> {
        let slot = self.slot(request.topic_id, request.partition)?;
        let log = slot.log()?;
        let (start, _) = position::resolve(&log, &request.position, request.epoch).await?;
        let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.into()).min(MAX_WAIT);
        let max_bytes = (request.max_bytes as usize).clamp(1, link.outbound.max_bytes());
        let min_bytes = (request.min_bytes as usize).min(max_bytes);
        loop {
            let moved = slot.progress.notified();
            let is_last = deadline <= Instant::now();
            let nothing = log.watermarks().visible_end_offset <= start;
            if nothing && (is_last || min_bytes == 0) {
                return Ok(answer(&log, start, ReadBatches::default(), None));
            }
            if !nothing {
                let mut charge = link.outbound.take(max_bytes).await.ok_or_else(gone)?;
                let read = read(&log, start, max_bytes).await?;
                if is_last || min_bytes <= read.total_bytes {
                    let read = readable_part(read, readable)?;
                    link.outbound.settle(&mut charge, read.total_bytes);
                    return Ok(answer(&log, start, read, Some(charge)));
                }
                link.outbound.cancel(charge);
            }
            wait(&slot, moved, deadline).await?;
        }
    }
}

/// Waits for progress of the partition, at most until the deadline.
async fn wait(
    slot: &PartitionSlot,
    moved: tokio::sync::futures::Notified<'_>,
    deadline: Instant,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        () = moved => slot.ended().map_or(Ok(()), Err),
        () = tokio::time::sleep_until(deadline) => Ok(()),
    }
}

/// From memory if it is there, else from the disk.
pub(super) async fn read(log: &Partition, offset: u64, max_bytes: usize) -> Result<ReadBatches, ReadError> {
    match log.try_read_cached(offset, max_bytes) {
        Some(read) => read,
        None => log.read(offset, max_bytes).await,
    }
}

/// The batches before the first that the client cannot read.
///
/// # Errors
/// `UNSUPPORTED_FORMAT` if that is the first of all.
pub(super) fn readable_part(mut read: ReadBatches, readable: Readable) -> Result<ReadBatches, Failure> {
    let Some(Unreadable { position, batch_count, offset, name }) = readable.first_unreadable(&read.slices) else {
        return Ok(read);
    };
    if batch_count == 0 {
        let message = format!("the batch at offset {offset} has {name}, which this client did not declare");
        let failure = Failure::because(ErrorCode::UnsupportedFormat, message);
        return Err(failure.with("name", name).with("offset", offset));
    }
    read.slices = prefix(read.slices, position);
    read.total_bytes = position;
    read.batch_count = batch_count;
    read.next_offset = offset;
    Ok(read)
}

fn answer(
    log: &Partition,
    start: u64,
    read: ReadBatches,
    charge: Option<crate::broker::link::OutboundCharge>,
) -> FetchedBatches {
    let marks = log.watermarks();
    let head = Fetched {
        start_offset: start,
        log_start_offset: marks.log_start_offset,
        visible_end_offset: marks.visible_end_offset,
        leader_epoch: marks.leader_epoch,
    };
    FetchedBatches { head, slices: read.slices, charge }
}

fn gone() -> Failure {
    Failure::because(ErrorCode::ShuttingDown, "the connection is closed")
}
