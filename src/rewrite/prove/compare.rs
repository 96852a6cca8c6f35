//! Compares the outputs of two runs.

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
    for ((name, a), (_, b)) in reference.iter().zip(result) {
        let (RunValue::Tensor(a), RunValue::Tensor(b)) = (a, b) else {
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
        let difference = relative(a, b).map_err(|reason| format!("{name}: {reason}"))?;
        let allowed = match a.dtype() {
            _ if exact => 0.0,
            DType::F64 => 1e-9,
            DType::F32 => 2e-5,
            DType::F16 => 1e-2,
            DType::BF16 => 5e-2,
            _ => 0.0,
        };
        // Equal up to the payload of a NaN: engines make their own.
        if difference == 0.0 && exact && same_but_for_nan(a, b) {
            continue;
        }
        if difference > allowed || exact {
            return Err(format!("{name} differs by {difference:.3e} of its largest value"));
        }
        worst = Some(f64::max(worst.unwrap_or(0.0), difference));
    }
    Ok(worst)
}

fn relative(a: &Tensor, b: &Tensor) -> Result<f64, String> {
    let (x, y) = match (a.to_f64(), b.to_f64()) {
        (Ok(x), Ok(y)) => (x, y),
        _ => return Err("the elements differ".to_owned()),
    };
    let mut largest = 0.0f64;
    let mut difference = 0.0f64;
    for (p, q) in x.iter().zip(&y) {
        if p == q || p.is_nan() && q.is_nan() {
            largest = if p.is_finite() {
                largest.max(p.abs())
            } else {
                largest
            };
            continue;
        }
        if !p.is_finite() || !q.is_finite() {
            return Err(format!("{q} instead of {p}"));
        }
        largest = largest.max(p.abs());
        difference = difference.max((p - q).abs());
    }
    Ok(if difference == 0.0 {
        0.0
    } else {
        difference / largest.max(f64::MIN_POSITIVE)
    })
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
