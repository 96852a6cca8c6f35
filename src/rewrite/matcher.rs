//! Finds where a pattern fits: a search over the operands of a root node, with every clause as part of the search.

use crate::ir::{Graph, Imports, NodeId, Slot, Tensor, ValueId, opset_version};

use super::canonical::{Parameter, View, number_tensor};
use super::eval::Evaluate;
use super::helper::Scope;
use super::rule::{Instance, Operand, PatternNode, Sibling, swaps};
use super::syntax::{Expr, Spanned};
use super::value::{Reason, Val};

/// Arrangements that one attempt may try before it gives up.
const MOST_STEPS: usize = 20_000;
/// Readers of a value that are looked at for a sibling, and those among them that are tried.
const MOST_READERS: usize = 256;
const MOST_SIBLINGS: usize = 16;

/// A fit: what each name is bound to.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    pub(crate) bindings: Vec<Option<Val>>,
    /// The operators that the root reads, as far as the pattern names them.
    pub(crate) nodes: Vec<NodeId>,
}

/// Why a pattern did not fit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Miss {
    /// The operators, attributes or constants differ.
    NoMatch(String),
    /// The operators fit, a clause does not hold.
    Clause { clause: String, reason: String },
}

/// One attempt at one root.
pub(crate) struct Matcher<'a> {
    graph: &'a Graph,
    imports: &'a Imports,
    instance: &'a Instance,
    /// Whether reasons are put into words.
    explain: bool,
    bindings: Vec<Option<Val>>,
    nodes: Vec<Option<NodeId>>,
    /// Names and nodes in the order they were bound, to undo a choice.
    trail: Vec<Bound>,
    steps: usize,
    miss: Option<(usize, Miss)>,
}

enum Bound {
    Name(usize),
    Node(usize),
}

/// What is still to be matched.
#[derive(Clone)]
struct Goal<'a> {
    operand: &'a Operand,
    value: Option<ValueId>,
}

impl<'a> Matcher<'a> {
    pub(crate) fn new(graph: &'a Graph, imports: &'a Imports, instance: &'a Instance, explain: bool) -> Self {
        Self {
            graph,
            imports,
            instance,
            explain,
            bindings: vec![None; instance.names.len()],
            nodes: vec![None; instance.pattern.nodes.len()],
            trail: Vec::new(),
            steps: 0,
            miss: None,
        }
    }

    /// Matches the pattern with `root` as its root.
    pub(crate) fn at(mut self, root: NodeId) -> Result<Match, Option<Miss>> {
        if self.node(self.instance.pattern.root(), root, None, Vec::new()) {
            let nodes = self.nodes.into_iter().flatten().filter(|node| *node != root);
            return Ok(Match {
                bindings: self.bindings,
                nodes: nodes.collect(),
            });
        }
        Err(self.miss.map(|(_, miss)| miss))
    }

    fn fail(&mut self, rank: usize, miss: impl FnOnce(&Self) -> Miss) -> bool {
        if self.explain && self.miss.as_ref().is_none_or(|(known, _)| *known <= rank) {
            let found = miss(self);
            self.miss = Some((rank, found));
        }
        false
    }

    fn no_match(&mut self, node: NodeId, words: impl FnOnce() -> String) -> bool {
        let depth = self.trail.len();
        self.fail(depth, |m| {
            Miss::NoMatch(format!("{}: {}", m.graph.label(node), words()))
        })
    }

    fn bind(&mut self, name: usize, value: Val) -> bool {
        match self.bindings.get_mut(name) {
            Some(slot @ None) => {
                *slot = Some(value);
                self.trail.push(Bound::Name(name));
                true
            }
            Some(Some(known)) => known.same_as(&value),
            None => false,
        }
    }

    fn undo(&mut self, mark: usize) {
        while self.trail.len() > mark {
            match self.trail.pop() {
                Some(Bound::Name(name)) => {
                    if let Some(slot) = self.bindings.get_mut(name) {
                        *slot = None;
                    }
                }
                Some(Bound::Node(node)) => {
                    if let Some(slot) = self.nodes.get_mut(node) {
                        *slot = None;
                    }
                }
                None => return,
            }
        }
    }

