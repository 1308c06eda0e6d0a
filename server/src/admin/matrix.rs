//! Every kind of request × every kind of principal × what is theirs and what is not, against one table.
//!
//! Requests are made from the protocol's own list of kinds, so a new kind without a row fails.

use std::collections::BTreeMap;

use bytes::Bytes;
use levada_protocol::messages::{AlterUser, CommitOffset, Kind, Request, Role as WireRole};
use levada_storage::Durability;

use super::{Access, Rights, SYSTEM_STREAM, authorize};
use crate::auth::{Credential, Principal};
use crate::metadata::event::*;
use crate::metadata::model::{Compression, Role, TopicOptions, TopicSupplement};
use crate::metadata::{Actions, Grant, Snapshot, State};
use crate::pattern::TopicPattern;

/// Who may send a request about what is theirs, and about what is not. Theirs: stream `shop`, topic `shop/orders`, themselves;
/// not theirs: stream `other`, topic `other/thing`, another user. `n`obody (a deleted user), a `m`ember without grants,
/// members with `r`ead, `w`rite, `a`dmin and `g`roup on `shop/*`, an admin (`R`), and an admin's token with the `s`cope
/// `shop/*:read`.
const TABLE: &str = "
    Hello            nmrwagRs  nmrwagRs
    Authenticate     nmrwagRs  nmrwagRs
    Ping             nmrwagRs  nmrwagRs
    CreateStream     ....a.R.  ......R.
    DeleteStream     ....a.R.  ......R.
    ListStreams      .mrwagRs  .mrwagRs
    DescribeStream   ..rwagRs  ......R.
    CreateTopic      ....a.R.  ......R.
    AlterTopic       ....a.R.  ......R.
    DeleteTopic      ....a.R.  ......R.
    PurgeTopic       ....a.R.  ......R.
    DeleteMessages   ....a.R.  ......R.
    ListTopics       ..rwagRs  ......R.
    DescribeTopic    ..rwagRs  ......R.
    CreateUser       ......R.  ......R.
    AlterUser        .mrwagR.  ......R.
    DeleteUser       ......R.  ......R.
    ListUsers        ......R.  ......R.
    DescribeUser     .mrwagRs  ......R.
    CreateToken      .mrwagR.  ......R.
    DeleteToken      .mrwagR.  ......R.
    ListTokens       .mrwagRs  ......R.
    SetAccess        ......R.  ......R.
    DescribeAccess   .mrwagRs  ......R.
    SetRole          ......R.  ......R.
    DeleteRole       ......R.  ......R.
    ListRoles        ......R.  ......R.
    SetQuota         ......R.  ......R.
    DescribeQuota    .mrwagRs  ......R.
    Status           .mrwagRs  .mrwagRs
    OpenProducer     .mrwagRs  .mrwagRs
    ReadSequences    ...w..R.  ......R.
    Produce          ...w..R.  ......R.
    Fetch            ..r...Rs  ......R.
    Subscribe        ..r...Rs  ......R.
    ResolvePosition  ..r...Rs  ......R.
    Unsubscribe      .mrwagRs  .mrwagRs
    Credit           .mrwagRs  .mrwagRs
    Commit           .....gR.  ......R.
    JoinGroup        .mrwagRs  .mrwagRs
    LeaveGroup       .mrwagRs  .mrwagRs
    ReadOffsets      .mrwagRs  .mrwagRs
    ResetOffsets     .mrwagRs  .mrwagRs
    ListGroups       .mrwagRs  .mrwagRs
    DescribeGroup    .mrwagRs  .mrwagRs
    DeleteGroup      .mrwagRs  .mrwagRs
";

const COLUMNS: &str = "nmrwagRs";
const SHOP_ORDERS: u32 = 1;
const OTHER_THING: u32 = 2;
const AUDIT: u32 = 3;
const SCOPED_TOKEN: u32 = 1;

fn grant(pattern: &str, actions: Actions) -> Grant {
    Grant { pattern: TopicPattern::parse(pattern).unwrap(), actions }
}

