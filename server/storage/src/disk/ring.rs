//! io_uring: one ring per core, its descriptor watched by the runtime's poller.
//!
//! Operations are queued when they are called and handed to the kernel together, once per turn of the event loop, by a
//! driver task that also collects what is done. An operation owns its file and its memory until the kernel is finished
//! with them, whether or not anyone still waits for it; dropping the ring waits for that. If the ring itself fails, what
//! the kernel may still be using is leaked, never reused.
#![expect(unsafe_code, reason = "operations are handed to the kernel as addresses")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use io_uring::{IoUring, opcode, squeue, types};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use super::system::{ends_the_file, errno};
use super::{Durable, LocalFuture};
use crate::buffer::AlignedBuffer;

/// Operations queued between two turns of the loop that one system call can hand over.
const SUBMISSION_ENTRIES: u32 = 128;
/// Operations in the kernel at once: what its completion queue can hold.
const MAX_IN_KERNEL: u32 = 256;
/// Largest transfer of one operation that the kernel accepts, in whole blocks; the rest follows as after a short write.
const MAX_TRANSFER_BYTES: usize = 0x7fff_f000;
/// Pause after the kernel refused submissions for lack of resources.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);

/// A handle to a ring. The driver task ends, and the ring with it, after the last handle.
#[derive(Debug)]
pub(super) struct Ring {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fd: RawFd,
    state: RefCell<State>,
    /// There is something to submit, or to close.
    work: Notify,
    closing: Cell<bool>,
}

struct State {
    ring: IoUring,
    slots: Vec<Option<Op>>,
    free: Vec<usize>,
    /// Slots that wait to be submitted.
    backlog: VecDeque<usize>,
    in_kernel_count: u32,
    broken: Option<i32>,
}

struct Op {
    file: Arc<File>,
    done_bytes: usize,
    work: Work,
}

enum Work {
    Write { data: Bytes, offset: u64, durable: Durable, reply: oneshot::Sender<io::Result<()>> },
    Read { buffer: AlignedBuffer, offset: u64, reply: oneshot::Sender<(AlignedBuffer, io::Result<usize>)> },
    Sync { reply: oneshot::Sender<io::Result<()>> },
}

enum Step {
    Again,
    Done(io::Result<usize>),
}

impl Ring {
    /// Sets a ring up and starts its driver on the current local task set.
    pub(super) fn start() -> io::Result<Self> {
        let ring = build()?;
        let fd = ring.as_raw_fd();
        let state = State {
            ring,
            slots: Vec::new(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            in_kernel_count: 0,
            broken: None,
        };
        let shared = Rc::new(Shared { fd, state: RefCell::new(state), work: Notify::new(), closing: Cell::new(false) });
        // SAFETY: the descriptor belongs to the ring in `shared`, which is neither replaced nor dropped before the watch.
        let watched = unsafe { AsyncFd::register_with_interest(Watched(Rc::clone(&shared)), Interest::READABLE)? };
        tokio::task::spawn_local(drive(watched));
        Ok(Self { shared })
    }

    pub(super) fn write<'a>(
        &self,
        file: Arc<File>,
        data: Bytes,
        offset: u64,
        durable: Durable,
    ) -> LocalFuture<'a, io::Result<()>> {
        let (reply, answer) = oneshot::channel();
        self.queue(file, Work::Write { data, offset, durable, reply });
        Box::pin(async move { answer.await.expect(ANSWERED) })
    }

    pub(super) fn read<'a>(
        &self,
        file: Arc<File>,
        buffer: AlignedBuffer,
        offset: u64,
    ) -> LocalFuture<'a, (AlignedBuffer, io::Result<usize>)> {
        let (reply, answer) = oneshot::channel();
        self.queue(file, Work::Read { buffer, offset, reply });
        Box::pin(async move { answer.await.expect(ANSWERED) })
    }

    pub(super) fn sync<'a>(&self, file: Arc<File>) -> LocalFuture<'a, io::Result<()>> {
        let (reply, answer) = oneshot::channel();
        self.queue(file, Work::Sync { reply });
        Box::pin(async move { answer.await.expect(ANSWERED) })
    }

    fn queue(&self, file: Arc<File>, work: Work) {
        let op = Op { file, done_bytes: 0, work };
        let mut state = self.shared.state.borrow_mut();
        match state.broken {
            Some(code) => op.finish(Err(errno(code))),
            None => {
                state.queue(op);
                self.shared.work.notify_one();
            }
        }
    }
}

/// A handle keeps the driver alive, and the driver answers everything that is queued.
const ANSWERED: &str = "the driver answers every operation while its runtime runs";

impl Drop for Ring {
    fn drop(&mut self) {
        self.shared.closing.set(true);
        self.shared.work.notify_one();
    }
}

/// Keeps the ring open as long as the poller watches it.
struct Watched(Rc<Shared>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd
    }
}

/// Completions are processed when this thread is in the kernel anyway. Deferring them further (`DEFER_TASKRUN`) saves a
/// little more, but then the poller is not woken for each of them.
fn build() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(MAX_IN_KERNEL);
    let mut cooperative = builder.clone();
    cooperative.setup_coop_taskrun().setup_taskrun_flag();
    cooperative.build(SUBMISSION_ENTRIES).or_else(|_| builder.build(SUBMISSION_ENTRIES))
}

