//! Batches of a script, from JSON.
//!
//! `{base_offset, append_time_us, leader_epoch, codec, flags, producer_id, producer_epoch, first_sequence, messages, flaw}`;
//! `messages` is `{count: n, text: "m"}` (payloads m0, m1, …) or a list of payloads, each a text, null or
//! `{text | hex, key, timestamp_us, offset}`. `flaw` is `crc`, `server_crc`, `body`, `bomb`, `overrun`, or
//! `{producer | server: {at, hex}}`.

use crate::wire::{Batch, Codec, Flaw, Message, Producer, WireError, bytes_of, number};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, WireError>;

const APPEND_TIME_US: i64 = 1_700_000_000_000_000;

fn wrong(what: impl Into<String>) -> WireError {
    WireError::Usage(what.into())
}

/// Stored batches, one after another; a base offset that is not told follows the batch before.
pub(super) fn batches_from_value(value: &Value) -> Result<Vec<Vec<u8>>> {
    let list = value.as_array().ok_or_else(|| wrong("batches are a list"))?;
    let mut next_offset = 0;
    list.iter()
        .map(|value| {
            let (bytes, end) = stored_from_value(value, next_offset)?;
            next_offset = end;
            Ok(bytes)
        })
        .collect()
}

/// A batch, without its flaw.
///
/// # Errors
/// Usage, for what cannot be.
pub fn batch_from_value(value: &Value, next_offset: u64) -> Result<Batch> {
    const KNOWN: [&str; 10] = [
        "base_offset",
        "append_time_us",
        "leader_epoch",
        "codec",
        "flags",
        "producer_id",
        "producer_epoch",
        "first_sequence",
        "messages",
        "flaw",
    ];
    let map = value.as_object().ok_or_else(|| wrong("a batch is a map"))?;
    if let Some(unknown) = map.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(wrong(format!("a batch has no {unknown}")));
    }
    let count = |name: &str, default: u64| match map.get(name) {
        None => Ok(default),
        Some(value) => number(value).ok_or_else(|| wrong(format!("{name}: {value}"))),
    };
    let narrow = |name: &str| u32::try_from(count(name, 0)?).map_err(|_| wrong(name));
    let codec = map.get("codec").and_then(Value::as_str).unwrap_or("none");
    let base_offset = count("base_offset", next_offset)?;
    Ok(Batch {
        base_offset,
        append_time_us: map.get("append_time_us").and_then(Value::as_i64).unwrap_or(APPEND_TIME_US),
        leader_epoch: match map.get("leader_epoch") {
            None => 1,
            Some(_) => narrow("leader_epoch")?,
        },
        codec: Codec::from_name(codec).ok_or_else(|| wrong(format!("codec {codec}")))?,
        flags: u16::try_from(count("flags", 0)?).map_err(|_| wrong("flags"))?,
        producer: Producer { id: count("producer_id", 0)?, epoch: narrow("producer_epoch")? },
        first_sequence: count("first_sequence", 0)?,
        messages: messages_from_value(map.get("messages").unwrap_or(&Value::Null), base_offset)?,
        ..Batch::default()
    })
}

fn stored_from_value(value: &Value, next_offset: u64) -> Result<(Vec<u8>, u64)> {
    let batch = batch_from_value(value, next_offset)?;
    let end = batch.messages.last().map_or(batch.base_offset, |last| last.offset + 1);
    let bytes = match value.get("flaw") {
        None => batch.stored()?,
        Some(flaw) => batch.stored_with(&flaw_from_value(flaw)?)?,
    };
    Ok((bytes, end))
}

/// A flaw of a batch.
///
/// # Errors
/// Usage, for what cannot be.
pub(crate) fn flaw_from_value(value: &Value) -> Result<Flaw> {
    let patch = |value: &Value| {
        let at = value["at"].as_u64().and_then(|at| usize::try_from(at).ok());
        Some((at?, bytes_of(&value["hex"])?))
    };
    let flaw = match value {
        Value::String(word) => match word.as_str() {
            "crc" => Some(Flaw::Crc),
            "server_crc" => Some(Flaw::ServerCrc),
            "body" => Some(Flaw::Body),
            "bomb" => Some(Flaw::Bomb),
            "overrun" => Some(Flaw::Overrun),
            _ => None,
        },
        other => other
            .get("producer")
            .and_then(patch)
            .map(|(at, bytes)| Flaw::Producer(at, bytes))
            .or_else(|| other.get("server").and_then(patch).map(|(at, bytes)| Flaw::Server(at, bytes))),
    };
    flaw.ok_or_else(|| wrong(format!("flaw {value}")))
}

fn messages_from_value(value: &Value, base_offset: u64) -> Result<Vec<Message>> {
    let mut messages: Vec<Message> = match value {
        Value::Array(list) => list.iter().map(message_from_value).collect::<Result<_>>()?,
        Value::Object(map) => {
            let count = map.get("count").and_then(Value::as_u64).ok_or_else(|| wrong("a count of messages"))?;
            let text = map.get("text").and_then(Value::as_str).unwrap_or("m");
            (0..count).map(|index| Message::new(format!("{text}{index}"))).collect()
        }
        other => return Err(wrong(format!("messages: {other}"))),
    };
    for (index, message) in messages.iter_mut().enumerate() {
        if message.offset == 0 {
            message.offset = base_offset + index as u64;
        }
        if message.timestamp_us == 0 {
            message.timestamp_us = APPEND_TIME_US;
        }
    }
    Ok(messages)
}

fn message_from_value(value: &Value) -> Result<Message> {
    let map = match value {
        Value::Null => return Ok(Message::default()),
        Value::String(text) => return Ok(Message::new(text.as_bytes())),
        Value::Object(map) => map,
        other => return Err(wrong(format!("message {other}"))),
    };
    let payload = match (map.get("text").and_then(Value::as_str), map.get("hex")) {
        (Some(text), None) => Some(text.as_bytes().to_vec()),
        (None, Some(hex)) => bytes_of(hex),
        _ => None,
    };
    Ok(Message {
        offset: map.get("offset").and_then(number).unwrap_or(0),
        timestamp_us: map.get("timestamp_us").and_then(Value::as_i64).unwrap_or(0),
        key: map.get("key").and_then(Value::as_str).map(|key| key.as_bytes().to_vec()),
        payload,
        ..Message::default()
    })
}

/// What a produced batch says of itself.
pub(super) fn summary(produced: &[u8]) -> Result<Value> {
    let batch = Batch::decode_produced(produced)?;
    let payloads: Vec<Value> =
        batch.messages.iter().take(8).map(|message| text_of(message.payload.as_deref())).collect();
    Ok(json!({
        "bytes": produced.len(), "codec": batch.codec.name(), "message_count": batch.messages.len(),
        "producer_id": batch.producer.id, "producer_epoch": batch.producer.epoch,
        "first_sequence": batch.first_sequence, "payloads": payloads,
    }))
}

/// A payload as text, if it is short and one.
fn text_of(payload: Option<&[u8]>) -> Value {
    let short = payload.filter(|payload| payload.len() <= 64);
    short.and_then(|payload| std::str::from_utf8(payload).ok()).map_or(Value::Null, Value::from)
}
