//! What each operator of a graph is for an engine that computes on codes, and what it reads and puts out.

use std::collections::{HashMap, HashSet};

use super::profile::{Pairs, Profile, Role};
use crate::ir::{DType, Graph, NodeId, NodeKind, Slot, Use, ValueId};
use crate::quantize::Kind;

/// What options and engine say of the nodes.
pub(super) struct Wishes<'a> {
    /// Why a node stays float.
    pub(super) excluded: &'a dyn Fn(NodeId) -> Option<String>,
    /// Type of activations that nothing else is said of.
    pub(super) activation: Kind,
    /// Zero is in the middle of the codes of activations.
    pub(super) symmetric: bool,
    /// Type of what a node reads and puts out.
    pub(super) named: &'a dyn Fn(NodeId) -> Option<Kind>,
    /// Why a node of this role and type is computed in float between its pairs.
    pub(super) simulated: &'a dyn Fn(NodeId, Role, Kind) -> Option<String>,
}

/// A graph with the role of each node.
pub(super) struct Roles<'a> {
    pub(super) graph: &'a Graph,
    /// Operators in topological order.
    pub(super) order: Vec<NodeId>,
    pub(super) roles: HashMap<NodeId, (Role, String)>,
    pub(super) pairs: Pairs,
}

impl<'a> Roles<'a> {
    pub(super) fn new(graph: &'a Graph, profile: Profile, opset: i64, wishes: &Wishes<'_>) -> Self {
        let order: Vec<NodeId> = graph
            .topological_order()
            .into_iter()
            .filter(|id| graph.operator(*id).is_some())
            .collect();
        let role = |id: &NodeId| {
            let (role, why) = profile.role(graph, *id, opset);
            let product = matches!(role, Role::Anchor | Role::FloatOutAnchor);
            let entry = match (wishes.excluded)(*id) {
                Some(reason) => (Role::Float, reason),
                None if activation_inputs(graph, *id, product).is_empty() => {
                    (Role::Float, no_float(graph, *id))
                }
                None if role == Role::Float && reads_codes(graph, *id) => (
                    Role::Float,
                    "its operands are dequantized codes already".to_owned(),
                ),
                None => (role, why.to_owned()),
            };
            (*id, entry)
        };
        Self {
            graph,
            roles: order.iter().map(role).collect(),
            order,
            pairs: profile.traits().pairs,
        }
    }

    pub(super) fn of(&self, id: NodeId) -> Role {
        self.roles.get(&id).map_or(Role::Float, |entry| entry.0)
    }

    pub(super) fn is_product(&self, id: NodeId) -> bool {
        matches!(self.of(id), Role::Anchor | Role::FloatOutAnchor)
    }

    /// The float tensors that a node reads as activations.
    pub(super) fn inputs(&self, id: NodeId) -> Vec<ValueId> {
        activation_inputs(self.graph, id, self.is_product(id))
    }

    /// The operand of a sum that stays after the other one's product has taken the sum in.
    pub(super) fn residual(&self, id: NodeId) -> Option<ValueId> {
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
    pub(super) fn integer(&self) -> HashSet<NodeId> {
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
                let moving = self.of(*id) == Role::Moving;
                let useful = outputs(graph, *id)
                    .iter()
                    .flat_map(|value| graph.uses(*value))
                    .any(|reader| integer.contains(&reader.node) || moving && is_captured(reader));
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

    /// The type of codes of each integer node. What moves codes has the type of what it reads, or, where that is float, the
    /// widest type that its result is read in; `follows` are clamps with the operator that they are one with.
    pub(super) fn kinds(
        &self,
        integer: &HashSet<NodeId>,
        follows: &HashMap<NodeId, NodeId>,
        wishes: &Wishes<'_>,
    ) -> HashMap<NodeId, Kind> {
        let mut kinds: HashMap<NodeId, Kind> = HashMap::new();
        let nodes = || self.order.iter().filter(|id| integer.contains(id));
        for id in nodes() {
            let source = self.inputs(*id).first().map(|value| value.node);
            let of_source = || source.and_then(|source| kinds.get(&source).copied());
            let kind = match (follows.get(id), (wishes.named)(*id)) {
                (Some(product), _) => kinds.get(product).copied(),
                (None, Some(named)) => Some(named),
                (None, None) if matches!(self.of(*id), Role::Moving | Role::Clamp) => of_source(),
                (None, None) => Some(wishes.activation),
            };
            kinds.extend(kind.map(|kind| (*id, kind)));
        }
        for id in nodes().rev() {
            if kinds.contains_key(id) {
                continue;
            }
            let readers = outputs(self.graph, *id)
                .into_iter()
                .flat_map(|value| self.graph.uses(value));
            let widest = readers
                .filter_map(|reader| kinds.get(&reader.node).copied())
                .max_by_key(|kind| (kind.bits(), *kind));
            kinds.insert(*id, widest.unwrap_or(wishes.activation));
        }
        kinds
    }

    /// The product or sum whose output only `clamp` reads; the clamp is then implied by the range of codes.
    pub(super) fn clamp_source(&self, clamp: NodeId) -> Option<NodeId> {
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

/// Whether a body reads a value. ONNX Runtime 1.32 aborts where a body captures what a Transpose or Reshape makes of dequantized codes,
/// unless a pair stands behind that, too.
pub(super) fn is_captured(reader: Use) -> bool {
    matches!(reader.slot, Slot::Capture(_))
}

/// Why a node has no float activation.
fn no_float(graph: &Graph, id: NodeId) -> String {
    let input = graph.input(id, 0);
    match input.map(|value| graph.ty(value).dtype()) {
        Some(Some(dtype)) if dtype.is_float() && dtype != DType::F32 => {
            format!("it computes in {dtype}, and only float is quantized")
        }
        Some(None) => "the type of what it reads is not known".to_owned(),
        _ => "it reads no float tensor".to_owned(),
    }
}

fn reads_codes(graph: &Graph, id: NodeId) -> bool {
    let is_code = |slot| {
        let operator = graph.input(id, slot).and_then(|value| graph.operator(value.node));
        operator.is_some_and(|operator| operator.is("DequantizeLinear"))
    };
    is_code(0) || is_code(1)
}

/// Nodes that read what `id` puts out.
pub(super) fn readers(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let uses = outputs(graph, id).into_iter().flat_map(|value| graph.uses(value));
    uses.map(|found| found.node).collect()
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

pub(super) fn is_float(graph: &Graph, value: ValueId) -> bool {
    let constant = graph.constant(value).map(|tensor| tensor.dtype());
    constant.or(graph.ty(value).dtype()) == Some(DType::F32)
}

pub(super) fn outputs(graph: &Graph, id: NodeId) -> Vec<ValueId> {
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
