//! Round trips of every event and state, a model of the state, and power cuts at every moment of a list of changes.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use levada_storage::buffer::BufferPool;
use levada_storage::crash::{CrashDisk, CrashOptions};
use levada_storage::disk::Disk;
use levada_storage::{Durability, FatalError, FatalHook, Storage, StorageLimits, StorageOptions, TokioSpawn};
use proptest::prelude::*;

use crate::metadata::access::{Actions, Grant, Quota};
use crate::metadata::event::*;
use crate::metadata::model::{Compression, Role, TopicOptions, TopicSupplement};
use crate::metadata::store::FORMAT_LEVEL;
use crate::metadata::{Layout, MetadataError, MetadataStore, State, directories};
use crate::pattern::TopicPattern;

fn name() -> impl Strategy<Value = String> {
    "[a-c][a-z0-9._-]{0,4}"
}

fn options() -> impl Strategy<Value = TopicOptions> {
    let durability = prop_oneof![Just(Durability::Memory), Just(Durability::Disk)];
    let compression = prop_oneof![
        Just(Compression::Producer),
        Just(Compression::None),
        Just(Compression::Lz4),
        Just(Compression::Zstd)
    ];
    let limit = || proptest::option::of(any::<u64>());
    (1..9u32, durability, compression, limit(), limit(), limit()).prop_map(
        |(partition_count, durability, compression, retention_bytes, retention_age_us, segment_bytes)| TopicOptions {
            partition_count,
            durability,
            compression,
            retention_bytes,
            retention_age_us,
            segment_bytes,
            supplement: TopicSupplement::default(),
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Admin), Just(Role::Member)]
}

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let grant = ("[a-c*]{1,3}/[a-c*]{1,3}", 1..16u8).prop_map(|(pattern, bits)| Grant {
        pattern: TopicPattern::parse(&pattern).unwrap(),
        actions: Actions::from_bits(bits).unwrap(),
    });
    proptest::collection::vec(grant, 0..3)
}

fn quota() -> impl Strategy<Value = Quota> {
    let (large, small) = (|| proptest::option::of(any::<u64>()), || proptest::option::of(any::<u32>()));
    (large(), large(), small(), small()).prop_map(|(bytes_in, bytes_out, requests, connections)| Quota {
        bytes_in,
        bytes_out,
        requests,
        connections,
    })
}

/// Any event, ids small so that some refer to one another.
fn event() -> impl Strategy<Value = Event> {
    let id = || 1..6u32;
    let time = any::<i64>;
    prop_oneof![
        (any::<u128>(), id(), id(), time()).prop_map(|(cluster_id, node_id, format_level, at_us)| {
            ClusterBorn { cluster_id, node_id, format_level, at_us }.into()
        }),
        (id(), name(), time()).prop_map(|(stream_id, name, at_us)| StreamCreated { stream_id, name, at_us }.into()),
        id().prop_map(|stream_id| StreamDeleted { stream_id }.into()),
        (id(), id(), name(), options(), time()).prop_map(|(topic_id, stream_id, name, options, at_us)| {
            TopicCreated { topic_id, stream_id, name, options, at_us }.into()
        }),
        (id(), options()).prop_map(|(topic_id, options)| TopicAltered { topic_id, options }.into()),
        id().prop_map(|topic_id| TopicDeleted { topic_id }.into()),
        id().prop_map(|topic_id| TopicRemoved { topic_id }.into()),
        (id(), name(), role(), ".{0,20}", time()).prop_map(|(user_id, name, role, password_hash, at_us)| {
            UserCreated { user_id, name, role, password_hash, at_us }.into()
        }),
        (id(), proptest::option::of(".{0,20}"), proptest::option::of(role()))
            .prop_map(|(user_id, password_hash, role)| UserAltered { user_id, password_hash, role }.into()),
        id().prop_map(|user_id| UserDeleted { user_id }.into()),
        (id(), id(), name(), any::<[u8; 32]>(), time(), proptest::option::of(time())).prop_map(
            |(token_id, user_id, name, digest, at_us, expires_at_us)| {
                TokenCreated { token_id, user_id, name, digest, at_us, expires_at_us }.into()
            }
        ),
        id().prop_map(|token_id| TokenDeleted { token_id }.into()),
        any::<u64>().prop_map(|next_producer_id| ProducerIdBlock { next_producer_id }.into()),
        (1..9u64, id(), time())
            .prop_map(|(producer_id, epoch, at_us)| { ProducerEpochRaised { producer_id, epoch, at_us }.into() }),
        (id(), time()).prop_map(|(format_level, at_us)| FormatLevelRaised { format_level, at_us }.into()),
        (1..9u64, id(), name(), id(), time()).prop_map(|(producer_id, user_id, name, epoch, at_us)| {
            NamedProducerOpened { producer_id, user_id, name, epoch, at_us }.into()
        }),
        (id(), proptest::option::of(any::<u64>()), proptest::option::of(any::<u32>())).prop_map(
            |(topic_id, segment_age_us, dedup_messages)| {
                let supplement = TopicSupplement { segment_age_us, dedup_messages };
                TopicSupplemented { topic_id, supplement }.into()
            }
        ),
        (id(), proptest::collection::vec(name(), 0..2), grants()).prop_map(|(user_id, roles, grants)| AccessSet {
            user_id,
            roles,
            grants
        }
        .into()),
        (name(), grants()).prop_map(|(role, grants)| RoleSet { role, grants }.into()),
        name().prop_map(|role| RoleDeleted { role }.into()),
        (id(), grants()).prop_map(|(token_id, scope)| TokenScoped { token_id, scope }.into()),
        (id(), quota()).prop_map(|(user_id, quota)| QuotaSet { user_id, quota }.into()),
    ]
}

