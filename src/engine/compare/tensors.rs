//! Comparing values of two runs.

use half::{bf16, f16};

use super::figures::Comparison;
use super::slices::Slices;
use super::verdict::{Tolerances, Verdict};
use crate::engine::RunValue;
use crate::ir::{DType, Tensor};

/// Compares a value of the model with the reference's.
pub fn compare(reference: &RunValue, model: &RunValue, tolerances: &Tolerances) -> Comparison {
    let mut result = Comparison::default();
    compare_into(reference, model, tolerances, &mut result);
    result
}

fn compare_into(reference: &RunValue, model: &RunValue, tolerances: &Tolerances, result: &mut Comparison) {
    match (reference, model) {
        (RunValue::Tensor(a), RunValue::Tensor(b)) => result.add(&compare_tensors(a, b, tolerances)),
        (RunValue::Sequence(a), RunValue::Sequence(b)) => {
            result.judge(Verdict::Equal);
            if a.len() != b.len() {
                return result.differ(format!("{} elements instead of {}", b.len(), a.len()));
            }
            a.iter()
                .zip(b)
                .for_each(|(a, b)| compare_into(a, b, tolerances, result));
        }
        (RunValue::Optional(None), RunValue::Optional(None)) => result.judge(Verdict::Equal),
        (RunValue::Optional(Some(a)), RunValue::Optional(Some(b))) => compare_into(a, b, tolerances, result),
        (RunValue::Optional(a), RunValue::Optional(_)) => {
            result.differ(if a.is_some() {
                "absent instead of present"
            } else {
                "present instead of absent"
            });
        }
        (RunValue::Map(keys, a), RunValue::Map(other, b)) => {
            if !keys.same_as(other) {
                return result.differ("other keys");
            }
            compare_into(a, b, tolerances, result);
        }
        _ => result.differ(format!("{} instead of {}", kind(model), kind(reference))),
    }
}

fn kind(value: &RunValue) -> &'static str {
    match value {
        RunValue::Tensor(_) => "a tensor",
        RunValue::Sequence(_) => "a sequence",
        RunValue::Optional(_) => "an optional",
        RunValue::Map(..) => "a map",
    }
}

fn compare_tensors(reference: &Tensor, model: &Tensor, tolerances: &Tolerances) -> Comparison {
    let mut result = Comparison::default();
    if reference.dtype() != model.dtype() {
        result.differ(format!("{} instead of {}", model.dtype(), reference.dtype()));
        return result;
    }
    if reference.dims() != model.dims() {
        result.differ(format!(
            "shape {:?} instead of {:?}",
            model.dims(),
            reference.dims()
        ));
        return result;
    }
    result.elements = reference.elements();
    if reference.dtype() == DType::String {
        return compare_strings(reference, model, result);
    }
    let same_bits = reference.same_as(model);
    result.judge(if same_bits {
        Verdict::Equal
    } else {
        Verdict::Within
    });
    let (Some(expected), Some(found)) = (numbers(reference), numbers(model)) else {
        result.differ(format!("{} elements cannot be read", reference.dtype()));
        return result;
    };
    let mut magnitudes = vec![0.0; expected.len()];
    let mut errors = vec![0.0; expected.len()];
    let places = magnitudes.iter_mut().zip(&mut errors);
    for ((a, b), (magnitude, slot)) in expected.iter().zip(&found).zip(places) {
        if !a.is_finite() || !b.is_finite() {
            let same = a.is_nan() && b.is_nan() || a == b;
            if !same {
                result.differing += 1;
                result.undefined += u64::from(!b.is_finite());
                result.differ(format!("{b} in place of {a}"));
                *slot = f64::INFINITY;
            }
            continue;
        }
        let error = (a - b).abs();
        (*magnitude, *slot) = (a.abs(), error);
        result.finite += 1;
        result.differing += u64::from(error > 0.0);
        result.max_abs = result.max_abs.max(error);
        if error > 0.0 {
            result.max_rel = result.max_rel.max(error / a.abs());
        }
        result.sum_abs += error;
        result.dot += a * b;
        result.reference_power += a * a;
        result.model_power += b * b;
        result.error_power += error * error;
    }
    if !same_bits && result.differing == 0 && !is_inexact(reference.dtype()) {
        // 64-bit integers that differ beyond the precision of f64.
        result.judge(Verdict::Different);
        result.differing = 1;
    }
    let tolerance = tolerances.of(reference.dtype());
    let largest = magnitudes.iter().fold(0.0, |most: f64, v| most.max(*v));
    if result.max_abs > tolerance * largest {
        result.judge(Verdict::Different);
    }
    let mut dims: Vec<usize> = reference.dims().iter().map(|dim| *dim as usize).collect();
    if matches!(reference.dtype(), DType::Complex64 | DType::Complex128) {
        dims.push(2);
    }
    result.tolerance = tolerance;
    result.slices = Slices::of(&dims, &magnitudes, &errors);
    count_rows(reference, &expected, &found, &mut result);
    result
}

