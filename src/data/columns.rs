//! Arrays of an npz file or of a program as the inputs and labels of a model.

use std::path::Path;
use std::sync::Arc;

use super::array::{Array, convert, converts, not_finite};
use super::error::DataError;
use super::memory::Arrays;
use super::npz::{ArrayFile, array_names};
use super::preprocess::Preprocess;
use super::signature::{InputSignature, Signature};
use super::spec::Spec;
use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Tensor};

/// One array for each input of the model, and the labels.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<Column>,
    labels: Option<Arc<ArrayFile>>,
    preprocess: Option<Preprocess>,
}

/// One array and how its entries become one model input.
#[derive(Debug)]
struct Column {
    array: Arc<ArrayFile>,
    /// Each entry is one whole input, batch axis included.
    whole: bool,
    /// Where an axis of size 1 for the channel is put in.
    channel: Option<usize>,
}

/// Where arrays are looked for.
#[derive(Clone, Copy)]
pub(super) enum Archive<'a> {
    /// A `.npz` or `.npy` file.
    File(&'a Path),
    /// What a program hands over.
    Given(&'a Arrays),
}

impl Archive<'_> {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Given(arrays) => arrays.origin(),
        }
    }

    fn names(&self) -> Result<Vec<String>, DataError> {
        match self {
            Self::File(path) => array_names(path),
            Self::Given(arrays) => Ok(arrays.names()),
        }
    }

    fn array(&self, name: &str) -> Result<Arc<ArrayFile>, DataError> {
        match self {
            Self::File(path) => ArrayFile::open(path, name).map(Arc::new),
            Self::Given(arrays) => arrays.array(name),
        }
    }
}

impl Columns {
    /// Opens the arrays of `archive` that fill the inputs of `signature`; answers how many samples they hold.
    pub(super) fn open(
        spec: &Spec,
        archive: Archive<'_>,
        signature: &Signature,
        preprocess: Option<Preprocess>,
    ) -> Result<(Self, u64), DataError> {
        let (path, names) = (archive.path(), archive.names()?);
        for input in spec.inputs.keys() {
            if !signature.inputs.iter().any(|known| known.name == *input) {
                let known: Vec<&str> = signature.inputs.iter().map(|input| input.name.as_str()).collect();
                let message = format!(
                    "inputs: the model has no input {input:?}; it has {}",
                    known.join(", ")
                );
                return Err(DataError::Spec {
                    file: Some(path.to_owned()),
                    message,
                });
            }
        }
        let label = spec.labels.as_deref();
        let free: Vec<&String> = names.iter().filter(|name| Some(name.as_str()) != label).collect();
        let mut columns = Vec::with_capacity(signature.inputs.len());
        for input in &signature.inputs {
            let array = match spec.inputs.get(&input.name) {
                Some(array) => array.as_str(),
                None if names.contains(&input.name) => &input.name,
                None if signature.inputs.len() == 1 && free.len() == 1 => free[0],
                None if signature.inputs.len() == 1 && names.iter().any(|name| name == "x") => "x",
                None => {
                    let array = input.name.clone();
                    return Err(DataError::NoArray {
                        file: path.to_owned(),
                        array,
                        available: names,
                    });
                }
            };
            columns.push(Column::open(archive.array(array)?, input, preprocess.as_ref())?);
        }
        let labels = label.map(|name| archive.array(name)).transpose()?;
        let mut samples: Option<(u64, String)> = None;
        for array in columns.iter().map(|column| &column.array).chain(&labels) {
            let found = array.dims.first().copied().unwrap_or(0);
            match &samples {
                None => samples = Some((found, array.name.clone())),
                Some((expected, other)) if *expected != found => {
                    return Err(DataError::Length {
                        file: path.to_owned(),
                        array: array.name.clone(),
                        found,
                        other: other.clone(),
                        expected: *expected,
                    });
                }
                Some(_) => {}
            }
        }
        let samples = samples.map_or(0, |(count, _)| count);
        let opened = Self {
            columns,
            labels,
            preprocess,
        };
        Ok((opened, samples))
    }

    /// Whether each entry is one whole input.
    pub(super) fn whole(&self) -> bool {
        self.columns.iter().any(|column| column.whole)
    }

    /// Whether samples have labels.
    pub(super) fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// The inputs at `rows`, and the labels of the first `real` of them. `first` is what errors call the first sample.
    pub(super) fn read(
        &self,
        signature: &Signature,
        rows: &[u64],
        real: usize,
        first: u64,
    ) -> Result<(RunValues, Option<Tensor>), DataError> {
        let mut inputs = RunValues::new();
        for (input, column) in signature.inputs.iter().zip(&self.columns) {
            let tensor = column.read(input, rows, first, self.preprocess.as_ref())?;
            inputs.insert(input.name.clone(), RunValue::Tensor(tensor));
        }
        let labels = self
            .labels
            .as_ref()
            .map(|array| label_rows(array, rows.get(..real).unwrap_or(rows)))
            .transpose()?;
        Ok((inputs, labels))
    }
}

