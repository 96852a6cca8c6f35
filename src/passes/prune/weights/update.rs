//! What stays makes up for what goes: the weights of a layer change so that its output changes as little as the data allow.
//!
//! For the squared error of a layer's output, `tr((W - Ŵ) H (W - Ŵ)ᵀ)` with `H = Σ x xᵀ`, a weight that becomes zero moves those to its
//! right by its error times a row of the Cholesky factor of `H⁻¹` (Optimal Brain Surgeon, Hassibi and Stork 1992; one column
//! after the other for all outputs, SparseGPT, Frantar and Alistarh 2023). Weights that are to go themselves take part until their
//! turn comes, and pass on what they have become.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::{Array2, Array3, ArrayView2, Axis, s};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layers::Layer;
use crate::data::Dataset;
use crate::engine::Engine;
use crate::ir::{DType, GraphPath, Model, Tensor, TensorError, ValueId, model_digest};
use crate::linalg::{Cholesky, LinalgError};
use crate::statistics::gram::{self, GramOptions, Grams};
use crate::statistics::{Statistics, StatisticsError, StatisticsFileError};

/// Share of the mean second moment that is added to each.
const DAMPING: f64 = 0.01;

/// What becomes of the weights that stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Update {
    /// They stay as they are.
    #[default]
    None,
    /// They make up for those that go, by the second moments of what the layer reads on calibration data (SparseGPT).
    Obs,
}

/// Why a layer keeps its other weights.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpdateError {
    #[error("a reader has no rows")]
    NoRows,
    #[error("its type is not float32")]
    NotFloat32,
    #[error(transparent)]
    Moments(#[from] LinalgError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Why a file gives no second moments.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    File(#[from] StatisticsFileError),
    #[error("the statistics {} are of another model", .path.display())]
    OtherModel { path: PathBuf },
}

/// Second moments of what the layers of the main graph read.
pub(super) struct Moments {
    layers: BTreeMap<ValueId, Vec<gram::Layer>>,
    grams: Grams,
}

impl Moments {
    /// Runs the model over the data.
    pub(super) fn collect(
        model: &Model,
        wanted: &[Layer],
        data: &Dataset,
        engine: &dyn Engine,
        jobs: usize,
        progress: &dyn Fn(u64),
    ) -> Result<Self, StatisticsError> {
        let layers = readers(model, wanted);
        let all: Vec<gram::Layer> = layers.values().flatten().cloned().collect();
        let grams = gram::collect(model, &all, GramOptions::default(), data, engine, jobs, progress)?;
        Ok(Self { layers, grams })
    }

