//! Which values become codes, and which scale they share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::clamps::{Clamps, clamps_at_zero};
use super::profile::{Pairs, Profile, Role};
use crate::ir::{DType, Graph, NodeId, NodeKind, Slot, Use, ValueId};
use crate::quantize::Kind;

/// What is done with one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Runs on integers, and how.
    Integer(&'static str),
    /// Disappears: the range of the codes implies it.
    Implied,
    /// Has pairs around it and is computed in float between them, and why.
    Simulated(String),
    /// Stays float, and why.
    Float(String),
}

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

/// The plan for one graph.
#[derive(Debug, Default)]
pub(super) struct GraphPlan {
    /// Nodes in topological order with what becomes of them.
    pub(super) decisions: Vec<(NodeId, Decision)>,
    /// Activations that get a pair: the value and the type of the codes, and the values whose joint range they are spread over.
    pub(super) activations: BTreeMap<(ValueId, Kind), Vec<ValueId>>,
    /// Values that their own operator puts out as codes, with the type: other types are made from those codes.
    pub(super) roots: BTreeMap<ValueId, Kind>,
    /// Type of what each node on codes reads.
    pub(super) kinds: HashMap<NodeId, Kind>,
    /// Clamps that are left out, each with the value that stands for its output.
    pub(super) clamps: Vec<NodeId>,
    /// Integer nodes that read weights: which slots are weight and bias.
    pub(super) products: Vec<NodeId>,
    /// Values that would have had a pair which no integer operator makes use of.
    pub(super) useless: u64,
}

/// A graph with the role of each node.
pub(super) struct Roles<'a> {
    pub(super) graph: &'a Graph,
    /// Operators in topological order.
    pub(super) order: Vec<NodeId>,
    roles: HashMap<NodeId, (Role, String)>,
    pairs: Pairs,
}

