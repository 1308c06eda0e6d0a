//! A client of the protocol on one connection: every call is one request, sent and answered.
//!
//! It repairs nothing: no retries, no reconnect. Frames that answer another request, or nothing, wait until asked for.

use super::batch::{Batch, Codec, Message, Producer};
use super::control::number;
use super::error::{ServerError, WireError};
use super::frame::{Frame, PREFACE};
use super::schema::{Nature, schema};
use super::{from_hex, to_hex};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, WireError>;

const TIMEOUT: Duration = Duration::from_secs(20);
/// What one Fetch of [`Wire::fetch_all`] asks for.
const FETCH_BYTES: u32 = 4 << 20;

/// How to prove who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// Text of a token.
    Token(String),
    /// User and password.
    Password(String, String),
    /// Ticket of an earlier Authenticated.
    Ticket(Vec<u8>),
}

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Offset of the first message.
    pub base_offset: u64,
    /// When the batch was appended, in µs.
    pub append_time_us: i64,
    /// Epoch of the partition.
    pub leader_epoch: u32,
    /// `memory`, `disk` or `quorum`.
    pub durability: String,
    /// It had been appended before.
    pub duplicate: bool,
    /// The server encoded it anew.
    pub server_encoded: bool,
}

/// What a Fetch gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// What the position came to.
    pub start_offset: u64,
    /// Lowest offset kept.
    pub log_start_offset: u64,
    /// Offset after the last visible message.
    pub visible_end_offset: u64,
    /// Epoch of the partition.
    pub leader_epoch: u32,
    /// Whole batches; the first may begin before `start_offset`.
    pub batches: Vec<Batch>,
}

/// A subscription of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its number.
    pub subscription: u32,
    /// What the position came to.
    pub start_offset: u64,
}

/// A connection, seen from the client.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    next_correlation: u32,
    next_subscription: u32,
    replies: BTreeMap<u32, Frame>,
    pushes: VecDeque<Frame>,
    topics: BTreeMap<String, u32>,
    timeout: Duration,
    /// Fields of Welcome; null before it.
    pub welcome: Value,
    /// Ticket of Authenticated; empty before it.
    pub ticket: Vec<u8>,
}

impl Wire {
    /// Connects, says Hello and authenticates.
    ///
    /// # Errors
    /// Whatever went wrong on the way.
    pub fn connect(address: impl ToSocketAddrs, auth: &Auth) -> Result<Self> {
        Self::connect_speaking(address, auth, 1)
    }

    /// [`Wire::connect`] that speaks up to this version of the protocol.
    ///
    /// # Errors
    /// As there.
    pub fn connect_speaking(address: impl ToSocketAddrs, auth: &Auth, max_version: u16) -> Result<Self> {
        let hello = json!({
            "min_version": 1, "max_version": max_version, "batch_formats": [1], "codecs": [0, 1, 2],
            "client": "levada-conformance", "client_version": env!("CARGO_PKG_VERSION"),
        });
        let mut wire = Self::open(address)?;
        wire.hello(&hello)?;
        wire.authenticate(auth)?;
        Ok(wire)
    }

    /// Connects and sends the preface.
    ///
    /// # Errors
    /// Of the socket.
    pub fn open(address: impl ToSocketAddrs) -> Result<Self> {
        let mut wire = Self::open_bare(address)?;
        wire.send_bytes(&PREFACE)?;
        Ok(wire)
    }

