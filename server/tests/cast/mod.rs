//! A group of eight members of the real client library under hundreds of changes: they join, leave, pause, lose their
//! connection, crash, and others take their place, while messages come, topics grow, and commits of old generations are put
//! on their connections. A ledger of all frames judges: each partition has one owner in a generation, stale commits are
//! fenced, offsets never go back, and each message is handed out at least once.
//!
//! Where the server is, and what time is, is the caller's: real processes and sockets, or a simulation.

pub(crate) mod ledger;
mod player;
mod tap;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use levada::{
    Client, ClientOptions, Connector, ConsumerOptions, ErrorCode, Message, PartitionOffset, Position, Producer,
    ProducerOptions, StoredOffset, topic_options,
};
use tokio::task::JoinSet;

use self::ledger::Key;
pub(crate) use self::ledger::Ledger;
use self::player::{Exit, Player};
use self::tap::Tap;
use crate::random::Seeded;

pub(crate) const GROUP: &str = "cast";
const TOPICS: [&str; 1] = ["play/*"];
const TRAGEDY: (&str, u32) = ("play/tragedy", 6);
const COMEDY: (&str, u32) = ("play/comedy", 4);
/// How far a topic grows.
const MOST_PARTITIONS: u32 = 10;

/// How much happens, and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Members at most.
    pub(crate) members: usize,
    /// Changes of the group.
    pub(crate) changes: usize,
    pub(crate) session: Duration,
    pub(crate) release: Duration,
    /// The longest time between two changes.
    pub(crate) beat: Duration,
    /// How long a farewell may take.
    pub(crate) patience: Duration,
    /// In what time all must be handed out, when nothing disturbs any more.
    pub(crate) rest: Duration,
    /// Whether nothing fails but what is failed here: then the last commits are all taken.
    pub(crate) is_undisturbed: bool,
}

/// Makes options for a client whose connections are made by a connector.
pub(crate) type Dress = Rc<dyn Fn(Arc<dyn Connector>) -> ClientOptions>;

/// The group, its members and its topics.
pub(crate) struct Cast {
    pace: Pace,
    connector: Arc<dyn Connector>,
    dress: Dress,
    ledger: Arc<Ledger>,
    slots: Vec<Option<Player>>,
    /// Members whose place another has taken, still running.
    former: Vec<Player>,
    partitions: BTreeMap<&'static str, u32>,
    random: Seeded,
}

impl Cast {
    pub(crate) fn new(pace: Pace, connector: Arc<dyn Connector>, dress: Dress, random: Seeded) -> Self {
        let slots = (0..pace.members).map(|_| None).collect();
        let ledger = Arc::new(Ledger::new());
        let partitions = BTreeMap::from([TRAGEDY, COMEDY]);
        Self { pace, connector, dress, ledger, slots, former: Vec::new(), partitions, random }
    }

    pub(crate) fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// Makes the topics and the changes, and lets all come to rest when it is `quiet`. The ledger has what was broken.
    pub(crate) async fn play(mut self, quiet: impl Future<Output = ()>) {
        let client = self.client().await;
        self.set_up(&client).await;
        let producers = [self.producer(&client, TRAGEDY.0).await, self.producer(&client, COMEDY.0).await];
        let mut deliveries = JoinSet::new();
        for _ in 0..self.pace.changes {
            self.change(&client).await;
            for _ in 0..self.random.below(1..3) {
                let (slot, mut random) = (self.slot(), self.random.fork());
                self.on(slot, |player| player.tap.forge(&mut random));
            }
            for _ in 0..self.random.below(2..8) {
                let producer = &producers[usize::from(self.random.one_in(2))];
                let payload = vec![b'x'; usize::try_from(self.random.below(0..400)).unwrap_or(0)];
                let key = format!("{}", self.random.below(0..64));
                if let Ok(delivery) = producer.enqueue(Message::new(payload).key(key)).await {
                    deliveries.spawn_local(delivery);
                }
            }
            let most = self.random.below(1..8);
            // Nobody may be there to take anything.
            let _ = tokio::time::timeout(self.pace.beat, self.ledger.progress(most)).await;
        }
        // What failed may be in the log all the same; it is read like everything else.
        deliveries.join_all().await;
        quiet.await;
        self.come_to_rest(&client).await;
    }

