//! One run: start, work, trouble, rest, verdict.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use levada::Credentials;
use levada_server::config::Defects;
use levada_storage::disk::Disk as _;
use levada_storage::disk::fault::FaultPoint;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};

use crate::cast::ledger::Counts;
use crate::groups;
use crate::history::check;
use crate::workload::{administer, consume, create_topic, produce, read_all};
use crate::world::{CAPACITY_BYTES, Feed, KnownTopics, World};

/// Virtual time after which a run that has not ended is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1800);
const EIO: i32 = 5;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) broken: Vec<String>,
    pub(crate) fingerprint: (u64, u64),
    pub(crate) acked_count: usize,
    pub(crate) crash_count: u64,
    pub(crate) truncated_count: u64,
    pub(crate) counts: Counts,
}

/// Runs a seed to its end.
pub(crate) fn run(seed: u64, defects: Defects) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing that could be missing");
    note_panics();
    let mut verdict = LocalSet::new().block_on(&runtime, async {
        let (world, told) = World::new(seed, defects);
        let mut outcome = Outcome::default();
        let played = tokio::time::timeout(STUCK_AFTER, play(&world, told, &mut outcome)).await;
        match played {
            Ok(Ok(())) => {}
            Ok(Err(error)) => outcome.broken.push(error),
            Err(_) => outcome.broken.push(format!("stuck while {}", outcome.phase)),
        }
        Verdict {
            broken: outcome.broken,
            fingerprint: world.trace.fingerprint(),
            acked_count: world.feeds.iter().map(|feed| feed.history.borrow().acked_count()).sum(),
            crash_count: outcome.crash_count,
            truncated_count: world.feeds.iter().map(|feed| feed.truncated_count.get()).sum(),
            counts: outcome.counts,
        }
    });
    // What is left of the clients is dropped here, on this thread, before the next seed.
    drop(runtime);
    verdict.broken.extend(PANICS.take());
    verdict
}

thread_local! {
    /// Panics on this thread: in a task that nobody waits for, one would go unnoticed.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            report(panic);
        }));
    });
}

#[derive(Default)]
struct Outcome {
    broken: Vec<String>,
    crash_count: u64,
    counts: Counts,
    phase: &'static str,
}

async fn play(world: &Rc<World>, mut told: mpsc::UnboundedReceiver<()>, outcome: &mut Outcome) -> Result<(), String> {
    outcome.phase = "starting";
    world.start().await?;
    let known = KnownTopics::default();
    let (mut work, mut consumers, mut stop_consumers) = (JoinSet::new(), JoinSet::new(), Vec::new());
    for feed in &world.feeds {
        create_topic(world, feed).await;
        let producer_count = world.random.borrow_mut().below(1..4);
        for name in 0..producer_count {
            let (message_count, random) = {
                let mut random = world.random.borrow_mut();
                (random.below(15..40), random.fork())
            };
            work.spawn_local(produce(Rc::clone(world), Rc::clone(feed), name, message_count, random));
        }
        let (stop, stopped) = oneshot::channel();
        stop_consumers.push(stop);
        consumers.spawn_local(consume(Rc::clone(world), Rc::clone(feed), stopped));
    }
    let random = world.random.borrow_mut().fork();
    work.spawn_local(administer(Rc::clone(world), Rc::clone(&known), random));
    let (cast, (quiet, is_quiet)) = (groups::cast(world), oneshot::channel::<()>());
    let ledger = cast.ledger();
    work.spawn_local(async move {
        // Dropped when the trouble is over.
        cast.play(async { drop(is_quiet.await) }).await;
    });

    outcome.phase = "in trouble";
    let troubles = world.random.borrow_mut().below(3..8);
    for _ in 0..troubles {
        let pause = world.random.borrow_mut().millis(5..400);
        tokio::select! {
            biased;
            Some(()) = told.recv() => crash_and_start(world, outcome, &mut told).await?,
            () = tokio::time::sleep(pause) => trouble(world, outcome, &mut told).await?,
        }
    }

    outcome.phase = "at rest";
    world.disk().set_capacity(CAPACITY_BYTES);
    drop(quiet);
    loop {
        tokio::select! {
            biased;
            Some(()) = told.recv() => crash_and_start(world, outcome, &mut told).await?,
            done = work.join_next() => match done {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(format!("a client panicked: {error}")),
                None => break,
            },
        }
    }
    drop(stop_consumers);
    while consumers.join_next().await.is_some() {}

    // A last power cut shows what really is on disk.
    outcome.phase = "reading everything";
    world.cut_power().await;
    crash_and_start(world, outcome, &mut told).await?;
    for feed in &world.feeds {
        let log = read_everything(world, feed).await?;
        let history = feed.history.borrow();
        let mut broken = check(&history, &log, feed.durability);
        if feed.drops_duplicates && history.acked_count() < history.sends.len() {
            broken.push("a message that was sent again and again was never acknowledged".into());
        }
        outcome.broken.extend(broken.into_iter().map(|text| format!("{}: {text}", feed.topic)));
    }
    check_topics(world, &known, outcome).await;
    outcome.phase = "opening the groups again";
    groups::check(world, &ledger).await?;
    outcome.broken.extend(ledger.broken());
    outcome.counts = ledger.counts();
    outcome.phase = "stopping";
    world.stop().await
}

