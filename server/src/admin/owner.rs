//! The owner of metadata: one inbox, one loop. Changes happen one after the other; what only reads, or waits for a shard
//! or a password hash, does not hold them up.
//!
//! A change is answered after it is durable and every shard has installed it. Files of a deleted topic go after that.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use levada_protocol::ErrorCode;
use levada_protocol::messages::{
    DeleteMessages, MessagesDeleted, ProducerOpened, ReadOnlyPartition, Request, TopicDescribed, TopicPurged,
};
use levada_storage::AppendError;
use levada_storage::disk::Space;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::change::Change;
use super::convert::topic_info;
use super::handle::{AdminMessage, AdminReply};
use super::producers::{self, Opening, Taken};
use super::shards::Shards;
use super::{Access, grants, status, streams, tokens, topics, users};
use crate::auth::{Hasher, Principal, TokenSecret};
use crate::env::CoreEnv;
use crate::failure::Failure;
use crate::metadata::event::{Event, ProducerIdBlock, TopicRemoved};
use crate::metadata::model::TopicSupplement;
use crate::metadata::state::LEVEL_2;
use crate::metadata::{CommitError, Layout, MetadataStore, Snapshot, directories};

/// How often the storage looks after itself.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(1);

type Answer = Result<AdminReply, Failure>;

/// A request whose password, if it has one, is hashed.
struct Prepared {
    principal: Principal,
    request: Request,
    password_hash: Option<String>,
    reply: oneshot::Sender<Answer>,
}

/// What comes back to the owner from the tasks it started.
enum Inner {
    Request(Box<Prepared>),
    /// The files of a deleted topic are gone.
    Removed(u32),
}

/// The owner.
pub struct MetadataOwner {
    env: CoreEnv,
    layout: Layout,
    store: MetadataStore,
    published: watch::Sender<Arc<Snapshot>>,
    shards: Rc<dyn Shards>,
    hasher: Rc<Hasher>,
    producer_ids: Range<u64>,
    started: Instant,
    inner_sender: mpsc::UnboundedSender<Inner>,
    inner: mpsc::UnboundedReceiver<Inner>,
}

impl std::fmt::Debug for MetadataOwner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MetadataOwner").field("store", &self.store).finish_non_exhaustive()
    }
}

impl MetadataOwner {
    /// An owner of `store` that publishes to `published` and to the shards, which have its present version already.
    #[must_use]
    pub fn new(
        env: CoreEnv,
        layout: Layout,
        store: MetadataStore,
        published: watch::Sender<Arc<Snapshot>>,
        shards: Rc<dyn Shards>,
        hasher: Rc<Hasher>,
    ) -> Self {
        let (inner_sender, inner) = mpsc::unbounded_channel();
        let started = Instant::now();
        Self { env, layout, store, published, shards, hasher, producer_ids: 0..0, started, inner_sender, inner }
    }

