//! The words the log's scenarios are written in: a world with a disk, a clock and the fatal errors it saw; a topic opened
//! in it; batches whose messages say who they are.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use levada_storage::buffer::BufferPool;
use levada_storage::crash::{CrashDisk, CrashOptions};
use levada_storage::disk::Disk;
use levada_storage::{
    Append, Clock, Durability, FatalError, FatalHook, OpenReport, Partition, PartitionConfig, PartitionIdentity,
    ReadError, Storage, StorageLimits, StorageOptions, TokioSpawn,
};

/// Wall time of the test.
#[derive(Default)]
pub(crate) struct TestClock {
    pub(crate) now_us: Cell<i64>,
}

impl Clock for TestClock {
    fn now_us(&self) -> i64 {
        self.now_us.get()
    }
}

/// Fatal errors heard.
#[derive(Default)]
pub(crate) struct Fatal {
    pub(crate) errors: RefCell<Vec<FatalError>>,
}

impl FatalHook for Fatal {
    fn on_fatal(&self, error: FatalError) {
        self.errors.borrow_mut().push(error);
    }
}

/// One core over one disk.
pub(crate) struct World {
    pub(crate) storage: Storage,
    pub(crate) clock: Rc<TestClock>,
    pub(crate) fatal: Rc<Fatal>,
}

pub(crate) const CLUSTER: u128 = 0xC1;

pub(crate) fn identity() -> PartitionIdentity {
    PartitionIdentity { cluster_id: CLUSTER, node_id: 1, topic_id: 7, partition: 3 }
}

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("data/7/3")
}

impl World {
    pub(crate) async fn on(disk: Rc<dyn Disk>) -> Self {
        Self::with_limits(disk, StorageLimits { low_water_bytes: Some(0), ..StorageLimits::default() }).await
    }

    pub(crate) async fn with_limits(disk: Rc<dyn Disk>, limits: StorageLimits) -> Self {
        let clock = Rc::new(TestClock::default());
        clock.now_us.set(1_000_000);
        let fatal = Rc::new(Fatal::default());
        let options = StorageOptions {
            disk,
            clock: clock.clone(),
            spawn: Rc::new(TokioSpawn),
            fatal: fatal.clone(),
            pool: BufferPool::new(64 << 20),
            seed: 42,
            checkpoint_dir: PathBuf::from("data/checkpoints"),
            core: 0,
            limits,
        };
        let storage = Storage::open(options).await.expect("the checkpoint directory opens");
        Self { storage, clock, fatal }
    }

    pub(crate) async fn open(&self, config: PartitionConfig) -> (Rc<Partition>, OpenReport) {
        Partition::open(&self.storage, dir(), identity(), config).await.expect("the partition opens")
    }
}

pub(crate) fn crash_disk(seed: u64) -> CrashDisk {
    CrashDisk::new(seed, CrashOptions::default())
}

pub(crate) fn memory_topic() -> PartitionConfig {
    PartitionConfig { durability: Durability::Memory, ..PartitionConfig::default() }
}

/// Small segments, so that a short test rolls often.
pub(crate) fn small_segments() -> PartitionConfig {
    PartitionConfig { segment_bytes: 64 << 10, ..PartitionConfig::default() }
}

/// A batch of `count` messages and a body that nothing interprets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) producer_id: u64,
    pub(crate) epoch: u32,
    pub(crate) sequence: u64,
    pub(crate) count: u32,
    pub(crate) body: Vec<u8>,
}

impl Batch {
    /// From no producer.
    pub(crate) fn anonymous(count: u32, body: impl Into<Vec<u8>>) -> Self {
        Self { producer_id: 0, epoch: 0, sequence: 0, count, body: body.into() }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = vec![0; 72];
        bytes[4..6].copy_from_slice(&0x564C_u16.to_le_bytes());
        bytes[6] = 1;
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..20].copy_from_slice(&(self.count - 1).to_le_bytes());
        let length = (self.body.len() as u32).to_le_bytes();
        bytes[20..24].copy_from_slice(&length);
        bytes[24..28].copy_from_slice(&length);
        bytes[48..56].copy_from_slice(&self.producer_id.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[64..68].copy_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.body);
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        Bytes::from(bytes)
    }
}

/// A stored batch as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) base_offset: u64,
    pub(crate) append_time_us: i64,
    pub(crate) epoch: u32,
    /// Producer part and body, as the producer sent it.
    pub(crate) batch: Vec<u8>,
}

/// Splits what a read returned, checking every CRC on the way.
pub(crate) fn split(slices: &[Bytes]) -> Vec<Stored> {
    let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        let (whole, after) = rest.split_at(length);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&whole[..4]), &whole[8..32]);
        assert_eq!(crc.to_le_bytes(), whole[4..8], "server part");
        assert_eq!(crc32c::crc32c(&whole[36..]).to_le_bytes(), whole[32..36], "producer part and body");
        found.push(Stored {
            base_offset: u64::from_le_bytes(whole[8..16].try_into().unwrap()),
            append_time_us: i64::from_le_bytes(whole[16..24].try_into().unwrap()),
            epoch: u32::from_le_bytes(whole[24..28].try_into().unwrap()),
            batch: whole[32..].to_vec(),
        });
        rest = after;
    }
    found
}

/// Everything visible from `offset` on.
pub(crate) async fn read_all(partition: &Partition, offset: u64) -> Result<Vec<Stored>, ReadError> {
    read_all_by(partition, offset, 64 << 10).await
}

pub(crate) async fn read_all_by(
    partition: &Partition,
    offset: u64,
    max_bytes: usize,
) -> Result<Vec<Stored>, ReadError> {
    let mut at = offset;
    let mut found = Vec::new();
    while at < partition.watermarks().visible_end_offset {
        let batches = partition.read(at, max_bytes).await?;
        assert!(0 < batches.batch_count, "at least one batch before the visible end");
        let split = split(&batches.slices);
        assert_eq!(split.len(), batches.batch_count);
        assert_eq!(split[0].base_offset, batches.first_offset);
        found.extend(split);
        assert!(at < batches.next_offset);
        at = batches.next_offset;
    }
    Ok(found)
}

/// Appends and waits for what the topic promises.
pub(crate) async fn produce(partition: &Partition, batch: &Batch) -> Append {
    let append = partition.append(batch.encode(), Durability::Memory).expect("the partition takes it");
    partition.durable(append.ticket).await.expect("the disk works");
    append
}

/// Runs a scenario on one core with virtual time.
pub(crate) fn run<T>(scenario: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, scenario)
}

/// A small generator (SplitMix64) for workloads.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