async fn read_everything(world: &Rc<World>, feed: &Feed) -> Result<crate::history::FinalLog, String> {
    let mut last = String::new();
    for _ in 0..20 {
        let options = world.options(Credentials::token(world.root_token()));
        match tokio::time::timeout(Duration::from_secs(60), read_all(feed, options)).await {
            Ok(Ok(log)) => return Ok(log),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no end in 60 s".into(),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Err(format!("the log cannot be read at rest: {last}"))
}

async fn check_topics(world: &Rc<World>, known: &KnownTopics, outcome: &mut Outcome) {
    let client = world.client().await;
    let topics = match client.admin().list_topics(None).await {
        Ok(topics) => topics,
        Err(error) => return outcome.broken.push(format!("topics cannot be listed at rest: {error}")),
    };
    for (name, exists) in known.borrow().iter() {
        let found = topics.iter().any(|topic| format!("{}/{}", topic.stream, topic.topic) == *name);
        if found != *exists {
            outcome.broken.push(format!("topic {name}: answered as there = {exists}, found = {found}"));
        }
    }
}

/// One kind of trouble.
async fn trouble(
    world: &Rc<World>,
    outcome: &mut Outcome,
    told: &mut mpsc::UnboundedReceiver<()>,
) -> Result<(), String> {
    let (kind, amount) = {
        let mut random = world.random.borrow_mut();
        (random.below(0..12), random.below(1..40))
    };
    world.trace.event("trouble", kind, amount);
    match kind {
        0..=3 => crash_and_start(world, outcome, told).await,
        4 | 5 => {
            world.net.reset_one();
            Ok(())
        }
        6 => {
            world.net.stall_one(Duration::from_millis(amount * 50));
            Ok(())
        }
        7 => {
            world.net.stall_one(Duration::from_secs(amount));
            Ok(())
        }
        8 | 9 => {
            let point = if kind == 8 { FaultPoint::Flush } else { FaultPoint::Write };
            world.disk().fail(point, amount.div_ceil(4), EIO);
            Ok(())
        }
        10 => {
            let disk = world.disk();
            let space = disk.space(std::path::Path::new("")).await.map_err(|error| error.to_string())?;
            disk.set_capacity(space.total_bytes - space.free_bytes + amount * 512);
            tokio::time::sleep(Duration::from_millis(amount * 20)).await;
            world.disk().set_capacity(CAPACITY_BYTES);
            Ok(())
        }
        _ => {
            // A disk that fails while the server stops ends the process as at any other time.
            let stopped = tokio::select! {
                biased;
                Some(()) = told.recv() => None,
                stopped = world.stop() => Some(stopped),
            };
            match stopped {
                Some(stopped) if told.is_empty() => stopped?,
                _ => return crash_and_start(world, outcome, told).await,
            }
            start(world, outcome, told).await
        }
    }
}

/// A power cut, a kill, or what a fatal disk error makes of a server, and the next start.
async fn crash_and_start(
    world: &Rc<World>,
    outcome: &mut Outcome,
    told: &mut mpsc::UnboundedReceiver<()>,
) -> Result<(), String> {
    world.crash().await;
    outcome.crash_count += 1;
    while told.try_recv().is_ok() {}
    let pause = world.random.borrow_mut().millis(0..500);
    tokio::time::sleep(pause).await;
    start(world, outcome, told).await
}

/// Starts; a disk error on the way is another such end.
async fn start(world: &Rc<World>, outcome: &mut Outcome, told: &mut mpsc::UnboundedReceiver<()>) -> Result<(), String> {
    for _ in 0..5 {
        match world.start().await {
            Ok(()) => return Ok(()),
            // A fault that waited for its operation may strike while the log is opened, where it only refuses the start.
            Err(error) if told.try_recv().is_ok() || error.contains("os error 5") => {
                world.trace.event("start.fatal", error.len() as u64, 0);
                world.crash().await;
                outcome.crash_count += 1;
            }
            Err(error) => return Err(format!("the server does not start: {error}")),
        }
    }
    Err("the server does not start: the disk fails each time".into())
}
