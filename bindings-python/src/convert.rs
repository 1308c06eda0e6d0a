//! Values, messages and outcomes between Python and the core. Nothing here knows what an option or an operation means.

use std::borrow::Cow;

use bytes::Bytes;
use levada::{BatchReceipt, Durability, Header, HeaderValue, Message, Receipt, Value};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};

use crate::errors::usage;

/// Options and arguments by name.
pub(crate) type Named = Vec<(Cow<'static, str>, Value)>;

pub(crate) fn named(options: &Bound<'_, PyDict>) -> PyResult<Named> {
    options.iter().map(|(name, value)| Ok((Cow::Owned(name.extract::<String>()?), to_value(&value)?))).collect()
}

pub(crate) fn to_value(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    Ok(if value.is_none() {
        Value::Null
    } else if let Ok(flag) = value.cast::<PyBool>() {
        Value::Bool(flag.is_true())
    } else if value.is_instance_of::<PyInt>() {
        match value.extract::<i64>() {
            Ok(number) => Value::I64(number),
            Err(_) => Value::U64(wide_integer(value)?),
        }
    } else if let Ok(number) = value.cast::<PyFloat>() {
        Value::F64(number.value())
    } else if let Ok(text) = value.cast::<PyString>() {
        Value::Text(text.to_cow()?.into_owned())
    } else if let Some(bytes) = bytes_like(value)? {
        Value::Bytes(bytes)
    } else if let Ok(record) = value.cast::<PyDict>() {
        let fields =
            record.iter().map(|(name, value)| Ok((Cow::Owned(name.str()?.to_cow()?.into_owned()), to_value(&value)?)));
        Value::Record(fields.collect::<PyResult<_>>()?)
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        Value::List(value.try_iter()?.map(|item| to_value(&item?)).collect::<PyResult<_>>()?)
    } else {
        let kind = value.get_type().name()?.to_string();
        return Err(usage(value.py(), "value", &format!("a {kind} cannot be passed here")));
    })
}

fn wide_integer(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    value.extract::<u64>().map_err(|_| usage(value.py(), "value", "an integer must fit into 64 bits"))
}

pub(crate) fn from_value<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        Value::I64(number) => number.into_pyobject(py)?.into_any(),
        Value::U64(number) => number.into_pyobject(py)?.into_any(),
        Value::F64(number) => PyFloat::new(py, *number).into_any(),
        Value::Text(text) => PyString::new(py, text).into_any(),
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::List(items) => {
            let items = items.iter().map(|item| from_value(py, item)).collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, items)?.into_any()
        }
        Value::Record(fields) => {
            let record = PyDict::new(py);
            for (name, value) in fields {
                record.set_item(name.as_ref(), from_value(py, value)?)?;
            }
            record.into_any()
        }
    })
}

/// Bytes of anything that has them: text is UTF-8. `None` for what has none.
fn bytes_like(value: &Bound<'_, PyAny>) -> PyResult<Option<Bytes>> {
    Ok(if let Ok(bytes) = value.cast::<PyBytes>() {
        Some(Bytes::copy_from_slice(bytes.as_bytes()))
    } else if let Ok(text) = value.cast::<PyString>() {
        Some(Bytes::from(text.to_cow()?.into_owned()))
    } else if let Ok(bytes) = value.cast::<PyByteArray>() {
        Some(Bytes::from(bytes.to_vec()))
    } else if let Ok(buffer) = PyBuffer::<u8>::get(value) {
        Some(Bytes::from(buffer.to_vec(value.py())?))
    } else {
        None
    })
}

fn optional_bytes(value: &Bound<'_, PyAny>, argument: &str) -> PyResult<Option<Bytes>> {
    if value.is_none() {
        return Ok(None);
    }
    let refused = || usage(value.py(), argument, &format!("`{argument}` must be bytes-like, str or None"));
    bytes_like(value)?.map(Some).ok_or_else(refused)
}

fn id(value: &Bound<'_, PyAny>) -> PyResult<Option<[u8; 16]>> {
    let Some(bytes) = optional_bytes(value, "id")? else { return Ok(None) };
    bytes.as_ref().try_into().map(Some).map_err(|_| usage(value.py(), "id", "an id has 16 bytes"))
}

fn integer<'py, T>(value: &Bound<'py, PyAny>, argument: &str) -> PyResult<Option<T>>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    if value.is_none() {
        return Ok(None);
    }
    let refused = || usage(value.py(), argument, &format!("`{argument}` must be an integer in range"));
    value.extract::<T>().map(Some).map_err(|_| refused())
}

/// The parts of a message as Python passes them.
pub(crate) struct Parts<'a, 'py> {
    pub(crate) payload: &'a Bound<'py, PyAny>,
    pub(crate) key: &'a Bound<'py, PyAny>,
    pub(crate) headers: &'a Bound<'py, PyAny>,
    pub(crate) timestamp_us: &'a Bound<'py, PyAny>,
    pub(crate) id: &'a Bound<'py, PyAny>,
    pub(crate) partition: &'a Bound<'py, PyAny>,
    pub(crate) sequence: &'a Bound<'py, PyAny>,
}

