//! Which cases are run: all that are built in or lie in a folder, by pattern.

use std::path::Path;

use crate::case::{self, BadCase, Case};

include!(concat!(env!("OUT_DIR"), "/cases.rs"));

/// Every case there is, in order: those built into this program, or those under a folder.
///
/// # Errors
/// The first defect of a file.
pub fn all(folder: Option<&Path>) -> Result<Vec<Case>, BadCase> {
    let mut cases = Vec::new();
    match folder {
        None => {
            for (file, text) in CASES {
                cases.extend(case::parse(file, text)?);
            }
        }
        Some(folder) => {
            let bad = |error: &dyn std::fmt::Display| BadCase {
                file: folder.display().to_string(),
                reason: error.to_string(),
            };
            let mut files = Vec::new();
            files_under(folder, &mut files).map_err(|error| bad(&error))?;
            files.sort();
            for file in files {
                let text = std::fs::read_to_string(&file).map_err(|error| bad(&error))?;
                cases.extend(case::parse(&file.display().to_string(), &text)?);
            }
        }
    }
    if let Some(twice) =
        cases.iter().enumerate().find(|(index, case)| cases[..*index].iter().any(|other| other.id == case.id))
    {
        return Err(BadCase { file: twice.1.file.clone(), reason: format!("there are two cases {}", twice.1.id) });
    }
    Ok(cases)
}

fn files_under(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files_under(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a case is asked for: by patterns over its id, or `tag:NAME`. No pattern asks for all.
pub fn wanted(case: &Case, patterns: &[String]) -> bool {
    let hit = |pattern: &String| match pattern.strip_prefix("tag:") {
        Some(tag) => case.tags.contains(tag),
        // An id without its axes stands for all of them.
        None => glob(pattern, &case.id) || case.id.split('[').next().is_some_and(|id| glob(pattern, id)),
    };
    patterns.is_empty() || patterns.iter().any(hit)
}

/// `*` is any text within a folder, `**` any text at all.
pub fn glob(pattern: &str, text: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**") {
        let rest = rest.strip_prefix('/').filter(|_| text.is_empty()).unwrap_or(rest);
        return (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| glob(rest, &text[at..]));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        let end = text.find('/').unwrap_or(text.len());
        return (0..=end).filter(|at| text.is_char_boundary(*at)).any(|at| glob(rest, &text[at..]));
    }
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => text.is_empty(),
        Some(c) => text.strip_prefix(c).is_some_and(|rest| glob(pattern_chars.as_str(), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        assert!(glob("consume/*", "consume/x"));
        assert!(!glob("consume/*", "consume/x/y"));
        assert!(glob("consume/**", "consume/x/y"));
        assert!(glob("**/y", "consume/x/y"));
        assert!(glob("a/x[codec=*]", "a/x[codec=lz4]"));
        assert!(!glob("a/x", "a/xy"));
    }

    #[test]
    fn every_case_built_in_is_right() {
        let cases = all(None).unwrap_or_else(|bad| panic!("{bad}"));
        assert!(!cases.is_empty());
    }
}
