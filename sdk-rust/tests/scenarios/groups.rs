//! Members of groups, and readers that use a group's stored offsets.

use std::time::Duration;

use levada::{
    AssignmentKind, Client, Consumer, ConsumerOptions, ErrorCode, GroupConsumerOptions, PartitionOffset, Position,
    TopicPartition,
};
use levada_protocol::messages::CommitOffset;

use crate::settle;
use crate::stage::{Stage, TOPIC};

const SECOND: Duration = Duration::from_secs(1);

fn options() -> GroupConsumerOptions {
    GroupConsumerOptions::new("cast", ["play/*"]).from(Position::EARLIEST)
}

/// A stage with that many partitions of ten messages each, in batches of five.
fn stage(partitions: u32) -> Stage {
    let stage = Stage::new(partitions as usize);
    for partition in 0..partitions {
        for first in [0, 5] {
            let texts: Vec<String> = (first..first + 5).map(|at| format!("{partition}:{at}")).collect();
            stage.append(partition, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    stage
}

async fn member(stage: &Stage, options: GroupConsumerOptions) -> (Client, Consumer) {
    let client = stage.client().await;
    let consumer = client.group_consumer(options).await.unwrap();
    (client, consumer)
}

async fn receive(consumer: &Consumer, count: usize) -> Vec<(u32, u64)> {
    let mut all = Vec::new();
    for _ in 0..count {
        let message = consumer.receive().await.unwrap().unwrap();
        assert_eq!(&*message.topic, TOPIC);
        all.push((message.partition, message.offset));
    }
    all
}

async fn nothing_comes(consumer: &Consumer) {
    let received = consumer.receive_batch(10, 1 << 20, SECOND).await.unwrap();
    assert!(received.is_empty(), "{received:?}");
}

async fn change(consumer: &Consumer) -> (AssignmentKind, Vec<u32>) {
    let change = consumer.next_change(Some(SECOND)).await.unwrap().expect("something changed");
    assert!(change.partitions.iter().all(|one| one.topic == TOPIC));
    (change.kind, change.partitions.iter().map(|one| one.partition).collect())
}

fn held(consumer: &Consumer) -> Vec<u32> {
    consumer.assignments().iter().map(|one| one.partition).collect()
}

fn last_offsets(stage: &Stage) -> Vec<CommitOffset> {
    stage.commits().last().map_or_else(Vec::new, |commit| commit.offsets.clone())
}

fn at(partition: u32, offset: u64) -> PartitionOffset {
    PartitionOffset { topic: TOPIC.to_owned(), partition, offset }
}

#[tokio::test(start_paused = true)]
async fn a_member_reads_what_it_is_assigned_and_says_so() {
    let stage = stage(3);
    stage.cast(&[0, 2]);
    let (_client, consumer) = member(&stage, options()).await;
    assert_eq!(held(&consumer), [0, 2]);
    assert_eq!(change(&consumer).await, (AssignmentKind::Assigned, vec![0, 2]));
    let mut read = receive(&consumer, 20).await;
    read.sort_unstable();
    let all = |partition| (0..10).map(move |offset| (partition, offset));
    assert_eq!(read, all(0).chain(all(2)).collect::<Vec<_>>());
    nothing_comes(&consumer).await;
    assert_eq!(consumer.next_change(Some(SECOND)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_was_processed_is_committed_after_the_interval_and_what_is_in_hand_is_not() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options().commit_interval(SECOND)).await;
    receive(&consumer, 4).await;
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(stage.stored(0), Some(3), "the fourth is in the caller's hands");
    receive(&consumer, 1).await;
    assert_eq!(stage.stored(0), Some(3), "not before the interval");
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(stage.stored(0), Some(4));
    let commits = stage.commits().len();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(stage.commits().len(), commits, "nothing new is nothing to commit");
}

#[tokio::test(start_paused = true)]
async fn enough_messages_are_committed_before_the_interval() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options().commit_interval(3600 * SECOND).commit_messages(3)).await;
    receive(&consumer, 3).await;
    settle().await;
    assert_eq!(stage.stored(0), None);
    receive(&consumer, 1).await;
    settle().await;
    assert_eq!(stage.stored(0), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_commit_takes_everything_handed_out_and_waits_until_it_is_stored() {
    let stage = stage(2);
    stage.cast(&[0, 1]);
    let (_client, consumer) = member(&stage, options().auto_commit(false)).await;
    let mut offsets = [0, 0];
    for (partition, offset) in receive(&consumer, 13).await {
        offsets[partition as usize] = offset + 1;
    }
    consumer.commit().await.unwrap();
    assert_eq!([stage.stored(0).unwrap_or(0), stage.stored(1).unwrap_or(0)], offsets);
    assert_eq!(consumer.committed(TOPIC, 0).await.unwrap(), stage.stored(0));
    assert_eq!(last_offsets(&stage)[0].epoch, Some(1));
    let commits = stage.commits().len();
    consumer.commit().await.unwrap();
    assert_eq!(stage.commits().len(), commits, "there was nothing new");
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(stage.commits().len(), commits, "nothing is committed by itself");
}

#[tokio::test(start_paused = true)]
async fn a_commit_goes_back_only_after_a_seek() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options().auto_commit(false)).await;
    receive(&consumer, 8).await;
    consumer.commit().await.unwrap();
    let error = consumer.commit_offsets(&[at(0, 2)]).await.unwrap_err();
    assert!(error.is(ErrorCode::OffsetRegression), "{error}");
    consumer.seek(0, Position::offset(2)).unwrap();
    assert_eq!(receive(&consumer, 1).await, [(0, 2)]);
    consumer.commit().await.unwrap();
    assert_eq!(stage.stored(0), Some(3));
    let error = consumer.commit_offsets(&[at(0, 1)]).await.unwrap_err();
    assert!(error.is(ErrorCode::OffsetRegression), "one seek is good for one step back: {error}");
    consumer.seek((TOPIC, 0), Position::offset(7)).unwrap();
    consumer.commit_offsets(&[at(0, 1)]).await.unwrap();
    assert_eq!(stage.stored(0), Some(1));
}

#[tokio::test(start_paused = true)]
async fn offsets_of_others_are_refused_and_nothing_of_the_commit_is_stored() {
    let stage = stage(2);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options()).await;
    let error = consumer.commit_offsets(&[at(0, 1), at(1, 1)]).await.unwrap_err();
    assert!(error.is(ErrorCode::NotAssigned), "{error}");
    assert_eq!(error.detail("partition"), Some("1"));
    let error = consumer.commit_offsets(&[at(0, 1), at(0, 2)]).await.unwrap_err();
    assert_eq!(error.detail("argument"), Some("offsets"));
    assert_eq!(stage.commits().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_is_released_with_what_was_processed_and_the_rest_is_dropped() {
    let stage = stage(2);
    stage.cast(&[0, 1]);
    let (_client, consumer) = member(&stage, options()).await;
    // Ten messages of the one, then some of the other.
    let read = receive(&consumer, 13).await;
    let (half, whole) = (read[12].0, read[0].0);
    change(&consumer).await;
    stage.reassign("member-1", &[], &[half]);
    assert_eq!(change(&consumer).await, (AssignmentKind::Revoked, vec![half]));
    settle().await;
    let released: Vec<_> =
        last_offsets(&stage).into_iter().map(|one| (one.partition, one.offset, one.release)).collect();
    assert_eq!(released, [(half, 2, true)], "the third message was in the caller's hands");
    assert_eq!(held(&consumer), [whole]);
    nothing_comes(&consumer).await;
    stage.append(whole, &["more"]);
    assert_eq!(receive(&consumer, 1).await, [(whole, 10)], "what is kept goes on");
    let error = consumer.seek(half, Position::EARLIEST).unwrap_err();
    assert!(error.is(ErrorCode::PartitionNotFound), "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_auto_commit_a_release_says_what_was_committed() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options().auto_commit(false)).await;
    receive(&consumer, 3).await;
    consumer.commit().await.unwrap();
    receive(&consumer, 3).await;
    stage.reassign("member-1", &[], &[0]);
    settle().await;
    let released: Vec<_> = last_offsets(&stage).into_iter().map(|one| (one.offset, one.epoch, one.release)).collect();
    assert_eq!(released, [(3, None, true)], "with the epoch it was stored with, which the server knows");
    consumer.commit().await.unwrap();
    assert_eq!(stage.stored(0), Some(3), "what another member has is left out");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_comes_back_starts_at_what_is_stored() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options()).await;
    receive(&consumer, 8).await;
    stage.reassign("member-1", &[], &[0]);
    settle().await;
    assert_eq!(stage.stored(0), Some(7));
    stage.reassign("member-1", &[0], &[]);
    assert_eq!(receive(&consumer, 3).await, [(0, 7), (0, 8), (0, 9)]);
    let kinds = [change(&consumer).await.0, change(&consumer).await.0, change(&consumer).await.0];
    assert_eq!(kinds, [AssignmentKind::Assigned, AssignmentKind::Revoked, AssignmentKind::Assigned]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_revoked_before_its_start_is_known_is_released_where_it_would_have_started() {
    let stage = stage(2);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options().from(Position::LATEST)).await;
    // Both changes are there before the client can subscribe.
    stage.change(|_| {});
    stage.reassign("member-1", &[1], &[]);
    stage.reassign("member-1", &[], &[1]);
    settle().await;
    let released: Vec<_> =
        last_offsets(&stage).into_iter().map(|one| (one.partition, one.offset, one.release)).collect();
    assert_eq!(released, [(1, 10, true)]);
    assert_eq!(held(&consumer), [0]);
}

#[tokio::test(start_paused = true)]
async fn the_last_commit_of_a_partition_never_falls_behind_one_that_is_under_way() {
    for auto_commit in [false, true] {
        let stage = stage(3);
        stage.cast(&[0, 1]);
        let (_client, consumer) = member(&stage, options().auto_commit(auto_commit)).await;
        receive(&consumer, 20).await;
        stage.change(|state| state.coordinator.hold_commits = true);
        let (lower, higher) = ([at(0, 4), at(1, 4)], [at(0, 5), at(1, 5)]);
        let (first, second) = (consumer.commit_offsets(&lower), consumer.commit_offsets(&higher));
        let revoked = async {
            settle().await;
            stage.reassign("member-1", &[2], &[0]);
            settle().await;
            stage.change(|state| state.coordinator.hold_commits = false);
            stage.cut();
        };
        let (first, second, ()) = tokio::join!(biased; first, second, revoked);
        // Both go on without the partition, which is given back with the higher offset.
        first.unwrap();
        second.unwrap();
        let least = if auto_commit { 9 } else { 5 };
        assert!(Some(least) <= stage.stored(0), "{:?}", stage.stored(0));
        assert_eq!(stage.stored(1), Some(5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_changes_nothing() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options().auto_commit(false)).await;
    receive(&consumer, 3).await;
    change(&consumer).await;
    stage.cut();
    assert_eq!(receive(&consumer, 7).await, (3..10).map(|offset| (0, offset)).collect::<Vec<_>>());
    consumer.commit().await.unwrap();
    assert_eq!(stage.stored(0), Some(10));
    let joins = stage.joins();
    assert_eq!((joins.len(), joins[1].member.as_str()), (2, "member-1"));
    assert_eq!(consumer.next_change(Some(SECOND)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_commit_under_way_when_the_connection_is_lost_is_made_again() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options().auto_commit(false)).await;
    receive(&consumer, 3).await;
    stage.change(|state| state.coordinator.hold_commits = true);
    let mut commit = Box::pin(consumer.commit());
    assert!(tokio::time::timeout(SECOND, &mut commit).await.is_err());
    stage.change(|state| state.coordinator.hold_commits = false);
    stage.cut();
    commit.await.unwrap();
    assert_eq!(stage.stored(0), Some(3));
}

#[tokio::test(start_paused = true)]
async fn what_was_processed_is_not_committed_behind_a_commit_of_what_was_handed_out() {
    let stage = stage(2);
    stage.cast(&[0, 1]);
    let (_client, consumer) = member(&stage, options().commit_interval(SECOND)).await;
    let read = receive(&consumer, 4).await;
    assert!(read.iter().all(|(partition, _)| *partition == read[0].0));
    consumer.commit().await.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(stage.stored(read[0].0), Some(4), "the caller said that the fourth is done");
    assert_eq!(stage.commits().len(), 1, "{:?}", stage.commits());
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_given_up_when_it_may_be_stored_is_made_again_before_what_follows() {
    for is_revoked in [false, true] {
        let stage = stage(1);
        stage.cast(&[0]);
        let (_client, consumer) = member(&stage, options().auto_commit(!is_revoked).commit_interval(SECOND)).await;
        receive(&consumer, 4).await;
        stage.change(|state| state.coordinator.swallow_answers = true);
        let given_up = tokio::time::timeout(SECOND / 2, consumer.commit()).await;
        assert!(given_up.is_err() && stage.stored(0) == Some(4));
        stage.change(|state| state.coordinator.swallow_answers = false);
        stage.cut();
        settle().await;
        if is_revoked {
            stage.reassign("member-1", &[], &[0]);
        }
        tokio::time::sleep(5 * SECOND).await;
        let commits = stage.commits();
        let said: Vec<_> =
            commits.iter().flat_map(|commit| &commit.offsets).map(|one| (one.offset, one.release)).collect();
        assert_eq!(said, [(4, false), (4, is_revoked)], "{commits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_session_ran_out_loses_everything_and_joins_anew() {
    let stage = stage(2);
    stage.cast(&[0]);
    stage.cast(&[1]);
    let (_client, consumer) = member(&stage, options()).await;
    receive(&consumer, 3).await;
    stage.refuse_connections(true);
    stage.cut();
    settle().await;
    stage.forget("member-1");
    stage.refuse_connections(false);
    change(&consumer).await;
    assert_eq!(change(&consumer).await, (AssignmentKind::Lost, vec![0]));
    assert_eq!(change(&consumer).await, (AssignmentKind::Assigned, vec![1]));
    let members: Vec<_> = stage.joins().into_iter().map(|join| join.member).collect();
    assert_eq!(members, ["", "member-1", ""]);
    assert_eq!(receive(&consumer, 1).await, [(1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_member_told_of_its_end_joins_anew_and_a_static_one_gives_way() {
    let stage = stage(1);
    stage.cast(&[0]);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options()).await;
    stage.expel("member-1", ErrorCode::UnknownMember);
    change(&consumer).await;
    assert_eq!(change(&consumer).await.0, AssignmentKind::Lost);
    assert_eq!(change(&consumer).await.0, AssignmentKind::Assigned);
    let (_other, fixed) = member(&stage, options().instance("lead")).await;
    stage.expel("member-3", ErrorCode::UnknownMember);
    let error = fixed.receive().await.unwrap_err();
    assert!(error.is(ErrorCode::UnknownMember), "{error}");
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(stage.joins().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_commit_is_told_to_who_asked_and_repeated_where_none_did() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options().commit_interval(SECOND)).await;
    receive(&consumer, 5).await;
    stage.refuse_commits(&[ErrorCode::NotAssigned]);
    let error = consumer.commit().await.unwrap_err();
    assert!(error.is(ErrorCode::NotAssigned), "{error}");
    stage.refuse_commits(&[ErrorCode::NotAssigned]);
    receive(&consumer, 1).await;
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(stage.stored(0), Some(5), "the next commit takes it along");
    stage.refuse_commits(&[ErrorCode::Overloaded]);
    consumer.commit().await.unwrap();
    assert_eq!(stage.stored(0), Some(6));
}

#[tokio::test(start_paused = true)]
async fn closing_commits_and_leaves_and_dropping_only_leaves() {
    let stage = stage(1);
    stage.cast(&[0]);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options()).await;
    receive(&consumer, 3).await;
    consumer.close(SECOND).await.unwrap();
    assert_eq!(stage.stored(0), Some(3));
    assert!(consumer.receive().await.unwrap_err().is(ErrorCode::Closed));
    assert!(consumer.next_change(None).await.unwrap_err().is(ErrorCode::Closed));
    assert!(consumer.commit().await.unwrap_err().is(ErrorCode::Closed));
    let (_other, dropped) = member(&stage, options()).await;
    assert_eq!(receive(&dropped, 2).await, [(0, 3), (0, 4)]);
    drop(dropped);
    settle().await;
    assert_eq!(stage.stored(0), Some(3));
    assert_eq!(stage.state().coordinator.left, ["member-1", "member-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_static_member_stays_when_it_closes() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options().instance("lead")).await;
    receive(&consumer, 3).await;
    consumer.close(SECOND).await.unwrap();
    assert_eq!(stage.stored(0), Some(3));
    assert!(stage.state().coordinator.left.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_static_member_that_hears_it_is_none_any_more_does_not_take_its_place_back() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options().instance("lead").auto_commit(false)).await;
    receive(&consumer, 3).await;
    stage.refuse_commits(&[ErrorCode::UnknownMember]);
    assert!(consumer.commit().await.unwrap_err().is(ErrorCode::UnknownMember));
    tokio::time::sleep(60 * SECOND).await;
    assert!(consumer.receive().await.unwrap_err().is(ErrorCode::UnknownMember));
    assert_eq!(
        stage.state().coordinator.joins.len(),
        1,
        "another instance has its name: they would take turns for ever"
    );
}

#[tokio::test(start_paused = true)]
async fn closing_waits_no_longer_than_it_may() {
    let stage = stage(1);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options()).await;
    receive(&consumer, 3).await;
    stage.change(|state| state.coordinator.hold_commits = true);
    let before = tokio::time::Instant::now();
    let error = consumer.close(SECOND).await.unwrap_err();
    assert!(error.is(ErrorCode::ClientTimeout), "{error}");
    assert_eq!(before.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn changes_that_nobody_asks_for_become_one_step() {
    let stage = stage(2);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options()).await;
    for _ in 0..200 {
        stage.reassign("member-1", &[1], &[]);
        settle().await;
        stage.reassign("member-1", &[], &[1]);
        settle().await;
    }
    let mut seen = Vec::new();
    let mut count = 0;
    while let Some(change) = consumer.next_change(Some(SECOND)).await.unwrap() {
        count += 1;
        let names = |one: &TopicPartition| one.partition;
        match change.kind {
            AssignmentKind::Assigned => seen.extend(change.partitions.iter().map(names)),
            _ => seen.retain(|known| !change.partitions.iter().any(|one| one.partition == *known)),
        }
    }
    assert_eq!(seen, held(&consumer));
    assert!(count <= 101, "{count}");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_is_told_of_is_the_next_one_again() {
    let stage = stage(2);
    stage.cast(&[0]);
    let (_client, consumer) = member(&stage, options()).await;
    drop(consumer.untold_change(None).await.unwrap().expect("the first assignment"));
    let untold = consumer.untold_change(None).await.unwrap().expect("the same");
    stage.reassign("member-1", &[1], &[]);
    settle().await;
    let next = consumer.untold_change(None).await.unwrap().expect("another");
    // Given back in the order they came, they are told in that order, also where they became one step meanwhile.
    drop(next);
    drop(untold);
    assert_eq!(change(&consumer).await, (AssignmentKind::Assigned, vec![0]));
    assert_eq!(change(&consumer).await, (AssignmentKind::Assigned, vec![1]));
    let untold = consumer.untold_change(Some(SECOND)).await.unwrap();
    assert!(untold.is_none(), "{untold:?}");
    stage.reassign("member-1", &[], &[1]);
    let waiting = consumer.next_change(None);
    settle().await;
    let early = consumer.untold_change(None).await.unwrap();
    let give_back = async { drop(early) };
    let (told, ()) = tokio::join!(biased; waiting, give_back);
    assert_eq!(told.unwrap().unwrap().kind, AssignmentKind::Revoked, "who waits hears of what comes back");
}

#[tokio::test(start_paused = true)]
async fn a_plain_consumer_uses_a_groups_offsets_without_being_a_member() {
    let stage = stage(1);
    let client = stage.client().await;
    let from_start = ConsumerOptions::new(TOPIC).from(Position::EARLIEST);
    let plain = client.consumer(from_start.clone()).await.unwrap();
    let error = plain.commit().await.unwrap_err();
    assert!(error.is(ErrorCode::ClientUsage) && error.message().contains("group_consumer"), "{error}");
    let error = client.consumer(ConsumerOptions::new(TOPIC).from(Position::STORED)).await.unwrap_err();
    assert_eq!(error.detail("argument"), Some("from"));
    let reader = client.consumer(from_start.group("cast")).await.unwrap();
    receive(&reader, 4).await;
    reader.commit().await.unwrap();
    assert_eq!((stage.stored(0), stage.commits()[0].member.clone()), (Some(4), None));
    assert_eq!(reader.committed(TOPIC, 0).await.unwrap(), Some(4));
    let next = client.consumer(ConsumerOptions::new(TOPIC).from(Position::STORED).group("cast")).await.unwrap();
    assert_eq!(receive(&next, 1).await, [(0, 4)]);
    stage.cast(&[0]);
    let (_other, _member) = member(&stage, options()).await;
    let error = next.commit().await.unwrap_err();
    assert!(error.is(ErrorCode::GroupNotEmpty), "{error}");
}

#[tokio::test(start_paused = true)]
async fn options_that_make_no_sense_are_usage_errors() {
    let stage = stage(1);
    let client = stage.client().await;
    let error = client.group_consumer(GroupConsumerOptions::new("cast", Vec::<String>::new())).await.unwrap_err();
    assert_eq!(error.detail("argument"), Some("topics"));
    let error = client.group_consumer(options().from(Position::STORED)).await.unwrap_err();
    assert_eq!(error.detail("argument"), Some("from"));
    let error = client.group_consumer(options().session_timeout(Duration::from_millis(1))).await.unwrap_err();
    assert_eq!(error.detail("argument"), Some("session_timeout_ms"));
}
