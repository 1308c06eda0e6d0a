//! A disk in memory that can lose power, for tests and simulation. Everything it decides follows from its seed.
//!
//! The model, as unkind as a correct file system on a correct device may be:
//!
//! - A completed write may, until it is flushed, persist in any subset of its 512-byte sectors. So may a write in flight.
//! - A [`Durable::Yes`] write is durable, with the length it needs, when it completes; earlier writes of the file are not.
//! - `sync` makes durable what had completed when it was called. The length of a file grows apart from its data.
//! - A truncation or reservation may or may not survive until a sync. What is reserved and not written reads as zero.
//! - Creations, renames and removals are atomic, and durable after a `sync_dir` of a directory they touch. Until then each
//!   may or may not survive, except that changes of one name or of one file keep their order. `sync` does not cover them.
//! - After a failed flush, what it covered can never become durable, whatever later flushes say. It stays readable, or is
//!   dropped when the process ends; only what is written again afterwards can become durable.
//! - Operations start when called, complete after a delay drawn from the seed, and complete even if the caller is gone.
//!
//! A process can end without a power cut: then the next one finds everything that had been written, flushed or not. After
//! either every operation on the old handles fails with `EIO`.

mod content;
mod file;
mod random;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::file::Effect;
use self::random::Random;
use self::world::{Id, World, errno};
use crate::buffer::AlignedBuffer;
use crate::disk::fault::{FaultPlan, FaultPoint, Operation};
use crate::disk::{DirEntry, Disk, Durable, File, LocalFuture, OpenMode, Space, check_read, check_write};

/// What a power cut leaves of everything that is not certainly durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    SyncedOnly,
    /// All of it, also what is in flight.
    Everything,
    /// A subset: of the sectors of each write, of the other effects, of the changes of names.
    Random,
}

impl Survival {
    /// What [`CrashDisk::image`] and [`CrashDisk::crash_now`] use: of eight seeds one loses all, one keeps all.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        match seed % 8 {
            0 => Self::SyncedOnly,
            1 => Self::Everything,
            _ => Self::Random,
        }
    }
}

/// How a [`CrashDisk`] behaves while it has power.
#[derive(Clone, Debug)]
pub struct CrashOptions {
    /// Space for files; writes and reservations beyond it fail with `ENOSPC`.
    pub capacity_bytes: u64,
    /// Shortest time an operation on a file takes.
    pub min_delay: Duration,
    /// Longest. If zero, operations complete when they are called; tokio's timers round up to whole milliseconds.
    pub max_delay: Duration,
}

impl Default for CrashOptions {
    fn default() -> Self {
        Self { capacity_bytes: 1 << 40, min_delay: Duration::ZERO, max_delay: Duration::ZERO }
    }
}

/// The disk. Clones are handles to the same one.
#[derive(Clone)]
pub struct CrashDisk {
    shared: Rc<RefCell<State>>,
}

type Completion = Box<dyn FnOnce(&mut State)>;

struct State {
    world: World,
    options: CrashOptions,
    random: Random,
    faults: FaultPlan,
    /// Operations in flight, by when they complete.
    queue: BTreeMap<(Instant, u64), Completion>,
    submitted_count: u64,
    history: Option<Vec<(String, World)>>,
    has_power: bool,
    handles: BTreeMap<Id, usize>,
}

