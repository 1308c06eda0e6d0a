//! Who may ask what of a group: whoever has the action `group` on all its topics; members need `read` too. Nobody brings a
//! topic of one's own into a group of others: they could not use it any more. Commit and Subscribe name topics, which are
//! looked at with other requests for messages.

use levada_protocol::messages::{Groups, JoinGroup, Request};

use super::catalog::{Catalog, CatalogTopic};
use super::describe;
use super::machine::Machine;
use crate::admin::{Access, missing};
use crate::failure::Failure;
use crate::metadata::Actions;
use crate::pattern::TopicPattern;

/// # Errors
/// `PERMISSION_DENIED` that names the first topic for which an action is missing; `INVALID_NAME` for what is no pattern.
pub(super) fn check(
    access: &Access,
    catalog: &Catalog,
    group: Option<&Machine>,
    request: &Request,
) -> Result<(), Failure> {
    if access.is_admin() {
        return Ok(());
    }
    match request {
        Request::JoinGroup(JoinGroup { topics, .. }) => {
            named(access, catalog, topics, "join group", Actions::READ.or(Actions::GROUP))?;
            of_group(access, catalog, group, "join group")
        }
        Request::ResetOffsets(reset) => {
            of_group(access, catalog, group, "reset offsets")?;
            named(access, catalog, &reset.topics, "reset offsets", Actions::GROUP)
        }
        // A member was looked at when it joined.
        Request::Commit(commit) if commit.member.is_none() => of_group(access, catalog, group, "commit"),
        Request::ReadOffsets(_) => of_group(access, catalog, group, "read offsets"),
        Request::DescribeGroup(_) => of_group(access, catalog, group, "describe group"),
        Request::DeleteGroup(_) => of_group(access, catalog, group, "delete group"),
        _ => Ok(()),
    }
}

/// The groups that may be known to exist.
pub(super) fn visible<'a>(access: &Access, catalog: &Catalog, groups: impl Iterator<Item = &'a Machine>) -> Groups {
    let may_see = |group: &&Machine| access.is_admin() || of_group(access, catalog, Some(group), "").is_ok();
    Groups { groups: groups.filter(may_see).map(describe::info).collect() }
}

fn named(
    access: &Access,
    catalog: &Catalog,
    patterns: &[String],
    action: &'static str,
    actions: Actions,
) -> Result<(), Failure> {
    for pattern in patterns {
        let pattern = TopicPattern::parse(pattern)?;
        let matched = catalog.topics().filter(|(_, topic)| pattern.matches(&topic.stream, topic.name()));
        for (_, topic) in matched {
            allowed(access, topic, action, actions)?;
        }
    }
    Ok(())
}

fn of_group(access: &Access, catalog: &Catalog, group: Option<&Machine>, action: &'static str) -> Result<(), Failure> {
    let Some(group) = group else { return Ok(()) };
    let stored = group.state().offsets.keys().map(|(topic_id, _)| *topic_id);
    for topic_id in stored.chain(group.read_partitions().map(|(topic_id, _)| topic_id)) {
        if let Some(topic) = catalog.topic(topic_id) {
            allowed(access, topic, action, Actions::GROUP)?;
        }
    }
    Ok(())
}

fn allowed(access: &Access, topic: &CatalogTopic, action: &'static str, actions: Actions) -> Result<(), Failure> {
    if access.may(actions, &topic.stream, topic.name()) {
        return Ok(());
    }
    Err(missing(access, action, actions, &format!("{}/{}", topic.stream, topic.name())))
}
