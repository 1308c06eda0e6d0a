//! Holds the generated calls and records against `api.toml`, read here on its own.

use std::borrow::Cow;

use levada::{
    BatchReceipt, Durability, Named, NewToken, ReadOnlyPartition, Receipt, Role, ServerStatus, TokenInfo,
    TopicCompression, TopicInfo, TopicOptions, Value,
};
use serde::Deserialize;

use crate::IntoValue;
use crate::generated::calls::{CALLS, Call, Effect, effect};

#[derive(Deserialize)]
struct Api {
    operation: Vec<Operation>,
}

#[derive(Deserialize)]
struct Operation {
    name: String,
    effect: String,
    #[serde(default)]
    call: bool,
    arguments: Vec<Argument>,
}

#[derive(Deserialize)]
struct Argument {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

fn calls() -> Vec<Operation> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../api.toml");
    let api: Api = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    api.operation.into_iter().filter(|operation| operation.call).collect()
}

fn sample(kind: &str) -> Value {
    match kind.trim_end_matches('?') {
        "string" => Value::Text("name".to_owned()),
        "[string]" => Value::List(vec![Value::Text("name/*:read".to_owned())]),
        "u32" | "u64" => Value::U64(1),
        "bool" => Value::Bool(true),
        "i64" => Value::I64(-1),
        "position" => Value::Text("last(3)".to_owned()),
        "Role" => Value::Text("member".to_owned()),
        "TopicOptions" | "TopicChanges" => Value::Record(vec![("partition_count".into(), Value::F64(3.0))]),
        "Quota" => Value::Record(vec![("bytes_in".into(), Value::U64(1))]),
        other => panic!("no sample of type {other}"),
    }
}

fn samples(operation: &Operation) -> Named {
    operation.arguments.iter().map(|argument| (Cow::Owned(argument.name.clone()), sample(&argument.kind))).collect()
}

fn refused(operation: &str, named: Named) -> String {
    let error = Call::read(operation, named).err().expect("the call is refused");
    assert!(error.is(levada::ErrorCode::ClientUsage));
    error.detail("argument").unwrap().to_owned()
}

#[test]
fn every_call_of_the_api_is_known_with_its_effect() {
    let wanted: Vec<_> = calls()
        .into_iter()
        .map(|call| (call.name, if call.effect == "read" { Effect::Read } else { Effect::Change }))
        .collect();
    let known: Vec<_> = CALLS.iter().map(|name| ((*name).to_owned(), effect(name).unwrap())).collect();
    assert_eq!(known, wanted);
    assert_eq!(effect("make_coffee"), None);
}

#[test]
fn every_call_takes_its_arguments_and_no_others() {
    for call in calls() {
        assert!(Call::read(&call.name, samples(&call)).is_ok(), "{}", call.name);
        let mut more = samples(&call);
        more.push(("more".into(), Value::Null));
        assert_eq!(refused(&call.name, more), "more");
        for (at, argument) in call.arguments.iter().enumerate() {
            let mut wrong = samples(&call);
            // Neither anything else nor a list of anything else.
            wrong[at].1 = Value::List(vec![Value::List(Vec::new())]);
            assert_eq!(refused(&call.name, wrong), argument.name, "{}", call.name);
        }
    }
    assert_eq!(refused("make_coffee", Vec::new()), "operation");
}

#[test]
fn arguments_that_are_left_out_are_missing_or_have_a_default() {
    assert_eq!(refused("create_stream", Vec::new()), "stream");
    let topic = || vec![("topic".into(), Value::Text("a/b".to_owned()))];
    let Ok(Call::CreateTopic { options, .. }) = Call::read("create_topic", topic()) else { panic!("it is read") };
    assert_eq!(options, levada::topic_options(1));
    let Ok(Call::AlterTopic { changes, .. }) = Call::read("alter_topic", topic()) else { panic!("it is read") };
    assert_eq!(changes.partition_count, None);
    let stream = vec![("stream".into(), Value::Text("a".to_owned()))];
    assert!(matches!(Call::read("delete_stream", stream), Ok(Call::DeleteStream { topics: false, .. })));
}

#[test]
fn options_of_a_topic_are_checked_and_their_age_is_microseconds_on_the_wire() {
    let read = |name: &'static str, value: Value| {
        let options = Value::Record(vec![(name.into(), value)]);
        Call::read("create_topic", vec![("topic".into(), Value::Text("a/b".to_owned())), ("options".into(), options)])
    };
    let Ok(Call::CreateTopic { options, .. }) = read("retention_age_ms", Value::F64(1.5)) else { panic!("it is read") };
    assert_eq!(options.retention_age_us, Some(1500));
    let wrong = [
        ("partition_count", Value::U64(0)),
        ("partition_count", Value::U64(5000)),
        ("retention_age_ms", Value::U64(u64::MAX)),
        ("compression", Value::Text("zip".to_owned())),
        ("retention_age_us", Value::U64(1)),
    ];
    for (name, value) in wrong {
        let error = read(name, value).err().expect("the option is refused");
        assert_eq!(error.detail("argument"), Some(name));
    }
}

#[test]
fn records_have_the_names_of_the_source() {
    let options =
        TopicOptions { compression: TopicCompression::Zstd, retention_age_us: Some(7), ..levada::topic_options(8) };
    let topic = TopicInfo { topic_id: 3, stream: "s".into(), topic: "t".into(), options, created_at_us: -1 };
    let value = vec![topic].into_value();
    let Value::List(items) = value else { panic!("a list") };
    assert_eq!(items[0].get("topic_id"), Some(&Value::U64(3)));
    assert_eq!(items[0].get("created_at_us"), Some(&Value::I64(-1)));
    let options = items[0].get("options").unwrap();
    assert_eq!(options.get("compression"), Some(&Value::Text("zstd".to_owned())));
    assert_eq!(options.get("retention_age_us"), Some(&Value::U64(7)));
    assert_eq!(options.get("retention_bytes"), Some(&Value::Null));
}

#[test]
fn receipts_tokens_and_status_become_records() {
    let batch = BatchReceipt {
        partition: 1,
        base_offset: None,
        message_count: 2,
        append_time_us: 3,
        durability: Durability::Disk,
        duplicate: true,
        server_encoded: false,
    };
    let value = batch.into_value();
    assert_eq!(value.get("base_offset"), Some(&Value::Null));
    assert_eq!(value.get("durability"), Some(&Value::Text("disk".to_owned())));
    let receipt = Receipt {
        partition: 1,
        offset: Some(u64::MAX),
        append_time_us: 3,
        durability: Durability::Memory,
        duplicate: false,
        server_encoded: true,
    };
    assert_eq!(receipt.into_value().get("offset"), Some(&Value::U64(u64::MAX)));
    let token = TokenInfo {
        token_id: 1,
        name: "n".into(),
        user: "u".into(),
        created_at_us: 0,
        expires_at_us: None,
        scope: None,
    };
    let value = NewToken { token, secret: "hush".into() }.into_value();
    assert_eq!(value.get("secret"), Some(&Value::Text("hush".to_owned())));
    assert_eq!(value.get("token").and_then(|token| token.get("name")), Some(&Value::Text("n".to_owned())));
    assert_eq!(Role::Member.into_value(), Value::Text("member".to_owned()));
    let partition = ReadOnlyPartition { stream: "s".into(), topic: "t".into(), partition: 1, reason: "r".into() };
    assert!(partition.into_value().get("reason").is_some());
    let _: fn(ServerStatus) -> Value = IntoValue::into_value;
}
