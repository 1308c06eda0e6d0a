//! Topics: create, alter, delete, list, and what describe and purge look up before they ask the shards.

use std::sync::Arc;

use levada_protocol::messages::{
    AlterTopic, CreateTopic, DeleteTopic, ListTopics, TopicAltered, TopicCreated, TopicDeleted, Topics,
};
use levada_protocol::{ErrorCode, names};
use levada_storage::config::MAX_SEGMENT_ROLL_AGE_US;

use super::Access;
use super::change::Change;
use super::convert::{changed_options, topic_info, topic_options};
use crate::failure::Failure;
use crate::metadata::Snapshot;
use crate::metadata::event::{
    Event, StreamCreated, TopicAltered as TopicWasAltered, TopicCreated as TopicWasCreated,
    TopicDeleted as TopicWasDeleted, TopicSupplemented,
};
use crate::metadata::model::{Topic, TopicSupplement};
use crate::metadata::snapshot::stream_not_found;

/// Segments younger than this would be all headers.
const MIN_SEGMENT_AGE_US: u64 = 1_000_000;

/// The ids of so many messages take a partition less than 10 MB of memory.
const MAX_DEDUP_MESSAGES: u32 = 100_000;

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
    let mut events: Vec<Event> = Vec::new();
    if options != topic.options {
        events.push(TopicWasAltered { topic_id, options }.into());
    }
    let now = topic.options.supplement;
    let supplement = TopicSupplement {
        segment_age_us: request.segment_age_us.map_or(Ok(now.segment_age_us), segment_age)?,
        dedup_messages: request.dedup_messages.map_or(Ok(now.dedup_messages), dedup_messages)?,
    };
    if supplement != now {
        events.push(TopicSupplemented { topic_id, supplement }.into());
    }
    Ok(Change::new(events, move |snapshot| Ok(TopicAltered { topic: topic_info(snapshot, snapshot.topic(topic_id)?) })))
}

/// Zero leaves it to the server.
fn segment_age(asked_us: u64) -> Result<Option<u64>, Failure> {
    match asked_us {
        0 => Ok(None),
        MIN_SEGMENT_AGE_US..=MAX_SEGMENT_ROLL_AGE_US => Ok(Some(asked_us)),
        _ => Err(Failure::invalid("segment_age_us", "a segment is sealed after 1 second to 24 hours")),
    }
}

/// Zero compares with none.
fn dedup_messages(asked: u32) -> Result<Option<u32>, Failure> {
    match asked {
        0 => Ok(None),
        1..=MAX_DEDUP_MESSAGES => Ok(Some(asked)),
        _ => {
            let message = format!("ids are compared with those of at most the last {MAX_DEDUP_MESSAGES} messages");
            Err(Failure::invalid("dedup_messages", message))
        }
    }
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
