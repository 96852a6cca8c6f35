//! The pass `eliminate-common-subexpressions`.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ir::{
    Attribute, AttributeValue, EditError, Graph, Inputs, Model, NodeId, Operator, Slot, ValueId,
};
use crate::ops::Traits;
use crate::passes::scope::{self, Scope};
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety};

const NAME: &str = "eliminate-common-subexpressions";

/// Computes once what the model computes several times.
///
/// Two operators are the same when operator, attributes and inputs are; the operands of commutative operators may be swapped.
/// The readers of the later one then read the earlier one. Within one graph at a time, bodies and functions included; values
/// that a body captures twice are captured once.
///
/// Left alone: random operators, operators with bodies, calls of functions, operators of other domains (they may have state),
/// two graph outputs of different names, and whatever `keep` protects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EliminateCommonSubexpressions {}

impl Pass for EliminateCommonSubexpressions {
    fn about(&self) -> About {
        About::new(NAME, Safety::Exact).tidying()
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        scope::for_each_root(model, NAME, context, |graph, scope| {
            number_values(graph, scope, &mut report)
        })?;
        Ok(report)
    }
}

/// Numbers the values of a graph and its bodies: a value's number is the first value that equals it.
fn number_values(graph: &mut Graph, scope: &Scope<'_>, report: &mut PassReport) -> Result<(), PassError> {
    let mut first: HashMap<u64, Vec<NodeId>> = HashMap::new();
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        if operator.has_bodies() {
            share_captures(graph, scope, id, report)?;
            continue;
        }
        if operator.capture_count() > 0 || !scope.deterministic(graph, id, operator) {
            continue;
        }
        let inputs = operands(graph, id, operator);
        let candidates = first.entry(signature(operator, &inputs)).or_default();
        let same = candidates
            .iter()
            .copied()
            .find(|earlier| is_same(graph, *earlier, operator, &inputs));
        match same {
            Some(earlier) if merge(graph, scope, earlier, id)? => {
                let op_type = graph
                    .operator(earlier)
                    .map(|operator| operator.op_type.to_string())
                    .unwrap_or_default();
                report.add(&format!("repeated {op_type}"), 1);
            }
            Some(_) => {}
            None => candidates.push(id),
        }
    }
    Ok(())
}

/// What the operator reads, the operands of a commutative one in a fixed order.
fn operands(graph: &Graph, id: NodeId, operator: &Operator) -> Inputs {
    let mut inputs = graph.inputs_of(id);
    // Before opset 7 `axis` and `broadcast` said how the second operand fits the first.
    let swappable =
        operator.attributes().is_empty() && Traits::of(operator.domain(), &operator.op_type).commutative;
    if swappable && inputs.len() == 2 {
        inputs.sort();
    }
    inputs
}

fn signature(operator: &Operator, inputs: &Inputs) -> u64 {
    let mut hasher = DefaultHasher::new();
    operator.op_type.hash(&mut hasher);
    operator.domain().hash(&mut hasher);
    inputs.hash(&mut hasher);
    for attribute in in_order(operator) {
        attribute.name.hash(&mut hasher);
        match &attribute.value {
            AttributeValue::Int(value) => value.hash(&mut hasher),
            AttributeValue::Float(value) => value.to_bits().hash(&mut hasher),
            AttributeValue::Ints(values) => values.hash(&mut hasher),
            AttributeValue::String(text) => text.hash(&mut hasher),
            other => other.onnx_type().hash(&mut hasher),
        }
    }
    hasher.finish()
}

fn in_order(operator: &Operator) -> Vec<&Attribute> {
    let mut attributes: Vec<&Attribute> = operator.attributes().iter().collect();
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    attributes
}

fn is_same(graph: &Graph, earlier: NodeId, operator: &Operator, inputs: &Inputs) -> bool {
    let Some(other) = graph.operator(earlier) else {
        return false;
    };
    let (a, b) = (in_order(operator), in_order(other));
    operator.op_type == other.op_type
        && operator.domain() == other.domain()
        && operands(graph, earlier, other) == *inputs
        && a.len() == b.len()
        && a.iter()
            .zip(&b)
            .all(|(a, b)| a.name == b.name && a.value.same_as(&b.value))
}

