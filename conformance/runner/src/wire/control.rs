//! Control parts (section 3): fields by name to bytes and back.
//!
//! Fields are JSON: numbers (or their decimal digits), enums by name (or number, for values that do not exist), bytes as
//! hex digits or `{"text": "..."}`. A field left out is zero, empty or absent; a name the message lacks is a mistake. Two
//! names stand for what no version has: `tagged` of a message for further tagged fields, `[{"tag": n, "hex": "..."}]`,
//! and `appended` of a struct in a list for bytes after its last field.

use super::error::WireError;
use super::schema::{Field, MessageType, Type, schema};
use super::{from_hex, to_hex};
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, WireError>;

/// Names that are no fields.
const BEYOND: [&str; 2] = ["tagged", "appended"];
/// Tags from here on must be understood.
const FIRST_MANDATORY_TAG: u16 = 0x8000;

/// Bytes of a control part.
///
/// # Errors
/// Usage, if the fields are not this message's.
pub fn encode(message: &MessageType, fields: &Value) -> Result<Vec<u8>> {
    let empty = Map::new();
    let map = match fields {
        Value::Object(map) => map,
        Value::Null => &empty,
        other => return Err(WireError::usage(format!("fields of {} are a map, not {other}", message.name))),
    };
    let mut out = Vec::new();
    let is_tagged = |name: &str| message.tagged.iter().any(|(_, field)| field.name == name);
    let plain: Map<String, Value> =
        map.iter().filter(|(name, _)| !is_tagged(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    put_fields(&mut out, &message.name, &message.fields, &plain)?;
    let mut tags: Vec<(u64, Vec<u8>)> = Vec::new();
    for (tag, field) in &message.tagged {
        let value = map.get(&field.name).unwrap_or(&Value::Null);
        if !value.is_null() {
            let mut bytes = Vec::new();
            let done = put(&mut bytes, &field.kind, value);
            done.ok_or_else(|| WireError::usage(format!("{}.{}: {value}", message.name, field.name)))??;
            tags.push((u64::from(*tag), bytes));
        }
    }
    for tag in map.get("tagged").and_then(Value::as_array).map_or(&[][..], Vec::as_slice) {
        let number = number(&tag["tag"]).ok_or_else(|| WireError::usage("a tag has a number"))?;
        tags.push((number, bytes_of(&tag["hex"]).unwrap_or_default()));
    }
    put_unsigned(&mut out, 2, tags.len() as u64);
    for (tag, bytes) in tags {
        put_unsigned(&mut out, 2, tag);
        put_unsigned(&mut out, 4, bytes.len() as u64);
        out.extend_from_slice(&bytes);
    }
    Ok(out)
}

/// Fields of a control part.
///
/// # Errors
/// Refused, if the bytes are not exactly this message's.
pub fn decode(message: &MessageType, control: &[u8]) -> Result<Value> {
    let mut reader = Reader { rest: control };
    let mut fields = reader.fields(&message.fields).map_err(|e| within(&message.name, e))?;
    let mut last = None;
    for _ in 0..reader.unsigned(2)? {
        let tag = u16::try_from(reader.unsigned(2)?).expect("two bytes");
        let length = reader.unsigned(4)?;
        let mut value = Reader { rest: reader.take(length)? };
        if last.is_some_and(|last| tag <= last) {
            return Err(WireError::refused(format!("{}: tag {tag} is not above the one before", message.name)));
        }
        if let Some((_, field)) = message.tagged.iter().find(|(known, _)| *known == tag) {
            fields.insert(field.name.clone(), value.value(&field.kind).map_err(|e| within(&message.name, e))?);
        } else if tag >= FIRST_MANDATORY_TAG {
            return Err(WireError::refused(format!("{}: tag {tag} must be understood", message.name)));
        }
        last = Some(tag);
    }
    if !reader.rest.is_empty() {
        return Err(WireError::refused(format!("{}: bytes after the tagged fields", message.name)));
    }
    Ok(Value::Object(fields))
}

fn within(name: &str, error: WireError) -> WireError {
    match error {
        WireError::Refused(what) => WireError::Refused(format!("{name}: {what}")),
        other => other,
    }
}

/// An unsigned number, as such or in digits.
pub fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn signed(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Bytes: hex digits or `{"text": "..."}`.
pub fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(hex) => from_hex(hex),
        other => Some(other.get("text")?.as_str()?.as_bytes().to_vec()),
    }
}

fn put_unsigned(out: &mut Vec<u8>, width: usize, value: u64) {
    out.extend_from_slice(&value.to_le_bytes()[..width]);
}

fn put_fields(out: &mut Vec<u8>, of: &str, fields: &[Field], map: &Map<String, Value>) -> Result<()> {
    let is_known = |name: &str| BEYOND.contains(&name) || fields.iter().any(|field| field.name == name);
    if let Some(unknown) = map.keys().find(|name| !is_known(name)) {
        return Err(WireError::usage(format!("{of} has no field {unknown}")));
    }
    for field in fields {
        let value = map.get(&field.name).unwrap_or(&Value::Null);
        put(out, &field.kind, value).ok_or_else(|| WireError::usage(format!("{of}.{}: {value}", field.name)))??;
    }
    Ok(())
}

/// Writes a value; `None` if it is not of the type.
fn put(out: &mut Vec<u8>, kind: &Type, value: &Value) -> Option<Result<()>> {
    let absent = value.is_null();
    match kind {
        Type::Unsigned(width) => {
            let value = if absent { 0 } else { number(value)? };
            if *width < 8 && value >> (8 * width) != 0 {
                return None;
            }
            put_unsigned(out, *width, value);
        }
        Type::I64 => out.extend_from_slice(&(if absent { 0 } else { signed(value)? }).to_le_bytes()),
        Type::Bool => match value {
            Value::Number(raw) => out.push(u8::try_from(raw.as_u64()?).ok()?),
            other => out.push(u8::from(!absent && other.as_bool()?)),
        },
        Type::String => {
            let text = if absent { "" } else { value.as_str()? };
            put_unsigned(out, 2, u16::try_from(text.len()).ok()?.into());
            out.extend_from_slice(text.as_bytes());
        }
        Type::Bytes => {
            let bytes = if absent { Vec::new() } else { bytes_of(value)? };
            put_unsigned(out, 4, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
        Type::Optional(inner) => {
            out.push(u8::from(!absent));
            if !absent {
                return put(out, inner, value);
            }
        }
        Type::List(inner) => {
            let elements = if absent { &[][..] } else { value.as_array()? };
            put_unsigned(out, 4, elements.len() as u64);
            for element in elements {
                if let Err(error) = put_element(out, inner, element)? {
                    return Some(Err(error));
                }
            }
        }
        Type::Enum(name) => {
            let values = schema().values(name);
            out.push(match value {
                Value::Null => values.first()?.0,
                Value::String(word) => values.iter().find(|(_, known)| known == word)?.0,
                other => u8::try_from(other.as_u64()?).ok()?,
            });
        }
        Type::Struct(name) => {
            let empty = Map::new();
            let map = if absent { &empty } else { value.as_object()? };
            return Some(put_fields(out, name, schema().fields(name), map));
        }
    }
    Some(Ok(()))
}

/// An element of a list: a struct has its length before it.
fn put_element(out: &mut Vec<u8>, kind: &Type, value: &Value) -> Option<Result<()>> {
    if !matches!(kind, Type::Struct(_)) {
        return put(out, kind, value);
    }
    let mut bytes = Vec::new();
    let done = put(&mut bytes, kind, value)?;
    bytes.extend_from_slice(&value.get("appended").and_then(bytes_of).unwrap_or_default());
    put_unsigned(out, 4, bytes.len() as u64);
    out.extend_from_slice(&bytes);
    Some(done)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let cut = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = cut.ok_or_else(|| WireError::refused("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn unsigned(&mut self, width: usize) -> Result<u64> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width as u64)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn fields(&mut self, fields: &[Field]) -> Result<Map<String, Value>> {
        let mut map = Map::new();
        for field in fields {
            map.insert(field.name.clone(), self.value(&field.kind).map_err(|e| within(&field.name, e))?);
        }
        Ok(map)
    }

    fn value(&mut self, kind: &Type) -> Result<Value> {
        Ok(match kind {
            Type::Unsigned(width) => self.unsigned(*width)?.into(),
            Type::I64 => json!(self.unsigned(8)?.cast_signed()),
            Type::Bool => match self.unsigned(1)? {
                0 => false.into(),
                1 => true.into(),
                other => return Err(WireError::refused(format!("a bool of {other}"))),
            },
            Type::String => {
                let length = self.unsigned(2)?;
                let text = std::str::from_utf8(self.take(length)?);
                text.map_err(|_| WireError::refused("a string that is not UTF-8"))?.into()
            }
            Type::Bytes => {
                let length = self.unsigned(4)?;
                to_hex(self.take(length)?).into()
            }
            Type::Optional(inner) => match self.unsigned(1)? {
                0 => Value::Null,
                1 => self.value(inner)?,
                other => return Err(WireError::refused(format!("an optional of {other}"))),
            },
            Type::List(inner) => self.list(inner)?,
            Type::Enum(name) => {
                let number = self.unsigned(1)?;
                let known = schema().values(name).iter().find(|(value, _)| u64::from(*value) == number);
                known.ok_or_else(|| WireError::refused(format!("{name} of {number}")))?.1.clone().into()
            }
            Type::Struct(name) => Value::Object(self.fields(schema().fields(name))?),
        })
    }

    fn list(&mut self, kind: &Type) -> Result<Value> {
        let count = self.unsigned(4)?;
        // Every element takes at least a byte, so a count beyond the rest ends at the first that is missing.
        let mut elements = Vec::new();
        for _ in 0..count {
            if let Type::Struct(name) = kind {
                let length = self.unsigned(4)?;
                let mut element = Reader { rest: self.take(length)? };
                elements.push(Value::Object(element.fields(schema().fields(name))?));
            } else {
                elements.push(self.value(kind)?);
            }
        }
        Ok(elements.into())
    }
}
