//! Arguments of `access`, `role` and `quota`.

use crate::address::Name;
use crate::units::{Limit, Size};
use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub(crate) enum AccessCommand {
    /// Show what you, or a user, may do
    #[command(after_help = "Examples:\n  levada access show\n  levada access show bob")]
    Show {
        /// Whose [default: yours]
        user: Option<Name>,
    },
    /// Say what a member may do; what it could do before is replaced
    Set(AccessSetArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  levada access set bob --grant 'shop/*:read,write' --grant 'metrics/cpu:read'
  levada access set bob --role auditors
  levada access set bob --add --grant 'shop/orders:group'   # besides what it may do already
  levada access set bob                                     # nothing at all

A grant is a pattern of topics, with * for any run of characters but /, and actions: read, write, admin (create, alter, purge, delete), group (be a member of groups, store offsets).")]
pub(crate) struct AccessSetArgs {
    pub(crate) user: Name,
    /// What it may do, as in 'shop/*:read,write'; may be repeated
    #[arg(long, value_name = "GRANT")]
    pub(crate) grant: Vec<String>,
    /// A named role it has; may be repeated
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Vec<String>,
    /// Keep what it may do already
    #[arg(long)]
    pub(crate) add: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum RoleCommand {
    /// Create a named role, or replace what it allows, for all who have it
    #[command(
        after_help = "Example:\n  levada role set auditors --grant '*/*:read'\n  levada access set bob --role auditors"
    )]
    Set {
        role: Name,
        /// What it allows, as in 'shop/*:read,write'; may be repeated
        #[arg(long, value_name = "GRANT", required = true)]
        grant: Vec<String>,
    },
    /// List named roles
    #[command(visible_alias = "ls", after_help = "Example:\n  levada role list")]
    List,
    /// Delete a named role and take it from all who have it
    #[command(after_help = "Example:\n  levada role delete auditors")]
    Delete { role: Name },
}

#[derive(Subcommand, Debug)]
pub(crate) enum QuotaCommand {
    /// Show what you, or a user, may take of the server
    #[command(after_help = "Examples:\n  levada quota show\n  levada quota show bob")]
    Show {
        /// Whose [default: yours]
        user: Option<Name>,
    },
    /// Say what a user may take of the server, all its connections together
    Set(QuotaSetArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  levada quota set bob --bytes-in 10MiB --bytes-out 50MiB
  levada quota set bob --requests 1000 --connections 20
  levada quota set bob --bytes-in unlimited

What is not named stays. Who takes more is told when to try again; clients wait and do so by themselves.")]
pub(crate) struct QuotaSetArgs {
    pub(crate) user: Name,
    #[command(flatten)]
    pub(crate) limits: QuotaLimitsArgs,
}

/// At least one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct QuotaLimitsArgs {
    /// Bytes a second it may send, or `unlimited`
    #[arg(long, value_name = "SIZE")]
    pub(crate) bytes_in: Option<Limit<Size>>,
    /// Bytes a second it is sent, or `unlimited`
    #[arg(long, value_name = "SIZE")]
    pub(crate) bytes_out: Option<Limit<Size>>,
    /// Requests a second; 0 is unlimited
    #[arg(long, value_name = "N")]
    pub(crate) requests: Option<u32>,
    /// Connections at a time; 0 is unlimited
    #[arg(long, value_name = "N")]
    pub(crate) connections: Option<u32>,
}
