//! `levada._native`: what the typed Python layer sits on. Every function converts in, calls `levada-ffi`, converts out.
//!
//! Invariants: classes are frozen, so that threads share them freely; whatever may block runs detached from the
//! interpreter; no thread of the core ever enters Python. It must not know defaults, retries or timeouts of its own.

mod client;
mod consumer;
mod convert;
mod errors;
mod message;
mod process;
mod producer;
mod queue;

#[pyo3::pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::client::{Client, connect};
    #[pymodule_export]
    use crate::consumer::Consumer;
    #[pymodule_export]
    use crate::message::Message;
    #[pymodule_export]
    use crate::process::{LogStream, close_all, stats, version};
    #[pymodule_export]
    use crate::producer::{Delivery, Producer};
    #[pymodule_export]
    use crate::queue::{Change, Operation, Queue};
}
