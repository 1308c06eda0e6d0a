//! Encoding batches anew, where a topic asks for another codec than its producer used. Off the cores: a batch waits for its
//! turn in its partition's line while others go on.
//!
//! Memory is bounded for the whole server: a batch takes what it may expand to out of one budget before it is decompressed, in
//! the order of asking, and gives back what is left over. The batch as it was sent is on its connection's account.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::batch::{BatchError, Codec, IdsByIndex, ProducerHeader, Reencoder, message_ids};
use levada_protocol::codec::DEFAULT_ZSTD_LEVEL;
use tokio::sync::oneshot;

use crate::broker::link::{SharedBudget, SharedCharge};
use crate::env::Offload;
use crate::failure::Failure;
use crate::metadata::model::Compression;

/// Level of zstd: the fastest. Higher ones cost the server more than they save (docs/compression.md).
const ZSTD_LEVEL: i32 = DEFAULT_ZSTD_LEVEL;

/// Memory for batches being encoded anew, in the whole server: two of the largest.
const BUDGET_BYTES: u64 = 64 << 20;

thread_local! {
    /// Contexts and scratch memory only.
    static REENCODER: RefCell<Reencoder> = RefCell::default();
}

/// Encodes for all cores.
#[derive(Clone, Debug)]
pub struct Encoding {
    offload: Arc<dyn Offload>,
    budget: Arc<SharedBudget>,
}

/// A batch as it is to be written.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: Bytes,
    /// Ids of its messages with their indices, where the topic drops duplicates.
    pub(super) ids: IdsByIndex,
    /// Whether the server encoded it anew.
    pub(super) is_anew: bool,
    _charge: Option<SharedCharge>,
}

impl Content {
    /// As its producer sent it. Ids are at most as large as an uncompressed batch they are from.
    pub(super) fn as_sent(bytes: Bytes, ids: IdsByIndex) -> Self {
        Self { bytes, ids, is_anew: false, _charge: None }
    }
}

/// What is to be done with a batch before it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// The codec it is to have, if that is another than its own.
    pub(super) codec: Option<Codec>,
    /// Whether the ids of its messages are asked for.
    pub(super) ids: bool,
}

impl Work {
    fn done_on(self, sent: &[u8]) -> Result<(Option<Bytes>, IdsByIndex), BatchError> {
        let ids = if self.ids { message_ids(sent)? } else { Vec::new() };
        let Some(codec) = self.codec else { return Ok((None, ids)) };
        let anew = REENCODER.with_borrow_mut(|reencoder| reencoder.reencode(sent, codec, ZSTD_LEVEL))?;
        Ok((anew, ids))
    }
}

/// Where the outcome of an encoding will be: nothing until it is known.
pub(super) type Outcome = Rc<RefCell<Option<Result<Content, Failure>>>>;

/// The codec that a topic asks for, if it asks for one.
pub(super) fn codec_of(policy: Compression) -> Option<Codec> {
    match policy {
        Compression::Producer => None,
        Compression::None => Some(Codec::None),
        Compression::Lz4 => Some(Codec::Lz4),
        Compression::Zstd => Some(Codec::Zstd),
    }
}

impl Encoding {
    /// With threads to work on.
    #[must_use]
    pub fn new(offload: Arc<dyn Offload>) -> Self {
        Self { offload, budget: SharedBudget::new(BUDGET_BYTES) }
    }

    /// Encodes a batch, or leaves it as it is; `then` is called when the outcome is in its place. Batches are taken up in the
    /// order of these calls, so that the first of a line never waits for memory that one behind it holds.
    pub(super) fn start(
        &self,
        batch: Bytes,
        header: &ProducerHeader,
        work: Work,
        then: impl FnOnce() + 'static,
    ) -> Outcome {
        let outcome = Outcome::default();
        let (encoding, place) = (self.clone(), Rc::clone(&outcome));
        let expanded_bytes = header.uncompressed_length as usize;
        tokio::task::spawn_local(async move {
            let content = encoding.encode(batch, expanded_bytes, work).await;
            *place.borrow_mut() = Some(content);
            then();
        });
        outcome
    }

    async fn encode(&self, batch: Bytes, expanded_bytes: usize, work: Work) -> Result<Content, Failure> {
        // Once plain, once compressed.
        let mut charge = self.budget.take(2 * expanded_bytes).await;
        let sent = batch.clone();
        let (anew, ids) = self.offloaded(move || work.done_on(&sent)).await??;
        let (is_anew, anew_bytes) = (anew.is_some(), anew.as_ref().map_or(0, Bytes::len));
        charge.shrink_to(anew_bytes + size_of_val(ids.as_slice()));
        Ok(Content { bytes: anew.unwrap_or(batch), ids, is_anew, _charge: Some(charge) })
    }

    /// Runs `job` off the cores.
    pub(super) async fn offloaded<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (done, outcome) = oneshot::channel();
        // Nobody waits when the server stops.
        self.offload.run(Box::new(move || drop(done.send(job()))));
        outcome.await.map_err(|_| Failure::because(ErrorCode::Internal, "a thread that works for the cores has ended"))
    }
}
