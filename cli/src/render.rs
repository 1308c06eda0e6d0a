//! How a consumed message is written: raw, as a line of JSON, or as a block for reading.
//!
//! The JSON shape is part of the contract with scripts. Text is written as a string; bytes that are not UTF-8 as base64
//! under another name, so that nothing is lost or guessed.

use crate::args::OutputFormat;
use crate::units::rfc3339;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::io::{self, Write};

/// A message, borrowed from wherever it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a, H> {
    /// Where several topics are read.
    pub(crate) topic: Option<&'a str>,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) timestamp_us: i64,
    pub(crate) append_time_us: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) headers: H,
    /// `None` is a null payload, which is not the empty one.
    pub(crate) payload: Option<&'a [u8]>,
}

/// A header's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeaderShown<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

pub(crate) fn write<'a, H>(
    out: &mut impl Write,
    format: OutputFormat,
    colour: bool,
    message: Shown<'a, H>,
) -> io::Result<()>
where
    H: Iterator<Item = (&'a str, HeaderShown<'a>)>,
{
    match format {
        OutputFormat::Raw => {
            out.write_all(message.payload.unwrap_or_default())?;
            out.write_all(b"\n")
        }
        OutputFormat::Json => json(out, message),
        OutputFormat::Pretty => pretty(out, colour, message),
    }
}

fn json<'a, H>(out: &mut impl Write, message: Shown<'a, H>) -> io::Result<()>
where
    H: Iterator<Item = (&'a str, HeaderShown<'a>)>,
{
    let (timestamp, append_time) = (rfc3339(message.timestamp_us), rfc3339(message.append_time_us));
    out.write_all(b"{")?;
    if let Some(topic) = message.topic {
        out.write_all(b"\"topic\":")?;
        string(out, topic)?;
        out.write_all(b",")?;
    }
    write!(
        out,
        "\"partition\":{},\"offset\":{},\"timestamp\":\"{timestamp}\",\"append_time\":\"{append_time}\"",
        message.partition, message.offset
    )?;
    field(out, "key", message.key)?;
    out.write_all(b",\"headers\":{")?;
    for (index, (name, value)) in message.headers.enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        string(out, name)?;
        out.write_all(b":")?;
        header(out, value)?;
    }
    out.write_all(b"}")?;
    field(out, "payload", message.payload)?;
    out.write_all(b"}\n")
}

fn field(out: &mut impl Write, name: &str, bytes: Option<&[u8]>) -> io::Result<()> {
    let Some(bytes) = bytes else {
        return write!(out, ",\"{name}\":null");
    };
    match str::from_utf8(bytes) {
        Ok(text) => {
            write!(out, ",\"{name}\":")?;
            string(out, text)
        }
        Err(_) => write!(out, ",\"{name}_base64\":\"{}\"", STANDARD.encode(bytes)),
    }
}

/// A header's value as JSON. Bytes are `{"base64":"…"}`; a float that JSON cannot hold is a string.
fn header(out: &mut impl Write, value: HeaderShown<'_>) -> io::Result<()> {
    match value {
        HeaderShown::Text(text) => string(out, text),
        HeaderShown::Bytes(bytes) => write!(out, "{{\"base64\":\"{}\"}}", STANDARD.encode(bytes)),
        HeaderShown::Bool(value) => write!(out, "{value}"),
        HeaderShown::Signed(value) => write!(out, "{value}"),
        HeaderShown::Unsigned(value) => write!(out, "{value}"),
        HeaderShown::Float(value) if value.is_finite() => Ok(serde_json::to_writer(out, &value)?),
        HeaderShown::Float(value) => write!(out, "\"{value}\""),
    }
}

fn string(out: &mut impl Write, text: &str) -> io::Result<()> {
    Ok(serde_json::to_writer(out, text)?)
}

