//! The byte form of metadata on disk: little-endian numbers, counted strings and lists. Separate from the wire's on purpose:
//! the two evolve at different times.
//!
//! Every count is checked against the bytes that are left before anything is allocated.

/// Why bytes of metadata cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end inside a value.
    #[error("the bytes end inside a value")]
    Truncated,
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// Text that is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// A byte that stands for nothing.
    #[error("{0} is no value of {1}")]
    UnknownValue(u8, &'static str),
    /// An event this version does not know.
    #[error("event kind {kind} version {version} is unknown: it was written by a newer version")]
    UnknownEvent {
        /// Its kind.
        kind: u16,
        /// Its version.
        version: u16,
    },
    /// A snapshot this version does not know.
    #[error("snapshot version {0} is unknown: it was written by a newer version")]
    UnknownSnapshot(u16),
}

/// Bytes being read.
#[derive(Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next `count` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CodecError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// With the number of bytes left.
    pub fn finish(&self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError::Trailing(self.0.len())) }
    }
}

/// A value with a byte form.
pub trait Stored: Sized {
    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads it.
    ///
    /// # Errors
    /// Whatever is malformed.
    fn get(input: &mut Input<'_>) -> Result<Self, CodecError>;
}

macro_rules! stored_number {
    ($($number:ty),*) => {$(
        impl Stored for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
                let mut bytes = [0; size_of::<$number>()];
                bytes.copy_from_slice(input.take(size_of::<$number>())?);
                Ok(Self::from_le_bytes(bytes))
            }
        }
    )*};
}
stored_number!(u8, u16, u32, u64, u128, i64);

impl<const N: usize> Stored for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(input.take(N)?);
        Ok(bytes)
    }
}

impl Stored for String {
    fn put(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.len()).expect("texts of metadata are far below 4 GiB: names, hashes");
        length.put(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let length = u32::get(input)? as usize;
        let text = std::str::from_utf8(input.take(length)?).map_err(|_| CodecError::NotUtf8)?;
        Ok(text.to_owned())
    }
}

impl<T: Stored> Stored for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            None => 0u8.put(out),
            Some(value) => {
                1u8.put(out);
                value.put(out);
            }
        }
    }
    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        match u8::get(input)? {
            0 => Ok(None),
            1 => Ok(Some(T::get(input)?)),
            other => Err(CodecError::UnknownValue(other, "an optional value")),
        }
    }
}

impl<T: Stored> Stored for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.len()).expect("lists of metadata are counted with 32 bits: ids are");
        count.put(out);
        for value in self {
            value.put(out);
        }
    }
    fn get(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let count = u32::get(input)? as usize;
        // Every stored value takes a byte at least.
        let mut values = Self::with_capacity(count.min(input.0.len()).min(1024));
        for _ in 0..count {
            values.push(T::get(input)?);
        }
        Ok(values)
    }
}

/// Declares a struct whose byte form is its fields in order.
macro_rules! stored_struct {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $crate::metadata::codec::Stored for $name {
            fn put(&self, _out: &mut Vec<u8>) {
                $($crate::metadata::codec::Stored::put(&self.$field, _out);)*
            }
            fn get(_input: &mut $crate::metadata::codec::Input<'_>) -> Result<Self, $crate::metadata::codec::CodecError> {
                Ok(Self { $($field: $crate::metadata::codec::Stored::get(_input)?,)* })
            }
        }
    };
}
pub(crate) use stored_struct;

/// Something that happened, as the logs of metadata and of groups hold it: u16 kind, u16 version, u32 length, fields. A
/// kind's number and the fields of a version never change; a new field is a new version.
pub trait StoredEvent: Sized {
    /// Its kind and the version of its fields.
    fn kind(&self) -> (u16, u16);
    /// Appends its fields.
    fn put_fields(&self, out: &mut Vec<u8>);
    /// Reads the fields of an event.
    ///
    /// # Errors
    /// Whatever is malformed or unknown.
    fn get_fields(kind: u16, version: u16, input: &mut Input<'_>) -> Result<Self, CodecError>;
}

/// Appends u32 count and events.
pub fn put_events<E: StoredEvent>(events: &[E], out: &mut Vec<u8>) {
    u32::try_from(events.len()).expect("one change is at most the deletion of every topic").put(out);
    for event in events {
        let (kind, version) = event.kind();
        kind.put(out);
        version.put(out);
        let length_at = out.len();
        0u32.put(out);
        event.put_fields(out);
        let length = u32::try_from(out.len() - length_at - 4).expect("a record is below 16 MiB");
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Reads what [`put_events`] wrote, to the end of the input.
///
/// # Errors
/// Whatever is malformed or unknown.
pub fn get_events<E: StoredEvent>(mut input: Input<'_>) -> Result<Vec<E>, CodecError> {
    let count = u32::get(&mut input)?;
    let mut events = Vec::new();
    for _ in 0..count {
        let (kind, version) = (u16::get(&mut input)?, u16::get(&mut input)?);
        let length = u32::get(&mut input)? as usize;
        let mut fields = Input(input.take(length)?);
        events.push(E::get_fields(kind, version, &mut fields)?);
        fields.finish()?;
    }
    input.finish()?;
    Ok(events)
}

/// Declares an enum of events, and a struct for each: `KIND v VERSION Name { fields }`.
macro_rules! stored_events {
    ($(#[$enum_meta:meta])* $events:ident {
        $($(#[$meta:meta])* $kind:literal v $version:literal $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*
    }) => {
        $($crate::metadata::codec::stored_struct! {
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq, Eq)]
            $name { $($(#[$field_meta])* $field: $type,)* }
        })*

        $(#[$enum_meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $events {
            $($(#[$meta])* $name($name),)*
        }

        $(impl From<$name> for $events {
            fn from(event: $name) -> Self {
                Self::$name(event)
            }
        })*

        impl $crate::metadata::codec::StoredEvent for $events {
            fn kind(&self) -> (u16, u16) {
                match self { $(Self::$name(_) => ($kind, $version),)* }
            }
            fn put_fields(&self, out: &mut Vec<u8>) {
                match self { $(Self::$name(event) => $crate::metadata::codec::Stored::put(event, out),)* }
            }
            fn get_fields(
                kind: u16,
                version: u16,
                input: &mut $crate::metadata::codec::Input<'_>,
            ) -> Result<Self, $crate::metadata::codec::CodecError> {
                match (kind, version) {
                    $(($kind, $version) => Ok(Self::$name($crate::metadata::codec::Stored::get(input)?)),)*
                    _ => Err($crate::metadata::codec::CodecError::UnknownEvent { kind, version }),
                }
            }
        }
    };
}
pub(crate) use stored_events;
