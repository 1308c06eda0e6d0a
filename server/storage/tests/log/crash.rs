//! T03: after every event of a workload, under every kind of survival, what was acknowledged as durable is there, nothing
//! is reordered or invented, and the log goes on; also when the power fails again during recovery.

use std::rc::Rc;

use levada_storage::crash::{CrashDisk, CrashOptions};
use levada_storage::{AppendError, Durability, Loss, PartitionConfig};

use crate::vocabulary::*;

/// What a workload did: every batch it appended, and after how many events each was acknowledged.
struct History {
    batches: Vec<Vec<u8>>,
    acknowledged: Vec<(usize, usize)>,
    deleted_to: Vec<(usize, u64)>,
}

async fn workload(disk: &CrashDisk, seed: u64, config: PartitionConfig) -> History {
    let mut random = Random(seed);
    let mut history = History { batches: Vec::new(), acknowledged: Vec::new(), deleted_to: Vec::new() };
    for run in 0..3 {
        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, report) = world.open(config.clone()).await;
        assert_eq!(report.defects, []);
        for _ in 0..25 {
            let burst = random.below(4) + 1;
            let mut last = None;
            for _ in 0..burst {
                let size = if random.below(8) == 0 { 20_000 } else { random.below(3000) + 1 };
                let batch = Batch::anonymous(1, random.bytes(size as usize)).encode();
                let append = partition.append(batch.clone(), Durability::Disk).unwrap();
                assert_eq!(append.base_offset, history.batches.len() as u64);
                history.batches.push(batch.to_vec());
                last = Some(append);
            }
            if random.below(3) > 0 {
                partition.durable(last.unwrap().ticket).await.unwrap();
                history.acknowledged.push((disk.recorded_count(), history.batches.len()));
            }
            if random.below(20) == 0 {
                let to = random.below(history.batches.len() as u64);
                let start = partition.delete_before(to).await.unwrap();
                history.deleted_to.push((disk.recorded_count(), start));
                history.acknowledged.push((disk.recorded_count(), history.batches.len()));
            }
        }
        partition.flush().await.unwrap();
        history.acknowledged.push((disk.recorded_count(), history.batches.len()));
        if run != 1 {
            partition.close().await.unwrap();
            world.storage.close().await;
        }
    }
    history
}

/// Opens an image and checks it against the history; returns what it found to be the end.
async fn check(image: &CrashDisk, prefix: usize, history: &History, config: &PartitionConfig, story: &str) -> u64 {
    let world = World::on(Rc::new(image.clone())).await;
    let (partition, report) = world.open(config.clone()).await;
    assert_eq!(report.defects, [], "{story}: a power cut is no damage");
    assert_eq!(report.loss, Loss::No, "{story}");
    partition.flush().await.unwrap();
    let marks = partition.watermarks();
    let promised =
        history.acknowledged.iter().rev().find(|(at, _)| *at <= prefix).map_or(0, |(_, count)| *count as u64);
    assert!(promised <= marks.visible_end_offset, "{story}: {promised} acknowledged, {marks:?}");
    let deleted = history.deleted_to.iter().rev().find(|(at, _)| *at <= prefix).map_or(0, |(_, offset)| *offset);
    assert!(deleted <= marks.log_start_offset, "{story}: deleted to {deleted}, {marks:?}");
    let stored = read_all(&partition, marks.log_start_offset).await.unwrap_or_else(|error| panic!("{story}: {error}"));
    for (number, one) in stored.iter().enumerate() {
        let offset = marks.log_start_offset + number as u64;
        assert_eq!(one.base_offset, offset, "{story}");
        assert!(one.batch == history.batches[offset as usize], "{story}: offset {offset} holds something else");
    }
    assert_eq!(marks.log_start_offset + stored.len() as u64, marks.visible_end_offset, "{story}");
    let next = produce(&partition, &Batch::anonymous(1, *b"goes on")).await;
    assert_eq!(next.base_offset, marks.visible_end_offset, "{story}");
    marks.visible_end_offset
}

