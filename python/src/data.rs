//! Samples.

use pyo3::prelude::*;
use pyo3::types::PyIterator;

use crate::arrays::Array;
use crate::error::OrRaise;
use crate::work::aside;

/// Samples for a role.
#[pyclass(frozen, module = "secateur._native")]
pub(crate) struct Data {
    pub(crate) inner: secateur::Data,
}

type Named<'py> = Vec<(String, Bound<'py, Array>)>;

fn arrays(named: &Named<'_>) -> Vec<(String, secateur::Array)> {
    let array = |(name, array): &(String, Bound<'_, Array>)| (name.clone(), array.get().inner.clone());
    named.iter().map(array).collect()
}

#[pymethods]
impl Data {
    /// What `--data` takes: a path, or a description in YAML.
    #[staticmethod]
    fn open(py: Python<'_>, spec: String) -> PyResult<Self> {
        let inner = aside(py, move || secateur::Data::open(spec))?.or_raise(py)?;
        Ok(Self { inner })
    }

    #[staticmethod]
    fn arrays(py: Python<'_>, named: Named<'_>) -> PyResult<Self> {
        let named = arrays(&named);
        let inner = aside(py, move || secateur::Data::arrays(named))?.or_raise(py)?;
        Ok(Self { inner })
    }

    /// Reads an iterator of named arrays to its end, in memory that does not grow. What it raises is raised.
    #[staticmethod]
    fn stream(py: Python<'_>, pieces: &Bound<'_, PyIterator>) -> PyResult<Self> {
        let mut failed = None;
        let read = pieces.try_iter()?.map_while(|piece| {
            let named = piece
                .and_then(|piece| piece.extract::<Named<'_>>())
                .and_then(|named| py.check_signals().map(|()| named));
            match named {
                Ok(named) => Some(arrays(&named)),
                Err(error) => {
                    failed = Some(error);
                    None
                }
            }
        });
        let inner = secateur::Data::stream(read);
        match failed {
            Some(error) => Err(error),
            None => Ok(Self {
                inner: inner.or_raise(py)?,
            }),
        }
    }

    fn labels(&self, array: &str) -> Self {
        Self {
            inner: self.inner.clone().labels(array),
        }
    }

    fn input(&self, input: &str, array: &str) -> Self {
        Self {
            inner: self.inner.clone().input(input, array),
        }
    }

    fn preprocess(&self, py: Python<'_>, preprocess: &str) -> PyResult<Self> {
        let inner = self.inner.clone().preprocess(preprocess).or_raise(py)?;
        Ok(Self { inner })
    }

    fn task(&self, py: Python<'_>, task: &str) -> PyResult<Self> {
        let inner = self.inner.clone().task(task).or_raise(py)?;
        Ok(Self { inner })
    }

    fn boxes(&self, py: Python<'_>, boxes: &str) -> PyResult<Self> {
        let inner = self.inner.clone().boxes(boxes).or_raise(py)?;
        Ok(Self { inner })
    }

    fn samples(&self, count: u64) -> Self {
        Self {
            inner: self.inner.clone().samples(count),
        }
    }

    fn seed(&self, seed: u64) -> Self {
        Self {
            inner: self.inner.clone().seed(seed),
        }
    }

    fn batch(&self, samples: u64) -> Self {
        Self {
            inner: self.inner.clone().batch(samples),
        }
    }

    fn shard(&self, py: Python<'_>, index: u64, count: u64) -> PyResult<Self> {
        let inner = self.inner.clone().shard(index, count).or_raise(py)?;
        Ok(Self { inner })
    }
}
