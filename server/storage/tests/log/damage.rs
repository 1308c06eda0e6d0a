//! T05 and T06: a full disk refuses and resumes; a flipped bit or a cut is found, never served, never truncated away.

use std::path::Path;
use std::rc::Rc;

use levada_storage::crash::{CrashDisk, CrashOptions};
use levada_storage::disk::Disk;
use levada_storage::disk::fault::FaultPoint;
use levada_storage::{AppendError, Durability, MaintainError, OpenError, PartitionIdentity, ReadError, RecordLog};

use crate::vocabulary::*;

#[test]
fn a_full_disk_refuses_definitely_serves_reads_and_resumes_when_space_is_freed() {
    run(async {
        let capacity = 3 << 20;
        let disk = CrashDisk::new(9, CrashOptions { capacity_bytes: capacity, ..CrashOptions::default() });
        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, _) = world.open(small_segments()).await;
        let mut accepted = 0;
        let refused = loop {
            match partition.append(Batch::anonymous(1, vec![1; 9000]).encode(), Durability::Disk) {
                Ok(_) => accepted += 1,
                Err(AppendError::Full) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                Err(error) => break error,
            }
            tokio::task::yield_now().await;
            assert!(accepted < 10_000, "the disk never fills up");
        };
        assert_eq!(refused, AppendError::DiskFull);
        let durable = partition.watermarks().durable_end_offset;
        assert_eq!(read_all(&partition, 0).await.unwrap().len() as u64, durable);
        assert!(world.fatal.errors.borrow().is_empty(), "a full disk is no failure");
        let deleted = partition.delete_before(1).await;
        assert!(matches!(deleted, Err(MaintainError::DiskFull)), "who frees space does not wait for it");

        disk.set_capacity(2 * capacity);
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        world.storage.maintain().await;
        partition.flush().await.unwrap();
        assert_eq!(partition.watermarks().durable_end_offset, accepted, "what was accepted is not lost");
        produce(&partition, &Batch::anonymous(1, *b"again")).await;

        let world = World::on(Rc::new(disk.crash_now(0))).await;
        let (partition, report) = world.open(small_segments()).await;
        assert_eq!(report.defects, []);
        assert_eq!(read_all(&partition, 0).await.unwrap().len() as u64, accepted + 1);
    });
}

#[test]
fn below_the_low_water_mark_appends_are_refused_before_anything_is_written() {
    run(async {
        let disk = CrashDisk::new(1, CrashOptions { capacity_bytes: 8 << 20, ..CrashOptions::default() });
        let limits = levada_storage::StorageLimits { low_water_bytes: Some(16 << 20), ..Default::default() };
        let world = World::with_limits(Rc::new(disk.clone()), limits).await;
        let (partition, _) = world.open(small_segments()).await;
        let refused = partition.append(Batch::anonymous(1, *b"x").encode(), Durability::Disk);
        assert_eq!(refused, Err(AppendError::DiskFull));
        assert!(disk.list(&dir()).await.is_err());
    });
}

