//! Members join one group all at once, and give back at once what is asked of them. What is measured is how long it takes from the
//! last one's having joined until every partition is with the member that is to have it.

use crate::machine::Machine;
use crate::report::{Latencies, Recorder, ServerUse};
use crate::run::{BenchError, CLOSE_TIMEOUT, find_server, use_since};
use crate::server_process::ServerProcess;
use levada::{
    Client, ClientOptions, Clock, Consumer, DeleteTopics, Durability, GroupConsumerOptions, SystemClock, topic_options,
};
use serde::Serialize;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Clients that connect at the same time: how fast a server takes connections is not what is measured.
const CONNECTING: usize = 32;
/// A round that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A run with a group.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// How to connect; every member has its own connection.
    pub client: ClientOptions,
    /// Members of the group.
    pub member_count: u32,
    /// Partitions of the temporary topic.
    pub partition_count: u32,
    /// How often all of them join and leave.
    pub round_count: u32,
}

/// Result of a run with a group. The field names are what scripts read from `levada bench group --output json`.
#[derive(Clone, Debug, Serialize)]
pub struct GroupReport {
    /// `group`.
    pub bench: &'static str,
    /// Members of the group.
    pub member_count: u32,
    /// Partitions they share.
    pub partition_count: u32,
    /// Rounds measured.
    pub round_count: u32,
    /// From the last member's having joined to the last assignment, one for each round.
    pub assigned_us: Latencies,
    /// From the first member's asking to join to the last assignment.
    pub round_us: Latencies,
    /// The server's use of this machine, all rounds together with what lies between them.
    pub server: Option<ServerUse>,
    /// Version the server announced.
    pub server_version: String,
    /// The server's disk backend.
    pub disk_backend: String,
    /// Where the clients ran.
    pub machine: Machine,
}

/// Carries out a plan. The temporary topic is deleted also after a failure and when `stop` ends first.
///
/// # Errors
/// Those of the client; [`BenchError::Plan`] for a plan that makes no sense; [`BenchError::Stopped`].
pub async fn run_group(plan: GroupPlan, stop: impl Future<Output = ()>) -> Result<GroupReport, BenchError> {
    if plan.partition_count < plan.member_count {
        let (members, partitions) = (plan.member_count, plan.partition_count);
        let text = format!("of {members} members some would get none of {partitions} partitions");
        return Err(BenchError::Plan(format!("{text}: use --partitions {members}")));
    }
    let client = Client::connect(plan.client.clone()).await?;
    let stream = format!("levada-bench-{:x}-{:x}", SystemClock.now_us(), std::process::id());
    let mut options = topic_options(plan.partition_count);
    options.durability = Durability::Disk;
    client.admin().create_topic(&format!("{stream}/group"), options).await?;
    let result = tokio::select! {
        biased;
        () = stop => Err(BenchError::Stopped),
        result = measure(&client, &stream, &plan) => result,
    };
    let deleted = client.admin().delete_stream(&stream, DeleteTopics::Too).await;
    // What was measured is worth more than a close in time.
    let _ = client.close(CLOSE_TIMEOUT).await;
    let report = result?;
    deleted?;
    Ok(report)
}

async fn measure(client: &Client, stream: &str, plan: &GroupPlan) -> Result<GroupReport, BenchError> {
    let machine = Machine::here();
    let status = client.admin().status().await?;
    let clients = connect(plan).await?;
    let process = find_server(&plan.client);
    let before = process.as_ref().and_then(ServerProcess::read);
    let started = Instant::now();
    let (mut assigned, mut rounds) = (Recorder::new(), Recorder::new());
    for number in 0..plan.round_count {
        let group = format!("{stream}-{number}");
        let (assigning, round) = tokio::time::timeout(PATIENCE, round(&clients, stream, &group, plan.partition_count))
            .await
            .map_err(|_| BenchError::Plan(format!("the members did not get their partitions in {PATIENCE:?}")))??;
        assigned.record(assigning);
        rounds.record(round);
        // A group without members that stored nothing is gone by now.
        let _ = client.admin().delete_group(&group).await;
    }
    let server = process.zip(before).and_then(|(process, before)| use_since(&process, before, started.elapsed()));
    for client in clients {
        tokio::spawn(async move { client.close(CLOSE_TIMEOUT).await });
    }
    Ok(GroupReport {
        bench: "group",
        member_count: plan.member_count,
        partition_count: plan.partition_count,
        round_count: plan.round_count,
        assigned_us: assigned.latencies(),
        round_us: rounds.latencies(),
        server,
        server_version: status.server_version,
        disk_backend: status.disk_backend,
        machine,
    })
}

