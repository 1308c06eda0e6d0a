//! The `levada-server` binary. Everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use levada_server::config::Cli;

fn main() -> ExitCode {
    levada_server::program::main(&Cli::parse())
}