    /// Connects and sends nothing.
    ///
    /// # Errors
    /// Of the socket.
    pub fn open_bare(address: impl ToSocketAddrs) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            next_correlation: 1,
            next_subscription: 1,
            replies: BTreeMap::new(),
            pushes: VecDeque::new(),
            topics: BTreeMap::new(),
            timeout: TIMEOUT,
            welcome: Value::Null,
            ticket: Vec::new(),
        })
    }

    /// How long a call waits for its reply.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Address of this end.
    ///
    /// # Errors
    /// Of the socket.
    pub fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Says Hello with the given fields; gives those of Welcome.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn hello(&mut self, fields: &Value) -> Result<Value> {
        self.welcome = self.request("Hello", fields)?;
        Ok(self.welcome.clone())
    }

    /// Authenticates, if there is something to do it with.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn authenticate(&mut self, auth: &Auth) -> Result<()> {
        let fields = match auth {
            Auth::None => return Ok(()),
            Auth::Token(token) => json!({"method": "token", "secret": to_hex(token.as_bytes())}),
            Auth::Password(user, password) => {
                json!({"method": "password", "user": user, "secret": to_hex(password.as_bytes())})
            }
            Auth::Ticket(ticket) => json!({"method": "ticket", "secret": to_hex(ticket)}),
        };
        let reply = self.request("Authenticate", &fields)?;
        self.ticket = reply["ticket"].as_str().and_then(from_hex).unwrap_or_default();
        Ok(())
    }

    // ------------------------------------------------------------ frames

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Of the socket.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.set_write_timeout(Some(self.timeout))?;
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends a frame of a message by name.
    ///
    /// # Errors
    /// Usage for unknown names, and those of the socket.
    pub fn send(&mut self, name: &str, correlation: u32, fields: &Value, body: Option<Vec<u8>>) -> Result<()> {
        let frame = Frame::of(name, correlation, fields, body)?;
        self.send_bytes(&frame.encode())
    }

    /// Sends a request without waiting; gives its correlation for [`Wire::finish`].
    ///
    /// # Errors
    /// As [`Wire::send`].
    pub fn begin(&mut self, name: &str, fields: &Value, body: Option<Vec<u8>>) -> Result<u32> {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        self.send(name, correlation, fields, body)?;
        Ok(correlation)
    }

    /// Waits for the reply to a request.
    ///
    /// # Errors
    /// Server for Error; Refused, Timeout, Closed and Io of the connection.
    pub fn finish(&mut self, correlation: u32) -> Result<Frame> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let reply = if let Some(reply) = self.replies.remove(&correlation) {
                reply
            } else {
                match self.read_frame(deadline)? {
                    // Correlation 0 and Error: the server says why it is about to close.
                    frame if frame.correlation == correlation || (frame.correlation == 0 && is_error(&frame)) => frame,
                    frame => {
                        self.keep(frame);
                        continue;
                    }
                }
            };
            if is_error(&reply) {
                return Err(WireError::Server(Box::new(ServerError::from_fields(&reply.fields()?))));
            }
            return Ok(reply);
        }
    }

    /// Sends a request and gives the fields of its reply.
    ///
    /// # Errors
    /// As [`Wire::send`] and [`Wire::finish`], and Refused for a reply of another kind.
    pub fn request(&mut self, name: &str, fields: &Value) -> Result<Value> {
        Ok(self.request_with_body(name, fields, None)?.0)
    }

    /// [`Wire::request`], with bodies.
    ///
    /// # Errors
    /// As there.
    pub fn request_with_body(&mut self, name: &str, fields: &Value, body: Option<Vec<u8>>) -> Result<(Value, Vec<u8>)> {
        let correlation = self.begin(name, fields, body)?;
        let reply = self.finish(correlation)?;
        match schema().message(name).map(|message| &message.nature) {
            Some(Nature::Request(expected)) if *expected != reply.name() => {
                Err(WireError::refused(format!("{} as the reply to {name}", reply.name())))
            }
            _ => Ok((reply.fields()?, reply.body.unwrap_or_default())),
        }
    }

    /// The next push; `None` if none came in time.
    ///
    /// # Errors
    /// Those of the connection, Closed at its end.
    pub fn next_push(&mut self, timeout: Duration) -> Result<Option<Frame>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(push) = self.pushes.pop_front() {
                return Ok(Some(push));
            }
            match self.read_frame(deadline) {
                Ok(frame) => self.keep(frame),
                Err(WireError::Timeout) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the peer closes; false if it did not in time. What comes before that is kept.
    ///
    /// # Errors
    /// Refused and Io of the connection.
    pub fn wait_closed(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.read_frame(deadline) {
                Ok(frame) => self.keep(frame),
                Err(WireError::Closed) => return Ok(true),
                Err(WireError::Timeout) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn keep(&mut self, frame: Frame) {
        if frame.correlation == 0 {
            self.pushes.push_back(frame);
        } else {
            self.replies.insert(frame.correlation, frame);
        }
    }

    fn read_frame(&mut self, deadline: Instant) -> Result<Frame> {
        let mut chunk = vec![0; 1 << 16];
        loop {
            if let Some((frame, length)) = Frame::decode(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WireError::Timeout);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut chunk)? {
                0 => return Err(WireError::Closed),
                length => self.buffer.extend_from_slice(&chunk[..length]),
            }
        }
    }

    // ------------------------------------------------------------ administration

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn ping(&mut self) -> Result<()> {
        self.request("Ping", &Value::Null).map(drop)
    }

    /// How the server is.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn status(&mut self) -> Result<Value> {
        self.request("Status", &Value::Null)
    }

    /// Creates `stream/topic`. `options` are fields of TopicOptions beside the count; of durability `disk` unless they
    /// say otherwise.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn create_topic(&mut self, topic: &str, partition_count: u32, options: &Value) -> Result<Value> {
        let mut all = json!({"partition_count": partition_count, "durability": "disk"});
        for (name, value) in options.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let mut fields = topic_fields(topic)?;
        fields["options"] = all;
        let reply = self.request("CreateTopic", &fields)?;
        Ok(reply["topic"].clone())
    }

    /// Changes `stream/topic`; fields of TopicChanges.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn alter_topic(&mut self, topic: &str, changes: &Value) -> Result<Value> {
        let mut fields = topic_fields(topic)?;
        fields["changes"] = changes.clone();
        self.request("AlterTopic", &fields)
    }

    /// Deletes `stream/topic`.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn delete_topic(&mut self, topic: &str) -> Result<()> {
        self.topics.remove(topic);
        self.request("DeleteTopic", &topic_fields(topic)?).map(drop)
    }

    /// Removes every message of `stream/topic`, or of one partition of it.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn purge_topic(&mut self, topic: &str, partition: Option<u32>) -> Result<()> {
        let mut fields = topic_fields(topic)?;
        fields["partition"] = json!(partition);
        self.request("PurgeTopic", &fields).map(drop)
    }

    /// Fields of TopicDescribed.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn describe_topic(&mut self, topic: &str) -> Result<Value> {
        self.request("DescribeTopic", &topic_fields(topic)?)
    }

    /// Creates a stream.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn create_stream(&mut self, stream: &str) -> Result<Value> {
        self.request("CreateStream", &json!({ "stream": stream }))
    }

    /// Deletes a stream with its topics.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn delete_stream(&mut self, stream: &str) -> Result<()> {
        self.topics.clear();
        self.request("DeleteStream", &json!({"stream": stream, "topics": true})).map(drop)
    }

    /// Names of all streams.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn streams(&mut self) -> Result<Vec<String>> {
        let reply = self.request("ListStreams", &Value::Null)?;
        let streams = reply["streams"].as_array().into_iter().flatten();
        Ok(streams.filter_map(|stream| stream["stream"].as_str().map(str::to_owned)).collect())
    }

    /// Creates a user; `role` is `admin` or `member`.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn create_user(&mut self, user: &str, password: &str, role: &str) -> Result<Value> {
        let fields = json!({"user": user, "password": to_hex(password.as_bytes()), "role": role});
        self.request("CreateUser", &fields)
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn delete_user(&mut self, user: &str) -> Result<()> {
        self.request("DeleteUser", &json!({ "user": user })).map(drop)
    }

    /// Creates a token for a user, or the caller; gives its text.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn create_token(&mut self, name: &str, user: Option<&str>) -> Result<String> {
        let reply = self.request("CreateToken", &json!({"name": name, "user": user}))?;
        Ok(reply["secret"].as_str().unwrap_or_default().to_owned())
    }

    /// Revokes a token of a user, or the caller.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn delete_token(&mut self, name: &str, user: Option<&str>) -> Result<()> {
        self.request("DeleteToken", &json!({"name": name, "user": user})).map(drop)
    }

    // ------------------------------------------------------------ producing

    /// Number of `stream/topic`, asked once for each connection.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn topic_id(&mut self, topic: &str) -> Result<u32> {
        if let Some(known) = self.topics.get(topic) {
            return Ok(*known);
        }
        let id = field_u32(&self.describe_topic(topic)?["topic"], "topic_id")?;
        self.topics.insert(topic.to_owned(), id);
        Ok(id)
    }

    /// Takes a producer identity.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn open_producer(&mut self) -> Result<Producer> {
        self.next_producer(Producer::default())
    }

    /// Takes the next epoch of a producer.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn next_producer(&mut self, before: Producer) -> Result<Producer> {
        let fields = json!({"producer_id": before.id, "producer_epoch": before.epoch});
        let reply = self.request("OpenProducer", &fields)?;
        Ok(Producer { id: field_u64(&reply, "producer_id")?, epoch: field_u32(&reply, "producer_epoch")? })
    }

    /// Appends messages as one batch, without a producer identity.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn produce(&mut self, topic: &str, partition: u32, messages: &[Message], codec: Codec) -> Result<Ack> {
        let batch = Batch { codec, ..Batch::new(messages.to_vec()) };
        self.produce_batch(topic, partition, &batch)
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn produce_batch(&mut self, topic: &str, partition: u32, batch: &Batch) -> Result<Ack> {
        let body = batch.produced()?;
        self.produce_bytes(topic, partition, body)
    }

    /// Appends producer part and body as they are, right or wrong.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn produce_bytes(&mut self, topic: &str, partition: u32, body: Vec<u8>) -> Result<Ack> {
        let fields = json!({"topic_id": self.topic_id(topic)?, "partition": partition, "durability": "memory"});
        let (reply, _) = self.request_with_body("Produce", &fields, Some(body))?;
        let flags = field_u64(&reply, "flags")?;
        Ok(Ack {
            base_offset: field_u64(&reply, "base_offset")?,
            append_time_us: reply["append_time_us"].as_i64().unwrap_or(0),
            leader_epoch: field_u32(&reply, "leader_epoch")?,
            durability: reply["durability"].as_str().unwrap_or_default().to_owned(),
            duplicate: flags & 1 != 0,
            server_encoded: flags & 2 != 0,
        })
    }

    // ------------------------------------------------------------ consuming

    /// Reads once from a position: `{"kind": "earliest" | "latest" | "offset" | "timestamp" | "last", "value": n}`.
    ///
    /// # Errors
    /// As [`Wire::request`], and Refused for a batch that breaks section 4.
    pub fn fetch(&mut self, topic: &str, partition: u32, position: &Value, max_bytes: u32) -> Result<Fetched> {
        let fields = json!({
            "topic_id": self.topic_id(topic)?, "partition": partition, "position": position, "max_bytes": max_bytes,
        });
        let (reply, body) = self.request_with_body("Fetch", &fields, None)?;
        Ok(Fetched {
            start_offset: field_u64(&reply, "start_offset")?,
            log_start_offset: field_u64(&reply, "log_start_offset")?,
            visible_end_offset: field_u64(&reply, "visible_end_offset")?,
            leader_epoch: field_u32(&reply, "leader_epoch")?,
            batches: Batch::decode_all(&body)?,
        })
    }

    /// Every batch of a partition that is visible now.
    ///
    /// # Errors
    /// As [`Wire::fetch`].
    pub fn fetch_batches(&mut self, topic: &str, partition: u32) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        let mut position = json!({"kind": "earliest"});
        loop {
            let fetched = self.fetch(topic, partition, &position, FETCH_BYTES)?;
            let Some(last) = fetched.batches.last().and_then(|batch| batch.messages.last()) else { return Ok(batches) };
            position = json!({"kind": "offset", "value": last.offset + 1});
            batches.extend(fetched.batches);
        }
    }

    /// Every message of a partition that is visible now.
    ///
    /// # Errors
    /// As [`Wire::fetch`].
    pub fn fetch_all(&mut self, topic: &str, partition: u32) -> Result<Vec<Message>> {
        let (start, _) = self.offsets(topic, partition)?;
        let batches = self.fetch_batches(topic, partition)?;
        let messages = batches.into_iter().flat_map(|batch| batch.messages);
        Ok(messages.filter(|message| message.offset >= start).collect())
    }

    /// Log start and visible end of a partition.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn offsets(&mut self, topic: &str, partition: u32) -> Result<(u64, u64)> {
        let fields = json!({"topic_id": self.topic_id(topic)?, "partition": partition, "position": {"kind": "latest"}});
        let reply = self.request("ResolvePosition", &fields)?;
        Ok((field_u64(&reply, "log_start_offset")?, field_u64(&reply, "visible_end_offset")?))
    }

    /// Offset after the last visible message of a partition.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn end_offset(&mut self, topic: &str, partition: u32) -> Result<u64> {
        Ok(self.offsets(topic, partition)?.1)
    }

    /// Starts a subscription, numbered by this connection.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn subscribe(
        &mut self,
        topic: &str,
        partition: u32,
        position: &Value,
        credit_bytes: u64,
    ) -> Result<Subscription> {
        let subscription = self.next_subscription;
        self.next_subscription += 1;
        let fields = json!({
            "subscription": subscription, "topic_id": self.topic_id(topic)?, "partition": partition,
            "position": position, "credit_bytes": credit_bytes,
        });
        let reply = self.request("Subscribe", &fields)?;
        Ok(Subscription { subscription, start_offset: field_u64(&reply, "start_offset")? })
    }

    /// Adds credit.
    ///
    /// # Errors
    /// Of the socket.
    pub fn credit(&mut self, subscription: u32, credit_bytes: u64) -> Result<()> {
        self.send("Credit", 0, &json!({"subscription": subscription, "credit_bytes": credit_bytes}), None)
    }

    /// The batches of the next Deliver; `None` if none came in time.
    ///
    /// # Errors
    /// Server if the subscription ended, Refused for another push or a batch that breaks section 4.
    pub fn receive(&mut self, timeout: Duration) -> Result<Option<Vec<Batch>>> {
        let Some(push) = self.next_push(timeout)? else { return Ok(None) };
        match push.name().as_str() {
            "Deliver" => {
                push.fields()?;
                Ok(Some(Batch::decode_all(push.body.as_deref().unwrap_or_default())?))
            }
            "SubscriptionEnded" => Err(WireError::Server(Box::new(ServerError::from_fields(&push.fields()?)))),
            other => Err(WireError::refused(format!("{other} on a subscription"))),
        }
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// As [`Wire::request`].
    pub fn unsubscribe(&mut self, subscription: u32) -> Result<()> {
        self.request("Unsubscribe", &json!({ "subscription": subscription })).map(drop)
    }
}

fn is_error(frame: &Frame) -> bool {
    frame.name() == "Error"
}

fn topic_fields(topic: &str) -> Result<Value> {
    let (stream, name) =
        topic.split_once('/').ok_or_else(|| WireError::usage(format!("{topic} is not stream/topic")))?;
    Ok(json!({"stream": stream, "topic": name}))
}

fn field_u64(fields: &Value, name: &str) -> Result<u64> {
    number(&fields[name]).ok_or_else(|| WireError::refused(format!("no {name}")))
}

fn field_u32(fields: &Value, name: &str) -> Result<u32> {
    u32::try_from(field_u64(fields, name)?).map_err(|_| WireError::refused(format!("{name} beyond u32")))
}
