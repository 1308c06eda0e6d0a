//! The Python packages: built as wheels, installed into an empty environment, and tested there as a user has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::tree;

/// Passed and failed checks.
pub(crate) type Counts = (u64, u64);

/// Where the interpreter with the packages is, for the conformance adapters.
pub(crate) fn interpreter(target: &Path) -> PathBuf {
    home(target).join("venv").join("bin").join("python")
}

/// What is made here; it lies beside what the profile all bindings share makes.
fn home(target: &Path) -> PathBuf {
    target.join("ci").join("python")
}

/// Builds both wheels with the profile all bindings share, installs them into an environment of their own, and runs
/// stubtest, pyright and pytest against what was installed. `target` is cargo's target directory.
pub(crate) fn build_and_test(target: &Path) -> anyhow::Result<Counts> {
    let python = build(target)?;
    let folder = tree::root().join("bindings-python");
    let (mut passed, mut failed) = pytest(&python, &folder, target)?;
    for check in [
        &[
            "-m",
            "mypy.stubtest",
            "levada._native",
            "--allowlist",
            "stubtest-allowlist.txt",
            "--ignore-unused-allowlist",
        ][..],
        &["-m", "pyright", "--pythonpath", text(&python)?, "--project", "."],
        &["-m", "pip", "check"],
    ] {
        let is_right = command(&python, target).args(check).current_dir(&folder).status().context("python")?.success();
        if is_right { passed += 1 } else { failed += 1 }
    }
    Ok((passed, failed))
}

/// Builds and installs both wheels; gives the interpreter that has them.
pub(crate) fn build(target: &Path) -> anyhow::Result<PathBuf> {
    let folder = tree::root().join("bindings-python");
    let home = home(target);
    let (tools, venv, wheels) = (home.join("tools"), home.join("venv"), home.join("wheels"));
    let system = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    for environment in [&tools, &venv] {
        if !environment.join("bin").join("python").is_file() {
            run(Command::new(&system).args(["-m", "venv"]).arg(environment))?;
        }
    }
    let (tools, python) = (tools.join("bin").join("python"), interpreter(target));
    pip(&tools, &["-r", text(&folder.join("requirements-build.txt"))?])?;
    if wheels.exists() {
        std::fs::remove_dir_all(&wheels).with_context(|| format!("remove {}", wheels.display()))?;
    }
    for project in [&folder, &folder.join("server")] {
        let arguments = ["-m", "maturin", "build", "--locked", "--profile", "ci", "--compatibility", "linux"];
        let mut build = command(&tools, target);
        build.args(arguments).args(["--interpreter", text(&python)?, "--out", text(&wheels)?]);
        run(build.current_dir(project))?;
    }
    let built: Vec<PathBuf> =
        std::fs::read_dir(&wheels)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    let mut built = built.iter().map(|wheel| text(wheel)).collect::<anyhow::Result<Vec<_>>>()?;
    built.sort_unstable();
    ensure!(built.len() == 2, "two wheels were to be built, not {built:?}");
    // Without an index: the packages need nothing but themselves.
    pip(&python, &[&["--no-index", "--force-reinstall"][..], &built].concat())?;
    pip(&python, &["-r", text(&folder.join("requirements-test.txt"))?])?;
    Ok(python)
}

/// Runs the tests from outside the sources, so that what was installed is what they import.
fn pytest(python: &Path, folder: &Path, target: &Path) -> anyhow::Result<Counts> {
    let report = home(target).join("pytest.xml");
    let mut tests = command(python, target);
    tests.args(["-m", "pytest", "-q", "--timeout", "120", "--rootdir", text(folder)?]);
    tests.arg("-c").arg(folder.join("pyproject.toml")).arg(format!("--junit-xml={}", report.display()));
    tests.arg(folder.join("tests")).current_dir(home(target));
    let succeeded = tests.status().context("pytest")?.success();
    let report = std::fs::read_to_string(&report).context("pytest left no report")?;
    let (ran, wrong) = (attribute(&report, "tests")?, attribute(&report, "failures")? + attribute(&report, "errors")?);
    if !succeeded && wrong == 0 {
        bail!("pytest failed outside of a test");
    }
    Ok((ran - wrong - attribute(&report, "skipped")?, wrong))
}

/// A number of the report's first `testsuite`.
fn attribute(report: &str, name: &str) -> anyhow::Result<u64> {
    let marker = format!(" {name}=\"");
    let suite =
        report.find("<testsuite ").and_then(|at| report.get(at..)).context("no test suite in pytest's report")?;
    let value = suite.split_once(&marker).and_then(|(_, rest)| rest.split_once('"')).map(|(value, _)| value);
    value.and_then(|value| value.parse().ok()).with_context(|| format!("no {name} in pytest's report"))
}

fn pip(python: &Path, packages: &[&str]) -> anyhow::Result<()> {
    run(Command::new(python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages))
}

fn command(python: &Path, target: &Path) -> Command {
    let mut command = Command::new(python);
    command.env("CARGO_TARGET_DIR", target).env_remove("PYTHONPATH").env_remove("LEVADA_SERVER_BIN");
    command
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{:?} (is Python 3.11 or later installed?)", command.get_program()))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::attribute;

    #[test]
    fn counts_are_read_from_the_report() {
        let report = r#"<?xml version="1.0"?><testsuites name="t"><testsuite name="pytest" errors="0" failures="2" skipped="1" tests="85" time="3.4">"#;
        assert_eq!(attribute(report, "tests").ok(), Some(85));
        assert_eq!(attribute(report, "failures").ok(), Some(2));
        assert!(attribute(report, "flaky").is_err());
    }
}
