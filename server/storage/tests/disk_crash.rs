//! The rules of the crash model, each shown by a disk that would break it.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use levada_storage::buffer::BufferPool;
use levada_storage::crash::{CrashDisk, CrashOptions, Survival};
use levada_storage::disk::fault::FaultPoint;
use levada_storage::disk::{BLOCK_BYTES, Disk, Durable, File, OpenMode};

const BLOCK: u64 = BLOCK_BYTES as u64;

fn disk() -> CrashDisk {
    CrashDisk::new(7, CrashOptions::default())
}

fn slow_disk() -> CrashDisk {
    let delay = Duration::from_millis(5);
    CrashDisk::new(7, CrashOptions { min_delay: delay, max_delay: delay, ..CrashOptions::default() })
}

fn blocks(byte: u8, count: usize) -> Bytes {
    let mut buffer = BufferPool::new(0).take(count * BLOCK_BYTES);
    buffer.as_mut_slice().fill(byte);
    buffer.freeze(count * BLOCK_BYTES)
}

/// A file with a durable name.
async fn durable_file(disk: &CrashDisk, name: &str) -> Rc<dyn File> {
    let file = disk.open(Path::new(name), OpenMode::CreateNew).await.expect("a new name");
    disk.sync_dir(Path::new("")).await.expect("the root is there");
    file
}

async fn put(file: &Rc<dyn File>, byte: u8, block: u64, durable: Durable) {
    file.write(blocks(byte, 1), block * BLOCK, durable).await.expect("nothing fails yet");
}

fn contents(disk: &CrashDisk, name: &str) -> Vec<u8> {
    disk.contents(Path::new(name)).expect("the file is there")
}

/// Outcomes of a predicate over many random crashes of the disk as it is now.
fn outcomes(disk: &CrashDisk, mut seen: impl FnMut(&CrashDisk) -> bool) -> (bool, bool) {
    disk.record();
    let found: Vec<bool> = (0..400).map(|seed| seen(&disk.image_with(0, Survival::Random, seed))).collect();
    (found.contains(&true), found.contains(&false))
}

const SOMETIMES: (bool, bool) = (true, true);
const ALWAYS: (bool, bool) = (true, false);

#[tokio::test]
async fn a_completed_write_is_torn_at_sectors_until_a_sync() {
    let disk = disk();
    let file = durable_file(&disk, "log").await;
    put(&file, 1, 0, Durable::Yes).await;
    put(&file, 2, 0, Durable::No).await;
    assert!(contents(&disk, "log").iter().all(|&byte| byte == 2));
    let whole = |byte| move |image: &CrashDisk| contents(image, "log").iter().all(|&found| found == byte);
    assert_eq!(outcomes(&disk, whole(1)), SOMETIMES);
    assert_eq!(outcomes(&disk, whole(2)), SOMETIMES);
    let in_sectors = |image: &CrashDisk| contents(image, "log").chunks(512).all(|s| s.iter().all(|&b| b == s[0]));
    assert_eq!(outcomes(&disk, in_sectors), ALWAYS);
    let every_sector = Cell::new([false; 8]);
    outcomes(&disk, |image| {
        let mut seen = every_sector.get();
        let found = contents(image, "log");
        (0..8).filter(|sector| found[sector * 512] == 2).for_each(|sector| seen[sector] = true);
        every_sector.set(seen);
        true
    });
    assert_eq!(every_sector.get(), [true; 8]);
    file.sync().await.unwrap();
    assert_eq!(outcomes(&disk, whole(2)), ALWAYS);
}

#[tokio::test]
async fn a_durable_write_survives_with_its_length_and_does_not_carry_earlier_ones() {
    let disk = disk();
    let file = durable_file(&disk, "log").await;
    put(&file, 1, 0, Durable::No).await;
    put(&file, 2, 1, Durable::Yes).await;
    let second = |image: &CrashDisk| contents(image, "log")[BLOCK_BYTES..] == blocks(2, 1)[..];
    assert_eq!(outcomes(&disk, second), ALWAYS);
    let first = |image: &CrashDisk| contents(image, "log")[..BLOCK_BYTES] == blocks(1, 1)[..];
    assert_eq!(outcomes(&disk, first), SOMETIMES);
}

