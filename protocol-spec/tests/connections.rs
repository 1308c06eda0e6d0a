//! Both ends of a connection, joined by memory and virtual time: scenarios that read aloud.

use std::io::IoSlice;

use bytes::{BufMut, Bytes};
use levada_protocol::client::{self, ClientConfig, ClientEvent, ClientFault};
use levada_protocol::errors::ErrorCode;
use levada_protocol::frame::FrameError;
use levada_protocol::messages::{
    AuthMethod, Authenticate, Authenticated, Credit, Deliver, Durability, Error, Fetch, Fetched, GoodbyeReason, Kind,
    ListGroups, ListStreams, Ping, Position, Produce, Request, ResolvePosition, Role, ServerFrame, Streams,
    Unsubscribe,
};
use levada_protocol::pool::BufferPool;
use levada_protocol::server::{self, ServerConfig, ServerEvent, ServerFault};
use levada_protocol::{limits, messages::Message};

/// Two machines and the bytes between them.
struct Pair {
    client: client::Connection,
    server: server::Connection,
    now_ms: u64,
    /// Most bytes one transfer moves: small values split frames everywhere.
    step: usize,
}

fn credentials() -> Authenticate {
    Authenticate { method: AuthMethod::Token, user: String::new(), secret: Bytes::from_static(b"lvd_secret") }
}

fn welcome_back() -> Authenticated {
    Authenticated { user: "root".into(), role: Role::Admin, ticket: Bytes::from_static(b"t"), ticket_expires_at_us: 1 }
}

impl Pair {
    fn new(server: ServerConfig) -> Pair {
        let client = ClientConfig { credentials: Some(credentials()), ..ClientConfig::default() };
        Pair {
            client: client::Connection::new(client, BufferPool::new(1 << 24), 0),
            server: server::Connection::new(server, BufferPool::new(1 << 24), 0),
            now_ms: 0,
            step: usize::MAX,
        }
    }

    fn open() -> Pair {
        let mut pair = Pair::new(ServerConfig { auth_required: false, ..ServerConfig::default() });
        assert!(matches!(pair.at_server().as_slice(), [ServerEvent::Hello(_)]));
        assert!(matches!(pair.at_client().as_slice(), [ClientEvent::Ready { authenticated: None, .. }]));
        pair
    }

    /// Moves everything the client has to say; what the server makes of it.
    fn at_server(&mut self) -> Vec<ServerEvent> {
        let mut events = Vec::new();
        loop {
            let bytes = take(|slices| self.client.slices(slices), self.step);
            self.client.on_sent(bytes.len(), self.now_ms);
            if bytes.is_empty() {
                return events;
            }
            feed(&bytes, self.step, |part| {
                let used = fill(self.server.read_buffer(), part);
                self.server.on_received(self.now_ms, 1_000_000);
                while let Some(event) = self.server.poll_event().expect("the client keeps to the protocol") {
                    events.push(event);
                }
                used
            });
        }
    }

    /// Moves everything the server has to say; what the client makes of it.
    fn at_client(&mut self) -> Vec<ClientEvent> {
        let mut events = Vec::new();
        loop {
            let bytes = take(|slices| self.server.slices(slices), self.step);
            self.server.on_sent(bytes.len());
            if bytes.is_empty() {
                return events;
            }
            feed(&bytes, self.step, |part| {
                let used = fill(self.client.read_buffer(), part);
                self.client.on_received(self.now_ms);
                while let Some(event) = self.client.poll_event().expect("the server keeps to the protocol") {
                    events.push(event);
                }
                used
            });
        }
    }
}

fn take<'a>(slices: impl FnOnce(&mut Vec<IoSlice<'a>>), most: usize) -> Vec<u8> {
    let mut parts = Vec::new();
    slices(&mut parts);
    let mut bytes = Vec::new();
    for part in parts {
        let room = most - bytes.len();
        bytes.extend_from_slice(&part[..part.len().min(room)]);
    }
    bytes
}

fn feed(mut bytes: &[u8], step: usize, mut read: impl FnMut(&[u8]) -> usize) {
    while !bytes.is_empty() {
        let used = read(&bytes[..bytes.len().min(step)]);
        bytes = &bytes[used..];
    }
}

/// As a socket read: fills what fits and says how much that was.
fn fill(buffer: &mut dyn BufMut, bytes: &[u8]) -> usize {
    let used = buffer.remaining_mut().min(bytes.len()).min(64 * 1024);
    assert!(0 < used, "a read buffer always has room");
    buffer.put_slice(&bytes[..used]);
    used
}

