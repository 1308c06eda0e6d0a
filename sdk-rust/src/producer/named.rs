//! Opening a producer with a name: takes the name over, then learns from every partition how far it had come.
//!
//! Partitions are asked side by side within a bound, so that a topic of thousands of them opens in few round trips and the
//! connection stays open to other requests.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use levada_protocol::messages::{OpenProducer, ReadSequences};

use super::core::Named;
use crate::client::{Client, Repeat};
use crate::error::Result;

/// Partitions asked at once: enough to hide the way to the server, few beside the requests a connection may have unanswered.
const READS_AT_ONCE: usize = 32;

/// Takes the name over, then learns how far it had come: in that order, so that nothing of a predecessor follows.
pub(super) async fn open(client: &Client, name: &str, topic_id: u32, partition_count: u32) -> Result<Named> {
    let open = OpenProducer { producer_id: 0, producer_epoch: 0, name: Some(name.to_owned()) };
    let opened = client.call(open, Repeat::Freely).await?;
    let producer_id = opened.producer_id;
    let read = |partition| async move {
        let read = ReadSequences { producer_id, name: None, topic_id, partition };
        Ok(client.call(read, Repeat::Freely).await?.next_sequence)
    };
    let next_sequences = of_each(partition_count, read).await?;
    Ok(Named { identity: (producer_id, opened.producer_epoch), next_sequences })
}

/// What `read` gives for each partition, or the first failure.
async fn of_each<F>(partition_count: u32, read: impl Fn(u32) -> F) -> Result<Vec<u64>>
where
    F: Future<Output = Result<u64>> + Send,
{
    let mut outcomes = vec![0; partition_count as usize];
    let mut unasked = 0..partition_count;
    let mut asked: Vec<(u32, Pin<Box<F>>)> = Vec::with_capacity(READS_AT_ONCE);
    poll_fn(|context| {
        loop {
            let free = READS_AT_ONCE - asked.len();
            asked.extend(unasked.by_ref().take(free).map(|partition| (partition, Box::pin(read(partition)))));
            let asked_count = asked.len();
            let mut index = 0;
            while let Some((partition, answer)) = asked.get_mut(index) {
                match answer.as_mut().poll(context) {
                    Poll::Pending => index += 1,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(outcome)) => {
                        outcomes[*partition as usize] = outcome;
                        drop(asked.swap_remove(index));
                    }
                }
            }
            if asked.is_empty() && unasked.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if asked.len() == asked_count {
                return Poll::Pending;
            }
        }
    })
    .await?;
    Ok(outcomes)
}
