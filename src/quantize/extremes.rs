//! Extremes and sums of slices, in loops over fixed lanes that compilers turn into vector instructions of any processor.

/// Elements that are reduced side by side.
const LANES: usize = 16;

/// Lowest and highest of the values that are finite, and how many are not. `(inf, -inf)` if none is. Zeros have no sign.
pub fn extremes(values: &[f32]) -> (f32, f32, u64) {
    let mut low = [f32::INFINITY; LANES];
    let mut high = [f32::NEG_INFINITY; LANES];
    // Finite values times zero are zero, others NaN, which no sum gets rid of.
    let mut poison = [0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for ((value, low), (high, poison)) in chunk.iter().zip(&mut low).zip(high.iter_mut().zip(&mut poison))
        {
            *low = if *value < *low { *value } else { *low };
            *high = if *value > *high { *value } else { *high };
            *poison += *value * 0.0;
        }
    }
    for ((value, low), (high, poison)) in rest.iter().zip(&mut low).zip(high.iter_mut().zip(&mut poison)) {
        *low = if *value < *low { *value } else { *low };
        *high = if *value > *high { *value } else { *high };
        *poison += *value * 0.0;
    }
    if poison.iter().any(|sum| sum.is_nan()) {
        return of_finite(values);
    }
    let low = low.into_iter().fold(f32::INFINITY, f32::min);
    let high = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (low + 0.0, high + 0.0, 0)
}

fn of_finite(values: &[f32]) -> (f32, f32, u64) {
    let start = (f32::INFINITY, f32::NEG_INFINITY, 0);
    let (low, high, others) =
        values
            .iter()
            .fold(start, |(low, high, others), value| match value.is_finite() {
                true => (low.min(*value), high.max(*value), others),
                false => (low, high, others + 1),
            });
    (low + 0.0, high + 0.0, others)
}

/// The sum in double precision, added in an order that depends on the number of values only.
pub fn sum(values: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(*value);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize) -> Vec<f32> {
        (0..count as u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6 - 8.0)
            .collect()
    }

    #[test]
    fn lanes_agree_with_one_value_after_the_other() {
        for count in [0, 1, 15, 16, 17, 100, 1000] {
            let values = values(count);
            let low = values.iter().copied().fold(f32::INFINITY, f32::min);
            let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(extremes(&values), (low, high, 0), "{count}");
            let plain: f64 = values.iter().map(|value| f64::from(*value)).sum();
            assert!((sum(&values) - plain).abs() < 1e-9, "{count}");
        }
    }

    #[test]
    fn what_is_not_finite_is_numbered_and_passed_over() {
        let mut some = values(50);
        some[3] = f32::NAN;
        some[20] = f32::INFINITY;
        some[49] = f32::NEG_INFINITY;
        let rest: Vec<f32> = some.iter().copied().filter(|value| value.is_finite()).collect();
        let (low, high, _) = extremes(&rest);
        assert_eq!(extremes(&some), (low, high, 3));
        let (low, high, others) = extremes(&[f32::NAN; 20]);
        assert!(low > high && others == 20);
    }

    #[test]
    fn zeros_have_no_sign() {
        for zeros in [[0.0f32, -0.0], [-0.0, 0.0], [-0.0, -0.0]] {
            let (low, high, _) = extremes(&zeros);
            assert!(low.is_sign_positive() && high.is_sign_positive());
        }
    }
}
