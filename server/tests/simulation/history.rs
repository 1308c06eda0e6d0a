//! What the clients saw, and whether a log can have shown it to them. Because the server returns offsets, no search is
//! needed: one pass over the sends and one over the reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use levada::Durability;
use tokio::time::Instant;

/// Longest time before a power cut in which a topic with durability memory may lose what it acknowledged: the flush
/// interval, and what a slow or full disk may add to it.
const LOSS_WINDOW: Duration = Duration::from_secs(3);

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No answer yet, or one that leaves it open.
    Unknown,
    /// Acknowledged with this offset (absent: appended earlier, too long ago to tell) at this moment.
    Acked { offset: Option<u64>, at: u64, time: Instant },
    /// Definitely not appended.
    Failed,
}

#[derive(Clone, Debug)]
pub(crate) struct Send {
    /// The life of a producer: within one, order is promised.
    pub(crate) session: u64,
    pub(crate) partition: u32,
    pub(crate) value: String,
    pub(crate) invoked_at: u64,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(crate) struct Read {
    /// The life of a consumer.
    pub(crate) session: u64,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) value: String,
    at: u64,
}

/// Sends and reads in the order in which the clients saw them.
#[derive(Debug, Default)]
pub(crate) struct History {
    moment: u64,
    pub(crate) sends: Vec<Send>,
    pub(crate) reads: Vec<Read>,
    /// Power cuts.
    crashes: Vec<(u64, Instant)>,
    /// Things that must not happen, noticed while they did.
    pub(crate) noticed: Vec<String>,
}

impl History {
    fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// A message is handed over; returns its number.
    pub(crate) fn invoke(&mut self, session: u64, partition: u32, value: String) -> usize {
        let invoked_at = self.tick();
        self.sends.push(Send { session, partition, value, invoked_at, outcome: Outcome::Unknown });
        self.sends.len() - 1
    }

    /// It is handed over once more, in no order with others.
    pub(crate) fn again(&mut self, send: usize, session: u64) {
        self.sends[send].session = session;
        self.sends[send].outcome = Outcome::Unknown;
    }

    pub(crate) fn acked(&mut self, send: usize, partition: u32, offset: Option<u64>) {
        let at = self.tick();
        if self.sends[send].partition != partition {
            self.noticed.push(format!("{} went to partition {partition}", self.sends[send].value));
        }
        self.sends[send].outcome = Outcome::Acked { offset, at, time: Instant::now() };
    }

    pub(crate) fn crashed(&mut self) {
        let at = self.tick();
        self.crashes.push((at, Instant::now()));
    }

    pub(crate) fn failed(&mut self, send: usize) {
        self.sends[send].outcome = Outcome::Failed;
    }

    pub(crate) fn read(&mut self, session: u64, partition: u32, offset: u64, value: String) {
        let at = self.tick();
        self.reads.push(Read { session, partition, offset, value, at });
    }

    pub(crate) fn acked_count(&self) -> usize {
        self.sends.iter().filter(|send| matches!(send.outcome, Outcome::Acked { .. })).count()
    }
}

/// The whole log as read after everything: per partition, values by offset from 0 on.
pub(crate) type FinalLog = BTreeMap<u32, Vec<(u64, String)>>;

/// Every rule of the durability that the history breaks.
pub(crate) fn check(history: &History, log: &FinalLog, durability: Durability) -> Vec<String> {
    let mut broken = history.noticed.clone();
    let places = places(log, &mut broken);
    check_sends(history, &places, &mut broken);
    check_real_time(history, &places, &mut broken);
    check_producer_order(history, &places, &mut broken);
    if durability == Durability::Memory {
        check_losses(history, &places, &mut broken);
        check_reads_of_memory(history, &places, &mut broken);
    } else {
        check_nothing_lost(history, &places, &mut broken);
        check_reads(history, log, &mut broken);
    }
    let sent: BTreeSet<&str> = history.sends.iter().map(|send| send.value.as_str()).collect();
    let seen = places.keys().copied().chain(history.reads.iter().map(|read| read.value.as_str()));
    for value in seen.filter(|value| !sent.contains(value)).collect::<BTreeSet<_>>() {
        broken.push(format!("{value} is in the log and was never sent"));
    }
    broken
}

