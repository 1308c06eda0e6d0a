//! What `produce` reads: formats, faults in the middle, limits.

use crate::vocabulary::{Server, run};
use std::fs;

#[test]
fn what_a_topic_has_by_its_id_is_told_and_not_sent_again() {
    let server = Server::start();
    let topic = server.json(&["topic", "create", "shop/payments", "--partitions", "3", "--dedup-messages", "1000"]);
    assert_eq!(topic["dedup_messages"], 1000);
    let produce = ["produce", "shop/payments", "--format", "csv", "--key-field", "payment", "--id-from-key"];
    for (input, said) in [
        ("payment,amount\np-1,30\np-2,45\n", "2 messages acknowledged, 0 of them there already"),
        ("payment,amount\np-2,45\np-3,7\np-3,7\n", "3 messages acknowledged, 2 of them there already"),
    ] {
        let run = run(server.command().args(produce), input.as_bytes()).succeeded(&produce);
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
    assert_eq!(server.consume(&["shop/payments", "--from", "earliest"]).len(), 3);
    assert_eq!(server.json(&["topic", "describe", "shop/payments"])["dedup_messages"], 1000);
    server.must(&["topic", "alter", "shop/payments", "--dedup-messages", "0"]);
    assert_eq!(server.json(&["topic", "describe", "shop/payments"]).get("dedup_messages"), None);
}

#[test]
fn csv_rows_become_objects_with_keys() {
    let server = Server::start();
    server.must(&["topic", "create", "a/csv"]);
    let file = server.directory.path().join("rows.csv");
    fs::write(&file, "carrier,flight,delay\nUA,1545,2.0\n\"A,A\",1141,\n").expect("a file");
    let path = file.to_str().expect("text");
    assert_eq!(server.produce("a/csv", &["--file", path, "--format", "csv", "--key-field", "carrier"], b""), 2);
    assert_eq!(server.produce("a/csv", &["--file", path, "--format", "csv", "--csv-types", "infer"], b""), 2);
    let messages = server.consume(&["a/csv", "--from", "earliest"]);
    assert_eq!(messages[0]["payload"], r#"{"carrier":"UA","flight":"1545","delay":"2.0"}"#);
    assert_eq!(messages[1]["key"], "A,A");
    assert_eq!(messages[3]["payload"], r#"{"carrier":"A,A","flight":1141,"delay":null}"#);
    assert!(messages[2]["key"].is_null());
}

#[test]
fn a_wrong_record_is_named_and_those_before_it_are_sent() {
    let server = Server::start();
    server.must(&["topic", "create", "a/json"]);
    let run = run(
        server.command().args(["produce", "a/json", "--format", "json", "--key-field", "k"]),
        b"{\"k\":1}\n{\"x\":1}\n{\"k\":2}\n",
    );
    run.failed(1, &["levada: line 2 of standard input has no field `k`", "The lines before it were sent"]);
    assert_eq!(run.acknowledged(), 1);
    assert_eq!(server.must(&["consume", "a/json", "--from", "earliest"]), "{\"k\":1}\n");
}

#[test]
fn lines_up_to_the_largest_payload_go_and_one_byte_more_is_refused() {
    let server = Server::start();
    server.must(&["topic", "create", "a/long"]);
    let refused = run(server.command().args(["produce", "a/long"]), &vec![b'x'; 17 << 20]);
    refused.failed(1, &["line 1 of standard input is longer than the server's largest payload"]);
    let words = refused.stderr.split_whitespace().collect::<Vec<_>>();
    let limit: usize =
        words.windows(2).find(|w| w[1].starts_with("bytes")).and_then(|w| w[0].parse().ok()).expect("a limit");
    assert!(limit > 15 << 20, "{limit}");
    assert_eq!(server.produce("a/long", &[], &[&b"before\n"[..], &vec![b'y'; limit]].concat()), 2);
    let over = run(server.command().args(["produce", "a/long"]), &vec![b'z'; limit + 1]);
    over.failed(1, &["largest payload"]);
    assert_eq!(over.acknowledged(), 0);
    let out = server.run(&["consume", "a/long", "--from", "offset:1"]).succeeded(&[]);
    assert_eq!(out.stdout.len(), limit + 1);
    assert!(out.stdout[..limit].iter().all(|b| *b == b'y'));
}

#[test]
fn nothing_in_is_nothing_sent() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    assert_eq!(server.produce("a/b", &[], b""), 0);
    assert_eq!(server.produce("a/b", &["--format", "json"], b"\n \n"), 0);
    assert_eq!(server.produce("a/b", &["--format", "csv"], b"a,b\n"), 0);
    assert_eq!(server.must(&["consume", "a/b", "--from", "earliest"]), "");
}

#[test]
fn megabytes_of_lines_make_the_round_trip() {
    let server = Server::start();
    server.must(&["topic", "create", "a/many"]);
    let input: String = (0..300_000).map(|i| format!("line {i} of the file, {:x}\n", i * 2_654_435_761_u64)).collect();
    let file = server.directory.path().join("lines.txt");
    fs::write(&file, &input).expect("a file");
    for compression in ["none", "lz4", "zstd"] {
        let flags = ["--file", file.to_str().expect("text"), "--compression", compression];
        assert_eq!(server.produce("a/many", &flags, b""), 300_000);
    }
    let out = server.must(&["consume", "a/many", "--from", "earliest"]);
    assert_eq!(out.len(), input.len() * 3);
    assert!(out == input.repeat(3), "what came out is what went in");
}
