//! The server's end of a connection, without I/O: received bytes and times go in, requests come out; replies and pushes go
//! in, bytes to send come out.
//!
//! It owns the preface, version negotiation, the order of Hello and Authenticate, the limits that hold before a user is
//! known, unknown kinds, Ping, the count of unanswered requests and the idle timeout. It must not know what a request
//! means. Every [`ServerEvent::Request`] and [`ServerEvent::Authenticate`] is answered by exactly one of `reply`,
//! `reply_with_body`, `authenticated` and `fail`.

use std::collections::BTreeSet;
use std::io::IoSlice;

use bytes::{BufMut, Bytes};

use crate::errors::ErrorCode;
use crate::frame::{CONTROL_LENGTH_BYTES, HEADER_BYTES};
use crate::frame_reader::{Frame, FrameFault, FrameReader, ReadLimits};
use crate::limits;
use crate::messages::{
    Authenticate, Authenticated, DecodeError, Deliver, Detail, Error, Goodbye, GoodbyeReason, Hello, Kind, Message,
    Pong, Request, SubscriptionEnded, Unsubscribed, Welcome,
};
use crate::outbound::{Fair, Lane};
use crate::pool::BufferPool;

/// What the server says of itself and holds its clients to.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// For Welcome.
    pub server_version: String,
    /// The highest protocol version to speak.
    pub max_version: u16,
    /// For Welcome: 16 bytes.
    pub cluster_id: Bytes,
    /// For Welcome.
    pub node_id: u32,
    /// For Welcome: the core of this connection.
    pub shard: u16,
    /// For Welcome.
    pub shard_count: u16,
    /// Whether requests need Authenticate first.
    pub auth_required: bool,
    /// How long a connection may stay unauthenticated, or without Hello.
    pub auth_timeout_ms: u64,
    /// Silence after which a connection without subscriptions and unanswered requests is closed.
    pub idle_timeout_ms: u32,
    /// Largest control part.
    pub max_control_bytes: u32,
    /// Largest batch.
    pub max_batch_bytes: u32,
    /// For Welcome: unanswered Produce requests of a producer to a partition.
    pub max_in_flight: u16,
    /// Unanswered requests of the connection.
    pub max_requests_in_flight: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let narrow = |value: usize| u32::try_from(value).expect("limits fit a u32");
        Self {
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            max_version: limits::PROTOCOL_VERSION,
            cluster_id: Bytes::from_static(&[0; 16]),
            node_id: 1,
            shard: 0,
            shard_count: 1,
            auth_required: true,
            auth_timeout_ms: 5_000,
            idle_timeout_ms: 60_000,
            max_control_bytes: narrow(limits::MAX_CONTROL_BYTES),
            max_batch_bytes: narrow(limits::MAX_BATCH_BYTES),
            max_in_flight: u16::try_from(limits::MAX_IN_FLIGHT).expect("a limit of two digits"),
            max_requests_in_flight: limits::MAX_REQUESTS_IN_FLIGHT,
        }
    }
}

/// What a batch and its message take besides payload, key and headers.
const PAYLOAD_OVERHEAD_BYTES: usize = 32 + 72 + 16 + 8 + 4 + 16;

impl ServerConfig {
    /// Largest payload that fits a batch alone with the largest key and headers.
    pub fn max_payload_bytes(&self) -> u32 {
        let rest = PAYLOAD_OVERHEAD_BYTES + limits::MAX_KEY_BYTES + limits::MAX_HEADERS_BYTES;
        self.max_batch_bytes.saturating_sub(u32::try_from(rest).expect("about 131 KiB"))
    }

    fn welcome(&self, version: u16, now_us: i64) -> Welcome {
        Welcome {
            version,
            features: 0,
            server_version: self.server_version.clone(),
            cluster_id: self.cluster_id.clone(),
            node_id: self.node_id,
            shard: self.shard,
            shard_count: self.shard_count,
            auth_required: self.auth_required,
            max_control_bytes: self.max_control_bytes,
            max_batch_bytes: self.max_batch_bytes,
            max_payload_bytes: self.max_payload_bytes(),
            max_in_flight: self.max_in_flight,
            idle_timeout_ms: self.idle_timeout_ms,
            server_time_us: now_us,
        }
    }

