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
    let prefix = Prefix::of(&counts);
    let mut best = (f64::INFINITY, ENTROPY_BINS);
    for kept in levels..=ENTROPY_BINS {
        let divergence = prefix.divergence(kept, levels);
        if divergence < best.0 {
            best = (divergence, kept);
        }
    }
    (coarse * best.1 as f64) as f32
}

/// The logarithm of the share that a bin has which only outliers fill and which therefore has no image: small, so that the
/// divergence is finite and large.
const LOG_NO_IMAGE: f64 = -27.631_021_115_928_547;

/// Sums over the first bins, one entry more than there are bins, from which the divergence of a clipping follows with one logarithm
/// a level instead of one a bin.
struct Prefix {
    counts: Vec<f64>,
    /// Of `count * ln(count)`.
    entropies: Vec<f64>,
    occupied: Vec<usize>,
    /// Logarithms of whole numbers.
    logs: Vec<f64>,
}

impl Prefix {
    fn of(bins: &[f64]) -> Self {
        let mut prefix = Self {
            counts: vec![0.0],
            entropies: vec![0.0],
            occupied: vec![0],
            logs: (0..=bins.len()).map(|number| (number as f64).ln()).collect(),
        };
        let (mut sum, mut entropy, mut occupied) = (0.0, 0.0, 0);
        for count in bins {
            sum += count;
            entropy += times_log(*count);
            occupied += usize::from(*count > 0.0);
            prefix.counts.push(sum);
            prefix.entropies.push(entropy);
            prefix.occupied.push(occupied);
        }
        prefix
    }

    /// KL divergence of the first `kept` bins, the rest added to the last of them, from their image under `levels` levels: each
    /// spreads its counts evenly over those of its bins that have any.
    fn divergence(&self, kept: usize, levels: usize) -> f64 {
        let counted = |at: usize| self.counts.get(at).copied().unwrap_or(0.0);
        let total = self.counts.last().copied().unwrap_or(0.0);
        let inside = counted(kept);
        if inside == 0.0 {
            return f64::INFINITY;
        }
        let outliers = total - inside;
        let last = inside - counted(kept.saturating_sub(1));
        // The sum of p ln p and that of p ln q, both times the total.
        let mut own =
            self.entropies.get(kept).copied().unwrap_or(0.0) - times_log(last) + times_log(last + outliers);
        let mut image = if last > 0.0 { 0.0 } else { outliers * LOG_NO_IMAGE };
        own -= total * total.ln();
        for level in 0..levels {
            let (start, end) = (level * kept / levels, (level + 1) * kept / levels);
            let sum = counted(end) - counted(start);
            if sum <= 0.0 {
                continue;
            }
            let occupied = match (self.occupied.get(start), self.occupied.get(end)) {
                (Some(start), Some(end)) => end - start,
                _ => 1,
            };
            let here = if level + 1 == levels && last > 0.0 {
                outliers
            } else {
                0.0
            };
            image += (sum + here) * ((sum / inside).ln() - self.logs.get(occupied).copied().unwrap_or(0.0));
        }
        (own - image) / total
    }
}

fn times_log(count: f64) -> f64 {
    if count > 0.0 { count * count.ln() } else { 0.0 }
}

/// Shrinks both ends in steps and keeps the range with the least squared error, clipped values weighted.
fn search(histogram: &Histogram, scheme: &Scheme, clip_weight: f64) -> (f32, f32) {
    let Some((low, high)) = histogram.extremes() else {
        return (0.0, 0.0);
    };
    let width = histogram.bin_width();
    let (values, counts): (Vec<f64>, Vec<f64>) = histogram
        .bins()
        .map(|(edge, count)| (edge + 0.5 * width, count as f64))
        .unzip();
    let mut best = (f64::INFINITY, (low, high));
    for step in 0..SEARCH_STEPS {
        let share = 1.0 - step as f32 / SEARCH_STEPS as f32;
        let candidate = (low * share, high * share);
        let Ok(found) = parameters(candidate.0, candidate.1, scheme) else {
            continue;
        };
        let error = squared_error((&values, &counts), found, scheme, clip_weight);
        if error < best.0 {
            best = (error, candidate);
        }
    }
    best.1
}

