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
    /// When it was appended, in microseconds since the Unix epoch; 0 where that is not told.
    pub append_time_us: i64,
    /// The durability reached.
    pub durability: Durability,
    /// Whether it was there already: an earlier attempt had appended it, or the topic drops messages by id and has its id.
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
    /// When they were appended, in microseconds since the Unix epoch; 0 where that is not told.
    pub append_time_us: i64,
    /// The durability reached.
    pub durability: Durability,
    /// Whether they were there already: an earlier attempt had appended them, or the topic drops messages by id and has
    /// their ids.
    pub duplicate: bool,
    /// Whether the server encoded the batch anew, as the topic asks.
    pub server_encoded: bool,
}

impl BatchReceipt {
    fn part(&self, first: u32, message_count: u32) -> BatchReceipt {
        BatchReceipt { base_offset: self.base_offset.map(|base| base + u64::from(first)), message_count, ..*self }
    }

    /// Whether a message's receipt continues this run.
    fn goes_on_with(&self, next: &BatchReceipt) -> bool {
        let offset = self.base_offset.map(|base| base + u64::from(self.message_count));
        let is_told = !self.duplicate || offset.is_some();
        self.duplicate == next.duplicate && offset == next.base_offset && is_told
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

/// Where the messages of one batch went: mostly one receipt; one for each run where the server had some of them already.
#[derive(Clone, Debug)]
pub(crate) struct Receipts {
    first: BatchReceipt,
    rest: Vec<BatchReceipt>,
}

impl From<BatchReceipt> for Receipts {
    fn from(receipt: BatchReceipt) -> Receipts {
        Receipts { first: receipt, rest: Vec::new() }
    }
}

impl Receipts {
    /// Of a batch that lost messages on its way: `sent` is the receipt of those that were left, `dropped` are the others, by
    /// their index in the batch as it was, ascending, with the offsets they have in the log.
    pub(crate) fn with_dropped(sent: BatchReceipt, dropped: &[(u32, Option<u64>)]) -> Receipts {
        let message_count = sent.message_count + u32::try_from(dropped.len()).expect("a batch counts in 32 bits");
        let mut runs: Vec<BatchReceipt> = Vec::new();
        let mut dropped = dropped.iter().peekable();
        let mut taken = 0;
        for index in 0..message_count {
            let one = match dropped.next_if(|(at, _)| *at == index) {
                Some((_, offset)) => {
                    BatchReceipt { base_offset: *offset, append_time_us: 0, duplicate: true, message_count: 1, ..sent }
                }
                None => {
                    taken += 1;
                    sent.part(taken - 1, 1)
                }
            };
            match runs.last_mut() {
                Some(run) if run.goes_on_with(&one) => run.message_count += 1,
                _ => runs.push(one),
            }
        }
        let mut runs = runs.into_iter();
        Receipts { first: runs.next().unwrap_or(sent), rest: runs.collect() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &BatchReceipt> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    fn message(&self, mut index: u32) -> Receipt {
        let mut last = &self.first;
        for run in self.iter() {
            last = run;
            if index < run.message_count {
                break;
            }
            index -= run.message_count;
        }
        last.message(index)
    }

    /// The receipts of the messages from `first` on.
    fn parts(&self, first: u32, message_count: u32) -> impl Iterator<Item = BatchReceipt> {
        let end = first + message_count;
        let mut at = 0;
        self.iter().filter_map(move |run| {
            let begin = at;
            at += run.message_count;
            let (from, to) = (first.max(begin), end.min(at));
            (from < to).then(|| run.part(from - begin, to - from))
        })
    }
}

/// The fate of one batch, settled once.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    outcome: OnceLock<Result<Receipts>>,
    waiting: Mutex<Vec<Waker>>,
}

impl Completion {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        // The list is whole at every point where a panic could leave it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles the batch and wakes whoever waits; a second outcome is ignored.
    pub(crate) fn settle(&self, outcome: Result<Receipts>) {
        if self.outcome.set(outcome).is_ok() {
            let wakers = std::mem::take(&mut *self.waiting());
            for waker in wakers {
                waker.wake();
            }
        }
    }

    /// `place` is the waiter's own slot, so that polling it again replaces its waker.
    fn poll(&self, place: &mut Option<usize>, context: &Context<'_>) -> Poll<&Result<Receipts>> {
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
    /// Parts whose receipts are in `receipts`.
    settled: usize,
    receipts: Vec<BatchReceipt>,
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
        while let Some(part) = this.parts.get_mut(this.settled) {
            match part.completion.poll(&mut part.place, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(receipts)) => {
                    this.receipts.extend(receipts.parts(part.first, part.message_count));
                    this.settled += 1;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.clone())),
            }
        }
        Poll::Ready(Ok(std::mem::take(&mut this.receipts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(base_offset: u64, message_count: u32) -> BatchReceipt {
        BatchReceipt {
            partition: 0,
            base_offset: Some(base_offset),
            message_count,
            append_time_us: 5,
            durability: Durability::Disk,
            duplicate: false,
            server_encoded: false,
        }
    }

    fn runs(receipts: impl Iterator<Item = BatchReceipt>) -> Vec<(Option<u64>, u32, bool)> {
        receipts.map(|run| (run.base_offset, run.message_count, run.duplicate)).collect()
    }

    #[test]
    fn dropped_messages_are_runs_between_the_others() {
        let dropped = [(1, Some(17)), (2, Some(18)), (4, None), (5, None)];
        let receipts = Receipts::with_dropped(sent(100, 3), &dropped);
        let all = [(Some(100), 1, false), (Some(17), 2, true), (Some(101), 1, false), (None, 1, true), (None, 1, true)];
        assert_eq!(runs(receipts.parts(0, 7))[..5], all);
        assert_eq!(runs(receipts.parts(0, 7))[5..], [(Some(102), 1, false)]);
        assert_eq!(runs(receipts.parts(2, 2)), [(Some(18), 1, true), (Some(101), 1, false)]);
        let offsets: Vec<_> = (0..7).map(|index| receipts.message(index).offset).collect();
        assert_eq!(offsets, [Some(100), Some(17), Some(18), Some(101), None, None, Some(102)]);
    }

    #[test]
    fn a_batch_of_which_nothing_is_left_has_only_duplicates() {
        let receipts = Receipts::with_dropped(sent(0, 0), &[(0, Some(3)), (1, Some(4))]);
        assert_eq!(runs(receipts.parts(0, 2)), [(Some(3), 2, true)]);
    }
}
