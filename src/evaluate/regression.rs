//! Regression figures: mean squared error, mean absolute error and R², as sums that merge.

use serde::{Deserialize, Serialize};

/// Sums over samples, a column for each output of the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Regression {
    /// One entry a column.
    pub columns: Vec<Column>,
}

/// Sums of one output column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Samples.
    pub count: u64,
    /// Mean of the targets.
    pub mean: f64,
    /// Sum of squared deviations of the targets from their mean.
    pub spread: f64,
    /// Sum of squared errors.
    pub squared: f64,
    /// Sum of absolute errors.
    pub absolute: f64,
}

impl Column {
    fn count(&mut self, target: f64, output: f64) {
        self.count += 1;
        let before = target - self.mean;
        self.mean += before / self.count as f64;
        self.spread += before * (target - self.mean);
        self.squared += (output - target) * (output - target);
        self.absolute += (output - target).abs();
    }

    /// Chan, Golub and LeVeque's pairwise update.
    fn merge(&mut self, other: &Column) {
        let total = self.count + other.count;
        if total == 0 {
            return;
        }
        let apart = other.mean - self.mean;
        self.spread += other.spread + apart * apart * (self.count as f64 * other.count as f64 / total as f64);
        self.mean += apart * (other.count as f64 / total as f64);
        self.count = total;
        self.squared += other.squared;
        self.absolute += other.absolute;
    }

    /// 1 - (squared errors) / (spread of the targets); for constant targets 1 if every output is right, else 0.
    fn r2(&self) -> f64 {
        if self.spread > 0.0 {
            1.0 - self.squared / self.spread
        } else if self.squared == 0.0 {
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
        self.mean(|c| c.squared / c.count.max(1) as f64)
    }

    /// Mean absolute error, averaged over the columns.
    pub fn mean_absolute_error(&self) -> f64 {
        self.mean(|c| c.absolute / c.count.max(1) as f64)
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
        assert!((a.r2() - whole.r2()).abs() < 1e-12);
    }
}
