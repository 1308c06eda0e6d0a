//! Variables in cases, and the way from what a case writes to what travels: plain text for payloads, numbers for numbers, and so on
//! become the forms of section 3 of the adapter protocol.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::generate;
use crate::ops;

/// Variables of a case: `$stream`, axes, saved values.
pub type Variables = BTreeMap<String, Value>;

/// Replaces `$name` and `${name}` by values. A text that is nothing but one variable takes the type of its value; `$$` is `$`.
///
/// # Errors
/// The name of a variable that does not exist.
pub fn substitute(value: &Value, variables: &Variables) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => substitute_text(text, variables)?,
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| substitute(item, variables)).collect::<Result<_, _>>()?)
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| {
                let key = substitute_text(key, variables)?;
                let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                Ok::<_, String>((key, substitute(value, variables)?))
            });
            Value::Object(entries.collect::<Result<Map<_, _>, _>>()?)
        }
        other => other.clone(),
    })
}

fn substitute_text(text: &str, variables: &Variables) -> Result<Value, String> {
    if let Some(name) = text.strip_prefix('$').filter(|name| is_name(name)) {
        return variables.get(name).cloned().ok_or_else(|| format!("there is no variable ${name}"));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, behind) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(pair) => pair,
            None => after.split_at(after.find(|c: char| !is_name_char(c)).unwrap_or(after.len())),
        };
        let value = variables.get(name).ok_or_else(|| format!("there is no variable ${name}"))?;
        out.push_str(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        rest = behind;
    }
    out.push_str(rest);
    Ok(Value::String(out))
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_name_char)
}

/// Reads a value of the result by a path such as `token.secret` or `receipts.0.base_offset`.
pub fn at_path<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}

/// The bytes a case means: text as it is, `{hex: …}`, `{base64: …}` or a generator, whose index grows by `more`.
///
/// # Errors
/// What cannot be read.
pub fn bytes(value: &Value, more: u64) -> Result<Vec<u8>, String> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Object(map) if map.contains_key("gen") => generate::from_value(value, more),
        Value::Object(map) => match map.iter().next() {
            Some((key, Value::String(text))) if key == "hex" => {
                crate::wire::from_hex(text).ok_or_else(|| format!("{text:?} are no hexadecimal digits"))
            }
            Some((key, Value::String(text))) if key == "base64" => {
                STANDARD.decode(text).map_err(|error| format!("{text:?}: {error}"))
            }
            _ => Err(format!("bytes are a text, {{hex: …}}, {{base64: …}} or {{gen: …}}, not {value}")),
        },
        other => Err(format!("bytes are a text, {{hex: …}}, {{base64: …}} or {{gen: …}}, not {other}")),
    }
}

/// Base64 as it travels.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Bytes as they travel: generators travel as such, everything else as base64.
fn bytes_to_wire(value: &Value) -> Result<Value, String> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Object(map) if map.contains_key("gen") => arguments_to_wire(value),
        other => Ok(encode(&bytes(other, 0)?).into()),
    }
}

/// Arguments as they travel.
///
/// # Errors
/// What has no form on the wire.
pub fn arguments_to_wire(value: &Value) -> Result<Value, String> {
    let Value::Object(map) = value else { return Ok(value.clone()) };
    let entries = map.iter().map(|(key, value)| {
        let sent = match key.as_str() {
            "message" => message_to_wire(value)?,
            "messages" => match value {
                Value::Array(items) => Value::Array(items.iter().map(message_to_wire).collect::<Result<_, String>>()?),
                one => Value::Array(vec![message_to_wire(one)?]),
            },
            key if ops::is_wide(key) && value.is_number() => value.to_string().into(),
            _ => arguments_to_wire(value)?,
        };
        Ok::<_, String>((key.clone(), sent))
    });
    Ok(Value::Object(entries.collect::<Result<_, _>>()?))
}

