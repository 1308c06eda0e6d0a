//! `levada bench`: turns flags into a plan, shows how far it is, prints the report.

use super::produce::compression;
use super::topic::durability;
use crate::args::{BenchArgs, BenchCommand, GroupBenchArgs};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::screen::{Screen, Value};
use crate::session::Session;
use crate::units::{human_bytes, human_count};
use levada_bench::{BenchError, GroupPlan, GroupReport, Kind, Latencies, Machine, Plan, Progress, Report, ServerUse};
use std::sync::Arc;
use std::time::Duration;

const REDRAW: Duration = Duration::from_millis(125);

pub(crate) async fn run(session: &Session, command: BenchCommand) -> Result<(), Failure> {
    let plan = match command {
        BenchCommand::Produce(args) => plan(session, Kind::Produce, &args)?,
        BenchCommand::Consume(args) => plan(session, Kind::Consume, &args)?,
        BenchCommand::Latency(args) => plan(session, Kind::Latency, &args)?,
        BenchCommand::Group(args) => return group(session, &args).await,
    };
    let interrupt = Interrupt::listen()?;
    let progress = Arc::new(Progress::default());
    let drawing = tokio::spawn(draw(session.screen, Arc::clone(&progress)));
    let report = levada_bench::run(plan, progress, interrupt.asked()).await;
    drawing.abort();
    // Its end clears the bar; an abort is what it ends with.
    let _ = drawing.await;
    let report = report.map_err(failure)?;
    warn_of_debug(session, &report.machine);
    session.screen.show(&report, |screen| table(screen, &report))
}

async fn group(session: &Session, args: &GroupBenchArgs) -> Result<(), Failure> {
    let plan = GroupPlan {
        client: session.client_options()?,
        member_count: args.members,
        partition_count: args.partitions,
        round_count: args.rounds,
    };
    let interrupt = Interrupt::listen()?;
    let report = levada_bench::run_group(plan, interrupt.asked()).await.map_err(failure)?;
    warn_of_debug(session, &report.machine);
    session.screen.show(&report, |screen| group_table(screen, &report))
}

fn warn_of_debug(session: &Session, machine: &Machine) {
    if machine.debug_build {
        session.screen.note("This is a debug build: the figures say little. Build with --release.");
    }
}

fn failure(error: BenchError) -> Failure {
    match error {
        BenchError::Client(error) => error.into(),
        BenchError::Plan(text) => Failure::usage(text),
        error => Failure::failed(error.to_string()),
    }
}

fn plan(session: &Session, kind: Kind, args: &BenchArgs) -> Result<Plan, Failure> {
    let default_messages = if kind == Kind::Latency { 10_000 } else { 1_000_000 };
    let payload_bytes = usize::try_from(args.size.0).map_err(|_| Failure::usage("--size is too large"))?;
    Ok(Plan {
        kind,
        client: session.client_options()?,
        topic: args.topic.as_ref().map(ToString::to_string),
        partition_count: args.partitions,
        durability: durability(args.durability),
        message_count: args.messages.map_or(default_messages, |count| count.0),
        payload_bytes,
        batch_messages: args.batch_messages.0,
        producer_count: args.producers,
        in_flight: args.in_flight as usize,
        compression: compression(args.compression),
        warm_up_percent: args.warm_up,
        seed: args.seed,
    })
}

/// Draws until aborted. The bar clears itself when it is dropped.
async fn draw(screen: Screen, progress: Arc<Progress>) {
    let bar = Cleared(screen.progress_count(0));
    loop {
        let (done, total) = progress.messages();
        bar.0.set_prefix(progress.phase());
        bar.0.set_length(total);
        bar.0.set_position(done);
        tokio::time::sleep(REDRAW).await;
    }
}

struct Cleared(indicatif::ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn table(screen: &Screen, r: &Report) -> String {
    let one = |count: u32, noun: &str| if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") };
    let clients = one(r.producer_count, if r.bench == "consume" { "consumer" } else { "producer" });
    let latency = r.latency_us;
    let work = match r.bench {
        "consume" => format!("{clients}, {}", one(r.partition_count, "partition")),
        "latency" => format!("{clients}, one message at a time, {}", one(r.partition_count, "partition")),
        _ => format!(
            "{clients}, {} messages per batch, {} in flight, {}",
            human_count(r.batch_messages),
            r.in_flight,
            one(r.partition_count, "partition")
        ),
    };
    let server = server(r.server);
    let machine = machine(&r.machine, &r.server_version, &r.disk_backend);
    let head = screen.properties(vec![
        ("Bench", Value::text(format!("{}: {work}", r.bench))),
        (
            "Messages",
            Value::text(format!(
                "{} × {} B = {:.1} MB, durability {}, compression {}",
                human_count(r.message_count),
                human_count(r.payload_bytes),
                r.total_bytes as f64 / 1e6,
                r.durability,
                r.compression
            )),
        ),
        (
            "Throughput",
            Value::text(format!(
                "{:.1} MB/s, {} messages/s ({:.2} s)",
                r.megabytes_per_second,
                human_count(whole(r.messages_per_second)),
                r.seconds
            )),
        ),
        ("Server", Value::text(server)),
        ("Machine", Value::text(machine)),
    ]);
    let row = row(&format!("ms per {}", r.latency_of), latency);
    format!("{head}\n{}", screen.table(LATENCY_HEAD, vec![row]))
}

const LATENCY_HEAD: [&str; 7] = ["LATENCY", "P50", "P90", "P99", "P99.9", "MAX", "MEAN"];

fn row(title: &str, latency: Latencies) -> [Value; 7] {
    let ms = |us: f64| Value::figure(format!("{:.3}", us / 1000.0));
    let figures = [latency.p50, latency.p90, latency.p99, latency.p999, latency.max, latency.mean].map(ms);
    let [p50, p90, p99, p999, max, mean] = figures;
    [Value::text(title), p50, p90, p99, p999, max, mean]
}

fn group_table(screen: &Screen, r: &GroupReport) -> String {
    let work = format!("group: {} members, {} partitions, {} rounds", r.member_count, r.partition_count, r.round_count);
    let head = screen.properties(vec![
        ("Bench", Value::text(work)),
        ("Server", Value::text(server(r.server))),
        ("Machine", Value::text(machine(&r.machine, &r.server_version, &r.disk_backend))),
    ]);
    let rows = vec![
        row("ms from the last join to the last assignment", r.assigned_us),
        row("ms from the first join to the last assignment", r.round_us),
    ];
    format!("{head}\n{}", screen.table(LATENCY_HEAD, rows))
}

fn server(used: Option<ServerUse>) -> String {
    used.map_or("not on this machine, or not readable".to_owned(), |server| {
        let peak = server.peak_rss_bytes.map_or(String::new(), |peak| format!(", peak {}", human_bytes(peak)));
        let (cpu, percent) = (server.cpu_seconds, server.cpu_percent);
        format!("{cpu:.2} s CPU ({percent:.0} % of a core), RSS {}{peak}", human_bytes(server.rss_bytes))
    })
}

fn machine(machine: &Machine, server_version: &str, disk_backend: &str) -> String {
    format!(
        "{} × {}, {}, load before {}, levada {}, levada-server {server_version}, disk {disk_backend}",
        machine.cores,
        machine.cpu.as_deref().unwrap_or("unknown processor"),
        machine.kernel.as_deref().unwrap_or(&machine.system),
        machine.load_average.map_or("unknown".to_owned(), |load| format!("{load:.1}")),
        machine.client_version,
    )
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and far below 2^63")]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}
