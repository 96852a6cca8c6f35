//! Arrays: bytes with a type and a shape, shared with Python in both directions.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::error::OrRaise;

/// Elements in row-major order. NumPy looks at them where they are, through `__array_interface__`.
#[pyclass(frozen, module = "secateur._native")]
pub(crate) struct Array {
    pub(crate) inner: secateur::Array,
    bytes: Bytes,
}

/// ONNX's element types that NumPy has, and how its array interface calls them.
const NUMPY: [(&str, &str); 13] = [
    ("float", "<f4"),
    ("double", "<f8"),
    ("float16", "<f2"),
    ("int8", "|i1"),
    ("int16", "<i2"),
    ("int32", "<i4"),
    ("int64", "<i8"),
    ("uint8", "|u1"),
    ("uint16", "<u2"),
    ("uint32", "<u4"),
    ("uint64", "<u8"),
    ("bool", "|b1"),
    ("bfloat16", "<u2"),
];

impl Array {
    pub(crate) fn of(inner: secateur::Array) -> Result<Self, secateur::Error> {
        let bytes = inner.to_bytes()?;
        Ok(Self { inner, bytes })
    }
}

#[pymethods]
impl Array {
    #[new]
    fn new(py: Python<'_>, element: &str, shape: Vec<usize>, data: Bytes) -> PyResult<Self> {
        let inner = secateur::Array::from_bytes(element, shape, data).or_raise(py)?;
        Self::of(inner).or_raise(py)
    }

    /// ONNX's name of the element type.
    #[getter]
    fn element(&self) -> &'static str {
        self.inner.element()
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.shape())
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.bytes.len()
    }

    /// A copy of the elements: two of 4 bits in a byte.
    fn tobytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.bytes)
    }

    /// NumPy's description of the memory, read-only. Types that NumPy does not have are unsigned integers of their width, those of
    /// 4 bits bytes with two each.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let known = NUMPY.iter().find(|(element, _)| *element == self.inner.element());
        let elements: u64 = self.inner.shape().iter().product();
        let interface = PyDict::new(py);
        let whole = known.is_some() || self.bytes.len() as u64 == elements;
        let shape = if whole {
            PyTuple::new(py, self.inner.shape())?
        } else {
            PyTuple::new(py, [self.bytes.len()])?
        };
        interface.set_item("version", 3)?;
        interface.set_item("shape", shape)?;
        interface.set_item("typestr", known.map_or("|u1", |(_, code)| code))?;
        interface.set_item("data", (self.bytes.as_ptr() as usize, true))?;
        Ok(interface)
    }
}
