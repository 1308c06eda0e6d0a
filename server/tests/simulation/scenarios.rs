//! Users, tokens, topics and restarts through the real client library, on a quiet network and disk.

use std::rc::Rc;
use std::time::Duration;

use levada::{
    Client, ConsumerOptions, Credentials, DeleteTopics, Error, OnCorrupt, Position, ProducerOptions, Quota, Role,
    TopicChanges, topic_options,
};
use levada_server::config::Defects;
use levada_server::metadata::Layout;
use tokio::task::LocalSet;

use crate::world::World;

/// Runs a scenario on a server that has just been started for the first time.
fn scenario<F: Future<Output = ()>>(body: impl FnOnce(Rc<World>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (world, _fatal) = World::new(1, Defects::default());
        world.start().await.unwrap();
        body(Rc::clone(&world)).await;
        world.stop().await.unwrap();
    });
}

async fn login(world: &World, user: &str, password: &str) -> levada::Result<Client> {
    Client::connect(world.options(Credentials::password(user, password))).await
}

fn code<T>(outcome: Result<T, Error>) -> &'static str {
    outcome.map_or_else(|error| error.name(), |_| "OK")
}

#[test]
fn a_member_may_produce_and_manage_nothing_but_itself() {
    scenario(|world| async move {
        let admin = world.client().await.admin();
        admin.create_topic("s/t", topic_options(1)).await.unwrap();
        admin.create_user("ann", "correct horse", Role::Member, &["s/*:write".to_owned()]).await.unwrap();
        let ann = login(&world, "ann", "correct horse").await.unwrap();
        let producer = ann.producer("s/t", ProducerOptions::new()).await.unwrap();
        assert_eq!(producer.send("x").await.unwrap().offset, Some(0));
        assert_eq!(ann.admin().list_topics(None).await.unwrap().len(), 1);
        assert_eq!(code(ann.admin().create_topic("s/u", topic_options(1)).await), "PERMISSION_DENIED");
        assert_eq!(code(ann.admin().delete_user("root").await), "PERMISSION_DENIED");
        assert_eq!(code(ann.admin().list_users().await), "PERMISSION_DENIED");
        assert_eq!(code(ann.admin().create_token("t", Some("root"), None, None).await), "PERMISSION_DENIED");
        assert_eq!(code(ann.admin().alter_user("ann", None, Some(Role::Admin)).await), "PERMISSION_DENIED");
        assert_eq!(code(ann.admin().create_token("t", None, None, None).await), "OK");
    });
}

#[test]
fn a_quota_holds_and_clients_wait_for_it() {
    scenario(|world| async move {
        let admin = world.client().await.admin();
        admin.create_topic("s/t", topic_options(1)).await.unwrap();
        admin.create_user("ann", "correct horse", Role::Member, &["s/t:read,write".to_owned()]).await.unwrap();
        let quota = Quota { bytes_in: Some(10_000), bytes_out: Some(10_000), requests: None, connections: None };
        admin.set_quota("ann", quota).await.unwrap();
        let ann = login(&world, "ann", "correct horse").await.unwrap();
        let producer = ann.producer("s/t", ProducerOptions::new()).await.unwrap();
        let started = tokio::time::Instant::now();
        for number in 0..20 {
            let receipt = producer.send(vec![number; 5_000]).await.unwrap();
            assert_eq!((receipt.offset, receipt.duplicate), (Some(u64::from(number)), false));
        }
        let took = started.elapsed();
        // 100 KB at 10 KB a second, of which the first second's worth is there at once.
        assert!((8..16).contains(&took.as_secs()), "{took:?}");
        let options = ConsumerOptions::new("s/t").from(Position::EARLIEST).until_end().prefetch_bytes(6_000);
        let started = tokio::time::Instant::now();
        let consumer = ann.consumer(options).await.unwrap();
        let mut received = 0;
        while consumer.receive().await.unwrap().is_some() {
            received += 1;
        }
        let took = started.elapsed();
        assert_eq!(received, 20);
        assert!((5..16).contains(&took.as_secs()), "{took:?}");
    });
}

