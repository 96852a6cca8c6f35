//! Codes by a sensitivity of the loss to each weight, and bits by what they are worth.
//!
//! `F_i = E g_i²` is the diagonal of the empirical Fisher information. Weights of one output channel multiply inputs that rise and
//! fall together (after Relu all of them are positive), so that errors of one sign add up. Off the diagonal of a channel's block
//! stands `ρ √(F_i F_j)`, which makes the error of a row `δ`
//! `(1 - ρ) Σ F_i δ_i² + ρ (Σ √F_i δ_i)²` and keeps it linear to compute. [`code_row`] looks for the scale and the codes with the
//! least such error; [`allocate`] deals out bits where they lower the sum of the errors most.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::codes::quantize_within;
use super::parameters::{Parameters, QuantizeError, Scheme, parameters};

/// ρ, the correlation of what weights of one output channel multiply.
const CORRELATION: f64 = 0.3;

/// Shares of the range that are tried.
const SHARES: [f64; 7] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];

/// How much of the log-sensitivity counts within a layer. It evens out what few samples say: half of it is the root mean square of
/// the gradient.
const TEMPER: f64 = 0.5;

/// Share of the mean sensitivity that is added to each before the logarithm.
const FLOOR: f64 = 1e-3;

/// Codes of one output channel.
#[derive(Clone, Debug, PartialEq)]
pub struct CodedRow {
    /// Scale and zero point.
    pub parameters: Parameters,
    /// A code for each weight.
    pub codes: Vec<i32>,
    /// The weighted error.
    pub error: f64,
}

/// The normalised sensitivity of each weight of a layer from `F` (or any other statistic of squared gradients): the logarithm, less
/// its mean, tempered and turned back, with mean 1. All ones where nothing is known, that is where every gradient is zero.
pub fn normalised(fisher: &[f64]) -> Vec<f64> {
    let count = fisher.len().max(1) as f64;
    let mean = fisher.iter().sum::<f64>() / count;
    if !(mean > 0.0 && mean.is_finite()) {
        return vec![1.0; fisher.len()];
    }
    let logs: Vec<f64> = fisher.iter().map(|f| (f / mean + FLOOR).ln()).collect();
    let centre = logs.iter().sum::<f64>() / count;
    let weights: Vec<f64> = logs.iter().map(|log| (TEMPER * (log - centre)).exp()).collect();
    let mean = weights.iter().sum::<f64>() / count;
    weights.into_iter().map(|weight| weight / mean).collect()
}

/// The scale and codes of one row of `weights` with the least error weighted by `sensitivity` (positive, of the same length).
///
/// Ranges from 0.7 of the whole on are tried with the nearest codes; single codes then move by one against the error that they have in
/// common, as long as that lowers the whole.
///
/// # Errors
/// When a weight is not finite.
pub fn code_row(weights: &[f64], sensitivity: &[f64], scheme: &Scheme) -> Result<CodedRow, QuantizeError> {
    if let Some(value) = weights.iter().find(|value| !value.is_finite()) {
        return Err(QuantizeError::Range {
            low: *value as f32,
            high: *value as f32,
        });
    }
    let (low, high) = weights.iter().fold((0f64, 0f64), |(low, high), value| {
        (low.min(*value), high.max(*value))
    });
    let limits = scheme.limits();
    let mut best: Option<(f64, Parameters)> = None;
    for share in SHARES {
        let found = parameters((low * share) as f32, (high * share) as f32, scheme)?;
        let (mut own, mut shared) = (0.0, 0.0);
        for (value, weight) in weights.iter().zip(sensitivity) {
            let code = quantize_within(*value as f32, found, limits);
            let apart = real(code, found) - value;
            own += weight * apart * apart;
            shared += weight.sqrt() * apart;
        }
        let error = (1.0 - CORRELATION) * own + CORRELATION * shared * shared;
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, found));
        }
    }
    let found = match best {
        Some((_, found)) => found,
        None => parameters(low as f32, high as f32, scheme)?,
    };
    Ok(settled(weights, sensitivity, found, limits))
}

fn real(code: i32, found: Parameters) -> f64 {
    f64::from(code - found.zero_point) * f64::from(found.scale)
}