async fn drive(watched: AsyncFd<Watched>) {
    let shared = &watched.get_ref().0;
    loop {
        tokio::select! {
            biased;
            () = shared.work.notified() => {}
            ready = watched.readable() => match ready {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is shutting down; dropping the ring waits for what is in the kernel.
                Err(_) => return,
            },
        }
        let refused = shared.state.borrow_mut().turn();
        if refused {
            tokio::time::sleep(REFUSED_PAUSE).await;
            shared.work.notify_one();
        }
        if shared.closing.get() && shared.state.borrow().is_idle() {
            return;
        }
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.in_kernel_count == 0 && self.backlog.is_empty()
    }

    fn queue(&mut self, op: Op) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(op);
        self.backlog.push_back(slot);
    }

    /// Hands over what is queued and collects what is done, until neither gives more. True if the kernel wants a pause.
    fn turn(&mut self) -> bool {
        loop {
            self.fill();
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EAGAIN | libc::EBUSY) => {
                        self.collect();
                        return true;
                    }
                    code => {
                        self.break_down(code.unwrap_or(libc::EIO));
                        return false;
                    }
                },
            }
            let collected = self.collect();
            if collected == 0 || self.backlog.is_empty() {
                return false;
            }
        }
    }

    fn fill(&mut self) {
        while self.in_kernel_count < MAX_IN_KERNEL
            && let Some(&slot) = self.backlog.front()
        {
            let op = self.slots[slot].as_mut().expect("a queued slot is taken");
            let entry = op.entry().user_data(slot as u64);
            // SAFETY: the addresses in the entry are of memory that `op` owns, and `op` stays in its slot until the
            // completion of this entry was seen (or for ever).
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                // Full: the entries go to the kernel first, then comes the rest.
                return;
            }
            self.backlog.pop_front();
            self.in_kernel_count += 1;
        }
    }

    fn collect(&mut self) -> usize {
        let mut collected = 0;
        while let Some(done) = { self.ring.completion().next() } {
            collected += 1;
            self.in_kernel_count -= 1;
            let slot = usize::try_from(done.user_data()).expect("the number of a slot");
            let op = self.slots[slot].as_mut().expect("a slot in the kernel is taken");
            match op.on_completion(done.result()) {
                Step::Again => self.backlog.push_back(slot),
                Step::Done(outcome) => {
                    let op = self.slots[slot].take().expect("it was there just now");
                    self.free.push(slot);
                    op.finish(outcome);
                }
            }
        }
        collected
    }

    /// The ring cannot be used any more. Everyone gets the error; memory the kernel may still write to is never freed.
    fn break_down(&mut self, code: i32) {
        tracing::error!(error = %errno(code), "the io_uring failed");
        self.broken = Some(code);
        self.in_kernel_count = 0;
        self.backlog.clear();
        for op in self.slots.drain(..).flatten() {
            op.abandon(code);
        }
        self.free.clear();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        while !self.is_idle() {
            self.fill();
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => {}
                    code => self.break_down(code.unwrap_or(libc::EIO)),
                },
            }
            self.collect();
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("State").field("in_kernel_count", &self.in_kernel_count).finish_non_exhaustive()
    }
}

impl Op {
    fn entry(&mut self) -> squeue::Entry {
        let file = types::Fd(self.file.as_raw_fd());
        let done = self.done_bytes;
        match &mut self.work {
            Work::Write { data, offset, durable, .. } => {
                let rest = &data[done..];
                let flags = if *durable == Durable::Yes { libc::RWF_DSYNC } else { 0 };
                opcode::Write::new(file, rest.as_ptr(), transfer_len(rest))
                    .offset(*offset + done as u64)
                    .rw_flags(flags)
                    .build()
            }
            Work::Read { buffer, offset, .. } => {
                let rest = &mut buffer.as_mut_slice()[done..];
                opcode::Read::new(file, rest.as_mut_ptr(), transfer_len(rest)).offset(*offset + done as u64).build()
            }
            Work::Sync { .. } => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
        }
    }

    fn on_completion(&mut self, result: i32) -> Step {
        let Ok(count) = usize::try_from(result) else {
            return match -result {
                libc::EINTR | libc::EAGAIN => Step::Again,
                code => Step::Done(Err(errno(code))),
            };
        };
        self.done_bytes += count;
        let done = self.done_bytes;
        match &self.work {
            Work::Sync { .. } => Step::Done(Ok(0)),
            Work::Write { data, .. } if done == data.len() => Step::Done(Ok(done)),
            Work::Write { .. } if count == 0 => Step::Done(Err(errno(libc::EIO))),
            Work::Read { buffer, .. } if count == 0 || done == buffer.len() || ends_the_file(done) => {
                Step::Done(Ok(done))
            }
            Work::Write { .. } | Work::Read { .. } => Step::Again,
        }
    }

    /// Answers; a caller that has gone away does not want the result.
    fn finish(self, outcome: io::Result<usize>) {
        match self.work {
            Work::Write { reply, .. } | Work::Sync { reply } => drop(reply.send(outcome.map(drop))),
            Work::Read { buffer, reply, .. } => drop(reply.send((buffer, outcome))),
        }
    }

    /// Answers with an error and leaks everything the kernel knows of. A reader gets a buffer that is not the one it gave.
    fn abandon(self, code: i32) {
        std::mem::forget(self.file);
        match self.work {
            Work::Write { data, reply, .. } => {
                std::mem::forget(data);
                drop(reply.send(Err(errno(code))));
            }
            Work::Read { buffer, reply, .. } => {
                let substitute = buffer.substitute();
                std::mem::forget(buffer);
                drop(reply.send((substitute, Err(errno(code)))));
            }
            Work::Sync { reply } => drop(reply.send(Err(errno(code)))),
        }
    }
}

fn transfer_len(rest: &[u8]) -> u32 {
    u32::try_from(rest.len().min(MAX_TRANSFER_BYTES)).expect("the largest transfer fits")
}
