//! How results become values: plain types here, records and enums in `generated::records`.

use std::time::Duration;

use bytes::Bytes;
use levada::Value;

/// What a language without Rust's types can be given.
pub trait IntoValue {
    /// It, as a value.
    fn into_value(self) -> Value;
}

impl IntoValue for () {
    fn into_value(self) -> Value {
        Value::Null
    }
}

impl IntoValue for bool {
    fn into_value(self) -> Value {
        Value::Bool(self)
    }
}

macro_rules! unsigned_into_value {
    ($($kind:ty),*) => {
        $(impl IntoValue for $kind {
            fn into_value(self) -> Value {
                Value::U64(self.into())
            }
        })*
    };
}

unsigned_into_value!(u8, u16, u32, u64);

impl IntoValue for i64 {
    fn into_value(self) -> Value {
        Value::I64(self)
    }
}

impl IntoValue for String {
    fn into_value(self) -> Value {
        Value::Text(self)
    }
}

impl IntoValue for Bytes {
    fn into_value(self) -> Value {
        Value::Bytes(self)
    }
}

/// Microseconds.
impl IntoValue for Duration {
    fn into_value(self) -> Value {
        Value::I64(i64::try_from(self.as_micros()).unwrap_or(i64::MAX))
    }
}

impl<T: IntoValue> IntoValue for Option<T> {
    fn into_value(self) -> Value {
        self.map_or(Value::Null, T::into_value)
    }
}

impl<T: IntoValue> IntoValue for Vec<T> {
    fn into_value(self) -> Value {
        Value::List(self.into_iter().map(T::into_value).collect())
    }
}
