//! The audit log: who did what, from where and with which outcome, as JSON in the server's own topic `_levada/audit`.
//!
//! A bounded queue from every core to one task on the control thread. Recording never waits: what finds the queue full is
//! counted, and the next record that is written says how many are missing. The topic comes to be with the first record. No
//! record holds a password, a token or a payload: those who record have names only.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::batch::{BatchBuilder, BatchLimits, NewMessage, SealOptions};
use levada_protocol::messages::{CreateTopic, Durability, Request, TopicCompression, TopicOptions};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::{AdminHandle, SYSTEM_STREAM, Shards};
use crate::auth::Principal;
use crate::env::Clock;
use crate::failure::Failure;
use crate::metadata::Snapshot;

/// Topic of the audit log, in the server's own stream.
pub const AUDIT_TOPIC: &str = "audit";
/// Records that wait to be written.
const QUEUE_RECORDS: usize = 1024;
/// Records written as one batch.
const BATCH_RECORDS: usize = 256;
/// How long the writer waits after the log refused.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a shutdown waits for what is queued.
const SETTLE: Duration = Duration::from_secs(2);

/// Something that somebody did, or tried to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The user, or the name that was claimed.
    pub user: String,
    /// Where from.
    pub peer: IpAddr,
    /// What.
    pub action: &'static str,
    /// On what; empty where there is nothing to name.
    pub resource: String,
    /// `None` is success.
    pub failure: Option<ErrorCode>,
}

#[derive(Debug)]
enum Queued {
    Record(i64, Record),
    Settled(oneshot::Sender<()>),
}

/// Records from any core.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    queue: Option<Queue>,
}

#[derive(Clone, Debug)]
struct Queue {
    sender: mpsc::Sender<Queued>,
    missing: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
}

