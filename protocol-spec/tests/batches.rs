//! Batches: whatever is pushed comes back, and every malformed shape is refused for what is wrong with it.

#[cfg(test)]
mod shapes;

use bytes::{Bytes, BytesMut};
use levada_protocol::batch::*;
use levada_protocol::codec::{self, CodecError, MAX_RATIO};
use levada_protocol::headers;
use levada_protocol::limits::MAX_HEADERS_BYTES;
use levada_protocol::partitioner::{hash_key, partition_for_key};
use levada_protocol::pool::BufferPool;
use proptest::prelude::*;

#[cfg(test)]
fn store(produced: &[u8], base_offset: u64) -> Bytes {
    let header = ProducerHeader::parse(produced).unwrap();
    let batch_length = u32::try_from(header.stored_bytes()).unwrap();
    let server = ServerPart { batch_length, base_offset, append_time_us: 5, leader_epoch: 2 };
    let mut out = BytesMut::from(&server.encode()[..]);
    out.extend_from_slice(produced);
    out.freeze()
}

type Pushed = (Option<Vec<u8>>, Option<Vec<u8>>, i64, Option<[u8; 16]>, Vec<(String, u8, u64)>);

#[cfg(test)]
fn header_value(kind: u8, bits: u64) -> HeaderValue {
    match kind {
        0 => HeaderValue::String(format!("é{bits}")),
        1 => HeaderValue::Bytes(Bytes::copy_from_slice(&bits.to_le_bytes())),
        2 => HeaderValue::Bool(bits & 1 == 1),
        3 => HeaderValue::I64(bits.cast_signed()),
        4 => HeaderValue::U64(bits),
        _ => HeaderValue::F64(f64::from(u32::try_from(bits >> 32).unwrap())),
    }
}

