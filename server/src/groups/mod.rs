//! Consumer groups and stored offsets: who reads which partition, and how far.
//!
//! [`machine`] is one group, pure; [`assign`] shares out partitions; [`record`] and [`state`] are what lasts, in 16
//! coordinator logs; [`GroupsOwner`] is the one owner, on the control thread; [`GroupsHandle`] the way to it.

mod access;
pub mod assign;
pub mod catalog;
mod coordinator;
mod describe;
mod handle;
pub mod machine;
mod owner;
pub mod record;
mod reset;
pub mod state;
mod strategy;
#[cfg(test)]
mod tests;

pub use handle::{GroupsHandle, GroupsMessage, PositionQuery, Speaker};
pub use machine::Push;
pub use owner::{GroupsOptions, GroupsOwner};
pub use state::StoredPosition;
