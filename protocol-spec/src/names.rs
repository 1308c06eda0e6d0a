//! Names of streams, topics, users, tokens, roles, groups and producers, and addresses made of them.

use std::fmt;

use crate::limits::MAX_NAME_BYTES;

/// A name that does not match `[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name must match [A-Za-z0-9_-][A-Za-z0-9._-]{{0,254}}: {0:?}")]
pub struct InvalidName(pub String);

/// Checks a name.
///
/// # Errors
/// With the name, cut to a length fit for a message.
pub fn check(name: &str) -> Result<(), InvalidName> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let valid = match name.as_bytes() {
        [] => false,
        [first, rest @ ..] => {
            rest.len() < MAX_NAME_BYTES && word(*first) && rest.iter().all(|byte| word(*byte) || *byte == b'.')
        }
    };
    if valid { Ok(()) } else { Err(InvalidName(name[..name.floor_char_boundary(MAX_NAME_BYTES)].to_owned())) }
}

/// `stream/topic` or `stream/topic:partition`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Name of the stream.
    pub stream: String,
    /// Name of the topic.
    pub topic: String,
    /// The partition, if one is named.
    pub partition: Option<u32>,
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// There is no slash between a stream and a topic.
    #[error("an address is STREAM/TOPIC or STREAM/TOPIC:PARTITION: {0:?}")]
    NoTopic(String),
    /// One of the names is invalid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// What follows the colon is no partition number.
    #[error("a partition is a number from 0: {0:?}")]
    Partition(String),
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// The part that is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let short = |text: &str| text[..text.floor_char_boundary(MAX_NAME_BYTES)].to_owned();
        let (stream, rest) = text.split_once('/').ok_or_else(|| InvalidAddress::NoTopic(short(text)))?;
        let (topic, partition) = match rest.split_once(':') {
            None => (rest, None),
            Some((topic, number)) => {
                let digits = number.bytes().all(|byte| byte.is_ascii_digit());
                let parsed = number.parse().ok().filter(|_| digits);
                (topic, Some(parsed.ok_or_else(|| InvalidAddress::Partition(short(number)))?))
            }
        };
        check(stream)?;
        check(topic)?;
        Ok(Self { stream: stream.to_owned(), topic: topic.to_owned(), partition })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stream, self.topic)?;
        self.partition.map_or(Ok(()), |partition| write!(f, ":{partition}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_letters_digits_dash_underscore_and_inner_dots() {
        for name in ["a", "_", "-x", "A.b-c_9", &"n".repeat(255)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in ["", ".", ".a", "a/b", "a:b", "é", "a b", "a\0", &"n".repeat(256)] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn addresses_parse_and_print() {
        for text in ["s/t", "s/t:0", "s.x/t-y:4095"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "s", "s/", "/t", "s/t:", "s/t:x", "s/t:+1", "s/t:-1", "s/t:4294967296", "s/t/u", "s/t:1:2"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
