//! The queue that one thread of the JVM waits on, what comes out of it, and operations under way.

use std::sync::Arc;

use levada_ffi::{Error, Event, Operation, Output, Queue, To, told};

use crate::calls::NativeClient;
use crate::consumer::NativeConsumer;
use crate::failure::NativeFailure;
use crate::producer::{NativeDelivery, NativeProducer};
use crate::values::{NativeReceipt, NativeValue};

/// Where outcomes go.
#[derive(Debug, uniffi::Object)]
pub(crate) struct NativeQueue {
    queue: Queue,
}

/// What happened.
#[derive(Debug, uniffi::Enum)]
pub(crate) enum NativeEvent {
    /// An operation has ended.
    Done { token: u64, outcome: NativeOutcome },
    /// Messages handed over with `try_send` are acknowledged; message `i` has offset `offset + i`.
    Acked { receipt: NativeReceipt, tokens: Vec<u8> },
    /// They are not.
    Lost { failure: NativeFailure, tokens: Vec<u8> },
    /// An armed consumer has something.
    Ready { token: u64 },
}

/// How an operation ended.
#[derive(Debug, uniffi::Enum)]
pub(crate) enum NativeOutcome {
    Failed { failure: NativeFailure },
    Done,
    Client { client: Arc<NativeClient> },
    Producer { producer: Arc<NativeProducer> },
    Consumer { consumer: Arc<NativeConsumer> },
    Delivery { delivery: Arc<NativeDelivery> },
    Result { value: NativeValue },
    Receipt { receipt: NativeReceipt },
    Receipts { receipts: Vec<NativeReceipt> },
}

#[uniffi::export]
impl NativeQueue {
    #[uniffi::constructor]
    fn new() -> Arc<Self> {
        Arc::new(NativeQueue { queue: Queue::new(|| {}) })
    }

    /// The oldest events, at most `max`; waits for the first. None once the queue is shut.
    fn poll(&self, max: u32) -> Vec<NativeEvent> {
        self.queue.poll(max as usize, None).into_iter().map(NativeEvent::from).collect()
    }

    /// Drops what waits and takes no more.
    fn shut(&self) {
        self.queue.close();
    }
}

impl NativeQueue {
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(crate) fn to(&self, token: u64) -> To {
        To::Queue(self.queue.clone(), token)
    }
}

impl From<Event> for NativeEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Done { token, outcome } => NativeEvent::Done { token, outcome: outcome.into() },
            Event::Ready { token } => NativeEvent::Ready { token },
            Event::Acked { outcome, tokens, .. } => {
                let tokens = tokens.into_iter().flat_map(u64::to_be_bytes).collect();
                match outcome {
                    Ok(receipt) => NativeEvent::Acked { receipt: receipt.into(), tokens },
                    Err(error) => NativeEvent::Lost { failure: error.into(), tokens },
                }
            }
        }
    }
}

impl From<Result<Output, Error>> for NativeOutcome {
    fn from(outcome: Result<Output, Error>) -> Self {
        match outcome {
            Err(error) => NativeOutcome::Failed { failure: error.into() },
            Ok(Output::Nothing) => NativeOutcome::Done,
            Ok(Output::Client(client)) => NativeOutcome::Client { client: NativeClient::new(client) },
            Ok(Output::Producer(producer)) => NativeOutcome::Producer { producer: NativeProducer::new(producer) },
            Ok(Output::Consumer(consumer)) => NativeOutcome::Consumer { consumer: NativeConsumer::new(consumer) },
            Ok(Output::Delivery(delivery)) => NativeOutcome::Delivery { delivery: NativeDelivery::new(delivery) },
            Ok(Output::Value(value)) => NativeOutcome::Result { value: value.into() },
            Ok(Output::Change(change)) => NativeOutcome::Result { value: told(change).into() },
            Ok(Output::Receipt(receipt)) => NativeOutcome::Receipt { receipt: receipt.into() },
            Ok(Output::Receipts(receipts)) => {
                NativeOutcome::Receipts { receipts: receipts.into_iter().map(NativeReceipt::from).collect() }
            }
        }
    }
}

/// An operation under way.
#[derive(Debug, uniffi::Object)]
pub(crate) struct NativeOperation {
    operation: Operation,
}

impl NativeOperation {
    pub(crate) fn new(operation: Operation) -> Arc<Self> {
        Arc::new(NativeOperation { operation })
    }
}

#[uniffi::export]
impl NativeOperation {
    /// Gives it up, unless it has ended.
    fn cancel(&self) {
        self.operation.cancel();
    }
}
