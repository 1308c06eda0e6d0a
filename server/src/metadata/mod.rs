//! Streams, topics, users, what these may do, and tokens: an event-sourced log with one owner, published as immutable snapshots.
//!
//! [`event`] is what can happen, [`state`] what it does, [`snapshot`] what the cores see. Knows no network and no wire type.

pub mod access;
pub mod codec;
pub mod directories;
pub mod event;
pub mod model;
pub mod snapshot;
pub mod state;
pub mod store;

pub use access::{Actions, Grant, Quota, UserAccess};
pub use model::{Compression, Role, TopicOptions};
pub use snapshot::{Layout, Snapshot};
pub use state::State;
pub use store::{CommitError, MetadataError, MetadataStore};

#[cfg(test)]
mod tests;
