//! The client's end of a connection, without I/O: commands and received bytes go in, bytes to send, replies and pushes
//! come out.
//!
//! It owns the preface, Hello, the first Authenticate, correlations, Ping when the connection is silent, and the refusal
//! of frames that do not follow the protocol. It must not know what a reply means, retry anything, or reconnect: a
//! connection that ended is dropped whole.

use std::collections::BTreeMap;
use std::io::IoSlice;

use bytes::{BufMut, Bytes};

use crate::frame::{CONTROL_LENGTH_BYTES, FrameError, HEADER_BYTES};
use crate::frame_reader::{Frame, FrameFault, FrameReader, ReadLimits};
use crate::limits;
use crate::messages::{
    Authenticate, Authenticated, DecodeError, Error, Goodbye, Hello, Kind, Message, Ping, ServerFrame, Welcome,
};
use crate::outbound::Fifo;
use crate::pool::BufferPool;

/// Who the client is and how it proves that.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// For Hello: name of the client library.
    pub client: String,
    /// For Hello.
    pub client_version: String,
    /// For Hello: the core it would like.
    pub shard: Option<u16>,
    /// For Hello: codecs it can read.
    pub codecs: Vec<u8>,
    /// The highest protocol version to offer.
    pub max_version: u16,
    /// Sent if the server asks for it.
    pub credentials: Option<Authenticate>,
    /// Silence of the server, after a Ping, that ends the connection.
    pub ping_timeout_ms: u64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            client: "levada".to_owned(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            shard: None,
            codecs: vec![0, 1, 2],
            max_version: limits::PROTOCOL_VERSION,
            credentials: None,
            ping_timeout_ms: 10_000,
        }
    }
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Requests may be sent.
    Ready {
        /// The server's words about itself.
        welcome: Box<Welcome>,
        /// Who the client is, unless the server did not ask.
        authenticated: Option<Box<Authenticated>>,
    },
    /// The server does not take this client: no version in common, or credentials refused. The connection is of no use.
    Refused(Error),
    /// A request was answered.
    Reply {
        /// Of the request.
        correlation: u32,
        /// The answer, of the kind that answers the request.
        frame: ServerFrame,
        /// Batches of a Fetched; else empty.
        body: Bytes,
    },
    /// A request failed.
    Failed {
        /// Of the request.
        correlation: u32,
        /// Why.
        error: Error,
    },
    /// Deliver, SubscriptionEnded, GroupChanged or MembershipEnded.
    Push {
        /// What is pushed.
        frame: ServerFrame,
        /// Batches of a Deliver; else empty.
        body: Bytes,
    },
    /// The server closes the connection after this.
    Goodbye(Goodbye),
}

/// Why a connection has to end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
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
    /// The server says that this end broke the protocol.
    #[error("the server ended the connection: {0}")]
    Told(String),
    /// The server asks for credentials and there are none.
    #[error("the server asks for credentials")]
    CredentialsMissing,
    /// No answer to Ping.
    #[error("the server has been silent for {silent_ms} ms")]
    Silent {
        /// How long.
        silent_ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Hello,
    Authenticating,
    Open,
    Ended,
}

/// The client's end of one connection.
#[derive(Debug)]
pub struct Connection {
    config: ClientConfig,
    phase: Phase,
    reader: FrameReader,
    outbound: Fifo,
    welcome: Option<Box<Welcome>>,
    /// Requests not yet answered, with the kind of their reply.
    unanswered: BTreeMap<u32, Kind>,
    next_correlation: u32,
    max_control_bytes: usize,
    heard_ms: u64,
    sent_ms: u64,
    /// When a Ping went out that nothing was heard after.
    pinged_ms: Option<u64>,
    /// Correlation of this machine's own last Ping: its answer is for nobody else.
    own_ping: Option<u32>,
}

/// Kind of the reply to a request of this kind.
fn reply_kind(kind: Kind) -> Option<Kind> {
    Kind::from_code(kind.code() | 0x8000)
}

/// Feature bits of this client: no version defines any.
const FEATURES: u64 = 0;

/// What a server may send in one body: a fetch or a delivery of some batches.
const MAX_BODY_BYTES: usize = 2 * limits::MAX_BATCH_BYTES;

impl Connection {
    /// A connection opened at `now_ms` (any clock that only moves forward; all times of this machine are of it).
    pub fn new(config: ClientConfig, buffers: BufferPool, now_ms: u64) -> Self {
        let max_frame_bytes = HEADER_BYTES + CONTROL_LENGTH_BYTES + limits::MAX_CONTROL_BYTES + MAX_BODY_BYTES;
        let read_limits = ReadLimits { max_frame_bytes, max_control_bytes: limits::MAX_CONTROL_BYTES };
        let mut connection = Self {
            phase: Phase::Hello,
            reader: FrameReader::new(buffers, read_limits),
            outbound: Fifo::default(),
            welcome: None,
            unanswered: BTreeMap::new(),
            next_correlation: 1,
            max_control_bytes: limits::MAX_CONTROL_BYTES,
            heard_ms: now_ms,
            sent_ms: now_ms,
            pinged_ms: None,
            own_ping: None,
            config,
        };
        connection.outbound.push_raw(&limits::PREFACE);
        let hello = Hello {
            min_version: limits::MIN_PROTOCOL_VERSION,
            max_version: connection.config.max_version,
            features: FEATURES,
            batch_formats: vec![1],
            codecs: connection.config.codecs.clone(),
            client: connection.config.client.clone(),
            client_version: connection.config.client_version.clone(),
            shard: connection.config.shard,
        };
        connection.send(&hello).expect("Hello is short");
        connection
    }

