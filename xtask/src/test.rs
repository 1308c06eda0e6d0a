//! `cargo xtask test`: every check of the repository in phases, with the minutes each took and one count at the end.
//! A phase that fails does not stop the others: one run shows all that is wrong.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::live::now;
use crate::tree;

/// Passed and failed tests of a phase.
#[derive(Clone, Copy, Default)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// A phase that is one check.
    fn one(passed: bool) -> Count {
        if passed { Count { passed: 1, failed: 0 } } else { Count { passed: 0, failed: 1 } }
    }
}

type Phase = (&'static str, fn() -> anyhow::Result<Count>);

/// In order of what fails fastest.
const PHASES: &[Phase] = &[
    ("fmt", fmt),
    ("tidy", tidy),
    ("clippy", clippy),
    ("rust", rust),
    ("docs", docs),
    ("quickstart", quickstart),
    ("c", c),
    ("node", node),
    ("python", python),
    ("kotlin", kotlin),
    ("conformance", conformance),
];

#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
pub(crate) fn run(wanted: &[&str]) -> anyhow::Result<()> {
    if let Some(unknown) = wanted.iter().find(|wanted| !PHASES.iter().any(|(name, _)| name == *wanted)) {
        bail!("no phase named {unknown}; there are: {}", PHASES.map_names());
    }
    let mut total = Count::default();
    let mut rows = Vec::new();
    for (name, phase) in PHASES.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name)) {
        println!("\n== {name}");
        let started = now();
        let count = phase().unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            Count::one(false)
        });
        rows.push(format!(
            "{name:<12} {:>6.1} min  {:>5} passed  {:>3} failed",
            minutes_since(started),
            count.passed,
            count.failed
        ));
        total.passed += count.passed;
        total.failed += count.failed;
    }
    println!("\n{}\n\n{} passed, {} failed", rows.join("\n"), total.passed, total.failed);
    std::io::stdout().flush()?;
    if total.failed > 0 {
        bail!("{} failed", total.failed);
    }
    Ok(())
}

trait MapNames {
    fn map_names(&self) -> String;
}

impl MapNames for [Phase] {
    fn map_names(&self) -> String {
        self.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

pub(crate) fn minutes_since(started: std::time::Instant) -> f64 {
    started.elapsed().as_secs_f64() / 60.0
}

pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(arguments).current_dir(tree::root());
    command
}

fn fmt() -> anyhow::Result<Count> {
    Ok(Count::one(cargo(&["fmt", "--all", "--check"]).status().context("cargo fmt")?.success()))
}

fn tidy() -> anyhow::Result<Count> {
    crate::tidy::check().map(|(passed, failed)| Count { passed, failed })
}

fn clippy() -> anyhow::Result<Count> {
    let status = cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]).status()?;
    Ok(Count::one(status.success()))
}

/// Native modules have no tests and no readers of their own: their languages' phases build and test them.
const WITHOUT_BINDINGS: &[&str] =
    &["--exclude", "levada-python", "--exclude", "levada-node", "--exclude", "levada-kotlin"];

/// The command line's tests run the real server: its binary is built before them.
fn rust() -> anyhow::Result<Count> {
    if !cargo(&["build", "--locked", "-p", "levada-server", "-p", "levada-cli"]).status()?.success() {
        bail!("the server and the command line do not build");
    }
    let arguments = [&["test", "--workspace", "--locked", "--no-fail-fast"], WITHOUT_BINDINGS].concat();
    counted(&mut cargo(&arguments))
}

fn docs() -> anyhow::Result<Count> {
    let mut command = cargo(&[&["doc", "--workspace", "--locked", "--no-deps"], WITHOUT_BINDINGS].concat());
    command.env("RUSTDOCFLAGS", "-D warnings");
    Ok(Count::one(command.status()?.success()))
}

/// What a newcomer runs: the pages' commands.
fn quickstart() -> anyhow::Result<Count> {
    let (passed, failed) = crate::quickstart::check(&ci_binaries()?)?;
    Ok(Count { passed, failed })
}

/// The C library as installed.
fn c() -> anyhow::Result<Count> {
    let binaries = ci_binaries()?;
    if !cargo(&["build", "--profile", "ci", "--locked", "-p", "levada-c"]).status()?.success() {
        bail!("the C library does not build");
    }
    let (passed, failed) = crate::c::build_and_test(&binaries, &binaries)?;
    Ok(Count { passed, failed })
}

fn node() -> anyhow::Result<Count> {
    let (passed, failed) = crate::node::build_and_test(&ci_server()?)?;
    Ok(Count { passed, failed })
}

/// The server in the profile of what crosses a language.
fn ci_server() -> anyhow::Result<PathBuf> {
    Ok(ci_binaries()?.join("levada-server"))
}

/// Builds the server, the command line and the examples in the profile of what crosses a language, and tells where they are.
fn ci_binaries() -> anyhow::Result<PathBuf> {
    binaries("ci")
}

/// The wheels, as a user has them.
fn python() -> anyhow::Result<Count> {
    let (passed, failed) = crate::python::build_and_test(&target())?;
    Ok(Count { passed, failed })
}

fn kotlin() -> anyhow::Result<Count> {
    let (passed, failed) = crate::kotlin::build_and_test(&ci_binaries()?)?;
    Ok(Count { passed, failed })
}

/// Every client against the suite, after the suite has caught every client that is wrong on purpose.
fn conformance() -> anyhow::Result<Count> {
    let (passed, failed) = crate::conformance::check()?;
    Ok(Count { passed, failed })
}

/// Builds the server, the command line and the examples as users run them, and tells where they are.
pub(crate) fn release_binaries() -> anyhow::Result<PathBuf> {
    binaries("release")
}

fn binaries(profile: &str) -> anyhow::Result<PathBuf> {
    let packages = ["-p", "levada-server", "-p", "levada-cli", "-p", "levada", "--bins", "--examples"];
    if !cargo(&[&["build", "--profile", profile, "--locked"], &packages[..]].concat()).status()?.success() {
        bail!("the {profile} build fails");
    }
    Ok(target().join(profile))
}

/// Where cargo puts what it builds: this program lies in its `debug` folder.
pub(crate) fn target() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    own.ancestors().nth(2).expect("TARGET/debug/xtask").to_path_buf()
}

/// Runs a cargo test command, passing its output on and adding up its result lines.
#[expect(clippy::print_stdout, reason = "the tests' own output passes through")]
fn counted(command: &mut Command) -> anyhow::Result<Count> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo test")?;
    let output = child.stdout.take().expect("standard output was piped");
    let mut count = Count::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some((passed, failed)) = result_line(&line) {
            count.passed += passed;
            count.failed += failed;
        }
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        count.failed += 1;
    }
    if count.passed + count.failed == 0 {
        bail!("no test ran");
    }
    Ok(count)
}

/// `test result: ok. 12 passed; 0 failed; …` as numbers.
fn result_line(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, rest) = rest.split_once(". ")?;
    let mut parts = rest.split("; ");
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::result_line;

    #[test]
    fn result_lines_are_counted_and_others_are_not() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.10s";
        assert_eq!(result_line(line), Some((12, 3)));
        assert_eq!(result_line("running 5 tests"), None);
        assert_eq!(result_line("test result: odd"), None);
    }
}
