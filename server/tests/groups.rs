//! Scenarios of consumer groups: shares, hand-over, sessions, stored offsets, what survives a restart.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod broker_world;

use std::rc::Rc;
use std::time::Duration;

use broker_world::*;
use levada_protocol::ServerFrame;
use levada_protocol::client::ClientEvent;
use levada_protocol::messages::*;
use levada_protocol::{limits, partitioner};
use levada_server::metadata::Layout;
use levada_server::metadata::event::TopicCreated;
use levada_storage::crash::Survival;

const PLENTY: u64 = 1 << 30;
const SESSION: Duration = Duration::from_secs(10);
const RELEASE: Duration = Duration::from_secs(5);

fn options() -> WorldOptions {
    WorldOptions { serves_groups: true, ..WorldOptions::default() }
}

/// After a restart: the topic is there already.
fn again() -> WorldOptions {
    WorldOptions { topics: vec![2], ..options() }
}

async fn world_with(partition_count: u32) -> (Rc<World>, u32) {
    let world = World::with(options()).await;
    let topic = world.topic(partition_count).await;
    (world, topic)
}

fn joining(topics: &[&str]) -> JoinGroup {
    JoinGroup {
        group: "g".into(),
        member: String::new(),
        instance: None,
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        strategy: Strategy::Sticky,
        session_timeout_ms: u32::try_from(SESSION.as_millis()).unwrap(),
        release_timeout_ms: u32::try_from(RELEASE.as_millis()).unwrap(),
    }
}

fn resuming(joined: &GroupJoined, topics: &[&str]) -> JoinGroup {
    JoinGroup { member: joined.member.clone(), ..joining(topics) }
}

async fn join(client: &mut Client, topics: &[&str]) -> GroupJoined {
    client.call(&joining(topics)).await.unwrap()
}

/// The next change of what a member holds.
async fn changed(client: &mut Client) -> GroupChanged {
    match client.next().await.expect("a push, not the end of the connection") {
        ClientEvent::Push { frame: ServerFrame::GroupChanged(changed), .. } => changed,
        other => panic!("expected a change, got {other:?}"),
    }
}

async fn membership_ended(client: &mut Client) -> MembershipEnded {
    match client.next().await.expect("a push, not the end of the connection") {
        ClientEvent::Push { frame: ServerFrame::MembershipEnded(ended), .. } => ended,
        other => panic!("expected the end of a membership, got {other:?}"),
    }
}

fn partitions(assignments: &[Assignment]) -> Vec<u32> {
    assignments.iter().map(|assignment| assignment.partition).collect()
}

fn at(assignment: &Assignment, offset: u64) -> CommitOffset {
    CommitOffset {
        topic_id: assignment.topic_id,
        partition: assignment.partition,
        generation: assignment.generation,
        offset,
        epoch: Some(0),
        rewind: false,
        release: false,
    }
}

fn releasing(assignment: &Assignment, offset: u64) -> CommitOffset {
    CommitOffset { release: true, ..at(assignment, offset) }
}

async fn commit(client: &mut Client, member: &str, offsets: Vec<CommitOffset>) -> Result<(), Error> {
    let commit = Commit { group: "g".into(), member: Some(member.to_owned()), offsets };
    client.call(&commit).await.map(|_| ())
}

/// What the group has stored: partition and offset.
async fn stored(client: &mut Client) -> Vec<(u32, u64)> {
    let read = client.call(&ReadOffsets { group: "g".into(), topics: Vec::new() }).await.unwrap();
    read.offsets.iter().map(|stored| (stored.partition, stored.offset)).collect()
}

async fn subscribe(
    client: &mut Client,
    id: u32,
    member: &str,
    assignment: &Assignment,
    position: Position,
) -> Result<Subscribed, Error> {
    client
        .call(&Subscribe {
            subscription: id,
            topic_id: assignment.topic_id,
            partition: assignment.partition,
            position,
            epoch: None,
            credit_bytes: PLENTY,
            group: Some("g".into()),
            member: Some(member.to_owned()),
            generation: Some(assignment.generation),
            otherwise: Some(Position::EARLIEST),
        })
        .await
}

