//! Queues and their events.

use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use levada_core::{BatchReceipt, Error as CoreError, ErrorCode, Result};
use levada_ffi as ffi;
use levada_ffi::{Event as CoreEvent, Output, told};

use crate::abi::{ask, enter, out, timeout, write};
use crate::client::Client;
use crate::consumer::Consumer;
use crate::error::{Content as ErrorContent, Error};
use crate::handle::{Opaque, Shell, get, make, release, usage};
use crate::message::{Receipt, Receipts};
use crate::producer::{Delivery, Producer};
use crate::value::Value;

/// A call made by a `_submit` function has ended.
pub const LEVADA_EVENT_DONE: i32 = 1;
/// A batch of messages taken by levada_producer_try_send is settled.
pub const LEVADA_EVENT_ACKED: i32 = 2;
/// An armed consumer has something to take.
pub const LEVADA_EVENT_READY: i32 = 3;

/// Where outcomes wait for whoever asked for them: one for each loop of the program. Any number of clients may share one.
#[derive(Debug)]
pub struct Queue {
    _opaque: [u8; 0],
}

impl Opaque for Queue {
    type Content = ffi::Queue;
    const MAGIC: u32 = 0x4C56_5100;
    const NAME: &'static str = "levada_queue_t";
}

/// Something a program asked to hear of. What it carries is taken once, or freed with it.
#[derive(Debug)]
pub struct Event {
    _opaque: [u8; 0],
}

pub(crate) struct Content {
    kind: i32,
    token: u64,
    producer: u64,
    tokens: Vec<u64>,
    error: Option<Shell<ErrorContent>>,
    carried: Mutex<Carried>,
}

#[derive(Default)]
struct Carried {
    output: Option<Output>,
    acked: Option<BatchReceipt>,
}

impl Opaque for Event {
    type Content = Content;
    const MAGIC: u32 = 0x4C56_5800;
    const NAME: &'static str = "levada_event_t";
}

impl From<CoreEvent> for Content {
    fn from(event: CoreEvent) -> Content {
        let mut content = Content {
            kind: LEVADA_EVENT_READY,
            token: 0,
            producer: 0,
            tokens: Vec::new(),
            error: None,
            carried: Mutex::default(),
        };
        let mut carried = Carried::default();
        match event {
            CoreEvent::Ready { token } => content.token = token,
            CoreEvent::Done { token, outcome } => {
                (content.kind, content.token) = (LEVADA_EVENT_DONE, token);
                carried.output = content.split(outcome);
            }
            CoreEvent::Acked { producer, outcome, tokens } => {
                (content.kind, content.producer, content.tokens) = (LEVADA_EVENT_ACKED, producer, tokens);
                carried.acked = content.split(outcome);
            }
        }
        content.carried = Mutex::new(carried);
        content
    }
}

impl Content {
    fn split<T>(&mut self, outcome: Result<T>) -> Option<T> {
        outcome.map_err(|error| self.error = Some(Shell::inner::<Error>(error.into()))).ok()
    }

    fn carried(&self) -> MutexGuard<'_, Carried> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the output if `wanted` accepts it, and leaves it otherwise.
    fn take<T>(&self, wanted: impl FnOnce(Output) -> std::result::Result<T, Output>) -> Option<T> {
        let mut carried = self.carried();
        match wanted(carried.output.take()?) {
            Ok(taken) => Some(taken),
            Err(other) => {
                carried.output = Some(other);
                None
            }
        }
    }
}

/// A queue, with its descriptor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_queue_new(queue: *mut *mut Queue, err: *mut *mut Error) -> i32 {
    enter(err, || {
        let place = out(queue, "queue")?;
        let made = ffi::Queue::with_fd();
        let made = made.map_err(|error| CoreError::new(ErrorCode::ClientInternal, format!("eventfd: {error}")))?;
        *place = make::<Queue>(made);
        Ok(())
    })
}

/// A descriptor for poll, epoll or select: readable while events wait, level-triggered. Owned by the queue; do not read or
/// close it. -1 for NULL, and in a child of fork().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_queue_fd(queue: *const Queue) -> i32 {
    ask(-1, || Ok(get(queue)?.fd().unwrap_or(-1)))
}

/// The oldest event, waiting for one at most that long: 0 does not wait, LEVADA_TIMEOUT_DEFAULT waits for ever. NULL if there is
/// none. Free it with levada_event_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_queue_poll(
    queue: *const Queue,
    timeout_ms: i64,
    event: *mut *mut Event,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let place = out(event, "event")?;
        let (queue, timeout) = (get(queue)?, timeout(timeout_ms, None)?);
        let events =
            if timeout.is_some_and(|timeout| timeout.is_zero()) { queue.drain(1) } else { queue.poll(1, timeout) };
        if let Some(event) = events.into_iter().next() {
            *place = make::<Event>(event.into());
        }
        Ok(())
    })
}

