//! The native module of the npm package `levada`: converts JavaScript values in, calls `levada-ffi`, converts what comes back.
//!
//! It decides nothing: options, defaults, limits, retries and batching belong to the client core, promises and signals to the
//! TypeScript layer above. Nothing here blocks the thread of JavaScript, and every export catches panics.
#![expect(unsafe_code, reason = "Node-API is a C interface: conversions and exports go through it")]

pub mod batch;
pub mod client;
pub mod consumer;
pub mod failure;
mod pool;
pub mod process;
pub mod producer;
pub mod queue;
pub mod value;
