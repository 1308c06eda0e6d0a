//! The task of a link: dials, shakes hands, reads, writes, and gives its residents their turns; after a loss it waits a
//! jittered while and starts over.
//!
//! One loop: take commands and events, give turns, write, and sleep until something can be done. Reads land in the machine's
//! own buffer, writes are vectored, and nothing is copied here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use levada_protocol::ErrorCode;
use levada_protocol::client::{ClientConfig, ClientEvent, ClientFault, Connection};
use levada_protocol::frame_reader::FrameFault;
use levada_protocol::limits::MAX_REQUESTS_IN_FLIGHT;
use levada_protocol::messages::ServerFrame;
use levada_protocol::pool::BufferPool;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use super::outlet::{Outlet, Route, Waiter, refusal};
use super::{Answer, Command, LinkTerms, PendingCall, Resident};
use crate::address::ServerAddress;
use crate::backoff::Backoff;
use crate::consumer::core::ConsumerCore;
use crate::environment::ByteStream;
use crate::error::{Error, Result};
use crate::producer::core::{Pumped, is_final};

/// Receive buffers kept for reuse, in bytes.
const KEPT_BUFFER_BYTES: usize = 32 << 20;
/// Commands taken at once.
const COMMANDS_AT_ONCE: usize = 256;
/// A sleep with nothing to wait for: long, so that the loop needs no second case.
const FAR_MS: u64 = 24 * 3_600_000;

type Dial = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;

/// The state of the connection.
enum Wire {
    /// None; the next attempt is due then.
    Down {
        retry_at_ms: u64,
    },
    Dialing {
        dial: Dial,
        give_up_ms: u64,
    },
    Up(Box<Up>),
}

struct Up {
    stream: Box<dyn ByteStream>,
    machine: Connection,
    routes: BTreeMap<u32, Route>,
    subscriptions: BTreeMap<u32, u64>,
    /// Until then the handshake must be over; `None` once it is.
    shake_by_ms: Option<u64>,
    used_ticket: Option<Bytes>,
    farewell: Option<String>,
}

pub(crate) struct Driver {
    terms: Arc<LinkTerms>,
    inbox: mpsc::UnboundedReceiver<Command>,
    commands: Vec<Command>,
    /// No handle is left: the task ends when its residents are done.
    orphaned: bool,
    closing: bool,
    wire: Wire,
    backoff: Backoff,
    buffers: BufferPool,
    residents: BTreeMap<u64, Resident>,
    /// Residents that may have something to send.
    dirty: BTreeSet<u64>,
    connecting: Vec<oneshot::Sender<Result<()>>>,
    calls: VecDeque<PendingCall>,
    next_subscription: u32,
    sleep: Pin<Box<Sleep>>,
    sleep_until_ms: u64,
}

/// What ended an attempt or a connection.
enum End {
    /// Try again after a while.
    Lost(Error),
    /// The ticket was refused: try at once with the credentials themselves.
    StaleTicket,
    /// The server will not have this client.
    Refused(Error),
}

impl Driver {
    pub(crate) fn new(terms: Arc<LinkTerms>, inbox: mpsc::UnboundedReceiver<Command>) -> Driver {
        let sleep = Box::pin(tokio::time::sleep_until(terms.epoch + Duration::from_millis(FAR_MS)));
        Driver {
            backoff: Backoff::new(terms.backoff),
            inbox,
            commands: Vec::new(),
            orphaned: false,
            closing: false,
            wire: Wire::Down { retry_at_ms: 0 },
            buffers: BufferPool::new(KEPT_BUFFER_BYTES),
            residents: BTreeMap::new(),
            dirty: BTreeSet::new(),
            connecting: Vec::new(),
            calls: VecDeque::new(),
            next_subscription: 1,
            sleep,
            sleep_until_ms: FAR_MS,
            terms,
        }
    }

    /// Runs until the link is closed, or until nobody holds it and its residents are done.
    pub(crate) async fn run(mut self) {
        loop {
            self.obey();
            if self.closing || (self.orphaned && self.residents.is_empty()) {
                break;
            }
            let now_ms = self.terms.now_ms();
            if let Err(end) = self.advance(now_ms) {
                self.end(end, now_ms);
                continue;
            }
            self.arm(now_ms);
            std::future::poll_fn(|context| self.poll(context)).await;
        }
        self.finish().await;
    }

    // ------------------------------------------------------------ commands

