//! Every vector, encoded and decoded by the suite's own half of the protocol: a second reading of spec.md
//! that shares no code with the first.

use levada_conformance::wire::{
    Batch, Frame, HeaderValue, Message, MessageType, decode, encode, from_hex, key_hash, partition_of_key, schema,
    to_hex, valid_name,
};
use serde_json::Value;

fn vectors(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).expect("a vector file is JSON");
    file["vectors"].as_array().expect("a vector file has vectors").clone()
}

macro_rules! vector_file {
    ($name:literal) => {
        vectors(include_str!(concat!("../../../protocol-spec/vectors/v1/", $name)))
    };
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}"))
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(hex) => from_hex(hex).expect("hex digits"),
        // A long run: {"repeat": hex, "count": n}.
        run => {
            let count = run["count"].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a count");
            bytes(&run["repeat"]).repeat(count)
        }
    }
}

/// A tagged field that is not there leaves no trace.
fn without_absent_tags(message: &MessageType, fields: &Value) -> Value {
    let mut fields = fields.clone();
    if let Value::Object(map) = &mut fields {
        map.retain(|name, value| !value.is_null() || !message.tagged.iter().any(|(_, field)| field.name == *name));
    }
    fields
}

#[test]
fn control_parts_are_written_and_read_as_the_vectors_say() {
    let mut vectors = vector_file!("messages.json");
    vectors.extend(self::vectors(include_str!("../../../protocol-spec/vectors/v2/messages.json")));
    for vector in &vectors {
        let name = text(vector, "name");
        let message = schema().message(text(vector, "message")).expect("a message of the page");
        assert_eq!(Some(u64::from(message.kind)), vector["kind"].as_u64(), "{name}");
        let control = bytes(&vector["control"]);
        assert_eq!(to_hex(&encode(message, &vector["fields"]).unwrap()), to_hex(&control), "{name}");
        assert_eq!(decode(message, &control).unwrap(), without_absent_tags(message, &vector["fields"]), "{name}");
        for end in 0..control.len() {
            assert!(decode(message, &control[..end]).is_err(), "{name}, cut at {end}");
        }
    }
    let named: Vec<&str> = vectors.iter().map(|vector| text(vector, "message")).collect();
    for message in schema().messages() {
        assert!(named.contains(&message.name.as_str()), "{} has no vector", message.name);
    }
}

#[test]
fn malformed_control_parts_are_refused() {
    for vector in vector_file!("messages-refused.json") {
        let message = schema().message(text(&vector, "message")).expect("a message of the page");
        assert!(decode(message, &bytes(&vector["control"])).is_err(), "{}", vector["name"]);
    }
}

#[test]
fn frames_are_written_and_read_as_the_vectors_say() {
    for vector in vector_file!("frames.json") {
        let name = text(&vector, "name");
        let frame = Frame {
            kind: vector["kind"].as_u64().and_then(|n| n.try_into().ok()).expect("a kind"),
            correlation: vector["correlation"].as_u64().and_then(|n| n.try_into().ok()).expect("a correlation"),
            control: bytes(&vector["control"]),
            body: (!vector["body"].is_null()).then(|| bytes(&vector["body"])),
        };
        let encoded = bytes(&vector["frame"]);
        assert_eq!(to_hex(&frame.encode()), to_hex(&encoded), "{name}");
        assert_eq!(Frame::decode(&encoded).unwrap(), Some((frame.clone(), encoded.len())), "{name}");
        assert!(frame.fields().is_ok(), "{name}");
        for end in 0..encoded.len() {
            assert_eq!(Frame::decode(&encoded[..end]).unwrap(), None, "{name}, cut at {end}");
        }
        let covered = encoded.len() - frame.body.as_ref().map_or(0, Vec::len);
        for at in 4..covered {
            let mut damaged = encoded.clone();
            damaged[at] ^= 0x10;
            assert!(Frame::decode(&damaged).is_err(), "{name}, damaged at {at}");
        }
    }
}

