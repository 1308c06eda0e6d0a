//! What each fuzz target does with its bytes: one function per decoder. The fuzzer's binaries and the replay of the corpus in
//! the normal tests share them. A target fails by panicking.

use bytes::{BufMut, Bytes, BytesMut};
use levada_protocol::batch::{Codec, ProducerHeader, Reencoder, StoredBatch, verify_producer, walk_messages};
use levada_protocol::client::{self, ClientConfig};
use levada_protocol::limits::PREFACE;
use levada_protocol::messages::{Authenticated, Kind, Request, Role, ServerFrame};
use levada_protocol::pool::BufferPool;
use levada_protocol::server::{self, ServerConfig, ServerEvent};
use levada_protocol::{codec, headers, names};

/// A target: its name and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target.
pub(crate) const TARGETS: &[Target] = &[
    ("control", control),
    ("produce", produce),
    ("stored", stored),
    ("message_headers", message_headers),
    ("bodies", bodies),
    ("addresses", addresses),
    ("server_connection", server_connection),
    ("client_connection", client_connection),
];

/// Kind, then a control part: what decodes encodes to bytes that decode to the same.
pub(crate) fn control(data: &[u8]) {
    let Some((kind, control)) = data.split_first_chunk() else { return };
    let kinds = Kind::ALL;
    let kind = kinds[usize::from(u16::from_le_bytes(*kind)) % kinds.len()];
    let control = Bytes::copy_from_slice(control);
    if let Ok(Some(request)) = Request::decode(kind, &control) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        assert_eq!(Request::decode(kind, &out.freeze()), Ok(Some(request)));
    }
    if let Ok(Some(frame)) = ServerFrame::decode(kind, &control) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        assert_eq!(ServerFrame::decode(kind, &out.freeze()), Ok(Some(frame)));
    }
}

/// A producer part and body, once as they are and once with the right lengths and checksum.
pub(crate) fn produce(data: &[u8]) {
    let _ = verify_producer(data);
    let Some(repaired) = repaired(data) else { return };
    if let Ok(header) = verify_producer(&repaired) {
        assert_eq!(header.encode()[..], repaired[..header.encode().len()], "headers have one encoding");
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            if let Ok(Some(anew)) = Reencoder::default().reencode(&repaired, codec, 1) {
                assert_eq!(verify_producer(&anew).map(|header| header.codec), Ok(codec));
            }
        }
    }
}

/// Gives a batch the checksum it should have, so that the fuzzer gets past it.
fn repaired(data: &[u8]) -> Option<Vec<u8>> {
    let mut batch = data.to_vec();
    let crc = crc32c::crc32c(batch.get(4..)?);
    batch[..4].copy_from_slice(&crc.to_le_bytes());
    Some(batch)
}

/// Stored batches back to back.
pub(crate) fn stored(data: &[u8]) {
    let mut body = Bytes::copy_from_slice(data);
    let pool = BufferPool::new(1 << 20);
    while let Ok(Some(batch)) = StoredBatch::split_first(&mut body) {
        let intact = batch.verify().is_ok();
        let Ok(open) = batch.open(&pool) else { continue };
        let spans = open.spans().filter(Result::is_ok).count();
        assert_eq!(batch.messages().map_or(0, |messages| messages.filter(Result::is_ok).count()), spans);
        let walked = walk_messages(open.header(), open.body()).is_ok();
        assert!(!walked || !intact || spans == open.header().message_count as usize);
    }
}

/// Headers of a message.
pub(crate) fn message_headers(data: &[u8]) {
    let read: Result<Vec<_>, _> = headers::iterate(data).collect();
    if headers::check(data).is_err() {
        return;
    }
    let owned: Vec<_> = read
        .expect("checked headers can be read")
        .into_iter()
        .map(|(name, value)| headers::Header::new(name, value.to_owned()))
        .collect();
    let mut again = Vec::new();
    headers::encode(&owned, &mut again).expect("read headers can be written");
    assert_eq!(again, data, "headers have one encoding");
}

/// Codec, uncompressed length (u16), body.
pub(crate) fn bodies(data: &[u8]) {
    let [codec, low, high, body @ ..] = data else { return };
    let Ok(codec) = codec::Codec::try_from(codec % 3) else { return };
    let mut output = vec![0; usize::from(u16::from_le_bytes([*low, *high]))];
    let _ = codec::decompress(codec, body, &mut output);
    let _ = ProducerHeader::parse(body);
}

/// Text of an address.
pub(crate) fn addresses(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(address) = names::Address::parse(text) {
        assert_eq!(names::Address::parse(&address.to_string()), Ok(address));
    }
}

/// How many bytes a read brings at a time, and the bytes.
fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = data.first().map_or(1, |first| usize::from(*first) + 1);
    data.get(1..).unwrap_or_default().chunks(step)
}

fn feed(buffer: &mut dyn BufMut, piece: &[u8]) -> usize {
    let used = buffer.remaining_mut().min(piece.len());
    buffer.put_slice(&piece[..used]);
    used
}

/// Bytes from a client, after the preface. Authentication succeeds; requests are answered by an error.
pub(crate) fn server_connection(data: &[u8]) {
    let mut connection = server::Connection::new(ServerConfig::default(), BufferPool::new(0), 0);
    for mut piece in std::iter::once(&PREFACE[..]).chain(pieces(data)) {
        while !piece.is_empty() {
            let used = feed(connection.read_buffer(), piece);
            assert!(0 < used, "a read buffer has room");
            piece = &piece[used..];
            connection.on_received(1, 1);
            loop {
                match connection.poll_event() {
                    Ok(None) => break,
                    Ok(Some(event)) => answer(&mut connection, event),
                    Err(_) => return,
                }
            }
            let unsent = connection.outbound_bytes();
            let mut slices = Vec::new();
            connection.slices(&mut slices);
            let sent = slices.iter().map(|slice| slice.len()).sum();
            drop(slices);
            assert!(sent <= unsent);
            connection.on_sent(sent);
        }
    }
    let _ = connection.on_deadline(u64::MAX / 2);
}

fn answer(connection: &mut server::Connection, event: ServerEvent) {
    let (user, ticket) = (String::new(), Bytes::new());
    match event {
        ServerEvent::Hello(_) => {}
        ServerEvent::Authenticate { correlation, .. } => {
            let reply = Authenticated { user, role: Role::Member, ticket, ticket_expires_at_us: 0 };
            connection.authenticated(correlation, &reply);
        }
        ServerEvent::Request { correlation: 0, .. } => {}
        ServerEvent::Request { correlation, .. } => {
            let error = levada_protocol::messages::Error::new(levada_protocol::ErrorCode::Overloaded, "", Vec::new());
            connection.fail(correlation, &error);
        }
    }
}

/// Bytes from a server.
pub(crate) fn client_connection(data: &[u8]) {
    let mut connection = client::Connection::new(ClientConfig::default(), BufferPool::new(0), 0);
    for mut piece in pieces(data) {
        while !piece.is_empty() {
            let used = feed(connection.read_buffer(), piece);
            assert!(0 < used, "a read buffer has room");
            piece = &piece[used..];
            connection.on_received(1);
            loop {
                match connection.poll_event() {
                    Ok(None) => break,
                    Ok(Some(_)) => {}
                    Err(_) => return,
                }
            }
        }
    }
    let _ = connection.on_deadline(u64::MAX / 2);
}
