//! The log: segments, recovery and retention over a small [`disk::Disk`] trait. Knows no network.
//!
//! A core opens one [`Storage`] and, on it, any number of [`Partition`]s (message batches) and [`RecordLog`]s (the server's
//! own metadata). Everything is single-threaded and stays on that core. An append is synchronous and cheap; what it is
//! waiting for afterwards is a [`Ticket`].

mod accepted;
pub mod buffer;
mod cache;
mod checkpoint;
pub mod config;
pub mod crash;
mod descriptors;
pub mod disk;
mod entry;
pub mod errors;
mod log;
pub mod partition;
pub mod record_log;
mod segment;
mod stock;
pub mod storage;
pub mod verify;
mod wire;

pub use config::{Durability, PartitionConfig, PartitionIdentity};
pub use errors::{AppendError, AppendLost, MaintainError, OpenError, ReadError, ReadOnlyReason, Truncated};
pub use partition::{
    Append, Loss, Numbering, OpenReport, Partition, PartitionStatus, ProducerProgress, ProgressSink, ReadBatches,
    Ticket, TicketState, TimedOffset, Watch, Watermarks,
};
pub use record_log::{Record, RecordLog, Replay};
pub use storage::{
    Clock, FatalError, FatalHook, Spawn, Storage, StorageLimits, StorageOptions, StorageStatus, TokioSpawn,
};
