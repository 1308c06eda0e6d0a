//! A run from connection to report: open the topic, let the kind's part measure, delete the topic.

use crate::machine::Machine;
use crate::plan::{Kind, Plan, Progress};
use crate::report::{Recorder, Report, ServerUse};
use crate::server_process::{ServerProcess, Use};
use crate::topic::BenchTopic;
use crate::{consume, latency, produce};
use levada::{Client, ClientOptions, Compression};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Why there is no report.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The client failed.
    #[error(transparent)]
    Client(#[from] levada::Error),
    /// The plan cannot be carried out.
    #[error("{0}")]
    Plan(String),
    /// The caller asked to stop.
    #[error("stopped before the end")]
    Stopped,
    /// A task of the run ended in a panic.
    #[error("a task of the load generator failed")]
    Task,
}

/// What the tasks of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) topic: String,
    pub(crate) partition_count: u32,
    pub(crate) progress: Arc<Progress>,
    /// All tasks and the clock meet here twice: before warming up is over, and when the clock has started.
    pub(crate) start: Barrier,
}

/// What one task measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) recorder: Recorder,
    pub(crate) message_count: u64,
    pub(crate) payload_bytes: u64,
}

/// What all tasks measured together.
#[derive(Debug)]
pub(crate) struct Total {
    pub(crate) measured: Measured,
    pub(crate) elapsed: Duration,
    pub(crate) server: Option<ServerUse>,
}

/// Carries out a plan. A temporary topic is deleted also after a failure and when `stop` ends first.
///
/// # Errors
/// Those of the client; [`BenchError::Plan`] for a plan that makes no sense; [`BenchError::Stopped`].
pub async fn run(plan: Plan, progress: Arc<Progress>, stop: impl Future<Output = ()>) -> Result<Report, BenchError> {
    if plan.message_count == 0 && plan.kind != Kind::Consume {
        return Err(BenchError::Plan("there is nothing to measure: 0 messages".to_owned()));
    }
    let client = Client::connect(plan.client.clone()).await?;
    let admin = client.admin();
    let topic = BenchTopic::open(&admin, &plan).await?;
    let result = tokio::select! {
        biased;
        () = stop => Err(BenchError::Stopped),
        result = measure(&client, &topic, plan, progress) => result,
    };
    let closed = topic.close(&admin).await;
    let _ = client.close(CLOSE_TIMEOUT).await;
    let report = result?;
    closed?;
    Ok(report)
}

pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

async fn measure(
    client: &Client,
    topic: &BenchTopic,
    plan: Plan,
    progress: Arc<Progress>,
) -> Result<Report, BenchError> {
    let machine = Machine::here();
    let status = client.admin().status().await?;
    let process = find_server(&plan.client);
    let partition_count = topic.info.options.partition_count;
    let tasks = usize::try_from(plan.producer_count).unwrap_or(usize::MAX);
    let shared =
        Arc::new(Shared { start: Barrier::new(tasks + 1), topic: topic.name.clone(), partition_count, progress, plan });
    let total = match shared.plan.kind {
        Kind::Produce => produce::run(&shared, process.as_ref()).await?,
        Kind::Consume => consume::run(&shared, process.as_ref(), client, topic).await?,
        Kind::Latency => latency::run(&shared, process.as_ref()).await?,
    };
    Ok(report(&shared, topic, total, status, machine))
}

pub(crate) fn find_server(client: &ClientOptions) -> Option<ServerProcess> {
    let address = client.resolve_address().ok()?;
    ServerProcess::find(&address.host, address.port)
}

/// Starts one task per producer, lets all warm up, then measures from their common start to the last one's end.
pub(crate) async fn together<F>(
    shared: &Arc<Shared>,
    process: Option<&ServerProcess>,
    warm_up_messages: u64,
    messages: u64,
    task: impl Fn(Arc<Shared>, u32) -> F,
) -> Result<Total, BenchError>
where
    F: Future<Output = Result<Measured, BenchError>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    shared.progress.warm_up(warm_up_messages);
    for index in 0..shared.plan.producer_count {
        tasks.spawn(task(Arc::clone(shared), index));
    }
    // A task that fails before the start would leave the others waiting.
    tokio::select! {
        biased;
        _ = shared.start.wait() => {}
        Some(failed) = tasks.join_next() => {
            failed.map_err(|_| BenchError::Task)??;
            return Err(BenchError::Task);
        }
    }
    shared.progress.measure(messages);
    let before = process.and_then(ServerProcess::read);
    let started = Instant::now();
    shared.start.wait().await;
    let mut total = Measured { recorder: Recorder::new(), message_count: 0, payload_bytes: 0 };
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|_| BenchError::Task)??;
        total.recorder.merge(&done.recorder);
        total.message_count += done.message_count;
        total.payload_bytes += done.payload_bytes;
    }
    let elapsed = started.elapsed();
    let server = process.zip(before).and_then(|(process, before)| use_since(process, before, elapsed));
    Ok(Total { measured: total, elapsed, server })
}

pub(crate) fn use_since(process: &ServerProcess, before: Use, elapsed: Duration) -> Option<ServerUse> {
    let after = process.read()?;
    let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
    Some(ServerUse {
        cpu_seconds,
        cpu_percent: 100.0 * cpu_seconds / elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
        rss_bytes: after.rss_bytes,
        peak_rss_bytes: process.peak_rss_bytes(),
    })
}

fn report(shared: &Shared, topic: &BenchTopic, total: Total, status: levada::ServerStatus, machine: Machine) -> Report {
    let plan = &shared.plan;
    let Measured { recorder, message_count, payload_bytes } = total.measured;
    let seconds = total.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let produces = plan.kind != Kind::Consume || topic.is_temporary();
    Report {
        bench: plan.kind.name(),
        topic: topic.name.clone(),
        temporary_topic: topic.is_temporary(),
        partition_count: shared.partition_count,
        durability: topic.info.options.durability.max(plan.durability).name().to_owned(),
        compression: if produces { codec(plan.compression) } else { "as stored".to_owned() },
        producer_count: plan.producer_count,
        in_flight: if plan.kind == Kind::Produce { plan.in_flight } else { 1 },
        batch_messages: if plan.kind == Kind::Latency { 1 } else { plan.batch_messages },
        payload_bytes: payload_bytes.checked_div(message_count).unwrap_or(0),
        message_count,
        total_bytes: payload_bytes,
        seconds,
        megabytes_per_second: payload_bytes as f64 / 1e6 / seconds,
        messages_per_second: message_count as f64 / seconds,
        latency_of: match plan.kind {
            Kind::Produce => "batch",
            Kind::Consume => "receive",
            Kind::Latency => "message",
        },
        latency_us: recorder.latencies(),
        server: total.server,
        server_version: status.server_version,
        disk_backend: status.disk_backend,
        machine,
        seed: plan.seed,
    }
}

fn codec(compression: Compression) -> String {
    match compression {
        Compression::Topic => "as the topic says".to_owned(),
        Compression::None => "none".to_owned(),
        Compression::Lz4 => "lz4".to_owned(),
        Compression::Zstd(level) => format!("zstd level {level}"),
    }
}
