//! The loop of one connection: what shards answered → what the client asked → what the socket takes → what it gives, again
//! until none of them moves; then it sleeps on all of them and one timer.
//!
//! One task, polled by hand in that fixed order, so that a wake-up drains everything there is: all complete requests of a
//! read, all receipts of a flush in one write. It reads no more while a produce request of its own waits for room in the
//! log, while too much waits for the client, or before the budget has room for a large frame: what is not read waits in
//! the kernel, and then in the client.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use levada_protocol::messages::GoodbyeReason;
use levada_protocol::server::{self, ServerFault};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::admin::Rights;
use crate::broker::link::{OutboundCharge, REMOTE_INBOX_MESSAGES, SharedCharge};
use crate::broker::{ConnectionId, Link, Mailbox, Origin, Outbound, Readable, ToConnection};
use crate::edge::access::Pushing;
use crate::edge::groups::{Carried, GroupsInbox, Positioning};
use crate::edge::limits::Admitted;
use crate::edge::listener::{Edge, Live};
use crate::edge::quota::Metered;

/// Bytes of deliveries that may wait for the socket: enough to keep it busy while the next are read.
const OUTBOUND_BYTES: usize = 4 << 20;
/// Times around the loop before the core looks at its disk and its other sockets: completions of the disk must not wait
/// behind a client that always has more to say.
const ROUNDS: usize = 4;
/// How long a connection that has to end may take to hear its last answers and to send its last words.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client closed it.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// The protocol's rules.
    Fault(ServerFault),
    /// Said goodbye.
    Goodbye(GoodbyeReason),
    /// Unsent bytes or a frame begun made no progress.
    Stalled(&'static str),
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => formatter.write_str("closed by the client"),
            Self::Io(error) => write!(formatter, "{error}"),
            Self::Fault(fault) => write!(formatter, "{fault}"),
            Self::Goodbye(reason) => write!(formatter, "goodbye: {reason:?}"),
            Self::Stalled(what) => formatter.write_str(what),
        }
    }
}