#[test]
fn who_changes_the_own_password_hears_of_it_before_every_session_of_the_old_one_ends() {
    scenario(|world| async move {
        let admin = world.client().await.admin();
        admin.create_user("ann", "correct horse", Role::Member, &[]).await.unwrap();
        let sibling = login(&world, "ann", "correct horse").await.unwrap();
        for (old, new) in [("correct horse", "another password"), ("another password", "a third password")] {
            let ann = login(&world, "ann", old).await.unwrap();
            assert_eq!(ann.admin().alter_user("ann", Some(new), None).await.unwrap().user, "ann");
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(code(ann.ping().await), "AUTH_FAILED");
            assert_eq!(code(sibling.ping().await), "AUTH_FAILED");
            assert_eq!(code(login(&world, "ann", new).await), "OK");
        }
        let ann = login(&world, "ann", "a third password").await.unwrap();
        admin.alter_user("ann", None, Some(Role::Admin)).await.unwrap();
        assert_eq!(code(ann.admin().delete_user("ann").await), "OK");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(code(ann.ping().await), "AUTH_FAILED");
    });
}

#[test]
fn wrong_secrets_are_refused_alike() {
    scenario(|world| async move {
        assert_eq!(code(login(&world, "root", "wrong password").await), "AUTH_FAILED");
        assert_eq!(code(login(&world, "nobody", "wrong password").await), "AUTH_FAILED");
        let token = Credentials::token("lvd_nonsense");
        assert_eq!(code(Client::connect(world.options(token)).await), "AUTH_FAILED");
    });
}

#[test]
fn a_revoked_token_ends_its_sessions() {
    scenario(|world| async move {
        let admin = world.client().await.admin();
        let token = admin.create_token("ci", None, None, None).await.unwrap();
        let client = Client::connect(world.options(Credentials::token(token.secret.clone()))).await.unwrap();
        client.ping().await.unwrap();
        admin.delete_token("ci", None).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(client.ping().await.is_err());
        let again = Client::connect(world.options(Credentials::token(token.secret))).await;
        assert_eq!(code(again), "AUTH_FAILED");
    });
}

#[test]
fn a_new_password_ends_the_sessions_of_the_old_one() {
    scenario(|world| async move {
        let admin = world.client().await.admin();
        admin.create_user("bob", "first password", Role::Member, &[]).await.unwrap();
        let old = login(&world, "bob", "first password").await.unwrap();
        old.ping().await.unwrap();
        admin.alter_user("bob", Some("second password"), None).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(old.ping().await.is_err());
        assert_eq!(code(login(&world, "bob", "first password").await), "AUTH_FAILED");
        assert_eq!(code(login(&world, "bob", "second password").await), "OK");
    });
}

#[test]
fn tokens_expire_and_secrets_are_not_listed() {
    scenario(|world| async move {
        let client = world.client().await;
        let admin = client.admin();
        let now_us = admin.describe_user("root").await.unwrap().user.created_at_us;
        let expires_at_us = now_us + 60_000_000;
        let token = admin.create_token("short", None, Some(expires_at_us), None).await.unwrap();
        assert_eq!(code(Client::connect(world.options(Credentials::token(token.secret.clone()))).await), "OK");
        tokio::time::sleep(Duration::from_secs(61)).await;
        let late = Client::connect(world.options(Credentials::token(token.secret.clone()))).await;
        assert_eq!(code(late), "TOKEN_EXPIRED");
        assert_eq!(code(admin.create_token("past", None, Some(1), None).await), "INVALID_ARGUMENT");
        let listed = format!("{:?}", admin.list_tokens(None).await.unwrap());
        assert!(listed.contains("short") && !listed.contains(&token.secret), "{listed}");
    });
}

#[test]
fn names_and_options_are_checked_and_said_by_name() {
    scenario(|world| async move {
        let admin = world.client().await.admin();
        for name in ["a b/t", "s/.hidden", "s/é"] {
            assert_eq!(code(admin.create_topic(name, topic_options(1)).await), "INVALID_NAME", "{name}");
        }
        let refused = |name: &'static str, argument: &'static str, change: fn(&mut levada::TopicOptions)| {
            let mut options = topic_options(1);
            change(&mut options);
            let admin = admin.clone();
            async move {
                let error = admin.create_topic("s/t", options).await.unwrap_err();
                assert_eq!((error.name(), error.detail("argument")), (name, Some(argument)));
            }
        };
        refused("CLIENT_USAGE", "partition_count", |options| options.partition_count = 0).await;
        refused("CLIENT_USAGE", "partition_count", |options| options.partition_count = 4097).await;
        refused("INVALID_ARGUMENT", "retention_bytes", |options| options.retention_bytes = Some(0)).await;
        refused("INVALID_ARGUMENT", "retention_age_us", |options| options.retention_age_us = Some(0)).await;
        refused("INVALID_ARGUMENT", "segment_bytes", |options| options.segment_bytes = Some(1)).await;
        let mut quorum = topic_options(1);
        quorum.durability = levada::Durability::Quorum;
        assert_eq!(code(admin.create_topic("s/t", quorum).await), "UNSUPPORTED");
        assert_eq!(code(admin.create_topic("s/t", topic_options(2)).await), "OK");
        assert_eq!(code(admin.create_topic("s/t", topic_options(2)).await), "ALREADY_EXISTS");
        let fewer = admin.set_partition_count("s/t", 1).await.unwrap_err();
        assert_eq!((fewer.name(), fewer.detail("argument")), ("INVALID_ARGUMENT", Some("partition_count")));
        assert_eq!(code(admin.delete_stream("s", DeleteTopics::No).await), "CONFLICT");
        assert_eq!(admin.delete_stream("s", DeleteTopics::Too).await.unwrap(), 1);
        assert_eq!(code(admin.describe_topic("s/t").await), "STREAM_NOT_FOUND");
        assert_eq!(code(admin.delete_user("root").await), "CONFLICT");
        assert_eq!(code(admin.create_user("eve", "short", Role::Member, &[]).await), "INVALID_ARGUMENT");
    });
}

