//! The core's log, for one thread of the JVM at a time to pass on.
//!
//! Lines wait in the core's bounded buffer; the JVM waits here for a bell, which the core rings when a line lands in an empty
//! buffer, and the JVM when it wants its thread back. Rings are counted, so that none is missed by a thread that comes late.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use levada_ffi::logs::{self, LogReader};

use crate::failure::{NativeError, guarded};

/// What the core logs.
#[derive(Debug, uniffi::Object)]
pub(crate) struct NativeLog {
    reader: LogReader,
    bell: Arc<Bell>,
}

/// What came, and how often the bell had rung by then.
#[derive(Debug, uniffi::Record)]
pub(crate) struct NativeLogLines {
    lines: Vec<NativeLogLine>,
    /// Lines lost since the last call, because nobody took them in time.
    dropped_count: u64,
    ring_count: u64,
}

/// A line of the log.
#[derive(Debug, uniffi::Record)]
pub(crate) struct NativeLogLine {
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    level: String,
    /// The module it comes from.
    target: String,
    message: String,
}

#[derive(Debug, Default)]
struct Bell {
    ring_count: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.ring_count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.rung.notify_all();
    }

    /// Waits until it has rung another number of times than that; gives the number.
    fn wait(&self, heard: u64) -> u64 {
        let count = self.ring_count.lock().unwrap_or_else(PoisonError::into_inner);
        *self.rung.wait_while(count, |count| *count == heard).unwrap_or_else(PoisonError::into_inner)
    }
}

#[uniffi::export]
impl NativeLog {
    /// Begins to keep lines of that level and above; once in a process.
    #[uniffi::constructor]
    fn new(level: String) -> Result<Arc<Self>, NativeError> {
        let bell = Arc::new(Bell::default());
        let rung = Arc::clone(&bell);
        let reader = guarded(|| logs::subscribe(&level, Box::new(move || rung.ring())))?;
        Ok(Arc::new(NativeLog { reader, bell }))
    }

    /// Waits unless the bell has rung another number of times than that, then takes what is there.
    fn wait(&self, heard: u64) -> NativeLogLines {
        let line = |record: logs::LogRecord| NativeLogLine {
            level: record.level.to_owned(),
            target: record.target,
            message: record.message,
        };
        let ring_count = self.bell.wait(heard);
        let lines = self.reader.drain().into_iter().map(line).collect();
        NativeLogLines { lines, dropped_count: self.reader.dropped(), ring_count }
    }

    /// Ends the wait of every thread.
    fn ring(&self) {
        self.bell.ring();
    }
}