fn enumerate(seed: u64, config: &PartitionConfig, per_prefix: u64) -> usize {
    run(async {
        let disk = crash_disk(seed);
        disk.record();
        let history = workload(&disk, seed, config.clone()).await;
        let mut count = 0;
        for prefix in 0..=disk.recorded_count() {
            for variant in 0..per_prefix {
                let image_seed = seed * 1_000_003 + prefix as u64 * 17 + variant;
                let story = format!("seed {seed} prefix {prefix} ({}) image {image_seed}", disk.recorded_event(prefix));
                let image = disk.image(prefix, image_seed);
                // The power fails again somewhere in the recovery; then it stays.
                image.record();
                let end = check(&image, prefix, &history, config, &story).await;
                let inner = image_seed as usize % (image.recorded_count() + 1);
                let again = image.image(inner, image_seed + 1);
                let mut longer = History {
                    batches: history.batches[..(end as usize).min(history.batches.len())].to_vec(),
                    acknowledged: history.acknowledged.clone(),
                    deleted_to: history.deleted_to.clone(),
                };
                longer.batches.push(Batch::anonymous(1, *b"goes on").encode().to_vec());
                check(&again, prefix, &longer, config, &format!("{story}, then event {inner} of recovery")).await;
                count += 2;
            }
        }
        count
    })
}

