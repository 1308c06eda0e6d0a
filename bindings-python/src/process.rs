//! What belongs to the process: counts of live handles, the end of everything at exit, and the core's log.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use levada_ffi::logs::{self, LogReader};
use pyo3::prelude::*;

use crate::convert::from_value;
use crate::errors::checked;
use crate::queue::duration;

/// Version of the package.
#[pyfunction]
pub(crate) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Live handles by kind.
#[pyfunction]
pub(crate) fn stats(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    from_value(py, &levada_ffi::stats())
}

/// Closes every open client; gives how many messages were left unsent.
#[pyfunction]
#[pyo3(signature = (timeout, /))]
pub(crate) fn close_all(py: Python<'_>, timeout: f64) -> PyResult<usize> {
    let timeout = duration(py, timeout)?;
    Ok(py.detach(|| levada_ffi::close_all(timeout)))
}

#[derive(Default)]
struct Bell {
    state: Mutex<BellState>,
    changed: Condvar,
}

#[derive(Default)]
struct BellState {
    rung: bool,
    closed: bool,
}

impl Bell {
    fn change(&self, change: impl FnOnce(&mut BellState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until it is rung; false once it is closed.
    fn wait(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.rung && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.rung = false;
        !state.closed
    }
}

/// The core's log, for one thread of Python's to pass on.
#[pyclass(frozen, module = "levada._native")]
pub(crate) struct LogStream {
    reader: LogReader,
    bell: Arc<Bell>,
}

type LogLine = (&'static str, String, String, i64);

#[pymethods]
impl LogStream {
    #[new]
    #[pyo3(signature = (level, /))]
    fn new(py: Python<'_>, level: &str) -> PyResult<LogStream> {
        let bell = Arc::new(Bell::default());
        let rung = Arc::clone(&bell);
        let reader = checked(py, logs::subscribe(level, Box::new(move || rung.change(|state| state.rung = true))))?;
        Ok(LogStream { reader, bell })
    }

    /// Waits for lines (level, target, message, time in microseconds); None once it is closed.
    fn wait(&self, py: Python<'_>) -> Option<Vec<LogLine>> {
        let open = py.detach(|| self.bell.wait());
        let lines = self.reader.drain().into_iter();
        let lines = lines.map(|line| (line.level, line.target, line.message, line.timestamp_us)).collect::<Vec<_>>();
        (open || !lines.is_empty()).then_some(lines)
    }

    fn close(&self) {
        self.bell.change(|state| state.closed = true);
    }
}
