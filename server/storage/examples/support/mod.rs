//! What the probes share: a storage on a real disk, batches, percentiles.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use levada_storage::buffer::BufferPool;
use levada_storage::disk::open_disk;
use levada_storage::{
    Clock, FatalError, FatalHook, Partition, PartitionConfig, PartitionIdentity, Storage, StorageLimits,
    StorageOptions, TokioSpawn,
};

struct Wall;

impl Clock for Wall {
    fn now_us(&self) -> i64 {
        i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
    }
}

struct Stop;

impl FatalHook for Stop {
    fn on_fatal(&self, error: FatalError) {
        println!("fatal: {error:?}");
        std::process::exit(1);
    }
}

pub(crate) fn batch(count: u32, message_bytes: usize) -> Bytes {
    let body = vec![7_u8; count as usize * (16 + message_bytes)];
    let mut bytes = vec![0; 72];
    bytes[4..6].copy_from_slice(&0x564C_u16.to_le_bytes());
    bytes[6] = 1;
    bytes[12..16].copy_from_slice(&count.to_le_bytes());
    bytes[16..20].copy_from_slice(&(count - 1).to_le_bytes());
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    bytes[20..24].copy_from_slice(&length);
    bytes[24..28].copy_from_slice(&length);
    bytes.extend_from_slice(&body);
    let crc = crc32c::crc32c(&bytes[4..]);
    bytes[0..4].copy_from_slice(&crc.to_le_bytes());
    Bytes::from(bytes)
}

pub(crate) async fn storage(dir: &Path, backend: &str, cache_bytes: u64) -> Storage {
    let disk = open_disk(dir, backend.parse().unwrap()).await.unwrap();
    let options = StorageOptions {
        disk,
        clock: Rc::new(Wall),
        spawn: Rc::new(TokioSpawn),
        fatal: Rc::new(Stop),
        pool: BufferPool::new(64 << 20),
        seed: Wall.now_us().unsigned_abs(),
        checkpoint_dir: PathBuf::from("checkpoints"),
        core: 0,
        limits: StorageLimits { cache_bytes, open_files: 4096, ..StorageLimits::default() },
    };
    Storage::open(options).await.unwrap()
}

pub(crate) async fn open(storage: &Storage, topic_id: u32, config: PartitionConfig) -> Rc<Partition> {
    let identity = PartitionIdentity { cluster_id: 1, node_id: 1, topic_id, partition: 0 };
    let (partition, report) =
        Partition::open(storage, PathBuf::from(topic_id.to_string()), identity, config).await.unwrap();
    if 0 < report.scanned_bytes {
        println!("opened {topic_id}: clean {} scanned {} MiB", report.clean, report.scanned_bytes >> 20);
    }
    partition
}

pub(crate) fn percentile(sorted: &[u128], part: f64) -> u128 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rank")]
    let rank = (sorted.len() as f64 * part) as usize;
    sorted[rank.min(sorted.len() - 1)]
}
