//! Frame headers: the 16 bytes before every control part, and how the parts of a frame are found.
//!
//! The checksum covers the header and the control part; a body carries checksums of its own.

use bytes::{BufMut as _, BytesMut};

use crate::messages::{Kind, Message};

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 16;
/// What `length` counts of the header: all of it but itself.
pub const COUNTED_HEADER_BYTES: usize = HEADER_BYTES - 4;
/// Flag: the control part is preceded by its length and followed by a body.
pub const FLAG_BODY: u16 = 1;
/// Bytes of the control part's length in a frame with a body.
pub const CONTROL_LENGTH_BYTES: usize = 4;

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes after the length field: 12 of the header, the control part, the body.
    pub length: u32,
    /// Kind, known or not.
    pub kind: u16,
    /// Flags, known or not.
    pub flags: u16,
    /// The request this belongs to; 0 in notices and pushes.
    pub correlation: u32,
    /// CRC32C of the header with this field as zero, and the control part with its length.
    pub crc: u32,
}

impl FrameHeader {
    /// Reads a header; every combination of bytes is one, so check it.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [l0, l1, l2, l3, k0, k1, f0, f1, n0, n1, n2, n3, c0, c1, c2, c3] = *bytes;
        Self {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            kind: u16::from_le_bytes([k0, k1]),
            flags: u16::from_le_bytes([f0, f1]),
            correlation: u32::from_le_bytes([n0, n1, n2, n3]),
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
        }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(&self.length.to_le_bytes());
        out[4..6].copy_from_slice(&self.kind.to_le_bytes());
        out[6..8].copy_from_slice(&self.flags.to_le_bytes());
        out[8..12].copy_from_slice(&self.correlation.to_le_bytes());
        out[12..16].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    /// The checksum this header should carry, given what it covers after it.
    pub fn checksum(&self, covered: &[u8]) -> u32 {
        let zeroed = Self { crc: 0, ..*self }.encode();
        crc32c::crc32c_append(crc32c::crc32c(&zeroed), covered)
    }
}

/// Why a message cannot be put into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The control part is over the limit.
    #[error("the control part takes {size} bytes, over the limit of {limit}")]
    ControlTooLarge {
        /// What it takes, in bytes.
        size: usize,
        /// What it may take, in bytes.
        limit: usize,
    },
    /// The body does not fit a frame.
    #[error("a body of {0} bytes does not fit a frame")]
    BodyTooLarge(usize),
    /// The other side speaks an older version of the protocol.
    #[error("this needs version {needed} of the protocol, and the server speaks version {spoken}: update the server")]
    TooNew {
        /// The version that can say it.
        needed: u16,
        /// The version of the connection.
        spoken: u16,
    },
}

/// Appends header and control part of a frame to `out`; the caller sends the `body_bytes` of the body after them.
///
/// # Errors
/// Without a trace in `out`.
pub fn encode_head<M: Message>(
    out: &mut BytesMut,
    correlation: u32,
    message: &M,
    body_bytes: usize,
    max_control_bytes: usize,
) -> Result<(), FrameError> {
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES);
    let has_body = M::KIND.has_body();
    if has_body {
        out.put_u32_le(0);
    }
    let control_start = out.len();
    message.encode(out);
    let control_bytes = out.len() - control_start;
    let length = u32::try_from(out.len() - start - 4 + body_bytes).ok().filter(|_| control_bytes <= max_control_bytes);
    let Some(length) = length else {
        out.truncate(start);
        return Err(if max_control_bytes < control_bytes {
            FrameError::ControlTooLarge { size: control_bytes, limit: max_control_bytes }
        } else {
            FrameError::BodyTooLarge(body_bytes)
        });
    };
    if has_body {
        let control_length = u32::try_from(control_bytes).expect("less than the frame's length");
        out[control_start - CONTROL_LENGTH_BYTES..control_start].copy_from_slice(&control_length.to_le_bytes());
    }
    let flags = if has_body { FLAG_BODY } else { 0 };
    let mut header = FrameHeader { length, kind: M::KIND as u16, flags, correlation, crc: 0 };
    header.crc = header.checksum(&out[start + HEADER_BYTES..]);
    out[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
    Ok(())
}

impl Kind {
    /// Its number.
    pub const fn code(self) -> u16 {
        self as u16
    }
}
