//! Topics: create, alter, delete, list, and what describe and purge look up before they ask the shards.

use std::sync::Arc;

use levada_protocol::messages::{
    AlterTopic, CreateTopic, DeleteTopic, ListTopics, TopicAltered, TopicCreated, TopicDeleted, Topics,
};
use levada_protocol::{ErrorCode, names};

use super::Access;
use super::change::Change;
use super::convert::{changed_options, topic_info, topic_options};
use crate::failure::Failure;
use crate::metadata::Snapshot;
use crate::metadata::event::{
    Event, StreamCreated, TopicAltered as TopicWasAltered, TopicCreated as TopicWasCreated,
    TopicDeleted as TopicWasDeleted,
};
use crate::metadata::model::Topic;
use crate::metadata::snapshot::stream_not_found;

pub(super) fn create(snapshot: &Snapshot, request: &CreateTopic, now_us: i64) -> Result<Change, Failure> {
    names::check(&request.stream)?;
    names::check(&request.topic)?;
    let options = topic_options(&request.options)?;
    if snapshot.topic_named(&request.stream, &request.topic).is_some() {
        let name = format!("{}/{}", request.stream, request.topic);
        let message = format!("topic {name} exists already");
        return Err(Failure::because(ErrorCode::AlreadyExists, message).with("name", name));
    }
    let mut events: Vec<Event> = Vec::new();
    let stream_id = match snapshot.stream_named(&request.stream) {
        Some(stream) => stream.stream_id,
        None => {
            let stream_id = snapshot.next_stream_id;
            events.push(StreamCreated { stream_id, name: request.stream.clone(), at_us: now_us }.into());
            stream_id
        }
    };
    let topic_id = snapshot.next_topic_id;
    let name = request.topic.clone();
    events.push(TopicWasCreated { topic_id, stream_id, name, options, at_us: now_us }.into());
    Ok(Change::new(events, move |snapshot| Ok(TopicCreated { topic: topic_info(snapshot, snapshot.topic(topic_id)?) })))
}

pub(super) fn alter(snapshot: &Snapshot, request: &AlterTopic) -> Result<Change, Failure> {
    let topic = snapshot.find_topic(&request.stream, &request.topic)?;
    let topic_id = topic.topic_id;
    let options = changed_options(&topic.options, &request.changes)?;
    let changes = options != topic.options;
    let events = changes.then(|| TopicWasAltered { topic_id, options }.into()).into_iter().collect();
    Ok(Change::new(events, move |snapshot| Ok(TopicAltered { topic: topic_info(snapshot, snapshot.topic(topic_id)?) })))
}

pub(super) fn delete(snapshot: &Snapshot, request: &DeleteTopic) -> Result<Change, Failure> {
    let topic = snapshot.find_topic(&request.stream, &request.topic)?;
    let event = TopicWasDeleted { topic_id: topic.topic_id };
    Ok(Change::new(vec![event.into()], |_| Ok(TopicDeleted {})))
}

pub(super) fn list(snapshot: &Snapshot, access: &Access, request: &ListTopics) -> Result<Topics, Failure> {
    let topics: Vec<&Arc<Topic>> = match &request.stream {
        Some(name) => {
            let stream = snapshot.stream_named(name).ok_or_else(|| stream_not_found(name))?;
            snapshot.topics_of(stream.stream_id).collect()
        }
        None => snapshot.streams_by_name().flat_map(|stream| snapshot.topics_of(stream.stream_id)).collect(),
    };
    let seen = topics.into_iter().filter(|topic| access.sees(snapshot.stream_name(topic), &topic.name));
    Ok(Topics { topics: seen.map(|topic| topic_info(snapshot, topic)).collect() })
}

/// The partition of a request, if it names one, exists.
pub(super) fn check_partition(topic: &Topic, partition: Option<u32>) -> Result<(), Failure> {
    match partition {
        Some(partition) if topic.options.partition_count <= partition => {
            let (name, count) = (&topic.name, topic.options.partition_count);
            let message = format!("topic {name} has no partition {partition}; it has {count}, counted from 0");
            Err(Failure::because(ErrorCode::PartitionNotFound, message).with("partition", partition))
        }
        _ => Ok(()),
    }
}