#[test]
fn a_partition_goes_to_the_next_member_when_the_first_has_released_it() {
    scenario(async {
        let (world, _) = world_with(4).await;
        let (mut first, mut second) = (world.client().await, world.client().await);
        let one = join(&mut first, &["s/t1"]).await;
        assert_eq!(partitions(&one.assignments), [0, 1, 2, 3]);
        let two = join(&mut second, &["s/*"]).await;
        assert!(two.assignments.is_empty() && one.generation < two.generation);
        let change = changed(&mut first).await;
        assert_eq!((change.assigned.len(), change.revoked.len(), change.release_within_ms), (0, 2, 5000));
        // Its other partitions go on under the assignments it has.
        let kept: Vec<_> = one.assignments.iter().filter(|held| !change.revoked.contains(held)).collect();
        commit(&mut first, &one.member, vec![at(kept[0], 0)]).await.unwrap();
        assert!(second.hears_nothing_within(RELEASE / 2).await);
        commit(&mut first, &one.member, vec![releasing(&change.revoked[0], 7)]).await.unwrap();
        let given = changed(&mut second).await;
        assert_eq!(partitions(&given.assigned), [change.revoked[0].partition]);
        assert_eq!(given.assigned[0].generation, two.generation);
        let late = commit(&mut first, &one.member, vec![at(kept[0], 9), at(&change.revoked[0], 9)]).await.unwrap_err();
        assert_eq!(code(&late), "NOT_ASSIGNED");
        assert_eq!(detail(&late.details, "partition"), Some(change.revoked[0].partition.to_string()));
        assert_eq!(stored(&mut second).await.iter().find(|(_, offset)| *offset == 9), None);
        // The other one is not released, so it goes when the time is over.
        let given = changed(&mut second).await;
        assert_eq!(partitions(&given.assigned), [change.revoked[1].partition]);
        let late = commit(&mut first, &one.member, vec![releasing(&change.revoked[1], 1)]).await.unwrap_err();
        assert_eq!(code(&late), "NOT_ASSIGNED");
    });
}

#[test]
fn a_subscription_ends_with_its_assignment_and_before_the_member_is_told() {
    scenario(async {
        for cores in [1, 2] {
            let world = World::with(WorldOptions { cores, ..options() }).await;
            let topic = world.topic(2).await;
            let (mut first, mut second) = (world.client().await, world.client().await);
            let one = join(&mut first, &["s/t1"]).await;
            for (id, assignment) in (1..).zip(&one.assignments) {
                let begun = subscribe(&mut first, id, &one.member, assignment, Position::STORED).await.unwrap();
                assert_eq!(begun.start_offset, 0);
            }
            join(&mut second, &["s/t1"]).await;
            let ended = first.ended().await;
            assert_eq!(levada_protocol::ErrorCode::from_code(ended.code).unwrap().name(), "NOT_ASSIGNED");
            let change = changed(&mut first).await;
            assert_eq!(partitions(&change.revoked), [ended.subscription - 1]);
            let error = subscribe(&mut first, 9, &one.member, &change.revoked[0], Position::STORED).await.unwrap_err();
            assert_eq!(code(&error), "NOT_ASSIGNED");
            // Nothing of it is sent any more; the other one goes on.
            for partition in 0..2 {
                second.produce(topic, partition, &["a"]).await.unwrap();
            }
            let delivered = first.delivery().await;
            assert_ne!(delivered.head.subscription, ended.subscription);
            assert!(first.hears_nothing_within(RELEASE / 2).await);
        }
    });
}

#[test]
fn a_lost_connection_leaves_a_member_for_its_session_timeout() {
    scenario(async {
        let (world, _) = world_with(2).await;
        let (mut first, mut second) = (world.client().await, world.client().await);
        let one = join(&mut first, &["s/t1"]).await;
        let two = join(&mut second, &["s/t1"]).await;
        let change = changed(&mut first).await;
        commit(&mut first, &one.member, vec![releasing(&change.revoked[0], 3)]).await.unwrap();
        changed(&mut second).await;
        drop(first);
        assert!(second.hears_nothing_within(SESSION / 2).await);
        // Back in time, with what it had.
        let mut first = world.client().await;
        let again = first.call(&resuming(&one, &["s/t1"])).await.unwrap();
        assert_eq!((again.assignments.len(), again.generation), (1, two.generation));
        drop(first);
        let given = changed(&mut second).await;
        assert_eq!(partitions(&given.assigned), partitions(&again.assignments));
        let mut first = world.client().await;
        let error = first.call(&resuming(&one, &["s/t1"])).await.unwrap_err();
        assert_eq!(code(&error), "UNKNOWN_MEMBER");
        let error = commit(&mut first, &one.member, vec![at(&again.assignments[0], 9)]).await.unwrap_err();
        assert_eq!(code(&error), "UNKNOWN_MEMBER");
    });
}

