//! Codecs of batch bodies: none, lz4 (block format), zstd (one frame with its content size).
//!
//! A body says how long it is uncompressed. Nothing is decompressed before that length is within the batch limit and within
//! `MAX_RATIO` times the body, and the output may be neither longer nor shorter. zstd contexts are kept: a compressor per
//! builder, a decompressor per thread.

use std::cell::RefCell;

use zstd::zstd_safe;

use crate::wire::wire_enum;

wire_enum! {
    /// How the body of a batch is compressed.
    Codec {
        None = 0, "none";
        Lz4 = 1, "lz4";
        Zstd = 2, "zstd";
    }
}

/// A body may not expand to more than this many times its bytes.
pub const MAX_RATIO: usize = 1024;

/// The zstd level used when none is asked for.
pub const DEFAULT_ZSTD_LEVEL: i32 = 1;

/// Why a body cannot be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// It would expand beyond the ratio that is allowed.
    #[error("a body of {body_bytes} bytes may not expand to {uncompressed_bytes}")]
    Ratio {
        /// The body's bytes.
        body_bytes: usize,
        /// What it claims to expand to.
        uncompressed_bytes: usize,
    },
    /// It does not expand to what the header says.
    #[error("a compressed body does not expand to the length its batch declares")]
    Length,
    /// The codec cannot read it.
    #[error("a compressed body is damaged")]
    Damaged,
}

/// Compresses, keeping its contexts.
pub struct Compressor {
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
    lz4: Option<lz4_flex::block::CompressTable>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Compressor {
    /// A compressor without contexts yet.
    pub const fn new() -> Self {
        Self { zstd: None, lz4: None }
    }

    /// The most that `input_bytes` may take compressed.
    pub fn bound(codec: Codec, input_bytes: usize) -> usize {
        match codec {
            Codec::None => input_bytes,
            Codec::Lz4 => lz4_flex::block::get_maximum_output_size(input_bytes),
            Codec::Zstd => zstd_safe::compress_bound(input_bytes),
        }
    }

    /// Compresses `input` into `output`, which holds [`Compressor::bound`] bytes. `None` if that does not pay: the result
    /// would be no smaller, or so small that [`MAX_RATIO`] forbids it; store such a body uncompressed.
    pub fn compress(&mut self, codec: Codec, level: i32, input: &[u8], output: &mut [u8]) -> Option<usize> {
        let length = match codec {
            Codec::None => return None,
            Codec::Lz4 => {
                let table = self.lz4.get_or_insert_with(lz4_flex::block::CompressTable::large);
                lz4_flex::block::compress_into_with_table(input, output, table).ok()?
            }
            Codec::Zstd => self.zstd(level)?.compress_to_buffer(input, output).ok()?,
        };
        (length < input.len() && input.len() <= length.saturating_mul(MAX_RATIO)).then_some(length)
    }

    fn zstd(&mut self, level: i32) -> Option<&mut zstd::bulk::Compressor<'static>> {
        if self.zstd.as_ref().is_none_or(|(kept, _)| *kept != level) {
            self.zstd = Some((level, zstd::bulk::Compressor::new(level).ok()?));
        }
        self.zstd.as_mut().map(|(_, compressor)| compressor)
    }
}

thread_local! {
    /// A cache only: a decompressor keeps no state between bodies.
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Checks what can be known of a body without decompressing it.
///
/// # Errors
/// A length or ratio that is not allowed.
pub fn check(codec: Codec, body: &[u8], uncompressed_bytes: usize) -> Result<(), CodecError> {
    match codec {
        Codec::None => return if body.len() == uncompressed_bytes { Ok(()) } else { Err(CodecError::Length) },
        Codec::Lz4 => {}
        Codec::Zstd => check_zstd(body, uncompressed_bytes)?,
    }
    if body.len().saturating_mul(MAX_RATIO) < uncompressed_bytes {
        return Err(CodecError::Ratio { body_bytes: body.len(), uncompressed_bytes });
    }
    Ok(())
}

/// The body must be exactly one frame that declares its content size.
fn check_zstd(body: &[u8], uncompressed_bytes: usize) -> Result<(), CodecError> {
    let frame = zstd_safe::find_frame_compressed_size(body).map_err(|_| CodecError::Damaged)?;
    if frame != body.len() {
        return Err(CodecError::Damaged);
    }
    let declared = zstd_safe::get_frame_content_size(body).map_err(|_| CodecError::Damaged)?;
    if declared == u64::try_from(uncompressed_bytes).ok() { Ok(()) } else { Err(CodecError::Length) }
}

/// Decompresses `body` so that it fills `output` exactly.
///
/// # Errors
/// As [`check`], or a body the codec cannot read.
pub fn decompress(codec: Codec, body: &[u8], output: &mut [u8]) -> Result<(), CodecError> {
    check(codec, body, output.len())?;
    let length = match codec {
        Codec::None => {
            output.copy_from_slice(body);
            body.len()
        }
        Codec::Lz4 => lz4_flex::block::decompress_into(body, output).map_err(|_| CodecError::Damaged)?,
        Codec::Zstd => ZSTD.with_borrow_mut(|kept| {
            let decompressor = match kept {
                Some(decompressor) => decompressor,
                None => kept.insert(zstd::bulk::Decompressor::new().map_err(|_| CodecError::Damaged)?),
            };
            decompressor.decompress_to_buffer(body, output).map_err(|_| CodecError::Damaged)
        })?,
    };
    if length == output.len() { Ok(()) } else { Err(CodecError::Length) }
}
