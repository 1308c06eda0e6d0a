//! The native half of Levada's client for Kotlin and Java: levada-ffi as objects that UniFFI carries over to the JVM.
//!
//! Every export is synchronous and does not wait, but for [`NativeQueue::poll`] and [`NativeLog::wait`], which threads of the
//! client's own call. Nothing here retries, batches or parses options. What the JVM reads of a received batch it copies itself,
//! from an address that a [`NativeHold`] keeps valid: once per batch.

mod calls;
mod consumer;
mod events;
mod failure;
mod log;
mod producer;
mod values;

uniffi::setup_scaffolding!();
