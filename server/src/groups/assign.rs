//! How partitions are shared out among the members of a group: three strategies, pure and deterministic. They know numbers
//! of members and partitions, nothing of connections, time or offsets.
//!
//! Every partition goes to exactly one member that reads its topic, or to none if nobody does. Members that read the same
//! topics hold as many partitions as each other, give or take one (`range`: per topic).

use std::collections::{BTreeMap, BTreeSet};

/// A partition: id of its topic, number.
pub type Key = (u32, u32);

/// How partitions are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Moves as few as it can.
    #[default]
    Sticky,
    /// Neighbours of a topic go to one member.
    Range,
    /// Dealt out one by one.
    RoundRobin,
}

/// A topic and who reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadTopic {
    /// Its id.
    pub topic_id: u32,
    /// Its partitions.
    pub partition_count: u32,
    /// Members that read it, ascending.
    pub readers: Vec<usize>,
}

/// The member of every partition that has a reader. `held` is what members have now; only `sticky` looks at it.
#[must_use]
pub fn assign(
    strategy: Strategy,
    member_count: usize,
    topics: &[ReadTopic],
    held: &BTreeMap<Key, usize>,
) -> BTreeMap<Key, usize> {
    match strategy {
        Strategy::Sticky => Sticky::new(member_count, topics, held).balance(),
        Strategy::Range => range(topics),
        Strategy::RoundRobin => round_robin(member_count, topics),
    }
}

fn range(topics: &[ReadTopic]) -> BTreeMap<Key, usize> {
    let mut shares = BTreeMap::new();
    for topic in topics.iter().filter(|topic| !topic.readers.is_empty()) {
        let readers = topic.readers.len() as u64;
        for partition in 0..topic.partition_count {
            // The first `count % readers` members get one more.
            let (count, at) = (u64::from(topic.partition_count), u64::from(partition));
            let (share, more) = (count / readers, count % readers);
            let larger = more * (share + 1);
            let reader = if at < larger { at / (share + 1) } else { more + (at - larger) / share.max(1) };
            let reader = usize::try_from(reader).expect("an index of `readers`");
            shares.insert((topic.topic_id, partition), topic.readers[reader]);
        }
    }
    shares
}

fn round_robin(member_count: usize, topics: &[ReadTopic]) -> BTreeMap<Key, usize> {
    let mut shares = BTreeMap::new();
    let mut turn = 0;
    for topic in topics.iter().filter(|topic| !topic.readers.is_empty()) {
        for partition in 0..topic.partition_count {
            // The next one in the circle that reads the topic.
            let next = topic.readers.partition_point(|reader| *reader < turn) % topic.readers.len();
            let member = topic.readers[next];
            shares.insert((topic.topic_id, partition), member);
            turn = (member + 1) % member_count.max(1);
        }
    }
    shares
}

/// Partitions of topics that the same members read: within a class any of its members may hold any partition.
struct Class<'a> {
    readers: &'a [usize],
    /// What each reader holds of the class.
    holdings: BTreeMap<usize, BTreeSet<Key>>,
    vacant: Vec<Key>,
}

struct Sticky<'a> {
    loads: Vec<usize>,
    classes: Vec<Class<'a>>,
}

impl<'a> Sticky<'a> {
    /// Everybody keeps what they may keep.
    fn new(member_count: usize, topics: &'a [ReadTopic], held: &BTreeMap<Key, usize>) -> Self {
        let mut classes: BTreeMap<&[usize], Class<'a>> = BTreeMap::new();
        let mut loads = vec![0; member_count];
        for topic in topics.iter().filter(|topic| !topic.readers.is_empty()) {
            let class = classes.entry(&topic.readers).or_insert_with(|| Class {
                readers: &topic.readers,
                holdings: BTreeMap::new(),
                vacant: Vec::new(),
            });
            for partition in 0..topic.partition_count {
                let key = (topic.topic_id, partition);
                match held.get(&key).filter(|member| class.readers.binary_search(member).is_ok()) {
                    Some(member) => {
                        class.holdings.entry(*member).or_default().insert(key);
                        loads[*member] += 1;
                    }
                    None => class.vacant.push(key),
                }
            }
        }
        Self { loads, classes: classes.into_values().collect() }
    }

