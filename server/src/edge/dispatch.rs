//! What a request leads to: data requests go to the shard that owns the partition, administrative ones and Authenticate to
//! the control thread; what comes back is handed to the connection's machine. Every request is answered exactly once.

use std::rc::Rc;

use bytes::Bytes;
use levada_protocol::batch::{self, ProducerHeader};
use levada_protocol::messages::{Authenticate, Produce, ReadSequences, Request};
use levada_protocol::server::ServerEvent;
use levada_protocol::{ErrorCode, limits};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::audit::{self, Record};
use crate::auth::{Attempt, Principal, Session};
use crate::broker::message::FetchedBatches;
use crate::broker::shard::Caller;
use crate::broker::{DataReply, DataRequest, Delivery, Readable, ToConnection};
use crate::edge::access::withdrawn;
use crate::edge::connection::{ConnectionTask, Producing};
use crate::edge::groups::ended;
use crate::failure::Failure;
use crate::metadata::Actions;

impl<S: AsyncRead + AsyncWrite + Unpin> ConnectionTask<S> {
    /// Takes up what the client wants.
    pub(super) fn on_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Hello(hello) => {
                self.readable = Readable::new(&hello.batch_formats, &hello.codecs);
                tracing::debug!(peer = %self.peer, client = hello.client, version = hello.client_version, "hello");
                if self.edge.options.insecure_dev {
                    // It has no quota, so there is nothing to refuse.
                    drop(self.speak_for(Principal::insecure_dev()));
                }
            }
            ServerEvent::Authenticate { correlation, request } => self.authenticate(correlation, request),
            ServerEvent::Request { correlation, request, body } => {
                // A notice has no answer, whatever becomes of it.
                if let Err(failure) = self.on_request(correlation, request, body)
                    && correlation != 0
                {
                    self.fail(correlation, &failure);
                }
            }
        }
    }

    /// # Errors
    /// What is answered at once; everything else is answered later, through the mailbox.
    fn on_request(&mut self, correlation: u32, request: Request, body: Bytes) -> Result<(), Failure> {
        self.authorize(&request).inspect_err(|failure| self.record_refusal(&request, failure))?;
        self.meter(&request, body.len())?;
        match request {
            Request::Produce(produce) => {
                self.check_batch_version(&body)?;
                self.produce(correlation, produce, body)
            }
            Request::Fetch(fetch) => {
                let owner = self.edge.shard.routes().shard_of(fetch.topic_id, fetch.partition);
                let topic_id = fetch.topic_id;
                self.route(correlation, owner, DataRequest::Fetch(fetch))?;
                self.fetching.insert(correlation, topic_id);
                Ok(())
            }
            Request::ResolvePosition(resolve) => self.resolve_position(correlation, resolve),
            Request::Subscribe(subscribe) => self.subscribe(correlation, subscribe),
            Request::ReadSequences(mut read) => {
                self.find_producer(&mut read)?;
                let owner = self.edge.shard.routes().shard_of(read.topic_id, read.partition);
                self.route(correlation, owner, DataRequest::ReadSequences(read))
            }
            Request::Unsubscribe(unsubscribe) => {
                let id = unsubscribe.subscription;
                let owner = self.subscriptions.get(&id).map(|pushing| pushing.owner).ok_or_else(|| {
                    let failure = Failure::because(ErrorCode::SubscriptionNotFound, format!("no subscription {id}"));
                    failure.with("subscription", id)
                })?;
                self.route(correlation, owner, DataRequest::Unsubscribe(unsubscribe))
            }
            Request::Credit(credit) => {
                if !self.credit_waiting(&credit) {
                    self.grant(credit);
                }
                Ok(())
            }
            request @ (Request::JoinGroup(_)
            | Request::LeaveGroup(_)
            | Request::Commit(_)
            | Request::ReadOffsets(_)
            | Request::ResetOffsets(_)
            | Request::ListGroups(_)
            | Request::DescribeGroup(_)
            | Request::DeleteGroup(_)) => self.ask_groups(correlation, request),
            request => {
                let request = self.as_meant(request);
                self.administrate(correlation, request);
                Ok(())
            }
        }
    }

    /// Puts the id of a named producer where its name is; ids of other users' producers tell nothing.
    fn find_producer(&self, read: &mut ReadSequences) -> Result<(), Failure> {
        let user_id = self.live.principal.borrow().as_ref().map_or(0, |principal| principal.user_id);
        let snapshot = self.edge.shard.snapshot();
        if let Some(name) = &read.name {
            if read.producer_id != 0 {
                return Err(Failure::invalid("name", "a name comes with producer_id 0"));
            }
            read.producer_id = snapshot.producer_named(user_id, name).map_or(0, |named| named.producer_id);
        } else if snapshot.named_producers.get(&read.producer_id).is_some_and(|named| named.user_id != user_id) {
            return Err(Failure::invalid("producer_id", "it is another user's named producer"));
        }
        Ok(())
    }

    /// Sequences of the application's own came with version 2.
    fn check_batch_version(&self, body: &Bytes) -> Result<(), Failure> {
        let external =
            || ProducerHeader::parse(body).is_ok_and(|header| header.flags & batch::FLAG_EXTERNAL_SEQUENCE != 0);
        if 2 <= self.machine.version() || !external() {
            return Ok(());
        }
        let what = "external sequences";
        Err(Failure::because(ErrorCode::Unsupported, format!("version 1 has no {what}")).with("what", what))
    }

    /// A batch goes to its shard, with what was charged for it if it is kept there.
    fn produce(&mut self, correlation: u32, request: Produce, body: Bytes) -> Result<(), Failure> {
        let shard = &self.edge.shard;
        let owner = shard.routes().shard_of(request.topic_id, request.partition);
        let is_held = owner != shard.routes().shard() || shard.holds_batches(request.topic_id, request.partition);
        let body_bytes = body.len();
        self.route(correlation, owner, DataRequest::Produce(request, body))?;
        let producing = if is_held {
            self.held_bytes += body_bytes;
            Producing::held(body_bytes, self.inbound.take())
        } else {
            Producing::default()
        };
        let earlier = self.producing.insert(correlation, producing);
        debug_assert!(earlier.is_none(), "the machine refuses a correlation that is unanswered");
        Ok(())
    }

    /// A produce request has its answer.
    fn produced(&mut self, correlation: u32) {
        if let Some(Producing { held_bytes, .. }) = self.producing.remove(&correlation) {
            self.held_bytes -= held_bytes;
        }
    }

    pub(super) fn forget_subscription(&mut self, subscription: u32) {
        self.subscriptions.remove(&subscription);
        self.carried.remove(&subscription);
        self.machine.set_subscription_count(self.subscriptions.len());
    }

    pub(super) fn route(&mut self, correlation: u32, owner: u16, request: DataRequest) -> Result<(), Failure> {
        let edge = Rc::clone(&self.edge);
        let (origin, link, readable) = (self.origin.clone(), std::sync::Arc::clone(&self.link), self.readable);
        let caller = Caller { origin: &origin, link: &link, readable };
        let remote = self.remote_mut();
        edge.shard.route(&caller, correlation, owner, request, || Self::remote_inbox(remote))
    }

    pub(super) fn check_new_subscription(&self, id: u32) -> Result<(), Failure> {
        if self.subscriptions.contains_key(&id) {
            return Err(Failure::because(ErrorCode::Conflict, format!("subscription {id} exists on this connection")));
        }
        if limits::MAX_SUBSCRIPTIONS <= self.subscriptions.len() {
            let failure = Failure::new(ErrorCode::TooManySubscriptions);
            return Err(failure.with("limit", limits::MAX_SUBSCRIPTIONS));
        }
        Ok(())
    }

    /// A notice must arrive.
    pub(super) fn notify(&mut self, owner: u16, notice: DataRequest) {
        let again = notice.clone();
        if self.route(0, owner, notice).is_err() {
            self.send_later(owner, again);
        }
    }

    fn authenticate(&mut self, correlation: u32, request: Authenticate) {
        let attempt = Attempt { request, peer: self.peer, confidential: self.confidential };
        let (auth, live) = (self.edge.auth.clone(), Rc::clone(&self.live));
        tokio::task::spawn_local(async move {
            live.mailbox.push(match auth.authenticate(attempt).await {
                Ok(session) => ToConnection::Session(correlation, Box::new(session)),
                Err(failure) => ToConnection::Failed(correlation, failure),
            });
        });
    }

    fn administrate(&mut self, correlation: u32, request: Request) {
        let (admin, live) = (self.edge.admin.clone(), Rc::clone(&self.live));
        let principal = self.live.principal.borrow().clone();
        self.administering_count += 1;
        let (audited, peer) = (self.edge.admin.audit().is_on().then(|| audit::audited(&request)).flatten(), self.peer);
        let user = principal.as_ref().map(|principal| principal.name.to_string()).unwrap_or_default();
        tokio::task::spawn_local(async move {
            let outcome = match principal {
                Some(principal) => admin.handle(principal, request).await,
                None => Err(Failure::new(ErrorCode::Unauthenticated)),
            };
            if let Some((action, resource)) = audited {
                let failure = outcome.as_ref().err().map(|failure| failure.code);
                admin.audit().record(Record { user, peer, action, resource, failure });
            }
            live.mailbox.push(ToConnection::Admin(correlation, outcome.map(Box::new)));
        });
    }

    /// What somebody tried to change and may not.
    #[cold]
    fn record_refusal(&self, request: &Request, failure: &Failure) {
        let Some((action, resource)) = audit::audited(request) else { return };
        let user =
            self.live.principal.borrow().as_ref().map(|principal| principal.name.to_string()).unwrap_or_default();
        let failure = Some(failure.code);
        self.edge.admin.audit().record(Record { user, peer: self.peer, action, resource, failure });
    }

    /// Hands the machine what a shard or the control thread has for the client.
    pub(super) fn on_message(&mut self, message: ToConnection) {
        match message {
            ToConnection::Reply(correlation, reply) => self.on_reply(correlation, reply),
            ToConnection::Failed(correlation, failure) => self.fail(correlation, &failure),
            ToConnection::Deliver(delivery) => {
                let Delivery { head, slices, charge } = *delivery;
                // What was cut is pushed until its shard has heard of it.
                if self.is_revoked() || !self.subscriptions.contains_key(&head.subscription) {
                    return self.link.outbound.cancel(charge);
                }
                self.charge(charge);
                self.meter_out(&slices);
                self.machine.deliver(&head, slices);
            }
            ToConnection::Ended(subscription, failure) => {
                if !self.subscriptions.contains_key(&subscription) {
                    return;
                }
                self.forget_subscription(subscription);
                self.machine.subscription_ended(&ended(subscription, &failure));
            }
            ToConnection::Credit(credit) => self.grant(credit),
            ToConnection::AccessChanged => self.on_access_changed(),
            ToConnection::Goodbye(reason, message) => self.drain(reason, message),
            ToConnection::Admin(correlation, outcome) => {
                self.administering_count -= 1;
                match outcome {
                    Ok(reply) => reply.answer(&mut self.machine, correlation),
                    Err(failure) => self.fail(correlation, &failure),
                }
            }
            ToConnection::GroupPosition(correlation, found) => self.on_group_position(correlation, found),
            ToConnection::Group(push) => self.on_group(*push),
            ToConnection::Session(correlation, session) => {
                let Session { principal, reply } = *session;
                match self.speak_for(principal) {
                    Ok(()) => self.machine.authenticated(correlation, &reply),
                    Err(failure) => self.fail(correlation, &failure),
                }
            }
        }
    }

    fn on_reply(&mut self, correlation: u32, reply: DataReply) {
        match reply {
            DataReply::ProduceAck(ack) => {
                self.produced(correlation);
                self.machine.reply(correlation, &ack);
            }
            DataReply::Fetched(fetched) => {
                let FetchedBatches { head, slices, charge } = *fetched;
                let topic_id = self.fetching.remove(&correlation);
                if topic_id.is_some_and(|topic_id| !self.still_may(Actions::READ, topic_id)) {
                    charge.into_iter().for_each(|charge| self.link.outbound.cancel(charge));
                    return self.fail(correlation, &withdrawn());
                }
                if self.is_revoked() {
                    return charge.into_iter().for_each(|charge| self.link.outbound.cancel(charge));
                }
                if let Some(charge) = charge {
                    self.charge(charge);
                }
                self.meter_out(&slices);
                self.machine.reply_with_body(correlation, &head, slices);
            }
            DataReply::Subscribed(subscribed) => {
                let begun = self.subscribing.remove(&correlation);
                if let Some(subscription) = begun.filter(|subscription| self.subscriptions.contains_key(subscription)) {
                    self.machine.reply(correlation, &subscribed);
                    self.cut_unless_allowed(subscription);
                } else {
                    self.fail(correlation, &Failure::new(ErrorCode::NotAssigned));
                }
            }
            DataReply::Unsubscribed(subscription) => {
                self.forget_subscription(subscription);
                self.machine.unsubscribed(correlation, subscription);
            }
            DataReply::PositionResolved(resolved) => self.machine.reply(correlation, &resolved),
            DataReply::SequencesRead(read) => self.machine.reply(correlation, &read),
        }
    }

    pub(super) fn fail(&mut self, correlation: u32, failure: &Failure) {
        if let Some(subscription) = self.subscribing.remove(&correlation) {
            self.forget_subscription(subscription);
        }
        self.produced(correlation);
        self.fetching.remove(&correlation);
        self.machine.fail(correlation, &failure.to_error());
    }
}
