//! The Kotlin client: builds it, runs its tests against the real server, and installs it where Maven finds it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::tree;

/// Builds the client with its native half, runs its tests against `server`, and installs it: passed and failed tests.
/// Where there is no JDK or no Maven it says so and runs none.
///
/// # Errors
/// Maven cannot be run, or fails before it runs a test.
#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
pub(crate) fn build_and_test(server: &Path) -> Result<(u64, u64)> {
    if let Some(missing) = ["javac", "mvn"].into_iter().find(|tool| !runs(tool)) {
        println!("kotlin: skipped, because {missing} is not installed");
        return Ok((0, 0));
    }
    let reports = directory().join("target/surefire-reports");
    if reports.exists() {
        std::fs::remove_dir_all(&reports).with_context(|| format!("remove {}", reports.display()))?;
    }
    let status = Command::new("mvn")
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(directory().join("pom.xml"))
        .arg("install")
        .env("LEVADA_SERVER_BIN", server)
        .status()
        .context("mvn install")?;
    let (passed, failed) = read(&reports)?;
    ensure!(status.success() || failed > 0, "mvn install fails");
    ensure!(passed + failed > 0, "mvn install ran no test");
    Ok((passed, failed))
}

fn directory() -> PathBuf {
    tree::root().join("bindings-kotlin")
}

fn runs(tool: &str) -> bool {
    Command::new(tool).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Adds up what the reports of the test classes say in their heads.
fn read(reports: &Path) -> Result<(u64, u64)> {
    let (mut all_passed, mut all_failed) = (0, 0);
    let Ok(entries) = std::fs::read_dir(reports) else { return Ok((0, 0)) };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "xml") {
            continue;
        }
        let report = std::fs::read_to_string(&path)?;
        let head = report.split_once("<testsuite ").map_or("", |(_, rest)| rest.split('>').next().unwrap_or_default());
        let number = |name: &str| -> Result<u64> {
            let value = head.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split('"').next());
            value.and_then(|value| value.parse().ok()).with_context(|| format!("{} has no {name}", path.display()))
        };
        let failed = number("failures")? + number("errors")?;
        all_failed += failed;
        all_passed += number("tests")? - failed - number("skipped")?;
    }
    Ok((all_passed, all_failed))
}
