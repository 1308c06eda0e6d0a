//! Topic directories against metadata: what a tombstone allows is removed, what metadata does not know is moved aside.
//!
//! Nothing is deleted because metadata does not mention it: the metadata might be what is wrong.

use std::io;
use std::path::Path;

use levada_storage::disk::{DirEntry, Disk, LocalFuture};

use crate::metadata::snapshot::Layout;
use crate::metadata::state::State;

/// Moves unknown topic and partition directories to quarantine. Run before any shard opens a partition.
///
/// # Errors
/// What the disk says.
pub async fn quarantine_unknown(disk: &dyn Disk, layout: Layout, state: &State) -> io::Result<()> {
    for entry in list(disk, &layout.topics_dir()).await? {
        let path = layout.topics_dir().join(&entry.name);
        let topic_id = id_of(&entry);
        if topic_id.is_some_and(|topic_id| state.tombstones.contains(&topic_id)) {
            continue;
        }
        let Some(topic) = topic_id.and_then(|topic_id| state.topics.get(&topic_id)) else {
            quarantine(disk, layout, &path, &entry.name).await?;
            continue;
        };
        for partition in list(disk, &path).await? {
            if id_of(&partition).is_none_or(|number| topic.options.partition_count <= number) {
                let name = format!("{}-{}", entry.name, partition.name);
                quarantine(disk, layout, &path.join(&partition.name), &name).await?;
            }
        }
    }
    Ok(())
}

/// Removes the files of a deleted topic, durably.
///
/// # Errors
/// What the disk says; what is gone is gone.
pub async fn remove_topic(disk: &dyn Disk, layout: Layout, topic_id: u32) -> io::Result<()> {
    let path = layout.topic_dir(topic_id);
    if !list(disk, &layout.topics_dir()).await?.iter().any(|entry| id_of(entry) == Some(topic_id)) {
        return Ok(());
    }
    remove_tree(disk, &path).await?;
    disk.sync_dir(&layout.topics_dir()).await
}

fn remove_tree<'a>(disk: &'a dyn Disk, path: &'a Path) -> LocalFuture<'a, io::Result<()>> {
    Box::pin(async move {
        for entry in list(disk, path).await? {
            let inner = path.join(&entry.name);
            if entry.is_dir {
                remove_tree(disk, &inner).await?;
            } else {
                disk.remove_file(&inner).await?;
            }
        }
        disk.sync_dir(path).await?;
        disk.remove_dir(path).await
    })
}

/// A directory named by a number in its shortest form.
fn id_of(entry: &DirEntry) -> Option<u32> {
    let number: u32 = entry.name.parse().ok()?;
    (entry.is_dir && number.to_string() == entry.name).then_some(number)
}

async fn quarantine(disk: &dyn Disk, layout: Layout, path: &Path, name: &str) -> io::Result<()> {
    let quarantine = layout.quarantine_dir();
    disk.create_dir_all(&quarantine).await?;
    disk.sync_dir(layout.root()).await?;
    let taken = list(disk, &quarantine).await?;
    let free = |name: &String| taken.iter().all(|entry| entry.name != *name);
    let numbered = (0u32..).map(|n| if n == 0 { name.to_owned() } else { format!("{name}.{n}") }).find(free);
    let target = quarantine.join(numbered.expect("a directory has fewer entries than there are numbers"));
    tracing::warn!(from = %path.display(), to = %target.display(), "metadata does not know this; moved to quarantine");
    disk.rename(path, &target).await?;
    disk.sync_dir(&quarantine).await?;
    disk.sync_dir(path.parent().unwrap_or(layout.root())).await
}

/// Entries of a directory that may not exist.
async fn list(disk: &dyn Disk, path: &Path) -> io::Result<Vec<DirEntry>> {
    match disk.list(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}
