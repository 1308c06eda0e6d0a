//! One suite that holds every client of Levada to the same behaviour.
//!
//! A client is driven through a small program, its adapter (`conformance/adapter-protocol.md`). Expectations, loops, timing and the
//! server are here; the cases are data in `conformance/cases`. The suite knows the protocol from `protocol-spec/spec.md` alone:
//! [`wire`] is both ends of it, written from that page, so that a defect of the product's codec cannot hide behind itself.
//! [`proxy`] and [`fake`] stand between a client and its server, or in the server's place, and misbehave.

pub mod fake;
pub mod ops;
pub mod proxy;
pub mod wire;
