//! Values by name: how options, arguments and results cross into languages that do not see Rust's types.
//!
//! Reading is strict: what is unknown, given twice or of the wrong type is a usage error whose detail `argument` names it. The
//! names and ranges themselves are generated from `api.toml`; nothing here knows one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::messages::Position;

use crate::error::{Error, Result};

/// Options, arguments or fields, each with its name.
pub type Named = Vec<(Cow<'static, str>, Value)>;

/// A value of any language.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Absent.
    #[default]
    Null,
    /// Yes or no.
    Bool(bool),
    /// A signed number.
    I64(i64),
    /// An unsigned number.
    U64(u64),
    /// A number of a language that has no whole ones.
    F64(f64),
    /// Text, or a value of an enum.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// Several of a kind.
    List(Vec<Value>),
    /// Named fields.
    Record(Named),
}

impl Value {
    /// A field of a record.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Record(fields) => fields.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// It, as a whole number from 0 on.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::U64(number) => Some(*number),
            Value::I64(number) => u64::try_from(*number).ok(),
            Value::F64(number) => whole(*number).and_then(|number| u64::try_from(number).ok()),
            _ => None,
        }
    }

    /// It, as a whole number.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::I64(number) => Some(*number),
            Value::U64(number) => i64::try_from(*number).ok(),
            Value::F64(number) => whole(*number),
            _ => None,
        }
    }

    /// It, as text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for a person. Numbers and bytes are not shown: they may be a secret in the wrong place.
    fn brief(&self) -> String {
        match self {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::I64(_) | Value::U64(_) | Value::F64(_) => "that number".to_owned(),
            Value::Text(text) if text.len() <= LONGEST_QUOTE_BYTES => format!("{text:?}"),
            Value::Text(_) => "that text".to_owned(),
            Value::Bytes(_) => "bytes".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Record(_) => "a record".to_owned(),
        }
    }
}

const LONGEST_QUOTE_BYTES: usize = 64;

/// The whole number that a float is, where floats still count in ones.
#[expect(clippy::cast_possible_truncation, reason = "only where it is whole and in range")]
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// What can be read from a value.
pub trait FromValue: Sized {
    /// Reads it; `name` is what the error names.
    ///
    /// # Errors
    /// A usage error if it is something else.
    fn from_value(name: &str, value: Value) -> Result<Self>;
}

/// The error of a value that is not what it should be.
pub(crate) fn unexpected(name: &str, expected: &str, value: &Value) -> Error {
    Error::usage(name, format!("{name} must be {expected}, not {}", value.brief()))
}

/// Named values on their way into options or arguments.
#[derive(Debug)]
pub struct Arguments {
    named: Named,
}

impl Arguments {
    /// Takes values whose names are among `known`.
    ///
    /// # Errors
    /// A usage error for a name that is unknown or given twice.
    pub fn new(named: Named, known: &[&str]) -> Result<Arguments> {
        for (index, (name, _)) in named.iter().enumerate() {
            if !known.contains(&name.as_ref()) {
                let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
                return Err(Error::usage(name, format!("there is no argument {name:?}; known: {known}")));
            }
            if named[..index].iter().any(|(other, _)| other == name) {
                return Err(Error::usage(name, format!("{name} is given twice")));
            }
        }
        Ok(Arguments { named })
    }

    /// The value of that name; absent if it was not given or is null.
    ///
    /// # Errors
    /// A usage error if it is something else.
    pub fn take<T: FromValue>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(at) = self.named.iter().position(|(known, _)| known == name) else {
            return Ok(None);
        };
        match self.named.swap_remove(at).1 {
            Value::Null => Ok(None),
            value => T::from_value(name, value).map(Some),
        }
    }

    /// The value of that name, which must be there.
    ///
    /// # Errors
    /// A usage error if it is not, or is something else.
    pub fn require<T: FromValue>(&mut self, name: &str) -> Result<T> {
        self.take(name)?.ok_or_else(|| Error::usage(name, format!("{name} is missing")))
    }

    /// The options of that name; the defaults if there are none.
    ///
    /// # Errors
    /// A usage error if one of them is unknown or something else.
    pub fn options<T: FromValue>(&mut self, name: &str) -> Result<T> {
        match self.take(name)? {
            Some(options) => Ok(options),
            None => T::from_value(name, Value::Record(Vec::new())),
        }
    }

    /// Puts the value of that name in `place`, which stays as it is if there is none.
    pub(crate) fn set<T: FromValue>(&mut self, name: &str, place: &mut T) -> Result<()> {
        if let Some(value) = self.take(name)? {
            *place = value;
        }
        Ok(())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(name: &str, value: Value) -> Result<Self> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(name, value).map(Some),
        }
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(name: &str, value: Value) -> Result<Self> {
        match value {
            Value::List(items) => items.into_iter().map(|item| T::from_value(name, item)).collect(),
            other => Err(unexpected(name, "a list", &other)),
        }
    }
}

