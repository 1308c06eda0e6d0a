//! Groups at the edge: requests and subscriptions that need a group go to its owner, which answers through one inbox with
//! what it pushes; subscriptions end with the assignment they carry.

use std::rc::Rc;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{
    Assignment, Credit, Position, PositionKind, Request, ResolvePosition, Subscribe, SubscriptionEnded,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::admin;
use crate::broker::{DataRequest, ToConnection, routing};
use crate::edge::access::Pushing;
use crate::edge::connection::ConnectionTask;
use crate::failure::Failure;
use crate::groups::{GroupsMessage, PositionQuery, Push, Speaker, StoredPosition};

/// The inbox for the owner of groups, made when first needed.
pub(super) type GroupsInbox = Option<(mpsc::UnboundedSender<ToConnection>, mpsc::UnboundedReceiver<ToConnection>)>;

/// The assignment that a subscription ends with.
#[derive(Debug)]
pub(super) struct Carried {
    group: String,
    member: String,
    topic_id: u32,
    partition: u32,
    generation: u64,
}

impl Carried {
    fn is_of(&self, group: &str, member: &str) -> bool {
        self.group == group && self.member == member
    }

    fn is(&self, assignment: &Assignment) -> bool {
        (self.topic_id, self.partition, self.generation)
            == (assignment.topic_id, assignment.partition, assignment.generation)
    }
}

/// A request that waits for what its group knows.
#[derive(Debug)]
pub(super) enum Positioning {
    Subscribe(Subscribe),
    Resolve(ResolvePosition),
}

impl<S: AsyncRead + AsyncWrite + Unpin> ConnectionTask<S> {
    fn speaker(&mut self) -> Speaker {
        let (inbox, _) = self.groups.get_or_insert_with(mpsc::unbounded_channel);
        Speaker { connection: self.link.id, inbox: inbox.clone() }
    }

    /// A request about groups goes to their owner.
    pub(super) fn ask_groups(&mut self, correlation: u32, request: Request) -> Result<(), Failure> {
        let principal = self.live.principal.borrow().clone();
        let principal = principal.ok_or_else(|| Failure::new(ErrorCode::Unauthenticated))?;
        let speaker = self.speaker();
        self.edge.groups.ask(GroupsMessage::Request { speaker, principal, correlation, request: Box::new(request) })?;
        self.administering_count += 1;
        Ok(())
    }

    /// Begins a push: asks the group first, if there is one, then the shard.
    pub(super) fn subscribe(&mut self, correlation: u32, subscribe: Subscribe) -> Result<(), Failure> {
        let query = subscription_query(&subscribe)?;
        let owner = self.edge.shard.routes().shard_of(subscribe.topic_id, subscribe.partition);
        let id = subscribe.subscription;
        self.check_new_subscription(id)?;
        let (topic_id, actions) = (subscribe.topic_id, admin::subscription_actions(&subscribe));
        self.subscriptions.insert(id, Pushing { owner, topic_id, actions });
        self.subscribing.insert(correlation, id);
        self.machine.set_subscription_count(self.subscriptions.len());
        let Some(query) = query else {
            return self.route(correlation, owner, DataRequest::Subscribe(subscribe));
        };
        if let Some((member, generation)) = query.assignment.clone() {
            let (group, topic_id, partition) = (query.group.clone(), query.topic_id, query.partition);
            self.carried.insert(id, Carried { group, member, topic_id, partition, generation });
        }
        self.ask_position(correlation, query, Positioning::Subscribe(subscribe))
    }

    /// Asks what a position comes to: the group first, if there is one, then the shard.
    pub(super) fn resolve_position(&mut self, correlation: u32, resolve: ResolvePosition) -> Result<(), Failure> {
        match &resolve.group {
            Some(group) if resolve.position.kind == PositionKind::Stored => {
                let (group, topic_id, partition) = (group.clone(), resolve.topic_id, resolve.partition);
                let query = PositionQuery { group, assignment: None, topic_id, partition };
                self.ask_position(correlation, query, Positioning::Resolve(resolve))
            }
            _ => {
                let owner = self.edge.shard.routes().shard_of(resolve.topic_id, resolve.partition);
                self.route(correlation, owner, DataRequest::ResolvePosition(resolve))
            }
        }
    }

    fn ask_position(&mut self, correlation: u32, query: PositionQuery, then: Positioning) -> Result<(), Failure> {
        let speaker = self.speaker();
        self.edge.groups.ask(GroupsMessage::Position { speaker, correlation, query })?;
        self.positioning.insert(correlation, then);
        Ok(())
    }

    /// The owner of groups has answered: the request goes on to its shard with a position that every shard understands.
    pub(super) fn on_group_position(&mut self, correlation: u32, found: Result<Option<StoredPosition>, Failure>) {
        let outcome = match (self.positioning.remove(&correlation), found) {
            (None, _) => return,
            (Some(_), Err(failure)) => Err(failure),
            (Some(Positioning::Subscribe(subscribe)), Ok(stored)) => {
                at_stored(subscribe, stored).and_then(|subscribe| {
                    let owner = self.subscriptions.get(&subscribe.subscription).map(|pushing| pushing.owner);
                    let owner = owner.ok_or_else(|| Failure::new(ErrorCode::NotAssigned))?;
                    self.route(correlation, owner, DataRequest::Subscribe(subscribe))
                })
            }
            (Some(Positioning::Resolve(mut resolve)), Ok(stored)) => match stored {
                Some(stored) => {
                    resolve.position = Position::offset(stored.offset);
                    let owner = self.edge.shard.routes().shard_of(resolve.topic_id, resolve.partition);
                    self.route(correlation, owner, DataRequest::ResolvePosition(resolve))
                }
                None => Err(nothing_stored(resolve.group.as_deref())),
            },
        };
        if let Err(failure) = outcome {
            self.fail(correlation, &failure);
        }
    }

    /// Credit for a subscription that still waits for its group is added to what it begins with.
    pub(super) fn credit_waiting(&mut self, credit: &Credit) -> bool {
        for waiting in self.positioning.values_mut() {
            if let Positioning::Subscribe(subscribe) = waiting
                && subscribe.subscription == credit.subscription
            {
                subscribe.credit_bytes = subscribe.credit_bytes.saturating_add(credit.credit_bytes);
                return true;
            }
        }
        false
    }

    /// Ends what has to end, then tells the client.
    pub(super) fn on_group(&mut self, push: Push) {
        match push {
            Push::Changed(changed) => {
                for assignment in &changed.revoked {
                    let is_meant =
                        |carried: &Carried| carried.is_of(&changed.group, &changed.member) && carried.is(assignment);
                    self.cut_carried(is_meant, "the partition goes to another member");
                }
                self.machine.push(&changed);
            }
            Push::Ended(over) => {
                let is_meant = |carried: &Carried| carried.is_of(&over.group, &over.member);
                self.cut_carried(is_meant, "the membership has ended");
                self.machine.push(&over);
            }
            Push::Left { group, member } => {
                self.cut_carried(|carried| carried.is_of(&group, &member), "the member has left");
            }
        }
    }

    fn cut_carried(&mut self, is_meant: impl Fn(&Carried) -> bool, why: &str) {
        let meant = self.carried.iter().filter(|(_, carried)| is_meant(carried));
        let meant: Vec<_> = meant.map(|(id, carried)| (*id, carried.partition, carried.generation)).collect();
        for (id, partition, generation) in meant {
            let failure = Failure::because(ErrorCode::NotAssigned, why);
            self.cut(id, &failure.with("partition", partition).with("generation", generation));
        }
    }

    /// Ends a subscription here and on its shard. One that is not answered yet fails when its answer comes.
    pub(super) fn cut(&mut self, id: u32, failure: &Failure) {
        let Some(owner) = self.subscriptions.get(&id).map(|pushing| pushing.owner) else { return };
        if self.route(0, owner, DataRequest::Cut(id)).is_err() {
            self.send_later(owner, DataRequest::Cut(id));
        }
        let is_begun = !self.subscribing.values().any(|begun| *begun == id);
        self.forget_subscription(id);
        if is_begun {
            self.machine.subscription_revoked(&ended(id, failure));
        }
    }

    /// A notice that must arrive: when another core's inbox is full, a task of its own waits for room, and the core does
    /// not.
    pub(super) fn send_later(&mut self, owner: u16, notice: DataRequest) {
        let edge = Rc::clone(&self.edge);
        let (link, readable) = (std::sync::Arc::clone(&self.link), self.readable);
        let reply_to = Self::remote_inbox(self.remote_mut());
        tokio::task::spawn_local(async move {
            if let routing::Owner::There(shard) = edge.shard.routes().at(owner) {
                shard.send_notice(notice, reply_to, link, readable).await;
            }
        });
    }
}

/// What a subscription asks of its group. `None`: nothing.
fn subscription_query(subscribe: &Subscribe) -> Result<Option<PositionQuery>, Failure> {
    let Some(group) = &subscribe.group else {
        return match subscribe.member {
            Some(_) => Err(Failure::invalid("group", "a member is a member of a group: which?")),
            None => Ok(None),
        };
    };
    if subscribe.otherwise.as_ref().is_some_and(|otherwise| otherwise.kind == PositionKind::Stored) {
        return Err(Failure::invalid("otherwise", "where to start when nothing is stored cannot be what is stored"));
    }
    let assignment = match (&subscribe.member, subscribe.generation) {
        (Some(member), Some(generation)) => Some((member.clone(), generation)),
        (None, None) => None,
        _ => return Err(Failure::invalid("generation", "member and generation come together")),
    };
    let is_needed = assignment.is_some() || subscribe.position.kind == PositionKind::Stored;
    let (topic_id, partition) = (subscribe.topic_id, subscribe.partition);
    Ok(is_needed.then(|| PositionQuery { group: group.clone(), assignment, topic_id, partition }))
}

/// The subscription at the position that its group has stored.
fn at_stored(mut subscribe: Subscribe, stored: Option<StoredPosition>) -> Result<Subscribe, Failure> {
    if subscribe.position.kind != PositionKind::Stored {
        return Ok(subscribe);
    }
    match (stored, subscribe.otherwise.take()) {
        (Some(stored), _) => {
            subscribe.position = Position::offset(stored.offset);
            subscribe.epoch = stored.epoch;
        }
        (None, Some(otherwise)) => subscribe.position = otherwise,
        (None, None) => return Err(nothing_stored(subscribe.group.as_deref())),
    }
    Ok(subscribe)
}

fn nothing_stored(group: Option<&str>) -> Failure {
    Failure::new(ErrorCode::NoStoredOffset).with("group", group.unwrap_or_default())
}

/// The push that says why a subscription ended.
pub(super) fn ended(subscription: u32, failure: &Failure) -> SubscriptionEnded {
    let error = failure.to_error();
    SubscriptionEnded {
        subscription,
        code: error.code,
        class: error.class,
        flags: error.flags,
        message: error.message,
        details: error.details,
    }
}
