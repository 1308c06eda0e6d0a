//! Whether what came of a step is what the case expects. Matching is by subset: fields that a case does not name may be anything.
//! Errors are held to the closed table besides: a known name must come with its number, class and fixed flags.

use serde_json::{Map, Value};

use crate::adapter::Reply;
use crate::generate::as_u64;
use crate::values::{self, encode};
use crate::wire::{ErrorCode, schema};

/// What came of a step.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The last reply.
    pub reply: Reply,
    /// Messages of all replies of a step that was repeated, in order.
    pub messages: Vec<Value>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// By how much deadlines are longer than written.
    pub scale: f64,
}

/// How well a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Met,
    /// As allowed but discouraged; why.
    NonStrict(String),
}

type Check = Result<(), String>;

/// Compares; the error says what differs, for a person.
///
/// # Errors
/// The difference.
pub fn check(expect: Option<&Value>, outcome: &Outcome) -> Result<Verdict, String> {
    let shown = match expect {
        None | Some(Value::Null) => return must_be_ok(outcome).map(|_| Verdict::Met),
        Some(Value::String(name)) => return by_name(name, outcome).map(|()| Verdict::Met),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(format!("`expect` is a name or a map, not {other}")),
    };
    if let Some(discouraged) = shown.get("non_strict") {
        let mut strict = shown.clone();
        strict.remove("non_strict");
        return match by_map(&strict, outcome) {
            Ok(()) => Ok(Verdict::Met),
            Err(reason) => {
                check(Some(discouraged), outcome).map(|_| Verdict::NonStrict(reason.clone())).map_err(|_| reason)
            }
        };
    }
    by_map(shown, outcome).map(|()| Verdict::Met)
}

fn must_be_ok(outcome: &Outcome) -> Result<&Value, String> {
    match &outcome.reply {
        Reply::Ok(ok) => Ok(ok),
        other => Err(format!("expected success, got {}", show(other))),
    }
}

fn by_name(name: &str, outcome: &Outcome) -> Check {
    match name {
        "ok" => must_be_ok(outcome).map(drop),
        "any" => Ok(()),
        "cancelled" => match &outcome.reply {
            Reply::Cancelled(_) => Ok(()),
            Reply::Err(error) if error["name"] == "CANCELLED" => Ok(()),
            other => Err(format!("expected the call to be cancelled, got {}", show(other))),
        },
        "error" => an_error(outcome).map(drop),
        name => check_error(name, &Map::new(), outcome),
    }
}

const ERROR_KEYS: &[&str] =
    &["code", "class", "retriable", "maybe_applied", "details", "message", "native", "retry_after_ms"];

fn by_map(expect: &Map<String, Value>, outcome: &Outcome) -> Check {
    let known = ["outcome", "ok", "error", "messages", "receipts", "one_of", "at_least_ms", "within_ms"];
    if let Some(unknown) =
        expect.keys().find(|key| !known.contains(&key.as_str()) && !ERROR_KEYS.contains(&key.as_str()))
    {
        return Err(format!("`expect` has no key {unknown:?}"));
    }
    if let Some(choices) = expect.get("one_of").and_then(Value::as_array) {
        let reasons: Vec<String> = choices.iter().filter_map(|choice| check(Some(choice), outcome).err()).collect();
        if reasons.len() == choices.len() {
            return Err(format!("none of the allowed outcomes: {}", reasons.join("; or ")));
        }
    }
    check_time(expect, outcome)?;
    if let Some(name) = expect.get("outcome").and_then(Value::as_str) {
        by_name(name, outcome)?;
    }
    match expect.get("error") {
        Some(Value::String(name)) => return check_error(name, expect, outcome),
        Some(other) => return Err(format!("`error` is the name of an error, not {other}")),
        None if expect.keys().any(|key| ERROR_KEYS.contains(&key.as_str())) => {
            let error = an_error(outcome)?;
            return error_fields(error, expect);
        }
        None => {}
    }
    if let Some(wanted) = expect.get("ok") {
        matches(wanted, must_be_ok(outcome)?, "ok")?;
    }
    if let Some(wanted) = expect.get("messages") {
        must_be_ok(outcome)?;
        check_messages(wanted, &outcome.messages)?;
    }
    if let Some(wanted) = expect.get("receipts") {
        check_receipts(wanted, must_be_ok(outcome)?)?;
    }
    let says_outcome = ["outcome", "ok", "messages", "receipts", "one_of"].iter().any(|key| expect.contains_key(*key));
    if says_outcome { Ok(()) } else { must_be_ok(outcome).map(drop) }
}