impl CrashDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64, options: CrashOptions) -> Self {
        Self::with_world(World::new(options.capacity_bytes), seed, options)
    }

    fn with_world(world: World, seed: u64, options: CrashOptions) -> Self {
        let state = State {
            world,
            options,
            random: Random::new(seed),
            faults: FaultPlan::default(),
            queue: BTreeMap::new(),
            submitted_count: 0,
            history: None,
            has_power: true,
            handles: BTreeMap::new(),
        };
        Self { shared: Rc::new(RefCell::new(state)) }
    }

    /// Cuts the power: the old handles fail from now on. Returns the disk as the next start finds it.
    #[must_use]
    pub fn crash_now(&self, seed: u64) -> Self {
        self.crash_with(Survival::of_seed(seed), seed)
    }

    /// As [`CrashDisk::crash_now`] with a choice of what survives.
    #[must_use]
    pub fn crash_with(&self, survival: Survival, seed: u64) -> Self {
        let mut state = self.shared.borrow_mut();
        state.advance();
        let mut random = Random::new(seed);
        let world = state.world.after_crash(survival, &mut random);
        state.has_power = false;
        for (_, complete) in std::mem::take(&mut state.queue) {
            complete(&mut state);
        }
        Self::with_world(world, random.next(), state.options.clone())
    }

    /// Ends the process that uses the disk, but not the power: what is in flight completes unseen, and the old handles fail
    /// from now on. Returns the disk as the next process finds it.
    #[must_use]
    pub fn exit_now(&self, seed: u64) -> Self {
        let mut state = self.shared.borrow_mut();
        state.advance();
        for (_, complete) in std::mem::take(&mut state.queue) {
            complete(&mut state);
        }
        state.has_power = false;
        let mut random = Random::new(seed);
        // Files that only the old handles kept are gone with them.
        let mut world = state.world.after_exit(&mut random);
        world.collect(&BTreeMap::new());
        Self::with_world(world, random.next(), state.options.clone())
    }

    /// Starts to remember the disk after every event, for [`CrashDisk::image`]. Forgets what it remembered before.
    pub fn record(&self) {
        let mut state = self.shared.borrow_mut();
        state.advance();
        state.history = Some(vec![("start".to_owned(), state.world.clone())]);
    }

    /// Events so far since `record`: submissions and completions. What was acknowledged before this call must be found in
    /// every image whose prefix is at least the number it returned.
    #[must_use]
    pub fn recorded_count(&self) -> usize {
        let mut state = self.shared.borrow_mut();
        state.advance();
        state.history.as_ref().map_or(0, |history| history.len() - 1)
    }

    /// The last event of a prefix, for messages.
    ///
    /// # Panics
    /// If there is no such prefix.
    #[must_use]
    pub fn recorded_event(&self, prefix: usize) -> String {
        self.shared.borrow().history.as_ref().expect("the disk is recording")[prefix].0.clone()
    }

    /// The disk after a power cut that followed the first `prefix` recorded events. This one goes on.
    ///
    /// # Panics
    /// If there is no such prefix.
    #[must_use]
    pub fn image(&self, prefix: usize, seed: u64) -> Self {
        self.image_with(prefix, Survival::of_seed(seed), seed)
    }

    /// As [`CrashDisk::image`] with a choice of what survives.
    ///
    /// # Panics
    /// If there is no such prefix.
    #[must_use]
    pub fn image_with(&self, prefix: usize, survival: Survival, seed: u64) -> Self {
        let state = self.shared.borrow();
        let mut random = Random::new(seed);
        let (_, world) = &state.history.as_ref().expect("the disk is recording")[prefix];
        Self::with_world(world.after_crash(survival, &mut random), random.next(), state.options.clone())
    }

    /// Makes the `nth` matching operation from now (the first is 1) fail with `errno`. A failing write leaves some of its
    /// sectors behind.
    pub fn fail(&self, point: FaultPoint, nth: u64, errno: i32) {
        self.shared.borrow_mut().faults.fail(point, nth, errno);
    }

    /// Changes the capacity.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        let mut state = self.shared.borrow_mut();
        state.options.capacity_bytes = capacity_bytes;
        state.world.set_capacity(capacity_bytes);
    }

    /// Flips one bit of a file, on the device and for readers.
    ///
    /// # Errors
    /// `EINVAL` if the file ends before it, and those of a missing file.
    pub fn flip_bit(&self, path: &Path, byte_offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.shared.borrow_mut();
        state.advance();
        let id = state.world.find_file(path)?;
        if state.world.live(id).len_bytes() <= byte_offset {
            return Err(errno(libc::EINVAL));
        }
        state.world.file(id).damage(|content| content.flip(byte_offset, bit));
        Ok(())
    }

    /// Cuts a file to `len_bytes`, on the device and for readers.
    ///
    /// # Errors
    /// Those of a missing file.
    pub fn cut(&self, path: &Path, len_bytes: u64) -> io::Result<()> {
        let mut state = self.shared.borrow_mut();
        state.advance();
        let id = state.world.find_file(path)?;
        state.world.file(id).damage(|content| content.set_len(len_bytes));
        Ok(())
    }

    /// The whole of a file as a reader sees it now, for assertions.
    ///
    /// # Errors
    /// Those of a missing file.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.shared.borrow_mut();
        state.advance();
        let id = state.world.find_file(path)?;
        let content = state.world.live(id);
        let mut bytes = vec![0; usize::try_from(content.len_bytes()).map_err(|_| errno(libc::EFBIG))?];
        content.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Changes names at once: they take no time, only their durability does.
    fn change_names<'a, T: 'a>(
        &self,
        event: impl FnOnce() -> String,
        change: impl FnOnce(&mut World) -> io::Result<T>,
    ) -> LocalFuture<'a, io::Result<T>> {
        let mut state = self.shared.borrow_mut();
        state.advance();
        let changed = state.powered().and_then(|()| change(&mut state.world));
        if changed.is_ok() {
            state.remember(event);
        }
        Box::pin(std::future::ready(changed))
    }
}