fn produce() -> Produce {
    Produce { topic_id: 1, partition: 0, durability: Durability::Disk }
}

#[test]
fn a_client_says_hello_proves_who_it_is_and_may_speak() {
    let mut pair = Pair::new(ServerConfig::default());
    assert!(matches!(pair.at_server().as_slice(), [ServerEvent::Hello(_)]));
    assert_eq!(pair.at_client(), []);
    let correlation = match pair.at_server().as_slice() {
        [ServerEvent::Authenticate { correlation, request }] if *request == credentials() => *correlation,
        other => panic!("{other:?}"),
    };
    assert!(!pair.server.is_open());
    pair.server.authenticated(correlation, &welcome_back());
    assert!(matches!(pair.at_client().as_slice(), [ClientEvent::Ready { authenticated: Some(_), .. }]));
    assert!(pair.server.is_open());
}

/// A pair whose ends know versions up to these.
fn of_versions(client: u16, server: u16) -> Pair {
    let mut pair = Pair::new(ServerConfig { auth_required: false, max_version: server, ..ServerConfig::default() });
    let config = ClientConfig { max_version: client, ..ClientConfig::default() };
    pair.client = client::Connection::new(config, BufferPool::new(1 << 24), 0);
    assert!(matches!(pair.at_server().as_slice(), [ServerEvent::Hello(_)]));
    assert!(matches!(pair.at_client().as_slice(), [ClientEvent::Ready { .. }]));
    pair
}

#[test]
fn both_ends_speak_the_highest_version_that_both_know() {
    for (client, server, spoken) in [(1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 2)] {
        let pair = of_versions(client, server);
        assert_eq!((pair.client.version(), pair.server.version()), (spoken, spoken));
    }
}

#[test]
fn what_came_with_a_later_version_is_not_sent_to_an_older_server() {
    let mut pair = of_versions(2, 1);
    let refused = pair.client.request(&ListGroups {}).unwrap_err();
    assert!(matches!(refused, FrameError::TooNew { needed: 2, spoken: 1 }));
    let resolve = |group| ResolvePosition { topic_id: 1, partition: 0, position: Position::LATEST, group };
    assert!(pair.client.request(&resolve(Some("g".into()))).is_err());
    pair.client.request(&resolve(None)).unwrap();
    assert_eq!(pair.at_server().len(), 1);
}

#[test]
fn what_came_with_a_later_version_is_unknown_on_an_older_connection() {
    let mut pair = of_versions(1, 2);
    let mut listing = bytes::BytesMut::new();
    levada_protocol::frame::encode_head(&mut listing, 9, &ListGroups {}, 0, 1 << 20).unwrap();
    fill(pair.server.read_buffer(), &listing);
    pair.server.on_received(0, 0);
    assert!(matches!(pair.server.poll_event(), Ok(None)));
    let answer = take(|slices| pair.server.slices(slices), usize::MAX);
    let code = ErrorCode::UnknownKind as u16;
    assert_eq!(answer[4..6], Kind::Error.code().to_le_bytes());
    assert_eq!(answer[16..18], code.to_le_bytes());
}

#[test]
fn requests_are_pipelined_and_answered_out_of_order() {
    let mut pair = Pair::open();
    let first = pair.client.request(&ListStreams {}).unwrap();
    let second = pair.client.request(&ListStreams {}).unwrap();
    assert_eq!(pair.at_server().len(), 2);
    pair.server.reply(second, &Streams { streams: vec![] });
    pair.server.fail(first, &Error::new(ErrorCode::Overloaded, "busy", vec![]));
    let events = pair.at_client();
    assert!(
        matches!(&events[0], ClientEvent::Reply { correlation, frame: ServerFrame::Streams(_), .. } if *correlation == second)
    );
    assert!(
        matches!(&events[1], ClientEvent::Failed { correlation, error } if *correlation == first && error.retriable())
    );
    assert_eq!((pair.client.unanswered_count(), pair.server.unanswered_count()), (0, 0));
}