/// More images with `LEVADA_CRASH_SEEDS=n`.
fn seeds() -> u64 {
    std::env::var("LEVADA_CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

#[test]
fn whatever_was_acknowledged_survives_every_power_cut() {
    let mut count = 0;
    for seed in 0..seeds() {
        count += enumerate(seed + 1, &small_segments(), 2);
    }
    assert!(2000 <= count, "only {count} images");
}

#[test]
fn a_memory_topic_never_reuses_an_offset_under_the_same_epoch() {
    run(async {
        for seed in 0..40 {
            let disk = crash_disk(seed);
            let config = PartitionConfig { durability: Durability::Memory, ..small_segments() };
            let mut disk_now = disk;
            let mut seen: Vec<(u64, u32, Vec<u8>)> = Vec::new();
            let mut random = Random(seed + 99);
            for _ in 0..4 {
                let world = World::on(Rc::new(disk_now.clone())).await;
                let (partition, _) = world.open(config.clone()).await;
                for _ in 0..random.below(6) {
                    let append = partition.append(Batch::anonymous(1, random.bytes(100)).encode(), Durability::Memory);
                    let append = append.unwrap();
                    if partition.durable(append.ticket).await.is_ok() {
                        let stored = read_all(&partition, append.base_offset).await.unwrap();
                        let last = stored.last().unwrap();
                        let now = (last.base_offset, last.epoch, last.batch.clone());
                        let clash = seen.iter().find(|one| (one.0, one.1) == (now.0, now.1) && one.2 != now.2);
                        assert_eq!(clash, None, "seed {seed}: offset {} epoch {} given out twice", now.0, now.1);
                        seen.push(now);
                    }
                    if random.below(4) == 0 {
                        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
                    }
                }
                disk_now = disk_now.crash_now(random.next());
            }
        }
    });
}

#[test]
fn a_consumer_of_lost_messages_is_told_where_the_log_was_cut() {
    run(async {
        let disk = crash_disk(5);
        let config = PartitionConfig { durability: Durability::Memory, ..PartitionConfig::default() };
        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, _) = world.open(config.clone()).await;
        produce(&partition, &Batch::anonymous(10, *b"kept")).await;
        partition.flush().await.unwrap();
        produce(&partition, &Batch::anonymous(5, *b"lost")).await;
        let before = partition.watermarks();
        assert_eq!((before.visible_end_offset, before.durable_end_offset), (15, 10));
        assert_eq!(partition.check_epoch(15, before.leader_epoch), Ok(()));

        let world = World::on(Rc::new(disk.crash_now(0))).await;
        let (partition, report) = world.open(config).await;
        assert_eq!((report.clean, report.loss), (false, Loss::Possible));
        produce(&partition, &Batch::anonymous(20, *b"others")).await;
        let after = partition.watermarks();
        assert!(before.leader_epoch < after.leader_epoch);
        let truncated = partition.check_epoch(15, before.leader_epoch).unwrap_err();
        assert_eq!(truncated.divergence_offset, 10);
        assert_eq!(partition.check_epoch(10, before.leader_epoch), Ok(()));
        assert_eq!(partition.check_epoch(30, after.leader_epoch), Ok(()));
    });
}

#[test]
fn a_failed_flush_stops_everything_and_restart_loses_nothing() {
    for nth in 1..=30 {
        run(async {
            let disk = crash_disk(nth);
            let world = World::on(Rc::new(disk.clone())).await;
            let (partition, _) = world.open(small_segments()).await;
            produce(&partition, &Batch::anonymous(1, vec![0; 100])).await;
            disk.fail(levada_storage::disk::fault::FaultPoint::Flush, nth, libc::EIO);
            let mut acknowledged = 1;
            for number in 1..200_u32 {
                let Ok(append) =
                    partition.append(Batch::anonymous(1, vec![number as u8; 3000]).encode(), Durability::Disk)
                else {
                    break;
                };
                if partition.durable(append.ticket).await.is_err() {
                    break;
                }
                assert!(world.fatal.errors.borrow().is_empty(), "an acknowledgement after the failure");
                acknowledged += 1;
            }
            assert_eq!(world.fatal.errors.borrow().len(), 1, "flush {nth}");
            let refused = partition.append(Batch::anonymous(1, *b"x").encode(), Durability::Disk);
            assert_eq!(refused, Err(AppendError::Failed));
            assert!(partition.flush().await.is_err());

            let world = World::on(Rc::new(disk.crash_now(0))).await;
            let (partition, report) = world.open(small_segments()).await;
            assert_eq!(report.defects, []);
            partition.flush().await.unwrap();
            assert!(acknowledged <= partition.watermarks().visible_end_offset);
            read_all(&partition, 0).await.unwrap();
        });
    }
}

#[test]
fn space_zeroed_ahead_of_small_commits_takes_nothing_from_them() {
    run(async {
        let delay = std::time::Duration::from_millis(3);
        let options = CrashOptions { max_delay: delay, ..CrashOptions::default() };
        let disk = CrashDisk::new(11, options);
        disk.record();
        let config = PartitionConfig { segment_bytes: 4 << 20, ..PartitionConfig::default() };
        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, _) = world.open(config.clone()).await;
        let mut random = Random(11);
        let mut history = History { batches: Vec::new(), acknowledged: Vec::new(), deleted_to: Vec::new() };
        for _ in 0..180 {
            let batch = Batch::anonymous(1, random.bytes(2000)).encode();
            let append = partition.append(batch.clone(), Durability::Disk).unwrap();
            history.batches.push(batch.to_vec());
            partition.durable(append.ticket).await.unwrap();
            history.acknowledged.push((disk.recorded_count(), history.batches.len()));
        }
        let zeroed = (0..=disk.recorded_count())
            .filter(|&prefix| disk.recorded_event(prefix).contains("+262144") && prefix > 20)
            .collect::<Vec<_>>();
        assert!(2 <= zeroed.len(), "the start and the end of a zeroing");
        for prefix in (0..=disk.recorded_count()).filter(|prefix| prefix % 9 == 0 || zeroed[0].abs_diff(*prefix) < 30) {
            let story = format!("prefix {prefix} ({})", disk.recorded_event(prefix));
            check(&disk.image(prefix, prefix as u64), prefix, &history, &config, &story).await;
        }
    });
}
