//! `levada completions`.

use crate::args::{Cli, CompletionsArgs};
use crate::failure::Failure;
use crate::session::Session;
use clap::CommandFactory;

pub(crate) fn run(session: &Session, args: CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "levada", &mut script);
    session.screen.text(&String::from_utf8_lossy(&script))
}
