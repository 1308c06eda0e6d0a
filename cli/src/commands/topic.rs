//! `levada topic`.

use super::{consume, partition};
use crate::args::{DurabilityName, TopicChangesArgs, TopicCommand, TopicCompressionName, TopicCreateArgs};
use crate::failure::Failure;
use crate::screen::{Screen, Value};
use crate::session::{self, Session};
use crate::units::{Limit, Span, human_bytes, human_count, human_span};
use crate::view::{PartitionView, TopicView};
use levada::{Admin, Durability, TopicChanges, TopicCompression, TopicOptions};
use serde_json::json;

pub(crate) async fn run(session: &Session, command: TopicCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let result = act(&client.admin(), &session.screen, command).await;
    session::close(&client).await;
    result
}

async fn act(admin: &Admin, screen: &Screen, command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::Create(args) => {
            let name = args.topic.to_string();
            let mut topic = TopicView::from(admin.create_topic(&name, options(&args)).await?);
            set_segment_age(admin, &mut topic, &name, args.segment_age.as_ref()).await?;
            set_dedup_messages(admin, &mut topic, &name, args.dedup_messages).await?;
            screen.show(&topic, |_| format!("Created topic {}", in_words(&topic)))
        }
        TopicCommand::List { stream } => {
            let stream = stream.as_ref().map(|name| name.0.as_str());
            let topics: Vec<_> = admin.list_topics(stream).await?.into_iter().map(TopicView::from).collect();
            screen.show(&topics, |screen| list(screen, &topics))
        }
        TopicCommand::Describe { topic } => {
            let topic = describe(admin, &topic.to_string()).await?;
            screen.show(&topic, |screen| {
                format!(
                    "{}\n{}",
                    properties(screen, &topic),
                    partition::list(screen, topic.partitions.as_deref().unwrap_or_default())
                )
            })
        }
        TopicCommand::Alter(args) => {
            let name = args.topic.to_string();
            let mut topic = TopicView::from(admin.alter_topic(&name, changes(&args.changes)).await?);
            set_segment_age(admin, &mut topic, &name, args.changes.segment_age.as_ref()).await?;
            set_dedup_messages(admin, &mut topic, &name, args.changes.dedup_messages).await?;
            screen.show(&topic, |_| format!("Topic {}", in_words(&topic)))
        }
        TopicCommand::Delete { topic } => {
            admin.delete_topic(&topic.to_string()).await?;
            screen.show(&json!({"deleted": topic.to_string()}), |_| format!("Deleted topic {topic}"))
        }
        TopicCommand::Trim { partition, before } => {
            let partition = format!("{}:{}", partition.topic, partition.partition);
            let log_start_offset = admin.delete_messages(&partition, consume::position(before)).await?.log_start_offset;
            let shown = json!({"trimmed": partition, "log_start_offset": log_start_offset});
            screen.show(&shown, |_| format!("{partition} begins at offset {log_start_offset} now"))
        }
        TopicCommand::Purge { topic } => {
            admin.purge_topic(&topic.to_string()).await?;
            screen.show(&json!({"purged": topic.to_string()}), |_| {
                format!("Purged {topic}; offsets go on from where they were")
            })
        }
    }
}

async fn set_segment_age(admin: &Admin, topic: &mut TopicView, name: &str, age: Option<&Span>) -> Result<(), Failure> {
    if let Some(age) = age {
        topic.segment_age_us = (age.0 != 0).then_some(age.0);
        admin.set_segment_age(name, topic.segment_age_us).await?;
    }
    Ok(())
}

async fn set_dedup_messages(
    admin: &Admin,
    topic: &mut TopicView,
    name: &str,
    messages: Option<u32>,
) -> Result<(), Failure> {
    if let Some(messages) = messages {
        topic.dedup_messages = (messages != 0).then_some(messages);
        admin.set_dedup_messages(name, topic.dedup_messages).await?;
    }
    Ok(())
}

/// A topic with its partitions.
pub(crate) async fn describe(admin: &Admin, topic: &str) -> Result<TopicView, Failure> {
    let description = admin.describe_topic(topic).await?;
    let mut topic = TopicView::from(description.topic);
    topic.segment_age_us = description.segment_age_us;
    topic.dedup_messages = description.dedup_messages;
    topic.partitions = Some(description.partitions.into_iter().map(PartitionView::from).collect());
    Ok(topic)
}

pub(crate) fn durability(name: DurabilityName) -> Durability {
    match name {
        DurabilityName::Memory => Durability::Memory,
        DurabilityName::Disk => Durability::Disk,
        DurabilityName::Quorum => Durability::Quorum,
    }
}

fn compression(name: TopicCompressionName) -> TopicCompression {
    match name {
        TopicCompressionName::Producer => TopicCompression::Producer,
        TopicCompressionName::None => TopicCompression::None,
        TopicCompressionName::Lz4 => TopicCompression::Lz4,
        TopicCompressionName::Zstd => TopicCompression::Zstd,
    }
}

