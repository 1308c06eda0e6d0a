//! One simulated file: what readers see, what is certainly on the device, and the effects in between.
//!
//! Effects are kept in the order of their completion and folded into `durable` from the front as they become certain, so
//! an uncertain old write can never overtake a certain newer one. A failed sync forsakes what it covered: no later sync
//! makes that certain, because a kernel that reported the error once has dropped the pages. Knows no names.

use std::rc::Rc;

use bytes::Bytes;

use super::Survival;
use super::content::{Content, SECTOR_BYTES};
use super::random::Random;

#[derive(Clone, Debug)]
pub(super) enum Effect {
    Write { offset: u64, data: Bytes },
    Truncate { len_bytes: u64 },
    Reserve { len_bytes: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Certainty {
    /// A crash may lose it; a sync that starts later makes it certain.
    Open,
    Certain,
    Forsaken,
}

#[derive(Clone, Debug)]
struct Pending {
    number: u64,
    effect: Effect,
    certainty: Certainty,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    live: Rc<Content>,
    durable: Rc<Content>,
    completed: Vec<Pending>,
    in_flight: Vec<(u64, Effect)>,
    next_number: u64,
}

impl FileState {
    pub(super) fn live(&self) -> &Content {
        &self.live
    }

    /// An operation reaches the device; `number` names it until `complete` or `fail`.
    pub(super) fn submit(&mut self, effect: Effect) -> u64 {
        let number = self.take_number();
        self.in_flight.push((number, effect));
        number
    }

    pub(super) fn in_flight(&self, number: u64) -> &Effect {
        let (_, effect) = self.in_flight.iter().find(|(other, _)| *other == number).expect("completed once");
        effect
    }

    /// The operation is done: readers see it, and it is certain if `durable`.
    pub(super) fn complete(&mut self, number: u64, durable: bool) {
        let effect = self.land(number);
        apply(Rc::make_mut(&mut self.live), &effect);
        let certainty = if durable { Certainty::Certain } else { Certainty::Open };
        self.push(effect, certainty);
    }

    /// The operation failed without touching the device.
    pub(super) fn refuse(&mut self, number: u64) {
        self.land(number);
    }

    /// The operation failed half-way: all, none or some of its sectors are visible now, and may or may not be there after
    /// a crash.
    pub(super) fn fail(&mut self, number: u64, random: &mut Random) {
        let mut effect = self.land(number);
        if let Effect::Write { offset, data } = &mut effect {
            let live = Rc::make_mut(&mut self.live);
            match random.below(4) {
                0 => {}
                1 => live.write_sectors(*offset, data, |_| random.coin()),
                _ => live.write_sectors(*offset, data, |_| true),
            }
            live.grow(*offset + data.len() as u64);
            // What is not visible now never will be.
            let mut visible = vec![0; data.len()];
            live.read(*offset, &mut visible);
            *data = visible.into();
        }
        self.push(effect, Certainty::Forsaken);
    }

    /// What a sync that starts now covers.
    pub(super) fn sync_mark(&mut self) -> u64 {
        self.take_number()
    }

    /// A sync returned: everything completed before its start is certain.
    pub(super) fn synced(&mut self, mark: u64) {
        for pending in &mut self.completed {
            if pending.number < mark && pending.certainty == Certainty::Open {
                pending.certainty = Certainty::Certain;
            }
        }
        self.fold();
    }

    /// A sync failed: what it covered will never be certain.
    pub(super) fn sync_failed(&mut self, mark: u64) {
        for pending in &mut self.completed {
            if pending.number < mark && pending.certainty == Certainty::Open {
                pending.certainty = Certainty::Forsaken;
            }
        }
    }

    /// The file after a crash now.
    pub(super) fn after_crash(&self, survival: Survival, random: &mut Random) -> Self {
        let mut content = Rc::clone(&self.durable);
        if !(self.completed.is_empty() && self.in_flight.is_empty()) {
            let content = Rc::make_mut(&mut content);
            for pending in &self.completed {
                match pending.certainty {
                    Certainty::Certain => apply(content, &pending.effect),
                    Certainty::Open | Certainty::Forsaken => apply_some(content, &pending.effect, survival, random),
                }
            }
            for (_, effect) in &self.in_flight {
                apply_some(content, effect, survival, random);
            }
            content.trim();
        }
        Self { live: Rc::clone(&content), durable: content, ..Self::default() }
    }

    /// The file as the next process finds it without a power cut. Nothing is in flight; of what a failed flush covered,
    /// some is still seen and still may be lost, and some has been dropped and is seen no more.
    pub(super) fn after_exit(&self, random: &mut Random) -> Self {
        let mut next = Self { durable: Rc::clone(&self.durable), next_number: self.next_number, ..Self::default() };
        let mut live = Rc::clone(&self.durable);
        let content = Rc::make_mut(&mut live);
        for pending in &self.completed {
            if pending.certainty == Certainty::Forsaken && random.below(4) == 0 {
                continue;
            }
            apply(content, &pending.effect);
            next.completed.push(pending.clone());
        }
        next.live = live;
        next
    }

    /// Damages the file behind everyone's back, on the device and for readers.
    pub(super) fn damage(&mut self, damage: impl Fn(&mut Content)) {
        for pending in std::mem::take(&mut self.completed) {
            apply(Rc::make_mut(&mut self.durable), &pending.effect);
        }
        damage(Rc::make_mut(&mut self.durable));
        damage(Rc::make_mut(&mut self.live));
    }

    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn land(&mut self, number: u64) -> Effect {
        let index = self.in_flight.iter().position(|(other, _)| *other == number).expect("an operation lands once");
        self.in_flight.remove(index).1
    }

    fn push(&mut self, effect: Effect, certainty: Certainty) {
        let number = self.take_number();
        self.completed.push(Pending { number, effect, certainty });
        self.fold();
    }

    fn fold(&mut self) {
        let uncertain = |pending: &Pending| pending.certainty != Certainty::Certain;
        let count = self.completed.iter().position(uncertain).unwrap_or(self.completed.len());
        for pending in self.completed.drain(..count) {
            apply(Rc::make_mut(&mut self.durable), &pending.effect);
        }
    }
}

fn apply(content: &mut Content, effect: &Effect) {
    match effect {
        Effect::Write { offset, data } => content.write(*offset, data),
        Effect::Truncate { len_bytes } => content.set_len(*len_bytes),
        Effect::Reserve { len_bytes } => content.reserve(*len_bytes),
    }
}

/// Applies what `survival` leaves of an uncertain effect.
fn apply_some(content: &mut Content, effect: &Effect, survival: Survival, random: &mut Random) {
    match (survival, effect) {
        (Survival::SyncedOnly, _) => {}
        (Survival::Everything, _) => apply(content, effect),
        (Survival::Random, Effect::Write { offset, data }) => {
            let sectors = data.len() / SECTOR_BYTES;
            match random.below(4) {
                0 => {}
                1 => content.write_sectors(*offset, data, |_| true),
                2 => {
                    let kept = random.below(sectors as u64 + 1);
                    content.write_sectors(*offset, data, |sector| (sector as u64) < kept);
                }
                _ => {
                    let eighths = 1 + 3 * random.below(3);
                    content.write_sectors(*offset, data, |_| random.eighths(eighths));
                }
            }
            // The length is journalled apart from the data: it may survive without it, and the other way round.
            if random.coin() {
                content.grow(offset + data.len() as u64);
            }
        }
        (Survival::Random, _) => {
            if random.coin() {
                apply(content, effect);
            }
        }
    }
}
