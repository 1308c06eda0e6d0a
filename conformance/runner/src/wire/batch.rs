//! Batches and the messages in them (section 4).

use super::crc::crc32c;
use super::error::WireError;
use super::schema::schema;
use std::collections::BTreeSet;

type Result<T> = std::result::Result<T, WireError>;

const SERVER_PART_BYTES: usize = 32;
const PRODUCER_PART_BYTES: usize = 72;
const MAGIC: u16 = 0x564C;
const FORMAT: u8 = 1;
const MESSAGE_HEADER_BYTES: usize = 16;
/// A compressed body expands to so much at most.
const MAX_EXPANSION: u64 = 1024;
const ZSTD_LEVEL: i32 = 3;

/// Flags of a batch.
pub mod flags {
    /// Offsets have gaps.
    pub const SPARSE: u16 = 1;
    /// The sequence is somebody else's.
    pub const EXTERNAL_SEQUENCE: u16 = 2;
    /// The server made the producer part.
    pub const SERVER_ENCODED: u16 = 4;
    /// All that are known.
    pub(super) const KNOWN: u16 = 7;
}

/// Flags of a message.
pub mod message_flags {
    /// It has a key.
    pub const HAS_KEY: u32 = 1;
    /// Its payload is null.
    pub const NULL_PAYLOAD: u32 = 2;
    /// It has an id.
    pub const HAS_ID: u32 = 4;
    /// Its timestamp is written whole.
    pub const TS64: u32 = 8;
    /// All that are known.
    pub(super) const KNOWN: u32 = 15;
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// One LZ4 block.
    Lz4,
    /// One zstd frame.
    Zstd,
}

impl Codec {
    /// By its name in cases.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|codec| codec.name() == name)
    }

    /// Its name in cases.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|codec| codec.number() == number)
    }
}

/// Value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// Text.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A bool.
    Bool(bool),
    /// A signed number.
    I64(i64),
    /// An unsigned number.
    U64(u64),
    /// A floating-point number, as its bits.
    F64(u64),
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its offset, where it is stored.
    pub offset: u64,
    /// When it happened, in µs.
    pub timestamp_us: i64,
    /// Written with TS64, which a delta that does not fit has anyway.
    pub timestamp_whole: bool,
    /// When its batch was appended, in µs; 0 before.
    pub append_time_us: i64,
    /// What it says; `None` is null.
    pub payload: Option<Vec<u8>>,
    /// What it is about.
    pub key: Option<Vec<u8>>,
    /// Its id.
    pub id: Option<[u8; 16]>,
    /// Its headers in order.
    pub headers: Vec<(String, HeaderValue)>,
}

impl Message {
    /// A message with a payload and nothing else.
    #[must_use]
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: Some(payload.into()), ..Self::default() }
    }
}

/// Who made a batch; all zero is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    /// From OpenProducer.
    pub id: u64,
    /// From OpenProducer.
    pub epoch: u32,
}

/// A batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Offset of the first message.
    pub base_offset: u64,
    /// When it was appended, in µs.
    pub append_time_us: i64,
    /// Epoch in which it was appended.
    pub leader_epoch: u32,
    /// Its codec.
    pub codec: Codec,
    /// Its flags.
    pub flags: u16,
    /// Who made it.
    pub producer: Producer,
    /// Sequence of the first message.
    pub first_sequence: u64,
    /// Bounds of the timestamps, if they are not the least and the greatest of the messages.
    pub timestamp_bounds_us: Option<(i64, i64)>,
    /// Its messages.
    pub messages: Vec<Message>,
}

/// What is wrong with a batch on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The checksum of producer part and body.
    Crc,
    /// The checksum of the server part.
    ServerCrc,
    /// The last byte of the body, checksums as they were.
    Body,
    /// Bytes of the producer part from this place on, with the right checksum.
    Producer(usize, Vec<u8>),
    /// Bytes of the server part from this place on, with the right checksum.
    Server(usize, Vec<u8>),
    /// A small body that says by how much it expands: by more than it may.
    Bomb,
    /// A small body that expands by far more than it says.
    Overrun,
}

