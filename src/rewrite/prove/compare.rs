//! Compares the outputs of two runs.

use crate::engine::compare::{Tolerances, Verdict, compare as compare_values};
use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Tensor};

/// The largest difference over the largest magnitude of any output; `None` when all bits are the same. An error says what differs
/// more than the class of the rule allows.
pub(super) fn compare(reference: &RunValues, result: &RunValues, exact: bool) -> Result<Option<f64>, String> {
    if reference.is_empty() || !reference.keys().eq(result.keys()) {
        let names = |values: &RunValues| values.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(format!(
            "outputs {} instead of {}",
            names(result),
            names(reference)
        ));
    }
    let mut worst = None;
    for ((name, value), (_, other)) in reference.iter().zip(result) {
        let (RunValue::Tensor(a), RunValue::Tensor(b)) = (value, other) else {
            continue;
        };
        if a.dtype() != b.dtype() || a.dims() != b.dims() {
            return Err(format!(
                "{name} is {} {:?} instead of {} {:?}",
                b.dtype(),
                b.dims(),
                a.dtype(),
                a.dims()
            ));
        }
        if a.same_as(b) {
            continue;
        }
        // Equal up to the payload of a NaN: engines make their own.
        if exact && same_but_for_nan(a, b) {
            continue;
        }
        let comparison = compare_values(value, other, &tolerances());
        if exact || comparison.verdict() == Verdict::Different {
            return Err(match comparison.reason() {
                Some(reason) => format!("{name}: {reason}"),
                None => format!(
                    "{name} differs by {:.3e} of its largest value{}",
                    comparison.share(),
                    comparison
                        .figures(name)
                        .parts
                        .first()
                        .map_or_else(String::new, |part| format!(", at {part}"))
                ),
            });
        }
        worst = Some(f64::max(worst.unwrap_or(0.0), comparison.share()));
    }
    Ok(worst)
}

/// Rules round a few times only, so they get less of float than a whole model does.
fn tolerances() -> Tolerances {
    let mut tolerances = Tolerances::default();
    tolerances.set(DType::F32, 2e-5);
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
