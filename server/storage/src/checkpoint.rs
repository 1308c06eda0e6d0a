//! The checkpoint ring of a core: proofs, written after a flush, of how far each log is durable and where its recovery may
//! start. Off the acknowledgement path. A record in it always proves durability, so an ordinary power cut never raises a
//! false alarm; a missing or damaged one only makes recovery read more.
//!
//! Two files per core, `ring-CORE.a` and `ring-CORE.b`, each a list of 4096-byte blocks:
//! `magic u32, crc u32 (of the rest), generation u64, count u32, zero u32, count × 64-byte records`. Blocks are written to
//! one file until it is full; then the newest record of every log is written to the other one, which takes over. Files are
//! zeroed when they are made and overwritten from the front, so that a record costs a flush and no change of the file: the
//! older blocks behind the newest one still hold true proofs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

use crate::buffer::BufferPool;
use crate::disk::{BLOCK_BYTES, Disk, Durable, File, OpenMode};
use crate::wire::{u32_at, u64_at};

const MAGIC: u32 = u32::from_le_bytes(*b"LVCK");
const RECORD_BYTES: usize = 64;
const BLOCK_HEADER_BYTES: usize = 24;
const RECORDS_PER_BLOCK: usize = (BLOCK_BYTES - BLOCK_HEADER_BYTES) / RECORD_BYTES;
/// A file is full at this many blocks, or at four times what one snapshot of all logs takes.
const MIN_FILE_BLOCKS: u64 = 64;
/// How long a log must have been idle before its record is written.
pub(crate) const IDLE_DELAY: Duration = Duration::from_millis(5);
/// A busy log's record is written each time this much became durable.
const BUSY_BYTES: u64 = 64 << 20;

/// Topic id and partition.
pub(crate) type LogKey = (u32, u32);

/// How far a log is proven durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) segment: u64,
    pub(crate) nonce: u64,
    /// Everything before this position of the segment is durable, and all earlier segments.
    pub(crate) position: u64,
    pub(crate) index: u64,
    /// Position of the newest durable state record of the segment: recovery starts there.
    pub(crate) state_position: u64,
}

/// What all rings of a directory say.
pub(crate) type Checkpoints = BTreeMap<LogKey, Checkpoint>;

struct Pending {
    checkpoint: Checkpoint,
    written: Option<Checkpoint>,
    noted: Instant,
}

/// The ring of one core.
pub(crate) struct CheckpointRing {
    pool: BufferPool,
    paths: [PathBuf; 2],
    dir: PathBuf,
    state: RefCell<RingState>,
    /// Held from taking records to their being written, so that a flush also waits for what another has taken.
    writing: Mutex<()>,
}

#[derive(Default)]
struct RingState {
    current: usize,
    generation: u64,
    next_block: u64,
    file: Option<Rc<dyn File>>,
    logs: BTreeMap<LogKey, Pending>,
    dirty: BTreeSet<LogKey>,
    running: bool,
    broken: bool,
}

impl CheckpointRing {
    /// The ring of `core`, and what all rings in `dir` say.
    pub(crate) async fn open(
        disk: &dyn Disk,
        pool: &BufferPool,
        dir: &Path,
        core: u32,
    ) -> io::Result<(Self, Checkpoints)> {
        disk.create_dir_all(dir).await?;
        let (checkpoints, generation, newest) = read_all(disk, pool, dir).await?;
        // Never the newest file of this core first: it may hold the only record of a log.
        let current = usize::from(newest == Some(format!("ring-{core}.b")));
        let ring = Self {
            pool: pool.clone(),
            paths: ["a", "b"].map(|side| dir.join(format!("ring-{core}.{side}"))),
            dir: dir.to_path_buf(),
            // The first write takes a fresh file with everything known, in case the other one is damaged.
            state: RefCell::new(RingState { current, generation, next_block: u64::MAX, ..RingState::default() }),
            writing: Mutex::new(()),
        };
        Ok((ring, checkpoints))
    }

    /// Notes how far a log is durable; says whether the caller must start [`CheckpointRing::run`].
    #[must_use]
    pub(crate) fn note(&self, key: LogKey, checkpoint: Checkpoint) -> bool {
        let mut state = self.state.borrow_mut();
        if state.broken {
            return false;
        }
        let noted = Instant::now();
        let pending = state.logs.entry(key).or_insert(Pending { checkpoint, written: None, noted });
        if pending.written == Some(checkpoint) {
            return false;
        }
        pending.checkpoint = checkpoint;
        pending.noted = noted;
        state.dirty.insert(key);
        !std::mem::replace(&mut state.running, true)
    }

    /// Takes a log's known record over, so that the next full write keeps it.
    pub(crate) fn adopt(&self, key: LogKey, checkpoint: Checkpoint) {
        let pending = Pending { checkpoint, written: Some(checkpoint), noted: Instant::now() };
        self.state.borrow_mut().logs.entry(key).or_insert(pending);
    }

