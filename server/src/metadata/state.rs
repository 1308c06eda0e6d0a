//! The state of metadata and the one function that changes it: `apply(state, event)`, pure and total over possible histories.
//!
//! Invariants: ids only grow and are never reused; names are unique in their scope; a deleted topic stays as a tombstone
//! until its files are gone. An event that breaks one is refused: the log is damaged or the owner has a defect.
//! Entries are shared, so a published snapshot costs a copy of the tables, not of what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::metadata::access::{Grant, Quota, UserAccess};
use crate::metadata::codec::{CodecError, Input, Stored};
use crate::metadata::event::Event;
use crate::metadata::model::{NamedProducer, ProducerEpoch, Stream, Token, Topic, TopicOptions, TopicSupplement, User};

/// Epochs of producers older than this are forgotten: their state in the partitions has expired too.
const PRODUCER_EPOCH_KEPT_US: i64 = 8 * 24 * 3600 * 1_000_000;
/// Version of a snapshot whose users may do what every member could before there were grants: what servers of format level 1
/// read.
const SNAPSHOT_BEFORE_GRANTS: u16 = 1;
/// The same, then what users may do and take.
const SNAPSHOT_WITH_GRANTS: u16 = 2;
/// The same, then named producers and what topics have beside the settings of format level 1.
const SNAPSHOT_LEVEL_2: u16 = 3;
/// Format level from which may be written what servers before it do not read: events of these kinds, coordinator logs of
/// groups, external sequences.
pub const LEVEL_2: u32 = 2;

/// All metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Random identity of the data directory; 0 before it is born.
    pub cluster_id: u128,
    /// This node; 0 before the directory is born.
    pub node_id: u32,
    /// Formats the directory may be written with.
    pub format_level: u32,
    /// Streams by id.
    pub streams: BTreeMap<u32, Arc<Stream>>,
    /// Topics by id.
    pub topics: BTreeMap<u32, Arc<Topic>>,
    /// Users by id.
    pub users: BTreeMap<u32, Arc<User>>,
    /// Tokens by id.
    pub tokens: BTreeMap<u32, Arc<Token>>,
    /// What each user may do beyond what its role says, by user id.
    pub access: BTreeMap<u32, Arc<UserAccess>>,
    /// What named roles allow, by name.
    pub roles: BTreeMap<String, Arc<[Grant]>>,
    /// What tokens with bounds may do at most, by token id.
    pub token_scopes: BTreeMap<u32, Arc<[Grant]>>,
    /// What users may take, by user id; the others are unlimited.
    pub quotas: BTreeMap<u32, Quota>,
    /// Raised by every event after which somebody may do less or more: connections look again then. Not kept on disk.
    pub access_version: u64,
    /// Deleted topics whose files may still be there.
    pub tombstones: BTreeSet<u32>,
    /// Producers that took further epochs, by id.
    pub producer_epochs: BTreeMap<u64, ProducerEpoch>,
    /// Producers with a name, by id.
    pub named_producers: BTreeMap<u64, NamedProducer>,
    /// Id of the next stream.
    pub next_stream_id: u32,
    /// Id of the next topic.
    pub next_topic_id: u32,
    /// Id of the next user.
    pub next_user_id: u32,
    /// Id of the next token.
    pub next_token_id: u32,
    /// First producer id that was never given out.
    pub next_producer_id: u64,
    stream_names: BTreeMap<String, u32>,
    topic_names: BTreeMap<u32, BTreeMap<String, u32>>,
    user_names: BTreeMap<String, u32>,
    token_digests: BTreeMap<[u8; 32], u32>,
    producer_names: BTreeMap<(u32, String), u64>,
}

/// An event that cannot follow the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event contradicts the state before it: {0}")]
pub struct Contradiction(pub String);

