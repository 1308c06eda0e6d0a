//! `server:` steps: what a case does at the server without the client under test, through the suite's own client. Results have the
//! forms that adapters report, so that the same expectations hold them.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::fake::flaw_from_value;
use crate::generate::as_u64;
use crate::values::{self, encode, payload_summary};
use crate::wire::WireError;
use crate::wire::{Auth, Wire};
use crate::wire::{Batch, Codec, HeaderValue, Message, flags};

/// The suite's own client, connected when first needed.
#[derive(Debug)]
pub struct ServerSide {
    address: SocketAddr,
    auth: Auth,
    wire: Option<Wire>,
}

/// Result of a step: what an adapter would call ok, or the server's error.
pub type Result<T> = std::result::Result<T, StepError>;

/// Why a step could not be done.
#[derive(Debug)]
pub enum StepError {
    /// The server refused: a case may expect that.
    Refused(Value),
    /// The case is wrong, or the server or the runner broke.
    Broken(String),
}

impl From<WireError> for StepError {
    fn from(error: WireError) -> StepError {
        match error.server() {
            Some(server) => {
                let details = server.details.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
                StepError::Refused(json!({
                    "code": server.code, "name": server.name, "class": server.class, "retriable": server.retriable,
                    "maybe_applied": server.maybe_applied, "message": server.message,
                    "details": details.collect::<Map<_, _>>(), "native": [],
                }))
            }
            None => StepError::Broken(error.to_string()),
        }
    }
}

impl From<String> for StepError {
    fn from(text: String) -> StepError {
        StepError::Broken(text)
    }
}

/// The actions there are, for messages about unknown ones.
const ACTIONS: &str = "produce, fetch, batches, offsets, create_topic, alter_topic, delete_topic, purge_topic, describe_topic, create_stream, \
                       delete_stream, create_user, delete_user, create_token, delete_token, status, ping";

impl ServerSide {
    /// The suite's own client of a server.
    pub fn new(address: SocketAddr, auth: Auth) -> ServerSide {
        ServerSide { address, auth, wire: None }
    }

    /// Forgets the connection, which the server's end has broken.
    pub fn forget(&mut self) {
        self.wire = None;
    }

    fn wire(&mut self) -> Result<&mut Wire> {
        // A connection that broke between two steps is of no interest to a case.
        let is_alive = self.wire.as_mut().is_some_and(|wire| wire.ping().is_ok());
        if !is_alive {
            self.wire = Some(Wire::connect(self.address, &self.auth)?);
        }
        self.wire.as_mut().ok_or_else(|| StepError::Broken("not connected".to_owned()))
    }

