//! Opening a partition: recovery of its log, then of what is known beside it, then the record of an unclean open.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use super::state::{PartitionState, StateReplay};
use super::{Loss, OpenReport, Partition};
use crate::accepted;
use crate::config::{Durability, PartitionConfig, PartitionIdentity};
use crate::entry::Kind;
use crate::errors::{OpenError, ReadOnlyReason};
use crate::log::append::NewEntry;
use crate::log::recover::Depth;
use crate::log::{Log, Phase, Policy};
use crate::storage::Storage;
use crate::verify::MISSING_FRONT;

pub(super) fn policy(config: &PartitionConfig) -> Policy {
    Policy {
        lazy: (config.durability == Durability::Memory).then_some(config.flush_interval),
        segment_bytes: config.segment_bytes.max(64 << 10),
        pending_bytes: config.pending_bytes,
        roll_age_us: config.effective_roll_age_us(),
    }
}

impl Partition {
    /// Opens the partition in `dir`, recovering it if the last close was not clean. Creates nothing before the first append.
    ///
    /// # Errors
    /// When the disk refuses or the directory belongs to something else. Damage is not an error: the partition opens
    /// read-only and the report says where.
    pub async fn open(
        storage: &Storage,
        dir: PathBuf,
        identity: PartitionIdentity,
        config: PartitionConfig,
    ) -> Result<(Rc<Self>, OpenReport), OpenError> {
        let mut replay = StateReplay { state: PartitionState::default(), max_producers: config.max_producers };
        let (log, found) = Log::open(&storage.shared, dir, identity, policy(&config), &mut replay, Depth::Tail).await?;
        let mut report = OpenReport {
            clean: found.clean,
            last_durable_index: log.state.borrow().durable.index,
            cut_bytes: found.cut_bytes,
            loss: Loss::No,
            defects: found.defects,
            scanned_bytes: found.scanned_bytes,
        };
        let partition = Self {
            log,
            state: RefCell::new(replay.state),
            config: RefCell::new(config),
            next_watch: Cell::new(0),
            session_noted: Cell::new(false),
        };
        partition.check_start(&mut report).await;
        if !report.defects.is_empty() {
            report.loss = Loss::Yes;
        } else if !found.clean {
            if partition.config.borrow().durability == Durability::Memory {
                report.loss = Loss::Possible;
            }
            partition.note_session();
            partition.log.kick();
        }
        let partition = Rc::new(partition);
        if report.defects.is_empty() {
            partition.remove_dead_segments().await;
        }
        Ok((partition, report))
    }

    /// The first segment kept must hold the log start, and the log must end where its state says.
    async fn check_start(&self, report: &mut OpenReport) {
        self.check_end();
        let first = self.log.state.borrow().segments.front().map(|first| (first.number, first.totals.first_offset));
        let Some((number, first_offset)) = first else { return };
        if first_offset <= self.state.borrow().log_start_offset {
            return;
        }
        let storage = &self.log.storage;
        let accepted = accepted::read(&*storage.disk, &storage.pool, &self.log.dir).await;
        if accepted.is_some_and(|accepted| first_offset <= accepted) && report.defects.is_empty() {
            self.note_log_start(first_offset);
            return self.log.kick();
        }
        let file = self.log.path_of(number);
        let missing = ReadOnlyReason { file, position: 0, what: MISSING_FRONT.to_owned() };
        report.defects.push(missing.clone());
        let mut log = self.log.state.borrow_mut();
        if matches!(log.phase, Phase::Open) {
            log.phase = Phase::ReadOnly(Rc::new(missing));
        }
    }

    fn check_end(&self) {
        let mut log = self.log.state.borrow_mut();
        let mut state = self.state.borrow_mut();
        // Where damage hides the last state, the segments still know how far the offsets went.
        state.end_offset = state.end_offset.max(log.appended.offset);
        log.appended.offset = state.end_offset;
        log.durable.offset = state.end_offset;
        log.term = log.term.max(u64::from(state.epoch()));
    }

    /// Appends the record that this run of the process begins, under a new leader epoch. Offsets that an earlier run gave
    /// out and lost are never given out again under the same epoch.
    pub(super) fn note_session(&self) {
        if self.session_noted.replace(true) {
            return;
        }
        let mut state = self.state.borrow_mut();
        let epoch = state.epoch().saturating_add(1);
        self.log.set_term(u64::from(epoch));
        let record = epoch.to_le_bytes();
        let entry = NewEntry { kind: Kind::Session, flags: 0, parts: [&record, &[]], batch: None };
        let now_us = self.log.storage.clock.now_us();
        let placed = self.log.append(&entry, &|out| state.encode(out), now_us);
        state.start_epoch(epoch);
        drop(state);
        self.log.state.borrow_mut().session_sequence = Some(placed.sequence);
    }
}
