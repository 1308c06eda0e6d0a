//! `levada bench` on small numbers: the report's shape, and that nothing is left behind.

use crate::vocabulary::Server;
use serde_json::json;

#[test]
fn each_bench_reports_and_cleans_up() {
    let server = Server::start();
    let small =
        ["--messages", "2k", "--size", "100", "--batch-messages", "100", "--partitions", "2", "--producers", "2"];
    for (bench, messages, latency_of) in
        [("produce", 2000, "batch"), ("consume", 2000, "receive"), ("latency", 2000, "message")]
    {
        let report = server.json(&[&["bench", bench], &small[..]].concat());
        assert_eq!(report["bench"], bench);
        assert_eq!(report["message_count"], messages);
        assert_eq!(report["total_bytes"], messages * 100);
        assert_eq!(report["latency_of"], latency_of);
        let latency = &report["latency_us"];
        assert!(
            latency["p50"].as_f64() <= latency["p99"].as_f64() && latency["p99"].as_f64() <= latency["max"].as_f64()
        );
        assert!(report["megabytes_per_second"].as_f64() > Some(0.0));
        assert!(
            report["server"]["rss_bytes"].as_u64() > Some(1 << 20),
            "the server of this machine is found: {report}"
        );
        assert!(report["machine"]["cores"].as_u64() > Some(0));
    }
    assert_eq!(server.json(&["stream", "list"]), json!([]), "temporary topics are deleted");
}

#[test]
fn a_group_shares_its_partitions_and_leaves_nothing_behind() {
    let server = Server::start();
    let report = server.json(&["bench", "group", "--members", "3", "--partitions", "5", "--rounds", "2"]);
    assert_eq!((&report["bench"], &report["round_count"]), (&json!("group"), &json!(2)));
    assert_eq!((&report["assigned_us"]["count"], &report["round_us"]["count"]), (&json!(2), &json!(2)));
    assert!(report["assigned_us"]["max"].as_f64() <= report["round_us"]["max"].as_f64(), "{report}");
    assert_eq!((server.json(&["stream", "list"]), server.json(&["group", "list"])), (json!([]), json!([])));
    server.run(&["bench", "group", "--members", "3", "--partitions", "2"]).failed(2, &["--partitions 3"]);
    let text = server.must(&["bench", "group", "--members", "2", "--partitions", "2", "--rounds", "1"]);
    assert!(text.contains("last assignment") && text.contains("P99"), "{text}");
}

#[test]
fn an_existing_topic_is_read_and_stays() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    server.run(&["bench", "consume", "--topic", "a/b"]).failed(2, &["no messages"]);
    server.produce("a/b", &[], b"12345\n123\n");
    let report = server.json(&["bench", "consume", "--topic", "a/b"]);
    assert_eq!((&report["message_count"], &report["total_bytes"]), (&json!(2), &json!(8)));
    let report =
        server.json(&["bench", "produce", "--topic", "a/b", "--messages", "10", "--size", "1", "--warm-up", "0"]);
    assert_eq!(report["temporary_topic"], false);
    assert_eq!(server.consume(&["a/b", "--from", "earliest"]).len(), 12);
    server.run(&["bench", "produce", "--size", "64MiB", "--messages", "1"]).failed(2, &["is not possible"]);
}

#[test]
fn the_table_shows_throughput_and_percentiles() {
    let server = Server::start();
    let text = server.must(&["bench", "produce", "--messages", "1000", "--batch-messages", "10"]);
    for words in ["Throughput", "MB/s", "messages/s", "P99.9", "RSS", "durability disk"] {
        assert!(text.contains(words), "{text}");
    }
}