impl State {
    /// Applies one event.
    ///
    /// # Errors
    /// When the event cannot have happened in this state; the state is unchanged then.
    #[expect(clippy::too_many_lines, reason = "one flat table: what each event does")]
    pub fn apply(&mut self, event: &Event) -> Result<(), Contradiction> {
        match event {
            Event::ClusterBorn(born) => {
                ensure(self.cluster_id == 0 && born.cluster_id != 0, || "born twice".into())?;
                self.cluster_id = born.cluster_id;
                self.node_id = born.node_id;
                self.format_level = born.format_level;
                self.next_stream_id = 1;
                self.next_topic_id = 1;
                self.next_user_id = 1;
                self.next_token_id = 1;
                self.next_producer_id = 1;
            }
            Event::FormatLevelRaised(raised) => {
                ensure(self.format_level < raised.format_level, || "the format level was not raised".into())?;
                self.format_level = raised.format_level;
            }
            Event::StreamCreated(created) => {
                ensure(self.next_stream_id <= created.stream_id, || format!("stream id {} reused", created.stream_id))?;
                ensure(!self.stream_names.contains_key(&created.name), || format!("stream {} exists", created.name))?;
                self.next_stream_id = created.stream_id + 1;
                self.insert_stream(Stream {
                    stream_id: created.stream_id,
                    name: created.name.clone(),
                    created_at_us: created.at_us,
                });
            }
            Event::StreamDeleted(deleted) => {
                ensure(self.topics_of(deleted.stream_id).next().is_none(), || "stream has topics".into())?;
                let stream = self.streams.remove(&deleted.stream_id);
                let stream = stream.ok_or_else(|| Contradiction(format!("no stream {}", deleted.stream_id)))?;
                self.stream_names.remove(&stream.name);
                self.topic_names.remove(&deleted.stream_id);
            }
            Event::TopicCreated(created) => {
                ensure(self.next_topic_id <= created.topic_id, || format!("topic id {} reused", created.topic_id))?;
                ensure(self.streams.contains_key(&created.stream_id), || format!("no stream {}", created.stream_id))?;
                let taken = self.topic_id(created.stream_id, &created.name).is_some();
                ensure(!taken, || format!("topic {} exists", created.name))?;
                self.next_topic_id = created.topic_id + 1;
                self.insert_topic(Topic {
                    topic_id: created.topic_id,
                    stream_id: created.stream_id,
                    name: created.name.clone(),
                    options: TopicOptions { supplement: TopicSupplement::default(), ..created.options.clone() },
                    created_at_us: created.at_us,
                });
            }
            Event::TopicAltered(altered) => {
                let topic = self.topics.get_mut(&altered.topic_id);
                let topic = topic.ok_or_else(|| Contradiction(format!("no topic {}", altered.topic_id)))?;
                let grows = topic.options.partition_count <= altered.options.partition_count;
                ensure(grows, || format!("topic {} lost partitions", altered.topic_id))?;
                let topic = Arc::make_mut(topic);
                let supplement = topic.options.supplement;
                topic.options = TopicOptions { supplement, ..altered.options.clone() };
            }
            Event::TopicDeleted(deleted) => {
                let topic = self.topics.remove(&deleted.topic_id);
                let topic = topic.ok_or_else(|| Contradiction(format!("no topic {}", deleted.topic_id)))?;
                if let Some(names) = self.topic_names.get_mut(&topic.stream_id) {
                    names.remove(&topic.name);
                }
                self.tombstones.insert(deleted.topic_id);
            }
            Event::TopicRemoved(removed) => {
                let known = self.tombstones.remove(&removed.topic_id);
                ensure(known, || format!("topic {} was not deleted", removed.topic_id))?;
            }
            Event::UserCreated(created) => {
                ensure(self.next_user_id <= created.user_id, || format!("user id {} reused", created.user_id))?;
                ensure(!self.user_names.contains_key(&created.name), || format!("user {} exists", created.name))?;
                self.next_user_id = created.user_id + 1;
                self.insert_user(User {
                    user_id: created.user_id,
                    name: created.name.clone(),
                    role: created.role,
                    password_hash: created.password_hash.clone(),
                    password_version: 1,
                    created_at_us: created.at_us,
                });
            }
            Event::UserAltered(altered) => {
                let user = self.users.get_mut(&altered.user_id);
                let user = user.ok_or_else(|| Contradiction(format!("no user {}", altered.user_id)))?;
                let user = Arc::make_mut(user);
                self.access_version += u64::from(altered.role.is_some());
                if let Some(hash) = &altered.password_hash {
                    user.password_hash.clone_from(hash);
                    user.password_version += 1;
                }
                user.role = altered.role.unwrap_or(user.role);
            }
            Event::UserDeleted(deleted) => {
                let user = self.users.remove(&deleted.user_id);
                let user = user.ok_or_else(|| Contradiction(format!("no user {}", deleted.user_id)))?;
                self.user_names.remove(&user.name);
                self.access.remove(&deleted.user_id);
                self.quotas.remove(&deleted.user_id);
                self.tokens.retain(|_, token| token.user_id != deleted.user_id);
                self.token_scopes.retain(|token_id, _| self.tokens.contains_key(token_id));
                self.named_producers.retain(|_, producer| producer.user_id != deleted.user_id);
                self.producer_names.retain(|(user_id, _), _| *user_id != deleted.user_id);
                self.token_digests = self.tokens.values().map(|token| (token.digest, token.token_id)).collect();
            }
            Event::TokenCreated(created) => {
                ensure(self.next_token_id <= created.token_id, || format!("token id {} reused", created.token_id))?;
                ensure(self.users.contains_key(&created.user_id), || format!("no user {}", created.user_id))?;
                let taken = self.token_of(created.user_id, &created.name).is_some();
                ensure(!taken, || format!("token {} exists", created.name))?;
                self.next_token_id = created.token_id + 1;
                self.insert_token(Token {
                    token_id: created.token_id,
                    user_id: created.user_id,
                    name: created.name.clone(),
                    digest: created.digest,
                    created_at_us: created.at_us,
                    expires_at_us: created.expires_at_us,
                });
            }
            Event::TokenDeleted(deleted) => {
                let token = self.tokens.remove(&deleted.token_id);
                let token = token.ok_or_else(|| Contradiction(format!("no token {}", deleted.token_id)))?;
                self.token_digests.remove(&token.digest);
                self.token_scopes.remove(&deleted.token_id);
            }
            Event::AccessSet(set) => {
                ensure(self.users.contains_key(&set.user_id), || format!("no user {}", set.user_id))?;
                let unknown = set.roles.iter().find(|role| !self.roles.contains_key(*role));
                ensure(unknown.is_none(), || format!("no role among {:?}", set.roles))?;
                let access = UserAccess { roles: set.roles.clone(), grants: set.grants.clone() };
                self.access.insert(set.user_id, Arc::new(access));
                self.access_version += 1;
            }
            Event::RoleSet(set) => {
                self.roles.insert(set.role.clone(), set.grants.as_slice().into());
                self.access_version += 1;
            }
            Event::RoleDeleted(deleted) => {
                ensure(self.roles.remove(&deleted.role).is_some(), || format!("no role {}", deleted.role))?;
                for access in self.access.values_mut().filter(|access| access.roles.contains(&deleted.role)) {
                    Arc::make_mut(access).roles.retain(|role| *role != deleted.role);
                }
                self.access_version += 1;
            }
            Event::TokenScoped(scoped) => {
                ensure(self.tokens.contains_key(&scoped.token_id), || format!("no token {}", scoped.token_id))?;
                self.token_scopes.insert(scoped.token_id, scoped.scope.as_slice().into());
                self.access_version += 1;
            }
            Event::QuotaSet(set) => {
                ensure(self.users.contains_key(&set.user_id), || format!("no user {}", set.user_id))?;
                if set.quota == Quota::default() {
                    self.quotas.remove(&set.user_id);
                } else {
                    self.quotas.insert(set.user_id, set.quota.clone());
                }
                self.access_version += 1;
            }
            Event::ProducerIdBlock(block) => {
                ensure(self.next_producer_id < block.next_producer_id, || "producer ids reused".into())?;
                self.next_producer_id = block.next_producer_id;
            }
            Event::ProducerEpochRaised(raised) => {
                let known = self.producer_epochs.get(&raised.producer_id).map_or(0, |known| known.epoch);
                ensure(known < raised.epoch, || format!("epoch of producer {} not raised", raised.producer_id))?;
                let kept_from_us = raised.at_us.saturating_sub(PRODUCER_EPOCH_KEPT_US);
                self.producer_epochs.retain(|_, epoch| kept_from_us <= epoch.raised_at_us);
                self.producer_epochs.insert(
                    raised.producer_id,
                    ProducerEpoch { producer_id: raised.producer_id, epoch: raised.epoch, raised_at_us: raised.at_us },
                );
            }
            Event::NamedProducerOpened(opened) => {
                ensure(LEVEL_2 <= self.format_level, || "a named producer below format level 2".into())?;
                ensure(opened.producer_id < self.next_producer_id, || "a producer id that is not given out".into())?;
                let key = (opened.user_id, opened.name.clone());
                let known = self.producer_names.get(&key);
                ensure(known.is_none_or(|id| *id == opened.producer_id), || format!("name {} is taken", opened.name))?;
                if let Some(known) = self.named_producers.get(&opened.producer_id) {
                    let same = known.user_id == opened.user_id && known.name == opened.name;
                    ensure(same && known.epoch < opened.epoch, || format!("producer {} not raised", opened.name))?;
                }
                self.insert_named_producer(NamedProducer {
                    producer_id: opened.producer_id,
                    user_id: opened.user_id,
                    name: opened.name.clone(),
                    epoch: opened.epoch,
                    opened_at_us: opened.at_us,
                });
            }
            Event::TopicSupplemented(changed) => {
                ensure(LEVEL_2 <= self.format_level, || "a topic's supplement below format level 2".into())?;
                let topic = self.topics.get_mut(&changed.topic_id);
                let topic = topic.ok_or_else(|| Contradiction(format!("no topic {}", changed.topic_id)))?;
                Arc::make_mut(topic).options.supplement = changed.supplement;
            }
        }
        Ok(())
    }

