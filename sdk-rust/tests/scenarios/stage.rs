//! A server in memory that plays a script: one topic, real frames through the protocol's own server machine, virtual time.
//!
//! By default it behaves; a script says what happens to the next Produce requests, and a test can cut connections, refuse new
//! ones, hold answers back, truncate the log or damage what is stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use levada::{
    BackoffOptions, Client, ClientOptions, Clock, ConnectFuture, Connector, Credentials, Environment, ErrorCode,
    Random, ServerAddress,
};
use levada_protocol::batch::{SERVER_PART_BYTES, ServerPart, StoredBatch, verify_producer};
use levada_protocol::messages::*;
use levada_protocol::pool::BufferPool;
use levada_protocol::server::{Connection, ServerConfig, ServerEvent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::coordinator::{self, Coordinator};

/// What happens to a Produce request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// It is appended and acknowledged.
    Behave,
    /// It is refused.
    Refuse(ErrorCode, Vec<(&'static str, u64)>),
    /// The connection ends before it is appended.
    CutBefore,
    /// It is appended, then the connection ends before the acknowledgement.
    CutAfter,
    /// It is appended; the acknowledgement waits for [`Stage::release`].
    Hold,
    /// It is appended; the acknowledgement comes this much later.
    Late(Duration),
    /// It is ignored.
    Ignore,
    /// It is appended, and the answer is that nobody knows.
    FailUnknown,
    /// The partition has forgotten the producer: it refuses this and the rest of the epoch.
    Forget,
}

/// A Produce request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: u32,
    pub(crate) producer_id: u64,
    pub(crate) producer_epoch: u32,
    pub(crate) first_sequence: u64,
    pub(crate) message_count: u32,
}

#[derive(Default)]
struct Partition {
    batches: Vec<(Bytes, u32)>,
    start_offset: u64,
    next_offset: u64,
    epoch: u32,
    /// Where each epoch ended.
    epoch_ends: BTreeMap<u32, u64>,
    sequences: BTreeMap<u64, (u32, u64)>,
    acks: BTreeMap<(u64, u32, u64), ProduceAck>,
    /// Producers, with their epochs, that it knows nothing about any more.
    forgotten: BTreeSet<(u64, u32)>,
}

pub(crate) struct State {
    pub(crate) coordinator: Coordinator,
    partitions: Vec<Partition>,
    script: VecDeque<Act>,
    default_act: Act,
    seen: Vec<Seen>,
    /// Most Produce requests unanswered at once.
    max_unanswered: usize,
    next_producer: u64,
    names: BTreeMap<String, u64>,
    producer_epochs: BTreeMap<u64, u32>,
    held: Vec<(usize, u32, ProduceAck)>,
    /// Acknowledgements whose time has come.
    late: Vec<(usize, u32, ProduceAck)>,
    released: bool,
    connections: usize,
    refuse_connections: bool,
    /// Connections up to this number are cut.
    cut_through: usize,
    auth: Option<Credentials>,
    authentications: Vec<AuthMethod>,
    tickets: Vec<Bytes>,
    delivered_bytes: u64,
    credited_bytes: u64,
    list_topics_failures: u32,
    mute: bool,
    max_in_flight: u16,
    /// How long a ReadSequences waits for its answer; the answers whose time has come.
    sequences_delay: Option<Duration>,
    sequences: Vec<(usize, u32, SequencesRead)>,
}

impl State {
    /// Where a partition ends, and its epoch.
    pub(crate) fn end_of(&self, partition: u32) -> (u64, u32) {
        let partition = &self.partitions[partition as usize];
        (partition.next_offset, partition.epoch)
    }
}

#[derive(Clone)]
pub(crate) struct Stage {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

pub(crate) const TOPIC: &str = "play/act";

impl Stage {
    pub(crate) fn new(partition_count: usize) -> Stage {
        let partition = || Partition { epoch: 1, ..Partition::default() };
        Stage {
            state: Arc::new(Mutex::new(State {
                coordinator: Coordinator::default(),
                partitions: (0..partition_count).map(|_| partition()).collect(),
                script: VecDeque::new(),
                default_act: Act::Behave,
                seen: Vec::new(),
                max_unanswered: 0,
                next_producer: 1,
                names: BTreeMap::new(),
                producer_epochs: BTreeMap::new(),
                held: Vec::new(),
                late: Vec::new(),
                released: false,
                connections: 0,
                refuse_connections: false,
                cut_through: 0,
                auth: None,
                authentications: Vec::new(),
                tickets: Vec::new(),
                delivered_bytes: 0,
                credited_bytes: 0,
                list_topics_failures: 0,
                mute: false,
                max_in_flight: 64,
                sequences_delay: None,
                sequences: Vec::new(),
            })),
            changed: watch::channel(0).0,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn stir(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.stir();
        result
    }

    // ------------------------------------------------------------ directing

    pub(crate) fn options(&self) -> ClientOptions {
        let environment = Environment {
            connector: Some(Arc::new(self.clone())),
            clock: Arc::new(Still),
            random: Arc::new(Counting(Mutex::new(0))),
        };
        ClientOptions::new()
            .server("levada://stage:1")
            .credentials(Credentials::Anonymous)
            .environment(environment)
            .backoff(BackoffOptions { floor: Duration::from_millis(10), ceiling: Duration::from_millis(100) })
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }

    pub(crate) fn script(&self, acts: impl IntoIterator<Item = Act>) {
        self.change(|state| state.script.extend(acts));
    }

    pub(crate) fn always(&self, act: Act) {
        self.change(|state| state.default_act = act);
    }

    /// Acknowledges what is held, now and from now on.
    pub(crate) fn release(&self) {
        self.change(|state| {
            state.released = true;
            state.default_act = Act::Behave;
        });
    }

    pub(crate) fn cut(&self) {
        self.change(|state| state.cut_through = state.connections);
    }

    pub(crate) fn refuse_connections(&self, refuse: bool) {
        self.change(|state| state.refuse_connections = refuse);
    }

    pub(crate) fn require(&self, credentials: Credentials) {
        self.change(|state| state.auth = Some(credentials));
    }

    pub(crate) fn revoke_tickets(&self) {
        self.change(|state| state.tickets.clear());
    }

    pub(crate) fn fail_list_topics(&self, times: u32) {
        self.change(|state| state.list_topics_failures = times);
    }

    pub(crate) fn mute(&self) {
        self.change(|state| state.mute = true);
    }

    pub(crate) fn allow_in_flight(&self, count: u16) {
        self.change(|state| state.max_in_flight = count);
    }

    pub(crate) fn delay_sequences(&self, delay: Duration) {
        self.change(|state| state.sequences_delay = Some(delay));
    }

    pub(crate) fn forget_producers(&self) {
        self.change(|state| state.partitions.iter_mut().for_each(|partition| partition.sequences.clear()));
    }

    /// Takes a producer's next epoch, as another process would.
    pub(crate) fn take_over(&self, producer_id: u64) {
        self.change(|state| *state.producer_epochs.get_mut(&producer_id).unwrap() += 1);
    }

    /// The partition loses everything from `offset` on and begins a new epoch.
    pub(crate) fn truncate(&self, partition: u32, offset: u64) {
        self.change(|state| {
            let partition = &mut state.partitions[partition as usize];
            partition.batches.retain(|(batch, _)| last_offset(batch) < offset);
            partition.next_offset =
                partition.batches.last().map_or(partition.start_offset, |(batch, _)| last_offset(batch) + 1);
            partition.epoch_ends.insert(partition.epoch, partition.next_offset);
            partition.epoch += 1;
        });
    }

    pub(crate) fn trim(&self, partition: u32, offset: u64) {
        self.change(|state| {
            let partition = &mut state.partitions[partition as usize];
            partition.batches.retain(|(batch, _)| offset <= last_offset(batch));
            partition.start_offset = offset;
        });
    }

    /// Damages the last byte of a stored batch.
    pub(crate) fn damage(&self, partition: u32, batch: usize) {
        self.change(|state| {
            let stored = &mut state.partitions[partition as usize].batches[batch].0;
            let mut bytes = BytesMut::from(&stored[..]);
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            *stored = bytes.freeze();
        });
    }

    /// Appends one batch of payloads, as some producer would.
    pub(crate) fn append(&self, partition: u32, payloads: &[&str]) {
        use levada_protocol::batch::{BatchBuilder, BatchLimits, NewMessage, SealOptions};
        let mut builder = BatchBuilder::new(BatchLimits::default());
        for payload in payloads {
            builder.push(&NewMessage { payload: Some(payload.as_bytes()), ..NewMessage::default() }).unwrap();
        }
        let sealed = builder.seal(&SealOptions::default()).unwrap();
        self.change(|state| state.partitions[partition as usize].append(&sealed, 7));
    }

    // ------------------------------------------------------------ watching

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    pub(crate) fn batch_sizes(&self) -> Vec<u32> {
        self.seen().iter().map(|seen| seen.message_count).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state().connections
    }

    pub(crate) fn authentications(&self) -> Vec<AuthMethod> {
        self.state().authentications.clone()
    }

    pub(crate) fn delivered_bytes(&self) -> u64 {
        self.state().delivered_bytes
    }

    pub(crate) fn credited_bytes(&self) -> u64 {
        self.state().credited_bytes
    }

    pub(crate) fn max_unanswered(&self) -> usize {
        self.state().max_unanswered
    }

    /// Payloads of a partition, in order.
    pub(crate) fn payloads(&self, partition: u32) -> Vec<String> {
        let state = self.state();
        let mut payloads = Vec::new();
        for (batch, _) in &state.partitions[partition as usize].batches {
            let mut bytes = batch.clone();
            let stored = StoredBatch::split_first(&mut bytes).unwrap().unwrap();
            for message in stored.messages().unwrap() {
                payloads.push(String::from_utf8(message.unwrap().payload.unwrap().to_vec()).unwrap());
            }
        }
        payloads
    }
}

fn last_offset(batch: &Bytes) -> u64 {
    StoredBatch::split_first(&mut batch.clone()).unwrap().unwrap().last_offset()
}

impl Partition {
    fn append(&mut self, produced: &Bytes, append_time_us: i64) -> u64 {
        let header = verify_producer(produced).unwrap();
        let base_offset = self.next_offset;
        let server = ServerPart {
            batch_length: u32::try_from(SERVER_PART_BYTES + produced.len()).unwrap(),
            base_offset,
            append_time_us,
            leader_epoch: self.epoch,
        };
        let mut stored = BytesMut::from(&server.encode()[..]);
        stored.extend_from_slice(produced);
        self.batches.push((stored.freeze(), self.epoch));
        self.next_offset += u64::from(header.message_count);
        base_offset
    }

    /// Where the log of a reader at (offset, epoch) parts from this one, if it does.
    fn divergence(&self, offset: u64, epoch: Option<u32>) -> Option<u64> {
        let end = *self.epoch_ends.get(&epoch?)?;
        (end < offset).then_some(end)
    }
}

pub(crate) fn error(code: ErrorCode, details: &[(&str, u64)]) -> Error {
    Error::new(code, "as the script says", details.iter().map(|(name, value)| Detail::new(*name, value)).collect())
}

impl Connector for Stage {
    fn connect<'a>(&'a self, _: &'a ServerAddress) -> ConnectFuture<'a> {
        Box::pin(async move {
            let number = {
                let mut state = self.state();
                if state.refuse_connections {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                state.connections += 1;
                state.connections
            };
            let (client, server) = tokio::io::duplex(64 << 10);
            tokio::spawn(self.clone().serve(server, number));
            Ok(Box::new(client) as Box<dyn levada::ByteStream>)
        })
    }
}

pub(crate) struct Subscription {
    pub(crate) partition: usize,
    next_offset: u64,
    credit: i64,
    /// Of the assignment it is for.
    pub(crate) generation: Option<u64>,
}

pub(crate) struct Serving {
    stage: Stage,
    pub(crate) number: usize,
    pub(crate) machine: Connection,
    pub(crate) subscriptions: BTreeMap<u32, Subscription>,
    unanswered: usize,
    cut: bool,
}

impl Stage {
    pub(crate) async fn serve(self, mut stream: impl levada::ByteStream, number: usize) {
        let started = Instant::now();
        let (auth_required, max_in_flight) = {
            let state = self.state();
            (state.auth.is_some(), state.max_in_flight)
        };
        let config = ServerConfig { auth_required, max_in_flight, ..ServerConfig::default() };
        let machine = Connection::new(config, BufferPool::new(1 << 20), 0);
        let mut changed = self.changed.subscribe();
        let mut serving =
            Serving { stage: self, number, machine, subscriptions: BTreeMap::new(), unanswered: 0, cut: false };
        loop {
            let is_muted = serving.stage.state().mute;
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                read = stream.read_buf(serving.machine.read_buffer()), if !is_muted => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
            }
            serving.machine.on_received(u64::try_from(started.elapsed().as_millis()).unwrap(), 0);
            while let Ok(Some(event)) = serving.machine.poll_event() {
                serving.on_event(event);
            }
            serving.on_change();
            if serving.cut {
                return;
            }
            while serving.machine.outbound_bytes() != 0 {
                let mut slices: Vec<IoSlice<'_>> = Vec::new();
                serving.machine.slices(&mut slices);
                match stream.write_vectored(&slices).await {
                    Ok(count) => {
                        drop(slices);
                        serving.machine.on_sent(count);
                    }
                    Err(_) => return,
                }
            }
            if stream.flush().await.is_err() {
                return;
            }
        }
    }
}

impl Serving {
    fn on_change(&mut self) {
        let shared = Arc::clone(&self.stage.state);
        let mut state = shared.lock().unwrap();
        if self.number <= state.cut_through {
            self.cut = true;
        }
        let number = self.number;
        let mut due: Vec<_> = state.late.extract_if(.., |(owner, ..)| *owner == number).collect();
        if state.released {
            due.extend(state.held.extract_if(.., |(owner, ..)| *owner == number));
        }
        for (_, correlation, ack) in due {
            self.unanswered -= 1;
            self.machine.reply(correlation, &ack);
        }
        for (_, correlation, read) in state.sequences.extract_if(.., |(owner, ..)| *owner == number) {
            self.machine.reply(correlation, &read);
        }
        coordinator::push(self, &mut state);
        for (id, subscription) in &mut self.subscriptions {
            let partition = &state.partitions[subscription.partition];
            let (log_start_offset, visible_end_offset) = (partition.start_offset, partition.next_offset);
            let mut delivered = 0;
            for (batch, _) in &partition.batches {
                if subscription.credit <= 0 {
                    break;
                }
                let last = last_offset(batch);
                if last < subscription.next_offset {
                    continue;
                }
                subscription.next_offset = last + 1;
                subscription.credit -= batch.len() as i64;
                delivered += batch.len() as u64;
                let deliver = Deliver { subscription: *id, log_start_offset, visible_end_offset };
                self.machine.deliver(&deliver, vec![batch.clone()]);
            }
            state.delivered_bytes += delivered;
        }
    }

    fn on_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Hello(_) => {}
            ServerEvent::Authenticate { correlation, request } => self.authenticate(correlation, &request),
            ServerEvent::Request { correlation, request, body } => self.request(correlation, request, &body),
        }
    }

    fn authenticate(&mut self, correlation: u32, request: &Authenticate) {
        let mut state = self.stage.state();
        state.authentications.push(request.method);
        let secret = String::from_utf8_lossy(&request.secret).into_owned();
        let is_known = match (request.method, &state.auth) {
            (AuthMethod::Ticket, _) => state.tickets.contains(&request.secret),
            (AuthMethod::Token, Some(Credentials::Token(token))) => *token == secret,
            (AuthMethod::Password, Some(Credentials::Password { user, password })) => {
                *user == request.user && *password == secret
            }
            _ => false,
        };
        if !is_known {
            self.machine.fail(correlation, &error(ErrorCode::AuthFailed, &[]));
            return;
        }
        let ticket = Bytes::from(format!("ticket {}", self.number));
        state.tickets.push(ticket.clone());
        let granted = Authenticated { user: "actor".into(), role: Role::Admin, ticket, ticket_expires_at_us: i64::MAX };
        self.machine.authenticated(correlation, &granted);
    }

    fn topic(state: &State) -> TopicInfo {
        let mut options = levada::topic_options(u32::try_from(state.partitions.len()).unwrap());
        options.durability = Durability::Disk;
        TopicInfo { topic_id: 9, stream: "play".into(), topic: "act".into(), options, created_at_us: 0 }
    }

    fn request(&mut self, correlation: u32, request: Request, body: &Bytes) {
        let shared = Arc::clone(&self.stage.state);
        let mut state = shared.lock().unwrap();
        match request {
            Request::Ping(_) => unreachable!("the machine answers"),
            Request::DescribeTopic(wanted) if wanted.topic == "act" => {
                let reply = TopicDescribed {
                    topic: Serving::topic(&state),
                    partitions: Vec::new(),
                    segment_age_us: None,
                    dedup_messages: None,
                };
                self.machine.reply(correlation, &reply);
            }
            Request::DescribeTopic(_) => self.machine.fail(correlation, &error(ErrorCode::TopicNotFound, &[])),
            Request::ListTopics(_) if 0 < state.list_topics_failures => {
                state.list_topics_failures -= 1;
                self.machine.fail(correlation, &error(ErrorCode::Overloaded, &[]));
            }
            Request::ListTopics(_) => {
                let reply = Topics { topics: vec![Serving::topic(&state)] };
                self.machine.reply(correlation, &reply);
            }
            Request::OpenProducer(OpenProducer { name: Some(name), .. }) => {
                let known = state.names.get(&name).copied();
                let producer_id = known.unwrap_or_else(|| {
                    state.next_producer += 1;
                    state.next_producer
                });
                state.names.insert(name, producer_id);
                let producer_epoch = state.producer_epochs.get(&producer_id).map_or(1, |epoch| epoch + 1);
                state.producer_epochs.insert(producer_id, producer_epoch);
                self.machine.reply(correlation, &ProducerOpened { producer_id, producer_epoch });
            }
            Request::ReadSequences(read) => {
                let known = state.partitions[read.partition as usize].sequences.get(&read.producer_id);
                let next_sequence = known.map_or(0, |(_, next)| *next);
                let reply = SequencesRead { producer_id: read.producer_id, next_sequence, last_offset: None };
                let Some(delay) = state.sequences_delay else {
                    return self.machine.reply(correlation, &reply);
                };
                let (stage, answer) = (self.stage.clone(), (self.number, correlation, reply));
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    stage.change(|state| state.sequences.push(answer));
                });
            }
            Request::OpenProducer(open) => {
                let (producer_id, producer_epoch) = if open.producer_id == 0 {
                    state.next_producer += 1;
                    (state.next_producer, 1)
                } else {
                    let current = state.producer_epochs[&open.producer_id];
                    if current != open.producer_epoch {
                        let fenced = error(ErrorCode::Fenced, &[("current_epoch", u64::from(current))]);
                        return self.machine.fail(correlation, &fenced);
                    }
                    (open.producer_id, open.producer_epoch + 1)
                };
                state.producer_epochs.insert(producer_id, producer_epoch);
                self.machine.reply(correlation, &ProducerOpened { producer_id, producer_epoch });
            }
            Request::Produce(produce) => self.produce(&mut state, correlation, &produce, body),
            Request::Unsubscribe(unsubscribe) => {
                self.subscriptions.remove(&unsubscribe.subscription);
                self.machine.unsubscribed(correlation, unsubscribe.subscription);
            }
            Request::Credit(credit) => {
                state.credited_bytes += credit.credit_bytes;
                if let Some(subscription) = self.subscriptions.get_mut(&credit.subscription) {
                    subscription.credit += i64::try_from(credit.credit_bytes).unwrap();
                }
            }
            Request::Subscribe(subscribe) if subscribe.member.is_some() || subscribe.group.is_some() => {
                match coordinator::start_of(&state, &subscribe) {
                    Ok(position) => self.subscribe(&state, correlation, &Subscribe { position, ..subscribe }),
                    Err(refusal) => self.machine.fail(correlation, &refusal),
                }
            }
            Request::Subscribe(subscribe) => self.subscribe(&state, correlation, &subscribe),
            other => coordinator::request(self, &mut state, correlation, other),
        }
        drop(state);
        self.stage.stir();
    }

    fn produce(&mut self, state: &mut State, correlation: u32, produce: &Produce, body: &Bytes) {
        let header = verify_producer(body).unwrap();
        state.seen.push(Seen {
            partition: produce.partition,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            first_sequence: header.first_sequence,
            message_count: header.message_count,
        });
        if self.cut {
            return;
        }
        self.unanswered += 1;
        state.max_unanswered = state.max_unanswered.max(self.unanswered);
        let act = state.script.pop_front().unwrap_or_else(|| state.default_act.clone());
        let is_cut = matches!(act, Act::CutBefore | Act::CutAfter);
        match act {
            Act::Refuse(code, details) => {
                self.unanswered -= 1;
                self.machine.fail(correlation, &error(code, &details));
            }
            Act::Ignore => {}
            Act::CutBefore => self.cut = true,
            Act::Forget => {
                let partition = &mut state.partitions[produce.partition as usize];
                partition.forgotten.insert((header.producer_id, header.producer_epoch));
                self.unanswered -= 1;
                self.machine.fail(correlation, &error(ErrorCode::UnknownProducer, &[]));
            }
            Act::Behave | Act::CutAfter | Act::Hold | Act::Late(_) | Act::FailUnknown => {
                let ack = match append(state, produce, body) {
                    Ok(ack) => ack,
                    Err(refusal) => {
                        self.cut |= is_cut;
                        self.unanswered -= 1;
                        return self.machine.fail(correlation, &refusal);
                    }
                };
                let answer = (self.number, correlation, ack);
                match act {
                    Act::CutAfter => self.cut = true,
                    Act::Hold if !state.released => state.held.push(answer),
                    Act::Late(delay) => {
                        let stage = self.stage.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(delay).await;
                            stage.change(|state| state.late.push(answer));
                        });
                    }
                    Act::FailUnknown => {
                        self.unanswered -= 1;
                        self.machine.fail(correlation, &error(ErrorCode::AppendUnknown, &[]));
                    }
                    _ => {
                        self.unanswered -= 1;
                        self.machine.reply(correlation, &answer.2);
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, state: &State, correlation: u32, subscribe: &Subscribe) {
        let Some(partition) = state.partitions.get(subscribe.partition as usize) else {
            return self.machine.fail(correlation, &error(ErrorCode::PartitionNotFound, &[]));
        };
        let next_offset = match subscribe.position.kind {
            PositionKind::Offset => subscribe.position.value,
            PositionKind::Latest => partition.next_offset,
            PositionKind::Last => {
                partition.next_offset.saturating_sub(subscribe.position.value).max(partition.start_offset)
            }
            _ => partition.start_offset,
        };
        if let Some(divergence) = partition.divergence(next_offset, subscribe.epoch) {
            let refusal = error(ErrorCode::LogTruncated, &[("divergence_offset", divergence)]);
            return self.machine.fail(correlation, &refusal);
        }
        if next_offset < partition.start_offset || partition.next_offset < next_offset {
            return self.machine.fail(correlation, &error(ErrorCode::OffsetOutOfRange, &[]));
        }
        let subscribed = Subscribed {
            start_offset: next_offset,
            log_start_offset: partition.start_offset,
            visible_end_offset: partition.next_offset,
            leader_epoch: partition.epoch,
        };
        self.machine.reply(correlation, &subscribed);
        let credit = i64::try_from(subscribe.credit_bytes).unwrap();
        let (partition, generation) = (subscribe.partition as usize, subscribe.generation);
        let subscription = Subscription { partition, next_offset, credit, generation };
        assert!(
            self.subscriptions.insert(subscribe.subscription, subscription).is_none(),
            "a subscription id came twice"
        );
    }
}

/// The rules of sequences, as the protocol has them.
fn append(state: &mut State, produce: &Produce, body: &Bytes) -> Result<ProduceAck, Error> {
    let header = verify_producer(body).unwrap();
    let partition = &mut state.partitions[produce.partition as usize];
    let ack = |base_offset, leader_epoch, flags| ProduceAck {
        base_offset,
        append_time_us: 7,
        leader_epoch,
        durability: Durability::Disk,
        flags,
    };
    if header.producer_id == 0 {
        return Ok(ack(partition.append(body, 7), partition.epoch, 0));
    }
    let current = state.producer_epochs.get(&header.producer_id).copied().unwrap_or(0);
    if header.producer_epoch < current {
        return Err(error(ErrorCode::Fenced, &[("current_epoch", u64::from(current))]));
    }
    if partition.forgotten.contains(&(header.producer_id, header.producer_epoch)) {
        return Err(error(ErrorCode::UnknownProducer, &[]));
    }
    let known = partition.sequences.get(&header.producer_id).copied();
    let key = (header.producer_id, header.producer_epoch, header.first_sequence);
    let end = header.first_sequence + u64::from(header.message_count);
    if header.flags & levada_protocol::batch::FLAG_EXTERNAL_SEQUENCE != 0 {
        let next = known.map_or(0, |(_, next)| next);
        if end <= next {
            let original = partition.acks.get(&key).cloned().unwrap_or_else(|| ack(0, partition.epoch, 0));
            return Ok(ProduceAck { flags: PRODUCE_ACK_DUPLICATE, ..original });
        }
        if header.first_sequence < next {
            return Err(error(ErrorCode::SequenceGap, &[("expected", next)]));
        }
        let done = ack(partition.append(body, 7), partition.epoch, 0);
        partition.sequences.insert(header.producer_id, (header.producer_epoch, end));
        partition.acks.insert(key, done.clone());
        return Ok(done);
    }
    let expected = match known {
        Some((epoch, next)) if epoch == header.producer_epoch => next,
        Some((_, next)) if state.names.values().any(|id| *id == header.producer_id) => next,
        Some(_) => 0,
        None if header.first_sequence == 0 => 0,
        None => return Err(error(ErrorCode::UnknownProducer, &[])),
    };
    if expected < header.first_sequence {
        return Err(error(ErrorCode::SequenceGap, &[("expected", expected)]));
    }
    if header.first_sequence < expected {
        let original = partition.acks.get(&key).expect("a duplicate has the shape of its original");
        return Ok(ProduceAck { flags: PRODUCE_ACK_DUPLICATE, ..original.clone() });
    }
    let done = ack(partition.append(body, 7), partition.epoch, 0);
    partition.sequences.insert(header.producer_id, (header.producer_epoch, expected + u64::from(header.message_count)));
    partition.acks.insert(key, done.clone());
    Ok(done)
}

struct Still;

impl Clock for Still {
    fn now_us(&self) -> i64 {
        1_000_000
    }
}

struct Counting(Mutex<u64>);

impl Random for Counting {
    fn next_u64(&self) -> u64 {
        let mut count = self.0.lock().unwrap();
        *count += 1;
        *count - 1
    }
}