/// The nearest codes, moved by one against the common error where that lowers the error most, until none does.
fn settled(weights: &[f64], sensitivity: &[f64], found: Parameters, limits: (i32, i32)) -> CodedRow {
    let mut codes: Vec<i32> = weights
        .iter()
        .map(|value| quantize_within(*value as f32, found, limits))
        .collect();
    let roots: Vec<f64> = sensitivity.iter().map(|weight| weight.sqrt()).collect();
    let mut apart: Vec<f64> = codes
        .iter()
        .zip(weights)
        .map(|(code, value)| real(*code, found) - value)
        .collect();
    let mut shared: f64 = roots.iter().zip(&apart).map(|(root, apart)| root * apart).sum();
    for _ in 0..weights.len() {
        let step: i32 = if shared > 0.0 { -1 } else { 1 };
        let size = f64::from(step) * f64::from(found.scale);
        let mut best = (0.0, None);
        for (at, ((code, root), apart)) in codes.iter().zip(&roots).zip(&apart).enumerate() {
            let moved = code + step;
            if moved < limits.0 || moved > limits.1 {
                continue;
            }
            let own = root * root * size * (2.0 * apart + size);
            let common = root * size * (2.0 * shared + root * size);
            let change = (1.0 - CORRELATION) * own + CORRELATION * common;
            if change < best.0 {
                best = (change, Some(at));
            }
        }
        let Some(at) = best.1 else {
            break;
        };
        codes[at] += step;
        apart[at] += size;
        shared += roots[at] * size;
    }
    let own: f64 = roots
        .iter()
        .zip(&apart)
        .map(|(root, apart)| (root * apart).powi(2))
        .sum();
    CodedRow {
        parameters: found,
        codes,
        error: (1.0 - CORRELATION) * own + CORRELATION * shared * shared,
    }
}

/// Weights that get the same number of bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// How many weights.
    pub elements: u64,
    /// Their error at the least number of bits, at one more, and so on.
    pub errors: Vec<f64>,
}

/// Bits for each unit, from `least` on, whose sum over elements is at most `budget`: again and again what lowers the error most for each bit
/// spent. Units are equal to each other in their order, so the result is the same in every run.
///
/// A unit that no longer fits is passed over, and smaller ones go on.
pub fn allocate(units: &[Unit], least: u32, budget: u64) -> Vec<u32> {
    let mut bits = vec![least; units.len()];
    let mut spent: u64 = units.iter().map(|unit| unit.elements * u64::from(least)).sum();
    let mut offers: BinaryHeap<Offer> = units
        .iter()
        .enumerate()
        .filter_map(|(at, unit)| offer(unit, at, 0))
        .collect();
    while let Some(Offer { unit: at, to, .. }) = offers.pop() {
        let unit = &units[at];
        let wanted = least + to as u32;
        let cost = unit.elements * u64::from(wanted - bits[at]);
        if spent + cost > budget {
            continue;
        }
        spent += cost;
        bits[at] = wanted;
        offers.extend(offer(unit, at, to));
    }
    bits
}

/// More bits for a unit.
struct Offer {
    /// What each bit lowers the error by.
    gain: f64,
    unit: usize,
    /// Index into its errors.
    to: usize,
}

impl Ord for Offer {
    fn cmp(&self, other: &Self) -> Ordering {
        self.gain
            .total_cmp(&other.gain)
            .then(other.unit.cmp(&self.unit))
            .then(other.to.cmp(&self.to))
    }
}

impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Offer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Offer {}

