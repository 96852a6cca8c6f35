//! The oracle: the cut model must give what the original gives when the removed units are masked.

use schemars::JsonSchema;
use serde::Serialize;

use super::sample::sample;
use crate::axes::rewrite::masked::masked;
use crate::axes::{Removal, Solution};
use crate::engine::{CompileOptions, Engine, RunValue, RunValues, Session};
use crate::ir::{DType, Model, Tensor};
use crate::lower::for_engine;

/// What the comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OracleVerdict {
    /// The same up to rounding.
    Equal,
    /// Not the same: a defect.
    Different,
    /// The engine cannot run the model.
    NotChecked,
}

/// A verdict with its figures.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OracleReport {
    /// The verdict.
    pub verdict: OracleVerdict,
    /// The greatest difference of an output, as a share of its greatest reference value.
    pub max_difference: Option<f64>,
    /// Why the verdict is not `equal`.
    pub reason: Option<String>,
}

/// Difference that rounding explains, as a share of the greatest reference value.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-9,
        DType::F16 => 1e-2,
        DType::BF16 => 5e-2,
        _ => 1e-4,
    }
}

/// Further samples for a model that rounds to codes, when one differs.
const FURTHER: u64 = 3;

/// Runs the masked original and the cut model on a seeded sample and compares every output. Norms whose statistics change
/// take them over the kept elements in both.
///
/// Where a model rounds to codes, the order of a sum can decide between two of them. If only one sample differs and
/// others do not, that is the verdict `not-checked` with the figure; a defect shows in all of them.
pub fn oracle(
    model: &Model,
    cut: &Model,
    solution: &Solution,
    removal: &Removal,
    engine: &dyn Engine,
    seed: u64,
) -> OracleReport {
    let not_checked = |reason: String| OracleReport {
        verdict: OracleVerdict::NotChecked,
        max_difference: None,
        reason: Some(reason),
    };
    let reference = match masked(model, solution, removal) {
        Ok(reference) => reference,
        Err(error) => return not_checked(error.to_string()),
    };
    let compile = |model: &Model| -> Result<Box<dyn Session>, String> {
        let lowered = for_engine(model, engine).map_err(|error| error.to_string())?;
        engine
            .compile(&lowered, &CompileOptions::default())
            .map_err(|error| error.to_string())
    };
    let fails = |error: String| OracleReport {
        verdict: OracleVerdict::Different,
        max_difference: None,
        reason: Some(format!("the cut model does not run: {error}")),
    };
    let masked = match compile(&reference) {
        Ok(session) => session,
        Err(error) => return not_checked(error),
    };
    let mut session: Option<Box<dyn Session>> = None;
    let mut judge = |seed: u64| -> OracleReport {
        let Some(inputs) = sample(&model.graph, seed) else {
            return not_checked("an input has a type or rank that no sample can be made for".to_owned());
        };
        let expected = match masked.run(&inputs) {
            Ok(values) => values,
            Err(error) => return not_checked(error.to_string()),
        };
        // The reference runs, so a cut model that does not is not right.
        let found = match &session {
            Some(session) => session.run(&inputs).map_err(|error| error.to_string()),
            None => compile(cut).and_then(|fresh| {
                let found = fresh.run(&inputs).map_err(|error| error.to_string());
                session = Some(fresh);
                found
            }),
        };
        found.map_or_else(fails, |values| compare(&expected, &values))
    };
    let first = judge(seed);
    if first.verdict != OracleVerdict::Different || first.max_difference.is_none() || !rounds_to_codes(model)
    {
        return first;
    }
    let others = (1..=FURTHER).map(|more| judge(seed.wrapping_add(more.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
    match others
        .into_iter()
        .all(|other| other.verdict == OracleVerdict::Equal)
    {
        true => OracleReport {
            verdict: OracleVerdict::NotChecked,
            reason: first.reason.map(|reason| {
                format!(
                    "{reason}, on one of {} samples, as rounding to codes can",
                    FURTHER + 1
                )
            }),
            ..first
        },
        false => first,
    }
}

/// Whether a model rounds to codes somewhere.
fn rounds_to_codes(model: &Model) -> bool {
    model
        .graph_paths()
        .iter()
        .filter_map(|path| model.graph_at(path))
        .any(|graph| {
            graph.topological_order().into_iter().any(|node| {
                graph.operator(node).is_some_and(|operator| {
                    let name = operator.op_type.as_str();
                    name.starts_with("QLinear")
                        || name.ends_with("QuantizeLinear") && name != "DequantizeLinear"
                })
            })
        })
}

fn compare(expected: &RunValues, found: &RunValues) -> OracleReport {
    let mut worst = 0.0f64;
    let mut different = None;
    for (name, value) in expected {
        let (RunValue::Tensor(a), Some(RunValue::Tensor(b))) = (value, found.get(name)) else {
            let reason = Some(format!("{name} is no tensor"));
            return OracleReport {
                verdict: OracleVerdict::NotChecked,
                max_difference: None,
                reason,
            };
        };
        match difference(a, b) {
            Ok(share) => {
                worst = worst.max(share);
                if share > tolerance(a.dtype()) {
                    different.get_or_insert(format!("{name} differs by {share:.3e} of its greatest value"));
                }
            }
            Err(reason) => {
                different.get_or_insert(format!("{name}: {reason}"));
            }
        }
    }
    let verdict = if different.is_some() {
        OracleVerdict::Different
    } else {
        OracleVerdict::Equal
    };
    OracleReport {
        verdict,
        max_difference: Some(worst),
        reason: different,
    }
}

/// The greatest difference over the greatest reference value. Equal elements that are no numbers differ by nothing.
fn difference(a: &Tensor, b: &Tensor) -> Result<f64, String> {
    if a.dims() != b.dims() || a.dtype() != b.dtype() {
        return Err(format!(
            "{} {:?} became {} {:?}",
            a.dtype(),
            a.dims(),
            b.dtype(),
            b.dims()
        ));
    }
    if a.same_as(b) {
        return Ok(0.0);
    }
    let (Ok(a), Ok(b)) = (a.to_f64(), b.to_f64()) else {
        return Err("other elements".to_owned());
    };
    let same = |x: f64, y: f64| x == y || x.is_nan() && y.is_nan();
    let greatest = a
        .iter()
        .filter(|x| x.is_finite())
        .fold(0.0f64, |most, x| most.max(x.abs()));
    let mut worst = 0.0f64;
    for (x, y) in a.iter().zip(&b).filter(|(x, y)| !same(**x, **y)) {
        let apart = (x - y).abs();
        if !apart.is_finite() {
            return Err(format!("{x} became {y}"));
        }
        worst = worst.max(apart);
    }
    Ok(worst / greatest.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_measured_against_the_greatest_value() {
        let a = Tensor::from_slice(&[3], &[1f32, -4.0, f32::NAN]).unwrap();
        let b = Tensor::from_slice(&[3], &[1f32, -4.5, f32::NAN]).unwrap();
        assert_eq!(difference(&a, &b), Ok(0.125));
        assert_eq!(difference(&a, &a), Ok(0.0));
        let c = Tensor::from_slice(&[3], &[1f32, f32::INFINITY, 0.0]).unwrap();
        assert!(difference(&a, &c).is_err());
        assert!(difference(&a, &Tensor::from_slice(&[1], &[1f32]).unwrap()).is_err());
    }
}
