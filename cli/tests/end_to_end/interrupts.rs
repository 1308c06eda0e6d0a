//! Ends that are nobody's fault: Ctrl-C, a reader that leaves, a follower that is told to stop.

use crate::vocabulary::{Server, signal, spawn};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Child;

fn stderr(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    text
}

#[test]
fn a_reader_that_closes_early_ends_consume_quietly() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    server.produce("a/b", &[], "some line\n".repeat(100_000).as_bytes());
    let mut child = spawn(server.command().args(["consume", "a/b", "--from", "earliest"]));
    let mut line = String::new();
    BufReader::with_capacity(16, child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "some line\n");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert_eq!(stderr(&mut child), "");
}

#[test]
fn ctrl_c_ends_a_follower_with_0() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    server.produce("a/b", &[], b"before\n");
    let mut follower = spawn(server.command().args(["consume", "a/b", "--from", "earliest", "--follow"]));
    let mut lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "before");
    server.produce("a/b", &[], b"after\n");
    assert_eq!(lines.next().expect("a line").expect("text"), "after");
    signal(&follower, "INT");
    assert_eq!(follower.wait().expect("ends").code(), Some(0));
    assert_eq!(stderr(&mut follower), "");
    assert!(lines.next().is_none());
}

#[test]
fn ctrl_c_lets_produce_flush_what_it_read_and_tell() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    let mut follower = spawn(server.command().args(["consume", "a/b", "--from", "earliest", "--follow", "--max", "3"]));
    let mut producer = spawn(server.command().args(["produce", "a/b"]));
    let mut stdin = producer.stdin.take().expect("piped");
    stdin.write_all(b"one\ntwo\nthree\nnot a whole li").expect("written");
    stdin.flush().expect("flushed");
    let mut seen = String::new();
    follower.stdout.take().expect("piped").read_to_string(&mut seen).expect("text");
    assert_eq!(seen, "one\ntwo\nthree\n", "whole lines are sent at once, also by an input that stays open");
    assert_eq!(follower.wait().expect("ends").code(), Some(0));
    signal(&producer, "INT");
    assert_eq!(producer.wait().expect("ends").code(), Some(1));
    let said = stderr(&mut producer);
    assert!(said.starts_with("3 messages acknowledged\n"), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    drop(stdin);
}
