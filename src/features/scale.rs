//! Means and deviations of features.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::{FeatureError, Linear, Spool};

/// Mean and standard deviation of each feature; a feature that does not vary has the deviation 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// `[D]`.
    pub mean: Array1<f64>,
    /// `[D]`, of the population.
    pub deviation: Array1<f64>,
}

impl Scale {
    /// Of all rows: two passes, so that a large mean costs no digits.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn of(spool: &mut Spool) -> Result<Self, FeatureError> {
        let count = spool.rows().max(1) as f64;
        let mut sum = Array1::<f64>::zeros(spool.width());
        spool.for_each(|_, block| sum += &block.sum_axis(Axis(0)))?;
        let mean = sum / count;
        let mut squares = Array1::<f64>::zeros(spool.width());
        spool.for_each(|_, block| {
            let centred = &block - &mean;
            squares += &(&centred * &centred).sum_axis(Axis(0));
        })?;
        let deviation = squares.mapv(|sum| (sum / count).sqrt());
        // Rounding of the mean alone is no variation.
        let deviation = ndarray::Zip::from(&deviation)
            .and(&mean)
            .map_collect(|deviation, mean: &f64| {
                if *deviation > 1e-12 * mean.abs() && *deviation > 0.0 {
                    *deviation
                } else {
                    1.0
                }
            });
        Ok(Self { mean, deviation })
    }

    /// Nothing is moved or scaled.
    pub fn none(width: usize) -> Self {
        Self {
            mean: Array1::zeros(width),
            deviation: Array1::ones(width),
        }
    }

    /// Standardised rows.
    pub(super) fn apply(&self, block: ArrayView2<'_, f64>) -> Array2<f64> {
        (&block - &self.mean) / &self.deviation
    }

    /// The map of plain features that gives what `weights` `[K, D]` and `bias` give of standardised ones.
    pub(super) fn unscaled(&self, weights: &Array2<f64>, bias: &Array1<f64>) -> Linear {
        let weights = weights / &self.deviation;
        let bias = bias - &weights.dot(&self.mean);
        Linear { weights, bias }
    }
}
