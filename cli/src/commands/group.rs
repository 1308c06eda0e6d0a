//! `levada group`.

use super::consume::position;
use crate::args::{GroupCommand, GroupResetArgs};
use crate::failure::Failure;
use crate::screen::{Screen, Value};
use crate::session::{self, Session};
use crate::units::human_count;
use crate::view::{GroupPartitionView, GroupView, MemberView, OffsetChangeView, StoredOffsetView};
use levada::Admin;
use serde_json::json;

pub(crate) async fn run(session: &Session, command: GroupCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let result = act(&client.admin(), &session.screen, command).await;
    session::close(&client).await;
    result
}

async fn act(admin: &Admin, screen: &Screen, command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::List => {
            let groups: Vec<_> = admin.list_groups().await?.into_iter().map(GroupView::from).collect();
            screen.show(&groups, |screen| list(screen, &groups))
        }
        GroupCommand::Describe { group } => {
            let description = admin.describe_group(&group).await?;
            let mut group = GroupView::from(description.group);
            let members: Vec<_> = description.members.into_iter().map(MemberView::from).collect();
            let partitions: Vec<_> = description.partitions.into_iter().map(GroupPartitionView::from).collect();
            group.lag = Some(partitions.iter().map(|partition| partition.lag).sum());
            (group.members, group.partitions) = (Some(members), Some(partitions));
            screen.show(&group, |screen| describe(screen, &group))
        }
        GroupCommand::Delete { group } => {
            admin.delete_group(&group).await?;
            screen.show(&json!({ "deleted": group }), |_| format!("Deleted group {group}"))
        }
        GroupCommand::Offsets { group, topics } => {
            let topics = (!topics.is_empty()).then_some(topics.as_slice());
            let stored = admin.group_offsets(&group, topics).await?;
            let stored: Vec<_> = stored.into_iter().map(StoredOffsetView::from).collect();
            screen.show(&stored, |screen| offsets(screen, &group, &stored))
        }
        GroupCommand::Reset(args) => reset(admin, screen, args).await,
    }
}

async fn reset(admin: &Admin, screen: &Screen, args: GroupResetArgs) -> Result<(), Failure> {
    let GroupResetArgs { group, topics, to, partition, dry_run } = args;
    let changes = admin.reset_offsets(&group, &topics, position(to), partition, dry_run.into()).await?;
    let changes: Vec<_> = changes.into_iter().map(OffsetChangeView::from).collect();
    screen.show(&changes, |screen| moved(screen, &changes))?;
    if dry_run && !screen.is_json() {
        screen.note("Nothing was changed: this was a dry run.");
    }
    Ok(())
}

fn list(screen: &Screen, groups: &[GroupView]) -> String {
    if groups.is_empty() {
        return "No groups. A group comes to be with its first member: `levada consume STREAM/TOPIC --group NAME`."
            .to_owned();
    }
    let rows = groups.iter().map(|group| {
        [
            Value::text(&group.group),
            Value::text(group.state),
            Value::figure(group.member_count),
            Value::figure(group.partition_count),
            Value::text(group.strategy),
            Value::figure(group.generation),
        ]
    });
    screen.table(["GROUP", "STATE", "MEMBERS", "PARTITIONS", "STRATEGY", "GENERATION"], rows.collect())
}

fn describe(screen: &Screen, group: &GroupView) -> String {
    let properties = screen.properties(vec![
        ("Group", Value::text(&group.group)),
        ("State", Value::text(group.state)),
        ("Strategy", Value::text(group.strategy)),
        ("Generation", Value::text(group.generation)),
        ("Lag", Value::text(human_count(group.lag.unwrap_or_default()))),
    ]);
    let members = group.members.as_deref().unwrap_or_default();
    let members = if members.is_empty() { "No members.\n".to_owned() } else { member_table(screen, members) };
    let partitions = group.partitions.as_deref().unwrap_or_default();
    let partitions =
        if partitions.is_empty() { "No partitions.\n".to_owned() } else { partition_table(screen, partitions) };
    format!("{properties}\n{members}\n{partitions}")
}

fn member_table(screen: &Screen, members: &[MemberView]) -> String {
    let rows = members.iter().map(|member| {
        [
            Value::text(&member.member),
            Value::text(member.instance.as_deref().unwrap_or("-")),
            Value::text(&member.user),
            Value::figure(member.partition_count),
            Value::text(member.topics.join(", ")),
            if member.connected { Value::text("connected") } else { Value::Alert("away".to_owned()) },
        ]
    });
    screen.table(["MEMBER", "INSTANCE", "USER", "PARTITIONS", "TOPICS", "STATE"], rows.collect())
}

fn partition_table(screen: &Screen, partitions: &[GroupPartitionView]) -> String {
    let rows = partitions.iter().map(|partition| {
        [
            Value::text(format!("{}/{}:{}", partition.stream, partition.topic, partition.partition)),
            Value::figure(partition.stored_offset.map_or("-".to_owned(), |offset| offset.to_string())),
            Value::figure(partition.visible_end_offset),
            Value::figure(partition.lag),
            Value::text(partition.member.as_deref().unwrap_or("-")),
        ]
    });
    screen.table(["PARTITION", "STORED", "END", "LAG", "MEMBER"], rows.collect())
}

fn offsets(screen: &Screen, group: &str, stored: &[StoredOffsetView]) -> String {
    if stored.is_empty() {
        return format!("Group {group} has stored no offsets there.");
    }
    let rows = stored.iter().map(|one| {
        [
            Value::text(format!("{}/{}:{}", one.stream, one.topic, one.partition)),
            Value::figure(one.offset),
            Value::time(&one.committed_at),
        ]
    });
    screen.table(["PARTITION", "OFFSET", "COMMITTED"], rows.collect())
}

fn moved(screen: &Screen, changes: &[OffsetChangeView]) -> String {
    if changes.is_empty() {
        return "No partition matches.".to_owned();
    }
    let rows = changes.iter().map(|change| {
        [
            Value::text(format!("{}/{}:{}", change.stream, change.topic, change.partition)),
            Value::figure(change.before.map_or("-".to_owned(), |offset| offset.to_string())),
            Value::figure(change.after),
        ]
    });
    screen.table(["PARTITION", "BEFORE", "AFTER"], rows.collect())
}
