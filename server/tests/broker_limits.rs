//! Scenarios of clients that do not behave: each is refused or parted from, and costs others nothing.

mod broker_world;

use std::time::Duration;

use broker_world::*;
use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::batch::SealOptions;
use levada_protocol::client::{ClientConfig, ClientEvent};
use levada_protocol::messages::*;
use levada_server::admin::AdminMessage;
use levada_server::auth::{AuthMessage, Credential, Principal, Session};
use levada_server::edge::{ConnectionLimits, tls};
use levada_server::metadata::event::{self, UserCreated};
use levada_server::metadata::{Actions, Grant, Role as UserRole};
use levada_server::pattern::TopicPattern;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

const PREFACE: &[u8] = &levada_protocol::limits::PREFACE;

/// Reads until the server closes; how long that took.
async fn closed_after(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> (Duration, Vec<u8>) {
    let started = Instant::now();
    let mut said = Vec::new();
    let _ = timeout(Duration::from_secs(300), stream.read_to_end(&mut said)).await.expect("the server closes");
    (started.elapsed(), said)
}

#[test]
fn other_first_bytes_close_at_once() {
    scenario(async {
        let world = World::new().await;
        for first in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"\0", b"\x16\x03\x01", b"LEVADA.."] {
            let mut stream = world.dial(0, 4096);
            stream.write_all(first).await.unwrap();
            let (waited, said) = closed_after(&mut stream).await;
            assert!(waited < Duration::from_secs(1) && said.is_empty(), "{first:?}: {waited:?} {said:?}");
        }
        assert_eq!(world.connections.count(), 0);
    });
}

#[test]
fn silence_before_authentication_ends_after_five_seconds() {
    scenario(async {
        let world = World::new().await;
        for begun in [b"".as_slice(), b"L", PREFACE] {
            let mut stream = world.dial(0, 4096);
            stream.write_all(begun).await.unwrap();
            let (waited, _) = closed_after(&mut stream).await;
            assert!((4_900..11_000).contains(&waited.as_millis()), "{begun:?}: {waited:?}");
        }
    });
}

#[test]
fn a_half_open_handshake_ends_after_five_seconds() {
    scenario(async {
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let acceptor =
            tls::acceptor(identity.cert.pem().as_bytes(), identity.signing_key.serialize_pem().as_bytes()).unwrap();
        let world = World::with(WorldOptions { tls: Some(acceptor), ..WorldOptions::default() }).await;
        let mut stream = world.dial(0, 4096);
        stream.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
        let (waited, _) = closed_after(&mut stream).await;
        assert!((4_900..5_200).contains(&waited.as_millis()), "{waited:?}");
    });
}

#[test]
fn a_length_field_of_four_gigabytes_is_refused_before_memory_is_taken() {
    scenario(async {
        let world = World::new().await;
        let client = world.client().await;
        let mut stream = client.into_stream();
        let mut header = vec![0xff; 4];
        header.extend_from_slice(&[0x01, 0x01, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        stream.write_all(&header).await.unwrap();
        let (waited, said) = closed_after(&mut stream).await;
        assert!(waited < Duration::from_secs(6) && !said.is_empty());
    });
}

#[test]
fn random_bytes_end_the_connection_and_nobody_else() {
    scenario(async {
        let (world, topic, [mut healthy]) = World::with_clients().await;
        let mut state = 1u64;
        for round in 0..50 {
            let client = world.client().await;
            let mut stream = client.into_stream();
            let noise: Vec<u8> = (0..20_000)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56).to_le_bytes()[0]
                })
                .collect();
            let _ = stream.write_all(&noise).await;
            let _ = stream.shutdown().await;
            closed_after(&mut stream).await;
            healthy.produce(topic, 0, &[&round.to_string()]).await.unwrap();
        }
        assert_eq!(healthy.fetch(from_start(topic, 0)).await.unwrap().1.len(), 50);
        assert_eq!(world.connections.count(), 1);
    });
}

