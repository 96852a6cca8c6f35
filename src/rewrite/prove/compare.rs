//! Compares the outputs of two runs.

use crate::engine::compare::{Tolerances, Verdict, compare as compare_values};
use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Tensor};

/// What the two sides owe each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// The same bits.
    Bits,
    /// The same up to rounding and the sign of a zero; what is not finite is the same.
    Rounding,
    /// The same where both sides are finite; what is infinite or undefined on one side is left open.
    Finite,
}

/// In what two sides differ more than they may.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unequal {
    #[error("outputs {found} instead of {expected}")]
    Outputs { found: String, expected: String },
    #[error("{name} is {} {:?} instead of {} {:?}", found.0, found.1, expected.0, expected.1)]
    Type {
        name: String,
        found: (DType, Vec<u64>),
        expected: (DType, Vec<u64>),
    },
    #[error("{name}: element {index} is {found:e} instead of {expected:e}")]
    Element {
        name: String,
        index: usize,
        found: f64,
        expected: f64,
    },
    #[error("{name}: the elements differ")]
    Elements { name: String },
    #[error("{name}: {reason}")]
    Compared { name: String, reason: String },
    #[error("{name} differs by {share:.3e} of its largest value{}", part.as_ref().map_or_else(String::new, |part| format!(", at {part}")))]
    Far {
        name: String,
        share: f64,
        part: Option<String>,
    },
}

/// The largest difference over the largest magnitude of any output; `None` when all bits are the same. An error says what differs
/// more than the class of the rule allows. `room` widens the tolerance of `float`, where large elements make rounding large.
pub(super) fn compare(
    reference: &RunValues,
    result: &RunValues,
    demand: Demand,
    room: f64,
) -> Result<Option<f64>, Unequal> {
    let exact = demand == Demand::Bits;
    if reference.is_empty() || !reference.keys().eq(result.keys()) {
        let names = |values: &RunValues| values.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(Unequal::Outputs {
            found: names(result),
            expected: names(reference),
        });
    }
    let mut worst = None;
    for ((name, value), (_, other)) in reference.iter().zip(result) {
        let (RunValue::Tensor(a), RunValue::Tensor(b)) = (value, other) else {
            continue;
        };
        if a.dtype() != b.dtype() || a.dims() != b.dims() {
            return Err(Unequal::Type {
                name: name.clone(),
                found: (b.dtype(), b.dims().to_vec()),
                expected: (a.dtype(), a.dims().to_vec()),
            });
        }
        if a.same_as(b) {
            continue;
        }
        // Equal up to the payload of a NaN: engines make their own.
        if exact && same_but_for_nan(a, b) {
            continue;
        }
        if exact && let Some((index, p, q)) = first_difference(a, b) {
            return Err(Unequal::Element {
                name: name.clone(),
                index,
                found: q,
                expected: p,
            });
        }
        if demand == Demand::Finite {
            let difference = between_finite(a, b).ok_or_else(|| Unequal::Elements { name: name.clone() })?;
            if difference > tolerances(room).of(a.dtype()).max(FINITE * room) {
                return Err(Unequal::Far {
                    name: name.clone(),
                    share: difference,
                    part: None,
                });
            }
            worst = Some(f64::max(worst.unwrap_or(0.0), difference));
            continue;
        }
        let comparison = compare_values(value, other, &tolerances(room));
        if exact || comparison.verdict() == Verdict::Different {
            return Err(match comparison.reason() {
                Some(reason) => Unequal::Compared {
                    name: name.clone(),
                    reason: reason.to_string(),
                },
                None => Unequal::Far {
                    name: name.clone(),
                    share: comparison.share(),
                    part: comparison.figures(name).parts.first().map(ToString::to_string),
                },
            });
        }
        worst = Some(f64::max(worst.unwrap_or(0.0), comparison.share()));
    }
    Ok(worst)
}

/// What rounding may change in `float`, relative to the largest value.
const FINITE: f64 = 2e-5;

/// The first elements whose bits differ.
fn first_difference(a: &Tensor, b: &Tensor) -> Option<(usize, f64, f64)> {
    let (x, y) = (a.to_f64().ok()?, b.to_f64().ok()?);
    x.into_iter()
        .zip(y)
        .enumerate()
        .find(|(_, (p, q))| p.to_bits() != q.to_bits() && !(p.is_nan() && q.is_nan()))
        .map(|(index, (p, q))| (index, p, q))
}

/// The largest difference over the largest magnitude, among elements that are finite on both sides; `None` for elements that are no
/// numbers.
fn between_finite(a: &Tensor, b: &Tensor) -> Option<f64> {
    let (x, y) = (a.to_f64().ok()?, b.to_f64().ok()?);
    let pairs = x.iter().zip(&y).filter(|(p, q)| p.is_finite() && q.is_finite());
    let (difference, largest) = pairs.fold((0.0f64, 0.0f64), |(difference, largest), (p, q)| {
        (difference.max((p - q).abs()), largest.max(p.abs()))
    });
    Some(if difference == 0.0 {
        0.0
    } else {
        difference / largest.max(f64::MIN_POSITIVE)
    })
}

/// Rules round a few times only, so they get less of float than a whole model does.
fn tolerances(room: f64) -> Tolerances {
    let mut tolerances = Tolerances::default();
    tolerances.set(DType::F32, FINITE * room);
    tolerances
}

fn same_but_for_nan(a: &Tensor, b: &Tensor) -> bool {
    match (a.to_f64(), b.to_f64()) {
        (Ok(x), Ok(y)) => x
            .iter()
            .zip(&y)
            .all(|(p, q)| p.to_bits() == q.to_bits() || p.is_nan() && q.is_nan()),
        _ => false,
    }
}
