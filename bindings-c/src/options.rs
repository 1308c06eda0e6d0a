//! Options and arguments by their names in api.toml.

use std::borrow::Cow;
use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};

use levada_core::{Named, Result, Value};

use crate::abi::{ask, bytes, enter, numbers, optional_text, text, texts};
use crate::error::Error;
use crate::handle::{Opaque, get, get_optional, make, release, usage};

/// Options, or arguments of a call, by name. Names, types and ranges are those of docs/reference/api.md; an unknown name or a
/// value out of range is an error of the call that is given them (LEVADA_E_CLIENT_USAGE, detail `argument`). Setting a name
/// again replaces what it was. Options are copied by the call and may be used again, changed or freed right after it.
#[derive(Debug)]
pub struct Options {
    _opaque: [u8; 0],
}

impl Opaque for Options {
    type Content = Mutex<Named>;
    const MAGIC: u32 = 0x4C56_4F00;
    const NAME: &'static str = "levada_options_t";
}

fn locked(options: &Mutex<Named>) -> MutexGuard<'_, Named> {
    options.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The options of a caller; none for NULL.
pub(crate) fn named(options: *const Options) -> Result<Named> {
    Ok(get_optional(options)?.map(|options| locked(options).clone()).unwrap_or_default())
}

fn set(
    options: *mut Options,
    name: *const c_char,
    err: *mut *mut Error,
    value: impl FnOnce(&str) -> Result<Value>,
) -> i32 {
    enter(err, || {
        let (options, name) = (get(options)?, text(name, "name")?);
        let value = value(name)?;
        let mut named = locked(options);
        match named.iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = value,
            None => named.push((Cow::Owned(name.to_owned()), value)),
        }
        Ok(())
    })
}

/// No options yet. Free them with levada_options_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_new() -> *mut Options {
    make::<Options>(Mutex::default())
}

/// Sets text, a value of an enum, a path, or a position: `earliest`, `latest`, `offset(5)`, `timestamp(1700000000000000)`,
/// `last(3)`. NULL leaves the name to its default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_text(
    options: *mut Options,
    name: *const c_char,
    value: *const c_char,
    err: *mut *mut Error,
) -> i32 {
    set(options, name, err, |name| {
        Ok(optional_text(value, name)?.map_or(Value::Null, |text| Value::Text(text.to_owned())))
    })
}

/// Sets a number: a count, a size in bytes, a duration in milliseconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_int(
    options: *mut Options,
    name: *const c_char,
    value: i64,
    err: *mut *mut Error,
) -> i32 {
    set(options, name, err, |_| Ok(Value::I64(value)))
}

/// Sets a number that may be larger than what levada_options_set_int takes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_uint(
    options: *mut Options,
    name: *const c_char,
    value: u64,
    err: *mut *mut Error,
) -> i32 {
    set(options, name, err, |_| Ok(Value::U64(value)))
}

/// Sets a floating point number; durations may have fractions of a millisecond.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_double(
    options: *mut Options,
    name: *const c_char,
    value: f64,
    err: *mut *mut Error,
) -> i32 {
    set(options, name, err, |_| Ok(Value::F64(value)))
}

/// Sets yes or no.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_bool(
    options: *mut Options,
    name: *const c_char,
    value: bool,
    err: *mut *mut Error,
) -> i32 {
    set(options, name, err, |_| Ok(Value::Bool(value)))
}

/// Sets bytes; NULL leaves the name to its default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_bytes(
    options: *mut Options,
    name: *const c_char,
    data: *const u8,
    len: usize,
    err: *mut *mut Error,
) -> i32 {
    set(options, name, err, |name| {
        let bytes = bytes(data, len, name)?;
        Ok(bytes.map_or(Value::Null, |bytes| Value::Bytes(bytes::Bytes::copy_from_slice(bytes))))
    })
}

/// Sets a list of partitions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_partitions(
    options: *mut Options,
    name: *const c_char,
    partitions: *const u32,
    count: usize,
    err: *mut *mut Error,
) -> i32 {
    set(options, name, err, |name| {
        let partitions = numbers(partitions, count, name)?;
        Ok(Value::List(partitions.iter().map(|partition| Value::U64(u64::from(*partition))).collect()))
    })
}

/// Sets a list of texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_texts(
    options: *mut Options,
    name: *const c_char,
    values: *const *const c_char,
    count: usize,
    err: *mut *mut Error,
) -> i32 {
    set(options, name, err, |name| Ok(Value::List(texts(values, count, name)?.into_iter().map(Value::Text).collect())))
}

/// Sets a position of a kind that has a number: `offset`, `timestamp` (in microseconds since the Unix epoch) or `last`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_position(
    options: *mut Options,
    name: *const c_char,
    kind: *const c_char,
    value: u64,
    err: *mut *mut Error,
) -> i32 {
    set(options, name, err, |_| {
        let kind = Value::Text(text(kind, "kind")?.to_owned());
        Ok(Value::Record(vec![("kind".into(), kind), ("value".into(), Value::U64(value))]))
    })
}

/// Adds the position of one partition to those of a name (`partition_from`), as text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_partition_position(
    options: *mut Options,
    name: *const c_char,
    partition: u32,
    position: *const c_char,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let (options, name) = (get(options)?, text(name, "name")?);
        let position = Value::Text(text(position, "position")?.to_owned());
        let key: Cow<'static, str> = Cow::Owned(partition.to_string());
        let mut named = locked(options);
        match named.iter_mut().find(|(known, _)| known == name) {
            Some((_, Value::Record(positions))) => {
                positions.retain(|(known, _)| *known != key);
                positions.push((key, position));
            }
            Some(_) => {
                return Err(usage(name, format!("{name} is set to something that is not positions by partition")));
            }
            None => named.push((Cow::Owned(name.to_owned()), Value::Record(vec![(key, position)]))),
        }
        Ok(())
    })
}

/// Sets options within options, for the arguments of levada_client_call. They are copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_set_options(
    options: *mut Options,
    name: *const c_char,
    value: *const Options,
    err: *mut *mut Error,
) -> i32 {
    set(options, name, err, |_| Ok(Value::Record(named(value)?)))
}

/// How many names are set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_count(options: *const Options) -> usize {
    ask(0, || Ok(locked(get(options)?).len()))
}

/// Frees options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_options_free(options: *mut Options) {
    release(options);
}