/// Bins whose errors are added side by side, so that vector instructions can.
const LANES: usize = 8;
/// 1.5 * 2^52: adding it to a smaller number and taking it away rounds half to even.
const ROUNDING: f64 = 6_755_399_441_055_744.0;

fn squared_error(
    (values, counts): (&[f64], &[f64]),
    parameters: Parameters,
    scheme: &Scheme,
    clip_weight: f64,
) -> f64 {
    if let Some(highest) = scheme.kind.largest() {
        let (dtype, scale) = (scheme.kind.dtype(), f64::from(parameters.scale));
        let error = |(value, count): (&f64, &f64)| {
            let ratio = (value / scale) as f32;
            let apart = value - f64::from(round_minifloat(dtype, ratio, true).unwrap_or(0.0)) * scale;
            let weight = if ratio.abs() > highest { clip_weight } else { 1.0 };
            weight * apart * apart * count
        };
        return values.iter().zip(counts).map(error).sum();
    }
    let (first, last) = scheme.code_range();
    let (scale, zero) = (f64::from(parameters.scale), f64::from(parameters.zero_point));
    let (lowest, highest) = (
        (f64::from(first) - zero) * scale,
        (f64::from(last) - zero) * scale,
    );
    let error = |value: f64, count: f64| {
        let (below, above) = (lowest - value, value - highest);
        let beyond = if below > above { below } else { above };
        let code = (value / scale + ROUNDING) - ROUNDING;
        let rounding = value - code * scale;
        let squared = if beyond > 0.0 {
            clip_weight * beyond * beyond
        } else {
            rounding * rounding
        };
        squared * count
    };
    let mut lanes = [0f64; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    let (whole_counts, rest_counts) = counts.as_chunks::<LANES>();
    for (values, counts) in whole.iter().zip(whole_counts) {
        for ((lane, value), count) in lanes.iter_mut().zip(values).zip(counts) {
            *lane += error(*value, *count);
        }
    }
    for ((lane, value), count) in lanes.iter_mut().zip(rest).zip(rest_counts) {
        *lane += error(*value, *count);
    }
    lanes.iter().sum()
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

    /// The divergence bin by bin, as it is defined.
    fn plain_divergence(bins: &[f64], kept: usize, levels: usize) -> f64 {
        let (inside, outside) = bins.split_at(kept);
        let outliers: f64 = outside.iter().sum();
        let (inner, mut reference) = (inside.iter().sum::<f64>(), inside.to_vec());
        reference[kept - 1] += outliers;
        let mut image = vec![0.0; kept];
        for level in 0..levels {
            let range = level * kept / levels..(level + 1) * kept / levels;
            let occupied = inside[range.clone()].iter().filter(|count| **count > 0.0).count();
            let sum: f64 = inside[range.clone()].iter().sum();
            for at in range {
                image[at] = match inside[at] > 0.0 {
                    true => sum / occupied as f64 / inner,
                    false => 1e-12,
                };
            }
        }
        let total = inner + outliers;
        let terms = reference.iter().zip(&image).filter(|(count, _)| **count > 0.0);
        terms
            .map(|(count, q)| count / total * (count / total / q).ln())
            .sum()
    }

    #[test]
    fn prefix_sums_give_the_divergence() {
        let mut state = 7u32;
        let bins: Vec<f64> = (0..512)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 30 == 0 {
                    0.0
                } else {
                    f64::from(state >> 20) / f64::from(at + 1)
                }
            })
            .collect();
        let prefix = Prefix::of(&bins);
        for levels in [8, 128] {
            for kept in (levels..=512).step_by(5) {
                let (plain, found) = (
                    plain_divergence(&bins, kept, levels),
                    prefix.divergence(kept, levels),
                );
                assert!(
                    (plain - found).abs() < 1e-9,
                    "{kept} bins, {levels} levels: {plain} and {found}"
                );
            }
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
