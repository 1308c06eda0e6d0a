//! The script of a fake server, from JSON.
//!
//! `nth` maps a message to a list: its nth entry is for the nth frame of that kind, over all connections. `every` maps a
//! message to what happens to the others. An entry is one step or a list of steps; what neither names is answered by
//! default. Steps: `default`, `ignore`, `close`, `reset`, `defer` (the request is kept), `deferred` (those kept are answered,
//! the last first), `{delay_ms: n}`, `{raw: hex}`, `{error: NAME}`,
//! `{error: {name | code, class, flags, retry_after_ms, message, details}}`, `{reply: NAME, fields: {…}}` with the
//! correlation of the request and `{push: NAME, fields: {…}}` with 0. Frames of an `error`, `reply` or `push` may have
//! `batches: […]` or `body: hex`, another `kind: n` or `correlation: n`, `cut: n` (only so many bytes are sent, and the
//! connection stays open), and a `flaw`: `bad-crc`, `unknown-flag`, `oversized`, `undersized`, `mandatory-tag`,
//! `trailing-byte`, `short-control`, `unexpected-body`.

use super::batches::batches_from_value;
use crate::wire::{Frame, WireError, bytes_of, crc32c, from_hex, number, schema};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a fake server does.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Fields of Welcome beside the usual.
    pub welcome: Value,
    /// Partitions of every topic.
    pub partition_count: u32,
    /// What every partition holds at first.
    pub log: Vec<Vec<u8>>,
    pub(super) nth: BTreeMap<String, Vec<Vec<Step>>>,
    pub(super) every: BTreeMap<String, Vec<Step>>,
}

/// A step.
#[derive(Clone, Debug)]
pub enum Step {
    /// What a server does.
    Default,
    /// Sends a frame.
    Send(Box<Outgoing>),
    /// Sends bytes.
    Raw(Vec<u8>),
    /// Waits.
    Delay(Duration),
    /// Nothing.
    Ignore,
    /// Keeps the request.
    Defer,
    /// Answers what was kept by default, the last first.
    Deferred,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
}

/// A frame to send, with its flaws.
#[derive(Clone, Debug)]
pub struct Outgoing {
    frame: Frame,
    is_reply: bool,
    flaw: Option<Flaw>,
    kind: Option<u16>,
    correlation: Option<u32>,
    cut: Option<usize>,
}

/// What is wrong with a frame on purpose; its checksum is right unless that is it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    BadCrc,
    UnknownFlag,
    Oversized,
    Undersized,
    MandatoryTag,
    TrailingByte,
    ShortControl,
    UnexpectedBody,
}

impl Flaw {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "bad-crc" => Self::BadCrc,
            "unknown-flag" => Self::UnknownFlag,
            "oversized" => Self::Oversized,
            "undersized" => Self::Undersized,
            "mandatory-tag" => Self::MandatoryTag,
            "trailing-byte" => Self::TrailingByte,
            "short-control" => Self::ShortControl,
            "unexpected-body" => Self::UnexpectedBody,
            _ => return None,
        })
    }
}

/// Tag count and a tag that must be understood, instead of no tags.
const MANDATORY_TAG: [u8; 8] = [1, 0, 0, 0x80, 0, 0, 0, 0];
/// A length no frame may have, and one that no frame can have.
const OVERSIZED: u32 = 0x7FFF_FFFF;
const UNDERSIZED: u32 = 11;

impl Script {
    /// From `{welcome, partitions, log, nth, every}`, all optional.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn from_value(value: &Value) -> Result<Self, String> {
        let empty = Map::new();
        let map = if value.is_null() { &empty } else { value.as_object().ok_or("a script is a map")? };
        let mut script = Self { partition_count: 1, ..Self::default() };
        for (name, value) in map {
            match name.as_str() {
                "welcome" => script.welcome = value.clone(),
                "partitions" => {
                    let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
                    script.partition_count = count.ok_or("partitions is a number")?;
                }
                "log" => script.log = batches_from_value(value).map_err(|error| error.to_string())?,
                "nth" => {
                    for (kind, list) in by_message(value)? {
                        let entries = list.as_array().ok_or_else(|| format!("nth {kind} is a list"))?;
                        let steps = entries.iter().map(steps_from_value).collect::<Result<_, _>>()?;
                        script.nth.insert(kind.clone(), steps);
                    }
                }
                "every" => {
                    for (kind, value) in by_message(value)? {
                        script.every.insert(kind.clone(), steps_from_value(value)?);
                    }
                }
                other => return Err(format!("a script has no {other}")),
            }
        }
        Ok(script)
    }
}

fn by_message(value: &Value) -> Result<&Map<String, Value>, String> {
    let map = value.as_object().ok_or("nth and every are maps by message")?;
    match map.keys().find(|name| schema().message(name).is_none() && !name.starts_with("kind_")) {
        Some(unknown) => Err(format!("no message {unknown}")),
        None => Ok(map),
    }
}

/// Steps: one, or a list.
///
/// # Errors
/// What is wrong with them, for a person.
pub fn steps_from_value(value: &Value) -> Result<Vec<Step>, String> {
    match value {
        Value::Array(list) => list.iter().map(step_from_value).collect(),
        one => Ok(vec![step_from_value(one)?]),
    }
}