impl fmt::Debug for CrashDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CrashDisk").field("options", &self.shared.borrow().options).finish_non_exhaustive()
    }
}

impl State {
    fn powered(&self) -> io::Result<()> {
        if self.has_power { Ok(()) } else { Err(errno(libc::EIO)) }
    }

    /// Completes what is due, in order.
    fn advance(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= now
        {
            let complete = entry.remove();
            complete(self);
        }
    }

    fn remember(&mut self, event: impl FnOnce() -> String) {
        if let Some(history) = &mut self.history {
            history.push((event(), self.world.clone()));
        }
    }

    fn delay(&mut self) -> Option<Duration> {
        let CrashOptions { min_delay, max_delay, .. } = self.options;
        if max_delay.is_zero() {
            return None;
        }
        let spread_us = u64::try_from(max_delay.saturating_sub(min_delay).as_micros()).unwrap_or(u64::MAX - 1);
        Some(min_delay + Duration::from_micros(self.random.below(spread_us + 1)))
    }

    /// Ends an operation in flight: a write if `operation` says so, otherwise a truncation or reservation.
    fn land(&mut self, id: Id, number: u64, write: Option<Durable>) -> io::Result<()> {
        self.powered()?;
        if let Some(durable) = write
            && let Err(failure) = self.faults.check(Operation::Write(durable))
        {
            self.world.file(id).fail(number, &mut self.random);
            return Err(failure);
        }
        let effect = self.world.file(id).in_flight(number).clone();
        let before = matches!(effect, Effect::Truncate { .. }).then(|| self.world.live(id).allocated_blocks());
        let taken = match effect {
            Effect::Write { offset, data } => self.world.live(id).blocks_to_write(offset, data.len()),
            Effect::Reserve { len_bytes } => self.world.live(id).blocks_to_reserve(len_bytes),
            Effect::Truncate { .. } => 0,
        };
        if let Err(full) = self.world.charge(taken) {
            self.world.file(id).refuse(number);
            return Err(full);
        }
        self.world.file(id).complete(number, write == Some(Durable::Yes));
        if let Some(before) = before {
            let after = self.world.live(id).allocated_blocks();
            self.world.refund(before.saturating_sub(after));
        }
        Ok(())
    }

    fn sync(&mut self, id: Id, mark: u64) -> io::Result<()> {
        self.powered()?;
        let checked = self.faults.check(Operation::Sync);
        match checked {
            Ok(()) => self.world.file(id).synced(mark),
            Err(_) => self.world.file(id).sync_failed(mark),
        }
        checked
    }

