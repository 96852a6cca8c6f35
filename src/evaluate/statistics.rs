//! How sure the figures are: Wilson intervals, and McNemar's test between two models on the same samples.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counts of samples by which of two models is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paired {
    /// Samples on which both predict the same class.
    pub agree: u64,
    /// Both right.
    pub both: u64,
    /// Only the model is right.
    pub only_model: u64,
    /// Only the reference is right.
    pub only_reference: u64,
    /// Neither.
    pub neither: u64,
}

/// An interval at a stated confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl Paired {
    /// Counts one sample.
    pub fn count(&mut self, truth: Option<i64>, model: i64, reference: i64) {
        self.agree += u64::from(model == reference);
        let Some(truth) = truth else { return };
        match (model == truth, reference == truth) {
            (true, true) => self.both += 1,
            (true, false) => self.only_model += 1,
            (false, true) => self.only_reference += 1,
            (false, false) => self.neither += 1,
        }
    }

    /// Adds another part's counts.
    pub fn merge(&mut self, other: &Paired) {
        self.agree += other.agree;
        self.both += other.both;
        self.only_model += other.only_model;
        self.only_reference += other.only_reference;
        self.neither += other.neither;
    }

    /// Samples counted against a label.
    pub fn labelled(&self) -> u64 {
        self.both + self.only_model + self.only_reference + self.neither
    }

    /// Accuracy of the reference minus accuracy of the model.
    pub fn drop(&self) -> f64 {
        let total = self.labelled().max(1) as f64;
        (self.only_reference as f64 - self.only_model as f64) / total
    }

    /// Interval of [`Paired::drop`]: the normal approximation for a difference of paired proportions with one sample of each
    /// kind of disagreement added (Agresti and Min 2005).
    pub fn drop_interval(&self, confidence: f64) -> Interval {
        let total = self.labelled() as f64 + 2.0;
        let (b, c) = (self.only_reference as f64 + 0.5, self.only_model as f64 + 0.5);
        let centre = (b - c) / total;
        let width = normal_quantile(0.5 + confidence / 2.0)
            * ((b + c - (b - c) * (b - c) / total).max(0.0)).sqrt()
            / total;
        Interval {
            low: (centre - width).max(-1.0),
            high: (centre + width).min(1.0),
        }
    }

    /// Two-sided p-value of McNemar's exact test: how likely disagreement at least this lopsided is between equally good models.
    pub fn mcnemar(&self) -> f64 {
        let (low, total) = (
            self.only_model.min(self.only_reference),
            self.only_model + self.only_reference,
        );
        if total == 0 {
            return 1.0;
        }
        let log_half = -(total as f64) * std::f64::consts::LN_2;
        let mut log_choose = 0.0;
        let mut tail = 0.0;
        for k in 0..=low {
            if k > 0 {
                log_choose += ((total - k + 1) as f64).ln() - (k as f64).ln();
            }
            tail += (log_choose + log_half).exp();
        }
        (2.0 * tail).min(1.0)
    }
}

/// Wilson's score interval of a proportion.
pub fn wilson(hits: u64, total: u64, confidence: f64) -> Interval {
    if total == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (n, p, z) = (
        total as f64,
        hits as f64 / total as f64,
        normal_quantile(0.5 + confidence / 2.0),
    );
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let width = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    Interval {
        low: (centre - width).max(0.0),
        high: (centre + width).min(1.0),
    }
}

/// Quantile of the standard normal distribution: bisection on the complementary error function's series, to 1e-12.
pub fn normal_quantile(probability: f64) -> f64 {
    let (mut low, mut high) = (-9.0f64, 9.0f64);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if normal_cdf(middle) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Standard normal distribution function by its Taylor-like series (Marsaglia 2004).
fn normal_cdf(x: f64) -> f64 {
    if x < -8.0 {
        return 0.0;
    }
    if x > 8.0 {
        return 1.0;
    }
    let (mut sum, mut term, mut k) = (x, x, 1.0);
    loop {
        k += 2.0;
        term *= x * x / k;
        let next = sum + term;
        if next == sum {
            break;
        }
        sum = next;
    }
    0.5 + sum * (-0.5 * x * x - 0.5 * (2.0 * std::f64::consts::PI).ln()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert!((normal_quantile(0.975) - 1.959963984540054).abs() < 1e-9);
        let interval = wilson(81, 263, 0.95);
        assert!((interval.low - 0.2553).abs() < 1e-4 && (interval.high - 0.3662).abs() < 1e-4);
        let paired = Paired {
            only_model: 1,
            only_reference: 7,
            both: 10,
            ..Paired::default()
        };
        assert!((paired.mcnemar() - 0.0703125).abs() < 1e-12);
        assert!((paired.drop() - 6.0 / 18.0).abs() < 1e-15);
    }

    #[test]
    fn no_disagreement_means_no_evidence() {
        assert_eq!(Paired::default().mcnemar(), 1.0);
        let interval = Paired {
            both: 350,
            agree: 350,
            ..Paired::default()
        }
        .drop_interval(0.95);
        assert!(interval.low < 0.0 && interval.high > 0.0 && interval.high < 0.01);
    }
}