    /// Matches pattern node `at` with graph node `id`, reached through output `through`, then everything in `goals`.
    fn node(&mut self, at: usize, id: NodeId, through: Option<usize>, goals: Vec<Goal<'a>>) -> bool {
        self.steps += 1;
        let instance = self.instance;
        let Some(pattern) = instance.pattern.nodes.get(at) else {
            return false;
        };
        let Some(operator) = self.graph.operator(id) else {
            return self.no_match(id, || format!("not an operator, wanted {}", pattern.op_type));
        };
        if self.steps > MOST_STEPS
            || operator.op_type != *pattern.op_type
            || operator.domain() != pattern.domain
        {
            let found = operator.op_type.clone();
            return self.no_match(id, || format!("{found}, wanted {}", pattern.op_type));
        }
        let version = opset_version(self.imports, &pattern.domain).unwrap_or(1);
        let Some(view) = View::new(self.graph, id, version) else {
            return false;
        };
        let mark = self.trail.len();
        if let Some(slot) = self.nodes.get_mut(at) {
            *slot = Some(id);
        }
        self.trail.push(Bound::Node(at));
        if self.head(pattern, &view, id, through) {
            for index in 0..shares(pattern, &view) {
                let Some(arrangement) = self.arrangement(pattern, &view, index) else {
                    continue;
                };
                let inner = self.trail.len();
                let mut next = goals.clone();
                let mut fits = true;
                for (operand, taken) in pattern.operands.iter().zip(arrangement).rev() {
                    match (operand, taken) {
                        (Operand::Splat(name), Taken::Many(values)) => {
                            fits = fits && self.bind(*name, Val::Values(values))
                        }
                        (operand, Taken::One(value)) => next.push(Goal { operand, value }),
                        _ => fits = false,
                    }
                }
                if fits && self.solve(next) {
                    return true;
                }
                self.undo(inner);
            }
        }
        self.undo(mark);
        false
    }

    /// Attributes and outputs: what does not depend on the order of operands.
    fn head(&mut self, pattern: &PatternNode, view: &View<'_>, id: NodeId, through: Option<usize>) -> bool {
        let splat = pattern
            .operands
            .iter()
            .any(|operand| matches!(operand, Operand::Splat(_)));
        let positional = if splat {
            view.inputs.len()
        } else {
            pattern.operands.len()
        };
        for (name, wanted) in &pattern.attributes {
            let value = match view.parameter(name, positional) {
                Parameter::Known(value) => value,
                Parameter::Computed => return self.no_match(id, || format!("{name} is no constant")),
                Parameter::Opaque => return self.no_match(id, || format!("{name} cannot be read")),
            };
            let fits = match &wanted.expr {
                Expr::Parameter(parameter) => match self.number(&format!("@{parameter}")) {
                    Some(slot) => self.bind(slot, value),
                    None => false,
                },
                _ => self.eval(wanted).is_ok_and(|wanted| wanted.same_as(&value)),
            };
            if !fits {
                return self.no_match(id, || format!("{name} has another value"));
            }
        }
        let named = |name: &str| pattern.attributes.iter().any(|(known, _)| known == name);
        match pattern.rest {
            Some(rest) => match view.rest(&named, positional) {
                Ok(items) => {
                    if !self.bind(rest, Val::Rest(items)) {
                        return false;
                    }
                }
                Err(input) => return self.no_match(id, || format!("input {input} is given")),
            },
            None => {
                if let Err(name) = view.others_are_default(&named, positional) {
                    return self.no_match(id, || {
                        format!("{name} has not its default value, and the pattern does not name it")
                    });
                }
            }
        }
        let Some(node) = self.graph.get(id) else {
            return false;
        };
        for (index, value) in node.outputs().iter().enumerate() {
            let value_id = ValueId::new(id, index);
            match pattern.outputs.get(index).copied().flatten() {
                Some(name) => {
                    if !self.bind(name, Val::Value(value_id)) {
                        return false;
                    }
                }
                None if value.omitted || through == Some(index) => {}
                None => {
                    if self.graph.use_count(value_id) > 0 {
                        return self.no_match(id, || {
                            format!("output {index} is read, and the pattern does not name it")
                        });
                    }
                }
            }
        }
        let missing = pattern
            .outputs
            .iter()
            .skip(node.outputs().len())
            .any(Option::is_some);
        if missing {
            return self.no_match(id, || "an output that the pattern names is not there".to_owned());
        }
        true
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.instance.names.iter().position(|name| name == key)
    }