impl Column {
    fn open(
        array: Arc<ArrayFile>,
        input: &InputSignature,
        preprocess: Option<&Preprocess>,
    ) -> Result<Self, DataError> {
        let wrong_shape = |array: &ArrayFile| DataError::Shape {
            file: array.path.clone(),
            array: array.name.clone(),
            input: input.name.clone(),
            expected: input.shape_text(),
            found: format!("{:?}", array.dims),
        };
        let (rank, entry) = (
            input.shape.as_ref().map(|s| s.len()),
            array.dims.get(1..).unwrap_or(&[]).to_vec(),
        );
        if array.dims.is_empty() {
            return Err(wrong_shape(&array));
        }
        let (mut whole, mut channel) = (false, None);
        match rank {
            Some(rank) if array.dims.len() == rank => {}
            Some(rank) if array.dims.len() == rank + 1 => whole = true,
            // Grey pictures are often stored without their channel axis.
            Some(rank) if array.dims.len() + 1 == rank && rank == 4 && preprocess.is_some() => {
                channel = preprocess.and_then(|p| p.channel_axis(3));
            }
            Some(_) => return Err(wrong_shape(&array)),
            None => {}
        }
        let mut full: Vec<u64> = if whole {
            entry.clone()
        } else {
            [1].iter().chain(&entry).copied().collect()
        };
        if let Some(axis) = channel {
            full.insert(axis + 1, 1);
        }
        let fixed_first = |dims: &mut Vec<u64>| {
            let first = input
                .shape
                .as_ref()
                .and_then(|s| s.first())
                .and_then(|d| d.fixed());
            if let (false, Some(size), Some(slot)) = (whole, first, dims.first_mut()) {
                *slot = size as u64;
            }
        };
        fixed_first(&mut full);
        if !input.fits(&full) {
            return Err(wrong_shape(&array));
        }
        let possible = match preprocess {
            Some(_) => input.dtype.is_float() && (array.dtype.is_float() || array.dtype.is_integer()),
            None => converts(array.dtype, input.dtype),
        };
        if !possible {
            let hint = if input.dtype.is_float() && array.dtype.is_integer() {
                "; say how integers become floats with preprocess"
            } else {
                ""
            };
            return Err(DataError::Type {
                file: array.path.clone(),
                array: array.name.clone(),
                input: input.name.clone(),
                expected: input.dtype.to_string(),
                found: array.dtype.to_string(),
                hint,
            });
        }
        Ok(Self {
            array,
            whole,
            channel,
        })
    }

    fn read(
        &self,
        input: &InputSignature,
        rows: &[u64],
        first: u64,
        preprocess: Option<&Preprocess>,
    ) -> Result<Tensor, DataError> {
        let array = read_rows(&self.array, rows)?;
        let failed = |e: crate::ir::TensorError| DataError::Read {
            file: self.array.path.clone(),
            reason: format!("array {}: {e}", self.array.name),
        };
        let mut dims = array.dims.clone();
        if self.whole {
            dims.remove(0);
        } else if let Some(axis) = self.channel {
            dims.insert(axis + 1, 1);
        }
        let tensor = Tensor::from_raw(array.dtype, dims.iter().copied(), array.bytes).map_err(failed)?;
        let tensor = match preprocess {
            Some(preprocess) => scaled(&tensor, preprocess, input.dtype, self.whole).map_err(failed)?,
            None => convert(tensor, input.dtype).map_err(failed)?,
        };
        if let Some((at, value)) = not_finite(&tensor) {
            let entry = (tensor.elements() / rows.len().max(1) as u64).max(1);
            return Err(DataError::NotFinite {
                file: self.array.path.clone(),
                array: self.array.name.clone(),
                sample: first + at as u64 / entry,
                value,
            });
        }
        Ok(tensor)
    }
}

/// Pixels of `[N, C, H, W]` or `[N, H, W, C]` as values. Mean and deviation follow the channel axis; without one, the first applies.
fn scaled(
    tensor: &Tensor,
    preprocess: &Preprocess,
    dtype: DType,
    whole: bool,
) -> Result<Tensor, crate::ir::TensorError> {
    let dims = tensor.dims();
    let rank = dims.len().saturating_sub(1);
    let axis = preprocess
        .channel_axis(rank)
        .map(|axis| axis + 1)
        .filter(|_| !whole || rank >= 3);
    let (size, inner) = match axis {
        Some(axis) => (
            dims.get(axis).copied().unwrap_or(1).max(1),
            dims.iter().skip(axis + 1).product::<u64>().max(1),
        ),
        None => (1, 1),
    };
    let values: Vec<f64> = tensor
        .to_f64()?
        .into_iter()
        .enumerate()
        .map(|(at, pixel)| preprocess.value(pixel, (at as u64 / inner % size) as usize))
        .collect();
    Tensor::from_f64(dtype, dims, &values)
}

fn label_rows(array: &ArrayFile, rows: &[u64]) -> Result<Tensor, DataError> {
    let read = read_rows(array, rows)?;
    let wrong = |reason: String| DataError::Labels {
        file: array.path.clone(),
        reason: format!("labels {}: {reason}", array.name),
    };
    let tensor = read.tensor().map_err(|e| wrong(e.to_string()))?;
    if tensor.dtype().is_float() {
        return match not_finite(&tensor) {
            Some((at, value)) => Err(wrong(format!("entry {at} of the batch is {value}"))),
            None => Ok(tensor),
        };
    }
    convert(tensor, DType::I64).map_err(|e| wrong(e.to_string()))
}

/// The given rows, neighbouring ones in one read.
fn read_rows(array: &ArrayFile, rows: &[u64]) -> Result<Array, DataError> {
    let mut dims = array.dims.clone();
    if let Some(first) = dims.first_mut() {
        *first = rows.len() as u64;
    }
    let mut bytes = Vec::new();
    let mut at = 0;
    while let Some(start) = rows.get(at).copied() {
        let mut length = 1;
        while rows.get(at + length as usize) == Some(&(start + length)) {
            length += 1;
        }
        bytes.extend(array.read(start, length)?.bytes);
        at += length as usize;
    }
    Ok(Array {
        dtype: array.dtype,
        dims,
        bytes,
    })
}