    /// The producer that a user gave that name.
    #[must_use]
    pub fn producer_named(&self, user_id: u32, name: &str) -> Option<&NamedProducer> {
        self.named_producers.get(self.producer_names.get(&(user_id, name.to_owned()))?)
    }

    /// Applies the events of one change to a copy, so that a refused one changes nothing.
    ///
    /// # Errors
    /// When one of them cannot have happened.
    pub fn after(&self, events: &[Event]) -> Result<Self, Contradiction> {
        let mut next = self.clone();
        events.iter().try_for_each(|event| next.apply(event))?;
        Ok(next)
    }

    /// A stream by name.
    #[must_use]
    pub fn stream_named(&self, name: &str) -> Option<&Arc<Stream>> {
        self.streams.get(self.stream_names.get(name)?)
    }

    /// A topic by the names of its stream and its own.
    #[must_use]
    pub fn topic_named(&self, stream: &str, topic: &str) -> Option<&Arc<Topic>> {
        self.topics.get(&self.topic_id(*self.stream_names.get(stream)?, topic)?)
    }

    /// A user by name.
    #[must_use]
    pub fn user_named(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(self.user_names.get(name)?)
    }

    /// The id of the token with this digest. The look-up goes by digest of a 256-bit secret, so its timing tells nothing of
    /// use; the caller still compares in constant time.
    #[must_use]
    pub fn token_with_digest(&self, digest: &[u8; 32]) -> Option<&Arc<Token>> {
        self.tokens.get(self.token_digests.get(digest)?)
    }

