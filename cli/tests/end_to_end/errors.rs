//! Wrong input of each kind: exit codes, and messages that say what to do next.

use crate::vocabulary::{Run, Server, levada, run};
use std::net::TcpListener;
use tempfile::TempDir;

fn alone(arguments: &[&str]) -> Run {
    let home = TempDir::new().expect("a temporary directory");
    run(levada(home.path()).args(arguments), b"")
}

#[test]
fn an_unreachable_server_is_exit_3_and_says_how_to_start_one() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    for command in [
        &["status"][..],
        &["ping"],
        &["topic", "list"],
        &["produce", "a/b"],
        &["consume", "a/b"],
        &["bench", "latency"],
    ] {
        let run = alone(&[&["--server", &address], command].concat());
        run.failed(3, &[]);
        let line = format!("levada: cannot reach {address}. Is the server running? Start it with `levada-server`\n");
        assert_eq!(run.stderr, line, "{command:?}");
    }
}

#[test]
fn wrong_usage_is_exit_2_and_shows_what_is_right() {
    for (arguments, says) in [
        (&["frobnicate"][..], "unrecognized subcommand"),
        (&["topic", "create", "orders"], "expected STREAM/TOPIC, as in shop/orders"),
        (&["topic", "create", "shop/.orders"], "do not begin with `.`"),
        (&["topic", "create", "a/b", "--partitions", "0"], "--partitions"),
        (&["topic", "create", "a/b", "--retention-age", "7"], "a number with a unit"),
        (&["topic", "create", "a/b", "--retention-bytes", "1Q"], "bytes, with an optional unit"),
        (&["topic", "alter", "a/b"], "required"),
        (&["consume", "a/b", "--from", "yesterday"], "earliest, latest, offset:N"),
        (&["consume", "a/b", "--from", "time:noon"], "RFC 3339"),
        (&["consume", "a/b:x"], "not a partition number"),
        (&["produce", "a/b", "--format", "xml"], "possible values: lines, json, csv"),
        (&["produce", "a/b", "--key-field", "k"], "--key-field needs --format json"),
        (&["--output", "yaml", "status"], "possible values: table, json"),
        (&["--server", "http://x", "status"], "server address"),
        (&["--token-file", "/nonexistent/token", "--server", "127.0.0.1:1", "status"], "/nonexistent/token"),
        (&["repair", "d", "--partition", "1:0"], "--accept-loss"),
    ] {
        alone(arguments).failed(2, &[says]);
    }
}

#[test]
fn what_makes_no_sense_is_answered_by_what_does() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    let refused = |arguments: &[&str], says: &str| server.run(arguments).failed(2, &[says]);
    refused(&["stream", "alter", "a", "--retention-age", "7d"], "`levada topic alter STREAM/TOPIC`");
    refused(&["partition", "alter", "a/b:0"], "`levada topic alter STREAM/TOPIC`");
    refused(&["partition", "delete", "a/b:0"], "`levada topic purge STREAM/TOPIC:PARTITION`");
    refused(&["topic", "alter", "a/b", "--partitions", "99999"], "1..=4096");
    server.run(&["stream", "delete", "a"]).failed(1, &["stream a has a topic", "levada stream delete a --topics"]);
    server.run(&["topic", "purge", "a/b:7"]).failed(1, &["no partition 7; it has 1"]);
    let login = ["--login", "root", "--login-password-file"];
    server.run(&[&login[..], &["/nonexistent/pw", "status"]].concat()).failed(2, &["/nonexistent/pw"]);
    let password = server.directory.path().join("wrong.pw");
    std::fs::write(&password, "not the password").expect("a file");
    let wrong = [&login[..], &[password.to_str().expect("text"), "status"]].concat();
    server.run(&wrong).failed(4, &["AUTH_FAILED", "--login"]);
}

#[test]
fn what_is_not_there_is_exit_1_and_named() {
    let server = Server::start();
    server.run(&["topic", "describe", "no/where"]).failed(1, &["STREAM_NOT_FOUND", "levada stream list"]);
    server.run(&["produce", "no/where"]).failed(1, &["NOT_FOUND"]);
    server.run(&["consume", "no/where"]).failed(1, &["NOT_FOUND"]);
    server.run(&["stream", "delete", "nowhere"]).failed(1, &["STREAM_NOT_FOUND"]);
    server.run(&["user", "describe", "nobody"]).failed(1, &["USER_NOT_FOUND"]);
    server.run(&["token", "delete", "none"]).failed(1, &["TOKEN_NOT_FOUND"]);
    server.must(&["topic", "create", "a/b"]);
    server.run(&["produce", "a/b:7"]).failed(1, &["PARTITION_NOT_FOUND", "counted from 0"]);
    server.run(&["consume", "a/b:7"]).failed(1, &["PARTITION_NOT_FOUND"]);
    server.run(&["partition", "describe", "a/b:7"]).failed(1, &["PARTITION_NOT_FOUND"]);
    server.run(&["consume", "a/b", "--from", "offset:5"]).failed(1, &["OFFSET_OUT_OF_RANGE"]);
    server.run(&["stream", "delete", "a"]).failed(1, &["CONFLICT", "--topics"]);
    server
        .run(&["produce", "a/b", "--file", "/nonexistent/file"])
        .failed(1, &["cannot read /nonexistent/file: No such file"]);
    server.run(&["produce", "a/b", "--file", "/tmp"]).failed(1, &["is a directory"]);
    server.run(&["topic", "create", "a/q", "--durability", "quorum"]).failed(1, &["UNSUPPORTED"]);
    server.run(&["topic", "alter", "a/b", "--partitions", "1"]).succeeded(&["the same number"]);
    server.must(&["topic", "alter", "a/b", "--partitions", "3"]);
    server.run(&["topic", "alter", "a/b", "--partitions", "2"]).failed(2, &["INVALID_ARGUMENT"]);
}

#[test]
fn help_and_completions_need_no_server() {
    for command in [
        "stream",
        "topic",
        "partition",
        "user",
        "token",
        "produce",
        "consume",
        "status",
        "ping",
        "bench",
        "verify",
        "repair",
        "context",
    ] {
        let text = alone(&[command, "--help"]).succeeded(&[command]).text();
        let taught = text.contains("Example") || text.contains("Commands:");
        assert!(taught, "{command} --help teaches: {text}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(alone(&["completions", shell]).succeeded(&[shell]).text().contains("levada"));
    }
    assert!(alone(&["--version"]).succeeded(&[]).text().starts_with("levada 0."));
}

#[test]
fn every_subcommand_shows_an_example() {
    for (command, subcommands) in [
        ("stream", &["create", "list", "describe", "delete"][..]),
        ("topic", &["create", "list", "describe", "alter", "purge", "delete"]),
        ("partition", &["create", "list", "describe"]),
        ("user", &["create", "list", "describe", "alter", "delete"]),
        ("token", &["create", "list", "describe", "delete"]),
        ("bench", &["produce", "consume", "latency"]),
        ("context", &["add", "list", "use", "remove"]),
    ] {
        for subcommand in subcommands {
            let text = alone(&[command, subcommand, "--help"]).succeeded(&[command, subcommand]).text();
            assert!(text.contains(&format!("levada {command} {subcommand}")), "{command} {subcommand}: {text}");
        }
    }
}
