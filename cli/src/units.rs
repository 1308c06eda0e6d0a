//! Values with units as people type them: sizes, durations, counts, times, addresses and positions.
//!
//! Parsing is strict: a value that could mean two things is refused with the forms that are understood, because a wrong
//! retention deletes data. Nothing here reads a clock or knows a server.

use std::fmt;
use std::str::FromStr;

/// `512`, `64KiB`, `1MB`: a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// `7d`, `1h30m`, `250ms`: a length of time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) u64);

/// `500`, `1_000_000`, `10k`, `2M`: how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

/// A limit that can be lifted: a value or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit<T> {
    Unlimited,
    To(T),
}

/// Where `consume` starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Earliest,
    Latest,
    Offset(u64),
    /// Append time, microseconds since 1970.
    TimeUs(i64),
    Last(u64),
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("T", 1 << 40),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
];

const SPAN_UNITS: &[(&str, u64)] = &[
    ("us", 1),
    ("µs", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 604_800_000_000),
];

const COUNT_UNITS: &[(&str, u64)] = &[("", 1), ("k", 1_000), ("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];

const SIZE_FORMS: &str = "bytes, with an optional unit: 1048576, 512KiB, 64MiB, 10GiB (1024) or kB, MB, GB (1000)";
const SPAN_FORMS: &str = "a number with a unit: 250ms, 30s, 15m, 12h, 7d, 2w, or several, as in 1h30m";
const COUNT_FORMS: &str = "a whole number: 500, 1_000_000, 10k, 2M";
const FROM_FORMS: &str = "earliest, latest, offset:N, time:RFC3339 (as in time:2026-11-22T18:00:00Z) or last:N";

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        scale(number, unit, SIZE_UNITS).map(Size).ok_or_else(|| format!("expected {SIZE_FORMS}"))
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let digits: String = number.chars().filter(|c| *c != '_').collect();
        scale(&digits, unit, COUNT_UNITS).map(Count).ok_or_else(|| format!("expected {COUNT_FORMS}"))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_span(text).map(Span).ok_or_else(|| format!("expected {SPAN_FORMS}"))
    }
}

impl<T: FromStr<Err = String>> FromStr for Limit<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(Self::Unlimited),
            text => text.parse().map(Self::To).map_err(|error| format!("{error}; or unlimited")),
        }
    }
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "earliest" => Ok(Self::Earliest),
            None if text == "latest" => Ok(Self::Latest),
            Some(("offset", n)) => {
                n.parse().map(Self::Offset).map_err(|_| format!("`{n}` is not an offset: expected offset:N"))
            }
            Some(("last", n)) => {
                n.parse().map(Self::Last).map_err(|_| format!("`{n}` is not a number of messages: expected last:N"))
            }
            Some(("time", time)) => parse_time_us(time).map(Self::TimeUs),
            _ => Err(format!("expected {FROM_FORMS}")),
        }
    }
}

/// Microseconds since 1970 of an RFC 3339 time.
pub(crate) fn parse_time_us(text: &str) -> Result<i64, String> {
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_microsecond).map_err(|_| {
        format!(
            "`{text}` is not an RFC 3339 time with its offset, as in 2026-11-22T18:00:00Z or 2026-11-22T19:00:00+01:00"
        )
    })
}

/// RFC 3339 in UTC with microseconds. A time no calendar holds is shown as its number.
pub(crate) fn rfc3339(time_us: i64) -> String {
    match jiff::Timestamp::from_microsecond(time_us) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => format!("{time_us}us"),
    }
}

/// A size for people: `1.5 MiB`; exact below 1 KiB.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const NAMES: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < NAMES.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", NAMES[unit])
}