#[test]
fn leaving_is_immediate_and_a_group_without_anything_is_forgotten() {
    scenario(async {
        let (world, _) = world_with(2).await;
        let (mut first, mut second) = (world.client().await, world.client().await);
        let one = join(&mut first, &["s/t1"]).await;
        let two = join(&mut second, &["s/t1"]).await;
        changed(&mut first).await;
        first.call(&LeaveGroup { group: "g".into(), member: one.member.clone() }).await.unwrap();
        assert_eq!(partitions(&changed(&mut second).await.assigned), [0, 1]);
        second.call(&LeaveGroup { group: "g".into(), member: two.member.clone() }).await.unwrap();
        assert_eq!(second.call(&ListGroups {}).await.unwrap().groups, []);
        let error = second.call(&DescribeGroup { group: "g".into() }).await.unwrap_err();
        assert_eq!(code(&error), "GROUP_NOT_FOUND");
    });
}

#[test]
fn a_static_member_that_restarts_in_time_moves_nothing_and_fences_itself() {
    scenario(async {
        let (world, _) = world_with(2).await;
        let (mut before, mut other) = (world.client().await, world.client().await);
        let instance = JoinGroup { instance: Some("a".into()), ..joining(&["s/t1"]) };
        let one = before.call(&instance).await.unwrap();
        let two = join(&mut other, &["s/t1"]).await;
        let change = changed(&mut before).await;
        commit(&mut before, &one.member, vec![releasing(&change.revoked[0], 0)]).await.unwrap();
        changed(&mut other).await;
        let mut after = world.client().await;
        let again = after.call(&instance).await.unwrap();
        assert_eq!((again.generation, again.assignments.len()), (two.generation, 1));
        let ended = membership_ended(&mut before).await;
        assert_eq!(ended.member, one.member);
        let error = commit(&mut before, &one.member, vec![at(&again.assignments[0], 5)]).await.unwrap_err();
        assert_eq!(code(&error), "UNKNOWN_MEMBER");
        commit(&mut after, &again.member, vec![at(&again.assignments[0], 5)]).await.unwrap();
        assert!(other.hears_nothing().await);
    });
}

#[test]
fn commits_are_all_or_nothing_and_never_go_back_unless_they_say_so() {
    scenario(async {
        let (world, topic) = world_with(2).await;
        let mut client = world.client().await;
        let one = join(&mut client, &["s/t1"]).await;
        let [a, b] = &one.assignments[..] else { panic!("both partitions") };
        commit(&mut client, &one.member, vec![at(a, 5), at(b, 6)]).await.unwrap();
        let error = commit(&mut client, &one.member, vec![at(a, 7), at(b, 5)]).await.unwrap_err();
        assert_eq!((code(&error), detail(&error.details, "stored_offset")), ("OFFSET_REGRESSION", Some("6".into())));
        assert_eq!(stored(&mut client).await, [(0, 5), (1, 6)]);
        let back = CommitOffset { rewind: true, ..at(b, 5) };
        commit(&mut client, &one.member, vec![at(a, 7), back]).await.unwrap();
        assert_eq!(stored(&mut client).await, [(0, 7), (1, 5)]);
        let twice = commit(&mut client, &one.member, vec![at(a, 8), at(a, 9)]).await.unwrap_err();
        assert_eq!(code(&twice), "INVALID_ARGUMENT");
        // Without membership, but there is a member.
        let alone = Commit {
            group: "g".into(),
            member: None,
            offsets: vec![CommitOffset { generation: 0, topic_id: topic, ..at(a, 9) }],
        };
        let error = client.call(&alone).await.unwrap_err();
        assert_eq!((code(&error), detail(&error.details, "member_count")), ("GROUP_NOT_EMPTY", Some("1".into())));
        client.call(&LeaveGroup { group: "g".into(), member: one.member.clone() }).await.unwrap();
        client.call(&alone).await.unwrap();
        assert_eq!(stored(&mut client).await, [(0, 9), (1, 5)]);
    });
}