/// Whether the client may still ask.
#[derive(Debug)]
enum Stage {
    /// It may.
    Open,
    /// Not any more, but produce and administrative requests are still being answered; then goodbye.
    Draining(GoodbyeReason, &'static str),
    /// The last words are on their way.
    Ending(End),
}

/// A produce request under way.
#[derive(Debug, Default)]
pub(super) struct Producing {
    /// Bytes of its batch, if they are kept elsewhere until it is answered: by another core, or to be encoded.
    pub(super) held_bytes: usize,
    /// What was charged for them, given back with the answer.
    _charge: Option<SharedCharge>,
}

impl Producing {
    /// Of a batch that is kept elsewhere.
    pub(super) fn held(held_bytes: usize, charge: Option<SharedCharge>) -> Self {
        Self { held_bytes, _charge: charge }
    }
}

/// A connection and its task.
pub(super) struct ConnectionTask<S> {
    pub(super) edge: Rc<Edge>,
    pub(super) machine: server::Connection,
    pub(super) peer: IpAddr,
    /// Whether nobody on the way can read along.
    pub(super) confidential: bool,
    pub(super) admitted: Admitted,
    pub(super) live: Rc<Live>,
    pub(super) origin: Origin,
    pub(super) link: Arc<Link>,
    pub(super) readable: Readable,
    /// Live subscriptions, by the number the client gave them.
    pub(super) subscriptions: BTreeMap<u32, Pushing>,
    /// What the user takes, once it is known.
    pub(super) metered: Option<Metered>,
    /// What the principal may do.
    pub(super) rights: Rights,
    /// Topics of the Fetch requests under way, by correlation.
    pub(super) fetching: BTreeMap<u32, u32>,
    /// Subscribe requests under way, by correlation.
    pub(super) subscribing: BTreeMap<u32, u32>,
    /// Assignments that subscriptions end with.
    pub(super) carried: BTreeMap<u32, Carried>,
    /// Requests that wait for what their group knows, by correlation.
    pub(super) positioning: BTreeMap<u32, Positioning>,
    /// The inbox for the owner of groups, made when first needed.
    pub(super) groups: GroupsInbox,
    /// Produce requests under way, by correlation.
    pub(super) producing: BTreeMap<u32, Producing>,
    /// Bytes of their batches that are kept elsewhere.
    pub(super) held_bytes: usize,
    /// Administrative requests under way.
    pub(super) administering_count: usize,
    /// The inbox for other cores, made when first needed.
    remote: Option<(mpsc::Sender<ToConnection>, mpsc::Receiver<ToConnection>)>,
    stream: S,
    stage: Stage,
    /// What was charged for the large frame being received, or for a parked one.
    pub(super) inbound: Option<SharedCharge>,
    waiting_for_budget: Option<Pin<Box<dyn Future<Output = SharedCharge>>>>,
    /// Deliveries that have not left yet, oldest first.
    charges: VecDeque<OutboundCharge>,
    charged_bytes: usize,
    needs_flush: bool,
    heard_ms: u64,
    /// Since when unsent bytes have made no progress.
    stuck_since_ms: Option<u64>,
    ending_since_ms: u64,
    timer: Option<(u64, Pin<Box<Sleep>>)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ConnectionTask<S> {
    pub(super) fn new(
        edge: Rc<Edge>,
        live: Rc<Live>,
        id: ConnectionId,
        stream: S,
        machine: server::Connection,
        peer: IpAddr,
        admitted: Admitted,
    ) -> Self {
        let outbound_bytes = OUTBOUND_BYTES.min(edge.options.connection_bytes / 4);
        let outbound = Outbound::new(outbound_bytes, Arc::clone(&edge.budget));
        Self {
            machine,
            peer,
            confidential: false,
            admitted,
            origin: Origin::Local(Rc::clone(&live.mailbox)),
            live,
            link: Arc::new(Link::new(id, outbound)),
            readable: Readable::default(),
            subscriptions: BTreeMap::new(),
            metered: None,
            rights: Rights::default(),
            fetching: BTreeMap::new(),
            subscribing: BTreeMap::new(),
            carried: BTreeMap::new(),
            positioning: BTreeMap::new(),
            groups: None,
            producing: BTreeMap::new(),
            held_bytes: 0,
            administering_count: 0,
            remote: None,
            stream,
            stage: Stage::Open,
            inbound: None,
            waiting_for_budget: None,
            charges: VecDeque::new(),
            charged_bytes: 0,
            needs_flush: false,
            heard_ms: edge.now_ms(),
            stuck_since_ms: None,
            ending_since_ms: 0,
            timer: None,
            edge,
        }
    }

    /// Puts back a byte that was read to see what the connection speaks.
    pub(super) fn replay(&mut self, first: u8) {
        self.machine.read_buffer().put_u8(first);
    }

    /// Runs to the end of the connection.
    pub(super) async fn run(&mut self) -> End {
        let end = poll_fn(|context| self.poll(context)).await;
        self.link.close();
        if self.groups.is_some() {
            self.edge.groups.gone(self.link.id);
        }
        end
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        self.mailbox().listen(context);
        for _ in 0..ROUNDS {
            let mut moved = self.take_mail(context);
            moved |= self.take_requests();
            match self.poll_write(context) {
                Ok(wrote) => moved |= wrote,
                Err(error) => return Poll::Ready(End::Io(error)),
            }
            if let Some(end) = self.poll_ended(context) {
                return Poll::Ready(end);
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(End::Closed),
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(error)) => return Poll::Ready(End::Io(error)),
                Poll::Pending => {}
            }
            if !moved {
                match self.poll_timer(context) {
                    Poll::Ready(Some(end)) => return Poll::Ready(end),
                    Poll::Ready(None) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
        // Yielding to the runtime, unlike waking oneself, lets it poll its drivers first.
        let _first_poll_is_pending = pin!(tokio::task::yield_now()).poll(context);
        Poll::Pending
    }

    /// Hands the machine what shards and the control thread have for the client.
    fn take_mail(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some(message) = self.live.mailbox.pop() {
            self.on_message(message);
            moved = true;
        }
        while let Some((_, inbox)) = &mut self.remote
            && let Poll::Ready(Some(message)) = inbox.poll_recv(context)
        {
            self.on_message(message);
            moved = true;
        }
        while let Some((_, inbox)) = &mut self.groups
            && let Poll::Ready(Some(message)) = inbox.poll_recv(context)
        {
            self.on_message(message);
            moved = true;
        }
        moved
    }

    /// Carries out every request that is here in full.
    fn take_requests(&mut self) -> bool {
        let mut moved = false;
        while self.may_ask() {
            match self.machine.poll_event() {
                Ok(Some(event)) => {
                    moved = true;
                    self.on_event(event);
                }
                Ok(None) => break,
                Err(fault) => {
                    self.end(End::Fault(fault));
                    return true;
                }
            }
        }
        moved
    }

    /// Whether another request may be taken up now.
    fn may_ask(&self) -> bool {
        matches!(self.stage, Stage::Open)
            && self.mailbox().parked_count() == 0
            && self.held_bytes < self.edge.options.connection_bytes / 4
            && self.machine.outbound_bytes() < self.edge.options.connection_bytes / 4
    }

    /// Reads once, if there may be more from the client and there is room for it.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.stage {
            Stage::Open if !self.may_ask() => return Poll::Pending,
            Stage::Open => ready!(self.poll_budget(context)),
            // Only to notice that the client is gone; a read here throws away.
            Stage::Draining(..) | Stage::Ending(_) => return Poll::Pending,
        }
        if self.inbound.is_some() && self.machine.large_missing_bytes() == 0 {
            // The frame it was taken for is done with.
            self.inbound = None;
        }
        let mut read = pin!(self.stream.read_buf(self.machine.read_buffer()));
        let count = ready!(read.as_mut().poll(context))?;
        self.heard_ms = self.edge.now_ms();
        self.machine.on_received(self.heard_ms, self.edge.shard.now_us());
        Poll::Ready(Ok(count))
    }

    /// Takes the bytes of a large frame from the budget before the rest of it is read.
    fn poll_budget(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let missing_bytes = self.machine.large_missing_bytes();
        if missing_bytes == 0 || self.inbound.is_some() {
            return Poll::Ready(());
        }
        if self.waiting_for_budget.is_none() {
            if let Some(charge) = self.edge.budget.try_take(missing_bytes) {
                self.inbound = Some(charge);
                return Poll::Ready(());
            }
            let budget = Arc::clone(&self.edge.budget);
            self.waiting_for_budget = Some(Box::pin(async move { budget.take(missing_bytes).await }));
        }
        if let Some(waiting) = &mut self.waiting_for_budget {
            self.inbound = Some(ready!(waiting.as_mut().poll(context)));
            self.waiting_for_budget = None;
        }
        Poll::Ready(())
    }

    /// Writes as much as the socket takes.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while 0 < self.machine.outbound_bytes() {
            let mut slices = Vec::new();
            self.machine.slices(&mut slices);
            match Pin::new(&mut self.stream).poll_write_vectored(context, &slices) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    drop(slices);
                    self.machine.on_sent(count);
                    self.needs_flush = true;
                    self.stuck_since_ms = None;
                    moved = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.stuck_since_ms.get_or_insert_with(|| self.edge.now_ms());
                    break;
                }
            }
        }
        if self.needs_flush && self.machine.outbound_bytes() == 0 {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(flushed) => {
                    flushed?;
                    self.needs_flush = false;
                }
                Poll::Pending => {
                    self.stuck_since_ms.get_or_insert_with(|| self.edge.now_ms());
                }
            }
        }
        self.release_charges();
        Ok(moved)
    }

    /// Gives back what was taken for deliveries that have left.
    fn release_charges(&mut self) {
        let unsent_bytes = self.machine.outbound_bytes();
        while unsent_bytes < self.charged_bytes
            && let Some(charge) = self.charges.pop_front()
        {
            self.charged_bytes -= charge.own_bytes;
            self.link.outbound.give_back(charge.own_bytes);
        }
    }

    pub(super) fn charge(&mut self, charge: OutboundCharge) {
        self.charged_bytes += charge.own_bytes;
        self.charges.push_back(charge);
    }

    /// Whether everything that was to be said before the end has been said.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Option<End> {
        if let Stage::Draining(reason, message) = self.stage
            && self.producing.is_empty()
            && self.administering_count == 0
        {
            self.say_goodbye(reason, message);
            // The goodbye goes out with the next round.
            context.waker().wake_by_ref();
            return None;
        }
        if let Stage::Ending(_) = self.stage {
            if 0 < self.machine.outbound_bytes() || self.needs_flush {
                return None;
            }
            if Pin::new(&mut self.stream).poll_shutdown(context).is_pending() {
                return None;
            }
            if let Stage::Ending(end) = std::mem::replace(&mut self.stage, Stage::Open) {
                return Some(end);
            }
        }
        None
    }

    /// Nothing is read any more; the connection ends when what is queued has been sent.
    pub(super) fn end(&mut self, end: End) {
        if !matches!(self.stage, Stage::Ending(_)) {
            self.ending_since_ms = self.edge.now_ms();
            self.stage = Stage::Ending(end);
            self.link.close();
        }
    }

    fn say_goodbye(&mut self, reason: GoodbyeReason, message: &'static str) {
        self.machine.goodbye(reason, message);
        self.end(End::Goodbye(reason));
    }

    /// Takes no more requests; says goodbye when the produce and administrative requests under way are answered: who changes
    /// the own password hears that it was changed.
    pub(super) fn drain(&mut self, reason: GoodbyeReason, message: &'static str) {
        if matches!(self.stage, Stage::Open) {
            self.ending_since_ms = self.edge.now_ms();
            self.stage = Stage::Draining(reason, message);
        }
    }

    /// Whether the client is no longer who it said it is: it gets answers to what it asked before, and no more messages.
    pub(super) fn is_revoked(&self) -> bool {
        matches!(self.stage, Stage::Draining(GoodbyeReason::Revoked, _))
    }

    /// Sleeps until the next deadline. `Ready` says that one has passed; with an end if the connection is over.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Option<End>> {
        let Some(deadline_ms) = self.deadline_ms() else {
            return Poll::Pending;
        };
        let now_ms = self.edge.now_ms();
        if deadline_ms <= now_ms {
            return Poll::Ready(self.on_deadline(now_ms));
        }
        // Armed for an earlier moment it just fires once for nothing: cheaper than moving it with every request.
        match &mut self.timer {
            Some((armed_ms, _)) if now_ms < *armed_ms && *armed_ms <= deadline_ms => {}
            Some((armed_ms, timer)) => {
                *armed_ms = deadline_ms;
                timer.as_mut().reset(self.edge.instant_of(deadline_ms));
            }
            none => {
                let timer = tokio::time::sleep_until(self.edge.instant_of(deadline_ms));
                *none = Some((deadline_ms, Box::pin(timer)));
            }
        }
        if let Some((_, timer)) = &mut self.timer {
            ready!(timer.as_mut().poll(context));
        }
        Poll::Ready(None)
    }

    fn slow_ms(&self) -> u64 {
        u64::try_from(self.edge.options.slow_timeout.as_millis()).unwrap_or(u64::MAX)
    }

    fn deadline_ms(&self) -> Option<u64> {
        let last_words_ms = u64::try_from(LAST_WORDS.as_millis()).unwrap_or(u64::MAX);
        // A shutdown has a limit of its own.
        let is_parting = matches!(self.stage, Stage::Ending(_)) || self.is_revoked();
        let ending = is_parting.then(|| self.ending_since_ms.saturating_add(last_words_ms));
        let stuck = self.stuck_since_ms.map(|since_ms| since_ms.saturating_add(self.slow_ms()));
        [self.machine.poll_deadline(), ending, stuck, self.frame_deadline_ms()].into_iter().flatten().min()
    }

    /// When a large frame begun must have made progress. None while it is this end that does not read.
    fn frame_deadline_ms(&self) -> Option<u64> {
        let waits_for_client = 0 < self.machine.large_missing_bytes() && self.inbound.is_some() && self.may_ask();
        waits_for_client.then(|| self.heard_ms.saturating_add(self.slow_ms()))
    }

    fn on_deadline(&mut self, now_ms: u64) -> Option<End> {
        let is_over = |deadline_ms: Option<u64>| deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms);
        if let Stage::Ending(_) = self.stage {
            return match std::mem::replace(&mut self.stage, Stage::Open) {
                Stage::Ending(end) => Some(end),
                _ => Some(End::Closed),
            };
        }
        if let Stage::Draining(GoodbyeReason::Revoked, message) = self.stage
            && is_over(self.deadline_ms())
        {
            self.say_goodbye(GoodbyeReason::Revoked, message);
            return None;
        }
        if is_over(self.stuck_since_ms.map(|since_ms| since_ms.saturating_add(self.slow_ms()))) {
            return Some(End::Stalled("unsent bytes made no progress"));
        }
        if is_over(self.frame_deadline_ms()) {
            return Some(End::Stalled("a frame begun made no progress"));
        }
        if let Err(fault) = self.machine.on_deadline(now_ms) {
            self.end(End::Fault(fault));
        }
        None
    }

    /// The inbox for other cores.
    pub(super) fn remote_inbox(remote: &mut Remote) -> mpsc::Sender<ToConnection> {
        remote.get_or_insert_with(|| mpsc::channel(REMOTE_INBOX_MESSAGES)).0.clone()
    }

    pub(super) fn remote_mut(&mut self) -> &mut Remote {
        &mut self.remote
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.live.mailbox
    }
}

/// The inbox for other cores, made when first needed.
pub(super) type Remote = Option<(mpsc::Sender<ToConnection>, mpsc::Receiver<ToConnection>)>;
