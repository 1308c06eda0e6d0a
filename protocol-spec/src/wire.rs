//! The type grammar of control parts in bytes: little-endian numbers, counted strings, lists and optional values, then
//! tagged fields.
//!
//! Owns every read from a received control part, so what it promises holds for every message: nothing is read past the
//! end, every count is checked against the bytes that are left before anything is allocated, and what decoding allocates
//! in all is bounded by `LIST_COST_FACTOR` times the input plus 64 KiB. It must not know any message.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Why a control part cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("{0} bytes are left after the last field")]
    Trailing(usize),
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A byte that must be one of a few values is none of them.
    #[error("{value} is no value of {of}")]
    UnknownValue {
        /// The type the value should have.
        of: &'static str,
        /// What was found.
        value: u8,
    },
    /// Tagged fields are not in ascending order.
    #[error("tag {0:#06x} is out of order")]
    TagOrder(u16),
    /// A tagged field that must be understood is not.
    #[error("tag {0:#06x} must be understood and is not known")]
    UnknownTag(u16),
    /// A list would take far more memory than its bytes.
    #[error("a list is out of proportion to its bytes")]
    TooCostly,
}

/// Tags from here on must be understood by a receiver.
pub const REQUIRED_TAG: u16 = 0x8000;

/// What decoding may allocate for each byte of input: the least that every honest list needs (a topic of a listing takes
/// 31 bytes at least and 120 in memory).
const LIST_COST_FACTOR: usize = 4;
/// What decoding may allocate on top of that.
const LIST_COST_FLOOR_BYTES: usize = 64 * 1024;

/// Stands for a secret in `Debug` output.
pub(crate) struct Redacted;

impl std::fmt::Debug for Redacted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A cursor over a control part.
#[derive(Debug)]
pub struct Reader<'a> {
    source: &'a Bytes,
    at: usize,
    end: usize,
    budget_bytes: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `source`.
    pub(crate) fn new(source: &'a Bytes) -> Self {
        let budget_bytes = source.len().saturating_mul(LIST_COST_FACTOR).saturating_add(LIST_COST_FLOOR_BYTES);
        Self { source, at: 0, end: source.len(), budget_bytes }
    }

    fn remaining(&self) -> usize {
        self.end - self.at
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        if self.remaining() < count {
            return Err(DecodeError::Truncated);
        }
        let taken = &self.source[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// Takes `bytes` from the memory this decoding may use.
    fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.budget_bytes = self.budget_bytes.checked_sub(bytes).ok_or(DecodeError::TooCostly)?;
        Ok(())
    }

    /// Reads the tagged fields and checks that nothing follows. `take` reads the value of a tag it knows and says whether it
    /// does; what a later version appended to the value is skipped.
    pub(crate) fn finish(
        mut self,
        mut take: impl FnMut(u16, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = u16::get(&mut self)?;
        let mut last = None;
        for _ in 0..count {
            let tag = u16::get(&mut self)?;
            if last.is_some_and(|last| tag <= last) {
                return Err(DecodeError::TagOrder(tag));
            }
            last = Some(tag);
            let length = u32::get(&mut self)? as usize;
            if self.remaining() < length {
                return Err(DecodeError::Truncated);
            }
            let (end, outer_end) = (self.at + length, self.end);
            self.end = end;
            if !take(tag, &mut self)? && REQUIRED_TAG <= tag {
                return Err(DecodeError::UnknownTag(tag));
            }
            self.at = end;
            self.end = outer_end;
        }
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}

/// Appends tagged fields, in ascending order, behind their count.
#[derive(Debug)]
pub struct TagWriter<'a> {
    out: &'a mut BytesMut,
    count_at: usize,
    count: u16,
}

impl<'a> TagWriter<'a> {
    pub(crate) fn new(out: &'a mut BytesMut) -> Self {
        let count_at = out.len();
        out.put_u16_le(0);
        Self { out, count_at, count: 0 }
    }

    pub(crate) fn put<T: Wire>(&mut self, tag: u16, value: Option<&T>) {
        let Some(value) = value else { return };
        self.out.put_u16_le(tag);
        put_prefixed(value, self.out);
        self.count += 1;
        self.out[self.count_at..self.count_at + 2].copy_from_slice(&self.count.to_le_bytes());
    }
}

/// A type of the grammar.
pub(crate) trait Wire: Sized {
    /// Appends its bytes.
    fn put(&self, out: &mut BytesMut);
    /// Reads it.
    fn get(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A type that lists hold: structs are preceded by their length there.
pub(crate) trait Element: Wire {
    /// The fewest bytes an element takes in a list.
    const MIN_BYTES: usize;
    /// Appends it as a list does.
    fn put_element(&self, out: &mut BytesMut);
    /// Reads it as a list does.
    fn get_element(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! wire_number {
    ($($kind:ty),*) => {$(
        impl Wire for $kind {
            fn put(&self, out: &mut BytesMut) {
                out.put_slice(&self.to_le_bytes());
            }
            fn get(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_le_bytes(reader.array()?))
            }
        }
        impl Element for $kind {
            const MIN_BYTES: usize = size_of::<Self>();
            fn put_element(&self, out: &mut BytesMut) {
                self.put(out);
            }
            fn get_element(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Self::get(reader)
            }
        }
    )*};
}
wire_number!(u8, u16, u32, u64, i64, f64);

impl Wire for bool {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::get(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::UnknownValue { of: "bool", value }),
        }
    }
}

/// Strings are names and texts for people. One that its u16 length cannot count is cut at a character: a name that long is
/// no valid name either way, and a text loses its end.
impl Wire for String {
    fn put(&self, out: &mut BytesMut) {
        let text = &self[..self.floor_char_boundary(usize::from(u16::MAX))];
        out.put_u16_le(u16::try_from(text.len()).expect("cut to what a u16 counts"));
        out.put_slice(text.as_bytes());
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(u16::get(reader)?);
        let text = std::str::from_utf8(reader.take(length)?).map_err(|_| DecodeError::NotUtf8)?;
        reader.charge(length)?;
        Ok(text.to_owned())
    }
}

impl Element for String {
    const MIN_BYTES: usize = 2;
    fn put_element(&self, out: &mut BytesMut) {
        self.put(out);
    }
    fn get_element(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::get(reader)
    }
}

/// A slice of the received frame. Longer than its u32 counts, it is cut; no frame carries that much.
impl Wire for Bytes {
    fn put(&self, out: &mut BytesMut) {
        let length = u32::try_from(self.len()).unwrap_or(u32::MAX);
        out.put_u32_le(length);
        out.put_slice(&self[..length as usize]);
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = u32::get(reader)? as usize;
        let start = reader.at;
        reader.take(length)?;
        Ok(reader.source.slice(start..start + length))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(self.is_some()));
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::get(reader)? {
            0 => Ok(None),
            1 => Ok(Some(T::get(reader)?)),
            value => Err(DecodeError::UnknownValue { of: "optional", value }),
        }
    }
}

impl<T: Element> Wire for Vec<T> {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32_le(u32::try_from(self.len()).expect("a list in memory has fewer than 2^32 elements"));
        for element in self {
            element.put_element(out);
        }
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = u32::get(reader)? as usize;
        if reader.remaining() / T::MIN_BYTES < count {
            return Err(DecodeError::Truncated);
        }
        reader.charge(count.saturating_mul(size_of::<T>()))?;
        let mut list = Self::with_capacity(count);
        for _ in 0..count {
            list.push(T::get_element(reader)?);
        }
        Ok(list)
    }
}

