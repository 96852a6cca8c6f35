//! What a difference on one sample means: nothing where rounding, of the inputs or on the way, moves the reference as far, and nothing
//! among large numbers where the reference overflows on the way.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::Pair;
use super::session;
use super::tally::Trial;
use crate::analysis::infer;
use crate::engine::compare::{Comparison, Tolerances, Verdict, explained, rounded_elsewhere, sensitive};
use crate::engine::{EngineError, RunValue, RunValues, Session};
use crate::ir::{Graph, Model, NodeId, NodeKind, Operator, ValueId, opset_version};
use crate::ops::picks_elements;

/// What running both models on a sample gives.
pub(super) enum Sample {
    /// Comparisons by output, outputs that were left out, and what both answered where somebody watches.
    Compared(
        Vec<(String, Comparison)>,
        Vec<String>,
        Option<(RunValues, RunValues)>,
    ),
    /// The reference does not run; whether the model does.
    Reference(bool),
    /// The reference ends the engine: whether the model does says nothing.
    Ended(EngineError),
    Model(EngineError),
}

/// Leaves out the differences that rounding of the inputs alone explains and, among large numbers, those where the reference alone is
/// infinite or undefined: it overflows on the way, and what the function is there it does not say.
pub(super) fn telling(
    reference: &dyn Session,
    sample: &RunValues,
    expected: &RunValues,
    compared: Vec<(String, Comparison)>,
    may_overflow: bool,
    tolerances: &Tolerances,
) -> (Vec<(String, Comparison)>, Vec<String>) {
    let (differing, mut kept): (Vec<_>, Vec<_>) = compared
        .into_iter()
        .partition(|(_, comparison)| comparison.whole() == Verdict::Different);
    if differing.is_empty() {
        return (kept, Vec::new());
    }
    let (overflowing, differing): (Vec<_>, Vec<_>) = differing
        .into_iter()
        .partition(|(_, comparison)| may_overflow && comparison.overflows_in_reference());
    let mut sensitive = sensitive(reference, sample, expected, &differing, tolerances);
    sensitive.extend(overflowing.into_iter().map(|(name, _)| name));
    kept.extend(
        differing
            .into_iter()
            .filter(|(name, _)| !sensitive.contains(name)),
    );
    (kept, sensitive)
}

/// Values that are asked for in one run; more would keep too many activations in memory.
const AT_ONCE: usize = 128;

/// The first opset in which a scalar scales any tensor.
const BROADCASTS: i64 = 7;

/// Operators whose results are no less exact than their operands, beside those that only pick elements.
const EXACT: &[&str] = &[
    "Ceil",
    "Clip",
    "Constant",
    "ConstantOfShape",
    "Dropout",
    "EyeLike",
    "Floor",
    "GlobalMaxPool",
    "Hardmax",
    "MaxPool",
    "OneHot",
    "ReduceMax",
    "ReduceMin",
    "ReverseSequence",
    "Round",
    "Sign",
    "ThresholdedRelu",
];

/// Operators that are infinite at a finite place of their own, where they do not overflow.
const POLES: &[&str] = &["Atanh", "Div", "Log", "Pow", "Reciprocal", "ReduceLogSum"];

/// What one run of the reference shows of a float value.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// Whether its finite elements are whole numbers: these are counts, indices or flags in float clothes.
    whole: bool,
    finite: bool,
    infinite: bool,
}

impl Seen {
    fn of(value: &RunValue) -> Option<Self> {
        let RunValue::Tensor(tensor) = value else {
            return None;
        };
        if !tensor.dtype().is_float() {
            return None;
        }
        let values = tensor.to_f64().ok()?;
        Some(Self {
            whole: values.iter().all(|v| !v.is_finite() || v.fract() == 0.0),
            finite: values.iter().all(|v| v.is_finite()),
            infinite: values.iter().any(|v| v.is_infinite()),
        })
    }
}

pub(super) type Values = BTreeMap<ValueId, Seen>;

