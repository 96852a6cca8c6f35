//! Which values become codes, and which scale they share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::profile::{Profile, Role};
use crate::ir::{DType, Graph, NodeId, NodeKind, ValueId};

/// What is done with one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Runs on integers.
    Integer,
    /// Disappears: the range of the codes implies it.
    Implied,
    /// Stays float, and why.
    Float(String),
}

/// The plan for one graph.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes in topological order with what becomes of them.
    pub(super) decisions: Vec<(NodeId, Decision)>,
    /// Activations that get a pair: the value, and the value whose range it takes.
    pub(super) activations: BTreeMap<ValueId, ValueId>,
    /// Clamps that are left out, each with the value that stands for its output.
    pub(super) clamps: Vec<NodeId>,
    /// Integer nodes that read weights: which slots are weight and bias.
    pub(super) products: Vec<NodeId>,
}

/// Plans `graph`. `excluded` nodes stay float.
pub(super) fn plan(
    graph: &Graph,
    profile: Profile,
    opset: i64,
    excluded: &dyn Fn(NodeId) -> Option<String>,
) -> Plan {
    let order: Vec<NodeId> = graph
        .topological_order()
        .into_iter()
        .filter(|id| graph.operator(*id).is_some())
        .collect();
    let mut roles: HashMap<NodeId, (Role, String)> = HashMap::with_capacity(order.len());
    for id in &order {
        let (role, why) = profile.role(graph, *id, opset);
        let entry = match excluded(*id) {
            Some(reason) => (Role::Float, reason),
            None if !reads_float(graph, *id) => (Role::Float, "it reads no float tensor".to_owned()),
            None => (role, why.to_owned()),
        };
        roles.insert(*id, entry);
    }
    let role = |id: NodeId| roles.get(&id).map_or(Role::Float, |entry| entry.0);

    // Codes flow forward from products: what only meets float values stays float.
    let mut integer: HashSet<NodeId> = HashSet::new();
    let mut coded: HashSet<ValueId> = HashSet::new();
    for id in &order {
        let takes_part = match role(*id) {
            Role::Anchor | Role::FloatOutAnchor => true,
            Role::Elementwise | Role::Moving | Role::Clamp => {
                activation_inputs(graph, *id).iter().any(|v| coded.contains(v))
            }
            Role::Float => false,
        };
        if takes_part {
            integer.insert(*id);
            coded.extend(outputs(graph, *id));
        }
    }
    // Backwards: what serves no product and whose result is read by float operators only is not worth a pair, unless it is a
    // product itself or moves codes from one.
    loop {
        let before = integer.len();
        for id in order.iter().rev() {
            if !integer.contains(id) || !matches!(role(*id), Role::Elementwise | Role::Moving | Role::Clamp) {
                continue;
            }
            let useful = outputs(graph, *id)
                .iter()
                .flat_map(|value| graph.uses(*value))
                .any(|reader| integer.contains(&reader.node));
            let from_product = role(*id) == Role::Clamp && clamp_source(graph, *id, &role).is_some();
            let joins = role(*id) == Role::Elementwise
                && activation_inputs(graph, *id)
                    .iter()
                    .all(|value| integer.contains(&value.node));
            if !(useful || from_product || joins) {
                integer.remove(id);
            }
        }
        if integer.len() == before {
            break;
        }
    }

    let mut plan = Plan::default();
    let mut implied: HashMap<NodeId, NodeId> = HashMap::new();
    for id in &order {
        if role(*id) == Role::Clamp && integer.contains(id) {
            match clamp_source(graph, *id, &role).filter(|source| integer.contains(source)) {
                Some(source) => {
                    implied.insert(*id, source);
                }
                None => {
                    integer.remove(id);
                }
            }
        }
    }
    let mut wanted: BTreeSet<ValueId> = BTreeSet::new();
    for id in &order {
        let decision = if implied.contains_key(id) {
            plan.clamps.push(*id);
            wanted.extend(outputs(graph, *id));
            Decision::Implied
        } else if integer.contains(id) {
            if matches!(role(*id), Role::Anchor | Role::FloatOutAnchor) {
                plan.products.push(*id);
            }
            wanted.extend(activation_inputs(graph, *id));
            let clamped = outputs(graph, *id)
                .iter()
                .flat_map(|v| graph.uses(*v))
                .any(|u| implied.get(&u.node) == Some(id));
            // The last product may answer in float; every other operator fuses only when its output is codes, too.
            let float_out = role(*id) == Role::FloatOutAnchor
                && !outputs(graph, *id)
                    .iter()
                    .flat_map(|v| graph.uses(*v))
                    .any(|u| integer.contains(&u.node));
            if !clamped && !float_out {
                wanted.extend(outputs(graph, *id));
            }
            Decision::Integer
        } else {
            Decision::Float(roles.get(id).map(|entry| entry.1.clone()).unwrap_or_default())
        };
        plan.decisions.push((*id, decision));
    }
    for value in wanted {
        plan.activations.insert(value, value);
    }
    share_scales(graph, &order, &integer, &role, &mut plan);
    plan
}

