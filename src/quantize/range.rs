//! Ranges from histograms: what a calibrator decides.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::kind::Kind;
use super::parameters::{Parameters, Scheme, parameters};
use crate::ir::round_minifloat;

/// How the range of an activation is found. All work on the same streamed histogram, so one pass over the data serves any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Calibrator {
    /// The lowest and the highest value.
    #[default]
    MinMax,
    /// The means over the samples of each one's lowest and highest value: a cumulative average, which shards and their order do
    /// not change.
    MovingAverage,
    /// The range that holds this percentage of the values, half of the rest on each side.
    Percentile(f64),
    /// The clipping that loses least information (Kullback-Leibler divergence) over 2048 bins of absolute values.
    Entropy,
    /// The clipping with the least mean squared error.
    Mse,
    /// The clipping with the best signal-to-noise ratio, errors of clipped values counted thrice.
    Sqnr,
}

/// Bins of absolute values that the entropy calibrator works on, as TensorRT's description has it.
const ENTROPY_BINS: usize = 2048;
/// Steps of the search for a clipping.
const SEARCH_STEPS: usize = 100;

/// The range that `calibrator` finds for codes of `scheme`; `None` when nothing was counted. `average` is what
/// [`Calibrator::MovingAverage`] answers.
pub fn calibrated_range(
    histogram: &Histogram,
    average: Option<(f32, f32)>,
    calibrator: Calibrator,
    scheme: &Scheme,
) -> Option<(f32, f32)> {
    let (low, high) = histogram.extremes()?;
    Some(match calibrator {
        Calibrator::MinMax => (low, high),
        Calibrator::MovingAverage => average?,
        Calibrator::Percentile(percent) => percentile(histogram, percent, (low, high)),
        Calibrator::Entropy => {
            let bound = entropy_bound(histogram, scheme.kind);
            (low.max(-bound), high.min(bound))
        }
        Calibrator::Mse => search(histogram, scheme, 1.0),
        Calibrator::Sqnr => search(histogram, scheme, 3.0),
    })
}

fn percentile(histogram: &Histogram, percent: f64, (low, high): (f32, f32)) -> (f32, f32) {
    let tail = (1.0 - percent / 100.0).clamp(0.0, 1.0) / 2.0 * histogram.count() as f64;
    let width = histogram.bin_width();
    let bins: Vec<(f64, u64)> = histogram.bins().collect();
    let edge = |bins: &mut dyn Iterator<Item = &(f64, u64)>, from_left: bool| {
        let mut seen = 0.0;
        for (start, count) in bins {
            if seen + *count as f64 > tail {
                // Values are taken as evenly spread within their bin.
                let inside = ((tail - seen) / *count as f64).clamp(0.0, 1.0) * width;
                return Some(if from_left {
                    start + inside
                } else {
                    start + width - inside
                });
            }
            seen += *count as f64;
        }
        None
    };
    let left = edge(&mut bins.iter(), true).map_or(low, |edge| edge as f32);
    let right = edge(&mut bins.iter().rev(), false).map_or(high, |edge| edge as f32);
    (left.max(low), right.min(high))
}

