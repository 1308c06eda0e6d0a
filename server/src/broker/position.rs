//! What a position comes to: the one place that turns where a consumer wants to start into an offset.

use levada_protocol::ErrorCode;
use levada_protocol::messages::{Position, PositionKind, PositionResolved, ResolvePosition};
use levada_storage::{Partition, Watermarks};

use crate::broker::message::{DataReply, ToConnection};
use crate::broker::shard::{Caller, Shard};
use crate::failure::Failure;

/// The offset of a position now, with the watermarks it was resolved against. `epoch` is the leader epoch under which the
/// consumer read what lies before an offset position.
///
/// # Errors
/// `OFFSET_OUT_OF_RANGE`, `LOG_TRUNCATED`, `UNSUPPORTED`, or what the log says.
pub async fn resolve(log: &Partition, position: &Position, epoch: Option<u32>) -> Result<(u64, Watermarks), Failure> {
    let offset = match position.kind {
        PositionKind::Offset => return at_offset(log, position.value, epoch),
        PositionKind::Timestamp => log.offset_for_time(position.time_us()).await?.offset,
        PositionKind::Earliest => log.watermarks().log_start_offset,
        PositionKind::Latest => log.watermarks().visible_end_offset,
        PositionKind::Last => log.offset_for_last(position.value),
        PositionKind::Stored => {
            return Err(Failure::because(ErrorCode::Unsupported, "position stored needs a group, and Fetch has none")
                .with("what", "position stored"));
        }
    };
    Ok((offset, log.watermarks()))
}

fn at_offset(log: &Partition, offset: u64, epoch: Option<u32>) -> Result<(u64, Watermarks), Failure> {
    let marks = log.watermarks();
    if let Some(epoch) = epoch {
        log.check_epoch(offset, epoch).map_err(|truncated| {
            let message = format!(
                "the log lost its end since epoch {epoch}: from offset {} on it may hold other messages",
                truncated.divergence_offset
            );
            Failure::because(ErrorCode::LogTruncated, message)
                .with("divergence_offset", truncated.divergence_offset)
                .with("leader_epoch", marks.leader_epoch)
        })?;
    }
    if offset < marks.log_start_offset || marks.visible_end_offset < offset {
        let message = format!("offset {offset} is outside {} to {}", marks.log_start_offset, marks.visible_end_offset);
        return Err(Failure::because(ErrorCode::OffsetOutOfRange, message)
            .with("log_start_offset", marks.log_start_offset)
            .with("visible_end_offset", marks.visible_end_offset));
    }
    Ok((offset, marks))
}

impl Shard {
    /// Answers what a position comes to.
    pub(super) async fn resolve_position(&self, request: &ResolvePosition) -> Result<PositionResolved, Failure> {
        let log = self.slot(request.topic_id, request.partition)?.log()?;
        let (offset, marks) = resolve(&log, &request.position, None).await?;
        Ok(PositionResolved {
            offset,
            log_start_offset: marks.log_start_offset,
            visible_end_offset: marks.visible_end_offset,
            leader_epoch: marks.leader_epoch,
        })
    }

    /// The same on behalf of a connection.
    pub(super) fn start_resolve(
        self: &std::rc::Rc<Self>,
        caller: &Caller<'_>,
        correlation: u32,
        request: ResolvePosition,
    ) {
        let (shard, origin) = (std::rc::Rc::clone(self), caller.origin.clone());
        tokio::task::spawn_local(async move {
            origin.send(match shard.resolve_position(&request).await {
                Ok(reply) => ToConnection::Reply(correlation, DataReply::PositionResolved(reply)),
                Err(failure) => ToConnection::Failed(correlation, failure),
            });
        });
    }
}
