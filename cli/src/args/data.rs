//! Arguments of `produce` and `consume`.

use super::resources::{CodecName, DurabilityName};
use crate::address::TopicPart;
use crate::units::{From, Size};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  echo 'hello' | levada produce shop/orders
  levada produce shop/orders --file orders.jsonl --format json --key-field customer
  levada produce shop/orders --file orders.csv --format csv --key-field customer --compression zstd
  levada produce shop/orders --file orders.jsonl --format json --key-field order --id-from-key
  tail -f app.log | levada produce logs/app
  levada produce shop/orders:3 --file lines.txt        # all into partition 3

Formats:
  lines  each line is a payload, byte for byte (a carriage return stays); an empty line is an empty payload; a last line without a line end counts
  json   each line is a JSON object and is sent as it is; blank lines are skipped
  csv    the first row names the fields; each row becomes a JSON object

Messages of one key stay in order in one partition. How many were acknowledged is printed on standard error. Ctrl-C sends what was read, then stops.")]
pub(crate) struct ProduceArgs {
    #[arg(value_name = "STREAM/TOPIC[:PARTITION]")]
    pub(crate) topic: TopicPart,
    /// Read this file instead of standard input
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How the input is cut into messages
    #[arg(long, value_enum, default_value_t = InputFormat::Lines)]
    pub(crate) format: InputFormat,
    /// Field whose value is the message's key (formats json and csv): a string as its text, another value as its JSON,
    /// null is no key; a record without the field is an error
    #[arg(long, value_name = "NAME")]
    pub(crate) key_field: Option<String>,
    /// Give each message an id made of its key, so that a topic with --dedup-messages drops it if it was sent before: a UUID
    /// as it is, another key by its digest
    #[arg(long, requires = "key_field")]
    pub(crate) id_from_key: bool,
    /// What csv fields become: `text` makes strings of all; `infer` makes numbers, true, false and (of empty fields) null
    #[arg(long, value_enum, default_value_t = CsvTypes::Text, value_name = "TYPES")]
    pub(crate) csv_types: CsvTypes,
    /// Size a batch is filled to, at most
    #[arg(long, value_name = "SIZE")]
    pub(crate) batch_bytes: Option<Size>,
    /// Codec of the batches [default: the topic's]
    #[arg(long, value_enum, value_name = "CODEC")]
    pub(crate) compression: Option<CodecName>,
    /// Ask for at least this; a topic's own durability is the floor
    #[arg(long, value_enum)]
    pub(crate) durability: Option<DurabilityName>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  levada consume shop/orders --from earliest
  levada consume shop/orders:3 --from offset:1200 --max 10
  levada consume shop/orders --from last:5 --format pretty
  levada consume shop/orders --from time:2026-11-22T18:00:00Z --output json | jq .payload
  levada consume logs/app --from latest --follow
  levada consume 'shop/*' --group billing --commit     # as a member of a group

Without --follow it stops at the end the log had when the command began. Without a partition it reads all of them; each is in order, and `offset:N` and `last:N` are meant for each. `time:` compares the time the server appended a message.

With --output json each message is one line:
  {\"partition\":0,\"offset\":0,\"timestamp\":\"…\",\"append_time\":\"…\",\"key\":\"…\",\"headers\":{},\"payload\":\"…\"}
Without a key \"key\" is null. Bytes that are not UTF-8 are in \"payload_base64\" and \"key_base64\" instead. With --group there is a \"topic\" too.

With --group it becomes a member of that group and reads the partitions it is assigned, of one or more topics or patterns (`*` stands for any run of characters but `/`), until Ctrl-C or --max. --from is for partitions the group has stored nothing for.")]
pub(crate) struct ConsumeArgs {
    /// One topic or partition; with --group, topics and patterns
    #[arg(value_name = "STREAM/TOPIC[:PARTITION]", required = true)]
    pub(crate) topics: Vec<String>,
    /// Read as a member of this consumer group
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// Store how far the group is: what was printed counts as done
    #[arg(long, requires = "group")]
    pub(crate) commit: bool,
    /// Where to start: earliest, latest, offset:N, time:RFC3339 or last:N
    #[arg(long, value_name = "POSITION", default_value = "earliest")]
    pub(crate) from: From,
    /// Stop after this many messages
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u64>,
    /// Do not stop at the end: wait for more until Ctrl-C
    #[arg(long)]
    pub(crate) follow: bool,
    /// How a message is printed: its payload and a line end, one JSON object per line, or a block for reading
    /// [default: raw; json with --output json]
    #[arg(long, value_enum)]
    pub(crate) format: Option<OutputFormat>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputFormat {
    Lines,
    Json,
    Csv,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CsvTypes {
    Text,
    Infer,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    Raw,
    Json,
    Pretty,
}
