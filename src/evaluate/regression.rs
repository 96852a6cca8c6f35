//! Regression figures: mean squared error, mean absolute error and R², as sums that merge.

use serde::{Deserialize, Serialize};

use crate::linalg::Sums;

/// Sums over samples, a column for each output of the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Regression {
    /// One entry a column.
    pub columns: Vec<Column>,
}

/// Sums of one output column: the same bits however samples are grouped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Samples.
    pub count: u64,
    /// Of the targets, of their squares, of the squared and of the absolute errors.
    pub sums: Sums<3>,
}

impl Default for Column {
    fn default() -> Self {
        Self {
            count: 0,
            sums: Sums::new(4),
        }
    }
}

/// Spreads below this share of the squares are those of constant targets: their rounding.
const CONSTANT: f64 = 1e-27;

impl Column {
    fn count(&mut self, target: f64, output: f64) {
        let error = output - target;
        let square = target * target;
        self.count += 1;
        self.sums.add(0, target);
        self.sums.add(1, square);
        self.sums.add(1, target.mul_add(target, -square));
        self.sums.add(2, error * error);
        self.sums.add(3, error.abs());
    }

    fn merge(&mut self, other: &Column) {
        self.count += other.count;
        self.sums.merge(&other.sums);
    }

    fn squared(&self) -> f64 {
        self.sums.value(2)
    }

    fn absolute(&self) -> f64 {
        self.sums.value(3)
    }

    /// Sum of the squared deviations of the targets from their mean: Σt² - (Σt)² / n in twice the precision, as both may be far larger.
    fn spread(&self) -> f64 {
        let count = self.count.max(1) as f64;
        let (sum, sum_low) = self.sums.parts(0);
        let (squares, squares_low) = self.sums.parts(1);
        let square = sum * sum;
        let square_low = sum.mul_add(sum, -square) + 2.0 * sum * sum_low;
        let share = square / count;
        let share_low = ((-share).mul_add(count, square) + square_low) / count;
        let spread = (squares - share) + (squares_low - share_low);
        if spread > CONSTANT * squares { spread } else { 0.0 }
    }

    /// 1 - (squared errors) / (spread of the targets); for constant targets 1 if every output is right, else 0.
    fn r2(&self) -> f64 {
        let spread = self.spread();
        if spread > 0.0 {
            1.0 - self.squared() / spread
        } else if self.squared() == 0.0 {
            1.0
        } else {
            0.0
        }
    }
}

impl Regression {
    /// Counts one sample: targets and outputs of equal length.
    pub fn count(&mut self, targets: &[f64], outputs: &[f64]) {
        if self.columns.len() < targets.len() {
            self.columns.resize(targets.len(), Column::default());
        }
        for ((column, target), output) in self.columns.iter_mut().zip(targets).zip(outputs) {
            column.count(*target, *output);
        }
    }

    /// Adds another part's sums.
    pub fn merge(&mut self, other: &Regression) {
        if self.columns.len() < other.columns.len() {
            self.columns.resize(other.columns.len(), Column::default());
        }
        self.columns
            .iter_mut()
            .zip(&other.columns)
            .for_each(|(a, b)| a.merge(b));
    }

    fn mean(&self, figure: impl Fn(&Column) -> f64) -> f64 {
        if self.columns.is_empty() {
            0.0
        } else {
            self.columns.iter().map(figure).sum::<f64>() / self.columns.len() as f64
        }
    }

    /// Mean squared error, averaged over the columns.
    pub fn mean_squared_error(&self) -> f64 {
        self.mean(|c| c.squared() / c.count.max(1) as f64)
    }

    /// Mean absolute error, averaged over the columns.
    pub fn mean_absolute_error(&self) -> f64 {
        self.mean(|c| c.absolute() / c.count.max(1) as f64)
    }

    /// Coefficient of determination, averaged over the columns.
    pub fn r2(&self) -> f64 {
        self.mean(Column::r2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_small_case_and_of_its_parts() {
        let pairs = [(1.0, 1.5), (2.0, 2.0), (4.0, 3.0), (8.0, 8.5)];
        let mut whole = Regression::default();
        pairs.iter().for_each(|(t, o)| whole.count(&[*t], &[*o]));
        assert!((whole.mean_squared_error() - 1.5 / 4.0).abs() < 1e-15);
        assert!((whole.mean_absolute_error() - 0.5).abs() < 1e-15);
        assert!((whole.r2() - (1.0 - 1.5 / 28.75)).abs() < 1e-15);
        let mut parts = [Regression::default(), Regression::default()];
        pairs
            .iter()
            .enumerate()
            .for_each(|(i, (t, o))| parts[i / 3].count(&[*t], &[*o]));
        let [mut a, b] = parts;
        a.merge(&b);
        assert_eq!(a, whole);
    }

    #[test]
    fn targets_far_from_zero_keep_their_spread_and_constant_ones_have_none() {
        let mut far = Regression::default();
        [0.0, 1.0, 2.0]
            .iter()
            .for_each(|step| far.count(&[1e9 + step], &[1e9 + step + 0.5]));
        assert!((far.r2() - (1.0 - 0.75 / 2.0)).abs() < 1e-12);
        let mut constant = Regression::default();
        (0..7).for_each(|_| constant.count(&[0.1], &[0.1]));
        assert_eq!(constant.r2(), 1.0);
        constant.count(&[0.1], &[0.2]);
        assert_eq!(constant.r2(), 0.0);
    }
}
