//! `cargo xtask tidy`: taste that matters, as failing checks. Each check is one function from the files of the repository
//! to the places where it is broken; ARCHITECTURE.md's invariants of absence are the `layers` check.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use crate::tree::{self, SourceFile};

/// Where a rule is broken, as a line for a person.
type Broken = Vec<String>;
type Check = (&'static str, fn(&[SourceFile]) -> anyhow::Result<Broken>);

const CHECKS: &[Check] = &[
    ("every module opens with a header", headers),
    ("layers do not know what is above them", layers),
    ("no words of unfinished work", unfinished),
    ("every select is biased", selects),
    ("no type is named for vagueness", vague_names),
    ("no ignored test", ignored_tests),
    ("no large file", large_files),
    ("long functions only shrink in number", long_functions),
    ("no path or registry host of a machine", machine_words),
    ("an ADR is a page with its rejected option", adrs),
    ("documents link to files that exist", links),
    ("Rust in documents stands in an example", snippets),
];

pub(crate) fn run() -> anyhow::Result<()> {
    let (_, failed) = check()?;
    if failed > 0 {
        bail!("{failed} rules are broken");
    }
    Ok(())
}

/// Runs every check; returns how many passed and failed.
#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
pub(crate) fn check() -> anyhow::Result<(u64, u64)> {
    let files = tree::files()?;
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in CHECKS {
        let broken = check(&files).with_context(|| (*name).to_owned())?;
        if broken.is_empty() {
            passed += 1;
        } else {
            failed += 1;
            println!("tidy: {name}:");
            for line in broken {
                println!("  {line}");
            }
        }
    }
    println!("tidy: {passed} rules hold, {failed} do not");
    Ok((passed, failed))
}

fn rust(files: &[SourceFile]) -> impl Iterator<Item = &SourceFile> {
    files.iter().filter(|file| file.is_rust() && !file.is_generated())
}

fn own_rust(files: &[SourceFile]) -> impl Iterator<Item = &SourceFile> {
    rust(files).filter(|file| !file.path.starts_with("xtask/src/tidy"))
}

fn headers(files: &[SourceFile]) -> anyhow::Result<Broken> {
    let bare = rust(files).filter(|file| !file.text().trim_start_matches("#![no_main]\n").starts_with("//!"));
    Ok(bare.map(|file| format!("{}: say in `//!` what it owns and what it must not know", file.path)).collect())
}

/// What the files under a folder must not name.
const ABSENCES: &[(&str, &[&str])] = &[
    ("protocol-spec/src/", &["tokio", "std::net", "std::fs", "std::time", "async fn"]),
    (
        "server/storage/src/",
        &[
            "std::net",
            "tokio::net",
            "levada_server",
            "levada_protocol::messages",
            "levada_protocol::server",
            "levada_protocol::client",
        ],
    ),
    ("server/src/broker/", &["rustls", "std::net", "tokio::net"]),
    ("server/src/edge/", &["levada_storage::log", "levada_storage::disk"]),
    ("sdk-rust/src/", &["levada_server", "levada_storage", "pyo3", "napi"]),
    ("sdk-rust/ffi/src/", &["levada_protocol", "pyo3", "napi", "uniffi", "cbindgen"]),
    ("conformance/runner/src/", &["levada_protocol", "levada::"]),
    ("bindings-", &["levada_protocol", "levada_server", "tokio::time", "std::net"]),
    ("bench/src/", &["levada_server", "levada_storage", "levada_protocol"]),
    ("cli/src/", &["levada_server", "levada_protocol"]),
];

/// What decides: a binding that depends on it could too.
const BENEATH_BINDINGS: &[&str] = &["levada-protocol", "levada-storage", "levada-server", "tokio", "rustls"];

/// What a crate must not depend on, outside its tests.
const MANIFEST_ABSENCES: &[(&str, &[&str])] = &[
    ("protocol-spec/Cargo.toml", &["tokio", "rustls", "levada-storage", "levada-server", "levada"]),
    ("server/storage/Cargo.toml", &["rustls", "tokio-rustls", "socket2", "levada", "levada-server"]),
    ("sdk-rust/Cargo.toml", &["levada-storage", "levada-server"]),
    ("server/Cargo.toml", &["levada"]),
    ("sdk-rust/ffi/Cargo.toml", &["levada-protocol", "levada-storage", "levada-server"]),
    ("bindings-python/Cargo.toml", BENEATH_BINDINGS),
    ("bindings-node/Cargo.toml", BENEATH_BINDINGS),
    ("bindings-c/Cargo.toml", BENEATH_BINDINGS),
    ("bindings-kotlin/Cargo.toml", BENEATH_BINDINGS),
    ("conformance/runner/Cargo.toml", &["levada", "levada-protocol", "levada-ffi"]),
    ("bench/Cargo.toml", &["levada-storage", "levada-server", "levada-protocol"]),
];

fn layers(files: &[SourceFile]) -> anyhow::Result<Broken> {
    let mut broken = Vec::new();
    for (folder, words) in ABSENCES {
        for file in rust(files).filter(|file| file.path.starts_with(folder)) {
            for (number, line) in numbered_code(file.text()) {
                broken.extend(
                    words
                        .iter()
                        .filter(|word| line.contains(*word))
                        .map(|word| format!("{}:{number}: names `{word}`", file.path)),
                );
            }
        }
    }
    for (path, crates) in MANIFEST_ABSENCES {
        let manifest = files.iter().find(|file| file.path == *path).with_context(|| format!("{path} is missing"))?;
        let manifest: toml::Table = manifest.text().parse().with_context(|| (*path).to_owned())?;
        let dependencies = manifest.get("dependencies").and_then(|value| value.as_table());
        // A renamed dependency says what it is by `package`.
        let package = |(key, value): (&String, &toml::Value)| {
            value.get("package").and_then(toml::Value::as_str).unwrap_or(key).to_owned()
        };
        let named = dependencies.into_iter().flatten().map(package);
        broken.extend(
            named.filter(|name| crates.contains(&name.as_str())).map(|name| format!("{path}: depends on `{name}`")),
        );
    }
    Ok(broken)
}

/// Lines that are neither comments nor inside the tests at the end of a file, with their numbers.
fn numbered_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

fn lines_with<'a>(files: impl Iterator<Item = &'a SourceFile>, words: &[&str]) -> Broken {
    let mut broken = Vec::new();
    for file in files {
        for (index, line) in file.text().lines().enumerate() {
            broken.extend(
                words
                    .iter()
                    .filter(|word| line.contains(*word))
                    .map(|word| format!("{}:{}: `{word}`", file.path, index + 1)),
            );
        }
    }
    broken
}

