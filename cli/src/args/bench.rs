//! Arguments of `bench`.

use super::resources::{CodecName, DurabilityName};
use crate::address::TopicName;
use crate::units::{Count, Size};
use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub(crate) enum BenchCommand {
    /// Producers send batches as fast as they are acknowledged
    #[command(after_help = "\
Examples:
  levada bench produce
  levada bench produce --messages 10M --size 100 --batch-messages 1000
  levada bench produce --producers 8 --partitions 8 --durability memory --output json")]
    Produce(BenchArgs),
    /// Reads a topic from its start to its end as fast as it comes
    #[command(after_help = "\
Examples:
  levada bench consume --messages 1M --size 1000      # produces them first, then reads
  levada bench consume --topic shop/orders            # reads what is there")]
    Consume(BenchArgs),
    /// One message at a time, each acknowledged before the next
    #[command(after_help = "\
Examples:
  levada bench latency --messages 10k --size 1KiB
  levada bench latency --producers 8 --durability memory")]
    Latency(BenchArgs),
    /// Members join one group all at once: how long until every partition has its member
    #[command(after_help = "\
Examples:
  levada bench group
  levada bench group --members 500 --partitions 1000 --rounds 20 --output json")]
    Group(GroupBenchArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct GroupBenchArgs {
    /// Members of the group, each with its own connection
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) members: u32,
    /// Partitions of the topic that is made
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) partitions: u32,
    /// How often all of them join and leave
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// Messages in all
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) messages: Option<Count>,
    /// Payload of a message
    #[arg(long, value_name = "SIZE", default_value = "1000")]
    pub(crate) size: Size,
    /// Messages of a batch
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) batch_messages: Count,
    /// Producers (or consumers), each with its own connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) producers: u32,
    /// Partitions of the topic that is made
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) partitions: u32,
    /// Durability of the topic that is made
    #[arg(long, value_enum, default_value_t = DurabilityName::Disk)]
    pub(crate) durability: DurabilityName,
    /// Existing topic to use [default: a temporary one, deleted afterwards]
    #[arg(long, value_name = "STREAM/TOPIC")]
    pub(crate) topic: Option<TopicName>,
    /// Codec of the batches
    #[arg(long, value_enum, default_value_t = CodecName::None, value_name = "CODEC")]
    pub(crate) compression: CodecName,
    /// Batches each producer keeps unacknowledged
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) in_flight: u32,
    /// Messages sent before measuring begins, on top of --messages and in percent of them
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=90))]
    pub(crate) warm_up: u32,
    /// Seed of the payload bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}