/// Appends a struct as an element, or the value of a tagged field: its length, then it.
pub(crate) fn put_prefixed<T: Wire>(element: &T, out: &mut BytesMut) {
    let start = out.len();
    out.put_u32_le(0);
    element.put(out);
    let length = u32::try_from(out.len() - start - 4).expect("no value of a frame takes 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads a struct as an element: what a later version appended to it is skipped.
pub(crate) fn get_prefixed<T: Wire>(reader: &mut Reader<'_>) -> Result<T, DecodeError> {
    let length = u32::get(reader)? as usize;
    if reader.remaining() < length {
        return Err(DecodeError::Truncated);
    }
    let (end, outer_end) = (reader.at + length, reader.end);
    reader.end = end;
    let element = T::get(reader)?;
    reader.at = end;
    reader.end = outer_end;
    Ok(element)
}

/// Makes a struct an element of lists.
macro_rules! wire_element {
    ($name:ident) => {
        impl crate::wire::Element for $name {
            const MIN_BYTES: usize = 4;
            fn put_element(&self, out: &mut bytes::BytesMut) {
                crate::wire::put_prefixed(self, out);
            }
            fn get_element(reader: &mut crate::wire::Reader<'_>) -> Result<Self, crate::wire::DecodeError> {
                crate::wire::get_prefixed(reader)
            }
        }
    };
}
pub(crate) use wire_element;

/// Declares an enum of the wire: one byte, unknown values refused.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($value:ident = $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`.")] $value = $number,)*
        }

        impl $name {
            /// Every value, ascending.
            pub const ALL: &[Self] = &[$(Self::$value),*];

            /// Its name in the specification.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$value => $text,)* }
            }

            /// Its byte.
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// The value of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }

        impl TryFrom<u8> for $name {
            type Error = crate::wire::DecodeError;
            fn try_from(value: u8) -> Result<Self, Self::Error> {
                match value {
                    $($number => Ok(Self::$value),)*
                    value => Err(crate::wire::DecodeError::UnknownValue { of: stringify!($name), value }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl crate::wire::Wire for $name {
            fn put(&self, out: &mut bytes::BytesMut) {
                self.code().put(out);
            }
            fn get(reader: &mut crate::wire::Reader<'_>) -> Result<Self, crate::wire::DecodeError> {
                Self::try_from(u8::get(reader)?)
            }
        }
    };
}
pub(crate) use wire_enum;