fn check_time(expect: &Map<String, Value>, outcome: &Outcome) -> Check {
    let limit = |key: &str| expect.get(key).and_then(as_u64);
    match (limit("at_least_ms"), limit("within_ms")) {
        (Some(least), _) if outcome.took_ms < least => {
            Err(format!("it took {} ms, less than {least}", outcome.took_ms))
        }
        (_, Some(most)) if (most as f64) * outcome.scale < outcome.took_ms as f64 => {
            Err(format!("it took {} ms, more than {most}", outcome.took_ms))
        }
        _ => Ok(()),
    }
}

// ------------------------------------------------------------ errors

fn an_error(outcome: &Outcome) -> Result<&Value, String> {
    match &outcome.reply {
        Reply::Err(error) | Reply::Cancelled(Some(error)) => Ok(error),
        other => Err(format!("expected an error, got {}", show(other))),
    }
}

fn check_error(name: &str, expect: &Map<String, Value>, outcome: &Outcome) -> Check {
    let table = schema().error(name).ok_or_else(|| format!("there is no error {name:?} in errors.toml"))?;
    let error = an_error(outcome).map_err(|_| format!("expected {name}, got {}", show(&outcome.reply)))?;
    if error["name"] != *name {
        return Err(format!("expected {name}, got {}", show(&outcome.reply)));
    }
    consistent(error, table)?;
    error_fields(error, expect)
}

/// What the table fixes for an error holds for every client.
fn consistent(error: &Value, table: &ErrorCode) -> Check {
    let fixed = [
        ("code", Value::from(table.code)),
        ("class", Value::from(table.class.clone())),
        ("retriable", Value::from(table.retriable)),
    ];
    for (key, wanted) in fixed {
        matches(&wanted, &error[key], key)?;
    }
    match table.maybe_applied.as_str() {
        "no" => matches(&false.into(), &error["maybe_applied"], "maybe_applied"),
        "yes" => matches(&true.into(), &error["maybe_applied"], "maybe_applied"),
        _ => Ok(()),
    }
}

fn error_fields(error: &Value, expect: &Map<String, Value>) -> Check {
    for (key, wanted) in expect.iter().filter(|(key, _)| ERROR_KEYS.contains(&key.as_str())) {
        if key == "native" {
            // One of the type and its bases.
            let names = error["native"].as_array().cloned().unwrap_or_default();
            if !names.contains(wanted) {
                return Err(format!("native: expected {wanted} among {}", error["native"]));
            }
            continue;
        }
        matches(wanted, &error[key], key)?;
    }
    Ok(())
}

/// A reply in few words.
pub fn show(reply: &Reply) -> String {
    match reply {
        Reply::Ok(ok) => format!("ok {ok:.300}", ok = ok.to_string()),
        Reply::Err(error) => {
            let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
            match text("name").as_str() {
                "" => format!("error {error}"),
                name => format!("{name}: {}", text("message")),
            }
        }
        Reply::Cancelled(Some(error)) => format!("cancelled with {}", error["name"]),
        Reply::Cancelled(None) => "cancelled".to_owned(),
        Reply::Unsupported(feature) => format!("unsupported: {feature}"),
        Reply::AdapterError(text) => format!("adapter error: {text}"),
    }
}

// ------------------------------------------------------------ matching

/// Matches by subset. Numbers and their decimal text are the same.
///
/// # Errors
/// Where and how they differ.
pub fn matches(wanted: &Value, got: &Value, place: &str) -> Check {
    let differ = || Err(format!("{place}: expected {wanted}, got {got:.300}", got = got.to_string()));
    match wanted {
        Value::Object(map) => match special(map) {
            Some((key, argument)) => match_special(key, argument, got).then_some(()).ok_or(()).or_else(|()| differ()),
            None => match_fields(map, got, place),
        },
        Value::Array(items) => {
            let got_items = got.as_array().map_or(&[][..], Vec::as_slice);
            if !got.is_array() || items.len() != got_items.len() {
                return differ();
            }
            items
                .iter()
                .zip(got_items)
                .enumerate()
                .try_for_each(|(index, (wanted, got))| matches(wanted, got, &format!("{place}[{index}]")))
        }
        Value::Number(number) => {
            let same = wanted == got || got.as_str().is_some_and(|text| text == number.to_string());
            if same { Ok(()) } else { differ() }
        }
        Value::String(text) => {
            let same = wanted == got || got.as_number().is_some_and(|number| number.to_string() == *text);
            if same { Ok(()) } else { differ() }
        }
        _ => {
            if wanted == got {
                Ok(())
            } else {
                differ()
            }
        }
    }
}

