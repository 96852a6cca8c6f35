//! What a difference on one sample means: nothing where rounding, of the inputs or on the way, moves the reference as far, and nothing
//! among large numbers where the reference overflows on the way.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::Pair;
use super::session;
use super::tally::Trial;
use crate::analysis::infer;
use crate::engine::compare::{Comparison, Doubtful, Origins, Place, Verdict, Way, nudges, rounded_elsewhere};
use crate::engine::{EngineError, RunValue, RunValues, Session};
use crate::ir::{DType, Graph, GraphPath, Model, NodeId, NodeKind, Operator, ValueId, opset_version};
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
const POLES: &[&str] = &["Atanh", "Div", "Log", "Pow", "Reciprocal", "ReduceLogSum", "Tan"];

/// Operators that engines compute to an absolute error: all digits of a small result may be wrong.
const ABSOLUTE: &[&str] = &["Erf", "Sigmoid", "Softmax", "Softplus", "Tanh"];

/// What one run of the reference shows of a float value.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// Whether its finite elements are whole numbers of a type that has others between them.
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
        Some(Self::among(values.iter().copied(), tensor.dtype()))
    }

    fn among(values: impl Iterator<Item = f64> + Clone, dtype: DType) -> Self {
        // From here on no element has a fraction.
        let coarse = match dtype {
            DType::F64 => 2f64.powi(52),
            DType::F32 => 2f64.powi(23),
            DType::BF16 => 2f64.powi(7),
            _ => 2f64.powi(10),
        };
        Self {
            whole: values
                .clone()
                .all(|v| !v.is_finite() || v.fract() == 0.0 && v.abs() < coarse),
            finite: values.clone().all(f64::is_finite),
            infinite: values.clone().any(f64::is_infinite),
        }
    }
}

pub(super) type Values = BTreeMap<ValueId, Seen>;

/// What explaining has found out so far.
#[derive(Default)]
pub(super) struct Explained {
    /// The reference with its types.
    inferred: Option<Model>,
    /// Outputs whose difference on a sample is not explained. That decides the verdict, so further samples are not looked at.
    decided: BTreeSet<String>,
}

