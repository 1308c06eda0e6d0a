//! Batches there and back, and every way they can be broken.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::pool::BufferPool;

/// What a consumer gets when `produced` is stored at `base_offset`.
fn stored(produced: &[u8], base_offset: u64) -> Bytes {
    let header = ProducerHeader::parse(produced).unwrap();
    let batch_length = u32::try_from(header.stored_bytes()).unwrap();
    let server = ServerPart { batch_length, base_offset, append_time_us: 77, leader_epoch: 3 };
    let mut out = BytesMut::from(&server.encode()[..]);
    out.extend_from_slice(produced);
    out.freeze()
}

fn read(produced: &Bytes) -> Vec<Message> {
    verify_producer(produced).unwrap();
    let mut body = stored(produced, 1000);
    let batch = StoredBatch::split_first(&mut body).unwrap().unwrap();
    assert!(body.is_empty());
    batch.verify().unwrap();
    let open = batch.open(&BufferPool::new(1 << 20)).unwrap();
    walk_messages(open.header(), open.body()).unwrap();
    let owned: Vec<_> = batch.messages().unwrap().map(Result::unwrap).collect();
    assert_eq!(open.message_refs().map(Result::unwrap).count(), owned.len());
    owned
}

#[test]
fn messages_come_back_as_they_were_pushed() {
    let headers = [Header::new("a", HeaderValue::I64(-1)), Header::new("b", HeaderValue::String("x".into()))];
    let messages = [
        NewMessage { payload: Some(b"one"), timestamp_us: 100, ..NewMessage::default() },
        NewMessage { payload: None, key: Some(b""), timestamp_us: 90, ..NewMessage::default() },
        NewMessage { payload: Some(b""), headers: &headers, timestamp_us: 100 + (1 << 40), ..NewMessage::default() },
        NewMessage {
            payload: Some(b"4"),
            key: Some(b"k"),
            id: Some([7; 16]),
            timestamp_us: 95,
            ..NewMessage::default()
        },
    ];
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new(BatchLimits::default());
        for message in messages.iter().cycle().take(40) {
            builder.push(message).unwrap();
        }
        let produced = builder.seal(&SealOptions { codec, ..SealOptions::default() }).unwrap();
        let header = ProducerHeader::parse(&produced).unwrap();
        assert_eq!((header.codec, header.base_timestamp_us), (codec, 90));
        assert_eq!(header.max_timestamp_us(), 100 + (1 << 40));
        let got = read(&produced);
        assert_eq!(got.len(), 40);
        for (at, (got, pushed)) in got.iter().zip(messages.iter().cycle()).enumerate() {
            assert_eq!(got.offset, 1000 + at as u64);
            assert_eq!((got.timestamp_us, got.append_time_us, got.id), (pushed.timestamp_us, 77, pushed.id));
            assert_eq!((got.key.as_deref(), got.payload.as_deref()), (pushed.key, pushed.payload));
            let names: Vec<_> = got.headers().map(|header| header.unwrap().0.to_owned()).collect();
            assert_eq!(names, pushed.headers.iter().map(|header| header.name.clone()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn packed_and_fixed_pushes_write_what_single_ones_do() {
    let payloads: Vec<u8> = (0..200).collect();
    let seal = |builder: &mut BatchBuilder| builder.seal(&SealOptions::default()).unwrap();
    let mut one = BatchBuilder::new(BatchLimits::default());
    for payload in payloads.chunks_exact(20) {
        one.push(&NewMessage { payload: Some(payload), timestamp_us: 5, ..NewMessage::default() }).unwrap();
    }
    let mut fixed = BatchBuilder::new(BatchLimits::default());
    assert_eq!(fixed.push_fixed(&payloads, 20, 5), Ok(10));
    let mut packed = BatchBuilder::new(BatchLimits::default());
    assert_eq!(packed.push_packed(&payloads, &[20; 10], 5), Ok(10));
    let expected = seal(&mut one);
    assert_eq!(seal(&mut fixed), expected);
    assert_eq!(seal(&mut packed), expected);
}

#[test]
fn a_full_batch_says_so_and_stays_as_it_was() {
    let limits = BatchLimits { max_batch_bytes: 104 + 3 * (16 + 10), max_messages: 1000 };
    let mut builder = BatchBuilder::new(limits);
    assert_eq!(builder.push_fixed(&[1; 100], 10, 0), Ok(3));
    let message = NewMessage { payload: Some(b""), ..NewMessage::default() };
    assert_eq!((builder.push(&message), builder.message_count()), (Err(PushError::Full), 3));
    assert_eq!(builder.push_fixed(&[1; 100], 10, 0), Ok(0));
    let large = NewMessage { payload: Some(&[0; 63]), ..NewMessage::default() };
    assert_eq!(builder.push(&large), Err(PushError::TooLarge { size: 79, limit: 78 }));
    assert_eq!(read(&builder.seal(&SealOptions::default()).unwrap()).len(), 3);
    assert!(builder.seal(&SealOptions::default()).is_none());
    builder.push(&NewMessage { payload: Some(&[0; 62]), ..NewMessage::default() }).unwrap();
}

#[test]
fn a_message_too_far_in_the_past_goes_into_the_next_batch() {
    let at = |timestamp_us| NewMessage { payload: Some(b"x"), timestamp_us, ..NewMessage::default() };
    let mut builder = BatchBuilder::new(BatchLimits::default());
    for time in [0, 4_000_000_000, -200_000_000] {
        builder.push(&at(time)).unwrap();
    }
    assert_eq!(builder.push(&at(-400_000_000)), Err(PushError::Full));
    assert_eq!(builder.push(&at(i64::MIN)), Err(PushError::Full));
    builder.push(&at(i64::MAX - 1)).unwrap();
    let times: Vec<_> = read(&builder.seal(&SealOptions::default()).unwrap()).iter().map(|m| m.timestamp_us).collect();
    assert_eq!(times, [0, 4_000_000_000, -200_000_000, i64::MAX - 1]);
    builder.push(&at(i64::MIN)).unwrap();
    builder.push(&at(i64::MAX)).unwrap();
    assert_eq!(read(&builder.seal(&SealOptions::default()).unwrap()).len(), 2);
}
