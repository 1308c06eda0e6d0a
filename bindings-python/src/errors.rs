//! From the core's one error to the exception of its class, which Python defines: the stable interface cannot derive
//! native exceptions before 3.12.

use levada::{Error, ErrorCode};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The exception for an error.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    make(py, error).unwrap_or_else(|failure| failure)
}

fn make(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    static FACTORY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let factory = FACTORY.import(py, "levada._errors", "error_of")?;
    let details: Vec<(&str, &str)> = error.details().collect();
    let exception = factory.call1((
        error.number(),
        error.name(),
        error.class().name(),
        error.is_retriable(),
        error.maybe_applied(),
        error.retry_after_ms(),
        error.message(),
        details,
    ))?;
    Ok(PyErr::from_value(exception))
}

/// What `levada-ffi` answered, or the exception for it.
pub(crate) fn checked<T>(py: Python<'_>, outcome: levada::Result<T>) -> PyResult<T> {
    outcome.map_err(|error| raise(py, &error))
}

/// An argument that cannot be converted.
pub(crate) fn usage(py: Python<'_>, argument: &str, message: &str) -> PyErr {
    raise(py, &Error::new(ErrorCode::ClientUsage, message).with_detail("argument", argument))
}
