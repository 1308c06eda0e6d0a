//! Clients that mean harm, or are merely broken, against the real server: its memory stays within what was configured and a
//! well-behaved client goes on being served. What the attack costs that client in latency is printed, not asserted.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails where it stands, and prints what it measured"
)]

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use levada::{Client, ClientOptions, Credentials, Message, ProducerOptions};
use levada_protocol::client::{ClientConfig, ClientEvent, Connection};
use levada_protocol::limits;
use levada_protocol::messages::{AuthMethod, Authenticate, Durability, Position, Produce, Subscribe};
use levada_protocol::pool::BufferPool;
use tokio::time::Instant;

const MIB: u64 = 1024 * 1024;
/// What the server is told it may hold for its connections, and for its cache.
const CONNECTIONS_BYTES: u64 = 64 * MIB;
const CACHE_BYTES: u64 = 32 * MIB;
/// What it may take on top: allocators, stacks, code.
const SLACK_BYTES: u64 = 64 * MIB;

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(directory: &Path) -> Server {
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(directory.join("cert.pem"), certificate.cert.pem()).unwrap();
        std::fs::write(directory.join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_levada-server"))
            .arg("--data-dir")
            .arg(directory.join("data"))
            .args(["--listen", "127.0.0.1:0", "--tls-cert"])
            .arg(directory.join("cert.pem"))
            .arg("--tls-key")
            .arg(directory.join("key.pem"))
            .args(["--connections-total-bytes", "64MiB", "--cache-bytes", "32MiB"])
            .env("HOME", directory)
            .env_remove("XDG_RUNTIME_DIR")
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(directory.join("server.log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("tcp=")).map(str::to_owned);
        Server { child, address: address.unwrap_or_else(|| panic!("the server is not ready: {line:?}")) }
    }

    /// A line of /proc/PID/status in bytes.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches(|letter: char| !letter.is_ascii_digit()).parse::<u64>().unwrap() * 1024
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that can be made to misbehave after it has authenticated.
struct Raw {
    stream: TcpStream,
    machine: Connection,
}

impl Raw {
    fn open(server: &Server, token: &Bytes) -> Raw {
        let credentials = Authenticate { method: AuthMethod::Token, user: String::new(), secret: token.clone() };
        let config = ClientConfig { credentials: Some(credentials), ..ClientConfig::default() };
        let mut raw = Raw { stream: server.connect(), machine: Connection::new(config, BufferPool::new(0), 0) };
        let event = raw.next();
        assert!(matches!(event, ClientEvent::Ready { .. }), "{event:?}");
        raw
    }

    fn send(&mut self) {
        loop {
            let mut slices: Vec<IoSlice<'_>> = Vec::new();
            self.machine.slices(&mut slices);
            if slices.is_empty() {
                return;
            }
            let sent = self.stream.write_vectored(&slices).unwrap();
            self.machine.on_sent(sent, 0);
        }
    }

    fn next(&mut self) -> ClientEvent {
        let mut bytes = [0; 4096];
        loop {
            if let Some(event) = self.machine.poll_event().unwrap() {
                return event;
            }
            // The event may have been the machine's own business, and have something to send.
            self.send();
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(0 < count, "the server closed the connection");
            self.machine.read_buffer().put_slice(&bytes[..count]);
            self.machine.on_received(0);
        }
    }
}

/// Sends one message at a time; the 99th percentile of the time to its acknowledgement.
async fn p99(client: &Client, count: usize) -> Duration {
    let producer = client.producer("healthy/log", ProducerOptions::new()).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..count {
        let started = Instant::now();
        producer.send(Message::new(vec![7; 1024])).await.unwrap();
        times.push(started.elapsed());
    }
    producer.close(Duration::from_secs(10)).await.unwrap();
    times.sort();
    times[count * 99 / 100]
}

/// Deterministic noise.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let step = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(step).take(count).collect()
}

/// Writes until the server closes; what it makes of the bytes is its own business.
fn shout(mut stream: TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_within_its_budget_whatever_clients_do() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let token_file = directory.path().join("data/root.token");
    let token = Bytes::from(std::fs::read_to_string(&token_file).unwrap().trim().to_owned());
    let options = ClientOptions::new().server(&server.address).credentials(Credentials::token_file(&token_file));
    let client = Client::connect(options).await.unwrap();
    client.admin().create_topic("healthy/log", levada::topic_options(1)).await.unwrap();
    let victim = client.admin().create_topic("victim/log", levada::topic_options(1)).await.unwrap();
    let idle = server.memory("VmRSS:");
    let baseline = p99(&client, 500).await;

    // Far more than the sockets of slow consumers hold.
    let producer = client.producer("victim/log", ProducerOptions::new()).await.unwrap();
    let messages: Vec<Vec<u8>> = (0..64).map(|seed| noise(seed, 1024 * 1024)).collect();
    producer.send_batch(messages.iter().map(|payload| Message::new(payload.clone()))).await.unwrap();

    let mut held = Vec::new();
    for subscription in 1..=16 {
        let mut raw = Raw::open(&server, &token);
        let subscribe = Subscribe {
            subscription,
            topic_id: victim.topic_id,
            partition: 0,
            position: Position::EARLIEST,
            epoch: None,
            credit_bytes: 1 << 40,
            group: None,
            member: None,
            generation: None,
            otherwise: None,
        };
        raw.machine.request(&subscribe).unwrap();
        raw.send();
        held.push(raw);
    }
    // Half of a batch that says it has 15 MiB, and then silence.
    for _ in 0..16 {
        let mut raw = Raw::open(&server, &token);
        let produce = Produce { topic_id: victim.topic_id, partition: 0, durability: Durability::Disk };
        raw.machine.request_with_body(&produce, vec![Bytes::from(noise(1, 15 << 20))]).unwrap();
        let mut slices = Vec::new();
        raw.machine.slices(&mut slices);
        let (head, body) = (slices[0].to_vec(), slices[1][..4 << 20].to_vec());
        drop(slices);
        raw.stream.set_nonblocking(true).unwrap();
        let _ = raw.stream.write(&head);
        let _ = raw.stream.write(&body);
        held.push(raw);
    }
    for _ in 0..300 {
        held.push(Raw::open(&server, &token));
    }
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut stream = server.connect();
        // The beginning of a TLS handshake of 512 bytes that never come.
        stream.write_all(&[0x16, 3, 1, 2, 0]).unwrap();
        silent.push(stream);
    }
    shout(server.connect(), &noise(3, 10 << 20));
    shout(server.connect(), &[&limits::PREFACE[..], &noise(4, 10 << 20)].concat());
    shout(server.connect(), &[&limits::PREFACE[..], &u32::MAX.to_le_bytes(), &[0; 64]].concat());
    let mut raw = Raw::open(&server, &token);
    let _ = raw.stream.write_all(&[&u32::MAX.to_le_bytes()[..], &[0; 64]].concat());
    held.push(raw);

    let attacked = p99(&client, 500).await;
    let peak = server.memory("VmHWM:");
    let allowed = idle + CONNECTIONS_BYTES + CACHE_BYTES + SLACK_BYTES;
    println!("idle {} MiB, peak {} MiB of {} allowed", idle / MIB, peak / MIB, allowed / MIB);
    println!("p99 of one message of 1 KiB: {baseline:?} alone, {attacked:?} under attack");
    assert!(peak <= allowed, "{} MiB at the peak, {} are allowed", peak / MIB, allowed / MIB);
    // The 4 GiB length and the half-open handshakes were not merely survived but ended.
    for mut stream in silent {
        let mut byte = [0];
        assert!(!matches!(stream.read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
    }
}
