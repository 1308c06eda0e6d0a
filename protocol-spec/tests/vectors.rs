//! Golden vectors: `vectors/v1/*.json`, for clients written from `spec.md` alone.
//!
//! The files are data, not output: this test reads them and holds the crate to them, in both directions where the encoding
//! is the only one. They are frozen: clients that others wrote rely on them, and `SHA256SUMS` beside them says what they are.
//! More vectors go into a file of their own, written by a builder like those below with `LEVADA_WRITE_VECTORS=1`, which leaves
//! alone what is there. Byte strings are hex; a long run of one byte is `{"repeat": "61", "count": 65535}`.

#[cfg(test)]
mod schema;
#[cfg(test)]
mod shapes;

#[cfg(test)]
mod vectors {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use bytes::{Bytes, BytesMut};
    use levada_protocol::batch::{self, *};
    use levada_protocol::frame::{CONTROL_LENGTH_BYTES, FLAG_BODY, FrameHeader, HEADER_BYTES};
    use levada_protocol::headers;
    use levada_protocol::limits::PROTOCOL_VERSION;
    use levada_protocol::messages::{DecodeError, Kind, Request, ServerFrame};
    use levada_protocol::names;
    use levada_protocol::partitioner::{hash_key, partition_for_key};
    use serde_json::{Value, json};
    use sha2::{Digest as _, Sha256};

    use crate::schema::{Schema, Size, Source, hex, unhex};
    use crate::shapes;