impl Parts<'_, '_> {
    pub(crate) fn message(&self) -> PyResult<Message> {
        Ok(Message {
            payload: optional_bytes(self.payload, "payload")?,
            key: optional_bytes(self.key, "key")?,
            headers: headers(self.headers)?,
            timestamp_us: integer::<i64>(self.timestamp_us, "timestamp_us")?,
            id: id(self.id)?,
            partition: integer::<u32>(self.partition, "partition")?,
            sequence: integer::<u64>(self.sequence, "sequence")?,
        })
    }
}

/// An item of a batch: plain bytes, text, `None`, or anything with the attributes of an outgoing message.
pub(crate) fn message_of(item: &Bound<'_, PyAny>) -> PyResult<Message> {
    if item.is_none() {
        return Ok(Message::default());
    }
    if let Some(payload) = bytes_like(item)? {
        return Ok(Message { payload: Some(payload), ..Message::default() });
    }
    let part = |name: &str| {
        item.getattr(name)
            .map_err(|_| usage(item.py(), "messages", "a batch holds bytes-like objects, str, None or OutgoingMessage"))
    };
    // What was written before messages had a sequence has none.
    let sequence = item.getattr_opt("sequence")?.unwrap_or_else(|| item.py().None().into_bound(item.py()));
    Parts {
        payload: &part("payload")?,
        key: &part("key")?,
        headers: &part("headers")?,
        timestamp_us: &part("timestamp_us")?,
        id: &part("id")?,
        partition: &part("partition")?,
        sequence: &sequence,
    }
    .message()
}

fn headers(value: &Bound<'_, PyAny>) -> PyResult<Vec<Header>> {
    if value.is_none() {
        return Ok(Vec::new());
    }
    let pairs = match value.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => value.clone(),
    };
    let refused = || usage(value.py(), "headers", "`headers` must be a mapping or pairs of a name and a value");
    let mut headers = Vec::new();
    for pair in pairs.try_iter().map_err(|_| refused())? {
        let (name, value) = pair?.extract::<(String, Bound<'_, PyAny>)>().map_err(|_| refused())?;
        headers.push(Header { name, value: header_value(&value)? });
    }
    Ok(headers)
}

fn header_value(value: &Bound<'_, PyAny>) -> PyResult<HeaderValue> {
    let py = value.py();
    Ok(if let Ok(flag) = value.cast::<PyBool>() {
        HeaderValue::Bool(flag.is_true())
    } else if value.is_instance_of::<PyInt>() {
        match (value.is_instance(u64_class(py)?)?, value.extract::<i64>()) {
            (false, Ok(number)) => HeaderValue::I64(number),
            _ => HeaderValue::U64(wide_integer(value)?),
        }
    } else if let Ok(number) = value.cast::<PyFloat>() {
        HeaderValue::F64(number.value())
    } else if let Ok(text) = value.cast::<PyString>() {
        HeaderValue::String(text.to_cow()?.into_owned())
    } else if let Some(bytes) = bytes_like(value)? {
        HeaderValue::Bytes(bytes)
    } else {
        return Err(usage(py, "headers", "a header is str, bytes-like, bool, int or float"));
    })
}

/// `levada.U64`: an int that stays unsigned on its way.
fn u64_class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASS.import(py, "levada._values", "U64")
}

pub(crate) fn from_headers<'py>(py: Python<'py>, headers: &[Header]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for header in headers {
        let value = match &header.value {
            HeaderValue::Bool(flag) => PyBool::new(py, *flag).to_owned().into_any(),
            HeaderValue::I64(number) => number.into_pyobject(py)?.into_any(),
            HeaderValue::U64(number) => u64_class(py)?.call1((*number,))?,
            HeaderValue::F64(number) => PyFloat::new(py, *number).into_any(),
            HeaderValue::String(text) => PyString::new(py, text).into_any(),
            HeaderValue::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        };
        dict.set_item(&header.name, value)?;
    }
    Ok(dict)
}

fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Memory => "memory",
        Durability::Disk => "disk",
        Durability::Quorum => "quorum",
    }
}

/// The fields of a receipt, in the order of the record.
pub(crate) type ReceiptFields = (u32, Option<u64>, i64, &'static str, bool, bool);

pub(crate) fn from_receipt(receipt: &Receipt) -> ReceiptFields {
    (
        receipt.partition,
        receipt.offset,
        receipt.append_time_us,
        durability(receipt.durability),
        receipt.duplicate,
        receipt.server_encoded,
    )
}

/// The fields of a batch receipt, in the order of the record.
pub(crate) fn from_batch_receipt(receipt: &BatchReceipt) -> (u32, Option<u64>, u32, i64, &'static str, bool, bool) {
    (
        receipt.partition,
        receipt.base_offset,
        receipt.message_count,
        receipt.append_time_us,
        durability(receipt.durability),
        receipt.duplicate,
        receipt.server_encoded,
    )
}