    fn obey(&mut self) {
        for command in std::mem::take(&mut self.commands) {
            match command {
                Command::Connect(reply) => match &self.wire {
                    Wire::Up(up) if up.shake_by_ms.is_none() => {
                        let _ = reply.send(Ok(()));
                    }
                    _ => {
                        self.hurry();
                        self.connecting.push(reply);
                    }
                },
                Command::Call(call) => self.calls.push_back(call),
                Command::Add(id, resident) => {
                    self.residents.insert(id, *resident);
                    self.dirty.insert(id);
                }
                Command::Wake(id) => {
                    self.dirty.insert(id);
                }
                Command::Close => self.closing = true,
            }
        }
        self.calls.retain(|call| !call.reply.is_closed());
    }

    /// Somebody waits for a connection: the next attempt is due now.
    fn hurry(&mut self) {
        if let Wire::Down { retry_at_ms } = &mut self.wire {
            *retry_at_ms = 0;
        }
    }

    // ------------------------------------------------------------ progress

    fn advance(&mut self, now_ms: u64) -> std::result::Result<(), End> {
        match &mut self.wire {
            Wire::Down { retry_at_ms } => {
                let is_wanted = !self.residents.is_empty() || !self.calls.is_empty() || !self.connecting.is_empty();
                if is_wanted && *retry_at_ms <= now_ms {
                    self.dial(now_ms);
                }
            }
            Wire::Dialing { give_up_ms, .. } => {
                if *give_up_ms <= now_ms {
                    return Err(End::Lost(self.connect_failed("it took too long")));
                }
            }
            Wire::Up(_) => {
                self.watch(now_ms)?;
                self.take_events(now_ms)?;
            }
        }
        self.give_turns(now_ms);
        Ok(())
    }

    fn dial(&mut self, now_ms: u64) {
        let terms = Arc::clone(&self.terms);
        let dial = Box::pin(async move { terms.connector.connect(&terms.address).await });
        let give_up_ms = now_ms.saturating_add(as_ms(self.terms.connect_timeout));
        self.wire = Wire::Dialing { dial, give_up_ms };
    }

    fn connect_failed(&self, why: impl std::fmt::Display) -> Error {
        let address = &self.terms.address;
        Error::new(ErrorCode::ConnectFailed, format!("{address} could not be reached: {why}"))
            .with_detail("address", address)
    }

    fn shake_hands(&mut self, stream: Box<dyn ByteStream>, now_ms: u64) -> std::result::Result<(), End> {
        let credentials = self.terms.authenticate().map_err(End::Refused)?;
        let used_ticket = credentials
            .as_ref()
            .filter(|shown| shown.method == levada_protocol::messages::AuthMethod::Ticket)
            .map(|shown| shown.secret.clone());
        let config = ClientConfig { client: self.terms.client_name.clone(), credentials, ..ClientConfig::default() };
        self.wire = Wire::Up(Box::new(Up {
            stream,
            machine: Connection::new(config, self.buffers.clone(), now_ms),
            routes: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            shake_by_ms: Some(now_ms.saturating_add(as_ms(self.terms.connect_timeout))),
            used_ticket,
            farewell: None,
        }));
        Ok(())
    }

    /// Looks at the clock on behalf of the connection.
    fn watch(&mut self, now_ms: u64) -> std::result::Result<(), End> {
        let give_up_after_ms = as_ms(self.terms.request_timeout);
        let Wire::Up(up) = &mut self.wire else { return Ok(()) };
        if up.shake_by_ms.is_some_and(|by_ms| by_ms <= now_ms) {
            return Err(End::Lost(self.connect_failed("the handshake took too long")));
        }
        if up.machine.poll_deadline().is_some_and(|at_ms| at_ms <= now_ms) {
            up.machine.on_deadline(now_ms).map_err(|fault| up.end_of(&fault, &self.terms.address))?;
        }
        // Correlations ascend, so the first is the oldest.
        let oldest = up.routes.first_key_value().map(|(_, route)| route.sent_ms);
        if oldest.is_some_and(|sent_ms| sent_ms.saturating_add(give_up_after_ms) <= now_ms) {
            return Err(End::Lost(Error::connection_lost("a request was not answered in time")));
        }
        Ok(())
    }