#[test]
fn acknowledged_commits_and_memberships_survive_a_power_cut() {
    scenario(async {
        for survival in [Survival::SyncedOnly, Survival::Everything] {
            let (world, _) = world_with(2).await;
            let mut client = world.client().await;
            let one = join(&mut client, &["s/t1"]).await;
            commit(&mut client, &one.member, one.assignments.iter().map(|held| at(held, 4)).collect()).await.unwrap();
            let world = World::on(world.disk.crash_with(survival, 0), again()).await;
            let mut client = world.client().await;
            assert_eq!(stored(&mut client).await, [(0, 4), (1, 4)]);
            let again = client.call(&resuming(&one, &["s/t1"])).await.unwrap();
            assert_eq!(again, one);
            commit(&mut client, &one.member, vec![at(&one.assignments[0], 5)]).await.unwrap();
        }
    });
}

#[test]
fn a_damaged_coordinator_log_stops_its_groups_and_no_others() {
    scenario(async {
        let (world, _) = world_with(2).await;
        let mut client = world.client().await;
        let other = JoinGroup { group: "another".into(), ..joining(&["s/t1"]) };
        let log_of = |group: &str| partitioner::partition_for_key(group.as_bytes(), 16);
        assert_ne!(log_of("g"), log_of(&other.group));
        let commit_to = |joined: &GroupJoined, group: &str, offset| Commit {
            group: group.into(),
            member: Some(joined.member.clone()),
            offsets: vec![at(&joined.assignments[0], offset)],
        };
        let one = join(&mut client, &["s/t1"]).await;
        let two = client.call(&other).await.unwrap();
        client.call(&commit_to(&one, "g", 3)).await.unwrap();
        client.call(&commit_to(&two, "another", 4)).await.unwrap();
        world.stop_groups().await;
        let segment = Layout.coordinator_dir(log_of("g")).join("0000000001.seg");
        let content = world.disk.contents(&segment).unwrap();
        let place = content.windows(one.member.len()).position(|window| window == one.member.as_bytes()).unwrap();
        world.disk.flip_bit(&segment, place as u64, 0).unwrap();

        let world = World::on(world.disk.clone(), again()).await;
        let mut client = world.client().await;
        let (group, topics) = ("g".to_owned(), vec!["s/t1".to_owned()]);
        let refused = [
            client.call(&joining(&["s/t1"])).await.map(drop),
            client.call(&resuming(&one, &["s/t1"])).await.map(drop),
            client.call(&commit_to(&one, "g", 5)).await.map(drop),
            client.call(&ReadOffsets { group: group.clone(), topics: Vec::new() }).await.map(drop),
            client.call(&DescribeGroup { group: group.clone() }).await.map(drop),
            client.call(&DeleteGroup { group: group.clone() }).await.map(drop),
            client
                .call(&ResetOffsets { group, topics, partition: None, position: Position::EARLIEST, dry_run: false })
                .await
                .map(drop),
            subscribe(&mut client, 1, &one.member, &one.assignments[0], Position::STORED).await.map(drop),
        ];
        for outcome in refused {
            let error = outcome.unwrap_err();
            assert_eq!(code(&error), "GROUP_UNAVAILABLE");
            assert!(detail(&error.details, "reason").is_some(), "{error:?}");
        }
        let back = client.call(&JoinGroup { member: two.member.clone(), ..other }).await.unwrap();
        assert_eq!(back, two);
        client.call(&commit_to(&two, "another", 5)).await.unwrap();
        let read = client.call(&ReadOffsets { group: "another".into(), topics: Vec::new() }).await.unwrap();
        assert_eq!(read.offsets.iter().map(|stored| stored.offset).collect::<Vec<_>>(), [5]);
        let listed = client.call(&ListGroups {}).await.unwrap().groups;
        assert_eq!(listed.iter().map(|info| info.group.as_str()).collect::<Vec<_>>(), ["another"]);
    });
}

