//! Received messages: a batch and an index. Nothing is converted until it is read, and a `memoryview` of one is a view into
//! the batch, which lives as long as anything that points into it.
#![expect(unsafe_code, reason = "the buffer protocol is a C structure to be filled")]

use std::ffi::c_int;

use levada_ffi::{Batch, MessageView, Taken};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::convert::from_headers;

/// A message received.
#[pyclass(frozen, module = "levada", freelist = 4096)]
pub(crate) struct Message {
    batch: Batch,
    index: usize,
}

impl Message {
    pub(crate) fn new(batch: Batch, index: usize) -> Message {
        Message { batch, index }
    }

    fn view(&self) -> MessageView<'_> {
        self.batch.message(self.index).expect("a message is made for an index of its batch")
    }
}

/// All messages of a take, in order.
pub(crate) fn messages<'py>(py: Python<'py>, taken: &Taken) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for batch in &taken.batches {
        for index in 0..batch.message_count() {
            list.append(Bound::new(py, Message::new(batch.clone(), index))?)?;
        }
    }
    Ok(list)
}

/// A moment as an aware `datetime` in UTC.
fn datetime<'py>(py: Python<'py>, timestamp_us: i64) -> PyResult<Bound<'py, PyAny>> {
    static EPOCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static DELTA: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let epoch = EPOCH.import(py, "levada._values", "EPOCH")?;
    epoch.add(DELTA.import(py, "datetime", "timedelta")?.call1((0, 0, timestamp_us))?)
}

#[pymethods]
impl Message {
    /// What it says: a copy made on each read. None differs from empty.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.view().payload.map(|payload| PyBytes::new(py, payload))
    }

    /// What it is about; None differs from empty.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.view().key.map(|key| PyBytes::new(py, key))
    }

    /// Its headers, in order.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        from_headers(py, &self.batch.headers(self.index))
    }

    /// The application's own identity, 16 bytes.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.view().id.map(|id| PyBytes::new(py, &id))
    }

    /// Its offset in the partition.
    #[getter]
    fn offset(&self) -> u64 {
        self.view().offset
    }

    /// Its topic, `stream/topic`.
    #[getter]
    fn topic(&self) -> &str {
        self.batch.topic()
    }

    /// Its partition.
    #[getter]
    fn partition(&self) -> u32 {
        self.batch.partition()
    }

    /// When it happened, in microseconds since the Unix epoch.
    #[getter]
    fn timestamp_us(&self) -> i64 {
        self.view().timestamp_us
    }

    /// When it happened, in UTC.
    #[getter]
    fn timestamp<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        datetime(py, self.timestamp_us())
    }

    /// When it was appended, in microseconds since the Unix epoch.
    #[getter]
    fn append_time_us(&self) -> i64 {
        self.batch.append_time_us()
    }

    /// When it was appended, in UTC.
    #[getter]
    fn append_time<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        datetime(py, self.append_time_us())
    }

    fn __repr__(&self) -> String {
        let size = self.view().payload.map_or_else(|| "None".to_owned(), |payload| format!("{} bytes", payload.len()));
        format!("<levada.Message partition={} offset={} payload={size}>", self.partition(), self.offset())
    }

    /// The payload as a read-only buffer.
    ///
    /// # Safety
    /// As the interpreter calls it: `view` is null or points to a structure to be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let payload = slf.get().view().payload.ok_or_else(|| PyBufferError::new_err("the message has no payload"))?;
        let size = isize::try_from(payload.len()).expect("a slice is no longer than isize::MAX");
        let start = payload.as_ptr().cast_mut().cast();
        // SAFETY: `view` may be filled; the bytes belong to the batch, which the message owns and never changes; the view
        // holds a reference to the message, and it is marked read-only.
        let status = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, size, 1, flags) };
        if status == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