#[test]
fn a_write_that_finds_no_space_is_made_again_and_nothing_accepted_is_lost() {
    let mut refused_count = 0;
    for nth in 1..=40 {
        run(async {
            let delay = std::time::Duration::from_millis(4);
            let disk = CrashDisk::new(nth, CrashOptions { max_delay: delay, ..CrashOptions::default() });
            let world = World::on(Rc::new(disk.clone())).await;
            let (partition, _) = world.open(small_segments()).await;
            disk.fail(FaultPoint::Write, nth, libc::ENOSPC);
            disk.fail(FaultPoint::Write, nth + 1, libc::ENOSPC);
            let mut tickets = Vec::new();
            while tickets.len() < 120 {
                let batch = Batch::anonymous(1, vec![tickets.len() as u8; 3000]).encode();
                match partition.append(batch, Durability::Disk) {
                    Ok(append) => tickets.push(append.ticket),
                    Err(AppendError::DiskFull) => {
                        refused_count += 1;
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        world.storage.maintain().await;
                    }
                    Err(error) => panic!("write {nth}: {error}"),
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            for ticket in tickets {
                assert_eq!(partition.durable(ticket).await, Ok(Durability::Disk), "write {nth}");
            }
            assert!(world.fatal.errors.borrow().is_empty(), "a full disk is no failure");
            let world = World::on(Rc::new(disk.crash_now(nth))).await;
            let (partition, report) = world.open(small_segments()).await;
            assert_eq!(report.defects, [], "write {nth}");
            let stored = read_all(&partition, 0).await.unwrap();
            assert_eq!(stored.len(), 120, "write {nth}");
            let right = |(number, one): (usize, &Stored)| one.batch[72..] == vec![number as u8; 3000];
            assert!(stored.iter().enumerate().all(right), "write {nth}");
        });
    }
    assert!(20 < refused_count, "appends were refused {refused_count} times only");
}

#[test]
fn a_log_closed_while_it_waits_for_space_writes_nothing_afterwards() {
    run(async {
        let disk = CrashDisk::new(9, CrashOptions { capacity_bytes: 4 << 20, ..CrashOptions::default() });
        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, _) = world.open(small_segments()).await;
        produce(&partition, &Batch::anonymous(1, vec![1; 3000])).await;
        disk.fail(FaultPoint::Write, 1, libc::ENOSPC);
        let waiting = partition.append(Batch::anonymous(1, vec![2; 3000]).encode(), Durability::Disk).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(partition.close().await.is_err());
        assert!(partition.durable(waiting.ticket).await.is_err());
        let (partition, _) = world.open(small_segments()).await;
        world.storage.maintain().await;
        produce(&partition, &Batch::anonymous(1, vec![3; 3000])).await;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let bodies: Vec<u8> = read_all(&partition, 0).await.unwrap().iter().map(|one| one.batch[72]).collect();
        assert_eq!(bodies, [1, 3]);
        let world = World::on(Rc::new(disk.crash_now(1))).await;
        let (partition, report) = world.open(small_segments()).await;
        assert_eq!(report.defects, []);
        assert_eq!(read_all(&partition, 0).await.unwrap().len(), 2);
    });
}

async fn filled(seed: u64, clean: bool) -> (CrashDisk, u64) {
    let disk = crash_disk(seed);
    let world = World::on(Rc::new(disk.clone())).await;
    let (partition, _) = world.open(small_segments()).await;
    for number in 0..60_u64 {
        produce(&partition, &Batch::anonymous(1, vec![number as u8; 3000])).await;
    }
    if clean {
        partition.close().await.unwrap();
    }
    // Long enough for the checkpoint ring to vouch for the last commit.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    world.storage.close().await;
    (disk.crash_now(0), 60)
}

/// Reads everything that can be read, skipping what is reported as corrupt; every message read must be the right one.
async fn read_around_damage(partition: &levada_storage::Partition) -> Result<(u64, u64), String> {
    let (mut at, mut good, mut skipped) = (0, 0, 0);
    while at < partition.watermarks().visible_end_offset {
        match partition.read(at, 10_000).await {
            Ok(batches) => {
                for one in split(&batches.slices) {
                    if one.base_offset != at || one.batch[72..] != vec![at as u8; 3000] {
                        return Err(format!("wrong message at {at}"));
                    }
                    at += 1;
                    good += 1;
                }
            }
            Err(ReadError::Corrupt { first_offset, next_offset, .. }) => {
                if first_offset != at || next_offset <= at {
                    return Err(format!("damage {first_offset}..{next_offset} reported at {at}"));
                }
                skipped += next_offset - at;
                at = next_offset;
            }
            Err(other) => return Err(format!("{other:?}")),
        }
    }
    Ok((good, skipped))
}

/// All flips with `LEVADA_BIT_ROT=n`, a sample without.
fn flips() -> u64 {
    std::env::var("LEVADA_BIT_ROT").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

#[test]
fn a_flipped_bit_is_never_served_and_never_costs_more_than_its_batch() {
    run(async {
        let mut random = Random(77);
        for round in 0..flips() {
            let (disk, total) = filled(round, round % 2 == 0).await;
            let names: Vec<String> = disk
                .list(&dir())
                .await
                .unwrap()
                .into_iter()
                .map(|entry| entry.name)
                .filter(|n| n.ends_with("seg"))
                .collect();
            let name = &names[random.below(names.len() as u64) as usize];
            let path = dir().join(name);
            let length = disk.contents(&path).unwrap().len() as u64;
            let at = random.below(length.min(70_000));
            disk.flip_bit(&path, at, random.below(8) as u8).unwrap();
            let world = World::on(Rc::new(disk.clone())).await;
            let (partition, report) = world.open(small_segments()).await;
            let story = format!("round {round}: bit in byte {at} of {name}, {:?}", report.defects);
            partition.flush().await.ok();
            let marks = partition.watermarks();
            if report.defects.is_empty() {
                assert_eq!(marks.visible_end_offset, total, "{story}: nothing durable is cut");
            } else {
                let refused = partition.append(Batch::anonymous(1, *b"x").encode(), Durability::Disk);
                assert!(matches!(refused, Err(AppendError::ReadOnly(_))), "{story}: {refused:?}");
            }
            let (good, skipped) =
                read_around_damage(&partition).await.unwrap_or_else(|error| panic!("{story}: {error}"));
            assert!(total <= good + skipped + 2, "{story}: {good} read, {skipped} reported");
            assert!(total - 2 <= good, "{story}: {good} read");
        }
    });
}

#[test]
fn a_missing_or_shortened_segment_is_damage() {
    run(async {
        for cut in [None, Some(5000), Some(40_000)] {
            let (disk, _) = filled(3, true).await;
            let path = dir().join("0000000002.seg");
            match cut {
                None => disk.remove_file(&path).await.unwrap(),
                Some(length) => disk.cut(&path, length).unwrap(),
            }
            let world = World::on(Rc::new(disk)).await;
            let (partition, report) = world.open(small_segments()).await;
            assert!(!report.defects.is_empty(), "cut {cut:?}");
            assert!(partition.status().read_only.is_some());
            read_around_damage(&partition).await.ok();
        }
    });
}

#[test]
fn damaged_metadata_refuses_to_open_and_names_the_place() {
    run(async {
        let disk = crash_disk(4);
        let identity = PartitionIdentity { cluster_id: CLUSTER, node_id: 1, topic_id: 0xFFFF_0000, partition: 0 };
        let path = Path::new("data/metadata").to_path_buf();
        let world = World::on(Rc::new(disk.clone())).await;
        let (log, replay) = RecordLog::open(&world.storage, path.clone(), identity).await.unwrap();
        assert!(replay.records.is_empty());
        for number in 0..10_u8 {
            let index = log.append(&[number; 500]).unwrap();
            assert_eq!(index, u64::from(number) + 1);
            log.durable(index).await.unwrap();
        }
        let snapshot = log.snapshot(b"all ten").await.unwrap();
        let after = log.append(b"eleven").unwrap();
        log.durable(after).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        world.storage.close().await;

        let disk = disk.crash_now(0);
        let world = World::on(Rc::new(disk.clone())).await;
        let (log, replay) = RecordLog::open(&world.storage, path.clone(), identity).await.unwrap();
        let found: Vec<(u64, bool, &[u8])> =
            replay.records.iter().map(|r| (r.index, r.snapshot, &r.payload[..])).collect();
        assert_eq!(found, [(snapshot, true, &b"all ten"[..]), (after, false, &b"eleven"[..])]);
        log.close().await.unwrap();
        world.storage.close().await;

        let disk = disk.crash_now(0);
        disk.flip_bit(&path.join("0000000002.seg"), 4096 + 300, 1).unwrap();
        let world = World::on(Rc::new(disk)).await;
        let refused = RecordLog::open(&world.storage, path, identity).await.map(|_| ());
        let Err(OpenError::Damaged(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.file.ends_with("0000000002.seg"), "{reason}");
    });
}