#[tokio::test]
async fn an_old_uncertain_write_never_overtakes_a_newer_durable_one() {
    let disk = disk();
    let file = durable_file(&disk, "log").await;
    put(&file, 1, 0, Durable::No).await;
    put(&file, 2, 0, Durable::Yes).await;
    assert_eq!(outcomes(&disk, |image| contents(image, "log") == blocks(2, 1)[..]), ALWAYS);
}

#[tokio::test]
async fn a_length_may_survive_without_its_data_and_be_lost_with_it() {
    let disk = disk();
    let file = durable_file(&disk, "log").await;
    put(&file, 1, 0, Durable::No).await;
    assert_eq!(outcomes(&disk, |image| contents(image, "log").is_empty()), SOMETIMES);
    assert_eq!(outcomes(&disk, |image| contents(image, "log") == vec![0; BLOCK_BYTES]), SOMETIMES);
}

#[tokio::test(start_paused = true)]
async fn a_durable_write_in_flight_may_be_torn_and_is_whole_once_it_completed() {
    let disk = slow_disk();
    let file = durable_file(&disk, "log").await;
    let write = file.write(blocks(3, 1), 0, Durable::Yes);
    let whole = |image: &CrashDisk| contents(image, "log") == blocks(3, 1)[..];
    let nothing = |image: &CrashDisk| contents(image, "log").iter().all(|&byte| byte == 0);
    assert_eq!(outcomes(&disk, whole), SOMETIMES);
    assert_eq!(outcomes(&disk, nothing), SOMETIMES);
    assert_eq!(outcomes(&disk, |image| !whole(image) && !nothing(image)), SOMETIMES);
    write.await.unwrap();
    assert_eq!(outcomes(&disk, whole), ALWAYS);
}

#[tokio::test(start_paused = true)]
async fn a_sync_covers_only_what_had_completed_when_it_was_called() {
    let disk = slow_disk();
    let file = durable_file(&disk, "log").await;
    put(&file, 1, 0, Durable::No).await;
    let late = file.write(blocks(2, 1), BLOCK, Durable::No);
    let sync = file.sync();
    let first = |image: &CrashDisk| contents(image, "log").starts_with(&blocks(1, 1));
    assert_eq!(outcomes(&disk, first), SOMETIMES);
    late.await.unwrap();
    sync.await.unwrap();
    assert_eq!(outcomes(&disk, first), ALWAYS);
    assert_eq!(outcomes(&disk, |image| contents(image, "log").ends_with(&blocks(2, 1))), SOMETIMES);
}

#[tokio::test]
async fn truncation_and_reservation_may_be_lost_until_a_sync() {
    let disk = disk();
    let file = durable_file(&disk, "log").await;
    file.reserve(4 * BLOCK).await.unwrap();
    assert_eq!(contents(&disk, "log"), vec![0; 4 * BLOCK_BYTES]);
    assert_eq!(outcomes(&disk, |image| contents(image, "log").is_empty()), SOMETIMES);
    put(&file, 1, 3, Durable::Yes).await;
    file.sync().await.unwrap();
    file.truncate(BLOCK + 100).await.unwrap();
    assert_eq!(contents(&disk, "log").len(), BLOCK_BYTES + 100);
    assert_eq!(outcomes(&disk, |image| contents(image, "log").len() == 4 * BLOCK_BYTES), SOMETIMES);
    file.sync().await.unwrap();
    assert_eq!(outcomes(&disk, |image| contents(image, "log").len() == BLOCK_BYTES + 100), ALWAYS);
    file.reserve(4 * BLOCK).await.unwrap();
    assert_eq!(contents(&disk, "log"), vec![0; 4 * BLOCK_BYTES], "what was cut off does not come back");
}

