//! One of the 16 coordinator logs: what happened to its groups, in order, and what is to be said about it once it is
//! durable. A task of its own waits for the disk, so the owner never does.
//!
//! Invariant: nothing is said before everything that happened before it in the same log is durable. A log that refuses for
//! want of room keeps what happened in a backlog and takes nothing new meanwhile; one that is damaged or failed is frozen.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use levada_protocol::ErrorCode;
use levada_storage::{AppendError, PartitionIdentity, RecordLog, Storage};
use tokio::sync::mpsc;

use super::handle::Speaker;
use super::record::{decode_record, decode_snapshot};
use super::state::GroupState;
use crate::broker::ToConnection;
use crate::failure::Failure;
use crate::metadata::Layout;

/// Coordinator logs of a data directory. Never changes: a group is found by the hash of its name.
pub(super) const COORDINATOR_COUNT: u32 = 16;
/// Topic id of the coordinator logs in their segment headers.
const COORDINATOR_LOG_ID: u32 = 0xFFFF_0001;
/// A snapshot is taken after this many bytes of changes, or twice the bytes of the last snapshot.
const SNAPSHOT_AFTER_BYTES: u64 = 4 << 20;

/// The log of a group.
pub(super) fn coordinator_of(group: &str) -> usize {
    levada_protocol::partitioner::partition_for_key(group.as_bytes(), COORDINATOR_COUNT) as usize
}

/// What is to be said to whom.
pub(super) type Word = (Speaker, ToConnection);

struct Said {
    index: u64,
    words: Vec<Word>,
}

/// A log.
pub(super) struct Coordinator {
    log: Option<Rc<RecordLog>>,
    /// Why it is frozen.
    frozen: Rc<RefCell<Option<String>>>,
    said: mpsc::UnboundedSender<Said>,
    last_index: u64,
    backlog: VecDeque<(Vec<u8>, Vec<Word>)>,
    snapshot_bytes: u64,
}

impl Coordinator {
    /// Opens a log and reads its groups. A log that does not open is frozen, and the others are not.
    pub(super) async fn open(
        storage: &Storage,
        layout: Layout,
        identity: PartitionIdentity,
        number: u32,
    ) -> (Self, BTreeMap<String, GroupState>) {
        let identity = PartitionIdentity { topic_id: COORDINATOR_LOG_ID, partition: number, ..identity };
        let (said, inbox) = mpsc::unbounded_channel();
        let mut coordinator =
            Self { log: None, frozen: Rc::default(), said, last_index: 0, backlog: VecDeque::new(), snapshot_bytes: 0 };
        let groups = match coordinator.read(storage, layout, identity, number).await {
            Ok(groups) => groups,
            Err(reason) => {
                tracing::error!(coordinator = number, reason, "a coordinator log is damaged: its groups are frozen");
                *coordinator.frozen.borrow_mut() = Some(reason);
                BTreeMap::new()
            }
        };
        if let Some(log) = &coordinator.log {
            tokio::task::spawn_local(speak(Rc::clone(log), inbox, Rc::clone(&coordinator.frozen), number));
        }
        (coordinator, groups)
    }

    async fn read(
        &mut self,
        storage: &Storage,
        layout: Layout,
        identity: PartitionIdentity,
        number: u32,
    ) -> Result<BTreeMap<String, GroupState>, String> {
        let opened = RecordLog::open(storage, layout.coordinator_dir(number), identity).await;
        let (log, replay) = opened.map_err(|error| error.to_string())?;
        if 0 < replay.cut_bytes {
            tracing::info!(coordinator = number, bytes = replay.cut_bytes, "an unfinished change was cut from a log");
        }
        let mut groups: BTreeMap<String, GroupState> = BTreeMap::new();
        for record in &replay.records {
            let at = |error: &dyn std::fmt::Display| format!("record {}: {error}", record.index);
            self.last_index = record.index;
            if record.snapshot {
                self.snapshot_bytes = record.payload.len() as u64;
                groups = decode_snapshot(&record.payload).map_err(|error| at(&error))?;
                continue;
            }
            let (name, events) = decode_record(&record.payload).map_err(|error| at(&error))?;
            let group = groups.entry(name.clone()).or_default();
            for event in &events {
                group.apply(event).map_err(|error| at(&error))?;
            }
            if group.is_void() {
                groups.remove(&name);
            }
        }
        self.log = Some(log);
        Ok(groups)
    }

