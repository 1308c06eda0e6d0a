//! A partition's promises, one scenario each.

use std::rc::Rc;

use crate::vocabulary::*;
use levada_storage::disk::Disk;
use levada_storage::{AppendError, Durability, PartitionConfig, ReadError};

#[test]
fn what_was_appended_is_read_back_in_order_now_and_after_a_clean_close() {
    run(async {
        let disk = crash_disk(1);
        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, report) = world.open(small_segments()).await;
        assert!(report.clean);
        assert!(disk.list(&dir()).await.is_err(), "nothing is created before the first append");
        let batches: Vec<Batch> =
            (0..40_u32).map(|n| Batch::anonymous(n % 5 + 1, vec![n as u8; n as usize * 200 + 1])).collect();
        let mut offset = 0;
        for batch in &batches {
            let append = produce(&partition, batch).await;
            assert_eq!((append.base_offset, append.duplicate), (offset, false));
            offset += u64::from(batch.count);
            assert_eq!(append.last_offset, offset - 1);
        }
        let expected: Vec<Vec<u8>> = batches.iter().map(|batch| batch.encode().to_vec()).collect();
        let bodies = |stored: Vec<Stored>| stored.into_iter().map(|one| one.batch).collect::<Vec<_>>();
        assert_eq!(bodies(read_all(&partition, 0).await.unwrap()), expected);
        assert!(3 < partition.status().segment_count);
        partition.close().await.unwrap();
        assert_eq!(partition.append(batches[0].encode(), Durability::Disk), Err(AppendError::Closed));
        world.storage.close().await;

        let world = World::on(Rc::new(disk.crash_now(0))).await;
        let (partition, report) = world.open(small_segments()).await;
        assert!(report.clean, "{report:?}");
        assert_eq!(partition.watermarks().leader_epoch, 0);
        assert_eq!(bodies(read_all(&partition, 0).await.unwrap()), expected);
        assert_eq!(bodies(read_all_by(&partition, 0, 1).await.unwrap()), expected);
        assert_eq!(produce(&partition, &batches[0]).await.base_offset, offset);
    });
}

#[test]
fn reads_outside_the_log_say_where_it_is() {
    run(async {
        let world = World::on(Rc::new(crash_disk(2))).await;
        let (partition, _) = world.open(small_segments()).await;
        assert!(partition.read(0, 100).await.unwrap().slices.is_empty());
        assert!(matches!(partition.read(1, 100).await, Err(ReadError::OutOfRange { visible_end_offset: 0, .. })));
        produce(&partition, &Batch::anonymous(3, *b"abc")).await;
        assert!(partition.try_read_cached(2, 1).unwrap().unwrap().batch_count == 1);
        assert!(partition.read(3, 100).await.unwrap().slices.is_empty());
        assert!(matches!(partition.read(4, 100).await, Err(ReadError::OutOfRange { visible_end_offset: 3, .. })));
    });
}

#[test]
fn a_duplicate_gets_the_original_answer_also_after_a_crash_and_many_segments() {
    run(async {
        let disk = crash_disk(3);
        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, _) = world.open(small_segments()).await;
        let batch = |sequence| Batch { producer_id: 9, epoch: 1, sequence, count: 2, body: vec![1; 5000] };
        let first = partition.append(batch(0).encode(), Durability::Disk).unwrap();
        let again = partition.append(batch(0).encode(), Durability::Disk).unwrap();
        assert!(again.duplicate && again.ticket == first.ticket && again.base_offset == first.base_offset);
        assert_eq!(partition.ticket_state(again.ticket), levada_storage::TicketState::Pending);
        partition.durable(again.ticket).await.unwrap();
        for number in 1..40 {
            produce(&partition, &batch(number * 2)).await;
        }
        let gap = partition.append(batch(90).encode(), Durability::Disk);
        assert_eq!(gap, Err(AppendError::SequenceGap { expected: 80 }));

        let world = World::on(Rc::new(disk.crash_now(0))).await;
        let (partition, report) = world.open(small_segments()).await;
        assert!(!report.clean && 3 < partition.status().segment_count);
        let old = partition.append(batch(0).encode(), Durability::Disk).unwrap();
        assert_eq!((old.base_offset, old.duplicate), (0, true));
        assert_eq!(produce(&partition, &batch(80)).await.base_offset, 80);
        let stale = Batch { epoch: 0, ..batch(82) };
        assert_eq!(partition.append(stale.encode(), Durability::Disk), Err(AppendError::Fenced { current_epoch: 1 }));
    });
}

