//! What the members of a group and the server said to each other, what the members handed out, and every rule that this
//! breaks. It knows only what has passed: whatever the server said before something was sent, it must keep to in its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, Bytes, BytesMut};
use levada::ReceivedMessage;
use levada_protocol::frame::{CONTROL_LENGTH_BYTES, FLAG_BODY, FrameHeader, HEADER_BYTES, encode_head};
use levada_protocol::messages::{Assignment, Commit, CommitOffset, Subscribe};
use levada_protocol::{ErrorCode, Kind, Request, ServerFrame, limits};
use tokio::sync::watch;

use crate::random::Seeded;

/// Topic id and partition.
pub(crate) type Key = (u32, u32);

/// Correlations from here on are of commits that no client made.
const FORGED: u32 = 0xF000_0000;
/// Far beyond every log: if a forged commit is taken, it shows.
const FAR_AWAY: u64 = 1 << 40;

/// What was asked on a connection and waits for its answer.
enum Asked {
    Join { instance: Option<String>, before: Option<String> },
    Commit { commit: Commit, must_fail: Option<String> },
    Subscribe { key: Key, floor: u64 },
}

/// How a commit was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Commits taken.
    pub(crate) taken: u64,
    /// Commits that clients made and the server refused.
    pub(crate) refused: u64,
    /// Those of them that would have gone back.
    pub(crate) backwards: u64,
    /// Forged commits refused, by name of the error.
    pub(crate) fenced: BTreeMap<&'static str, u64>,
    /// Messages handed out, repeated ones too.
    pub(crate) handed: u64,
    /// The highest generation.
    pub(crate) generation: u64,
}

#[derive(Default)]
struct State {
    next_connection: u64,
    next_forged: u32,
    asked: BTreeMap<(u64, u32), Asked>,
    /// Who spoke last on a connection.
    speakers: BTreeMap<u64, String>,
    /// The name under which a member holds: of its instance, or its id.
    names: BTreeMap<String, String>,
    /// The id that an instance had last.
    current: BTreeMap<String, String>,
    /// Ids that another has taken the place of.
    superseded: BTreeSet<String>,
    topics: BTreeMap<String, u32>,
    owners: BTreeMap<(Key, u64), String>,
    newest: BTreeMap<Key, u64>,
    committed: BTreeMap<Key, u64>,
    handed: BTreeMap<Key, BTreeSet<u64>>,
    /// Offsets below are all handed out.
    done: BTreeMap<Key, u64>,
    counts: Counts,
    broken: Vec<String>,
}