type Places<'a> = BTreeMap<&'a str, (u32, u64)>;

/// Where each value is; offsets are dense and no value is there twice.
fn places<'a>(log: &'a FinalLog, broken: &mut Vec<String>) -> Places<'a> {
    let mut places = Places::new();
    for (partition, entries) in log {
        for (expected, (offset, value)) in (0u64..).zip(entries) {
            if *offset != expected {
                broken.push(format!("partition {partition}: offset {offset} where {expected} is due"));
            }
            if let Some(first) = places.insert(value, (*partition, *offset)) {
                broken.push(format!("{value} is in the log twice: at {first:?} and {:?}", (partition, offset)));
            }
        }
    }
    places
}

/// Acknowledged where the receipt says, failed never.
fn check_sends(history: &History, places: &Places<'_>, broken: &mut Vec<String>) {
    for send in &history.sends {
        let found = places.get(send.value.as_str());
        match (send.outcome, found) {
            (Outcome::Acked { offset: Some(offset), .. }, Some(place)) if *place != (send.partition, offset) => {
                let receipt = (send.partition, offset);
                broken.push(format!("{} is at {place:?}, its receipt says {receipt:?}", send.value));
            }
            (Outcome::Failed, Some(place)) => {
                broken.push(format!("{} failed for certain and is at {place:?}", send.value));
            }
            _ => {}
        }
    }
}

/// On disk means there whatever happens.
fn check_nothing_lost(history: &History, places: &Places<'_>, broken: &mut Vec<String>) {
    for send in &history.sends {
        if matches!(send.outcome, Outcome::Acked { .. }) && !places.contains_key(send.value.as_str()) {
            broken.push(format!("{} was acknowledged and is lost", send.value));
        }
    }
}

/// In memory means that only a power cut soon after loses it, and that of what one life of the server acknowledged an end
/// is lost, never a part with something behind it kept.
fn check_losses(history: &History, places: &Places<'_>, broken: &mut Vec<String>) {
    // By life, partition and offset: what was acknowledged, and whether it is kept.
    let mut acknowledged: BTreeMap<(usize, u32, u64), (&str, bool)> = BTreeMap::new();
    for send in &history.sends {
        let Outcome::Acked { offset, at, time } = send.outcome else { continue };
        let is_kept = places.contains_key(send.value.as_str());
        let life = history.crashes.iter().filter(|(moment, _)| *moment < at).count();
        // At the very moment of a power cut, who noted what first says nothing.
        let mut cuts = history.crashes.iter().filter(|(_, cut)| time <= *cut);
        let is_excused = cuts.any(|(_, cut)| cut.duration_since(time) <= LOSS_WINDOW);
        let is_clear = history.crashes.iter().all(|(_, cut)| *cut != time);
        if !is_kept && !is_excused {
            broken.push(format!("{} was acknowledged long before a power cut and is lost", send.value));
        }
        if let Some(offset) = offset.filter(|_| is_clear) {
            acknowledged.insert((life, send.partition, offset), (&send.value, is_kept));
        }
    }
    let mut lost: Option<(usize, u32, &str)> = None;
    for ((life, partition, _), (value, is_kept)) in acknowledged {
        lost = lost.filter(|lost| (lost.0, lost.1) == (life, partition));
        match lost {
            Some((.., lost)) if is_kept => broken.push(format!("{lost} is lost and {value} behind it is kept")),
            None if !is_kept => lost = Some((life, partition, value)),
            _ => {}
        }
    }
}

/// What was acknowledged before another send began has the lower offset.
fn check_real_time(history: &History, places: &Places<'_>, broken: &mut Vec<String>) {
    let mut moments: Vec<(u64, bool, usize)> = Vec::new();
    for (number, send) in history.sends.iter().enumerate() {
        moments.push((send.invoked_at, true, number));
        if let Outcome::Acked { at, .. } = send.outcome {
            moments.push((at, false, number));
        }
    }
    moments.sort_unstable();
    let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
    for (_, is_invocation, number) in moments {
        let send = &history.sends[number];
        let Some((partition, offset)) = places.get(send.value.as_str()) else { continue };
        let acked = highest.get(partition);
        if is_invocation {
            if acked.is_some_and(|acked| offset <= acked) {
                broken.push(format!("{} at {offset} was sent after an acknowledgement of {acked:?}", send.value));
            }
        } else if acked.is_none_or(|acked| acked < offset) {
            highest.insert(*partition, *offset);
        }
    }
}

