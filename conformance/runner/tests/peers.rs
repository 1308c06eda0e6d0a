//! The suite's own client, proxy and scripted server, against each other: what cases rely on holds without a product.

use levada_conformance::fake::{Fake, Script};
use levada_conformance::proxy::{Proxy, Rule};
use levada_conformance::wire::{Auth, Batch, Codec, Flaw, Message, Wire, WireError};
use serde_json::{Value, json};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);

fn fake(script: &Value) -> Fake {
    Fake::start(Script::from_value(script).expect("a script")).expect("a free port")
}

fn auth() -> Auth {
    Auth::Token("lvd_any".to_owned())
}

fn proxied(rule: Value) -> (Fake, Proxy) {
    let fake = fake(&Value::Null);
    let proxy = Proxy::start(fake.address()).expect("a free port");
    proxy.add_rule(Rule::from_value(&rule).expect("a rule"));
    (fake, proxy)
}

fn connect(proxy: &Proxy) -> Wire {
    let mut wire = Wire::connect(proxy.address(), &auth()).expect("a connection");
    wire.set_timeout(SHORT);
    wire
}

#[test]
fn what_is_produced_is_fetched_with_every_codec() {
    let fake = fake(&Value::Null);
    let mut wire = Wire::connect(fake.address(), &auth()).unwrap();
    let messages: Vec<Message> = (0..10).map(|n| Message::new(format!("{n}").repeat(100))).collect();
    for (index, codec) in [Codec::None, Codec::Lz4, Codec::Zstd].into_iter().enumerate() {
        let ack = wire.produce("s/t", 0, &messages, codec).unwrap();
        assert_eq!(ack.base_offset, 10 * index as u64);
        assert_eq!(wire.fetch_batches("s/t", 0).unwrap().pop().map(|batch| batch.codec), Some(codec));
    }
    let read = wire.fetch_all("s/t", 0).unwrap();
    assert_eq!((read.len(), wire.end_offset("s/t", 0).unwrap()), (30, 30));
    assert!(read.iter().zip(messages.iter().cycle()).all(|(read, sent)| read.payload == sent.payload));
    assert!(read.iter().enumerate().all(|(index, read)| read.offset == index as u64));
}

#[test]
fn a_subscription_delivers_the_log_of_the_script() {
    let fake = fake(&json!({"log": [{"messages": ["a", "b"]}, {"codec": "zstd", "messages": {"count": 300}}]}));
    let mut wire = Wire::connect(fake.address(), &auth()).unwrap();
    let subscription = wire.subscribe("s/t", 0, &json!({"kind": "offset", "value": 2}), 1 << 20).unwrap();
    assert_eq!(subscription.start_offset, 2);
    let batches = wire.receive(LONG).unwrap().unwrap();
    assert_eq!((batches.len(), batches[0].base_offset, batches[0].messages.len()), (1, 2, 300));
    wire.unsubscribe(subscription.subscription).unwrap();
}

#[test]
fn flawed_batches_are_refused() {
    let batch = Batch { append_time_us: 5, ..Batch::new(vec![Message::new("one")]) };
    assert!(Batch::decode_stored(&batch.stored().unwrap()).is_ok());
    for flaw in [
        Flaw::Crc,
        Flaw::ServerCrc,
        Flaw::Body,
        Flaw::Producer(6, vec![2]),
        Flaw::Producer(8, vec![0x10]),
        Flaw::Server(28, vec![1]),
    ] {
        let bytes = batch.stored_with(&flaw).unwrap();
        assert!(Batch::decode_stored(&bytes).is_err(), "{flaw:?}");
    }
}

#[test]
fn the_nth_frame_of_a_kind_is_answered_as_the_script_says() {
    let script = json!({
        "nth": {"Ping": ["default", {"error": "OVERLOADED"}, {"error": {"code": 4711, "class": "quota", "flags": 3}}]},
        "every": {"Status": {"reply": "ServerStatus", "fields": {"node_id": 9}}},
    });
    let fake = fake(&script);
    let mut wire = Wire::connect(fake.address(), &auth()).unwrap();
    wire.ping().unwrap();
    let error = wire.ping().unwrap_err();
    assert_eq!(error.server().map(|e| (e.name.as_str(), e.retriable)), Some(("OVERLOADED", true)));
    let error = wire.ping().unwrap_err().server().cloned().unwrap();
    assert_eq!((error.code, error.class.as_str(), error.retriable, error.maybe_applied), (4711, "quota", true, true));
    wire.ping().unwrap();
    assert_eq!(wire.status().unwrap()["node_id"], 9);
    assert_eq!(fake.counter("seen.Ping"), Some(4));
    assert_eq!(fake.seen("Hello", 0).unwrap()["client"], "levada-conformance");
}