    fn folder(version: u64) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("vectors/v{version}"))
    }

    #[test]
    fn vectors_are_what_they_were_when_a_stranger_passed_them() {
        for folder in (1..=u64::from(PROTOCOL_VERSION)).map(folder) {
            let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
            let frozen: Vec<(&str, &str)> = sums.lines().map(|line| line.split_once("  ").unwrap()).collect();
            let mut there: Vec<String> = std::fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".json"))
                .collect();
            there.sort();
            assert_eq!(there, frozen.iter().map(|(_, name)| (*name).to_owned()).collect::<Vec<_>>());
            for (sum, name) in frozen {
                let digest = Sha256::digest(std::fs::read(folder.join(name)).unwrap());
                assert_eq!(hex(&digest), sum, "{name} is frozen: a client that somebody else wrote relies on it");
            }
        }
    }

    /// The same of version 1.
    fn file(name: &str, about: &str, build: impl FnOnce() -> Vec<Value>) -> Vec<Value> {
        file_of(1, name, about, build)
    }

    /// Reads a file of vectors; with `LEVADA_WRITE_VECTORS` writes what `build` says first, if there is none yet.
    fn file_of(version: u64, name: &str, about: &str, build: impl FnOnce() -> Vec<Value>) -> Vec<Value> {
        let path = folder(version).join(name);
        if std::env::var_os("LEVADA_WRITE_VECTORS").is_some() && !path.exists() {
            let mut text = format!("{{\n\"about\": {},\n\"draft\": false,\n\"vectors\": [\n", json!(about));
            let lines: Vec<_> = build().iter().map(Value::to_string).collect();
            text.push_str(&lines.join(",\n"));
            text.push_str("\n]\n}\n");
            std::fs::write(&path, text).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let value: Value = serde_json::from_str(&text).unwrap();
        let vectors = value["vectors"].as_array().unwrap().clone();
        assert!(!vectors.is_empty());
        vectors
    }

    fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
        vector[key].as_str().unwrap_or_else(|| panic!("{key} of {vector}"))
    }

    fn shown(bytes: &[u8]) -> Value {
        let uniform = bytes.windows(2).all(|pair| pair[0] == pair[1]);
        if 64 < bytes.len() && uniform {
            json!({ "repeat": hex(&bytes[..1]), "count": bytes.len() })
        } else {
            json!(hex(bytes))
        }
    }

    // ------------------------------------------------------------ control parts and frames

    fn decode_any(kind: u16, control: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let control = Bytes::copy_from_slice(control);
        let kind = Kind::from_code(kind).unwrap();
        let mut out = BytesMut::new();
        if let Some(request) = Request::decode(kind, &control)? {
            request.encode(&mut out);
        } else if let Some(frame) = ServerFrame::decode(kind, &control)? {
            frame.encode(&mut out);
        }
        Ok(out.to_vec())
    }

    /// The version that brought the newest part of a message: itself, or its last tagged field.
    fn newest_part(schema: &Schema, message: &str) -> u64 {
        let message = &schema.tables["message"][message];
        let since = |value: &toml::Value| value.get("since").map_or(1, |since| since.as_integer().unwrap());
        let fields = message["fields"].as_array().unwrap().iter().map(since);
        u64::try_from(fields.chain([since(message)]).max().unwrap()).unwrap()
    }

    /// Of the messages that a version brought, or brought fields to.
    fn message_vectors(version: u64) -> Vec<Value> {
        let schema = Schema::load();
        let mut vectors = Vec::new();
        for name in schema.message_names().into_iter().filter(|name| newest_part(&schema, name) == version) {
            let first = [("least", Size::Least, 0), ("most", Size::Most, 0), ("any", Size::Any, 1)];
            let first = first.map(|(label, size, seed)| (label.to_owned(), size, seed));
            // From version 2 on there are more, so that each variant and each absence occurs.
            let more = (2..8).filter(|_| 1 < version).map(|seed| (format!("any {seed}"), Size::Any, seed));
            for (label, size, seed) in first.into_iter().chain(more) {
                let fields = schema.sample(&name, size, &mut Source(seed));
                let control = hex(&schema.encode(&name, &fields));
                let vector = json!({
                    "name": format!("{name}, {label}"), "message": name, "kind": schema.kind(&name),
                    "fields": fields, "control": control,
                });
                if !vectors.iter().any(|known: &Value| known["control"] == control && known["message"] == name.as_str())
                {
                    vectors.push(vector);
                }
            }
        }
        vectors
    }

    #[test]
    fn messages_are_encoded_as_the_vectors_say() {
        let about = "Control parts: message, its fields, its bytes. An encoder writes exactly these bytes.";
        let schema = Schema::load();
        let mut seen = BTreeSet::new();
        for version in 1..=u64::from(PROTOCOL_VERSION) {
            for vector in file_of(version, "messages.json", about, || message_vectors(version)) {
                let (name, control) = (text(&vector, "name"), unhex(text(&vector, "control")));
                let kind = u16::try_from(vector["kind"].as_u64().unwrap()).unwrap();
                assert_eq!(schema.kind(text(&vector, "message")), kind, "{name}");
                assert_eq!(schema.encode(text(&vector, "message"), &vector["fields"]), control, "{name}");
                assert_eq!(decode_any(kind, &control).as_ref(), Ok(&control), "{name}");
                seen.insert((version, text(&vector, "message").to_owned()));
            }
        }
        for kind in Kind::ALL {
            let version = newest_part(&schema, kind.name());
            assert!(seen.contains(&(version, kind.name().to_owned())), "no vector of {} in v{version}", kind.name());
        }
    }

    fn refused_message_vectors() -> Vec<Value> {
        let refused = |name: &str, message: &str, kind: Kind, control: &[u8]| json!({ "name": name, "message": message, "kind": kind.code(), "control": hex(control) });
        vec![
            refused("nothing at all", "Ping", Kind::Ping, &[]),
            refused("tag count cut", "Ping", Kind::Ping, &[0]),
            refused("a byte too many", "Ping", Kind::Ping, &[0, 0, 0]),
            refused("tag that must be understood", "Ping", Kind::Ping, &[1, 0, 0, 0x80, 0, 0, 0, 0]),
            refused("tags that descend", "Ping", Kind::Ping, &[2, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]),
            refused("tag twice", "Ping", Kind::Ping, &[2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]),
            refused("tag of 4 GiB", "Ping", Kind::Ping, &[1, 0, 1, 0, 255, 255, 255, 255]),
            refused("string longer than the rest", "CreateStream", Kind::CreateStream, &[3, 0, b's', 0, 0]),
            refused("string not UTF-8", "CreateStream", Kind::CreateStream, &[1, 0, 0xff, 0, 0]),
            refused("bool 2", "DeleteStream", Kind::DeleteStream, &[1, 0, b's', 2, 0, 0]),
            refused("optional 2", "ListTopics", Kind::ListTopics, &[2, 0, 0]),
            refused("enum out of range", "Produce", Kind::Produce, &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0]),
            refused("list of 4 billion", "Streams", Kind::Streams, &[255, 255, 255, 255, 0, 0]),
            refused("element longer than the rest", "Streams", Kind::Streams, &[1, 0, 0, 0, 99, 0, 0, 0, 0, 0]),
            refused("element shorter than its struct", "Streams", Kind::Streams, &[1, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0]),
        ]
    }

    #[test]
    fn malformed_messages_are_refused() {
        let about = "Control parts that a decoder must refuse. So must it every true prefix of those in messages.json.";
        for vector in file("messages-refused.json", about, refused_message_vectors) {
            let kind = u16::try_from(vector["kind"].as_u64().unwrap()).unwrap();
            assert!(decode_any(kind, &unhex(text(&vector, "control"))).is_err(), "{vector}");
        }
    }

    fn frame(correlation: u32, kind: Kind, control: &[u8], body: Option<&[u8]>) -> Vec<u8> {
        let mut covered = Vec::new();
        if body.is_some() {
            covered.extend_from_slice(&u32::try_from(control.len()).unwrap().to_le_bytes());
        }
        covered.extend_from_slice(control);
        let length = 12 + covered.len() + body.map_or(0, <[u8]>::len);
        let flags = u16::from(body.is_some());
        let mut header =
            FrameHeader { length: u32::try_from(length).unwrap(), kind: kind.code(), flags, correlation, crc: 0 };
        header.crc = header.checksum(&covered);
        [&header.encode()[..], &covered, body.unwrap_or_default()].concat()
    }

    fn frame_vectors() -> Vec<Value> {
        let schema = Schema::load();
        let produced = plain_batch();
        let frame_of = |correlation: u32, kind: Kind, body: Option<&[u8]>| {
            let control = schema.encode(kind.name(), &schema.sample(kind.name(), Size::Most, &mut Source(0)));
            let bytes = frame(correlation, kind, &control, body);
            json!({
                "name": format!("{} {correlation}", kind.name()), "correlation": correlation, "kind": kind.code(),
                "control": hex(&control), "body": body.map(hex), "frame": hex(&bytes),
            })
        };
        vec![
            frame_of(1, Kind::Ping, None),
            frame_of(u32::MAX, Kind::CreateTopic, None),
            frame_of(0, Kind::Credit, None),
            frame_of(7, Kind::Error, None),
            frame_of(2, Kind::Produce, Some(&produced)),
            frame_of(3, Kind::Fetched, Some(&[])),
            frame_of(0, Kind::Deliver, Some(&stored(&produced, 10))),
        ]
    }

    fn parse_frame(bytes: &[u8]) -> Option<(FrameHeader, Vec<u8>, Option<Vec<u8>>)> {
        let header = FrameHeader::parse(bytes.first_chunk()?);
        let covered = bytes.get(HEADER_BYTES..)?;
        if bytes.len() != 4 + header.length as usize || header.flags & !FLAG_BODY != 0 {
            return None;
        }
        let has_body = header.flags & FLAG_BODY != 0;
        let (start, end) = if has_body {
            let length = u32::from_le_bytes(*covered.first_chunk()?) as usize;
            (CONTROL_LENGTH_BYTES, CONTROL_LENGTH_BYTES.checked_add(length)?)
        } else {
            (0, covered.len())
        };
        let control = covered.get(start..end)?.to_vec();
        let intact = header.checksum(&covered[..end]) == header.crc;
        intact.then(|| (header, control, has_body.then(|| covered[end..].to_vec())))
    }

    #[test]
    fn frames_are_put_together_as_the_vectors_say() {
        let about = "Whole frames: correlation, kind, control part, body (null without the flag), bytes.";
        for vector in file("frames.json", about, frame_vectors) {
            let bytes = unhex(text(&vector, "frame"));
            let (header, control, body) = parse_frame(&bytes).unwrap();
            assert_eq!(u64::from(header.correlation), vector["correlation"].as_u64().unwrap());
            assert_eq!(u64::from(header.kind), vector["kind"].as_u64().unwrap());
            assert_eq!(hex(&control), text(&vector, "control"));
            assert_eq!(body.as_deref().map(hex), vector["body"].as_str().map(str::to_owned));
            let kind = Kind::from_code(header.kind).unwrap();
            assert_eq!(frame(header.correlation, kind, &control, body.as_deref()), bytes);
            for at in 0..bytes.len() - body.map_or(0, |body| body.len()) {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x10;
                assert!(parse_frame(&damaged).is_none(), "byte {at} of {}", text(&vector, "name"));
            }
        }
    }

    // ------------------------------------------------------------ batches

    fn stored(produced: &[u8], base_offset: u64) -> Vec<u8> {
        let header = ProducerHeader::parse(produced).unwrap();
        let batch_length = u32::try_from(header.stored_bytes()).unwrap();
        let server = ServerPart { batch_length, base_offset, append_time_us: 1_700_000_000_000_000, leader_epoch: 3 };
        [&server.encode()[..], produced].concat()
    }

    fn plain_batch() -> Vec<u8> {
        shapes::batch(&[shapes::message(b"one", 0, b"", b"", 0, b"")], |header| header.max_timestamp_delta_us = 0)
    }

    fn value_of(value: headers::HeaderValueRef<'_>) -> Value {
        use headers::HeaderValueRef as V;
        match value {
            V::String(text) => json!({ "string": text }),
            V::Bytes(bytes) => json!({ "bytes": hex(bytes) }),
            V::Bool(value) => json!({ "bool": value }),
            V::I64(value) => json!({ "i64": value }),
            V::U64(value) => json!({ "u64": value }),
            V::F64(value) => json!({ "f64_bits": format!("{:016x}", value.to_bits()) }),
        }
    }

    fn message_of(message: &batch::Message) -> Value {
        let headers: Vec<_> = message
            .headers()
            .map(|header| header.map(|(name, value)| json!({ "name": name, "value": value_of(value) })).unwrap())
            .collect();
        json!({
            "offset": message.offset, "timestamp_us": message.timestamp_us, "id": message.id.map(|id| hex(&id)),
            "key": message.key.as_deref().map(shown), "headers": headers, "payload": message.payload.as_deref().map(shown),
        })
    }

    fn batch_vector(name: &str, produced: &[u8], base_offset: u64) -> Value {
        let stored = stored(produced, base_offset);
        let batch = StoredBatch::split_first(&mut Bytes::from(stored.clone())).unwrap().unwrap();
        let messages: Vec<_> = batch.messages().unwrap().map(|message| message_of(&message.unwrap())).collect();
        let header = batch.header();
        json!({
            "name": name, "codec": header.codec.name(), "base_offset": base_offset,
            "append_time_us": batch.append_time_us(), "leader_epoch": batch.server().leader_epoch,
            "producer_id": header.producer_id, "producer_epoch": header.producer_epoch,
            "first_sequence": header.first_sequence, "messages": messages, "stored": hex(&stored),
        })
    }

    fn batch_vectors() -> Vec<Value> {
        let time = 1_700_000_000_000_000;
        let all_headers = [
            Header::new("string", HeaderValue::String("käse".into())),
            Header::new("bytes", HeaderValue::Bytes(Bytes::from_static(&[0, 255]))),
            Header::new("bool", HeaderValue::Bool(true)),
            Header::new("i64", HeaderValue::I64(i64::MIN)),
            Header::new("u64", HeaderValue::U64(u64::MAX)),
            Header::new("f64", HeaderValue::F64(-0.0)),
            Header::new("n".repeat(255), HeaderValue::String(String::new())),
        ];
        let new = |payload, key| NewMessage { payload, key, timestamp_us: time, ..NewMessage::default() };
        let seal = |messages: &[NewMessage<'_>], options: SealOptions| {
            let mut builder = BatchBuilder::new(BatchLimits::default());
            for message in messages {
                builder.push(message).unwrap();
            }
            builder.seal(&options).unwrap()
        };
        let (long_key, long_payload) = (vec![b'k'; 65_535], vec![b'p'; 70_000]);
        let none = [
            ("one message", vec![new(Some(&b"hello"[..]), None)]),
            ("empty and null, present and absent", {
                vec![new(Some(b""), None), new(None, None), new(Some(b""), Some(b"")), new(None, Some(b"k"))]
            }),
            ("every header type", vec![NewMessage { headers: &all_headers, ..new(Some(b"x"), None) }]),
            ("ids", vec![NewMessage { id: Some([0xab; 16]), ..new(Some(b"x"), Some(b"key")) }]),
            ("times out of order and far apart", {
                [0, -5, 4_294_967_290, 4_294_967_291, i64::MAX - time]
                    .map(|delta| NewMessage { timestamp_us: time + delta, ..new(Some(b"t"), None) })
                    .to_vec()
            }),
            ("times at both ends", {
                [i64::MIN, i64::MAX].map(|timestamp_us| NewMessage { timestamp_us, ..new(None, None) }).to_vec()
            }),
        ];
        let producer =
            SealOptions { producer_id: u64::MAX, producer_epoch: 7, first_sequence: 1 << 40, ..SealOptions::default() };
        let mut vectors: Vec<_> =
            none.iter().map(|(name, messages)| batch_vector(name, &seal(messages, producer), 0)).collect();
        vectors.push(batch_vector("no producer, high offset", &plain_batch(), 1 << 60));
        let at = |delta: u32| shapes::message(b"m", 0, b"", b"", 0, &delta.to_le_bytes());
        let sparse = shapes::batch(&[at(0), at(5), at(9)], |header| (header.flags, header.last_offset_delta) = (1, 9));
        vectors.push(batch_vector("sparse", &sparse, 100));
        // Beside the long key and payload, enough that does not shrink to stay within the ratio.
        let noise: Vec<u8> = std::iter::successors(Some(7u32), |x| Some(x.wrapping_mul(1_664_525).wrapping_add(1)))
            .map(|x| x.to_le_bytes()[3])
            .take(200)
            .collect();
        for codec in [Codec::Lz4, Codec::Zstd] {
            let options = SealOptions { codec, ..producer };
            let messages =
                [new(Some(&noise), None), new(Some(&long_payload[..]), Some(&long_key[..])), new(None, None)];
            let produced = seal(&messages, options);
            assert_eq!(ProducerHeader::parse(&produced).unwrap().codec, codec);
            vectors.push(batch_vector(&format!("{codec}, the longest key"), &produced, 5));
        }
        vectors
    }

    #[test]
    fn batches_hold_what_the_vectors_say() {
        let about = "Whole batches as stored, and the messages in them. f64 as the hex digits of its bits. A codec's output \
                     is not the only one possible: other encoders may write other bodies.";
        for vector in file("batches.json", about, batch_vectors) {
            let mut bytes = Bytes::from(unhex(text(&vector, "stored")));
            verify_producer(&bytes[SERVER_PART_BYTES..]).unwrap();
            let batch = StoredBatch::split_first(&mut bytes).unwrap().unwrap();
            batch.verify().unwrap();
            assert_eq!(
                batch_vector(text(&vector, "name"), &batch.bytes()[SERVER_PART_BYTES..], batch.base_offset()),
                vector
            );
        }
    }

    #[test]
    fn malformed_batches_are_refused() {
        let about = "Producer parts with bodies, as a Produce carries them, that must be refused. All but those named `cut`, \
                     `bytes after the body` and `damaged` have the right checksum.";
        let build = || {
            let vector = |(name, produced, error): (&str, Vec<u8>, BatchError)| json!({ "name": name, "produced": hex(&produced), "why": error.to_string() });
            shapes::malformed().into_iter().map(vector).collect()
        };
        for vector in file("batches-refused.json", about, build) {
            let refusal = verify_producer(&unhex(text(&vector, "produced"))).unwrap_err();
            assert_eq!(refusal.to_string(), text(&vector, "why"), "{}", text(&vector, "name"));
        }
    }

    // ------------------------------------------------------------ keys and names

    #[test]
    fn keys_go_where_the_vectors_say() {
        let about = "Hash of a key as 16 hex digits, and its partition among 1, 2, 3, 8, 100 and 4096.";
        let counts = [1, 2, 3, 8, 100, 4096];
        let vector = |key: &[u8]| {
            let partitions = counts.map(|count| partition_for_key(key, count));
            json!({ "key": hex(key), "hash": format!("{:016x}", hash_key(key)), "partitions": partitions })
        };
        let keys: [&[u8]; 9] = [
            b"",
            b"a",
            b"b",
            b"AA",
            b"levada",
            "käse".as_bytes(),
            &[0],
            &[255; 8],
            b"0123456789abcdef0123456789abcdef!",
        ];
        for known in file("partitioner.json", about, || keys.map(vector).to_vec()) {
            assert_eq!(vector(&unhex(text(&known, "key"))), known);
        }
    }

    #[test]
    fn names_are_valid_as_the_vectors_say() {
        let about = "Names of streams, topics, users and tokens, and whether they are valid.";
        let names = ["a", "_", "-", "A.b-c_9", "", ".", ".a", "a/b", "a:b", "é", "a b", "a\n"].map(str::to_owned);
        let long = [255, 256].map(|length| "n".repeat(length));
        let vector = |name: String| json!({ "valid": names::check(&name).is_ok(), "name": name });
        for known in file("names.json", about, || names.into_iter().chain(long).map(vector).collect()) {
            assert_eq!(known["valid"], names::check(text(&known, "name")).is_ok(), "{known}");
        }
    }
}
