//! Operands that are fixed and yet no constant that a pass can give other numbers.

use std::collections::HashSet;

use super::codebook::codebook;
use super::origin::origin;
use crate::ir::{ConstantOrigin, GraphPath, Model, NodeKind, ValueId};

/// What stands between an operand and its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hidden {
    /// It is computed from constants.
    Computed,
    /// Its numbers are codes.
    Codes,
    /// It is a sparse initializer.
    Sparse,
    /// It is an input with a default.
    Default,
    /// It comes in as an argument of a function, which a caller gives a constant.
    Argument,
}

impl Hidden {
    /// Why the weight stays, for reports.
    pub fn why(self) -> &'static str {
        match self {
            Self::Computed => "its weight is computed from constants",
            Self::Codes => "its weight is codes already",
            Self::Sparse => "its weight is a sparse initializer",
            Self::Default => "its weight is an input with a default, which a caller may replace",
            Self::Argument => "its weight comes in as an argument of the function",
        }
    }

    /// What would change that; empty where nothing does.
    pub fn cure(self) -> &'static str {
        match self {
            Self::Computed => "fold it first: `simplify --max-growth 1`",
            Self::Codes | Self::Sparse => "",
            Self::Default => "make such inputs constant first: `bind-defaults`",
            Self::Argument => "`inline-functions` first",
        }
    }
}

/// Nodes that are looked at behind an operand: what makes a weight from constants is small.
const MOST_NODES: usize = 64;

/// Functions that call each other, at most.
const DEEPEST: usize = 16;

/// Operators that give other numbers in every run.
const RANDOM: [&str; 4] = [
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
];

/// What stands between `value` of the graph at `path` and its numbers; `None` for a constant, as [`origin`] finds it, and for what
/// depends on the inputs of a run.
pub fn hidden(model: &Model, path: &GraphPath, value: ValueId) -> Option<Hidden> {
    match origin(model, path, value) {
        Some(_) => None,
        None => behind(model, path, value, DEEPEST),
    }
}

fn behind(model: &Model, path: &GraphPath, value: ValueId, depth: usize) -> Option<Hidden> {
    let mut seen: HashSet<(GraphPath, ValueId)> = HashSet::new();
    let mut waiting = vec![(path.clone(), value)];
    let mut found = Hidden::Computed;
    while let Some((path, value)) = waiting.pop() {
        if !seen.insert((path.clone(), value)) {
            continue;
        }
        if seen.len() > MOST_NODES {
            return None;
        }
        let graph = model.graph_at(&path)?;
        match &graph.get(value.node)?.kind {
            NodeKind::Constant(constant) => {
                if matches!(constant.origin, ConstantOrigin::Sparse(..)) {
                    found = found.max(Hidden::Sparse);
                }
            }
            NodeKind::Capture(capture) => waiting.push(model.captured(&path, capture.index)?),
            NodeKind::Input(input) if input.default.is_some() => found = found.max(Hidden::Default),
            NodeKind::Input(_) => {
                let function = path.function.filter(|_| path.bodies.is_empty())?;
                let index = graph.inputs().iter().position(|id| *id == value.node)?;
                if !is_given(model, function, index, depth) {
                    return None;
                }
                found = Hidden::Argument;
            }
            NodeKind::Operator(operator) => {
                let inputs: Vec<ValueId> = graph.inputs_of(value.node).into_iter().flatten().collect();
                let random = RANDOM.iter().any(|name| operator.is(name));
                if inputs.is_empty() || operator.has_bodies() || random {
                    return None;
                }
                if operator.is("DequantizeLinear") || codebook(graph, value.node).is_some() {
                    found = found.max(Hidden::Codes);
                }
                waiting.extend(inputs.into_iter().map(|input| (path.clone(), input)));
            }
            NodeKind::Output | NodeKind::Removed => return None,
        }
    }
    Some(found)
}

/// Whether some call of a function gives it numbers that are fixed as its input of this index.
fn is_given(model: &Model, function: usize, index: usize, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    let functions = model.function_index();
    model.graph_paths().iter().any(|path| {
        let Some(graph) = model.graph_at(path) else {
            return false;
        };
        let fixed = |value: ValueId| {
            origin(model, path, value).is_some() || behind(model, path, value, depth).is_some()
        };
        graph
            .node_ids()
            .filter(|id| functions.place_called_by(graph, *id) == Some(function))
            .any(|id| graph.input(id, index).is_some_and(fixed))
    })
}