    /// Whether something can happen to its groups now.
    ///
    /// # Errors
    /// `GROUP_UNAVAILABLE`, `OVERLOADED`.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if let Some(reason) = &*self.frozen.borrow() {
            let message = format!("the log that holds this group cannot be used: {reason}");
            return Err(Failure::because(ErrorCode::GroupUnavailable, message).with("reason", reason));
        }
        if self.backlog.is_empty() { Ok(()) } else { Err(Failure::new(ErrorCode::Overloaded)) }
    }

    /// Writes a record down, and says what follows from it when it is durable.
    pub(super) fn append(&mut self, record: Vec<u8>, words: Vec<Word>) {
        self.backlog.push_back((record, words));
        self.retry();
    }

    /// Says something that shows what is in the log as it is now.
    pub(super) fn say(&self, words: Vec<Word>) {
        if let Err(mpsc::error::SendError(said)) = self.said.send(Said { index: self.last_index, words }) {
            fail(said.words, &Failure::new(ErrorCode::ShuttingDown));
        }
    }

    /// Whether something waits for room.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Appends what waits for room.
    pub(super) fn retry(&mut self) {
        while let Some((record, words)) = self.backlog.pop_front() {
            let Some(log) = self.log.as_ref().filter(|_| self.frozen.borrow().is_none()) else {
                fail(words, &Failure::new(ErrorCode::GroupUnavailable));
                continue;
            };
            match log.append(&record) {
                Ok(index) => {
                    self.last_index = index;
                    self.say(words);
                }
                Err(AppendError::Full | AppendError::DiskFull) => {
                    self.backlog.push_front((record, words));
                    return;
                }
                Err(AppendError::Closed) => fail(words, &Failure::new(ErrorCode::ShuttingDown)),
                Err(error) => {
                    tracing::error!(%error, "a coordinator log refuses; its groups are frozen");
                    *self.frozen.borrow_mut() = Some(error.to_string());
                    fail(words, &Failure::because(ErrorCode::GroupUnavailable, error.to_string()));
                }
            }
        }
    }

    /// Waits until all that happened so far is durable.
    pub(super) fn durable(&self) -> impl Future<Output = Result<(), Failure>> + use<> {
        let (log, index) = (self.log.clone(), self.last_index);
        async move {
            let Some(log) = log else { return Ok(()) };
            log.durable(index).await.map_err(|_| unknown())
        }
    }

    /// Whether so much has happened that a snapshot is worth it.
    pub(super) fn wants_snapshot(&self) -> bool {
        let bound = SNAPSHOT_AFTER_BYTES.max(2 * self.snapshot_bytes);
        self.backlog.is_empty() && self.log.as_ref().is_some_and(|log| bound < log.bytes_since_snapshot())
    }

    /// Writes a snapshot of the groups as they are now. It is in the log, though not durable, when this returns: what
    /// happens next comes after it.
    pub(super) async fn snapshot(&mut self, snapshot: Vec<u8>) {
        let Some(log) = self.log.clone() else { return };
        self.snapshot_bytes = snapshot.len() as u64;
        let mut taking: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
            if let Err(error) = log.snapshot(&snapshot).await {
                tracing::warn!(%error, "no snapshot of a coordinator log; it stays as long as it is");
            }
        });
        // The first step puts it into the log, the others wait for the disk.
        let is_done = std::future::poll_fn(|context| Poll::Ready(taking.as_mut().poll(context).is_ready())).await;
        if !is_done {
            tokio::task::spawn_local(taking);
        }
    }

    /// Closes the log cleanly; says what is durable by then.
    pub(super) async fn close(self) {
        let Some(log) = self.log else { return };
        if let Err(error) = log.close().await {
            tracing::warn!(%error, "a coordinator log did not close cleanly");
        }
    }
}

/// Says everything in its turn.
async fn speak(
    log: Rc<RecordLog>,
    mut inbox: mpsc::UnboundedReceiver<Said>,
    frozen: Rc<RefCell<Option<String>>>,
    number: u32,
) {
    while let Some(Said { index, words }) = inbox.recv().await {
        match log.durable(index).await {
            Ok(()) => words.into_iter().for_each(|(speaker, message)| speaker.send(message)),
            Err(error) => {
                tracing::error!(coordinator = number, ?error, "a coordinator log failed; its groups are frozen");
                *frozen.borrow_mut() = Some("an append failed; restart the server".to_owned());
                fail(words, &unknown());
            }
        }
    }
}

fn unknown() -> Failure {
    Failure::because(ErrorCode::Internal, "the coordinator log failed; whether the change is durable is unknown")
}

/// Answers what was asked with a failure; pushes are void.
fn fail(words: Vec<Word>, failure: &Failure) {
    for (speaker, message) in words {
        match message {
            ToConnection::Admin(correlation, _) => speaker.send(ToConnection::Admin(correlation, Err(failure.clone()))),
            ToConnection::GroupPosition(correlation, _) => {
                speaker.send(ToConnection::GroupPosition(correlation, Err(failure.clone())));
            }
            _ => {}
        }
    }
}