#[test]
fn a_member_may_hold_more_than_one_frame_can_say() {
    scenario(async {
        const COUNT: usize = limits::MAX_PARTITIONS_PER_TOPIC;
        const _: () = assert!(limits::MAX_CONTROL_BYTES < 300 * COUNT);
        let world = World::with(options()).await;
        let partition_count = u32::try_from(COUNT).unwrap();
        let name = "t".repeat(250);
        let created =
            TopicCreated { topic_id: 1, stream_id: 1, name, options: topic_options(partition_count), at_us: 0 };
        world.happen(created).await;
        let mut client = world.client().await;
        let mut joined = join(&mut client, &["s/*"]).await;
        let every: Vec<u32> = (0..partition_count).collect();
        for resumed in [false, true] {
            let mut held = partitions(&joined.assignments);
            assert!((1..COUNT).contains(&held.len()), "{}", held.len());
            while held.len() < COUNT {
                let change = changed(&mut client).await;
                assert_eq!((change.generation, change.revoked.len()), (joined.generation, 0));
                held.extend(partitions(&change.assigned));
            }
            assert_eq!(held, every);
            if !resumed {
                client = world.client().await;
                joined = client.call(&resuming(&joined, &["s/*"])).await.unwrap();
            }
        }
        // What moves comes in pieces too.
        let mut other = world.client().await;
        let two = join(&mut other, &["s/*"]).await;
        let mut revoked = Vec::new();
        while revoked.len() < COUNT / 2 {
            revoked.extend(changed(&mut client).await.revoked);
        }
        commit(&mut client, &joined.member, revoked.iter().map(|held| releasing(held, 0)).collect()).await.unwrap();
        let mut given = two.assignments.len();
        while given < COUNT / 2 {
            given += changed(&mut other).await.assigned.len();
        }
        assert!(client.hears_nothing_within(RELEASE / 2).await && other.hears_nothing_within(RELEASE / 2).await);
    });
}

#[test]
fn nobody_loses_anything_when_the_server_restarts_but_who_does_not_come_back() {
    scenario(async {
        let (world, _) = world_with(2).await;
        let (mut first, mut second) = (world.client().await, world.client().await);
        let one = join(&mut first, &["s/t1"]).await;
        let two = join(&mut second, &["s/t1"]).await;
        let change = changed(&mut first).await;
        commit(&mut first, &one.member, vec![releasing(&change.revoked[0], 3)]).await.unwrap();
        let given = changed(&mut second).await;
        world.stop_groups().await;
        let world = World::on(world.disk.clone(), again()).await;
        let mut second = world.client().await;
        let again = second.call(&resuming(&two, &["s/t1"])).await.unwrap();
        assert_eq!((again.generation, &again.assignments), (two.generation, &given.assigned));
        assert!(second.hears_nothing_within(SESSION / 2).await);
        assert_eq!(changed(&mut second).await.assigned.len(), 1);
    });
}

#[test]
fn a_subscription_starts_at_what_the_group_has_stored() {
    scenario(async {
        let (world, topic) = world_with(2).await;
        let mut client = world.client().await;
        client.produce(topic, 0, &["a", "b", "c"]).await.unwrap();
        let one = join(&mut client, &["s/t1"]).await;
        commit(&mut client, &one.member, vec![at(&one.assignments[0], 2)]).await.unwrap();
        let begun = subscribe(&mut client, 1, &one.member, &one.assignments[0], Position::STORED).await.unwrap();
        assert_eq!(begun.start_offset, 2);
        let delivered = client.delivery().await;
        assert_eq!(delivered.messages.last().unwrap(), &(2, "c".to_owned()));
        let resolve = |partition, group: Option<&str>| ResolvePosition {
            topic_id: topic,
            partition,
            position: Position::STORED,
            group: group.map(ToOwned::to_owned),
        };
        assert_eq!(client.call(&resolve(0, Some("g"))).await.unwrap().offset, 2);
        let error = client.call(&resolve(1, Some("g"))).await.unwrap_err();
        assert_eq!(code(&error), "NO_STORED_OFFSET");
        let error = client.call(&resolve(0, None)).await.unwrap_err();
        assert_eq!(code(&error), "UNSUPPORTED");
        let error = client.call(&resolve(0, Some("nobody"))).await.unwrap_err();
        assert_eq!(code(&error), "NO_STORED_OFFSET");
    });
}

