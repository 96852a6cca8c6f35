//! Operators that compute with numbers which float16 does not hold and on which a result hangs: an epsilon that keeps a division, a
//! root or a logarithm from zero, its reciprocal, the large numbers of masks, sums of integers.
//!
//! A forward pass follows such numbers from the constants they come from, through operators that only scale and move them, to where
//! they end; what lies on the way stays float. A sum with another number ends a small one, as it is lost in any type.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::constants::{LARGEST_HALF, known, leaves, vanishes};
use super::families::{Family, family};
use crate::ir::{DType, Graph, GraphPath, Model, NodeId, NodeKind, Operator, ValueId};

/// Operators that have to stay float, with the number that is the cause.
pub(super) type Found = HashMap<(GraphPath, NodeId), Arc<str>>;

/// What is known of a value's numbers.
#[derive(Clone, Debug, Default)]
struct Risk {
    /// Some may be so small that they become zero.
    small: bool,
    /// Some may be too large.
    large: bool,
    /// A number times one that may be too large: harmless as a rule, but not the difference of two.
    product: bool,
    /// All of them may be, as of an epsilon; weights have a few small numbers, too.
    whole: bool,
    /// It comes from constants alone.
    constant: bool,
    cause: Option<Arc<str>>,
}

impl Risk {
    fn any(&self) -> bool {
        self.small || self.large || self.product
    }

    fn add(&mut self, other: &Self) {
        self.small |= other.small;
        self.large |= other.large;
        self.product |= other.product;
        self.whole |= other.whole;
        if self.cause.is_none() {
            self.cause.clone_from(&other.cause);
        }
    }

    fn of_cause(cause: Option<Arc<str>>) -> Self {
        Self {
            cause,
            ..Self::default()
        }
    }
}

/// The operators of all graphs of the main graph that have to stay float in `dtype`.
pub(super) fn find(model: &Model, dtype: DType) -> Found {
    let mut search = Search {
        dtype,
        found: Found::new(),
    };
    if dtype == DType::F16 {
        search.graph(&model.graph, &GraphPath::MAIN, &[], &Risk::default());
    }
    search.found
}

struct Search {
    dtype: DType,
    found: Found,
}

/// One operator, as the search sees it.
struct Step<'g> {
    graph: &'g Graph,
    operator: &'g Operator,
    id: NodeId,
    family: Family,
    /// The float operands by input slot.
    operands: Vec<(usize, ValueId, Risk)>,
    /// Whether a result reaches an operator that must not get zeros.
    sensitive: bool,
}

