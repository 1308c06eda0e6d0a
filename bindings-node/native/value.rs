//! Values across the boundary: those of the core, and what JavaScript gets for them.
//!
//! Integers of the core become bigint; the TypeScript layer, which knows the types, makes numbers of those that fit. A
//! number of JavaScript is an integer to the core if it has no fraction.

use std::borrow::Cow;

use bytes::Bytes;
use levada::{BatchReceipt, Header, HeaderValue, Receipt, Value};
use levada_ffi::{Named, Output, told};
use napi::bindgen_prelude::{
    Array, BigInt, Float64ArraySlice, FromNapiValue, Null, Object, ToNapiValue, Uint8ArraySlice, i64n,
};
use napi::{Env, JsValue, Status, Unknown, ValueType, sys};

use crate::client::NativeClient;
use crate::consumer::NativeConsumer;
use crate::producer::{NativeDelivery, NativeProducer};

/// Something for JavaScript.
#[derive(Debug)]
pub enum Js {
    /// Nothing at all.
    Undefined,
    /// Absent.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A bigint.
    I64(i64),
    /// A bigint.
    U64(u64),
    /// A string.
    Static(&'static str),
    /// A string.
    Text(String),
    /// A `Uint8Array` of its own.
    Bytes(Bytes),
    /// A `Float64Array`: tokens.
    Numbers(Vec<f64>),
    /// An array.
    List(Vec<Js>),
    /// An object.
    Record(Vec<(Cow<'static, str>, Js)>),
    /// A handle.
    Client(NativeClient),
    /// A handle.
    Producer(NativeProducer),
    /// A handle.
    Consumer(NativeConsumer),
    /// A handle.
    Delivery(NativeDelivery),
}

impl ToNapiValue for Js {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        // SAFETY: `env` is the environment whose thread this is, as the caller promises; it is passed on as it came.
        unsafe {
            match value {
                Js::Undefined => <()>::to_napi_value(env, ()),
                Js::Null => Null::to_napi_value(env, Null),
                Js::Bool(value) => bool::to_napi_value(env, value),
                Js::Number(value) => f64::to_napi_value(env, value),
                Js::I64(value) => i64n::to_napi_value(env, i64n(value)),
                Js::U64(value) => u64::to_napi_value(env, value),
                Js::Static(value) => <&str>::to_napi_value(env, value),
                Js::Text(value) => String::to_napi_value(env, value),
                Js::Bytes(value) => {
                    let array = Uint8ArraySlice::copy_from(&Env::from_raw(env), &value)?;
                    ToNapiValue::to_napi_value(env, array)
                }
                Js::Numbers(value) => {
                    let array = Float64ArraySlice::copy_from(&Env::from_raw(env), &value)?;
                    ToNapiValue::to_napi_value(env, array)
                }
                Js::List(items) => Vec::<Js>::to_napi_value(env, items),
                Js::Record(fields) => {
                    let mut object = Object::new(&Env::from_raw(env))?;
                    for (name, value) in fields {
                        object.set(name, value)?;
                    }
                    ToNapiValue::to_napi_value(env, object)
                }
                Js::Client(value) => NativeClient::to_napi_value(env, value),
                Js::Producer(value) => NativeProducer::to_napi_value(env, value),
                Js::Consumer(value) => NativeConsumer::to_napi_value(env, value),
                Js::Delivery(value) => NativeDelivery::to_napi_value(env, value),
            }
        }
    }
}

/// A value of the core for JavaScript; names of fields stay as they are.
pub(crate) fn to_js(value: Value) -> Js {
    match value {
        Value::Null => Js::Null,
        Value::Bool(value) => Js::Bool(value),
        Value::I64(value) => Js::I64(value),
        Value::U64(value) => Js::U64(value),
        Value::F64(value) => Js::Number(value),
        Value::Text(value) => Js::Text(value),
        Value::Bytes(value) => Js::Bytes(value),
        Value::List(items) => Js::List(items.into_iter().map(to_js).collect()),
        Value::Record(fields) => Js::Record(fields.into_iter().map(|(name, value)| (name, to_js(value))).collect()),
    }
}

fn offset(offset: Option<u64>) -> Js {
    offset.map_or(Js::Null, Js::U64)
}

pub(crate) fn receipt(receipt: &Receipt) -> Js {
    Js::Record(vec![
        (Cow::Borrowed("partition"), Js::Number(f64::from(receipt.partition))),
        (Cow::Borrowed("offset"), offset(receipt.offset)),
        (Cow::Borrowed("appendTimeUs"), Js::I64(receipt.append_time_us)),
        (Cow::Borrowed("durability"), Js::Static(receipt.durability.name())),
        (Cow::Borrowed("duplicate"), Js::Bool(receipt.duplicate)),
        (Cow::Borrowed("serverEncoded"), Js::Bool(receipt.server_encoded)),
    ])
}

pub(crate) fn batch_receipt(receipt: &BatchReceipt) -> Js {
    Js::Record(vec![
        (Cow::Borrowed("partition"), Js::Number(f64::from(receipt.partition))),
        (Cow::Borrowed("baseOffset"), offset(receipt.base_offset)),
        (Cow::Borrowed("messageCount"), Js::Number(f64::from(receipt.message_count))),
        (Cow::Borrowed("appendTimeUs"), Js::I64(receipt.append_time_us)),
        (Cow::Borrowed("durability"), Js::Static(receipt.durability.name())),
        (Cow::Borrowed("duplicate"), Js::Bool(receipt.duplicate)),
        (Cow::Borrowed("serverEncoded"), Js::Bool(receipt.server_encoded)),
    ])
}

/// What an operation came to. Handles made by it answer on `queue`.
pub(crate) fn output(output: Output, queue: &levada_ffi::Queue) -> Js {
    match output {
        Output::Nothing => Js::Undefined,
        Output::Client(client) => Js::Client(NativeClient::new(client, queue.clone())),
        Output::Producer(producer) => Js::Producer(NativeProducer::new(producer, queue.clone())),
        Output::Consumer(consumer) => Js::Consumer(NativeConsumer::new(consumer, queue.clone())),
        Output::Delivery(delivery) => Js::Delivery(NativeDelivery::new(delivery, queue.clone())),
        Output::Value(value) => to_js(value),
        Output::Change(change) => to_js(told(change)),
        Output::Receipt(value) => receipt(&value),
        Output::Receipts(values) => Js::List(values.iter().map(batch_receipt).collect()),
    }
}

/// A token: a non-negative integer of JavaScript.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tokens are counted from 1, far below 2^53"
)]
pub(crate) fn token(number: f64) -> u64 {
    number as u64
}

