//! What checks look at.

use std::path::PathBuf;

use indexmap::IndexMap;
use petgraph::unionfind::UnionFind;

use super::check::FindingPlace;
use super::weights::Weights;
use crate::analysis::{Conflict, Contradiction, graph_name};
use crate::format::Origin;
use crate::ir::{
    FunctionIndex, Graph, GraphPath, Model, NodeId, Operator, Tensor, ValueId, ValueType, opset_version,
};

/// What is known of the file of a model.
#[derive(Clone, Debug)]
pub struct FileFacts {
    /// The file; `None` for bytes in memory.
    pub path: Option<PathBuf>,
    /// Bytes of the model's own message, without external data.
    pub message_bytes: u64,
    /// The most bytes that a message may have.
    pub message_limit: u64,
    /// Files of external data by their locations, with their bytes.
    pub external: Vec<(String, u64)>,
}

/// What protobuf's own length fields can say.
const MESSAGE_LIMIT: u64 = i32::MAX as u64;

impl FileFacts {
    /// The facts of what was read.
    pub fn of(origin: &Origin) -> Self {
        Self {
            path: origin.path.clone(),
            message_bytes: origin.bytes.len() as u64,
            message_limit: MESSAGE_LIMIT,
            external: origin
                .external
                .iter()
                .map(|(location, file)| (location.to_owned(), file.bytes.len() as u64))
                .collect(),
        }
    }
}

/// A graph of the model.
pub(super) struct GraphView<'m> {
    /// Where it is.
    pub(super) path: GraphPath,
    /// What places call it; `None` for the main graph.
    pub(super) name: Option<String>,
    /// The graph, inferred.
    pub(super) graph: &'m Graph,
    /// The version of ONNX's own operators in it.
    pub(super) opset: i64,
    /// Its nodes in an order in which they can run.
    pub(super) order: Vec<NodeId>,
}

/// A model as checks see it.
pub(super) struct Subject<'m> {
    /// The model, inferred.
    pub(super) model: &'m Model,
    /// The graphs, the main graph first.
    pub(super) graphs: Vec<GraphView<'m>>,
    /// The functions by what calls them.
    pub(super) functions: FunctionIndex<'m>,
    /// The constants and what their elements are.
    pub(super) weights: Weights<'m>,
    /// Declarations that inference refutes.
    pub(super) contradictions: Vec<Contradiction>,
    /// Shapes that do not fit each other.
    pub(super) conflicts: Vec<Conflict>,
    /// The file, where there is one.
    pub(super) file: Option<FileFacts>,
}

impl<'m> GraphView<'m> {
    /// The place of a node.
    pub(super) fn node(&self, id: NodeId) -> FindingPlace {
        FindingPlace {
            graph: self.name.clone(),
            node: Some(self.graph.label(id)),
            operator: self.graph.operator(id).map(operator_name),
            value: None,
        }
    }

    /// The place of a value by its name.
    pub(super) fn value(&self, name: &str) -> FindingPlace {
        FindingPlace {
            graph: self.name.clone(),
            value: Some(name.to_owned()),
            ..FindingPlace::default()
        }
    }

    /// Every operator in order.
    pub(super) fn operators(&self) -> impl Iterator<Item = (NodeId, &'m Operator)> + '_ {
        let graph = self.graph;
        self.order
            .iter()
            .filter_map(move |id| Some((*id, graph.operator(*id)?)))
    }

    /// The constant that a node reads in a slot.
    pub(super) fn constant(&self, node: NodeId, slot: usize) -> Option<&'m Tensor> {
        self.graph.constant(self.graph.input(node, slot)?)
    }

    /// The type of what a node reads in a slot.
    pub(super) fn input_type(&self, node: NodeId, slot: usize) -> Option<&'m ValueType> {
        Some(self.graph.ty(self.graph.input(node, slot)?))
    }

    /// The operator that produces what a node reads in a slot.
    pub(super) fn producer(&self, node: NodeId, slot: usize) -> Option<(NodeId, &'m Operator)> {
        let source = self.graph.input(node, slot)?.node;
        Some((source, self.graph.operator(source)?))
    }

    /// The one reader of the first output of a node that is no output of the graph.
    pub(super) fn only_reader(&self, node: NodeId) -> Option<NodeId> {
        let value = ValueId::new(node, 0);
        match self.graph.uses(value).as_slice() {
            [only] if !self.graph.is_graph_output(value) => Some(only.node),
            _ => None,
        }
    }
}

impl<'m> Subject<'m> {
    /// The graphs of an inferred model.
    pub(super) fn views(model: &'m Model) -> Vec<GraphView<'m>> {
        let paths = model.graph_paths().into_iter();
        paths
            .filter_map(|path| {
                let graph = model.graph_at(&path)?;
                Some(GraphView {
                    name: graph_name(model, &path),
                    graph,
                    opset: opset_version(model.opsets(&path), "").unwrap_or(1),
                    order: graph.topological_order(),
                    path,
                })
            })
            .collect()
    }

    /// The main graph.
    pub(super) fn main(&self) -> Option<&GraphView<'m>> {
        self.graphs.first()
    }

    /// The ranges of external files that constants and defaults are, in the order of graphs and nodes.
    pub(super) fn external_ranges(&self) -> Vec<ExternalRange<'m>> {
        let all = self.weights.all.iter();
        all.filter_map(|weight| {
            let entries = &weight.tensor.meta()?.external;
            let value = |key: &str| {
                let entry = entries.iter().find(|entry| entry.key.as_deref() == Some(key));
                entry.and_then(|entry| entry.value.as_deref())
            };
            let start: u64 = value("offset").unwrap_or("0").parse().ok()?;
            Some(ExternalRange {
                graph: weight.graph,
                name: weight.name.to_owned(),
                location: value("location")?,
                start,
                end: start.checked_add(weight.tensor.byte_len())?,
            })
        })
        .collect()
    }
}

/// Bytes of an external file that a tensor is.
#[derive(Clone, Debug)]
pub(super) struct ExternalRange<'m> {
    /// The index of the tensor's graph among the subject's.
    pub(super) graph: usize,
    /// The tensor.
    pub(super) name: String,
    /// The file as the model records it.
    pub(super) location: &'m str,
    /// The first byte.
    pub(super) start: u64,
    /// The byte behind the last.
    pub(super) end: u64,
}

/// Nodes in groups: those that edges lead between, directly or through others, together. The groups, and the nodes in them, stand in the
/// order of `nodes`.
pub(super) fn joined(
    view: &GraphView<'_>,
    edges: impl IntoIterator<Item = (NodeId, NodeId)>,
    nodes: impl IntoIterator<Item = NodeId>,
) -> Vec<Vec<NodeId>> {
    let last = view.order.iter().map(|id| id.index()).max();
    let mut sets = UnionFind::<usize>::new(last.map_or(0, |last| last + 1));
    for (a, b) in edges {
        sets.union(a.index(), b.index());
    }
    let mut groups: IndexMap<usize, Vec<NodeId>> = IndexMap::new();
    for id in nodes {
        groups.entry(sets.find(id.index())).or_default().push(id);
    }
    groups.into_values().collect()
}

/// What messages call an operator: with its domain, where that is not ONNX's own.
pub(super) fn operator_name(operator: &Operator) -> String {
    match operator.imported_domain() {
        "" => operator.op_type.to_string(),
        domain => format!("{domain}.{}", operator.op_type),
    }
}