#[test]
fn a_pattern_reads_topics_that_come_and_forgets_those_that_go() {
    scenario(async {
        let (world, topic) = world_with(1).await;
        let mut client = world.client().await;
        let one = join(&mut client, &["s/t*"]).await;
        assert_eq!(one.assignments.len(), 1);
        commit(&mut client, &one.member, vec![at(&one.assignments[0], 0)]).await.unwrap();
        let second = world.topic(2).await;
        let change = changed(&mut client).await;
        assert_eq!((partitions(&change.assigned), change.assigned[0].topic_id), (vec![0, 1], second));
        assert!(one.generation < change.generation);
        world.alter_topic(second, topic_options(3)).await;
        assert_eq!(partitions(&changed(&mut client).await.assigned), [2]);
        world.delete_topic(topic).await;
        let change = changed(&mut client).await;
        assert_eq!((change.revoked[0].topic_id, change.revoked[0].topic.as_str()), (topic, "t1"));
        assert_eq!(stored(&mut client).await, []);
        commit(&mut client, &one.member, vec![releasing(&change.revoked[0], 1)]).await.unwrap();
        assert_eq!(stored(&mut client).await, []);
        let described = client.call(&DescribeGroup { group: "g".into() }).await.unwrap();
        assert_eq!((described.group.state, described.partitions.len()), (GroupState::Stable, 3));
    });
}

#[test]
fn a_reset_is_for_groups_without_members_and_can_be_tried_first() {
    scenario(async {
        let (world, topic) = world_with(2).await;
        let mut client = world.client().await;
        client.produce(topic, 1, &["a", "b", "c"]).await.unwrap();
        let reset = |position, dry_run| ResetOffsets {
            group: "g".into(),
            topics: vec!["s/*".into()],
            partition: None,
            position,
            dry_run,
        };
        let one = join(&mut client, &["s/t1"]).await;
        let error = client.call(&reset(Position::EARLIEST, true)).await.unwrap_err();
        assert_eq!(code(&error), "GROUP_NOT_EMPTY");
        client.call(&LeaveGroup { group: "g".into(), member: one.member }).await.unwrap();
        let after =
            |reply: OffsetsReset| reply.changes.iter().map(|change| (change.before, change.after)).collect::<Vec<_>>();
        assert_eq!(after(client.call(&reset(Position::LATEST, true)).await.unwrap()), [(None, 0), (None, 3)]);
        assert_eq!(stored(&mut client).await, []);
        assert_eq!(after(client.call(&reset(Position::offset(2), false)).await.unwrap()), [(None, 0), (None, 2)]);
        assert_eq!(after(client.call(&reset(Position::last(2), false)).await.unwrap()), [(Some(0), 0), (Some(2), 1)]);
        assert_eq!(stored(&mut client).await, [(0, 0), (1, 1)]);
        let described = client.call(&DescribeGroup { group: "g".into() }).await.unwrap();
        assert_eq!(described.group.state, GroupState::Empty);
        assert_eq!(described.partitions.iter().map(|partition| partition.lag).collect::<Vec<_>>(), [0, 2]);
        client.call(&DeleteGroup { group: "g".into() }).await.unwrap();
        assert_eq!(stored(&mut client).await, []);
        let error = client.call(&DeleteGroup { group: "g".into() }).await.unwrap_err();
        assert_eq!(code(&error), "GROUP_NOT_FOUND");
    });
}

#[test]
fn what_a_dead_group_has_stored_expires() {
    scenario(async {
        let retention = Duration::from_secs(3600);
        let world = World::with(WorldOptions { group_retention: retention, ..options() }).await;
        world.topic(1).await;
        let mut client = world.client().await;
        let one = join(&mut client, &["s/t1"]).await;
        commit(&mut client, &one.member, vec![at(&one.assignments[0], 1)]).await.unwrap();
        client.call(&LeaveGroup { group: "g".into(), member: one.member }).await.unwrap();
        tokio::time::sleep(retention - Duration::from_secs(1)).await;
        let mut client = world.client().await;
        assert_eq!(stored(&mut client).await, [(0, 1)]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(stored(&mut client).await, []);
    });
}
