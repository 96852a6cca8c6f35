//! Samples on which the reference does not even agree with itself: rounding of its inputs alone moves its outputs further than
//! the tolerance. Such a sample says nothing about a rewrite that rounds differently.

use super::compare::{Comparison, Tolerances, Verdict, compare};
use crate::engine::{RunValue, RunValues, Session};
use crate::ir::{DType, Tensor};

/// Errors up to this many times what rounding of the inputs does are put down to rounding: a network rounds in every layer.
const MARGIN: f64 = 16.0;

/// Ways in which inputs are nudged.
const NUDGES: u64 = 3;

/// Which of the `differing` outputs are too sensitive on this sample for their difference to mean anything.
pub(super) fn sensitive(
    reference: &dyn Session,
    sample: &RunValues,
    expected: &RunValues,
    differing: &[(String, Comparison)],
    tolerances: &Tolerances,
) -> Vec<String> {
    let mut found = Vec::new();
    for nudge in 0..NUDGES {
        let Some(inputs) = nudged(sample, nudge) else {
            break;
        };
        let Ok(moved) = reference.run(&inputs) else {
            continue;
        };
        for (name, comparison) in differing {
            let (Some(a), Some(b)) = (expected.get(name), moved.get(name)) else {
                continue;
            };
            let noise = compare(a, b, tolerances);
            let explained = if comparison.reason().is_some() {
                noise.reason().is_some()
            } else {
                noise.reason().is_some() || comparison.max_abs() <= MARGIN * noise.max_abs()
            };
            if noise.verdict() == Verdict::Different && explained && !found.contains(name) {
                found.push(name.clone());
            }
        }
    }
    found
}

/// The sample with each float moved by about one unit in the last place of its tensor's largest element, up or down;
/// `None` without floats.
fn nudged(sample: &RunValues, nudge: u64) -> Option<RunValues> {
    let mut moved = false;
    let mut inputs = sample.clone();
    for (index, value) in inputs.values_mut().enumerate() {
        let RunValue::Tensor(tensor) = value else { continue };
        if let Some(other) = nudge_tensor(tensor, nudge.wrapping_mul(0x9e37_79b9).wrapping_add(index as u64))
        {
            *value = RunValue::Tensor(other);
            moved = true;
        }
    }
    moved.then_some(inputs)
}

fn nudge_tensor(tensor: &Tensor, seed: u64) -> Option<Tensor> {
    let unit = match tensor.dtype() {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => return None,
    };
    let values = tensor.to_f64().ok()?;
    // Whole numbers are indices, lengths or flags in float clothes.
    if values.iter().any(|v| *v != 0.0) && values.iter().all(|v| v.fract() == 0.0) {
        return None;
    }
    let largest = values.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
    let step = unit * if largest > 0.0 { largest } else { 1.0 };
    let mut state = seed;
    let moved: Vec<f64> = values
        .iter()
        .map(|value| {
            if next(&mut state) >> 63 == 0 {
                value + step
            } else {
                value - step
            }
        })
        .collect();
    Tensor::from_f64(tensor.dtype(), tensor.dims(), &moved).ok()
}

/// The next number of the generator SplitMix64 (Steele, Lea and Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineError;

    /// y = round(steepness * x).
    struct Steep(f32);

    impl Session for Steep {
        fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
            let RunValue::Tensor(x) = &inputs["x"] else {
                panic!("no x")
            };
            let y: Vec<f32> = x.to_f32().unwrap().iter().map(|v| (v * self.0).round()).collect();
            Ok(named("y", x.dims(), &y))
        }
    }

    fn named(name: &str, dims: &[u64], values: &[f32]) -> RunValues {
        RunValues::from([(
            name.to_owned(),
            RunValue::Tensor(Tensor::from_slice(dims, values).unwrap()),
        )])
    }

    fn judge(steepness: f32, x: &[f32], wrong_by: f32) -> Vec<String> {
        let reference = Steep(steepness);
        let sample = named("x", &[x.len() as u64], x);
        let expected = reference.run(&sample).unwrap();
        let RunValue::Tensor(y) = &expected["y"] else {
            panic!("no y")
        };
        let off: Vec<f32> = y.to_f32().unwrap().iter().map(|v| v + wrong_by).collect();
        let tolerances = Tolerances::default();
        let comparison = compare(
            &expected["y"],
            &named("y", &[x.len() as u64], &off)["y"],
            &tolerances,
        );
        assert_eq!(comparison.verdict(), Verdict::Different);
        sensitive(
            &reference,
            &sample,
            &expected,
            &[("y".to_owned(), comparison)],
            &tolerances,
        )
    }

    #[test]
    fn only_differences_that_rounding_of_the_inputs_explains_are_left_out() {
        // Elements on the edge between 0 and 1: one unit in the last place moves them by a whole step.
        let edge = [0.5f32; 8];
        assert_eq!(judge(1.0, &edge, 1.0), ["y"]);
        assert!(judge(1.0, &edge, 100.0).is_empty());
        assert!(judge(1.0, &[0.1, 0.2, 1.3], 1.0).is_empty());
    }
}
