//! Messages on their way out, headers, and receipts.

use std::ffi::c_char;
use std::mem::offset_of;

use levada_core::{
    BatchReceipt, Header as CoreHeader, HeaderValue, Message as CoreMessage, MessageRef, Receipt as CoreReceipt, Result,
};

use crate::abi::{Sized32, ask, bytes, enter, read, read_all, write};
use crate::error::Error;
use crate::handle::{Opaque, get, release, usage};

/// UTF-8 text, in `data` and `len`.
pub const LEVADA_HEADER_STRING: i32 = 1;
/// Bytes, in `data` and `len`.
pub const LEVADA_HEADER_BYTES: i32 = 2;
/// Yes or no, in `boolean`.
pub const LEVADA_HEADER_BOOL: i32 = 3;
/// A signed number, in `i64`.
pub const LEVADA_HEADER_I64: i32 = 4;
/// An unsigned number, in `u64`.
pub const LEVADA_HEADER_U64: i32 = 5;
/// A floating point number, in `f64`.
pub const LEVADA_HEADER_F64: i32 = 6;

/// Of levada_message_t: `timestamp_us` counts. Otherwise the time is when the message is handed over.
pub const LEVADA_MESSAGE_HAS_TIMESTAMP: u32 = 1;
/// Of levada_message_t: `partition` counts. Otherwise the key decides, or any.
pub const LEVADA_MESSAGE_HAS_PARTITION: u32 = 2;
/// Of levada_message_t: `sequence` counts. A producer with `external_sequence` needs it, others refuse it.
pub const LEVADA_MESSAGE_HAS_SEQUENCE: u32 = 4;

/// An acknowledgement means: the server has it in memory.
pub const LEVADA_DURABILITY_MEMORY: i32 = 0;
/// It is on disk.
pub const LEVADA_DURABILITY_DISK: i32 = 1;
/// It is on the disks of a quorum.
pub const LEVADA_DURABILITY_QUORUM: i32 = 2;

/// A named value of a message. Begin with LEVADA_HEADER_INIT. What is given is copied by the call; what is received lives as
/// long as its batch, and its texts do not end with NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// sizeof(levada_header_t).
    pub struct_size: u32,
    /// LEVADA_HEADER_*: which of the values below counts.
    pub kind: i32,
    /// The name: UTF-8, unique within the message.
    pub name: *const c_char,
    /// Its bytes.
    pub name_len: usize,
    /// Of LEVADA_HEADER_STRING and LEVADA_HEADER_BYTES.
    pub data: *const u8,
    /// How many bytes that are.
    pub len: usize,
    /// Of LEVADA_HEADER_I64.
    pub i64: i64,
    /// Of LEVADA_HEADER_U64.
    pub u64: u64,
    /// Of LEVADA_HEADER_F64.
    pub f64: f64,
    /// Of LEVADA_HEADER_BOOL: 0 or 1.
    pub boolean: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

// SAFETY: begins with its size; numbers and raw pointers only.
unsafe impl Sized32 for Header {
    const NAME: &'static str = "levada_header_t";
    const FIRST_SIZE: usize = 72;
}

impl Header {
    pub(crate) fn of(header: &CoreHeader) -> Header {
        let mut shown = Header {
            struct_size: 0,
            kind: 0,
            name: header.name.as_ptr().cast(),
            name_len: header.name.len(),
            data: std::ptr::null(),
            len: 0,
            i64: 0,
            u64: 0,
            f64: 0.0,
            boolean: 0,
            reserved: [0; 7],
        };
        match &header.value {
            HeaderValue::String(text) => shown.bytes(LEVADA_HEADER_STRING, text.as_bytes()),
            HeaderValue::Bytes(bytes) => shown.bytes(LEVADA_HEADER_BYTES, bytes),
            HeaderValue::Bool(value) => (shown.kind, shown.boolean) = (LEVADA_HEADER_BOOL, u8::from(*value)),
            HeaderValue::I64(value) => (shown.kind, shown.i64) = (LEVADA_HEADER_I64, *value),
            HeaderValue::U64(value) => (shown.kind, shown.u64) = (LEVADA_HEADER_U64, *value),
            HeaderValue::F64(value) => (shown.kind, shown.f64) = (LEVADA_HEADER_F64, *value),
        }
        shown
    }

    fn bytes(&mut self, kind: i32, bytes: &[u8]) {
        (self.kind, self.data, self.len) = (kind, bytes.as_ptr(), bytes.len());
    }

