//! Which values become codes, and which scale they share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::profile::{Pairs, Profile, Role};
use crate::ir::{DType, Graph, NodeId, NodeKind, ValueId};

/// What is done with one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Runs on integers, and how.
    Integer(&'static str),
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
    /// Activations that get a pair: the value, and the values whose joint range it takes.
    pub(super) activations: BTreeMap<ValueId, Vec<ValueId>>,
    /// Clamps that are left out, each with the value that stands for its output.
    pub(super) clamps: Vec<NodeId>,
    /// Integer nodes that read weights: which slots are weight and bias.
    pub(super) products: Vec<NodeId>,
    /// Values that would have had a pair which no integer operator makes use of.
    pub(super) useless: u64,
}

/// A graph with the role of each node.
struct Roles<'a> {
    graph: &'a Graph,
    order: Vec<NodeId>,
    roles: HashMap<NodeId, (Role, String)>,
    pairs: Pairs,
}

impl Roles<'_> {
    fn of(&self, id: NodeId) -> Role {
        self.roles.get(&id).map_or(Role::Float, |entry| entry.0)
    }

    fn is_product(&self, id: NodeId) -> bool {
        matches!(self.of(id), Role::Anchor | Role::FloatOutAnchor)
    }

    /// The float tensors that a node reads as activations.
    fn inputs(&self, id: NodeId) -> Vec<ValueId> {
        activation_inputs(self.graph, id, self.is_product(id))
    }

    /// The operand of a sum that stays after the other one's product has taken the sum in.
    fn residual(&self, id: NodeId) -> Option<ValueId> {
        let operands: Vec<ValueId> = self.inputs(id);
        let [a, b] = operands.as_slice() else { return None };
        if is_constant(self.graph, *a) || is_constant(self.graph, *b) {
            return None;
        }
        let fuses = |value: &ValueId| {
            self.is_product(value.node)
                && self.graph.use_count(*value) == 1
                && !self.graph.is_graph_output(*value)
        };
        match (fuses(a), fuses(b)) {
            (_, true) => Some(*a),
            (true, false) => Some(*b),
            (false, false) => None,
        }
    }

    /// Operators that run on integers.
    fn integer(&self) -> HashSet<NodeId> {
        let graph = self.graph;
        // Codes flow forward from products: what only meets float values stays float.
        let mut integer: HashSet<NodeId> = HashSet::new();
        let mut coded: HashSet<ValueId> = HashSet::new();
        for id in &self.order {
            let takes_part = match self.of(*id) {
                Role::Anchor | Role::FloatOutAnchor => true,
                Role::Float => false,
                _ if self.pairs == Pairs::Everywhere => true,
                Role::Residual => self.residual(*id).is_some(),
                Role::Elementwise | Role::Moving | Role::Clamp => {
                    self.inputs(*id).iter().any(|v| coded.contains(v))
                }
            };
            if takes_part {
                integer.insert(*id);
                coded.extend(outputs(graph, *id));
            }
        }
        // Backwards: what serves no product and whose result is read by float operators only is not worth a pair, unless it
        // takes codes from all sides.
        if self.pairs == Pairs::Everywhere {
            return integer;
        }
        loop {
            let before = integer.len();
            for id in self.order.iter().rev() {
                if !integer.contains(id)
                    || !matches!(self.of(*id), Role::Elementwise | Role::Moving | Role::Clamp)
                {
                    continue;
                }
                let useful = outputs(graph, *id)
                    .iter()
                    .flat_map(|value| graph.uses(*value))
                    .any(|reader| integer.contains(&reader.node));
                let from_product = self.of(*id) == Role::Clamp && self.clamp_source(*id).is_some();
                let joins = self.of(*id) == Role::Elementwise
                    && self.inputs(*id).iter().all(|value| integer.contains(&value.node));
                if !(useful || from_product || joins) {
                    integer.remove(id);
                }
            }
            if integer.len() == before {
                return integer;
            }
        }
    }

    /// The product or sum whose output only `clamp` reads; the clamp is then implied by the range of codes.
    fn clamp_source(&self, clamp: NodeId) -> Option<NodeId> {
        let graph = self.graph;
        let input = graph.input(clamp, 0)?;
        let only = graph.use_count(input) == 1 && !graph.is_graph_output(input);
        let source = matches!(
            self.of(input.node),
            Role::Anchor | Role::FloatOutAnchor | Role::Elementwise | Role::Residual
        );
        (only && source && clamps_at_zero(graph, clamp)).then_some(input.node)
    }
}