    /// What is vacant goes to those who have least; then single partitions move from who has most to who has least, for as
    /// long as that makes a difference of two smaller.
    fn balance(mut self) -> BTreeMap<Key, usize> {
        for class in &mut self.classes {
            for key in std::mem::take(&mut class.vacant) {
                let member = least(class.readers, &self.loads);
                class.holdings.entry(member).or_default().insert(key);
                self.loads[member] += 1;
            }
        }
        while let Some((class, from, to)) = self.best_move() {
            let holdings = &mut self.classes[class].holdings;
            let key = holdings.get_mut(&from).and_then(BTreeSet::pop_last).expect("best_move found it there");
            holdings.entry(to).or_default().insert(key);
            self.loads[from] -= 1;
            self.loads[to] += 1;
        }
        let mut shares = BTreeMap::new();
        for class in self.classes {
            for (member, keys) in class.holdings {
                shares.extend(keys.into_iter().map(|key| (key, member)));
            }
        }
        shares
    }

    /// The move that evens out most: class, from, to.
    fn best_move(&self) -> Option<(usize, usize, usize)> {
        let mut best = None;
        for (index, class) in self.classes.iter().enumerate() {
            let to = least(class.readers, &self.loads);
            let holders = class.holdings.iter().filter(|(_, keys)| !keys.is_empty());
            let Some(from) = holders.map(|(member, _)| *member).max_by_key(|member| self.loads[*member]) else {
                continue;
            };
            let gap = self.loads[from].saturating_sub(self.loads[to]);
            if 2 <= gap && best.is_none_or(|(_, _, _, widest)| widest < gap) {
                best = Some((index, from, to, gap));
            }
        }
        best.map(|(class, from, to, _)| (class, from, to))
    }
}

