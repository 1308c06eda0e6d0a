//! `levada stream`.

use super::topic;
use crate::args::StreamCommand;
use crate::failure::Failure;
use crate::screen::{Screen, Value};
use crate::session::{self, Session};
use crate::units::human_count;
use crate::view::{StreamView, TopicView};
use levada::{Admin, DeleteTopics, ErrorCode};
use serde_json::json;

pub(crate) async fn run(session: &Session, command: StreamCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let result = act(&client.admin(), &session.screen, command).await;
    session::close(&client).await;
    result
}

async fn act(admin: &Admin, screen: &Screen, command: StreamCommand) -> Result<(), Failure> {
    match command {
        StreamCommand::Create { stream } => {
            let stream = StreamView::from(admin.create_stream(&stream.0).await?);
            screen.show(&stream, |_| format!("Created stream {}", stream.stream))
        }
        StreamCommand::List => {
            let streams: Vec<_> = admin.list_streams().await?.into_iter().map(StreamView::from).collect();
            screen.show(&streams, |screen| list(screen, &streams))
        }
        StreamCommand::Describe { stream } => {
            let description = admin.describe_stream(&stream.0).await?;
            let mut stream = StreamView::from(description.stream);
            stream.topics = Some(description.topics.into_iter().map(TopicView::from).collect());
            screen.show(&stream, |screen| describe(screen, &stream))
        }
        StreamCommand::Delete { stream, topics } => {
            let topics = if topics { DeleteTopics::Too } else { DeleteTopics::No };
            let count = admin.delete_stream(&stream.0, topics).await.map_err(|error| {
                let has_topics = error.is(ErrorCode::Conflict);
                let failure = Failure::from(error);
                if !has_topics {
                    return failure;
                }
                failure.hint(format!("`levada stream delete {stream} --topics` deletes them and their messages too"))
            })?;
            screen.show(&json!({"deleted": stream.0, "topic_count": count}), |_| match count {
                0 => format!("Deleted stream {stream}"),
                1 => format!("Deleted stream {stream} and its topic"),
                count => format!("Deleted stream {stream} and its {count} topics"),
            })
        }
        StreamCommand::Alter(_) => {
            let hint = "Options belong to its topics: `levada topic alter STREAM/TOPIC`";
            Err(Failure::usage("a stream has a name and nothing to alter").hint(hint))
        }
    }
}

fn list(screen: &Screen, streams: &[StreamView]) -> String {
    if streams.is_empty() {
        return "No streams. `levada topic create STREAM/TOPIC` makes a stream with its first topic.".to_owned();
    }
    let rows = streams.iter().map(|s| {
        [Value::text(&s.stream), Value::figure(human_count(s.topic_count.into())), Value::time(&s.created_at)]
    });
    screen.table(["STREAM", "TOPICS", "CREATED"], rows.collect())
}

fn describe(screen: &Screen, stream: &StreamView) -> String {
    let head = screen.properties(vec![
        ("Stream", Value::text(&stream.stream)),
        ("Id", Value::text(stream.stream_id)),
        ("Created", Value::time(&stream.created_at)),
    ]);
    let topics = stream.topics.as_deref().unwrap_or_default();
    format!("{head}\n{}", topic::list(screen, topics))
}
