//! From received bytes to frames. Small frames are slices of one buffer; a large frame gets a buffer of its own, into which
//! the rest of it is read directly: it is contiguous and was copied at most by the little that came with its header.
//!
//! Buffers of large frames come from a [`BufferPool`] and go back there when the last slice of the frame is dropped.
//! Nothing is allocated for a frame over the limit.

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::{CONTROL_LENGTH_BYTES, FLAG_BODY, FrameHeader, HEADER_BYTES};
use crate::pool::BufferPool;

/// Frames longer than this are read into a buffer of their own.
const LARGE_FRAME_BYTES: usize = 32 * 1024;
/// What an idle connection holds.
const IDLE_READ_BYTES: usize = 4 * 1024;
/// What one read may take from a connection with much to say.
const BUSY_READ_BYTES: usize = 64 * 1024;

/// Why received bytes are not frames. Nothing after such bytes can be trusted: the connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// The length field is less than a header.
    #[error("a frame of {length} bytes is shorter than its header")]
    TooShort {
        /// The length field.
        length: u32,
    },
    /// The frame is over the limit.
    #[error("a frame of {bytes} bytes is over the limit of {limit}")]
    TooLong {
        /// The whole frame, in bytes.
        bytes: usize,
        /// What it may have, in bytes.
        limit: usize,
    },
    /// The checksum of the control part does not match.
    #[error("the checksum of a frame's control part does not match")]
    Checksum,
    /// A flag that is not defined.
    #[error("unknown flags {flags:#06x}")]
    UnknownFlags {
        /// All flags of the frame.
        flags: u16,
    },
    /// The control part is said to be longer than its frame, or than the limit.
    #[error("the control part of a frame is too long")]
    ControlTooLong,
}

/// A received frame whose control part has the right checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u16,
    pub(crate) correlation: u32,
    pub(crate) control: Bytes,
    /// `Some` if the flag BODY is set.
    pub(crate) body: Option<Bytes>,
}

/// What a reader accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadLimits {
    pub(crate) max_frame_bytes: usize,
    pub(crate) max_control_bytes: usize,
}

/// Bytes on their way to frames.
pub(crate) struct FrameReader {
    small: BytesMut,
    large: Option<(FrameHeader, Limit<Vec<u8>>)>,
    buffers: BufferPool,
    limits: ReadLimits,
    /// How much the next read may take; grows when a read filled what it was given.
    read_bytes: usize,
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader").field("small_bytes", &self.small.len()).finish_non_exhaustive()
    }
}

impl FrameReader {
    pub(crate) fn new(buffers: BufferPool, limits: ReadLimits) -> Self {
        Self { small: BytesMut::new(), large: None, buffers, limits, read_bytes: IDLE_READ_BYTES }
    }

    pub(crate) fn set_limits(&mut self, limits: ReadLimits) {
        self.limits = limits;
    }

    /// Where the next read goes. It always has room.
    pub(crate) fn buffer(&mut self) -> &mut (dyn BufMut + Send) {
        match &mut self.large {
            Some((_, rest)) if rest.has_remaining_mut() => rest,
            _ => {
                if self.small.capacity() == self.small.len() {
                    self.read_bytes = BUSY_READ_BYTES;
                }
                self.small.reserve(if self.small.is_empty() { self.read_bytes } else { BUSY_READ_BYTES });
                &mut self.small
            }
        }
    }

    /// Bytes still to come of a large frame whose header is here.
    pub(crate) fn large_missing_bytes(&self) -> usize {
        self.large.as_ref().map_or(0, |(_, rest)| rest.limit())
    }

    /// Takes exactly `count` bytes that precede the first frame, once they are here.
    pub(crate) fn take_preface(&mut self, count: usize) -> Option<Bytes> {
        (count <= self.small.len()).then(|| self.small.split_to(count).freeze())
    }

    /// What of the preface is here, to refuse a wrong one at its first byte.
    pub(crate) fn peek(&self) -> &[u8] {
        &self.small
    }

    /// The next frame that is here in full.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameFault> {
        if let Some((header, rest)) = self.large.take() {
            if rest.has_remaining_mut() {
                self.large = Some((header, rest));
                return Ok(None);
            }
            return self.split(header, self.buffers.share(rest.into_inner())).map(Some);
        }
        let Some(head) = self.small.first_chunk::<HEADER_BYTES>() else {
            if self.small.is_empty() {
                self.read_bytes = IDLE_READ_BYTES;
            }
            return Ok(None);
        };
        let header = FrameHeader::parse(head);
        let frame_bytes = self.check(&header)?;
        if frame_bytes <= self.small.len() {
            let frame = self.small.split_to(frame_bytes).freeze();
            return self.split(header, frame).map(Some);
        }
        if LARGE_FRAME_BYTES < frame_bytes {
            let mut buffer = self.buffers.take_empty(frame_bytes);
            buffer.extend_from_slice(&self.small);
            self.small.clear();
            let missing = frame_bytes - buffer.len();
            self.large = Some((header, buffer.limit(missing)));
        }
        Ok(None)
    }

    /// Length of the whole frame, if its header can be that of one.
    fn check(&self, header: &FrameHeader) -> Result<usize, FrameFault> {
        let frame_bytes = usize::try_from(header.length).expect("usize has at least 32 bits") + 4;
        if frame_bytes < HEADER_BYTES {
            return Err(FrameFault::TooShort { length: header.length });
        }
        if self.limits.max_frame_bytes < frame_bytes {
            return Err(FrameFault::TooLong { bytes: frame_bytes, limit: self.limits.max_frame_bytes });
        }
        if header.flags & !FLAG_BODY != 0 {
            return Err(FrameFault::UnknownFlags { flags: header.flags });
        }
        if header.flags & FLAG_BODY == 0 && self.limits.max_control_bytes < frame_bytes - HEADER_BYTES {
            return Err(FrameFault::ControlTooLong);
        }
        Ok(frame_bytes)
    }

    fn split(&self, header: FrameHeader, mut frame: Bytes) -> Result<Frame, FrameFault> {
        let has_body = header.flags & FLAG_BODY != 0;
        let control_start = if has_body { HEADER_BYTES + CONTROL_LENGTH_BYTES } else { HEADER_BYTES };
        let covered = if has_body {
            let length = frame.get(HEADER_BYTES..control_start).ok_or(FrameFault::ControlTooLong)?;
            let length = u32::from_le_bytes(length.try_into().expect("a range of four bytes"));
            let length = usize::try_from(length).expect("usize has at least 32 bits");
            if self.limits.max_control_bytes < length || frame.len() - control_start < length {
                return Err(FrameFault::ControlTooLong);
            }
            control_start + length
        } else {
            frame.len()
        };
        if header.checksum(&frame[HEADER_BYTES..covered]) != header.crc {
            return Err(FrameFault::Checksum);
        }
        let body = frame.split_off(covered);
        let control = frame.slice(control_start..);
        Ok(Frame { kind: header.kind, correlation: header.correlation, control, body: has_body.then_some(body) })
    }
}
