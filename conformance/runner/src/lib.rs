//! One suite that holds every client of Levada to the same behaviour.
//!
//! A client is driven through a small program, its adapter (`conformance/adapter-protocol.md`). Expectations, loops, timing and the
//! server are here; the cases are data in `conformance/cases`. The suite knows the protocol from `protocol-spec/spec.md` alone:
//! [`wire`] is both ends of it, written from that page, so that a defect of the product's codec cannot hide behind itself.
//! [`proxy`] and [`fake`] stand between a client and its server, or in the server's place, and misbehave.
//!
//! Read in this order: [`mod@case`], [`spine`] (one case), [`run`] (one client), then what steps do: [`adapter`], [`server_step`],
//! [`proxy_step`], [`node_step`], [`wire_step`]; [`expect`] judges, [`report`] tells.

pub mod adapter;
pub mod case;
pub mod client;
pub mod crash;
pub mod expect;
pub mod fake;
pub mod generate;
pub mod known;
pub mod node;
pub mod node_step;
pub mod ops;
pub mod process;
pub mod proxy;
pub mod proxy_step;
pub mod report;
pub mod result;
pub mod run;
pub mod select;
pub mod selftest;
pub mod server_step;
pub mod soak;
pub mod spec;
pub mod spine;
pub mod values;
pub mod wire;
pub mod wire_step;
pub mod yaml;
