//! `levada produce`: a thread reads and cuts the input, this task hands messages over, another counts what was
//! acknowledged. Each waits for the next, so memory is bounded by the channel between reader and sender and by the
//! producer's own buffer.

use super::topic::durability;
use crate::args::{CodecName, InputFormat, ProduceArgs};
use crate::failure::{Exit, Failure, plain};
use crate::input::{Chunk, CsvSource, End, InputFault, JsonSource, LineSource, Record, Source};
use crate::interrupt::Interrupt;
use crate::session::{self, Session};
use crate::units::human_count;
use indicatif::ProgressBar;
use levada::{BatchDelivery, Client, Compression, MessageRef, Producer, ProducerOptions};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use tokio::sync::mpsc;

/// Chunks read ahead.
const READ_AHEAD_CHUNKS: usize = 4;
/// Chunks handed over and not yet acknowledged; the producer's own limit in bytes is reached first unless chunks are small.
const UNACKNOWLEDGED_CHUNKS: usize = 1024;
const ZSTD_LEVEL: i32 = 3;

pub(crate) async fn run(session: &Session, args: ProduceArgs) -> Result<(), Failure> {
    check(&args)?;
    let (input, total_bytes) = open(args.file.as_deref())?;
    let client = session.connect().await?;
    let interrupt = Interrupt::listen()?;
    let producer = client.producer(&args.topic.topic.to_string(), options(&args)).await?;
    if let Some(partition) = args.topic.partition
        && partition >= producer.partition_count()
    {
        let (topic, count) = (&args.topic.topic, producer.partition_count());
        return Err(Failure::failed(format!(
            "PARTITION_NOT_FOUND: {topic} has no partition {partition}; it has {count}, counted from 0"
        )));
    }
    let source = source(&args, input, max_payload_bytes(&client));
    let bar = session.screen.progress_bytes(total_bytes);
    let place = Place { partition: args.topic.partition, id_from_key: args.id_from_key };
    let outcome = send(&producer, source, place, &interrupt, &bar).await;
    bar.finish_and_clear();
    session::close(&client).await;
    report(session, &args, outcome, interrupt.was_asked())
}

/// What became of the input.
struct Outcome {
    acknowledged: u64,
    /// Of those, how many were there already.
    duplicates: u64,
    handed_over: u64,
    fault: Option<InputFault>,
    error: Option<levada::Error>,
}

fn check(args: &ProduceArgs) -> Result<(), Failure> {
    if args.key_field.is_some() && args.format == InputFormat::Lines {
        return Err(Failure::usage("--key-field needs --format json or --format csv: lines have no fields"));
    }
    Ok(())
}

fn options(args: &ProduceArgs) -> ProducerOptions {
    let mut options = ProducerOptions::new();
    if let Some(size) = args.batch_bytes {
        options = options.batch_bytes(usize::try_from(size.0).unwrap_or(usize::MAX));
    }
    if let Some(level) = args.durability {
        options = options.durability(durability(level));
    }
    options.compression(args.compression.map_or(Compression::Topic, compression))
}

pub(crate) fn compression(codec: CodecName) -> Compression {
    match codec {
        CodecName::None => Compression::None,
        CodecName::Lz4 => Compression::Lz4,
        CodecName::Zstd => Compression::Zstd(ZSTD_LEVEL),
    }
}

/// The input and, of a file, its size.
fn open(path: Option<&Path>) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else {
        return Ok((Box::new(io::stdin()), None));
    };
    let unreadable = |error: io::Error| Failure::file("read", path, &error);
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Failure::failed(format!("cannot read {}: it is a directory", path.display())));
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

fn max_payload_bytes(client: &Client) -> usize {
    const LEAST: usize = 1 << 20;
    client.server_info().and_then(|info| usize::try_from(info.max_payload_bytes).ok()).unwrap_or(LEAST)
}

fn source(args: &ProduceArgs, input: Box<dyn Read + Send>, max_payload_bytes: usize) -> Box<dyn Source> {
    let key_field = args.key_field.clone();
    match args.format {
        InputFormat::Lines => Box::new(LineSource::new(input, max_payload_bytes)),
        InputFormat::Json => Box::new(JsonSource::new(LineSource::new(input, max_payload_bytes), key_field)),
        InputFormat::Csv => Box::new(CsvSource::new(input, key_field, args.csv_types, max_payload_bytes)),
    }
}

async fn send(
    producer: &Producer,
    source: Box<dyn Source>,
    place: Place,
    interrupt: &Interrupt,
    bar: &ProgressBar,
) -> Outcome {
    let (deliveries, counting) = count(bar.clone());
    let mut chunks = read(source);
    let mut outcome = Outcome { acknowledged: 0, duplicates: 0, handed_over: 0, fault: None, error: None };
    loop {
        let chunk = tokio::select! {
            biased;
            () = interrupt.asked() => break,
            chunk = chunks.recv() => chunk,
        };
        let Some(chunk) = chunk else { break };
        outcome.handed_over += chunk.records.len() as u64;
        match producer.enqueue_batch(chunk.records.iter().map(|record| message(record, place))).await {
            Ok(delivery) => {
                if deliveries.send(delivery).await.is_err() {
                    break;
                }
            }
            Err(error) => outcome.error = Some(error),
        }
        bar.inc(chunk.input_bytes);
        match chunk.end {
            None if outcome.error.is_none() => {}
            Some(End::Fault(fault)) => {
                outcome.fault = Some(fault);
                break;
            }
            _ => break,
        }
    }
    drop(deliveries);
    let flushed = producer.flush().await;
    // The counting task ends with the last delivery and does not panic.
    let (acknowledged, duplicates, failure) = counting.await.unwrap_or((0, 0, None));
    outcome.acknowledged = acknowledged;
    outcome.duplicates = duplicates;
    outcome.error = outcome.error.or(failure).or(flushed.err());
    outcome
}