#[test]
fn retention_by_size_and_age_removes_whole_segments_and_survives_a_restart() {
    run(async {
        let disk = crash_disk(6);
        let config = levada_storage::PartitionConfig { retention_bytes: Some(200 << 10), ..small_segments() };
        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, _) = world.open(config.clone()).await;
        for number in 0..100 {
            world.clock.now_us.set(number * 1_000_000);
            produce(&partition, &Batch::anonymous(1, vec![1; 6000])).await;
        }
        assert!(partition.apply_retention(100_000_000).await.unwrap() > 300 << 10);
        let start = partition.watermarks().log_start_offset;
        assert!(50 < start && partition.status().size_bytes <= (200 + 80) << 10);
        assert!(matches!(partition.read(start - 1, 1).await, Err(ReadError::OutOfRange { .. })));
        let timed = partition.offset_for_time(90_000_000).await.unwrap();
        assert_eq!((timed.offset, timed.append_time_us), (90, Some(90_000_000)));
        assert_eq!(partition.offset_for_time(99_000_001).await.unwrap().offset, 100);
        assert_eq!(partition.offset_for_last(3), 97);

        partition.set_config(levada_storage::PartitionConfig { retention_age_us: Some(10_000_000), ..config.clone() });
        partition.apply_retention(200_000_000).await.unwrap();
        partition.apply_retention(200_000_000).await.unwrap();
        assert_eq!(partition.watermarks().log_start_offset, 100);

        let world = World::on(Rc::new(disk.crash_now(0))).await;
        let (partition, report) = world.open(config).await;
        assert_eq!(report.defects, []);
        assert_eq!(partition.watermarks().log_start_offset, 100);
        assert_eq!(produce(&partition, &Batch::anonymous(1, *b"next")).await.base_offset, 100);
    });
}

#[test]
fn purge_deletes_everything_and_offsets_go_on() {
    run(async {
        let world = World::on(Rc::new(crash_disk(8))).await;
        let (partition, _) = world.open(memory_topic()).await;
        for _ in 0..5 {
            produce(&partition, &Batch::anonymous(3, *b"abc")).await;
        }
        assert_eq!(partition.delete_before(u64::MAX).await.unwrap(), 15);
        assert_eq!(partition.watermarks().visible_end_offset, 15);
        assert_eq!(produce(&partition, &Batch::anonymous(1, *b"d")).await.base_offset, 15);
        assert_eq!(read_all(&partition, 15).await.unwrap().len(), 1);
    });
}

#[test]
fn what_no_reader_would_take_for_a_batch_is_refused() {
    run(async {
        let world = World::on(Rc::new(crash_disk(3))).await;
        let (partition, _) = world.open(PartitionConfig::default()).await;
        let empty = partition.append(Batch::anonymous(1, Vec::new()).encode(), Durability::Disk);
        assert_eq!(empty, Err(AppendError::Malformed("body length")));
        // Both parts and the body are 16 MiB at most, although the configuration allows a little more.
        let longest = (16 << 20) - 104;
        let over = partition.append(Batch::anonymous(1, vec![1; longest + 1]).encode(), Durability::Disk);
        assert_eq!(over, Err(AppendError::TooLarge { limit_bytes: (16 << 20) - 32 }));
        produce(&partition, &Batch::anonymous(1, vec![1; longest])).await;
        assert_eq!(read_all(&partition, 0).await.unwrap().len(), 1);
    });
}