fn pretty<'a, H>(out: &mut impl Write, colour: bool, message: Shown<'a, H>) -> io::Result<()>
where
    H: Iterator<Item = (&'a str, HeaderShown<'a>)>,
{
    let (dim, strong, plain) = if colour { ("\x1b[2m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
    let Shown { partition, offset, .. } = message;
    let topic = message.topic.map(|topic| format!("{topic}:")).unwrap_or_default();
    write!(out, "{strong}{topic}{partition}:{offset}{plain}  {dim}{}{plain}", rfc3339(message.append_time_us))?;
    if message.timestamp_us != message.append_time_us {
        write!(out, "  {dim}timestamp={}{plain}", rfc3339(message.timestamp_us))?;
    }
    if let Some(key) = message.key {
        write!(out, "  key={strong}{}{plain}", readable(key))?;
    }
    out.write_all(b"\n")?;
    for (name, value) in message.headers {
        write!(out, "  {dim}{name}:{plain} ")?;
        match value {
            HeaderShown::Text(text) => out.write_all(readable(text.as_bytes()).as_bytes())?,
            value => header(out, value)?,
        }
        out.write_all(b"\n")?;
    }
    for line in block(message.payload).lines() {
        writeln!(out, "  {line}")?;
    }
    out.write_all(b"\n")
}

/// A payload for reading: JSON indented, other text as it is, bytes as a hex dump's beginning.
fn block(payload: Option<&[u8]>) -> String {
    const MAX_DUMP_BYTES: usize = 256;
    let Some(payload) = payload else {
        return "(null)".to_owned();
    };
    if payload.is_empty() {
        return "(empty)".to_owned();
    }
    if matches!(payload.trim_ascii_start().first(), Some(b'{' | b'['))
        && let Some(text) = indented(payload)
    {
        return text;
    }
    if let Ok(text) = str::from_utf8(payload) {
        return text.lines().map(|line| readable(line.as_bytes()) + "\n").collect();
    }
    let mut dump = String::new();
    for row in payload[..payload.len().min(MAX_DUMP_BYTES)].chunks(16) {
        let hex: String = row.iter().map(|byte| format!("{byte:02x} ")).collect();
        let text: String = row.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
        dump += &format!("{hex:<49}{text}\n");
    }
    if payload.len() > MAX_DUMP_BYTES {
        dump += &format!("… {} bytes in all\n", payload.len());
    }
    dump
}

/// JSON with indentation, its fields in their order and its numbers as written; `None` if it is not JSON.
fn indented(payload: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(payload.len() * 2);
    let mut json = serde_json::Deserializer::from_slice(payload);
    IgnoredAny::deserialize(&mut json).ok()?;
    json.end().ok()?;
    let text = str::from_utf8(payload).ok()?;
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + depth * 2, b' ');
    };
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if in_string {
            out.push(byte);
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'{' | b'[' => {
                out.push(byte);
                while bytes.next_if(|b| b.is_ascii_whitespace()).is_some() {}
                if matches!(bytes.peek(), Some(b'}' | b']')) {
                    out.extend(bytes.next());
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b'"' => {
                in_string = true;
                out.push(byte);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// Text with what a terminal would act on made visible.
fn readable(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text
            .chars()
            .flat_map(|c| if c.is_control() && c != '\t' { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect(),
        Err(_) => format!("base64:{}", STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type NoHeaders = std::iter::Empty<(&'static str, HeaderShown<'static>)>;

    fn message<'a>(key: Option<&'a [u8]>, payload: Option<&'a [u8]>) -> Shown<'a, NoHeaders> {
        let headers = std::iter::empty();
        Shown {
            topic: None,
            partition: 3,
            offset: 12,
            timestamp_us: 1,
            append_time_us: 1_700_000_000_123_456,
            key,
            headers,
            payload,
        }
    }

    fn written<'a, H: Iterator<Item = (&'a str, HeaderShown<'a>)>>(
        format: OutputFormat,
        message: Shown<'a, H>,
    ) -> String {
        let mut out = Vec::new();
        write(&mut out, format, false, message).expect("memory takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn json_has_the_shape_of_the_contract() {
        assert_eq!(
            written(OutputFormat::Json, message(None, Some(b"say \"hi\""))),
            "{\"partition\":3,\"offset\":12,\"timestamp\":\"1970-01-01T00:00:00.000001Z\",\
             \"append_time\":\"2023-11-14T22:13:20.123456Z\",\"key\":null,\"headers\":{},\"payload\":\"say \\\"hi\\\"\"}\n"
        );
    }

    #[test]
    fn bytes_that_are_not_text_are_base64_under_their_own_names() {
        let text = written(OutputFormat::Json, message(Some(b"\xff"), Some(b"\x80\x00")));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["key_base64"], "/w==");
        assert_eq!(value["payload_base64"], "gAA=");
        assert!(value.get("key").is_none() && value.get("payload").is_none());
        let text = written(OutputFormat::Json, message(Some(b""), None));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&value["key"], &value["payload"]), (&serde_json::json!(""), &serde_json::Value::Null));
    }

    #[test]
    fn headers_keep_their_types_and_order() {
        let headers = [
            ("t", HeaderShown::Text("x\n")),
            ("b", HeaderShown::Bytes(&[1])),
            ("o", HeaderShown::Bool(true)),
            ("i", HeaderShown::Signed(-1)),
            ("u", HeaderShown::Unsigned(u64::MAX)),
            ("f", HeaderShown::Float(1.5)),
            ("n", HeaderShown::Float(f64::NAN)),
        ];
        let plain = message(None, Some(b"p"));
        let message = Shown {
            topic: None,
            headers: headers.into_iter(),
            partition: plain.partition,
            offset: plain.offset,
            timestamp_us: plain.timestamp_us,
            append_time_us: plain.append_time_us,
            key: plain.key,
            payload: plain.payload,
        };
        let text = written(OutputFormat::Json, message);
        let expected =
            r#""headers":{"t":"x\n","b":{"base64":"AQ=="},"o":true,"i":-1,"u":18446744073709551615,"f":1.5,"n":"NaN"}"#;
        assert!(text.contains(expected), "{text}");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    }

    #[test]
    fn raw_is_the_payload_and_a_line_end() {
        let mut out = Vec::new();
        write(&mut out, OutputFormat::Raw, false, message(None, Some(b"\xff\r"))).expect("memory");
        assert_eq!(out, b"\xff\r\n");
        assert_eq!(written(OutputFormat::Raw, message(None, None)), "\n");
    }

    #[test]
    fn pretty_indents_json_and_hides_control_characters() {
        let text = written(OutputFormat::Pretty, message(Some(b"AA"), Some(br#"{"b":1.50,"a":[],"s":"x:{\"y"}"#)));
        assert!(
            text.starts_with("3:12  2023-11-14T22:13:20.123456Z  timestamp=1970-01-01T00:00:00.000001Z  key=AA\n"),
            "{text}"
        );
        assert!(text.ends_with("  {\n    \"b\": 1.50,\n    \"a\": [],\n    \"s\": \"x:{\\\"y\"\n  }\n\n"), "{text}");
        let text = written(OutputFormat::Pretty, message(None, Some(b"\x1b[31mred")));
        assert!(text.contains("\\u{1b}[31mred") && !text.contains('\x1b'), "{text}");
        assert!(written(OutputFormat::Pretty, message(None, Some(b"\xff\x00"))).contains("ff 00"));
        assert!(written(OutputFormat::Pretty, message(None, Some(b"{not json"))).contains("{not json"));
    }
}