impl Batch {
    /// A batch of messages without producer, uncompressed.
    #[must_use]
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages, ..Self::default() }
    }

    /// Producer part and body, as Produce carries them. A body that the codec does not shrink, or shrinks too far, is
    /// written plain.
    ///
    /// # Errors
    /// Usage, if a message has no encoding.
    pub fn produced(&self) -> Result<Vec<u8>> {
        let plain = self.messages_encoded()?;
        let (codec, body) = self.compressed(&plain);
        self.producer_part(codec, plain.len(), &body)
    }

    /// All three parts, as Deliver and Fetched carry them.
    ///
    /// # Errors
    /// As [`Batch::produced`].
    pub fn stored(&self) -> Result<Vec<u8>> {
        self.stored_from(&self.produced()?)
    }

    fn stored_from(&self, produced: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; SERVER_PART_BYTES];
        out.extend_from_slice(produced);
        let length = fit_u32(out.len(), "bytes of the batch")?;
        out[..4].copy_from_slice(&length.to_le_bytes());
        out[8..16].copy_from_slice(&self.base_offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.append_time_us.to_le_bytes());
        out[24..28].copy_from_slice(&self.leader_epoch.to_le_bytes());
        seal_server(&mut out);
        Ok(out)
    }

    /// [`Batch::stored`], with something wrong.
    ///
    /// # Errors
    /// As [`Batch::produced`], and Usage if a flaw lies outside its part.
    pub fn stored_with(&self, flaw: &Flaw) -> Result<Vec<u8>> {
        if let Some(produced) = self.expanding(flaw)? {
            return self.stored_from(&produced);
        }
        let mut bytes = self.stored()?;
        let outside = || WireError::usage("a flaw outside its part");
        match flaw {
            Flaw::ServerCrc => bytes[4] ^= 1,
            Flaw::Server(at, patch) => {
                let part = bytes[..SERVER_PART_BYTES].get_mut(*at..at + patch.len()).ok_or_else(outside)?;
                part.copy_from_slice(patch);
                seal_server(&mut bytes);
            }
            other => spoil(&mut bytes[SERVER_PART_BYTES..], other)?,
        }
        Ok(bytes)
    }

    /// [`Batch::produced`], with something wrong.
    ///
    /// # Errors
    /// As [`Batch::produced`], and Usage if a flaw lies outside its part or is of the server part.
    pub fn produced_with(&self, flaw: &Flaw) -> Result<Vec<u8>> {
        if let Some(produced) = self.expanding(flaw)? {
            return Ok(produced);
        }
        let mut bytes = self.produced()?;
        spoil(&mut bytes, flaw)?;
        Ok(bytes)
    }

    /// Producer part and body of a batch that expands too far, its messages aside.
    fn expanding(&self, flaw: &Flaw) -> Result<Option<Vec<u8>>> {
        const MIB: usize = 1 << 20;
        let (declared, body) = match (flaw, self.codec) {
            (Flaw::Bomb, Codec::Lz4) => (16 * 1024 + 1, lz4_match(&[255; 11])),
            (Flaw::Bomb, Codec::Zstd) => (MIB, zstd_of_one_byte(&[0xa0, 0, 0, 0x10, 0], 128 << 10, 8)),
            (Flaw::Overrun, Codec::Lz4) => (4096, lz4_match(&[255; 64])),
            (Flaw::Overrun, Codec::Zstd) => (4096, zstd_of_one_byte(&[0x60, 0, 0x0f], 4096, 256)),
            (Flaw::Bomb | Flaw::Overrun, Codec::None) => return Err(WireError::usage("codec none expands nothing")),
            _ => return Ok(None),
        };
        self.producer_part(self.codec, declared, &body).map(Some)
    }

    /// The batches of a Deliver or Fetched.
    ///
    /// # Errors
    /// Refused, if one breaks section 4.
    pub fn decode_all(mut body: &[u8]) -> Result<Vec<Self>> {
        let mut batches = Vec::new();
        while !body.is_empty() {
            let (batch, length) = Self::decode_stored(body)?;
            batches.push(batch);
            body = &body[length..];
        }
        Ok(batches)
    }

    /// The batch at the start of the bytes, and its length.
    ///
    /// # Errors
    /// Refused, if it breaks section 4.
    pub fn decode_stored(bytes: &[u8]) -> Result<(Self, usize)> {
        if bytes.len() < SERVER_PART_BYTES {
            return Err(WireError::refused("a batch cut in its server part"));
        }
        let length = u32_at(bytes, 0) as usize;
        if length < SERVER_PART_BYTES + PRODUCER_PART_BYTES || length > bytes.len() {
            return Err(WireError::refused(format!("a batch_length of {length} in {} bytes", bytes.len())));
        }
        if crc32c(&[&bytes[..4], &bytes[8..SERVER_PART_BYTES]]) != u32_at(bytes, 4) {
            return Err(WireError::refused("a wrong server_crc"));
        }
        if u32_at(bytes, 28) != 0 {
            return Err(WireError::refused("reserved bytes of the server part"));
        }
        let base_offset = u64_at(bytes, 8);
        let mut batch = Self::decode_produced(&bytes[SERVER_PART_BYTES..length])?;
        batch.append_time_us = u64_at(bytes, 16).cast_signed();
        batch.leader_epoch = u32_at(bytes, 24);
        batch.base_offset = base_offset;
        for message in &mut batch.messages {
            let offset = base_offset.checked_add(message.offset);
            message.offset = offset.ok_or_else(|| WireError::refused("an offset beyond u64"))?;
            message.append_time_us = batch.append_time_us;
        }
        Ok((batch, length))
    }

    /// Reads producer part and body; offsets of messages are counted from 0.
    ///
    /// # Errors
    /// Refused, if they break section 4.
    pub fn decode_produced(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < PRODUCER_PART_BYTES {
            return Err(WireError::refused("a batch cut in its producer part"));
        }
        let part = ProducerPart::read(bytes)?;
        if bytes.len() != PRODUCER_PART_BYTES + part.body_length as usize {
            return Err(WireError::refused("body_length is not that of the body"));
        }
        if crc32c(&[&bytes[4..]]) != u32_at(bytes, 0) {
            return Err(WireError::refused("a wrong crc"));
        }
        let body = &bytes[PRODUCER_PART_BYTES..];
        let messages = part.messages(&part.expand(body)?)?;
        let bounds = (part.base_timestamp, part.base_timestamp.wrapping_add_unsigned(part.max_timestamp_delta));
        Ok(Self {
            codec: part.codec,
            flags: part.flags,
            producer: part.producer,
            first_sequence: part.first_sequence,
            timestamp_bounds_us: (bounds != least_and_greatest(&messages)).then_some(bounds),
            messages,
            ..Self::default()
        })
    }

    fn messages_encoded(&self) -> Result<Vec<u8>> {
        let (base, _) = self.timestamps_us();
        let mut out = Vec::new();
        for message in &self.messages {
            let headers = headers_encoded(&message.headers)?;
            let delta = u32::try_from(message.timestamp_us.abs_diff(base)).ok().filter(|_| !message.timestamp_whole);
            let mut flags = 0;
            let mut set = |condition: bool, flag: u32| flags |= if condition { flag } else { 0 };
            set(message.key.is_some(), message_flags::HAS_KEY);
            set(message.payload.is_none(), message_flags::NULL_PAYLOAD);
            set(message.id.is_some(), message_flags::HAS_ID);
            set(delta.is_none(), message_flags::TS64);
            let payload = message.payload.as_deref().unwrap_or_default();
            let key = message.key.as_deref().unwrap_or_default();
            out.extend_from_slice(&fit_u32(payload.len(), "bytes of a payload")?.to_le_bytes());
            out.extend_from_slice(&delta.unwrap_or(0).to_le_bytes());
            out.extend_from_slice(&fit_u16(key.len(), "bytes of a key")?.to_le_bytes());
            out.extend_from_slice(&fit_u16(headers.len(), "bytes of headers")?.to_le_bytes());
            out.extend_from_slice(&flags.to_le_bytes());
            if delta.is_none() {
                out.extend_from_slice(&message.timestamp_us.to_le_bytes());
            }
            if self.flags & flags::SPARSE != 0 {
                let delta = message.offset.checked_sub(self.base_offset).and_then(|delta| u32::try_from(delta).ok());
                let delta = delta.ok_or_else(|| WireError::usage("an offset that its batch cannot hold"))?;
                out.extend_from_slice(&delta.to_le_bytes());
            }
            out.extend_from_slice(message.id.as_ref().map_or(&[][..], |id| id));
            out.extend_from_slice(key);
            out.extend_from_slice(&headers);
            out.extend_from_slice(payload);
        }
        Ok(out)
    }

    fn timestamps_us(&self) -> (i64, i64) {
        self.timestamp_bounds_us.unwrap_or_else(|| least_and_greatest(&self.messages))
    }

    fn compressed(&self, plain: &[u8]) -> (Codec, Vec<u8>) {
        let body = match self.codec {
            Codec::None => None,
            Codec::Lz4 => Some(lz4_flex::block::compress(plain)),
            Codec::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL).ok(),
        };
        let fits = |body: &Vec<u8>| body.len() < plain.len() && plain.len() as u64 <= MAX_EXPANSION * body.len() as u64;
        body.filter(fits).map_or_else(|| (Codec::None, plain.to_vec()), |body| (self.codec, body))
    }

    pub(super) fn producer_part(&self, codec: Codec, plain_bytes: usize, body: &[u8]) -> Result<Vec<u8>> {
        let count = fit_u32(self.messages.len(), "messages")?;
        let last_offset_delta = match self.messages.last() {
            Some(last) if self.flags & flags::SPARSE != 0 => last.offset.saturating_sub(self.base_offset),
            _ => u64::from(count).saturating_sub(1),
        };
        let last_offset_delta = u32::try_from(last_offset_delta).map_err(|_| WireError::usage("offsets of a batch"))?;
        let (base, greatest) = self.timestamps_us();
        let mut out = vec![0; 4];
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[FORMAT, codec.number()]);
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&last_offset_delta.to_le_bytes());
        out.extend_from_slice(&fit_u32(plain_bytes, "bytes of messages")?.to_le_bytes());
        out.extend_from_slice(&fit_u32(body.len(), "bytes of a body")?.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&base.to_le_bytes());
        out.extend_from_slice(&greatest.abs_diff(base).to_le_bytes());
        out.extend_from_slice(&self.producer.id.to_le_bytes());
        out.extend_from_slice(&self.first_sequence.to_le_bytes());
        out.extend_from_slice(&self.producer.epoch.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(body);
        seal_producer(&mut out);
        Ok(out)
    }
}