/// What one producer sent to one partition is in the order of sending.
fn check_producer_order(history: &History, places: &Places<'_>, broken: &mut Vec<String>) {
    let mut newest: BTreeMap<(u64, u32), (u64, &str)> = BTreeMap::new();
    for send in &history.sends {
        let Some((partition, offset)) = places.get(send.value.as_str()) else { continue };
        let earlier = newest.insert((send.session, *partition), (*offset, &send.value));
        if let Some((earlier, value)) = earlier.filter(|(earlier, _)| offset <= earlier) {
            broken.push(format!("{} at {offset} was sent after {value} at {earlier}", send.value));
        }
    }
}

/// A read shows what is in the log in the end, and each consumer sees a contiguous, growing range.
fn check_reads(history: &History, log: &FinalLog, broken: &mut Vec<String>) {
    let mut next: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    for read in &history.reads {
        let entries = log.get(&read.partition);
        let index = usize::try_from(read.offset).unwrap_or(usize::MAX);
        let found = entries.and_then(|entries| entries.get(index)).map(|(_, value)| value);
        if found != Some(&read.value) {
            broken.push(format!("{}@{} was read and {found:?} is there", read.value, read.offset));
        }
        if let Some(expected) = next.insert((read.session, read.partition), read.offset + 1)
            && expected != read.offset
        {
            broken.push(format!("consumer {} read {} where {expected} was due", read.session, read.offset));
        }
    }
}

