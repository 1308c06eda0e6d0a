//! What scripts rely on.

use crate::vocabulary::{Server, run};
use serde_json::{Value, json};

fn payloads(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|m| m["payload"].as_str().expect("text")).collect()
}

#[test]
fn a_topic_is_created_with_its_stream_once() {
    let server = Server::start();
    let create =
        ["topic", "create", "shop/orders", "--partitions", "4", "--retention-age", "7d", "--retention-bytes", "1GiB"];
    let topic = server.json(&create);
    assert_eq!(topic["partition_count"], 4);
    assert_eq!(topic["durability"], "disk");
    assert_eq!(topic["retention_age_us"], 604_800_000_000_u64);
    assert_eq!(topic["retention_bytes"], 1 << 30);
    server.run(&create).failed(1, &["ALREADY_EXISTS", "shop/orders"]);
    assert_eq!(server.json(&["stream", "describe", "shop"])["topics"][0]["topic"], "orders");
}

#[test]
fn a_partition_is_trimmed_and_its_segments_have_an_age() {
    let server = Server::start();
    let topic = server.json(&["topic", "create", "a/b", "--segment-age", "10m"]);
    assert_eq!(topic["segment_age_us"], 600_000_000);
    server.produce("a/b", &[], b"one\ntwo\nthree\n");
    let trimmed = server.json(&["topic", "trim", "a/b:0", "--before", "offset:2"]);
    assert_eq!(trimmed, json!({"trimmed": "a/b:0", "log_start_offset": 2}));
    assert_eq!(payloads(&server.consume(&["a/b", "--from", "earliest"])), ["three"]);
    server.run(&["topic", "trim", "a/b:0", "--before", "offset:9"]).failed(1, &["OFFSET_OUT_OF_RANGE"]);
    assert_eq!(server.json(&["topic", "describe", "a/b"])["segment_age_us"], 600_000_000);
    server.must(&["topic", "alter", "a/b", "--segment-age", "0s"]);
    assert_eq!(server.json(&["topic", "describe", "a/b"]).get("segment_age_us"), None);
}

#[test]
fn lines_go_in_and_come_out_byte_for_byte() {
    let server = Server::start();
    server.must(&["topic", "create", "a/lines"]);
    let input = b"first\n\nwith \\ \"quotes\"\r\n\xff\xfe\x00bytes\n \ttabs\nno line end";
    assert_eq!(server.produce("a/lines", &[], input), 6);
    let out = server.run(&["consume", "a/lines", "--from", "earliest"]).succeeded(&[]);
    assert_eq!(out.stdout, [&input[..], b"\n"].concat());
    assert!(out.stderr.is_empty(), "{}", out.stderr);
}

#[test]
fn json_output_is_one_object_per_line_in_the_shape_of_the_contract() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    server.produce("a/b", &["--format", "json", "--key-field", "k"], b"{\"k\":\"AA\"}\n{\"k\":null}\n");
    server.produce("a/b", &[], b"\xff\n");
    let text = server.must(&["--output", "json", "consume", "a/b", "--from", "earliest"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("{\"partition\":0,\"offset\":0,\"timestamp\":\"20"), "{}", lines[0]);
    assert!(
        lines[0].ends_with(",\"key\":\"AA\",\"headers\":{},\"payload\":\"{\\\"k\\\":\\\"AA\\\"}\"}"),
        "{}",
        lines[0]
    );
    assert!(lines[1].contains(",\"key\":null,\"headers\":{}"), "{}", lines[1]);
    assert!(lines[2].ends_with(",\"payload_base64\":\"/w==\"}"), "{}", lines[2]);
    let time = serde_json::from_str::<Value>(lines[0]).expect("JSON")["append_time"].as_str().expect("text").to_owned();
    assert_eq!(time.len(), "2026-11-22T18:00:00.000000Z".len(), "{time}");
    assert!(time.ends_with('Z'));
}

