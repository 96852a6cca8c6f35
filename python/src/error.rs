//! Errors as exceptions of the package.

use pyo3::prelude::*;
use secateur::Error;

/// The exception for an error: `secateur._errors.made` chooses the class by its code.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let document = serde_json::to_string(error).unwrap_or_default();
    made(py, &document, &error.to_string())
}

/// A defect: something that ended a thread.
pub(crate) fn defect(py: Python<'_>, message: &str) -> PyErr {
    let document = serde_json::json!({ "error": { "code": "defect", "message": message } });
    made(py, &document.to_string(), message)
}

fn made(py: Python<'_>, document: &str, text: &str) -> PyErr {
    let make = || {
        py.import("secateur._errors")?
            .getattr("made")?
            .call1((document, text))
    };
    match make() {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// A result whose error is an exception.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, Error> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error))
    }
}
