//! Signed weights that kernels without 32-bit dot products can multiply with unsigned activations.
//!
//! `vpmaddubsw` adds the products of two neighbouring unsigned and signed bytes in 16 bits and saturates. The sum of a pair
//! of weights `a`, `b` with activations up to 255 stays in range as long as `|a| + |b| <= 128` for weights of one sign.

use super::codes::quantize_within;
use super::parameters::Parameters;

/// Largest sum of the magnitudes of two neighbouring weights of one sign: `32767 / 255`.
const LARGEST: i32 = i16::MAX as i32 / u8::MAX as i32;
/// Scales that the search tries between the given one and the one that needs no correction.
const STEPS: u32 = 16;

/// Codes without a pair that saturates.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Scale of the codes, at least the one that was asked for.
    pub scale: f32,
    /// Codes, in the order of the values.
    pub codes: Vec<i32>,
}

/// By how much the worst pair exceeds the range, as a share of it; at most 1 when no pair does. `values` are rows of `row`
/// elements in the order in which the kernel multiplies them.
pub fn worst_pair(values: &[f32], row: usize, scale: f32) -> f64 {
    let codes: Vec<i32> = values.iter().map(|value| code(*value, scale)).collect();
    worst_coded_pair(&codes, row)
}

/// The same for codes.
pub fn worst_coded_pair(codes: &[i32], row: usize) -> f64 {
    f64::from(worst(codes, row)) / f64::from(LARGEST)
}

fn code(value: f32, scale: f32) -> i32 {
    quantize_within(value, Parameters { scale, zero_point: 0 }, (-127, 127))
}

fn worst(codes: &[i32], row: usize) -> i32 {
    let pairs = codes.chunks(row.max(1)).flat_map(|row| row.chunks_exact(2));
    pairs
        .filter_map(|pair| match pair {
            [a, b] if a.signum() * b.signum() > 0 => Some(a.abs() + b.abs()),
            _ => None,
        })
        .max()
        .unwrap_or(0)
}

/// Codes of symmetric signed 8-bit weights of which no neighbouring pair saturates, with the least squared error over a
/// search of larger scales: a pair that still exceeds the range gives up the excess in equal parts. `None` when the codes of
/// `scale` are in range already.
pub fn fit_pairs(values: &[f32], row: usize, scale: f32) -> Option<Fitted> {
    let excess = worst_pair(values, row, scale);
    if excess <= 1.0 {
        return None;
    }
    let mut best: Option<(f64, Fitted)> = None;
    for step in 0..=STEPS {
        let factor = 1.0 + (excess - 1.0) * f64::from(step) / f64::from(STEPS);
        let scale = (f64::from(scale) * factor) as f32;
        let mut codes: Vec<i32> = values.iter().map(|value| code(*value, scale)).collect();
        codes
            .chunks_mut(row.max(1))
            .flat_map(|row| row.chunks_exact_mut(2))
            .for_each(trim);
        let error: f64 = values
            .iter()
            .zip(&codes)
            .map(|(value, code)| (f64::from(*value) - f64::from(*code) * f64::from(scale)).powi(2))
            .sum();
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            best = Some((error, Fitted { scale, codes }));
        }
    }
    best.map(|(_, fitted)| fitted)
}

/// Takes the excess of a pair off both of its codes.
fn trim(pair: &mut [i32]) {
    let [a, b] = pair else { return };
    let excess = a.abs() + b.abs() - LARGEST;
    if a.signum() * b.signum() <= 0 || excess <= 0 {
        return;
    }
    // The larger one gives the odd step. Neither passes zero: a code is at most 127, so the other exceeds the excess.
    let (more, less) = (excess - excess / 2, excess / 2);
    let (from_a, from_b) = if a.abs() >= b.abs() {
        (more, less)
    } else {
        (less, more)
    };
    *a -= a.signum() * from_a;
    *b -= b.signum() * from_b;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_in_range_are_left_alone() {
        assert_eq!(fit_pairs(&[1.0, -1.0, 0.5, -0.9], 4, 1.0 / 127.0), None);
        assert_eq!(fit_pairs(&[1.0, 0.0, 1.0, 0.0], 4, 1.0 / 127.0), None);
        // Neighbours of different rows are no pair.
        assert_eq!(fit_pairs(&[0.1, 0.0, 1.0, 1.0, 0.0, 0.1], 3, 1.0 / 127.0), None);
    }

    #[test]
    fn no_pair_saturates_afterwards_and_no_value_changes_its_sign() {
        let values: Vec<f32> = (0..64u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1.6e7 - 0.3)
            .collect();
        let scale = 0.75 / 127.0;
        assert!(worst_pair(&values, 16, scale) > 1.0);
        let fitted = fit_pairs(&values, 16, scale).unwrap();
        assert!(worst(&fitted.codes, 16) <= 128);
        assert!(fitted.scale >= scale);
        for (value, code) in values.iter().zip(&fitted.codes) {
            assert!(f64::from(*value) * f64::from(*code) >= 0.0);
            assert!((value - *code as f32 * fitted.scale).abs() <= 0.75 / 2.0);
        }
        // A single excess costs less when only its pair gives way.
        let mut lone = vec![0.013f32; 32];
        lone[0] = 0.6;
        lone[1] = 0.56;
        lone[8] = 1.0;
        let fitted = fit_pairs(&lone, 32, 1.0 / 127.0).unwrap();
        assert!(fitted.scale < 1.2 / 127.0, "{}", fitted.scale);
    }
}
