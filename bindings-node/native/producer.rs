//! Producers and deliveries. JavaScript may write to its memory at any time, so that everything is copied before a call returns.

use std::fmt;

use bytes::Bytes;
use levada::{Message, MessageRef};
use levada_ffi::To;
use napi::bindgen_prelude::{Array, Uint8ArraySlice, Uint32ArraySlice};
use napi::{Env, Status};
use napi_derive::napi;

use crate::client::{NativeOperation, duration};
use crate::failure;
use crate::pool;
use crate::value;

/// A producer.
#[napi(js_name = "Producer")]
pub struct NativeProducer {
    producer: levada_ffi::Producer,
    queue: levada_ffi::Queue,
}

impl NativeProducer {
    pub(crate) fn new(producer: levada_ffi::Producer, queue: levada_ffi::Queue) -> Self {
        NativeProducer { producer, queue }
    }

    fn to(&self, token: f64) -> To {
        To::Queue(self.queue.clone(), value::token(token))
    }
}

impl fmt::Debug for NativeProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeProducer")
    }
}

/// A message from `[payload, key, headers, timestampUs, id, partition, sequence]`; what is null is absent.
fn message(parts: &Array<'_>) -> napi::Result<Message> {
    let bytes = |index| -> napi::Result<Option<Bytes>> {
        let value = parts.get::<Option<Uint8ArraySlice<'_>>>(index)?.flatten();
        Ok(value.map(|bytes| Bytes::copy_from_slice(&bytes)))
    };
    let headers = parts.get::<Option<Array<'_>>>(2)?.flatten();
    let timestamp = parts.get::<Option<napi::bindgen_prelude::BigInt>>(3)?.flatten();
    let sequence = parts.get::<Option<napi::bindgen_prelude::BigInt>>(6)?.flatten();
    let id = bytes(4)?.map(|id| <[u8; 16]>::try_from(id.as_ref()));
    Ok(Message {
        payload: bytes(0)?,
        key: bytes(1)?,
        headers: headers.map(|headers| value::headers_from_js(&headers)).transpose()?.unwrap_or_default(),
        timestamp_us: timestamp.map(|timestamp| timestamp.get_i64().0),
        id: id.transpose().map_err(|_| napi::Error::new(Status::InvalidArg, "an id has 16 bytes"))?,
        partition: parts.get::<Option<u32>>(5)?.flatten(),
        sequence: sequence.map(|sequence| sequence.get_u64().1),
    })
}

#[napi]
impl NativeProducer {
    /// Name of the topic.
    #[napi(getter, catch_unwind)]
    pub fn topic(&self, env: Env) -> napi::Result<String> {
        failure::guarded(&env, || Ok(self.producer.topic()?.to_owned()))
    }

    /// How many partitions the topic has.
    #[napi(getter, catch_unwind)]
    pub fn partition_count(&self, env: Env) -> napi::Result<u32> {
        failure::guarded(&env, || self.producer.partition_count())
    }

    /// Takes a message that is nothing but a payload; `token` gets its acknowledgement. False if there is no space.
    #[napi(catch_unwind)]
    pub fn try_send_payload(&self, env: Env, payload: Uint8ArraySlice<'_>, token: f64) -> napi::Result<bool> {
        let message = MessageRef { payload: Some(&payload), ..MessageRef::default() };
        failure::guarded(&env, || taken(self.producer.try_send(message, value::token(token))))
    }

    /// Takes a message; `token` gets its acknowledgement. False if there is no space.
    #[napi(catch_unwind)]
    pub fn try_send(&self, env: Env, parts: Array<'_>, token: f64) -> napi::Result<bool> {
        let message = message(&parts)?;
        let borrowed = levada::AsMessage::as_message(&message);
        failure::guarded(&env, || taken(self.producer.try_send(borrowed, value::token(token))))
    }

    /// Waits for space, then takes the message; `token` gets a delivery.
    #[napi(catch_unwind)]
    pub fn enqueue(&self, env: Env, parts: Array<'_>, token: f64) -> napi::Result<NativeOperation> {
        let message = message(&parts)?;
        failure::guarded(&env, || Ok(self.producer.enqueue(message, self.to(token)).into()))
    }

    /// Sends messages; `token` gets their receipts.
    #[napi(catch_unwind)]
    pub fn send_batch(&self, env: Env, messages: Array<'_>, token: f64) -> napi::Result<NativeOperation> {
        let mut list = Vec::with_capacity(messages.len() as usize);
        for index in 0..messages.len() {
            let parts = messages.get::<Array<'_>>(index)?;
            list.push(message(&parts.ok_or_else(|| napi::Error::from_status(Status::InvalidArg))?)?);
        }
        failure::guarded(&env, || Ok(self.producer.send_batch(list, self.to(token)).into()))
    }

    /// Sends messages that are nothing but payloads, which follow each other in `payloads`; `token` gets their receipts.
    #[napi(catch_unwind)]
    pub fn send_packed(
        &self,
        env: Env,
        payloads: Uint8ArraySlice<'_>,
        lengths: Uint32ArraySlice<'_>,
        token: f64,
    ) -> napi::Result<NativeOperation> {
        let (payloads, lengths) = (pool::copy(&payloads), lengths.to_vec());
        failure::guarded(&env, || Ok(self.producer.send_packed(payloads, lengths, self.to(token)).into()))
    }

    /// Waits until everything taken before is settled.
    #[napi(catch_unwind)]
    pub fn flush(&self, env: Env, token: f64) -> napi::Result<NativeOperation> {
        failure::guarded(&env, || Ok(self.producer.flush(self.to(token)).into()))
    }

    /// Takes no more messages and waits until those taken are settled.
    #[napi(catch_unwind)]
    pub fn close(&self, env: Env, timeout_ms: f64, token: f64) -> napi::Result<NativeOperation> {
        failure::guarded(&env, || Ok(self.producer.close(duration(timeout_ms), self.to(token)).into()))
    }
}

/// Whether a message was taken: a full buffer is an answer, not a failure.
fn taken(outcome: levada::Result<()>) -> levada::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.is(levada::ErrorCode::QueueFull) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The acknowledgement to come of a message.
#[napi(js_name = "Delivery")]
pub struct NativeDelivery {
    delivery: levada_ffi::Delivery,
    queue: levada_ffi::Queue,
}

impl NativeDelivery {
    pub(crate) fn new(delivery: levada_ffi::Delivery, queue: levada_ffi::Queue) -> Self {
        NativeDelivery { delivery, queue }
    }
}

impl fmt::Debug for NativeDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeDelivery")
    }
}

#[napi]
impl NativeDelivery {
    /// `token` gets the receipt.
    #[napi(catch_unwind)]
    pub fn wait(&self, env: Env, token: f64) -> napi::Result<NativeOperation> {
        let to = To::Queue(self.queue.clone(), value::token(token));
        failure::guarded(&env, || Ok(self.delivery.wait(to).into()))
    }
}
