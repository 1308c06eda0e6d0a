//! A process that ends without a power cut leaves bytes that read back and were never flushed. What the next one serves or
//! acknowledges must survive the power cut after it.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use levada_storage::crash::{CrashDisk, Survival};
use levada_storage::disk::fault::FaultPoint;
use levada_storage::{Durability, PartitionIdentity, RecordLog};

use crate::vocabulary::*;

fn body(number: u64) -> Vec<u8> {
    vec![number as u8; 700 + 900 * (number as usize % 5)]
}

/// Appends until the disk fails; returns how many were acknowledged.
async fn append_until_failure(world: &World, partition: &levada_storage::Partition) -> u64 {
    let mut number = partition.watermarks().appended_end_offset;
    while let Ok(append) = partition.append(Batch::anonymous(1, body(number)).encode(), Durability::Disk) {
        // A second one under way, so that a commit fails behind another.
        let also = partition.append(Batch::anonymous(1, body(number + 1)).encode(), Durability::Disk);
        if partition.durable(append.ticket).await.is_err() {
            break;
        }
        number += 1;
        let Ok(also) = also else { break };
        if partition.durable(also.ticket).await.is_err() {
            break;
        }
        number += 1;
        assert!(number < 500, "the disk never failed");
    }
    assert_eq!(world.fatal.errors.borrow().len(), 1);
    number
}

/// Opens, checks what is there, and returns the end of what it serves.
async fn serve(disk: &CrashDisk, promised: u64, story: &str) -> (World, Rc<levada_storage::Partition>, u64) {
    let world = World::on(Rc::new(disk.clone())).await;
    let (partition, report) = world.open(small_segments()).await;
    assert_eq!(report.defects, [], "{story}");
    partition.flush().await.unwrap_or_else(|error| panic!("{story}: {error}"));
    let end = partition.watermarks().visible_end_offset;
    assert!(promised <= end, "{story}: {promised} promised, {end} there");
    let stored = read_all(&partition, 0).await.unwrap_or_else(|error| panic!("{story}: {error}"));
    assert_eq!(stored.len() as u64, end, "{story}");
    for one in stored {
        assert!(one.batch[72..] == body(one.base_offset), "{story}: offset {} holds something else", one.base_offset);
    }
    (world, partition, end)
}

#[test]
fn what_a_restart_after_a_failed_flush_serves_survives_the_next_power_cut() {
    let mut image_count = 0;
    for point in [FaultPoint::Flush, FaultPoint::Write] {
        for nth in 1..=40 {
            run(async {
                let disk = crash_disk(nth);
                let world = World::on(Rc::new(disk.clone())).await;
                let (partition, _) = world.open(small_segments()).await;
                disk.fail(point, nth, libc::EIO);
                let acknowledged = append_until_failure(&world, &partition).await;

                let disk = disk.exit_now(nth);
                disk.record();
                let story = format!("{point:?} {nth}, restart");
                let (_world, partition, served) = serve(&disk, acknowledged, &story).await;
                let mut promised = vec![(disk.recorded_count(), served)];
                for number in served..served + 4 {
                    produce(&partition, &Batch::anonymous(1, body(number))).await;
                    promised.push((disk.recorded_count(), number + 1));
                }
                // Long enough for the checkpoint ring.
                tokio::time::sleep(Duration::from_millis(50)).await;
                for prefix in 0..=disk.recorded_count() {
                    let kept = promised.iter().rev().find(|(at, _)| *at <= prefix);
                    let kept = kept.map_or(acknowledged, |(_, count)| *count);
                    for survival in [Survival::SyncedOnly, Survival::Random] {
                        let image = disk.image_with(prefix, survival, prefix as u64);
                        let story = format!("{story}, cut after {} ({survival:?})", disk.recorded_event(prefix));
                        serve(&image, kept, &story).await;
                        image_count += 1;
                    }
                }
            });
        }
    }
    assert!(1500 < image_count, "only {image_count} images");
}

#[test]
fn a_restart_may_follow_a_restart_before_the_power_cut() {
    for seed in 0..150 {
        run(async {
            let mut random = Random(seed);
            let mut disk = crash_disk(seed);
            let mut promised = 0;
            for life in 0..6 {
                let story = format!("seed {seed}, life {life}");
                let (world, partition, served) = serve(&disk, promised, &story).await;
                promised = served;
                if random.below(3) == 0 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let point = if random.below(2) == 0 { FaultPoint::Flush } else { FaultPoint::Write };
                disk.fail(point, 1 + random.below(12), libc::EIO);
                promised = promised.max(append_until_failure(&world, &partition).await);
                disk = if random.below(3) == 0 { disk.crash_now(random.next()) } else { disk.exit_now(random.next()) };
            }
        });
    }
}

#[test]
fn a_record_log_that_a_restart_replays_survives_the_next_power_cut() {
    let identity = PartitionIdentity { cluster_id: CLUSTER, node_id: 1, topic_id: 0xFFFF_0000, partition: 0 };
    let path = Path::new("data/metadata").to_path_buf();
    for seed in 0..200 {
        run(async {
            let mut random = Random(seed);
            let mut disk = crash_disk(seed);
            let mut promised: u64 = 0;
            for life in 0..5 {
                let world = World::on(Rc::new(disk.clone())).await;
                let opened = RecordLog::open(&world.storage, path.clone(), identity).await;
                let (log, replay) = opened.unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
                let found = replay.records.len() as u64;
                assert!(promised <= found, "seed {seed}, life {life}: {promised} promised, {found} there");
                promised = found;
                if random.below(2) == 0 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let point = if random.below(2) == 0 { FaultPoint::Flush } else { FaultPoint::Write };
                disk.fail(point, 1 + random.below(10), libc::EIO);
                while let Ok(index) = log.append(&[promised as u8; 500]) {
                    assert_eq!(index, promised + 1, "seed {seed}, life {life}");
                    if log.durable(index).await.is_err() {
                        break;
                    }
                    promised = index;
                }
                disk = if random.below(3) == 0 { disk.crash_now(random.next()) } else { disk.exit_now(random.next()) };
            }
        });
    }
}