    /// Writes what is due until nothing is pending.
    pub(crate) async fn run(&self, disk: &dyn Disk) {
        loop {
            tokio::time::sleep(IDLE_DELAY).await;
            if !self.write_due(disk, false).await {
                return;
            }
        }
    }

    /// Returns when everything noted is written.
    pub(crate) async fn flush(&self, disk: &dyn Disk) {
        while self.write_due(disk, true).await {}
    }

    /// Writes one block of due records; says whether anything is still pending.
    async fn write_due(&self, disk: &dyn Disk, all: bool) -> bool {
        let _turn = self.writing.lock().await;
        let due = self.take_due(all);
        if !due.is_empty()
            && let Err(error) = self.write(disk, &due).await
        {
            // Without the ring recovery still works from the hints inside the logs; it only reads more.
            tracing::warn!(%error, "checkpoint ring is not writable; recovery will take longer");
            let mut state = self.state.borrow_mut();
            state.broken = true;
            state.dirty.clear();
        }
        let mut state = self.state.borrow_mut();
        let more = !state.dirty.is_empty();
        if !more {
            state.running = false;
        }
        more
    }

    fn take_due(&self, all: bool) -> Vec<(LogKey, Checkpoint)> {
        let mut state = self.state.borrow_mut();
        let now = Instant::now();
        let keys: Vec<LogKey> = state
            .dirty
            .iter()
            .copied()
            .filter(|key| {
                let Some(pending) = state.logs.get(key) else { return true };
                let written = pending.written.unwrap_or_default();
                let grown = pending.checkpoint.position.saturating_sub(written.position);
                all || IDLE_DELAY <= now - pending.noted
                    || pending.checkpoint.segment != written.segment
                    || BUSY_BYTES <= grown
            })
            .take(RECORDS_PER_BLOCK)
            .collect();
        let mut due = Vec::with_capacity(keys.len());
        for key in keys {
            state.dirty.remove(&key);
            if let Some(pending) = state.logs.get_mut(&key) {
                pending.written = Some(pending.checkpoint);
                due.push((key, pending.checkpoint));
            }
        }
        due
    }

    async fn write(&self, disk: &dyn Disk, due: &[(LogKey, Checkpoint)]) -> io::Result<()> {
        let is_full = {
            let state = self.state.borrow();
            let limit = MIN_FILE_BLOCKS.max(4 * (state.logs.len() / RECORDS_PER_BLOCK) as u64);
            limit <= state.next_block
        };
        if !is_full {
            return self.write_block(due).await;
        }
        // Logs may be opened meanwhile.
        self.switch(disk).await?;
        let everything: Vec<(LogKey, Checkpoint)> = {
            let state = self.state.borrow();
            state.logs.iter().filter_map(|(&key, pending)| Some((key, pending.written?))).collect()
        };
        for records in everything.chunks(RECORDS_PER_BLOCK) {
            self.write_block(records).await?;
        }
        Ok(())
    }

    /// Starts the other file. The one full of older records stays as it is until this one is full.
    async fn switch(&self, disk: &dyn Disk) -> io::Result<()> {
        let side = 1 - self.state.borrow().current;
        let path = &self.paths[side];
        let file = match disk.open(path, OpenMode::ReadWrite).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.open(path, OpenMode::CreateNew).await?;
                disk.sync_dir(&self.dir).await?;
                file
            }
            Err(error) => return Err(error),
        };
        let made_bytes = MIN_FILE_BLOCKS * BLOCK_BYTES as u64;
        if file.len().await? < made_bytes {
            let length = usize::try_from(made_bytes).expect("some blocks");
            file.write(self.pool.take_zeroed(length).freeze(length), 0, Durable::Yes).await?;
        }
        let mut state = self.state.borrow_mut();
        state.current = side;
        state.generation += 1;
        state.next_block = 0;
        state.file = Some(file);
        Ok(())
    }

    async fn write_block(&self, records: &[(LogKey, Checkpoint)]) -> io::Result<()> {
        let (file, offset, generation) = {
            let mut state = self.state.borrow_mut();
            let file = Rc::clone(state.file.as_ref().expect("a ring that is not full has a file"));
            let block = state.next_block;
            state.next_block += 1;
            (file, block * BLOCK_BYTES as u64, state.generation)
        };
        let mut block = self.pool.take_zeroed(BLOCK_BYTES);
        encode_block(block.as_mut_slice(), generation, records);
        file.write(block.freeze(BLOCK_BYTES), offset, Durable::Yes).await
    }
}

