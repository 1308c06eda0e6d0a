//! The command line as people and scripts see it: commands, flags, help texts. `cli/tests/contract.rs` holds the part
//! that scripts rely on. Nothing here acts.

mod access;
mod bench;
mod data;
mod groups;
mod local;
mod resources;

pub(crate) use access::{AccessCommand, AccessSetArgs, QuotaCommand, QuotaSetArgs, RoleCommand};
pub(crate) use bench::{BenchArgs, BenchCommand, GroupBenchArgs};
pub(crate) use data::{ConsumeArgs, CsvTypes, InputFormat, OutputFormat, ProduceArgs};
pub(crate) use groups::{GroupCommand, GroupResetArgs};
pub(crate) use local::{CompletionsArgs, ContextAddArgs, ContextCommand, PingArgs, RepairArgs, VerifyArgs};
pub(crate) use resources::{
    CodecName, DurabilityName, PartitionCommand, RoleName, StreamCommand, TokenCommand, TopicChangesArgs, TopicCommand,
    TopicCompressionName, TopicCreateArgs, UserAlterArgs, UserCommand,
};

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// The Levada command line: streams, topics, messages.
#[derive(Parser, Debug)]
#[command(
    name = "levada",
    version,
    styles = STYLES,
    max_term_width = 120,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  levada topic create shop/orders --partitions 4
  echo 'hello' | levada produce shop/orders
  levada consume shop/orders --from earliest
  levada status

The server is looked for in this order: --server, LEVADA_SERVER, the context in use (see `levada context`), a server on this machine. `levada COMMAND --help` shows examples of each command.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 server not reachable, 4 denied."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct GlobalArgs {
    /// Server to talk to: HOST:PORT, levada://HOST:PORT, or levada+tls://HOST:PORT [env: LEVADA_SERVER]
    #[arg(long, global = true, value_name = "URL", help_heading = "Connection")]
    pub(crate) server: Option<String>,

    /// File that holds an access token [env: LEVADA_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub(crate) token_file: Option<PathBuf>,

    /// Saved context to use instead of the current one [env: LEVADA_CONTEXT]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Connection")]
    pub(crate) context: Option<String>,

    /// Log in as this user; the password is asked for, or read from
    /// --login-password-file
    #[arg(long, global = true, value_name = "USER", conflicts_with = "token_file", help_heading = "Connection")]
    pub(crate) login: Option<String>,

    /// File that holds the password of --login
    #[arg(long, global = true, value_name = "FILE", requires = "login", help_heading = "Connection")]
    pub(crate) login_password_file: Option<PathBuf>,

    /// Certificate authorities (PEM) to trust for TLS instead of the built-in ones
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub(crate) ca_file: Option<PathBuf>,

    /// How to print: tables for people, JSON for machines
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT", help_heading = "Output")]
    pub(crate) output: Format,

    /// Say on standard error what the client does; twice for more
    #[arg(long, short, global = true, action = clap::ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,

    /// No progress bar and no closing summary on standard error
    #[arg(long, short, global = true, help_heading = "Output")]
    pub(crate) quiet: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Create, list, describe and delete streams
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Create, list, describe, alter, purge and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// List, describe and add partitions
    #[command(
        subcommand,
        after_help = "What is altered belongs to the topic: `levada topic alter`. Partitions are only ever added, because their number decides where a key's messages are; `levada topic purge STREAM/TOPIC:PARTITION` removes the messages of one."
    )]
    Partition(PartitionCommand),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(GroupCommand),
    /// Create, list, describe, alter and delete users
    #[command(subcommand)]
    User(UserCommand),
    /// Create, list, describe and delete access tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show and set what users may do
    #[command(subcommand)]
    Access(AccessCommand),
    /// Set, list and delete named roles: grants that users are given together
    #[command(subcommand)]
    Role(RoleCommand),
    /// Show and set what users may take of the server
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Send messages from standard input or a file
    Produce(ProduceArgs),
    /// Print messages
    Consume(ConsumeArgs),
    /// Show how the server is: partitions, disk, flush latency, connections
    #[command(after_help = "Examples:\n  levada status\n  levada status --output json | jq .flush_p99_us")]
    Status,
    /// Measure the round trip to the server
    Ping(PingArgs),
    /// Measure throughput and latency
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Check a data directory for damage, without a server
    Verify(VerifyArgs),
    /// Make a damaged partition writable again, giving up what is damaged
    Repair(RepairArgs),
    /// Save servers and credentials under a name
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_lines_of_the_contract_are_understood() {
        for line in [
            "levada --server levada://127.0.0.1:7420 --token-file t --output json status",
            "levada topic create s/t --partitions 8 --durability memory --retention-bytes 1000 --retention-age 7d --compression lz4",
            "levada produce s/t --file f --format json --key-field k --batch-bytes 1048576 --compression zstd",
            "levada produce s/t --format lines",
            "levada consume s/t:3 --from offset:12 --max 5 --follow",
            "levada consume s/t --from time:2026-11-22T18:00:00Z --output json",
            "levada consume s/t --from last:10",
            "levada bench produce --messages 10 --size 100 --batch-messages 5 --producers 2 --partitions 2 --durability disk",
            "levada consume s/t s/u* --group g --commit --max 5",
            "levada group describe g --output json",
            "levada group offsets g s/*",
            "levada group reset g s/* s/t --to last:10 --partition 2 --dry-run",
            "levada user create bob --grant s/*:read,write --grant s/t:group",
            "levada token create ci --scope s/*:read",
            "levada access show",
            "levada access show bob",
            "levada access set bob --role r --grant s/t:read --add",
            "levada role set r --grant */*:read",
            "levada role list",
            "levada role delete r",
            "levada quota set bob --bytes-in 10MiB --bytes-out unlimited --requests 100 --connections 5",
            "levada quota show bob",
            "levada verify DIR",
            "levada repair DIR --partition 1:0 --accept-loss",
            "levada context add lab 127.0.0.1:7420",
            "levada completions bash",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }
}