impl<'a> Roles<'a> {
    fn new(graph: &'a Graph, profile: Profile, opset: i64, wishes: &Wishes<'_>) -> Self {
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
    fn kinds(
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
fn is_captured(reader: Use) -> bool {
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

/// Plans `graph`.
pub(super) fn plan(graph: &Graph, profile: Profile, opset: i64, wishes: &Wishes<'_>) -> GraphPlan {
    let traits = profile.traits();
    let roles = Roles::new(graph, profile, opset, wishes);
    let mut integer = roles.integer();
    let clamps = Clamps::leave_out(&roles, &mut integer, traits, wishes);
    let follows = clamps.follows();
    let mut draft = Draft {
        roles: &roles,
        pairs: traits.pairs,
        kinds: roles.kinds(&integer, &follows, wishes),
        integer,
        clamps,
        follows,
        wanted: BTreeSet::new(),
        plan: GraphPlan::default(),
    };
    draft.plan.useless = draft.clamps.useless;
    for id in &roles.order {
        let decision = draft.decide(*id, wishes);
        draft.plan.decisions.push((*id, decision));
    }
    let Draft {
        mut kinds,
        mut wanted,
        mut plan,
        clamps,
        ..
    } = draft;
    if traits.pairs == Pairs::Before {
        move_up(&roles, &mut kinds, &mut wanted);
    }
    for (value, kind) in wanted {
        plan.activations.insert((value, kind), vec![value]);
    }
    for clamp in clamps.cutting {
        let Some(input) = graph.input(clamp, 0) else {
            continue;
        };
        let sources = plan
            .activations
            .iter_mut()
            .filter(|((value, _), _)| *value == input);
        sources.for_each(|(_, sources)| *sources = vec![ValueId::new(clamp, 0)]);
    }
    plan.kinds = kinds;
    share_scales(&roles, &mut plan);
    join_ranges(&roles, traits.one_scale, &mut plan);
    plan
}

/// A plan in the making: what is done with a node depends on those before.
struct Draft<'a> {
    roles: &'a Roles<'a>,
    pairs: Pairs,
    kinds: HashMap<NodeId, Kind>,
    integer: HashSet<NodeId>,
    clamps: Clamps,
    follows: HashMap<NodeId, NodeId>,
    wanted: BTreeSet<(ValueId, Kind)>,
    plan: GraphPlan,
}

impl Draft<'_> {
    fn decide(&mut self, id: NodeId, wishes: &Wishes<'_>) -> Decision {
        let kind = self.kinds.get(&id).copied().unwrap_or(wishes.activation);
        if self.clamps.implied.contains_key(&id) {
            self.plan.clamps.push(id);
            self.give_codes(outputs(self.roles.graph, id), kind);
            return Decision::Implied;
        }
        if !self.integer.contains(&id) {
            let why = self.roles.roles.get(&id).map(|entry| entry.1.clone());
            return Decision::Float(why.unwrap_or_default());
        }
        if self.roles.is_product(id) {
            self.plan.products.push(id);
        }
        let read = self.read_codes(id);
        self.wanted.extend(read.into_iter().map(|value| (value, kind)));
        let float_out = self.answers_in_float(id);
        let clamped = readers(self.roles.graph, id)
            .iter()
            .any(|reader| self.follows.get(reader) == Some(&id));
        if !clamped && !float_out {
            let mut codes = outputs(self.roles.graph, id);
            codes.retain(|value| is_float(self.roles.graph, *value));
            self.give_codes(codes, kind);
        }
        if self.clamps.floating.contains(&id) {
            let why = "float between the pairs: only codes that begin at zero imply a clamp at zero";
            return Decision::Simulated(why.to_owned());
        }
        match (wishes.simulated)(id, self.roles.of(id), kind) {
            Some(why) => Decision::Simulated(why),
            None => Decision::Integer(self.how(id, float_out)),
        }
    }

    /// The operator itself puts these values out as codes.
    fn give_codes(&mut self, values: Vec<ValueId>, kind: Kind) {
        let codes = || values.iter().map(|value| (*value, kind));
        self.plan.roots.extend(codes());
        self.wanted.extend(codes());
    }

    /// What an operator on integers reads as codes.
    fn read_codes(&self, id: NodeId) -> Vec<ValueId> {
        match self.roles.of(id) {
            Role::Residual if self.pairs == Pairs::Before => self.roles.residual(id).into_iter().collect(),
            Role::Clamp | Role::Moving if self.pairs == Pairs::Before => Vec::new(),
            Role::Clamp if self.clamps.fused.contains_key(&id) => Vec::new(),
            _ => self.roles.inputs(id),
        }
    }

    /// The last product may answer in float; every other operator fuses only when its output is codes, too.
    fn answers_in_float(&self, id: NodeId) -> bool {
        match self.pairs {
            Pairs::Before => true,
            Pairs::Everywhere => false,
            Pairs::Around => {
                self.roles.of(id) == Role::FloatOutAnchor
                    && !readers(self.roles.graph, id)
                        .iter()
                        .any(|reader| self.integer.contains(reader))
            }
        }
    }

    fn how(&self, id: NodeId, float_out: bool) -> &'static str {
        match self.roles.of(id) {
            Role::Anchor | Role::FloatOutAnchor if float_out && self.pairs == Pairs::Around => {
                "codes of input and weight, result in float"
            }
            Role::Anchor | Role::FloatOutAnchor => "codes of input and weight",
            Role::Residual => "fused into the product before it, with codes of the other operand",
            Role::Moving => "moves codes",
            Role::Clamp if self.clamps.fused.contains_key(&id) => "fused into the product before it",
            _ => "codes of all operands",
        }
    }
}

/// Nodes that read what `id` puts out.
pub(super) fn readers(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let uses = outputs(graph, id).into_iter().flat_map(|value| graph.uses(value));
    uses.map(|found| found.node).collect()
}

/// A pair behind an operator that moves codes stands before it instead, where no float operator reads what is between.
fn move_up(roles: &Roles<'_>, kinds: &mut HashMap<NodeId, Kind>, wanted: &mut BTreeSet<(ValueId, Kind)>) {
    let graph = roles.graph;
    loop {
        let alone = |value: ValueId| wanted.iter().filter(|(other, _)| *other == value).count() == 1;
        let movable = wanted.iter().copied().find(|(value, _)| {
            roles.of(value.node) == Role::Moving
                && kinds.contains_key(&value.node)
                && graph
                    .get(value.node)
                    .is_some_and(|node| node.outputs().len() == 1)
                && !graph.is_graph_output(*value)
                && graph.uses(*value).iter().all(|u| kinds.contains_key(&u.node))
                && alone(*value)
        });
        let Some((value, kind)) = movable else { return };
        wanted.remove(&(value, kind));
        kinds.insert(value.node, kind);
        let sources = roles.inputs(value.node).into_iter();
        wanted.extend(sources.map(|source| (source, kind)));
    }
}

/// A moving operator's output takes the range of its input.
fn share_scales(roles: &Roles<'_>, plan: &mut GraphPlan) {
    for id in &roles.order {
        let Some(kind) = plan
            .kinds
            .get(id)
            .copied()
            .filter(|_| roles.of(*id) == Role::Moving)
        else {
            continue;
        };
        let Some(source) = roles.inputs(*id).first().copied() else {
            continue;
        };
        let Some(range) = plan.activations.get(&(source, kind)).cloned() else {
            continue;
        };
        for output in outputs(roles.graph, *id) {
            if let Some(entry) = plan.activations.get_mut(&(output, kind)) {
                entry.clone_from(&range);
            }
        }
    }
}

/// Operands of the operators in `names` take their joint range.
fn join_ranges(roles: &Roles<'_>, names: &[&str], plan: &mut GraphPlan) {
    let mut groups: Vec<(Kind, BTreeSet<ValueId>)> = Vec::new();
    for id in &roles.order {
        let joins = roles
            .graph
            .operator(*id)
            .is_some_and(|operator| names.iter().any(|name| operator.is(name)));
        let Some(kind) = plan.kinds.get(id).copied().filter(|_| joins) else {
            continue;
        };
        let sources = roles
            .inputs(*id)
            .into_iter()
            .filter_map(|value| plan.activations.get(&(value, kind)));
        let mut group: BTreeSet<ValueId> = sources.flatten().copied().collect();
        groups.retain(|(other_kind, other)| {
            let apart = *other_kind != kind || other.is_disjoint(&group);
            if !apart {
                group.extend(other);
            }
            apart
        });
        groups.push((kind, group));
    }
    for ((_, kind), sources) in &mut plan.activations {
        let joined = |group: &&(Kind, BTreeSet<ValueId>)| {
            group.0 == *kind && sources.iter().any(|source| group.1.contains(source))
        };
        if let Some((_, group)) = groups.iter().find(joined) {
            *sources = group.iter().copied().collect();
        }
    }
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
