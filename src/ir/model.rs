//! A whole model: main graph, functions, opset imports and everything around them.

use super::functions::{FunctionIndex, FunctionKey};
use super::graph::Graph;
use super::imports::{Imports, opset_version};
use super::node::{BodyIndex, NodeId, ValueId};
use crate::proto;

/// A model.
#[derive(Clone, Debug)]
pub struct Model {
    /// `ModelProto` without graph, functions, opset imports and metadata: producer, version, documentation, training
    /// information, device configuration.
    pub header: Box<proto::ModelProto>,
    /// Opset imports in file order, repeats included.
    pub opset_imports: Imports,
    /// `metadata_props` in file order.
    pub metadata: Vec<proto::StringStringEntryProto>,
    /// The main graph.
    pub graph: Graph,
    /// Model-local functions in file order.
    pub functions: Vec<Function>,
}

/// A model-local function.
#[derive(Clone, Debug)]
pub struct Function {
    /// `FunctionProto` without nodes, inputs, outputs, value_info and opset imports: name, domain, overload, attributes,
    /// documentation, metadata.
    pub header: Box<proto::FunctionProto>,
    /// Opset imports in file order.
    pub opset_imports: Imports,
    /// The body; its inputs have no declared types.
    pub graph: Graph,
}

/// Where a graph is in a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GraphPath {
    /// `None` for the main graph, else the index of the function.
    pub function: Option<usize>,
    /// The bodies to go through, outermost first.
    pub bodies: Vec<(NodeId, BodyIndex)>,
}

impl GraphPath {
    /// The main graph.
    pub const MAIN: GraphPath = GraphPath {
        function: None,
        bodies: Vec::new(),
    };

    /// The body of a function.
    pub fn function(index: usize) -> Self {
        Self {
            function: Some(index),
            bodies: Vec::new(),
        }
    }

    /// A body in the graph at this path.
    pub fn body(&self, node: NodeId, body: BodyIndex) -> Self {
        let mut path = self.clone();
        path.bodies.push((node, body));
        path
    }
}

impl Model {
    /// The file's IR version.
    pub fn ir_version(&self) -> i64 {
        self.header.ir_version.unwrap_or(0)
    }

    /// The opset imports that hold in the graph at `path`: a function's own in a function.
    pub fn opsets(&self, path: &GraphPath) -> &Imports {
        match path.function.and_then(|index| self.functions.get(index)) {
            Some(function) => &function.opset_imports,
            None => &self.opset_imports,
        }
    }

    /// The version of ONNX's own operators in the main graph.
    pub fn opset(&self) -> Option<i64> {
        opset_version(&self.opset_imports, "")
    }

    /// The graph at `path`.
    pub fn graph_at(&self, path: &GraphPath) -> Option<&Graph> {
        let root = match path.function {
            None => &self.graph,
            Some(index) => &self.functions.get(index)?.graph,
        };
        path.bodies
            .iter()
            .try_fold(root, |graph, (node, body)| graph.body(*node, *body))
    }

    /// The value that the body at `path` captures in this slot, with the path of the graph around.
    pub fn captured(&self, path: &GraphPath, slot: u32) -> Option<(GraphPath, ValueId)> {
        let mut path = path.clone();
        let (owner, _) = path.bodies.pop()?;
        let value = self
            .graph_at(&path)?
            .captures_of(owner)
            .get(slot as usize)
            .copied()??;
        Some((path, value))
    }

    /// The graph at `path`, to be edited.
    pub fn graph_at_mut(&mut self, path: &GraphPath) -> Option<&mut Graph> {
        let root = match path.function {
            None => &mut self.graph,
            Some(index) => &mut self.functions.get_mut(index)?.graph,
        };
        path.bodies
            .iter()
            .try_fold(root, |graph, (node, body)| graph.body_mut(*node, *body))
    }

    /// Every graph: the main graph, its bodies (outer before inner), then each function and its bodies.
    pub fn graph_paths(&self) -> Vec<GraphPath> {
        fn walk(graph: &Graph, path: GraphPath, found: &mut Vec<GraphPath>) {
            found.push(path.clone());
            for (node, body) in graph.bodies() {
                if let Some(inner) = graph.body(node, body) {
                    walk(inner, path.body(node, body), found);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.graph, GraphPath::MAIN, &mut found);
        for (index, function) in self.functions.iter().enumerate() {
            walk(&function.graph, GraphPath::function(index), &mut found);
        }
        found
    }

    /// Whether a node of the main graph calls a model-local function. [`Model::function_index`] is for many look-ups.
    pub fn calls_function(&self, id: NodeId) -> bool {
        let named = FunctionKey::named_by(&self.graph, id);
        named.is_some_and(|named| {
            self.functions
                .iter()
                .any(|function| FunctionKey::of(function) == named)
        })
    }

    /// The model-local functions by what calls them.
    pub fn function_index(&self) -> FunctionIndex<'_> {
        FunctionIndex::of(&self.functions)
    }
}
