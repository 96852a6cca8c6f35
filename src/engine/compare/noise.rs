//! How far rounding of the inputs alone moves the outputs of the reference: what it explains is no error of a rewrite that rounds
//! differently.

use super::figures::Comparison;
use super::tensors::compare;
use super::verdict::{Tolerances, Verdict};
use crate::engine::{RunValue, RunValues, Session};
use crate::ir::{DType, Model, NodeId, NodeKind, Operator, Tensor, Use, Value, ValueId};

/// Errors up to this many times what rounding of the inputs does are put down to rounding: a network rounds in every layer.
const MARGIN: f64 = 16.0;

/// Ways in which inputs are nudged by one unit in the last place.
const NUDGES: u64 = 3;
/// Ways in which they are nudged by [`MARGIN`] units, which also shows what stands just before a threshold.
const SHOVES: u64 = 2;

/// A run of the reference on inputs that rounding could have given.
pub struct Moved {
    factor: f64,
    outputs: RunValues,
}

impl Moved {
    /// A run of the reference in which something was moved by one unit in the last place.
    pub fn by_a_unit(outputs: RunValues) -> Self {
        Self {
            factor: MARGIN,
            outputs,
        }
    }
}

/// Runs the reference on inputs moved by rounding; nothing where no input is a float.
pub fn moved(reference: &dyn Session, sample: &RunValues) -> Vec<Moved> {
    let nudges = (0..NUDGES).map(|seed| (seed, 1.0, MARGIN));
    let shoves = (NUDGES..NUDGES + SHOVES).map(|seed| (seed, MARGIN, 1.0));
    nudges
        .chain(shoves)
        .filter_map(|(seed, units, factor)| {
            let outputs = reference.run(&nudged(sample, seed, units)?).ok()?;
            Some(Moved { factor, outputs })
        })
        .collect()
}

/// The same with weights in place of inputs: the runs of models that [`nudged_weights`] made.
pub fn moved_weights(sessions: &[Box<dyn Session>], sample: &RunValues) -> Vec<Moved> {
    sessions
        .iter()
        .filter_map(|session| session.run(sample).ok())
        .map(Moved::by_a_unit)
        .collect()
}

/// Takes for rounding what `moved` explains of an output's errors in single slices.
pub fn excuse(
    name: &str,
    expected: &RunValues,
    moved: &[Moved],
    comparison: &mut Comparison,
    tolerances: &Tolerances,
) {
    for run in moved {
        if let (Some(a), Some(b)) = (expected.get(name), run.outputs.get(name)) {
            comparison.excuse(&compare(a, b, tolerances), run.factor);
        }
    }
}

/// Compares one run of the reference and of the model, both on `sample`: each output that both have and that `wanted` names.
/// What rounding of the sample explains is no difference in a single slice of an output.
pub fn compare_runs(
    reference: &dyn Session,
    sample: &RunValues,
    (expected, found): (&RunValues, &RunValues),
    wanted: &dyn Fn(&str) -> bool,
    tolerances: &Tolerances,
) -> Vec<(String, Comparison)> {
    let mut compared: Vec<(String, Comparison)> = expected
        .iter()
        .filter(|(name, _)| wanted(name))
        .filter_map(|(name, value)| Some((name.clone(), compare(value, found.get(name)?, tolerances))))
        .collect();
    let local = |comparison: &Comparison| {
        comparison.verdict() == Verdict::Different && comparison.whole() != Verdict::Different
    };
    if compared.iter().any(|(_, comparison)| local(comparison)) {
        let moved = moved(reference, sample);
        for (name, comparison) in compared.iter_mut().filter(|(_, comparison)| local(comparison)) {
            excuse(name, expected, &moved, comparison, tolerances);
        }
    }
    compared
}

