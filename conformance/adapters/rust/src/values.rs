//! Values on their way between JSON and the client: section 3 of the adapter protocol.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use levada::{BatchReceipt, Error, Header, HeaderValue, Message, Named, Receipt, ReceivedMessage};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::defects::Defect;
use crate::session::Session;

/// What cannot be read.
pub(crate) type Read<T> = Result<T, String>;

/// Options that travel as decimal text.
const WIDE: &[&str] = &[
    "batch_bytes",
    "batch_messages",
    "max_in_flight",
    "max_buffered_bytes",
    "prefetch_bytes",
    "commit_messages",
    "retention_bytes",
    "bytes_in",
    "bytes_out",
    "segment_bytes",
];

/// Options as the client reads them by name.
pub(crate) fn named(options: &Value) -> Named {
    let fields = options.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.clone().into(), option(name, value))).collect()
}

fn option(name: &str, value: &Value) -> levada::Value {
    match value {
        Value::Null => levada::Value::Null,
        Value::Bool(value) => levada::Value::Bool(*value),
        Value::String(text) if WIDE.contains(&name) => match text.parse() {
            Ok(number) => levada::Value::U64(number),
            Err(_) => levada::Value::Text(text.clone()),
        },
        Value::String(text) => levada::Value::Text(text.clone()),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => levada::Value::U64(number),
            (None, Some(number)) => levada::Value::I64(number),
            (None, None) => levada::Value::F64(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::Array(items) => levada::Value::List(items.iter().map(|item| option(name, item)).collect()),
        Value::Object(_) => levada::Value::Record(named(value)),
    }
}

/// A number, or a number as decimal text.
pub(crate) fn number<T: std::str::FromStr>(value: &Value) -> Option<T> {
    match value {
        Value::Number(number) => number.to_string().parse().ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn bytes(value: &Value, more: u64) -> Read<Option<Bytes>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => STANDARD.decode(text).map(|bytes| Some(bytes.into())).map_err(|error| error.to_string()),
        Value::Object(generator) => generated(generator, more).map(|bytes| Some(bytes.into())),
        other => Err(format!("no bytes: {other}")),
    }
}

fn generated(generator: &Map<String, Value>, more: u64) -> Read<Vec<u8>> {
    let word =
        |key: &str| generator.get(key).map_or(Some(0), number::<u64>).ok_or_else(|| format!("{key} is no number"));
    let size = usize::try_from(word("size")?).map_err(|error| error.to_string())?;
    let index = word("index")?.wrapping_add(more);
    let mut state = word("seed")?.wrapping_add(index.wrapping_mul(0xD1B5_4A32_D192_ED03));
    let kind = generator.get("gen").and_then(Value::as_str).unwrap_or_default();
    let mut out = Vec::with_capacity(size + 8);
    let mut counter = index;
    while out.len() < size {
        let word = match kind {
            "zeros" => 0,
            "seq" => counter,
            "random" => {
                state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                z ^ (z >> 31)
            }
            other => return Err(format!("there is no generator {other:?}")),
        };
        counter = counter.wrapping_add(1);
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.truncate(size);
    Ok(out)
}

/// One message of a command.
pub(crate) fn message(value: &Value, more: u64, session: &Session) -> Read<Message> {
    let id = match bytes(&value["id"], more)? {
        None => None,
        Some(id) => Some(<[u8; 16]>::try_from(id.as_ref()).map_err(|_| "an id is 16 bytes")?),
    };
    let headers = value["headers"].as_array().map_or(&[][..], Vec::as_slice);
    let mut message = Message {
        payload: bytes(&value["payload"], more)?,
        key: bytes(&value["key"], more)?,
        headers: headers.iter().map(header).collect::<Read<_>>()?,
        timestamp_us: number(&value["timestamp_us"]),
        id,
        partition: number(&value["partition"]),
        sequence: number(&value["sequence"]),
    };
    if session.has(Defect::DropHeaders) {
        message.headers.clear();
    }
    Ok(message)
}

/// All messages of a command; an entry may stand for many.
pub(crate) fn messages(value: &Value, session: &Session) -> Read<Vec<Message>> {
    let mut out = Vec::new();
    for entry in value.as_array().ok_or("messages are a list")? {
        let count = number(&entry["count"]).unwrap_or(1);
        for more in 0..count {
            out.push(message(entry, more, session)?);
        }
    }
    Ok(out)
}

fn header(value: &Value) -> Read<Header> {
    let text = || value["value"].as_str().ok_or_else(|| format!("a header's value is no text: {value}"));
    let bad = |error: &dyn std::fmt::Display| format!("{value}: {error}");
    let held = match value["type"].as_str().unwrap_or_default() {
        "string" => HeaderValue::String(text()?.to_owned()),
        "bytes" => HeaderValue::Bytes(bytes(&value["value"], 0)?.unwrap_or_default()),
        "bool" => HeaderValue::Bool(value["value"].as_bool().ok_or_else(|| bad(&"no bool"))?),
        "i64" => HeaderValue::I64(number(&value["value"]).ok_or_else(|| bad(&"no i64"))?),
        "u64" => HeaderValue::U64(number(&value["value"]).ok_or_else(|| bad(&"no u64"))?),
        "f64" => HeaderValue::F64(f64::from_bits(u64::from_str_radix(text()?, 16).map_err(|error| bad(&error))?)),
        other => return Err(format!("there is no header type {other:?}")),
    };
    Ok(Header { name: value["name"].as_str().ok_or("a header has a name")?.to_owned(), value: held })
}

/// Headers as they are told.
fn headers(headers: &[Header]) -> Value {
    let told = headers.iter().map(|header| {
        let (kind, value) = match &header.value {
            HeaderValue::String(text) => ("string", Value::from(text.as_str())),
            HeaderValue::Bytes(bytes) => ("bytes", STANDARD.encode(bytes).into()),
            HeaderValue::Bool(value) => ("bool", (*value).into()),
            HeaderValue::I64(value) => ("i64", value.to_string().into()),
            HeaderValue::U64(value) => ("u64", value.to_string().into()),
            HeaderValue::F64(value) => ("f64", format!("{:016x}", value.to_bits()).into()),
        };
        json!({"name": header.name, "type": kind, "value": value})
    });
    told.collect()
}

/// A message as it is told.
pub(crate) fn received(message: &ReceivedMessage, session: &Session) -> Value {
    let mut payload = message.payload.clone();
    match session.defect {
        Some(Defect::TruncatePayload) => {
            payload = payload.map(|payload| payload.slice(..payload.len().saturating_sub(1)))
        }
        Some(Defect::NullAsEmpty) => payload = payload.or(Some(Bytes::new())),
        _ => {}
    }
    let timestamp_us =
        if session.has(Defect::WrongTimestamp) { message.timestamp_us / 1000 } else { message.timestamp_us };
    let payload = payload.map(|payload| {
        let digest: String = Sha256::digest(&payload).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"length": payload.len(), "sha256": digest, "first": STANDARD.encode(&payload[..payload.len().min(64)])})
    });
    json!({
        "topic": &*message.topic, "partition": message.partition, "offset": message.offset.to_string(), "timestamp_us": timestamp_us.to_string(),
        "append_time_us": message.append_time_us.to_string(), "payload": payload,
        "key": message.key.as_ref().map(|key| STANDARD.encode(key)), "headers": headers(&message.headers),
        "id": message.id.map(|id| STANDARD.encode(id)),
    })
}

