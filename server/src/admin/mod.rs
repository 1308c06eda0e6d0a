//! Requests that are not about messages: streams, topics, users, what these may do, tokens, status, producer identities.
//!
//! [`authorize`] is asked for every request of a connection, data requests included; the rest run on the control thread,
//! where [`MetadataOwner`] is the one owner. One file per family of requests decides what happens; the owner makes it so.

mod access;
mod change;
mod convert;
mod grants;
mod handle;
#[cfg(test)]
mod matrix;
mod owner;
mod producers;
mod rights;
mod shards;
mod status;
mod streams;
#[cfg(test)]
mod tests;
mod tokens;
mod topics;
mod users;

pub(crate) use access::missing;
pub use access::{authorize, subscription_actions};
pub(crate) use convert::role_info;
pub use handle::{AdminHandle, AdminMessage, AdminReply};
pub use owner::MetadataOwner;
pub use rights::{Access, Rights, SYSTEM_STREAM};
pub use shards::{ShardFigures, Shards};
