//! If, Loop, Scan and SequenceMap: which types go into a body and what its outputs become. The driver runs the bodies.

use super::super::bodies::{hide_inputs, join};
use super::super::call::{Call, Facts, axis};
use crate::ir::{DType, Dim, Graph, NodeKind, Shape, ShapeContent, TensorType, ValueType};

/// Which operator with bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    If,
    Loop,
    /// Scan from opset 9 on.
    Scan,
    /// Scan of opset 8, whose values have a batch axis first.
    BatchScan,
    SequenceMap,
    Unknown,
}

/// Operators of ONNX's own domain that have bodies.
pub(super) const WITH_BODIES: [(&str, Kind); 4] = [
    ("If", Kind::If),
    ("Loop", Kind::Loop),
    ("Scan", Kind::Scan),
    ("SequenceMap", Kind::SequenceMap),
];

/// What goes into the bodies.
#[derive(Clone, Debug)]
pub(in super::super) struct BodyPlan {
    kind: Kind,
    /// Types of the body's inputs before the first iteration.
    pub(in super::super) seeds: Vec<ValueType>,
    /// Number of values that an iteration passes on to the next.
    states: usize,
}

/// A body that has been inferred.
pub(in super::super) struct Results<'a> {
    pub(in super::super) attribute: &'a str,
    pub(in super::super) body: &'a Graph,
}

impl BodyPlan {
    /// The body input and body output of a state.
    fn slots(&self, state: usize) -> (usize, usize) {
        if self.kind == Kind::Loop {
            (state + 2, state + 1)
        } else {
            (state, state)
        }
    }
}

/// What the bodies of this operator get.
pub(in super::super) fn plan(call: &Call<'_>) -> BodyPlan {
    let known = |input: usize| call.ty(input).cloned().unwrap_or(ValueType::Unknown);
    let count = call.inputs.len();
    let kind = WITH_BODIES
        .iter()
        .find(|(name, _)| call.operator.is(name))
        .map_or(Kind::Unknown, |(_, kind)| *kind);
    match kind {
        Kind::If => BodyPlan {
            kind,
            seeds: Vec::new(),
            states: 0,
        },
        Kind::Loop => {
            let mut seeds = vec![
                ValueType::tensor(DType::I64, Some(Shape::new())),
                ValueType::tensor(DType::Bool, Some(Shape::new())),
            ];
            seeds.extend((2..count).map(known));
            BodyPlan {
                kind,
                seeds,
                states: count.saturating_sub(2),
            }
        }
        Kind::Scan | Kind::BatchScan => {
            let scans = usize::try_from(call.int_or("num_scan_inputs", 0)).unwrap_or(0);
            let batched = call.version < 9;
            let first = usize::from(batched);
            let states = count.saturating_sub(first).saturating_sub(scans);
            let axes = call.ints("scan_input_axes");
            let seeds = (first..count)
                .map(|input| {
                    let at = input - first;
                    match (batched, at < states) {
                        (false, true) => known(input),
                        (false, false) => without_axis(
                            &known(input),
                            axes.and_then(|axes| axes.get(at - states)).copied().unwrap_or(0),
                        ),
                        (true, true) => without_axis(&known(input), 0),
                        (true, false) => without_axis(&without_axis(&known(input), 0), 0),
                    }
                })
                .collect();
            BodyPlan {
                kind: if batched { Kind::BatchScan } else { Kind::Scan },
                seeds,
                states,
            }
        }
        Kind::SequenceMap => {
            let seeds = (0..count)
                .map(|input| match known(input) {
                    ValueType::Sequence(element) => *element,
                    other => other,
                })
                .collect();
            BodyPlan {
                kind,
                seeds,
                states: 0,
            }
        }
        Kind::Unknown => BodyPlan {
            kind,
            seeds: Vec::new(),
            states: 0,
        },
    }
}

