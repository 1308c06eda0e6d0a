//! Arguments of `group`.

use crate::units::From;
use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub(crate) enum GroupCommand {
    /// List consumer groups
    #[command(visible_alias = "ls", after_help = "Example:\n  levada group list")]
    List,
    /// Show a group's members, and its partitions with their lag
    #[command(
        after_help = "Examples:\n  levada group describe billing\n  levada group describe billing --output json | jq '[.partitions[].lag] | add'"
    )]
    Describe {
        /// Name of the group
        group: String,
    },
    /// Delete a group without members, and the offsets it has stored
    #[command(after_help = "Example:\n  levada group delete billing")]
    Delete {
        /// Name of the group
        group: String,
    },
    /// Show the offsets a group has stored
    #[command(after_help = "Examples:\n  levada group offsets billing\n  levada group offsets billing 'shop/*'")]
    Offsets {
        /// Name of the group
        group: String,
        /// Only of these topics or patterns
        #[arg(value_name = "STREAM/TOPIC")]
        topics: Vec<String>,
    },
    /// Move the stored offsets of a group without members
    Reset(GroupResetArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  levada group reset billing shop/orders --to earliest --dry-run
  levada group reset billing 'shop/*' --to time:2026-11-22T18:00:00Z
  levada group reset billing shop/orders --partition 3 --to offset:1200

An offset outside the log becomes its start or its end. The group must have no members: they would commit over it.")]
pub(crate) struct GroupResetArgs {
    /// Name of the group
    pub(crate) group: String,
    /// Topics or patterns: `*` stands for any run of characters but `/`
    #[arg(value_name = "STREAM/TOPIC", required = true)]
    pub(crate) topics: Vec<String>,
    /// Where to: earliest, latest, offset:N, time:RFC3339 or last:N
    #[arg(long, value_name = "POSITION")]
    pub(crate) to: From,
    /// Only this partition of each topic
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u32>,
    /// Only show what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
}
