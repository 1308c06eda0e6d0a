//! Patterns of topics, `stream/topic` with `*` for any run of characters but `/`: what a member of a group reads, and what
//! a grant is about. They match names and know nothing of topics that exist.

use levada_protocol::ErrorCode;
use levada_protocol::limits::MAX_NAME_BYTES;

use crate::failure::Failure;

/// A pattern that was checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPattern {
    text: String,
    slash: usize,
}

impl TopicPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `INVALID_NAME`, with the pattern.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let halves = text.split_once('/').filter(|(stream, topic)| is_half(stream) && is_half(topic));
        let (stream, _) = halves.ok_or_else(|| {
            let message = format!("`{text}` is no `stream/topic`; `*` stands for any run of characters but `/`");
            Failure::because(ErrorCode::InvalidName, message).with("name", text)
        })?;
        Ok(Self { text: text.to_owned(), slash: stream.len() })
    }

    /// The pattern of all topics.
    #[must_use]
    pub fn every() -> Self {
        Self { text: "*/*".to_owned(), slash: 1 }
    }

    /// Whether a topic is one of those it names.
    #[must_use]
    pub fn matches(&self, stream: &str, topic: &str) -> bool {
        half_matches(self.stream(), stream) && half_matches(self.topic(), topic)
    }

    /// Whether some topic of a stream may be one of those it names.
    #[must_use]
    pub fn matches_stream(&self, stream: &str) -> bool {
        half_matches(self.stream(), stream)
    }

    /// Whether every topic that a stream can have is one of those it names.
    #[must_use]
    pub fn matches_whole_stream(&self, stream: &str) -> bool {
        self.matches_stream(stream) && self.topic().bytes().all(|byte| byte == b'*')
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it says of streams.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.text[..self.slash]
    }

    /// What it says of topics.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.text[self.slash + 1..]
    }
}

/// What a name may be, with stars.
fn is_half(text: &str) -> bool {
    let is_name_character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'*');
    (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(is_name_character)
}

/// Goes back to the last star only, so that it takes at most the product of both lengths.
fn half_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(byte) if *byte == name[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                seen = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        let (stream, topic) = topic.split_once('/').expect("the test names stream/topic");
        TopicPattern::parse(pattern).expect("the test's pattern is one").matches(stream, topic)
    }

    #[test]
    fn stars_stand_for_any_run_of_characters() {
        for (pattern, topic) in
            [("a/b", "a/b"), ("*/*", "a/b"), ("a/*", "a/b"), ("a/b*", "a/b"), ("a/*b*c", "a/xbybc"), ("*a/**", "aa/b")]
        {
            assert!(matches(pattern, topic), "{pattern} {topic}");
        }
        for (pattern, topic) in [("a/b", "a/bc"), ("a/*", "b/b"), ("a/b*c", "a/bcd"), ("a/**x", "a/y"), ("a/b", "a/c")]
        {
            assert!(!matches(pattern, topic), "{pattern} {topic}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "a", "/", "a/", "/b", "a/b/c", "a b/c", ".a/b", "a/?", "ä/b"] {
            assert!(TopicPattern::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_with_any_part_as_a_star(name in "[a-c]{1,12}", from in 0_usize..12, length in 0_usize..12) {
            let from = from.min(name.len());
            let end = (from + length).min(name.len());
            let pattern = format!("{}*{}", &name[..from], &name[end..]);
            prop_assert!(half_matches(&pattern, &name));
            prop_assert_eq!(half_matches(&pattern, "z"), pattern == "*");
        }
    }
}