/// See the module.
pub(crate) struct Ledger {
    state: Mutex<State>,
    handed: watch::Sender<u64>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), handed: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a connection.
    pub(crate) fn connection(&self) -> u64 {
        let mut state = self.lock();
        state.next_connection += 1;
        state.next_connection
    }

    pub(crate) fn note(&self, text: String) {
        self.lock().broken.push(text);
    }

    pub(crate) fn broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// The highest offset of each partition that the server said is stored.
    pub(crate) fn committed(&self) -> BTreeMap<Key, u64> {
        self.lock().committed.clone()
    }

    /// Offsets below have all been handed out.
    pub(crate) fn done(&self, key: Key) -> u64 {
        self.lock().done.get(&key).copied().unwrap_or(0)
    }

    /// Waits until so many more messages have been handed out.
    pub(crate) async fn progress(&self, count: u64) {
        let mut handed = self.handed.subscribe();
        let goal = *handed.borrow_and_update() + count;
        // The sender is this ledger's own.
        let _ = handed.wait_for(|handed| goal <= *handed).await;
    }

    /// A member got a message.
    pub(crate) fn handed(&self, message: &ReceivedMessage) {
        let mut state = self.lock();
        let Some(topic_id) = state.topics.get(&*message.topic).copied() else {
            state.broken.push(format!("a message of {}, of which nobody was assigned a partition", message.topic));
            return;
        };
        let key = (topic_id, message.partition);
        let handed = state.handed.entry(key).or_default();
        handed.insert(message.offset);
        let mut done = state.done.get(&key).copied().unwrap_or(0);
        while state.handed[&key].contains(&done) {
            done += 1;
        }
        state.done.insert(key, done);
        state.counts.handed += 1;
        drop(state);
        self.handed.send_modify(|handed| *handed += 1);
    }

    /// A frame goes to the server now.
    pub(crate) fn sent(&self, connection: u64, frame: &Bytes) {
        let Some((header, kind, control)) = parse(frame) else { return };
        let Ok(Some(request)) = Request::decode(kind, &control) else { return };
        let mut state = self.lock();
        let asked = match request {
            Request::JoinGroup(join) => {
                let is_new = join.member.is_empty();
                let before =
                    join.instance.as_ref().filter(|_| is_new).and_then(|name| state.current.get(name)).cloned();
                Asked::Join { instance: join.instance, before }
            }
            Request::Commit(commit) => {
                let must_fail = state.must_fail(&commit);
                if header.correlation < FORGED {
                    state.check_work(&commit);
                }
                Asked::Commit { commit, must_fail }
            }
            Request::Subscribe(Subscribe { topic_id, partition, generation: Some(_), .. }) => {
                let key = (topic_id, partition);
                Asked::Subscribe { key, floor: state.committed.get(&key).copied().unwrap_or(0) }
            }
            _ => return,
        };
        state.asked.insert((connection, header.correlation), asked);
    }

    /// A frame came from the server; whether it is meant for the client.
    pub(crate) fn received(&self, connection: u64, frame: &Bytes) -> bool {
        let Some((header, kind, control)) = parse(frame) else { return true };
        if kind == Kind::Deliver {
            return true;
        }
        let Ok(Some(frame)) = ServerFrame::decode(kind, &control) else { return true };
        let mut state = self.lock();
        if let ServerFrame::GroupChanged(changed) = &frame {
            state.assigned(&changed.member, &changed.assigned);
        }
        if let Some(asked) = state.asked.remove(&(connection, header.correlation)) {
            state.answered(connection, asked, &frame, FORGED <= header.correlation);
        }
        header.correlation < FORGED
    }

    /// A commit that must not be taken, as if the client of the connection had made it.
    pub(crate) fn forge(&self, connection: u64, random: &mut Seeded) -> Option<Bytes> {
        let mut state = self.lock();
        let speaker = state.speakers.get(&connection)?.clone();
        let name = state.names.get(&speaker)?.clone();
        let owners: Vec<(Key, u64, &String)> =
            state.owners.iter().map(|((key, generation), owner)| (*key, *generation, owner)).collect();
        let any = |random: &mut Seeded, of: &[(Key, u64, &String)]| {
            let index = random.below(0..of.len().max(1) as u64);
            usize::try_from(index).ok().and_then(|index| of.get(index)).map(|one| (one.0, one.1, one.2.clone()))
        };
        let is_newest = |one: &(Key, u64, &String)| state.newest.get(&one.0) == Some(&one.1);
        let (old, new): (Vec<(Key, u64, &String)>, Vec<_>) = owners.iter().copied().partition(|one| !is_newest(one));
        let (member, (key, generation, _)) = match random.below(0..6) {
            // What was its own once, and what was another's.
            0 | 1 => {
                let own: Vec<_> = old.into_iter().filter(|one| *one.2 == name).collect();
                (speaker, any(random, &own)?)
            }
            2 => (speaker, any(random, &old)?),
            // What is another's now.
            3 => {
                let foreign: Vec<_> = new.into_iter().filter(|one| *one.2 != name).collect();
                (speaker, any(random, &foreign)?)
            }
            // In another's name.
            4 => {
                let (key, generation, owner) = any(random, &owners)?;
                let other = state.names.iter().find(|(id, name)| **name == owner && **id != speaker)?;
                (other.0.clone(), (key, generation, owner))
            }
            _ => {
                let (key, _, owner) = any(random, &new)?;
                (speaker, (key, u64::MAX / 2, owner))
            }
        };
        let (topic_id, partition) = key;
        let release = random.one_in(2);
        let offset =
            CommitOffset { topic_id, partition, generation, offset: FAR_AWAY, epoch: None, rewind: false, release };
        let commit = Commit { group: super::GROUP.into(), member: Some(member), offsets: vec![offset] };
        state.next_forged += 1;
        let mut out = BytesMut::new();
        encode_head(&mut out, FORGED + state.next_forged, &commit, 0, limits::MAX_CONTROL_BYTES).ok()?;
        Some(out.freeze())
    }
}