    /// The way with this index in which inputs go to operands, of those that [`shares`] counts; `None` for one that cannot fit.
    fn arrangement(&self, pattern: &PatternNode, view: &View<'_>, index: usize) -> Option<Vec<Taken>> {
        let inputs = &view.inputs;
        let at = |index: usize| inputs.get(index).copied().flatten();
        let splats = splats(pattern);
        if splats == 0 {
            let count = pattern.operands.len();
            if index == 0 {
                return Some((0..count).map(|index| Taken::One(at(index))).collect());
            }
            let both =
                inputs.len() == 2 && count == 2 && at(0) != at(1) && swaps(&pattern.domain, &pattern.op_type);
            return both.then(|| vec![Taken::One(at(1)), Taken::One(at(0))]);
        }
        let free = inputs.len().checked_sub(pattern.operands.len() - splats)?;
        // With two lists the first takes any share, with one it takes all.
        let first = if splats == 1 { free } else { index };
        let mut spans = Vec::with_capacity(pattern.operands.len());
        let (mut next, mut seen) = (0, 0);
        for operand in &pattern.operands {
            let count = match operand {
                Operand::Splat(_) => {
                    seen += 1;
                    if seen == 1 { first } else { free - first }
                }
                _ => 1,
            };
            spans.push(next..next + count);
            next += count;
        }
        let possible = |(operand, span): (&Operand, &std::ops::Range<usize>)| match operand {
            Operand::Node { node, .. } => at(span.start).is_some_and(|value| self.may_be(*node, value)),
            _ => true,
        };
        if !self.explain && !pattern.operands.iter().zip(&spans).all(possible) {
            return None;
        }
        let take = |(operand, span): (&Operand, std::ops::Range<usize>)| match operand {
            Operand::Splat(_) => Taken::Many(span.map(at).collect()),
            _ => Taken::One(at(span.start)),
        };
        Some(pattern.operands.iter().zip(spans).map(take).collect())
    }

    /// Whether the operator behind a value is of the type of pattern node `node`.
    fn may_be(&self, node: usize, value: ValueId) -> bool {
        let pattern = self.instance.pattern.nodes.get(node);
        let found = self.graph.operator(value.node);
        pattern
            .zip(found)
            .is_some_and(|(pattern, found)| found.op_type == *pattern.op_type)
    }

    fn solve(&mut self, mut goals: Vec<Goal<'a>>) -> bool {
        while let Some(goal) = goals.pop() {
            match goal.operand {
                Operand::Any => {
                    if goal.value.is_none() {
                        return false;
                    }
                }
                Operand::Value { name, optional } => {
                    let fits = match goal.value {
                        Some(value) => self.bind(*name, Val::Value(value)),
                        None => *optional && self.bind(*name, Val::Absent),
                    };
                    if !fits {
                        return self.wrong_operand(*name, goal.value);
                    }
                }
                Operand::Number(wanted) => {
                    let Some(value) = goal.value else { return false };
                    if !self.is_number(value, wanted) {
                        return self.no_match(value.node, || {
                            "not the constant that the pattern wants".to_owned()
                        });
                    }
                }
                Operand::Node { node, output } => {
                    let Some(value) = goal.value else { return false };
                    if value.output as usize != *output {
                        return self.no_match(value.node, || "another output".to_owned());
                    }
                    match self.nodes.get(*node).copied().flatten() {
                        Some(known) if known == value.node => {}
                        Some(_) => return false,
                        None => return self.node(*node, value.node, Some(*output), goals),
                    }
                }
                Operand::Splat(_) => return false,
            }
        }
        self.siblings()
    }

    /// Matches the first sibling that has no node yet, and what is left after it.
    fn siblings(&mut self) -> bool {
        let instance = self.instance;
        let free = |m: &Self, at: usize| m.nodes.get(at).is_some_and(Option::is_none);
        let Some(sibling) = instance
            .pattern
            .siblings
            .iter()
            .find(|part| free(self, part.root()))
        else {
            return self.clauses();
        };
        let Some(Some(Val::Value(shared))) = self.bindings.get(sibling.shared).cloned() else {
            return false;
        };
        let candidates = self.candidates(sibling, shared);
        if candidates.is_empty() {
            return self.no_match(shared.node, || "it has no further reader of this kind".to_owned());
        }
        candidates
            .into_iter()
            .any(|candidate| self.node(sibling.root(), candidate, None, Vec::new()))
    }

    /// Nodes that may be the root of a sibling, oldest reader first: those that a way of the right operators leads to.
    fn candidates(&self, sibling: &Sibling, shared: ValueId) -> Vec<NodeId> {
        let mut front: Vec<NodeId> = Vec::new();
        for (index, step) in sibling.path.iter().enumerate() {
            let Some(wanted) = self.instance.pattern.nodes.get(*step) else {
                return Vec::new();
            };
            let readers: Vec<NodeId> = match index {
                0 => readers_of(self.graph, shared).take(MOST_READERS).collect(),
                _ => front
                    .iter()
                    .flat_map(|node| readers_of(self.graph, ValueId::new(*node, 0)).take(MOST_SIBLINGS))
                    .collect(),
            };
            front.clear();
            for reader in readers {
                let fits = self.graph.operator(reader).is_some_and(|operator| {
                    operator.op_type == *wanted.op_type && operator.domain() == wanted.domain
                });
                if fits && front.len() < MOST_SIBLINGS && !front.contains(&reader) {
                    front.push(reader);
                }
            }
        }
        front.retain(|node| !self.nodes.contains(&Some(*node)));
        front.reverse();
        front
    }