/// Each consumer sees a contiguous, growing range of one log: behind something that was lost it reads nothing that was
/// kept, because it is told of the loss before. Kept for certain is what was first sent after the power cut: what is sent
/// again may by chance have the place it had.
fn check_reads_of_memory(history: &History, places: &Places<'_>, broken: &mut Vec<String>) {
    let mut last: BTreeMap<(u64, u32), &Read> = BTreeMap::new();
    let mut lost: BTreeMap<(u64, u32), &Read> = BTreeMap::new();
    let invoked: BTreeMap<&str, u64> =
        history.sends.iter().map(|send| (send.value.as_str(), send.invoked_at)).collect();
    let is_since = |value: &str, lost: &Read| {
        let invoked_at = invoked.get(value).copied().unwrap_or_default();
        history.crashes.iter().any(|(cut_at, _)| lost.at < *cut_at && *cut_at < invoked_at)
    };
    let failed = history.sends.iter().filter(|send| send.outcome == Outcome::Failed);
    let failed: BTreeSet<&str> = failed.map(|send| send.value.as_str()).collect();
    for read in &history.reads {
        let Read { session, partition, offset, value, .. } = read;
        if failed.contains(value.as_str()) {
            broken.push(format!("{value} failed for certain and was read at {offset}"));
        }
        if let Some(earlier) = last.insert((*session, *partition), read).filter(|last| last.offset + 1 != *offset) {
            broken.push(format!("consumer {session} read {offset} after {}", earlier.offset));
        }
        match (places.get(value.as_str()), lost.get(&(*session, *partition))) {
            (Some(place), Some(lost)) if *place == (*partition, *offset) && is_since(value, lost) => {
                broken.push(format!("consumer {session} read {value} behind {}, which is lost", lost.value));
            }
            (Some(place), None) if *place == (*partition, *offset) => {}
            // Lost, and perhaps appended again: what is read in memory need not be acknowledged yet.
            _ => {
                lost.entry((*session, *partition)).or_insert(read);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(values: &[&str]) -> FinalLog {
        let entries = (0u64..).zip(values).map(|(offset, value)| (offset, (*value).to_owned())).collect();
        FinalLog::from([(0, entries)])
    }

    /// Two messages acknowledged one after the other, and one whose fate is open.
    fn history() -> History {
        let mut history = History::default();
        let one = history.invoke(1, 0, "a".into());
        history.acked(one, 0, Some(0));
        let two = history.invoke(1, 0, "b".into());
        history.acked(two, 0, Some(1));
        history.invoke(1, 0, "c".into());
        history
    }

    #[test]
    fn a_right_history_passes_with_or_without_what_is_unknown() {
        for durability in [Durability::Disk, Durability::Memory] {
            assert_eq!(check(&history(), &log(&["a", "b"]), durability), Vec::<String>::new());
            assert_eq!(check(&history(), &log(&["a", "b", "c"]), durability), Vec::<String>::new());
        }
    }

    #[test]
    fn every_broken_rule_is_found() {
        let broken = |change: fn(&mut History), values: &[&str], word: &str| {
            let mut history = history();
            change(&mut history);
            let found = check(&history, &log(values), Durability::Disk);
            assert!(found.iter().any(|text| text.contains(word)), "{word}: {found:?}");
        };
        broken(|_| {}, &["a"], "b was acknowledged and is lost");
        broken(|_| {}, &["a", "b", "a"], "twice");
        broken(|_| {}, &["b", "a"], "its receipt says");
        broken(|_| {}, &["b", "a"], "after an acknowledgement");
        broken(|_| {}, &["a", "b", "x"], "never sent");
        broken(|history| history.failed(2), &["a", "b", "c"], "failed for certain");
        broken(|history| history.acked(2, 1, Some(0)), &["a", "b", "c"], "went to partition 1");
        broken(|history| history.sends.swap(0, 1), &["a", "b"], "was sent after b");
        broken(|history| history.read(1, 0, 2, "c".into()), &["a", "b"], "was read and None is there");
        broken(|history| history.read(1, 0, 1, "a".into()), &["a", "b"], "was read and Some");
        broken(
            |history| {
                history.read(1, 0, 0, "a".into());
                history.read(1, 0, 0, "a".into());
            },
            &["a", "b"],
            "where 1 was due",
        );
        let gap = FinalLog::from([(0, vec![(0, "a".to_owned()), (2, "b".to_owned())])]);
        assert!(check(&history(), &gap, Durability::Disk).iter().any(|text| text.contains("where 1 is due")));
    }

    #[test]
    fn memory_may_lose_an_end_by_a_power_cut_and_nothing_else() {
        let found = |change: fn(&mut History), values: &[&str]| {
            let mut history = history();
            change(&mut history);
            check(&history, &log(values), Durability::Memory)
        };
        assert_eq!(found(History::crashed, &["a"]), Vec::<String>::new());
        let read_lost = |history: &mut History| {
            history.read(1, 0, 0, "a".into());
            history.read(1, 0, 1, "b".into());
            history.crashed();
            history.invoke(2, 0, "d".into());
        };
        assert_eq!(found(read_lost, &["a", "d"]), Vec::<String>::new());
        let sent_again = |history: &mut History| {
            history.read(1, 0, 2, "c".into());
            history.crashed();
        };
        assert_eq!(found(sent_again, &["a", "c"]), Vec::<String>::new());
        let by_chance = |history: &mut History| {
            history.read(1, 0, 1, "b".into());
            history.read(1, 0, 2, "c".into());
            history.crashed();
            history.invoke(2, 0, "d".into());
        };
        assert_eq!(found(by_chance, &["a", "d", "c"]), Vec::<String>::new(), "c was sent again, to where it had been");
        let broken = |change: fn(&mut History), values: &[&str], word: &str| {
            let found = found(change, values);
            assert!(found.iter().any(|text| text.contains(word)), "{word}: {found:?}");
        };
        broken(|_| {}, &["a"], "b was acknowledged long before");
        broken(History::crashed, &["b"], "a is lost and b behind it is kept");
        broken(|history| history.read(1, 0, 2, "x".into()), &["a", "b"], "x is in the log and was never sent");
        let silently = |history: &mut History| {
            history.read(1, 0, 1, "b".into());
            history.crashed();
            history.invoke(2, 0, "d".into());
            history.invoke(2, 0, "e".into());
            history.read(1, 0, 2, "e".into());
        };
        broken(silently, &["a", "d", "e"], "read e behind b, which is lost");
        let skipping = |history: &mut History| {
            history.read(1, 0, 0, "a".into());
            history.read(1, 0, 2, "c".into());
        };
        broken(skipping, &["a", "b", "c"], "read 2 after 0");
        let failed = |history: &mut History| {
            history.failed(2);
            history.read(1, 0, 2, "c".into());
        };
        broken(failed, &["a", "b"], "c failed for certain and was read");
    }
}