#[test]
fn a_reader_that_does_not_read_is_parted_from_after_thirty_seconds() {
    scenario(async {
        let (world, topic, [mut producer, mut slow]) = World::with_clients().await;
        for _ in 0..20 {
            let batch = producer.large_batch(1 << 20);
            producer.produce_batch(topic, 0, batch).await.unwrap();
        }
        slow.subscribe(1, (topic, 0), Position::EARLIEST, 1 << 30).await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(world.connections.count(), 2);
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(world.connections.count(), 1);
        assert_eq!(world.shards[0].status().subscription_count, 0);
    });
}

#[test]
fn zero_credit_is_no_fault_for_any_time() {
    scenario(async {
        let (_world, topic, [mut producer, mut patient]) = World::with_clients().await;
        producer.produce(topic, 0, &["a"]).await.unwrap();
        patient.subscribe(1, (topic, 0), Position::EARLIEST, 0).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1000)).await;
        patient.credit(1, 1).await;
        assert_eq!(patient.delivery().await.texts(), ["a"]);
    });
}

#[test]
fn a_producer_that_stalls_within_a_batch_is_parted_from() {
    scenario(async {
        let (world, topic, [mut producer]) = World::with_clients().await;
        // A live subscription keeps a connection from being idle: the stalled frame must count all the same.
        producer.subscribe(1, (topic, 0), Position::LATEST, 1).await.unwrap();
        let batch = producer.large_batch(1 << 20);
        producer.send_produce(topic, 0, batch);
        let mut slices = Vec::new();
        producer.machine.slices(&mut slices);
        let frame: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        drop(slices);
        let mut stream = producer.into_stream();
        stream.write_all(&frame[..500_000]).await.unwrap();
        let (waited, _) = closed_after(&mut stream).await;
        assert!((29_000..36_000).contains(&waited.as_millis()), "{waited:?}");
        let mut other = world.client().await;
        assert_eq!(other.produce(topic, 0, &["a"]).await.unwrap().base_offset, 0);
    });
}

#[test]
fn bodies_wait_for_the_budget_of_all_connections() {
    scenario(async {
        let options = WorldOptions { total_bytes: 1 << 20, ..WorldOptions::default() };
        let world = World::with(options).await;
        let topic = world.topic(1).await;
        let mut hog = world.client().await;
        let batch = hog.large_batch(900_000);
        hog.send_produce(topic, 0, batch);
        let mut slices = Vec::new();
        hog.machine.slices(&mut slices);
        let frame: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        drop(slices);
        let mut stream = hog.into_stream();
        stream.write_all(&frame[..300_000]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut other = world.client().await;
        let batch = other.large_batch(500_000);
        let asked = other.send_produce(topic, 0, batch);
        assert!(timeout(Duration::from_secs(5), other.next()).await.is_err(), "there is no room for the body yet");
        stream.write_all(&frame[300_000..]).await.unwrap();
        assert_eq!(other.answer::<ProduceAck>(asked).await.unwrap().0.base_offset, 1);
    });
}

#[test]
fn an_idle_connection_is_told_goodbye_and_a_pinging_one_is_not() {
    scenario(async {
        let world = World::new().await;
        let mut idle = world.client().await;
        let (silent, reason) = {
            let started = Instant::now();
            let reason = idle.goodbye().await;
            (started.elapsed(), reason)
        };
        assert_eq!(reason, GoodbyeReason::Idle);
        assert!((119..123).contains(&silent.as_secs()), "{silent:?}");
        let mut lively = world.client().await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            lively.call(&Ping {}).await.unwrap();
        }
        assert!(lively.hears_nothing().await);
        assert_eq!(world.connections.count(), 1);
    });
}

#[test]
fn connections_over_the_limit_are_closed_and_room_comes_back() {
    scenario(async {
        let limits = ConnectionLimits { total: 2, per_peer: 2, unauthenticated: 2 };
        let world = World::with(WorldOptions { limits, ..WorldOptions::default() }).await;
        let first = world.client().await;
        let _second = world.client().await;
        let mut third = world.dial(0, 4096);
        let (_, said) = closed_after(&mut third).await;
        assert!(said.is_empty());
        drop(first);
        tokio::time::sleep(Duration::from_millis(10)).await;
        world.client().await;
    });
}

