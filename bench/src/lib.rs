//! Load generator behind `levada bench`: closed-loop producers and consumers, and what they measured.
//!
//! A [`Plan`] says what to do, [`run`] does it and returns a [`Report`]; printing is the caller's. Payload bytes come from
//! a seed. Figures are of the measured part only: every producer warms up, all meet, then the clock starts. The library
//! knows the server by its address alone; CPU and memory are read from /proc if the server is on this machine.

mod consume;
mod group;
mod latency;
mod machine;
mod payload;
mod plan;
mod produce;
mod report;
mod run;
mod server_process;
mod topic;

pub use group::{GroupPlan, GroupReport, run_group};
pub use machine::Machine;
pub use plan::{Kind, Plan, Progress};
pub use report::{Latencies, Report, ServerUse};
pub use run::{BenchError, run};
