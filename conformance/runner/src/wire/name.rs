//! Names of streams, topics, users and tokens (section 5).

use super::schema::schema;

/// Whether a name may be one.
#[must_use]
pub fn valid_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    name.len() as u64 <= schema().limit("max_name_bytes")
        && name.starts_with(letter)
        && name.chars().all(|c| letter(c) || c == '.')
}
