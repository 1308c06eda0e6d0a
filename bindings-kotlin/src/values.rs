//! Values, headers and messages as they cross.

use bytes::Bytes;
use levada::{BatchReceipt, Receipt};
use levada_ffi::{Header, HeaderValue, Message, Named, Value};

/// An option, an argument or a field of a record.
#[derive(Debug, uniffi::Record)]
pub(crate) struct NativeField {
    name: String,
    value: NativeValue,
}

/// A value of an option, an argument or a result.
#[derive(Debug, uniffi::Enum)]
pub(crate) enum NativeValue {
    /// Absent.
    Absent,
    /// Yes or no.
    Truth { value: bool },
    /// A signed number.
    Signed { value: i64 },
    /// An unsigned number.
    Unsigned { value: u64 },
    /// A floating point number.
    Real { value: f64 },
    /// Text, or a value of an enum.
    Text { value: String },
    /// Bytes.
    Binary { value: Vec<u8> },
    /// Several of a kind.
    Items { values: Vec<NativeValue> },
    /// Named fields.
    Fields { fields: Vec<NativeField> },
}

impl From<NativeValue> for Value {
    fn from(value: NativeValue) -> Self {
        match value {
            NativeValue::Absent => Value::Null,
            NativeValue::Truth { value } => Value::Bool(value),
            NativeValue::Signed { value } => Value::I64(value),
            NativeValue::Unsigned { value } => Value::U64(value),
            NativeValue::Real { value } => Value::F64(value),
            NativeValue::Text { value } => Value::Text(value),
            NativeValue::Binary { value } => Value::Bytes(Bytes::from(value)),
            NativeValue::Items { values } => Value::List(values.into_iter().map(Value::from).collect()),
            NativeValue::Fields { fields } => Value::Record(named(fields)),
        }
    }
}

impl From<Value> for NativeValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => NativeValue::Absent,
            Value::Bool(value) => NativeValue::Truth { value },
            Value::I64(value) => NativeValue::Signed { value },
            Value::U64(value) => NativeValue::Unsigned { value },
            Value::F64(value) => NativeValue::Real { value },
            Value::Text(value) => NativeValue::Text { value },
            Value::Bytes(value) => NativeValue::Binary { value: value.to_vec() },
            Value::List(values) => NativeValue::Items { values: values.into_iter().map(NativeValue::from).collect() },
            Value::Record(fields) => NativeValue::Fields {
                fields: fields
                    .into_iter()
                    .map(|(name, value)| NativeField { name: name.into_owned(), value: value.into() })
                    .collect(),
            },
        }
    }
}

/// Options or arguments in the form of the core.
pub(crate) fn named(fields: Vec<NativeField>) -> Named {
    fields.into_iter().map(|field| (field.name.into(), field.value.into())).collect()
}

/// A header of a message.
#[derive(Debug, uniffi::Record)]
pub(crate) struct NativeHeader {
    name: String,
    value: NativeHeaderValue,
}

/// The value of a header.
#[derive(Debug, uniffi::Enum)]
pub(crate) enum NativeHeaderValue {
    /// Text.
    Text { value: String },
    /// Bytes.
    Binary { value: Vec<u8> },
    /// Yes or no.
    Truth { value: bool },
    /// A signed number.
    Signed { value: i64 },
    /// An unsigned number.
    Unsigned { value: u64 },
    /// A floating point number.
    Real { value: f64 },
}

impl From<NativeHeader> for Header {
    fn from(header: NativeHeader) -> Self {
        let value = match header.value {
            NativeHeaderValue::Text { value } => HeaderValue::String(value),
            NativeHeaderValue::Binary { value } => HeaderValue::Bytes(value.into()),
            NativeHeaderValue::Truth { value } => HeaderValue::Bool(value),
            NativeHeaderValue::Signed { value } => HeaderValue::I64(value),
            NativeHeaderValue::Unsigned { value } => HeaderValue::U64(value),
            NativeHeaderValue::Real { value } => HeaderValue::F64(value),
        };
        Header::new(header.name, value)
    }
}

impl From<Header> for NativeHeader {
    fn from(header: Header) -> Self {
        let value = match header.value {
            HeaderValue::String(value) => NativeHeaderValue::Text { value },
            HeaderValue::Bytes(value) => NativeHeaderValue::Binary { value: value.to_vec() },
            HeaderValue::Bool(value) => NativeHeaderValue::Truth { value },
            HeaderValue::I64(value) => NativeHeaderValue::Signed { value },
            HeaderValue::U64(value) => NativeHeaderValue::Unsigned { value },
            HeaderValue::F64(value) => NativeHeaderValue::Real { value },
        };
        NativeHeader { name: header.name, value }
    }
}

/// Reads headers where a batch's table says they lie.
#[uniffi::export]
fn decode_headers(encoded: Vec<u8>) -> Vec<NativeHeader> {
    levada_ffi::decode_headers(&encoded).into_iter().map(Into::into).collect()
}

/// A message to produce.
#[derive(Debug, uniffi::Record)]
pub(crate) struct NativeMessage {
    payload: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    headers: Vec<NativeHeader>,
    timestamp_us: Option<i64>,
    id: Option<Vec<u8>>,
    partition: Option<u32>,
    sequence: Option<u64>,
}

impl TryFrom<NativeMessage> for Message {
    type Error = levada_ffi::Error;

    fn try_from(message: NativeMessage) -> levada_ffi::Result<Self> {
        let id = message.id.map(|id| <[u8; 16]>::try_from(id).map_err(|_| wrong_id())).transpose()?;
        Ok(Message {
            payload: message.payload.map(Bytes::from),
            key: message.key.map(Bytes::from),
            headers: message.headers.into_iter().map(Header::from).collect(),
            timestamp_us: message.timestamp_us,
            id,
            partition: message.partition,
            sequence: message.sequence,
        })
    }
}

fn wrong_id() -> levada_ffi::Error {
    levada_ffi::Error::new(levada::ErrorCode::ClientUsage, "id must be 16 bytes").with_detail("argument", "id")
}

/// The acknowledgement of a message, or of `message_count` messages with consecutive offsets.
#[derive(Debug, uniffi::Record)]
pub(crate) struct NativeReceipt {
    partition: u32,
    offset: Option<u64>,
    message_count: u32,
    append_time_us: i64,
    durability: String,
    duplicate: bool,
    server_encoded: bool,
}

impl From<Receipt> for NativeReceipt {
    fn from(receipt: Receipt) -> Self {
        NativeReceipt {
            partition: receipt.partition,
            offset: receipt.offset,
            message_count: 1,
            append_time_us: receipt.append_time_us,
            durability: receipt.durability.name().to_owned(),
            duplicate: receipt.duplicate,
            server_encoded: receipt.server_encoded,
        }
    }
}

impl From<BatchReceipt> for NativeReceipt {
    fn from(receipt: BatchReceipt) -> Self {
        NativeReceipt {
            partition: receipt.partition,
            offset: receipt.base_offset,
            message_count: receipt.message_count,
            append_time_us: receipt.append_time_us,
            durability: receipt.durability.name().to_owned(),
            duplicate: receipt.duplicate,
            server_encoded: receipt.server_encoded,
        }
    }
}
