//! A data directory of format level 1 under this server: it goes on, and holds nothing that the server before could not
//! read, until its operator finalizes the upgrade.

use levada::{
    Client, ConsumerOptions, Error, GroupConsumerOptions, Position, ProducerOptions, Quota, ResetMode, Role,
    TopicChanges, topic_options,
};
use levada_server::config::Defects;
use levada_server::metadata::Layout;
use levada_server::metadata::event::{Event, decode_record};
use levada_server::upgrade::{Finalized, finalize};
use levada_storage::{PartitionIdentity, RecordLog, Storage, StorageLimits};
use tokio::task::LocalSet;

use crate::world::World;

/// What the metadata log of a stopped server holds.
async fn events(world: &World) -> Vec<Event> {
    let options = world.env().control.storage_options(Layout.metadata_checkpoint_dir(), StorageLimits::default());
    let storage = Storage::open(options).await.unwrap();
    let identity =
        PartitionIdentity { topic_id: levada_server::metadata::store::METADATA_LOG_ID, ..Default::default() };
    let (log, replay) = RecordLog::open(&storage, Layout.metadata_dir(), identity).await.unwrap();
    assert!(replay.records.iter().all(|record| !record.snapshot), "so little makes no snapshot");
    let events = replay.records.iter().flat_map(|record| decode_record(&record.payload).unwrap()).collect();
    log.close().await.unwrap();
    storage.close().await;
    events
}

/// What each request that needs level 2 is answered.
async fn ask_for_level_2(client: &Client) -> Vec<(&'static str, Result<(), Error>)> {
    let admin = client.admin();
    let quota = Quota { bytes_in: Some(1 << 20), bytes_out: None, requests: None, connections: None };
    let plain = client.consumer(ConsumerOptions::new("s/t").group("h").from(Position::EARLIEST)).await.unwrap();
    plain.receive().await.unwrap();
    let committed = plain.commit().await;
    let member = client.group_consumer(GroupConsumerOptions::new("g", ["s/t"]).from(Position::EARLIEST)).await;
    let joined = match member {
        Ok(member) => member.receive().await.map(drop),
        Err(error) => Err(error),
    };
    let topics = ["s/t".to_owned()];
    let stored = admin.reset_offsets("h", &topics, Position::EARLIEST, None, ResetMode::Apply);
    let orders = ["s/t:read".to_owned()];
    vec![
        ("named producer", client.producer("s/t", ProducerOptions::new().name("n")).await.map(drop)),
        ("join group", joined),
        ("commit", committed),
        ("reset offsets", stored.await.map(drop)),
        ("segment age", admin.set_segment_age("s/t", Some(60_000_000)).await),
        ("create user", admin.create_user("ben", "correct horse", Role::Member, &orders).await.map(drop)),
        ("set access", admin.set_access("ann", &[], &orders).await),
        ("set role", admin.set_role("readers", &orders).await),
        ("set quota", admin.set_quota("ann", quota).await.map(drop)),
        ("scope", admin.create_token("scoped", None, None, Some(&orders)).await.map(drop)),
    ]
}

#[test]
fn a_directory_stays_what_the_server_before_reads_until_its_upgrade_is_finalized() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (world, _fatal) = World::new(1, Defects::default());
        world.begin_at_level(1).await;
        world.start().await.unwrap();
        let client = world.client().await;
        let admin = client.admin();
        // What there was before works as before.
        admin.create_topic("s/t", topic_options(1)).await.unwrap();
        let changes = TopicChanges {
            partition_count: None,
            durability: None,
            compression: None,
            retention_bytes: Some(1 << 30),
            retention_age_us: None,
            segment_bytes: None,
        };
        admin.alter_topic("s/t", changes).await.unwrap();
        let everything = ["*/*:read,write,group".to_owned()];
        admin.create_user("ann", "correct horse", Role::Member, &everything).await.unwrap();
        admin.create_token("plain", None, None, None).await.unwrap();
        let producer = client.producer("s/t", ProducerOptions::new()).await.unwrap();
        producer.send("a").await.unwrap();
        producer.send("b").await.unwrap();
        assert_eq!(admin.delete_messages("s/t:0", Position::offset(1)).await.unwrap().log_start_offset, 1);
        for (what, outcome) in ask_for_level_2(&client).await {
            let error = outcome.expect_err(what);
            assert_eq!(error.name(), "UNSUPPORTED", "{what}: {error}");
            assert!(error.to_string().contains("levada-server finalize-upgrade DIR"), "{what}: {error}");
        }
        world.stop().await.unwrap();
        let beyond: Vec<_> = events(&world).await.into_iter().filter_map(|event| event.beyond_level_1()).collect();
        assert_eq!(beyond, Vec::<&str>::new());

        assert_eq!(finalize(&world.env()).await.unwrap(), Finalized { from: 1, to: 2 });
        assert_eq!(finalize(&world.env()).await.unwrap(), Finalized { from: 2, to: 2 });
        world.start().await.unwrap();
        let client = world.client().await;
        for (what, outcome) in ask_for_level_2(&client).await {
            assert!(outcome.is_ok(), "{what}: {outcome:?}");
        }
        let producer = client.producer("s/t", ProducerOptions::new()).await.unwrap();
        assert_eq!(producer.send("c").await.unwrap().offset, Some(2));
        world.stop().await.unwrap();
        let log = events(&world).await;
        let raised = log.iter().position(|event| matches!(event, Event::FormatLevelRaised(_))).unwrap();
        assert!(log[..raised].iter().all(|event| event.beyond_level_1().is_none()));
        assert!(log[raised..].iter().filter_map(Event::beyond_level_1).count() == 7, "{log:?}");
    });
}