/// Plans `graph`. `excluded` nodes stay float.
pub(super) fn plan(
    graph: &Graph,
    profile: Profile,
    opset: i64,
    excluded: &dyn Fn(NodeId) -> Option<String>,
) -> Plan {
    let traits = profile.traits();
    let order: Vec<NodeId> = graph
        .topological_order()
        .into_iter()
        .filter(|id| graph.operator(*id).is_some())
        .collect();
    let mut roles = Roles {
        graph,
        roles: HashMap::with_capacity(order.len()),
        order,
        pairs: traits.pairs,
    };
    for id in &roles.order {
        let (role, why) = profile.role(graph, *id, opset);
        let product = matches!(role, Role::Anchor | Role::FloatOutAnchor);
        let entry = match excluded(*id) {
            Some(reason) => (Role::Float, reason),
            None if activation_inputs(graph, *id, product).is_empty() => {
                (Role::Float, "it reads no float tensor".to_owned())
            }
            None => (role, why.to_owned()),
        };
        roles.roles.insert(*id, entry);
    }
    let mut integer = roles.integer();

    let mut plan = Plan::default();
    let mut implied: HashMap<NodeId, NodeId> = HashMap::new();
    let mut fused: HashSet<NodeId> = HashSet::new();
    for id in &roles.order {
        if roles.of(*id) == Role::Clamp && integer.contains(id) {
            match roles.clamp_source(*id).filter(|source| integer.contains(source)) {
                Some(source) if traits.implies_clamps => {
                    implied.insert(*id, source);
                }
                Some(_) => {
                    fused.insert(*id);
                }
                None if traits.pairs == Pairs::Everywhere => {}
                None => {
                    integer.remove(id);
                    plan.useless += 1;
                }
            }
        }
    }
    let mut wanted: BTreeSet<ValueId> = BTreeSet::new();
    for id in &roles.order {
        let decision = if implied.contains_key(id) {
            plan.clamps.push(*id);
            wanted.extend(outputs(graph, *id));
            Decision::Implied
        } else if integer.contains(id) {
            if roles.is_product(*id) {
                plan.products.push(*id);
            }
            match roles.of(*id) {
                Role::Residual if traits.pairs == Pairs::Before => wanted.extend(roles.residual(*id)),
                Role::Clamp | Role::Moving if traits.pairs == Pairs::Before => {}
                _ => wanted.extend(roles.inputs(*id)),
            }
            let readers = || {
                outputs(graph, *id)
                    .into_iter()
                    .flat_map(|value| graph.uses(value))
            };
            let clamped = readers().any(|reader| implied.get(&reader.node) == Some(id));
            // The last product may answer in float; every other operator fuses only when its output is codes, too.
            let float_out = match traits.pairs {
                Pairs::Before => true,
                Pairs::Everywhere => false,
                Pairs::Around => {
                    roles.of(*id) == Role::FloatOutAnchor && !readers().any(|u| integer.contains(&u.node))
                }
            };
            if !clamped && !float_out {
                wanted.extend(
                    outputs(graph, *id)
                        .into_iter()
                        .filter(|value| is_float(graph, *value)),
                );
            }
            Decision::Integer(match roles.of(*id) {
                Role::Anchor | Role::FloatOutAnchor if float_out && traits.pairs == Pairs::Around => {
                    "codes of input and weight, result in float"
                }
                Role::Anchor | Role::FloatOutAnchor => "codes of input and weight",
                Role::Residual => "fused into the product before it, with codes of the other operand",
                Role::Moving => "moves codes",
                Role::Clamp if fused.contains(id) => "fused into the product before it",
                _ => "codes of all operands",
            })
        } else {
            Decision::Float(
                roles
                    .roles
                    .get(id)
                    .map(|entry| entry.1.clone())
                    .unwrap_or_default(),
            )
        };
        plan.decisions.push((*id, decision));
    }
    if traits.pairs == Pairs::Before {
        move_up(&roles, &integer, &mut wanted);
    }
    for value in wanted {
        plan.activations.insert(value, vec![value]);
    }
    share_scales(&roles, &integer, &mut plan);
    let names = traits.one_scale;
    join_ranges(&roles, &integer, names, &mut plan);
    plan
}

