//! The oracle: the cut model must give what the original gives when the removed units are masked.

use schemars::JsonSchema;
use serde::Serialize;

use super::sample::sample;
use crate::axes::rewrite::masked::masked;
use crate::axes::{Removal, Solution};
use crate::engine::compare::{Comparison, Tolerances, Verdict, compare_runs};
use crate::engine::{CompileOptions, Engine, EngineError, RunValue, RunValues, Session};
use crate::ir::Model;
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
    match masked(model, solution, removal) {
        Ok(reference) => compare_cut(model, &reference, cut, engine, seed),
        Err(error) => not_checked(error.to_string()),
    }
}

fn not_checked(reason: String) -> OracleReport {
    OracleReport {
        verdict: OracleVerdict::NotChecked,
        max_difference: None,
        reason: Some(reason),
    }
}

/// Runs a cut model and `reference`, `model` with what went masked, and compares every output, as [`oracle`] does.
pub fn compare_cut(
    model: &Model,
    reference: &Model,
    cut: &Model,
    engine: &dyn Engine,
    seed: u64,
) -> OracleReport {
    let compile = |model: &Model| -> Result<Box<dyn Session>, EngineError> {
        engine.compile(&for_engine(model, engine)?, &CompileOptions::default())
    };
    let fails = |error: EngineError| OracleReport {
        // The reference runs, so a cut model that does not is not right, unless it is the engine that lacks something.
        verdict: match error {
            EngineError::Unsupported { .. }
            | EngineError::Unavailable { .. }
            | EngineError::TimedOut { .. }
            | EngineError::Ended { .. }
            | EngineError::Memory { .. }
            | EngineError::Cancelled => OracleVerdict::NotChecked,
            EngineError::Failed { .. } | EngineError::Input { .. } | EngineError::Shapes { .. } => {
                OracleVerdict::Different
            }
        },
        max_difference: None,
        reason: Some(format!("the cut model does not run: {error}")),
    };
    let masked = match compile(reference) {
        Ok(session) => session,
        Err(error) => return not_checked(error.to_string()),
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
        let found = match &session {
            Some(session) => session.run(&inputs),
            None => compile(cut).and_then(|fresh| {
                let found = fresh.run(&inputs);
                session = Some(fresh);
                found
            }),
        };
        found.map_or_else(fails, |values| judged(&*masked, &inputs, &expected, &values))
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

/// Compares every output; what rounding of the inputs explains is no difference.
fn judged(
    reference: &dyn Session,
    inputs: &RunValues,
    expected: &RunValues,
    found: &RunValues,
) -> OracleReport {
    let is_tensor = |value: &RunValue| matches!(value, RunValue::Tensor(_));
    if let Some((name, _)) = expected
        .iter()
        .find(|(name, value)| !is_tensor(value) || !found.get(*name).is_some_and(is_tensor))
    {
        return OracleReport {
            verdict: OracleVerdict::NotChecked,
            max_difference: None,
            reason: Some(format!("{name} is no tensor")),
        };
    }
    let compared = compare_runs(
        reference,
        inputs,
        (expected, found),
        &|_| true,
        &Tolerances::default(),
    );
    let worst = compared
        .iter()
        .fold(0.0, |worst: f64, (_, comparison)| worst.max(comparison.share()));
    let different = compared
        .iter()
        .find(|(_, comparison)| comparison.verdict() == Verdict::Different);
    OracleReport {
        verdict: if different.is_some() {
            OracleVerdict::Different
        } else {
            OracleVerdict::Equal
        },
        max_difference: Some(worst),
        reason: different.map(|(name, comparison)| describe(name, comparison)),
    }
}

fn describe(name: &str, comparison: &Comparison) -> String {
    if let Some(reason) = comparison.reason() {
        return format!("{name}: {reason}");
    }
    let place = comparison
        .figures(name)
        .parts
        .first()
        .map_or_else(String::new, |part| format!(", at {part}"));
    format!(
        "{name} differs by {:.3e} of its greatest value{place}",
        comparison.share()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Tensor;

    /// Answers its input.
    struct Same;

    impl Session for Same {
        fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
            Ok(inputs.clone())
        }
    }

    fn report(a: &[f32], b: &[f32]) -> OracleReport {
        let named = |values: &[f32]| {
            let tensor = Tensor::from_slice(&[values.len() as u64], values).unwrap();
            RunValues::from([("y".to_owned(), RunValue::Tensor(tensor))])
        };
        judged(&Same, &named(a), &named(a), &named(b))
    }

    #[test]
    fn a_difference_is_measured_against_the_greatest_value() {
        let found = report(&[1.0, -4.0, f32::NAN], &[1.0, -4.5, f32::NAN]);
        assert_eq!(
            (found.verdict, found.max_difference),
            (OracleVerdict::Different, Some(0.125))
        );
        let same = report(&[1.0, -4.0, f32::NAN], &[1.0, -4.0, f32::NAN]);
        assert_eq!(
            (same.verdict, same.max_difference),
            (OracleVerdict::Equal, Some(0.0))
        );
        let infinite = report(&[1.0, -4.0, f32::NAN], &[1.0, f32::INFINITY, 0.0]);
        assert_eq!(infinite.verdict, OracleVerdict::Different);
        let shorter = report(&[1.0, -4.0], &[1.0]);
        assert!(shorter.reason.unwrap().contains("shape [1] instead of [2]"));
    }
}
