//! Names as typed on the command line: `stream`, `stream/topic`, `stream/topic:partition`.
//!
//! A wrong name is a usage error here, before any server is asked, and the error shows what a right one looks like.

use std::fmt;
use std::str::FromStr;

/// A valid name of a stream, user or token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

/// `stream/topic`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicName {
    pub(crate) stream: String,
    pub(crate) topic: String,
}

/// `stream/topic`, or one partition of it: `stream/topic:3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicPart {
    pub(crate) topic: TopicName,
    pub(crate) partition: Option<u32>,
}

/// `stream/topic:3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionName {
    pub(crate) topic: TopicName,
    pub(crate) partition: u32,
}

const MAX_NAME_BYTES: usize = 255;

fn check(what: &str, name: &str) -> Result<String, String> {
    let right = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if name.is_empty() {
        return Err(format!("the {what} name is empty"));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("the {what} name has {} bytes; at most {MAX_NAME_BYTES} are allowed", name.len()));
    }
    if name.starts_with('.') || !name.bytes().all(right) {
        return Err(format!(
            "`{name}` is not a {what} name: use letters, digits, `_`, `-` and `.`, and do not begin with `.`"
        ));
    }
    Ok(name.to_owned())
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check("", text).map(Self).map_err(|error| error.replace("the  name", "the name").replace("a  name", "a name"))
    }
}

impl FromStr for TopicName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (stream, topic) = text.split_once('/').ok_or("expected STREAM/TOPIC, as in shop/orders")?;
        if topic.contains(':') {
            return Err("expected STREAM/TOPIC without a partition".to_owned());
        }
        Ok(Self { stream: check("stream", stream)?, topic: check("topic", topic)? })
    }
}

impl FromStr for TopicPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((topic, number)) = text.split_once(':') else {
            return Ok(Self { topic: text.parse()?, partition: None });
        };
        let partition =
            number.parse().map_err(|_| format!("`{number}` is not a partition number: expected STREAM/TOPIC:0"))?;
        Ok(Self { topic: topic.parse()?, partition: Some(partition) })
    }
}

impl FromStr for PartitionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part: TopicPart = text.parse()?;
        let partition = part.partition.ok_or("expected STREAM/TOPIC:PARTITION, as in shop/orders:0")?;
        Ok(Self { topic: part.topic, partition })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stream, self.topic)
    }
}

impl fmt::Display for TopicPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "{}:{partition}", self.topic),
            None => self.topic.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["shop/orders", "a/b:0", "A-1/_x.y:4095"] {
            assert_eq!(text.parse::<TopicPart>().expect("valid").to_string(), text);
        }
        assert_eq!("shop/orders".parse::<TopicName>().expect("valid").to_string(), "shop/orders");
        assert_eq!("shop/orders:7".parse::<PartitionName>().expect("valid").partition, 7);
    }

    #[test]
    fn wrong_names_are_refused_with_what_is_right() {
        for text in [
            "",
            "shop",
            "/orders",
            "shop/",
            "shop/or ders",
            "shop/a/b",
            ".x/y",
            "shop/..",
            "shop/orders:x",
            "shop/o:1:2",
        ] {
            assert!(text.parse::<TopicPart>().is_err(), "{text}");
        }
        assert!("shop/orders:1".parse::<TopicName>().is_err());
        assert!("shop/orders".parse::<PartitionName>().is_err());
        assert!(format!("{}/t", "x".repeat(256)).parse::<TopicName>().expect_err("too long").contains("256 bytes"));
        assert_eq!("".parse::<Name>().expect_err("empty"), "the name is empty");
        assert!("a b".parse::<Name>().expect_err("space").starts_with("`a b` is not a name"));
    }
}
