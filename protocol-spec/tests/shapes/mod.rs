//! Batches for tests and vectors: well-formed ones by hand, and one of every malformed shape.

use levada_protocol::batch::{BatchError, Codec, PRODUCER_PART_BYTES, ProducerHeader};
use levada_protocol::codec::CodecError;
use levada_protocol::headers::HeaderError;

/// A message as bytes, written without the crate's builder.
pub(crate) fn message(payload: &[u8], delta: u32, key: &[u8], headers: &[u8], flags: u32, extra: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
    out.extend_from_slice(&delta.to_le_bytes());
    out.extend_from_slice(&u16::try_from(key.len()).unwrap().to_le_bytes());
    out.extend_from_slice(&u16::try_from(headers.len()).unwrap().to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    for part in [extra, key, headers, payload] {
        out.extend_from_slice(part);
    }
    out
}

/// A plain batch of these messages, sealed.
pub(crate) fn batch(messages: &[Vec<u8>], edit: impl FnOnce(&mut ProducerHeader)) -> Vec<u8> {
    let body = messages.concat();
    let count = u32::try_from(messages.len()).unwrap();
    let length = u32::try_from(body.len()).unwrap();
    let mut header = ProducerHeader {
        crc: 0,
        codec: Codec::None,
        flags: 0,
        message_count: count,
        last_offset_delta: count.saturating_sub(1),
        uncompressed_length: length,
        body_length: length,
        base_timestamp_us: 1_000_000,
        max_timestamp_delta_us: 100,
        producer_id: 0,
        first_sequence: 0,
        producer_epoch: 0,
    };
    edit(&mut header);
    reseal([&header.encode()[..], &body].concat())
}

/// The batch with the right checksum.
pub(crate) fn reseal(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&batch[4..]);
    batch[..4].copy_from_slice(&crc.to_le_bytes());
    batch
}

fn edited(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut out = batch(&plain(), |_| ());
    out[at..at + bytes.len()].copy_from_slice(bytes);
    reseal(out)
}

fn plain() -> Vec<Vec<u8>> {
    vec![message(b"one", 0, b"", b"", 0, b""), message(b"two", 100, b"k", b"", 1, b"")]
}

fn compressed(codec: Codec, body: &[u8], uncompressed: usize) -> Vec<u8> {
    let mut out = batch(&plain(), |header| {
        header.codec = codec;
        header.message_count = 1;
        header.last_offset_delta = 0;
        header.body_length = u32::try_from(body.len()).unwrap();
        header.uncompressed_length = u32::try_from(uncompressed).unwrap();
    });
    out.truncate(PRODUCER_PART_BYTES);
    out.extend_from_slice(body);
    reseal(out)
}

fn one(message: Vec<u8>) -> Vec<u8> {
    batch(&[message], |_| ())
}

fn headed(headers: &[u8]) -> Vec<u8> {
    one(message(b"", 0, b"", headers, 0, b""))
}

/// Produced batches that must be refused, each with its name and what it is refused for.
pub(crate) fn malformed() -> Vec<(&'static str, Vec<u8>, BatchError)> {
    let mut all = malformed_parts();
    all.extend(malformed_messages());
    all.extend(malformed_headers());
    all.extend(malformed_bodies());
    all
}

