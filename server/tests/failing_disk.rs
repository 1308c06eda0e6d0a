//! The disk fails under the real server: `strace` makes one of its writes answer EIO. It must stop at once with the exit
//! code that says so, and a server started afterwards on the same machine must have everything that was acknowledged.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails where it stands, and says why it was skipped"
)]

mod child;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use levada::{Client, ConsumerOptions, Position, ProducerOptions};
use levada_server::env::real::EXIT_IO_ERROR;

use crate::child::{Server, connect};

const TOPIC: &str = "failing/disk";

/// A server on threads, whose system calls can be seen, under `tracer` if there is one.
fn start(directory: &Path, tracer: &[&str]) -> Server {
    let program = [tracer, &[env!("CARGO_BIN_EXE_levada-server")]].concat();
    Server::start_as(&program, directory, &["--listen", "127.0.0.1:0", "--disk-backend", "threads"])
}

/// Sends numbered messages one at a time until one is not acknowledged; returns how many were.
async fn produce_until_failure(client: &Client, first: u64) -> u64 {
    let options = ProducerOptions::new().delivery_timeout(Duration::from_secs(3));
    let producer = client.producer(TOPIC, options).await.unwrap();
    let mut number = first;
    while producer.send(format!("message {number}")).await.is_ok() {
        number += 1;
        assert!(number < 20_000, "the disk never failed");
    }
    number
}

async fn read_all(client: &Client) -> Vec<String> {
    let options = ConsumerOptions::new(TOPIC).from(Position::EARLIEST).until_end();
    let consumer = client.consumer(options).await.unwrap();
    let mut log = Vec::new();
    while let Some(message) = consumer.receive().await.unwrap() {
        log.push(String::from_utf8(message.payload.unwrap().to_vec()).unwrap());
    }
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_disk_fails_stops_and_the_next_one_has_all_that_was_acknowledged() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    connect(directory.path(), &server.address)
        .await
        .admin()
        .create_topic(TOPIC, levada::topic_options(1))
        .await
        .unwrap();
    drop(server);

    let mut sent = 0;
    // The count is one thread's; past the writes of the start.
    for nth in [60, 75] {
        let inject = format!("inject=pwritev2,fdatasync:error=EIO:when={nth}");
        let tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwritev2,fdatasync", "-e", &inject];
        let server = start(directory.path(), &tracer);
        let client = connect(directory.path(), &server.address).await;
        let acknowledged = produce_until_failure(&client, sent).await;
        assert!(sent < acknowledged, "nothing was acknowledged before the failure");
        drop(client);
        let ended = tokio::task::spawn_blocking(move || server.end());
        let status = tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the server goes on").unwrap();
        assert_eq!(status.code(), Some(EXIT_IO_ERROR));

        let server = start(directory.path(), &[]);
        let log = read_all(&connect(directory.path(), &server.address).await).await;
        // The one that was not acknowledged may be there too, but nothing else.
        assert!((acknowledged..=acknowledged + 1).contains(&(log.len() as u64)), "{acknowledged} of {}", log.len());
        assert!(log.iter().enumerate().all(|(number, message)| *message == format!("message {number}")));
        sent = log.len() as u64;
    }
}
