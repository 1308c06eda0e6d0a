//! The files of the repository as git lists them: tracked ones and new ones that are not ignored.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// Root of the repository.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask is a folder of the root").to_path_buf()
}

/// A file, by its path relative to the root.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

impl SourceFile {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or("")
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it holds nothing but tests, examples, benchmarks or fuzz targets.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "examples" | "benches" | "fuzz"))
    }

    pub(crate) fn is_generated(&self) -> bool {
        self.path.contains("/generated")
    }
}

/// Every file of the repository.
pub(crate) fn files() -> anyhow::Result<Vec<SourceFile>> {
    let root = root();
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(&root)
        .output()
        .context("git ls-files (is git installed?)")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut files = Vec::new();
    for path in String::from_utf8(output.stdout)?.split('\0').filter(|path| !path.is_empty()) {
        let full = root.join(path);
        if full.is_file() {
            let bytes = std::fs::read(&full).with_context(|| format!("read {path}"))?;
            files.push(SourceFile { path: path.to_owned(), bytes });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The blocks of a page that open with exactly three backticks and the language, with the number of the line that opens
/// them.
pub(crate) fn fenced_blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if line.strip_prefix("```") == Some(language) {
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            blocks.push((number, inside.collect::<Vec<_>>().join("\n")));
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::fenced_blocks;

    #[test]
    fn only_blocks_of_the_language_are_taken() {
        let page = "a\n```console\n$ no\n```\n```sh\none\ntwo\n```\n```rust\nno\n```\n```sh\nthree\n```\n";
        assert_eq!(fenced_blocks(page, "sh"), [(5, "one\ntwo".to_owned()), (12, "three".to_owned())]);
    }
}
