//! `cargo xtask conformance`: builds the suite and every client whose tools are here, runs the matrix, merges the reports. The suite
//! itself says which clients there are and how each is built (`conformance/clients`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;

use crate::live::now;
use crate::test::{cargo, minutes_since, target};
use crate::{codegen, tree};

/// How closely clients are looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// By the cases.
    Cases,
    /// Those in C and C++ with sanitizers, and in the cases tagged `memcheck` under valgrind too.
    Memory,
    /// So, and by a short soak.
    Soak,
}

/// A line of `levada-conformance list --clients`.
#[derive(Deserialize)]
struct Client {
    name: String,
    build: Vec<String>,
    tools: Vec<String>,
}

/// Runs the matrix; `options` are `--client NAME`, `--memory`, and what the suite's own `run` takes.
pub(crate) fn run(options: &[&str]) -> anyhow::Result<()> {
    let (mut wanted, mut rest, mut depth) = (Vec::new(), Vec::new(), Depth::Cases);
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match *word {
            "--client" => wanted.push((*words.next().context("--client needs a name")?).to_owned()),
            "--memory" => depth = Depth::Memory,
            other => rest.push(other),
        }
    }
    let (_, failed) = matrix(&ready(&wanted, depth)?, &rest, depth)?;
    ensure!(failed == 0, "{failed} failed");
    Ok(())
}

/// Clients that run beside each other: a case waits more than it computes. Each has a server and a folder of its own.
const AT_ONCE: usize = 3;
/// What deadlines are multiplied by, because of that.
const DEADLINE_SCALE: &str = "3";
/// The same for what the suite proves itself by, most of which waits until its deadline.
const SELFTEST_SCALE: &str = "2";

/// Clients whose adapters are built by `conformance/adapters/build.sh`, which can build them with sanitizers.
const COMPILED: &[&str] = &["c", "cpp"];
/// What deadlines are multiplied by with sanitizers, and under valgrind.
const SANITIZED_SCALE: &str = "5";
const VALGRIND_SCALE: &str = "20";
/// Ends with an error of its own for what it finds, at the latest when the adapter ends.
const VALGRIND: &str = "valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite";

/// Connections and messages of a soak in `cargo xtask test`; by itself it does ten times as much, and more.
const SHORT_SOAK: &[&str] = &["--connects", "1000", "--messages", "100000"];
const LONG_SOAK: &[&str] = &["--connects", "10000", "--messages", "5000000"];

/// Kills of the server, under the load of clients of two languages: in `cargo xtask test`, and by itself.
const SHORT_CRASH: &[&str] = &["--client", "python", "--client", "node", "--cycles", "10"];
const LONG_CRASH: &[&str] = &["--cycles", "200"];
const CRASHED: &[&str] = &["python", "node"];

/// Soaks clients whose tools are here; `options` are `--client NAME`, and amounts of one's own.
pub(crate) fn soak(options: &[&str]) -> anyhow::Result<()> {
    let mut arguments = options.to_vec();
    if !options.contains(&"--connects") && !options.contains(&"--messages") {
        arguments.extend(LONG_SOAK);
    }
    ensure!(by_hand("soak", arguments, &[])?, "something is left behind");
    Ok(())
}

/// Kills the server under the load of clients, two languages unless `options` name others.
pub(crate) fn crash(options: &[&str]) -> anyhow::Result<()> {
    let mut arguments = options.to_vec();
    if !options.contains(&"--cycles") {
        arguments.extend(LONG_CRASH);
    }
    ensure!(by_hand("crash", arguments, CRASHED)?, "not every message is accounted for");
    Ok(())
}

/// Builds the clients that `arguments` name, or `otherwise`, or all there are, and gives them to a command of the suite.
fn by_hand(command: &str, arguments: Vec<&str>, otherwise: &[&str]) -> anyhow::Result<bool> {
    let suite = suite()?;
    let known = clients(&suite)?;
    let named: Vec<&str> = arguments.windows(2).filter(|pair| pair[0] == "--client").map(|pair| pair[1]).collect();
    let wanted = if named.is_empty() { otherwise.to_vec() } else { named.clone() };
    let mut run = Command::new(&suite);
    run.arg(command).args(&arguments).current_dir(tree::root());
    let mut built = Vec::new();
    for client in known.iter().filter(|client| wanted.is_empty() || wanted.contains(&client.name.as_str())) {
        build(client, Depth::Cases, &mut built)?;
        if named.is_empty() {
            run.args(["--client", &client.name]);
        }
    }
    Ok(run.status()?.success())
}

