//! Partitions and what is done with messages: produce, fetch, subscribe. One [`Shard`] per core, shared nothing.
//!
//! Reading order: [`message`] is all that can be asked of a shard and all it answers; [`shard`] owns the partitions and the
//! inbox; [`produce`] and [`fetch`] are the two spines; [`encoding`] is what topics ask for on the way in; [`subscription`] is
//! the push. [`link`] is the way back to a connection. Must not know sockets, TLS, frames, or how bytes lie on disk.

pub mod background;
pub mod encoding;
pub mod fetch;
pub mod link;
pub mod message;
pub mod metadata_install;
pub mod partition;
pub mod position;
pub mod produce;
pub mod readable;
mod recent_ids;
pub mod routing;
pub mod sequences;
pub mod shard;
pub mod status;
pub mod subscription;

pub use encoding::Encoding;
pub use link::{ConnectionId, Link, Mailbox, Origin, Outbound};
pub use message::{DataReply, DataRequest, Delivery, ShardMessage, ToConnection};
pub use readable::Readable;
pub use routing::{Routes, ShardHandle, ShardInbox};
pub use shard::{Caller, Shard, ShardOptions};
pub use status::ShardStatus;