#[tokio::test]
async fn names_may_be_lost_until_their_directory_is_synced() {
    let disk = disk();
    let [a, b, root] = ["a", "b", ""].map(Path::new);
    let has = |image: &CrashDisk, name: &str| image.contents(Path::new(name)).is_ok();
    let file = disk.open(a, OpenMode::CreateNew).await.unwrap();
    put(&file, 1, 0, Durable::Yes).await;
    assert_eq!(outcomes(&disk, |image| has(image, "a")), SOMETIMES);
    disk.sync_dir(root).await.unwrap();
    assert_eq!(outcomes(&disk, |image| contents(image, "a") == blocks(1, 1)[..]), ALWAYS);
    disk.rename(a, b).await.unwrap();
    assert_eq!(outcomes(&disk, |image| has(image, "a")), SOMETIMES);
    assert_eq!(outcomes(&disk, |image| has(image, "a") != has(image, "b")), ALWAYS);
    disk.sync_dir(root).await.unwrap();
    assert_eq!(outcomes(&disk, |image| has(image, "b") && !has(image, "a")), ALWAYS);
    disk.remove_file(b).await.unwrap();
    assert_eq!(outcomes(&disk, |image| has(image, "b")), SOMETIMES);
    disk.sync_dir(root).await.unwrap();
    assert_eq!(outcomes(&disk, |image| !has(image, "b")), ALWAYS);
}

#[tokio::test]
async fn changes_of_one_file_survive_in_order_and_never_give_it_two_names() {
    let disk = disk();
    disk.create_dir_all(Path::new("x")).await.unwrap();
    disk.create_dir_all(Path::new("y")).await.unwrap();
    disk.sync_dir(Path::new("")).await.unwrap();
    disk.open(Path::new("x/f"), OpenMode::CreateNew).await.unwrap();
    disk.rename(Path::new("x/f"), Path::new("y/f")).await.unwrap();
    disk.rename(Path::new("y/f"), Path::new("y/g")).await.unwrap();
    let names =
        |image: &CrashDisk| ["x/f", "y/f", "y/g"].iter().filter(|name| image.contents(Path::new(name)).is_ok()).count();
    assert_eq!(outcomes(&disk, |image| names(image) <= 1), ALWAYS);
    assert_eq!(outcomes(&disk, |image| names(image) == 1), SOMETIMES);
    disk.sync_dir(Path::new("y")).await.unwrap();
    assert_eq!(outcomes(&disk, |image| image.contents(Path::new("y/g")).is_ok() && names(image) == 1), ALWAYS);
}

#[tokio::test]
async fn a_file_in_a_directory_whose_own_name_is_lost_is_lost() {
    let disk = disk();
    disk.create_dir_all(Path::new("d/e")).await.unwrap();
    let file = disk.open(Path::new("d/e/f"), OpenMode::CreateNew).await.unwrap();
    put(&file, 1, 0, Durable::Yes).await;
    disk.sync_dir(Path::new("d/e")).await.unwrap();
    let there = |image: &CrashDisk| image.contents(Path::new("d/e/f")).is_ok();
    assert_eq!(outcomes(&disk, there), SOMETIMES);
    disk.sync_dir(Path::new("d")).await.unwrap();
    assert_eq!(outcomes(&disk, there), SOMETIMES);
    disk.sync_dir(Path::new("")).await.unwrap();
    assert_eq!(outcomes(&disk, there), ALWAYS);
}