impl Pair<'_> {
    /// Leaves out what rounding or an overflow on the way explains. A sample on which something stays different decides the verdict,
    /// so those after it are not looked at.
    pub(super) fn explain(&self, reference: &dyn Session, samples: &[Trial], results: &mut [Sample]) {
        let mut inferred = None;
        for (trial, result) in samples.iter().zip(results) {
            let Sample::Compared(compared, left_out, _) = result else {
                continue;
            };
            let (differing, kept): (Vec<_>, Vec<_>) = std::mem::take(compared)
                .into_iter()
                .partition(|(_, comparison)| comparison.whole() == Verdict::Different);
            *compared = kept;
            if differing.is_empty() {
                continue;
            }
            let model = inferred.get_or_insert_with(|| {
                let mut model = self.reference.clone();
                infer(&mut model);
                model
            });
            let found = self.explanations(model, reference, trial, &differing);
            let (known, open): (Vec<_>, Vec<_>) =
                differing.into_iter().partition(|(name, _)| found.contains(name));
            left_out.extend(known.into_iter().map(|(name, _)| name));
            let decided = !open.is_empty();
            compared.extend(open);
            if decided || self.clock.over() {
                return;
            }
        }
    }

    /// The outputs among `differing` whose difference is explained.
    fn explanations(
        &self,
        model: &Model,
        reference: &dyn Session,
        trial: &Trial,
        differing: &[(String, Comparison)],
    ) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let Ok(seen) = self.survey(model, &trial.inputs) else {
            return found;
        };
        if trial.may_overflow() {
            let origins = overflows(model, &seen, &trial.inputs);
            let concerned = differing
                .iter()
                .filter(|(name, _)| rests_on(&model.graph, name, &origins));
            found.extend(concerned.map(|(name, _)| name.clone()));
        }
        let open = |found: &BTreeSet<String>| differing.iter().any(|(name, _)| !found.contains(name));
        if !open(&found) {
            return found;
        }
        let Ok(expected) = reference.run(&trial.inputs) else {
            return found;
        };
        for moved in self.rounded_elsewhere(model, &seen, &trial.inputs) {
            found.extend(explained(&expected, &moved, differing, &self.options.tolerances));
            if !open(&found) {
                break;
            }
        }
        found
    }

    /// Runs of the reference that round in other ways where a value of `seen` is rounded.
    pub(super) fn rounded_elsewhere<'s>(
        &'s self,
        model: &Model,
        seen: &Values,
        inputs: &'s RunValues,
    ) -> impl Iterator<Item = RunValues> + use<'s> {
        let rounded: Vec<ValueId> = seen
            .iter()
            .filter(|(value, seen)| !seen.whole && rounds(&model.graph, **value))
            .map(|(value, _)| *value)
            .collect();
        let scales = opset_version(&model.opset_imports, "").is_some_and(|version| version >= BROADCASTS);
        let copies = if scales {
            rounded_elsewhere(model, &rounded)
        } else {
            Vec::new()
        };
        let shapes = session::shapes_of(inputs);
        copies.into_iter().filter_map(move |copy| {
            let copy = session::prepare(&copy, self.engine, &shapes).ok()?;
            let session = copy.compile(self.engine, Vec::new(), self.options.optimise);
            session.ok()?.run(inputs).ok()
        })
    }

    /// Runs the reference once and looks at each of its values.
    pub(super) fn survey(&self, model: &Model, sample: &RunValues) -> Result<Values, EngineError> {
        let prepared = session::prepare(model, self.engine, &session::shapes_of(sample))?;
        let left: BTreeSet<&str> = named(&prepared.model.graph).map(|(name, _)| name).collect();
        let wanted: Vec<(&str, ValueId)> = named(&model.graph)
            .filter(|(name, value)| {
                let float = model
                    .graph
                    .ty(*value)
                    .dtype()
                    .is_some_and(|dtype| dtype.is_float());
                float && left.contains(name)
            })
            .collect();
        let mut seen = Values::new();
        for part in wanted.chunks(AT_ONCE) {
            let exposed = part.iter().map(|(name, _)| (*name).to_owned()).collect();
            let values = prepared.compile(self.engine, exposed, false)?.run(sample)?;
            for (name, value) in part {
                if let Some(found) = values.get(*name).and_then(Seen::of) {
                    seen.insert(*value, found);
                }
            }
        }
        Ok(seen)
    }
}

/// Named values of operators.
fn named(graph: &Graph) -> impl Iterator<Item = (&str, ValueId)> {
    graph.node_ids().flat_map(move |id| {
        let node = graph
            .get(id)
            .filter(|node| matches!(node.kind, NodeKind::Operator(_)));
        let outputs = node.map_or(&[][..], |node| node.outputs());
        outputs
            .iter()
            .enumerate()
            .filter(|(_, value)| !value.omitted && !value.name.is_empty())
            .map(move |(output, value)| (value.name.as_str(), ValueId::new(id, output)))
    })
}

/// Whether what computes a value rounds it.
fn rounds(graph: &Graph, value: ValueId) -> bool {
    let Some(operator) = graph.operator(value.node) else {
        return false;
    };
    if !operator.domain().is_empty() {
        return true;
    }
    let name = operator.op_type.as_str();
    if name == "Cast" {
        let bits = |value: ValueId| {
            let dtype = graph.ty(value).dtype().filter(|dtype| dtype.is_float());
            dtype.map(|dtype| dtype.bits())
        };
        let from = graph.input(value.node, 0).and_then(bits);
        return matches!((from, bits(value)), (Some(from), Some(to)) if to < from);
    }
    !picks_elements(name) && !EXACT.contains(&name)
}

/// The nodes whose float operands are finite and whose results are not: there the reference overflows.
fn overflows(model: &Model, seen: &Values, sample: &RunValues) -> BTreeSet<NodeId> {
    let graph = &model.graph;
    let finite = |value: ValueId| match seen.get(&value) {
        Some(seen) => seen.finite,
        None => {
            let given = graph
                .value(value)
                .and_then(|known| sample.get(known.name.as_str()));
            let constant = graph.constant(value).cloned().map(RunValue::Tensor);
            let other = given.cloned().or(constant);
            other.as_ref().and_then(Seen::of).is_none_or(|seen| seen.finite)
        }
    };
    let pole =
        |operator: &Operator| operator.domain().is_empty() && POLES.contains(&operator.op_type.as_str());
    seen.iter()
        .filter(|(value, seen)| seen.infinite && graph.operator(value.node).is_some_and(|op| !pole(op)))
        .filter(|(value, _)| {
            let inputs = graph.inputs_of(value.node);
            let captures = graph.captures_of(value.node);
            inputs
                .iter()
                .chain(&captures)
                .flatten()
                .all(|input| finite(*input))
        })
        .map(|(value, _)| value.node)
        .collect()
}

/// Whether one of these nodes stands before an output.
fn rests_on(graph: &Graph, output: &str, nodes: &BTreeSet<NodeId>) -> bool {
    let at = graph.outputs().iter().position(|known| known.name == *output);
    let value = at.and_then(|at| graph.output_values().get(at).copied().flatten());
    let mut pending: Vec<NodeId> = value.iter().map(|value| value.node).collect();
    let mut known = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if nodes.contains(&id) {
            return true;
        }
        if known.insert(id) {
            let (inputs, captures) = (graph.inputs_of(id), graph.captures_of(id));
            pending.extend(inputs.iter().chain(&captures).flatten().map(|input| input.node));
        }
    }
    false
}
