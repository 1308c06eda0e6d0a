//! How far a producer has come in a partition: what it learns when it takes up its work again.

use std::rc::Rc;

use levada_protocol::messages::{ReadSequences, SequencesRead};

use crate::broker::message::{DataReply, ToConnection};
use crate::broker::shard::{Caller, Shard};
use crate::failure::Failure;

impl Shard {
    /// Answers how far a producer has come.
    pub(super) fn start_read_sequences(self: &Rc<Self>, caller: &Caller<'_>, correlation: u32, request: ReadSequences) {
        let (shard, origin) = (Rc::clone(self), caller.origin.clone());
        tokio::task::spawn_local(async move {
            origin.send(match shard.read_sequences(&request).await {
                Ok(reply) => ToConnection::Reply(correlation, DataReply::SequencesRead(reply)),
                Err(failure) => ToConnection::Failed(correlation, failure),
            });
        });
    }

    /// What the answer counts as appended is never sent again, so it must be durable before it is told. Nothing else is
    /// waited for: a full disk refuses only while the producer's own last batch waits for space.
    async fn read_sequences(&self, request: &ReadSequences) -> Result<SequencesRead, Failure> {
        let log = self.slot(request.topic_id, request.partition)?.log()?;
        let progress = log.producer_progress(request.producer_id);
        if let Some(progress) = &progress {
            log.flush_through(progress.last_offset).await?;
        }
        Ok(SequencesRead {
            producer_id: request.producer_id,
            next_sequence: progress.map_or(0, |progress| progress.next_sequence),
            last_offset: progress.map(|progress| progress.last_offset),
        })
    }
}
