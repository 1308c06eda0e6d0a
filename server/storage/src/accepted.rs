//! Where a log starts whose operator accepted that its first segments are gone: one block beside the segments, written by
//! repair and taken over by the next open. It excuses no other loss: messages missing behind it are damage again.

use std::io;
use std::path::Path;

use crate::buffer::BufferPool;
use crate::disk::{BLOCK_BYTES, Disk, Durable, OpenMode};
use crate::wire::{u32_at, u64_at};

const FILE_NAME: &str = "accepted-start";
/// Followed by a CRC of the offset (u32) and the offset (u64).
const MAGIC: &[u8; 4] = b"LVAS";
const USED_BYTES: usize = 16;

/// Says durably that everything before `offset` is given up.
pub(crate) async fn write(disk: &dyn Disk, pool: &BufferPool, dir: &Path, offset: u64) -> io::Result<()> {
    let path = dir.join(FILE_NAME);
    let file = match disk.open(&path, OpenMode::CreateNew).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(&path, OpenMode::ReadWrite).await?,
        other => other?,
    };
    let mut block = pool.take_zeroed(BLOCK_BYTES);
    let bytes = block.as_mut_slice();
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&crc32c::crc32c(&offset.to_le_bytes()).to_le_bytes());
    bytes[8..USED_BYTES].copy_from_slice(&offset.to_le_bytes());
    file.write(block.freeze(BLOCK_BYTES), 0, Durable::Yes).await?;
    file.sync().await?;
    disk.sync_dir(dir).await
}

/// The offset before which everything is given up, if that was ever said.
pub(crate) async fn read(disk: &dyn Disk, pool: &BufferPool, dir: &Path) -> Option<u64> {
    let file = disk.open(&dir.join(FILE_NAME), OpenMode::Read).await.ok()?;
    let (buffer, read) = file.read(pool.take(BLOCK_BYTES), 0).await;
    let bytes = &buffer.as_slice()[..read.ok().filter(|count| USED_BYTES <= *count)?];
    let offset = u64_at(bytes, 8);
    (&bytes[..4] == MAGIC && u32_at(bytes, 4) == crc32c::crc32c(&offset.to_le_bytes())).then_some(offset)
}
