//! A partition's promises, one scenario each.

use std::rc::Rc;

use crate::vocabulary::*;
use levada_storage::disk::Disk;
use levada_storage::{AppendError, Durability, ReadError};

#[test]
fn what_was_appended_is_read_back_in_order_now_and_after_a_clean_close() {
    run(async {
        let disk = crash_disk(1);
        let world = World::on(Rc::new(disk.clone())).await;
        let (partition, report) = world.open(small_segments()).await;
        assert!(report.clean);
        assert!(disk.list(&dir()).await.is_err(), "nothing is created before the first append");
        let batches: Vec<Batch> =
            (0..40_u32).map(|n| Batch::anonymous(n % 5 + 1, vec![n as u8; n as usize * 200])).collect();
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
