//! Connections: connect, control calls, and what is made from a client.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::{from_value, named};
use crate::errors::checked;
use crate::queue::{Operation, Queue, duration, to};

/// Begins to connect.
#[pyfunction]
#[pyo3(signature = (options, queue, token, /))]
pub(crate) fn connect(
    options: &Bound<'_, PyDict>,
    queue: Option<&Bound<'_, Queue>>,
    token: u64,
) -> PyResult<Operation> {
    Ok(levada_ffi::Client::connect(named(options)?, "python", to(queue, token)).into())
}

/// A client.
#[pyclass(frozen, module = "levada._native")]
pub(crate) struct Client {
    inner: levada_ffi::Client,
}

impl From<levada_ffi::Client> for Client {
    fn from(inner: levada_ffi::Client) -> Client {
        Client { inner }
    }
}

#[pymethods]
impl Client {
    #[pyo3(signature = (operation, arguments, queue, token, /))]
    fn call(
        &self,
        operation: &str,
        arguments: &Bound<'_, PyDict>,
        queue: Option<&Bound<'_, Queue>>,
        token: u64,
    ) -> PyResult<Operation> {
        Ok(self.inner.call(operation, named(arguments)?, to(queue, token)).into())
    }

    fn server_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        from_value(py, &checked(py, self.inner.server_info())?)
    }

    #[pyo3(signature = (topic, options, queue, token, /))]
    fn producer(
        &self,
        topic: &str,
        options: &Bound<'_, PyDict>,
        queue: Option<&Bound<'_, Queue>>,
        token: u64,
    ) -> PyResult<Operation> {
        Ok(self.inner.producer(topic, named(options)?, None, to(queue, token)).into())
    }

    #[pyo3(signature = (topic, options, queue, token, /))]
    fn consumer(
        &self,
        topic: &str,
        options: &Bound<'_, PyDict>,
        queue: Option<&Bound<'_, Queue>>,
        token: u64,
    ) -> PyResult<Operation> {
        Ok(self.inner.consumer(topic, named(options)?, to(queue, token)).into())
    }

    #[pyo3(signature = (group, topics, options, queue, token, /))]
    fn group_consumer(
        &self,
        group: &str,
        topics: Vec<String>,
        options: &Bound<'_, PyDict>,
        queue: Option<&Bound<'_, Queue>>,
        token: u64,
    ) -> PyResult<Operation> {
        Ok(self.inner.group_consumer(group, topics, named(options)?, to(queue, token)).into())
    }

    #[pyo3(signature = (timeout, queue, token, /))]
    fn close(&self, py: Python<'_>, timeout: f64, queue: Option<&Bound<'_, Queue>>, token: u64) -> PyResult<Operation> {
        Ok(self.inner.close(duration(py, timeout)?, to(queue, token)).into())
    }
}
