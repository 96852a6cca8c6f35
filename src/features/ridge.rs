//! Ridge regression in closed form.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, Axis};

use super::{FeatureError, Linear, Scale, Spool};
use crate::linalg::{Cholesky, LinalgError};

/// Share of a feature's variation that must not follow from the features before it.
const INDEPENDENT: f64 = 1e-12;

/// What a score is fitted to.
#[derive(Clone, Debug)]
pub enum HeadTarget<'a> {
    /// Class of each sample: 1 for its own score and -1 for the others.
    Classes {
        /// `[N]`, each below `count`.
        labels: &'a [u32],
        /// Number of classes.
        count: usize,
    },
    /// Values `[N, K]`.
    Values(&'a Array2<f64>),
}

impl HeadTarget<'_> {
    fn scores(&self) -> usize {
        match self {
            Self::Classes { count, .. } => *count,
            Self::Values(values) => values.ncols(),
        }
    }

    /// Targets `[count, K]` of `count` samples from `first` on.
    fn block(&self, first: usize, count: usize) -> Array2<f64> {
        match self {
            Self::Classes {
                labels,
                count: classes,
            } => {
                let mut block = Array2::from_elem((count, *classes), -1.0);
                for (mut row, label) in block.outer_iter_mut().zip(labels.iter().skip(first)) {
                    if let Some(own) = row.get_mut(*label as usize) {
                        *own = 1.0;
                    }
                }
                block
            }
            Self::Values(values) => values.slice(ndarray::s![first..first + count, ..]).to_owned(),
        }
    }
}

/// The linear map that minimises `Σ |W·z + b - t|² + alpha · |W|²` over standardised features `z`; the bias is free.
///
/// # Errors
/// When the rows cannot be read or the matrix is singular, which `alpha` above 0 prevents.
pub fn ridge(
    spool: &mut Spool,
    target: &HeadTarget<'_>,
    alpha: f64,
    scale: &Scale,
) -> Result<Linear, FeatureError> {
    let (width, scores) = (spool.width(), target.scores());
    let count = spool.rows().max(1) as f64;
    let mut gram = Array2::<f64>::zeros((width, width));
    let mut cross = Array2::<f64>::zeros((width, scores));
    let mut sum = Array1::<f64>::zeros(width);
    let mut total = Array1::<f64>::zeros(scores);
    spool.for_each(|first, block| {
        let rows = scale.apply(block);
        let targets = target.block(first, rows.nrows());
        general_mat_mul(1.0, &rows.t(), &rows, 1.0, &mut gram);
        general_mat_mul(1.0, &rows.t(), &targets, 1.0, &mut cross);
        sum += &rows.sum_axis(Axis(0));
        total += &targets.sum_axis(Axis(0));
    })?;
    let (mean, level) = (sum / count, total / count);
    let column = mean.view().insert_axis(Axis(1));
    general_mat_mul(-count, &column, &column.t(), 1.0, &mut gram);
    general_mat_mul(
        -count,
        &column,
        &level.view().insert_axis(Axis(0)),
        1.0,
        &mut cross,
    );
    gram.diag_mut().mapv_inplace(|value| value + alpha);
    let diagonal = gram.diag().to_owned();
    let factor = Cholesky::new(gram)?;
    // What rounding leaves of a pivot that is zero would be divided by.
    for (index, (root, whole)) in factor.lower().diag().iter().zip(&diagonal).enumerate() {
        let pivot = root * root;
        if pivot <= INDEPENDENT * whole {
            return Err(LinalgError::NotPositiveDefinite { index, pivot }.into());
        }
    }
    let weights = factor.solve(cross.view())?.reversed_axes();
    let bias = &level - &weights.dot(&mean);
    Ok(scale.unscaled(&weights.as_standard_layout().to_owned(), &bias))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::super::Filling;
    use super::*;

    #[test]
    fn an_exact_relation_is_found_and_alpha_shrinks_it() {
        let rows = array![[1.0f32, 2.0], [2.0, -1.0], [0.0, 3.0], [4.0, 4.0], [100.0, 7.0]];
        let values = rows.mapv(f64::from).dot(&array![[2.0], [-0.5]]) + 3.0;
        let mut filling = Filling::new().unwrap();
        filling.push(rows.view()).unwrap();
        let mut spool = filling.finish().unwrap();
        for scale in [Scale::none(2), Scale::of(&mut spool).unwrap()] {
            let exact = ridge(&mut spool, &HeadTarget::Values(&values), 0.0, &scale).unwrap();
            assert!(
                (&exact.weights - &array![[2.0, -0.5]])
                    .iter()
                    .all(|d| d.abs() < 1e-9)
            );
            assert!((exact.bias[0] - 3.0).abs() < 1e-8);
            let shrunk = ridge(&mut spool, &HeadTarget::Values(&values), 10.0, &scale).unwrap();
            let size = |linear: &Linear| (&linear.weights * &scale.deviation).mapv(|w| w * w).sum();
            assert!(size(&shrunk) < size(&exact));
        }
    }

    #[test]
    fn a_singular_matrix_is_an_error_without_alpha() {
        let mut filling = Filling::new().unwrap();
        filling
            .push(array![[1.0f32, 1.0], [2.0, 2.0], [3.0, 3.0]].view())
            .unwrap();
        let mut spool = filling.finish().unwrap();
        let labels = [0, 1, 1];
        let target = HeadTarget::Classes {
            labels: &labels,
            count: 2,
        };
        let scale = Scale::none(2);
        assert!(matches!(
            ridge(&mut spool, &target, 0.0, &scale),
            Err(FeatureError::Linalg(_))
        ));
        let found = ridge(&mut spool, &target, 1.0, &scale).unwrap();
        assert!(found.weights[[1, 0]] > 0.0 && (found.weights[[0, 0]] + found.weights[[1, 0]]).abs() < 1e-12);
    }
}