/// A map by partition: a record whose names are numbers.
impl<T: FromValue> FromValue for BTreeMap<u32, T> {
    fn from_value(name: &str, value: Value) -> Result<Self> {
        let Value::Record(fields) = value else {
            return Err(unexpected(name, "a record by partition", &value));
        };
        let mut map = BTreeMap::new();
        for (key, value) in fields {
            let is_decimal = key.bytes().all(|byte| byte.is_ascii_digit());
            let Some(partition) = key.parse().ok().filter(|_| is_decimal) else {
                return Err(Error::usage(name, format!("{name} has {key:?} where the number of a partition is meant")));
            };
            if map.insert(partition, T::from_value(name, value)?).is_some() {
                return Err(Error::usage(name, format!("{name} has partition {partition} twice")));
            }
        }
        Ok(map)
    }
}

impl FromValue for bool {
    fn from_value(name: &str, value: Value) -> Result<Self> {
        match value {
            Value::Bool(value) => Ok(value),
            other => Err(unexpected(name, "true or false", &other)),
        }
    }
}

impl FromValue for String {
    fn from_value(name: &str, value: Value) -> Result<Self> {
        match value {
            Value::Text(text) => Ok(text),
            other => Err(unexpected(name, "text", &other)),
        }
    }
}

impl FromValue for PathBuf {
    fn from_value(name: &str, value: Value) -> Result<Self> {
        match value {
            Value::Text(text) => Ok(PathBuf::from(text)),
            other => Err(unexpected(name, "a path", &other)),
        }
    }
}

impl FromValue for Bytes {
    fn from_value(name: &str, value: Value) -> Result<Self> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Text(text) => Ok(Bytes::from(text)),
            other => Err(unexpected(name, "bytes", &other)),
        }
    }
}

macro_rules! unsigned_from_value {
    ($($kind:ty),*) => { $(
        impl FromValue for $kind {
            fn from_value(name: &str, value: Value) -> Result<Self> {
                let number = value.as_u64().and_then(|number| <$kind>::try_from(number).ok());
                number.ok_or_else(|| unexpected(name, concat!("a whole number of type ", stringify!($kind)), &value))
            }
        }
    )* };
}

unsigned_from_value!(u16, u32, u64, usize);

macro_rules! signed_from_value {
    ($($kind:ty),*) => { $(
        impl FromValue for $kind {
            fn from_value(name: &str, value: Value) -> Result<Self> {
                let number = value.as_i64().and_then(|number| <$kind>::try_from(number).ok());
                number.ok_or_else(|| unexpected(name, concat!("a whole number of type ", stringify!($kind)), &value))
            }
        }
    )* };
}

signed_from_value!(i32, i64);

/// A number of milliseconds.
impl FromValue for Duration {
    fn from_value(name: &str, value: Value) -> Result<Self> {
        let duration = match value {
            Value::F64(ms) => Duration::try_from_secs_f64(ms / 1000.0).ok(),
            ref whole => whole.as_u64().map(Duration::from_millis),
        };
        duration.ok_or_else(|| unexpected(name, "a number of milliseconds, 0 or more", &value))
    }
}

const POSITIONS: &str = "earliest, latest, offset(N), timestamp(MICROSECONDS), last(N) or stored";

/// `earliest`, `latest`, `stored`, `offset(5)`, `timestamp(1700000000000000)`, `last(3)`, or a record of `kind` and `value`.
impl FromValue for Position {
    fn from_value(name: &str, value: Value) -> Result<Self> {
        let position = match &value {
            Value::Text(text) => match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
                Some((kind, number)) => position_from_text(kind, number),
                None => position_of(text, None),
            },
            Value::Record(fields) if fields.iter().all(|(name, _)| name == "kind" || name == "value") => {
                value.get("kind").and_then(Value::as_text).and_then(|kind| match value.get("value") {
                    Some(Value::Text(number)) => position_from_text(kind, number),
                    number => position_of(kind, number),
                })
            }
            _ => None,
        };
        position.ok_or_else(|| unexpected(name, POSITIONS, &value))
    }
}

fn position_from_text(kind: &str, number: &str) -> Option<Position> {
    let digits = number.strip_prefix('-').unwrap_or(number);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = match kind {
        "timestamp" => Value::I64(number.parse().ok()?),
        _ => Value::U64(number.parse().ok()?),
    };
    position_of(kind, Some(&number))
}

