//! Received batches and their messages. A batch is a slice of the frame it came in, or of the buffer it was decompressed
//! into; every message in it was checked when it was taken, so reading cannot fail.

use std::sync::Arc;

use bytes::Bytes;
use levada_protocol::batch::{Header, HeaderValue, MessageRef, MessageRefs, MessageSpan, OpenBatch};
use levada_protocol::headers::{self, HeaderRefs, HeaderValueRef};

use super::inbound::LaneKey;

/// What [`Consumer::try_take`](crate::Consumer::try_take) gives.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Batches, in order per partition.
    pub batches: Vec<Batch>,
    /// Whether more may be ready.
    pub more: bool,
    /// Whether the end asked for by [`ConsumerOptions::until_end`](crate::ConsumerOptions::until_end) is reached.
    pub finished: bool,
}

/// Messages of one partition, consecutive in the log.
///
/// ```no_run
/// # async fn example(consumer: levada::Consumer) -> levada::Result<()> {
/// while let Some(batch) = consumer.next_batch().await? {
///     for message in batch.messages() {
///         println!("{}:{} {:?}", batch.partition(), message.offset, message.payload);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Batch {
    topic: Arc<str>,
    partition: u32,
    /// The consumer's lane it came by, and the life of that lane.
    lane: (usize, u64),
    open: OpenBatch,
    /// Messages before the first and up to the last that are meant.
    skipped_count: u32,
    message_count: u32,
    first_offset: u64,
    next_offset: u64,
}

impl Batch {
    /// The messages of `open` from `position` on, at most `max_messages`, below `until`; `None` if there are none.
    pub(crate) fn of(
        lane: (usize, u64),
        key: &LaneKey,
        open: OpenBatch,
        position: u64,
        max_messages: usize,
        until: Option<u64>,
    ) -> Option<Batch> {
        let header = open.header();
        let base = open.server().base_offset;
        let end = base + u64::from(header.last_offset_delta) + 1;
        let (skipped, wanted) = if header.is_sparse() {
            let below = |offset: u64| {
                open.spans()
                    .filter_map(std::result::Result::ok)
                    .take_while(|span| base + u64::from(span.offset_delta) < offset)
                    .count()
            };
            let skipped = below(position);
            (skipped, until.map_or(header.message_count as usize, &below).saturating_sub(skipped))
        } else {
            let skipped = position.saturating_sub(base).min(u64::from(header.message_count));
            let last = until.unwrap_or(end).clamp(base, end) - base;
            (usize::try_from(skipped).ok()?, usize::try_from(last.saturating_sub(skipped)).ok()?)
        };
        let count = wanted.min(max_messages);
        if count == 0 {
            return None;
        }
        let (first_offset, next_offset) = if header.is_sparse() {
            let mut offsets = open
                .spans()
                .filter_map(std::result::Result::ok)
                .map(|span| base + u64::from(span.offset_delta))
                .skip(skipped);
            let first = offsets.next()?;
            let is_rest = count == wanted && until.is_none_or(|until| end <= until);
            let next = if is_rest { end } else { offsets.take(count - 1).last().unwrap_or(first) + 1 };
            (first, next)
        } else {
            let first = base + skipped as u64;
            (first, first + count as u64)
        };
        Some(Batch {
            topic: Arc::clone(&key.topic),
            partition: key.partition,
            lane,
            open,
            skipped_count: u32::try_from(skipped).ok()?,
            message_count: u32::try_from(count).ok()?,
            first_offset,
            next_offset,
        })
    }

