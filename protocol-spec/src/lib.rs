//! Levada's wire protocol: messages, batches, and the machines of both ends of a connection, without I/O.
//!
//! `spec.md` beside this crate is the protocol in prose; this is its Rust form. Nothing here is async, opens a socket, reads
//! a clock or knows a log: bytes, times and commands go in; bytes to send, events and deadlines come out.

pub mod batch;
pub mod client;
pub mod codec;
pub mod errors;
pub mod frame;
pub mod frame_reader;
mod generated;
pub mod headers;
pub mod messages;
pub mod names;
mod outbound;
pub mod partitioner;
pub mod pool;
pub mod server;
mod wire;

pub use errors::{ErrorClass, ErrorCode, MaybeApplied};
pub use generated::limits;
pub use messages::{Call, DecodeError, Kind, Message, Reply, Request, ServerFrame};