    /// Takes them from a file that `secateur stats --for gram` wrote of this very model.
    pub(super) fn read(path: &Path, model: &Model, wanted: &[Layer]) -> Result<Self, ReadError> {
        let statistics = Statistics::read(path)?;
        if statistics.subject.model != model_digest(model) {
            return Err(ReadError::OtherModel {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            layers: readers(model, wanted),
            grams: statistics.grams,
        })
    }

    /// The weights of `layer` after those that are `gone` became zero, in the shape of the constant. Zeros stay zeros.
    pub(super) fn updated(
        &self,
        layer: &Layer,
        tensor: &Tensor,
        gone: &[bool],
    ) -> Result<Tensor, UpdateError> {
        if tensor.dtype() != DType::F32 {
            return Err(UpdateError::NotFloat32);
        }
        let found = Some(&layer.value)
            .filter(|_| layer.path == GraphPath::MAIN)
            .and_then(|value| self.layers.get(value))
            .ok_or(UpdateError::NoRows)?;
        let first = found.first().ok_or(UpdateError::NoRows)?;
        let mut moments: Vec<Array2<f64>> = Vec::new();
        for reader in found {
            let grams = self.grams.of(reader).ok_or(UpdateError::NoRows)?;
            if moments.is_empty() {
                moments = grams.iter().map(|gram| gram.matrix.clone()).collect();
                continue;
            }
            if grams.len() != moments.len() || reader.output_axis() != first.output_axis() {
                return Err(UpdateError::NoRows);
            }
            for (sum, gram) in moments.iter_mut().zip(grams) {
                if sum.dim() != gram.matrix.dim() {
                    return Err(UpdateError::NoRows);
                }
                *sum += &gram.matrix;
            }
        }
        let marks: Vec<f32> = gone
            .iter()
            .zip(tensor.view::<f32>()?.iter())
            .map(|(gone, weight)| f32::from(u8::from(*gone || *weight == 0.0)))
            .collect();
        let marks = first.matrices(&Tensor::from_slice(tensor.dims(), &marks)?)?;
        let mut weights: Array3<f64> = first.matrices(tensor)?;
        for (group, moment) in moments.iter().enumerate() {
            let mut part = weights.index_axis_mut(Axis(0), group);
            let fresh = compensated(part.view(), marks.index_axis(Axis(0), group), moment)?;
            part.assign(&fresh);
        }
        let fresh = first.tensor(&weights)?;
        Ok(match tensor.meta() {
            Some(meta) => fresh.with_meta(meta.clone()),
            None => fresh,
        })
    }
}

/// Nodes that read each weight as a layer; only weights all of whose readers are one.
fn readers(model: &Model, wanted: &[Layer]) -> BTreeMap<ValueId, Vec<gram::Layer>> {
    let mut layers: BTreeMap<ValueId, Vec<gram::Layer>> = BTreeMap::new();
    for layer in gram::layers(&model.graph).0 {
        let is_wanted = |own: &Layer| own.path == GraphPath::MAIN && own.value == layer.weight;
        if wanted.iter().any(is_wanted) {
            layers.entry(layer.weight).or_default().push(layer);
        }
    }
    layers.retain(|weight, found| model.graph.uses(*weight).len() == found.len());
    layers
}

/// `weights` `[outputs, columns]` with zeros where `marks` are not 0; the others make up for them.
fn compensated(
    weights: ArrayView2<'_, f64>,
    marks: ArrayView2<'_, f64>,
    moment: &Array2<f64>,
) -> Result<Array2<f64>, LinalgError> {
    let (outputs, columns) = weights.dim();
    // A column that no row reaches neither makes up for anything nor needs to be made up for.
    let mut damped = moment.clone();
    let mean = damped.diag().mean().unwrap_or(0.0);
    damped
        .diag_mut()
        .mapv_inplace(|value| if value > 0.0 { value + DAMPING * mean } else { 1.0 });
    let inverse = Cholesky::new(damped)?.inverse()?;
    let factor = Cholesky::new(inverse)?.lower().t().to_owned();
    let rows: Vec<Vec<f64>> = (0..outputs)
        .into_par_iter()
        .map(|output| {
            let mut row = weights.row(output).to_owned();
            for column in 0..columns {
                if marks[[output, column]] == 0.0 {
                    continue;
                }
                let error = row[column] / factor[[column, column]];
                row.slice_mut(s![column + 1..])
                    .scaled_add(-error, &factor.slice(s![column, column + 1..]));
                row[column] = 0.0;
            }
            row.to_vec()
        })
        .collect();
    let mut fresh = Array2::zeros((outputs, columns));
    for (mut target, row) in fresh.rows_mut().into_iter().zip(rows) {
        target
            .iter_mut()
            .zip(row)
            .for_each(|(target, value)| *target = value);
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
        let mut state = seed;
        Array2::from_shape_fn((rows, columns), |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5
        })
    }

    fn output_error(apart: &Array2<f64>, moment: &Array2<f64>) -> f64 {
        (&apart.dot(moment) * apart).sum()
    }

    #[test]
    fn what_stays_makes_up_for_what_goes() {
        let weights = numbers(5, 12, 1);
        let mixing = numbers(4, 12, 2);
        let rows = numbers(80, 4, 3).dot(&mixing) + numbers(80, 12, 4) * 0.2;
        let moment = rows.t().dot(&rows);
        let marks = numbers(5, 12, 5).mapv(|value| f64::from(u8::from(value < 0.0)));
        let fresh = compensated(weights.view(), marks.view(), &moment).unwrap();
        for (value, mark) in fresh.iter().zip(&marks) {
            assert!(*mark == 0.0 || *value == 0.0);
        }
        let plain = &weights * &marks;
        let (before, after) = (
            output_error(&plain, &moment),
            output_error(&(&weights - &fresh), &moment),
        );
        assert!(after < 0.7 * before, "{after} against {before}");
    }

    #[test]
    fn one_weight_that_goes_last_but_one_moves_the_last_as_least_squares_does() {
        let (weights, rows) = (numbers(1, 2, 7), numbers(30, 2, 8));
        let moment = rows.t().dot(&rows);
        let marks = Array2::from_shape_vec((1, 2), vec![1.0, 0.0]).unwrap();
        let fresh = compensated(weights.view(), marks.view(), &moment).unwrap();
        let mean = moment.diag().mean().unwrap();
        let expected = weights[[0, 1]] + weights[[0, 0]] * moment[[0, 1]] / (moment[[1, 1]] + DAMPING * mean);
        assert!((fresh[[0, 1]] - expected).abs() < 1e-9, "{fresh} {expected}");
    }

    #[test]
    fn independent_columns_are_left_alone() {
        let weights = numbers(2, 6, 11);
        let marks = Array2::from_shape_fn((2, 6), |(_, column)| f64::from(u8::from(column % 2 == 0)));
        let fresh = compensated(weights.view(), marks.view(), &Array2::eye(6)).unwrap();
        assert_eq!(fresh, &weights * &marks.mapv(|mark| 1.0 - mark));
    }
}