    /// Where the next read from the socket goes; never without room. Then call [`Connection::on_received`].
    pub fn read_buffer(&mut self) -> &mut (dyn BufMut + Send) {
        self.reader.buffer()
    }

    /// Notes that bytes were read. Then drain [`Connection::poll_event`].
    pub fn on_received(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.pinged_ms = None;
    }

    /// The next thing the server says.
    ///
    /// # Errors
    /// Once, when the connection has to end; after that always `Ok(None)`.
    pub fn poll_event(&mut self) -> Result<Option<ClientEvent>, ClientFault> {
        loop {
            if self.phase == Phase::Ended {
                return Ok(None);
            }
            let step = match self.reader.next() {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => self.on_frame(frame),
                Err(fault) => Err(fault.into()),
            };
            match step {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(Some(event)),
                Err(fault) => {
                    self.phase = Phase::Ended;
                    return Err(fault);
                }
            }
        }
    }

    fn on_frame(&mut self, frame: Frame) -> Result<Option<ClientEvent>, ClientFault> {
        // A kind of a newer server that asks nothing of this client.
        let Some(kind) = Kind::from_code(frame.kind) else {
            let is_push = frame.correlation == 0;
            return if is_push { Ok(None) } else { Err(ClientFault::Order { what: "a reply of unknown kind" }) };
        };
        if kind.has_body() != frame.body.is_some() {
            return Err(ClientFault::Order { what: "flag BODY does not fit the kind" });
        }
        let decoded = ServerFrame::decode(kind, &frame.control);
        let decoded = decoded.map_err(|error| ClientFault::Decode { kind: frame.kind, error })?;
        let decoded = decoded.ok_or(ClientFault::Order { what: "a kind that only clients send" })?;
        let body = frame.body.unwrap_or_default();
        if frame.correlation == 0 {
            return self.on_push(decoded, body).map(Some);
        }
        let expected = self.unanswered.remove(&frame.correlation);
        let expected = expected.ok_or(ClientFault::Order { what: "a reply to no request" })?;
        match decoded {
            ServerFrame::Error(error) if self.phase == Phase::Open => {
                Ok(Some(ClientEvent::Failed { correlation: frame.correlation, error }))
            }
            ServerFrame::Error(error) => {
                self.phase = Phase::Ended;
                Ok(Some(ClientEvent::Refused(error)))
            }
            frame if frame.kind() != expected => {
                Err(ClientFault::Order { what: "a reply of another kind than its request" })
            }
            ServerFrame::Pong(_) if self.own_ping == Some(frame.correlation) => Ok(None),
            ServerFrame::Welcome(welcome) => self.on_welcome(welcome),
            ServerFrame::Authenticated(answer) if self.phase == Phase::Authenticating => {
                self.phase = Phase::Open;
                let welcome = self.welcome.clone().expect("Welcome came before Authenticate was sent");
                Ok(Some(ClientEvent::Ready { welcome, authenticated: Some(Box::new(answer)) }))
            }
            reply => Ok(Some(ClientEvent::Reply { correlation: frame.correlation, frame: reply, body })),
        }
    }

    fn on_push(&mut self, frame: ServerFrame, body: Bytes) -> Result<ClientEvent, ClientFault> {
        match frame {
            ServerFrame::Error(error) => Err(ClientFault::Told(error.message)),
            ServerFrame::Goodbye(goodbye) => Ok(ClientEvent::Goodbye(goodbye)),
            frame @ (ServerFrame::Deliver(_)
            | ServerFrame::SubscriptionEnded(_)
            | ServerFrame::GroupChanged(_)
            | ServerFrame::MembershipEnded(_))
                if self.phase == Phase::Open =>
            {
                Ok(ClientEvent::Push { frame, body })
            }
            _ => Err(ClientFault::Order { what: "a push that may not come here" }),
        }
    }

    fn on_welcome(&mut self, welcome: Welcome) -> Result<Option<ClientEvent>, ClientFault> {
        if !(limits::MIN_PROTOCOL_VERSION..=self.config.max_version).contains(&welcome.version) {
            return Err(ClientFault::Order { what: "the server chose a version that was not offered" });
        }
        if welcome.features != FEATURES {
            return Err(ClientFault::Order { what: "the server has a feature in force that was not offered" });
        }
        if (welcome.max_control_bytes as usize) < limits::MAX_PREAUTH_FRAME_BYTES {
            return Err(ClientFault::Order { what: "the server takes no control part that version 1 promises" });
        }
        self.max_control_bytes = self.max_control_bytes.min(welcome.max_control_bytes as usize);
        let welcome = Box::new(welcome);
        self.welcome = Some(welcome.clone());
        if !welcome.auth_required {
            self.phase = Phase::Open;
            return Ok(Some(ClientEvent::Ready { welcome, authenticated: None }));
        }
        let credentials = self.config.credentials.take().ok_or(ClientFault::CredentialsMissing)?;
        self.phase = Phase::Authenticating;
        self.send(&credentials).map_err(|_| ClientFault::Order { what: "the credentials do not fit a frame" })?;
        Ok(None)
    }

