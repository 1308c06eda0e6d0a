//! T02: any sequence of operations gives what a list gives.

use std::rc::Rc;

use levada_storage::{Durability, ReadError};
use proptest::prelude::*;

use crate::vocabulary::*;

#[derive(Clone, Debug)]
enum Operation {
    Append { count: u32, bytes: usize, wait: bool },
    Read { at: u64, max_bytes: usize },
    Delete { at: u64 },
    Flush,
    Idle,
    Close,
    Crash { seed: u64 },
}

fn operation() -> impl Strategy<Value = Operation> {
    let size = prop_oneof![4 => 1..2000_usize, 2 => 3800..4200_usize, 1 => 10_000..90_000_usize];
    prop_oneof![
        8 => (1..5_u32, size, any::<bool>()).prop_map(|(count, bytes, wait)| Operation::Append { count, bytes, wait }),
        4 => (any::<u64>(), 1..200_000_usize).prop_map(|(at, max_bytes)| Operation::Read { at, max_bytes }),
        1 => any::<u64>().prop_map(|at| Operation::Delete { at }),
        1 => Just(Operation::Flush),
        1 => Just(Operation::Idle),
        1 => Just(Operation::Close),
        1 => any::<u64>().prop_map(|seed| Operation::Crash { seed }),
    ]
}

/// The model: batches with their first offsets, and what is promised of them.
#[derive(Default)]
struct Model {
    batches: Vec<(u64, u32, Vec<u8>)>,
    start: u64,
    end: u64,
    promised: u64,
}

async fn play(operations: Vec<Operation>, seed: u64) {
    let mut disk = crash_disk(seed);
    let mut world = World::on(Rc::new(disk.clone())).await;
    let (mut partition, _) = world.open(small_segments()).await;
    let mut model = Model::default();
    for operation in operations {
        match operation {
            Operation::Append { count, bytes, wait } => {
                let batch = Batch::anonymous(count, vec![model.end as u8; bytes]).encode();
                let append = partition.append(batch.clone(), Durability::Disk).unwrap();
                assert_eq!((append.base_offset, append.last_offset), (model.end, model.end + u64::from(count) - 1));
                model.batches.push((model.end, count, batch.to_vec()));
                model.end += u64::from(count);
                if wait {
                    partition.durable(append.ticket).await.unwrap();
                    model.promised = model.end;
                }
            }
            Operation::Read { at, max_bytes } => read(&partition, &model, at % (model.end + 2), max_bytes).await,
            Operation::Delete { at } => {
                let at = at % (model.end + 1);
                partition.delete_before(at).await.unwrap();
                model.promised = model.end;
                model.start = model.start.max(at);
                assert_eq!(partition.watermarks().log_start_offset, model.start);
            }
            Operation::Flush => {
                partition.flush().await.unwrap();
                model.promised = model.end;
            }
            Operation::Idle => {
                for _ in 0..40 {
                    world.storage.maintain().await;
                }
            }
            Operation::Close => {
                partition.close().await.unwrap();
                world.storage.close().await;
                model.promised = model.end;
                world = World::on(Rc::new(disk.clone())).await;
                let (reopened, report) = world.open(small_segments()).await;
                assert!(report.clean, "{report:?}");
                partition = reopened;
            }
            Operation::Crash { seed } => {
                disk = disk.crash_now(seed);
                world = World::on(Rc::new(disk.clone())).await;
                let (reopened, report) = world.open(small_segments()).await;
                assert_eq!(report.defects, []);
                partition = reopened;
                partition.flush().await.unwrap();
                let marks = partition.watermarks();
                assert!(model.promised <= marks.visible_end_offset && marks.visible_end_offset <= model.end);
                assert_eq!(marks.log_start_offset, model.start);
                model.end = marks.visible_end_offset;
                model.promised = model.end;
                model.batches.retain(|batch| batch.0 < model.end);
            }
        }
        let end = partition.watermarks().appended_end_offset;
        assert_eq!(end, model.end);
    }
    partition.flush().await.unwrap();
    let stored = read_all(&partition, model.start).await.unwrap();
    let expected: Vec<_> = model.batches.iter().filter(|b| model.start < b.0 + u64::from(b.1)).collect();
    assert_eq!(stored.len(), expected.len());
    for (one, batch) in stored.iter().zip(expected) {
        assert!(one.base_offset == batch.0 && one.batch == batch.2, "offset {}", batch.0);
    }
}

async fn read(partition: &levada_storage::Partition, model: &Model, at: u64, max_bytes: usize) {
    let visible = partition.watermarks().visible_end_offset;
    let result = partition.read(at, max_bytes).await;
    if at < model.start || visible < at {
        assert!(matches!(result, Err(ReadError::OutOfRange { .. })), "{at} of {}..{visible}", model.start);
        return;
    }
    let batches = result.unwrap();
    assert_eq!(batches.batch_count == 0, at == visible);
    assert!(batches.batch_count <= 1 || batches.total_bytes <= max_bytes);
    for one in split(&batches.slices) {
        let batch = model.batches.iter().find(|batch| batch.0 == one.base_offset).expect("the model has it");
        assert!(one.batch == batch.2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_list(operations in prop::collection::vec(operation(), 1..60), seed in any::<u64>()) {
        run(play(operations, seed));
    }
}
