//! Arguments of `stream`, `topic`, `partition`, `user` and `token`.

use crate::address::{Name, PartitionName, TopicName, TopicPart};
use crate::units::{From, Limit, Size, Span};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum StreamCommand {
    /// Create a stream (creating a topic does so too)
    #[command(after_help = "Example:\n  levada stream create shop")]
    Create { stream: Name },
    /// List streams
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  levada stream list\n  levada stream list --output json | jq -r '.[].stream'"
    )]
    List,
    /// Show a stream and its topics
    #[command(after_help = "Example:\n  levada stream describe shop")]
    Describe { stream: Name },
    /// Delete a stream
    #[command(
        after_help = "Examples:\n  levada stream delete shop            # refused while it has topics\n  levada stream delete shop --topics   # with its topics and all their messages"
    )]
    Delete {
        stream: Name,
        /// Delete its topics and their messages too
        #[arg(long)]
        topics: bool,
    },
    /// Says what can be altered instead
    #[command(hide = true)]
    Alter(Anything),
}

/// Whatever stands behind a command that is there to say why it does nothing.
#[derive(Args, Debug)]
pub(crate) struct Anything {
    #[arg(num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum TopicCommand {
    /// Create a topic, and its stream if that is absent
    Create(TopicCreateArgs),
    /// List topics
    #[command(visible_alias = "ls", after_help = "Examples:\n  levada topic list\n  levada topic list shop")]
    List {
        /// Only topics of this stream
        stream: Option<Name>,
    },
    /// Show a topic's options and partitions
    #[command(after_help = "Example:\n  levada topic describe shop/orders")]
    Describe { topic: TopicName },
    /// Change a topic's options
    Alter(TopicAlterArgs),
    /// Delete a topic and its messages
    #[command(after_help = "Example:\n  levada topic delete shop/orders")]
    Delete { topic: TopicName },
    /// Remove all messages of a topic or of one partition; offsets go on from where they were
    #[command(after_help = "Examples:\n  levada topic purge shop/orders\n  levada topic purge shop/orders:2")]
    Purge {
        #[arg(value_name = "STREAM/TOPIC[:PARTITION]")]
        topic: TopicPart,
    },
    /// Delete the messages of a partition before a position, durably; offsets stay as they are
    #[command(after_help = "\
Examples:
  levada topic trim shop/orders:2 --before offset:1000
  levada topic trim shop/orders:2 --before time:2026-11-22T18:00:00Z
  levada topic trim shop/orders:2 --before last:100    # keeps the last 100")]
    Trim {
        #[arg(value_name = "STREAM/TOPIC:PARTITION")]
        partition: PartitionName,
        /// The first message that stays: latest, offset:N, time:RFC3339 or last:N
        #[arg(long, value_name = "POSITION")]
        before: From,
    },
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  levada topic create shop/orders
  levada topic create shop/orders --partitions 8 --retention-age 7d --compression zstd
  levada topic create metrics/cpu --durability memory --retention-bytes 1GiB

Durability `disk` acknowledges a message when it is flushed to disk; `memory` as soon as it is in the server's memory, which is flushed every second. Retention is per partition.")]
pub(crate) struct TopicCreateArgs {
    #[arg(value_name = "STREAM/TOPIC")]
    pub(crate) topic: TopicName,
    /// Number of partitions; may grow later, never shrink
    #[arg(long, short, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) partitions: u32,
    /// What an acknowledgement means
    #[arg(long, value_enum, default_value_t = DurabilityName::Disk)]
    pub(crate) durability: DurabilityName,
    /// Oldest messages beyond this size are removed, per partition [default: unlimited]
    #[arg(long, value_name = "SIZE")]
    pub(crate) retention_bytes: Option<Limit<Size>>,
    /// Messages older than this are removed, as in 7d [default: unlimited]
    #[arg(long, value_name = "DURATION")]
    pub(crate) retention_age: Option<Limit<Span>>,
    /// Codec of what is stored: the server encodes anew what producers send in another; `producer` leaves it as sent
    #[arg(long, value_enum, default_value_t = TopicCompressionName::Producer, value_name = "CODEC")]
    pub(crate) compression: TopicCompressionName,
    /// Size at which a segment file is sealed [default: the server's]
    #[arg(long, value_name = "SIZE")]
    pub(crate) segment_bytes: Option<Size>,
    /// Age at which a segment file is sealed, from 1s to 24h [default: 24h, or a quarter of the retention age]
    #[arg(long, value_name = "DURATION")]
    pub(crate) segment_age: Option<Span>,
    /// Drop messages whose id is among those of the last N messages of a partition [default: keep all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) dedup_messages: Option<u32>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  levada topic alter shop/orders --retention-age 30d
  levada topic alter shop/orders --retention-bytes unlimited
  levada topic alter shop/orders --partitions 16

What is not named stays. After adding partitions, messages of a key may go to another partition than before.")]
pub(crate) struct TopicAlterArgs {
    #[arg(value_name = "STREAM/TOPIC")]
    pub(crate) topic: TopicName,
    #[command(flatten)]
    pub(crate) changes: TopicChangesArgs,
}

/// At least one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct TopicChangesArgs {
    /// Number of partitions from now on; may only grow
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) partitions: Option<u32>,
    /// What an acknowledgement means from now on
    #[arg(long, value_enum)]
    pub(crate) durability: Option<DurabilityName>,
    /// A size per partition, or `unlimited`
    #[arg(long, value_name = "SIZE")]
    pub(crate) retention_bytes: Option<Limit<Size>>,
    /// A duration, as in 7d, or `unlimited`
    #[arg(long, value_name = "DURATION")]
    pub(crate) retention_age: Option<Limit<Span>>,
    /// Codec of what is stored from now on; `producer` leaves it as sent
    #[arg(long, value_enum, value_name = "CODEC")]
    pub(crate) compression: Option<TopicCompressionName>,
    /// Size at which a segment file is sealed; 0 is the server's default
    #[arg(long, value_name = "SIZE")]
    pub(crate) segment_bytes: Option<Size>,
    /// Age at which a segment file is sealed, from 1s to 24h; 0s is the server's default
    #[arg(long, value_name = "DURATION")]
    pub(crate) segment_age: Option<Span>,
    /// Drop messages whose id is among those of the last N messages of a partition; 0 keeps all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) dedup_messages: Option<u32>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum PartitionCommand {
    /// Add partitions to a topic
    #[command(after_help = "Example:\n  levada partition create shop/orders --count 4   # four more than now")]
    Create {
        #[arg(value_name = "STREAM/TOPIC")]
        topic: TopicName,
        /// How many to add
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
        count: u32,
    },
    /// List a topic's partitions
    #[command(visible_alias = "ls", after_help = "Example:\n  levada partition list shop/orders")]
    List {
        #[arg(value_name = "STREAM/TOPIC")]
        topic: TopicName,
    },
    /// Show one partition
    #[command(after_help = "Example:\n  levada partition describe shop/orders:0")]
    Describe {
        #[arg(value_name = "STREAM/TOPIC:PARTITION")]
        partition: PartitionName,
    },
    /// Says what can be altered instead
    #[command(hide = true)]
    Alter(Anything),
    /// Says what can be deleted instead
    #[command(hide = true)]
    Delete(Anything),
}

