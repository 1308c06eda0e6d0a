//! Messages on their way out.

use bytes::Bytes;
use levada::ErrorCode;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::convert::{Parts, ReceiptFields, from_receipt, message_of};
use crate::errors::{checked, usage};
use crate::queue::{Operation, Queue, duration, to};

/// A producer.
#[pyclass(frozen, module = "levada._native")]
pub(crate) struct Producer {
    inner: levada_ffi::Producer,
}

impl From<levada_ffi::Producer> for Producer {
    fn from(inner: levada_ffi::Producer) -> Producer {
        Producer { inner }
    }
}

#[pymethods]
impl Producer {
    #[getter]
    fn topic(&self, py: Python<'_>) -> PyResult<&str> {
        checked(py, self.inner.topic())
    }

    #[getter]
    fn partition_count(&self, py: Python<'_>) -> PyResult<u32> {
        checked(py, self.inner.partition_count())
    }

    /// Begins to send one message; the outcome is its receipt.
    #[pyo3(signature = (payload, key, headers, timestamp_us, id, partition, sequence, queue, token, /))]
    #[expect(clippy::too_many_arguments, reason = "the parts of a message cross as they are")]
    fn send(
        &self,
        payload: &Bound<'_, PyAny>,
        key: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        timestamp_us: &Bound<'_, PyAny>,
        id: &Bound<'_, PyAny>,
        partition: &Bound<'_, PyAny>,
        sequence: &Bound<'_, PyAny>,
        queue: Option<&Bound<'_, Queue>>,
        token: u64,
    ) -> PyResult<Operation> {
        let message = Parts { payload, key, headers, timestamp_us, id, partition, sequence }.message()?;
        Ok(self.inner.send(message, to(queue, token)).into())
    }

    /// Copies one message into the open batch. Gives its delivery, or `None` while there is no space.
    #[pyo3(signature = (payload, key, headers, timestamp_us, id, partition, sequence, /))]
    #[expect(clippy::too_many_arguments, reason = "the parts of a message cross as they are")]
    fn try_enqueue(
        &self,
        py: Python<'_>,
        payload: &Bound<'_, PyAny>,
        key: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        timestamp_us: &Bound<'_, PyAny>,
        id: &Bound<'_, PyAny>,
        partition: &Bound<'_, PyAny>,
        sequence: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Delivery>> {
        let message = Parts { payload, key, headers, timestamp_us, id, partition, sequence }.message()?;
        match self.inner.try_enqueue(levada::AsMessage::as_message(&message)) {
            Ok(delivery) => Ok(Some(delivery.into())),
            Err(error) if error.is(ErrorCode::QueueFull) => Ok(None),
            Err(error) => checked(py, Err(error)),
        }
    }

    /// Begins to copy one message into the open batch, once there is space; the outcome is its delivery.
    #[pyo3(signature = (payload, key, headers, timestamp_us, id, partition, sequence, queue, token, /))]
    #[expect(clippy::too_many_arguments, reason = "the parts of a message cross as they are")]
    fn enqueue(
        &self,
        payload: &Bound<'_, PyAny>,
        key: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        timestamp_us: &Bound<'_, PyAny>,
        id: &Bound<'_, PyAny>,
        partition: &Bound<'_, PyAny>,
        sequence: &Bound<'_, PyAny>,
        queue: Option<&Bound<'_, Queue>>,
        token: u64,
    ) -> PyResult<Operation> {
        let message = Parts { payload, key, headers, timestamp_us, id, partition, sequence }.message()?;
        Ok(self.inner.enqueue(message, to(queue, token)).into())
    }

    /// Begins to send many; the outcome is the receipts of their batches. Plain bytes cross packed into one piece.
    #[pyo3(signature = (messages, queue, token, /))]
    fn send_batch(
        &self,
        messages: &Bound<'_, PyList>,
        queue: Option<&Bound<'_, Queue>>,
        token: u64,
    ) -> PyResult<Operation> {
        let to = to(queue, token);
        if let Some((payloads, lengths)) = packed(messages)? {
            return Ok(self.inner.send_packed(payloads, lengths, to).into());
        }
        let messages = messages.iter().map(|item| message_of(&item)).collect::<PyResult<Vec<_>>>()?;
        Ok(self.inner.send_batch(messages, to).into())
    }

    #[pyo3(signature = (queue, token, /))]
    fn flush(&self, queue: Option<&Bound<'_, Queue>>, token: u64) -> Operation {
        self.inner.flush(to(queue, token)).into()
    }

    #[pyo3(signature = (timeout, queue, token, /))]
    fn close(&self, py: Python<'_>, timeout: f64, queue: Option<&Bound<'_, Queue>>, token: u64) -> PyResult<Operation> {
        Ok(self.inner.close(duration(py, timeout)?, to(queue, token)).into())
    }
}

/// All payloads in one piece with their lengths, if the list holds nothing but `bytes`.
fn packed(messages: &Bound<'_, PyList>) -> PyResult<Option<(Bytes, Vec<u32>)>> {
    let mut lengths = Vec::with_capacity(messages.len());
    let mut size = 0;
    for item in messages.iter() {
        let Ok(payload) = item.cast::<PyBytes>() else { return Ok(None) };
        let length = payload.as_bytes().len();
        let refused = |_| usage(messages.py(), "messages", "a payload is larger than 4 GiB");
        lengths.push(u32::try_from(length).map_err(refused)?);
        size += length;
    }
    let mut payloads = Vec::with_capacity(size);
    for item in messages.iter() {
        let Ok(payload) = item.cast::<PyBytes>() else { return Ok(None) };
        payloads.extend_from_slice(payload.as_bytes());
    }
    Ok(Some((payloads.into(), lengths)))
}

/// The acknowledgement to come of an enqueued message.
#[pyclass(frozen, module = "levada._native")]
pub(crate) struct Delivery {
    inner: levada_ffi::Delivery,
}

impl From<levada_ffi::Delivery> for Delivery {
    fn from(inner: levada_ffi::Delivery) -> Delivery {
        Delivery { inner }
    }
}

#[pymethods]
impl Delivery {
    /// The receipt, or `None` if the acknowledgement has not come.
    fn try_receipt(&self, py: Python<'_>) -> PyResult<Option<ReceiptFields>> {
        Ok(checked(py, self.inner.try_receipt().transpose())?.as_ref().map(from_receipt))
    }

    #[pyo3(signature = (queue, token, /))]
    fn wait(&self, queue: Option<&Bound<'_, Queue>>, token: u64) -> Operation {
        self.inner.wait(to(queue, token)).into()
    }
}