/// A moving operator's output takes the range of its input.
fn share_scales(
    graph: &Graph,
    order: &[NodeId],
    integer: &HashSet<NodeId>,
    role: &dyn Fn(NodeId) -> Role,
    plan: &mut Plan,
) {
    for id in order {
        if role(*id) != Role::Moving || !integer.contains(id) {
            continue;
        }
        let Some(source) = activation_inputs(graph, *id).first().copied() else {
            continue;
        };
        let Some(range) = plan.activations.get(&source).copied() else {
            continue;
        };
        for output in outputs(graph, *id) {
            if let Some(entry) = plan.activations.get_mut(&output) {
                *entry = range;
            }
        }
    }
}

/// The product or sum whose output only `clamp` reads; the clamp is then implied by the range of codes.
fn clamp_source(graph: &Graph, clamp: NodeId, role: &dyn Fn(NodeId) -> Role) -> Option<NodeId> {
    let input = graph.input(clamp, 0)?;
    let uses = graph.uses(input);
    let source = role(input.node);
    let only = uses.len() == 1 && !graph.is_graph_output(input);
    (only
        && matches!(source, Role::Anchor | Role::FloatOutAnchor | Role::Elementwise)
        && clamps_at_zero(graph, clamp))
    .then_some(input.node)
}

/// Relu, or a Clip with the constant lower bound 0: then the zero point is the lowest code and no code is below.
fn clamps_at_zero(graph: &Graph, clamp: NodeId) -> bool {
    let Some(operator) = graph.operator(clamp) else {
        return false;
    };
    if operator.is("Relu") {
        return true;
    }
    let bound = match graph.input(clamp, 1) {
        Some(value) => graph.constant(value).and_then(|tensor| tensor.single_f64()),
        None => operator.float("min").map(f64::from),
    };
    let upper_is_constant = graph
        .input(clamp, 2)
        .is_none_or(|value| graph.constant(value).is_some());
    bound == Some(0.0) && upper_is_constant
}

/// The float tensors that a node reads as activations: not weights, biases or parameters of its own.
pub(super) fn activation_inputs(graph: &Graph, id: NodeId) -> Vec<ValueId> {
    let Some(operator) = graph.operator(id) else {
        return Vec::new();
    };
    let inputs = graph.inputs_of(id);
    let slots: Vec<usize> = match &*operator.op_type {
        "Add" | "Mul" | "Concat" => (0..inputs.len()).collect(),
        _ => vec![0],
    };
    slots
        .into_iter()
        .filter_map(|slot| inputs.get(slot).copied().flatten())
        .filter(|v| is_float(graph, *v))
        .collect()
}

fn is_float(graph: &Graph, value: ValueId) -> bool {
    let constant = graph.constant(value).map(|tensor| tensor.dtype());
    constant.or(graph.ty(value).dtype()) == Some(DType::F32)
}

fn reads_float(graph: &Graph, id: NodeId) -> bool {
    graph.input(id, 0).is_some_and(|value| is_float(graph, value))
}

fn outputs(graph: &Graph, id: NodeId) -> Vec<ValueId> {
    let count = graph.get(id).map_or(0, |node| node.outputs().len());
    (0..count)
        .map(|output| ValueId::new(id, output))
        .filter(|v| graph.value(*v).is_some_and(|value| !value.omitted))
        .collect()
}

/// Whether a value is a constant of the graph.
pub(super) fn is_constant(graph: &Graph, value: ValueId) -> bool {
    matches!(
        graph.get(value.node).map(|node| &node.kind),
        Some(NodeKind::Constant(_))
    )
}