    fn limits_before_user() -> ReadLimits {
        let bytes = limits::MAX_PREAUTH_FRAME_BYTES;
        ReadLimits { max_frame_bytes: bytes, max_control_bytes: bytes }
    }

    fn limits(&self) -> ReadLimits {
        let widen = |value: u32| usize::try_from(value).expect("usize has at least 32 bits");
        let max_control_bytes = widen(self.max_control_bytes);
        let max_frame_bytes = HEADER_BYTES + CONTROL_LENGTH_BYTES + max_control_bytes + widen(self.max_batch_bytes);
        ReadLimits { max_frame_bytes, max_control_bytes }
    }
}

/// What a connection wants of the server.
#[derive(Debug)]
pub enum ServerEvent {
    /// The client said who it is; Welcome is already on its way.
    Hello(Hello),
    /// Proves who it is: answer with `authenticated` or `fail`.
    Authenticate {
        /// For the answer.
        correlation: u32,
        /// What it says.
        request: Authenticate,
    },
    /// A request of a client that may speak, or a notice.
    Request {
        /// For the answer; 0 in a notice.
        correlation: u32,
        /// What it says.
        request: Request,
        /// Batches of a Produce; else empty.
        body: Bytes,
    },
}

/// Why a connection has to end. What is queued (an error, a Goodbye) should still be sent, then the socket closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerFault {
    /// Not the preface of this protocol.
    #[error("the connection does not begin with the preface")]
    Preface,
    /// Bytes that are not frames.
    #[error(transparent)]
    Frame(#[from] FrameFault),
    /// A control part that does not follow its layout.
    #[error("a control part of kind {kind:#06x}: {error}")]
    Decode {
        /// The frame's kind.
        kind: u16,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A frame that may not come at this point or in this form.
    #[error("{what}")]
    Order {
        /// Which rule it breaks.
        what: &'static str,
    },
    /// No version in common.
    #[error("no protocol version in common")]
    Version,
    /// Not authenticated in time.
    #[error("not authenticated in time")]
    AuthTimeout,
    /// Silent for too long.
    #[error("silent for too long")]
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preface,
    Hello,
    Authenticating,
    Open,
    Ended,
}

/// The server's end of one connection.
#[derive(Debug)]
pub struct Connection {
    config: ServerConfig,
    phase: Phase,
    /// Of the protocol, from Hello on.
    version: u16,
    reader: FrameReader,
    outbound: Fair,
    /// Correlations of the requests that wait for their answers.
    unanswered: BTreeSet<u32>,
    subscription_count: usize,
    opened_ms: u64,
    heard_ms: u64,
    now_us: i64,
}

impl Connection {
    /// A connection opened at `now_ms` (any clock that only moves forward; all times of this machine are of it).
    pub fn new(config: ServerConfig, buffers: BufferPool, now_ms: u64) -> Self {
        let reader = FrameReader::new(buffers, ServerConfig::limits_before_user());
        Self {
            config,
            phase: Phase::Preface,
            version: limits::MIN_PROTOCOL_VERSION,
            reader,
            outbound: Fair::default(),
            unanswered: BTreeSet::new(),
            subscription_count: 0,
            opened_ms: now_ms,
            heard_ms: now_ms,
            now_us: 0,
        }
    }

    /// Where the next read from the socket goes; never without room. Then call [`Connection::on_received`].
    pub fn read_buffer(&mut self) -> &mut (dyn BufMut + Send) {
        self.reader.buffer()
    }

    /// Bytes still to come of a large frame: what a byte budget is asked for before reading goes on.
    pub fn large_missing_bytes(&self) -> usize {
        self.reader.large_missing_bytes()
    }

    /// Notes that bytes were read; `now_us` is the wall clock, for Welcome and Pong. Then drain [`Connection::poll_event`].
    pub fn on_received(&mut self, now_ms: u64, now_us: i64) {
        self.heard_ms = now_ms;
        self.now_us = now_us;
    }

    /// The next thing the client wants.
    ///
    /// # Errors
    /// Once, when the connection has to end; after that always `Ok(None)`.
    pub fn poll_event(&mut self) -> Result<Option<ServerEvent>, ServerFault> {
        let event = self.next_event();
        if let Err(fault) = &event {
            self.phase = Phase::Ended;
            let error = match fault {
                ServerFault::Preface | ServerFault::Version => return event,
                fault => Error::new(ErrorCode::ProtocolError, fault.to_string(), Vec::new()),
            };
            self.control(0, &error);
        }
        event
    }

    fn next_event(&mut self) -> Result<Option<ServerEvent>, ServerFault> {
        loop {
            if self.phase == Phase::Ended {
                return Ok(None);
            }
            if self.phase == Phase::Preface {
                let seen = self.reader.peek();
                let known = seen.len().min(limits::PREFACE.len());
                if seen[..known] != limits::PREFACE[..known] {
                    return Err(ServerFault::Preface);
                }
                if self.reader.take_preface(limits::PREFACE.len()).is_none() {
                    return Ok(None);
                }
                self.phase = Phase::Hello;
            }
            let Some(frame) = self.reader.next()? else { return Ok(None) };
            if let Some(event) = self.on_frame(frame)? {
                return Ok(Some(event));
            }
        }
    }

    fn on_frame(&mut self, frame: Frame) -> Result<Option<ServerEvent>, ServerFault> {
        let correlation = frame.correlation;
        let known = Kind::from_code(frame.kind).filter(|kind| kind.since() <= self.version);
        let Some(kind) = known else {
            if self.phase == Phase::Hello {
                return Err(ServerFault::Order { what: "the first frame is Hello" });
            }
            if correlation != 0 {
                let detail = Detail::new("kind", frame.kind);
                self.refuse(
                    correlation,
                    ErrorCode::UnknownKind,
                    format!("unknown kind {:#06x}", frame.kind),
                    vec![detail],
                );
            }
            return Ok(None);
        };
        if kind.has_body() != frame.body.is_some() {
            return Err(ServerFault::Order { what: "flag BODY does not fit the kind" });
        }
        let request = Request::decode(kind, &frame.control);
        let request = request.map_err(|error| ServerFault::Decode { kind: frame.kind, error })?;
        let request = request.ok_or(ServerFault::Order { what: "a kind that only servers send" })?;
        let is_notice = matches!(request, Request::Credit(_));
        if is_notice != (correlation == 0) {
            return Err(ServerFault::Order { what: "requests have a correlation and notices none" });
        }
        match (self.phase, request) {
            (Phase::Hello, Request::Hello(hello)) => self.on_hello(correlation, hello).map(Some),
            (Phase::Hello, _) => Err(ServerFault::Order { what: "the first frame is Hello" }),
            (_, Request::Hello(_)) => Err(ServerFault::Order { what: "Hello comes once" }),
            (_, Request::Ping(_)) => {
                self.check_new(correlation)?;
                self.control(correlation, &Pong { server_time_us: self.now_us });
                Ok(None)
            }
            (_, Request::Authenticate(request)) => {
                Ok(self.admit(correlation, is_notice)?.then_some(ServerEvent::Authenticate { correlation, request }))
            }
            (Phase::Authenticating, _) if is_notice => Ok(None),
            (Phase::Authenticating, request) => {
                let message = format!("{} needs Authenticate first", request.kind().name());
                self.refuse(correlation, ErrorCode::Unauthenticated, message, Vec::new());
                Ok(None)
            }
            (_, request) => {
                let body = frame.body.unwrap_or_default();
                Ok(self.admit(correlation, is_notice)?.then_some(ServerEvent::Request { correlation, request, body }))
            }
        }
    }

    fn on_hello(&mut self, correlation: u32, hello: Hello) -> Result<ServerEvent, ServerFault> {
        let (lowest, highest) = (limits::MIN_PROTOCOL_VERSION, self.config.max_version);
        let version = hello.max_version.min(highest);
        if version < hello.min_version.max(lowest) {
            let message = format!(
                "this server speaks versions {lowest} to {highest}, the client {} to {}: update the older of the two",
                hello.min_version, hello.max_version
            );
            let details = vec![Detail::new("min_version", lowest), Detail::new("max_version", highest)];
            self.refuse(correlation, ErrorCode::UnsupportedVersion, message, details);
            return Err(ServerFault::Version);
        }
        self.version = version;
        self.control(correlation, &self.config.welcome(version, self.now_us));
        if self.config.auth_required {
            self.phase = Phase::Authenticating;
        } else {
            self.open();
        }
        Ok(ServerEvent::Hello(hello))
    }

    fn open(&mut self) {
        self.phase = Phase::Open;
        self.reader.set_limits(self.config.limits());
    }

    /// Two requests under one correlation would get answers that nobody can tell apart.
    fn check_new(&self, correlation: u32) -> Result<(), ServerFault> {
        if self.unanswered.contains(&correlation) {
            return Err(ServerFault::Order { what: "the correlation of a request that is still unanswered" });
        }
        Ok(())
    }

    /// Counts a request in, or refuses it.
    fn admit(&mut self, correlation: u32, is_notice: bool) -> Result<bool, ServerFault> {
        if is_notice {
            return Ok(true);
        }
        self.check_new(correlation)?;
        if self.config.max_requests_in_flight <= self.unanswered.len() {
            let limit = self.config.max_requests_in_flight;
            let message = format!("{limit} requests of this connection are unanswered: wait for replies");
            self.refuse(correlation, ErrorCode::TooManyRequests, message, vec![Detail::new("limit", limit)]);
            return Ok(false);
        }
        self.unanswered.insert(correlation);
        Ok(true)
    }

    fn refuse(&mut self, correlation: u32, code: ErrorCode, message: String, details: Vec<Detail>) {
        self.control(correlation, &Error::new(code, message, details));
    }

    /// Queues a control frame; one that outgrew the limit becomes the error that says so.
    fn control<M: Message>(&mut self, correlation: u32, message: &M) {
        let limit = self.config.max_control_bytes as usize;
        if let Err(error) = self.outbound.push_control(correlation, message, limit) {
            let error = Error::new(ErrorCode::TooLarge, format!("{}: {error}", M::KIND.name()), Vec::new());
            self.outbound.push_control(correlation, &error, limit).expect("a short error fits every limit");
        }
    }

    fn answered(&mut self, correlation: u32) {
        let was_asked = self.unanswered.remove(&correlation);
        debug_assert!(was_asked, "each request is answered once");
    }

    /// Version of the protocol that this connection speaks; the lowest before Hello.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Whether a user is known, or none is needed.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Answers Authenticate: the client may speak from here on.
    pub fn authenticated(&mut self, correlation: u32, answer: &Authenticated) {
        self.answered(correlation);
        self.control(correlation, answer);
        if self.phase == Phase::Authenticating {
            self.open();
        }
    }

    /// Answers a request.
    pub fn reply<M: Message>(&mut self, correlation: u32, message: &M) {
        self.answered(correlation);
        self.control(correlation, message);
    }

    /// Answers a request with batches, in turn with the pushes of subscriptions.
    pub fn reply_with_body<M: Message>(&mut self, correlation: u32, message: &M, body: Vec<Bytes>) {
        self.answered(correlation);
        let limit = self.config.max_control_bytes as usize;
        let queued = self.outbound.push_lane(Lane::Reply(correlation), correlation, message, body, limit);
        queued.expect("the replies with a body have small control parts, and bodies of a few batches");
    }

    /// Answers a request with an error.
    pub fn fail(&mut self, correlation: u32, error: &Error) {
        self.answered(correlation);
        self.control(correlation, error);
    }

    /// Answers Unsubscribe: what was queued for the subscription is dropped.
    pub fn unsubscribed(&mut self, correlation: u32, subscription: u32) {
        self.outbound.discard(Lane::Subscription(subscription));
        self.reply(correlation, &Unsubscribed {});
    }

    /// Pushes batches of a subscription.
    pub fn deliver(&mut self, message: &Deliver, body: Vec<Bytes>) {
        let limit = self.config.max_control_bytes as usize;
        let queued = self.outbound.push_lane(Lane::Subscription(message.subscription), 0, message, body, limit);
        queued.expect("Deliver has a small control part, and a body of a few batches");
    }

    /// Ends a subscription, after what was queued for it.
    pub fn subscription_ended(&mut self, message: &SubscriptionEnded) {
        let limit = self.config.max_control_bytes as usize;
        let queued = self.outbound.push_lane(Lane::Subscription(message.subscription), 0, message, Vec::new(), limit);
        queued.expect("SubscriptionEnded is short");
    }

    /// Ends a subscription whose assignment is gone: what was queued for it is dropped, and the word comes before what
    /// [`Connection::push`] says next.
    pub fn subscription_revoked(&mut self, message: &SubscriptionEnded) {
        self.outbound.discard(Lane::Subscription(message.subscription));
        self.control(0, message);
    }

    /// Pushes a message that is no batch: a change of a group or the end of a membership.
    pub fn push<M: Message>(&mut self, message: &M) {
        self.control(0, message);
    }

    /// How many subscriptions are live: a connection with any is never idle.
    pub fn set_subscription_count(&mut self, count: usize) {
        self.subscription_count = count;
    }

    /// Announces the end. Nothing is read any more.
    pub fn goodbye(&mut self, reason: GoodbyeReason, message: &str) {
        self.control(0, &Goodbye { reason, message: message.to_owned() });
        self.phase = Phase::Ended;
    }

    /// Segments to write next, at most what one vectored write takes; then call [`Connection::on_sent`].
    pub fn slices<'a>(&'a mut self, slices: &mut Vec<IoSlice<'a>>) {
        self.outbound.slices(slices);
    }

    /// Notes that the first `count` bytes were written.
    pub fn on_sent(&mut self, count: usize) {
        self.outbound.on_sent(count);
    }

    /// Bytes not yet written.
    pub fn outbound_bytes(&self) -> usize {
        self.outbound.bytes()
    }

    /// Requests not yet answered.
    pub fn unanswered_count(&self) -> usize {
        self.unanswered.len()
    }

    /// When [`Connection::on_deadline`] wants to be called, if nothing happens before.
    pub fn poll_deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Ended => None,
            Phase::Open => {
                let busy = 0 < self.subscription_count || !self.unanswered.is_empty();
                (!busy).then(|| self.heard_ms + u64::from(self.config.idle_timeout_ms))
            }
            Phase::Preface | Phase::Hello | Phase::Authenticating => Some(self.opened_ms + self.config.auth_timeout_ms),
        }
    }

    /// Ends the connection if its time is up.
    ///
    /// # Errors
    /// When it has to end.
    pub fn on_deadline(&mut self, now_ms: u64) -> Result<(), ServerFault> {
        if self.poll_deadline().is_none_or(|deadline| now_ms < deadline) {
            return Ok(());
        }
        let (fault, reason) = if self.phase == Phase::Open {
            (ServerFault::Idle, GoodbyeReason::Idle)
        } else {
            (ServerFault::AuthTimeout, GoodbyeReason::AuthTimeout)
        };
        self.goodbye(reason, &fault.to_string());
        Err(fault)
    }
}