impl Pair<'_> {
    /// Leaves out what rounding or an overflow explains: of the inputs, and where `way`, on the way to the outputs as well.
    pub(super) fn explain(
        &mut self,
        (reference, model): (&dyn Session, &dyn Session),
        samples: &[Trial],
        results: &mut [Sample],
        way: bool,
    ) {
        let mut state = std::mem::take(&mut self.explained);
        for (trial, result) in samples.iter().zip(results) {
            let Sample::Compared(compared, left_out, _) = result else {
                continue;
            };
            let doubtful = |(name, comparison): &(String, Comparison)| {
                comparison.whole() == Verdict::Different && !state.decided.contains(name)
            };
            let (differing, kept): (Vec<_>, Vec<_>) =
                std::mem::take(compared).into_iter().partition(doubtful);
            *compared = kept;
            if differing.is_empty() {
                continue;
            }
            let found = self.explanations(&mut state, (reference, model), trial, &differing, way);
            let (known, open): (Vec<_>, Vec<_>) =
                differing.into_iter().partition(|(name, _)| found.contains(name));
            left_out.extend(known.into_iter().map(|(name, _)| name));
            state.decided.extend(open.iter().map(|(name, _)| name.clone()));
            compared.extend(open);
            if self.clock.over() {
                break;
            }
        }
        self.explained = state;
    }

    /// The outputs among `differing` whose difference is explained.
    fn explanations(
        &self,
        state: &mut Explained,
        (reference, model): (&dyn Session, &dyn Session),
        trial: &Trial,
        differing: &[(String, Comparison)],
        way: bool,
    ) -> BTreeSet<String> {
        let inputs = &trial.inputs;
        let (Ok(expected), Ok(found)) = (reference.run(inputs), model.run(inputs)) else {
            return BTreeSet::new();
        };
        let mut doubtful = Doubtful::new((&expected, &found), differing, &self.options.tolerances);
        let graph = &self.reference.graph;
        let is_pole = |id: &NodeId| graph.operator(*id).is_some_and(pole);
        let poles: BTreeSet<NodeId> = graph.node_ids().filter(is_pole).collect();
        let next_to: BTreeSet<&str> = differing
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| rests_on(graph, name, &poles))
            .collect();
        let finite = trial.made_finite();
        // Infinite inputs are no overflow.
        let may_overflow = trial.is_wide() && finite.is_none();
        let mut overflowing: BTreeSet<String> = BTreeSet::new();
        let origins = |overflowing: &BTreeSet<String>, name: &str| Origins {
            overflow: may_overflow || overflowing.contains(name),
            pole: next_to.contains(name),
        };
        let settled = |doubtful: &Doubtful<'_>, overflowing: &BTreeSet<String>| -> BTreeSet<String> {
            let mut settled: BTreeSet<String> = doubtful
                .explained(|name| origins(overflowing, name))
                .into_iter()
                .collect();
            if may_overflow {
                settled.extend(overflowing.iter().cloned());
            }
            settled
        };
        let mut explained = settled(&doubtful, &overflowing);
        for moved in nudges(reference, inputs) {
            if explained.len() == differing.len() {
                return explained;
            }
            doubtful.add(&moved);
            explained = settled(&doubtful, &overflowing);
        }
        if explained.len() == differing.len() || !way {
            return explained;
        }
        let model = state.inferred.get_or_insert_with(|| {
            let mut model = self.reference.clone();
            infer(&mut model);
            model
        });
        let surveyed = finite.as_ref().unwrap_or(inputs);
        let Ok(seen) = self.survey(model, surveyed) else {
            return explained;
        };
        let sources = overflows(model, &seen, surveyed, trial.is_wide());
        let concerned = differing
            .iter()
            .filter(|(name, _)| rests_on(&model.graph, name, &sources));
        overflowing.extend(concerned.map(|(name, _)| name.clone()));
        if let Some(finite) = &finite
            && !overflowing.is_empty()
        {
            match reference.run(finite) {
                Ok(run) => doubtful.without_infinities(&run),
                Err(_) => overflowing.clear(),
            }
        }
        explained = settled(&doubtful, &overflowing);
        if explained.len() == differing.len() {
            return explained;
        }
        for moved in self.rounded_elsewhere(model, &seen, inputs) {
            doubtful.add(&moved);
            explained = settled(&doubtful, &overflowing);
            if explained.len() == differing.len() || doubtful.is_hopeless(|name| origins(&overflowing, name))
            {
                break;
            }
        }
        explained
    }

    /// Runs of the reference that round in other ways where a value of `seen` is rounded.
    pub(super) fn rounded_elsewhere<'s>(
        &'s self,
        model: &'s Model,
        seen: &Values,
        inputs: &'s RunValues,
    ) -> impl Iterator<Item = RunValues> + use<'s> {
        let graph = &model.graph;
        let whole = |value: &ValueId| known(graph, seen, inputs, *value).is_none_or(|seen| seen.whole);
        let places: Vec<Place> = seen
            .iter()
            .filter_map(|(value, seen)| {
                let place = place(graph, &GraphPath::MAIN, *value)?;
                // Whole numbers of whole ones are counts, indices or flags in float clothes.
                let operands = graph.inputs_of(value.node);
                let exact = seen.whole && operands.iter().flatten().all(whole);
                (!exact).then_some(place)
            })
            .collect();
        let scales = opset_version(&model.opset_imports, "").is_some_and(|version| version >= BROADCASTS);
        let shapes = session::shapes_of(inputs);
        let ways = Way::ALL.into_iter().filter(move |_| scales);
        ways.filter_map(move |way| {
            let copy = rounded_elsewhere(model, &places, way)?;
            let copy = session::prepare(&copy, self.engine, &shapes).ok()?;
            let session = copy.compile(self.engine, Vec::new(), self.options.optimise);
            session.ok()?.run(inputs).ok()
        })
    }

    /// Runs the reference once and looks at each of its values.
    pub(super) fn survey(&self, model: &Model, sample: &RunValues) -> Result<Values, EngineError> {
        let prepared = session::prepare(model, self.engine, &session::shapes_of(sample))?;
        let left: BTreeSet<&str> = named(&prepared.model.graph).map(|(name, _)| name).collect();
        let dtype = |value: ValueId| model.graph.ty(value).dtype();
        let floats = named(&model.graph).filter(|(name, value)| {
            dtype(*value).is_some_and(|dtype| dtype.is_float()) && left.contains(name)
        });
        let (plain, others): (Vec<_>, Vec<_>) =
            floats.partition(|(_, value)| dtype(*value) == Some(DType::F32));
        let mut seen = Values::new();
        for (part, is_plain) in plain
            .chunks(AT_ONCE)
            .map(|part| (part, true))
            .chain(others.chunks(AT_ONCE).map(|part| (part, false)))
        {
            let names: Vec<String> = part.iter().map(|(name, _)| (*name).to_owned()).collect();
            let session = prepared.compile(self.engine, names.clone(), false)?;
            if is_plain {
                session.observe(sample, &names, &mut |at, _, elements| {
                    if let Some((_, value)) = part.get(at) {
                        let numbers = elements.iter().map(|v| f64::from(*v));
                        seen.insert(*value, Seen::among(numbers, DType::F32));
                    }
                })?;
                continue;
            }
            let values = session.run(sample)?;
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

/// The place of a value that what computes it rounds.
fn place(graph: &Graph, path: &GraphPath, value: ValueId) -> Option<Place> {
    rounds(graph, value).then(|| Place {
        path: path.clone(),
        value,
        absolute: graph.operator(value.node).is_some_and(|operator| {
            operator.domain().is_empty() && ABSOLUTE.contains(&operator.op_type.as_str())
        }),
    })
}

/// What a run shows of a value that is computed, given or constant; `None` of one that is no float.
fn known(graph: &Graph, seen: &Values, sample: &RunValues, value: ValueId) -> Option<Seen> {
    if let Some(seen) = seen.get(&value) {
        return Some(*seen);
    }
    let given = graph
        .value(value)
        .and_then(|known| sample.get(known.name.as_str()));
    let constant = graph.constant(value).cloned().map(RunValue::Tensor);
    given.cloned().or(constant).as_ref().and_then(Seen::of)
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

fn pole(operator: &Operator) -> bool {
    operator.domain().is_empty() && POLES.contains(&operator.op_type.as_str())
}

/// The nodes whose float operands are finite and whose results are not: there the reference overflows. Only those in float16, whose
/// range ordinary numbers leave, unless `large` numbers went in.
fn overflows(model: &Model, seen: &Values, sample: &RunValues, large: bool) -> BTreeSet<NodeId> {
    let graph = &model.graph;
    let finite = |value: ValueId| known(graph, seen, sample, value).is_none_or(|seen| seen.finite);
    let narrow = |value: ValueId| graph.ty(value).dtype() == Some(DType::F16);
    seen.iter()
        .filter(|(value, seen)| {
            let can = graph.operator(value.node).is_some_and(|operator| !pole(operator));
            seen.infinite && can && (large || narrow(**value))
        })
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
