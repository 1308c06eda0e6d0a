//! What a server costs that has much and does nothing: many topics, and many groups with a member each. By default a few of
//! both, to see that all of it works; `LEVADA_IDLE=1` makes 10,000 topics and 1,000 groups and holds the server (best
//! `LEVADA_SERVER_BIN`, built for release) to what is promised: 300 MiB, 10 s to be ready after kill -9, 1 % of a core.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails where it stands, and prints what it measured"
)]

mod child;

use std::path::Path;
use std::time::Duration;

use levada::{Client, Consumer, GroupConsumerOptions, PartitionOffset, Position, topic_options};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::child::{Server, connect};

const MAX_RSS_KIB: u64 = 300 << 10;
const MAX_START: Duration = Duration::from_secs(10);
const MAX_CPU_PERCENT: f64 = 1.0;
/// How long nothing is done, to see what that costs.
const WATCH: Duration = Duration::from_secs(20);
/// Clock ticks a second, as /proc counts: the same on every Linux.
const TICKS: f64 = 100.0;
/// Members of one client.
const MEMBERS: usize = 50;

/// The server of this build, or `LEVADA_SERVER_BIN`.
fn start(directory: &Path, listen: &str) -> Server {
    let binary = std::env::var("LEVADA_SERVER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_levada-server").into());
    Server::start_as(&[&binary], directory, &["--listen", listen])
}

fn rss_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processor time of all threads so far, in seconds.
fn cpu_seconds(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(2).map(|word| word.parse().unwrap()).collect();
    ticks.iter().sum::<f64>() / TICKS
}

async fn make_topics(client: &Client, count: usize) {
    let mut making = JoinSet::new();
    for number in 0..count {
        if 64 <= making.len() {
            making.join_next().await.unwrap().unwrap();
        }
        let admin = client.admin();
        making.spawn(async move {
            admin.create_topic(&format!("idle/t{number}"), topic_options(1)).await.unwrap();
        });
    }
    making.join_all().await;
}

async fn make_groups(directory: &Path, address: &str, count: usize) -> Vec<(Client, Vec<Consumer>)> {
    let mut all = Vec::new();
    for first in (0..count).step_by(MEMBERS) {
        let client = connect(directory, address).await;
        let mut members = Vec::new();
        for number in first..count.min(first + MEMBERS) {
            let topic = format!("idle/t{number}");
            let options = GroupConsumerOptions::new(format!("group-{number}"), [&topic]).from(Position::EARLIEST);
            let member = client.group_consumer(options).await.unwrap();
            member.commit_offsets(&[PartitionOffset { topic, partition: 0, offset: 0 }]).await.unwrap();
            members.push(member);
        }
        all.push((client, members));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_that_does_nothing_costs_little() {
    let is_full = std::env::var_os("LEVADA_IDLE").is_some();
    let (topics, groups) = if is_full { (10_000, 1_000) } else { (100, 60) };
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), "127.0.0.1:0");
    let address = server.address.clone();
    let client = connect(directory.path(), &address).await;
    make_topics(&client, topics).await;
    let members = make_groups(directory.path(), &address, groups).await;
    let first_rss_kib = rss_kib(&server);
    server.kill();
    server = start(directory.path(), &address);
    // Everybody comes back, and every group has its member and what it had stored.
    for (number, member) in members.iter().flat_map(|(_, members)| members).enumerate() {
        let topic = format!("idle/t{number}");
        assert_eq!(member.committed(&topic, 0).await.unwrap(), Some(0));
    }
    let known = client.admin().list_groups().await.unwrap();
    assert!(known.len() == groups && known.iter().all(|group| group.member_count == 1), "{} groups", known.len());
    let (before, started) = (cpu_seconds(&server), Instant::now());
    if is_full {
        tokio::time::sleep(WATCH).await;
    }
    let cpu_percent = 100.0 * (cpu_seconds(&server) - before) / started.elapsed().as_secs_f64();
    let (rss_kib, ready) = (first_rss_kib.max(rss_kib(&server)), server.ready_after);
    println!("{topics} topics, {groups} groups: {} MiB, ready after {ready:?}", rss_kib >> 10);
    if is_full {
        println!("doing nothing: {cpu_percent:.2} % of a core");
        assert!(rss_kib < MAX_RSS_KIB && ready < MAX_START && cpu_percent < MAX_CPU_PERCENT);
    }
}
