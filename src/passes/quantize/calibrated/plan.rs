//! Which values become codes, and which scale they share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::clamps::Clamps;
use super::profile::{Pairs, Profile, Role};
use super::roles::{Roles, Wishes, is_float, outputs, readers};
use crate::ir::{Graph, NodeId, ValueId};
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