#[test]
fn three_hundred_idle_connections_serve_as_well() {
    scenario(async {
        let world = World::new().await;
        let topic = world.topic(1).await;
        let mut idle = Vec::new();
        for _ in 0..300 {
            idle.push(world.client().await);
        }
        let mut healthy = world.client().await;
        assert_eq!(healthy.produce(topic, 0, &["a"]).await.unwrap().base_offset, 0);
        assert_eq!(world.connections.count(), 301);
    });
}

/// Makes a user and a session of it, in which the scenario plays the part of authentication.
async fn log_in(world: &World, inbox: &mut mpsc::Receiver<AuthMessage>, user_id: u32) -> Client {
    let (name, password_hash) = (format!("u{user_id}"), "first".into());
    let role = UserRole::Member;
    world.happen(UserCreated { user_id, name: name.clone(), role, password_hash, at_us: 0 }).await;
    let secret = Bytes::from_static(b"secret");
    let credentials = Authenticate { method: AuthMethod::Password, user: name.clone(), secret };
    let config = ClientConfig { credentials: Some(credentials), ..ClientConfig::default() };
    let mut client = Client::new(world.dial(0, 4096), config);
    let told = async {
        let Some(AuthMessage::Authenticate { attempt, reply }) = inbox.recv().await else {
            panic!("authentication ended");
        };
        assert!(attempt.confidential && attempt.peer.is_loopback());
        let version = world.shards[0].snapshot().users[&user_id].password_version;
        let credential = Credential::Password { version };
        let principal = Principal { user_id, name: name.as_str().into(), credential };
        let answer =
            Authenticated { user: name.clone(), role: Role::Member, ticket: Bytes::new(), ticket_expires_at_us: 0 };
        reply.send(Ok(Session { principal, reply: answer })).expect("the connection waits for it");
    };
    let (event, ()) = tokio::join!(client.next(), told);
    assert!(matches!(event, Some(ClientEvent::Ready { authenticated: Some(_), .. })), "{event:?}");
    client
}

#[test]
fn a_session_does_what_its_role_may_and_ends_by_revocation_with_its_last_answer() {
    scenario(async {
        let mut options = WorldOptions::default();
        options.edge.insecure_dev = false;
        let world = World::with(options).await;
        let topic = world.topic(1).await;
        let mut inbox = world.auth.borrow_mut().take().expect("nobody else authenticates");
        let mut client = log_in(&world, &mut inbox, 3).await;
        let mut writer = log_in(&world, &mut inbox, 4).await;
        client.produce(topic, 0, &["a"]).await.unwrap();
        let error = client.call(&CreateStream { stream: "x".into() }).await.unwrap_err();
        assert_eq!(code(&error), "PERMISSION_DENIED");
        client.subscribe(1, (topic, 0), Position::LATEST, 1 << 20).await.unwrap();
        writer.produce(topic, 0, &["b"]).await.unwrap();
        assert_eq!(client.delivery().await.texts(), ["b"]);

        let password = Some(Bytes::from_static(b"another secret"));
        let asked = client.machine.request(&AlterUser { user: "u3".into(), password, role: None }).unwrap();
        client.flush().await;
        let Some(AdminMessage::Request { reply, .. }) = world.admin_request().await else {
            panic!("administration ended");
        };
        // The change is installed everywhere before it is answered.
        let changed = event::UserAltered { user_id: 3, password_hash: Some("second".into()), role: None };
        world.happen(changed).await;
        writer.produce(topic, 0, &["c"]).await.unwrap();
        let _ignored = client.machine.request(&ListStreams {}).unwrap();
        assert!(client.hears_nothing_within(Duration::from_secs(1)).await, "it hears what it may not any more");
        let user = UserInfo { user_id: 3, user: "u3".into(), role: Role::Member, created_at_us: 0, token_count: 0 };
        reply.send(Ok(UserAltered { user }.into())).unwrap();
        client.answer::<UserAltered>(asked).await.unwrap();
        assert_eq!(client.goodbye().await, GoodbyeReason::Revoked);
        writer.produce(topic, 0, &["d"]).await.unwrap();
    });
}