/// Closes and frees a queue: what waits in it is dropped, and outcomes still to come are forgotten. No other thread may be
/// polling it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_queue_free(queue: *mut Queue) {
    if let Ok(queue) = get(queue) {
        queue.close();
    }
    release(queue);
}

/// What it is: LEVADA_EVENT_*; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_kind(event: *const Event) -> i32 {
    ask(0, || Ok(get(event)?.kind))
}

/// The token that the call or levada_consumer_arm was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_token(event: *const Event) -> u64 {
    ask(0, || Ok(get(event)?.token))
}

/// 0 if the call succeeded, or the number of its error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_code(event: *const Event) -> i32 {
    ask(0, || Ok(get(event)?.error.as_ref().map_or(0, |error| error.number())))
}

/// The error; NULL if there is none. Borrowed: it lives as long as the event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_error(event: *const Event) -> *const Error {
    ask(std::ptr::null(), || Ok(get(event)?.error.as_ref().map_or(std::ptr::null(), Shell::pointer)))
}

/// Of LEVADA_EVENT_ACKED: the levada_producer_id of the producer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_producer(event: *const Event) -> u64 {
    ask(0, || Ok(get(event)?.producer))
}

/// Of LEVADA_EVENT_ACKED: how many messages, each with its token, are settled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_token_count(event: *const Event) -> usize {
    ask(0, || Ok(get(event)?.tokens.len()))
}

/// Of LEVADA_EVENT_ACKED: the tokens, in order; the offset of message i is that of the receipt plus i. Lives as long as the
/// event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_tokens(event: *const Event) -> *const u64 {
    ask(std::ptr::null(), || Ok(get(event)?.tokens.as_ptr()))
}

/// The receipt of a message that was sent, or of an acknowledged batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_receipt(event: *const Event, receipt: *mut Receipt, err: *mut *mut Error) -> i32 {
    enter(err, || {
        let carried = get(event)?.carried();
        match (&carried.output, &carried.acked) {
            (Some(Output::Receipt(given)), _) => write(receipt, &Receipt::from(*given)),
            (_, Some(given)) => write(receipt, &Receipt::from(*given)),
            _ => Err(usage("event", "this event carries no receipt")),
        }
    })
}

/// Takes the client of levada_client_open_submit; NULL if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_take_client(event: *mut Event) -> *mut Client {
    ask(null_mut(), || {
        let taken = get(event)?.take(|output| match output {
            Output::Client(client) => Ok(client),
            other => Err(other),
        });
        Ok(taken.map_or(null_mut(), make::<Client>))
    })
}

/// Takes the producer of levada_producer_open_submit; NULL if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_take_producer(event: *mut Event) -> *mut Producer {
    ask(null_mut(), || {
        let taken = get(event)?.take(|output| match output {
            Output::Producer(producer) => Ok(producer),
            other => Err(other),
        });
        Ok(match taken {
            Some(producer) => make::<Producer>(producer.try_into()?),
            None => null_mut(),
        })
    })
}

/// Takes the consumer of levada_consumer_open_submit; NULL if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_take_consumer(event: *mut Event) -> *mut Consumer {
    ask(null_mut(), || {
        let taken = get(event)?.take(|output| match output {
            Output::Consumer(consumer) => Ok(consumer),
            other => Err(other),
        });
        Ok(match taken {
            Some(consumer) => make::<Consumer>(consumer.try_into()?),
            None => null_mut(),
        })
    })
}

/// Takes the delivery of levada_producer_enqueue_submit; NULL if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_take_delivery(event: *mut Event) -> *mut Delivery {
    ask(null_mut(), || {
        let taken = get(event)?.take(|output| match output {
            Output::Delivery(delivery) => Ok(delivery),
            other => Err(other),
        });
        Ok(taken.map_or(null_mut(), make::<Delivery>))
    })
}

/// Takes the receipts of levada_producer_send_batch_submit or levada_producer_send_packed_submit; NULL if there are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_take_receipts(event: *mut Event) -> *mut Receipts {
    ask(null_mut(), || {
        let taken = get(event)?.take(|output| match output {
            Output::Receipts(receipts) => Ok(receipts),
            other => Err(other),
        });
        Ok(taken.map_or(null_mut(), make::<Receipts>))
    })
}

/// Takes the answer of levada_client_call_submit; NULL if the call gives none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_take_value(event: *mut Event) -> *mut Value {
    ask(null_mut(), || {
        let taken = get(event)?.take(|output| match output {
            Output::Value(value) => Ok(value),
            Output::Change(change) => Ok(told(change)),
            other => Err(other),
        });
        Ok(taken.map_or(null_mut(), |value| make::<Value>(value.into())))
    })
}

/// Frees an event, with all it carries that was not taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_event_free(event: *mut Event) {
    release(event);
}