    fn take_events(&mut self, now_ms: u64) -> std::result::Result<(), End> {
        loop {
            let Wire::Up(up) = &mut self.wire else { return Ok(()) };
            let event = up.machine.poll_event().map_err(|fault| up.end_of(&fault, &self.terms.address))?;
            match event {
                None => return Ok(()),
                Some(ClientEvent::Ready { welcome, authenticated }) => {
                    up.shake_by_ms = None;
                    self.terms.keep(welcome, authenticated);
                    self.backoff.reset();
                    self.dirty.extend(self.residents.keys());
                    for reply in self.connecting.drain(..) {
                        let _ = reply.send(Ok(()));
                    }
                }
                Some(ClientEvent::Refused(error)) => {
                    let error = Error::from_wire(&error);
                    if let Some(ticket) = &up.used_ticket {
                        self.terms.forget_ticket(ticket);
                        return Err(End::StaleTicket);
                    }
                    return Err(if is_final(&error) { End::Refused(error) } else { End::Lost(error) });
                }
                Some(ClientEvent::Reply { correlation, frame, body }) => {
                    if let Some(route) = up.routes.remove(&correlation) {
                        self.answer(route, Ok((frame, body)), now_ms);
                    }
                }
                Some(ClientEvent::Failed { correlation, error }) => {
                    if let Some(route) = up.routes.remove(&correlation) {
                        self.answer(route, Err(Error::from_wire(&error)), now_ms);
                    }
                }
                Some(ClientEvent::Push { frame, body }) => self.push(frame, body, now_ms),
                Some(ClientEvent::Goodbye(goodbye)) => up.farewell = Some(goodbye.message),
            }
        }
    }

    fn answer(&mut self, route: Route, outcome: Result<Answer>, now_ms: u64) {
        match route.waiter {
            // Nobody listening is no reason to do anything: the caller gave up.
            Waiter::Caller(reply) => drop(reply.send(outcome)),
            Waiter::Resident(id, tag) => {
                match self.residents.get_mut(&id) {
                    Some(Resident::Producer(core)) => core.on_reply(tag, outcome, now_ms),
                    Some(Resident::Consumer(core)) => core.on_reply(tag, outcome, now_ms),
                    None => {}
                }
                self.dirty.insert(id);
            }
        }
    }

    fn push(&mut self, frame: ServerFrame, body: Bytes, now_ms: u64) {
        let Wire::Up(up) = &mut self.wire else { return };
        let subscription = match &frame {
            ServerFrame::Deliver(deliver) => deliver.subscription,
            ServerFrame::SubscriptionEnded(ended) => ended.subscription,
            ServerFrame::GroupChanged(changed) => {
                if let Some((id, core)) = member(&mut self.residents, &changed.group, &changed.member) {
                    core.on_group_changed(changed);
                    self.dirty.insert(id);
                }
                return;
            }
            ServerFrame::MembershipEnded(ended) => {
                if let Some((id, core)) = member(&mut self.residents, &ended.group, &ended.member) {
                    core.on_membership_ended(ended, now_ms);
                    self.dirty.insert(id);
                }
                return;
            }
            _ => return,
        };
        // What was on its way when the subscription ended is for nobody.
        let Some(id) = up.subscriptions.get(&subscription).copied() else { return };
        let Some(Resident::Consumer(core)) = self.residents.get_mut(&id) else { return };
        match frame {
            ServerFrame::Deliver(deliver) => core.on_deliver(&deliver, body),
            ServerFrame::SubscriptionEnded(ended) => {
                up.subscriptions.remove(&subscription);
                core.on_ended(&ended, now_ms);
                self.dirty.insert(id);
            }
            _ => {}
        }
    }