/// Bytes of a message are written in cases as text, digits or generators.
fn match_fields(map: &Map<String, Value>, got: &Value, place: &str) -> Check {
    let is_message = got.get("offset").is_some() && got.get("append_time_us").is_some() && got.get("payload").is_some();
    for (key, wanted) in map {
        let place = format!("{place}.{key}");
        let found = got.get(key).unwrap_or(&Value::Null);
        match key.as_str() {
            "payload" | "key" | "id" if is_message => match_bytes(key, wanted, 0, found, &place)?,
            "headers" if is_message => match_headers(wanted, found, &place)?,
            _ => matches(wanted, found, &place)?,
        }
    }
    Ok(())
}

fn match_bytes(key: &str, wanted: &Value, more: u64, got: &Value, place: &str) -> Check {
    let is_bytes = match wanted {
        Value::String(_) => true,
        Value::Object(map) => ["hex", "base64", "gen"].iter().any(|key| map.contains_key(*key)),
        _ => false,
    };
    if !is_bytes {
        return matches(wanted, got, place);
    }
    let bytes = values::bytes(wanted, more)?;
    let summary = if key == "payload" { values::payload_summary(&bytes) } else { encode(&bytes).into() };
    matches(&summary, got, place).map_err(|_| format!("{place}: expected {wanted}{}, got {got}", plus(more)))
}

fn plus(more: u64) -> String {
    if more == 0 { String::new() } else { format!(" with index + {more}") }
}

fn match_headers(wanted: &Value, got: &Value, place: &str) -> Check {
    let Value::Array(items) = wanted else { return matches(wanted, got, place) };
    let items = items.iter().map(values::header_to_wire).collect::<Result<Vec<_>, _>>()?;
    matches(&Value::Array(items), got, place)
}

const SPECIAL: &[&str] =
    &["any", "absent", "at_least", "at_most", "above", "below", "one_of", "contains", "starts_with", "size", "not"];

/// A map of exactly one key that names a comparison.
fn special(map: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (key, argument) = map.iter().next()?;
    (map.len() == 1 && SPECIAL.contains(&key.as_str())).then_some((key.as_str(), argument))
}

fn match_special(key: &str, argument: &Value, got: &Value) -> bool {
    let numbers = || Some((as_i128(argument)?, as_i128(got)?));
    match key {
        "any" => !got.is_null(),
        "absent" => got.is_null(),
        "at_least" => numbers().is_some_and(|(limit, got)| limit <= got),
        "at_most" => numbers().is_some_and(|(limit, got)| got <= limit),
        "above" => numbers().is_some_and(|(limit, got)| limit < got),
        "below" => numbers().is_some_and(|(limit, got)| got < limit),
        "one_of" => argument.as_array().is_some_and(|items| items.iter().any(|item| matches(item, got, "").is_ok())),
        "contains" => match got {
            Value::Array(items) => items.iter().any(|item| matches(argument, item, "").is_ok()),
            Value::String(text) => argument.as_str().is_some_and(|part| text.contains(part)),
            _ => false,
        },
        "starts_with" => got.as_str().zip(argument.as_str()).is_some_and(|(text, start)| text.starts_with(start)),
        "size" => got.as_array().is_some_and(|items| Some(items.len() as u64) == as_u64(argument)),
        "not" => matches(argument, got, "").is_err(),
        _ => false,
    }
}

