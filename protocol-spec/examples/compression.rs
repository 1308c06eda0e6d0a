//! What compression does to batches of one's own messages, on one core:
//! `cargo run --release -p levada-protocol --example compression -- messages.jsonl`, one message per line.
//!
//! Ratio: bytes of batches as the clients' default (codec none) stores them, by bytes of those that are compressed. MB/s count uncompressed
//! bytes. Encoding anew is what a topic's policy costs the server: CPU seconds per GB of uncompressed batches. Medians.

#![expect(clippy::print_stdout, reason = "a bench talks")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use levada_protocol::batch::{
    BatchBuilder, BatchLimits, Codec, NewMessage, PRODUCER_PART_BYTES, ProducerHeader, Reencoder, SealOptions,
    verify_producer,
};
use levada_protocol::codec::{self, Compressor};

/// Messages that are read of a larger file.
const MAX_MESSAGES: usize = 100_000;
const RUNS: usize = 5;
/// Level of zstd where the server encodes.
const SERVER_LEVEL: i32 = codec::DEFAULT_ZSTD_LEVEL;
const CODECS: [(Codec, i32); 5] =
    [(Codec::None, 0), (Codec::Lz4, 0), (Codec::Zstd, 1), (Codec::Zstd, 3), (Codec::Zstd, 9)];
const ANEW: [(Codec, Codec); 5] = [
    (Codec::None, Codec::Lz4),
    (Codec::None, Codec::Zstd),
    (Codec::Lz4, Codec::Zstd),
    (Codec::Lz4, Codec::None),
    (Codec::Zstd, Codec::None),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: compression FILE, one message per line")?;
    let text = std::fs::read(path)?;
    let messages: Vec<&[u8]> =
        text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(MAX_MESSAGES).collect();
    let payload_bytes: usize = messages.iter().map(|message| message.len()).sum();
    println!("{} messages, {} bytes each on average", messages.len(), payload_bytes / messages.len().max(1));
    for count in [10, 100, 1000] {
        println!(
            "\n{count} messages per batch\n\n| Codec | Ratio | Compress MB/s | Decompress MB/s |\n|---|---|---|---|"
        );
        for (codec, level) in CODECS {
            by_producers(&messages, count, codec, level);
        }
        println!("\n| Sent in | Topic asks for | CPU s per GB |\n|---|---|---|");
        for (from, to) in ANEW {
            anew(&messages, count, from, to);
        }
    }
    Ok(())
}

/// The messages in batches of `count`.
fn batches(messages: &[&[u8]], count: usize, codec: Codec, level: i32) -> Vec<Bytes> {
    let mut builder = BatchBuilder::new(BatchLimits::default());
    let sealed = |messages: &[&[u8]]| {
        for (number, payload) in messages.iter().enumerate() {
            let timestamp_us = 1_700_000_000_000_000 + i64::try_from(number).expect("small");
            builder
                .push(&NewMessage { payload: Some(payload), timestamp_us, ..NewMessage::default() })
                .expect("small messages fit");
        }
        builder.seal(&SealOptions { codec, level, ..SealOptions::default() }).expect("a batch is not empty")
    };
    messages.chunks(count).map(sealed).collect()
}

fn bytes_of(batches: &[Bytes]) -> usize {
    batches.iter().map(Bytes::len).sum()
}

fn by_producers(messages: &[&[u8]], count: usize, codec: Codec, level: i32) {
    let plain = batches(messages, count, Codec::None, 0);
    let packed = batches(messages, count, codec, level);
    let mut compressor = Compressor::new();
    let largest = plain.iter().map(Bytes::len).max().unwrap_or(0);
    let mut output = vec![0; Compressor::bound(codec, largest)];
    let compress = median(|| {
        for batch in &plain {
            black_box(compressor.compress(codec, level, &batch[PRODUCER_PART_BYTES..], &mut output));
        }
    });
    let headers: Vec<ProducerHeader> =
        packed.iter().map(|batch| ProducerHeader::parse(batch).expect("a batch")).collect();
    let decompress = median(|| {
        for (batch, header) in packed.iter().zip(&headers) {
            let output = &mut output[..header.uncompressed_length as usize];
            codec::decompress(header.codec, &batch[PRODUCER_PART_BYTES..], output).expect("what was compressed");
            black_box(output);
        }
    });
    let ratio = bytes_of(&plain) as f64 / bytes_of(&packed) as f64;
    let name = if codec == Codec::Zstd { format!("zstd {level}") } else { codec.to_string() };
    if codec == Codec::None {
        return println!("| {name} | {ratio:.2} | | |");
    }
    let rate = |seconds: f64| bytes_of(&plain) as f64 / 1e6 / seconds;
    println!("| {name} | {ratio:.2} | {:.0} | {:.0} |", rate(compress), rate(decompress));
}

fn anew(messages: &[&[u8]], count: usize, from: Codec, to: Codec) {
    let plain_bytes = bytes_of(&batches(messages, count, Codec::None, 0));
    let sent = batches(messages, count, from, SERVER_LEVEL);
    let mut reencoder = Reencoder::default();
    let seconds = median(|| {
        for batch in &sent {
            black_box(reencoder.reencode(batch, to, SERVER_LEVEL).expect("a batch"));
        }
    });
    let taken = median(|| {
        for batch in &sent {
            black_box(verify_producer(batch).expect("a batch"));
        }
    });
    let per_gb = |seconds: f64| seconds / (plain_bytes as f64 / 1e9);
    println!("| {from} | {to} | {:.2} (and {:.2} to check what came) |", per_gb(seconds), per_gb(taken));
}

/// Seconds of `work`, the median of some runs after one to warm up.
fn median(mut work: impl FnMut()) -> f64 {
    work();
    let mut runs: Vec<f64> = std::iter::repeat_with(|| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    })
    .take(RUNS)
    .collect();
    runs.sort_unstable_by(f64::total_cmp);
    runs[RUNS / 2]
}
