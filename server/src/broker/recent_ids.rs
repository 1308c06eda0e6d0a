//! The ids of the messages that a partition took last, for topics that drop a message whose id it has already.
//!
//! A pure function of the log: the ids of the last so many offsets, of what is still kept. It is read back from the log before
//! the first append after a start, and bounded by the topic's window.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use levada_protocol::ErrorCode;
use levada_protocol::batch::{BatchError, StoredBatch, ids};
use levada_protocol::pool::BufferPool;
use levada_storage::{Partition, ReadError};

use crate::broker::encoding::Encoding;
use crate::broker::fetch;
use crate::failure::Failure;

/// Read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Time before the disk is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Duplicates told of at once: their indices and offsets fit a control frame many times over.
const MAX_TOLD: usize = 1000;

/// Which id is where.
#[derive(Debug)]
pub(super) struct RecentIds {
    /// Offsets looked back on.
    window: u32,
    offsets: BTreeMap<[u8; 16], u64>,
    /// Ascending.
    order: VecDeque<(u64, [u8; 16])>,
}

/// Whether the ids of a partition are known.
#[derive(Debug)]
pub(super) enum Ids {
    /// They were not asked for yet.
    Unread,
    /// They are being read back from the log; nothing is appended meanwhile.
    Reading,
    /// These.
    Known(RecentIds),
}

/// What a batch's ids are to a partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// None of them is known.
    None,
    /// Some are, of messages that are not as safe yet as is asked for.
    NotYet,
    /// These messages, by index, were appended at these offsets; no offset: earlier in the same batch.
    Some(Vec<(u32, Option<u64>)>),
}

impl RecentIds {
    /// Nothing known, `window` offsets looked back on.
    pub(super) fn new(window: u32) -> Self {
        Self { window, offsets: BTreeMap::new(), order: VecDeque::new() }
    }

    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// Notes the ids of an appended batch, by offset in it, and forgets what is too far from its end now.
    pub(super) fn note(&mut self, base_offset: u64, end_offset: u64, ids: &[(u32, [u8; 16])]) {
        for (delta, id) in ids {
            let offset = base_offset + u64::from(*delta);
            self.offsets.insert(*id, offset);
            self.order.push_back((offset, *id));
        }
        while let Some((offset, id)) = self.order.front().copied()
            && offset + u64::from(self.window) < end_offset
        {
            self.order.pop_front();
            // The id may have come again since, with another offset.
            if self.offsets.get(&id) == Some(&offset) {
                self.offsets.remove(&id);
            }
        }
    }

    /// Looks a batch's ids up, in a log that is kept from `start` and safe up to `safe_end`.
    pub(super) fn find(&self, ids: &[(u32, [u8; 16])], start: u64, safe_end: u64) -> Known {
        let mut here = BTreeMap::new();
        let mut known = Vec::new();
        for (index, id) in ids {
            match self.offsets.get(id).filter(|offset| start <= **offset) {
                Some(offset) if safe_end <= *offset => return Known::NotYet,
                Some(offset) => known.push((*index, Some(*offset))),
                None if here.insert(id, index).is_some() => known.push((*index, None)),
                None => {}
            }
        }
        if known.is_empty() { Known::None } else { Known::Some(known) }
    }
}

/// The refusal that tells of duplicates.
pub(super) fn duplicates(known: &[(u32, Option<u64>)]) -> Failure {
    let told = &known[..known.len().min(MAX_TOLD)];
    let offset_text = |offset: Option<u64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
    let indices: Vec<String> = told.iter().map(|(index, _)| index.to_string()).collect();
    let offsets: Vec<String> = told.iter().map(|(_, offset)| offset_text(*offset)).collect();
    Failure::new(ErrorCode::DuplicateMessages).with("indices", indices.join(",")).with("offsets", offsets.join(","))
}

