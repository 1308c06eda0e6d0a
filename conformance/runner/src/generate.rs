//! Bytes made on the spot, as the adapter protocol defines them (section 3), and what an expectation compares them by.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A generator of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All zero.
    Zeros,
    /// Counting words from the index.
    Seq,
    /// SplitMix64 of seed and index.
    Random,
}

/// Largest payload a case may ask for, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// The bytes of a generator.
pub fn bytes(kind: Kind, seed: u64, index: u64, size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 8);
    let mut word = index;
    let mut state = seed.wrapping_add(index.wrapping_mul(0xD1B5_4A32_D192_ED03));
    while out.len() < size {
        let next = match kind {
            Kind::Zeros => 0,
            Kind::Seq => word,
            Kind::Random => {
                state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                z ^ (z >> 31)
            }
        };
        word = word.wrapping_add(1);
        out.extend_from_slice(&next.to_le_bytes());
    }
    out.truncate(size);
    out
}

/// Reads `{gen, size, index, seed}`, with `more` added to the index.
///
/// # Errors
/// What is wrong with it.
pub fn from_value(value: &Value, more: u64) -> Result<Vec<u8>, String> {
    let kind = match value.get("gen").and_then(Value::as_str) {
        Some("zeros") => Kind::Zeros,
        Some("seq") => Kind::Seq,
        Some("random") => Kind::Random,
        other => return Err(format!("there is no generator {other:?}")),
    };
    let number = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => as_u64(value).ok_or_else(|| format!("`{key}` of a generator is a number, not {value}")),
    };
    let size = number("size")?;
    if size > MAX_BYTES {
        return Err(format!("{size} bytes are more than the {MAX_BYTES} a generator makes"));
    }
    let size = usize::try_from(size).map_err(|error| error.to_string())?;
    Ok(bytes(kind, number("seed")?, number("index")?.wrapping_add(more), size))
}

/// A number, or a number as decimal text.
pub fn as_u64(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// The digest as adapters write it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    }

    /// The worked examples of the page that strangers write their adapters from.
    #[test]
    fn the_examples_of_the_page_hold() {
        let page = include_str!("../../adapter-protocol.md");
        let rows = [
            (bytes(Kind::Seq, 0, 0, 20), "`seq`, index 0, size 20"),
            (bytes(Kind::Seq, 0, 258, 13), "`seq`, index 258, size 13"),
            (bytes(Kind::Seq, 0, u64::MAX, 16), "`seq`, index 18446744073709551615, size 16"),
            (bytes(Kind::Random, 0, 0, 16), "`random`, seed 0, index 0, size 16"),
            (bytes(Kind::Random, 42, 0, 20), "`random`, seed 42, index 0, size 20"),
            (bytes(Kind::Random, 42, 1, 20), "`random`, seed 42, index 1, size 20"),
            (bytes(Kind::Zeros, 0, 0, 4), "`zeros`, size 4"),
        ];
        for (made, name) in rows {
            assert!(page.contains(&format!("| {name} | `{}` |", hex(&made))), "{name}: {}", hex(&made));
        }
        let large = sha256_hex(&bytes(Kind::Random, 42, 3, 1 << 20));
        assert!(page.contains(&format!("| `random`, seed 42, index 3, size 1048576 | SHA-256 `{large}` |")));
    }
}
