//! Producer identities: ids from blocks that are durable before the first of them is given out, and further epochs.

use std::ops::Range;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{OpenProducer, ProducerOpened};

use super::change::Change;
use crate::failure::Failure;
use crate::metadata::Snapshot;
use crate::metadata::event::{ProducerEpochRaised, ProducerIdBlock};

/// Ids made durable at once. Those of a block that were not given out before a restart are lost, not reused.
const BLOCK_IDS: u64 = 1024;

/// What to do to open a producer.
pub(super) enum Opening {
    /// Nothing but to answer.
    Now(ProducerOpened),
    /// Make a block durable, then take an id from it.
    NeedsBlock(ProducerIdBlock, Range<u64>),
    /// Make a further epoch durable.
    Raise(Change),
}

/// Decides; `block` is what is left of the current block.
pub(super) fn open(
    snapshot: &Snapshot,
    request: &OpenProducer,
    block: &mut Range<u64>,
    now_us: i64,
) -> Result<Opening, Failure> {
    if request.producer_id == 0 {
        if let Some(producer_id) = block.next() {
            return Ok(Opening::Now(ProducerOpened { producer_id, producer_epoch: 1 }));
        }
        let ids = snapshot.next_producer_id..snapshot.next_producer_id + BLOCK_IDS;
        return Ok(Opening::NeedsBlock(ProducerIdBlock { next_producer_id: ids.end }, ids));
    }
    if snapshot.next_producer_id <= request.producer_id {
        return Err(Failure::invalid("producer_id", format!("{} was never given out", request.producer_id)));
    }
    let known_epoch = snapshot.producer_epochs.get(&request.producer_id).map_or(1, |known| known.epoch);
    if request.producer_epoch < known_epoch {
        return Err(Failure::new(ErrorCode::Fenced).with("current_epoch", known_epoch));
    }
    let epoch = request.producer_epoch.checked_add(1);
    let epoch = epoch.ok_or_else(|| Failure::invalid("producer_epoch", "no epoch is left: take a new producer"))?;
    let producer_id = request.producer_id;
    let event = ProducerEpochRaised { producer_id, epoch, at_us: now_us };
    Ok(Opening::Raise(Change::new(vec![event.into()], move |_| {
        Ok(ProducerOpened { producer_id, producer_epoch: epoch })
    })))
}
