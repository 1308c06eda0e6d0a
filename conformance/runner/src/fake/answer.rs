//! What a fake server answers by default: as a server would, as far as cases need it.

use super::state::{Live, State};
use crate::wire::{Batch, Frame, WireError, number, schema, to_hex};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, WireError>;

const NOW_US: i64 = 1_700_000_000_000_000;
/// Bytes of a server part, which Produce lacks.
const SERVER_PART_BYTES: usize = 32;

/// Where the fields of a stored batch's server part are.
fn base_offset(stored: &[u8]) -> u64 {
    stored.get(8..16).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn end_offset(stored: &[u8]) -> u64 {
    let at = SERVER_PART_BYTES + 16;
    let delta = stored.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
    base_offset(stored) + u64::from(delta) + 1
}

impl State {
    /// Frames to send for a request or notice.
    pub(super) fn answer(&mut self, connection: u64, frame: &Frame, fields: &Value) -> Result<Vec<Frame>> {
        let name = frame.name();
        let reply = |name: &str, fields: Value| Ok(vec![Frame::of(name, frame.correlation, &fields, None)?]);
        match name.as_str() {
            "Hello" => reply("Welcome", self.welcome()),
            "Authenticate" => reply(
                "Authenticated",
                json!({"user": "root", "role": "admin", "ticket": "00ff", "ticket_expires_at_us": i64::MAX}),
            ),
            "Ping" => reply("Pong", json!({ "server_time_us": NOW_US })),
            "DescribeTopic" => {
                let described = self.described(fields);
                reply("TopicDescribed", described)
            }
            "CreateTopic" => {
                let described = self.described(fields);
                reply("TopicCreated", json!({"topic": described["topic"]}))
            }
            "CreateStream" => reply("StreamCreated", json!({"stream": {"stream_id": 1, "stream": fields["stream"]}})),
            "OpenProducer" => {
                let opened = self.open_producer(fields);
                reply("ProducerOpened", opened)
            }
            "Produce" => self.produce(frame, fields),
            "Fetch" => self.fetch(frame, fields),
            "Subscribe" => self.subscribe(connection, frame, fields),
            "Unsubscribe" => {
                self.subscriptions.remove(&(connection, narrow(fields, "subscription")));
                reply("Unsubscribed", Value::Null)
            }
            "ResolvePosition" => {
                let log = self.log(fields);
                let (start, end) = bounds(log);
                let offset = resolve(log, &fields["position"]);
                reply(
                    "PositionResolved",
                    json!({"offset": offset, "log_start_offset": start, "visible_end_offset": end, "leader_epoch": 1}),
                )
            }
            _ if frame.correlation == 0 => Ok(Vec::new()),
            // Replies of administration, empty; what is not a request has none.
            _ => match schema().message_of_kind(frame.kind | 0x8000) {
                Some(message) if frame.kind & 0x8000 == 0 => reply(&message.name, Value::Null),
                _ => reply("Error", unknown_kind(frame.kind)),
            },
        }
    }

    fn welcome(&self) -> Value {
        let limit = |name: &str| schema().limit(name);
        let mut welcome = json!({
            "version": 1, "features": 0, "server_version": "fake", "cluster_id": to_hex(&[7; 16]), "node_id": 1,
            "shard": 0, "shard_count": 1, "auth_required": true, "max_control_bytes": limit("max_control_bytes"),
            "max_batch_bytes": limit("max_batch_bytes"), "max_in_flight": limit("max_in_flight"),
            "max_payload_bytes":
                limit("max_batch_bytes") - 104 - 44 - limit("max_key_bytes") - limit("max_headers_bytes"),
            "idle_timeout_ms": 60_000, "server_time_us": NOW_US,
        });
        for (name, value) in self.script.welcome.as_object().into_iter().flatten() {
            welcome[name] = value.clone();
        }
        welcome
    }

    fn described(&mut self, fields: &Value) -> Value {
        let name = format!("{}/{}", text(fields, "stream"), text(fields, "topic"));
        let place = self.topics.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.topics.push(name);
            self.topics.len() - 1
        });
        let topic_id = u32::try_from(place + 1).unwrap_or(u32::MAX);
        let partitions: Vec<Value> = (0..self.script.partition_count)
            .map(|partition| {
                let log = self.log(&json!({"topic_id": topic_id, "partition": partition}));
                let (start, end) = bounds(log);
                json!({
                    "partition": partition, "log_start_offset": start, "visible_end_offset": end,
                    "durable_end_offset": end, "leader_epoch": 1, "segment_count": 1,
                })
            })
            .collect();
        json!({
            "topic": {
                "topic_id": topic_id, "stream": fields["stream"], "topic": fields["topic"],
                "options": {"partition_count": self.script.partition_count, "durability": "disk"},
                "created_at_us": NOW_US,
            },
            "partitions": partitions,
        })
    }

    fn open_producer(&mut self, fields: &Value) -> Value {
        match fields["producer_id"].as_u64() {
            Some(0) | None => {
                self.producers += 1;
                json!({"producer_id": self.producers, "producer_epoch": 1})
            }
            Some(id) => json!({"producer_id": id, "producer_epoch": narrow(fields, "producer_epoch") + 1}),
        }
    }

    fn log(&mut self, fields: &Value) -> &mut Vec<Vec<u8>> {
        let key = (narrow(fields, "topic_id"), narrow(fields, "partition"));
        let script = &self.script;
        self.logs.entry(key).or_insert_with(|| script.log.clone())
    }

    fn produce(&mut self, frame: &Frame, fields: &Value) -> Result<Vec<Frame>> {
        let mut batch = Batch::decode_produced(frame.body.as_deref().unwrap_or_default())?;
        let log = self.log(fields);
        let (_, end) = bounds(log);
        batch.base_offset = end;
        batch.append_time_us = NOW_US;
        batch.leader_epoch = 1;
        log.push(batch.stored()?);
        let ack = json!({"base_offset": end, "append_time_us": NOW_US, "leader_epoch": 1, "durability": "disk"});
        Ok(vec![Frame::of("ProduceAck", frame.correlation, &ack, None)?])
    }

    fn fetch(&mut self, frame: &Frame, fields: &Value) -> Result<Vec<Frame>> {
        let log = self.log(fields);
        let offset = resolve(log, &fields["position"]);
        let (start, end) = bounds(log);
        let body = log.iter().filter(|batch| offset < end_offset(batch)).flatten().copied().collect();
        let fetched = json!({
            "start_offset": offset, "log_start_offset": start, "visible_end_offset": end, "leader_epoch": 1,
        });
        Ok(vec![Frame::of("Fetched", frame.correlation, &fetched, Some(body))?])
    }

    fn subscribe(&mut self, connection: u64, frame: &Frame, fields: &Value) -> Result<Vec<Frame>> {
        let log = self.log(fields);
        let offset = resolve(log, &fields["position"]);
        let (start, end) = bounds(log);
        let next_batch = log.iter().position(|batch| offset < end_offset(batch)).unwrap_or(log.len());
        let live = Live { topic_id: narrow(fields, "topic_id"), partition: narrow(fields, "partition"), next_batch };
        self.subscriptions.insert((connection, narrow(fields, "subscription")), live);
        let subscribed = json!({
            "start_offset": offset, "log_start_offset": start, "visible_end_offset": end, "leader_epoch": 1,
        });
        let mut frames = vec![Frame::of("Subscribed", frame.correlation, &subscribed, None)?];
        frames.extend(self.deliveries_of(connection)?);
        Ok(frames)
    }

    /// What the subscriptions of one connection have not been sent. Credit is not counted: logs of scripts are small.
    fn deliveries_of(&mut self, connection: u64) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        for ((owner, subscription), live) in &mut self.subscriptions {
            let Some(log) = self.logs.get(&(live.topic_id, live.partition)) else { continue };
            if *owner != connection || log.len() <= live.next_batch {
                continue;
            }
            let (start, end) = bounds(log);
            let fields = json!({"subscription": subscription, "log_start_offset": start, "visible_end_offset": end});
            frames.push(Frame::of("Deliver", 0, &fields, Some(log[live.next_batch..].concat()))?);
            live.next_batch = log.len();
        }
        Ok(frames)
    }
}

fn unknown_kind(kind: u16) -> Value {
    json!({
        "code": 701, "class": schema().class_number("unsupported"), "message": "unknown kind",
        "details": [{"name": "kind", "value": kind.to_string()}],
    })
}

fn text<'a>(fields: &'a Value, name: &str) -> &'a str {
    fields[name].as_str().unwrap_or_default()
}

fn narrow(fields: &Value, name: &str) -> u32 {
    number(&fields[name]).and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
}

fn bounds(log: &[Vec<u8>]) -> (u64, u64) {
    let end = log.last().map_or(0, |batch| end_offset(batch));
    (log.first().map_or(end, |batch| base_offset(batch)), end)
}

fn resolve(log: &[Vec<u8>], position: &Value) -> u64 {
    let (start, end) = bounds(log);
    let value = number(&position["value"]).unwrap_or(0);
    match position["kind"].as_str() {
        Some("offset") => value,
        Some("earliest") => start,
        Some("last") => end.saturating_sub(value).max(start),
        _ => end,
    }
}