fn born() -> State {
    let born = ClusterBorn { cluster_id: 7, node_id: 1, format_level: 1, at_us: 0 };
    State::default().after(&[born.into()]).unwrap()
}

proptest! {
    #[test]
    fn records_read_back_the_same(events in proptest::collection::vec(event(), 0..6)) {
        let bytes = encode_record(&events);
        prop_assert_eq!(decode_record(&bytes).unwrap(), events);
        for end in 0..bytes.len() {
            prop_assert!(decode_record(&bytes[..end]).is_err(), "cut at {}", end);
        }
    }

    #[test]
    fn damaged_records_are_refused_or_read_as_something_without_harm(
        events in proptest::collection::vec(event(), 1..4), at in any::<prop::sample::Index>(), flip in 1..=255u8,
    ) {
        let mut bytes = encode_record(&events);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        // Must not panic, and must not allocate by a damaged count.
        let _ = decode_record(&bytes);
    }

    /// Whatever is thrown at it, the state keeps its invariants, refused events change nothing, and a snapshot of it reads
    /// back as the same state.
    #[test]
    fn the_state_keeps_its_invariants(events in proptest::collection::vec(event(), 0..60)) {
        let mut state = born();
        let mut topics_ever = std::collections::BTreeSet::new();
        for event in events {
            let before = state.clone();
            match state.apply(&event) {
                Err(_) => prop_assert_eq!(&state, &before),
                Ok(()) => if let Event::TopicCreated(created) = &event {
                    prop_assert!(topics_ever.insert(created.topic_id), "topic id reused");
                },
            }
            for topic in state.topics.values() {
                prop_assert!(state.streams.contains_key(&topic.stream_id));
                prop_assert!(!state.tombstones.contains(&topic.topic_id));
                let stream = &state.streams[&topic.stream_id].name;
                prop_assert_eq!(state.topic_named(stream, &topic.name).unwrap().topic_id, topic.topic_id);
            }
            for token in state.tokens.values() {
                prop_assert!(state.users.contains_key(&token.user_id));
            }
            prop_assert!(state.access.keys().eq(state.users.keys()), "every user, and nobody else, may do something");
            prop_assert!(state.access.values().flat_map(|access| &access.roles).all(|role| state.roles.contains_key(role)));
            prop_assert!(state.token_scopes.keys().all(|token_id| state.tokens.contains_key(token_id)));
            prop_assert!(state.quotas.keys().all(|user_id| state.users.contains_key(user_id)));
            prop_assert_eq!(state.streams_by_name().count(), state.streams.len());
            prop_assert_eq!(state.users_by_name().count(), state.users.len());
            prop_assert!(state.topics.keys().chain(&state.tombstones).all(|id| *id < state.next_topic_id));
        }
        let reread = State::decode(&state.encode()).unwrap();
        prop_assert_eq!(reread.encode(), state.encode());
        prop_assert_eq!((&reread.access, &reread.roles), (&state.access, &state.roles));
        prop_assert_eq!((&reread.token_scopes, &reread.quotas), (&state.token_scopes, &state.quotas));
        prop_assert_eq!(reread.topics.len(), state.topics.len());
        for topic in state.topics.values() {
            let stream = &state.streams[&topic.stream_id].name;
            prop_assert_eq!(reread.topic_named(stream, &topic.name), Some(topic));
        }
    }

    #[test]
    fn cut_snapshots_are_refused(events in proptest::collection::vec(event(), 0..30)) {
        let mut state = born();
        for event in &events {
            let _ = state.apply(event);
        }
        let bytes = state.encode();
        for end in 0..bytes.len() {
            prop_assert!(State::decode(&bytes[..end]).is_err(), "cut at {}", end);
        }
    }
}