    /// Does a step.
    ///
    /// # Errors
    /// As [`StepError`].
    pub fn act(&mut self, action: &str, args: &Map<String, Value>) -> Result<Value> {
        let args = Arguments(args);
        match action {
            "produce" => self.produce(&args),
            "fetch" => {
                let (topic, partition) = (args.text("topic")?, args.number_or("partition", 0)?);
                let messages = self.wire()?.fetch_all(&topic, partition)?;
                let messages: Vec<Value> = messages.iter().map(|message| shown(message, partition)).collect();
                Ok(json!({"messages": messages, "finished": true}))
            }
            "batches" => {
                let (topic, partition) = (args.text("topic")?, args.number_or("partition", 0)?);
                let batches = self.wire()?.fetch_batches(&topic, partition)?;
                let is_servers = |batch: &Batch| batch.flags & flags::SERVER_ENCODED != 0;
                let codecs: Vec<&str> = batches.iter().map(|batch| batch.codec.name()).collect();
                let encoded: Vec<bool> = batches.iter().map(is_servers).collect();
                Ok(json!({"codecs": codecs, "server_encoded": encoded}))
            }
            "offsets" => {
                let (topic, partition) = (args.text("topic")?, args.number_or("partition", 0)?);
                let (start, end) = self.wire()?.offsets(&topic, partition)?;
                Ok(json!({"log_start_offset": start, "visible_end_offset": end}))
            }
            "create_topic" => self.create_topic(&args),
            "alter_topic" => {
                let (topic, changes) = (args.text("topic")?, args.rest(&["topic"]));
                Ok(self.wire()?.alter_topic(&topic, &changes)?)
            }
            "delete_topic" => Ok(done(self.wire()?.delete_topic(&args.text("topic")?)?)),
            "purge_topic" => {
                let partition = args.0.get("partition").and_then(as_u64).and_then(|number| u32::try_from(number).ok());
                Ok(done(self.wire()?.purge_topic(&args.text("topic")?, partition)?))
            }
            "describe_topic" => Ok(self.wire()?.describe_topic(&args.text("topic")?)?),
            "create_stream" => Ok(self.wire()?.create_stream(&args.text("stream")?)?),
            "delete_stream" => Ok(done(self.wire()?.delete_stream(&args.text("stream")?)?)),
            "create_user" => {
                let role = args.optional("role").unwrap_or_else(|| "member".to_owned());
                Ok(self.wire()?.create_user(&args.text("user")?, &args.text("password")?, &role)?)
            }
            "delete_user" => Ok(done(self.wire()?.delete_user(&args.text("user")?)?)),
            "create_token" => {
                let secret = self.wire()?.create_token(&args.text("name")?, args.optional("user").as_deref())?;
                Ok(json!({"secret": secret}))
            }
            "delete_token" => {
                Ok(done(self.wire()?.delete_token(&args.text("name")?, args.optional("user").as_deref())?))
            }
            "status" => Ok(self.wire()?.status()?),
            "ping" => Ok(done(self.wire()?.ping()?)),
            other => Err(StepError::Broken(format!("there is no server action {other:?}; there are: {ACTIONS}"))),
        }
    }

    /// A topic as `setup` and `server: create_topic` write it: the name, then its options.
    fn create_topic(&mut self, args: &Arguments<'_>) -> Result<Value> {
        let topic = args.text("topic")?;
        let partition_count = args.number_or("partition_count", 1)?;
        let options = args.rest(&["topic", "partition_count"]);
        Ok(self.wire()?.create_topic(&topic, partition_count, &options)?)
    }

    /// `messages` as for `producer.send_batch`; `batches` repeats them, with indexes that go on; `flaw` as in a script.
    fn produce(&mut self, args: &Arguments<'_>) -> Result<Value> {
        let (topic, partition) = (args.text("topic")?, args.number_or("partition", 0)?);
        let codec = args.optional("codec").unwrap_or_else(|| "none".to_owned());
        let codec = Codec::from_name(&codec).ok_or_else(|| format!("there is no codec {codec:?}"))?;
        let batches: u64 = args.number_or("batches", 1)?.into();
        if let Some(unknown) = args
            .0
            .keys()
            .find(|key| !["topic", "partition", "codec", "batches", "messages", "flaw"].contains(&key.as_str()))
        {
            return Err(StepError::Broken(format!("produce has no argument {unknown:?}")));
        }
        let messages = args.0.get("messages").ok_or_else(|| "produce needs `messages`".to_owned())?;
        let entries = messages.as_array().cloned().unwrap_or_else(|| vec![messages.clone()]);
        let count: u64 = entries.iter().map(|entry| entry.get("count").and_then(as_u64).unwrap_or(1)).sum();
        let (mut first, mut server_encoded) = (None, false);
        for batch in 0..batches {
            let mut made = Vec::new();
            for entry in &entries {
                let entry_count = entry.get("count").and_then(as_u64).unwrap_or(1);
                for index in 0..entry_count {
                    made.push(message_of(entry, batch * count + index)?);
                }
            }
            let batch = Batch { codec, ..Batch::new(made) };
            let produced = match args.0.get("flaw") {
                None => batch.produced()?,
                Some(flaw) => batch.produced_with(&flaw_from_value(flaw)?)?,
            };
            let ack = self.wire()?.produce_bytes(&topic, partition, produced)?;
            first.get_or_insert(ack.base_offset);
            server_encoded |= ack.server_encoded;
        }
        Ok(json!({"base_offset": first.unwrap_or(0).to_string(), "server_encoded": server_encoded}))
    }
}

