//! How an acknowledgement reaches its callers: one completion per batch, shared by the deliveries of its messages.
//!
//! A delivery is a batch and an index; waiting for it holds nothing else. Dropping it only stops waiting.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use levada_protocol::messages::Durability;

use crate::error::{Error, Result};

/// Where a message went, and what its acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its partition.
    pub partition: u32,
    /// Its offset; absent if it was appended by an earlier attempt too long ago to tell.
    pub offset: Option<u64>,
    /// When it was appended, in microseconds since the Unix epoch; 0 where the offset is absent.
    pub append_time_us: i64,
    /// The durability reached.
    pub durability: Durability,
    /// Whether an earlier attempt had appended it already.
    pub duplicate: bool,
    /// Whether the server encoded the batch anew, as the topic asks.
    pub server_encoded: bool,
}

/// Where messages of one batch went: `message_count` offsets from `base_offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchReceipt {
    /// Their partition.
    pub partition: u32,
    /// Offset of the first; absent if they were appended by an earlier attempt too long ago to tell.
    pub base_offset: Option<u64>,
    /// How many.
    pub message_count: u32,
    /// When they were appended, in microseconds since the Unix epoch; 0 where the offset is absent.
    pub append_time_us: i64,
    /// The durability reached.
    pub durability: Durability,
    /// Whether an earlier attempt had appended them already.
    pub duplicate: bool,
    /// Whether the server encoded the batch anew, as the topic asks.
    pub server_encoded: bool,
}

impl BatchReceipt {
    fn part(&self, first: u32, message_count: u32) -> BatchReceipt {
        BatchReceipt { base_offset: self.base_offset.map(|base| base + u64::from(first)), message_count, ..*self }
    }

    fn message(&self, index: u32) -> Receipt {
        Receipt {
            partition: self.partition,
            offset: self.base_offset.map(|base| base + u64::from(index)),
            append_time_us: self.append_time_us,
            durability: self.durability,
            duplicate: self.duplicate,
            server_encoded: self.server_encoded,
        }
    }
}

/// The fate of one batch, settled once.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    outcome: OnceLock<Result<BatchReceipt>>,
    waiting: Mutex<Vec<Waker>>,
}

impl Completion {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        // The list is whole at every point where a panic could leave it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles the batch and wakes whoever waits; a second outcome is ignored.
    pub(crate) fn settle(&self, outcome: Result<BatchReceipt>) {
        if self.outcome.set(outcome).is_ok() {
            let wakers = std::mem::take(&mut *self.waiting());
            for waker in wakers {
                waker.wake();
            }
        }
    }

    /// `place` is the waiter's own slot, so that polling it again replaces its waker.
    fn poll(&self, place: &mut Option<usize>, context: &Context<'_>) -> Poll<&Result<BatchReceipt>> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        {
            let mut waiting = self.waiting();
            match place.and_then(|place| waiting.get_mut(place)) {
                Some(waker) => waker.clone_from(context.waker()),
                None => {
                    *place = Some(waiting.len());
                    waiting.push(context.waker().clone());
                }
            }
        }
        // Settling may have happened before the waker was in the list.
        match self.outcome.get() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

/// The acknowledgement of one message, to come. Dropping it does not take the message back.
///
/// ```no_run
/// # async fn example(producer: levada::Producer) -> levada::Result<()> {
/// let first = producer.enqueue("one").await?;
/// let second = producer.enqueue("two").await?;
/// println!("{:?} {:?}", first.await?.offset, second.await?.offset);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a delivery that is not awaited tells nothing"]
pub struct Delivery {
    completion: Arc<Completion>,
    index: u32,
    place: Option<usize>,
}

impl Delivery {
    pub(crate) fn new(completion: Arc<Completion>, index: u32) -> Delivery {
        Delivery { completion, index, place: None }
    }

    /// The outcome, if it is known.
    pub fn try_receipt(&self) -> Option<Result<Receipt>> {
        let outcome = self.completion.outcome.get()?;
        Some(outcome.as_ref().map(|receipt| receipt.message(self.index)).map_err(Error::clone))
    }
}

impl Clone for Delivery {
    /// Another wait for the same acknowledgement.
    fn clone(&self) -> Delivery {
        Delivery { completion: Arc::clone(&self.completion), index: self.index, place: None }
    }
}

impl Future for Delivery {
    type Output = Result<Receipt>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.completion.poll(&mut this.place, context).map(|outcome| match outcome {
            Ok(receipt) => Ok(receipt.message(this.index)),
            Err(error) => Err(error.clone()),
        })
    }
}

/// The acknowledgements of messages handed over together, to come. Dropping it does not take the messages back.
#[derive(Debug, Default)]
#[must_use = "a delivery that is not awaited tells nothing"]
pub struct BatchDelivery {
    parts: Vec<Part>,
    settled: Vec<BatchReceipt>,
}

#[derive(Debug)]
struct Part {
    completion: Arc<Completion>,
    first: u32,
    message_count: u32,
    place: Option<usize>,
}

impl BatchDelivery {
    /// Adds the message at `index` of a batch; consecutive ones of a batch count together.
    pub(crate) fn add(&mut self, completion: &Arc<Completion>, index: u32) {
        // Messages alternate between few partitions, so the part that goes on is near the end.
        let known = self.parts.iter_mut().rev().take(64).find(|part| Arc::ptr_eq(&part.completion, completion));
        match known {
            Some(part) if part.first + part.message_count == index => part.message_count += 1,
            _ => self.parts.push(Part {
                completion: Arc::clone(completion),
                first: index,
                message_count: 1,
                place: None,
            }),
        }
    }

    /// How many messages it stands for.
    pub fn message_count(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.message_count)).sum()
    }
}

impl Future for BatchDelivery {
    type Output = Result<Vec<BatchReceipt>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        while let Some(part) = this.parts.get_mut(this.settled.len()) {
            match part.completion.poll(&mut part.place, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(receipt)) => this.settled.push(receipt.part(part.first, part.message_count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.clone())),
            }
        }
        Poll::Ready(Ok(std::mem::take(&mut this.settled)))
    }
}