fn malformed_parts() -> Vec<(&'static str, Vec<u8>, BatchError)> {
    let good = batch(&plain(), |_| ());
    let with = |edit: fn(&mut ProducerHeader)| batch(&plain(), edit);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    vec![
        ("empty", Vec::new(), BatchError::Length),
        ("cut in the producer part", good[..PRODUCER_PART_BYTES - 1].to_vec(), BatchError::Length),
        ("cut in the body", good[..good.len() - 1].to_vec(), BatchError::Length),
        ("bytes after the body", [&good[..], &[0]].concat(), BatchError::Length),
        ("damaged payload", damaged, BatchError::Checksum),
        ("another magic", edited(4, &[0x4d]), BatchError::Header("magic")),
        ("format 2", edited(6, &[2]), BatchError::Unknown("format")),
        ("codec 3", edited(7, &[3]), BatchError::Unknown("codec")),
        ("unknown flag", edited(8, &[8]), BatchError::Unknown("flag")),
        ("reserved u16 set", edited(10, &[1]), BatchError::Header("reserved")),
        ("dictionary 1", edited(28, &[1]), BatchError::Unknown("dictionary_id")),
        ("reserved u32 set", edited(68, &[1]), BatchError::Header("reserved")),
        ("no messages", with(|h| h.message_count = 0), BatchError::Header("message_count")),
        (
            "a million and one messages",
            with(|h| (h.message_count, h.last_offset_delta) = (1_000_001, 1_000_000)),
            BatchError::Header("message_count"),
        ),
        ("last offset too low", with(|h| h.last_offset_delta = 0), BatchError::Header("last_offset_delta")),
        ("gaps but not sparse", with(|h| h.last_offset_delta = 2), BatchError::Header("last_offset_delta")),
        ("too short for its messages", with(|h| h.uncompressed_length = 31), BatchError::Header("uncompressed_length")),
        (
            "over the batch limit",
            with(|h| (h.uncompressed_length, h.body_length) = (16_777_113, 16_777_113)),
            BatchError::Header("uncompressed_length"),
        ),
        ("plain and shorter", with(|h| h.body_length -= 1), BatchError::Header("body_length")),
        ("time beyond i64", with(|h| h.max_timestamp_delta_us = u64::MAX), BatchError::Header("max_timestamp_delta")),
        (
            "sequence beyond u64",
            with(|h| (h.producer_id, h.first_sequence) = (1, u64::MAX)),
            BatchError::Header("first_sequence"),
        ),
        ("sequence without a producer", with(|h| h.first_sequence = 1), BatchError::Header("producer_id")),
        ("epoch without a producer", with(|h| h.producer_epoch = 1), BatchError::Header("producer_id")),
    ]
}