/// A user for each column, and the two topics.
fn world() -> Snapshot {
    let options = TopicOptions {
        partition_count: 1,
        durability: Durability::Disk,
        compression: Compression::Producer,
        retention_bytes: None,
        retention_age_us: None,
        segment_bytes: None,
        supplement: TopicSupplement::default(),
    };
    let mut events: Vec<Event> = vec![ClusterBorn { cluster_id: 7, node_id: 1, format_level: 1, at_us: 0 }.into()];
    let topics = [(SHOP_ORDERS, "shop", "orders"), (OTHER_THING, "other", "thing"), (AUDIT, SYSTEM_STREAM, "audit")];
    for (id, stream, topic) in topics {
        events.push(StreamCreated { stream_id: id, name: stream.into(), at_us: 0 }.into());
        let (name, options) = (topic.into(), options.clone());
        events.push(TopicCreated { topic_id: id, stream_id: id, name, options, at_us: 0 }.into());
    }
    let actions = [
        ('m', Actions::NONE),
        ('r', Actions::READ),
        ('w', Actions::WRITE),
        ('a', Actions::ADMIN),
        ('g', Actions::GROUP),
        ('R', Actions::NONE),
    ];
    for (user_id, (column, actions)) in (1..).zip(actions) {
        let role = if column == 'R' { Role::Admin } else { Role::Member };
        let (name, password_hash) = (column.to_string(), String::new());
        events.push(UserCreated { user_id, name, role, password_hash, at_us: 0 }.into());
        let grants = if actions.is_none() { Vec::new() } else { vec![grant("shop/*", actions)] };
        events.push(AccessSet { user_id, roles: Vec::new(), grants }.into());
    }
    let (token_id, user_id, name) = (SCOPED_TOKEN, 6, "scoped".to_owned());
    events.push(TokenCreated { token_id, user_id, name, digest: [1; 32], at_us: 0, expires_at_us: None }.into());
    events.push(TokenScoped { token_id, scope: vec![grant("shop/*", Actions::READ)] }.into());
    Snapshot::new(1, State::default().after(&events).unwrap())
}

fn principal(column: char) -> Principal {
    let user_id = COLUMNS.find(column).and_then(|at| u32::try_from(at).ok()).unwrap();
    match column {
        'n' => Principal { user_id: 99, name: "n".into(), credential: Credential::Password { version: 1 } },
        's' => Principal { user_id: 6, name: "R".into(), credential: Credential::Token { token_id: SCOPED_TOKEN } },
        _ => Principal { user_id, name: column.to_string().into(), credential: Credential::Password { version: 1 } },
    }
}

/// The request of a kind whose every field is empty or zero; `None` for what clients do not send.
fn empty(kind: Kind) -> Option<Request> {
    (0..256).find_map(|length| Request::decode(kind, &Bytes::from(vec![0; length])).ok()).flatten()
}

/// Makes a request be about something.
fn about(mut request: Request, stream: &str, topic: &str, topic_id: u32, user: &str) -> Request {
    let (stream, topic, user) = (stream.to_owned(), topic.to_owned(), user.to_owned());
    match &mut request {
        Request::CreateStream(request) => request.stream = stream,
        Request::DeleteStream(request) => request.stream = stream,
        Request::DescribeStream(request) => request.stream = stream,
        Request::ListTopics(request) => request.stream = Some(stream),
        Request::CreateTopic(request) => (request.stream, request.topic) = (stream, topic),
        Request::AlterTopic(request) => (request.stream, request.topic) = (stream, topic),
        Request::DeleteTopic(request) => (request.stream, request.topic) = (stream, topic),
        Request::PurgeTopic(request) => (request.stream, request.topic) = (stream, topic),
        Request::DeleteMessages(request) => (request.stream, request.topic) = (stream, topic),
        Request::DescribeTopic(request) => (request.stream, request.topic) = (stream, topic),
        Request::CreateUser(request) => request.user = user,
        Request::AlterUser(request) => request.user = user,
        Request::DeleteUser(request) => request.user = user,
        Request::DescribeUser(request) => request.user = user,
        Request::CreateToken(request) => request.user = Some(user),
        Request::DeleteToken(request) => request.user = Some(user),
        Request::ListTokens(request) => request.user = Some(user),
        Request::SetAccess(request) => request.user = user,
        Request::DescribeAccess(request) => request.user = Some(user),
        Request::SetQuota(request) => request.user = user,
        Request::DescribeQuota(request) => request.user = Some(user),
        Request::ReadSequences(request) => request.topic_id = topic_id,
        Request::Produce(request) => request.topic_id = topic_id,
        Request::Fetch(request) => request.topic_id = topic_id,
        Request::Subscribe(request) => request.topic_id = topic_id,
        Request::ResolvePosition(request) => request.topic_id = topic_id,
        Request::Commit(request) => {
            let (partition, generation, offset, epoch) = (0, 0, 0, 0);
            let offset = CommitOffset {
                topic_id,
                partition,
                generation,
                offset,
                epoch: Some(epoch),
                rewind: false,
                release: false,
            };
            request.offsets = vec![offset];
        }
        _ => {}
    }
    request
}

fn may(snapshot: &Snapshot, column: char, request: &Request) -> bool {
    authorize(snapshot, &principal(column), &mut Rights::default(), request).is_ok()
}

/// The columns that may.
fn row(snapshot: &Snapshot, make: impl Fn(char) -> Request) -> String {
    COLUMNS.chars().map(|column| if may(snapshot, column, &make(column)) { column } else { '.' }).collect()
}

