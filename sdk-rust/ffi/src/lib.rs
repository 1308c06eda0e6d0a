//! What every binding of Levada shares, made once: an event queue per loop, operations that can be waited for or cancelled,
//! readiness and take, close, one runtime per process, and guards against fork and panic.
//!
//! A binding function is three steps: convert in, call here, convert out. Nothing in this crate knows Python, Node, C or the
//! JVM, and nothing here retries, batches or parses options: that is the core's.
//!
//! Read in this order: [`Queue`], [`Operation`], [`Client`], [`Producer`], [`Consumer`], [`Batch`], then `process` for what
//! happens at fork and at exit.

mod batch;
#[cfg(test)]
mod call_tests;
mod client;
mod consumer;
mod delivery;
mod generated;
mod guard;
mod into_value;
pub mod logs;
mod operation;
mod process;
mod producer;
mod queue;

pub use batch::{Batch, MessageView, TABLE_ENTRY_BYTES};
pub use client::Client;
pub use consumer::{Consumer, Taken, TakenMessage};
pub use delivery::Delivery;
pub use guard::guard;
pub use into_value::IntoValue;
pub use operation::{KeepWaiting, Operation, Output, To, told};
pub use process::{close_all, is_inherited, stats};
pub use producer::Producer;
pub use queue::{Event, Queue};

pub use levada::{
    BatchReceipt, Error, Header, HeaderValue, Message, MessageRef, Named, Receipt, Result, UntoldChange, Value,
    decode_headers,
};