    fn hold(&mut self, id: Id) {
        *self.handles.entry(id).or_default() += 1;
    }

    fn release(&mut self, id: Id) {
        if let Some(count) = self.handles.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&id);
            }
        }
    }
}

/// Starts an operation on a file or directory: it completes after its delay, whether or not the returned future and the
/// handle are still there.
fn submit<'a, T: 'static>(
    shared: &Rc<RefCell<State>>,
    subject: Id,
    complete: impl FnOnce(&mut State) -> T + 'static,
) -> LocalFuture<'a, T> {
    let mut state = shared.borrow_mut();
    let Some(delay) = state.delay() else {
        return Box::pin(std::future::ready(complete(&mut state)));
    };
    let due = Instant::now() + delay;
    state.submitted_count += 1;
    state.hold(subject);
    let outcome = Rc::new(Cell::new(None));
    let slot = Rc::clone(&outcome);
    let key = (due, state.submitted_count);
    state.queue.insert(
        key,
        Box::new(move |state| {
            slot.set(Some(complete(state)));
            state.release(subject);
        }),
    );
    let shared = Rc::clone(shared);
    Box::pin(async move {
        tokio::time::sleep_until(due).await;
        shared.borrow_mut().advance();
        outcome.take().expect("an operation that is due has completed")
    })
}

impl Disk for CrashDisk {
    fn open<'a>(&'a self, path: &'a Path, mode: OpenMode) -> LocalFuture<'a, io::Result<Rc<dyn File>>> {
        let opened = self.change_names(
            || format!("open {} {mode:?}", path.display()),
            |world| match mode {
                OpenMode::CreateNew => world.create_file(path),
                OpenMode::Read | OpenMode::ReadWrite => world.find_file(path),
            },
        );
        Box::pin(async move {
            let id = opened.await?;
            self.shared.borrow_mut().hold(id);
            let shared = Rc::clone(&self.shared);
            Ok(Rc::new(CrashFile { shared, id, path: path.to_owned(), mode }) as Rc<dyn File>)
        })
    }

    fn list<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<Vec<DirEntry>>> {
        let mut state = self.shared.borrow_mut();
        state.advance();
        let listed = state.powered().and_then(|()| state.world.list(dir));
        Box::pin(std::future::ready(listed))
    }

    fn create_dir_all<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        self.change_names(|| format!("create_dir_all {}", dir.display()), |world| world.create_dir_all(dir))
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        let (found, mark) = {
            let mut state = self.shared.borrow_mut();
            state.advance();
            (state.powered().and_then(|()| state.world.find_dir(dir)), state.world.names_mark())
        };
        let id = match found {
            Ok(id) => id,
            Err(failure) => return Box::pin(std::future::ready(Err(failure))),
        };
        let path = dir.to_owned();
        submit(&self.shared, id, move |state| {
            state.powered()?;
            state.faults.check(Operation::Sync)?;
            state.world.names_synced(id, mark);
            let State { world, handles, .. } = state;
            world.collect(handles);
            state.remember(|| format!("sync_dir {} done", path.display()));
            Ok(())
        })
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        self.change_names(|| format!("rename {} to {}", from.display(), to.display()), |world| world.rename(from, to))
    }

    fn remove_file<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        self.change_names(|| format!("remove_file {}", path.display()), |world| world.remove_file(path))
    }

    fn remove_dir<'a>(&'a self, path: &'a Path) -> LocalFuture<'a, io::Result<()>> {
        self.change_names(|| format!("remove_dir {}", path.display()), |world| world.remove_dir(path))
    }

    fn space<'a>(&'a self, _path: &'a Path) -> LocalFuture<'a, io::Result<Space>> {
        let state = self.shared.borrow();
        let space = Space { total_bytes: state.world.capacity_bytes(), free_bytes: state.world.free_bytes() };
        Box::pin(std::future::ready(state.powered().map(|()| space)))
    }

    fn backend(&self) -> &'static str {
        "simulated"
    }
}