fn message_to_wire(message: &Value) -> Result<Value, String> {
    let Value::Object(map) = message else { return Err(format!("a message is {{payload: …}}, not {message}")) };
    let entries = map.iter().map(|(key, value)| {
        let sent = match key.as_str() {
            "payload" | "key" | "id" => bytes_to_wire(value)?,
            "headers" => {
                let headers = value.as_array().ok_or("headers are a list")?;
                Value::Array(headers.iter().map(header_to_wire).collect::<Result<_, _>>()?)
            }
            "timestamp_us" | "sequence" if value.is_number() => value.to_string().into(),
            "timestamp_us" | "sequence" | "partition" | "count" => value.clone(),
            other => return Err(format!("a message has no {other:?}")),
        };
        Ok::<_, String>((key.clone(), sent))
    });
    Ok(Value::Object(entries.collect::<Result<_, _>>()?))
}

/// A header as it travels, from `{name, type, value}` with numbers as numbers.
///
/// # Errors
/// What has no form on the wire.
pub fn header_to_wire(header: &Value) -> Result<Value, String> {
    let kind = header.get("type").and_then(Value::as_str).ok_or("a header has a name, a type and a value")?;
    let value = header.get("value").ok_or("a header has a name, a type and a value")?;
    let sent = match (kind, value) {
        ("bytes", value) => bytes_to_wire(value)?,
        ("f64", Value::Number(number)) => {
            let float = number.as_f64().ok_or_else(|| format!("{number} is no f64"))?;
            format!("{:016x}", float.to_bits()).into()
        }
        ("i64" | "u64", Value::Number(number)) => number.to_string().into(),
        (_, value) => value.clone(),
    };
    Ok(json!({"name": header.get("name"), "type": kind, "value": sent}))
}

/// The summary by which an adapter reports a payload.
pub fn payload_summary(payload: &[u8]) -> Value {
    let first = &payload[..payload.len().min(64)];
    json!({"length": payload.len(), "sha256": generate::sha256_hex(payload), "first": encode(first)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_keep_their_type_where_they_stand_alone() {
        let variables = Variables::from([("n".to_owned(), json!(5)), ("stream".to_owned(), json!("c1"))]);
        let given = json!({"a": "$n", "b": "$stream/t", "c": "${stream}x$n", "d": "$$5", "$n": 1});
        let wanted = json!({"a": 5, "b": "c1/t", "c": "c1x5", "d": "$5", "5": 1});
        assert_eq!(substitute(&given, &variables), Ok(wanted));
        assert!(substitute(&json!("$nothing"), &variables).is_err());
    }

    #[test]
    fn messages_travel_in_the_forms_of_the_protocol() {
        let given = json!({"message": {
            "payload": "hi", "key": {"hex": "00ff"}, "timestamp_us": 5, "partition": 1, "sequence": u64::MAX,
            "headers": [
                {"name": "a", "type": "f64", "value": 1.0},
                {"name": "b", "type": "i64", "value": -5},
                {"name": "c", "type": "bytes", "value": {"hex": "01"}},
            ],
        }, "max_messages": 7});
        let sent = arguments_to_wire(&given).unwrap();
        assert_eq!(sent["message"]["payload"], "aGk=");
        assert_eq!(sent["message"]["key"], "AP8=");
        assert_eq!(sent["message"]["timestamp_us"], "5");
        assert_eq!(sent["message"]["sequence"], "18446744073709551615");
        assert_eq!(sent["message"]["headers"][0]["value"], "3ff0000000000000");
        assert_eq!(sent["message"]["headers"][1]["value"], "-5");
        assert_eq!(sent["message"]["headers"][2]["value"], "AQ==");
        assert_eq!(sent["max_messages"], "7");
        let generated =
            arguments_to_wire(&json!({"message": {"payload": {"gen": "seq", "size": 4, "index": 9}}})).unwrap();
        assert_eq!(generated["message"]["payload"], json!({"gen": "seq", "size": 4, "index": "9"}));
        assert!(arguments_to_wire(&json!({"message": {"paylaod": "x"}})).is_err());
    }
}