/// The types that hold in every iteration seen so far, if they say less than `seeds`.
pub(in super::super) fn widened(
    plan: &BodyPlan,
    seeds: &[ValueType],
    body: &Graph,
) -> Option<Vec<ValueType>> {
    let outputs = body.output_values();
    let mut next = seeds.to_vec();
    for state in 0..plan.states {
        let (input, output) = plan.slots(state);
        let result = outputs
            .get(output)
            .copied()
            .flatten()
            .map_or(&ValueType::Unknown, |value| body.ty(value));
        if let Some(seed) = next.get_mut(input) {
            *seed = join(seed, result);
        }
    }
    (next != seeds).then_some(next)
}

/// The widest types for the state: only the kind and the element type stay.
pub(in super::super) fn unknown_state(plan: &BodyPlan, seeds: &[ValueType]) -> Vec<ValueType> {
    let mut next = seeds.to_vec();
    for state in 0..plan.states {
        if let Some(seed) = next.get_mut(plan.slots(state).0) {
            *seed = match &*seed {
                ValueType::Tensor(tensor) => ValueType::tensor(tensor.dtype, None),
                _ => ValueType::Unknown,
            };
        }
    }
    next
}

/// Nothing is known of the state: whatever a body makes of it, that holds.
pub(in super::super) fn no_state(plan: &BodyPlan) -> Vec<ValueType> {
    let mut seeds = plan.seeds.clone();
    for state in 0..plan.states {
        if let Some(seed) = seeds.get_mut(plan.slots(state).0) {
            *seed = ValueType::Unknown;
        }
    }
    seeds
}

/// The outputs of the operator, from those of its bodies.
pub(in super::super) fn outputs(call: &Call<'_>, plan: &BodyPlan, bodies: &[Results<'_>], facts: &mut Facts) {
    match plan.kind {
        Kind::If => branches(call, bodies, facts),
        Kind::Loop | Kind::Scan | Kind::BatchScan => {
            if let [only] = bodies {
                iterations(call, plan, only.body, facts);
            }
        }
        Kind::SequenceMap => {
            if let [only] = bodies {
                for (output, value) in only.body.output_values().into_iter().enumerate() {
                    let element = value.map_or(ValueType::Unknown, |value| {
                        hide_inputs(only.body.ty(value), only.body)
                    });
                    facts.whole(output, ValueType::Sequence(Box::new(element)));
                }
            }
        }
        Kind::Unknown => *facts = super::infer_operator(call),
    }
}

fn branches(call: &Call<'_>, bodies: &[Results<'_>], facts: &mut Facts) {
    let condition = call.single(0).and_then(|condition| condition.fixed());
    let taken = condition.map(|condition| {
        if condition != 0 {
            "then_branch"
        } else {
            "else_branch"
        }
    });
    let mut joined: Option<Vec<(ValueType, Option<ShapeContent>)>> = None;
    for result in bodies
        .iter()
        .filter(|result| taken.is_none_or(|taken| taken == result.attribute))
    {
        let values = result.body.output_values();
        let known = values
            .iter()
            .map(|value| match value.and_then(|value| result.body.value(value)) {
                Some(value) => (value.ty.clone(), value.content.as_deref().cloned()),
                None => (ValueType::Unknown, None),
            });
        joined = Some(match joined {
            None => known.collect(),
            Some(before) => before
                .into_iter()
                .zip(known)
                .map(|((a, x), (b, y))| (join(&a, &b), x.filter(|x| Some(x) == y.as_ref())))
                .collect(),
        });
    }
    for (output, (ty, content)) in joined.into_iter().flatten().enumerate() {
        facts.whole(output, ty);
        if let Some(content) = content {
            facts.content(output, content);
        }
    }
}