    /// A user's token by name.
    #[must_use]
    pub fn token_of(&self, user_id: u32, name: &str) -> Option<&Arc<Token>> {
        self.tokens_of(user_id).find(|token| token.name == name)
    }

    /// A user's tokens, by id.
    pub fn tokens_of(&self, user_id: u32) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.values().filter(move |token| token.user_id == user_id)
    }

    /// A stream's topics, by name.
    pub fn topics_of(&self, stream_id: u32) -> impl Iterator<Item = &Arc<Topic>> {
        let ids = self.topic_names.get(&stream_id).into_iter().flat_map(BTreeMap::values);
        ids.filter_map(|topic_id| self.topics.get(topic_id))
    }

    /// All streams, by name.
    pub fn streams_by_name(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.stream_names.values().filter_map(|stream_id| self.streams.get(stream_id))
    }

    /// All users, by name.
    pub fn users_by_name(&self) -> impl Iterator<Item = &Arc<User>> {
        self.user_names.values().filter_map(|user_id| self.users.get(user_id))
    }

    /// Users that have a named role.
    pub fn users_with_role(&self, role: &str) -> impl Iterator<Item = u32> {
        let having = self.access.iter().filter(move |(_, access)| access.roles.iter().any(|name| name == role));
        having.map(|(user_id, _)| *user_id)
    }

    /// Whether nothing but what was before there were grants says what users may do.
    fn is_before_grants(&self) -> bool {
        let before = UserAccess::before_grants();
        self.roles.is_empty()
            && self.token_scopes.is_empty()
            && self.quotas.is_empty()
            && self.access.values().all(|access| **access == before)
    }

    /// The oldest byte form that holds all of the state.
    fn snapshot_version(&self) -> u16 {
        if LEVEL_2 <= self.format_level {
            SNAPSHOT_LEVEL_2
        } else if self.is_before_grants() {
            SNAPSHOT_BEFORE_GRANTS
        } else {
            SNAPSHOT_WITH_GRANTS
        }
    }

    /// The byte form of the whole state.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let version = self.snapshot_version();
        version.put(&mut out);
        self.cluster_id.put(&mut out);
        self.node_id.put(&mut out);
        self.format_level.put(&mut out);
        self.next_stream_id.put(&mut out);
        self.next_topic_id.put(&mut out);
        self.next_user_id.put(&mut out);
        self.next_token_id.put(&mut out);
        self.next_producer_id.put(&mut out);
        put_all(self.streams.values().map(AsRef::as_ref), &mut out);
        put_all(self.topics.values().map(AsRef::as_ref), &mut out);
        put_all(self.users.values().map(AsRef::as_ref), &mut out);
        put_all(self.tokens.values().map(AsRef::as_ref), &mut out);
        put_all(self.tombstones.iter(), &mut out);
        put_all(self.producer_epochs.values(), &mut out);
        if SNAPSHOT_WITH_GRANTS <= version {
            let listed = |grants: &Arc<[Grant]>| grants.to_vec();
            put_table(self.access.iter().map(|(user_id, access)| (*user_id, (**access).clone())), &mut out);
            put_table(self.roles.iter().map(|(role, grants)| (role.clone(), listed(grants))), &mut out);
            put_table(self.token_scopes.iter().map(|(token_id, scope)| (*token_id, listed(scope))), &mut out);
            put_table(self.quotas.iter().map(|(user_id, quota)| (*user_id, quota.clone())), &mut out);
        }
        if SNAPSHOT_LEVEL_2 <= version {
            put_all(self.named_producers.values(), &mut out);
            let supplements = self.topics.values().map(|topic| (topic.topic_id, topic.options.supplement));
            let given: Vec<_> = supplements.filter(|(_, given)| *given != TopicSupplement::default()).collect();
            put_table(given.into_iter(), &mut out);
        }
        out
    }

    /// Reads a state.
    ///
    /// # Errors
    /// Whatever is malformed or unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut input = Input(bytes);
        let version = u16::get(&mut input)?;
        if ![SNAPSHOT_BEFORE_GRANTS, SNAPSHOT_WITH_GRANTS, SNAPSHOT_LEVEL_2].contains(&version) {
            return Err(CodecError::UnknownSnapshot(version));
        }
        let mut state = Self {
            cluster_id: Stored::get(&mut input)?,
            node_id: Stored::get(&mut input)?,
            format_level: Stored::get(&mut input)?,
            next_stream_id: Stored::get(&mut input)?,
            next_topic_id: Stored::get(&mut input)?,
            next_user_id: Stored::get(&mut input)?,
            next_token_id: Stored::get(&mut input)?,
            next_producer_id: Stored::get(&mut input)?,
            ..Self::default()
        };
        Vec::get(&mut input)?.into_iter().for_each(|stream| state.insert_stream(stream));
        Vec::get(&mut input)?.into_iter().for_each(|topic| state.insert_topic(topic));
        Vec::get(&mut input)?.into_iter().for_each(|user| state.insert_user(user));
        Vec::get(&mut input)?.into_iter().for_each(|token| state.insert_token(token));
        state.tombstones = Vec::get(&mut input)?.into_iter().collect();
        let epochs = Vec::<ProducerEpoch>::get(&mut input)?;
        state.producer_epochs = epochs.into_iter().map(|epoch| (epoch.producer_id, epoch)).collect();
        if SNAPSHOT_WITH_GRANTS <= version {
            let shared = |grants: Vec<Grant>| -> Arc<[Grant]> { grants.into() };
            let access = get_table::<u32, UserAccess>(&mut input)?;
            state.access = access.map(|(user_id, access)| (user_id, Arc::new(access))).collect();
            state.roles = get_table(&mut input)?.map(|(role, grants)| (role, shared(grants))).collect();
            let scopes = get_table(&mut input)?;
            state.token_scopes = scopes.map(|(token_id, scope)| (token_id, shared(scope))).collect();
            state.quotas = get_table(&mut input)?.collect();
        }
        if SNAPSHOT_LEVEL_2 <= version {
            Vec::get(&mut input)?.into_iter().for_each(|producer| state.insert_named_producer(producer));
            for (topic_id, supplement) in get_table(&mut input)? {
                if let Some(topic) = state.topics.get_mut(&topic_id) {
                    Arc::make_mut(topic).options.supplement = supplement;
                }
            }
        }
        input.finish()?;
        Ok(state)
    }

    fn topic_id(&self, stream_id: u32, name: &str) -> Option<u32> {
        self.topic_names.get(&stream_id)?.get(name).copied()
    }

    fn insert_stream(&mut self, stream: Stream) {
        self.stream_names.insert(stream.name.clone(), stream.stream_id);
        self.streams.insert(stream.stream_id, Arc::new(stream));
    }

    fn insert_topic(&mut self, topic: Topic) {
        self.topic_names.entry(topic.stream_id).or_default().insert(topic.name.clone(), topic.topic_id);
        self.topics.insert(topic.topic_id, Arc::new(topic));
    }

    fn insert_user(&mut self, user: User) {
        self.user_names.insert(user.name.clone(), user.user_id);
        self.access.insert(user.user_id, Arc::new(UserAccess::before_grants()));
        self.users.insert(user.user_id, Arc::new(user));
    }

    fn insert_named_producer(&mut self, producer: NamedProducer) {
        self.producer_names.insert((producer.user_id, producer.name.clone()), producer.producer_id);
        self.named_producers.insert(producer.producer_id, producer);
    }

    fn insert_token(&mut self, token: Token) {
        self.token_digests.insert(token.digest, token.token_id);
        self.tokens.insert(token.token_id, Arc::new(token));
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Contradiction> {
    if holds { Ok(()) } else { Err(Contradiction(otherwise())) }
}

fn put_all<'a, T: Stored + 'a>(values: impl ExactSizeIterator<Item = &'a T>, out: &mut Vec<u8>) {
    u32::try_from(values.len()).expect("ids have 32 bits").put(out);
    values.for_each(|value| value.put(out));
}

fn put_table<K: Stored, V: Stored>(rows: impl ExactSizeIterator<Item = (K, V)>, out: &mut Vec<u8>) {
    u32::try_from(rows.len()).expect("ids have 32 bits, and there are fewer names than memory has bytes").put(out);
    for (key, value) in rows {
        key.put(out);
        value.put(out);
    }
}

fn get_table<K: Stored, V: Stored>(input: &mut Input<'_>) -> Result<std::vec::IntoIter<(K, V)>, CodecError> {
    let count = u32::get(input)?;
    let mut rows = Vec::new();
    for _ in 0..count {
        rows.push((K::get(input)?, V::get(input)?));
    }
    Ok(rows.into_iter())
}