fn is_inexact(dtype: DType) -> bool {
    dtype.is_float() || matches!(dtype, DType::Complex64 | DType::Complex128)
}

fn compare_strings(reference: &Tensor, model: &Tensor, mut result: Comparison) -> Comparison {
    match (reference.strings(), model.strings()) {
        (Ok(a), Ok(b)) => {
            result.differing = a.iter().zip(b).filter(|(a, b)| a != b).count() as u64;
            result.judge(if result.differing == 0 {
                Verdict::Equal
            } else {
                Verdict::Different
            });
        }
        _ => result.differ("string elements cannot be read"),
    }
    result
}

/// Elements as `f64`; real and imaginary parts in turn for complex types.
pub(super) fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    let raw = tensor.raw().ok()?;
    Some(match tensor.dtype() {
        DType::F32 | DType::Complex64 => raw
            .chunks_exact(4)
            .filter_map(|b| b.try_into().ok())
            .map(|b| f64::from(f32::from_le_bytes(b)))
            .collect(),
        DType::F64 | DType::Complex128 => raw
            .chunks_exact(8)
            .filter_map(|b| b.try_into().ok())
            .map(f64::from_le_bytes)
            .collect(),
        DType::F16 => raw
            .chunks_exact(2)
            .filter_map(|b| b.try_into().ok())
            .map(|b| f16::from_le_bytes(b).to_f64())
            .collect(),
        DType::BF16 => raw
            .chunks_exact(2)
            .filter_map(|b| b.try_into().ok())
            .map(|b| bf16::from_le_bytes(b).to_f64())
            .collect(),
        _ => tensor.to_f64().ok()?,
    })
}