#[test]
fn messages_of_a_key_stay_in_order_in_one_partition() {
    let server = Server::start();
    server.must(&["topic", "create", "a/keys", "--partitions", "8"]);
    let input: String = (0..5000).map(|i| format!("{{\"carrier\":\"C{}\",\"n\":{i}}}\n", i % 17)).collect();
    let flags = ["--format", "json", "--key-field", "carrier", "--batch-bytes", "4KiB", "--compression", "zstd"];
    assert_eq!(server.produce("a/keys", &flags, input.as_bytes()), 5000);
    let messages = server.consume(&["a/keys", "--from", "earliest"]);
    let mut sent: Vec<&str> = input.lines().collect();
    let mut received = payloads(&messages);
    sent.sort_unstable();
    received.sort_unstable();
    assert_eq!(sent, received);
    for key in (0..17).map(|k| format!("C{k}")) {
        let of_key: Vec<&Value> = messages.iter().filter(|m| m["key"] == key.as_str()).collect();
        assert!(of_key.iter().all(|m| m["partition"] == of_key[0]["partition"]), "{key} is in one partition");
        let numbers: Vec<u64> = of_key
            .iter()
            .map(|m| {
                serde_json::from_str::<Value>(m["payload"].as_str().expect("text")).expect("JSON")["n"]
                    .as_u64()
                    .expect("n")
            })
            .collect();
        assert!(numbers.is_sorted(), "{key} is in order");
    }
    assert!(messages.iter().any(|m| m["partition"] != messages[0]["partition"]), "more than one partition is used");
}

#[test]
fn positions_limits_and_partitions_select_what_is_read() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b", "--partitions", "2"]);
    server.produce("a/b:0", &[], b"0\n1\n2\n3\n4\n");
    server.produce("a/b:1", &[], b"x\ny\n");
    let read = |flags: &[&str]| -> Vec<String> {
        let messages = server.consume(&[&["a/b:0"], flags].concat());
        payloads(&messages).into_iter().map(str::to_owned).collect()
    };
    assert_eq!(read(&["--from", "earliest"]), ["0", "1", "2", "3", "4"]);
    assert_eq!(read(&["--from", "offset:3"]), ["3", "4"]);
    assert_eq!(read(&["--from", "last:2"]), ["3", "4"]);
    assert_eq!(read(&["--from", "last:99"]), ["0", "1", "2", "3", "4"]);
    assert_eq!(read(&["--from", "earliest", "--max", "2"]), ["0", "1"]);
    assert_eq!(read(&["--from", "latest"]), [""; 0]);
    assert_eq!(read(&["--from", "time:1970-01-01T00:00:00Z"]).len(), 5);
    assert_eq!(read(&["--from", "time:2999-01-01T00:00:00Z"]), [""; 0]);
    assert_eq!(read(&["--from", "earliest", "--max", "0"]), [""; 0]);
    assert_eq!(server.consume(&["a/b:1", "--from", "earliest"]).len(), 2);
    assert_eq!(server.consume(&["a/b", "--from", "earliest"]).len(), 7, "without a partition all are read");
    assert_eq!(server.consume(&["a/b", "--from", "earliest", "--max", "6"]).len(), 6);

    let third = server.consume(&["a/b:0", "--from", "offset:2", "--max", "1"]);
    let time = format!("time:{}", third[0]["append_time"].as_str().expect("text"));
    assert!(read(&["--from", &time]).contains(&"2".to_owned()));
}

#[test]
fn durability_and_compression_of_a_topic_are_kept_and_altered() {
    let server = Server::start();
    let topic = server.json(&["topic", "create", "m/t", "--durability", "memory", "--compression", "lz4"]);
    assert_eq!((&topic["durability"], &topic["compression"]), (&json!("memory"), &json!("lz4")));
    assert_eq!(server.produce("m/t", &["--compression", "none"], b"x\n"), 1);
    let topic = server.json(&[
        "topic",
        "alter",
        "m/t",
        "--durability",
        "disk",
        "--retention-bytes",
        "64MiB",
        "--partitions",
        "3",
    ]);
    assert_eq!(
        (&topic["durability"], &topic["retention_bytes"], &topic["partition_count"]),
        (&json!("disk"), &json!(64 << 20), &json!(3))
    );
    let topic = server.json(&["topic", "alter", "m/t", "--retention-bytes", "unlimited"]);
    assert_eq!(topic["retention_bytes"], Value::Null);
    assert_eq!(server.consume(&["m/t", "--from", "earliest"]).len(), 1);
}

