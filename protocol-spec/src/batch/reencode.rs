//! The same messages under another codec: what a topic's policy asks of the server. Everything but codec, body, flag
//! SERVER_ENCODED and checksum stays as the producer wrote it (spec.md §4.3).

use bytes::Bytes;

use super::header::{FLAG_SERVER_ENCODED, PRODUCER_PART_BYTES, ProducerHeader};
use super::message::walk_messages;
use super::{BatchError, Codec};
use crate::codec::{self, Compressor};

/// Scratch memory kept between batches; what a larger batch needed is given back.
const KEPT_BYTES: usize = 2 << 20;

/// Encodes batches anew, keeping its contexts and scratch memory.
#[derive(Debug, Default)]
pub struct Reencoder {
    compressor: Compressor,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

impl Reencoder {
    /// A batch of the same messages with `codec`, from one that [`super::verify_producer`] accepted; `None` if it is to stay
    /// as it is: it has that codec, or a compressed body would be no smaller than the one it has.
    ///
    /// # Errors
    /// A body that cannot be decompressed within the limits, or holds malformed messages. Nothing is allocated by a length
    /// that is over them.
    pub fn reencode(&mut self, batch: &[u8], codec: Codec, level: i32) -> Result<Option<Bytes>, BatchError> {
        let header = ProducerHeader::parse(batch)?;
        if batch.len() != header.produced_bytes() {
            return Err(BatchError::Length);
        }
        if header.codec == codec {
            return Ok(None);
        }
        let body = &batch[PRODUCER_PART_BYTES..];
        let length = header.uncompressed_length as usize;
        let outcome = match codec {
            Codec::None => unpacked(&header, body).map(Some),
            _ => self.packed(&header, body, codec, level),
        };
        for scratch in [&mut self.plain, &mut self.packed] {
            if KEPT_BYTES < scratch.capacity() && KEPT_BYTES < length {
                *scratch = Vec::new();
            }
        }
        outcome
    }

    fn packed(
        &mut self,
        header: &ProducerHeader,
        body: &[u8],
        codec: Codec,
        level: i32,
    ) -> Result<Option<Bytes>, BatchError> {
        let plain = if header.codec == Codec::None {
            body
        } else {
            let length = header.uncompressed_length as usize;
            codec::check(header.codec, body, length)?;
            let plain = room(&mut self.plain, length);
            codec::decompress(header.codec, body, plain)?;
            plain
        };
        walk_messages(header, plain)?;
        let target = room(&mut self.packed, PRODUCER_PART_BYTES + Compressor::bound(codec, plain.len()));
        let length = self.compressor.compress(codec, level, plain, &mut target[PRODUCER_PART_BYTES..]);
        let Some(length) = length.filter(|length| *length < body.len()) else { return Ok(None) };
        let sealed = &mut target[..PRODUCER_PART_BYTES + length];
        anew(header, codec, length).seal(sealed);
        Ok(Some(Bytes::copy_from_slice(sealed)))
    }
}

/// The batch without compression.
fn unpacked(header: &ProducerHeader, body: &[u8]) -> Result<Bytes, BatchError> {
    let length = header.uncompressed_length as usize;
    codec::check(header.codec, body, length)?;
    let mut batch = vec![0; PRODUCER_PART_BYTES + length];
    codec::decompress(header.codec, body, &mut batch[PRODUCER_PART_BYTES..])?;
    walk_messages(header, &batch[PRODUCER_PART_BYTES..])?;
    anew(header, Codec::None, length).seal(&mut batch);
    Ok(batch.into())
}

fn anew(header: &ProducerHeader, codec: Codec, body_length: usize) -> ProducerHeader {
    let body_length = u32::try_from(body_length).expect("at most the uncompressed length");
    ProducerHeader { codec, body_length, flags: header.flags | FLAG_SERVER_ENCODED, ..*header }
}

/// The first `length` bytes of `scratch`, which grows to hold them.
fn room(scratch: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if scratch.len() < length {
        scratch.resize(length, 0);
    }
    &mut scratch[..length]
}