#[test]
fn every_request_is_allowed_to_whom_the_table_says_and_to_nobody_else() {
    let snapshot = world();
    let mut rows: BTreeMap<&str, (&str, &str)> = TABLE
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            (words[0], (words[1], words[2]))
        })
        .collect();
    for (kind, request) in Kind::ALL.iter().filter_map(|kind| Some((kind, empty(*kind)?))) {
        let name = kind.name();
        let expected = rows.remove(name).unwrap_or_else(|| panic!("{name} has no row"));
        // The admin's scoped token speaks for the admin.
        let oneself = |column: char| if column == 's' { "R".to_owned() } else { column.to_string() };
        let own = row(&snapshot, |column| about(request.clone(), "shop", "orders", SHOP_ORDERS, &oneself(column)));
        let foreign = row(&snapshot, |_| about(request.clone(), "other", "thing", OTHER_THING, "somebody"));
        assert_eq!((&*own, &*foreign), expected, "{name}");
    }
    assert!(rows.is_empty(), "rows of no request: {rows:?}");
}

#[test]
fn what_is_missing_is_said_without_telling_names() {
    let snapshot = world();
    let refusal = |column, request: &Request| {
        authorize(&snapshot, &principal(column), &mut Rights::default(), request).unwrap_err()
    };
    let produce = |topic_id| about(empty(Kind::Produce).unwrap(), "", "", topic_id, "");
    let own = refusal('r', &produce(SHOP_ORDERS));
    assert_eq!(
        own.message,
        "user r may not produce on shop/orders: grant it with `levada access set r --add --grant 'shop/orders:write'`"
    );
    let foreign = refusal('r', &produce(OTHER_THING));
    assert!(!foreign.message.contains("other"), "{}", foreign.message);
    let describe = |topic: &str| about(empty(Kind::DescribeTopic).unwrap(), "other", topic, 0, "");
    let (there, nowhere) = (refusal('r', &describe("thing")), refusal('r', &describe("nowhere")));
    assert_eq!(there.message.replace("thing", "nowhere"), nowhere.message);
    assert!(may(&snapshot, 'm', &produce(77)), "the shard says that there is no such topic");
}

#[test]
fn what_takes_two_actions_takes_both() {
    let snapshot = world();
    let Some(Request::Subscribe(mut subscribe)) = empty(Kind::Subscribe) else { panic!("a request") };
    (subscribe.topic_id, subscribe.group) = (SHOP_ORDERS, Some("g".into()));
    assert_eq!(row(&snapshot, |_| Request::Subscribe(subscribe.clone())), "......R.");
    let alter = AlterUser { user: "m".into(), password: None, role: Some(WireRole::Admin) };
    assert_eq!(row(&snapshot, |_| Request::AlterUser(alter.clone())), "......R.");
}

#[test]
fn the_servers_own_stream_is_read_by_admins_and_touched_by_nobody() {
    let snapshot = world();
    let on_audit = |kind: Kind| row(&snapshot, |_| about(empty(kind).unwrap(), SYSTEM_STREAM, "audit", AUDIT, ""));
    for kind in [Kind::Fetch, Kind::Subscribe, Kind::DescribeTopic, Kind::DescribeStream] {
        assert_eq!(on_audit(kind), "......R.", "{}", kind.name());
    }
    let changing = [Kind::Produce, Kind::DeleteTopic, Kind::PurgeTopic, Kind::AlterTopic, Kind::CreateStream];
    for kind in changing.into_iter().chain([Kind::DeleteMessages, Kind::ReadSequences]) {
        assert_eq!(on_audit(kind), "........", "{}", kind.name());
    }
}

#[test]
fn grants_and_roles_add_up_and_are_asked_again_when_they_change() {
    let before = world();
    let role = RoleSet { role: "writers".into(), grants: vec![grant("*/thing", Actions::WRITE)] };
    let access = AccessSet { user_id: 2, roles: vec!["writers".into()], grants: vec![grant("shop/o*", Actions::READ)] };
    let after = Snapshot::new(2, before.after(&[role.into(), access.into()]).unwrap());
    let (reader, mut rights) = (principal('r'), Rights::default());
    assert_eq!(rights.on_topic(&before, &reader, OTHER_THING), Some(Actions::NONE));
    assert_eq!(rights.on_topic(&after, &reader, OTHER_THING), Some(Actions::WRITE));
    assert_eq!(rights.on_topic(&after, &reader, SHOP_ORDERS), Some(Actions::READ));
    assert_eq!(rights.on_topic(&after, &reader, 77), None);
    let access = Access::of(&after, &reader);
    assert!(access.sees_stream("shop") && access.sees_stream("anything"), "a pattern may match a topic to come");
    let gone = Snapshot::new(3, after.after(&[RoleDeleted { role: "writers".into() }.into()]).unwrap());
    assert_eq!(rights.on_topic(&gone, &reader, OTHER_THING), Some(Actions::NONE));
}