/// The best step up from the width at index `from`: along the lower hull of the errors, so that a width that gains little does not hide
/// the next one.
fn offer(unit: &Unit, at: usize, from: usize) -> Option<Offer> {
    let now = *unit.errors.get(from)?;
    let mut best: Option<Offer> = None;
    for (to, error) in unit.errors.iter().enumerate().skip(from + 1) {
        let gain = (now - error) / (unit.elements.max(1) as f64 * (to - from) as f64);
        if gain > 0.0 && best.as_ref().is_none_or(|best| gain > best.gain) {
            best = Some(Offer { gain, unit: at, to });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Kind;

    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5
        };
        (0..count).map(|_| uniform()).collect()
    }

    fn error(weights: &[f64], sensitivity: &[f64], row: &CodedRow) -> f64 {
        let (mut own, mut shared) = (0.0, 0.0);
        for ((value, weight), code) in weights.iter().zip(sensitivity).zip(&row.codes) {
            let apart = real(*code, row.parameters) - value;
            own += weight * apart * apart;
            shared += weight.sqrt() * apart;
        }
        (1.0 - CORRELATION) * own + CORRELATION * shared * shared
    }

    #[test]
    fn no_move_of_a_code_against_the_common_error_lowers_the_error_further() {
        for (kind, bits, symmetric) in [
            (Kind::Int4, 3, true),
            (Kind::Int4, 2, false),
            (Kind::Uint4, 3, true),
            (Kind::Int8, 5, true),
        ] {
            let scheme = Scheme {
                bits: Some(bits),
                ..Scheme::new(kind, symmetric)
            };
            let (low, high) = scheme.limits();
            assert_eq!(high - low + 1, 1 << bits);
            let weights = numbers(40, u64::from(bits));
            let sensitivity = normalised(&numbers(40, 9).iter().map(|x| x * x).collect::<Vec<_>>());
            let row = code_row(&weights, &sensitivity, &scheme).unwrap();
            let least = error(&weights, &sensitivity, &row);
            assert!((least - row.error).abs() <= 1e-9 * least.max(1e-9));
            assert!(
                row.codes.iter().all(|code| (low..=high).contains(code)),
                "{row:?}"
            );
            let shared: f64 = (0..weights.len())
                .map(|at| sensitivity[at].sqrt() * (real(row.codes[at], row.parameters) - weights[at]))
                .sum();
            let change = if shared > 0.0 { -1 } else { 1 };
            for at in 0..weights.len() {
                let mut other = row.clone();
                other.codes[at] = (other.codes[at] + change).clamp(low, high);
                assert!(error(&weights, &sensitivity, &other) >= least * (1.0 - 1e-9));
            }
        }
        assert!(code_row(&[f64::NAN], &[1.0], &Scheme::new(Kind::Int4, true)).is_err());
    }

    #[test]
    fn what_sensitive_weights_lose_counts_more() {
        let weights = numbers(60, 3);
        let scheme = Scheme::new(Kind::Int4, true);
        let mut sharp = vec![1.0; 60];
        sharp[..20].fill(1e4);
        let lost = |sensitivity: &[f64]| {
            let row = code_row(&weights, sensitivity, &scheme).unwrap();
            error(&weights, &sharp, &row)
        };
        assert!(lost(&sharp) < lost(&[1.0; 60]));
    }

    #[test]
    fn sensitivities_have_mean_one_and_keep_their_order() {
        let found = normalised(&[1e-12, 1e-6, 1e-4, 4e-4]);
        assert!((found.iter().sum::<f64>() - 4.0).abs() < 1e-12);
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        assert_eq!(normalised(&[0.0, 0.0]), [1.0, 1.0]);
    }

    #[test]
    fn bits_go_where_they_lower_the_error_most() {
        let unit = |elements: u64, scale: f64| Unit {
            elements,
            errors: (2..=8)
                .map(|bits| elements as f64 * scale * 0.25f64.powi(bits))
                .collect(),
        };
        let units = [unit(10, 1.0), unit(10, 64.0), unit(20, 1.0)];
        let bits = allocate(&units, 2, 110);
        assert!(bits[1] > bits[0] && bits[0] == bits[2], "{bits:?}");
        let spent: u64 = units
            .iter()
            .zip(&bits)
            .map(|(unit, bits)| unit.elements * u64::from(*bits))
            .sum();
        assert!(spent <= 110 && spent > 100, "{bits:?}");
        assert_eq!(allocate(&units, 2, 0), [2, 2, 2]);
        // A width without a gain does not hide the next one.
        let stepped = Unit {
            elements: 1,
            errors: vec![1.0, 1.0, 0.1],
        };
        assert_eq!(allocate(&[stepped], 2, 4), [4]);
    }
}
