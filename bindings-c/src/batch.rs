//! Received messages: slices into the batches they came in.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use levada_core::{Header as CoreHeader, Result};
use levada_ffi as ffi;

use crate::abi::{Sized32, Slice, ask, enter, write};
use crate::error::Error;
use crate::handle::{Opaque, get, release, usage};
use crate::message::Header;

/// Messages received together, in order per partition; several threads may read one. All slices of its messages live until
/// levada_batch_free.
#[derive(Debug)]
pub struct Batch {
    _opaque: [u8; 0],
}

impl Opaque for Batch {
    type Content = Content;
    const MAGIC: u32 = 0x4C56_4200;
    const NAME: &'static str = "levada_batch_t";
}

#[derive(Debug, Default)]
pub(crate) struct Content {
    parts: Vec<Part>,
    count: usize,
    more: bool,
    finished: bool,
    /// Headers that were asked for: they are read out of the bytes once, and stay.
    headers: Mutex<BTreeMap<usize, Box<[CoreHeader]>>>,
}

/// Messages of one batch of the core.
#[derive(Debug)]
struct Part {
    batch: ffi::Batch,
    /// Index, in the whole, of the first.
    first: usize,
    /// Its index in its batch.
    skip: usize,
}

impl From<ffi::Taken> for Content {
    fn from(taken: ffi::Taken) -> Content {
        let mut content = Content { more: taken.more, finished: taken.finished, ..Content::default() };
        for batch in taken.batches {
            let count = batch.message_count();
            content.parts.push(Part { batch, first: content.count, skip: 0 });
            content.count += count;
        }
        content
    }
}

impl From<ffi::TakenMessage> for Content {
    fn from(taken: ffi::TakenMessage) -> Content {
        match taken {
            ffi::TakenMessage::Message(batch, skip) => {
                Content { parts: vec![Part { batch, first: 0, skip }], count: 1, more: true, ..Content::default() }
            }
            ffi::TakenMessage::Nothing => Content::default(),
            ffi::TakenMessage::Finished => Content { finished: true, ..Content::default() },
        }
    }
}

impl Content {
    /// The part that has a message, and its index there.
    fn find(&self, index: usize) -> Result<(&Part, usize)> {
        let at = self.parts.partition_point(|part| part.first <= index);
        match at.checked_sub(1).and_then(|at| self.parts.get(at)) {
            Some(part) if index < self.count => Ok((part, part.skip + index - part.first)),
            _ => Err(usage("index", format!("there are {} messages", self.count))),
        }
    }

    fn with_headers<T>(&self, index: usize, use_them: impl FnOnce(&[CoreHeader]) -> Result<T>) -> Result<T> {
        let (part, at) = self.find(index)?;
        let mut known = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        use_them(known.entry(index).or_insert_with(|| part.batch.headers(at).into_boxed_slice()))
    }
}

/// A received message. Begin with LEVADA_MESSAGE_VIEW_INIT, and use it for any number of messages.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MessageView {
    /// sizeof(levada_message_view_t).
    pub struct_size: u32,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// When it happened, in microseconds since the Unix epoch.
    pub timestamp_us: i64,
    /// When it was appended, in microseconds since the Unix epoch.
    pub append_time_us: i64,
    /// What it says; data is NULL where it is absent, which differs from empty.
    pub payload: Slice,
    /// What it is about; data is NULL where it is absent, which differs from empty.
    pub key: Slice,
    /// The sender's own identity, 16 bytes; NULL: none.
    pub id: *const u8,
    /// Its topic, `stream/topic`, without a NUL at the end.
    pub topic: Slice,
}

// SAFETY: begins with its size; numbers and raw pointers only.
unsafe impl Sized32 for MessageView {
    const NAME: &'static str = "levada_message_view_t";
    const FIRST_SIZE: usize = 88;
}

/// How many messages there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_batch_count(batch: *const Batch) -> usize {
    ask(0, || Ok(get(batch)?.count))
}

/// Whether more may be ready: take again before waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_batch_more(batch: *const Batch) -> bool {
    ask(false, || Ok(get(batch)?.more))
}

/// Whether the end asked for by `until_end` is reached.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_batch_finished(batch: *const Batch) -> bool {
    ask(false, || Ok(get(batch)?.finished))
}

/// One of the messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_batch_get(
    batch: *const Batch,
    index: usize,
    message: *mut MessageView,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let (part, at) = get(batch)?.find(index)?;
        let Some(found) = part.batch.message(at) else { return Err(usage("index", "there is no such message")) };
        // The id lies in the bytes of the batch, right before the key.
        let id = found.id.and(id_of(&part.batch, at));
        let view = MessageView {
            struct_size: 0,
            partition: part.batch.partition(),
            offset: found.offset,
            timestamp_us: found.timestamp_us,
            append_time_us: part.batch.append_time_us(),
            payload: Slice::of(found.payload),
            key: Slice::of(found.key),
            id: id.map_or(std::ptr::null(), <[u8]>::as_ptr),
            topic: Slice::of(Some(part.batch.topic().as_bytes())),
        };
        write(message, &view)
    })
}

fn id_of(batch: &ffi::Batch, at: usize) -> Option<&[u8]> {
    let entry = batch.table().get(at * ffi::TABLE_ENTRY_BYTES..)?;
    let key_start = u32::from_le_bytes(entry.get(8..12)?.try_into().ok()?) as usize;
    batch.bytes().get(key_start.checked_sub(16)?..key_start)
}

/// How many headers a message has; 0 beyond the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_batch_header_count(batch: *const Batch, index: usize) -> usize {
    ask(0, || get(batch)?.with_headers(index, |headers| Ok(headers.len())))
}

/// One header of a message, by its place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_batch_header(
    batch: *const Batch,
    index: usize,
    place: usize,
    header: *mut Header,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        get(batch)?.with_headers(index, |headers| {
            let found = headers.get(place);
            let found = found.ok_or_else(|| usage("place", format!("the message has {} headers", headers.len())))?;
            write(header, &Header::of(found))
        })
    })
}

/// Frees a batch, and with it every slice of its messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_batch_free(batch: *mut Batch) {
    release(batch);
}

const _: () = assert!(size_of::<MessageView>() == MessageView::FIRST_SIZE);
