//! Answers of control calls: records, lists and plain values, read by name.
//!
//! A tree is copied once into what C can read: text ends with NUL, and every node has an address for as long as the root lives.

use std::borrow::Cow;
use std::ffi::{CString, c_char};
use std::ptr::null;

use levada_core::Value as CoreValue;

use crate::abi::{Slice, ask, c_text, text};
use crate::handle::{Opaque, Shell, get, release};

/// Absent.
pub const LEVADA_KIND_NULL: i32 = 0;
/// Yes or no.
pub const LEVADA_KIND_BOOL: i32 = 1;
/// A signed number.
pub const LEVADA_KIND_I64: i32 = 2;
/// An unsigned number.
pub const LEVADA_KIND_U64: i32 = 3;
/// A floating point number.
pub const LEVADA_KIND_F64: i32 = 4;
/// Text, or a value of an enum.
pub const LEVADA_KIND_TEXT: i32 = 5;
/// Bytes.
pub const LEVADA_KIND_BYTES: i32 = 6;
/// Several values.
pub const LEVADA_KIND_LIST: i32 = 7;
/// Named values.
pub const LEVADA_KIND_RECORD: i32 = 8;

/// The answer of a call: a record, a list or a plain value. What a call gives is freed with levada_value_free; what is read
/// out of it is borrowed and lives as long. All accessors take NULL for "absent", so that they can be nested.
#[derive(Debug)]
pub struct Value {
    _opaque: [u8; 0],
}

impl Opaque for Value {
    type Content = Node;
    const MAGIC: u32 = 0x4C56_5600;
    const NAME: &'static str = "levada_value_t";
}

/// A value of a tree.
pub(crate) enum Node {
    Null,
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(CString),
    Bytes(bytes::Bytes),
    List(Vec<Shell<Node>>),
    Record(Vec<(CString, Shell<Node>)>),
}

impl From<CoreValue> for Node {
    fn from(value: CoreValue) -> Node {
        let inner = |value: CoreValue| Shell::inner::<Value>(Node::from(value));
        let named = |(name, value): (Cow<'static, str>, CoreValue)| (c_text(&name), inner(value));
        match value {
            CoreValue::Null => Node::Null,
            CoreValue::Bool(value) => Node::Bool(value),
            CoreValue::I64(value) => Node::I64(value),
            CoreValue::U64(value) => Node::U64(value),
            CoreValue::F64(value) => Node::F64(value),
            CoreValue::Text(value) => Node::Text(c_text(&value)),
            CoreValue::Bytes(value) => Node::Bytes(value),
            CoreValue::List(values) => Node::List(values.into_iter().map(inner).collect()),
            CoreValue::Record(fields) => Node::Record(fields.into_iter().map(named).collect()),
        }
    }
}

impl Node {
    fn kind(&self) -> i32 {
        match self {
            Node::Null => LEVADA_KIND_NULL,
            Node::Bool(_) => LEVADA_KIND_BOOL,
            Node::I64(_) => LEVADA_KIND_I64,
            Node::U64(_) => LEVADA_KIND_U64,
            Node::F64(_) => LEVADA_KIND_F64,
            Node::Text(_) => LEVADA_KIND_TEXT,
            Node::Bytes(_) => LEVADA_KIND_BYTES,
            Node::List(_) => LEVADA_KIND_LIST,
            Node::Record(_) => LEVADA_KIND_RECORD,
        }
    }