/// The phase of `cargo xtask test`: the suite proves itself, by clients too that must be built for that, then every client.
/// What the README keeps of such a run must be what it came to.
#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
pub(crate) fn check() -> anyhow::Result<(u64, u64)> {
    let ready = ready(&[], Depth::Soak)?;
    let mut selftest = Command::new(&ready.suite);
    selftest.args(["selftest", "--deadline-scale", SELFTEST_SCALE]).current_dir(tree::root());
    let proven = selftest.status().context("selftest")?.success();
    let mut by_itself = vec![proven];
    let is_built = |name: &&str| ready.clients.iter().any(|(client, built)| client.name == **name && built.is_ok());
    if CRASHED.iter().all(is_built) {
        let mut crash = Command::new(&ready.suite);
        by_itself.push(crash.arg("crash").args(SHORT_CRASH).current_dir(tree::root()).status()?.success());
    }
    let (passed, failed) = matrix(&ready, &[], Depth::Soak)?;
    let right = by_itself.iter().filter(|succeeded| **succeeded).count();
    let mut wrong = failed + (by_itself.len() - right) as u64;
    // A run with failures is nothing to keep.
    if failed == 0 {
        let report = target().join("conformance/report.json");
        if let Err(stale) = codegen::keep_results(&tree::root(), &report, true) {
            println!("conformance: {stale:#}");
            wrong += 1;
        }
    }
    Ok((passed + right as u64, wrong))
}

/// The suite, and the clients that can be run.
struct Ready {
    suite: PathBuf,
    /// Each with why it does not build, if so.
    clients: Vec<(Client, anyhow::Result<()>)>,
}

/// Builds the suite and the clients wanted, all if none are named; those whose tools are not here are left out.
#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
fn ready(wanted: &[String], depth: Depth) -> anyhow::Result<Ready> {
    let suite = suite()?;
    let known = clients(&suite)?;
    if let Some(unknown) = wanted.iter().find(|name| !known.iter().any(|client| client.name == **name)) {
        let names: Vec<&str> = known.iter().map(|client| client.name.as_str()).collect();
        bail!("there is no client {unknown}; there are: {}", names.join(", "));
    }
    let mut built = Vec::new();
    let mut clients = Vec::new();
    for client in known.into_iter().filter(|client| wanted.is_empty() || wanted.contains(&client.name)) {
        let missing: Vec<&str> = client.tools.iter().map(String::as_str).filter(|tool| !is_here(tool)).collect();
        if missing.is_empty() {
            let outcome = build(&client, depth, &mut built);
            clients.push((client, outcome));
        } else {
            println!("{}: skipped, it needs {}", client.name, missing.join(", "));
        }
    }
    Ok(Ready { suite, clients })
}

/// Builds the suite and the Rust adapter, and tells where the suite is.
fn suite() -> anyhow::Result<PathBuf> {
    let built =
        cargo(&["build", "--profile", "ci", "--locked", "-p", "levada-conformance", "-p", "levada-conformance-rust"])
            .status()
            .context("cargo build")?;
    ensure!(built.success(), "the suite does not build");
    Ok(target().join("ci/levada-conformance"))
}