struct CrashFile {
    shared: Rc<RefCell<State>>,
    id: Id,
    path: PathBuf,
    mode: OpenMode,
}

impl CrashFile {
    /// Puts an effect in flight, or says why it cannot start.
    fn start(&self, effect: Effect, event: impl FnOnce() -> String) -> io::Result<u64> {
        if self.mode == OpenMode::Read {
            return Err(errno(libc::EBADF));
        }
        let mut state = self.shared.borrow_mut();
        state.advance();
        state.powered()?;
        let number = state.world.file(self.id).submit(effect);
        state.remember(event);
        Ok(number)
    }

    fn reshape(&self, effect: Effect, verb: &'static str, len_bytes: u64) -> LocalFuture<'_, io::Result<()>> {
        let path = self.path.clone();
        let number = match self.start(effect, || format!("{verb} {} {len_bytes}", path.display())) {
            Ok(number) => number,
            Err(failure) => return Box::pin(std::future::ready(Err(failure))),
        };
        let id = self.id;
        submit(&self.shared, id, move |state| {
            let done = state.land(id, number, None);
            state.remember(|| format!("{verb} {} {len_bytes} done", path.display()));
            done
        })
    }
}

impl File for CrashFile {
    fn write(&self, data: Bytes, offset: u64, durable: Durable) -> LocalFuture<'_, io::Result<()>> {
        if let Err(misaligned) = check_write(&data, offset) {
            return Box::pin(std::future::ready(Err(misaligned)));
        }
        let path = self.path.clone();
        let len = data.len();
        let event = move |phase: &str| format!("write {} {offset}+{len} durable {durable:?} {phase}", path.display());
        let effect = Effect::Write { offset, data: Bytes::copy_from_slice(&data) };
        let number = match self.start(effect, || event("starts")) {
            Ok(number) => number,
            Err(failure) => return Box::pin(std::future::ready(Err(failure))),
        };
        let id = self.id;
        submit(&self.shared, id, move |state| {
            let done = state.land(id, number, Some(durable));
            // As on a real disk, the caller's memory is in use until the write is over.
            drop(data);
            state.remember(|| event("done"));
            done
        })
    }

    fn read(&self, mut buffer: AlignedBuffer, offset: u64) -> LocalFuture<'_, (AlignedBuffer, io::Result<usize>)> {
        self.shared.borrow_mut().advance();
        let id = self.id;
        submit(&self.shared, id, move |state| {
            let checked =
                check_read(offset).and_then(|()| state.powered()).and_then(|()| state.faults.check(Operation::Read));
            let count = checked.map(|()| state.world.live(id).read(offset, buffer.as_mut_slice()));
            (buffer, count)
        })
    }

    fn sync(&self) -> LocalFuture<'_, io::Result<()>> {
        let mark = {
            let mut state = self.shared.borrow_mut();
            state.advance();
            match state.powered() {
                Ok(()) => state.world.file(self.id).sync_mark(),
                Err(failure) => return Box::pin(std::future::ready(Err(failure))),
            }
        };
        let (id, path) = (self.id, self.path.clone());
        submit(&self.shared, id, move |state| {
            let done = state.sync(id, mark);
            state.remember(|| format!("sync {} done", path.display()));
            done
        })
    }

    fn reserve(&self, len_bytes: u64) -> LocalFuture<'_, io::Result<()>> {
        self.reshape(Effect::Reserve { len_bytes }, "reserve", len_bytes)
    }

    fn truncate(&self, len_bytes: u64) -> LocalFuture<'_, io::Result<()>> {
        self.reshape(Effect::Truncate { len_bytes }, "truncate", len_bytes)
    }

    fn len(&self) -> LocalFuture<'_, io::Result<u64>> {
        let mut state = self.shared.borrow_mut();
        state.advance();
        let len = state.powered().map(|()| state.world.live(self.id).len_bytes());
        Box::pin(std::future::ready(len))
    }

    fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl Drop for CrashFile {
    fn drop(&mut self) {
        self.shared.borrow_mut().release(self.id);
    }
}