    fn at(&self, index: usize) -> Option<&Shell<Node>> {
        match self {
            Node::List(values) => values.get(index),
            Node::Record(fields) => fields.get(index).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// What it is: LEVADA_KIND_*; LEVADA_KIND_NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_kind(value: *const Value) -> i32 {
    ask(LEVADA_KIND_NULL, || Ok(get(value)?.kind()))
}

/// A field of a record; NULL if there is none of that name or this is no record.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_get(value: *const Value, name: *const c_char) -> *const Value {
    ask(null(), || {
        let (value, name) = (get(value)?, text(name, "name")?);
        let Node::Record(fields) = value else { return Ok(null()) };
        let found = fields.iter().find(|(known, _)| known.as_bytes() == name.as_bytes());
        Ok(found.map_or(null(), |(_, value)| value.pointer()))
    })
}

/// How many values a list or fields a record has; 0 for anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_count(value: *const Value) -> usize {
    ask(0, || {
        Ok(match get(value)? {
            Node::List(values) => values.len(),
            Node::Record(fields) => fields.len(),
            _ => 0,
        })
    })
}

/// A value of a list or a field of a record by its place; NULL beyond the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_at(value: *const Value, index: usize) -> *const Value {
    ask(null(), || Ok(get(value)?.at(index).map_or(null(), Shell::pointer)))
}

/// The name of a field of a record by its place; NULL beyond the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_name_at(value: *const Value, index: usize) -> *const c_char {
    ask(null(), || {
        let Node::Record(fields) = get(value)? else { return Ok(null()) };
        Ok(fields.get(index).map_or(null(), |(name, _)| name.as_ptr()))
    })
}

/// Text that ends with NUL; NULL if it is not text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_text(value: *const Value) -> *const c_char {
    ask(null(), || {
        let Node::Text(text) = get(value)? else { return Ok(null()) };
        Ok(text.as_ptr())
    })
}

/// A number; 0 if it is none that fits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_u64(value: *const Value) -> u64 {
    ask(0, || {
        Ok(match get(value)? {
            Node::U64(number) => *number,
            Node::I64(number) => u64::try_from(*number).unwrap_or_default(),
            _ => 0,
        })
    })
}

/// A number; 0 if it is none that fits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_i64(value: *const Value) -> i64 {
    ask(0, || {
        Ok(match get(value)? {
            Node::I64(number) => *number,
            Node::U64(number) => i64::try_from(*number).unwrap_or_default(),
            _ => 0,
        })
    })
}

/// A floating point number; 0 if it is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_f64(value: *const Value) -> f64 {
    ask(0.0, || {
        Ok(match get(value)? {
            Node::F64(number) => *number,
            _ => 0.0,
        })
    })
}

/// Yes or no; no if it is neither.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_bool(value: *const Value) -> bool {
    ask(false, || Ok(matches!(get(value)?, Node::Bool(true))))
}

/// Bytes; absent if it is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_bytes(value: *const Value) -> Slice {
    ask(Slice::ABSENT, || {
        Ok(match get(value)? {
            Node::Bytes(bytes) => Slice::of(Some(bytes)),
            _ => Slice::ABSENT,
        })
    })
}

/// Frees what a call gave, with all that was read out of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_value_free(value: *mut Value) {
    release(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::make;

    #[test]
    fn a_record_is_read_by_name_and_by_place() {
        let record = CoreValue::Record(vec![
            ("name".into(), CoreValue::Text("orders".to_owned())),
            ("partitions".into(), CoreValue::List(vec![CoreValue::U64(7), CoreValue::I64(-7)])),
        ]);
        let root = make::<Value>(record.into());
        // SAFETY: `root` is live until it is freed below.
        unsafe {
            let name = levada_value_text(levada_value_get(root, c"name".as_ptr()));
            assert_eq!(std::ffi::CStr::from_ptr(name), c"orders");
            let list = levada_value_get(root, c"partitions".as_ptr());
            assert_eq!((levada_value_kind(list), levada_value_count(list)), (LEVADA_KIND_LIST, 2));
            assert_eq!(levada_value_u64(levada_value_at(list, 0)), 7);
            assert_eq!(levada_value_i64(levada_value_at(list, 1)), -7);
            assert_eq!(levada_value_u64(levada_value_at(list, 1)), 0, "it does not fit");
            assert!(levada_value_at(list, 2).is_null());
            assert_eq!(levada_value_u64(levada_value_get(levada_value_get(root, c"no".as_ptr()), c"way".as_ptr())), 0);
            levada_value_free(root);
        }
    }
}
