//! The `levada-conformance` binary: its command line. What each command does is in `commands`.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Holds clients of Levada to the same behaviour, against a live server that this program brings along.
///
/// A client takes part through a small program, its adapter, that speaks lines of JSON: `levada-conformance init` writes everything
/// one needs to make one. Exit codes: 0 all is well, 1 cases failed, 2 wrong usage, 3 a client cannot be run, 4 this program is at fault.
#[derive(Parser)]
#[command(name = "levada-conformance", version, propagate_version = true)]
#[command(after_help = "\
Examples:
  levada-conformance run --client rust                       a client of this repository, everything
  levada-conformance run --client rust --run 'consume/**'    some cases
  levada-conformance run --command ./my-adapter --conf client.yaml --out report/
  levada-conformance list --uncovered                        sections of the specification that no case holds anyone to
  levada-conformance init my-client && cd my-client          start a client of your own")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run cases against clients and write reports
    Run(commands::run::Arguments),
    /// List cases, the features they need, or what none covers
    List(commands::list::Arguments),
    /// Show one case as it is written
    Show(commands::show::Arguments),
    /// Write all that an adapter of one's own needs into a folder
    Init(commands::init::Arguments),
    /// Prove that the suite catches clients that are wrong on purpose
    Selftest(commands::selftest::Arguments),
    /// Put clients under load for long, and look for what stays behind in their processes
    Soak(commands::soak::Arguments),
    /// Kill the server again and again under the load of clients, and account for every message
    Crash(commands::crash::Arguments),
    /// Put reports together as one
    Merge(commands::merge::Arguments),
    /// Write the golden encodings of the protocol into a folder
    Vectors(commands::vectors::Arguments),
    /// A server: what `run` starts
    #[command(hide = true, disable_help_flag = true)]
    Serve {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::List(arguments) => commands::list::run(&arguments),
        Command::Show(arguments) => commands::show::run(&arguments),
        Command::Init(arguments) => commands::init::run(&arguments),
        Command::Selftest(arguments) => commands::selftest::run(&arguments),
        Command::Soak(arguments) => commands::soak::run(&arguments),
        Command::Crash(arguments) => commands::crash::run(&arguments),
        Command::Merge(arguments) => commands::merge::run(&arguments),
        Command::Vectors(arguments) => commands::vectors::run(&arguments),
        Command::Serve { arguments } => {
            let name = std::iter::once("levada-server".to_owned());
            levada_server::program::main(&levada_server::config::Cli::parse_from(name.chain(arguments)))
        }
    }
}
