//! A change of metadata on its way: what happens, and how to tell the client afterwards.

use crate::admin::AdminReply;
use crate::failure::Failure;
use crate::metadata::Snapshot;
use crate::metadata::event::Event;

/// Makes the reply from the version of metadata in which the events have happened.
type MakeReply = Box<dyn FnOnce(&Snapshot) -> Result<AdminReply, Failure>>;

/// Events to make durable, and the reply once every core has installed them.
pub(super) struct Change {
    pub(super) events: Vec<Event>,
    pub(super) reply: MakeReply,
}

impl Change {
    /// `reply` sees the version in which the events have happened.
    pub(super) fn new<R: Into<AdminReply>>(
        events: Vec<Event>,
        reply: impl FnOnce(&Snapshot) -> Result<R, Failure> + 'static,
    ) -> Self {
        Self { events, reply: Box::new(move |snapshot| reply(snapshot).map(Into::into)) }
    }
}