#[test]
fn bodies_of_any_size_arrive_whole_however_the_bytes_are_split() {
    for step in [1, 7, 1000, 65_536, usize::MAX] {
        let mut pair = Pair::open();
        pair.step = step;
        for size in [0, 1, 4_096, 40_000, if step < 100 { 50_000 } else { 3_000_000 }] {
            let body: Bytes = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<u8>>().into();
            pair.client.request_with_body(&produce(), vec![body.clone()]).unwrap();
            let events = pair.at_server();
            let ServerEvent::Request { correlation, body: received, .. } = &events[0] else { panic!("{events:?}") };
            assert_eq!(received, &body);
            let fetched = Fetched { start_offset: 0, log_start_offset: 0, visible_end_offset: 0, leader_epoch: 0 };
            pair.server.fail(*correlation, &Error::new(ErrorCode::Overloaded, "", vec![]));
            let fetch = Fetch {
                topic_id: 1,
                partition: 0,
                position: Position::EARLIEST,
                epoch: None,
                max_bytes: 1,
                min_bytes: 1,
                max_wait_ms: 0,
            };
            let correlation = pair.client.request(&fetch).unwrap();
            pair.at_server();
            pair.server.reply_with_body(correlation, &fetched, vec![body.slice(..size / 2), body.slice(size / 2..)]);
            let events = pair.at_client();
            assert!(matches!(&events[1], ClientEvent::Reply { body: received, .. } if *received == body));
        }
    }
}

#[test]
fn deliveries_are_pushed_and_nothing_follows_unsubscribed() {
    let mut pair = Pair::open();
    pair.client.notice(&Credit { subscription: 5, credit_bytes: 10 }).unwrap();
    let events = pair.at_server();
    assert!(matches!(events.as_slice(), [ServerEvent::Request { correlation: 0, request: Request::Credit(_), .. }]));
    let deliver = Deliver { subscription: 5, log_start_offset: 0, visible_end_offset: 9 };
    pair.server.deliver(&deliver, vec![Bytes::from_static(b"abc")]);
    let pushed = pair.at_client();
    assert!(matches!(pushed.as_slice(), [ClientEvent::Push { frame: ServerFrame::Deliver(_), body }] if body == "abc"));
    let correlation = pair.client.request(&Unsubscribe { subscription: 5 }).unwrap();
    pair.at_server();
    pair.server.deliver(&deliver, vec![Bytes::from_static(b"late")]);
    pair.server.unsubscribed(correlation, 5);
    assert!(matches!(pair.at_client().as_slice(), [ClientEvent::Reply { frame: ServerFrame::Unsubscribed(_), .. }]));
}

#[test]
fn before_authentication_only_ping_is_answered() {
    let mut pair = Pair::new(ServerConfig::default());
    pair.client.request(&ListStreams {}).unwrap();
    assert!(matches!(pair.at_server().as_slice(), [ServerEvent::Hello(_)]));
    let refused = pair.at_client();
    assert!(matches!(&refused[..], [ClientEvent::Refused(error)] if error.code == ErrorCode::Unauthenticated.code()));
}

#[test]
fn a_frame_over_8_kib_before_authentication_ends_the_connection() {
    let mut server = server::Connection::new(ServerConfig::default(), BufferPool::new(0), 0);
    let mut bytes = limits::PREFACE.to_vec();
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    bytes.extend_from_slice(&[0; 12]);
    fill(server.read_buffer(), &bytes);
    server.on_received(0, 0);
    assert!(matches!(server.poll_event(), Err(ServerFault::Frame(_))));
    assert!(matches!(server.poll_event(), Ok(None)));
    assert!(0 < server.outbound_bytes(), "the client is told why");
}

#[test]
fn the_limit_before_authentication_is_8_kib_to_the_byte() {
    let begin = |frame_bytes: usize| {
        let mut server = server::Connection::new(ServerConfig::default(), BufferPool::new(0), 0);
        let mut bytes = limits::PREFACE.to_vec();
        bytes.extend_from_slice(&u32::try_from(frame_bytes - 4).unwrap().to_le_bytes());
        bytes.extend_from_slice(&[0; 12]);
        fill(server.read_buffer(), &bytes);
        server.on_received(0, 0);
        server.poll_event()
    };
    let is_too_large = |fault: ServerFault| fault.to_string().contains(&limits::MAX_PREAUTH_FRAME_BYTES.to_string());
    assert!(!begin(limits::MAX_PREAUTH_FRAME_BYTES).is_err_and(is_too_large));
    assert!(begin(limits::MAX_PREAUTH_FRAME_BYTES + 1).is_err_and(is_too_large));
}

#[test]
fn another_protocol_is_refused_at_its_first_byte() {
    let mut server = server::Connection::new(ServerConfig::default(), BufferPool::new(0), 0);
    fill(server.read_buffer(), b"G");
    server.on_received(0, 0);
    assert!(matches!(server.poll_event(), Err(ServerFault::Preface)));
}

#[test]
fn too_many_unanswered_requests_are_refused_one_by_one() {
    let config = ServerConfig { auth_required: false, max_requests_in_flight: 2, ..ServerConfig::default() };
    let mut pair = Pair::new(config);
    pair.at_server();
    pair.at_client();
    for _ in 0..3 {
        pair.client.request(&ListStreams {}).unwrap();
    }
    assert_eq!(pair.at_server().len(), 2);
    let failed = pair.at_client();
    assert!(
        matches!(&failed[..], [ClientEvent::Failed { error, .. }] if error.code == ErrorCode::TooManyRequests.code())
    );
}

