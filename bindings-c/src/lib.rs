//! The C ABI of the Levada client: `levada.h` is made from this crate, and `levada.hpp` stands on `levada.h`.
//!
//! Every function is three steps: look at the pointers, call `levada-ffi`, hand the outcome out. Nothing here retries, batches or
//! knows an option. Read in this order: `abi` (what crosses), `handle` (what pointers point to), `error`, `value`, `options`,
//! `client`, `admin`, `producer`, `consumer`, `batch`, `queue`, `process`.
#![expect(unsafe_code, reason = "a C ABI is made of pointers; each block says on what the caller's word it relies")]
#![expect(
    clippy::missing_safety_doc,
    reason = "what callers owe is the same for every function, and told once at the head of levada.h"
)]

pub mod abi;
pub mod admin;
pub mod batch;
pub mod client;
pub mod consumer;
pub mod error;
pub mod group;
mod handle;
pub mod message;
pub mod operation;
pub mod options;
pub mod process;
pub mod producer;
pub mod queue;
pub mod value;