    fn wrong_operand(&mut self, name: usize, value: Option<ValueId>) -> bool {
        let name = self.instance.names.get(name).cloned().unwrap_or_default();
        match value {
            Some(value) => self.no_match(value.node, || format!("{name} is already another value")),
            None => self.fail(self.trail.len(), |_| Miss::NoMatch(format!("{name} is left out"))),
        }
    }

    fn is_number(&mut self, value: ValueId, wanted: &Spanned) -> bool {
        let graph = self.graph;
        let Some(tensor) = graph.constant(value) else {
            return false;
        };
        self.eval(wanted)
            .ok()
            .and_then(|wanted| number_tensor(&wanted, tensor.dtype()))
            .is_some_and(|one| filled_with(tensor, &one))
    }

    fn clauses(&mut self) -> bool {
        let instance = self.instance;
        for (index, (text, clause)) in instance.clauses.iter().enumerate() {
            let reason: Reason = match self.eval(clause) {
                Ok(Val::Bool(true)) => continue,
                Ok(Val::Bool(false)) => Reason::Borrowed("it does not hold"),
                Ok(other) => Reason::Owned(format!("it is {}", other.kind())),
                Err(reason) => reason,
            };
            // Any clause outranks any difference in operators, a later clause an earlier one.
            return self.fail(usize::MAX / 2 + index, |_| Miss::Clause {
                clause: text.clone(),
                reason: reason.into_owned(),
            });
        }
        true
    }
}

impl Evaluate for Matcher<'_> {
    fn scope(&self) -> Scope<'_> {
        Scope { graph: self.graph }
    }

    fn lookup(&self, key: &str) -> Option<Val> {
        self.bindings.get(self.number(key)?)?.clone()
    }
}

/// Whether the operators that the root reads can be those of the pattern: a look that costs little and settles most attempts.
pub(crate) fn operands_may_fit(graph: &Graph, root: NodeId, instance: &Instance) -> bool {
    let pattern = &instance.pattern;
    let Some(node) = pattern.nodes.get(pattern.root()) else {
        return false;
    };
    let produced_by = |index: usize, wanted: &str| {
        let producer = graph
            .input(root, index)
            .and_then(|value| graph.operator(value.node));
        producer.is_some_and(|operator| operator.op_type == *wanted)
    };
    let either = swaps(&node.domain, &node.op_type) && node.operands.len() == 2;
    for (index, operand) in node.operands.iter().enumerate() {
        match operand {
            Operand::Node { node, .. } => {
                let Some(wanted) = pattern.nodes.get(*node).map(|inner| inner.op_type.as_str()) else {
                    return false;
                };
                if !(produced_by(index, wanted) || either && produced_by(1 - index.min(1), wanted)) {
                    return false;
                }
            }
            // What follows a list stands at no fixed place.
            Operand::Splat(_) => return true,
            _ => {}
        }
    }
    true
}

/// Operands of a pattern node that stand for lists.
fn splats(pattern: &PatternNode) -> usize {
    let lists = pattern
        .operands
        .iter()
        .filter(|operand| matches!(operand, Operand::Splat(_)));
    lists.count()
}

/// How many ways there are in which inputs go to operands, at most.
fn shares(pattern: &PatternNode, view: &View<'_>) -> usize {
    let splats = splats(pattern);
    match view.inputs.len().checked_sub(pattern.operands.len() - splats) {
        _ if splats == 0 => 2,
        None => 0,
        Some(_) if splats == 1 => 1,
        Some(free) => free + 1,
    }
}

enum Taken {
    One(Option<ValueId>),
    Many(Vec<Option<ValueId>>),
}

/// Whether every element of `tensor` has the bits of `one`; false for a tensor without elements.
pub(super) fn filled_with(tensor: &Tensor, one: &Tensor) -> bool {
    let (Ok(raw), Ok(bits)) = (tensor.raw(), one.raw()) else {
        return false;
    };
    !raw.is_empty() && !bits.is_empty() && raw.chunks(bits.len()).all(|chunk| chunk == &*bits)
}

/// The operators that read a value through an input slot, and the owners of bodies that capture it.
pub(crate) fn readers_of(graph: &Graph, value: ValueId) -> impl Iterator<Item = NodeId> + '_ {
    graph
        .readers_of(value)
        .filter(|reader| matches!(reader.slot, Slot::Input(_)))
        .map(|reader| reader.node)
}
