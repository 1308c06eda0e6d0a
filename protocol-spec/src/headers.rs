//! Headers of a message: an ordered list of unique UTF-8 names with typed values.
//!
//! u16 count, then each: u8 length and name, u8 type, value. No headers are no bytes at all, never a count of 0.

use bytes::Bytes;

use crate::limits::MAX_HEADERS_BYTES;

/// A header.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// 1 to 255 bytes, unique in its message.
    pub name: String,
    /// Its value.
    pub value: HeaderValue,
}

/// Value of a header.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue {
    /// UTF-8, at most 65,535 bytes.
    String(String),
    /// At most 65,535 bytes.
    Bytes(Bytes),
    /// A truth value.
    Bool(bool),
    /// A signed number.
    I64(i64),
    /// An unsigned number.
    U64(u64),
    /// A floating point number, bit for bit.
    F64(f64),
}

/// Value of a header in received bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeaderValueRef<'a> {
    /// UTF-8.
    String(&'a str),
    /// Any bytes.
    Bytes(&'a [u8]),
    /// A truth value.
    Bool(bool),
    /// A signed number.
    I64(i64),
    /// An unsigned number.
    U64(u64),
    /// A floating point number.
    F64(f64),
}

impl Header {
    /// A header.
    pub fn new(name: impl Into<String>, value: HeaderValue) -> Self {
        Self { name: name.into(), value }
    }
}

impl HeaderValueRef<'_> {
    /// A value of its own.
    pub fn to_owned(self) -> HeaderValue {
        match self {
            Self::String(text) => HeaderValue::String(text.to_owned()),
            Self::Bytes(bytes) => HeaderValue::Bytes(Bytes::copy_from_slice(bytes)),
            Self::Bool(value) => HeaderValue::Bool(value),
            Self::I64(value) => HeaderValue::I64(value),
            Self::U64(value) => HeaderValue::U64(value),
            Self::F64(value) => HeaderValue::F64(value),
        }
    }
}

/// Why headers cannot be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The bytes end inside a header, or go on after the last.
    #[error("the header bytes do not end with the last header")]
    Length,
    /// A count of 0, or more headers than a u16 counts.
    #[error("the number of headers is out of range")]
    Count,
    /// A name is empty, too long or not UTF-8.
    #[error("a header name must be 1 to 255 bytes of UTF-8")]
    Name,
    /// A name occurs twice.
    #[error("a header name occurs twice")]
    DuplicateName,
    /// A value's type is unknown, or its bytes do not suit the type.
    #[error("a header value is malformed")]
    Value,
    /// All headers together are over the limit.
    #[error("headers take {0} bytes, over the limit of {MAX_HEADERS_BYTES}")]
    TooLarge(usize),
}

const STRING: u8 = 0;
const BYTES: u8 = 1;
const BOOL: u8 = 2;
const I64: u8 = 3;
const U64: u8 = 4;
const F64: u8 = 5;

/// Appends headers to `out`; nothing for none.
///
/// # Errors
/// Without a trace in `out`.
pub fn encode(headers: &[Header], out: &mut Vec<u8>) -> Result<(), HeaderError> {
    let start = out.len();
    let result = encode_unchecked(headers, out).and_then(|()| check(&out[start..]));
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn encode_unchecked(headers: &[Header], out: &mut Vec<u8>) -> Result<(), HeaderError> {
    if headers.is_empty() {
        return Ok(());
    }
    let start = out.len();
    let count = u16::try_from(headers.len()).map_err(|_| HeaderError::Count)?;
    out.extend_from_slice(&count.to_le_bytes());
    for header in headers {
        out.push(u8::try_from(header.name.len()).map_err(|_| HeaderError::Name)?);
        out.extend_from_slice(header.name.as_bytes());
        match &header.value {
            HeaderValue::String(text) => put_counted(out, STRING, text.as_bytes())?,
            HeaderValue::Bytes(bytes) => put_counted(out, BYTES, bytes)?,
            HeaderValue::Bool(value) => out.extend_from_slice(&[BOOL, u8::from(*value)]),
            HeaderValue::I64(value) => put_number(out, I64, value.to_le_bytes()),
            HeaderValue::U64(value) => put_number(out, U64, value.to_le_bytes()),
            HeaderValue::F64(value) => put_number(out, F64, value.to_le_bytes()),
        }
        if MAX_HEADERS_BYTES < out.len() - start {
            return Err(HeaderError::TooLarge(out.len() - start));
        }
    }
    Ok(())
}

fn put_counted(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) -> Result<(), HeaderError> {
    let length = u16::try_from(bytes.len()).map_err(|_| HeaderError::TooLarge(bytes.len()))?;
    out.push(kind);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_number(out: &mut Vec<u8>, kind: u8, bytes: [u8; 8]) {
    out.push(kind);
    out.extend_from_slice(&bytes);
}

/// Headers in received bytes, read one by one; the first error ends them.
#[derive(Debug, Clone)]
pub struct HeaderRefs<'a> {
    rest: &'a [u8],
    left: usize,
    broken: Option<HeaderError>,
}

/// Reads encoded headers in order.
pub fn iterate(bytes: &[u8]) -> HeaderRefs<'_> {
    match bytes {
        [] => HeaderRefs { rest: bytes, left: 0, broken: None },
        [low, high, rest @ ..] if [*low, *high] != [0, 0] => {
            HeaderRefs { rest, left: usize::from(u16::from_le_bytes([*low, *high])), broken: None }
        }
        _ => HeaderRefs { rest: &[], left: 0, broken: Some(HeaderError::Count) },
    }
}