    fn take(&self) -> Result<CoreHeader> {
        let utf8 = |data, len, name: &str| {
            let bytes = bytes(data, len, name)?.unwrap_or_default();
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| usage(name, format!("{name} is not UTF-8")))
        };
        let value = match self.kind {
            LEVADA_HEADER_STRING => HeaderValue::String(utf8(self.data, self.len, "header.data")?),
            LEVADA_HEADER_BYTES => {
                let value = bytes(self.data, self.len, "header.data")?.unwrap_or_default();
                HeaderValue::Bytes(bytes::Bytes::copy_from_slice(value))
            }
            LEVADA_HEADER_BOOL => HeaderValue::Bool(self.boolean != 0),
            LEVADA_HEADER_I64 => HeaderValue::I64(self.i64),
            LEVADA_HEADER_U64 => HeaderValue::U64(self.u64),
            LEVADA_HEADER_F64 => HeaderValue::F64(self.f64),
            other => return Err(usage("header.kind", format!("{other} is no kind of header"))),
        };
        Ok(CoreHeader { name: utf8(self.name.cast(), self.name_len, "header.name")?, value })
    }
}

/// A message to produce. Begin with LEVADA_MESSAGE_INIT, which leaves all absent. Calls copy what it points to before they
/// return.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// sizeof(levada_message_t).
    pub struct_size: u32,
    /// LEVADA_MESSAGE_HAS_* of what counts below.
    pub flags: u32,
    /// What it says. NULL: absent, which differs from empty.
    pub payload: *const u8,
    /// Its bytes.
    pub payload_len: usize,
    /// What it is about: messages of one key keep their order. NULL: absent, which differs from empty.
    pub key: *const u8,
    /// Its bytes.
    pub key_len: usize,
    /// Named values, in order.
    pub headers: *const Header,
    /// How many.
    pub header_count: usize,
    /// When it happened, in microseconds since the Unix epoch; see LEVADA_MESSAGE_HAS_TIMESTAMP.
    pub timestamp_us: i64,
    /// An identity of your own, 16 bytes. NULL: none.
    pub id: *const u8,
    /// The partition it must go to; see LEVADA_MESSAGE_HAS_PARTITION.
    pub partition: u32,
    /// Zero.
    pub reserved: u32,
    /// Its number, for a producer with `external_sequence`: above that of every message before it in its partition, gaps
    /// allowed, at most UINT64_MAX - 1; see LEVADA_MESSAGE_HAS_SEQUENCE.
    pub sequence: u64,
}

// SAFETY: begins with its size; numbers and raw pointers only.
unsafe impl Sized32 for Message {
    const NAME: &'static str = "levada_message_t";
    const FIRST_SIZE: usize = 80;
}

const KNOWN_FLAGS: u32 = LEVADA_MESSAGE_HAS_TIMESTAMP | LEVADA_MESSAGE_HAS_PARTITION | LEVADA_MESSAGE_HAS_SEQUENCE;
/// The least size of a message that has `sequence`.
const SIZE_WITH_SEQUENCE: usize = offset_of!(Message, sequence) + size_of::<u64>();

/// Lends a message of the caller.
pub(crate) fn with_message<T>(message: *const Message, use_it: impl FnOnce(MessageRef<'_>) -> Result<T>) -> Result<T> {
    let message = read(message)?;
    let headers = message.headers()?;
    use_it(message.borrowed(&headers)?)
}

/// Messages of the caller, copied.
pub(crate) fn messages(messages: *const Message, count: usize) -> Result<Vec<CoreMessage>> {
    read_all(messages, count)?
        .iter()
        .map(|message| {
            let headers = message.headers()?;
            let borrowed = message.borrowed(&headers)?;
            let owned = |bytes: Option<&[u8]>| bytes.map(bytes::Bytes::copy_from_slice);
            Ok(CoreMessage {
                payload: owned(borrowed.payload),
                key: owned(borrowed.key),
                timestamp_us: borrowed.timestamp_us,
                id: borrowed.id,
                partition: borrowed.partition,
                sequence: borrowed.sequence,
                headers,
            })
        })
        .collect()
}

impl Message {
    fn headers(&self) -> Result<Vec<CoreHeader>> {
        read_all(self.headers, self.header_count)?.iter().map(Header::take).collect()
    }

    fn borrowed<'a>(&self, headers: &'a [CoreHeader]) -> Result<MessageRef<'a>> {
        if self.flags & !KNOWN_FLAGS != 0 {
            return Err(usage("flags", format!("{:#x} has flags that do not exist", self.flags)));
        }
        let has = |flag: u32| self.flags & flag != 0;
        if has(LEVADA_MESSAGE_HAS_SEQUENCE) && (self.struct_size as usize) < SIZE_WITH_SEQUENCE {
            return Err(usage("struct_size", format!("{} bytes hold no sequence: set it to sizeof", self.struct_size)));
        }
        Ok(MessageRef {
            payload: bytes(self.payload, self.payload_len, "payload")?,
            key: bytes(self.key, self.key_len, "key")?,
            headers,
            timestamp_us: has(LEVADA_MESSAGE_HAS_TIMESTAMP).then_some(self.timestamp_us),
            id: bytes(self.id, if self.id.is_null() { 0 } else { 16 }, "id")?.and_then(|id| id.first_chunk().copied()),
            partition: has(LEVADA_MESSAGE_HAS_PARTITION).then_some(self.partition),
            sequence: has(LEVADA_MESSAGE_HAS_SEQUENCE).then_some(self.sequence),
        })
    }
}

