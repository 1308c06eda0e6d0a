//! `cargo xtask overhead`: what each binding costs beside the Rust client, in one run: the same phases by every language's own
//! benchmark, in turns against one server, and the medians for the table of the README (`codegen/overhead.rs`).

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::codegen::overhead::{Client, Overhead};
use crate::live::{Scratch, Server};
use crate::test::{cargo, target};
use crate::{codegen, node, python, tree};

/// Turns of each client; the median of them counts.
const ROUNDS: usize = 5;
/// Messages of a phase.
const MESSAGES: &str = "200000";

/// The line that every benchmark prints.
#[derive(Deserialize)]
struct Line {
    send_batch: Rate,
    enqueue: Rate,
    send_one: Shares,
    receive_batch: Rate,
}

#[derive(Deserialize)]
struct Rate {
    messages_per_s: f64,
}

#[derive(Deserialize)]
struct Shares {
    p50_us: f64,
    p99_us: f64,
}

/// A client and the command of its benchmark.
struct Contestant {
    name: &'static str,
    command: Vec<String>,
}

/// Builds all clients, measures them and writes the table.
///
/// # Errors
/// One does not build or fails; the tools of every language must be here.
#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
pub(crate) fn run() -> anyhow::Result<()> {
    let scratch = Scratch::new(&target(), "overhead")?;
    let contestants = build(&scratch.path)?;
    let server = Server::start(&target().join("ci"), &scratch.path, "127.0.0.1:0")?;
    server.ask(&["stream", "create", "overhead"])?;
    let mut lines: Vec<Vec<Line>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for (contestant, lines) in contestants.iter().zip(&mut lines) {
            let topic = format!("overhead/{}-{round}", contestant.name);
            server.ask(&["topic", "create", &topic, "--durability", "memory"])?;
            let line = measure(&server, contestant, &topic)?;
            println!(
                "{:<16} send_batch {:>9.0}/s  enqueue {:>9.0}/s  receive_batch {:>9.0}/s  one at a time p50 {:>6.1} us",
                contestant.name,
                line.send_batch.messages_per_s,
                line.enqueue.messages_per_s,
                line.receive_batch.messages_per_s,
                line.send_one.p50_us
            );
            lines.push(line);
            server.ask(&["topic", "delete", &topic])?;
        }
    }
    server.stop()?;
    let clients = contestants.iter().zip(&lines).map(|(contestant, lines)| medians(contestant.name, lines)).collect();
    codegen::keep_overhead(&tree::root(), &Overhead { clients })
}

fn measure(server: &Server, contestant: &Contestant, topic: &str) -> anyhow::Result<Line> {
    let (program, arguments) = contestant.command.split_first().expect("a command has a program");
    let mut command = server.command(program);
    command.args(arguments.iter().map(|argument| argument.replace("{topic}", topic).replace("{messages}", MESSAGES)));
    let output = command.output().with_context(|| program.clone())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{}: {} {said}{}",
        contestant.name,
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    // Maven may colour what goes before.
    let line = said.lines().rev().find_map(|line| line.find('{').map(|at| &line[at..])).unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("{} says {said:?}", contestant.name))
}

fn medians(name: &str, lines: &[Line]) -> Client {
    let median = |of: fn(&Line) -> f64| {
        let mut values: Vec<f64> = lines.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default().round()
    };
    Client {
        name: name.to_owned(),
        send_batch_per_s: median(|line| line.send_batch.messages_per_s),
        enqueue_per_s: median(|line| line.enqueue.messages_per_s),
        receive_batch_per_s: median(|line| line.receive_batch.messages_per_s),
        send_one_p50_us: median(|line| line.send_one.p50_us),
        send_one_p99_us: median(|line| line.send_one.p99_us),
    }
}

// ---------------------------------------------------------------- building

fn build(scratch: &Path) -> anyhow::Result<Vec<Contestant>> {
    let packages = ["-p", "levada-server", "-p", "levada-cli", "-p", "levada", "-p", "levada-c", "--bins", "--lib"];
    for what in [&packages[..], &["-p", "levada", "--example", "baseline"]] {
        let built = cargo(&[&["build", "--profile", "ci", "--locked"], what].concat()).status()?;
        ensure!(built.success(), "the ci build fails");
    }
    let (c, prefix) = (text(&scratch.join("bench")), text(&scratch.join("prefix")));
    checked(Command::new("bindings-c/install.sh").arg(&prefix).env("LEVADA_LIB_DIR", target().join("ci")))?;
    let (include, library) = (format!("-I{prefix}/include"), format!("-L{prefix}/lib"));
    let rpath = format!("-Wl,-rpath,{prefix}/lib");
    checked(
        Command::new("cc")
            .args(["-O2", &include, "bindings-c/examples/bench.c", "-o", &c])
            .args([&library, "-llevada", &rpath]),
    )?;
    node::build()?;
    let interpreter = text(&python::build(&target())?);
    checked(Command::new("mvn").args([
        "--batch-mode",
        "--quiet",
        "--file",
        "bindings-kotlin/pom.xml",
        "test-compile",
    ]))?;
    let in_tree = |path: &str| text(&tree::root().join(path));
    let bench = in_tree("bindings-python/bench/bench.py");
    let python = |api| {
        let arguments = ["--api", api, "--topic", "{topic}", "--messages", "{messages}"];
        [interpreter.as_str(), &bench].iter().copied().chain(arguments).map(str::to_owned).collect::<Vec<_>>()
    };
    Ok(vec![
        contestant("rust", &[&text(&target().join("ci/examples/baseline")), "{topic}", "{messages}"]),
        contestant("c", &[&c, "{topic}", "{messages}"]),
        Contestant { name: "python", command: python("sync") },
        Contestant { name: "python-asyncio", command: python("async") },
        contestant(
            "node",
            &["node", &in_tree("bindings-node/bench/bench.mjs"), "--topic", "{topic}", "--messages", "{messages}"],
        ),
        contestant(
            "kotlin",
            &[
                "mvn",
                "--batch-mode",
                "--quiet",
                "--file",
                &in_tree("bindings-kotlin/pom.xml"),
                "exec:java@bench",
                "-Dexec.args={topic} {messages}",
            ],
        ),
    ])
}

fn contestant(name: &'static str, command: &[&str]) -> Contestant {
    Contestant { name, command: command.iter().map(|word| (*word).to_owned()).collect() }
}

fn checked(command: &mut Command) -> anyhow::Result<()> {
    let status = command.current_dir(tree::root()).status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
