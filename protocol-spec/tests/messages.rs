//! Every message against a second implementation of the grammar, and every way a control part can be broken.

#[cfg(test)]
mod schema;

use bytes::{Bytes, BytesMut};
use levada_protocol::messages::*;
use levada_protocol::{ErrorClass, ErrorCode, MaybeApplied, limits};
use proptest::prelude::*;
use schema::{Schema, Size, Source};

/// Decodes whichever end receives that kind; what it encodes again.
#[cfg(test)]
fn again(kind: u16, control: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let control = Bytes::copy_from_slice(control);
    let kind = Kind::from_code(kind).unwrap();
    let mut out = BytesMut::new();
    match (Request::decode(kind, &control)?, ServerFrame::decode(kind, &control)?) {
        (Some(request), None) => {
            assert_eq!(request.kind(), kind);
            request.encode(&mut out);
        }
        (None, Some(frame)) => {
            assert_eq!(frame.kind(), kind);
            frame.encode(&mut out);
        }
        both => panic!("{kind:?} is of one end: {both:?}"),
    }
    Ok(out.to_vec())
}

#[test]
fn the_least_and_the_most_of_every_message_come_back() {
    let schema = Schema::load();
    assert_eq!(schema.message_names().len(), Kind::ALL.len());
    for name in schema.message_names() {
        assert_eq!(Kind::from_code(schema.kind(&name)).map(Kind::name), Some(name.as_str()));
        for size in [Size::Least, Size::Most] {
            let control = schema.encode(&name, &schema.sample(&name, size, &mut Source(0)));
            assert_eq!(again(schema.kind(&name), &control).as_ref(), Ok(&control), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_fields_of_every_message_come_back(seed: u64) {
        let schema = Schema::load();
        for name in schema.message_names() {
            let value = schema.sample(&name, Size::Any, &mut Source(seed));
            let control = schema.encode(&name, &value);
            prop_assert_eq!(again(schema.kind(&name), &control), Ok(control), "{} {}", name, value);
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in Kind::ALL {
            // Whatever is accepted is the same again after it was decoded: no byte is without meaning but skipped ones.
            if let Ok(encoded) = again(kind.code(), &bytes) {
                prop_assert_eq!(again(kind.code(), &encoded), Ok(encoded));
            }
        }
    }
}

#[test]
fn every_prefix_of_every_message_is_refused() {
    let schema = Schema::load();
    for name in schema.message_names() {
        for size in [Size::Least, Size::Most] {
            let control = schema.encode(&name, &schema.sample(&name, size, &mut Source(0)));
            for length in 0..control.len() {
                assert!(again(schema.kind(&name), &control[..length]).is_err(), "{name} cut to {length} bytes");
            }
            let longer = [&control[..], &[0]].concat();
            assert_eq!(again(schema.kind(&name), &longer), Err(DecodeError::Trailing(1)), "{name}");
        }
    }
}

#[test]
fn values_that_are_none_are_refused() {
    let bool_value = [&[1, 0, b's'][..], &[2], &[0, 0]].concat();
    assert_eq!(again(0x0011, &bool_value), Err(DecodeError::UnknownValue { of: "bool", value: 2 }));
    let optional = [2, 0, 0];
    assert_eq!(again(0x0024, &optional), Err(DecodeError::UnknownValue { of: "optional", value: 2 }));
    let durability = [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0];
    assert_eq!(again(0x0101, &durability), Err(DecodeError::UnknownValue { of: "Durability", value: 9 }));
    let not_utf8 = [2, 0, 0xff, 0xfe, 0, 0];
    assert_eq!(again(0x0010, &not_utf8), Err(DecodeError::NotUtf8));
}

#[test]
fn tags_are_skipped_ordered_and_understood() {
    let tags = |fields: &[(u16, &[u8])]| {
        let mut control = u16::try_from(fields.len()).unwrap().to_le_bytes().to_vec();
        for (tag, bytes) in fields {
            control.extend_from_slice(&tag.to_le_bytes());
            control.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
            control.extend_from_slice(bytes);
        }
        again(Kind::Ping.code(), &control)
    };
    assert_eq!(tags(&[(1, b"new"), (2, b""), (0x7fff, b"x")]), Ok(vec![0, 0]));
    assert_eq!(tags(&[(2, b""), (1, b"")]), Err(DecodeError::TagOrder(1)));
    assert_eq!(tags(&[(1, b""), (1, b"")]), Err(DecodeError::TagOrder(1)));
    assert_eq!(tags(&[(1, b""), (0x8000, b"")]), Err(DecodeError::UnknownTag(0x8000)));
    assert_eq!(again(Kind::Ping.code(), &[1, 0, 1, 0, 255, 255, 255, 255]), Err(DecodeError::Truncated));
}

#[test]
fn what_a_later_version_appends_to_an_element_is_skipped() {
    let info = StreamInfo { stream_id: 7, stream: "s".into(), topic_count: 1, created_at_us: -1 };
    let streams = Streams { streams: vec![info.clone(), info] };
    let mut control = BytesMut::new();
    streams.encode(&mut control);
    let element = 4 + 2 + 1 + 4 + 8;
    let mut longer = control.to_vec();
    longer[4..8].copy_from_slice(&(u32::try_from(element).unwrap() + 3).to_le_bytes());
    longer.splice(8 + element..8 + element, [1, 2, 3]);
    assert_eq!(Streams::decode(&longer.into()), Ok(streams));
    let mut shorter = control.to_vec();
    shorter[4..8].copy_from_slice(&3u32.to_le_bytes());
    assert_eq!(Streams::decode(&shorter.into()), Err(DecodeError::Truncated));
}

#[test]
fn a_list_takes_no_memory_its_bytes_do_not_justify() {
    for count in [2u32, 1_000_000, u32::MAX] {
        let control = [&count.to_le_bytes()[..], &[0; 6]].concat();
        assert!(Streams::decode(&control.into()).is_err(), "{count}");
    }
    // The shortest element of a list is its length field: the struct behind it is always longer in memory.
    let count = 200_000u32;
    let mut control = count.to_le_bytes().to_vec();
    control.resize(4 + 4 * 200_000, 0);
    control.extend_from_slice(&[0, 0]);
    assert_eq!(Topics::decode(&control.into()), Err(DecodeError::TooCostly));
}

#[test]
fn a_long_listing_of_short_names_is_still_read() {
    let options = TopicOptions {
        partition_count: 1,
        durability: Durability::Disk,
        compression: TopicCompression::Producer,
        retention_bytes: None,
        retention_age_us: None,
        segment_bytes: None,
    };
    let topic = TopicInfo { topic_id: 1, stream: "s".into(), topic: "t".into(), options, created_at_us: 0 };
    let topics = Topics { topics: vec![topic; 30_000] };
    let mut control = BytesMut::new();
    topics.encode(&mut control);
    assert!(control.len() < limits::MAX_CONTROL_BYTES);
    assert_eq!(Topics::decode(&control.freeze()), Ok(topics));
}

#[test]
fn text_beyond_what_its_length_counts_is_cut_at_a_character() {
    let mut control = BytesMut::new();
    CreateStream { stream: "é".repeat(40_000) }.encode(&mut control);
    let CreateStream { stream } = CreateStream::decode(&control.freeze()).unwrap();
    assert_eq!(stream, "é".repeat(32_767));
}

#[test]
fn secrets_do_not_show() {
    let secret = Bytes::from_static(b"hunter2");
    let shown = [
        format!("{:?}", Authenticate { method: AuthMethod::Password, user: "root".into(), secret: secret.clone() }),
        format!("{:?}", CreateUser { user: "root".into(), password: secret.clone(), role: Role::Admin, grants: None }),
        format!("{:?}", Request::AlterUser(AlterUser { user: "root".into(), password: Some(secret), role: None })),
    ];
    for text in shown {
        assert!(text.contains("root") && text.contains("<redacted>") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn limits_errors_and_classes_are_those_of_their_sources() {
    for (name, limit) in Schema::load().tables["limits"].as_table().unwrap() {
        let constant = match name.as_str() {
            "max_preauth_frame_bytes" => limits::MAX_PREAUTH_FRAME_BYTES,
            "max_control_bytes" => limits::MAX_CONTROL_BYTES,
            "max_batch_bytes" => limits::MAX_BATCH_BYTES,
            "max_messages_per_batch" => limits::MAX_MESSAGES_PER_BATCH,
            "max_key_bytes" => limits::MAX_KEY_BYTES,
            "max_headers_bytes" => limits::MAX_HEADERS_BYTES,
            "max_name_bytes" => limits::MAX_NAME_BYTES,
            "max_in_flight" => limits::MAX_IN_FLIGHT,
            "max_partitions_per_topic" => limits::MAX_PARTITIONS_PER_TOPIC,
            "max_subscriptions" => limits::MAX_SUBSCRIPTIONS,
            "max_password_bytes" => limits::MAX_PASSWORD_BYTES,
            "max_group_topics" => limits::MAX_GROUP_TOPICS,
            "max_producer_names" => limits::MAX_PRODUCER_NAMES,
            "max_group_members" => limits::MAX_GROUP_MEMBERS,
            "max_commit_offsets" => limits::MAX_COMMIT_OFFSETS,
            "max_grants" => limits::MAX_GRANTS,
            "max_user_roles" => limits::MAX_USER_ROLES,
            "max_requests_in_flight" => limits::MAX_REQUESTS_IN_FLIGHT,
            other => panic!("limit {other} has no constant here"),
        };
        assert_eq!(i64::try_from(constant).ok(), limit["value"].as_integer(), "{name}");
    }
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/errors.toml")).unwrap();
    let source: toml::Table = toml::from_str(&text).unwrap();
    let errors = source["errors"].as_table().unwrap();
    assert_eq!(errors.len(), ErrorCode::ALL.len());
    for code in ErrorCode::ALL {
        let entry = &errors[code.name()];
        assert_eq!(entry["code"].as_integer(), Some(i64::from(code.code())));
        assert_eq!(entry["class"].as_str(), Some(code.class().name()));
        assert_eq!(entry["retriable"].as_bool(), Some(code.retriable()));
        assert_eq!(entry["text"].as_str(), Some(code.text()));
        let maybe = match code.maybe_applied() {
            MaybeApplied::No => "no",
            MaybeApplied::Yes => "yes",
            MaybeApplied::Varies => "varies",
        };
        assert_eq!(entry["maybe_applied"].as_str(), Some(maybe));
        assert_eq!(ErrorCode::from_code(code.code()), Some(*code));
        assert_eq!(ErrorClass::try_from(code.class().code()), Ok(code.class()));
    }
}