fn done((): ()) -> Value {
    json!({})
}

struct Arguments<'a>(&'a Map<String, Value>);

impl Arguments<'_> {
    fn optional(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    fn text(&self, name: &str) -> std::result::Result<String, String> {
        self.optional(name).ok_or_else(|| format!("the step needs `{name}`"))
    }

    fn number_or(&self, name: &str, default: u32) -> std::result::Result<u32, String> {
        match self.0.get(name) {
            None => Ok(default),
            Some(value) => as_u64(value)
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| format!("`{name}` is a number, not {value}")),
        }
    }

    fn rest(&self, without: &[&str]) -> Value {
        let rest = self.0.iter().filter(|(key, _)| !without.contains(&key.as_str()));
        Value::Object(rest.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

fn message_of(entry: &Value, more: u64) -> std::result::Result<Message, String> {
    let bytes = |key: &str| match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => values::bytes(value, more).map(Some),
    };
    let id = match bytes("id")? {
        None => None,
        Some(id) => Some(<[u8; 16]>::try_from(id).map_err(|id| format!("an id is 16 bytes, not {}", id.len()))?),
    };
    let headers = entry.get("headers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let timestamp_us = match entry.get("timestamp_us") {
        None => 0,
        Some(value) => value.as_i64().ok_or_else(|| format!("timestamp_us is a number, not {value}"))?,
    };
    Ok(Message {
        payload: bytes("payload")?,
        key: bytes("key")?,
        id,
        timestamp_us,
        headers: headers.iter().map(header_of).collect::<std::result::Result<_, _>>()?,
        ..Message::default()
    })
}

fn header_of(header: &Value) -> std::result::Result<(String, HeaderValue), String> {
    let sent = values::header_to_wire(header)?;
    let text =
        |key: &str| sent[key].as_str().map(str::to_owned).ok_or_else(|| format!("a header without {key}: {header}"));
    let bad = |error: &dyn std::fmt::Display| format!("{header}: {error}");
    let value = match text("type")?.as_str() {
        "string" => HeaderValue::String(text("value")?),
        "bytes" => HeaderValue::Bytes(values::bytes(&header["value"], 0)?),
        "bool" => HeaderValue::Bool(sent["value"].as_bool().ok_or_else(|| bad(&"not a bool"))?),
        "i64" => HeaderValue::I64(text("value")?.parse().map_err(|error| bad(&error))?),
        "u64" => HeaderValue::U64(text("value")?.parse().map_err(|error| bad(&error))?),
        "f64" => HeaderValue::F64(u64::from_str_radix(&text("value")?, 16).map_err(|error| bad(&error))?),
        other => return Err(format!("there is no header type {other:?}")),
    };
    Ok((text("name")?, value))
}

/// A message as adapters report it.
fn shown(message: &Message, partition: u32) -> Value {
    let headers: Vec<Value> = message
        .headers
        .iter()
        .map(|(name, value)| {
            let (kind, value) = match value {
                HeaderValue::String(text) => ("string", Value::from(text.clone())),
                HeaderValue::Bytes(bytes) => ("bytes", encode(bytes).into()),
                HeaderValue::Bool(value) => ("bool", (*value).into()),
                HeaderValue::I64(value) => ("i64", value.to_string().into()),
                HeaderValue::U64(value) => ("u64", value.to_string().into()),
                HeaderValue::F64(bits) => ("f64", format!("{bits:016x}").into()),
            };
            json!({"name": name, "type": kind, "value": value})
        })
        .collect();
    json!({
        "partition": partition, "offset": message.offset.to_string(), "timestamp_us": message.timestamp_us.to_string(),
        "append_time_us": message.append_time_us.to_string(), "payload": message.payload.as_deref().map(payload_summary),
        "key": message.key.as_deref().map(encode), "headers": headers, "id": message.id.as_ref().map(|id| encode(id)),
    })
}