/// The bound on absolute values whose clipped and quantized distribution diverges least from the true one.
fn entropy_bound(histogram: &Histogram, kind: Kind) -> f32 {
    let Some((low, high)) = histogram.extremes() else {
        return 0.0;
    };
    let largest = f64::from(low.abs().max(high.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    // Fine bins go to the coarse bin of their middle.
    let mut counts = vec![0f64; ENTROPY_BINS];
    let (width, coarse) = (histogram.bin_width(), largest / ENTROPY_BINS as f64);
    for (edge, count) in histogram.bins() {
        let middle = (edge + 0.5 * width).abs();
        let at = ((middle / coarse) as usize).min(ENTROPY_BINS - 1);
        if let Some(slot) = counts.get_mut(at) {
            *slot += count as f64;
        }
    }
    let levels = (1usize << (kind.bits() - 1)).min(ENTROPY_BINS);
    let mut best = (f64::INFINITY, ENTROPY_BINS);
    for kept in levels..=ENTROPY_BINS {
        let divergence = divergence(&counts, kept, levels);
        if divergence < best.0 {
            best = (divergence, kept);
        }
    }
    (coarse * best.1 as f64) as f32
}

/// KL divergence of the first `kept` bins, the rest added to the last of them, from their image under `levels` levels.
fn divergence(counts: &[f64], kept: usize, levels: usize) -> f64 {
    let (inside, outside) = counts.split_at(kept.min(counts.len()));
    let outliers: f64 = outside.iter().sum();
    let total: f64 = inside.iter().sum::<f64>() + outliers;
    if total == 0.0 {
        return f64::INFINITY;
    }
    let mut divergence = 0.0;
    let quantized_total: f64 = inside.iter().sum();
    if quantized_total == 0.0 {
        return f64::INFINITY;
    }
    for level in 0..levels {
        let (start, end) = (level * kept / levels, (level + 1) * kept / levels);
        let bins = inside.get(start..end).unwrap_or(&[]);
        let occupied = bins.iter().filter(|count| **count > 0.0).count();
        if occupied == 0 {
            continue;
        }
        let share = bins.iter().sum::<f64>() / occupied as f64 / quantized_total;
        for (offset, count) in bins.iter().enumerate() {
            let mut reference = *count;
            if start + offset + 1 == kept {
                reference += outliers;
            }
            if reference <= 0.0 {
                continue;
            }
            let p = reference / total;
            // A bin that only outliers fill has no image; a small one keeps the divergence finite and large.
            let q = if *count > 0.0 { share } else { 1e-12 };
            divergence += p * (p / q).ln();
        }
    }
    if outliers > 0.0 && inside.last().is_some_and(|last| *last == 0.0) {
        let p = outliers / total;
        divergence = divergence.max(p * (p / 1e-12).ln());
    }
    divergence
}

/// Shrinks both ends in steps and keeps the range with the least squared error, clipped values weighted.
fn search(histogram: &Histogram, scheme: &Scheme, clip_weight: f64) -> (f32, f32) {
    let Some((low, high)) = histogram.extremes() else {
        return (0.0, 0.0);
    };
    let width = histogram.bin_width();
    let bins: Vec<(f64, f64)> = histogram
        .bins()
        .map(|(edge, count)| (edge + 0.5 * width, count as f64))
        .collect();
    let mut best = (f64::INFINITY, (low, high));
    for step in 0..SEARCH_STEPS {
        let share = 1.0 - step as f32 / SEARCH_STEPS as f32;
        let candidate = (low * share, high * share);
        let Ok(found) = parameters(candidate.0, candidate.1, scheme) else {
            continue;
        };
        let error = squared_error(&bins, found, scheme, clip_weight);
        if error < best.0 {
            best = (error, candidate);
        }
    }
    best.1
}

fn squared_error(bins: &[(f64, f64)], parameters: Parameters, scheme: &Scheme, clip_weight: f64) -> f64 {
    if let Some(highest) = scheme.kind.largest() {
        let (dtype, scale) = (scheme.kind.dtype(), f64::from(parameters.scale));
        let error = |(value, count): &(f64, f64)| {
            let ratio = (value / scale) as f32;
            let apart = value - f64::from(round_minifloat(dtype, ratio, true).unwrap_or(0.0)) * scale;
            let weight = if ratio.abs() > highest { clip_weight } else { 1.0 };
            weight * apart * apart * count
        };
        return bins.iter().map(error).sum();
    }
    let (first, last) = scheme.code_range();
    let (scale, zero) = (f64::from(parameters.scale), f64::from(parameters.zero_point));
    let (lowest, highest) = (
        (f64::from(first) - zero) * scale,
        (f64::from(last) - zero) * scale,
    );
    bins.iter()
        .map(|(value, count)| {
            if *value < lowest || *value > highest {
                let beyond = if *value < lowest {
                    lowest - value
                } else {
                    value - highest
                };
                clip_weight * beyond * beyond * count
            } else {
                let code = (value / scale).round_ties_even();
                let error = value - code * scale;
                error * error * count
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bell of values with one outlier.
    fn bell() -> Histogram {
        let mut histogram = Histogram::default();
        let values: Vec<f32> = (0..20_000)
            .map(|i| {
                let uniform = |salt: u64| {
                    let mut x = (i as u64 + 1)
                        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                        .wrapping_add(salt);
                    x ^= x >> 31;
                    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    ((x >> 11) as f64 + 0.5) / (1u64 << 53) as f64
                };
                ((-2.0 * uniform(1).ln()).sqrt() * (std::f64::consts::TAU * uniform(99)).cos()) as f32
            })
            .collect();
        histogram.add(&values);
        histogram.add(&[50.0]);
        histogram
    }

    #[test]
    fn clipping_calibrators_drop_the_outlier_and_keep_the_bulk() {
        let scheme = Scheme::new(Kind::Int8, true);
        assert_eq!(
            calibrated_range(&bell(), None, Calibrator::MinMax, &scheme)
                .unwrap()
                .1,
            50.0
        );
        for calibrator in [Calibrator::Percentile(99.9), Calibrator::Entropy, Calibrator::Mse] {
            let (_, high) = calibrated_range(&bell(), None, calibrator, &scheme).unwrap();
            assert!((2.0..45.0).contains(&high), "{calibrator:?} gives {high}");
        }
    }

    #[test]
    fn nothing_counted_is_no_range_and_zeros_stay_zero() {
        let scheme = Scheme::new(Kind::Uint8, false);
        assert_eq!(
            calibrated_range(&Histogram::default(), None, Calibrator::Mse, &scheme),
            None
        );
        let mut zeros = Histogram::default();
        zeros.add(&[0.0; 10]);
        for calibrator in [
            Calibrator::MinMax,
            Calibrator::Entropy,
            Calibrator::Percentile(99.0),
        ] {
            let (low, high) = calibrated_range(&zeros, None, calibrator, &scheme).unwrap();
            assert!(low.abs() < 1e-12 && high.abs() < 1e-12, "{calibrator:?}");
        }
    }
}
