//! Comparing what two models answer: figures per output, tolerances by element type, and the verdict.

use std::collections::BTreeMap;

use half::{bf16, f16};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::RunValue;
use crate::ir::{DType, Tensor};

/// The answer to "do both compute the same", from best to worst. A combined verdict is the worst of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The same bits.
    Equal,
    /// Every output is within its tolerance.
    Within,
    /// At least one part could not be checked, and nothing else differs.
    NotChecked,
    /// At least one output differs by more than its tolerance.
    Different,
}

impl Verdict {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Within => "within",
            Self::NotChecked => "not-checked",
            Self::Different => "different",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The largest error an output may have, as a share of the largest magnitude of the reference.
/// Types that are not listed must agree exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Tolerances(BTreeMap<DType, f64>);

impl Default for Tolerances {
    fn default() -> Self {
        Self(BTreeMap::from([
            (DType::F64, 1e-9),
            (DType::F32, 1e-4),
            (DType::F16, 1e-2),
            (DType::BF16, 5e-2),
        ]))
    }
}

impl Tolerances {
    /// The tolerance of an element type; complex types have that of their parts.
    pub fn of(&self, dtype: DType) -> f64 {
        let part = match dtype {
            DType::Complex64 => DType::F32,
            DType::Complex128 => DType::F64,
            other => other,
        };
        self.0.get(&part).copied().unwrap_or(0.0)
    }

    /// Sets the tolerance of an element type.
    pub fn set(&mut self, dtype: DType, tolerance: f64) {
        self.0.insert(dtype, tolerance);
    }
}

/// Figures of one output over all samples. `None` is undefined, not comparable or infinite; it is `null` in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OutputFigures {
    /// Output name.
    pub name: String,
    /// This output's verdict.
    pub verdict: Verdict,
    /// Largest absolute error.
    pub max_abs: Option<f64>,
    /// Largest error relative to the reference's element.
    pub max_rel: Option<f64>,
    /// Mean absolute error.
    pub mean_abs: Option<f64>,
    /// Cosine of the angle between both outputs, each taken as one vector over all samples.
    pub cosine: Option<f64>,
    /// Power of the reference over power of the error, in decibels; undefined when there is no error.
    pub sqnr_db: Option<f64>,
    /// Share of rows with the same largest element: rows along the last axis, along axis 1 from rank 4 on.
    pub top1_agreement: Option<f64>,
    /// Elements compared.
    pub elements: u64,
    /// Elements whose bits differ.
    pub differing: u64,
    /// Elements that are NaN or infinite where the reference's are other ones.
    pub undefined: u64,
    /// What makes the output different beside its numbers: shape, element type, NaN in another place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What one comparison of one output adds up to; sums of several samples are added in sample order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    verdict: Option<Verdict>,
    elements: u64,
    differing: u64,
    undefined: u64,
    finite: u64,
    max_abs: f64,
    max_rel: f64,
    sum_abs: f64,
    dot: f64,
    reference_power: f64,
    model_power: f64,
    error_power: f64,
    rows: u64,
    same_rows: u64,
    reason: Option<String>,
}

impl Comparison {
    /// The verdict so far; equal when nothing was compared.
    pub fn verdict(&self) -> Verdict {
        self.verdict.unwrap_or(Verdict::Equal)
    }

    /// Why the output is different beside its numbers.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Largest absolute error of finite elements.
    pub fn max_abs(&self) -> f64 {
        self.max_abs
    }

    /// Power of the reference over power of the error, in decibels: infinite without an error, minus infinity where the
    /// reference has no power.
    pub fn sqnr_db(&self) -> f64 {
        if self.error_power > 0.0 {
            10.0 * (self.reference_power / self.error_power).log10()
        } else {
            f64::INFINITY
        }
    }

    /// Adds another comparison of the same output.
    pub fn add(&mut self, other: &Comparison) {
        self.verdict = self.verdict.max(other.verdict);
        self.elements += other.elements;
        self.differing += other.differing;
        self.undefined += other.undefined;
        self.finite += other.finite;
        self.max_abs = larger(self.max_abs, other.max_abs);
        self.max_rel = larger(self.max_rel, other.max_rel);
        self.sum_abs += other.sum_abs;
        self.dot += other.dot;
        self.reference_power += other.reference_power;
        self.model_power += other.model_power;
        self.error_power += other.error_power;
        self.rows += other.rows;
        self.same_rows += other.same_rows;
        if self.reason.is_none() {
            self.reason.clone_from(&other.reason);
        }
    }

    /// The figures.
    pub fn figures(&self, name: &str) -> OutputFigures {
        let finite = |value: f64| Some(value).filter(|v| v.is_finite());
        // Without one number that could be compared there is no figure.
        let numeric = |value: f64| if self.finite > 0 { finite(value) } else { None };
        let comparable = self.reason.is_none();
        OutputFigures {
            name: name.to_owned(),
            verdict: self.verdict(),
            max_abs: numeric(self.max_abs).filter(|_| comparable),
            max_rel: numeric(self.max_rel).filter(|_| comparable),
            mean_abs: numeric(self.sum_abs / self.finite as f64).filter(|_| comparable),
            cosine: finite(self.dot / (self.reference_power.sqrt() * self.model_power.sqrt()))
                .filter(|_| comparable),
            sqnr_db: finite(10.0 * (self.reference_power / self.error_power).log10()).filter(|_| comparable),
            top1_agreement: (self.rows > 0).then(|| self.same_rows as f64 / self.rows as f64),
            elements: self.elements,
            differing: self.differing,
            undefined: self.undefined,
            reason: self.reason.clone(),
        }
    }

    fn judge(&mut self, verdict: Verdict) {
        self.verdict = self.verdict.max(Some(verdict));
    }

    fn differ(&mut self, reason: impl Into<String>) {
        self.judge(Verdict::Different);
        if self.reason.is_none() {
            self.reason = Some(reason.into());
        }
    }
}

/// The larger one, an undefined number being the largest.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::INFINITY
    } else {
        a.max(b)
    }
}

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
    let mut largest = 0.0f64;
    for (a, b) in expected.iter().zip(&found) {
        if !a.is_finite() || !b.is_finite() {
            let same = a.is_nan() && b.is_nan() || a == b;
            if !same {
                result.differing += 1;
                result.undefined += u64::from(!b.is_finite());
                result.differ(format!("{b} in place of {a}"));
            }
            continue;
        }
        let error = (a - b).abs();
        largest = largest.max(a.abs());
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
    if result.max_abs > tolerances.of(reference.dtype()) * largest {
        result.judge(Verdict::Different);
    }
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
fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
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