/// Which of the `differing` outputs are too sensitive on this sample for their difference to mean anything: rounding of its
/// inputs alone moves them further than the tolerance.
pub fn sensitive(
    reference: &dyn Session,
    sample: &RunValues,
    expected: &RunValues,
    differing: &[(String, Comparison)],
    tolerances: &Tolerances,
) -> Vec<String> {
    let mut found = Vec::new();
    for nudge in 0..NUDGES {
        let Some(inputs) = nudged(sample, nudge, 1.0) else {
            break;
        };
        if let Ok(moved) = reference.run(&inputs) {
            found.extend(explained(expected, &moved, differing, tolerances));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Which of the `differing` outputs move further than the tolerance, and about as far as they differ, between a run of the reference
/// and one that rounded in another way.
pub fn explained(
    expected: &RunValues,
    moved: &RunValues,
    differing: &[(String, Comparison)],
    tolerances: &Tolerances,
) -> Vec<String> {
    let explains = |(name, comparison): &&(String, Comparison)| {
        let (Some(a), Some(b)) = (expected.get(name), moved.get(name)) else {
            return false;
        };
        let noise = compare(a, b, tolerances);
        // One element on an edge says nothing of others that no tolerance lets move.
        let few = !comparison.is_exact() || comparison.differing as f64 <= MARGIN * noise.differing as f64;
        let near = comparison.reason().is_none() && few && comparison.max_abs() <= MARGIN * noise.max_abs();
        noise.whole() == Verdict::Different && (noise.reason().is_some() || near)
    };
    let names = differing.iter().filter(explains).map(|(name, _)| name.clone());
    names.collect()
}

/// Where values on the way are moved: steps of one direction add up, those of two do not.
#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
    Mixed,
    Opposite,
}

/// Copies of a model in which each of these values is scaled by one unit in the last place, up or down: as they would be if what
/// computes them rounded in other ways. Equal elements stay equal.
pub fn rounded_elsewhere(model: &Model, values: &[ValueId]) -> Vec<Model> {
    let copies = [Way::Up, Way::Down, Way::Mixed, Way::Opposite]
        .into_iter()
        .filter_map(|way| {
            let mut copy = model.clone();
            let mut state = 0;
            let mut changed = false;
            for value in values {
                let ty = copy.graph.ty(*value).clone();
                let Some((dtype, unit)) = ty.dtype().and_then(|dtype| Some((dtype, unit(dtype)?))) else {
                    continue;
                };
                let drawn = if next(&mut state) >> 63 == 0 { 1.0 } else { -1.0 };
                let sign = match way {
                    Way::Up => 1.0,
                    Way::Down => -1.0,
                    Way::Mixed => drawn,
                    Way::Opposite => -drawn,
                };
                let factor = Tensor::from_f64(dtype, &[], &[1.0 + sign * unit]).ok()?;
                let mut editor = copy.graph.edit("rounding");
                let factor = editor.add_constant("", factor);
                let operands = [Some(*value), Some(factor)];
                let scaled = vec![Value::typed("", ty)];
                let id = editor
                    .add_operator(value.node, Operator::new("Mul"), &operands, scaled)
                    .ok()?;
                let others = |reader: Use| reader.node != id;
                changed |= editor.replace_where(*value, ValueId::new(id, 0), others).is_ok();
            }
            changed.then_some(copy)
        });
    copies.collect()
}

/// Copies of a model whose float weights are moved by one unit in the last place each.
pub fn nudged_weights(model: &Model) -> Vec<Model> {
    let graph = &model.graph;
    let weights: Vec<(NodeId, Tensor)> = graph
        .node_ids()
        .filter_map(|id| match &graph.get(id)?.kind {
            NodeKind::Constant(constant) => Some((id, constant.tensor.clone()?)),
            _ => None,
        })
        .filter(|(_, tensor)| tensor.elements() > 1)
        .collect();
    let copies = (0..NUDGES).filter_map(|seed| {
        let mut copy = model.clone();
        let mut changed = false;
        for (at, (id, tensor)) in weights.iter().enumerate() {
            let seed = seed.wrapping_mul(0x9e37_79b9).wrapping_add(at as u64);
            if let Some(other) = nudge_tensor(tensor, seed, 1.0, true) {
                changed |= copy.graph.edit("nudge").set_constant(*id, other).is_ok();
            }
        }
        changed.then_some(copy)
    });
    copies.collect()
}

/// The sample with each float moved by `units` in the last place of its tensor's largest element, up or down; `None` without
/// floats.
fn nudged(sample: &RunValues, nudge: u64, units: f64) -> Option<RunValues> {
    let mut moved = false;
    let mut inputs = sample.clone();
    for (index, value) in inputs.values_mut().enumerate() {
        let RunValue::Tensor(tensor) = value else { continue };
        let seed = nudge.wrapping_mul(0x9e37_79b9).wrapping_add(index as u64);
        if let Some(other) = nudge_tensor(tensor, seed, units, false) {
            *value = RunValue::Tensor(other);
            moved = true;
        }
    }
    moved.then_some(inputs)
}

/// Moves each element by `units` in the last place: of the element itself where `relative`, else of the largest one.
fn nudge_tensor(tensor: &Tensor, seed: u64, units: f64, relative: bool) -> Option<Tensor> {
    let unit = units * unit(tensor.dtype())?;
    let values = tensor.to_f64().ok()?;
    // Whole numbers are indices, lengths or flags in float clothes.
    if values.iter().any(|v| *v != 0.0) && values.iter().all(|v| v.fract() == 0.0) {
        return None;
    }
    let finite = values.iter().filter(|v| v.is_finite());
    let largest = finite.fold(0.0f64, |largest, v| largest.max(v.abs()));
    let step = unit * if largest > 0.0 { largest } else { 1.0 };
    let mut state = seed;
    let moved: Vec<f64> = values
        .iter()
        .map(|value| {
            let step = if relative { unit * value.abs() } else { step };
            if next(&mut state) >> 63 == 0 {
                value + step
            } else {
                value - step
            }
        })
        .collect();
    Tensor::from_f64(tensor.dtype(), tensor.dims(), &moved).ok()
}

/// One unit in the last place of 1.
fn unit(dtype: DType) -> Option<f64> {
    Some(match dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => return None,
    })
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

    #[test]
    fn an_element_on_an_edge_explains_only_about_as_many() {
        let flags = |flipped: usize| {
            let values: Vec<i64> = (0..64).map(|at| i64::from(at < flipped)).collect();
            RunValues::from([("y".to_owned(), RunValue::Tensor(Tensor::vector_i64(&values)))])
        };
        let tolerances = Tolerances::default();
        let found = |differing: usize, on_edge: usize| {
            let comparison = compare(&flags(0)["y"], &flags(differing)["y"], &tolerances);
            explained(
                &flags(0),
                &flags(on_edge),
                &[("y".to_owned(), comparison)],
                &tolerances,
            )
        };
        assert_eq!(found(10, 1), ["y"]);
        assert!(found(40, 1).is_empty());
        assert!(found(1, 0).is_empty());
    }
}
