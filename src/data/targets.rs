//! Labels in the form in which a loss takes them.

use super::array::convert;
use super::error::DataError;
use super::{Batch, Dataset};
use crate::ir::{DType, Shape, Tensor};

/// The labels of a batch as a tensor of type `dtype` for an input of shape `shape`: `int64` class labels, or float targets.
///
/// The first axis is that of the samples. An array with the right number of elements a sample takes the input's shape, so that
/// targets `[N]` serve an output `[N, 1]`.
pub fn targets(
    data: &Dataset,
    batch: &Batch,
    dtype: DType,
    shape: Option<&Shape>,
) -> Result<Tensor, DataError> {
    let wrong = |reason: String| DataError::Labels {
        file: data.origin().to_owned(),
        reason,
    };
    let labels = batch.labels.as_ref().ok_or_else(|| {
        wrong("the loss needs labels and there are none; name them with `labels`".to_owned())
    })?;
    if dtype.is_integer() && !labels.dtype().is_integer() {
        return Err(wrong(format!(
            "the loss takes classes as integers, the labels are {}",
            labels.dtype()
        )));
    }
    let tensor = match labels.dtype().is_integer() && dtype.is_float() {
        true => Tensor::from_f64(
            dtype,
            labels.dims(),
            &labels.to_f64().map_err(|e| wrong(e.to_string()))?,
        ),
        false => convert(labels.clone(), dtype),
    };
    let tensor = tensor.map_err(|error| wrong(error.to_string()))?;
    let Some(shape) = shape else { return Ok(tensor) };
    let dims: Option<Vec<u64>> = shape
        .iter()
        .enumerate()
        .map(|(axis, dim)| match (axis, dim.fixed()) {
            (0, _) => Some(batch.count as u64),
            (_, Some(size)) => u64::try_from(size).ok(),
            (axis, None) => tensor.dims().get(axis).copied(),
        })
        .collect();
    let expected = || {
        shape
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mismatch = || {
        wrong(format!(
            "labels of shape {:?} do not fit the loss, which takes [{}]",
            tensor.dims(),
            expected()
        ))
    };
    let dims = dims.ok_or_else(mismatch)?;
    if dims.iter().product::<u64>() != tensor.elements() {
        return Err(mismatch());
    }
    tensor.reshaped(&dims).map_err(|error| wrong(error.to_string()))
}