fn step_from_value(value: &Value) -> Result<Step, String> {
    let wrong = || format!("no step {value}");
    match value {
        Value::String(word) => match word.as_str() {
            "default" => Ok(Step::Default),
            "ignore" => Ok(Step::Ignore),
            "defer" => Ok(Step::Defer),
            "deferred" => Ok(Step::Deferred),
            "close" => Ok(Step::Close),
            "reset" => Ok(Step::Reset),
            _ => Err(wrong()),
        },
        Value::Object(map) => {
            if let Some(time) = map.get("delay_ms") {
                return Ok(Step::Delay(Duration::from_millis(time.as_u64().ok_or_else(wrong)?)));
            }
            if let Some(bytes) = map.get("raw") {
                return Ok(Step::Raw(bytes.as_str().and_then(from_hex).ok_or_else(wrong)?));
            }
            Ok(Step::Send(Box::new(Outgoing::from_map(map).map_err(|error| format!("{value}: {error}"))?)))
        }
        _ => Err(wrong()),
    }
}

impl Outgoing {
    fn from_map(map: &Map<String, Value>) -> Result<Self, WireError> {
        let name = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        let known = ["error", "reply", "push", "fields", "batches", "body", "kind", "correlation", "cut", "flaw"];
        if let Some(unknown) = map.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(WireError::Usage(format!("a frame has no {unknown}")));
        }
        let (message, fields) = match map.get("error") {
            Some(error) => ("Error".to_owned(), error_fields(error)?),
            None => {
                let message = name("reply").or_else(|| name("push"));
                let message = message.ok_or_else(|| WireError::Usage("error, reply or push".to_owned()))?;
                (message, map.get("fields").cloned().unwrap_or(Value::Null))
            }
        };
        let body = match (map.get("batches"), map.get("body")) {
            (Some(batches), None) => Some(batches_from_value(batches)?.concat()),
            (None, Some(body)) => Some(bytes_of(body).ok_or_else(|| WireError::Usage("body is hex".to_owned()))?),
            _ => None,
        };
        let flaw = match name("flaw") {
            None => None,
            Some(name) => Some(Flaw::from_name(&name).ok_or_else(|| WireError::Usage(format!("no flaw {name}")))?),
        };
        Ok(Self {
            frame: Frame::of(&message, 0, &fields, body)?,
            is_reply: !map.contains_key("push"),
            flaw,
            kind: narrow(map, "kind")?,
            correlation: narrow(map, "correlation")?,
            cut: narrow(map, "cut")?,
        })
    }

    /// Its bytes, as the reply to a request.
    #[must_use]
    pub fn bytes(&self, correlation: u32) -> Vec<u8> {
        let mut frame = self.frame.clone();
        frame.correlation = self.correlation.unwrap_or(if self.is_reply { correlation } else { 0 });
        frame.kind = self.kind.unwrap_or(frame.kind);
        match self.flaw {
            Some(Flaw::MandatoryTag) => {
                frame.control.truncate(frame.control.len() - 2);
                frame.control.extend_from_slice(&MANDATORY_TAG);
            }
            Some(Flaw::TrailingByte) => frame.control.push(0),
            Some(Flaw::ShortControl) => drop(frame.control.pop()),
            Some(Flaw::UnexpectedBody) => frame.body = Some(vec![0; 4]),
            _ => {}
        }
        let mut bytes = frame.encode();
        match self.flaw {
            Some(Flaw::UnknownFlag) => bytes[6] |= 2,
            Some(Flaw::Oversized) => bytes[..4].copy_from_slice(&OVERSIZED.to_le_bytes()),
            Some(Flaw::Undersized) => bytes[..4].copy_from_slice(&UNDERSIZED.to_le_bytes()),
            _ => {}
        }
        seal(&mut bytes, &frame);
        if self.flaw == Some(Flaw::BadCrc) {
            bytes[12] ^= 1;
        }
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        bytes
    }
}

fn narrow<T: TryFrom<u64>>(map: &Map<String, Value>, name: &str) -> Result<Option<T>, WireError> {
    let Some(value) = map.get(name) else { return Ok(None) };
    let narrow = number(value).and_then(|value| T::try_from(value).ok());
    narrow.map(Some).ok_or_else(|| WireError::Usage(format!("{name} of a frame: {value}")))
}

/// The checksum of a frame whose header was changed.
fn seal(bytes: &mut [u8], frame: &Frame) {
    let covered = bytes.len() - frame.body.as_ref().map_or(0, Vec::len);
    bytes[12..16].fill(0);
    let crc = crc32c(&[&bytes[..covered]]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Fields of Error: those of the code's row on the page, unless told otherwise.
fn error_fields(value: &Value) -> Result<Value, WireError> {
    let of = |key: &str| value.get(key).filter(|value| !value.is_null());
    let name = value.as_str().or_else(|| of("name")?.as_str());
    let row = match name {
        Some(name) => Some(schema().error(name).ok_or_else(|| WireError::Usage(format!("no error {name}")))?),
        None => None,
    };
    let class = match of("class") {
        Some(Value::String(name)) => schema().class_number(name).map(Value::from),
        Some(number) => Some(number.clone()),
        None => row.and_then(|row| schema().class_number(&row.class)).map(Value::from),
    };
    let flags = row.map_or(0, |row| u8::from(row.retriable) | u8::from(row.maybe_applied == "yes") << 1);
    let details: Vec<Value> = match of("details").and_then(Value::as_object) {
        Some(map) => map.iter().map(|(name, value)| json!({"name": name, "value": value})).collect(),
        None => {
            let names = row.map_or(&[][..], |row| &row.details).iter().enumerate();
            names.map(|(index, name)| json!({"name": name, "value": (index + 1).to_string()})).collect()
        }
    };
    Ok(json!({
        "code": of("code").cloned().or_else(|| row.map(|row| row.code.into())),
        "class": class,
        "flags": of("flags").cloned().unwrap_or_else(|| flags.into()),
        "retry_after_ms": of("retry_after_ms").cloned(),
        "message": of("message").cloned().unwrap_or_else(|| "as scripted".into()),
        "details": details,
    }))
}