#[test]
fn a_grant_that_is_withdrawn_ends_what_it_allowed_at_once() {
    scenario(async {
        let mut options = WorldOptions { cores: 2, ..WorldOptions::default() };
        options.edge.insecure_dev = false;
        let world = World::with(options).await;
        let topic = world.topic(2).await;
        let mut inbox = world.auth.borrow_mut().take().expect("nobody else authenticates");
        let mut client = log_in(&world, &mut inbox, 3).await;
        let mut writer = log_in(&world, &mut inbox, 4).await;
        for partition in 0..2 {
            client.subscribe(partition, (topic, partition), Position::LATEST, 1 << 20).await.unwrap();
        }
        writer.produce(topic, 0, &["a"]).await.unwrap();
        assert_eq!(client.delivery().await.texts(), ["a"]);
        let mut waiting = from_start(topic, 1);
        (waiting.min_bytes, waiting.max_wait_ms) = (1, 60_000);
        let fetch = client.machine.request(&waiting).unwrap();
        client.flush().await;

        let grants = vec![Grant { pattern: TopicPattern::every(), actions: Actions::WRITE }];
        world.happen(event::AccessSet { user_id: 3, roles: Vec::new(), grants }).await;
        for _ in 0..2 {
            let ended = client.ended().await;
            assert_eq!(ended.code, ErrorCode::PermissionDenied.code());
        }
        for partition in 0..2 {
            writer.produce(topic, partition, &["b"]).await.unwrap();
        }
        assert_eq!(code(&client.answer::<Fetched>(fetch).await.unwrap_err()), "PERMISSION_DENIED");
        assert!(client.hears_nothing_within(Duration::from_secs(1)).await, "it hears what it may not any more");
        let error = client.fetch(from_start(topic, 0)).await.unwrap_err();
        assert_eq!(code(&error), "PERMISSION_DENIED");
        client.produce(topic, 0, &["c"]).await.unwrap();

        world.happen(event::AccessSet { user_id: 3, roles: Vec::new(), grants: Vec::new() }).await;
        assert_eq!(code(&client.produce(topic, 0, &["d"]).await.unwrap_err()), "PERMISSION_DENIED");
        world.happen(event::UserDeleted { user_id: 3 }).await;
        assert_eq!(client.goodbye().await, GoodbyeReason::Revoked);
    });
}

#[test]
fn everything_works_over_sockets() {
    scenario_on_sockets(async {
        let world = World::with_cores(2).await;
        let topic = world.topic(2).await;
        let (mut producer, mut consumer) = (world.tcp_client().await, world.tcp_client().await);
        for partition in 0..2 {
            consumer.subscribe(partition, (topic, partition), Position::EARLIEST, 1 << 30).await.unwrap();
            let asked: Vec<u32> = (0..8)
                .map(|_| {
                    let batch = producer.large_batch(1 << 20);
                    producer.send_produce(topic, partition, batch)
                })
                .collect();
            for (number, asked) in asked.into_iter().enumerate() {
                assert_eq!(producer.answer::<ProduceAck>(asked).await.unwrap().0.base_offset, number as u64);
            }
            let mut received = 0;
            while received < 8 {
                received += consumer.delivery().await.messages.len();
            }
        }
    });
}

#[test]
fn everything_works_over_tls() {
    scenario_on_sockets(async {
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let acceptor =
            tls::acceptor(identity.cert.pem().as_bytes(), identity.signing_key.serialize_pem().as_bytes()).unwrap();
        let world = World::with(WorldOptions { tls: Some(acceptor), ..WorldOptions::default() }).await;
        let topic = world.topic(1).await;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(identity.cert.der().clone()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, world.dial_tcp(0).await).await.unwrap();
        let mut client = Client::ready(Box::new(stream), ClientConfig::default()).await;
        let batch = client.batch(&["private"], SealOptions::default());
        client.produce_batch(topic, 0, batch).await.unwrap();
        let large = client.large_batch(3 << 20);
        client.produce_batch(topic, 0, large).await.unwrap();
        assert_eq!(client.fetch(from_start(topic, 0)).await.unwrap().1[0], "private");
    });
}