/// Counts the rows of a classifier's scores and those whose largest element is at the same place.
fn count_rows(tensor: &Tensor, expected: &[f64], found: &[f64], result: &mut Comparison) {
    let dims = tensor.dims();
    if !tensor.dtype().is_float() || dims.len() < 2 {
        return;
    }
    let axis = if dims.len() >= 4 { 1 } else { dims.len() - 1 };
    let size = |dims: &[u64]| dims.iter().product::<u64>() as usize;
    let (outer, classes, inner) = match (dims.get(..axis), dims.get(axis), dims.get(axis + 1..)) {
        (Some(before), Some(classes), Some(after)) => (size(before), *classes as usize, size(after)),
        _ => return,
    };
    if classes < 2 {
        return;
    }
    for row in 0..outer {
        for column in 0..inner {
            let place = |values: &[f64]| {
                let element = |class: usize| values.get((row * classes + class) * inner + column).copied();
                (0..classes).fold((0, f64::NEG_INFINITY), |best, class| match element(class) {
                    Some(value) if value > best.1 => (class, value),
                    _ => best,
                })
            };
            result.rows += 1;
            result.same_rows += u64::from(place(expected).0 == place(found).0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(dims: &[u64], values: &[f32]) -> RunValue {
        RunValue::Tensor(Tensor::from_slice(dims, values).unwrap())
    }

    fn verdict(a: &RunValue, b: &RunValue) -> Verdict {
        compare(a, b, &Tolerances::default()).verdict()
    }

    #[test]
    fn the_tolerance_is_a_share_of_the_largest_reference() {
        let reference = floats(&[2], &[100.0, 0.0]);
        assert_eq!(verdict(&reference, &floats(&[2], &[100.0, 0.0])), Verdict::Equal);
        assert_eq!(
            verdict(&reference, &floats(&[2], &[100.0, 0.009])),
            Verdict::Within
        );
        assert_eq!(
            verdict(&reference, &floats(&[2], &[100.0, 0.011])),
            Verdict::Different
        );
        // Signed zeros are other bits and no error.
        assert_eq!(
            verdict(&reference, &floats(&[2], &[100.0, -0.0])),
            Verdict::Within
        );
    }

    #[test]
    fn nan_and_infinity_are_compared_by_position() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let reference = floats(&[3], &[nan, inf, 1.0]);
        assert_eq!(
            verdict(&reference, &floats(&[3], &[nan, inf, 1.0])),
            Verdict::Equal
        );
        for other in [
            [1.0, inf, nan],
            [nan, -inf, 1.0],
            [nan, inf, nan],
            [nan, 1.0, 1.0],
        ] {
            assert_eq!(
                verdict(&reference, &floats(&[3], &other)),
                Verdict::Different,
                "{other:?}"
            );
        }
        let figures = compare(
            &reference,
            &floats(&[3], &[nan, nan, 1.0]),
            &Tolerances::default(),
        )
        .figures("y");
        assert_eq!(
            (figures.max_abs, figures.reason.as_deref()),
            (None, Some("NaN in place of inf"))
        );
    }

    #[test]
    fn integers_booleans_and_strings_are_exact() {
        let ints = |v: i64| RunValue::Tensor(Tensor::vector_i64(&[v]));
        assert_eq!(verdict(&ints(1 << 60), &ints((1 << 60) + 1)), Verdict::Different);
        assert_eq!(verdict(&ints(7), &ints(7)), Verdict::Equal);
        let text =
            |v: &'static str| RunValue::Tensor(Tensor::from_strings(&[1], [bytes::Bytes::from(v)]).unwrap());
        assert_eq!(verdict(&text("a"), &text("a")), Verdict::Equal);
        assert_eq!(verdict(&text("a"), &text("b")), Verdict::Different);
        assert_eq!(verdict(&ints(1), &floats(&[1], &[1.0])), Verdict::Different);
        assert_eq!(
            verdict(&ints(1), &RunValue::Sequence(vec![ints(1)])),
            Verdict::Different
        );
    }

    #[test]
    fn figures_follow_their_definitions() {
        let figures = compare(
            &floats(&[2, 2], &[3.0, 4.0, 2.0, 1.0]),
            &floats(&[2, 2], &[4.0, 3.0, 2.0, 1.0]),
            &Tolerances::default(),
        )
        .figures("y");
        assert_eq!(figures.max_abs, Some(1.0));
        assert_eq!(figures.max_rel, Some(1.0 / 3.0));
        assert_eq!(figures.mean_abs, Some(0.5));
        assert_eq!(figures.cosine, Some(29.0 / 30.0));
        assert_eq!(figures.sqnr_db, Some(10.0 * (30.0f64 / 2.0).log10()));
        assert_eq!(figures.top1_agreement, Some(0.5));
        let same = compare(
            &floats(&[1], &[0.0]),
            &floats(&[1], &[0.0]),
            &Tolerances::default(),
        )
        .figures("y");
        assert_eq!(
            (same.max_abs, same.cosine, same.sqnr_db, same.top1_agreement),
            (Some(0.0), None, None, None)
        );
    }

    #[test]
    fn sums_do_not_depend_on_how_samples_are_grouped() {
        let pairs = [(1.0, 1.5), (2.0, 2.0), (-3.0, -3.25)];
        let parts =
            pairs.map(|(a, b)| compare(&floats(&[1], &[a]), &floats(&[1], &[b]), &Tolerances::default()));
        let mut all = Comparison::default();
        parts.iter().for_each(|part| all.add(part));
        assert_eq!(all.verdict(), Verdict::Different);
        assert_eq!(all.figures("y").mean_abs, Some(0.25));
    }
}
