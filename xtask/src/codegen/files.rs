//! Which files are generated, what they should hold, and writing those that differ.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::api::Api;
use super::protocol::{self, Protocol};
use super::{c_header, ffi, kotlin, node, parity, python, reference, rust};

/// Files by their path from the root, with their content.
pub(super) type Generated = Vec<(PathBuf, String)>;

/// Runs the task: writes what is stale, or with `check` fails if anything is.
pub(crate) fn run(root: &Path, check: bool) -> Result<()> {
    let stale = stale(root)?;
    if check {
        let names: Vec<_> = stale.iter().map(|(path, _)| path.display().to_string()).collect();
        ensure!(stale.is_empty(), "stale, run `cargo xtask codegen`: {}", names.join(", "));
    }
    for (path, text) in stale {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The generated files whose content differs from what the sources say, with the content they should have.
fn stale(root: &Path) -> Result<Generated> {
    let protocol = Protocol::read(root)?;
    let api = Api::read(root, &protocol)?;
    let mut files = protocol::files(root, &protocol)?;
    files.extend(rust::files(&api)?);
    files.extend(ffi::files(&api)?);
    files.extend(python::files(&api)?);
    files.extend(node::files(&api)?);
    files.extend(kotlin::files(&api)?);
    files.extend(reference::files(&api)?);
    files.extend(parity::files(root, &api)?);
    files.extend(c_header::files(root, &protocol, &api)?);
    files.retain(|(path, text)| std::fs::read_to_string(root.join(path)).ok().as_ref() != Some(text));
    Ok(files)
}

pub(super) fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

/// Rewrites the regions of a page between `<!-- generated: NAME -->` and `<!-- /generated -->`.
pub(super) fn regions(text: &str, region: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("<!-- generated: ") {
        let line_end = at + rest[at..].find('\n').context("an unfinished marker")? + 1;
        let name = rest[at..line_end].trim().trim_start_matches("<!-- generated: ").trim_end_matches(" -->").to_owned();
        let end = line_end
            + rest[line_end..].find("<!-- /generated -->").with_context(|| format!("no end of region {name}"))?;
        out.push_str(&rest[..line_end]);
        out.push('\n');
        out.push_str(&region(&name)?);
        out.push('\n');
        rest = &rest[end..];
    }
    out.push_str(rest);
    Ok(out)
}

pub(super) fn rustfmt(source: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config", "max_width=120,use_small_heuristics=Max"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("rustfmt is needed: rustup component add rustfmt")?;
    let mut stdin = child.stdin.take().context("rustfmt has no standard input")?;
    let source = source.to_owned();
    let writer = std::thread::Builder::new().spawn(move || stdin.write_all(source.as_bytes()))?;
    let output = child.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer to rustfmt panicked"))??;
    ensure!(output.status.success(), "rustfmt rejects the generated code");
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_generated_is_current() {
        let stale: Vec<_> = stale(&crate::tree::root()).unwrap().into_iter().map(|(path, _)| path).collect();
        assert_eq!(stale, Vec::<PathBuf>::new(), "run `cargo xtask codegen`");
    }
}
