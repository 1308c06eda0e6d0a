//! Finalizing an upgrade: a data directory keeps the format level it was made with, so that the server before can have it
//! back, until its operator says that there is no way back. Nobody else may use the directory meanwhile.

use levada_storage::{OpenError, Storage, StorageLimits};

use crate::env::Env;
use crate::metadata::event::FormatLevelRaised;
use crate::metadata::store::FORMAT_LEVEL;
use crate::metadata::{CommitError, Layout, MetadataError, MetadataStore};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finalized {
    /// The level before.
    pub from: u32,
    /// The level now; servers that know less refuse the directory from here on.
    pub to: u32,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum FinalizeError {
    /// There is no metadata.
    #[error("the directory holds no data of a server")]
    NoData,
    /// Metadata refuses.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The storage refuses.
    #[error("the storage did not open: {0}")]
    Storage(#[from] OpenError),
    /// The new level could not be written.
    #[error("the format level could not be written: {0}")]
    Commit(#[from] CommitError),
}

/// Raises a data directory to the newest format level. What holds already is left as it is.
///
/// # Errors
/// See [`FinalizeError`].
pub async fn finalize(env: &Env) -> Result<Finalized, FinalizeError> {
    let layout = Layout;
    if !env.control.disk.list(&layout.metadata_dir()).await.is_ok_and(|files| !files.is_empty()) {
        return Err(FinalizeError::NoData);
    }
    let options = env.control.storage_options(layout.metadata_checkpoint_dir(), StorageLimits::default());
    let storage = Storage::open(options).await?;
    let mut store = MetadataStore::open(&storage, layout).await?;
    let from = store.snapshot().format_level;
    let outcome = if store.snapshot().cluster_id == 0 {
        Err(FinalizeError::NoData)
    } else if from < FORMAT_LEVEL {
        let event = FormatLevelRaised { format_level: FORMAT_LEVEL, at_us: env.control.clock.now_us() };
        store.commit(&[event.into()]).await.map_err(Into::into)
    } else {
        Ok(())
    };
    store.close().await;
    outcome.map(|()| Finalized { from, to: FORMAT_LEVEL })
}
