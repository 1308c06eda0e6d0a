//! From the core's one error to the exception of its class, which Python defines: the stable interface cannot derive
//! native exceptions before 3.12.
//!
//! Making one runs no Python code, and nor does anything else here: until 3.14, a thread that runs some while the
//! interpreter ends is unwound by force, which no frame of Rust survives.

use levada::{Error, ErrorCode};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// The exception for an error. A class newer than this package is the base.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    make(py, error).unwrap_or_else(|failure| failure)
}

fn make(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    static BASE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASSES.import(py, "levada._generated", "ERROR_CLASSES")?.get_item(error.class().name())?;
    let class = class.map_or_else(|| BASE.import(py, "levada._generated", "LevadaError").cloned(), Ok)?;
    let details = PyDict::new(py);
    for (name, value) in error.details() {
        details.set_item(name, value)?;
    }
    let exception = class.call1((
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
