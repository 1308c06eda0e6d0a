//! `soak`: a client under much of the same, and what its process looks like afterwards.

use std::process::ExitCode;

use levada_conformance::client::{self, Description};
use levada_conformance::soak::{Amount, Bath, Soaked, mib};

use super::{FAILED, HARNESS, Scratch, USAGE, fail, print};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A client of this repository by the name of its description in conformance/clients; may be repeated
    #[arg(long, value_name = "NAME", required = true)]
    client: Vec<String>,
    /// Connections to open and close
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    connects: u64,
    /// Messages to send and receive
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    messages: u64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Some(folder) = client::folder() else { return fail(USAGE, "run it in the repository") };
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(error) => return fail(HARNESS, &format!("no folder for data: {error}")),
    };
    let amount = Amount { connects: arguments.connects, messages: arguments.messages };
    let mut failed = false;
    for name in &arguments.client {
        let soaked = Description::read(&folder.join(format!("{name}.yaml"))).and_then(|description| {
            let mut bath = Bath::fill(&description, &scratch.path)?;
            let halves = (bath.connect(amount)?, bath.stream(amount)?);
            bath.drain()?;
            Ok(halves)
        });
        match soaked {
            Ok((connected, streamed)) => {
                failed |= tell(name, &format!("{} connections", amount.connects), &connected);
                failed |= tell(name, &format!("{} messages", amount.messages), &streamed);
            }
            Err(reason) => {
                failed = true;
                print(&format!("{name}: failed: {reason}"));
            }
        }
    }
    if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

/// Whether it leaks.
fn tell(name: &str, what: &str, soaked: &Soaked) -> bool {
    let leaks = soaked.leaks();
    let verdict = if leaks.is_empty() { "flat".to_owned() } else { leaks.join("; ") };
    let (warm, end) = (soaked.warm, soaked.end);
    print(&format!(
        "{name:<16} {what:<22} {:>6.1} s  memory {:>4} -> {:>4} MiB  descriptors {:>3} -> {:>3}  threads {:>2} -> {:>2}  {verdict}",
        soaked.took.as_secs_f64(),
        mib(warm),
        mib(end),
        warm.descriptors,
        end.descriptors,
        warm.threads,
        end.threads,
    ));
    !leaks.is_empty()
}
