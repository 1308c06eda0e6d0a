//! What a server costs that has much and does nothing: many topics, and many groups with a member each. By default a few of
//! both, to see that all of it works; `LEVADA_IDLE=1` makes 10,000 topics and 1,000 groups and holds the server (best
//! `LEVADA_SERVER_BIN`, built for release) to what is promised: 300 MiB, 10 s to be ready after kill -9, 1 % of a core.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails where it stands, and prints what it measured"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use levada::{
    Client, ClientOptions, Consumer, Credentials, GroupConsumerOptions, PartitionOffset, Position, topic_options,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

const MAX_RSS_KIB: u64 = 300 << 10;
const MAX_START: Duration = Duration::from_secs(10);
const MAX_CPU_PERCENT: f64 = 1.0;
/// How long nothing is done, to see what that costs.
const WATCH: Duration = Duration::from_secs(20);
/// Clock ticks a second, as /proc counts: the same on every Linux.
const TICKS: f64 = 100.0;
/// Members of one client.
const MEMBERS: usize = 50;

struct Server {
    child: Child,
    /// Kept open: a server that cannot say something must not fail for it.
    _output: BufReader<ChildStdout>,
    address: String,
    ready_after: Duration,
}

impl Server {
    fn start(directory: &Path, listen: &str) -> Self {
        let started = Instant::now();
        let binary = std::env::var("LEVADA_SERVER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_levada-server").into());
        let mut child = Command::new(binary)
            .arg("--data-dir")
            .arg(directory.join("data"))
            .args(["--listen", listen])
            .env("HOME", directory)
            .env_remove("XDG_RUNTIME_DIR")
            .stdout(Stdio::piped())
            .stderr(std::fs::File::options().create(true).append(true).open(directory.join("server.log")).unwrap())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("tcp=")).map(str::to_owned);
        let log = || std::fs::read_to_string(directory.join("server.log")).unwrap_or_default();
        let address = address.unwrap_or_else(|| panic!("the server is not ready: {line:?}\n{}", log()));
        Self { child, _output: output, address, ready_after: started.elapsed() }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Processor time of all threads so far, in seconds.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(2).map(|word| word.parse().unwrap()).collect();
        ticks.iter().sum::<f64>() / TICKS
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn connect(directory: &Path, address: &str) -> Client {
    let token = Credentials::token_file(directory.join("data/root.token"));
    Client::connect(ClientOptions::new().server(address).credentials(token)).await.unwrap()
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
    let mut server = Server::start(directory.path(), "127.0.0.1:0");
    let address = server.address.clone();
    let client = connect(directory.path(), &address).await;
    make_topics(&client, topics).await;
    let members = make_groups(directory.path(), &address, groups).await;
    let first_rss_kib = server.rss_kib();
    server.kill();
    server = Server::start(directory.path(), &address);
    // Everybody comes back, and every group has its member and what it had stored.
    for (number, member) in members.iter().flat_map(|(_, members)| members).enumerate() {
        let topic = format!("idle/t{number}");
        assert_eq!(member.committed(&topic, 0).await.unwrap(), Some(0));
    }
    let known = client.admin().list_groups().await.unwrap();
    assert!(known.len() == groups && known.iter().all(|group| group.member_count == 1), "{} groups", known.len());
    let (before, started) = (server.cpu_seconds(), Instant::now());
    if is_full {
        tokio::time::sleep(WATCH).await;
    }
    let cpu_percent = 100.0 * (server.cpu_seconds() - before) / started.elapsed().as_secs_f64();
    let (rss_kib, ready) = (first_rss_kib.max(server.rss_kib()), server.ready_after);
    println!("{topics} topics, {groups} groups: {} MiB, ready after {ready:?}", rss_kib >> 10);
    if is_full {
        println!("doing nothing: {cpu_percent:.2} % of a core");
        assert!(rss_kib < MAX_RSS_KIB && ready < MAX_START && cpu_percent < MAX_CPU_PERCENT);
    }
}