/// Lets the readers of `later` read `earlier` and removes `later`; `false` when that cannot be.
fn merge(graph: &mut Graph, scope: &Scope<'_>, earlier: NodeId, later: NodeId) -> Result<bool, PassError> {
    if scope.protected(graph, later) {
        return Ok(false);
    }
    let (Some(first), Some(second)) = (graph.get(earlier), graph.get(later)) else {
        return Ok(false);
    };
    // The number of outputs may be part of the operator's meaning (BatchNormalization before opset 14).
    if first.outputs().len() != second.outputs().len() {
        return Ok(false);
    }
    let pairs: Vec<(ValueId, ValueId)> = (0..second.outputs().len())
        .map(|output| (ValueId::new(later, output), ValueId::new(earlier, output)))
        .filter(|(old, _)| graph.use_count(*old) > 0)
        .collect();
    for (old, new) in &pairs {
        let named =
            graph.is_graph_output(*old) && (graph.is_graph_output(*new) || scope.protected(graph, earlier));
        let left_out = graph.value(*new).is_none_or(|value| value.omitted);
        if named || left_out || output_names(graph, *old) > 1 || graph.ty(*old).contradicts(graph.ty(*new)) {
            return Ok(false);
        }
    }
    let mut editor = graph.edit(NAME);
    for (old, new) in pairs {
        editor.replace(old, new).map_err(|error| scope.defect(error))?;
    }
    editor.remove(later).map_err(|error| scope.defect(error))?;
    Ok(true)
}

/// How many graph outputs of different names a value is.
fn output_names(graph: &Graph, value: ValueId) -> usize {
    if !graph.is_graph_output(value) {
        return 0;
    }
    let shown = graph
        .readers_of(value)
        .filter(|reader| reader.node == graph.sink());
    let names: HashSet<&str> = shown
        .filter_map(|reader| match reader.slot {
            Slot::Input(index) => graph.outputs().get(index as usize),
            Slot::Capture(_) => None,
        })
        .map(|output| &*output.name)
        .collect();
    names.len()
}

/// Lets bodies read a value that they capture through several slots through the first of them, then numbers their values.
fn share_captures(
    graph: &mut Graph,
    scope: &Scope<'_>,
    id: NodeId,
    report: &mut PassReport,
) -> Result<(), PassError> {
    if scope.protected(graph, id) {
        return Ok(());
    }
    let captured = graph.captures_of(id);
    let bodies: Vec<_> = graph
        .operator(id)
        .into_iter()
        .flat_map(Operator::bodies)
        .map(|(at, _)| at)
        .collect();
    let mut shared = 0;
    for at in bodies {
        let Some(body) = graph.body_mut(id, at) else {
            continue;
        };
        let mut first: HashMap<ValueId, NodeId> = HashMap::new();
        let mut captures = scope::captures_in(body);
        captures.sort_by_key(|(node, slot)| (*slot, *node));
        for (node, slot) in captures {
            let Some(outer) = captured.get(slot as usize).copied().flatten() else {
                continue;
            };
            let earlier = *first.entry(outer).or_insert(node);
            if earlier == node || !body.is_used(node) {
                continue;
            }
            match body
                .edit(NAME)
                .replace(ValueId::new(node, 0), ValueId::new(earlier, 0))
            {
                Ok(()) => shared += 1,
                Err(EditError::OutputName { .. } | EditError::Type { .. }) => {}
                Err(error) => return Err(scope.defect(error)),
            }
        }
        number_values(body, scope, report)?;
    }
    if shared > 0 {
        graph
            .edit(NAME)
            .prune_captures(id)
            .map_err(|error| scope.defect(error))?;
        report.add("repeated capture", shared);
    }
    Ok(())
}