/// At creation an absent limit is unlimited.
fn limit<T>(limit: Option<&Limit<T>>, value: impl Fn(&T) -> u64) -> Option<u64> {
    match limit {
        None | Some(Limit::Unlimited) => None,
        Some(Limit::To(to)) => Some(value(to)),
    }
}

/// In a change, 0 is unlimited and absent is unchanged.
fn changed<T>(limit: Option<&Limit<T>>, value: impl Fn(&T) -> u64) -> Option<u64> {
    limit.map(|limit| match limit {
        Limit::Unlimited => 0,
        Limit::To(to) => value(to),
    })
}

fn options(args: &TopicCreateArgs) -> TopicOptions {
    TopicOptions {
        partition_count: args.partitions,
        durability: durability(args.durability),
        compression: compression(args.compression),
        retention_bytes: limit(args.retention_bytes.as_ref(), |size| size.0),
        retention_age_us: limit(args.retention_age.as_ref(), |span| span.0),
        segment_bytes: args.segment_bytes.map(|size| size.0),
    }
}

fn changes(args: &TopicChangesArgs) -> TopicChanges {
    TopicChanges {
        partition_count: args.partitions,
        durability: args.durability.map(durability),
        compression: args.compression.map(compression),
        retention_bytes: changed(args.retention_bytes.as_ref(), |size| size.0),
        retention_age_us: changed(args.retention_age.as_ref(), |span| span.0),
        segment_bytes: args.segment_bytes.map(|size| size.0),
    }
}

fn retention(topic: &TopicView) -> String {
    match (topic.retention_age_us, topic.retention_bytes) {
        (None, None) => "unlimited".to_owned(),
        (Some(age), None) => human_span(age),
        (None, Some(bytes)) => human_bytes(bytes),
        (Some(age), Some(bytes)) => format!("{} or {}", human_span(age), human_bytes(bytes)),
    }
}

fn in_words(topic: &TopicView) -> String {
    let partitions = match topic.partition_count {
        1 => "1 partition".to_owned(),
        count => format!("{count} partitions"),
    };
    let (durability, retention) = (topic.durability, retention(topic));
    format!("{}/{}: {partitions}, durability {durability}, retention {retention}", topic.stream, topic.topic)
}

pub(crate) fn list(screen: &Screen, topics: &[TopicView]) -> String {
    if topics.is_empty() {
        return "No topics. `levada topic create STREAM/TOPIC` makes one.".to_owned();
    }
    let rows = topics.iter().map(|topic| {
        [
            Value::text(format!("{}/{}", topic.stream, topic.topic)),
            Value::figure(topic.partition_count),
            Value::text(topic.durability),
            Value::text(topic.compression),
            Value::text(retention(topic)),
            Value::time(&topic.created_at),
        ]
    });
    screen.table(["TOPIC", "PARTITIONS", "DURABILITY", "COMPRESSION", "RETENTION", "CREATED"], rows.collect())
}

fn properties(screen: &Screen, topic: &TopicView) -> String {
    let partitions = topic.partitions.as_deref().unwrap_or_default();
    let messages: u64 = partitions.iter().map(|p| p.message_count).sum();
    let bytes: u64 = partitions.iter().map(|p| p.size_bytes).sum();
    screen.properties(vec![
        ("Topic", Value::text(format!("{}/{}", topic.stream, topic.topic))),
        ("Id", Value::text(topic.topic_id)),
        ("Messages", Value::text(human_count(messages))),
        ("Size", Value::text(human_bytes(bytes))),
        ("Durability", Value::text(topic.durability)),
        ("Compression", Value::text(topic.compression)),
        (
            "Retention",
            Value::text(retention(topic) + if retention(topic) == "unlimited" { "" } else { " per partition" }),
        ),
        ("Segments", Value::text(segments(topic))),
        ("Duplicates", Value::text(duplicates(topic))),
        ("Created", Value::time(&topic.created_at)),
    ])
}

fn segments(topic: &TopicView) -> String {
    let size = topic.segment_bytes.map_or("default size".to_owned(), human_bytes);
    topic.segment_age_us.map_or(size.clone(), |age| format!("{size}, sealed after {}", human_span(age)))
}

fn duplicates(topic: &TopicView) -> String {
    topic.dedup_messages.map_or("kept".to_owned(), |messages| {
        format!("dropped by message id, within the last {} of a partition", human_count(messages.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Size;

    #[test]
    fn limits_are_absent_at_creation_and_zero_in_a_change() {
        assert_eq!(limit(None::<&Limit<Size>>, |s| s.0), None);
        assert_eq!(limit(Some(&Limit::<Size>::Unlimited), |s| s.0), None);
        assert_eq!(limit(Some(&Limit::To(Size(5))), |s| s.0), Some(5));
        assert_eq!(changed(None::<&Limit<Span>>, |s| s.0), None);
        assert_eq!(changed(Some(&Limit::<Span>::Unlimited), |s| s.0), Some(0));
        assert_eq!(changed(Some(&Limit::To(Span(5))), |s| s.0), Some(5));
    }
}