fn unfinished(files: &[SourceFile]) -> anyhow::Result<Broken> {
    Ok(lines_with(own_rust(files), &["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "for now", "legacy"]))
}

/// Without `biased`, tokio picks the branch at random and a seed no longer replays.
fn selects(files: &[SourceFile]) -> anyhow::Result<Broken> {
    let mut broken = Vec::new();
    for file in own_rust(files) {
        let lines: Vec<&str> = file.text().lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let opens = line.contains("select! {") && !line.trim_start().starts_with("//");
            if opens && !line.contains("biased;") && lines.get(index + 1).is_none_or(|next| next.trim() != "biased;") {
                broken.push(format!("{}:{}: `biased;` comes first in a select", file.path, index + 1));
            }
        }
    }
    Ok(broken)
}

fn vague_names(files: &[SourceFile]) -> anyhow::Result<Broken> {
    let mut broken = Vec::new();
    for file in own_rust(files) {
        for (index, line) in file.text().lines().enumerate() {
            let words: Vec<&str> =
                line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
            let declared = words.windows(2).find(|pair| matches!(pair[0], "struct" | "enum" | "trait" | "mod"));
            let vague = |name: &str| {
                ["Manager", "Helper", "Util", "Utils", "Impl"].iter().any(|end| name.ends_with(end))
                    || matches!(name, "common" | "util" | "utils" | "helper" | "helpers" | "misc")
            };
            if let Some(pair) = declared.filter(|pair| vague(pair[1]) && !line.trim_start().starts_with("//")) {
                broken.push(format!("{}:{}: name `{}` for what it is", file.path, index + 1, pair[1]));
            }
        }
    }
    Ok(broken)
}

fn ignored_tests(files: &[SourceFile]) -> anyhow::Result<Broken> {
    Ok(lines_with(own_rust(files), &["#[ignore"]))
}

/// Fuzz corpora and vectors are small; a large file is a mistake, or belongs elsewhere.
const LARGEST_FILE_BYTES: usize = 512 * 1024;

fn large_files(files: &[SourceFile]) -> anyhow::Result<Broken> {
    let large = files.iter().filter(|file| file.bytes.len() > LARGEST_FILE_BYTES);
    Ok(large.map(|file| format!("{}: {} bytes, more than {LARGEST_FILE_BYTES}", file.path, file.bytes.len())).collect())
}

const LONG_FUNCTION_LINES: usize = 90;
const RATCHET: &str = "xtask/ratchet.toml";

/// The ratchet file says how many functions over ninety lines each file has. It may shrink and must say so; it may not grow.
fn long_functions(files: &[SourceFile]) -> anyhow::Result<Broken> {
    let ratchet = files.iter().find(|file| file.path == RATCHET).with_context(|| format!("{RATCHET} is missing"))?;
    let allowed: BTreeMap<String, usize> = toml::from_str(ratchet.text()).context(RATCHET)?;
    let mut broken = Vec::new();
    for file in own_rust(files).filter(|file| !file.is_test()) {
        let long = function_lengths(file.text()).into_iter().filter(|(_, lines)| *lines > LONG_FUNCTION_LINES);
        let long: Vec<(usize, usize)> = long.collect();
        let limit = allowed.get(&file.path).copied().unwrap_or(0);
        if long.len() > limit {
            broken
                .extend(long.iter().map(|(line, lines)| format!("{}:{line}: a function of {lines} lines", file.path)));
        } else if long.len() < limit {
            broken.push(format!("{RATCHET}: {} is down to {}: write that", file.path, long.len()));
        }
    }
    let gone = allowed.keys().filter(|path| !files.iter().any(|file| file.path == **path));
    broken.extend(gone.map(|path| format!("{RATCHET}: {path} does not exist")));
    Ok(broken)
}

/// First line and length of each function, found by the indentation that rustfmt guarantees.
fn function_lengths(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_function = trimmed.starts_with("fn ")
            || (trimmed.contains(" fn ")
                && ["pub", "async", "const", "unsafe", "extern"].iter().any(|word| trimmed.starts_with(word)));
        if !is_function {
            continue;
        }
        let close = format!("{}}}", &line[..line.len() - trimmed.len()]);
        let ends = lines[index..]
            .iter()
            .position(|line| *line == close || (line.starts_with(&close) && line.len() == close.len()));
        let one_line = line.ends_with('}') || line.ends_with(';');
        if let (false, Some(length)) = (one_line, ends) {
            found.push((index + 1, length + 1));
        }
    }
    found
}

fn machine_words(files: &[SourceFile]) -> anyhow::Result<Broken> {
    let words = [
        "/work/",
        "/root/",
        "pypi.org",
        "registry.npmjs",
        "static.crates.io",
        "index.crates.io",
        "repo1.maven",
        "deb.debian.org",
    ];
    let mut broken = lines_with(files.iter().filter(|file| file.path != "xtask/src/tidy.rs"), &words);
    broken.retain(|line| !line.starts_with("Cargo.lock"));
    Ok(broken)
}

/// A page, at the width people read at.
const ADR_LINES: usize = 80;

fn adrs(files: &[SourceFile]) -> anyhow::Result<Broken> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("docs/adr/")) {
        if file.text().lines().count() > ADR_LINES {
            broken.push(format!("{}: longer than {ADR_LINES} lines", file.path));
        }
        if !file.text().to_lowercase().contains("rejected") {
            broken.push(format!("{}: does not name the rejected option", file.path));
        }
    }
    Ok(broken)
}

