//! Arguments of the commands about this machine: `ping`, `verify`, `repair`, `context`, `completions`.

use clap::{Args, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  levada ping\n  levada --server 10.0.0.7:7420 ping --count 10")]
pub(crate) struct PingArgs {
    /// How many round trips to measure
    #[arg(long, short, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  levada verify ./levada-data
  levada verify ./levada-data --output json

Reads every segment of every partition and names each defect by file and position. Changes nothing. Stop the server first. Exit code 1 if there is any defect.")]
pub(crate) struct VerifyArgs {
    /// Data directory of a stopped server
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  levada verify ./levada-data                                      # shows what is damaged
  levada repair ./levada-data --partition 7:0 --accept-loss

The partition is named as `verify` shows it: TOPIC_ID:PARTITION. The damaged messages are given up for ever; an audit record is written into the data directory. Stop the server first.")]
pub(crate) struct RepairArgs {
    /// Data directory of a stopped server
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Partition to repair, as `levada verify` names it
    #[arg(long, value_name = "ID")]
    pub(crate) partition: String,
    /// Yes, give up the messages that are damaged
    #[arg(long, required = true)]
    pub(crate) accept_loss: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ContextCommand {
    /// Save a server and how to log in under a name
    Add(ContextAddArgs),
    /// List saved contexts
    #[command(visible_alias = "ls", after_help = "Example:\n  levada context list")]
    List,
    /// Use a saved context from now on
    #[command(after_help = "Example:\n  levada context use production")]
    Use { name: String },
    /// Forget a saved context
    #[command(after_help = "Example:\n  levada context remove staging")]
    Remove { name: String },
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  levada context add local 127.0.0.1:7420
  levada context add production levada+tls://levada.example.com:7420 --with-token-file prod.token --use

Contexts are kept in one file with mode 0600. The token itself stays in its own file.")]
pub(crate) struct ContextAddArgs {
    pub(crate) name: String,
    /// HOST:PORT, levada://HOST:PORT, or levada+tls://HOST:PORT
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// File that holds the access token
    #[arg(long, value_name = "FILE")]
    pub(crate) with_token_file: Option<PathBuf>,
    /// Certificate authorities (PEM) to trust for this server
    #[arg(long, value_name = "FILE")]
    pub(crate) with_ca_file: Option<PathBuf>,
    /// Use it from now on; the first context is used at once
    #[arg(long = "use")]
    pub(crate) use_now: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  levada completions bash > ~/.local/share/bash-completion/completions/levada
  levada completions zsh > ~/.zfunc/_levada
  levada completions fish > ~/.config/fish/completions/levada.fish")]
pub(crate) struct CompletionsArgs {
    pub(crate) shell: Shell,
}