#[tokio::test]
async fn what_a_failed_flush_covered_is_never_durable() {
    let disk = disk();
    let file = durable_file(&disk, "log").await;
    put(&file, 1, 0, Durable::No).await;
    disk.fail(FaultPoint::Flush, 1, libc::EIO);
    assert_eq!(file.sync().await.unwrap_err().raw_os_error(), Some(libc::EIO));
    file.sync().await.unwrap();
    assert_eq!(outcomes(&disk, |image| contents(image, "log") == blocks(1, 1)[..]), SOMETIMES);

    disk.fail(FaultPoint::Write, 2, libc::EIO);
    put(&file, 2, 1, Durable::Yes).await;
    assert!(file.write(blocks(3, 1), 2 * BLOCK, Durable::Yes).await.is_err());
    put(&file, 4, 3, Durable::Yes).await;
    let third = |image: &CrashDisk| contents(image, "log")[2 * BLOCK_BYTES..3 * BLOCK_BYTES] == blocks(0, 1)[..];
    assert_eq!(outcomes(&disk, third), SOMETIMES);
}

#[tokio::test]
async fn space_is_taken_by_blocks_and_reservations_and_given_back() {
    let capacity_bytes = 8 * BLOCK;
    let disk = CrashDisk::new(7, CrashOptions { capacity_bytes, ..CrashOptions::default() });
    let file = durable_file(&disk, "log").await;
    let free = async || disk.space(Path::new("")).await.unwrap().free_bytes / BLOCK;
    file.reserve(4 * BLOCK).await.unwrap();
    put(&file, 1, 0, Durable::No).await;
    assert_eq!(free().await, 4);
    file.write(blocks(1, 3), 3 * BLOCK, Durable::No).await.unwrap();
    assert_eq!(free().await, 2);
    let full = file.write(blocks(2, 3), 6 * BLOCK, Durable::Yes).await.unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(file.reserve(9 * BLOCK).await.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    file.write(blocks(2, 4), 0, Durable::Yes).await.unwrap();
    assert_eq!(free().await, 2);
    let after = disk.crash_with(Survival::Everything, 0);
    assert_eq!(after.space(Path::new("")).await.unwrap().free_bytes, 2 * BLOCK);
    let file = after.open(Path::new("log"), OpenMode::ReadWrite).await.unwrap();
    file.truncate(BLOCK).await.unwrap();
    assert_eq!(after.space(Path::new("")).await.unwrap().free_bytes, 7 * BLOCK);
    after.remove_file(Path::new("log")).await.unwrap();
    assert_eq!(after.space(Path::new("")).await.unwrap().free_bytes, 8 * BLOCK);
}

#[tokio::test(start_paused = true)]
async fn after_a_power_cut_old_handles_fail_and_the_new_disk_works() {
    let disk = slow_disk();
    let file = durable_file(&disk, "log").await;
    let in_flight = file.write(blocks(1, 1), 0, Durable::Yes);
    let after = disk.crash_with(Survival::SyncedOnly, 0);
    let eio = |failed: io::Result<()>| assert_eq!(failed.unwrap_err().raw_os_error(), Some(libc::EIO));
    eio(in_flight.await);
    eio(file.write(blocks(1, 1), 0, Durable::Yes).await);
    eio(file.sync().await);
    eio(file.len().await.map(drop));
    eio(file.read(BufferPool::new(0).take(1), 0).await.1.map(drop));
    eio(disk.list(Path::new("")).await.map(drop));
    eio(disk.open(Path::new("log"), OpenMode::Read).await.map(drop));
    eio(disk.sync_dir(Path::new("")).await);
    let file = after.open(Path::new("log"), OpenMode::ReadWrite).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 0);
    file.write(blocks(1, 1), 0, Durable::Yes).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_operation_still_completes() {
    let disk = slow_disk();
    let file = disk.open(Path::new("log"), OpenMode::CreateNew).await.unwrap();
    disk.remove_file(Path::new("log")).await.unwrap();
    drop(file.write(blocks(9, 1), 0, Durable::Yes));
    drop(file);
    let file = disk.open(Path::new("log"), OpenMode::CreateNew).await.unwrap();
    drop(file.write(blocks(1, 1), 0, Durable::Yes));
    disk.sync_dir(Path::new("")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(outcomes(&disk, |image| contents(image, "log") == blocks(1, 1)[..]), ALWAYS);
}

#[tokio::test]
async fn damage_is_seen_at_once_and_after_a_crash() {
    let disk = disk();
    let file = durable_file(&disk, "log").await;
    file.write(blocks(0, 2), 0, Durable::Yes).await.unwrap();
    disk.flip_bit(Path::new("log"), 5000, 3).unwrap();
    let expected: Vec<u8> = (0..2 * BLOCK_BYTES).map(|at| if at == 5000 { 8 } else { 0 }).collect();
    assert_eq!(contents(&disk, "log"), expected);
    assert_eq!(contents(&disk.crash_now(2), "log"), expected);
    assert!(disk.flip_bit(Path::new("log"), 2 * BLOCK, 0).is_err());
    disk.cut(Path::new("log"), 5000).unwrap();
    assert_eq!(contents(&disk.crash_now(2), "log").len(), 5000);
}

#[tokio::test]
async fn an_image_of_a_prefix_shows_that_moment_and_leaves_the_disk_alone() {
    let disk = disk();
    let file = durable_file(&disk, "log").await;
    disk.record();
    let mut acknowledged = Vec::new();
    for block in 0..20 {
        put(&file, 1, block, Durable::Yes).await;
        acknowledged.push(disk.recorded_count());
    }
    for prefix in 0..=disk.recorded_count() {
        let expected = acknowledged.iter().filter(|&&event| event <= prefix).count();
        for seed in 0..16 {
            let image = disk.image(prefix, seed);
            let found = contents(&image, "log");
            assert!(expected * BLOCK_BYTES <= found.len(), "{} seed {seed}", disk.recorded_event(prefix));
            assert!(found[..expected * BLOCK_BYTES].iter().all(|&byte| byte == 1), "{prefix} seed {seed}");
            assert_eq!(contents(&disk.image(prefix, seed), "log"), found, "same seed, same image");
            let file = image.open(Path::new("log"), OpenMode::ReadWrite).await.unwrap();
            file.truncate(0).await.unwrap();
        }
    }
    assert_eq!(contents(&disk, "log").len(), 20 * BLOCK_BYTES);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_takes_the_same_time() {
    let run = async |seed| {
        let options = CrashOptions { max_delay: Duration::from_millis(50), ..CrashOptions::default() };
        let disk = CrashDisk::new(seed, options);
        let file = disk.open(Path::new("log"), OpenMode::CreateNew).await.unwrap();
        let start = tokio::time::Instant::now();
        for block in 0..10 {
            put(&file, 1, block, Durable::Yes).await;
        }
        start.elapsed()
    };
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await, run(2).await);
}

#[tokio::test]
async fn what_a_failed_flush_left_readable_becomes_durable_only_when_it_is_written_again() {
    let disk = disk();
    let file = durable_file(&disk, "log").await;
    put(&file, 1, 0, Durable::No).await;
    disk.fail(FaultPoint::Flush, 1, libc::EIO);
    file.sync().await.expect_err("the flush was to fail");
    let kept = |seed: u64| {
        let next = disk.exit_now(seed);
        (contents(&next, "log") == blocks(1, 1)).then_some(next)
    };
    let next = (0..50).find_map(kept).expect("most of the time it can be read");
    assert!((0..50).any(|seed| kept(seed).is_none()), "now and then it is dropped");
    let file = next.open(Path::new("log"), OpenMode::ReadWrite).await.expect("it is there");
    file.sync().await.expect("nothing fails");
    assert_eq!(outcomes(&next, |after| contents(after, "log") == blocks(1, 1)), SOMETIMES);
    put(&file, 1, 0, Durable::No).await;
    file.sync().await.expect("nothing fails");
    assert_eq!(outcomes(&next, |after| contents(after, "log") == blocks(1, 1)), ALWAYS);
}