fn position_of(kind: &str, number: Option<&Value>) -> Option<Position> {
    Some(match (kind, number) {
        ("earliest", None | Some(Value::Null)) => Position::EARLIEST,
        ("latest", None | Some(Value::Null)) => Position::LATEST,
        ("stored", None | Some(Value::Null)) => Position::STORED,
        ("offset", Some(number)) => Position::offset(number.as_u64()?),
        ("timestamp", Some(number)) => Position::timestamp(number.as_i64()?),
        ("last", Some(number)) => Position::last(number.as_u64()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(value: Value) -> Result<Position> {
        Position::from_value("from", value)
    }

    fn record(fields: &[(&'static str, Value)]) -> Value {
        Value::Record(fields.iter().map(|(name, value)| (Cow::Borrowed(*name), value.clone())).collect())
    }

    #[test]
    fn a_position_is_text_or_a_record() {
        let texts = [
            ("earliest", Position::EARLIEST),
            ("latest", Position::LATEST),
            ("offset(5)", Position::offset(5)),
            ("timestamp(-1700000000000000)", Position::timestamp(-1_700_000_000_000_000)),
            ("last(3)", Position::last(3)),
        ];
        for (text, wanted) in texts {
            assert_eq!(position(Value::Text(text.into())).unwrap(), wanted);
        }
        let text = |text: &str| Value::Text(text.into());
        let records = [
            (record(&[("kind", text("offset")), ("value", text("18446744073709551615"))]), Position::offset(u64::MAX)),
            (record(&[("kind", text("last")), ("value", Value::F64(2.0))]), Position::last(2)),
            (record(&[("value", Value::I64(-1)), ("kind", text("timestamp"))]), Position::timestamp(-1)),
            (record(&[("kind", text("latest")), ("value", Value::Null)]), Position::LATEST),
        ];
        for (value, wanted) in records {
            assert_eq!(position(value).unwrap(), wanted);
        }
    }

    #[test]
    fn what_is_no_position_is_a_usage_error() {
        let texts = [
            "",
            "soon",
            "earliest(1)",
            "offset",
            "offset()",
            "offset(-1)",
            "offset(+1)",
            "last(1",
            "offset(99999999999999999999)",
        ];
        for text in texts {
            let error = position(Value::Text(text.into())).unwrap_err();
            assert_eq!(error.detail("argument"), Some("from"), "{text}");
        }
        for value in
            [Value::I64(5), record(&[]), record(&[("kind", Value::Text("last".into())), ("more", Value::Null)])]
        {
            position(value).unwrap_err();
        }
    }

    #[test]
    fn numbers_of_any_kind_are_taken_where_they_are_exact() {
        for value in [Value::I64(7), Value::U64(7), Value::F64(7.0)] {
            assert_eq!(u32::from_value("n", value.clone()).unwrap(), 7);
            assert_eq!(Duration::from_value("n", value).unwrap(), Duration::from_millis(7));
        }
        for value in [Value::I64(-1), Value::F64(0.5), Value::F64(f64::NAN), Value::U64(1 << 32), Value::Bool(true)] {
            assert_eq!(u32::from_value("n", value).unwrap_err().detail("argument"), Some("n"));
        }
        assert_eq!(Duration::from_value("n", Value::F64(0.5)).unwrap(), Duration::from_micros(500));
        for value in
            [Value::I64(-1), Value::F64(-1.0), Value::F64(f64::INFINITY), Value::F64(f64::NAN), Value::F64(1e300)]
        {
            Duration::from_value("n", value).unwrap_err();
        }
    }

    #[test]
    fn unknown_and_repeated_names_are_usage_errors_and_null_counts_as_absent() {
        let named = |names: &[&'static str]| -> Named {
            names.iter().map(|name| (Cow::Borrowed(*name), Value::Bool(true))).collect()
        };
        assert_eq!(Arguments::new(named(&["c"]), &["a", "b"]).unwrap_err().detail("argument"), Some("c"));
        assert_eq!(Arguments::new(named(&["a", "a"]), &["a"]).unwrap_err().detail("argument"), Some("a"));
        let mut arguments = Arguments::new(vec![("a".into(), Value::Null)], &["a", "b"]).unwrap();
        assert_eq!(arguments.take::<bool>("a").unwrap(), None);
        assert_eq!(arguments.require::<bool>("b").unwrap_err().detail("argument"), Some("b"));
    }

    #[test]
    fn an_error_does_not_show_what_may_be_a_secret() {
        let error = String::from_value("password", Value::U64(31_337)).unwrap_err();
        assert!(!error.to_string().contains("31337"), "{error}");
    }
}
