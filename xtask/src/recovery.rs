//! `cargo xtask recovery`: how soon a server is ready after `kill -9`, with much on disk and a producer in the middle of its
//! work. The producer goes on through each kill; in the end every message it was told about is counted, and no other is there.

use std::io::{BufWriter, Read as _, Write as _};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::live::{Scratch, Server};
use crate::test::release_binaries;

const TOPIC: &str = "xtask/recovery";
const MESSAGE_BYTES: u64 = 4096;
/// Messages the load gets through before the server is killed.
const LOAD_MESSAGES: u64 = 20_000;

struct Shape {
    partitions: u64,
    mib: u64,
    kills: u64,
}

fn shape(options: &[&str]) -> anyhow::Result<Shape> {
    let mut shape = Shape { partitions: 1, mib: 1024, kills: 3 };
    for option in options.chunks(2) {
        let [name, value] = option else { bail!("{} needs a number", option.join(" ")) };
        let value = value.parse().with_context(|| format!("{name} {value}"))?;
        match *name {
            "--partitions" => shape.partitions = value,
            "--mib" => shape.mib = value,
            "--kills" => shape.kills = value,
            _ => bail!("unknown option {name}"),
        }
    }
    Ok(shape)
}

#[expect(clippy::print_stdout, reason = "the report of a command line tool")]
pub(crate) fn run(options: &[&str]) -> anyhow::Result<()> {
    let Shape { partitions, mib, kills } = shape(options)?;
    let binaries = release_binaries()?;
    // Not the system's temporary folder, which may be memory.
    let home = Scratch::new(binaries.parent().context("the target directory")?, "recovery")?;
    let mut server = Server::start(&binaries, &home.path, "127.0.0.1:0")?;
    server.ask(&["topic", "create", TOPIC, "--partitions", &partitions.to_string()])?;
    let filled = partitions * mib * (1 << 20) / MESSAGE_BYTES;
    println!("filling {partitions} partitions with {mib} MiB each");
    fill(&server, filled)?;

    let (mut sent, mut slowest) = (filled, Duration::ZERO);
    for kill in 1..=kills {
        let load = Load::start(&server)?;
        while message_count(&server)? < sent + LOAD_MESSAGES {}
        let address = server.address.clone();
        server.kill()?;
        server = Server::start(&binaries, &home.path, &address)?;
        slowest = slowest.max(server.ready_after);
        let found = message_count(&server)?;
        println!("kill {kill}: ready after {:.3} s, {found} messages", server.ready_after.as_secs_f64());
        sent += load.stop()?;
    }
    let found = message_count(&server)?;
    ensure!(found == sent, "{sent} messages were acknowledged, {found} are there");
    server.stop()?;
    println!("all {sent} acknowledged messages are there, once; slowest start {:.3} s", slowest.as_secs_f64());
    Ok(())
}

/// Batches of 1 MiB to the partitions in turn.
fn fill(server: &Server, messages: u64) -> anyhow::Result<()> {
    let (messages, size) = (messages.to_string(), MESSAGE_BYTES.to_string());
    let shape =
        ["--messages", &messages, "--size", &size, "--batch-messages", "256", "--in-flight", "16", "--warm-up", "0"];
    server.ask(&[&["bench", "produce", "--topic", TOPIC], &shape[..]].concat())?;
    Ok(())
}

/// Messages of the topic, all partitions together.
fn message_count(server: &Server) -> anyhow::Result<u64> {
    let described = server.ask(&["--output", "json", "topic", "describe", TOPIC])?;
    let described: serde_json::Value = serde_json::from_str(&described)?;
    let partitions = described["partitions"].as_array().context("a list of partitions")?;
    let mut total = 0;
    for partition in partitions {
        ensure!(partition["state"] == "writable", "{partition}");
        total += partition["message_count"].as_u64().context("a count of messages")?;
    }
    Ok(total)
}

/// `levada produce`, fed with lines until told to stop.
struct Load {
    producer: Child,
    feeder: JoinHandle<std::io::Result<()>>,
    stop: Arc<AtomicBool>,
    fed: Arc<AtomicU64>,
}

impl Load {
    #[expect(clippy::disallowed_methods, reason = "a program's pipe is fed beside everything else")]
    fn start(server: &Server) -> anyhow::Result<Load> {
        let mut command = server.levada(&["produce", TOPIC, "--batch-bytes", "64KiB"]);
        let mut producer = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().context("levada produce")?;
        let mut input = BufWriter::new(producer.stdin.take().expect("standard input was piped"));
        let (stop, fed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let feeder = std::thread::spawn({
            let (stop, fed) = (Arc::clone(&stop), Arc::clone(&fed));
            move || {
                let padding = "x".repeat(900);
                while !stop.load(Ordering::Relaxed) {
                    writeln!(input, "{padding}")?;
                    fed.fetch_add(1, Ordering::Relaxed);
                }
                input.flush()
            }
        });
        Ok(Load { producer, feeder, stop, fed })
    }

    /// Lets it end; how many messages it sent, each of them acknowledged.
    fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let fed = self.feeder.join();
        let mut said = String::new();
        self.producer.stderr.take().expect("standard error was piped").read_to_string(&mut said)?;
        ensure!(self.producer.wait()?.success(), "levada produce failed: {said}");
        ensure!(matches!(fed, Ok(Ok(()))), "levada produce took no more input: {said}");
        Ok(self.fed.load(Ordering::Relaxed))
    }
}
