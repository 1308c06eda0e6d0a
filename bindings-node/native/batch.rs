//! Batches handed to JavaScript: the body as one `ArrayBuffer`, the table of its messages as another.
//!
//! A body of some size is handed over as it is, without a copy, and lives until the garbage collector has dealt with it. It
//! may be written to from JavaScript, as any memory there; nothing here relies on its contents, parsing checks everything.

use std::fmt;

use bytes::Bytes;
use levada_ffi::Batch;
use napi::Env;
use napi::bindgen_prelude::ArrayBuffer;
use napi_derive::napi;

use crate::value::{self, Js};

/// Bodies smaller than this are copied: an external buffer costs more than that, and keeps the frame it came in.
const MIN_EXTERNAL_BYTES: usize = 16 * 1024;

/// One batch.
#[napi(js_name = "Batch")]
pub struct NativeBatch {
    pub(crate) batch: Batch,
}

impl fmt::Debug for NativeBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeBatch")
    }
}

#[napi]
impl NativeBatch {
    /// Its topic, `stream/topic`.
    #[napi(getter, catch_unwind)]
    pub fn topic(&self) -> &str {
        self.batch.topic()
    }

    /// Number of the partition.
    #[napi(getter, catch_unwind)]
    pub fn partition(&self) -> u32 {
        self.batch.partition()
    }

    /// What the offset deltas of the table count from.
    #[napi(getter, catch_unwind)]
    pub fn base_offset(&self) -> u64 {
        self.batch.base_offset()
    }

    /// When it was appended, in microseconds since the Unix epoch.
    #[napi(getter, catch_unwind)]
    pub fn append_time_us(&self) -> napi::bindgen_prelude::i64n {
        napi::bindgen_prelude::i64n(self.batch.append_time_us())
    }

    /// Where payloads, keys and headers lie.
    #[napi(catch_unwind)]
    pub fn body<'env>(&self, env: &'env Env) -> napi::Result<ArrayBuffer<'env>> {
        body(env, self.batch.bytes())
    }

    /// 40 bytes for each message.
    #[napi(catch_unwind)]
    pub fn table<'env>(&self, env: &'env Env) -> napi::Result<ArrayBuffer<'env>> {
        ArrayBuffer::copy_from(env, self.batch.table())
    }

    /// Headers of a message: `[name, kind, value, …]`.
    #[napi(catch_unwind)]
    pub fn headers(&self, index: u32) -> Vec<Js> {
        value::headers_to_js(self.batch.headers(index as usize))
    }
}

fn body<'env>(env: &'env Env, bytes: &Bytes) -> napi::Result<ArrayBuffer<'env>> {
    if bytes.len() < MIN_EXTERNAL_BYTES {
        return ArrayBuffer::copy_from(env, bytes);
    }
    let owner = bytes.clone();
    let (start, length) = (owner.as_ptr().cast_mut(), owner.len());
    // SAFETY: `owner` keeps the memory, which does not move, until the buffer's finalizer has run.
    unsafe { ArrayBuffer::from_external(env, start, length, owner, |_, owner| drop(owner)) }
}
