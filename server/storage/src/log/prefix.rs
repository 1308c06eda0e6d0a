//! The front of the log: removing whole segments, and finding a place by time.

use std::rc::Rc;

use super::{Log, LogState, Step};
use crate::errors::ReadError;
use crate::segment::Segment;

impl LogState {
    /// Whether nothing waits for the writer.
    pub(crate) fn is_quiet(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Chunk(chunk) if chunk.written == chunk.buffer.len()))
    }
}

impl Log {
    /// Removes the files of sealed segments all of whose messages lie before `offset`. The log start that says so is
    /// durable; a file that cannot be removed now is removed at the next open.
    pub(crate) async fn remove_before(&self, offset: u64) {
        self.remove_while(|segment| segment.totals.end_offset <= offset).await;
    }

    /// The same for a log without offsets: removes sealed segments all of whose entries lie before `index`.
    pub(crate) async fn remove_before_index(&self, index: u64) {
        self.remove_while(|segment| segment.totals.last_index < index).await;
    }

    async fn remove_while(&self, dead: impl Fn(&Segment) -> bool) {
        let mut removed = false;
        loop {
            let segment = {
                let mut state = self.state.borrow_mut();
                let footer_pending = state.steps.iter().any(|step| match (step, state.segments.front()) {
                    (Step::Seal { nonce, .. }, Some(front)) => *nonce == front.nonce,
                    (Step::Chunk(chunk), Some(front)) => chunk.nonce == front.nonce,
                    _ => false,
                });
                let remove = 1 < state.segments.len()
                    && !footer_pending
                    && state.segments.front().is_some_and(|front| state.rewriting != Some(front.nonce))
                    && state.segments.front().is_some_and(|front| front.sealed && dead(front));
                if !remove {
                    break;
                }
                state.segments.pop_front().expect("just looked at")
            };
            let storage = &self.storage;
            storage.descriptors.remove(segment.nonce);
            storage.cache.borrow_mut().remove_segment(segment.nonce);
            let path = self.path_of(segment.number);
            if let Err(error) = storage.disk.remove_file(&path).await {
                tracing::warn!(path = %path.display(), %error, "segment not removed");
                break;
            }
            // One at a time: a crash must not leave a later one gone and an earlier one there, which looks like damage.
            if let Err(error) = self.storage.disk.sync_dir(&self.dir).await {
                tracing::warn!(dir = %self.dir.display(), %error, "directory not flushed");
                break;
            }
            removed = true;
        }
        if removed {
            self.storage.look_at_space().await;
            self.storage.space_freed.notify_waiters();
        }
    }

    /// An offset at or before the first batch appended at or after a time; `None` if every batch is older.
    pub(crate) async fn offset_before_time(self: &Rc<Self>, time_us: i64) -> Result<Option<u64>, ReadError> {
        loop {
            let missing = {
                let state = self.state.borrow();
                let segment = state
                    .segments
                    .iter()
                    .find(|segment| 0 < segment.totals.batch_count && time_us <= segment.totals.last_time_us);
                let Some(segment) = segment else { return Ok(None) };
                match &segment.index {
                    Some(index) => {
                        let after = index.partition_point(|entry| entry.time_us < time_us);
                        let before = after.checked_sub(1).and_then(|before| index.get(before));
                        return Ok(Some(before.map_or(segment.totals.first_offset, |entry| entry.offset)));
                    }
                    None => segment.nonce,
                }
            };
            self.load_index(missing).await?;
        }
    }

    /// Lets go of all memory. The log is closed.
    pub(crate) fn forget_memory(&self) {
        let mut state = self.state.borrow_mut();
        if !state.writer.running {
            state.steps.clear();
        }
        state.hints.clear();
        for segment in &state.segments {
            self.storage.cache.borrow_mut().remove_segment(segment.nonce);
            self.storage.descriptors.remove(segment.nonce);
        }
    }
}