fn encode_block(block: &mut [u8], generation: u64, records: &[(LogKey, Checkpoint)]) {
    block[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    block[8..16].copy_from_slice(&generation.to_le_bytes());
    let count = u32::try_from(records.len()).expect("a block holds few records");
    block[16..20].copy_from_slice(&count.to_le_bytes());
    for (slot, &((topic_id, partition), checkpoint)) in records.iter().enumerate() {
        let at = BLOCK_HEADER_BYTES + RECORD_BYTES * slot;
        block[at..at + 4].copy_from_slice(&topic_id.to_le_bytes());
        block[at + 4..at + 8].copy_from_slice(&partition.to_le_bytes());
        let words =
            [checkpoint.segment, checkpoint.nonce, checkpoint.position, checkpoint.index, checkpoint.state_position];
        for (number, word) in words.iter().enumerate() {
            block[at + 8 + number * 8..at + 16 + number * 8].copy_from_slice(&word.to_le_bytes());
        }
    }
    let crc = crc32c::crc32c(&block[8..]);
    block[4..8].copy_from_slice(&crc.to_le_bytes());
}

fn decode_block(block: &[u8]) -> Option<(u64, Vec<(LogKey, Checkpoint)>)> {
    if u32_at(block, 0) != MAGIC || u32_at(block, 4) != crc32c::crc32c(&block[8..BLOCK_BYTES]) {
        return None;
    }
    let count = u32_at(block, 16) as usize;
    let records = block.get(BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + count.checked_mul(RECORD_BYTES)?)?;
    let records = records
        .chunks_exact(RECORD_BYTES)
        .map(|record| {
            let checkpoint = Checkpoint {
                segment: u64_at(record, 8),
                nonce: u64_at(record, 16),
                position: u64_at(record, 24),
                index: u64_at(record, 32),
                state_position: u64_at(record, 40),
            };
            ((u32_at(record, 0), u32_at(record, 4)), checkpoint)
        })
        .collect();
    Some((u64_at(block, 8), records))
}

/// The furthest record of every log in all rings, the largest generation and the file it is in.
async fn read_all(disk: &dyn Disk, pool: &BufferPool, dir: &Path) -> io::Result<(Checkpoints, u64, Option<String>)> {
    let mut checkpoints = Checkpoints::new();
    let mut last_generation = 0;
    let mut newest = None;
    for entry in disk.list(dir).await? {
        if entry.is_dir || !entry.name.starts_with("ring-") {
            continue;
        }
        let file = disk.open(&dir.join(&entry.name), OpenMode::Read).await?;
        let len = file.len().await?;
        let mut offset = 0;
        let mut buffer = pool.take(1 << 20);
        while offset < len {
            let (returned, read) = file.read(buffer, offset).await;
            buffer = returned;
            let Ok(count @ 1..) = read else { break };
            for block in buffer.as_slice()[..count].chunks_exact(BLOCK_BYTES) {
                let Some((generation, records)) = decode_block(block) else { continue };
                if last_generation < generation {
                    last_generation = generation;
                    newest = Some(entry.name.clone());
                }
                for (key, found) in records {
                    let known = checkpoints.entry(key).or_insert(found);
                    if (known.segment, known.position) < (found.segment, found.position) {
                        *known = found;
                    }
                }
            }
            offset += count as u64;
        }
    }
    Ok((checkpoints, last_generation, newest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::{CrashDisk, CrashOptions};

    #[tokio::test(start_paused = true)]
    async fn a_flush_waits_for_what_is_being_written() {
        let slow = Duration::from_millis(3);
        let disk = CrashDisk::new(1, CrashOptions { min_delay: slow, max_delay: slow, ..CrashOptions::default() });
        let (pool, dir) = (BufferPool::new(1 << 20), Path::new("ring"));
        let (ring, _) = CheckpointRing::open(&disk, &pool, dir, 0).await.unwrap();
        let noted = Checkpoint { segment: 1, nonce: 2, position: 4096, index: 3, state_position: 4096 };
        assert!(ring.note((1, 0), noted));
        let flush = async {
            // The other has taken the record by now, and has not written it.
            tokio::time::sleep(IDLE_DELAY + slow / 3).await;
            assert!(ring.state.borrow().dirty.is_empty());
            ring.flush(&disk).await;
            let power_cut = disk.crash_now(1);
            read_all(&power_cut, &pool, dir).await.unwrap().0
        };
        let (_, found) = tokio::join!(ring.run(&disk), flush);
        assert_eq!(found.get(&(1, 0)), Some(&noted));
    }

    #[test]
    fn a_full_block_comes_back_and_a_flipped_bit_is_noticed() {
        let records: Vec<(LogKey, Checkpoint)> = (0..u32::try_from(RECORDS_PER_BLOCK).unwrap())
            .map(|number| {
                let word = u64::from(number) + 1;
                let checkpoint = Checkpoint {
                    segment: word,
                    nonce: word * 7,
                    position: word * 4096,
                    index: word,
                    state_position: 4096,
                };
                ((number, number + 1), checkpoint)
            })
            .collect();
        let mut block = vec![0; BLOCK_BYTES];
        encode_block(&mut block, 9, &records);
        assert_eq!(decode_block(&block), Some((9, records)));
        block[100] ^= 4;
        assert_eq!(decode_block(&block), None);
        assert_eq!(decode_block(&[0; BLOCK_BYTES]), None);
    }
}
