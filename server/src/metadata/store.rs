//! The metadata log: reads it at start, appends changes, takes snapshots. One owner.
//!
//! A change is in the state only after it is durable in the log, so what is published can never be taken back by a crash.
//! After an append whose outcome is unknown nothing more is accepted: the state in memory may be behind the log.

use std::rc::Rc;
use std::sync::Arc;

use levada_storage::{AppendError, OpenError, PartitionIdentity, RecordLog, Storage};

use crate::metadata::codec::CodecError;
use crate::metadata::event::{Event, decode_record, encode_record};
use crate::metadata::snapshot::{Layout, Snapshot};
use crate::metadata::state::{Contradiction, State};

/// Topic id of the metadata log in its segment headers; the server's own logs have ids from `0xFFFF_0000` up.
pub const METADATA_LOG_ID: u32 = 0xFFFF_0000;
/// Newest format level this server can read and write.
pub const FORMAT_LEVEL: u32 = 2;
/// A snapshot is taken after this many bytes of changes.
const SNAPSHOT_AFTER_BYTES: u64 = 1 << 20;

/// Why metadata cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The log did not open; the text names file and position of damage.
    #[error("the metadata log did not open: {0}")]
    Log(#[from] OpenError),
    /// A record cannot be read.
    #[error("record {index} of the metadata log in {directory} cannot be read: {source}")]
    Record {
        /// Its index.
        index: u64,
        /// The log's directory.
        directory: String,
        /// What is wrong with it.
        source: CodecError,
    },
    /// A record does not follow from those before it.
    #[error("record {index} of the metadata log in {directory}: {source}")]
    History {
        /// Its index.
        index: u64,
        /// The log's directory.
        directory: String,
        /// What does not follow.
        source: Contradiction,
    },
    /// The directory may hold formats that only newer servers know.
    #[error("the data directory has format level {found}, this server knows up to {FORMAT_LEVEL}: use a newer server")]
    TooNew {
        /// Its level.
        found: u32,
    },
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It contradicts the state; nothing was written.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// The log refused it; nothing was written.
    #[error("the metadata log refused: {0}")]
    Refused(AppendError),
    /// It may or may not be durable, and the server has to be restarted to find out.
    #[error("the metadata log failed; whether the change is durable is unknown")]
    Unknown,
}

/// The log and the newest version of the state.
#[derive(Debug)]
pub struct MetadataStore {
    storage: Storage,
    log: Rc<RecordLog>,
    snapshot: Arc<Snapshot>,
    failed: bool,
}

impl MetadataStore {
    /// Opens the log and replays it.
    ///
    /// # Errors
    /// Damage and contradictions refuse the start: guessing would delete somebody's data.
    pub async fn open(storage: &Storage, layout: Layout) -> Result<Self, MetadataError> {
        let identity = PartitionIdentity { topic_id: METADATA_LOG_ID, ..PartitionIdentity::default() };
        let (log, replay) = RecordLog::open(storage, layout.metadata_dir(), identity).await?;
        if 0 < replay.cut_bytes {
            tracing::info!(bytes = replay.cut_bytes, "an unfinished change was cut from the metadata log");
        }
        let directory = || layout.metadata_dir().display().to_string();
        let (mut state, mut version) = (State::default(), 0);
        for record in &replay.records {
            let index = record.index;
            let unreadable = |source| MetadataError::Record { index, directory: directory(), source };
            if record.snapshot {
                state = State::decode(&record.payload).map_err(unreadable)?;
            } else {
                for event in decode_record(&record.payload).map_err(unreadable)? {
                    let contradiction = |source| MetadataError::History { index, directory: directory(), source };
                    state.apply(&event).map_err(contradiction)?;
                }
            }
            version = index;
        }
        if FORMAT_LEVEL < state.format_level {
            return Err(MetadataError::TooNew { found: state.format_level });
        }
        Ok(Self { storage: storage.clone(), log, snapshot: Arc::new(Snapshot::new(version, state)), failed: false })
    }

    /// The newest version.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Makes a change: durable first, then visible in [`MetadataStore::snapshot`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit(&mut self, events: &[Event]) -> Result<(), CommitError> {
        if self.failed {
            return Err(CommitError::Unknown);
        }
        let next = self.snapshot.after(events)?;
        let index = self.log.append(&encode_record(events)).map_err(CommitError::Refused)?;
        tracing::debug!(index, ?events, "change appended");
        if self.log.durable(index).await.is_err() {
            self.failed = true;
            return Err(CommitError::Unknown);
        }
        self.snapshot = Arc::new(Snapshot::new(index, next));
        if SNAPSHOT_AFTER_BYTES < self.log.bytes_since_snapshot() {
            self.take_snapshot().await;
        }
        Ok(())
    }

    async fn take_snapshot(&self) {
        match self.log.snapshot(&self.snapshot.encode()).await {
            Ok(index) => tracing::debug!(index, "metadata snapshot taken"),
            Err(error) => tracing::warn!(%error, "no metadata snapshot taken; the log stays as long as it is"),
        }
    }

    /// The storage, which wants to be maintained once a second.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Marks the log as cleanly closed.
    pub async fn close(&self) {
        if let Err(error) = self.log.close().await {
            tracing::warn!(%error, "the metadata log did not close cleanly");
        }
        self.storage.close().await;
    }
}