#[derive(Subcommand, Debug)]
pub(crate) enum UserCommand {
    /// Create a user
    #[command(after_help = "\
Examples:
  levada user create ada                          # asks for a password twice
  levada user create ada --password-file ada.pw --grant 'shop/*:read,write'
  printf %s \"$PASSWORD\" | levada user create ada --role admin")]
    Create {
        user: Name,
        /// `admin` may do everything; `member` what it is granted, and nothing else
        #[arg(long, value_enum, default_value_t = RoleName::Member)]
        role: RoleName,
        /// What a member may do, as in 'shop/*:read,write'; may be repeated (see `levada access set --help`)
        #[arg(long, value_name = "GRANT")]
        grant: Vec<String>,
        /// File that holds the password; a line end at its end is not part of it
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List users
    #[command(visible_alias = "ls", after_help = "Example:\n  levada user list")]
    List,
    /// Show a user and its tokens
    #[command(after_help = "Example:\n  levada user describe ada")]
    Describe { user: Name },
    /// Change a user's role or password
    Alter(UserAlterArgs),
    /// Delete a user with its tokens
    #[command(after_help = "Example:\n  levada user delete ada")]
    Delete { user: Name },
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  levada user alter ada --role admin
  levada user alter ada --password                # asks for it twice
  levada user alter ada --password-file new.pw")]
pub(crate) struct UserAlterArgs {
    pub(crate) user: Name,
    #[command(flatten)]
    pub(crate) changes: UserChangesArgs,
}

/// At least one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct UserChangesArgs {
    /// Role from now on
    #[arg(long, value_enum)]
    pub(crate) role: Option<RoleName>,
    /// Ask for a new password, or read it from standard input
    #[arg(long, conflicts_with = "password_file")]
    pub(crate) password: bool,
    /// File that holds the new password
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Create an access token; its secret is shown this once
    #[command(after_help = "\
Examples:
  levada token create ci --expires-in 30d
  levada token create ci --write ci.token         # mode 0600, nothing on the screen
  levada token create ingest --user ada --scope 'shop/*:write'

Use it with --token-file FILE or LEVADA_TOKEN_FILE=FILE.")]
    Create {
        name: Name,
        /// Whose token it is [default: yours]
        #[arg(long)]
        user: Option<Name>,
        /// When it ends, as in 30d [default: never]
        #[arg(long, value_name = "DURATION")]
        expires_in: Option<Span>,
        /// What it may do at most, as in 'shop/*:read'; may be repeated [default: all that its user may]
        #[arg(long, value_name = "GRANT")]
        scope: Vec<String>,
        /// Write the secret to a new file (mode 0600) instead of standard output
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
    /// List tokens
    #[command(visible_alias = "ls", after_help = "Examples:\n  levada token list\n  levada token list --user ada")]
    List {
        /// Whose tokens [default: yours]
        #[arg(long)]
        user: Option<Name>,
    },
    /// Show one token, without its secret
    #[command(after_help = "Example:\n  levada token describe ci")]
    Describe {
        name: Name,
        /// Whose token [default: yours]
        #[arg(long)]
        user: Option<Name>,
    },
    /// Revoke a token
    #[command(visible_alias = "revoke", after_help = "Example:\n  levada token delete ci")]
    Delete {
        name: Name,
        /// Whose token [default: yours]
        #[arg(long)]
        user: Option<Name>,
    },
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DurabilityName {
    Memory,
    Disk,
    Quorum,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicCompressionName {
    Producer,
    None,
    Lz4,
    Zstd,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodecName {
    None,
    Lz4,
    Zstd,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleName {
    Admin,
    Member,
}