fn as_i128(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

// ------------------------------------------------------------ messages and receipts

/// Within a partition offsets only grow, whatever a case says about them.
pub fn check_order(messages: &[Value]) -> Check {
    let mut last: Vec<(u64, u64)> = Vec::new();
    for message in messages {
        let (Some(partition), Some(offset)) = (as_u64(&message["partition"]), as_u64(&message["offset"])) else {
            return Err(format!("a message without partition or offset: {message}"));
        };
        match last.iter_mut().find(|(known, _)| *known == partition) {
            Some((_, before)) if offset <= *before => {
                return Err(format!("partition {partition}: offset {offset} comes after offset {before}"));
            }
            Some((_, before)) => *before = offset,
            None => last.push((partition, offset)),
        }
    }
    Ok(())
}

fn check_messages(wanted: &Value, messages: &[Value]) -> Check {
    let Value::Object(map) = wanted else { return Err(format!("`messages` is a map, not {wanted}")) };
    let known = ["count", "offsets", "payload", "key", "each", "list", "partitions"];
    if let Some(unknown) = map.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("`messages` has no key {unknown:?}"));
    }
    if let Some(count) = map.get("count") {
        matches(count, &messages.len().into(), "count of messages")?;
    }
    if let Some(offsets) = map.get("offsets") {
        let wanted = range(offsets)?;
        let got: Vec<u64> = messages.iter().filter_map(|message| as_u64(&message["offset"])).collect();
        if wanted != got {
            return Err(format!("expected offsets {offsets}, got {}", show_offsets(&got)));
        }
    }
    for key in ["payload", "key"] {
        let Some(wanted) = map.get(key) else { continue };
        for (index, message) in messages.iter().enumerate() {
            match_bytes(key, wanted, index as u64, &message[key], &format!("message {index}: {key}"))?;
        }
    }
    for (index, message) in messages.iter().enumerate() {
        if let Some(wanted) = map.get("each") {
            matches(wanted, message, &format!("message {index}"))?;
        }
    }
    if let Some(Value::Array(list)) = map.get("list") {
        if list.len() != messages.len() {
            return Err(format!("expected {} messages, got {}", list.len(), messages.len()));
        }
        for (index, (wanted, message)) in list.iter().zip(messages).enumerate() {
            matches(wanted, message, &format!("message {index}"))?;
        }
    }
    if let Some(wanted) = map.get("partitions") {
        let mut seen: Vec<u64> = messages.iter().filter_map(|message| as_u64(&message["partition"])).collect();
        seen.sort_unstable();
        seen.dedup();
        matches(wanted, &seen.into(), "partitions")?;
    }
    Ok(())
}

/// `"0..9"` with both ends, a list, or one number.
fn range(value: &Value) -> Result<Vec<u64>, String> {
    let bad = || format!("offsets are \"first..last\" or a list, not {value}");
    match value {
        Value::String(text) => {
            let (first, last) = text.split_once("..").ok_or_else(bad)?;
            let (first, last): (u64, u64) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
            Ok((first..=last).collect())
        }
        Value::Array(items) => items.iter().map(|item| as_u64(item).ok_or_else(bad)).collect(),
        other => Ok(vec![as_u64(other).ok_or_else(bad)?]),
    }
}

fn show_offsets(offsets: &[u64]) -> String {
    match offsets {
        [] => "none".to_owned(),
        [first, .., last] if last - first + 1 == offsets.len() as u64 => format!("{first}..{last}"),
        short if short.len() <= 20 => format!("{short:?}"),
        long => format!("{} of them, {:?}…", long.len(), &long[..20]),
    }
}