    /// Serves `inbox` until all its senders are gone or `stop` fires, then closes the log.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<AdminMessage>, mut stop: oneshot::Receiver<()>) {
        for topic_id in self.store.snapshot().tombstones.clone() {
            self.remove_files(topic_id);
        }
        let storage = self.store.storage().clone();
        let maintenance = tokio::task::spawn_local(async move {
            loop {
                storage.maintain().await;
                tokio::time::sleep(MAINTENANCE_PERIOD).await;
            }
        });
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Some(inner) = self.inner.recv() => self.on_inner(inner).await,
                message = inbox.recv() => match message {
                    Some(AdminMessage::Request { principal, request, reply }) => self.prepare(principal, *request, reply),
                    None => break,
                },
            }
        }
        maintenance.abort();
        tracing::debug!("closing metadata");
        self.store.close().await;
    }

    /// Hashes the password of a request in a task of its own; everything else goes straight on.
    fn prepare(&self, principal: Principal, request: Request, reply: oneshot::Sender<Answer>) {
        let password = match &request {
            Request::CreateUser(create) => Some(create.password.clone()),
            Request::AlterUser(alter) => alter.password.clone(),
            _ => None,
        };
        let inner_sender = self.inner_sender.clone();
        let forward = move |request, password_hash, reply| {
            let prepared = Prepared { principal, request, password_hash, reply };
            // The owner is the receiver: if it is gone, so is the reply's sender, and the caller learns it from that.
            drop(inner_sender.send(Inner::Request(Box::new(prepared))));
        };
        let Some(password) = password else { return forward(request, None, reply) };
        let hasher = Rc::clone(&self.hasher);
        tokio::task::spawn_local(async move {
            let hashed = match users::check_password(&password) {
                Ok(()) => hasher.hash(password).await,
                Err(failure) => Err(failure),
            };
            match hashed {
                Ok(hash) => forward(request, Some(hash), reply),
                Err(failure) => drop(reply.send(Err(failure))),
            }
        });
    }

    async fn on_inner(&mut self, inner: Inner) {
        match inner {
            Inner::Request(prepared) => {
                let Prepared { principal, request, password_hash, reply } = *prepared;
                if let Some(answer) = self.on_request(&principal, request, password_hash, reply).await {
                    let (reply, answer) = answer;
                    // A connection that has gone does not want its answer.
                    drop(reply.send(answer));
                }
            }
            Inner::Removed(topic_id) => {
                if let Err(error) = self.store.commit(&[TopicRemoved { topic_id }.into()]).await {
                    tracing::warn!(topic_id, %error, "the removal of a topic's files was not recorded");
                }
                self.publish();
            }
        }
    }

    /// The table of requests. `None`: a task of its own answers.
    async fn on_request(
        &mut self,
        principal: &Principal,
        request: Request,
        password_hash: Option<String>,
        reply: oneshot::Sender<Answer>,
    ) -> Option<(oneshot::Sender<Answer>, Answer)> {
        let snapshot = Arc::clone(self.store.snapshot());
        let now_us = self.env.clock.now_us();
        let change = match request {
            Request::CreateStream(request) => streams::create(&snapshot, request, now_us),
            Request::DeleteStream(request) => streams::delete(&snapshot, &request),
            Request::CreateTopic(request) => topics::create(&snapshot, &request, now_us),
            Request::AlterTopic(request) => topics::alter(&snapshot, &request),
            Request::DeleteTopic(request) => topics::delete(&snapshot, &request),
            Request::CreateUser(request) => {
                users::create(&snapshot, request, password_hash.unwrap_or_default(), now_us)
            }
            Request::AlterUser(request) => users::alter(&snapshot, request, password_hash),
            Request::DeleteUser(request) => users::delete(&snapshot, &request),
            Request::CreateToken(request) => {
                let secret = TokenSecret::generate(&*self.env.random);
                tokens::create(&snapshot, principal, request, secret, now_us)
            }
            Request::DeleteToken(request) => tokens::delete(&snapshot, principal, &request),
            Request::SetAccess(request) => grants::set_access(&snapshot, &request),
            Request::SetRole(request) => grants::set_role(&request),
            Request::DeleteRole(request) => grants::delete_role(&snapshot, &request),
            Request::SetQuota(request) => grants::set_quota(&snapshot, &request),
            Request::OpenProducer(request) => {
                match producers::open(&snapshot, &request, principal.user_id, &mut self.producer_ids, now_us) {
                    Ok(Opening::Now(opened)) => return Some((reply, Ok(opened.into()))),
                    Ok(Opening::NeedsBlock(block, ids)) => {
                        let opened = self.take_block(block, ids).await;
                        return Some((reply, opened.map(|producer_id| new_producer(producer_id).into())));
                    }
                    Ok(Opening::Name(name)) => {
                        let id = self.take_producer_id().await;
                        id.map(|id| producers::name(principal.user_id, name, id, now_us))
                    }
                    Ok(Opening::Raise(change)) => Ok(change),
                    Err(failure) => Err(failure),
                }
            }
            Request::ListStreams(_)
            | Request::DescribeStream(_)
            | Request::ListTopics(_)
            | Request::ListUsers(_)
            | Request::DescribeUser(_)
            | Request::ListTokens(_)
            | Request::DescribeAccess(_)
            | Request::ListRoles(_)
            | Request::DescribeQuota(_) => return Some((reply, read(&snapshot, principal, &request))),
            Request::DescribeTopic(_) | Request::PurgeTopic(_) | Request::DeleteMessages(_) | Request::Status(_) => {
                let access = Access::of(&snapshot, principal);
                self.ask_shards(snapshot, access, request, reply);
                return None;
            }
            Request::Hello(_)
            | Request::Authenticate(_)
            | Request::Ping(_)
            | Request::Produce(_)
            | Request::Fetch(_)
            | Request::Subscribe(_)
            | Request::Unsubscribe(_)
            | Request::ResolvePosition(_)
            | Request::ReadSequences(_)
            | Request::Credit(_)
            | Request::JoinGroup(_)
            | Request::LeaveGroup(_)
            | Request::Commit(_)
            | Request::ReadOffsets(_)
            | Request::ResetOffsets(_)
            | Request::ListGroups(_)
            | Request::DescribeGroup(_)
            | Request::DeleteGroup(_) => return Some((reply, Err(Failure::new(ErrorCode::UnknownKind)))),
        };
        let answer = match change {
            Ok(change) => self.make(change).await,
            Err(failure) => Err(failure),
        };
        Some((reply, answer))
    }

    /// Durable, published, installed everywhere, then answered.
    async fn make(&mut self, change: Change) -> Answer {
        if let Some(what) = change.events.iter().find_map(Event::beyond_level_1) {
            self.store.snapshot().require_level(LEVEL_2, what)?;
        }
        if !change.events.is_empty() {
            self.store.commit(&change.events).await.map_err(|error| refusal(&error))?;
            self.publish();
            let version = self.store.snapshot().version();
            tracing::debug!(version, "change is durable");
            self.shards.install(Arc::clone(self.store.snapshot())).await;
            tracing::debug!(version, "change is installed");
        }
        for event in &change.events {
            if let Event::TopicDeleted(deleted) = event {
                self.remove_files(deleted.topic_id);
            }
        }
        (change.reply)(self.store.snapshot())
    }

    async fn take_block(&mut self, block: ProducerIdBlock, ids: Range<u64>) -> Result<u64, Failure> {
        self.store.commit(&[block.into()]).await.map_err(|error| refusal(&error))?;
        self.publish();
        self.producer_ids = ids;
        self.producer_ids.next().ok_or_else(|| Failure::new(ErrorCode::Internal))
    }

    /// A producer id that was never given out.
    async fn take_producer_id(&mut self) -> Result<u64, Failure> {
        match producers::take_id(self.store.snapshot(), &mut self.producer_ids) {
            Taken::Id(producer_id) => Ok(producer_id),
            Taken::NeedsBlock(block, ids) => self.take_block(block, ids).await,
        }
    }

    fn publish(&self) {
        self.published.send_replace(Arc::clone(self.store.snapshot()));
    }

    fn remove_files(&self, topic_id: u32) {
        let (disk, layout, done) = (Rc::clone(&self.env.disk), self.layout, self.inner_sender.clone());
        tokio::task::spawn_local(async move {
            match directories::remove_topic(&*disk, layout, topic_id).await {
                Ok(()) => drop(done.send(Inner::Removed(topic_id))),
                Err(error) => tracing::warn!(topic_id, %error, "files of a deleted topic stay until the next start"),
            }
        });
    }

    fn ask_shards(&self, snapshot: Arc<Snapshot>, access: Access, request: Request, reply: oneshot::Sender<Answer>) {
        let (shards, disk, root) = (Rc::clone(&self.shards), Rc::clone(&self.env.disk), self.layout.root().to_owned());
        let uptime_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tokio::task::spawn_local(async move {
            let answer = match request {
                Request::Status(_) => {
                    let space = disk.space(&root).await.unwrap_or(Space { total_bytes: 0, free_bytes: 0 });
                    let around = status::Surroundings { uptime_ms, disk_backend: disk.backend(), space };
                    let mut status = status::status(&snapshot, &shards.figures().await, &around);
                    let seen = |topic: &ReadOnlyPartition| access.sees(&topic.stream, &topic.topic);
                    status.read_only_partitions.retain(seen);
                    Ok(status.into())
                }
                Request::DescribeTopic(request) => match snapshot.find_topic(&request.stream, &request.topic) {
                    Ok(topic) => shards.describe(topic.topic_id).await.map(|partitions| {
                        let TopicSupplement { segment_age_us, dedup_messages } = topic.options.supplement;
                        let topic = topic_info(&snapshot, topic);
                        TopicDescribed { topic, partitions, segment_age_us, dedup_messages }.into()
                    }),
                    Err(failure) => Err(failure),
                },
                Request::DeleteMessages(request) => delete_messages(&*shards, &snapshot, &request).await,
                Request::PurgeTopic(request) => purge(&*shards, &snapshot, &request).await,
                _ => Err(Failure::new(ErrorCode::UnknownKind)),
            };
            drop(reply.send(answer));
        });
    }
}

