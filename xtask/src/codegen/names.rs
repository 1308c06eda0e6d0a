//! Spelling: the cases of the languages, and numbers for people.

/// `read_only` or `READ_ONLY` to `ReadOnly`.
pub(super) fn camel(name: &str) -> String {
    name.split('_').map(|word| capitalised(&word.to_lowercase())).collect()
}

/// `read_only` to `readOnly`.
pub(super) fn lower_camel(name: &str) -> String {
    let name = camel(name);
    let mut chars = name.chars();
    chars.next().map(|first| first.to_lowercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

/// `ReadOnly` to `read_only`.
pub(super) fn snake(name: &str) -> String {
    let mut out = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

/// A doc text as a sentence; without a doc, the name of the thing.
pub(super) fn sentence(doc: &str, name: &str) -> String {
    let text = if doc.is_empty() { name.replace('_', " ") } else { doc.to_owned() };
    let text = capitalised(&text);
    if text.ends_with('.') { text } else { format!("{text}.") }
}

/// Text as lines of a comment, each with that prefix, at most 120 columns at that indentation.
pub(super) fn comment(text: &str, prefix: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && 120 < indent + prefix.len() + line.len() + 1 + word.len() {
            out.push_str(prefix);
            out.push_str(&line);
            out.push('\n');
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out + prefix + &line + "\n"
}

/// `1048576` to `1_048_576`.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

/// A size for a person: `16 MiB`, and what is no whole number of units as it is.
pub(super) fn bytes(value: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| *unit <= value && value.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", value / unit),
        None if value == 1 => "1 byte".to_owned(),
        None => format!("{value} bytes"),
    }
}

/// Milliseconds for a person.
pub(super) fn time(ms: u64) -> String {
    let units = [(31_536_000_000, "year"), (86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1000, "s")];
    match units.iter().find(|(unit, _)| *unit <= ms && ms.is_multiple_of(*unit)) {
        Some((unit, "s")) => format!("{} s", ms / unit),
        Some((unit, name)) if ms == *unit => format!("1 {name}"),
        Some((unit, name)) => format!("{} {name}s", ms / unit),
        None if ms == 0 => "0".to_owned(),
        None => format!("{ms} ms"),
    }
}

/// A list for a person: `a, b or c`.
pub(super) fn either(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_the_case_of_their_language() {
        assert_eq!(
            (camel("TOPIC_NOT_FOUND"), lower_camel("max_in_flight")),
            ("TopicNotFound".into(), "maxInFlight".into())
        );
        assert_eq!(snake("OnOutOfRange"), "on_out_of_range");
    }

    #[test]
    fn numbers_read_like_a_person_would_write_them() {
        assert_eq!([bytes(16 << 20), bytes(1), bytes(1000)], ["16 MiB", "1 byte", "1000 bytes"]);
        assert_eq!(
            [time(0), time(50), time(5000), time(120_000), time(31_536_000_000)],
            ["0", "50 ms", "5 s", "2 minutes", "1 year"]
        );
        assert_eq!(either(&["a".into(), "b".into(), "c".into()]), "a, b or c");
    }
}