fn malformed_messages() -> Vec<(&'static str, Vec<u8>, BatchError)> {
    let bad = |index, reason| BatchError::Message { index, reason };
    let mut longer = message(b"x", 0, b"", b"", 0, b"");
    longer[0] = 2;
    let mut huge = message(b"x", 0, b"", b"", 0, b"");
    huge[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let sparse = |deltas: [u32; 2], last| {
        let messages = deltas.map(|delta| message(b"", 0, b"", b"", 0, &delta.to_le_bytes()));
        batch(&messages, |h| (h.flags, h.last_offset_delta) = (1, last))
    };
    let ts64 = |time: i64, delta| one(message(b"", delta, b"", b"", 8, &time.to_le_bytes()));
    vec![
        ("payload beyond the body", one(longer), bad(0, "it ends beyond the body")),
        ("payload of 4 GiB", one(huge), bad(0, "it ends beyond the body")),
        (
            "bytes after the last message",
            batch(&plain(), |h| (h.message_count, h.last_offset_delta) = (1, 0)),
            bad(0, "bytes follow the last message"),
        ),
        (
            "fewer messages than counted",
            batch(&[message(&[0; 32], 0, b"", b"", 0, b"")], |h| (h.message_count, h.last_offset_delta) = (2, 1)),
            bad(1, "it ends inside its header"),
        ),
        ("unknown message flag", one(message(b"", 0, b"", b"", 16, b"")), bad(0, "it has an unknown flag")),
        ("key bytes without a key", one(message(b"", 0, b"k", b"", 0, b"")), bad(0, "it has key bytes but no key")),
        (
            "payload bytes of a null payload",
            one(message(b"x", 0, b"", b"", 2, b"")),
            bad(0, "it has payload bytes but its payload is null"),
        ),
        ("two timestamps", ts64(1_000_000, 1), bad(0, "it has two timestamps")),
        ("timestamp below the base", ts64(999_999, 0), bad(0, "its timestamp is below the batch's least")),
        ("timestamp above the greatest", ts64(1_000_101, 0), bad(0, "its timestamp is above the batch's greatest")),
        (
            "delta above the greatest",
            one(message(b"", 101, b"", b"", 0, b"")),
            bad(0, "its timestamp is above the batch's greatest"),
        ),
        ("id cut off", one(message(b"", 0, b"", b"", 4, &[0; 15])), bad(0, "it ends beyond the body")),
        ("timestamp cut off", one(message(b"", 0, b"", b"", 8, &[0; 7])), bad(0, "it ends beyond the body")),
        (
            "offset cut off",
            batch(&[message(b"", 0, b"", b"", 0, &[0; 3])], |h| h.flags = 1),
            bad(0, "it ends beyond the body"),
        ),
        ("offsets that repeat", sparse([3, 3], 3), bad(1, "its offset is out of order")),
        ("offset beyond the last", sparse([4, 5], 3), bad(0, "its offset is out of order")),
        ("last offset not reached", sparse([0, 2], 3), bad(1, "its offset is not the batch's last")),
    ]
}

fn malformed_headers() -> Vec<(&'static str, Vec<u8>, BatchError)> {
    let bad = |error| BatchError::Headers { index: 0, error };
    let many: Vec<u8> = [17, 0].into_iter().chain((0..17).flat_map(|at: u8| [1, b'a' + at % 16, 2, 1])).collect();
    vec![
        ("header count 0", headed(&[0, 0]), bad(HeaderError::Count)),
        ("header count cut", headed(&[1]), bad(HeaderError::Count)),
        ("header cut", headed(&[1, 0, 1, b'a', 3, 0, 0]), bad(HeaderError::Length)),
        ("bytes after the last header", headed(&[1, 0, 1, b'a', 2, 1, 0]), bad(HeaderError::Length)),
        ("header name empty", headed(&[1, 0, 0, 2, 1]), bad(HeaderError::Name)),
        ("header name not UTF-8", headed(&[1, 0, 1, 0xff, 2, 1]), bad(HeaderError::Name)),
        ("header type 6", headed(&[1, 0, 1, b'a', 6, 1]), bad(HeaderError::Value)),
        ("header bool 2", headed(&[1, 0, 1, b'a', 2, 2]), bad(HeaderError::Value)),
        ("header text not UTF-8", headed(&[1, 0, 1, b'a', 0, 1, 0, 0xff]), bad(HeaderError::Value)),
        ("header twice", headed(&[2, 0, 1, b'a', 2, 1, 1, b'a', 2, 0]), bad(HeaderError::DuplicateName)),
        ("header twice among many", headed(&many), bad(HeaderError::DuplicateName)),
    ]
}

fn malformed_bodies() -> Vec<(&'static str, Vec<u8>, BatchError)> {
    let bad = BatchError::Codec;
    let plain = vec![0; 4096];
    let zstd = zstd::bulk::compress(&plain, 1).unwrap();
    let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap();
    let ratio = CodecError::Ratio { body_bytes: bomb.len(), uncompressed_bytes: 1 << 20 };
    vec![
        ("zstd that is not", compressed(Codec::Zstd, &[1; 40], 100), bad(CodecError::Damaged)),
        ("zstd cut", compressed(Codec::Zstd, &zstd[..zstd.len() - 1], 4096), bad(CodecError::Damaged)),
        ("zstd and more", compressed(Codec::Zstd, &[&zstd[..], &[0]].concat(), 4096), bad(CodecError::Damaged)),
        ("zstd twice", compressed(Codec::Zstd, &zstd.repeat(2), 8192), bad(CodecError::Damaged)),
        ("zstd of another length", compressed(Codec::Zstd, &zstd, 4095), bad(CodecError::Length)),
        ("zstd bomb", compressed(Codec::Zstd, &bomb, 1 << 20), bad(ratio)),
        (
            "lz4 that expands too far",
            compressed(Codec::Lz4, &[0; 16], 16 * 1024 + 1),
            bad(CodecError::Ratio { body_bytes: 16, uncompressed_bytes: 16 * 1024 + 1 }),
        ),
        ("compressed body that is longer", compressed(Codec::Lz4, &[0; 101], 100), BatchError::Header("body_length")),
    ]
}
