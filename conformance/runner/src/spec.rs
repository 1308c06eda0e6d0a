//! The sections of `protocol-spec/spec.md`, so that a case can only cite what exists and what no case cites can be listed.

use std::collections::BTreeSet;

use crate::case::Case;

const SPEC: &str = include_str!("../../../protocol-spec/spec.md");

/// Numbered headings, as `7.1 Positions`.
pub fn sections() -> impl Iterator<Item = &'static str> {
    let headings = SPEC.lines().filter_map(|line| line.strip_prefix("### ").or_else(|| line.strip_prefix("## ")));
    headings.filter(|heading| heading.starts_with(|c: char| c.is_ascii_digit())).map(tidy)
}

/// `1. Connections` and `1 Connections` are the same.
fn tidy(heading: &'static str) -> &'static str {
    heading.trim()
}

fn number(section: &str) -> &str {
    section.split(' ').next().unwrap_or_default().trim_end_matches('.')
}

/// Whether there is a section of that number and name.
pub fn has_section(cited: &str) -> bool {
    sections().any(|section| section == cited)
}

/// A hint for a section cited wrongly.
pub fn nearest(cited: &str) -> String {
    match sections().find(|section| number(section) == number(cited)) {
        Some(section) => format!("; there is {section:?}"),
        None => String::new(),
    }
}

/// Sections without subsections that no case cites.
pub fn uncovered(cases: &[Case]) -> Vec<&'static str> {
    let cited: BTreeSet<&str> = cases.iter().flat_map(|case| case.spec.iter().map(String::as_str)).collect();
    let is_leaf = |section: &str| {
        let below = format!("{}.", number(section));
        !sections().any(|other| number(other) != number(section) && number(other).starts_with(&below))
    };
    sections().filter(|section| is_leaf(section) && !cited.contains(section)).collect()
}

/// Sorts by the numbers of sections.
pub fn order(section: &str) -> Vec<u32> {
    number(section).split('.').filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_known_by_number_and_name() {
        assert!(has_section("7.1 Positions"));
        assert!(!has_section("7.1 Possitions"));
        assert!(nearest("7.1 Possitions").contains("7.1 Positions"));
        assert!(uncovered(&[]).contains(&"6.1 Produce and its receipt"));
        assert!(!uncovered(&[]).iter().any(|section| section.starts_with("6. ")));
    }
}
