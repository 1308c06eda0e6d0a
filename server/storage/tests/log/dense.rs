//! Small commits are mostly padding: their segments are rewritten without it, and nobody notices but the disk.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use levada_storage::buffer::BufferPool;
use levada_storage::crash::{CrashDisk, CrashOptions, Survival};
use levada_storage::disk::Disk as _;
use levada_storage::verify::verify;
use levada_storage::{Partition, StorageLimits};

use crate::vocabulary::*;

fn body(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(10 + number as usize % 40)
}

async fn fill(partition: &Partition, from: u64, to: u64) {
    for number in from..to {
        produce(partition, &Batch::anonymous(1, body(number))).await;
    }
}

async fn check(partition: &Partition, from: u64, to: u64, story: &str) {
    let stored = read_all(partition, from).await.unwrap_or_else(|error| panic!("{story}: {error}"));
    assert_eq!(stored.len() as u64, to - from, "{story}");
    for one in stored {
        assert!(one.batch[72..] == body(one.base_offset), "{story}: offset {} holds something else", one.base_offset);
    }
}

/// Bytes of the segment files, and whether a file is there that is none.
async fn files(disk: &CrashDisk) -> (Vec<usize>, bool) {
    let names: Vec<String> = disk.list(&dir()).await.unwrap_or_default().into_iter().map(|entry| entry.name).collect();
    let lengths = names.iter().map(|name| disk.contents(&dir().join(name)).unwrap().len()).collect();
    (lengths, names.iter().any(|name| !name.ends_with(".seg")))
}

/// Reads come from the disk, by the files' names: nothing is cached or kept open.
fn uncached() -> StorageLimits {
    StorageLimits { cache_bytes: 0, open_files: 1, low_water_bytes: Some(0), ..StorageLimits::default() }
}

#[test]
fn segments_of_small_commits_shrink_and_every_offset_is_where_it_was() {
    run(async {
        let disk = crash_disk(1);
        let world = World::with_limits(Rc::new(disk.clone()), uncached()).await;
        let (partition, _) = world.open(small_segments()).await;
        fill(&partition, 0, 100).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (lengths, others) = files(&disk).await;
        assert!(5 < lengths.len() && !others, "{lengths:?}");
        let dense = &lengths[..lengths.len() - 2];
        assert!(dense.iter().all(|length| *length <= 24 << 10), "{dense:?} of 64 KiB each");
        for offset in 0..100 {
            check(&partition, offset, 100, &format!("from {offset}")).await;
        }
        partition.close().await.unwrap();
        let reports = verify(&disk, &BufferPool::new(8 << 20), Path::new("data")).await.unwrap();
        assert_eq!((reports[0].batch_count, &reports[0].defects[..]), (100, &[][..]));

        let world = World::with_limits(Rc::new(disk.clone()), uncached()).await;
        let (partition, report) = world.open(small_segments()).await;
        assert_eq!(report.defects, []);
        check(&partition, 0, 100, "opened again").await;
        assert_eq!(files(&disk).await.0, lengths, "what is dense stays as it is");
    });
}

#[test]
fn a_reader_does_not_notice() {
    for seed in 0..20 {
        run(async {
            let slow = CrashOptions { max_delay: Duration::from_millis(5), ..CrashOptions::default() };
            let disk = CrashDisk::new(seed, slow);
            let world = World::with_limits(Rc::new(disk.clone()), uncached()).await;
            let (partition, _) = world.open(small_segments()).await;
            fill(&partition, 0, 30).await;
            let readers: Vec<_> = (0..4)
                .map(|reader| {
                    let partition = Rc::clone(&partition);
                    tokio::task::spawn_local(async move {
                        for round in 0..60_u64 {
                            let (from, to) = ((round * 7 + reader) % 30, partition.watermarks().visible_end_offset);
                            let stored = read_all(&partition, from).await.unwrap();
                            assert!(to - from <= stored.len() as u64, "reader {reader}, round {round}");
                            assert!((from..).zip(&stored).all(|(offset, one)| offset == one.base_offset));
                        }
                    })
                })
                .collect();
            fill(&partition, 30, 120).await;
            for reader in readers {
                reader.await.unwrap();
            }
        });
    }
}

#[test]
fn a_power_cut_at_any_point_of_a_rewrite_loses_nothing() {
    let mut image_count = 0;
    run(async {
        let disk = crash_disk(3);
        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, _) = world.open(small_segments()).await;
        disk.record();
        let mut promised = vec![(0, 0)];
        for number in 0..60 {
            fill(&partition, number, number + 1).await;
            promised.push((disk.recorded_count(), number + 1));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for prefix in 0..=disk.recorded_count() {
            let kept = promised.iter().rev().find(|(at, _)| *at <= prefix).map_or(0, |(_, count)| *count);
            for survival in [Survival::SyncedOnly, Survival::Random] {
                let image = disk.image_with(prefix, survival, prefix as u64);
                let story = format!("cut after {} ({survival:?})", disk.recorded_event(prefix));
                let world = World::on(Rc::new(image.clone())).await;
                let (partition, report) = world.open(small_segments()).await;
                assert_eq!(report.defects, [], "{story}");
                partition.flush().await.unwrap();
                let end = partition.watermarks().visible_end_offset;
                assert!(kept <= end, "{story}: {kept} promised, {end} there");
                check(&partition, 0, end, &story).await;
                assert!(!files(&image).await.1, "{story}: a leftover");
                image_count += 1;
            }
        }
    });
    assert!(300 < image_count, "only {image_count} images");
}

#[test]
fn a_partition_that_closes_or_loses_its_front_does_so_whole() {
    for seed in 0..40 {
        run(async {
            let disk = crash_disk(seed);
            let world = World::on(Rc::new(disk.clone())).await;
            let (partition, _) = world.open(small_segments()).await;
            fill(&partition, 0, 20 + seed).await;
            let start = partition.delete_before(15 + seed).await.unwrap();
            partition.close().await.unwrap();
            let before = disk.list(&dir()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(disk.list(&dir()).await.unwrap(), before, "nothing comes after the close");
            let world = World::on(Rc::new(disk.clone())).await;
            let (partition, report) = world.open(small_segments()).await;
            assert_eq!(report.defects, []);
            check(&partition, start, 20 + seed, "opened again").await;
        });
    }
}