    /// Lets waiting calls and residents send.
    fn give_turns(&mut self, now_ms: u64) {
        let due: Vec<u64> =
            self.residents.iter().filter(|(_, resident)| resident.is_due(now_ms)).map(|(id, _)| *id).collect();
        self.dirty.extend(due);
        let Wire::Up(up) = &mut self.wire else { return self.look(now_ms) };
        if up.shake_by_ms.is_some() {
            return self.look(now_ms);
        }
        while up.routes.len() < MAX_REQUESTS_IN_FLIGHT {
            let Some(call) = self.calls.pop_front() else { break };
            match (call.submit)(&mut up.machine) {
                Ok(correlation) => {
                    up.routes.insert(correlation, Route { waiter: Waiter::Caller(call.reply), sent_ms: now_ms });
                }
                Err(error) => {
                    drop(call.reply.send(Err(refusal(&error))));
                }
            }
        }
        let is_free = up.machine.outbound_bytes() == 0;
        let mut gone = Vec::new();
        let mut again = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            let Some(resident) = self.residents.get_mut(&id) else { continue };
            let mut outlet = Outlet {
                machine: &mut up.machine,
                routes: &mut up.routes,
                subscriptions: &mut up.subscriptions,
                next_subscription: &mut self.next_subscription,
                resident: id,
                now_ms,
                is_free,
            };
            let pumped = match resident {
                Resident::Producer(core) => core.pump(&mut outlet),
                Resident::Consumer(core) => core.pump(&mut outlet),
            };
            if pumped == Pumped::WantsMore {
                again.push(id);
            } else if resident.is_finished() {
                gone.push(id);
            }
        }
        self.dirty.extend(again);
        for id in gone {
            self.residents.remove(&id);
        }
    }

    /// Without a connection, residents still take notice of time and of being closed.
    fn look(&mut self, now_ms: u64) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(resident) = self.residents.get_mut(&id) else { continue };
            match resident {
                Resident::Producer(core) => core.look(now_ms),
                Resident::Consumer(core) => core.look(),
            }
            if resident.is_finished() {
                self.residents.remove(&id);
            }
        }
    }

    // ------------------------------------------------------------ waiting

    fn next_deadline_ms(&self) -> u64 {
        let wire = match &self.wire {
            Wire::Down { retry_at_ms } => {
                let is_wanted = !self.residents.is_empty() || !self.calls.is_empty() || !self.connecting.is_empty();
                is_wanted.then_some(*retry_at_ms)
            }
            Wire::Dialing { give_up_ms, .. } => Some(*give_up_ms),
            Wire::Up(up) => {
                let patience_ms = as_ms(self.terms.request_timeout);
                let oldest = up.routes.first_key_value().map(|(_, route)| route.sent_ms.saturating_add(patience_ms));
                [up.machine.poll_deadline(), up.shake_by_ms, oldest].into_iter().flatten().min()
            }
        };
        let residents = self.residents.values().filter_map(Resident::deadline_ms).min();
        [wire, residents].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Sets the timer. One that fires early is cheaper than one set anew every round.
    fn arm(&mut self, now_ms: u64) {
        let wanted_ms = self.next_deadline_ms().min(now_ms.saturating_add(FAR_MS)).max(now_ms);
        if wanted_ms < self.sleep_until_ms || self.sleep.is_elapsed() {
            self.sleep_until_ms = wanted_ms;
            let at: Instant = self.terms.epoch + Duration::from_millis(wanted_ms);
            self.sleep.as_mut().reset(at);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut woken = false;
        if !self.orphaned {
            match self.inbox.poll_recv_many(context, &mut self.commands, COMMANDS_AT_ONCE) {
                Poll::Ready(0) => (self.orphaned, woken) = (true, true),
                Poll::Ready(_) => woken = true,
                Poll::Pending => {}
            }
        }
        let now_ms = self.terms.now_ms();
        let ended = match &mut self.wire {
            Wire::Down { .. } => None,
            Wire::Dialing { dial, .. } => match dial.as_mut().poll(context) {
                Poll::Pending => None,
                Poll::Ready(Ok(stream)) => {
                    woken = true;
                    self.shake_hands(stream, now_ms).err()
                }
                Poll::Ready(Err(error)) => Some(self.dial_failed(&error)),
            },
            Wire::Up(up) => match up.poll(context, now_ms, &mut woken, !self.dirty.is_empty()) {
                Ok(()) => None,
                Err(error) => {
                    Some(End::Lost(Error::connection_lost(up.farewell.clone().unwrap_or_else(|| error.to_string()))))
                }
            },
        };
        if let Some(end) = ended {
            self.end(end, now_ms);
            woken = true;
        }
        if self.sleep.as_mut().poll(context).is_ready() {
            woken = true;
        }
        if woken { Poll::Ready(()) } else { Poll::Pending }
    }

    fn dial_failed(&self, error: &io::Error) -> End {
        let is_tls = error.kind() == io::ErrorKind::InvalidData
            && error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        if is_tls {
            let failed = Error::new(
                ErrorCode::TlsFailed,
                format!("the TLS handshake with {} failed: {error}", self.terms.address),
            );
            return End::Refused(failed.with_detail("reason", error));
        }
        End::Lost(self.connect_failed(error))
    }

    // ------------------------------------------------------------ endings

    /// The attempt or the connection is over: whoever waits is told, and the next attempt is set.
    fn end(&mut self, end: End, now_ms: u64) {
        let was_ready = matches!(&self.wire, Wire::Up(up) if up.shake_by_ms.is_none());
        let wait_ms = match &end {
            End::StaleTicket => 0,
            End::Lost(_) | End::Refused(_) => self.backoff.next_ms(self.terms.random.next_u64()),
        };
        let wire = std::mem::replace(&mut self.wire, Wire::Down { retry_at_ms: now_ms.saturating_add(wait_ms) });
        let routes = match wire {
            Wire::Up(up) => up.routes,
            Wire::Down { .. } | Wire::Dialing { .. } => BTreeMap::new(),
        };
        let (error, is_refused) = match end {
            End::StaleTicket => return,
            End::Lost(error) => (error, false),
            End::Refused(error) => (error, true),
        };
        tracing::debug!(address = %self.terms.address, %error, wait_ms, "no connection");
        for route in routes.into_values() {
            if let Waiter::Caller(reply) = route.waiter {
                drop(reply.send(Err(error.clone().with_maybe_applied(true))));
            }
        }
        for (id, resident) in &mut self.residents {
            match resident {
                Resident::Producer(core) if was_ready => core.on_lost(now_ms, &error),
                Resident::Consumer(core) if was_ready => core.on_lost(now_ms),
                _ => {}
            }
            if is_refused {
                match resident {
                    Resident::Producer(core) => core.on_refused_connection(&error),
                    Resident::Consumer(core) => core.on_refused_connection(&error),
                }
            }
            self.dirty.insert(*id);
        }
        for reply in self.connecting.drain(..) {
            drop(reply.send(Err(error.clone())));
        }
        if is_refused {
            for call in self.calls.drain(..) {
                drop(call.reply.send(Err(error.clone())));
            }
        }
    }

    async fn finish(mut self) {
        let error = Error::closed("client");
        for resident in self.residents.values_mut() {
            match resident {
                Resident::Producer(core) => core.stop(&error),
                Resident::Consumer(core) => core.stop(),
            }
        }
        if let Wire::Up(mut up) = self.wire {
            // A peer that does not take the farewell must not keep the task.
            let farewell = tokio::io::AsyncWriteExt::shutdown(&mut up.stream);
            let _ = tokio::time::timeout(Duration::from_millis(100), farewell).await;
        }
    }
}

impl Up {
    /// What a fault of the server's means to those who wait.
    fn end_of(&self, fault: &ClientFault, address: &ServerAddress) -> End {
        match fault {
            ClientFault::CredentialsMissing => End::Refused(Error::new(
                ErrorCode::Unauthenticated,
                "the server asks for credentials and there are none",
            )),
            ClientFault::Silent { .. } => End::Lost(Error::connection_lost(fault)),
            ClientFault::Told(why) => End::Lost(Error::connection_lost(self.farewell.as_deref().unwrap_or(why))),
            // Bytes damaged on their way are the connection's fault, and another may do better.
            ClientFault::Frame(FrameFault::Checksum) => End::Lost(Error::connection_lost(fault)),
            ClientFault::Frame(_) | ClientFault::Decode { .. } | ClientFault::Order { .. } => {
                tracing::warn!(%fault, "the server broke the protocol");
                let hint = if self.shake_by_ms.is_some() { "; is that the address of a Levada server?" } else { "" };
                let text = format!("{address} sent a frame that does not follow the protocol: {fault}{hint}");
                End::Lost(Error::new(ErrorCode::BadFrame, text))
            }
        }
    }

    /// Writes and reads what can be without waiting. `wants_room`: somebody waits for the connection to be free.
    fn poll(&mut self, context: &mut Context<'_>, now_ms: u64, woken: &mut bool, wants_room: bool) -> io::Result<()> {
        while self.machine.outbound_bytes() != 0 {
            let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(16);
            self.machine.slices(&mut slices);
            match Pin::new(&mut self.stream).poll_write_vectored(context, &slices) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    drop(slices);
                    self.machine.on_sent(count, now_ms);
                    *woken |= wants_room;
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        if let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(context) {
            flushed?;
        }
        let read = std::pin::pin!(self.stream.read_buf(self.machine.read_buffer())).poll(context);
        match read {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(0)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            Poll::Ready(Ok(_)) => {
                self.machine.on_received(now_ms);
                *woken = true;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(error),
        }
    }
}

impl Resident {
    fn deadline_ms(&self) -> Option<u64> {
        match self {
            Resident::Producer(core) => core.deadline_ms(),
            Resident::Consumer(core) => core.deadline_ms(),
        }
    }

    fn is_due(&self, now_ms: u64) -> bool {
        self.deadline_ms().is_some_and(|at_ms| at_ms <= now_ms)
    }

    fn is_finished(&self) -> bool {
        match self {
            Resident::Producer(core) => core.is_finished(),
            Resident::Consumer(core) => core.is_finished(),
        }
    }
}

/// The consumer that is that member of that group.
fn member<'a>(
    residents: &'a mut BTreeMap<u64, Resident>,
    group: &str,
    member: &str,
) -> Option<(u64, &'a mut ConsumerCore)> {
    residents.iter_mut().find_map(|(id, resident)| match resident {
        Resident::Consumer(core) if core.is_member(group, member) => Some((*id, core)),
        _ => None,
    })
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
