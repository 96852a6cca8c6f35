//! Numbers of nodes, and the places where values are read.

use std::collections::HashMap;

use super::words::{identifier, word};
use crate::ir::{BodyIndex, FunctionIndex, Graph, GraphPath, Model, NodeId, Operator, Slot, Use, ValueId};

/// The operators of a graph and its bodies, in the order in which they are written: a body behind its owner.
pub(super) struct Numbered<'m> {
    model: &'m Model,
    functions: &'m FunctionIndex<'m>,
    paths: Vec<GraphPath>,
    operators: HashMap<GraphPath, HashMap<NodeId, Numbering>>,
    /// Operators of each type so far.
    counts: HashMap<String, u64>,
}

/// What is known of an operator.
struct Numbering {
    /// Its place in its graph.
    rank: usize,
    /// Type and number.
    stem: String,
}

impl<'m> Numbered<'m> {
    /// Numbers the operators of the main graph or of a function.
    pub(super) fn of(model: &'m Model, functions: &'m FunctionIndex<'m>, root: &GraphPath) -> Self {
        let mut numbered = Self {
            model,
            functions,
            paths: Vec::new(),
            operators: HashMap::new(),
            counts: HashMap::new(),
        };
        if let Some(graph) = model.graph_at(root) {
            numbered.number(graph, root.clone());
        }
        numbered
    }

    fn number(&mut self, graph: &Graph, path: GraphPath) {
        self.paths.push(path.clone());
        let mut own = HashMap::new();
        for (rank, id) in graph.topological_order().into_iter().enumerate() {
            let Some(operator) = graph.operator(id) else {
                continue;
            };
            let kind = identifier(&operator.op_type);
            let count = self.counts.entry(kind.clone()).or_default();
            let stem = format!("{kind}_{count}");
            *count += 1;
            own.insert(id, Numbering { rank, stem });
            for (body, inner) in operator.bodies() {
                self.number(inner, path.body(id, body));
            }
        }
        self.operators.insert(path, own);
    }

    /// The graph and its bodies.
    pub(super) fn paths(&self) -> &[GraphPath] {
        &self.paths
    }

    /// Type and number of an operator; `None` for what is none.
    pub(super) fn stem(&self, path: &GraphPath, id: NodeId) -> Option<&str> {
        let numbering = self.operators.get(path)?.get(&id)?;
        Some(numbering.stem.as_str())
    }

    /// What values of a body are called by: its owner and the attribute.
    pub(super) fn body(&self, path: &GraphPath) -> Option<String> {
        let mut around = path.clone();
        let (owner, body) = around.bodies.pop()?;
        let stem = self.stem(&around, owner)?;
        let operator = self.model.graph_at(&around)?.operator(owner)?;
        let attribute = operator.attributes().get(body.attribute)?;
        let name = identifier(&attribute.name);
        Some(match body.index {
            0 => format!("{stem}_{name}"),
            index => format!("{stem}_{name}_{index}"),
        })
    }

    /// The first reader of a value and what the value is to it; `None` for a value that nothing reads.
    pub(super) fn place_of(&self, path: &GraphPath, value: ValueId) -> Option<String> {
        let graph = self.model.graph_at(path)?;
        let own = self.operators.get(path)?;
        let rank = |at: &Use| own.get(&at.node).map_or(usize::MAX, |reader| reader.rank);
        let mut uses: Vec<Use> = graph.readers_of(value).collect();
        uses.sort_by_key(|at| (rank(at), at.slot));
        uses.into_iter().find_map(|at| self.place(path, graph, at))
    }

    fn place(&self, path: &GraphPath, graph: &Graph, at: Use) -> Option<String> {
        match at.slot {
            Slot::Input(index) if at.node == graph.sink() => {
                Some(format!("{}_output_{index}", self.body(path)?))
            }
            Slot::Input(index) => {
                let stem = self.stem(path, at.node)?;
                let function = self.functions.called_by(graph, at.node);
                let imports = self.model.opsets(path);
                let word = word(graph.operator(at.node)?, imports, function, index as usize);
                Some(format!("{stem}_{word}"))
            }
            Slot::Capture(index) => {
                let operator = graph.operator(at.node)?;
                captured(operator, index).find_map(|(body, value)| {
                    let inner = path.body(at.node, body);
                    self.place_of(&inner, value)
                })
            }
        }
    }
}

/// What a capture slot of an operator is in its bodies.
fn captured(operator: &Operator, slot: u32) -> impl Iterator<Item = (BodyIndex, ValueId)> {
    operator
        .bodies()
        .filter_map(move |(body, graph)| Some((body, graph.captured(slot).next()?)))
}