/// Where a message went, or where messages of one batch went: `message_count` offsets from `offset` on. Begin with
/// LEVADA_RECEIPT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Receipt {
    /// sizeof(levada_receipt_t).
    pub struct_size: u32,
    /// Their partition.
    pub partition: u32,
    /// Offset of the first, if `has_offset`.
    pub offset: u64,
    /// When they were appended, in microseconds since the Unix epoch; 0 where the offset is unknown.
    pub append_time_us: i64,
    /// How many; 1 for a message sent by itself.
    pub message_count: u32,
    /// What the acknowledgement means: LEVADA_DURABILITY_*.
    pub durability: i32,
    /// 0 if an earlier attempt appended them too long ago to tell their offset.
    pub has_offset: u8,
    /// 1 if an earlier attempt had appended them already.
    pub duplicate: u8,
    /// 1 if the server encoded the batch anew, as the topic asks.
    pub server_encoded: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

// SAFETY: begins with its size; numbers only.
unsafe impl Sized32 for Receipt {
    const NAME: &'static str = "levada_receipt_t";
    const FIRST_SIZE: usize = 40;
}

impl From<CoreReceipt> for Receipt {
    fn from(receipt: CoreReceipt) -> Receipt {
        Receipt {
            partition: receipt.partition,
            offset: receipt.offset.unwrap_or_default(),
            append_time_us: receipt.append_time_us,
            message_count: 1,
            durability: i32::from(receipt.durability.code()),
            has_offset: u8::from(receipt.offset.is_some()),
            duplicate: u8::from(receipt.duplicate),
            server_encoded: u8::from(receipt.server_encoded),
            ..Receipt::default()
        }
    }
}

impl From<BatchReceipt> for Receipt {
    fn from(receipt: BatchReceipt) -> Receipt {
        Receipt {
            partition: receipt.partition,
            offset: receipt.base_offset.unwrap_or_default(),
            append_time_us: receipt.append_time_us,
            message_count: receipt.message_count,
            durability: i32::from(receipt.durability.code()),
            has_offset: u8::from(receipt.base_offset.is_some()),
            duplicate: u8::from(receipt.duplicate),
            server_encoded: u8::from(receipt.server_encoded),
            ..Receipt::default()
        }
    }
}

/// Receipts of messages sent together, in their order.
#[derive(Debug)]
pub struct Receipts {
    _opaque: [u8; 0],
}

impl Opaque for Receipts {
    type Content = Vec<BatchReceipt>;
    const MAGIC: u32 = 0x4C56_5200;
    const NAME: &'static str = "levada_receipts_t";
}

/// How many receipts there are: one for each partition and batch that messages went to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_receipts_count(receipts: *const Receipts) -> usize {
    ask(0, || Ok(get(receipts)?.len()))
}

/// One of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_receipts_at(
    receipts: *const Receipts,
    index: usize,
    receipt: *mut Receipt,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let receipts = get(receipts)?;
        let found =
            receipts.get(index).ok_or_else(|| usage("index", format!("there are {} receipts", receipts.len())))?;
        write(receipt, &Receipt::from(*found))
    })
}

/// Frees receipts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_receipts_free(receipts: *mut Receipts) {
    release(receipts);
}

const _: () = assert!(size_of::<Header>() == Header::FIRST_SIZE);
const _: () = assert!(offset_of!(Message, sequence) == Message::FIRST_SIZE);
const _: () = assert!(size_of::<Receipt>() == Receipt::FIRST_SIZE);
