//! Messages on their way out: an owned form, a borrowed form, and the trait by which plain bytes pass for either.

use bytes::Bytes;
use levada_protocol::batch::{Header, HeaderValue};

/// A message to produce.
///
/// ```
/// use levada::{HeaderValue, Message};
///
/// let message = Message::new("{\"flight\": 1545}").key("UA").header("delay", HeaderValue::I64(2));
/// assert_eq!(message.payload.as_deref(), Some(b"{\"flight\": 1545}".as_slice()));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// What it says; absent differs from empty.
    pub payload: Option<Bytes>,
    /// What it is about: messages of one key keep their order.
    pub key: Option<Bytes>,
    /// Named values, in order; names are unique.
    pub headers: Vec<Header>,
    /// When it happened, in microseconds since the Unix epoch; absent: when it is handed over.
    pub timestamp_us: Option<i64>,
    /// An identity of the application's own.
    pub id: Option<[u8; 16]>,
    /// The partition it must go to; absent: by key, or any.
    pub partition: Option<u32>,
    /// Its number, for a producer with external sequences: above that of every message before it in its partition.
    pub sequence: Option<u64>,
}

impl Message {
    /// A message of that payload.
    pub fn new(payload: impl Into<Bytes>) -> Message {
        Message { payload: Some(payload.into()), ..Message::default() }
    }

    /// A message without payload, which differs from an empty one.
    pub fn without_payload() -> Message {
        Message::default()
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Message {
        self.key = Some(key.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: HeaderValue) -> Message {
        self.headers.push(Header { name: name.into(), value });
        self
    }

    /// Sets the time, in microseconds since the Unix epoch.
    #[must_use]
    pub fn timestamp_us(mut self, timestamp_us: i64) -> Message {
        self.timestamp_us = Some(timestamp_us);
        self
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: [u8; 16]) -> Message {
        self.id = Some(id);
        self
    }

    /// Sets its number, for a producer with external sequences.
    #[must_use]
    pub fn sequence(mut self, sequence: u64) -> Message {
        self.sequence = Some(sequence);
        self
    }

    /// Sets the partition.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Message {
        self.partition = Some(partition);
        self
    }
}

/// A message to produce, borrowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageRef<'a> {
    /// As in [`Message`].
    pub payload: Option<&'a [u8]>,
    /// As in [`Message`].
    pub key: Option<&'a [u8]>,
    /// As in [`Message`].
    pub headers: &'a [Header],
    /// As in [`Message`].
    pub timestamp_us: Option<i64>,
    /// As in [`Message`].
    pub id: Option<[u8; 16]>,
    /// As in [`Message`].
    pub partition: Option<u32>,
    /// As in [`Message`].
    pub sequence: Option<u64>,
}

/// What can be produced: a [`Message`], or plain bytes as the payload.
pub trait AsMessage {
    /// It, as a message.
    fn as_message(&self) -> MessageRef<'_>;
}

impl AsMessage for Message {
    fn as_message(&self) -> MessageRef<'_> {
        MessageRef {
            payload: self.payload.as_deref(),
            key: self.key.as_deref(),
            headers: &self.headers,
            timestamp_us: self.timestamp_us,
            id: self.id,
            partition: self.partition,
            sequence: self.sequence,
        }
    }
}

impl AsMessage for MessageRef<'_> {
    fn as_message(&self) -> MessageRef<'_> {
        *self
    }
}

impl<M: AsMessage + ?Sized> AsMessage for &M {
    fn as_message(&self) -> MessageRef<'_> {
        (**self).as_message()
    }
}

macro_rules! bytes_as_message {
    ($($name:ty),*) => {
        $(impl AsMessage for $name {
            fn as_message(&self) -> MessageRef<'_> {
                MessageRef { payload: Some(self.as_ref()), ..MessageRef::default() }
            }
        })*
    };
}

bytes_as_message!([u8], Vec<u8>, Bytes, str, String);

impl<const N: usize> AsMessage for [u8; N] {
    fn as_message(&self) -> MessageRef<'_> {
        MessageRef { payload: Some(self), ..MessageRef::default() }
    }
}
