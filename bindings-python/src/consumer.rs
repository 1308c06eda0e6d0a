//! Messages on their way in: readiness goes to a queue and carries nothing; taking is synchronous, on the caller's thread.

use levada::{Error, ErrorCode};
use levada_ffi::TakenMessage;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyEllipsis, PyList};

use crate::convert::{from_value, to_value};
use crate::errors::{checked, raise};
use crate::message::{Message, messages};
use crate::queue::{Operation, Queue, blocking, duration, to};

/// A consumer.
#[pyclass(frozen, module = "levada._native")]
pub(crate) struct Consumer {
    inner: levada_ffi::Consumer,
}

impl From<levada_ffi::Consumer> for Consumer {
    fn from(inner: levada_ffi::Consumer) -> Consumer {
        Consumer { inner }
    }
}

#[pymethods]
impl Consumer {
    #[getter]
    fn topic(&self, py: Python<'_>) -> PyResult<&str> {
        checked(py, self.inner.topic())
    }

    #[getter]
    fn partitions(&self, py: Python<'_>) -> PyResult<Vec<u32>> {
        checked(py, self.inner.partitions())
    }

    /// Asks for one event once there is something to take.
    #[pyo3(signature = (queue, token, /))]
    fn arm(&self, py: Python<'_>, queue: &Bound<'_, Queue>, token: u64) -> PyResult<()> {
        checked(py, self.inner.arm(queue.get().inner(), token))
    }

    fn disarm(&self) {
        self.inner.disarm();
    }

    /// Messages that are there, and whether the end is reached. Never waits.
    #[pyo3(signature = (max_messages, max_bytes, /))]
    fn take<'py>(
        &self,
        py: Python<'py>,
        max_messages: usize,
        max_bytes: usize,
    ) -> PyResult<(Bound<'py, PyList>, bool)> {
        let taken = checked(py, self.inner.take(max_messages, max_bytes))?;
        Ok((messages(py, &taken)?, taken.finished))
    }

    /// The next message if it is there, `...` if it is not, None at the end. Never waits.
    fn take_message<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match checked(py, self.inner.take_message())? {
            TakenMessage::Message(batch, index) => Bound::new(py, Message::new(batch, index))?.into_any(),
            TakenMessage::Nothing => PyEllipsis::get(py).to_owned().into_any(),
            TakenMessage::Finished => py.None().into_bound(py),
        })
    }

    /// Waits for the next message; None at the end.
    #[pyo3(signature = (timeout, /))]
    fn receive(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Message>> {
        let timeout = timeout.map(|timeout| duration(py, timeout)).transpose()?;
        let outcome = blocking(py, |keep_waiting| self.inner.receive(timeout, keep_waiting))?;
        match checked(py, outcome)? {
            TakenMessage::Message(batch, index) => Ok(Some(Message::new(batch, index))),
            TakenMessage::Finished => Ok(None),
            TakenMessage::Nothing => Err(raise(py, &Error::new(ErrorCode::ClientTimeout, "no message came in time"))),
        }
    }

    /// Waits for messages.
    #[pyo3(signature = (max_messages, max_bytes, timeout, /))]
    fn receive_batch<'py>(
        &self,
        py: Python<'py>,
        max_messages: usize,
        max_bytes: usize,
        timeout: Option<f64>,
    ) -> PyResult<(Bound<'py, PyList>, bool)> {
        let timeout = timeout.map(|timeout| duration(py, timeout)).transpose()?;
        let call = |keep_waiting: &mut dyn FnMut() -> bool| {
            self.inner.receive_batch(max_messages, max_bytes, timeout, keep_waiting)
        };
        let taken = checked(py, blocking(py, call)?)?;
        Ok((messages(py, &taken)?, taken.finished))
    }

    #[pyo3(signature = (partition, position, topic, /))]
    fn seek(&self, py: Python<'_>, partition: u32, position: &Bound<'_, PyAny>, topic: Option<&str>) -> PyResult<()> {
        checked(py, self.inner.seek(topic, partition, to_value(position)?))
    }

    #[pyo3(signature = (partition, topic, /))]
    fn position(&self, py: Python<'_>, partition: u32, topic: Option<&str>) -> PyResult<Option<u64>> {
        checked(py, self.inner.position(topic, partition))
    }

    #[pyo3(signature = (partition, topic, /))]
    fn pause(&self, py: Python<'_>, partition: u32, topic: Option<&str>) -> PyResult<()> {
        checked(py, self.inner.pause(topic, partition))
    }

    #[pyo3(signature = (partition, topic, /))]
    fn resume(&self, py: Python<'_>, partition: u32, topic: Option<&str>) -> PyResult<()> {
        checked(py, self.inner.resume(topic, partition))
    }

    #[pyo3(signature = (queue, token, /))]
    fn commit(&self, queue: Option<&Bound<'_, Queue>>, token: u64) -> Operation {
        self.inner.commit(to(queue, token)).into()
    }

    /// Offsets are a list of `{topic, partition, offset}`.
    #[pyo3(signature = (offsets, queue, token, /))]
    fn commit_offsets(
        &self,
        offsets: &Bound<'_, PyAny>,
        queue: Option<&Bound<'_, Queue>>,
        token: u64,
    ) -> PyResult<Operation> {
        Ok(self.inner.commit_offsets(to_value(offsets)?, to(queue, token)).into())
    }

    #[pyo3(signature = (topic, partition, queue, token, /))]
    fn committed(&self, topic: &str, partition: u32, queue: Option<&Bound<'_, Queue>>, token: u64) -> Operation {
        self.inner.committed(topic, partition, to(queue, token)).into()
    }

    fn assignments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        from_value(py, &checked(py, self.inner.assignments())?)
    }

    #[pyo3(signature = (timeout, queue, token, /))]
    fn next_change(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        queue: Option<&Bound<'_, Queue>>,
        token: u64,
    ) -> PyResult<Operation> {
        let timeout = timeout.map(|timeout| duration(py, timeout)).transpose()?;
        Ok(self.inner.next_change(timeout, to(queue, token)).into())
    }

    #[pyo3(signature = (timeout, queue, token, /))]
    fn close(&self, py: Python<'_>, timeout: f64, queue: Option<&Bound<'_, Queue>>, token: u64) -> PyResult<Operation> {
        Ok(self.inner.close(duration(py, timeout)?, to(queue, token)).into())
    }
}
