//! Producer identities: ids from blocks that are durable before the first of them is given out, further epochs, and names
//! that keep an identity over restarts.

use std::ops::Range;

use levada_protocol::messages::{OpenProducer, ProducerOpened};
use levada_protocol::{ErrorCode, limits, names};

use super::change::Change;
use crate::failure::Failure;
use crate::metadata::Snapshot;
use crate::metadata::event::{NamedProducerOpened, ProducerEpochRaised, ProducerIdBlock};
use crate::metadata::model::NamedProducer;
use crate::metadata::state::LEVEL_2;

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
    /// Take an id for a producer with a new name, then make both durable.
    Name(String),
}

/// An id that was never given out, or how to come by one.
pub(super) enum Taken {
    Id(u64),
    /// Make a block durable, then take an id from it.
    NeedsBlock(ProducerIdBlock, Range<u64>),
}

/// Takes an id from what is left of the current block.
pub(super) fn take_id(snapshot: &Snapshot, block: &mut Range<u64>) -> Taken {
    if let Some(producer_id) = block.next() {
        return Taken::Id(producer_id);
    }
    let ids = snapshot.next_producer_id..snapshot.next_producer_id + BLOCK_IDS;
    Taken::NeedsBlock(ProducerIdBlock { next_producer_id: ids.end }, ids)
}

/// Makes a name durable with its producer's id.
pub(super) fn name(user_id: u32, name: String, producer_id: u64, now_us: i64) -> Change {
    raise_named(NamedProducerOpened { producer_id, user_id, name, epoch: 1, at_us: now_us })
}

fn raise_named(event: NamedProducerOpened) -> Change {
    let (producer_id, producer_epoch) = (event.producer_id, event.epoch);
    Change::new(vec![event.into()], move |_| Ok(ProducerOpened { producer_id, producer_epoch }))
}

fn open_named(
    snapshot: &Snapshot,
    request: &OpenProducer,
    user_id: u32,
    name: &str,
    now_us: i64,
) -> Result<Opening, Failure> {
    if (request.producer_id, request.producer_epoch) != (0, 0) {
        return Err(Failure::invalid("name", "a name comes with producer_id 0 and producer_epoch 0"));
    }
    names::check(name)?;
    snapshot.require_level(LEVEL_2, "a named producer")?;
    if let Some(known) = snapshot.producer_named(user_id, name) {
        return Ok(Opening::Raise(raise_named(next_epoch(known, now_us)?)));
    }
    let count = snapshot.named_producers.values().filter(|known| known.user_id == user_id).count();
    if limits::MAX_PRODUCER_NAMES <= count {
        return Err(Failure::new(ErrorCode::TooManyProducers).with("limit", limits::MAX_PRODUCER_NAMES));
    }
    Ok(Opening::Name(name.to_owned()))
}

fn next_epoch(known: &NamedProducer, now_us: i64) -> Result<NamedProducerOpened, Failure> {
    let epoch = known.epoch.checked_add(1);
    let epoch = epoch.ok_or_else(|| Failure::invalid("name", "no epoch is left: take another name"))?;
    let NamedProducer { producer_id, user_id, .. } = *known;
    Ok(NamedProducerOpened { producer_id, user_id, name: known.name.clone(), epoch, at_us: now_us })
}

/// Decides; `block` is what is left of the current block.
pub(super) fn open(
    snapshot: &Snapshot,
    request: &OpenProducer,
    user_id: u32,
    block: &mut Range<u64>,
    now_us: i64,
) -> Result<Opening, Failure> {
    if let Some(name) = &request.name {
        return open_named(snapshot, request, user_id, name, now_us);
    }
    if request.producer_id == 0 {
        return Ok(match take_id(snapshot, block) {
            Taken::Id(producer_id) => Opening::Now(ProducerOpened { producer_id, producer_epoch: 1 }),
            Taken::NeedsBlock(event, ids) => Opening::NeedsBlock(event, ids),
        });
    }
    if snapshot.next_producer_id <= request.producer_id {
        return Err(Failure::invalid("producer_id", format!("{} was never given out", request.producer_id)));
    }
    if let Some(known) = snapshot.named_producers.get(&request.producer_id) {
        if known.user_id != user_id {
            return Err(Failure::invalid("producer_id", "it is another user's named producer"));
        }
        snapshot.check_named(request.producer_id, request.producer_epoch)?;
        return Ok(Opening::Raise(raise_named(next_epoch(known, now_us)?)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::State;
    use crate::metadata::event::{Event, FormatLevelRaised};

    #[test]
    fn a_user_has_so_many_names_and_goes_on_with_those() {
        let most = limits::MAX_PRODUCER_NAMES as u64;
        let mut events: Vec<Event> = vec![FormatLevelRaised { format_level: LEVEL_2, at_us: 0 }.into()];
        events.push(ProducerIdBlock { next_producer_id: most + 9 }.into());
        let named = |producer_id| NamedProducerOpened {
            producer_id,
            user_id: 1,
            name: format!("n{producer_id}"),
            epoch: 1,
            at_us: 0,
        };
        events.extend((1..=most).map(|producer_id| named(producer_id).into()));
        let snapshot = Snapshot::new(1, State::default().after(&events).unwrap());
        let opening = |user_id, name: &str| {
            let request = OpenProducer { producer_id: 0, producer_epoch: 0, name: Some(name.to_owned()) };
            open(&snapshot, &request, user_id, &mut (0..0), 0)
        };
        let refusal = opening(1, "another").err().unwrap();
        assert_eq!(refusal.code, ErrorCode::TooManyProducers);
        assert!(refusal.details.iter().any(|detail| detail.name == "limit" && detail.value == "10000"));
        assert!(matches!(opening(1, "n7"), Ok(Opening::Raise(_))));
        assert!(matches!(opening(2, "another"), Ok(Opening::Name(_))));
    }
}