/// Reads the ids of the last `window` messages before `end` back. Waits until they are safe; `None` if the log ends.
pub(super) async fn read(log: &Partition, encoding: &Encoding, window: u32, end: u64) -> Option<RecentIds> {
    while log.watermarks().visible_end_offset < end {
        let visible = log.watermarks().visible_end_offset;
        if log.visible_beyond(visible).await == visible {
            return None;
        }
    }
    let mut recent = RecentIds::new(window);
    let mut offset = end.saturating_sub(window.into()).max(log.watermarks().log_start_offset);
    while offset < end {
        offset = match read_some(log, encoding, offset).await {
            Ok((next_offset, ids)) => {
                let ids = ids.into_iter().filter(|(known, _)| offset <= *known);
                ids.for_each(|(offset, id)| recent.note(offset, 0, &[(0, id)]));
                next_offset
            }
            Err(ReadError::OutOfRange { log_start_offset, .. }) if offset < log_start_offset => log_start_offset,
            Err(ReadError::Corrupt { first_offset, next_offset, .. }) if offset < next_offset => {
                tracing::warn!(
                    first_offset,
                    next_offset,
                    "damaged batches: their messages' ids are not known any more"
                );
                next_offset
            }
            Err(ReadError::Closed) => return None,
            Err(error) => {
                tracing::warn!(%error, "message ids cannot be read back; trying again");
                tokio::time::sleep(AGAIN).await;
                offset
            }
        };
    }
    Some(recent)
}

async fn read_some(
    log: &Partition,
    encoding: &Encoding,
    offset: u64,
) -> Result<(u64, Vec<(u64, [u8; 16])>), ReadError> {
    let read = fetch::read(log, offset, CHUNK_BYTES).await?;
    let next_offset = read.next_offset;
    let mut bytes = BytesMut::with_capacity(read.total_bytes);
    read.slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
    let ids = encoding.offloaded(move || ids_of(bytes.freeze(), &BufferPool::new(0))).await;
    match ids {
        Ok(Ok(ids)) => Ok((next_offset, ids)),
        // The log checked them when it read them: what is wrong is beyond its own checks.
        Ok(Err(error)) => {
            tracing::warn!(offset, next_offset, %error, "malformed batches: their messages' ids are not known any more");
            Ok((next_offset, Vec::new()))
        }
        Err(_) => Err(ReadError::Closed),
    }
}

/// The ids in whole batches as they are read, by offset.
///
/// # Errors
/// A damaged batch.
pub(super) fn ids_of(mut batches: Bytes, pool: &BufferPool) -> Result<Vec<(u64, [u8; 16])>, BatchError> {
    let mut found = Vec::new();
    while let Some(batch) = StoredBatch::split_first(&mut batches)? {
        let open = batch.open(pool)?;
        let base_offset = batch.server().base_offset;
        found.extend(
            ids(open.spans(), open.body())?.into_iter().map(|(delta, id)| (base_offset + u64::from(delta), id)),
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> [u8; 16] {
        [number; 16]
    }

    #[test]
    fn an_id_is_known_within_the_window_and_forgotten_beyond_it() {
        let mut recent = RecentIds::new(3);
        recent.note(0, 2, &[(0, id(1)), (1, id(2))]);
        recent.note(2, 4, &[(1, id(3))]);
        assert_eq!(recent.find(&[(0, id(1))], 0, 4), Known::None, "0 is not among the last three of 0..4");
        assert_eq!(
            recent.find(&[(0, id(9)), (1, id(2)), (2, id(3))], 0, 4),
            Known::Some(vec![(1, Some(1)), (2, Some(3))])
        );
    }

    #[test]
    fn an_id_that_came_again_is_kept_by_its_later_offset() {
        let mut recent = RecentIds::new(3);
        recent.note(0, 1, &[(0, id(1))]);
        recent.note(1, 2, &[(0, id(1))]);
        recent.note(2, 4, &[]);
        assert_eq!(recent.find(&[(0, id(1))], 0, 4), Known::Some(vec![(0, Some(1))]));
    }

    #[test]
    fn within_a_batch_the_first_of_an_id_counts() {
        let recent = RecentIds::new(3);
        assert_eq!(recent.find(&[(0, id(1)), (4, id(1)), (5, id(1))], 0, 0), Known::Some(vec![(4, None), (5, None)]));
    }

    #[test]
    fn what_may_be_lost_is_waited_for_and_what_was_deleted_is_unknown() {
        let mut recent = RecentIds::new(10);
        recent.note(5, 6, &[(0, id(1))]);
        assert_eq!(recent.find(&[(0, id(1))], 0, 5), Known::NotYet);
        assert_eq!(recent.find(&[(0, id(1))], 6, 6), Known::None);
    }
}
