//! Which batches a client can read, from its Hello: a shard never converts batches, it stops before one that is unreadable.

use levada_protocol::batch::{self, Codec};

/// Formats and codecs a client declared. Numbers from 32 up are none of version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readable {
    formats: u32,
    codecs: u32,
}

const ALL_FORMATS: u32 = 1 << batch::FORMAT;
const ALL_CODECS: u32 = 1 << Codec::None as u8 | 1 << Codec::Lz4 as u8 | 1 << Codec::Zstd as u8;

/// The first batch a client cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Bytes of readable batches before it.
    pub position: usize,
    /// Number of those batches.
    pub batch_count: usize,
    /// Offset of its first message.
    pub offset: u64,
    /// What the client did not declare: `format 2`, `codec zstd`.
    pub name: String,
}

impl Readable {
    /// From the lists of a Hello.
    #[must_use]
    pub fn new(formats: &[u8], codecs: &[u8]) -> Self {
        let bits = |numbers: &[u8]| {
            numbers.iter().filter(|number| **number < 32).fold(0, |bits, number| bits | 1 << u32::from(*number))
        };
        Self { formats: bits(formats), codecs: bits(codecs) }
    }

    /// Whether there is nothing this server stores that the client cannot read.
    #[must_use]
    pub fn everything(self) -> bool {
        self.formats & ALL_FORMATS == ALL_FORMATS && self.codecs & ALL_CODECS == ALL_CODECS
    }

    /// The first batch in `slices` (whole batches, back to back) that the client cannot read.
    #[must_use]
    pub fn first_unreadable(self, slices: &[bytes::Bytes]) -> Option<Unreadable> {
        if self.everything() {
            return None;
        }
        let total: usize = slices.iter().map(bytes::Bytes::len).sum();
        let (mut position, mut batch_count) = (0, 0);
        while position + batch::SERVER_PART_BYTES + batch::PRODUCER_PART_BYTES <= total {
            let mut head = [0; batch::SERVER_PART_BYTES + 8];
            copy_at(slices, position, &mut head);
            let [l0, l1, l2, l3, _, _, _, _, o0, o1, o2, o3, o4, o5, o6, o7, ..] = head;
            let (format, codec) = (head[batch::SERVER_PART_BYTES + 6], head[batch::SERVER_PART_BYTES + 7]);
            let name = if !contains(self.formats, format) {
                Some(format!("format {format}"))
            } else if !contains(self.codecs, codec) {
                Some(Codec::try_from(codec).map_or_else(|_| format!("codec {codec}"), |codec| format!("codec {codec}")))
            } else {
                None
            };
            if let Some(name) = name {
                let offset = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
                return Some(Unreadable { position, batch_count, offset, name });
            }
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            position += length.max(batch::SERVER_PART_BYTES + batch::PRODUCER_PART_BYTES);
            batch_count += 1;
        }
        None
    }
}

fn contains(bits: u32, number: u8) -> bool {
    number < 32 && bits & 1 << u32::from(number) != 0
}

/// Fills `out` from byte `at` of the slices' concatenation.
fn copy_at(slices: &[bytes::Bytes], at: usize, out: &mut [u8]) {
    let (mut skip, mut filled) = (at, 0);
    for slice in slices {
        if slice.len() <= skip {
            skip -= slice.len();
            continue;
        }
        let part = &slice[skip..];
        let count = part.len().min(out.len() - filled);
        out[filled..filled + count].copy_from_slice(&part[..count]);
        filled += count;
        skip = 0;
        if filled == out.len() {
            return;
        }
    }
}

/// The slices' first `length` bytes.
#[must_use]
pub fn prefix(slices: Vec<bytes::Bytes>, length: usize) -> Vec<bytes::Bytes> {
    let mut left = length;
    let mut kept = Vec::with_capacity(slices.len());
    for slice in slices {
        let count = slice.len().min(left);
        if count == 0 {
            break;
        }
        kept.push(slice.slice(..count));
        left -= count;
    }
    kept
}
