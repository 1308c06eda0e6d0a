//! Frames (section 2) and the preface before them (section 1.1).

use super::control;
use super::crc::crc32c;
use super::error::WireError;
use super::schema::schema;
use serde_json::Value;
use std::io::Read;

type Result<T> = std::result::Result<T, WireError>;

/// What a client sends before its first frame.
pub const PREFACE: [u8; 8] = [0x4C, 0x56, 0x44, 0x41, 0x00, 0x01, 0x00, 0x00];

/// Bytes before the control part, without the length of one that has a body.
pub(crate) const HEADER_BYTES: usize = 16;
/// Flag BODY.
const BODY: u16 = 1;
/// A longer frame is refused unread (section 2.2): twice the largest batch, the largest control part, the header.
const MAX_FRAME_BYTES: u32 = (32 << 20) + (1 << 20) + 20;

/// A frame, decoded as far as its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: u16,
    /// What ties a reply to its request.
    pub correlation: u32,
    /// The control part.
    pub control: Vec<u8>,
    /// The body, if it has the flag.
    pub body: Option<Vec<u8>>,
}

impl Frame {
    /// A frame of a message by name.
    ///
    /// # Errors
    /// Usage, if there is no such message or field.
    pub fn of(name: &str, correlation: u32, fields: &Value, body: Option<Vec<u8>>) -> Result<Self> {
        let message = schema().message(name).ok_or_else(|| WireError::usage(format!("no message {name}")))?;
        let body = if message.body { Some(body.unwrap_or_default()) } else { body };
        Ok(Self { kind: message.kind, correlation, control: control::encode(message, fields)?, body })
    }

    /// Name of its kind.
    #[must_use]
    pub fn name(&self) -> String {
        schema().kind_name(self.kind)
    }

    /// Its fields.
    ///
    /// # Errors
    /// Refused, if the kind is unknown or the control part is not of it.
    pub fn fields(&self) -> Result<Value> {
        let message = schema().message_of_kind(self.kind);
        let message = message.ok_or_else(|| WireError::refused(format!("unknown kind {:#06x}", self.kind)))?;
        if message.body != self.body.is_some() {
            return Err(WireError::refused(format!("{} with the wrong flag BODY", message.name)));
        }
        control::decode(message, &self.control)
    }

    /// Its bytes.
    ///
    /// # Panics
    /// If a part is over 4 GiB.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        let flags = if self.body.is_some() { BODY } else { 0 };
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.correlation.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        if self.body.is_some() {
            out.extend_from_slice(
                &u32::try_from(self.control.len()).expect("a control part below 4 GiB").to_le_bytes(),
            );
        }
        out.extend_from_slice(&self.control);
        let covered = out.len();
        out.extend_from_slice(self.body.as_deref().unwrap_or_default());
        let length = u32::try_from(out.len() - 4).expect("a frame below 4 GiB");
        out[..4].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c(&[&out[..covered]]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The frame at the start of the bytes, and how many it took; `None` if more are needed.
    ///
    /// # Errors
    /// Refused, if it breaks section 2.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>> {
        let Some(length) = bytes.first_chunk::<4>().map(|first| u32::from_le_bytes(*first)) else { return Ok(None) };
        if length < 12 {
            return Err(WireError::refused(format!("a frame of length {length}")));
        }
        if length > MAX_FRAME_BYTES {
            return Err(WireError::refused(format!("a frame of {length} bytes")));
        }
        let end = 4 + length as usize;
        let Some(frame) = bytes.get(..end) else { return Ok(None) };
        let u16_at = |at: usize| u16::from_le_bytes([frame[at], frame[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let (kind, flags, correlation, crc) = (u16_at(4), u16_at(6), u32_at(8), u32_at(12));
        if flags & !BODY != 0 {
            return Err(WireError::refused(format!("a frame with flags {flags:#06x}")));
        }
        let (control, body) = if flags & BODY == 0 {
            (HEADER_BYTES..end, None)
        } else {
            if length < 16 {
                return Err(WireError::refused("a frame too short for its control_length"));
            }
            let start = HEADER_BYTES + 4;
            let cut = start.checked_add(u32_at(HEADER_BYTES) as usize).filter(|cut| *cut <= end);
            let cut = cut.ok_or_else(|| WireError::refused("a control part longer than its frame"))?;
            (start..cut, Some(frame[cut..].to_vec()))
        };
        if control.len() as u64 > schema().limit("max_control_bytes") {
            return Err(WireError::refused(format!("a control part of {} bytes", control.len())));
        }
        if crc32c(&[&frame[..12], &[0; 4], &frame[16..control.end]]) != crc {
            return Err(WireError::refused(format!("a frame of kind {kind:#06x} with a wrong checksum")));
        }
        Ok(Some((Self { kind, correlation, control: frame[control].to_vec(), body }, end)))
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// Closed at the end of the stream, Timeout, Io, or Refused as in [`Frame::decode`].
    pub fn read(from: &mut impl Read) -> Result<Self> {
        let bytes = read_frame_bytes(from)?;
        Ok(Self::decode(&bytes)?.expect("read to its length").0)
    }
}

/// Reads the bytes of one frame, without a look at more than its length.
///
/// # Errors
/// As [`Frame::read`]; Refused for the length alone.
pub fn read_frame_bytes(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    from.read_exact(&mut bytes)?;
    let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if !(12..=MAX_FRAME_BYTES).contains(&length) {
        return Err(WireError::refused(format!("a frame of length {length}")));
    }
    bytes.resize(4 + length as usize, 0);
    from.read_exact(&mut bytes[4..])?;
    Ok(bytes)
}
