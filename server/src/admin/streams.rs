//! Streams: create, delete, list, describe.

use levada_protocol::messages::{
    CreateStream, DeleteStream, DescribeStream, StreamCreated, StreamDeleted, StreamDescribed, Streams,
};
use levada_protocol::{ErrorCode, names};

use super::Access;
use super::change::Change;
use super::convert::{stream_info, topic_info};
use crate::failure::Failure;
use crate::metadata::Snapshot;
use crate::metadata::event::{StreamCreated as StreamWasCreated, StreamDeleted as StreamWasDeleted, TopicDeleted};
use crate::metadata::snapshot::stream_not_found;

pub(super) fn create(snapshot: &Snapshot, request: CreateStream, now_us: i64) -> Result<Change, Failure> {
    names::check(&request.stream)?;
    if snapshot.stream_named(&request.stream).is_some() {
        let message = format!("stream {} exists already", request.stream);
        return Err(Failure::because(ErrorCode::AlreadyExists, message).with("name", request.stream));
    }
    let stream_id = snapshot.next_stream_id;
    let event = StreamWasCreated { stream_id, name: request.stream.clone(), at_us: now_us };
    Ok(Change::new(vec![event.into()], move |snapshot| {
        let stream = snapshot.stream_named(&request.stream).ok_or_else(|| stream_not_found(&request.stream))?;
        Ok(StreamCreated { stream: stream_info(snapshot, stream) })
    }))
}

pub(super) fn delete(snapshot: &Snapshot, request: &DeleteStream) -> Result<Change, Failure> {
    let stream = snapshot.stream_named(&request.stream).ok_or_else(|| stream_not_found(&request.stream))?;
    let topics: Vec<u32> = snapshot.topics_of(stream.stream_id).map(|topic| topic.topic_id).collect();
    if !topics.is_empty() && !request.topics {
        let topics = if topics.len() == 1 { "a topic".to_owned() } else { format!("{} topics", topics.len()) };
        let message = format!("stream {} has {topics}", stream.name);
        return Err(Failure::because(ErrorCode::Conflict, message));
    }
    let topic_count = u32::try_from(topics.len()).unwrap_or(u32::MAX);
    let mut events: Vec<_> = topics.into_iter().map(|topic_id| TopicDeleted { topic_id }.into()).collect();
    events.push(StreamWasDeleted { stream_id: stream.stream_id }.into());
    Ok(Change::new(events, move |_| Ok(StreamDeleted { topic_count })))
}

pub(super) fn list(snapshot: &Snapshot, access: &Access) -> Streams {
    let seen = snapshot.streams_by_name().filter(|stream| access.sees_stream(&stream.name));
    Streams { streams: seen.map(|stream| stream_info(snapshot, stream)).collect() }
}

pub(super) fn describe(
    snapshot: &Snapshot,
    access: &Access,
    request: &DescribeStream,
) -> Result<StreamDescribed, Failure> {
    let stream = snapshot.stream_named(&request.stream).ok_or_else(|| stream_not_found(&request.stream))?;
    let seen = snapshot.topics_of(stream.stream_id).filter(|topic| access.sees(&stream.name, &topic.name));
    let topics = seen.map(|topic| topic_info(snapshot, topic)).collect();
    Ok(StreamDescribed { stream: stream_info(snapshot, stream), topics })
}