fn least_and_greatest(messages: &[Message]) -> (i64, i64) {
    let times = || messages.iter().map(|message| message.timestamp_us);
    (times().min().unwrap_or(0), times().max().unwrap_or(0))
}

fn seal_producer(produced: &mut [u8]) {
    let crc = crc32c(&[&produced[4..]]);
    produced[..4].copy_from_slice(&crc.to_le_bytes());
}

fn seal_server(stored: &mut [u8]) {
    let crc = crc32c(&[&stored[..4], &stored[8..SERVER_PART_BYTES]]);
    stored[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// An LZ4 block: one zero byte, repeated for as long as `lengths` says (255 each), and an empty last literal.
fn lz4_match(lengths: &[u8]) -> Vec<u8> {
    [&[0x1f, 0, 1, 0][..], lengths, &[0, 0]].concat()
}

/// A zstd frame: `head` is its descriptor and content size, then so many blocks of one repeated byte.
fn zstd_of_one_byte(head: &[u8], block_bytes: u32, blocks: u32) -> Vec<u8> {
    let mut frame = [&[0x28, 0xb5, 0x2f, 0xfd][..], head].concat();
    for number in 1..=blocks {
        let block = (block_bytes << 3 | 1 << 1 | u32::from(number == blocks)).to_le_bytes();
        frame.extend_from_slice(&block[..3]);
        frame.push(0);
    }
    frame
}

fn spoil(produced: &mut [u8], flaw: &Flaw) -> Result<()> {
    match flaw {
        Flaw::Crc => produced[0] ^= 1,
        Flaw::Body => *produced.last_mut().expect("a producer part is not empty") ^= 1,
        Flaw::Producer(at, patch) => {
            let part = produced[..PRODUCER_PART_BYTES].get_mut(*at..at + patch.len());
            part.ok_or_else(|| WireError::usage("a flaw outside its part"))?.copy_from_slice(patch);
            seal_producer(produced);
        }
        Flaw::Bomb | Flaw::Overrun | Flaw::ServerCrc | Flaw::Server(..) => {
            return Err(WireError::usage("a flaw of a part that is not there"));
        }
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("a length that was checked"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("a length that was checked"))
}

fn fit_u32(value: usize, what: &str) -> Result<u32> {
    u32::try_from(value).map_err(|_| WireError::usage(format!("{value} {what}")))
}

fn fit_u16(value: usize, what: &str) -> Result<u16> {
    u16::try_from(value).map_err(|_| WireError::usage(format!("{value} {what}")))
}

fn headers_encoded(headers: &[(String, HeaderValue)]) -> Result<Vec<u8>> {
    if headers.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    out.extend_from_slice(&fit_u16(headers.len(), "headers")?.to_le_bytes());
    for (name, value) in headers {
        out.push(u8::try_from(name.len()).map_err(|_| WireError::usage("a header name over 255 bytes"))?);
        out.extend_from_slice(name.as_bytes());
        match value {
            HeaderValue::String(text) => put_sized(&mut out, 0, text.as_bytes())?,
            HeaderValue::Bytes(bytes) => put_sized(&mut out, 1, bytes)?,
            HeaderValue::Bool(value) => out.extend_from_slice(&[2, u8::from(*value)]),
            HeaderValue::I64(value) => put_number(&mut out, 3, value.to_le_bytes()),
            HeaderValue::U64(value) => put_number(&mut out, 4, value.to_le_bytes()),
            HeaderValue::F64(bits) => put_number(&mut out, 5, bits.to_le_bytes()),
        }
    }
    Ok(out)
}

fn put_sized(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) -> Result<()> {
    out.push(kind);
    out.extend_from_slice(&fit_u16(bytes.len(), "bytes of a header")?.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_number(out: &mut Vec<u8>, kind: u8, bytes: [u8; 8]) {
    out.push(kind);
    out.extend_from_slice(&bytes);
}

/// The fields of a producer part, checked against each other.
struct ProducerPart {
    codec: Codec,
    flags: u16,
    message_count: u32,
    last_offset_delta: u32,
    uncompressed_length: u32,
    body_length: u32,
    base_timestamp: i64,
    max_timestamp_delta: u64,
    producer: Producer,
    first_sequence: u64,
}

impl ProducerPart {
    fn read(bytes: &[u8]) -> Result<Self> {
        let ensure = |holds: bool, field: &str| {
            if holds { Ok(()) } else { Err(WireError::refused(format!("{field} of a batch"))) }
        };
        ensure(u16_at(bytes, 4) == MAGIC, "magic")?;
        ensure(bytes[6] == FORMAT, "format")?;
        let codec = Codec::from_number(bytes[7]).ok_or_else(|| WireError::refused("codec of a batch"))?;
        ensure(u16_at(bytes, 8) & !flags::KNOWN == 0, "flags")?;
        ensure(u16_at(bytes, 10) == 0 && u32_at(bytes, 68) == 0, "reserved bytes")?;
        ensure(u32_at(bytes, 28) == 0, "dictionary_id")?;
        let part = Self {
            codec,
            flags: u16_at(bytes, 8),
            message_count: u32_at(bytes, 12),
            last_offset_delta: u32_at(bytes, 16),
            uncompressed_length: u32_at(bytes, 20),
            body_length: u32_at(bytes, 24),
            base_timestamp: u64_at(bytes, 32).cast_signed(),
            max_timestamp_delta: u64_at(bytes, 40),
            producer: Producer { id: u64_at(bytes, 48), epoch: u32_at(bytes, 64) },
            first_sequence: u64_at(bytes, 56),
        };
        let count = u64::from(part.message_count);
        ensure((1..=schema().limit("max_messages_per_batch")).contains(&count), "message_count")?;
        let dense = u64::from(part.last_offset_delta) == count - 1;
        let sparse = part.is_sparse() && u64::from(part.last_offset_delta) >= count - 1;
        ensure(dense || sparse, "last_offset_delta")?;
        let (plain, body) = (u64::from(part.uncompressed_length), u64::from(part.body_length));
        let whole = (SERVER_PART_BYTES + PRODUCER_PART_BYTES) as u64 + plain;
        ensure(whole <= schema().limit("max_batch_bytes"), "uncompressed_length")?;
        ensure(plain >= count * MESSAGE_HEADER_BYTES as u64, "uncompressed_length")?;
        match codec {
            Codec::None => ensure(body == plain, "body_length")?,
            _ => ensure(body <= plain && plain <= body.saturating_mul(MAX_EXPANSION), "body_length")?,
        }
        ensure(part.base_timestamp.checked_add_unsigned(part.max_timestamp_delta).is_some(), "max_timestamp_delta")?;
        ensure(part.first_sequence.checked_add(count).is_some(), "first_sequence")?;
        let anonymous = part.producer.id == 0;
        ensure(!anonymous || (part.producer.epoch == 0 && part.first_sequence == 0), "producer_id")?;
        Ok(part)
    }

    fn is_sparse(&self) -> bool {
        self.flags & flags::SPARSE != 0
    }

    fn expand(&self, body: &[u8]) -> Result<Vec<u8>> {
        let length = self.uncompressed_length as usize;
        let damaged = || WireError::refused("a damaged body");
        let plain = match self.codec {
            Codec::None => body.to_vec(),
            Codec::Lz4 => {
                let mut plain = vec![0; length];
                let got = lz4_flex::block::decompress_into(body, &mut plain).map_err(|_| damaged())?;
                plain.truncate(got);
                plain
            }
            Codec::Zstd => {
                let content = zstd::zstd_safe::get_frame_content_size(body).map_err(|_| damaged())?;
                let frame = zstd::zstd_safe::find_frame_compressed_size(body).map_err(|_| damaged())?;
                if content != Some(length as u64) || frame != body.len() {
                    return Err(damaged());
                }
                zstd::bulk::decompress(body, length).map_err(|_| damaged())?
            }
        };
        if plain.len() != length {
            return Err(WireError::refused("a body that expands to another length"));
        }
        Ok(plain)
    }

    fn messages(&self, plain: &[u8]) -> Result<Vec<Message>> {
        let mut reader = MessageReader { part: self, rest: plain, least_offset: 0 };
        let messages = (0..self.message_count).map(|index| reader.message(index)).collect::<Result<Vec<_>>>()?;
        if !reader.rest.is_empty() {
            return Err(WireError::refused("bytes after the last message"));
        }
        let last = messages.last().map_or(0, |message| message.offset);
        if last != u64::from(self.last_offset_delta) {
            return Err(WireError::refused("the last message is not at last_offset_delta"));
        }
        Ok(messages)
    }
}

struct MessageReader<'a> {
    part: &'a ProducerPart,
    rest: &'a [u8],
    least_offset: u64,
}

impl<'a> MessageReader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let cut = self.rest.split_at_checked(length);
        let (taken, rest) = cut.ok_or_else(|| WireError::refused("a message beyond the body"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn message(&mut self, index: u32) -> Result<Message> {
        let head = self.take(MESSAGE_HEADER_BYTES)?;
        let (payload_length, delta) = (u32_at(head, 0) as usize, u32_at(head, 4));
        let (key_length, headers_length) = (usize::from(u16_at(head, 8)), usize::from(u16_at(head, 10)));
        let flags = u32_at(head, 12);
        let has = |flag: u32| flags & flag != 0;
        if flags & !message_flags::KNOWN != 0 {
            return Err(WireError::refused("an unknown flag of a message"));
        }
        let stray = (key_length != 0 && !has(message_flags::HAS_KEY))
            || (payload_length != 0 && has(message_flags::NULL_PAYLOAD))
            || (delta != 0 && has(message_flags::TS64));
        if stray {
            return Err(WireError::refused("a message with a length or time that its flags deny"));
        }
        let timestamp_us = if has(message_flags::TS64) {
            Some(u64_at(self.take(8)?, 0).cast_signed())
        } else {
            self.part.base_timestamp.checked_add_unsigned(delta.into())
        };
        let base = self.part.base_timestamp;
        let within = |time: &i64| *time >= base && time.abs_diff(base) <= self.part.max_timestamp_delta;
        let timestamp_us =
            timestamp_us.filter(within).ok_or_else(|| WireError::refused("a timestamp outside its batch"))?;
        let offset = if self.part.is_sparse() { u64::from(u32_at(self.take(4)?, 0)) } else { index.into() };
        if offset < self.least_offset {
            return Err(WireError::refused("offsets out of order"));
        }
        self.least_offset = offset + 1;
        let id = if has(message_flags::HAS_ID) { self.take(16)?.first_chunk().copied() } else { None };
        let key = self.take(key_length)?;
        let headers = headers_decoded(self.take(headers_length)?)?;
        let payload = self.take(payload_length)?;
        Ok(Message {
            offset,
            timestamp_us,
            timestamp_whole: has(message_flags::TS64),
            append_time_us: 0,
            payload: (!has(message_flags::NULL_PAYLOAD)).then(|| payload.to_vec()),
            key: has(message_flags::HAS_KEY).then(|| key.to_vec()),
            id,
            headers,
        })
    }
}

fn headers_decoded(bytes: &[u8]) -> Result<Vec<(String, HeaderValue)>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let refused = || WireError::refused("malformed headers");
    let mut rest = bytes;
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at_checked(length).ok_or_else(refused)?;
        rest = left;
        Ok::<_, WireError>(taken)
    };
    let count = u16_at(take(2)?, 0);
    let mut headers = Vec::new();
    let mut names = BTreeSet::new();
    for _ in 0..count {
        let length = usize::from(take(1)?[0]);
        let name = std::str::from_utf8(take(length)?).map_err(|_| refused())?;
        if name.is_empty() || !names.insert(name.to_owned()) {
            return Err(refused());
        }
        let value = match take(1)?[0] {
            0 => {
                let length = usize::from(u16_at(take(2)?, 0));
                HeaderValue::String(std::str::from_utf8(take(length)?).map_err(|_| refused())?.to_owned())
            }
            1 => {
                let length = usize::from(u16_at(take(2)?, 0));
                HeaderValue::Bytes(take(length)?.to_vec())
            }
            2 => match take(1)?[0] {
                0 => HeaderValue::Bool(false),
                1 => HeaderValue::Bool(true),
                _ => return Err(refused()),
            },
            3 => HeaderValue::I64(u64_at(take(8)?, 0).cast_signed()),
            4 => HeaderValue::U64(u64_at(take(8)?, 0)),
            5 => HeaderValue::F64(u64_at(take(8)?, 0)),
            _ => return Err(refused()),
        };
        headers.push((name.to_owned(), value));
    }
    if headers.is_empty() || !rest.is_empty() {
        return Err(refused());
    }
    Ok(headers)
}