/// What metadata alone answers.
fn read(snapshot: &Snapshot, principal: &Principal, request: &Request) -> Answer {
    let access = Access::of(snapshot, principal);
    match request {
        Request::ListStreams(_) => Ok(streams::list(snapshot, &access).into()),
        Request::DescribeStream(request) => streams::describe(snapshot, &access, request).map(Into::into),
        Request::ListTopics(request) => topics::list(snapshot, &access, request).map(Into::into),
        Request::ListUsers(_) => Ok(users::list(snapshot).into()),
        Request::DescribeUser(request) => users::describe(snapshot, request).map(Into::into),
        Request::ListTokens(request) => tokens::list(snapshot, principal, request).map(Into::into),
        Request::DescribeAccess(request) => grants::describe_access(snapshot, principal, request).map(Into::into),
        Request::ListRoles(_) => Ok(grants::list_roles(snapshot).into()),
        Request::DescribeQuota(request) => grants::describe_quota(snapshot, principal, request).map(Into::into),
        _ => Err(Failure::new(ErrorCode::UnknownKind)),
    }
}

async fn purge(shards: &dyn Shards, snapshot: &Snapshot, request: &levada_protocol::messages::PurgeTopic) -> Answer {
    let topic = snapshot.find_topic(&request.stream, &request.topic)?;
    topics::check_partition(topic, request.partition)?;
    shards.purge(topic.topic_id, request.partition).await?;
    Ok(TopicPurged {}.into())
}

async fn delete_messages(shards: &dyn Shards, snapshot: &Snapshot, request: &DeleteMessages) -> Answer {
    let topic = snapshot.find_topic(&request.stream, &request.topic)?;
    topics::check_partition(topic, Some(request.partition))?;
    let log_start_offset = shards.trim(topic.topic_id, request.partition, request.before.clone()).await?;
    Ok(MessagesDeleted { log_start_offset }.into())
}

fn new_producer(producer_id: u64) -> ProducerOpened {
    ProducerOpened { producer_id, producer_epoch: 1 }
}

fn refusal(error: &CommitError) -> Failure {
    match error {
        CommitError::Contradiction(_) => Failure::because(ErrorCode::Conflict, error.to_string()),
        CommitError::Refused(AppendError::Full) => Failure::new(ErrorCode::Overloaded),
        CommitError::Refused(AppendError::DiskFull) => Failure::new(ErrorCode::DiskFull),
        CommitError::Refused(AppendError::Closed) => Failure::new(ErrorCode::ShuttingDown),
        CommitError::Refused(_) | CommitError::Unknown => Failure::because(ErrorCode::Internal, error.to_string()),
    }
}