#[test]
fn users_of_older_servers_keep_what_members_could_do_and_older_servers_read_what_knows_no_grants() {
    let user = |user_id, name: &str| -> Event {
        let (name, password_hash) = (name.to_owned(), "hash".into());
        UserCreated { user_id, name, role: Role::Member, password_hash, at_us: 1 }.into()
    };
    let state = born().after(&[user(1, "ann"), user(2, "bob")]).unwrap();
    let bytes = state.encode();
    assert_eq!(bytes[..2], [1, 0], "the version that older servers write and read");
    let reread = State::decode(&bytes).unwrap();
    let grants = |state: &State, user_id| state.access[&user_id].grants.clone();
    assert_eq!(grants(&reread, 1), [Grant::everywhere(Actions::BEFORE_GRANTS)]);
    let set = AccessSet { user_id: 2, roles: Vec::new(), grants: Vec::new() };
    let state = state.after(&[set.into()]).unwrap();
    assert_eq!(state.encode()[..2], [2, 0]);
    let reread = State::decode(&state.encode()).unwrap();
    assert_eq!(grants(&reread, 1), [Grant::everywhere(Actions::BEFORE_GRANTS)]);
    assert_eq!(grants(&reread, 2), []);
}

#[test]
fn an_event_of_a_newer_version_is_refused_by_name() {
    let mut bytes = encode_record(&[StreamDeleted { stream_id: 1 }.into()]);
    bytes[8] = 9;
    assert_eq!(
        decode_record(&bytes).unwrap_err().to_string(),
        "event kind 4 version 9 is unknown: it was written by a newer version"
    );
}

#[derive(Debug)]
struct NoClock;

impl levada_storage::Clock for NoClock {
    fn now_us(&self) -> i64 {
        1_700_000_000_000_000
    }
}

#[derive(Debug, Default)]
struct Recorded(Cell<bool>);

impl FatalHook for Recorded {
    fn on_fatal(&self, _error: FatalError) {
        self.0.set(true);
    }
}

async fn storage(disk: &CrashDisk, layout: Layout) -> Storage {
    let options = StorageOptions {
        disk: Rc::new(disk.clone()),
        clock: Rc::new(NoClock),
        spawn: Rc::new(TokioSpawn),
        fatal: Rc::new(Recorded::default()),
        pool: BufferPool::new(1 << 20),
        seed: 5,
        checkpoint_dir: layout.metadata_checkpoint_dir(),
        core: 0,
        limits: StorageLimits { cache_bytes: 1 << 20, ..StorageLimits::default() },
    };
    Storage::open(options).await.unwrap()
}

fn changes() -> Vec<Vec<Event>> {
    let options = TopicOptions {
        partition_count: 1,
        durability: Durability::Disk,
        compression: Compression::Producer,
        retention_bytes: None,
        retention_age_us: None,
        segment_bytes: None,
        supplement: TopicSupplement::default(),
    };
    let mut wider = options.clone();
    wider.partition_count = 3;
    let user =
        UserCreated { user_id: 1, name: "root".into(), role: Role::Admin, password_hash: "hash".into(), at_us: 1 };
    let born = ClusterBorn { cluster_id: 7, node_id: 1, format_level: 1, at_us: 0 };
    let topic = |topic_id: u32, name: &str| -> Event {
        let (stream_id, name, options) = (1, name.to_owned(), options.clone());
        TopicCreated { topic_id, stream_id, name, options, at_us: 3 }.into()
    };
    vec![
        vec![born.into(), user.into()],
        vec![StreamCreated { stream_id: 1, name: "s".into(), at_us: 2 }.into(), topic(1, "a")],
        vec![topic(2, "b")],
        vec![ProducerIdBlock { next_producer_id: 1025 }.into()],
        vec![TopicAltered { topic_id: 2, options: wider }.into()],
        vec![TopicDeleted { topic_id: 1 }.into()],
        vec![TopicRemoved { topic_id: 1 }.into()],
        vec![UserAltered { user_id: 1, password_hash: Some("other".into()), role: None }.into()],
        vec![ProducerEpochRaised { producer_id: 3, epoch: 2, at_us: 9 }.into()],
    ]
}