#[test]
fn metadata_survives_a_restart_and_ids_are_not_reused() {
    scenario(|world| async move {
        let client = world.client().await;
        let admin = client.admin();
        let first = admin.create_topic("s/a", topic_options(1)).await.unwrap();
        admin.create_topic("s/b", topic_options(1)).await.unwrap();
        let producer = client.producer("s/b", ProducerOptions::new()).await.unwrap();
        producer.send("kept").await.unwrap();
        admin.delete_topic("s/a").await.unwrap();
        let changes = TopicChanges {
            partition_count: Some(3),
            durability: None,
            compression: None,
            retention_bytes: Some(1 << 30),
            retention_age_us: None,
            segment_bytes: None,
        };
        admin.alter_topic("s/b", changes).await.unwrap();
        world.stop().await.unwrap();
        world.start().await.unwrap();

        let client = world.client().await;
        let admin = client.admin();
        let described = admin.describe_topic("s/b").await.unwrap();
        assert_eq!((described.partitions.len(), described.topic.options.retention_bytes), (3, Some(1 << 30)));
        assert_eq!(described.partitions[0].visible_end_offset, 1);
        assert_eq!(code(admin.describe_topic("s/a").await), "TOPIC_NOT_FOUND");
        let again = admin.create_topic("s/a", topic_options(1)).await.unwrap();
        assert!(first.topic_id + 1 < again.topic_id, "{} came again", again.topic_id);
        let producer = client.producer("s/b", ProducerOptions::new()).await.unwrap();
        assert_eq!(producer.send(levada::Message::new("another first").partition(0)).await.unwrap().offset, Some(1));
        let status = admin.status().await.unwrap();
        assert_eq!((status.stream_count, status.topic_count, status.partition_count), (1, 2, 4));
        assert_eq!(status.disk_backend, "simulated");
    });
}

#[test]
fn a_batch_that_rots_on_disk_stops_a_consumer_or_is_stepped_over() {
    scenario(|world| async move {
        let client = world.client().await;
        let topic = client.admin().create_topic("s/t", topic_options(1)).await.unwrap();
        let producer = client.producer("s/t", ProducerOptions::new()).await.unwrap();
        for text in ["sound", "rotten", "sound again"] {
            producer.send(text).await.unwrap();
        }
        client.close(Duration::from_secs(1)).await.unwrap();
        world.stop().await.unwrap();
        let segment = Layout.partition_dir(topic.topic_id, 0).join("0000000001.seg");
        let content = world.disk().contents(&segment).unwrap();
        let at = content.windows(6).position(|window| window == b"rotten").unwrap();
        world.disk().flip_bit(&segment, at as u64, 0).unwrap();
        world.start().await.unwrap();

        let client = world.client().await;
        let options = ConsumerOptions::new("s/t").from(Position::EARLIEST).until_end();
        let stopping = client.consumer(options.clone()).await.unwrap();
        assert_eq!(stopping.receive().await.unwrap().unwrap().payload.as_deref(), Some(&b"sound"[..]));
        let error = stopping.receive().await.unwrap_err();
        let named = (error.detail("first_offset"), error.detail("next_offset"));
        assert_eq!((error.name(), named), ("CORRUPT_BATCH", (Some("1"), Some("2"))));
        let skipping = client.consumer(options.on_corrupt(OnCorrupt::Skip)).await.unwrap();
        let mut read = Vec::new();
        while let Some(message) = skipping.receive().await.unwrap() {
            read.push((message.offset, message.payload.unwrap().to_vec()));
        }
        assert_eq!(read, [(0, b"sound".to_vec()), (2, b"sound again".to_vec())]);
    });
}