/// A length of time for people, in its two largest units: `7d`, `1h 30m`, `12ms`.
pub(crate) fn human_span(span_us: u64) -> String {
    const UNITS: [(&str, u64); 6] =
        [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("µs", 1)];
    let mut rest = span_us;
    let mut parts = Vec::new();
    for (name, unit) in UNITS {
        let whole = rest / unit;
        rest %= unit;
        if whole > 0 {
            parts.push(format!("{whole}{name}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A count with thousands separated by commas.
pub(crate) fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&human_bytes(self.0))
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '_' || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// `number` (with a decimal point if the product is whole) times its unit; `None` if malformed, unknown or over u64.
fn scale(number: &str, unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 12 {
        return None;
    }
    let mut total = digits(whole)?.checked_mul(factor)?;
    if !fraction.is_empty() {
        let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let product = u128::from(digits(fraction)?) * u128::from(factor);
        if !product.is_multiple_of(divisor) {
            return None;
        }
        total = total.checked_add(u64::try_from(product / divisor).ok()?)?;
    }
    Some(total)
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parse_span(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, tail) = split_unit(rest);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        total = total.checked_add(scale(number, unit, SPAN_UNITS)?)?;
        rest = next.trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("1KiB", 1024),
            ("1K", 1024),
            ("1kB", 1000),
            ("1 MiB", 1 << 20),
            ("1.5MiB", 3 << 19),
            ("2GB", 2_000_000_000),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "B", "-1", "1 x", "1.", ".5K", "1e3", "0.3B", "99999999TiB", "1MiBs", "١"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn spans_need_a_unit_and_add_up() {
        for (text, us) in [
            ("250ms", 250_000),
            ("7d", 604_800_000_000),
            ("1h30m", 5_400_000_000),
            ("1h 30m", 5_400_000_000),
            ("1.5h", 5_400_000_000),
            ("0s", 0),
            ("3us", 3),
        ] {
            assert_eq!(text.parse(), Ok(Span(us)), "{text}");
        }
        for text in ["", "7", "d", "7 days", "-7d", "7d-", "1h30", "600000000d", "1.0000001s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn counts_take_underscores_and_thousands() {
        assert_eq!("1_000_000".parse(), Ok(Count(1_000_000)));
        assert_eq!("10k".parse(), Ok(Count(10_000)));
        assert_eq!("2.5M".parse(), Ok(Count(2_500_000)));
        assert!("ten".parse::<Count>().is_err());
        assert!("1.5".parse::<Count>().is_err());
    }

    #[test]
    fn limits_can_be_lifted() {
        assert_eq!("unlimited".parse(), Ok(Limit::<Size>::Unlimited));
        assert_eq!("1KiB".parse(), Ok(Limit::To(Size(1024))));
        assert!("none".parse::<Limit<Size>>().is_err());
    }

    #[test]
    fn positions_are_those_of_the_contract() {
        assert_eq!("earliest".parse(), Ok(From::Earliest));
        assert_eq!("latest".parse(), Ok(From::Latest));
        assert_eq!("offset:12".parse(), Ok(From::Offset(12)));
        assert_eq!("last:3".parse(), Ok(From::Last(3)));
        assert_eq!("time:1970-01-01T00:00:01.000002Z".parse(), Ok(From::TimeUs(1_000_002)));
        assert_eq!("time:1970-01-01T01:00:00+01:00".parse(), Ok(From::TimeUs(0)));
        for text in
            ["", "begin", "offset", "offset:", "offset:-1", "last:x", "time:yesterday", "time:2026-11-22", "latest:1"]
        {
            assert!(text.parse::<From>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_with_microseconds_and_read_back() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(1_700_000_000_123_456), "2023-11-14T22:13:20.123456Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(parse_time_us(&rfc3339(1_700_000_000_123_456)), Ok(1_700_000_000_123_456));
        assert_eq!(rfc3339(i64::MAX), "9223372036854775807us");
    }

    #[test]
    fn figures_for_people_are_short() {
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(human_bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(human_span(0), "0s");
        assert_eq!(human_span(604_800_000_000), "7d");
        assert_eq!(human_span(5_400_000_000), "1h 30m");
        assert_eq!(human_span(3_600_000_001), "1h");
        assert_eq!(human_count(0), "0");
        assert_eq!(human_count(336_776), "336,776");
        assert_eq!(human_count(1_000_000), "1,000,000");
    }
}