    fn send<M: Message>(&mut self, message: &M) -> Result<u32, FrameError> {
        self.send_with_body(message, Vec::new())
    }

    fn send_with_body<M: Message>(&mut self, message: &M, body: Vec<Bytes>) -> Result<u32, FrameError> {
        if self.version() < message.since() {
            return Err(FrameError::TooNew { needed: message.since(), spoken: self.version() });
        }
        while self.next_correlation == 0 || self.unanswered.contains_key(&self.next_correlation) {
            self.next_correlation = self.next_correlation.wrapping_add(1);
        }
        let correlation = self.next_correlation;
        self.outbound.push(correlation, message, body, self.max_control_bytes)?;
        self.next_correlation = correlation.wrapping_add(1);
        self.unanswered.insert(correlation, reply_kind(M::KIND).expect("only requests are sent with a correlation"));
        Ok(correlation)
    }

    /// Queues a request and returns its correlation.
    ///
    /// # Errors
    /// When it does not fit a frame, or needs a version that this connection does not speak; nothing was queued.
    pub fn request<M: Message>(&mut self, message: &M) -> Result<u32, FrameError> {
        self.send(message)
    }

    /// Queues a request with batches.
    ///
    /// # Errors
    /// When it does not fit a frame; nothing was queued.
    pub fn request_with_body<M: Message>(&mut self, message: &M, body: Vec<Bytes>) -> Result<u32, FrameError> {
        self.send_with_body(message, body)
    }

    /// Queues a notice.
    ///
    /// # Errors
    /// When it does not fit a frame; nothing was queued.
    pub fn notice<M: Message>(&mut self, message: &M) -> Result<(), FrameError> {
        self.outbound.push(0, message, Vec::new(), self.max_control_bytes)
    }

    /// Version of the protocol that this connection speaks; the lowest before Welcome.
    pub fn version(&self) -> u16 {
        self.welcome.as_ref().map_or(limits::MIN_PROTOCOL_VERSION, |welcome| welcome.version)
    }

    /// The server's words about itself, once they came.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_deref()
    }

    /// Requests not yet answered.
    pub fn unanswered_count(&self) -> usize {
        self.unanswered.len()
    }

    /// Segments to write next, at most what one vectored write takes; then call [`Connection::on_sent`].
    pub fn slices<'a>(&'a mut self, slices: &mut Vec<IoSlice<'a>>) {
        self.outbound.slices(slices);
    }

    /// Notes that the first `count` bytes were written.
    pub fn on_sent(&mut self, count: usize, now_ms: u64) {
        self.sent_ms = now_ms;
        self.outbound.on_sent(count);
    }

    /// Bytes not yet written.
    pub fn outbound_bytes(&self) -> usize {
        self.outbound.bytes()
    }

    /// A third of the silence the server allows.
    fn ping_after_ms(&self) -> Option<u64> {
        self.welcome.as_ref().map(|welcome| (u64::from(welcome.idle_timeout_ms) / 3).max(1))
    }

    /// When [`Connection::on_deadline`] wants to be called, if nothing happens before.
    pub fn poll_deadline(&self) -> Option<u64> {
        if self.phase == Phase::Ended {
            return None;
        }
        let answer = match self.pinged_ms {
            Some(pinged_ms) => Some(pinged_ms + self.config.ping_timeout_ms),
            None => (self.phase != Phase::Open).then(|| self.heard_ms + self.config.ping_timeout_ms),
        };
        let ping = self.ping_after_ms().filter(|_| self.phase == Phase::Open && self.pinged_ms.is_none());
        let ping = ping.map(|after| self.heard_ms.min(self.sent_ms) + after);
        [answer, ping].into_iter().flatten().min()
    }

    /// Sends Ping if the connection was silent, or gives up if the last one was not answered.
    ///
    /// # Errors
    /// When the connection has to end.
    pub fn on_deadline(&mut self, now_ms: u64) -> Result<(), ClientFault> {
        if self.poll_deadline().is_none_or(|deadline| now_ms < deadline) {
            return Ok(());
        }
        if self.phase == Phase::Open && self.pinged_ms.is_none() {
            self.pinged_ms = Some(now_ms);
            self.own_ping = Some(self.send(&Ping {}).expect("Ping is short"));
            return Ok(());
        }
        self.phase = Phase::Ended;
        Err(ClientFault::Silent { silent_ms: now_ms.saturating_sub(self.heard_ms) })
    }
}