impl Search {
    /// Goes over a graph; answers what its outputs carry.
    fn graph(&mut self, graph: &Graph, path: &GraphPath, captures: &[Risk], inputs: &Risk) -> Risk {
        let sensitive = sensitive_values(graph, *path != GraphPath::MAIN);
        let mut state: HashMap<ValueId, Risk> = HashMap::new();
        for id in graph.topological_order() {
            let Some(node) = graph.get(id) else { continue };
            match &node.kind {
                NodeKind::Capture(capture) => {
                    if let Some(risk) = captures.get(capture.index as usize) {
                        state.insert(ValueId::new(id, 0), risk.clone());
                    }
                }
                NodeKind::Input(_) if inputs.any() => {
                    state.insert(ValueId::new(id, 0), inputs.clone());
                }
                NodeKind::Operator(operator) => {
                    let outputs: Vec<ValueId> = (0..node.outputs().len())
                        .map(|output| ValueId::new(id, output))
                        .collect();
                    let risk = if operator.has_bodies() {
                        self.bodies(graph, path, id, operator, &state)
                    } else {
                        let mut step = Step {
                            graph,
                            operator,
                            id,
                            family: family(operator),
                            operands: self.operands(graph, id, &state),
                            sensitive: outputs.iter().any(|value| sensitive.contains(value)),
                        };
                        self.norms(&mut step);
                        self.operator(&step, path)
                    };
                    for value in outputs {
                        if graph.ty(value).dtype().is_none_or(DType::is_float)
                            && (risk.any() || risk.constant)
                        {
                            state.insert(value, risk.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        let mut leaving = Risk::default();
        for value in graph.output_values().into_iter().flatten() {
            leaving.add(&self.risk_of(graph, value, &state));
        }
        leaving
    }

    fn bodies(
        &mut self,
        graph: &Graph,
        path: &GraphPath,
        id: NodeId,
        operator: &Operator,
        state: &HashMap<ValueId, Risk>,
    ) -> Risk {
        let captures: Vec<Risk> = graph
            .captures_of(id)
            .into_iter()
            .map(|value| value.map_or_else(Risk::default, |value| self.risk_of(graph, value, state)))
            .collect();
        let mut inputs = Risk::default();
        for value in graph.inputs_of(id).into_iter().flatten() {
            inputs.add(&self.risk_of(graph, value, state));
        }
        let mut leaving = Risk::default();
        for (at, body) in operator.bodies() {
            leaving.add(&self.graph(body, &path.body(id, at), &captures, &inputs));
        }
        leaving
    }

    fn operands(
        &self,
        graph: &Graph,
        id: NodeId,
        state: &HashMap<ValueId, Risk>,
    ) -> Vec<(usize, ValueId, Risk)> {
        let inputs = graph.inputs_of(id).into_iter().enumerate();
        inputs
            .filter_map(|(slot, value)| Some((slot, value?)))
            .filter(|(_, value)| graph.ty(*value).dtype().is_none_or(DType::is_float))
            .map(|(slot, value)| (slot, value, self.risk_of(graph, value, state)))
            .collect()
    }

    fn risk_of(&self, graph: &Graph, value: ValueId, state: &HashMap<ValueId, Risk>) -> Risk {
        let Some(tensor) = known(graph, value).filter(|tensor| tensor.dtype().is_float()) else {
            return state.get(&value).cloned().unwrap_or_default();
        };
        let mut risk = Risk {
            constant: true,
            ..Risk::default()
        };
        let Ok(numbers) = tensor.to_f64() else {
            return risk;
        };
        let small = numbers.iter().find(|number| vanishes(**number, self.dtype));
        let large = numbers.iter().find(|number| leaves(**number, self.dtype));
        (risk.small, risk.large) = (small.is_some(), large.is_some());
        risk.whole = risk.small
            && numbers
                .iter()
                .all(|number| *number == 0.0 || vanishes(*number, self.dtype));
        if let Some(number) = small.or(large) {
            let name = graph.value(value).map(|value| value.name.to_string());
            risk.cause = Some(cause(*number as f32, &name.unwrap_or_default()));
        }
        risk
    }

    /// Judges an operator; answers what its results carry.
    fn operator(&mut self, step: &Step<'_>, path: &GraphPath) -> Risk {
        let attribute = self.attribute(step);
        let mut all = Risk::default();
        step.operands.iter().for_each(|(_, _, risk)| all.add(risk));
        if let Some(attribute) = &attribute {
            all.add(attribute);
        }
        if !all.any() {
            let constant =
                !step.operands.is_empty() && step.operands.iter().all(|(_, _, risk)| risk.constant);
            return Risk {
                constant,
                ..Risk::default()
            };
        }
        let (mut out, always) = transfer(step, &all, attribute.as_ref());
        if out.small && !step.sensitive && !out.constant {
            out.small = false;
        }
        let hangs = all.small
            && (out.constant && all.whole || step.sensitive && (out.small || out.large || out.product));
        if (always || hangs)
            && let Some(cause) = &all.cause
        {
            self.found.insert((path.clone(), step.id), cause.clone());
            if hangs && is_root(step, attribute.is_some()) {
                self.squares(step, path, cause);
            }
        }
        out
    }

    /// A constant that is added to a norm, or bounds it, counts as its square: so small are the squares that it stands beside.
    fn norms(&self, step: &mut Step<'_>) {
        let graph = step.graph;
        let norm = |value: ValueId| is_norm(graph, value);
        if !matches!(step.family, Family::Adds | Family::Bounds)
            || !step.operands.iter().any(|(_, value, _)| norm(*value))
        {
            return;
        }
        for (_, value, risk) in step.operands.iter_mut().filter(|(_, _, risk)| risk.constant) {
            let numbers = known(graph, *value).and_then(|tensor| tensor.to_f64().ok());
            let tiny = |number: &f64| vanishes(number * number, self.dtype);
            let Some(numbers) = numbers.filter(|numbers| numbers.iter().all(tiny)) else {
                continue;
            };
            (risk.small, risk.whole) = (true, true);
            if let (None, Some(number)) = (&risk.cause, numbers.first()) {
                let name = graph.value(*value).map(|value| value.name.to_string());
                risk.cause = Some(cause(*number as f32, &name.unwrap_or_default()));
            }
        }
    }

    /// What the attributes of an operator bring in.
    fn attribute(&self, step: &Step<'_>) -> Option<Risk> {
        let operator = step.operator;
        let small = |number: f32| vanishes(f64::from(number), self.dtype);
        match (step.family, &*operator.op_type) {
            (Family::Bounds, "Clip") => ["min", "max"].into_iter().find_map(|name| {
                let number = operator.float(name).filter(|number| small(*number))?;
                Some(Risk {
                    small: true,
                    whole: true,
                    constant: true,
                    ..Risk::of_cause(Some(cause(number, name)))
                })
            }),
            (Family::Fills, _) => {
                let number = operator.tensor("value")?.to_f64().ok()?.first().copied()?;
                let risk = Risk {
                    small: vanishes(number, self.dtype),
                    whole: vanishes(number, self.dtype),
                    large: leaves(number, self.dtype),
                    constant: true,
                    ..Risk::of_cause(Some(cause(number as f32, "value")))
                };
                risk.any().then_some(risk)
            }
            (Family::Moves, "Cast") => sums_of_integers(step).then(|| Risk {
                large: true,
                ..Risk::of_cause(Some("sums of integers".into()))
            }),
            (Family::Inverts, _) => inverse(step, 0, |number| 1.0 / number),
            (Family::Divides, _) => {
                let above = known(step.graph, step.graph.input(step.id, 0)?)?.to_f64().ok()?;
                let most = above.iter().fold(0.0, |most: f64, number| most.max(number.abs()));
                inverse(step, 1, |number| most / number)
            }
            (Family::Raises, _) => {
                let exponents = known(step.graph, step.graph.input(step.id, 1)?)?.to_f64().ok()?;
                let lowest = exponents.iter().copied().fold(0.0, f64::min);
                inverse(step, 0, |number| number.powf(lowest))
            }
            _ => None,
        }
    }

    /// The squares, sums and means behind the number that an epsilon is added to: small ones among them would vanish, too.
    fn squares(&mut self, step: &Step<'_>, path: &GraphPath, cause: &Arc<str>) {
        let graph = step.graph;
        let moving = step.operands.iter().filter(|(_, _, risk)| !risk.constant);
        let mut pending: Vec<ValueId> = moving.map(|(_, value, _)| *value).collect();
        let mut seen = HashSet::new();
        while let Some(value) = pending.pop() {
            if !seen.insert(value) || !squared(graph, value) {
                continue;
            }
            self.found
                .entry((path.clone(), value.node))
                .or_insert_with(|| cause.clone());
            let inputs = graph.inputs_of(value.node).into_iter().flatten();
            pending.extend(inputs.filter(|input| graph.constant(*input).is_none()));
        }
    }
}

/// The risk that the inverse of what only a small constant keeps from zero leaves the range of float16.
fn inverse(step: &Step<'_>, slot: usize, of: impl Fn(f64) -> f64) -> Option<Risk> {
    let (number, name) = added(step.graph, step.graph.input(step.id, slot)?)?;
    (of(number).abs() > LARGEST_HALF).then(|| Risk {
        large: true,
        ..Risk::of_cause(Some(
            format!("the inverse of {}", cause(number as f32, &name)).into(),
        ))
    })
}

/// The smallest positive constant that was added to what a value comes from, or that bounds it.
fn added(graph: &Graph, mut value: ValueId) -> Option<(f64, String)> {
    const STEPS: usize = 16;
    for _ in 0..STEPS {
        let operator = graph.operator(value.node)?;
        let family = family(operator);
        let inputs = graph.inputs_of(value.node);
        if matches!(family, Family::Adds | Family::Bounds) {
            let numbers = inputs.iter().flatten().filter_map(|input| {
                let numbers = known(graph, *input)?.to_f64().ok()?;
                let positive = numbers.into_iter().filter(|number| *number > 0.0);
                Some((
                    positive.min_by(f64::total_cmp)?,
                    graph.value(*input)?.name.to_string(),
                ))
            });
            if let Some(found) = numbers.min_by(|a, b| a.0.total_cmp(&b.0)) {
                return Some(found);
            }
        }
        if !matches!(family, Family::Moves | Family::Bounds) {
            return None;
        }
        value = inputs
            .into_iter()
            .flatten()
            .find(|input| known(graph, *input).is_none())?;
    }
    None
}

fn cause(number: f32, name: &str) -> Arc<str> {
    match name.is_empty() {
        true => format!("{number:e}").into(),
        false => format!("{number:e} ({name})").into(),
    }
}

/// Whether the operator brings a small constant together with a number that may be zero.
fn is_root(step: &Step<'_>, attribute: bool) -> bool {
    let constant = step
        .operands
        .iter()
        .any(|(_, _, risk)| risk.constant && risk.whole);
    matches!(step.family, Family::Adds | Family::Bounds | Family::Moves)
        && (constant || attribute)
        && step.operands.iter().any(|(_, _, risk)| !risk.constant)
}

/// Whether a value is the root of a sum of squares.
fn is_norm(graph: &Graph, value: ValueId) -> bool {
    let Some(operator) = graph.operator(value.node) else {
        return false;
    };
    match family(operator) {
        Family::Roots => true,
        Family::Reduces => operator.is("ReduceL2"),
        Family::Moves => graph
            .input(value.node, 0)
            .is_some_and(|source| is_norm(graph, source)),
        _ => false,
    }
}

/// Whether a value is a square, or a sum, mean or difference of squares.
fn squared(graph: &Graph, value: ValueId) -> bool {
    let Some(operator) = graph.operator(value.node) else {
        return false;
    };
    let inputs = graph.inputs_of(value.node);
    let operand = |slot: usize| inputs.get(slot).copied().flatten();
    match family(operator) {
        Family::Reduces | Family::Roots => true,
        Family::Moves => inputs.len() == 1 || operator.is("Reshape") || operator.is("Unsqueeze"),
        Family::Multiplies => operand(0) == operand(1),
        Family::Raises => true,
        Family::Adds => {
            let part = |slot| {
                operand(slot)
                    .and_then(|value: ValueId| graph.operator(value.node))
                    .is_some_and(|part| {
                        matches!(
                            family(part),
                            Family::Reduces | Family::Raises | Family::Multiplies
                        )
                    })
            };
            inputs.len() == 2 && part(0) && part(1)
        }
        _ => false,
    }
}

/// Whether a Cast makes floats of the sums that an integer product gives.
fn sums_of_integers(step: &Step<'_>) -> bool {
    let source = step.graph.input(step.id, 0);
    let source = source.and_then(|value| step.graph.operator(value.node));
    source.is_some_and(|operator| matches!(&*operator.op_type, "MatMulInteger" | "ConvInteger"))
}

/// What the results of an operator carry, and whether it stays float wherever they go.
fn transfer(step: &Step<'_>, all: &Risk, attribute: Option<&Risk>) -> (Risk, bool) {
    let none = || Risk::of_cause(all.cause.clone());
    let operand = |slot: usize| {
        step.operands
            .iter()
            .find(|(at, _, _)| *at == slot)
            .map(|(_, _, risk)| risk)
    };
    let others_constant = |slot: usize| {
        step.operands
            .iter()
            .all(|(at, _, risk)| *at == slot || risk.constant)
    };
    let heavy = all.large || all.product;
    let mut out = none();
    out.whole = all.whole;
    match step.family {
        Family::Moves | Family::Fills => {
            out.add(all);
            out.constant = step.operands.iter().all(|(_, _, risk)| risk.constant)
                && attribute.is_none_or(|attribute| attribute.constant);
            (out, heavy)
        }
        Family::Bounds => {
            // A bound makes no large numbers.
            let values = step.operands.iter().filter(|(_, _, risk)| !risk.constant);
            values.for_each(|(_, _, risk)| out.add(risk));
            out.small |= all.small && all.whole;
            let heavy = out.large || out.product;
            (out, heavy)
        }
        Family::Multiplies => {
            for (slot, _, risk) in &step.operands {
                out.small |= risk.small && (risk.whole || !risk.constant);
                let alone = others_constant(*slot);
                out.large |= risk.large && (alone || risk.constant);
                out.product |= risk.large && !alone && !risk.constant || risk.product && alone;
            }
            (out, heavy)
        }
        Family::Divides => {
            let (Some(above), Some(below)) = (operand(0), operand(1)) else {
                return (none(), heavy);
            };
            if attribute.is_some() {
                out.large = true;
                return (out, true);
            }
            if below.small {
                (out.large, out.product) = (above.constant, !above.constant);
                return (out, true);
            }
            (out.small, out.large) = (above.small, above.large);
            out.product = above.product && below.constant;
            (out, heavy)
        }
        Family::Roots => {
            (out.small, out.large) = (all.small, all.large);
            (out, true)
        }
        Family::Inverts => {
            out.large = all.small || attribute.is_some();
            (out, true)
        }
        Family::Raises => {
            let base = operand(0).cloned().unwrap_or_default();
            let exponent = step
                .graph
                .input(step.id, 1)
                .and_then(|value| known(step.graph, value));
            let exponents = exponent.and_then(|tensor| tensor.to_f64().ok());
            let rises = exponents.as_ref().is_none_or(|all| all.iter().any(|e| *e > 0.0));
            let falls = exponents.as_ref().is_none_or(|all| all.iter().any(|e| *e < 0.0));
            out.small = base.small && rises;
            out.large = attribute.is_some() || base.small && falls || base.large && rises;
            (out, attribute.is_some() || base.any())
        }
        Family::Logs => (out, true),
        Family::Adds => {
            let moving = step.operands.iter().any(|(_, _, risk)| !risk.constant);
            out.small = step
                .operands
                .iter()
                .any(|(_, _, risk)| risk.constant && risk.whole);
            out.large = all.large;
            out.constant = !moving;
            (out, heavy)
        }
        Family::Reduces => {
            (out.small, out.large) = (all.small, all.large);
            (out, heavy)
        }
        Family::Products | Family::Other => (out, all.large),
    }
}

/// Values on which a root, a logarithm, a power or a division by them hangs, through operators that scale and move.
fn sensitive_values(graph: &Graph, body: bool) -> HashSet<ValueId> {
    let mut found: HashSet<ValueId> = HashSet::new();
    if body {
        found.extend(graph.output_values().into_iter().flatten());
    }
    let mut order = graph.topological_order();
    order.reverse();
    for id in order {
        let Some(node) = graph.get(id) else { continue };
        let Some(operator) = node.operator() else { continue };
        let read = (0..node.outputs().len()).any(|output| found.contains(&ValueId::new(id, output)));
        let family = family(operator);
        for (slot, value) in graph.inputs_of(id).into_iter().enumerate() {
            let Some(value) = value else { continue };
            let guards = match family {
                Family::Roots | Family::Logs | Family::Inverts => true,
                Family::Divides => slot == 1,
                Family::Raises => slot == 0,
                _ => operator.has_bodies(),
            };
            let carries = matches!(
                family,
                Family::Moves | Family::Bounds | Family::Multiplies | Family::Divides | Family::Reduces
            );
            if guards || carries && read {
                found.insert(value);
            }
        }
        found.extend(graph.captures_of(id).into_iter().flatten());
    }
    found
}