fn least(readers: &[usize], loads: &[usize]) -> usize {
    let least = readers.iter().copied().min_by_key(|reader| loads[*reader]);
    least.expect("a class has readers")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy as _, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const STRATEGIES: [Strategy; 3] = [Strategy::Sticky, Strategy::Range, Strategy::RoundRobin];

    fn topics() -> impl proptest::prelude::Strategy<Value = (usize, Vec<ReadTopic>)> {
        (1_usize..8).prop_flat_map(|member_count| {
            let topic = (1_u32..12, prop::collection::btree_set(0..member_count, 0..=member_count));
            prop::collection::vec(topic, 0..6).prop_map(move |topics| {
                let numbered = (1..).zip(topics).map(|(topic_id, (partition_count, readers))| ReadTopic {
                    topic_id,
                    partition_count,
                    readers: readers.into_iter().collect(),
                });
                (member_count, numbered.collect())
            })
        })
    }

    fn everybody_reads(member_count: usize, partition_counts: &[u32]) -> Vec<ReadTopic> {
        let topic = |(topic_id, partition_count): (u32, &u32)| ReadTopic {
            topic_id,
            partition_count: *partition_count,
            readers: (0..member_count).collect(),
        };
        (1..).zip(partition_counts).map(topic).collect()
    }

    fn loads(member_count: usize, shares: &BTreeMap<Key, usize>) -> Vec<usize> {
        (0..member_count).map(|member| shares.values().filter(|holder| **holder == member).count()).collect()
    }

    fn is_even(loads: &[usize]) -> bool {
        let (least, most) = (loads.iter().min(), loads.iter().max());
        most.copied().unwrap_or(0) <= least.copied().unwrap_or(0) + 1
    }

    proptest! {
        #[test]
        fn every_partition_has_one_member_that_reads_its_topic(
            (member_count, topics) in topics(),
            held in prop::collection::btree_map((1_u32..7, 0_u32..12), 0_usize..9, 0..40),
        ) {
            for strategy in STRATEGIES {
                let shares = assign(strategy, member_count, &topics, &held);
                let read = topics.iter().filter(|topic| !topic.readers.is_empty());
                prop_assert_eq!(shares.len(), read.map(|topic| topic.partition_count as usize).sum::<usize>());
                for topic in topics.iter().filter(|topic| !topic.readers.is_empty()) {
                    for partition in 0..topic.partition_count {
                        prop_assert!(topic.readers.contains(&shares[&(topic.topic_id, partition)]));
                    }
                }
            }
        }

        #[test]
        fn sticky_leaves_nobody_who_could_take_one_from_somebody_with_two_more(
            (member_count, topics) in topics(),
            held in prop::collection::btree_map((1_u32..7, 0_u32..12), 0_usize..8, 0..40),
        ) {
            let shares = assign(Strategy::Sticky, member_count, &topics, &held);
            let loads = loads(member_count, &shares);
            for topic in &topics {
                for partition in 0..topic.partition_count {
                    let Some(holder) = shares.get(&(topic.topic_id, partition)) else { continue };
                    for reader in &topic.readers {
                        prop_assert!(loads[*holder] <= loads[*reader] + 1);
                    }
                }
            }
        }

        #[test]
        fn members_that_read_the_same_hold_as_much_give_or_take_one(
            member_count in 1_usize..20,
            partition_counts in prop::collection::vec(1_u32..30, 1..5),
            held in prop::collection::btree_map((1_u32..6, 0_u32..30), 0_usize..20, 0..60),
        ) {
            let topics = everybody_reads(member_count, &partition_counts);
            for strategy in [Strategy::Sticky, Strategy::RoundRobin] {
                let shares = assign(strategy, member_count, &topics, &held);
                prop_assert!(is_even(&loads(member_count, &shares)));
            }
            let shares = assign(Strategy::Range, member_count, &topics, &held);
            for topic in &topics {
                let own = shares.iter().filter(|(key, _)| key.0 == topic.topic_id);
                let own: BTreeMap<_, _> = own.map(|(key, member)| (*key, *member)).collect();
                prop_assert!(is_even(&loads(member_count, &own)));
                prop_assert!(own.values().is_sorted());
            }
        }

        #[test]
        fn sticky_moves_the_fewest(
            member_count in 1_usize..10,
            partition_count in 1_u32..40,
            held in prop::collection::btree_map((Just(1_u32), 0_u32..40), 0_usize..12, 0..40),
        ) {
            let topics = everybody_reads(member_count, &[partition_count]);
            let shares = assign(Strategy::Sticky, member_count, &topics, &held);
            let stayed = shares.iter().filter(|(key, member)| held.get(key) == Some(member)).count();
            // The best there is: those who have most keep one more, as many as the remainder allows.
            let mut before = vec![0; member_count];
            for (key, member) in &held {
                if key.1 < partition_count && *member < member_count {
                    before[*member] += 1;
                }
            }
            before.sort_unstable_by(|a, b| b.cmp(a));
            let (share, more) = (partition_count as usize / member_count, partition_count as usize % member_count);
            let best: usize = (0..).zip(&before).map(|(rank, had): (usize, &usize)| {
                (*had).min(share + usize::from(rank < more))
            }).sum();
            prop_assert_eq!(stayed, best);
        }
    }

    #[test]
    fn range_gives_neighbours_and_round_robin_deals() {
        let topics = everybody_reads(2, &[5]);
        let of = |strategy| assign(strategy, 2, &topics, &BTreeMap::new()).into_values().collect::<Vec<_>>();
        assert_eq!(of(Strategy::Range), [0, 0, 0, 1, 1]);
        assert_eq!(of(Strategy::RoundRobin), [0, 1, 0, 1, 0]);
    }
}
