//! The log's promises, in scenarios: see RELIABILITY in the project's documents for the names T02 to T06.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a scenario that fails should panic; its numbers are small"
)]

mod crash;
mod damage;
mod dense;
mod model;
mod offline;
mod partition;
mod restart;
mod vocabulary;
