//! The bridge to a language's own logging: records of the core wait in a bounded buffer for a thread of that language.
//!
//! A full buffer drops the newest and counts them: a slow log must never slow the client. A child of `fork` begins without a
//! reader, because locks of its parent's may never be released there; it may have one of its own.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use levada::{Clock as _, Error, ErrorCode, SystemClock};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};

use crate::process::{forks, watch_forks};

/// Records kept for a reader that is late.
const MAX_WAITING: usize = 1024;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: &'static str,
    /// The module it comes from.
    pub target: String,
    /// The message, then `name=value` for each field.
    pub message: String,
    /// When, in microseconds since the Unix epoch.
    pub timestamp_us: i64,
}

/// Reads what the core logs.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Mutex<VecDeque<LogRecord>>,
    dropped: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// The reader of one process, and those of the children it forked.
struct Subscription {
    forks: u32,
    level: LevelFilter,
    shared: Arc<Shared>,
    in_child: OnceLock<Box<Subscription>>,
}

static SUBSCRIPTION: OnceLock<Box<Subscription>> = OnceLock::new();

/// The subscription of this process, if it has one, or else where it goes.
fn subscription() -> Result<&'static Subscription, &'static OnceLock<Box<Subscription>>> {
    let mut place = &SUBSCRIPTION;
    while let Some(known) = place.get() {
        if known.forks == forks() {
            return Ok(known);
        }
        place = &known.in_child;
    }
    Err(place)
}

/// Begins to keep records of `level` (`error`, `warn`, `info`, `debug`, `trace`) and above; `wake` is called when one lands
/// in an empty buffer, from any thread, and must not block. Once for each process; a child of `fork` is given no finer
/// records than its parent asked for.
///
/// # Errors
/// A usage error for another level; `CONFLICT` the second time.
pub fn subscribe(level: &str, wake: Box<dyn Fn() + Send + Sync>) -> levada::Result<LogReader> {
    watch_forks();
    let level: LevelFilter = level.parse().map_err(|_| {
        Error::new(ErrorCode::ClientUsage, format!("{level:?} is not one of error, warn, info, debug, trace, off"))
            .with_detail("argument", "level")
    })?;
    let taken = || Error::new(ErrorCode::Conflict, "the log has a reader already");
    let Err(place) = subscription() else { return Err(taken()) };
    let is_first = std::ptr::eq(place, &raw const SUBSCRIPTION);
    let shared = Arc::new(Shared { waiting: Mutex::default(), dropped: AtomicU64::new(0), wake });
    let made = Subscription { forks: forks(), level, shared: Arc::clone(&shared), in_child: OnceLock::new() };
    place.set(Box::new(made)).map_err(|_| taken())?;
    if is_first {
        tracing::subscriber::set_global_default(Bridge { level }).map_err(|_| taken())?;
    }
    Ok(LogReader { shared })
}

impl LogReader {
    /// The oldest records, without waiting.
    pub fn drain(&self) -> Vec<LogRecord> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// Records lost since the last call, because nobody drained.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.swap(0, Ordering::Relaxed)
    }
}

/// Hands records to the reader of the process they come from.
struct Bridge {
    level: LevelFilter,
}

impl Subscriber for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_wanted = subscription().is_ok_and(|subscription| *metadata.level() <= subscription.level);
        is_wanted && metadata.target().starts_with("levada")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Spans are not shown, so that all may be one.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let Ok(Subscription { shared, .. }) = subscription() else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let record = LogRecord {
            level: name(*event.metadata().level()),
            target: event.metadata().target().to_owned(),
            message: text.message + &text.fields,
            timestamp_us: SystemClock.now_us(),
        };
        let was_empty = {
            let mut waiting = shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() == MAX_WAITING {
                shared.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            waiting.push_back(record);
            waiting.len() == 1
        };
        if was_empty {
            (shared.wake)();
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn name(level: Level) -> &'static str {
    level.as_str()
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let (place, shown) = match field.name() {
            "message" => (&mut self.message, format!("{value:?}")),
            name => (&mut self.fields, format!(" {name}={value:?}")),
        };
        // Writing to a string cannot fail.
        let _ = place.write_str(&shown);
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").finish_non_exhaustive()
    }
}
