//! Ranges from histograms: what a calibrator decides.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
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
    /// The clipping that loses least information (Kullback-Leibler divergence) over up to 2048 bins of absolute values.
    Entropy,
    /// The clipping with the least mean squared error.
    Mse,
    /// The clipping with the best signal-to-noise ratio, errors of clipped values counted thrice.
    Sqnr,
}

/// Most bins of absolute values that the entropy calibrator works on, as TensorRT's description has it.
const ENTROPY_BINS: usize = 2048;
/// Bins of the histogram, which has half of its own for each sign, in one of them.
const FINE_BINS: usize = super::histogram::BINS / 2 / ENTROPY_BINS;
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
            let bound = entropy_bound(histogram, scheme);
            (low.max(-bound), high.min(bound))
        }
        Calibrator::Mse => search(histogram, scheme, 1.0),
        Calibrator::Sqnr => search(histogram, scheme, 3.0),
    })
}

/// The share of the values' energy (sum of squares) that the error of cutting them off at `low` and `high` has; `None` where no bins
/// were counted.
pub fn energy_cut_off(histogram: &Histogram, (low, high): (f32, f32)) -> Option<f64> {
    let (mut lost, mut whole) = (0.0, 0.0);
    let half = 0.5 * histogram.bin_width();
    let (lowest, highest) = histogram.extremes()?;
    for (edge, count) in histogram.bins() {
        // A bin at the edge is no wider than the values in it.
        let value = (edge + half).clamp(f64::from(lowest), f64::from(highest));
        let beyond = (f64::from(low) - value).max(value - f64::from(high)).max(0.0);
        whole += value * value * count as f64;
        lost += beyond * beyond * count as f64;
    }
    (whole > 0.0).then_some(lost / whole)
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
///
/// TensorRT's calibration (Migacz 2017), with three things that its description leaves open. Zeros have a code of their own whatever the
/// bound is, so the bin around zero, which a Relu fills with half of all values, counts as its neighbour does. Values of one sign
/// get all the codes of an asymmetric type, not half of them. What is cut off counts as lost: the image is not scaled up to the
/// whole again, so that a bound with nothing but one bin below it does not pass for a perfect one.
fn entropy_bound(histogram: &Histogram, scheme: &Scheme) -> f32 {
    let Some((low, high)) = histogram.extremes() else {
        return 0.0;
    };
    let largest = f64::from(low.abs().max(high.abs()));
    // Whole numbers of fine bins, so that neighbours do not differ by how many fell to each.
    let width = histogram.bin_width() * FINE_BINS as f64;
    let bins = ((largest / width).floor() as usize + 1).min(ENTROPY_BINS);
    let mut counts = vec![0f64; bins];
    for (edge, count) in histogram.bins() {
        let middle = (edge + 0.5 * histogram.bin_width()).abs();
        counts[((middle / width) as usize).min(bins - 1)] += count as f64;
    }
    if let [zeros, next, ..] = counts.as_mut_slice() {
        *zeros = *next;
    }
    if counts.iter().all(|count| *count == 0.0) {
        return largest as f32;
    }
    let one_sign = low >= 0.0 || high <= 0.0;
    let sign_bits = u32::from(scheme.symmetric || !one_sign);
    let levels = 1usize << (scheme.kind.bits() - sign_bits).min(usize::BITS - 1);
    let levels = levels.min(bins);
    let prefix = Prefix::of(&counts);
    let mut best = (f64::INFINITY, bins);
    for kept in levels..=bins {
        let divergence = prefix.divergence(kept, levels);
        // Of equal ones the widest.
        if divergence <= best.0 {
            best = (divergence, kept);
        }
    }
    (width * best.1 as f64).min(largest) as f32
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

    /// KL divergence of the first `kept` bins, the rest added to the last of them, from their image under `levels` levels, which lacks
    /// the rest: each level spreads its counts evenly over those of its bins that have any.
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
            image += (sum + here) * ((sum / total).ln() - self.logs.get(occupied).copied().unwrap_or(0.0));
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
    use super::super::kind::Kind;
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
        let total = inner + outliers;
        reference[kept - 1] += outliers;
        let mut image = vec![0.0; kept];
        for level in 0..levels {
            let range = level * kept / levels..(level + 1) * kept / levels;
            let occupied = inside[range.clone()].iter().filter(|count| **count > 0.0).count();
            let sum: f64 = inside[range.clone()].iter().sum();
            for at in range {
                image[at] = match inside[at] > 0.0 {
                    true => sum / occupied as f64 / total,
                    false => 1e-12,
                };
            }
        }
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

    fn entropy(values: &[f32], scheme: &Scheme) -> (f32, f32) {
        let mut histogram = Histogram::default();
        histogram.add(values);
        calibrated_range(&histogram, None, Calibrator::Entropy, scheme).unwrap()
    }

    #[test]
    fn few_distinct_values_are_not_cut_off() {
        for (signed, step) in [(true, 8i32), (true, 3), (false, 16), (false, 3)] {
            let values: Vec<f32> = (0..4000)
                .map(|at: i32| at.wrapping_mul(7919) % (step + 1))
                .map(|level| if signed { 2 * level - step } else { level } as f32 / step as f32)
                .collect();
            for scheme in [Scheme::new(Kind::Uint8, false), Scheme::new(Kind::Int8, true)] {
                let (low, high) = entropy(&values, &scheme);
                assert_eq!(
                    (low, high),
                    (if signed { -1.0 } else { 0.0 }, 1.0),
                    "{step} {signed}"
                );
            }
        }
    }

    #[test]
    fn zeros_of_a_relu_do_not_pull_the_bound_down() {
        let (mut rectified, mut positive) = (Vec::new(), Vec::new());
        for at in 0..40_000u32 {
            // A triangle over (-4, 4), from two even spreads.
            let spread = |salt: u32| {
                let mixed = (at ^ salt).wrapping_mul(0x9e37_79b9) ^ (at.wrapping_mul(0x85eb_ca6b) >> 7);
                f64::from(mixed.wrapping_mul(0xc2b2_ae35)) / f64::from(u32::MAX)
            };
            let value = (4.0 * (spread(1) - spread(0x5555))) as f32;
            rectified.push(value.max(0.0));
            if value > 0.0 {
                positive.push(value);
            }
        }
        let scheme = Scheme::new(Kind::Uint8, false);
        let (with_zeros, without) = (entropy(&rectified, &scheme).1, entropy(&positive, &scheme).1);
        assert!(
            (with_zeros / without - 1.0).abs() < 0.02,
            "{with_zeros} and {without}"
        );
        assert!(with_zeros > 3.0, "{with_zeros}");
    }

    #[test]
    fn the_energy_that_is_cut_off_is_that_of_the_error() {
        let mut histogram = Histogram::default();
        histogram.add(&[3.0, 3.0, 3.0, 3.0, 8.0]);
        assert_eq!(energy_cut_off(&histogram, (0.0, 8.0)), Some(0.0));
        let found = energy_cut_off(&histogram, (0.0, 4.0)).unwrap();
        assert!((found - 16.0 / 100.0).abs() < 1e-3, "{found}");
        assert_eq!(energy_cut_off(&Histogram::default(), (0.0, 1.0)), None);
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
