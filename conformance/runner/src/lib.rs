//! One suite that holds every client of Levada to the same behaviour.
//!
//! A client is driven through a small program, its adapter (`conformance/adapter-protocol.md`). Expectations, loops, timing and the
//! server are here; the cases are data in `conformance/cases`.

pub mod ops;