async fn connect(plan: &GroupPlan) -> Result<Vec<Client>, BenchError> {
    let (mut connecting, permits) = (JoinSet::new(), Arc::new(Semaphore::new(CONNECTING)));
    for _ in 0..plan.member_count {
        let (options, permits) = (plan.client.clone(), Arc::clone(&permits));
        connecting.spawn(async move {
            let _permit = permits.acquire().await;
            Client::connect(options).await
        });
    }
    let mut clients = Vec::new();
    while let Some(connected) = connecting.join_next().await {
        clients.push(connected.map_err(|_| BenchError::Task)??);
    }
    Ok(clients)
}

/// What the members of a round know together.
struct Shares {
    held: Vec<usize>,
    joined: usize,
    last_joined: Instant,
}

/// All join, share the partitions, and leave: the time from the last join, and from the first.
async fn round(
    clients: &[Client],
    stream: &str,
    group: &str,
    partition_count: u32,
) -> Result<(Duration, Duration), BenchError> {
    let started = Instant::now();
    let shares = Shares { held: vec![0; clients.len()], joined: 0, last_joined: started };
    let (shares, (settled, is_settled)) = (Arc::new(Mutex::new(shares)), watch::channel(None));
    let settled = Arc::new(settled);
    let mut members = JoinSet::new();
    for (number, client) in clients.iter().cloned().enumerate() {
        let options = GroupConsumerOptions::new(group, [format!("{stream}/*")]);
        let (shares, settled, mut over) = (Arc::clone(&shares), Arc::clone(&settled), is_settled.clone());
        members.spawn(async move {
            let consumer = client.group_consumer(options).await?;
            {
                let mut shares = lock(&shares);
                shares.joined += 1;
                shares.last_joined = Instant::now();
            }
            tokio::select! {
                biased;
                // The sender outlives every member.
                _ = over.wait_for(Option::is_some) => {}
                outcome = follow(&consumer, number, &shares, partition_count, &settled) => outcome?,
            }
            consumer.close(CLOSE_TIMEOUT).await?;
            Ok::<_, BenchError>(())
        });
    }
    while let Some(ended) = members.join_next().await {
        ended.map_err(|_| BenchError::Task)??;
    }
    let settled_at = is_settled.borrow().ok_or(BenchError::Task)?;
    let last_joined = lock(&shares).last_joined;
    Ok((settled_at - last_joined, settled_at - started))
}

/// Notes what a member holds, until all is shared out.
async fn follow(
    consumer: &Consumer,
    number: usize,
    shares: &Mutex<Shares>,
    partition_count: u32,
    settled: &watch::Sender<Option<Instant>>,
) -> Result<(), BenchError> {
    loop {
        {
            let mut shares = lock(shares);
            shares.held[number] = consumer.assignments().len();
            let is_fair = |held: &usize| held.abs_diff(partition_count as usize / shares.held.len()) <= 1;
            if shares.joined == shares.held.len()
                && shares.held.iter().sum::<usize>() == partition_count as usize
                && shares.held.iter().all(is_fair)
            {
                settled.send_replace(Some(Instant::now()));
                return Ok(());
            }
        }
        consumer.next_change(None).await?;
    }
}

fn lock(shares: &Mutex<Shares>) -> MutexGuard<'_, Shares> {
    shares.lock().unwrap_or_else(PoisonError::into_inner)
}
