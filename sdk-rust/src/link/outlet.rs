//! What a producer or consumer may do with the connection while it is its turn: send requests and notices under its own tags.

use std::collections::BTreeMap;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::client::Connection;
use levada_protocol::frame::FrameError;
use levada_protocol::limits::MAX_REQUESTS_IN_FLIGHT;
use levada_protocol::messages::Message;
use tokio::sync::oneshot;

use super::Answer;
use crate::error::{Error, Result};

/// How a resident recognises an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    OpenProducer,
    ReadSequences { partition: u32 },
    Produce { partition: u32, serial: u64 },
    Subscribe { lane: usize, subscription: u32 },
    Unsubscribe,
    Join,
    Commit,
    Release,
    Resolve { serial: u64 },
    Leave,
}

/// Who waits for an answer.
pub(super) enum Waiter {
    Caller(oneshot::Sender<Result<Answer>>),
    Resident(u64, Tag),
}

/// A request without an answer yet.
pub(super) struct Route {
    pub(super) waiter: Waiter,
    pub(super) sent_ms: u64,
}

/// Bytes that may wait to be written before no more batches are taken.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// Requests kept free for callers while batches are sent.
const RESERVED_REQUESTS: usize = 128;

/// Why a request was not sent.
pub(super) fn refusal(error: &FrameError) -> Error {
    let code = match error {
        FrameError::TooNew { .. } => ErrorCode::Unsupported,
        FrameError::ControlTooLarge { .. } | FrameError::BodyTooLarge(_) => ErrorCode::TooLarge,
    };
    Error::new(code, error.to_string())
}

/// One resident's turn.
pub(crate) struct Outlet<'a> {
    pub(super) machine: &'a mut Connection,
    pub(super) routes: &'a mut BTreeMap<u32, Route>,
    pub(super) subscriptions: &'a mut BTreeMap<u32, u64>,
    pub(super) next_subscription: &'a mut u32,
    pub(super) resident: u64,
    pub(super) now_ms: u64,
    /// Whether nothing waited to be written when the round of turns began.
    pub(super) is_free: bool,
}

impl Outlet<'_> {
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Whether a batch that could still grow may leave.
    pub(crate) fn is_free(&self) -> bool {
        self.is_free
    }

    /// Whether another batch may be queued.
    pub(crate) fn has_room(&self) -> bool {
        self.machine.outbound_bytes() < MAX_WAITING_BYTES
            && self.routes.len() < MAX_REQUESTS_IN_FLIGHT - RESERVED_REQUESTS
    }

    pub(crate) fn request<M: Message>(&mut self, message: &M, tag: Tag) {
        self.request_with_body(message, Vec::new(), tag);
    }

    /// Sends a request that the server may be too old for, or that may be too long.
    pub(crate) fn try_request<M: Message>(&mut self, message: &M, tag: Tag) -> Result<()> {
        let correlation = self.machine.request(message).map_err(|error| refusal(&error))?;
        let waiter = Waiter::Resident(self.resident, tag);
        self.routes.insert(correlation, Route { waiter, sent_ms: self.now_ms });
        Ok(())
    }

    pub(crate) fn request_with_body<M: Message>(&mut self, message: &M, body: Vec<Bytes>, tag: Tag) {
        let correlation = self
            .machine
            .request_with_body(message, body)
            .expect("requests of producers and consumers are short, and a batch is within the limit of a frame");
        let waiter = Waiter::Resident(self.resident, tag);
        self.routes.insert(correlation, Route { waiter, sent_ms: self.now_ms });
    }

    pub(crate) fn notice<M: Message>(&mut self, message: &M) {
        self.machine.notice(message).expect("notices are a few bytes");
    }

    /// A subscription number that was never used on this link; what is pushed for it comes to this resident.
    pub(crate) fn claim_subscription(&mut self) -> u32 {
        let subscription = *self.next_subscription;
        *self.next_subscription = subscription.wrapping_add(1);
        self.subscriptions.insert(subscription, self.resident);
        subscription
    }

    pub(crate) fn release_subscription(&mut self, subscription: u32) {
        self.subscriptions.remove(&subscription);
    }
}
