//! Operations under way and the queues their outcomes land in. One queue serves one event loop.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use levada_ffi::{Event, Output, To, UntoldChange, told};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::client::Client;
use crate::consumer::Consumer;
use crate::convert::{from_batch_receipt, from_receipt, from_value};
use crate::errors::{checked, raise, usage};
use crate::producer::{Delivery, Producer};

/// A blocking call of the core with the interpreter released. It comes back early, with the exception of the handler,
/// when a signal arrives.
pub(crate) fn blocking<T: Send>(
    py: Python<'_>,
    call: impl FnOnce(&mut dyn FnMut() -> bool) -> T + Send,
) -> PyResult<T> {
    let mut interruption = None;
    let outcome = py.detach(|| {
        call(&mut || match Python::try_attach(|py| py.check_signals()) {
            Some(Ok(())) => true,
            Some(Err(exception)) => {
                interruption = Some(exception);
                false
            }
            None => false,
        })
    });
    interruption.map_or(Ok(outcome), Err)
}

/// What an operation gave, as Python sees it.
pub(crate) fn from_output<'py>(py: Python<'py>, output: Output) -> PyResult<Bound<'py, PyAny>> {
    Ok(match output {
        Output::Nothing => py.None().into_bound(py),
        Output::Client(client) => Bound::new(py, Client::from(client))?.into_any(),
        Output::Producer(producer) => Bound::new(py, Producer::from(producer))?.into_any(),
        Output::Consumer(consumer) => Bound::new(py, Consumer::from(consumer))?.into_any(),
        Output::Delivery(delivery) => Bound::new(py, Delivery::from(delivery))?.into_any(),
        Output::Value(value) => from_value(py, &value)?,
        Output::Change(change) => Bound::new(py, Change { untold: Mutex::new(Some(change)) })?.into_any(),
        Output::Receipt(receipt) => from_receipt(&receipt).into_pyobject(py)?.into_any(),
        Output::Receipts(receipts) => PyList::new(py, receipts.iter().map(from_batch_receipt))?.into_any(),
    })
}

/// A change of what a member of a group reads: whoever is told takes it. Dropped before that, it is the next one again.
#[pyclass(frozen, module = "levada._native")]
pub(crate) struct Change {
    untold: Mutex<Option<UntoldChange>>,
}

#[pymethods]
impl Change {
    /// The change as a record; None if it was taken before.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner).take();
        untold.map(|change| from_value(py, &told(change))).transpose()
    }
}

/// Something the core is doing.
#[pyclass(frozen, module = "levada._native")]
pub(crate) struct Operation {
    inner: levada_ffi::Operation,
}

impl From<levada_ffi::Operation> for Operation {
    fn from(inner: levada_ffi::Operation) -> Operation {
        Operation { inner }
    }
}

#[pymethods]
impl Operation {
    /// Waits for the outcome. A signal whose handler raises cancels the operation.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match blocking(py, |keep_waiting| self.inner.wait(None, keep_waiting)) {
            Ok(Some(outcome)) => from_output(py, checked(py, outcome)?),
            Ok(None) => {
                self.inner.cancel();
                Err(raise(py, &levada::Error::new(levada::ErrorCode::Cancelled, "the interpreter is shutting down")))
            }
            Err(interruption) => {
                self.inner.cancel();
                Err(interruption)
            }
        }
    }

    fn cancel(&self) {
        self.inner.cancel();
    }
}

/// Where outcomes land until an event loop fetches them; its descriptor is readable while there are some.
#[pyclass(frozen, module = "levada._native")]
pub(crate) struct Queue {
    inner: levada_ffi::Queue,
}

impl Queue {
    pub(crate) fn inner(&self) -> &levada_ffi::Queue {
        &self.inner
    }
}

#[pymethods]
impl Queue {
    #[new]
    fn new() -> PyResult<Queue> {
        Ok(Queue { inner: levada_ffi::Queue::with_fd()? })
    }

    fn fd(&self) -> Option<i32> {
        self.inner.fd()
    }

    /// Outcomes that are there, as (token, value, exception).
    #[pyo3(signature = (max, /))]
    fn drain<'py>(&self, py: Python<'py>, max: usize) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for event in self.inner.drain(max) {
            match event {
                Event::Done { token, outcome } => match outcome.map(|output| from_output(py, output)) {
                    Ok(Ok(value)) => list.append((token, value, py.None()))?,
                    Ok(Err(failure)) => list.append((token, py.None(), failure))?,
                    Err(error) => list.append((token, py.None(), raise(py, &error)))?,
                },
                Event::Ready { token } => list.append((token, py.None(), py.None()))?,
                // Messages are never handed over with a token here, so nothing is acknowledged by one.
                Event::Acked { .. } => {}
            }
        }
        Ok(list)
    }

    /// Ends it: what is in it or comes later is dropped.
    fn close(&self) {
        self.inner.close();
    }
}

/// Where the caller wants the outcome: a queue and its token, or here.
pub(crate) fn to(queue: Option<&Bound<'_, Queue>>, token: u64) -> To {
    queue.map_or(To::Here, |queue| To::Queue(queue.get().inner.clone(), token))
}

/// Longer than any program waits, and short enough to be added to any clock.
const LONGEST_SECONDS: f64 = 1e9;

/// A time limit in seconds.
pub(crate) fn duration(py: Python<'_>, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds.min(LONGEST_SECONDS))
        .ok()
        .filter(|_| !seconds.is_nan())
        .ok_or_else(|| usage(py, "timeout", "a timeout is a number of seconds, 0 or more"))
}