    /// Their topic, `stream/topic`.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Their partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    pub(crate) fn lane(&self) -> (usize, u64) {
        self.lane
    }

    /// Offset of the first message.
    pub fn first_offset(&self) -> u64 {
        self.first_offset
    }

    /// Offset after the last message: where a consumer that has handled them goes on.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// How many messages.
    pub fn message_count(&self) -> usize {
        self.message_count as usize
    }

    /// When they were appended, in microseconds since the Unix epoch.
    pub fn append_time_us(&self) -> i64 {
        self.open.server().append_time_us
    }

    /// Epoch of the partition's leader when they were appended.
    pub fn leader_epoch(&self) -> u32 {
        self.open.server().leader_epoch
    }

    /// Uncompressed bytes of the whole batch these messages belong to; [`Batch::spans`] point into them.
    pub fn bytes(&self) -> &Bytes {
        self.open.body()
    }

    /// Offset that the deltas of [`Batch::spans`] count from.
    pub fn base_offset(&self) -> u64 {
        self.open.server().base_offset
    }

    /// The headers that lie there in [`Batch::bytes`]; none if that is not where a message's headers are.
    pub fn headers_in(&self, range: std::ops::Range<usize>) -> Vec<Header> {
        self.open.body().get(range).map_or_else(Vec::new, |bytes| owned(headers::iterate(bytes)))
    }

    /// Where each message's parts are in [`Batch::bytes`]: for callers that hand a batch on whole.
    pub fn spans(&self) -> impl Iterator<Item = MessageSpan> + '_ {
        self.open
            .spans()
            .filter_map(std::result::Result::ok)
            .skip(self.skipped_count as usize)
            .take(self.message_count as usize)
    }

    /// The messages, borrowed: the fastest way to read them.
    #[inline]
    pub fn messages(&self) -> Messages<'_> {
        let mut refs = self.open.message_refs();
        if self.skipped_count != 0 {
            refs.nth(self.skipped_count as usize - 1);
        }
        Messages { refs, left: self.message_count }
    }

    /// The messages, each sharing the batch's memory.
    pub fn to_messages(&self) -> Vec<ReceivedMessage> {
        self.spans().map(|span| self.message(&span)).collect()
    }

    fn message(&self, span: &MessageSpan) -> ReceivedMessage {
        let body = self.open.body();
        ReceivedMessage {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            offset: self.open.server().base_offset + u64::from(span.offset_delta),
            timestamp_us: span.timestamp_us,
            append_time_us: self.append_time_us(),
            payload: (!span.is_null()).then(|| body.slice(span.payload_range())),
            key: span.has_key().then(|| body.slice(span.key_range())),
            id: span.id_range().and_then(|range| body[range].first_chunk().copied()),
            headers: if span.headers_length == 0 {
                Vec::new()
            } else {
                owned(headers::iterate(&body[span.headers_range()]))
            },
        }
    }
}

/// Headers as they lie in a batch, for languages that have its bytes and not the batch.
#[doc(hidden)]
pub fn decode_headers(bytes: &[u8]) -> Vec<Header> {
    owned(headers::iterate(bytes))
}

fn owned(refs: HeaderRefs<'_>) -> Vec<Header> {
    refs.filter_map(std::result::Result::ok).map(|(name, value)| Header::new(name, value.to_owned())).collect()
}

/// The messages of a [`Batch`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    refs: MessageRefs<'a>,
    left: u32,
}

impl<'a> Iterator for Messages<'a> {
    type Item = ReceivedRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<ReceivedRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        let MessageRef { offset, timestamp_us, id, key, header_bytes, payload } = self.refs.next()?.ok()?;
        Some(ReceivedRef { offset, timestamp_us, payload, key, id: id.copied(), header_bytes })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Messages<'_> {}

/// A message of a batch, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedRef<'a> {
    /// Its offset.
    pub offset: u64,
    /// When it happened, in microseconds since the Unix epoch.
    pub timestamp_us: i64,
    /// What it says; absent differs from empty.
    pub payload: Option<&'a [u8]>,
    /// What it is about; absent differs from empty.
    pub key: Option<&'a [u8]>,
    /// The application's own identity.
    pub id: Option<[u8; 16]>,
    header_bytes: &'a [u8],
}

impl<'a> ReceivedRef<'a> {
    /// Its headers, in order, borrowed.
    pub fn header_refs(&self) -> impl Iterator<Item = (&'a str, HeaderValueRef<'a>)> + use<'a> {
        headers::iterate(self.header_bytes).filter_map(std::result::Result::ok)
    }

    /// Its headers, in order.
    pub fn headers(&self) -> Vec<Header> {
        if self.header_bytes.is_empty() { Vec::new() } else { owned(headers::iterate(self.header_bytes)) }
    }
}

/// A message, which keeps the memory of its batch alive.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedMessage {
    /// Its topic, `stream/topic`.
    pub topic: Arc<str>,
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
    /// What it is about; absent differs from empty.
    pub key: Option<Bytes>,
    /// The application's own identity.
    pub id: Option<[u8; 16]>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

impl ReceivedMessage {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers.iter().find(|header| header.name == name).map(|header| &header.value)
    }
}

impl ReceivedMessage {
    pub(crate) fn of(topic: Arc<str>, partition: u32, message: levada_protocol::batch::Message) -> ReceivedMessage {
        let headers = if message.header_bytes.is_empty() { Vec::new() } else { owned(message.headers()) };
        ReceivedMessage {
            topic,
            partition,
            offset: message.offset,
            timestamp_us: message.timestamp_us,
            append_time_us: message.append_time_us,
            payload: message.payload,
            key: message.key,
            id: message.id,
            headers,
        }
    }
}