impl<'a> HeaderRefs<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HeaderError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(HeaderError::Length)?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<[u8; 8], HeaderError> {
        let mut out = [0; 8];
        out.copy_from_slice(self.take(8)?);
        Ok(out)
    }

    fn counted(&mut self) -> Result<&'a [u8], HeaderError> {
        let length = self.take(2)?;
        self.take(usize::from(u16::from_le_bytes([length[0], length[1]])))
    }

    fn header(&mut self) -> Result<(&'a str, HeaderValueRef<'a>), HeaderError> {
        let length = usize::from(self.take(1)?[0]);
        let name = std::str::from_utf8(self.take(length)?).map_err(|_| HeaderError::Name)?;
        if name.is_empty() {
            return Err(HeaderError::Name);
        }
        let value = match self.take(1)?[0] {
            STRING => HeaderValueRef::String(std::str::from_utf8(self.counted()?).map_err(|_| HeaderError::Value)?),
            BYTES => HeaderValueRef::Bytes(self.counted()?),
            BOOL => match self.take(1)?[0] {
                0 => HeaderValueRef::Bool(false),
                1 => HeaderValueRef::Bool(true),
                _ => return Err(HeaderError::Value),
            },
            I64 => HeaderValueRef::I64(i64::from_le_bytes(self.number()?)),
            U64 => HeaderValueRef::U64(u64::from_le_bytes(self.number()?)),
            F64 => HeaderValueRef::F64(f64::from_le_bytes(self.number()?)),
            _ => return Err(HeaderError::Value),
        };
        if self.left == 1 && !self.rest.is_empty() {
            return Err(HeaderError::Length);
        }
        Ok((name, value))
    }
}

impl<'a> Iterator for HeaderRefs<'a> {
    type Item = Result<(&'a str, HeaderValueRef<'a>), HeaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.broken.take() {
            return Some(Err(error));
        }
        if self.left == 0 {
            return None;
        }
        let item = self.header();
        self.left = if item.is_ok() { self.left - 1 } else { 0 };
        Some(item)
    }
}

/// Headers fewer than this are compared pairwise for equal names; more are sorted.
const PAIRWISE_COUNT: usize = 16;

/// Checks encoded headers: their layout, and that names are unique.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(bytes: &[u8]) -> Result<(), HeaderError> {
    if MAX_HEADERS_BYTES < bytes.len() {
        return Err(HeaderError::TooLarge(bytes.len()));
    }
    let mut few = [""; PAIRWISE_COUNT];
    let mut count = 0;
    for header in iterate(bytes) {
        let (name, _) = header?;
        if count < PAIRWISE_COUNT {
            if few[..count].contains(&name) {
                return Err(HeaderError::DuplicateName);
            }
            few[count] = name;
        }
        count += 1;
    }
    if PAIRWISE_COUNT < count { check_unique(bytes, count) } else { Ok(()) }
}

/// Sorts the places of the names (two bytes each, so that many tiny headers take little memory) and compares neighbours.
fn check_unique(bytes: &[u8], count: usize) -> Result<(), HeaderError> {
    let mut places = Vec::with_capacity(count);
    let mut headers = iterate(bytes);
    while headers.left > 0 {
        places.push(u16::try_from(bytes.len() - headers.rest.len()).expect("headers take at most 65,535 bytes"));
        headers.header()?;
        headers.left -= 1;
    }
    let name_at = |place: &u16| {
        let at = usize::from(*place);
        &bytes[at + 1..at + 1 + usize::from(bytes[at])]
    };
    places.sort_unstable_by(|a, b| name_at(a).cmp(name_at(b)));
    let twice = places.windows(2).any(|pair| name_at(&pair[0]) == name_at(&pair[1]));
    if twice { Err(HeaderError::DuplicateName) } else { Ok(()) }
}
