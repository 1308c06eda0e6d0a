//! The tables of `spec.md` against the code: every layout is contiguous, as long as its constant says, and each field is
//! where the table puts it.

use levada_protocol::batch::{
    Codec, MAGIC, MESSAGE_HEADER_BYTES, PRODUCER_PART_BYTES, ProducerHeader, SERVER_PART_BYTES, ServerPart,
};
use levada_protocol::frame::{FrameHeader, HEADER_BYTES};

/// A row of a layout: first byte, last byte, name.
type Row = (usize, usize, String);

/// The layout table of the section with that heading.
#[cfg(test)]
fn layout(heading: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/spec.md")).unwrap();
    let section = text.split(&format!("\n{heading}\n")).nth(1).unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("| Bytes |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let mut bytes = cells[1].split('–').map(|number| number.parse::<usize>().unwrap());
            let first = bytes.next().unwrap();
            let last = bytes.next().unwrap_or(first);
            let mut words = cells[2].split_whitespace();
            let name = words.next().unwrap().trim_matches('`').to_owned();
            if let Some(kind) = words.next() {
                let width: usize = kind[1..].parse().unwrap();
                assert_eq!((last + 1 - first) * 8, width, "{line}");
            }
            (first, last, name)
        })
        .collect()
}

#[cfg(test)]
fn check(heading: &str, length: usize, encoded: &[u8], fields: &[(&str, u64)]) {
    let rows = layout(heading);
    let mut next = 0;
    for (first, last, name) in &rows {
        assert_eq!(*first, next, "{heading}: {name} does not follow what is before it");
        next = last + 1;
        let mut value = [0; 8];
        value[..next - first].copy_from_slice(&encoded[*first..next]);
        let expected = if name == "reserved" { Some(0) } else { field(fields, name) };
        if !name.ends_with("crc") {
            assert_eq!(Some(u64::from_le_bytes(value)), expected, "{heading}: {name}");
        }
    }
    assert_eq!((next, encoded.len()), (length, length), "{heading}");
    for (name, _) in fields {
        assert!(rows.iter().any(|(_, _, row)| row == name), "{heading}: no row of {name}");
    }
}

fn field(fields: &[(&str, u64)], name: &str) -> Option<u64> {
    fields.iter().find(|(field, _)| *field == name).map(|(_, value)| *value)
}

#[test]
fn frame_headers_are_laid_out_as_specified() {
    let header = FrameHeader { length: 0x0102_0304, kind: 0x0506, flags: 0x0708, correlation: 0x090a_0b0c, crc: 1 };
    let fields = [("length", 0x0102_0304), ("kind", 0x0506), ("flags", 0x0708), ("correlation", 0x090a_0b0c)];
    check("### 2.1 Header", HEADER_BYTES, &header.encode(), &fields);
}

#[test]
fn server_parts_are_laid_out_as_specified() {
    let part = ServerPart { batch_length: 11, base_offset: 12 << 40, append_time_us: 13 << 40, leader_epoch: 14 };
    let fields = [("batch_length", 11), ("base_offset", 12 << 40), ("append_time", 13 << 40), ("leader_epoch", 14)];
    check("### 4.1 Server part", SERVER_PART_BYTES, &part.encode(), &fields);
}

#[test]
fn producer_parts_are_laid_out_as_specified() {
    let header = ProducerHeader {
        crc: 0,
        codec: Codec::Zstd,
        flags: 4,
        message_count: 21,
        last_offset_delta: 22,
        uncompressed_length: 23,
        body_length: 24,
        base_timestamp_us: 25 << 40,
        max_timestamp_delta_us: 26 << 40,
        producer_id: 27 << 40,
        first_sequence: 28 << 40,
        producer_epoch: 29,
    };
    let fields = [
        ("magic", u64::from(MAGIC)),
        ("format", 1),
        ("codec", 2),
        ("flags", 4),
        ("message_count", 21),
        ("last_offset_delta", 22),
        ("uncompressed_length", 23),
        ("body_length", 24),
        ("dictionary_id", 0),
        ("base_timestamp", 25 << 40),
        ("max_timestamp_delta", 26 << 40),
        ("producer_id", 27 << 40),
        ("first_sequence", 28 << 40),
        ("producer_epoch", 29),
    ];
    check("### 4.2 Producer part", PRODUCER_PART_BYTES, &header.encode(), &fields);
}

#[test]
fn message_headers_are_laid_out_as_specified() {
    use levada_protocol::batch::{BatchBuilder, BatchLimits, NewMessage, SealOptions};
    let mut builder = BatchBuilder::new(BatchLimits::default());
    let message = NewMessage { payload: Some(b"payload"), key: Some(b"key"), ..NewMessage::default() };
    builder.push(&message).unwrap();
    builder.push(&NewMessage { timestamp_us: 9, ..message }).unwrap();
    let batch = builder.seal(&SealOptions::default()).unwrap();
    let second = PRODUCER_PART_BYTES + MESSAGE_HEADER_BYTES + 10;
    let fields =
        [("payload_length", 7), ("timestamp_delta", 9), ("key_length", 3), ("headers_length", 0), ("flags", 1)];
    check("### 4.4 Messages", MESSAGE_HEADER_BYTES, &batch[second..second + MESSAGE_HEADER_BYTES], &fields);
}