fn links(files: &[SourceFile]) -> anyhow::Result<Broken> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = file.path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        for target in file.text().split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
        {
            let path = target.split('#').next().unwrap_or("");
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            if !tree::root().join(format!("{folder}{path}")).exists() {
                broken.push(format!("{}: links to {target}", file.path));
            }
        }
    }
    Ok(broken)
}

/// The examples are compiled with the tests and run with the pages; a document shows lines of one as they are.
fn snippets(files: &[SourceFile]) -> anyhow::Result<Broken> {
    let trimmed = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let examples = files.iter().filter(|file| file.is_rust() && file.path.contains("/examples/"));
    let examples: Vec<Vec<String>> = examples.map(|file| trimmed(file.text())).collect();
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (number, block) in tree::fenced_blocks(file.text(), "rust") {
            let block = trimmed(&block);
            if !examples.iter().any(|example| example.windows(block.len()).any(|lines| lines == block)) {
                broken.push(format!("{}:{number}: no example has these lines", file.path));
            }
        }
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn a_module_without_a_header_is_found() {
        let files = [file("server/src/a.rs", "//! Owns a.\n"), file("server/src/b.rs", "use a;\n")];
        assert_eq!(headers(&files).unwrap().len(), 1);
    }

    #[test]
    fn a_layer_that_names_what_is_above_it_is_found() {
        let manifests = MANIFEST_ABSENCES.iter().map(|(path, _)| file(path, "[dependencies]\n"));
        let mut files: Vec<SourceFile> = manifests.collect();
        assert_eq!(layers(&files).unwrap(), Vec::<String>::new());
        files.push(file("server/storage/src/a.rs", "//! std::net in a comment is fine\nuse std::net::TcpStream;\n"));
        files[0] = file("protocol-spec/Cargo.toml", "[dependencies]\ntokio = \"1\"\n");
        assert_eq!(layers(&files).unwrap().len(), 2);
    }

    #[test]
    fn a_select_that_picks_at_random_is_found() {
        let random = "tokio::select! {\n    a = b => {}\n}\n";
        let biased = "tokio::select! {\n    biased;\n    a = b => {}\n}\n";
        assert_eq!(selects(&[file("a.rs", random), file("b.rs", biased)]).unwrap().len(), 1);
    }

    #[test]
    fn functions_are_measured_by_their_indentation() {
        let text = "fn a() {\n    b();\n}\n\nimpl C {\n    pub(crate) async fn d(\n        e: u8,\n    ) {\n        f();\n    }\n}\nfn g() {}\n";
        assert_eq!(function_lengths(text), vec![(1, 3), (6, 5)]);
    }

    #[test]
    fn unfinished_words_vague_names_and_ignored_tests_are_found() {
        let files = [file("a.rs", "//! A.\nstruct PartitionManager;\n// TODO: more\n#[ignore]\n")];
        assert_eq!(unfinished(&files).unwrap().len(), 1);
        assert_eq!(vague_names(&files).unwrap().len(), 1);
        assert_eq!(ignored_tests(&files).unwrap().len(), 1);
    }
    #[test]
    fn rust_in_a_document_that_no_example_has_is_found() {
        let example = file("sdk-rust/examples/a.rs", "fn main() {\n    one();\n    two();\n}\n");
        let page = |text: &str| file("README.md", text);
        let found = |page| snippets(&[page, file("sdk-rust/examples/a.rs", example.text())]).unwrap();
        assert_eq!(found(page("a\n```rust\none();\ntwo();\n```\n")), Vec::<String>::new());
        assert_eq!(found(page("a\n```rust\none();\nthree();\n```\n")), ["README.md:2: no example has these lines"]);
    }
}
