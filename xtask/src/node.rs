//! The Node package: built by its own script, then tested with Node's test runner against a real server.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::tree;

/// Oldest Node that the package works with.
const MIN_NODE: (u32, u32) = (20, 17);

/// Builds the package and runs its tests with the server of that path; gives how many passed and failed.
///
/// # Errors
/// Node or npm is missing or too old, with how to get it; the package does not build.
pub(crate) fn build_and_test(server: &Path) -> anyhow::Result<(u64, u64)> {
    check_tools()?;
    build()?;
    let mut command = Command::new("node");
    command
        .args(["--test", "--test-reporter=tap", "test/"])
        .current_dir(tree::root().join("bindings-node"))
        .env("LEVADA_SERVER_BIN", server);
    counted(&mut command)
}

/// Builds the native module, and the JavaScript around it.
///
/// # Errors
/// It does not build.
pub(crate) fn build() -> anyhow::Result<()> {
    let status = Command::new("node").arg("bindings-node/scripts/build.mjs").current_dir(tree::root()).status();
    ensure!(status.context("node")?.success(), "the Node package does not build");
    Ok(())
}

fn check_tools() -> anyhow::Result<()> {
    let help = "install Node 20.17 or later, which brings npm: https://nodejs.org/en/download";
    let version = said(Command::new("node").arg("--version")).with_context(|| format!("node is missing; {help}"))?;
    ensure!(parse(&version).is_some_and(|version| version >= MIN_NODE), "node is {}; {help}", version.trim());
    said(Command::new("npm").arg("--version")).with_context(|| format!("npm is missing; {help}"))?;
    Ok(())
}

fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "it ends with {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// `v20.17.0` as its first two numbers.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Runs Node's tests, passes their output on, and reads the count at its end.
#[expect(clippy::print_stdout, reason = "the tests' own output passes through")]
fn counted(command: &mut Command) -> anyhow::Result<(u64, u64)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("node --test")?;
    let output = child.stdout.take().expect("standard output was piped");
    let (mut passed, mut failed) = (0, 0);
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(count) = total(&line, "pass") {
            passed = count;
        } else if let Some(count) = total(&line, "fail").or_else(|| total(&line, "cancelled")) {
            failed += count;
        }
        if !line.starts_with("  ---") && !line.starts_with("  ...") && !line.starts_with("# Subtest") {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && failed == 0 {
        failed = 1;
    }
    if passed + failed == 0 {
        bail!("no test ran");
    }
    Ok((passed, failed))
}

/// `# pass 12` as a number.
fn total(line: &str, what: &str) -> Option<u64> {
    line.strip_prefix("# ")?.strip_prefix(what)?.strip_prefix(' ')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{parse, total};

    #[test]
    fn versions_and_totals_are_read() {
        assert_eq!(parse("v20.17.0\n"), Some((20, 17)));
        assert_eq!(parse("20"), None);
        assert_eq!(total("# pass 12", "pass"), Some(12));
        assert_eq!(total("# passing 12", "pass"), None);
        assert_eq!(total("# fail 0", "pass"), None);
    }
}
