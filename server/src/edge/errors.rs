//! The only table from inner errors to the wire's codes: storage, batches, frames. Everything that a request can meet below
//! the broker passes through here; a new variant there does not compile until it has a row.

use levada_protocol::ErrorCode;
use levada_protocol::batch::BatchError;
use levada_storage::{AppendError, AppendLost, MaintainError, ReadError};

use crate::failure::Failure;

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        let code = match error {
            BatchError::Checksum => ErrorCode::ChecksumMismatch,
            BatchError::Unknown(what) => {
                return Self::because(ErrorCode::Unsupported, error.to_string()).with("what", what);
            }
            BatchError::Length
            | BatchError::Header(_)
            | BatchError::Message { .. }
            | BatchError::Headers { .. }
            | BatchError::Codec(_) => ErrorCode::MalformedBatch,
        };
        Self::because(code, error.to_string())
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        let text = error.to_string();
        match error {
            AppendError::Full => Self::because(ErrorCode::Overloaded, text),
            AppendError::SequenceGap { expected } => {
                Self::because(ErrorCode::SequenceGap, text).with("expected", expected)
            }
            AppendError::DuplicateUnknownOffset => Self::new(ErrorCode::DuplicateUnknownOffset),
            AppendError::Fenced { current_epoch } => {
                Self::because(ErrorCode::Fenced, text).with("current_epoch", current_epoch)
            }
            AppendError::UnknownProducer => Self::new(ErrorCode::UnknownProducer),
            AppendError::ReadOnly(reason) => {
                Self::because(ErrorCode::PartitionReadOnly, text).with("reason", &reason.what)
            }
            AppendError::DiskFull => Self::new(ErrorCode::DiskFull),
            AppendError::TooLarge { limit_bytes } => {
                Self::because(ErrorCode::TooLarge, text).with("limit", limit_bytes)
            }
            AppendError::Malformed(_) => Self::because(ErrorCode::MalformedBatch, text),
            AppendError::Closed => Self::because(ErrorCode::PartitionUnavailable, text).with("reason", "closed"),
            AppendError::Failed => Self::because(ErrorCode::PartitionUnavailable, text).with("reason", "disk failed"),
        }
    }
}

impl From<AppendLost> for Failure {
    fn from(error: AppendLost) -> Self {
        Self::because(ErrorCode::AppendUnknown, error.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let text = error.to_string();
        match error {
            ReadError::OutOfRange { log_start_offset, visible_end_offset } => {
                Self::because(ErrorCode::OffsetOutOfRange, text)
                    .with("log_start_offset", log_start_offset)
                    .with("visible_end_offset", visible_end_offset)
            }
            ReadError::Corrupt { first_offset, next_offset, .. } => Self::because(ErrorCode::CorruptBatch, text)
                .with("first_offset", first_offset)
                .with("next_offset", next_offset),
            ReadError::Io(error) => {
                Self::because(ErrorCode::PartitionUnavailable, format!("the disk refused to read: {error}"))
                    .with("reason", error.kind())
            }
            ReadError::Closed => Self::because(ErrorCode::PartitionUnavailable, text).with("reason", "closed"),
        }
    }
}

impl From<MaintainError> for Failure {
    fn from(error: MaintainError) -> Self {
        let text = error.to_string();
        match error {
            MaintainError::ReadOnly(reason) => {
                Self::because(ErrorCode::PartitionReadOnly, text).with("reason", &reason.what)
            }
            MaintainError::DiskFull => Self::new(ErrorCode::DiskFull),
            MaintainError::Io(error) => {
                Self::because(ErrorCode::PartitionUnavailable, format!("the disk refused: {error}"))
                    .with("reason", error.kind())
            }
            MaintainError::Closed => Self::because(ErrorCode::PartitionUnavailable, text).with("reason", "closed"),
            MaintainError::Failed => Self::because(ErrorCode::PartitionUnavailable, text).with("reason", "disk failed"),
        }
    }
}