impl State {
    /// Why the server, by what it has said so far, must refuse a commit.
    fn must_fail(&self, commit: &Commit) -> Option<String> {
        let member = commit.member.as_ref()?;
        if self.superseded.contains(member) {
            return Some(format!("another took the place of {member}"));
        }
        let name = self.names.get(member);
        commit.offsets.iter().find_map(|one| {
            let (key, generation) = ((one.topic_id, one.partition), one.generation);
            let owner = self.owners.get(&(key, generation));
            let newest = self.newest.get(&key).copied().unwrap_or(0);
            let stored = self.committed.get(&key).copied().unwrap_or(0);
            if owner.is_none() || owner != name {
                Some(format!("{key:?} in generation {generation} is of {owner:?}, not of {name:?}"))
            } else if generation < newest {
                Some(format!("{key:?} was given on in generation {newest}, after {generation}"))
            } else if one.offset < stored && !one.rewind {
                Some(format!("{key:?} goes back from {stored} to {}", one.offset))
            } else {
                None
            }
        })
    }

    /// Nobody commits what was handed to nobody.
    fn check_work(&mut self, commit: &Commit) {
        for one in &commit.offsets {
            let key = (one.topic_id, one.partition);
            let done = self.done.get(&key).copied().unwrap_or(0);
            if done < one.offset {
                self.broken.push(format!("{key:?}: a commit of {}, and {done} was handed to nobody", one.offset));
            }
        }
    }

    fn assigned(&mut self, member: &str, assignments: &[Assignment]) {
        let name = self.names.get(member).cloned().unwrap_or_else(|| member.to_owned());
        for one in assignments {
            let (key, generation) = ((one.topic_id, one.partition), one.generation);
            self.topics.insert(format!("{}/{}", one.stream, one.topic), one.topic_id);
            let owner = self.owners.entry((key, generation)).or_insert_with(|| name.clone());
            if *owner != name {
                self.broken.push(format!("{key:?} has two owners in generation {generation}: {owner} and {name}"));
            }
            let newest = self.newest.entry(key).or_default();
            *newest = generation.max(*newest);
            self.counts.generation = generation.max(self.counts.generation);
        }
    }

    fn answered(&mut self, connection: u64, asked: Asked, frame: &ServerFrame, is_forged: bool) {
        match (asked, frame) {
            (Asked::Join { instance, before }, ServerFrame::GroupJoined(joined)) => {
                let id = &joined.member;
                let name = instance.clone().unwrap_or_else(|| id.clone());
                self.names.insert(id.clone(), name);
                self.speakers.insert(connection, id.clone());
                self.superseded.extend(before.filter(|before| before != id));
                if let Some(instance) = instance {
                    self.current.insert(instance, id.clone());
                }
                self.assigned(id, &joined.assignments);
            }
            (Asked::Commit { commit, must_fail }, ServerFrame::Committed(_)) => {
                self.counts.taken += 1;
                if let Some(reason) = must_fail {
                    let kind = if is_forged { "a forged" } else { "a client's" };
                    self.broken.push(format!("{kind} commit was taken, although {reason}: {commit:?}"));
                    return;
                }
                for one in &commit.offsets {
                    let stored = self.committed.entry((one.topic_id, one.partition)).or_default();
                    *stored = one.offset.max(*stored);
                }
            }
            (Asked::Commit { commit, .. }, ServerFrame::Error(error)) => {
                let code = ErrorCode::from_code(error.code).map_or("?", |code| code.name());
                if is_forged {
                    *self.counts.fenced.entry(code).or_default() += 1;
                } else {
                    self.counts.refused += 1;
                }
                if code == "OFFSET_REGRESSION" {
                    // Nothing is lost by it, but a client that has not moved back should not ask for it.
                    tracing::warn!(?commit, "a client's commit goes back");
                    self.counts.backwards += 1;
                }
            }
            (Asked::Subscribe { key, floor }, ServerFrame::Subscribed(begun)) if begun.start_offset < floor => {
                let start = begun.start_offset;
                self.broken.push(format!("{key:?} is read again from {start}, and {floor} was committed"));
            }
            _ => {}
        }
    }
}

/// Header, kind and control part of a whole frame.
fn parse(frame: &Bytes) -> Option<(FrameHeader, Kind, Bytes)> {
    let header = FrameHeader::parse(frame.first_chunk::<HEADER_BYTES>()?);
    let mut rest = frame.slice(HEADER_BYTES..);
    if header.flags & FLAG_BODY != 0 {
        if rest.len() < CONTROL_LENGTH_BYTES {
            return None;
        }
        let length = usize::try_from(rest.get_u32_le()).ok()?;
        rest = (length <= rest.len()).then(|| rest.slice(..length))?;
    }
    Some((header, Kind::from_code(header.kind)?, rest))
}