/// A token as JavaScript counts it.
#[expect(clippy::cast_precision_loss, reason = "tokens are counted from 1, far below 2^53")]
pub(crate) fn number(token: u64) -> f64 {
    token as f64
}

fn wrong(text: &str) -> napi::Error {
    napi::Error::new(Status::InvalidArg, text.to_owned())
}

/// Converts a value whose type has been asked for.
fn cast<T: FromNapiValue>(value: &Unknown<'_>) -> napi::Result<T> {
    // SAFETY: the value is alive in this call, and the conversion checks what Node-API tells about it.
    unsafe { value.cast::<T>() }
}

pub(crate) fn bytes(value: &Unknown<'_>) -> napi::Result<Bytes> {
    Ok(Bytes::copy_from_slice(&cast::<Uint8ArraySlice<'_>>(value)?))
}

/// How deep lists and records may be nested: deeper than any option is.
const MAX_DEPTH: u8 = 16;

/// A value of JavaScript for the core.
pub(crate) fn from_js(value: &Unknown<'_>) -> napi::Result<Value> {
    nested(value, 0)
}

fn nested(value: &Unknown<'_>, depth: u8) -> napi::Result<Value> {
    if depth > MAX_DEPTH {
        return Err(wrong("a value is nested too deeply"));
    }
    Ok(match value.get_type()? {
        ValueType::Undefined | ValueType::Null => Value::Null,
        ValueType::Boolean => Value::Bool(cast(value)?),
        ValueType::Number => number_value(cast(value)?),
        ValueType::BigInt => integer_value(&cast(value)?)?,
        ValueType::String => Value::Text(cast(value)?),
        ValueType::Object if value.is_typedarray()? => Value::Bytes(bytes(value)?),
        ValueType::Object if value.is_array()? => {
            let array: Array<'_> = cast(value)?;
            let mut items = Vec::new();
            for index in 0..array.len() {
                items.push(array.get::<Unknown<'_>>(index)?.map_or(Ok(Value::Null), |item| nested(&item, depth + 1))?);
            }
            Value::List(items)
        }
        ValueType::Object => Value::Record(fields(&cast(value)?, depth + 1)?),
        _ => return Err(wrong("a value is of no type that can be sent")),
    })
}

/// Largest integer that a number of JavaScript holds exactly.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

#[expect(clippy::cast_possible_truncation, reason = "checked to be an integer in range")]
fn number_value(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= MAX_SAFE_INTEGER {
        Value::I64(number as i64)
    } else {
        Value::F64(number)
    }
}

fn integer_value(integer: &BigInt) -> napi::Result<Value> {
    let (signed, lossless) = integer.get_i64();
    if lossless {
        return Ok(Value::I64(signed));
    }
    match integer.get_u64() {
        (false, unsigned, true) => Ok(Value::U64(unsigned)),
        _ => Err(wrong("a bigint has more than 64 bits")),
    }
}

/// The fields of an object that are not undefined, by their names.
pub(crate) fn named(object: &Object<'_>) -> napi::Result<Named> {
    fields(object, 0)
}

fn fields(object: &Object<'_>, depth: u8) -> napi::Result<Named> {
    let mut fields = Vec::new();
    for name in Object::keys(object)? {
        if let Some(value) = object.get::<Unknown<'_>>(&name)? {
            fields.push((Cow::Owned(name), nested(&value, depth)?));
        }
    }
    Ok(fields)
}

/// Kinds of header values, as the TypeScript layer numbers them.
mod kind {
    pub(super) const STRING: u32 = 0;
    pub(super) const BYTES: u32 = 1;
    pub(super) const BOOL: u32 = 2;
    pub(super) const I64: u32 = 3;
    pub(super) const U64: u32 = 4;
    pub(super) const F64: u32 = 5;
}

/// Headers from `[name, kind, value, name, kind, value, …]`.
pub(crate) fn headers_from_js(flat: &Array<'_>) -> napi::Result<Vec<Header>> {
    let missing = || wrong("headers come as name, kind and value");
    let mut headers = Vec::new();
    for index in (0..flat.len()).step_by(3) {
        let name: String = flat.get(index)?.ok_or_else(missing)?;
        let kind: u32 = flat.get(index + 1)?.ok_or_else(missing)?;
        let value: Unknown<'_> = flat.get(index + 2)?.ok_or_else(missing)?;
        headers.push(Header { name, value: header_value(kind, &value)? });
    }
    Ok(headers)
}

fn header_value(kind: u32, value: &Unknown<'_>) -> napi::Result<HeaderValue> {
    Ok(match kind {
        kind::STRING => HeaderValue::String(cast::<String>(value)?),
        kind::BYTES => HeaderValue::Bytes(bytes(value)?),
        kind::BOOL => HeaderValue::Bool(cast(value)?),
        kind::I64 => match cast::<BigInt>(value)?.get_i64() {
            (value, true) => HeaderValue::I64(value),
            _ => return Err(wrong("a header's bigint does not fit i64")),
        },
        kind::U64 => match cast::<BigInt>(value)?.get_u64() {
            (false, value, true) => HeaderValue::U64(value),
            _ => return Err(wrong("a header's bigint does not fit u64")),
        },
        kind::F64 => HeaderValue::F64(cast(value)?),
        _ => return Err(wrong("a header is of no known kind")),
    })
}

/// Headers as `[name, kind, value, name, kind, value, …]`.
pub(crate) fn headers_to_js(headers: Vec<Header>) -> Vec<Js> {
    let mut flat = Vec::with_capacity(headers.len() * 3);
    for header in headers {
        let (kind, value) = match header.value {
            HeaderValue::String(value) => (kind::STRING, Js::Text(value)),
            HeaderValue::Bytes(value) => (kind::BYTES, Js::Bytes(value)),
            HeaderValue::Bool(value) => (kind::BOOL, Js::Bool(value)),
            HeaderValue::I64(value) => (kind::I64, Js::I64(value)),
            HeaderValue::U64(value) => (kind::U64, Js::U64(value)),
            HeaderValue::F64(value) => (kind::F64, Js::Number(value)),
        };
        flat.extend([Js::Text(header.name), Js::Number(f64::from(kind)), value]);
    }
    flat
}