fn iterations(call: &Call<'_>, plan: &BodyPlan, body: &Graph, facts: &mut Facts) {
    let values = body.output_values();
    let result = |output: usize| {
        values
            .get(output)
            .copied()
            .flatten()
            .map_or(ValueType::Unknown, |value| hide_inputs(body.ty(value), body))
    };
    for state in 0..plan.states.min(call.outputs) {
        let (input, output) = plan.slots(state);
        let initial = plan.seeds.get(input).unwrap_or(&ValueType::Unknown);
        let joined = join(initial, &result(output));
        facts.whole(
            state,
            if plan.kind == Kind::BatchScan {
                with_axis(&joined, 0, call.dim(state + 1, 0))
            } else {
                joined
            },
        );
    }
    let first_scan = plan.slots(plan.states).1;
    let axes = call.ints("scan_output_axes");
    for output in plan.states..call.outputs {
        let element = result(first_scan + output - plan.states);
        let ty = match plan.kind {
            Kind::Loop => with_axis(&element, 0, trip_count(call, body)),
            Kind::BatchScan => {
                let scan = call.inputs.len().saturating_sub(1);
                with_axis(&with_axis(&element, 0, call.dim(scan, 1)), 0, call.dim(scan, 0))
            }
            _ => {
                let at = axes
                    .and_then(|axes| axes.get(output - plan.states))
                    .copied()
                    .unwrap_or(0);
                with_axis(&element, at, scan_length(call, plan))
            }
        };
        facts.whole(output, ty);
    }
}

/// Iterations of a Scan: the length of its scanned inputs.
fn scan_length(call: &Call<'_>, plan: &BodyPlan) -> Dim {
    let axes = call.ints("scan_input_axes");
    (plan.states..call.inputs.len())
        .filter_map(|input| {
            let at = axes
                .and_then(|axes| axes.get(input - plan.states))
                .copied()
                .unwrap_or(0);
            Some(call.dim(input, axis(at, call.rank(input)?)?))
        })
        .reduce(|known, other| {
            if known.fixed().is_some() || !other.is_known() {
                known
            } else {
                other
            }
        })
        .unwrap_or(Dim::Unknown)
}

/// Iterations of a Loop, when its condition never ends it.
fn trip_count(call: &Call<'_>, body: &Graph) -> Dim {
    let starts = !call.has(1)
        || call
            .single(1)
            .and_then(|cond| cond.fixed())
            .is_some_and(|cond| cond != 0);
    let Some(Some(mut condition)) = body.output_values().first().copied() else {
        return Dim::Unknown;
    };
    // No chain is longer than the body; a cycle ends the walk at an Identity, which says nothing.
    for _ in 0..body.operator_count() {
        match body.operator(condition.node) {
            Some(operator) if operator.is("Identity") => match body.input(condition.node, 0) {
                Some(source) => condition = source,
                None => return Dim::Unknown,
            },
            _ => break,
        }
    }
    let always = match body.get(condition.node).map(|node| &node.kind) {
        Some(NodeKind::Input(_)) => body.inputs().get(1) == Some(&condition.node),
        Some(NodeKind::Constant(_) | NodeKind::Capture(_)) => body
            .constant(condition)
            .and_then(|tensor| tensor.single_i64())
            .is_some_and(|value| value != 0),
        _ => false,
    };
    if !(starts && always) {
        return Dim::Unknown;
    }
    call.single(0)
        .map_or(Dim::Unknown, |count| count.max(&Dim::Fixed(0)))
}

fn without_axis(ty: &ValueType, at: i64) -> ValueType {
    let ValueType::Tensor(TensorType { dtype, shape }) = ty else {
        return ValueType::Unknown;
    };
    let shape = shape.as_ref().and_then(|shape| {
        let mut shape = shape.clone();
        shape.remove(axis(at, shape.len())?);
        Some(shape)
    });
    ValueType::tensor(*dtype, shape)
}

fn with_axis(ty: &ValueType, at: i64, dim: Dim) -> ValueType {
    let ValueType::Tensor(TensorType { dtype, shape }) = ty else {
        return ValueType::Unknown;
    };
    let shape = shape.as_ref().and_then(|shape| {
        let mut shape = shape.clone();
        shape.insert(axis(at, shape.len() + 1)?, dim);
        Some(shape)
    });
    ValueType::tensor(*dtype, shape)
}
