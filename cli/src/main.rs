//! The `levada` command line. `args` says what can be asked, `commands` does it, `failure` is how it ends badly.

mod address;
mod args;
mod commands;
mod failure;
mod input;
mod interrupt;
mod render;
mod screen;
mod secret;
mod session;
mod units;
mod view;

use args::Cli;
use clap::Parser;
use failure::{Exit, Failure};
use session::Session;
use std::process::ExitCode;

/// One for the command, one for the connections, so that a slow terminal or pipe never keeps a connection waiting.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.global.verbose);
    let session = Session::new(cli.global);
    let exit = match run(&session, cli.command) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            if !failure.is_silent() {
                session.screen.failure(&failure);
            }
            failure.exit()
        }
    };
    ExitCode::from(exit as u8)
}

fn run(session: &Session, command: args::Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {}", failure::plain(&error))))?;
    let result = runtime.block_on(commands::run(session, command));
    // A thread may still wait for standard input; it must not keep the process.
    runtime.shutdown_background();
    result
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => "levada=debug",
        _ => "trace",
    };
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
}