fn message_of(vector: &Value, append_time_us: i64) -> Message {
    let some_bytes = |name: &str| (!vector[name].is_null()).then(|| bytes(&vector[name]));
    let headers = vector["headers"].as_array().expect("headers").iter().map(|header| {
        let (kind, value) =
            header["value"].as_object().and_then(|map| map.iter().next()).expect("a header has a value");
        let value = match kind.as_str() {
            "string" => HeaderValue::String(value.as_str().expect("text").to_owned()),
            "bytes" => HeaderValue::Bytes(bytes(value)),
            "bool" => HeaderValue::Bool(value.as_bool().expect("a bool")),
            "i64" => HeaderValue::I64(value.as_i64().expect("an i64")),
            "u64" => HeaderValue::U64(value.as_u64().expect("a u64")),
            "f64_bits" => {
                HeaderValue::F64(u64::from_str_radix(value.as_str().expect("digits"), 16).expect("hex digits"))
            }
            other => panic!("header type {other}"),
        };
        (text(header, "name").to_owned(), value)
    });
    Message {
        offset: vector["offset"].as_u64().expect("an offset"),
        timestamp_us: vector["timestamp_us"].as_i64().expect("a time"),
        timestamp_whole: false,
        append_time_us,
        payload: some_bytes("payload"),
        key: some_bytes("key"),
        id: some_bytes("id").map(|id| id.try_into().expect("16 bytes")),
        headers: headers.collect(),
    }
}

#[test]
fn batches_are_written_and_read_as_the_vectors_say() {
    for vector in vector_file!("batches.json") {
        let name = text(&vector, "name");
        let stored = bytes(&vector["stored"]);
        let (batch, length) = Batch::decode_stored(&stored).unwrap();
        assert_eq!(length, stored.len(), "{name}");
        let append_time_us = vector["append_time_us"].as_i64().expect("a time");
        let messages = vector["messages"].as_array().expect("messages").iter().zip(&batch.messages);
        // A writer may use TS64 on any message, and the vectors do not say on which.
        let expected: Vec<Message> = messages
            .map(|(message, read)| Message {
                timestamp_whole: read.timestamp_whole,
                ..message_of(message, append_time_us)
            })
            .collect();
        assert_eq!(batch.messages, expected, "{name}");
        let read = (batch.base_offset, batch.producer.id, batch.first_sequence);
        let number = |field: &str| vector[field].as_u64().expect("a number");
        assert_eq!(read, (number("base_offset"), number("producer_id"), number("first_sequence")), "{name}");
        assert_eq!(u64::from(batch.leader_epoch), number("leader_epoch"), "{name}");
        assert_eq!(u64::from(batch.producer.epoch), number("producer_epoch"), "{name}");
        assert_eq!((batch.append_time_us, batch.codec.name()), (append_time_us, text(&vector, "codec")), "{name}");
        // A codec has many outputs; what it expands to, and everything around it, has one.
        let again = batch.stored().unwrap();
        if batch.codec == levada_conformance::wire::Codec::None {
            assert_eq!(to_hex(&again), to_hex(&stored), "{name}");
        } else {
            assert_eq!(Batch::decode_stored(&again).unwrap().0, batch, "{name}");
            // Bytes 4 to 7 and 32 to 35 are checksums, 0 to 3 and 56 to 59 lengths of what the codec made.
            for range in [8..32, 36..56, 60..104] {
                assert_eq!(again[range.clone()], stored[range], "{name}");
            }
        }
        for end in 0..stored.len() {
            assert!(Batch::decode_stored(&stored[..end]).is_err(), "{name}, cut at {end}");
        }
        for at in 0..stored.len().min(300) {
            let mut damaged = stored.clone();
            damaged[at] ^= 0x10;
            assert!(Batch::decode_stored(&damaged).is_err(), "{name}, damaged at {at}");
        }
    }
}

#[test]
fn malformed_batches_are_refused() {
    for vector in vector_file!("batches-refused.json") {
        assert!(Batch::decode_produced(&bytes(&vector["produced"])).is_err(), "{}", vector["name"]);
    }
}

#[test]
fn names_are_valid_or_not_as_the_vectors_say() {
    for vector in vector_file!("names.json") {
        assert_eq!(Some(valid_name(text(&vector, "name"))), vector["valid"].as_bool(), "{}", vector["name"]);
    }
}

#[test]
fn keys_fall_where_the_vectors_say() {
    for vector in vector_file!("partitioner.json") {
        let key = bytes(&vector["key"]);
        assert_eq!(format!("{:016x}", key_hash(&key)), text(&vector, "hash"));
        let partitions: Vec<u32> = [1, 2, 3, 8, 100, 4096].iter().map(|count| partition_of_key(&key, *count)).collect();
        assert_eq!(serde_json::json!(partitions), vector["partitions"]);
    }
}