    async fn client(&self) -> Client {
        loop {
            match Client::connect((self.dress)(Arc::clone(&self.connector))).await {
                Ok(client) => return client,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn producer(&self, client: &Client, topic: &str) -> Producer {
        loop {
            match client.producer(topic, ProducerOptions::new()).await {
                Ok(producer) => return producer,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Topics, and a stored offset for each partition: a group that has something stored is never forgotten, so that its
    /// generations go on.
    async fn set_up(&self, client: &Client) {
        for (topic, partition_count) in [TRAGEDY, COMEDY] {
            loop {
                match client.admin().create_topic(topic, topic_options(partition_count)).await {
                    Ok(_) => break,
                    Err(error) if error.is(ErrorCode::AlreadyExists) => break,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
            let first = |partition| PartitionOffset { topic: topic.to_owned(), partition, offset: 0 };
            let all: Vec<_> = (0..partition_count).map(first).collect();
            loop {
                let options = ConsumerOptions::new(topic).from(Position::EARLIEST).group(GROUP);
                if let Ok(reader) = client.consumer(options).await
                    && reader.commit_offsets(&all).await.is_ok()
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn slot(&mut self) -> usize {
        usize::try_from(self.random.below(0..self.slots.len() as u64)).unwrap_or(0)
    }

    /// A third of the members are static.
    fn is_static(&self, slot: usize) -> bool {
        slot < self.pace.members / 3
    }

    fn start(&mut self, slot: usize) {
        let tap = Tap::new(Arc::clone(&self.ledger), Arc::clone(&self.connector));
        let options = (self.dress)(Arc::clone(&tap) as Arc<dyn Connector>);
        let instance = self.is_static(slot).then(|| format!("actor-{slot}"));
        let player = Player::start(&self.ledger, tap, options, instance, self.pace, &mut self.random);
        if let Some(former) = self.slots[slot].replace(player) {
            self.former.push(former);
        }
    }

    /// One change of the group.
    async fn change(&mut self, client: &Client) {
        let slot = self.slot();
        let kind = self.random.below(0..24);
        match (self.slots[slot].take_if(|player| player.is_over()), kind) {
            (Some(over), _) => over.end(Exit::Leave).await,
            (None, _) if self.slots[slot].is_none() => self.start(slot),
            (None, 0..=3) => self.end(slot, Exit::Leave).await,
            (None, 4..=7) => self.end(slot, Exit::Vanish).await,
            (None, 8..=11) => self.on(slot, |player| player.tap.cut()),
            (None, 12 | 13) => self.on(slot, |player| player.tap.hold(true, false)),
            (None, 14 | 15) => self.on(slot, |player| player.tap.hold(true, true)),
            (None, 16 | 17) => self.on(slot, |player| player.be_lazy(true)),
            (None, 18 | 19) if self.is_static(slot) => self.start(slot),
            (None, 20) => self.grow(client).await,
            (None, _) => self.on(slot, wake),
        }
    }

    fn on(&self, slot: usize, change: impl FnOnce(&Player)) {
        if let Some(player) = &self.slots[slot] {
            change(player);
        }
    }

    async fn end(&mut self, slot: usize, exit: Exit) {
        if let Some(player) = self.slots[slot].take() {
            player.end(exit).await;
        }
    }

    /// A topic gets another partition.
    async fn grow(&mut self, client: &Client) {
        let topic = if self.random.one_in(2) { TRAGEDY.0 } else { COMEDY.0 };
        let partition_count = self.partitions[topic] + 1;
        // What failed may have happened; asked again, it says so.
        if partition_count <= MOST_PARTITIONS
            && client.admin().set_partition_count(topic, partition_count).await.is_ok()
        {
            self.partitions.insert(topic, partition_count);
        }
    }

    /// Nobody disturbs any more: everything is handed out, and committed in the end.
    async fn come_to_rest(&mut self, client: &Client) {
        for former in std::mem::take(&mut self.former) {
            former.end(Exit::Vanish).await;
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_none_or(Player::is_over) {
                self.end(slot, Exit::Leave).await;
                self.start(slot);
            }
            self.on(slot, wake);
        }
        let ends = self.ends(client).await;
        let is_done = async {
            while self.ledger.broken().is_empty() && ends.iter().any(|(key, end)| self.ledger.done(*key) < *end) {
                self.ledger.progress(1).await;
            }
        };
        if tokio::time::timeout(self.pace.rest, is_done).await.is_err() {
            let missing = ends.iter().filter(|(key, end)| self.ledger.done(**key) < **end);
            let missing: Vec<_> = missing.map(|(key, end)| (*key, self.ledger.done(*key), *end)).collect();
            self.ledger.note(format!("handed to nobody (partition, from, to): {missing:?}"));
        }
        for slot in 0..self.slots.len() {
            self.end(slot, Exit::Leave).await;
        }
        check_stored(&self.ledger, client).await;
        let stored = stored(client).await;
        for (key, end) in ends.into_iter().filter(|_| self.pace.is_undisturbed) {
            let stored = stored.get(&key).copied().unwrap_or(0);
            if stored != end {
                self.ledger.note(format!("{key:?}: all left after {end} messages, and {stored} is stored"));
            }
        }
    }

    /// Where each partition ends.
    async fn ends(&self, client: &Client) -> BTreeMap<Key, u64> {
        let mut ends = BTreeMap::new();
        for topic in [TRAGEDY.0, COMEDY.0] {
            let described = loop {
                match client.admin().describe_topic(topic).await {
                    Ok(described) => break described,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            for partition in described.partitions {
                ends.insert((described.topic.topic_id, partition.partition), partition.visible_end_offset);
            }
        }
        ends
    }
}

/// Whether everything is stored that was said to be.
pub(crate) async fn check_stored(ledger: &Ledger, client: &Client) {
    let stored = stored(client).await;
    for (key, committed) in ledger.committed() {
        let stored = stored.get(&key).copied().unwrap_or(0);
        if stored < committed {
            ledger.note(format!("{key:?}: {committed} was committed, and {stored} is stored"));
        }
    }
}

/// What the group has stored.
pub(crate) async fn stored(client: &Client) -> BTreeMap<Key, u64> {
    loop {
        if let (Ok(topics), Ok(stored)) =
            (client.admin().list_topics(None).await, client.admin().group_offsets(GROUP, None).await)
        {
            let id = |one: &StoredOffset| {
                let found = topics.iter().find(|topic| (&topic.stream, &topic.topic) == (&one.stream, &one.topic));
                found.map(|topic| topic.topic_id)
            };
            return stored.iter().filter_map(|one| Some(((id(one)?, one.partition), one.offset))).collect();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn wake(player: &Player) {
    player.tap.hold(false, false);
    player.be_lazy(false);
}
