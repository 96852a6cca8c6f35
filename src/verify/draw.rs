//! Elements of samples of each kind. The same generator gives the same bits on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::kind::SampleKind;
use crate::ir::DType;

/// How the elements of a sample are drawn.
pub(super) struct Draw<'l> {
    pub(super) kind: SampleKind,
    pub(super) landmarks: &'l [f64],
}

/// Integers of a type; over its whole range where `wide`.
pub(super) fn integers(
    dtype: DType,
    (low, high): (i128, i128),
    wide: bool,
    count: usize,
    rank: usize,
    draw: &Draw<'_>,
    rng: &mut ChaCha8Rng,
) -> Vec<f64> {
    let bytes = dtype.bits() <= 8;
    let (from, to) = match draw.kind {
        SampleKind::Zeros => (0, 0),
        _ if bytes && (wide || rank >= 3 || dtype.bits() < 8) => (low, high),
        SampleKind::Negative | SampleKind::Mixed => (low.max(-5), high.min(10)),
        _ => (0, high.min(10)),
    };
    (0..count)
        .map(|at| {
            // Numbers of every length, so that large ones meet small ones.
            if wide
                && !bytes
                && matches!(draw.kind, SampleKind::Magnitudes | SampleKind::Landmarks)
                && at % 2 == 0
            {
                let bits = below(rng, dtype.bits() as u64);
                let magnitude = below(rng, 1 << bits.min(62)) as f64;
                let sign = if low < 0 && below(rng, 2) == 0 { -1.0 } else { 1.0 };
                return sign * magnitude;
            }
            from as f64 + below(rng, (to - from + 1) as u64) as f64
        })
        .collect()
}

/// Floats of a type.
pub(super) fn floats(dtype: DType, count: usize, draw: &Draw<'_>, rng: &mut ChaCha8Rng) -> Vec<f64> {
    // Half-precision networks overflow early.
    let (large, denormal) = match dtype {
        DType::F16 => (8.0, 6e-8),
        DType::F64 => (100.0, 1e-310),
        _ => (100.0, 1e-40),
    };
    let palette = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        denormal,
        -denormal,
        large * 10.0,
        large * -10.0,
        0.5,
        1e-7,
    ];
    let decades = if dtype == DType::F16 { 4.8 } else { 6.0 };
    (0..count)
        .map(|_| match draw.kind {
            SampleKind::Normal => normal(rng),
            SampleKind::Uniform => unit(rng),
            SampleKind::Zeros => 0.0,
            SampleKind::Negative => -normal(rng).abs(),
            SampleKind::Large => large * normal(rng),
            SampleKind::Mixed => match palette.get(below(rng, 2 * palette.len() as u64) as usize) {
                Some(value) => *value,
                None => normal(rng),
            },
            SampleKind::Ties => below(rng, 9) as f64 / 2.0 - 2.0,
            SampleKind::Magnitudes => {
                let sign = if below(rng, 2) == 0 { -1.0 } else { 1.0 };
                sign * decade(decades * (2.0 * unit(rng) - 1.0))
            }
            SampleKind::Landmarks => {
                let at = below(rng, (draw.landmarks.len() as u64).max(1) * 4 / 3);
                match draw.landmarks.get(at as usize) {
                    Some(value) => *value,
                    None => normal(rng),
                }
            }
        })
        .collect()
}

/// A number from 0 up to, not including, `bound`.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// A number from 0 to 1.
pub(super) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Ten to this power, by multiplication and a polynomial alone: every machine gives the same bits.
fn decade(power: f64) -> f64 {
    let (whole, part) = (power.floor(), power - power.floor());
    let mut result = 1.0 + part * (1.0 + part * (2.0 + part * 6.0));
    for _ in 0..whole.abs() as u32 {
        result = if whole < 0.0 { result / 10.0 } else { result * 10.0 };
    }
    result
}

/// Mean 0, variance 1, nearly normal: the sum of four uniform numbers, which every machine adds to the same bits.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let bits = rng.next_u64();
    let sum: f64 = (0..4)
        .map(|part| f64::from((bits >> (16 * part)) as u16) / 65536.0)
        .sum();
    (sum - 2.0 + 0.5 / 16384.0) * 1.732_050_807_568_877_2
}