/// Where messages go, and by what they are known.
#[derive(Clone, Copy)]
struct Place {
    partition: Option<u32>,
    id_from_key: bool,
}

fn message(record: &Record, place: Place) -> MessageRef<'_> {
    let key = record.key.as_deref();
    let id = key.filter(|_| place.id_from_key).map(id_of);
    MessageRef { payload: Some(&record.payload), key, partition: place.partition, id, ..MessageRef::default() }
}

/// A UUID, with or without hyphens, is its 16 bytes; of another key, the first 16 of its SHA-256.
fn id_of(key: &[u8]) -> [u8; 16] {
    uuid(key).unwrap_or_else(|| {
        let digest = Sha256::digest(key);
        *digest.first_chunk().expect("a digest has 32 bytes")
    })
}

fn uuid(key: &[u8]) -> Option<[u8; 16]> {
    let hyphens: &[usize] = match key.len() {
        32 => &[],
        36 => &[8, 13, 18, 23],
        _ => return None,
    };
    if hyphens.iter().any(|at| key[*at] != b'-') {
        return None;
    }
    let hex: Vec<u8> = (0..).zip(key).filter(|(at, _)| !hyphens.contains(at)).map(|(_, digit)| *digit).collect();
    u128::from_str_radix(str::from_utf8(&hex).ok()?, 16).ok().filter(|_| hex[0] != b'+').map(u128::to_be_bytes)
}

/// Reads on a thread of its own: reading a pipe or a terminal blocks.
fn read(mut source: Box<dyn Source>) -> mpsc::Receiver<Chunk> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD_CHUNKS);
    tokio::task::spawn_blocking(move || {
        loop {
            let chunk = source.next_chunk();
            let last = chunk.end.is_some();
            if sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    });
    receiver
}

type Counting = tokio::task::JoinHandle<(u64, u64, Option<levada::Error>)>;

/// Counts acknowledgements until the sender is dropped; keeps the first failure and counts on.
fn count(bar: ProgressBar) -> (mpsc::Sender<BatchDelivery>, Counting) {
    let (sender, mut receiver) = mpsc::channel::<BatchDelivery>(UNACKNOWLEDGED_CHUNKS);
    let counting = tokio::spawn(async move {
        let (mut acknowledged, mut duplicates, mut failure) = (0, 0, None);
        while let Some(delivery) = receiver.recv().await {
            let message_count = delivery.message_count();
            match delivery.await {
                Ok(receipts) => {
                    acknowledged += message_count;
                    let dropped = receipts.iter().filter(|receipt| receipt.duplicate);
                    duplicates += dropped.map(|receipt| u64::from(receipt.message_count)).sum::<u64>();
                }
                Err(error) => failure = failure.or(Some(error)),
            }
            bar.set_message(format!("{} acknowledged", human_count(acknowledged)));
        }
        (acknowledged, duplicates, failure)
    });
    (sender, counting)
}

fn report(session: &Session, args: &ProduceArgs, outcome: Outcome, interrupted: bool) -> Result<(), Failure> {
    let Outcome { acknowledged, duplicates, handed_over, fault, error } = outcome;
    let noun = if acknowledged == 1 { "message" } else { "messages" };
    let there = if args.id_from_key { format!(", {duplicates} of them there already") } else { String::new() };
    session.screen.note(&format!("{acknowledged} {noun} acknowledged{there}"));
    if session.screen.is_json() {
        let mut told = json!({"acknowledged": acknowledged});
        if args.id_from_key {
            told["duplicates"] = duplicates.into();
        }
        session.screen.json(&told)?;
    }
    if let Some(error) = error {
        let open = handed_over - acknowledged;
        if open > 0 {
            session.screen.note(&format!("{open} more were read; whether they were stored is not known"));
        }
        return Err(error.into());
    }
    match fault {
        Some(fault) => Err(describe(&fault, args.file.as_deref())),
        None if interrupted => Err(Failure::new(Exit::Failed, "interrupted before the end of the input")),
        None => Ok(()),
    }
}

fn describe(fault: &InputFault, file: Option<&Path>) -> Failure {
    let name = file.map_or("standard input".to_owned(), |path| path.display().to_string());
    match fault {
        InputFault::Read(error) => Failure::failed(format!("cannot read {name}: {}", plain(error))),
        InputFault::Record { line, problem } => {
            Failure::failed(format!("line {line} of {name} {problem}")).hint("The lines before it were sent")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_its_bytes_and_another_key_its_digest() {
        let uuid: [u8; 16] = [0x01, 0x8f, 0x22, 3, 4, 5, 0x76, 7, 0x88, 9, 10, 11, 12, 13, 14, 0xff];
        assert_eq!(id_of(b"018f2203-0405-7607-8809-0a0b0c0d0eff"), uuid);
        assert_eq!(id_of(b"018F22030405760788090A0B0C0D0EFF"), uuid);
        let digest = |key: &[u8]| -> [u8; 16] { *Sha256::digest(key).first_chunk().unwrap() };
        for key in [
            "",
            "order 7",
            "018f2203x0405-7607-8809-0a0b0c0d0eff",
            "+18f22030405760788090a0b0c0d0eff",
            "é18f2203-0405-7607-8809-0a0b0c0d0ef",
        ] {
            assert_eq!(id_of(key.as_bytes()), digest(key.as_bytes()), "{key}");
        }
    }
}