#[test]
fn every_command_speaks_json() {
    let server = Server::start();
    assert_eq!(server.json(&["stream", "create", "s"])["stream"], "s");
    assert_eq!(
        server.json(&["topic", "create", "s/t", "--partitions", "2"])["topic_id"].as_u64().map(|id| id > 0),
        Some(true)
    );
    assert_eq!(server.json(&["stream", "list"])[0]["topic_count"], 1);
    assert_eq!(server.json(&["topic", "list"])[0]["topic"], "t");
    assert_eq!(server.json(&["topic", "list", "s"]).as_array().map(Vec::len), Some(1));
    server.produce("s/t:0", &[], b"a\nb\n");
    let topic = server.json(&["topic", "describe", "s/t"]);
    assert_eq!(topic["partitions"][0]["message_count"], 2);
    assert_eq!(topic["partitions"][0]["visible_end_offset"], 2);
    assert_eq!(server.json(&["partition", "list", "s/t"]).as_array().map(Vec::len), Some(2));
    assert_eq!(server.json(&["partition", "describe", "s/t:1"])["message_count"], 0);
    assert_eq!(server.json(&["partition", "create", "s/t"]).as_array().map(Vec::len), Some(3));
    assert_eq!(server.json(&["topic", "purge", "s/t:0"])["purged"], "s/t:0");
    assert_eq!(server.json(&["partition", "describe", "s/t:0"])["log_start_offset"], 2);
    let status = server.json(&["status"]);
    assert_eq!((&status["topic_count"], &status["partition_count"]), (&json!(1), &json!(3)));
    assert!(status["flush_count"].as_u64() > Some(0));
    assert!(server.json(&["ping", "--count", "1"])["min_us"].as_f64() > Some(0.0));
    assert_eq!(server.json(&["user", "list"])[0]["role"], "admin");
    let run = run(server.command().args(["--output", "json", "produce", "s/t"]), b"x\n").succeeded(&[]);
    assert_eq!(run.text(), "{\"acknowledged\":1}\n");
    assert_eq!(server.json(&["topic", "delete", "s/t"])["deleted"], "s/t");
    assert_eq!(server.json(&["stream", "delete", "s"])["deleted"], "s");
    assert_eq!(server.json(&["stream", "list"]), json!([]));
}

#[test]
fn tables_are_for_people() {
    let server = Server::start();
    server.must(&["topic", "create", "shop/orders", "--partitions", "2", "--retention-age", "7d"]);
    server.produce("shop/orders:1", &[], b"a\nb\nc\n");
    let list = server.must(&["topic", "list"]);
    assert!(list.starts_with("TOPIC        PARTITIONS  DURABILITY  COMPRESSION  RETENTION  CREATED\n"), "{list}");
    assert!(list.contains("shop/orders           2  disk        producer     7d"), "{list}");
    let describe = server.must(&["topic", "describe", "shop/orders"]);
    assert!(describe.contains("Messages     3\n"), "{describe}");
    assert!(!describe.contains('\x1b'), "no colour off terminals: {describe:?}");
    assert!(server.must(&["status"]).contains("Partitions     2\n"));
}

#[test]
fn data_outlives_the_server() {
    let server = Server::start();
    server.must(&["topic", "create", "a/b"]);
    server.produce("a/b", &[], b"one\ntwo\n");
    let server = Server::start_in(server.stop());
    assert_eq!(server.must(&["consume", "a/b", "--from", "earliest"]), "one\ntwo\n");
    server.produce("a/b", &[], b"three\n");
    assert_eq!(server.consume(&["a/b", "--from", "offset:2"])[0]["offset"], 2);
}
