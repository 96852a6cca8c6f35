//! How far rounding of the inputs alone moves the outputs of the reference: what it explains is no error of a rewrite that rounds
//! differently.

use super::figures::Comparison;
use super::tensors::compare;
use super::verdict::{Tolerances, Verdict};
use crate::engine::{RunValue, RunValues, Session};
use crate::ir::{DType, Graph, GraphPath, Model, NodeId, NodeKind, Operator, Tensor, Use, Value, ValueId};

/// Errors up to this many times what rounding of the inputs does are put down to rounding: a network rounds in every layer.
pub(super) const MARGIN: f64 = 16.0;

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

/// Runs of the reference on inputs moved by one unit in the last place, one after the other; nothing where no input is a float.
pub fn nudges<'r>(
    reference: &'r dyn Session,
    sample: &'r RunValues,
) -> impl Iterator<Item = RunValues> + use<'r> {
    (0..NUDGES).filter_map(move |nudge| reference.run(&nudged(sample, nudge, 1.0)?).ok())
}

/// A value that is moved as rounding moves it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The graph that the value is in.
    pub path: GraphPath,
    /// The value.
    pub value: ValueId,
    /// Whether engines compute it to an absolute error, not to a share of the result.
    pub absolute: bool,
}

/// How values on the way are moved: steps of one direction add up, those of two do not.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// Each up or down, as drawn.
    Mixed,
    /// The other way round.
    Opposite,
    /// All up.
    Up,
    /// All down.
    Down,
}

impl Way {
    /// The way that says most first.
    pub const ALL: [Self; 4] = [Self::Mixed, Self::Opposite, Self::Up, Self::Down];
}

/// A copy of a model in which each of these values is scaled by one unit in the last place, up or down: as they would be if what
/// computes them rounded in other ways. Equal elements stay equal.
pub fn rounded_elsewhere(model: &Model, places: &[Place], way: Way) -> Option<Model> {
    let mut copy = model.clone();
    let mut state = 0;
    let mut changed = false;
    for place in places {
        let drawn = if next(&mut state) >> 63 == 0 { 1.0 } else { -1.0 };
        let sign = match way {
            Way::Up => 1.0,
            Way::Down => -1.0,
            Way::Mixed => drawn,
            Way::Opposite => -drawn,
        };
        let moved = copy
            .graph_at_mut(&place.path)
            .and_then(|graph| move_value(graph, place, sign));
        changed |= moved.is_some();
    }
    changed.then_some(copy)
}

/// Lets the readers of a value read one that is moved; `None` where that cannot be.
fn move_value(graph: &mut Graph, place: &Place, sign: f64) -> Option<()> {
    let ty = graph.ty(place.value).clone();
    let dtype = ty.dtype()?;
    let step = sign * unit(dtype)?;
    let mut steps = vec![("Mul", 1.0 + step)];
    if place.absolute {
        steps.push(("Add", sign * absolute(dtype)));
    }
    let mut editor = graph.edit("rounding");
    let mut made: Vec<NodeId> = Vec::new();
    for (operator, operand) in steps {
        let last = made.last().map_or(place.value, |id| ValueId::new(*id, 0));
        let operand = editor.add_constant("", Tensor::from_f64(dtype, &[], &[operand]).ok()?);
        let outputs = vec![Value::typed("", ty.clone())];
        let operator = Operator::new(operator);
        made.push(
            editor
                .add_operator(place.value.node, operator, &[Some(last), Some(operand)], outputs)
                .ok()?,
        );
    }
    let last = ValueId::new(*made.last()?, 0);
    let others = |reader: Use| !made.contains(&reader.node);
    editor.replace_where(place.value, last, others).ok()
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

/// The absolute error of functions whose results lie around 1; narrow types are computed in float.
fn absolute(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON / 2.0,
        _ => f64::from(f32::EPSILON) / 2.0,
    }
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