fn pushed() -> impl Strategy<Value = Pushed> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let time = prop_oneof![Just(0), 0..1_000_i64, any::<i64>().prop_map(|time| time / 4)];
    let headers = proptest::collection::btree_map("[a-z]{1,3}", (0..6u8, any::<u64>()), 0..20)
        .prop_map(|map| map.into_iter().map(|(name, (kind, bits))| (name, kind, bits)).collect());
    (bytes(), bytes(), time, proptest::option::of(any::<[u8; 16]>()), headers)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_pushed_comes_back(messages in proptest::collection::vec(pushed(), 1..30), codec in 0..3u8) {
        let mut builder = BatchBuilder::new(BatchLimits::default());
        let mut fitted = Vec::new();
        for message in &messages {
            let (payload, key, timestamp_us, id, headers) = message;
            let headers: Vec<_> =
                headers.iter().map(|(name, kind, bits)| Header::new(name, header_value(*kind, *bits))).collect();
            let new = NewMessage {
                payload: payload.as_deref(), key: key.as_deref(), headers: &headers, timestamp_us: *timestamp_us, id: *id,
            };
            match builder.push(&new) {
                Ok(()) => fitted.push((message, headers)),
                Err(PushError::Full) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let codec = Codec::try_from(codec).unwrap();
        let options = SealOptions { codec, level: 3, producer_id: 9, producer_epoch: 2, first_sequence: 77, external_sequence: false };
        let produced = builder.seal(&options).unwrap();
        let header = verify_producer(&produced).unwrap();
        prop_assert_eq!((header.producer_id, header.producer_epoch, header.first_sequence), (9, 2, 77));
        let least = fitted.iter().map(|(message, _)| message.2).min();
        let greatest = fitted.iter().map(|(message, _)| message.2).max();
        prop_assert_eq!((Some(header.base_timestamp_us), Some(header.max_timestamp_us())), (least, greatest));

        let two = [&store(&produced, 10)[..], &store(&produced, 500)].concat();
        let mut body = Bytes::from(two);
        let pool = BufferPool::new(1 << 20);
        for base in [10, 500] {
            let batch = StoredBatch::split_first(&mut body).unwrap().unwrap();
            batch.verify().unwrap();
            let open = batch.open(&pool).unwrap();
            walk_messages(open.header(), open.body()).unwrap();
            prop_assert_eq!(open.message_refs().count(), fitted.len());
            for (at, (got, (sent, headers))) in batch.messages().unwrap().zip(&fitted).enumerate() {
                let got = got.unwrap();
                prop_assert_eq!(got.offset, base + at as u64);
                prop_assert_eq!(got.payload.as_deref(), sent.0.as_deref());
                prop_assert_eq!(got.key.as_deref(), sent.1.as_deref());
                prop_assert_eq!((got.timestamp_us, got.id), (sent.2, sent.3));
                let read: Vec<_> = got
                    .headers()
                    .map(|header| header.map(|(name, value)| Header::new(name, value.to_owned())).unwrap())
                    .collect();
                prop_assert_eq!(&read, headers);
            }
        }
        prop_assert!(StoredBatch::split_first(&mut body).unwrap().is_none());
    }

    #[test]
    fn encoding_anew_keeps_every_message(
        messages in proptest::collection::vec(pushed(), 1..30), repeats in 1..20usize, from in 0..3u8, to in 0..3u8,
    ) {
        let (from, to) = (Codec::try_from(from).unwrap(), Codec::try_from(to).unwrap());
        let mut builder = BatchBuilder::new(BatchLimits::default());
        for (payload, key, timestamp_us, id, headers) in messages.iter().cycle().take(messages.len() * repeats) {
            let headers: Vec<_> =
                headers.iter().map(|(name, kind, bits)| Header::new(name, header_value(*kind, *bits))).collect();
            let new = NewMessage {
                payload: payload.as_deref(), key: key.as_deref(), headers: &headers, timestamp_us: *timestamp_us, id: *id,
            };
            match builder.push(&new) {
                Ok(()) | Err(PushError::Full) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let options = SealOptions {
            codec: from, level: 1, producer_id: 9, producer_epoch: 2, first_sequence: 77, ..SealOptions::default()
        };
        let sent = builder.seal(&options).unwrap();
        let before = verify_producer(&sent).unwrap();
        let Some(anew) = Reencoder::default().reencode(&sent, to, 3).unwrap() else {
            let stays = before.codec == to || to != Codec::None;
            prop_assert!(stays, "only what has the codec, or would not shrink, stays as it was");
            return Ok(());
        };
        let after = verify_producer(&anew).unwrap();
        let expected = ProducerHeader {
            crc: after.crc, codec: to, body_length: after.body_length, flags: before.flags | FLAG_SERVER_ENCODED, ..before
        };
        prop_assert_eq!(after, expected);
        prop_assert!(to == Codec::None || anew.len() < sent.len());
        let read = |produced: &[u8]| -> Vec<Message> {
            let batch = StoredBatch::split_first(&mut store(produced, 10)).unwrap().unwrap();
            batch.verify().unwrap();
            batch.messages().unwrap().map(Result::unwrap).collect()
        };
        prop_assert_eq!(read(&anew), read(&sent));
    }

    #[test]
    fn one_changed_bit_is_noticed(at in 0usize..200, bit in 0u8..8) {
        let mut builder = BatchBuilder::new(BatchLimits::default());
        builder.push(&NewMessage { payload: Some(&[3; 50]), key: Some(b"key"), ..NewMessage::default() }).unwrap();
        let good = store(&builder.seal(&SealOptions::default()).unwrap(), 4);
        let mut bad = good.to_vec();
        bad[at % good.len()] ^= 1 << bit;
        let outcome = StoredBatch::split_first(&mut Bytes::from(bad)).and_then(|batch| batch.unwrap().verify());
        prop_assert!(outcome.is_err());
    }

    #[test]
    fn any_bytes_are_a_batch_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = verify_producer(&bytes);
        // With lengths and checksum made right, the walk sees whatever the rest is.
        if let Some(body) = bytes.get(4..).filter(|body| !body.is_empty()) {
            let count = u32::from(bytes[0] % 8) + 1;
            let batch = shapes::batch(&[body.to_vec()], |header| {
                (header.message_count, header.flags) = (count, u16::from(bytes[1] & 1));
                header.last_offset_delta = count - 1 + u32::from(header.flags) * u32::from(bytes[2]);
                header.max_timestamp_delta_us = u64::from(bytes[3]) << 20;
            });
            let _ = verify_producer(&batch);
        }
    }
}

#[test]
fn every_malformed_shape_is_refused_for_what_is_wrong() {
    for (name, produced, expected) in shapes::malformed() {
        assert_eq!(verify_producer(&produced).map(|_| ()), Err(expected), "{name}");
    }
}

#[test]
fn every_prefix_of_a_stored_batch_is_refused() {
    let produced = shapes::batch(&[shapes::message(b"payload", 3, b"key", &[1, 0, 1, b'h', 2, 1], 1, b"")], |_| ());
    let good = store(&produced, 0);
    for length in 1..good.len() {
        assert_eq!(
            StoredBatch::split_first(&mut good.slice(..length)).map(|_| ()),
            Err(BatchError::Length),
            "{length}"
        );
    }
    for length in 0..produced.len() {
        assert!(verify_producer(&produced[..length]).is_err());
    }
}

#[test]
fn server_parts_are_checked_before_their_length_is_used() {
    let produced = shapes::batch(&[shapes::message(b"x", 0, b"", b"", 0, b"")], |_| ());
    let length = u32::try_from(32 + produced.len()).unwrap();
    let part = |batch_length, base_offset, reserved: u8| {
        let mut bytes = ServerPart { batch_length, base_offset, append_time_us: 0, leader_epoch: 0 }.encode();
        bytes[28] = reserved;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        let whole = [&bytes[..], &produced].concat();
        StoredBatch::split_first(&mut Bytes::from(whole)).map(|batch| batch.is_some())
    };
    assert_eq!(part(length, 7, 0), Ok(true));
    assert_eq!(part(length, 7, 1), Err(BatchError::Header("reserved")));
    assert_eq!(part(104, 7, 0), Err(BatchError::Header("batch_length")));
    assert_eq!(part(u32::MAX, 7, 0), Err(BatchError::Header("batch_length")));
    assert_eq!(part(length + 1, 7, 0), Err(BatchError::Length));
    assert_eq!(part(length - 1, 7, 0), Err(BatchError::Length));
    assert_eq!(part(length, u64::MAX, 0), Err(BatchError::Header("base_offset")));
}

#[test]
fn sparse_batches_and_gaps_are_read() {
    let at = |delta: u32| shapes::message(b"m", 0, b"", b"", 0, &delta.to_le_bytes());
    let produced = shapes::batch(&[at(0), at(5), at(9)], |header| (header.flags, header.last_offset_delta) = (1, 9));
    verify_producer(&produced).unwrap();
    let batch = StoredBatch::split_first(&mut store(&produced, 100)).unwrap().unwrap();
    let offsets: Vec<_> = batch.messages().unwrap().map(|message| message.unwrap().offset).collect();
    assert_eq!((offsets, batch.last_offset()), (vec![100, 105, 109], 109));
}

#[test]
fn nothing_is_allocated_for_a_bomb() {
    let pool = BufferPool::new(0);
    for (name, produced, _) in shapes::malformed().into_iter().filter(|(name, ..)| name.contains("bomb")) {
        let batch = StoredBatch::split_first(&mut store(&produced, 0)).unwrap().unwrap();
        assert!(batch.open(&pool).is_err(), "{name}");
        assert_eq!(pool.in_use_bytes(), 0);
    }
    let body = [0x1f, 0, 1, 0, 255, 255, 255, 255];
    assert!(codec::decompress(Codec::Lz4, &body, &mut [0; 64]).is_err(), "an lz4 body that overruns its length");
    assert_eq!(codec::decompress(Codec::None, b"ab", &mut [0; 3]), Err(CodecError::Length));
}

/// A batch of that codec and body, with a checksum that holds.
#[cfg(test)]
fn produced(codec: Codec, body: &[u8], uncompressed_length: u32) -> Vec<u8> {
    let mut batch = shapes::batch(&[shapes::message(b"x", 0, b"", b"", 0, b"")], |_| ());
    let header = ProducerHeader::parse(&batch).unwrap();
    let body_length = u32::try_from(body.len()).unwrap();
    batch.truncate(PRODUCER_PART_BYTES);
    batch.extend_from_slice(body);
    ProducerHeader { codec, body_length, uncompressed_length, ..header }.seal(&mut batch);
    batch
}

#[test]
fn a_body_that_does_not_decompress_or_holds_no_messages_is_not_encoded_anew() {
    let mut reencoder = Reencoder::default();
    let mut refused = |batch: &[u8], codec| {
        verify_producer(batch).expect("what is wrong shows only inside");
        reencoder.reencode(batch, codec, 3).unwrap_err()
    };
    // A frame that says 4096 and holds 1 MiB: magic, one segment with a size of two bytes, then blocks of one repeated byte.
    let block = |is_last: u32| ((4096 << 3 | 1 << 1 | is_last).to_le_bytes(), 7_u8);
    let mut liar = vec![0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x0f];
    for number in 0..256_u32 {
        let ([low, middle, high, _], byte) = block(u32::from(number == 255));
        liar.extend_from_slice(&[low, middle, high, byte]);
    }
    let no_messages = zstd::bulk::compress(&[255; 4096], 1).unwrap();
    for to in [Codec::None, Codec::Lz4] {
        assert!(matches!(refused(&produced(Codec::Zstd, &no_messages, 4096), to), BatchError::Message { .. }));
        assert_eq!(refused(&produced(Codec::Zstd, &liar, 4096), to), BatchError::Codec(CodecError::Damaged));
    }
    for to in [Codec::None, Codec::Zstd] {
        // A match that goes on for 4 KiB where 64 bytes were declared.
        let long = [&[0x1f, 0, 1, 0][..], &[255; 16], &[0, 0]].concat();
        assert_eq!(refused(&produced(Codec::Lz4, &long, 64), to), BatchError::Codec(CodecError::Damaged));
        assert_eq!(refused(&produced(Codec::Lz4, &[0x10, 0], 64), to), BatchError::Codec(CodecError::Length));
    }
}

#[test]
fn a_body_that_would_be_a_bomb_is_sealed_uncompressed() {
    let zeros = vec![0; 4 << 20];
    let mut builder = BatchBuilder::new(BatchLimits::default());
    builder.push(&NewMessage { payload: Some(&zeros), ..NewMessage::default() }).unwrap();
    let produced = builder.seal(&SealOptions { codec: Codec::Zstd, ..SealOptions::default() }).unwrap();
    assert_eq!(verify_producer(&produced).unwrap().codec, Codec::None);
    assert_eq!(MAX_RATIO, 1024);
    assert_eq!(Reencoder::default().reencode(&produced, Codec::Zstd, 3), Ok(None), "nor does the server make one");
}

#[test]
fn a_payload_of_the_announced_size_fits_with_the_largest_key_and_headers() {
    let limits = BatchLimits { max_batch_bytes: 1 << 20, ..BatchLimits::default() };
    let payload = vec![1; max_payload_bytes(1 << 20)];
    let text = "v".repeat(MAX_HEADERS_BYTES - 2 - 1 - 1 - 1 - 2);
    let headers = [Header::new("h", HeaderValue::String(text))];
    let message = NewMessage {
        payload: Some(&payload),
        key: Some(&[7; 65_535]),
        headers: &headers,
        timestamp_us: 1,
        id: Some([0; 16]),
    };
    let mut builder = BatchBuilder::new(limits);
    builder.push(&message).unwrap();
    verify_producer(&builder.seal(&SealOptions::default()).unwrap()).unwrap();
    assert_eq!(builder.push(&NewMessage { key: Some(&[0; 65_536]), ..message }), Err(PushError::KeyTooLarge(65_536)));
    let long = [Header::new("h2", HeaderValue::String("v".repeat(65_528)))];
    assert!(matches!(builder.push(&NewMessage { headers: &long, ..message }), Err(PushError::Headers(_))));
    assert!(builder.is_empty());
}

#[test]
fn many_headers_are_checked_fast_and_in_little_memory() {
    let mut bytes = vec![0; 2];
    let mut count = 0u16;
    while bytes.len() < MAX_HEADERS_BYTES - 8 {
        bytes.extend_from_slice(&[3]);
        bytes.extend_from_slice(format!("{count:03x}").as_bytes().get(..3).unwrap());
        bytes.extend_from_slice(&[2, 1]);
        count += 1;
        if count == 4096 {
            break;
        }
    }
    bytes[..2].copy_from_slice(&count.to_le_bytes());
    assert_eq!(headers::check(&bytes), Ok(()));
    let last = bytes.len() - 5;
    bytes.copy_within(3..6, last);
    assert_eq!(headers::check(&bytes), Err(headers::HeaderError::DuplicateName));
}

#[test]
fn keys_have_the_partitions_of_the_specification() {
    assert_eq!(hash_key(b""), 0xefd0_1f60_ba99_2926);
    assert!((1..5000).all(|count| partition_for_key(b"key", count) < count));
    assert_eq!(partition_for_key(b"key", 0), 0);
    let mut counts = [0; 8];
    for key in 0..8000_u32 {
        counts[partition_for_key(&key.to_le_bytes(), 8) as usize] += 1;
    }
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}