#[test]
fn every_flaw_of_a_frame_is_noticed() {
    let flawed = |flaw: &str| json!({"reply": "Pong", "flaw": flaw});
    for flaw in [
        flawed("bad-crc"),
        flawed("unknown-flag"),
        flawed("oversized"),
        flawed("undersized"),
        flawed("mandatory-tag"),
        flawed("trailing-byte"),
        flawed("short-control"),
        flawed("unexpected-body"),
        json!([{"reply": "Pong", "cut": 10}, "close"]),
        json!("reset"),
        json!("ignore"),
        json!({"reply": "Pong", "correlation": 77}),
    ] {
        let fake = fake(&json!({"every": {"Ping": flaw}}));
        let mut wire = Wire::connect(fake.address(), &auth()).unwrap();
        wire.set_timeout(SHORT);
        assert!(matches!(wire.ping(), Err(WireError::Refused(_) | WireError::Closed | WireError::Timeout)), "{flaw}");
    }
    let fake = fake(&json!({"every": {"Ping": {"reply": "Pong", "fields": {"tagged": [{"tag": 9, "hex": "01"}]}}}}));
    Wire::connect(fake.address(), &auth()).unwrap().ping().unwrap();
}

#[test]
fn a_frame_is_dropped_once_and_the_next_passes() {
    let (_fake, proxy) = proxied(json!({"to": "client", "kind": "Pong", "action": "drop"}));
    let mut wire = connect(&proxy);
    assert!(matches!(wire.ping(), Err(WireError::Timeout)));
    wire.ping().unwrap();
    let counted = ["connections", "open", "acted", "to_client.Pong", "to_server.Ping"].map(|name| proxy.counter(name));
    assert_eq!(counted, [Some(1), Some(1), Some(1), Some(2), Some(2)]);
}

#[test]
fn the_second_frame_is_reset() {
    let (fake, proxy) = proxied(json!({"to": "server", "kind": "Ping", "nth": 2, "action": "reset"}));
    let mut wire = connect(&proxy);
    wire.ping().unwrap();
    assert!(matches!(wire.ping(), Err(WireError::Closed)));
    assert!(proxy.wait(LONG, |proxy| proxy.open_connections() == 0));
    assert!(fake.wait(LONG, |fake| fake.counter("open") == Some(0)));
    assert_eq!(fake.counter("seen.Ping"), Some(1));
}

#[test]
fn a_frame_is_cut_corrupted_or_late() {
    let (_fake, proxy) = proxied(json!({"to": "client", "kind": "Pong", "action": {"cut_after_bytes": 5}}));
    assert!(matches!(connect(&proxy).ping(), Err(WireError::Closed)));
    let (_fake, proxy) = proxied(json!({"to": "client", "kind": "Pong", "action": {"corrupt": -1}}));
    assert!(matches!(connect(&proxy).ping(), Err(WireError::Refused(_))));
    let (_fake, proxy) = proxied(json!({"to": "client", "kind": "Pong", "action": {"delay_ms": 150}}));
    let begun = std::time::Instant::now();
    connect(&proxy).ping().unwrap();
    assert!(Duration::from_millis(150) <= begun.elapsed());
}

#[test]
fn a_stall_ends_with_its_rule_and_a_half_close_leaves_the_other_half() {
    let (fake, proxy) = proxied(json!({"to": "client", "kind": "Pong", "action": "stall"}));
    let mut wire = connect(&proxy);
    assert!(matches!(wire.ping(), Err(WireError::Timeout)));
    proxy.clear_rules();
    wire.set_timeout(LONG);
    wire.ping().unwrap();
    drop(wire);
    assert!(fake.wait(LONG, |fake| fake.counter("open") == Some(0)));

    let (fake, proxy) = proxied(json!({"to": "client", "kind": "Pong", "action": "half_close"}));
    let mut wire = connect(&proxy);
    assert!(matches!(wire.ping(), Err(WireError::Closed)));
    drop(wire.begin("Ping", &Value::Null, None));
    assert!(fake.wait(LONG, |fake| fake.counter("seen.Ping") == Some(2)));
}

#[test]
fn a_stalled_connection_goes_with_its_client() {
    let (fake, proxy) = proxied(json!({"to": "client", "kind": "Pong", "action": "stall"}));
    let mut wire = connect(&proxy);
    assert!(matches!(wire.ping(), Err(WireError::Timeout)));
    drop(wire);
    assert!(proxy.wait(LONG, |proxy| proxy.open_connections() == 0));
    assert!(fake.wait(LONG, |fake| fake.counter("open") == Some(0)));
}

#[test]
fn bytes_may_come_one_by_one() {
    let (_fake, proxy) = proxied(json!({"to": "client", "kind": "any", "times": "all", "action": {"delay_ms": 1}}));
    proxy.set_split(true);
    let mut wire = connect(&proxy);
    wire.set_timeout(LONG);
    wire.produce("s/t", 0, &[Message::new("slowly")], Codec::None).unwrap();
    assert_eq!(wire.fetch_all("s/t", 0).unwrap()[0].payload.as_deref(), Some(&b"slowly"[..]));
}

#[test]
fn a_refusing_proxy_accepts_again_when_told() {
    let (_fake, proxy) = proxied(json!({"to": "client", "kind": "Pong", "action": "drop"}));
    proxy.set_refuse(true);
    assert!(Wire::connect(proxy.address(), &auth()).is_err());
    proxy.set_refuse(false);
    connect(&proxy);
    assert_eq!(proxy.connections(), 2);
}