#[test]
fn a_correlation_is_free_again_only_after_its_answer() {
    fn frame<M: Message>(message: &M) -> bytes::BytesMut {
        let mut frame = bytes::BytesMut::new();
        levada_protocol::frame::encode_head(&mut frame, 2, message, 0, 1024).unwrap();
        frame
    }
    let asked = || {
        let mut pair = Pair::open();
        assert_eq!(pair.client.request(&ListStreams {}).unwrap(), 2);
        assert_eq!(pair.at_server().len(), 1);
        pair
    };
    let say = |pair: &mut Pair, frame: &[u8]| {
        fill(pair.server.read_buffer(), frame);
        pair.server.on_received(0, 0);
        pair.server.poll_event()
    };
    let mut pair = asked();
    pair.server.fail(2, &Error::new(ErrorCode::Overloaded, "", vec![]));
    let again = say(&mut pair, &frame(&ListStreams {}));
    assert!(matches!(again, Ok(Some(ServerEvent::Request { correlation: 2, .. }))));
    for second in [frame(&ListStreams {}), frame(&Ping {})] {
        let mut pair = asked();
        assert!(matches!(say(&mut pair, &second), Err(ServerFault::Order { .. })));
        assert!(matches!(say(&mut pair, &second), Ok(None)), "nothing is heard after a broken rule");
        let answer = take(|slices| pair.server.slices(slices), usize::MAX);
        assert_eq!(answer[4..6], Kind::Error.code().to_le_bytes());
        assert_eq!(answer[8..12], [0; 4], "the whole connection is told, not one request");
    }
}

#[test]
fn an_unknown_kind_is_answered_and_the_connection_lives() {
    let mut pair = Pair::open();
    let mut frame = bytes::BytesMut::new();
    levada_protocol::frame::encode_head(&mut frame, 77, &ListStreams {}, 0, 1024).unwrap();
    let mut header = levada_protocol::frame::FrameHeader::parse(frame[..16].try_into().unwrap());
    header.kind = 0x3ffe;
    header.crc = header.checksum(&frame[16..]);
    frame[..16].copy_from_slice(&header.encode());
    fill(pair.server.read_buffer(), &frame);
    pair.server.on_received(0, 0);
    assert!(matches!(pair.server.poll_event(), Ok(None)));
    let answer = take(|slices| pair.server.slices(slices), usize::MAX);
    assert_eq!(answer[4..6], Kind::Error.code().to_le_bytes());
    assert_eq!(answer[8..12], 77u32.to_le_bytes());
}

#[test]
fn silence_is_broken_by_ping_and_a_dead_server_is_given_up() {
    let mut pair = Pair::open();
    pair.now_ms = pair.client.poll_deadline().unwrap();
    assert_eq!(pair.now_ms, 20_000);
    pair.client.on_deadline(pair.now_ms).unwrap();
    assert!(pair.at_server().is_empty());
    assert!(pair.at_client().is_empty(), "Pong is the machine's own business");
    pair.now_ms = pair.client.poll_deadline().unwrap();
    pair.client.on_deadline(pair.now_ms).unwrap();
    pair.now_ms = pair.client.poll_deadline().unwrap();
    assert!(matches!(pair.client.on_deadline(pair.now_ms), Err(ClientFault::Silent { .. })));
}

#[test]
fn a_client_that_does_not_say_who_it_is_in_time_is_sent_away() {
    let mut server = server::Connection::new(ServerConfig::default(), BufferPool::new(0), 100);
    assert_eq!(server.poll_deadline(), Some(5_100));
    assert!(server.on_deadline(5_099).is_ok());
    assert_eq!(server.on_deadline(5_100), Err(ServerFault::AuthTimeout));
}

#[test]
fn goodbye_reaches_the_client() {
    let mut pair = Pair::open();
    pair.server.goodbye(GoodbyeReason::Shutdown, "restarting");
    assert!(matches!(pair.at_client().as_slice(), [ClientEvent::Goodbye(_)]));
}

#[test]
fn the_kinds_of_requests_and_replies_belong_together() {
    for kind in Kind::ALL.iter().filter(|kind| kind.code() < 0x4000) {
        assert!(Kind::from_code(kind.code() | 0x8000).is_some(), "{}", kind.name());
    }
    assert_eq!(Produce::KIND.code(), 0x0101);
}
