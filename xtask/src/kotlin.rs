//! The Kotlin client: builds it, runs its tests against the real server, installs it where Maven finds it, and follows the quick
//! starts of its README from there, in folders outside the repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::live::{Scratch, Server};
use crate::tree;

/// Languages of the README's quick starts.
const QUICK_STARTS: &[&str] = &["kotlin", "java"];

/// Builds the client with its native half, runs its tests with the server that lies in `binaries`, installs it, and follows the
/// quick starts: passed and failed tests. Where there is no JDK or no Maven it says so and runs none.
///
/// # Errors
/// Maven cannot be run, or fails before it runs a test.
#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
pub(crate) fn build_and_test(binaries: &Path) -> Result<(u64, u64)> {
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
        .env("LEVADA_SERVER_BIN", binaries.join("levada-server"))
        .status()
        .context("mvn install")?;
    let (mut passed, mut failed) = read(&reports)?;
    ensure!(status.success() || failed > 0, "mvn install fails");
    ensure!(passed + failed > 0, "mvn install ran no test");
    if failed > 0 {
        println!("kotlin: nothing is installed, so the quick starts wait");
        return Ok((passed, failed));
    }
    match quick_starts(binaries) {
        Ok(()) => passed += 1,
        Err(error) => {
            println!("kotlin: the quick start: {error:#}");
            failed += 1;
        }
    }
    Ok((passed, failed))
}

/// Does what the README says, word by word: one server and its topic, and for each language an empty folder with the page's files
/// and the page's command, which must print what the page says.
fn quick_starts(binaries: &Path) -> Result<()> {
    let page = std::fs::read_to_string(directory().join("README.md"))?;
    let home = Scratch::new(&std::env::temp_dir(), "kotlin-quick-start")?;
    let server = Server::start(binaries, &home.path, "127.0.0.1:0")?;
    let create = tree::fenced_blocks(&page, "sh").into_iter().flat_map(|(_, text)| lines_of(&text, "levada "));
    for line in create {
        ensure!(server.command("sh").args(["-euc", &line]).status()?.success(), "{line}");
    }
    for language in QUICK_STARTS {
        let folder = home.path.join(language);
        write_file(&page, "xml", &folder)?;
        let after = write_file(&page, language, &folder)?;
        let next = |wanted: &str| -> Result<String> {
            let block = tree::fenced_blocks(&page, wanted).into_iter().find(|(line, _)| after < *line);
            block.map(|(_, text)| text).with_context(|| format!("no {wanted} after the {language}"))
        };
        let output = server.command("sh").args(["-euc", &next("sh")?]).current_dir(&folder).output()?;
        // Maven ends its output by taking back colours, wherever that goes.
        let said = String::from_utf8(output.stdout)?.replace("\u{1b}[0m", "");
        let complained = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{language} ends with {}: {said}{complained}", output.status);
        let wanted = next("text")?;
        ensure!(said.trim_end() == wanted, "{language} prints {said:?}, not {wanted:?}; {complained}");
    }
    server.stop()
}

/// Writes a page's first block of a language as the file that the line before it names; gives the number of the block's line.
fn write_file(page: &str, language: &str, folder: &Path) -> Result<usize> {
    let (number, text) = tree::fenced_blocks(page, language)
        .into_iter()
        .next()
        .with_context(|| format!("the page has no {language}"))?;
    let before = page.lines().take(number - 1).filter(|line| !line.is_empty()).last();
    let name = before.and_then(|line| line.strip_suffix("`:")).and_then(|line| line.rsplit('`').next());
    let path = folder.join(name.with_context(|| format!("no line before the {language} names its file"))?);
    std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
    std::fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    Ok(number)
}

fn lines_of(text: &str, prefix: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
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
