//! Received batches.
use crate::message::Header;
use bytes::Bytes;

/// What [`Consumer::try_take`](crate::Consumer::try_take) gives.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Batches, in order per partition.
    pub batches: Vec<Batch>,
    /// Whether more is ready.
    pub more: bool,
}

/// Messages of one partition, consecutive in the log: a slice of the bytes received.
#[derive(Clone, Debug)]
pub struct Batch {}

impl Batch {
    /// Their partition.
    pub fn partition(&self) -> u32 {
        0
    }
    /// Offset of the first message.
    pub fn first_offset(&self) -> u64 {
        0
    }
    /// Offset after the last message.
    pub fn next_offset(&self) -> u64 {
        0
    }
    /// How many messages.
    pub fn message_count(&self) -> usize {
        0
    }
    /// When they were appended, in microseconds since the Unix epoch.
    pub fn append_time_us(&self) -> i64 {
        0
    }
    /// The messages, borrowed.
    pub fn messages(&self) -> Messages<'_> {
        Messages { batch: self }
    }
}

/// The messages of a [`Batch`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    batch: &'a Batch,
}

impl<'a> Iterator for Messages<'a> {
    type Item = ReceivedRef<'a>;
    fn next(&mut self) -> Option<ReceivedRef<'a>> {
        let _ = self.batch;
        None
    }
}

/// A message of a batch, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedRef<'a> {
    /// Its offset.
    pub offset: u64,
    /// When it happened, in microseconds since the Unix epoch.
    pub timestamp_us: i64,
    /// What it says; absent differs from empty.
    pub payload: Option<&'a [u8]>,
    /// What it is about.
    pub key: Option<&'a [u8]>,
    /// The application's own identity.
    pub id: Option<[u8; 16]>,
}

impl ReceivedRef<'_> {
    /// Its headers, in order.
    pub fn headers(&self) -> Vec<Header> {
        Vec::new()
    }
}

/// A message of a batch, which keeps the batch's bytes alive.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedMessage {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// When it happened, in microseconds since the Unix epoch.
    pub timestamp_us: i64,
    /// When it was appended, in microseconds since the Unix epoch.
    pub append_time_us: i64,
    /// What it says; absent differs from empty.
    pub payload: Option<Bytes>,
    /// What it is about.
    pub key: Option<Bytes>,
    /// The application's own identity.
    pub id: Option<[u8; 16]>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}