fn clients(suite: &Path) -> anyhow::Result<Vec<Client>> {
    let output = Command::new(suite).args(["list", "--clients"]).current_dir(tree::root()).output()?;
    ensure!(output.status.success(), "levada-conformance list --clients: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
fn matrix(ready: &Ready, rest: &[&str], depth: Depth) -> anyhow::Result<(u64, u64)> {
    let suite = &ready.suite;
    let out = target().join("conformance");
    let mut results = Vec::new();
    let next = Mutex::new(ready.clients.iter());
    std::thread::scope(|scope| {
        let play = || {
            let mut done = Vec::new();
            loop {
                let turn = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((client, built)) = turn else { return done };
                let started = now();
                let folder = out.join(&client.name);
                let counted = match built {
                    Ok(()) => whole(suite, client, rest, depth, &folder),
                    Err(error) => Err(anyhow!("{error:#}")),
                };
                done.push((client, counted, minutes_since(started)));
            }
        };
        let players: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(play)).collect();
        for player in players {
            results.extend(player.join().expect("a player reports what fails and does not panic"));
        }
    });
    let (mut passed, mut failed) = (0, 0);
    let (mut reports, mut rows) = (Vec::new(), Vec::new());
    results.sort_by_key(|(client, ..)| ready.clients.iter().position(|(other, _)| other.name == client.name));
    for (client, counted, minutes) in results {
        let (ok, bad) = counted.unwrap_or_else(|error| {
            println!("{}: {error:#}", client.name);
            (0, 1)
        });
        let report = out.join(&client.name).join("report.json");
        if report.exists() {
            reports.push(report);
        }
        rows.push(format!("{:<16} {ok:>4} passed  {bad:>3} failed  {minutes:>5.1} min", client.name));
        passed += ok;
        failed += bad;
    }
    if !reports.is_empty() {
        let merged = Command::new(suite).arg("merge").args(&reports).arg("--out").arg(&out).status()?;
        ensure!(merged.success(), "the reports do not merge");
    }
    println!(
        "\n{}\n\n{passed} passed, {failed} failed; the matrix is {}",
        rows.join("\n"),
        out.join("matrix.md").display()
    );
    Ok((passed, failed))
}

/// The cases of one client, then what else is looked at.
#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
fn whole(suite: &Path, client: &Client, rest: &[&str], depth: Depth, folder: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut passed, mut failed) = (0, 0);
    let mut add = |(ok, bad): (u64, u64)| (passed, failed) = (passed + ok, failed + bad);
    if is_sanitized(client, depth) {
        let adapter = |kind: &str| format!("./conformance/adapters/{}/{kind}/adapter", client.name);
        add(one(suite, client, &[rest, &["--command", &adapter("sanitized")]].concat(), SANITIZED_SCALE, folder)?);
        if is_here("valgrind") {
            let command = format!("{VALGRIND} {}", adapter("build"));
            let chosen: &[&str] = if rest.contains(&"--run") { &[] } else { &["--run", "tag:memcheck"] };
            let options = [rest, chosen, &["--command", &command]].concat();
            add(one(suite, client, &options, VALGRIND_SCALE, &folder.join("valgrind"))?);
        } else {
            println!("{}: not under valgrind, which is not here", client.name);
        }
    } else {
        add(one(suite, client, rest, DEADLINE_SCALE, folder)?);
    }
    if depth == Depth::Soak {
        let mut soaked = Command::new(suite);
        soaked.args(["soak", "--client", &client.name]).args(SHORT_SOAK).current_dir(tree::root());
        let is_flat = soaked.status()?.success();
        add((u64::from(is_flat), u64::from(!is_flat)));
    }
    Ok((passed, failed))
}

fn is_sanitized(client: &Client, depth: Depth) -> bool {
    Depth::Memory <= depth && COMPILED.contains(&client.name.as_str())
}

/// Whether a program is on the path.
fn is_here(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

/// Builds a client, unless another of the same build did: a language may have several.
fn build(client: &Client, depth: Depth, built: &mut Vec<Vec<String>>) -> anyhow::Result<()> {
    if client.build.is_empty() || built.contains(&client.build) {
        return Ok(());
    }
    build_with(&client.build, &[])?;
    if is_sanitized(client, depth) {
        build_with(&client.build, &["sanitized"])?;
    }
    built.push(client.build.clone());
    Ok(())
}

fn build_with(command: &[String], more: &[&str]) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("a client says no command that builds it")?;
    let mut command = Command::new(program);
    command.args(arguments).args(more).current_dir(tree::root()).env("CARGO_TARGET_DIR", target());
    let status = command.status().with_context(|| program.clone())?;
    ensure!(status.success(), "it does not build: {command:?}");
    Ok(())
}

/// Runs one client and counts what its report says; deadlines are multiplied by `scale` unless the options say otherwise.
fn one(suite: &Path, client: &Client, options: &[&str], scale: &str, folder: &Path) -> anyhow::Result<(u64, u64)> {
    // A report of an earlier run says nothing about this one.
    let _ = std::fs::remove_dir_all(folder);
    let mut command = Command::new(suite);
    command.args(["run", "--quiet", "--client", &client.name]).args(options).arg("--out").arg(folder);
    if !options.contains(&"--deadline-scale") {
        command.args(["--deadline-scale", scale]);
    }
    let status = command.current_dir(tree::root()).status()?;
    let path = folder.join("report.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("no report: the run ends with {status}"))?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    let runs = report["runs"].as_array().cloned().unwrap_or_default();
    let outcomes: Vec<String> = runs
        .iter()
        .flat_map(|run| run["cases"].as_array().cloned().unwrap_or_default())
        .filter_map(|case| case["outcome"].as_str().map(str::to_owned))
        .collect();
    let count = |names: &[&str]| outcomes.iter().filter(|outcome| names.contains(&outcome.as_str())).count() as u64;
    let passed = count(&["pass", "non-strict", "xfail"]);
    let failed = outcomes.len() as u64 - passed - count(&["n/a"]);
    ensure!(status.success() || failed != 0, "the run ends with {status}");
    Ok((passed, failed))
}
