//! JSON lines: each line is an object and is sent as it is. Blank lines are skipped. With a key field, its value is the
//! key: a string as its text, another value as the JSON it was written as, null as no key.

use super::{Chunk, End, InputFault, LineSource, Source};
use bytes::Bytes;
use serde::Deserializer;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::io::Read;

#[derive(Debug)]
pub(crate) struct JsonSource<R> {
    lines: LineSource<R>,
    key_field: Option<String>,
}

impl<R: Read> JsonSource<R> {
    pub(crate) fn new(lines: LineSource<R>, key_field: Option<String>) -> Self {
        Self { lines, key_field }
    }
}

impl<R: Read + Send> Source for JsonSource<R> {
    fn next_chunk(&mut self) -> Chunk {
        let first_line = self.lines.next_line_number();
        let mut chunk = self.lines.next_chunk();
        let mut fault = None;
        let mut line = first_line;
        chunk.records.retain_mut(|record| {
            let number = line;
            line += 1;
            if fault.is_some() || record.payload.trim_ascii().is_empty() {
                return false;
            }
            match key_of(&record.payload, self.key_field.as_deref()) {
                Ok(key) => record.key = key,
                Err(problem) => fault = Some(InputFault::Record { line: number, problem }),
            }
            fault.is_none()
        });
        if let Some(fault) = fault {
            chunk.end = Some(End::Fault(fault));
        }
        chunk
    }
}

/// The key of an object, or what is wrong with it.
fn key_of(payload: &Bytes, field: Option<&str>) -> Result<Option<Bytes>, String> {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let key = json.deserialize_map(KeyVisitor { field }).and_then(|key| json.end().map(|()| key));
    let key = key.map_err(|error| {
        let text = error.to_string();
        let text = text.replace("at line 1 column", "at column");
        format!("is not a JSON object: {text}")
    })?;
    match (key, field) {
        (Found::Absent, Some(field)) => Err(format!("has no field `{field}`")),
        (Found::Absent | Found::Null, _) => Ok(None),
        (Found::Key(key), _) => Ok(Some(Bytes::from(key))),
    }
}

enum Found {
    Absent,
    Null,
    Key(Vec<u8>),
}

struct KeyVisitor<'a> {
    field: Option<&'a str>,
}

impl<'de> Visitor<'de> for KeyVisitor<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, as in {\"id\":1}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::Absent;
        while let Some(name) = map.next_key::<Name<'de>>()? {
            if self.field == Some(&*name.0) {
                found = key_text(map.next_value::<&'de RawValue>()?.get()).map_err(A::Error::custom)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

fn key_text(json: &str) -> Result<Found, serde_json::Error> {
    Ok(match json.as_bytes().first() {
        Some(b'"') => Found::Key(serde_json::from_str::<String>(json)?.into_bytes()),
        _ if json == "null" => Found::Null,
        _ => Found::Key(json.as_bytes().to_vec()),
    })
}

/// A field name, borrowed unless it has escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{drain, pairs, problem};
    use super::*;

    fn read(input: &str, field: Option<&str>) -> (Vec<(String, Option<String>)>, Option<InputFault>) {
        let lines = LineSource::new(input.as_bytes(), 1000);
        let (records, _, fault) = drain(&mut JsonSource::new(lines, field.map(str::to_owned)));
        (pairs(&records), fault)
    }

    #[test]
    fn objects_are_sent_as_they_are_and_keyed_by_the_field() {
        let rows = [
            (r#"{"c":"AA","n":1}"#, Some("AA")),
            (r#" { "n" : [1, {"c":"inner"}], "c" : 12.50 } "#, Some("12.50")),
            (r#"{"c":"é\n\u00e9"}"#, Some("é\né")),
            (r#"{"\u0063":true}"#, Some("true")),
            (r#"{"c":{"x": [1]}}"#, Some(r#"{"x": [1]}"#)),
            (r#"{"c":null}"#, None),
            (r#"{"c":""}"#, Some("")),
        ];
        let input: String = rows.iter().map(|(line, _)| format!("{line}\n")).collect();
        let (records, fault) = read(&input, Some("c"));
        assert!(fault.is_none(), "{fault:?}");
        let expected: Vec<_> = rows.iter().map(|(line, key)| ((*line).to_owned(), key.map(str::to_owned))).collect();
        assert_eq!(records, expected);
    }

    #[test]
    fn blank_lines_are_skipped_and_carriage_returns_stay() {
        let (records, fault) = read("\n{}\r\n  \r\n{}", None);
        assert!(fault.is_none());
        assert_eq!(records, [("{}\r".to_owned(), None), ("{}".to_owned(), None)]);
    }

    #[test]
    fn wrong_lines_are_named_after_those_before_them() {
        for (wrong, says) in [
            ("[1]", "is not a JSON object"),
            ("12", "is not a JSON object"),
            ("{\"c\":1", "is not a JSON object"),
            ("{\"c\":1} x", "is not a JSON object: trailing characters at column 9"),
            ("{\"d\":1}", "has no field `c`"),
        ] {
            let (records, fault) = read(&format!("{{\"c\":1}}\n\n{wrong}\n{{\"c\":2}}\n"), Some("c"));
            assert_eq!(records.len(), 1, "{wrong}");
            let (line, text) = problem(fault);
            assert_eq!(line, 3, "{wrong}");
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_or_fine_but_never_a_crash() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let payload = Bytes::from(deep);
        let _ = key_of(&payload, None);
        let _ = key_of(&payload, Some("a"));
    }
}
