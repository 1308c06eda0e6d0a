//! Connecting, authenticating, asking, closing.

use std::time::Duration;

use levada::{Client, Credentials, ErrorClass, ErrorCode, ProducerOptions};
use levada_protocol::messages::AuthMethod;
use tokio::time::Instant;

use crate::settle;
use crate::stage::{Stage, TOPIC};

#[tokio::test(start_paused = true)]
async fn a_client_connects_and_knows_the_server() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    let info = client.server_info().unwrap();
    assert_eq!(info.node_id, 1);
    assert_eq!(info.user, None);
    client.ping().await.unwrap();
    client.close(Duration::from_secs(1)).await.unwrap();
    assert!(client.ping().await.unwrap_err().is(ErrorCode::Closed));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_told_at_once() {
    let stage = Stage::new(1);
    stage.refuse_connections(true);
    let before = Instant::now();
    let error = Client::connect(stage.options()).await.unwrap_err();
    assert!(error.is(ErrorCode::ConnectFailed), "{error}");
    assert_eq!(error.detail("address"), Some("levada://stage:1"));
    assert!(before.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_after_the_connect_timeout() {
    let stage = Stage::new(1);
    stage.mute();
    let before = Instant::now();
    let error = Client::connect(stage.options().connect_timeout(Duration::from_secs(3))).await.unwrap_err();
    assert!(error.is(ErrorCode::ConnectFailed), "{error}");
    assert!((3_000..3_100).contains(&before.elapsed().as_millis()));
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_are_a_definite_answer() {
    let stage = Stage::new(1);
    stage.require(Credentials::password("root", "right"));
    let wrong = stage.options().credentials(Credentials::password("root", "wrong"));
    let error = Client::connect(wrong).await.unwrap_err();
    assert!(error.is(ErrorCode::AuthFailed), "{error}");
    let error = Client::connect(stage.options()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    assert!(error.is(ErrorCode::Unauthenticated), "{error}");
}

#[tokio::test(start_paused = true)]
async fn siblings_and_reconnects_show_the_ticket() {
    let stage = Stage::new(1);
    stage.require(Credentials::password("root", "right"));
    let options = stage.options().credentials(Credentials::password("root", "right"));
    let client = Client::connect(options).await.unwrap();
    assert_eq!(client.server_info().unwrap().user.as_deref(), Some("actor"));
    let producer = client.producer(TOPIC, ProducerOptions::new()).await.unwrap();
    producer.send("a").await.unwrap();
    stage.cut();
    producer.send("b").await.unwrap();
    client.ping().await.unwrap();
    let shown = stage.authentications();
    assert_eq!(shown[0], AuthMethod::Password);
    assert!(4 <= shown.len() && shown[1..].iter().all(|method| *method == AuthMethod::Ticket), "{shown:?}");

    stage.revoke_tickets();
    stage.cut();
    client.ping().await.unwrap();
    assert!(stage.authentications().iter().filter(|method| **method == AuthMethod::Password).count() >= 2);
}

#[tokio::test(start_paused = true)]
async fn requests_that_read_are_repeated_until_they_succeed() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    stage.fail_list_topics(3);
    assert_eq!(client.admin().list_topics(None).await.unwrap().len(), 1);
    stage.cut();
    assert_eq!(client.admin().list_topics(None).await.unwrap().len(), 1);
    assert_eq!(stage.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_with_the_request_timeout() {
    let stage = Stage::new(1);
    let client = Client::connect(stage.options().request_timeout(Duration::from_secs(2))).await.unwrap();
    stage.refuse_connections(true);
    stage.cut();
    settle().await;
    let before = Instant::now();
    let error = client.admin().list_topics(None).await.unwrap_err();
    assert!(error.is(ErrorCode::ClientTimeout), "{error}");
    assert!(!error.maybe_applied());
    assert_eq!(before.elapsed().as_secs(), 2);
    stage.refuse_connections(false);
    client.admin().list_topics(None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_is_a_definite_answer() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    let error = client.producer("play/nothing", ProducerOptions::new()).await.unwrap_err();
    assert!(error.is(ErrorCode::TopicNotFound), "{error}");
    let error = client.producer("no-slash", ProducerOptions::new()).await.unwrap_err();
    assert!(error.is(ErrorCode::InvalidName), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_alive() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    client.ping().await.unwrap();
    assert_eq!(stage.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_everything_ends_the_connections() {
    let stage = Stage::new(1);
    let client = stage.client().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let producer = client.producer(TOPIC, ProducerOptions::new()).await.unwrap();
    producer.send("a").await.unwrap();
    assert_ne!(metrics.num_alive_tasks(), 0);
    drop((client, producer));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(metrics.num_alive_tasks(), 0, "no task of the client or of the stage is left");
}