/// A power cut at any moment of a list of changes: the state afterwards is that after some prefix of them, and the prefix
/// holds every change that had been answered by then.
#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn every_answered_change_survives_every_power_cut() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut states = vec![State::default()];
            for change in changes() {
                states.push(states[states.len() - 1].after(&change).unwrap());
            }
            let disk = CrashDisk::new(3, CrashOptions::default());
            disk.create_dir_all(&Layout.metadata_dir()).await.unwrap();
            disk.sync_dir(Layout.root()).await.unwrap();
            let mut store = MetadataStore::open(&storage(&disk, Layout).await, Layout).await.unwrap();
            disk.record();
            let mut answered_at = vec![0];
            for change in changes() {
                store.commit(&change).await.unwrap();
                answered_at.push(disk.recorded_count());
            }
            store.close().await;
            let mut image_count = 0;
            for prefix in 0..=disk.recorded_count() {
                let answered = answered_at.iter().filter(|at| **at <= prefix).count() - 1;
                for seed in 0..8 {
                    let image = disk.image(prefix, seed);
                    let store = MetadataStore::open(&storage(&image, Layout).await, Layout).await.unwrap();
                    let found = states.iter().position(|state| state.encode() == store.snapshot().encode());
                    let found = found.unwrap_or_else(|| panic!("prefix {prefix} seed {seed}: no such state"));
                    assert!(answered <= found, "prefix {prefix} seed {seed}: change {answered} is lost, found {found}");
                    image_count += 1;
                }
            }
            assert!(100 < image_count, "{image_count}");
        })
        .await;
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn unknown_directories_are_moved_aside_and_deleted_topics_removed() {
    let disk = CrashDisk::new(4, CrashOptions::default());
    let layout = Layout;
    for path in ["1/0", "1/7", "2/0", "3/0", "junk", "01/0"] {
        disk.create_dir_all(&layout.topics_dir().join(path)).await.unwrap();
    }
    let mut state = State::default();
    for change in changes().iter().take(6) {
        state = state.after(change).unwrap();
    }
    // Topic 1 has a tombstone, topic 2 has three partitions, topic 3 never was.
    directories::quarantine_unknown(&disk, layout, &state).await.unwrap();
    directories::remove_topic(&disk, layout, 1).await.unwrap();
    let names = async |path: PathBuf| -> Vec<String> {
        disk.list(&path).await.unwrap().into_iter().map(|entry| entry.name).collect()
    };
    assert_eq!(names(layout.topics_dir()).await, ["2"]);
    assert_eq!(names(layout.quarantine_dir()).await, ["01", "3", "junk"]);
    assert_eq!(names(layout.topic_dir(2)).await, ["0"]);
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn a_directory_of_a_newer_server_is_refused() {
    let disk = CrashDisk::new(5, CrashOptions::default());
    disk.create_dir_all(&Layout.metadata_dir()).await.unwrap();
    tokio::task::LocalSet::new()
        .run_until(async {
            let storage = storage(&disk, Layout).await;
            let mut store = MetadataStore::open(&storage, Layout).await.unwrap();
            let format_level = FORMAT_LEVEL + 1;
            let born = ClusterBorn { cluster_id: 7, node_id: 1, format_level, at_us: 0 };
            store.commit(&[born.into()]).await.unwrap();
            store.close().await;
            let refused = MetadataStore::open(&storage, Layout).await.unwrap_err();
            assert!(matches!(refused, MetadataError::TooNew { found } if found == format_level), "{refused}");
        })
        .await;
}
