//! The ids of a batch's messages, and a batch without those that a topic has already (spec.md §6.6).

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::builder::{BatchBuilder, BatchLimits, NewMessage, SealOptions};
use super::header::{FLAG_EXTERNAL_SEQUENCE, PRODUCER_PART_BYTES, ProducerHeader};
use super::message::{MessageRefs, MessageSpans, walk_messages};
use super::{BatchError, Codec, Header};
use crate::codec;

/// Ids of messages, each with the message's index or offset in its batch.
pub type IdsByIndex = Vec<(u32, [u8; 16])>;

/// The ids of the messages of a batch that [`super::verify_producer`] accepted, each with the message's index.
///
/// # Errors
/// A body that cannot be decompressed within the limits, or holds malformed messages.
pub fn message_ids(batch: &[u8]) -> Result<IdsByIndex, BatchError> {
    let (header, body) = plain(batch)?;
    ids(MessageSpans::new(&header, &body), &body)
}

/// A produced batch without the messages of those indices, under the same numbers, codec and producer; `None` if none is left.
///
/// # Errors
/// As [`message_ids`].
pub fn without_messages(batch: &[u8], indices: &BTreeSet<u32>, level: i32) -> Result<Option<Bytes>, BatchError> {
    let (header, body) = plain(batch)?;
    let mut builder = BatchBuilder::new(BatchLimits::default());
    for (message, index) in MessageRefs::new(&header, &body, 0).zip(0u32..) {
        let message = message?;
        if indices.contains(&index) {
            continue;
        }
        let owned = |header: Result<_, _>| -> Result<Header, BatchError> {
            let (name, value): (&str, crate::headers::HeaderValueRef<'_>) =
                header.map_err(|error| BatchError::Headers { index, error })?;
            Ok(Header { name: name.to_owned(), value: value.to_owned() })
        };
        let headers = message.headers().map(owned).collect::<Result<Vec<_>, _>>()?;
        let kept = NewMessage {
            payload: message.payload,
            key: message.key,
            headers: &headers,
            timestamp_us: message.timestamp_us,
            id: message.id.copied(),
        };
        builder
            .push(&kept)
            .map_err(|_| BatchError::Message { index, reason: "does not fit the batch it came from" })?;
    }
    let (producer_id, producer_epoch, first_sequence) =
        (header.producer_id, header.producer_epoch, header.first_sequence);
    let external_sequence = header.flags & FLAG_EXTERNAL_SEQUENCE != 0;
    let codec = header.codec;
    Ok(builder.seal(&SealOptions { codec, level, producer_id, producer_epoch, first_sequence, external_sequence }))
}

/// Header and messages of a produced batch, decompressed.
fn plain(batch: &[u8]) -> Result<(ProducerHeader, Cow<'_, [u8]>), BatchError> {
    let header = ProducerHeader::parse(batch)?;
    if batch.len() != header.produced_bytes() {
        return Err(BatchError::Length);
    }
    let body = &batch[PRODUCER_PART_BYTES..];
    if header.codec == Codec::None {
        return Ok((header, body.into()));
    }
    let length = header.uncompressed_length as usize;
    codec::check(header.codec, body, length)?;
    let mut plain = vec![0; length];
    codec::decompress(header.codec, body, &mut plain)?;
    walk_messages(&header, &plain)?;
    Ok((header, plain.into()))
}

/// The ids of messages at hand, each with the message's offset in the batch.
///
/// # Errors
/// Malformed messages.
pub fn ids(spans: MessageSpans<'_>, body: &[u8]) -> Result<IdsByIndex, BatchError> {
    let mut ids = Vec::new();
    for span in spans {
        let span = span?;
        if let Some(id) = span.id_range().and_then(|range| body.get(range)?.first_chunk().copied()) {
            ids.push((span.offset_delta, id));
        }
    }
    Ok(ids)
}