/// A pair behind an operator that moves codes stands before it instead, where no float operator reads what is between.
fn move_up(roles: &Roles<'_>, integer: &HashSet<NodeId>, wanted: &mut BTreeSet<ValueId>) {
    let graph = roles.graph;
    loop {
        let movable = wanted.iter().copied().find(|value| {
            roles.of(value.node) == Role::Moving
                && integer.contains(&value.node)
                && graph
                    .get(value.node)
                    .is_some_and(|node| node.outputs().len() == 1)
                && !graph.is_graph_output(*value)
                && graph.uses(*value).iter().all(|u| integer.contains(&u.node))
        });
        let Some(value) = movable else { return };
        wanted.remove(&value);
        wanted.extend(roles.inputs(value.node));
    }
}

/// A moving operator's output takes the range of its input.
fn share_scales(roles: &Roles<'_>, integer: &HashSet<NodeId>, plan: &mut Plan) {
    for id in &roles.order {
        if roles.of(*id) != Role::Moving || !integer.contains(id) {
            continue;
        }
        let Some(source) = roles.inputs(*id).first().copied() else {
            continue;
        };
        let Some(range) = plan.activations.get(&source).cloned() else {
            continue;
        };
        for output in outputs(roles.graph, *id) {
            if let Some(entry) = plan.activations.get_mut(&output) {
                entry.clone_from(&range);
            }
        }
    }
}

/// Operands of the operators in `names` take their joint range.
fn join_ranges(roles: &Roles<'_>, integer: &HashSet<NodeId>, names: &[&str], plan: &mut Plan) {
    let mut groups: Vec<BTreeSet<ValueId>> = Vec::new();
    for id in &roles.order {
        let joins = integer.contains(id)
            && roles
                .graph
                .operator(*id)
                .is_some_and(|operator| names.iter().any(|name| operator.is(name)));
        if !joins {
            continue;
        }
        let sources = roles
            .inputs(*id)
            .into_iter()
            .filter_map(|value| plan.activations.get(&value));
        let mut group: BTreeSet<ValueId> = sources.flatten().copied().collect();
        groups.retain(|other| {
            let apart = other.is_disjoint(&group);
            if !apart {
                group.extend(other);
            }
            apart
        });
        groups.push(group);
    }
    for sources in plan.activations.values_mut() {
        if let Some(group) = groups
            .iter()
            .find(|group| sources.iter().any(|s| group.contains(s)))
        {
            *sources = group.iter().copied().collect();
        }
    }
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
pub(super) fn activation_inputs(graph: &Graph, id: NodeId, product: bool) -> Vec<ValueId> {
    let Some(operator) = graph.operator(id) else {
        return Vec::new();
    };
    let inputs = graph.inputs_of(id);
    let (slots, constants): (Vec<usize>, bool) = match &*operator.op_type {
        _ if product => (vec![0], true),
        "Add" | "Mul" | "Sub" | "Div" | "Concat" | "Where" | "Min" | "Max" => {
            ((0..inputs.len()).collect(), true)
        }
        "AveragePool" | "Clip" | "Expand" | "Gather" | "GatherElements" | "Pad" | "Resize" | "Tile" => {
            (vec![0], true)
        }
        _ => ((0..inputs.len()).collect(), false),
    };
    slots
        .into_iter()
        .filter_map(|slot| inputs.get(slot).copied().flatten())
        .filter(|v| is_float(graph, *v) && (constants || !is_constant(graph, *v)))
        .collect()
}

fn is_float(graph: &Graph, value: ValueId) -> bool {
    let constant = graph.constant(value).map(|tensor| tensor.dtype());
    constant.or(graph.ty(value).dtype()) == Some(DType::F32)
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