/// A receipt as it is told.
pub(crate) fn receipt(receipt: &Receipt, session: &Session) -> Value {
    let more = u64::from(session.has(Defect::OffsetPlusOne));
    json!({
        "partition": receipt.partition, "offset": receipt.offset.map(|offset| (offset + more).to_string()),
        "append_time_us": receipt.append_time_us.to_string(), "durability": name(&receipt.durability),
        "duplicate": receipt.duplicate, "server_encoded": receipt.server_encoded,
    })
}

/// A batch's receipt as it is told.
pub(crate) fn batch_receipt(receipt: &BatchReceipt, session: &Session) -> Value {
    let more = u64::from(session.has(Defect::OffsetPlusOne));
    json!({
        "partition": receipt.partition, "base_offset": receipt.base_offset.map(|offset| (offset + more).to_string()),
        "message_count": receipt.message_count, "append_time_us": receipt.append_time_us.to_string(),
        "durability": name(&receipt.durability), "duplicate": receipt.duplicate, "server_encoded": receipt.server_encoded,
    })
}

/// `ReadOnly` as `read_only`.
pub(crate) fn name(value: &impl std::fmt::Debug) -> String {
    let mut out = String::new();
    for c in format!("{value:?}").chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// An error as it is told.
pub(crate) fn error(error: &Error, session: &Session) -> Value {
    let (mut code, mut told) = (error.number(), error.name());
    if session.has(Defect::WrongCode) && told == "TOPIC_NOT_FOUND" {
        (code, told) = (300, "STREAM_NOT_FOUND");
    }
    let details: Map<String, Value> = error.details().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "code": code, "name": told, "class": error.class().name(),
        "retriable": error.is_retriable() || session.has(Defect::WrongRetriable), "maybe_applied": error.maybe_applied(),
        "retry_after_ms": error.retry_after_ms(), "message": error.message(), "details": details, "native": ["levada::Error"],
    })
}
