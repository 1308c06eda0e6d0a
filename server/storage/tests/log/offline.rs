//! `verify` names every defect; `repair` cuts before the first and the partition goes on; unknown directories are kept.

use std::path::Path;
use std::rc::Rc;

use levada_storage::buffer::BufferPool;
use levada_storage::disk::Disk;
use levada_storage::verify::{quarantine, repair, verify};

use crate::vocabulary::*;

async fn filled(seed: u64) -> levada_storage::crash::CrashDisk {
    let disk = crash_disk(seed);
    let world = World::on(Rc::new(disk.clone())).await;
    let (partition, _) = world.open(small_segments()).await;
    for number in 0..60_u8 {
        produce(&partition, &Batch::anonymous(1, vec![number; 3000])).await;
    }
    partition.close().await.unwrap();
    world.storage.close().await;
    disk.crash_now(0)
}

#[test]
fn a_sound_directory_has_no_defects_and_every_flip_is_named() {
    run(async {
        let pool = BufferPool::new(8 << 20);
        let disk = filled(1).await;
        let reports = verify(&disk, &pool, Path::new("data")).await.unwrap();
        let [report] = &reports[..] else { panic!("{reports:?}") };
        assert_eq!((report.batch_count, report.first_offset, report.end_offset), (60, 0, 60));
        assert_eq!((&report.defects[..], report.torn_bytes, report.identity), (&[][..], 0, Some(identity())));
        let mut random = Random(5);
        for _ in 0..60 {
            let disk = filled(1).await;
            let path = dir().join("0000000002.seg");
            let at = random.below(disk.contents(&path).unwrap().len() as u64 - 4096);
            disk.flip_bit(&path, at, 3).unwrap();
            let reports = verify(&disk, &pool, Path::new("data")).await.unwrap();
            assert!(reports[0].defects.iter().any(|defect| defect.file == path), "byte {at}");
        }
    });
}

#[test]
fn repair_cuts_before_the_damage_keeps_what_it_cut_and_appending_goes_on() {
    run(async {
        let pool = BufferPool::new(8 << 20);
        let disk = filled(2).await;
        disk.flip_bit(&dir().join("0000000002.seg"), 20_000, 0).unwrap();
        let nothing = repair(&disk, &pool, Path::new("data/checkpoints"), Path::new("data/checkpoints")).await.unwrap();
        assert_eq!(nothing.defect, None);
        let done = repair(&disk, &pool, &dir(), Path::new("data/checkpoints")).await.unwrap();
        assert!(done.lost_from_offset < 30 && done.lost_to_offset == 60, "{done:?}");
        assert!(!done.set_aside.is_empty());
        let audit = disk.contents(&done.audit.unwrap()).unwrap();
        assert!(String::from_utf8_lossy(&audit).contains("Lost offsets"));
        assert_eq!(verify(&disk, &pool, Path::new("data")).await.unwrap()[0].defects, []);

        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, report) = world.open(small_segments()).await;
        assert_eq!(report.defects, []);
        assert_eq!(read_all(&partition, 0).await.unwrap().len() as u64, done.lost_from_offset);
        let append = produce(&partition, &Batch::anonymous(1, *b"on")).await;
        assert_eq!(append.base_offset, done.lost_from_offset);
        assert_eq!(partition.check_epoch(60, 0).unwrap_err().divergence_offset, done.lost_from_offset);
    });
}

#[test]
fn a_log_that_lost_its_first_segments_starts_where_it_does_once_that_is_accepted() {
    run(async {
        let (pool, root) = (BufferPool::new(8 << 20), Path::new("data"));
        let disk = filled(4).await;
        disk.remove_file(&dir().join("0000000001.seg")).await.unwrap();
        let [report] = &verify(&disk, &pool, root).await.unwrap()[..] else { panic!("one log") };
        let first = report.first_offset;
        assert!(0 < first && report.defects[0].what.contains("missing"), "{report:?}");
        let done = repair(&disk, &pool, &dir(), Path::new("data/checkpoints")).await.unwrap();
        assert_eq!((done.lost_from_offset, done.lost_to_offset, &done.set_aside[..]), (0, first, &[][..]));
        assert!(done.audit.is_some());
        assert_eq!(verify(&disk, &pool, root).await.unwrap()[0].defects, []);
        for round in 0..3 {
            let world = World::on(Rc::new(disk.clone())).await;
            let (partition, report) = world.open(small_segments()).await;
            assert_eq!(report.defects, []);
            let append = produce(&partition, &Batch::anonymous(1, *b"on")).await;
            assert_eq!(append.base_offset, 60 + round);
            assert_eq!(partition.watermarks().log_start_offset, first);
            assert_eq!(read_all(&partition, first).await.unwrap().len() as u64, 61 + round - first);
            partition.close().await.unwrap();
        }
        disk.remove_file(&dir().join("0000000002.seg")).await.unwrap();
        assert!(!verify(&disk, &pool, root).await.unwrap()[0].defects.is_empty(), "that was not accepted");
        let world = World::on(Rc::new(disk.clone())).await;
        assert_eq!(world.open(small_segments()).await.1.defects.len(), 1);
    });
}

#[test]
fn an_unknown_directory_is_moved_and_kept() {
    run(async {
        let disk = filled(3).await;
        let to = quarantine(&disk, Path::new("data/7"), Path::new("data/quarantine")).await.unwrap();
        assert_eq!(to, Path::new("data/quarantine/7.1"));
        assert!(disk.list(&to.join("3")).await.unwrap().len() > 2);
        assert!(disk.list(&dir()).await.is_err());
    });
}
