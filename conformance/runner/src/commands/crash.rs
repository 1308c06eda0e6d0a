//! `crash`: the server is killed under the load of clients, and every message accounted for.

use std::process::ExitCode;

use levada_conformance::client::{self, Description};
use levada_conformance::crash::{self, Plan};

use super::{FAILED, HARNESS, Scratch, USAGE, fail, print};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A client of this repository by the name of its description in conformance/clients; may be repeated: all of them
    /// send at once, and read in one group
    #[arg(long, value_name = "NAME", required = true)]
    client: Vec<String>,
    /// How often the server is killed
    #[arg(long, value_name = "N", default_value_t = 20)]
    cycles: u64,
    /// Acknowledgements between two kills, of all clients together
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    acks: u64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Some(folder) = client::folder() else { return fail(USAGE, "run it in the repository") };
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(error) => return fail(HARNESS, &format!("no folder for data: {error}")),
    };
    let described = arguments.client.iter().map(|name| Description::read(&folder.join(format!("{name}.yaml"))));
    let clients: Vec<Description> = match described.collect() {
        Ok(clients) => clients,
        Err(reason) => return fail(USAGE, &reason),
    };
    let plan = Plan { cycles: arguments.cycles, acks_per_cycle: arguments.acks };
    match crash::run(&clients, &scratch.path, plan) {
        Ok(survived) => {
            print(&format!(
                "{} kills, {} messages of {}: none lost, none twice, none out of order; a group was handed {} of them and \
                 committed {} times: no commit lost, nothing below one handed out again; ready again after {} ms at the most",
                plan.cycles,
                survived.messages,
                arguments.client.join(" and "),
                survived.handed,
                survived.commits,
                survived.slowest_start.as_millis(),
            ));
            ExitCode::SUCCESS
        }
        Err(reason) => fail(FAILED, &reason),
    }
}