impl Audit {
    /// A log, and what writes it.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> (Self, AuditWriter) {
        let (sender, queued) = mpsc::channel(QUEUE_RECORDS);
        let missing = Arc::new(AtomicU64::new(0));
        let writer = AuditWriter { queued, missing: Arc::clone(&missing) };
        (Self { queue: Some(Queue { sender, missing, clock }) }, writer)
    }

    /// Whether anything is recorded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Records, without waiting.
    pub fn record(&self, record: Record) {
        let Some(queue) = &self.queue else { return };
        if queue.sender.try_send(Queued::Record(queue.clock.now_us(), record)).is_err() {
            queue.missing.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when what was recorded before is written, or cannot be for a while.
    pub async fn settle(&self) {
        let Some(queue) = &self.queue else { return };
        let (settled, is_settled) = oneshot::channel();
        let written = async {
            if queue.sender.send(Queued::Settled(settled)).await.is_ok() {
                // A writer that is gone has nothing left to write.
                drop(is_settled.await);
            }
        };
        if tokio::time::timeout(SETTLE, written).await.is_err() {
            tracing::warn!("records of the audit log were not written before the end");
        }
    }
}

/// What a request changes that is worth a record: the action and what it is done to.
#[must_use]
pub fn audited(request: &Request) -> Option<(&'static str, String)> {
    let topic = |stream: &str, topic: &str| format!("{stream}/{topic}");
    Some(match request {
        Request::CreateStream(create) => ("create stream", create.stream.clone()),
        Request::DeleteStream(delete) => ("delete stream", delete.stream.clone()),
        Request::CreateTopic(create) => ("create topic", topic(&create.stream, &create.topic)),
        Request::AlterTopic(alter) => ("alter topic", topic(&alter.stream, &alter.topic)),
        Request::DeleteTopic(delete) => ("delete topic", topic(&delete.stream, &delete.topic)),
        Request::PurgeTopic(purge) => ("purge topic", topic(&purge.stream, &purge.topic)),
        Request::CreateUser(create) => ("create user", create.user.clone()),
        Request::AlterUser(alter) => ("alter user", alter.user.clone()),
        Request::DeleteUser(delete) => ("delete user", delete.user.clone()),
        Request::CreateToken(create) => ("create token", owned(create.user.as_deref(), &create.name)),
        Request::DeleteToken(delete) => ("delete token", owned(delete.user.as_deref(), &delete.name)),
        Request::SetAccess(set) => ("set access", set.user.clone()),
        Request::SetRole(set) => ("set role", set.role.clone()),
        Request::DeleteRole(delete) => ("delete role", delete.role.clone()),
        Request::SetQuota(set) => ("set quota", set.user.clone()),
        _ => return None,
    })
}

/// A token by its user, where that is named, and its name.
fn owned(user: Option<&str>, name: &str) -> String {
    user.map_or_else(|| name.to_owned(), |user| format!("{user}/{name}"))
}

/// Writes the log.
#[derive(Debug)]
pub struct AuditWriter {
    queued: mpsc::Receiver<Queued>,
    missing: Arc<AtomicU64>,
}

impl AuditWriter {
    /// Writes until the last [`Audit`] is gone.
    pub async fn run(mut self, newest: watch::Receiver<Arc<Snapshot>>, admin: AdminHandle, shards: Rc<dyn Shards>) {
        let mut builder = BatchBuilder::new(BatchLimits::default());
        let mut queued = Vec::new();
        while 0 < self.queued.recv_many(&mut queued, BATCH_RECORDS).await {
            let mut settled = Vec::new();
            for item in queued.drain(..) {
                match item {
                    Queued::Record(at_us, record) => self.add(&mut builder, at_us, &record),
                    Queued::Settled(reply) => settled.push(reply),
                }
            }
            if let Some(batch) = builder.seal(&SealOptions::default()) {
                while let Err(failure) = append(&newest, &admin, &*shards, &batch).await {
                    tracing::warn!(%failure, "the audit log refuses what is recorded; it is asked again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            // Who no longer waits has given up.
            for reply in settled {
                let _ = reply.send(());
            }
        }
    }

    fn add(&self, builder: &mut BatchBuilder, at_us: i64, record: &Record) {
        let text = json(at_us, record, self.missing.swap(0, Ordering::Relaxed));
        let message = NewMessage { payload: Some(text.as_bytes()), timestamp_us: at_us, ..NewMessage::default() };
        // Names are short, and a batch holds thousands: only a defect brings this about.
        if builder.push(&message).is_err() {
            tracing::error!(text, "a record did not fit the audit log");
        }
    }
}

fn json(at_us: i64, record: &Record, missing: u64) -> String {
    let outcome = record.failure.map_or("OK", ErrorCode::name);
    let mut value = serde_json::json!({
        "time_us": at_us,
        "user": record.user,
        "peer": record.peer.to_string(),
        "action": record.action,
        "resource": record.resource,
        "outcome": outcome,
    });
    if 0 < missing {
        value["missing_before"] = missing.into();
    }
    value.to_string()
}

async fn append(
    newest: &watch::Receiver<Arc<Snapshot>>,
    admin: &AdminHandle,
    shards: &dyn Shards,
    batch: &Bytes,
) -> Result<(), Failure> {
    let topic_id = || newest.borrow().topic_named(SYSTEM_STREAM, AUDIT_TOPIC).map(|topic| topic.topic_id);
    if topic_id().is_none() {
        let options = TopicOptions {
            partition_count: 1,
            durability: Durability::Disk,
            compression: TopicCompression::Producer,
            retention_bytes: None,
            retention_age_us: None,
            segment_bytes: None,
        };
        let create = CreateTopic { stream: SYSTEM_STREAM.to_owned(), topic: AUDIT_TOPIC.to_owned(), options };
        // Not a request of anybody: the way that requests take after they were authorised.
        admin.handle(Principal::insecure_dev(), Request::CreateTopic(create)).await?;
    }
    let topic_id = topic_id().ok_or_else(|| Failure::new(ErrorCode::Internal))?;
    shards.append(topic_id, 0, batch.clone()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Zero;

    impl Clock for Zero {
        fn now_us(&self) -> i64 {
            0
        }
    }

    fn record(user: &str) -> Record {
        let (peer, resource) = (IpAddr::from([127, 0, 0, 1]), "a\"b".to_owned());
        Record { user: user.to_owned(), peer, action: "delete topic", resource, failure: None }
    }

    #[test]
    fn a_record_is_json_whatever_names_hold() {
        let text = json(7, &Record { failure: Some(ErrorCode::PermissionDenied), ..record("an\nn") }, 3);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["user"], &value["resource"]), (&"an\nn".into(), &"a\"b".into()));
        assert_eq!((&value["outcome"], &value["missing_before"]), (&"PERMISSION_DENIED".into(), &3.into()));
    }

    #[test]
    fn what_finds_the_queue_full_is_counted_and_never_waits() {
        let (audit, writer) = Audit::new(Arc::new(Zero));
        for _ in 0..QUEUE_RECORDS + 5 {
            audit.record(record("ann"));
        }
        assert_eq!(writer.missing.load(Ordering::Relaxed), 5);
        Audit::default().record(record("nobody hears"));
    }
}
