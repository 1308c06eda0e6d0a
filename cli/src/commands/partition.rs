//! `levada partition`.

use super::topic::describe;
use crate::args::PartitionCommand;
use crate::failure::Failure;
use crate::screen::{Screen, Value};
use crate::session::{self, Session};
use crate::units::{human_bytes, human_count};
use crate::view::PartitionView;
use levada::Admin;

pub(crate) async fn run(session: &Session, command: PartitionCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let result = act(&client.admin(), &session.screen, command).await;
    session::close(&client).await;
    result
}

async fn act(admin: &Admin, screen: &Screen, command: PartitionCommand) -> Result<(), Failure> {
    match command {
        PartitionCommand::Create { topic, count } => {
            let name = topic.to_string();
            let now = admin.describe_topic(&name).await?.topic.options.partition_count;
            admin.set_partition_count(&name, now.saturating_add(count)).await?;
            let partitions = describe(admin, &name).await?.partitions.unwrap_or_default();
            screen.show(&partitions, |_| format!("Topic {topic} has {} partitions now", partitions.len()))
        }
        PartitionCommand::List { topic } => {
            let partitions = describe(admin, &topic.to_string()).await?.partitions.unwrap_or_default();
            screen.show(&partitions, |screen| list(screen, &partitions))
        }
        PartitionCommand::Describe { partition } => {
            let partitions = describe(admin, &partition.topic.to_string()).await?.partitions.unwrap_or_default();
            let count = partitions.len();
            let found = partitions.into_iter().find(|p| p.partition == partition.partition).ok_or_else(|| {
                let (topic, number) = (&partition.topic, partition.partition);
                Failure::failed(format!(
                    "PARTITION_NOT_FOUND: {topic} has no partition {number}; it has {count}, counted from 0"
                ))
            })?;
            screen.show(&found, |screen| properties(screen, &found))
        }
        PartitionCommand::Alter(_) => {
            let hint = "Options belong to the topic: `levada topic alter STREAM/TOPIC`";
            Err(Failure::usage("a partition has nothing to alter").hint(hint))
        }
        PartitionCommand::Delete(_) => {
            let hint =
                "`levada topic purge STREAM/TOPIC:PARTITION` removes its messages, `levada topic delete` the topic";
            let message = "partitions are only ever added: their number decides where a key's messages are";
            Err(Failure::usage(message).hint(hint))
        }
    }
}

pub(crate) fn list(screen: &Screen, partitions: &[PartitionView]) -> String {
    let rows = partitions.iter().map(|p| {
        [
            Value::figure(p.partition),
            Value::figure(human_count(p.message_count)),
            Value::figure(p.log_start_offset),
            Value::figure(p.visible_end_offset),
            Value::figure(human_bytes(p.size_bytes)),
            Value::figure(p.segment_count),
            Value::figure(p.shard),
            state(p),
        ]
    });
    screen.table(["PARTITION", "MESSAGES", "START", "END", "SIZE", "SEGMENTS", "CORE", "STATE"], rows.collect())
}

fn properties(screen: &Screen, p: &PartitionView) -> String {
    screen.properties(vec![
        ("Partition", Value::text(p.partition)),
        ("State", state(p)),
        ("Messages", Value::text(human_count(p.message_count))),
        ("Log start", Value::text(p.log_start_offset)),
        ("Visible end", Value::text(p.visible_end_offset)),
        ("Durable end", Value::text(p.durable_end_offset)),
        ("Size", Value::text(human_bytes(p.size_bytes))),
        ("Segments", Value::text(p.segment_count)),
        ("Leader epoch", Value::text(p.leader_epoch)),
        ("Core", Value::text(p.shard)),
    ])
}

fn state(p: &PartitionView) -> Value {
    match (p.state, p.state_reason.as_str()) {
        ("writable", _) => Value::text("writable"),
        (state, "") => Value::Alert(state.to_owned()),
        (state, reason) => Value::Alert(format!("{state}: {reason}")),
    }
}
