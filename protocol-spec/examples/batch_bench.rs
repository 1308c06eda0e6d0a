//! Prints what one core does: `cargo run --release -p levada-protocol --example batch_bench`.
//!
//! Encode: payloads into sealed batches. Verify: both checksums. Walk: what the server does on the way in. Iterate: what a
//! consumer does, borrowed and as slices.

#![expect(clippy::print_stdout, reason = "a bench talks")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::hint::black_box;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use levada_protocol::batch::{
    BatchBuilder, BatchLimits, Codec, NewMessage, ProducerHeader, SealOptions, ServerPart, StoredBatch, verify_producer,
};
use levada_protocol::pool::BufferPool;

const SHAPES: [(usize, usize); 4] = [(32, 20_000), (100, 1000), (100, 10_000), (1000, 1000)];

fn main() {
    println!("{:>24} {:>10} {:>12} {:>10}", "what", "shape", "million/s", "MB/s");
    for (size, count) in SHAPES {
        shape(size, count);
    }
    for codec in [Codec::Lz4, Codec::Zstd] {
        compressed(codec);
    }
}

fn shape(size: usize, count: usize) {
    let payloads = payloads(size * count);
    let mut builder = BatchBuilder::new(BatchLimits::default());
    let options = SealOptions::default();
    measure("encode push_fixed+seal", size, count, || {
        builder.push_fixed(&payloads, size, 1_700_000_000_000_000).expect("fits");
        black_box(builder.seal(&options));
    });
    let lengths = vec![u32::try_from(size).expect("small"); count];
    measure("encode push_packed+seal", size, count, || {
        builder.push_packed(&payloads, &lengths, 1_700_000_000_000_000).expect("fits");
        black_box(builder.seal(&options));
    });
    measure("encode push+seal", size, count, || {
        for payload in payloads.chunks_exact(size) {
            let message =
                NewMessage { payload: Some(payload), timestamp_us: 1_700_000_000_000_000, ..NewMessage::default() };
            builder.push(&message).expect("fits");
        }
        black_box(builder.seal(&options));
    });
    builder.push_fixed(&payloads, size, 0).expect("fits");
    let produced = builder.seal(&options).expect("not empty");
    measure("crc32c alone", size, count, || {
        black_box(crc32c::crc32c(&produced));
    });
    measure("server: verify and walk", size, count, || {
        black_box(verify_producer(&produced).expect("intact"));
    });
    let stored = stored(&produced);
    let pool = BufferPool::new(64 << 20);
    measure("consumer: verify", size, count, || {
        let batch = StoredBatch::split_first(&mut stored.clone()).expect("a batch").expect("one");
        batch.verify().expect("intact");
    });
    measure("consumer: verify, refs", size, count, || consume(&stored, &pool));
    measure("consumer: verify, slices", size, count, || {
        let batch = StoredBatch::split_first(&mut stored.clone()).expect("a batch").expect("one");
        batch.verify().expect("intact");
        for message in batch.messages().expect("plain") {
            black_box(message.expect("well formed"));
        }
    });
}

fn consume(stored: &Bytes, pool: &BufferPool) {
    let batch = StoredBatch::split_first(&mut stored.clone()).expect("a batch").expect("one");
    batch.verify().expect("intact");
    let open = batch.open(pool).expect("within limits");
    for message in open.message_refs() {
        black_box(message.expect("well formed"));
    }
}

fn compressed(codec: Codec) {
    let (size, count) = (1000, 1000);
    let payloads = payloads(size * count);
    let mut builder = BatchBuilder::new(BatchLimits::default());
    let options = SealOptions { codec, ..SealOptions::default() };
    measure(&format!("encode {codec}"), size, count, || {
        builder.push_fixed(&payloads, size, 0).expect("fits");
        black_box(builder.seal(&options));
    });
    builder.push_fixed(&payloads, size, 0).expect("fits");
    let stored = stored(&builder.seal(&options).expect("not empty"));
    let pool = BufferPool::new(64 << 20);
    measure(&format!("consume {codec}"), size, count, || consume(&stored, &pool));
}

/// Text-like bytes that compress about as logs do.
fn payloads(bytes: usize) -> Vec<u8> {
    let words = [&b"partition "[..], b"segment ", b"batch ", b"offset=", b"epoch=", b"ok\n"];
    let mut out = Vec::with_capacity(bytes + 32);
    let mut state = 1_u64;
    while out.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.extend_from_slice(words[usize::try_from(state >> 60).expect("small") % words.len()]);
        out.extend_from_slice((state >> 40).to_string().as_bytes());
    }
    out.truncate(bytes);
    out
}

fn stored(produced: &[u8]) -> Bytes {
    let header = ProducerHeader::parse(produced).expect("a batch");
    let batch_length = u32::try_from(header.stored_bytes()).expect("within limits");
    let server = ServerPart { batch_length, base_offset: 0, append_time_us: 0, leader_epoch: 1 };
    let mut out = BytesMut::from(&server.encode()[..]);
    out.extend_from_slice(produced);
    out.freeze()
}

/// Runs `work`, which handles one batch, for about half a second and prints its rate.
fn measure(what: &str, size: usize, count: usize, mut work: impl FnMut()) {
    work();
    let (start, mut rounds) = (Instant::now(), 0_u64);
    while start.elapsed().as_millis() < 400 {
        for _ in 0..16 {
            work();
        }
        rounds += 16;
    }
    let seconds = start.elapsed().as_secs_f64();
    let messages = rounds as f64 * count as f64;
    println!(
        "{what:>24} {:>10} {:>12.1} {:>10.0}",
        format!("{size}x{count}"),
        messages / seconds / 1e6,
        messages * size as f64 / seconds / 1e6
    );
}