/// `receipts: {message_count: sum, each: …, base_offset: of the first}`.
fn check_receipts(wanted: &Value, ok: &Value) -> Check {
    let Value::Object(map) = wanted else { return Err(format!("`receipts` is a map, not {wanted}")) };
    let receipts = ok["receipts"].as_array().ok_or_else(|| format!("no list of receipts: {ok}"))?;
    let sum: u64 = receipts.iter().filter_map(|receipt| as_u64(&receipt["message_count"])).sum();
    for (key, wanted) in map {
        match key.as_str() {
            "message_count" => matches(wanted, &sum.into(), "messages in all receipts")?,
            "count" => matches(wanted, &receipts.len().into(), "count of receipts")?,
            "base_offset" => matches(
                wanted,
                &receipts.first().map_or(Value::Null, |first| first["base_offset"].clone()),
                "first base_offset",
            )?,
            "each" => receipts
                .iter()
                .enumerate()
                .try_for_each(|(index, receipt)| matches(wanted, receipt, &format!("receipts[{index}]")))?,
            other => return Err(format!("`receipts` has no key {other:?}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ok(value: Value) -> Outcome {
        Outcome { reply: Reply::Ok(value), messages: Vec::new(), took_ms: 5, scale: 1.0 }
    }

    fn err(value: Value) -> Outcome {
        Outcome { reply: Reply::Err(value), messages: Vec::new(), took_ms: 5, scale: 1.0 }
    }

    fn message(offset: u64, payload: &[u8]) -> Value {
        json!({"partition": 0, "offset": offset.to_string(), "append_time_us": "1", "payload": values::payload_summary(payload),
               "key": encode(b"k"), "headers": []})
    }

    #[test]
    fn numbers_and_their_text_are_the_same_and_other_fields_may_be_anything() {
        assert!(check(Some(&json!({"ok": {"offset": 5}})), &ok(json!({"offset": "5", "partition": 0}))).is_ok());
        assert!(check(Some(&json!({"ok": {"offset": 6}})), &ok(json!({"offset": "5"}))).is_err());
        assert!(check(Some(&json!({"ok": {"gone": null}})), &ok(json!({}))).is_ok());
        assert!(check(Some(&json!({"okay": {}})), &ok(json!({}))).is_err());
    }

    #[test]
    fn an_error_is_held_to_the_table() {
        let told = |class: &str| {
            err(
                json!({"code": 301, "name": "TOPIC_NOT_FOUND", "class": class, "retriable": false, "maybe_applied": false,
                       "native": ["A", "B"], "details": {"topic": "a/b"}}),
            )
        };
        assert!(check(Some(&json!("TOPIC_NOT_FOUND")), &told("not_found")).is_ok());
        assert!(check(Some(&json!("TOPIC_NOT_FOUND")), &told("usage")).is_err());
        assert!(check(Some(&json!("STREAM_NOT_FOUND")), &told("not_found")).is_err());
        assert!(check(Some(&json!({"error": "TOPIC_NOT_FOUND", "native": "B"})), &told("not_found")).is_ok());
        assert!(check(Some(&json!({"error": "TOPIC_NOT_FOUND", "native": "C"})), &told("not_found")).is_err());
        assert!(check(None, &told("not_found")).is_err());
    }

    #[test]
    fn messages_are_compared_by_offset_and_by_what_the_generator_makes() {
        let payload = |index| crate::generate::bytes(crate::generate::Kind::Seq, 0, index, 16);
        let outcome = |messages: Vec<Value>| Outcome { reply: Reply::Ok(json!({})), messages, took_ms: 0, scale: 1.0 };
        let expect =
            json!({"messages": {"offsets": "0..1", "payload": {"gen": "seq", "size": 16}, "each": {"key": "k"}}});
        assert!(check(Some(&expect), &outcome(vec![message(0, &payload(0)), message(1, &payload(1))])).is_ok());
        assert!(check(Some(&expect), &outcome(vec![message(0, &payload(1)), message(1, &payload(0))])).is_err());
        assert!(check(Some(&expect), &outcome(vec![message(0, &payload(0))])).is_err());
        assert!(check_order(&[message(1, b""), message(0, b"")]).is_err());
    }

    #[test]
    fn comparisons_have_names() {
        for (wanted, got, holds) in [
            (json!({"at_least": 5}), json!("5"), true),
            (json!({"above": 5}), json!("5"), false),
            (json!({"one_of": ["a", "b"]}), json!("b"), true),
            (json!({"contains": {"name": "x"}}), json!([{"name": "x", "n": 1}]), true),
            (json!({"size": 2}), json!([1]), false),
            (json!({"any": true}), Value::Null, false),
        ] {
            assert_eq!(matches(&wanted, &got, "x").is_ok(), holds, "{wanted} {got}");
        }
    }

    #[test]
    fn what_is_discouraged_is_told_apart() {
        let expect = json!({"ok": {"a": 1}, "non_strict": {"ok": {"a": 2}}});
        assert_eq!(check(Some(&expect), &ok(json!({"a": 1}))), Ok(Verdict::Met));
        assert!(matches!(check(Some(&expect), &ok(json!({"a": 2}))), Ok(Verdict::NonStrict(_))));
        assert!(check(Some(&expect), &ok(json!({"a": 3}))).is_err());
    }
}
