//! What holds for every node of one graph while a pass works on it: opset imports, model-local functions, protected names.

use std::collections::HashSet;

use super::{Context, PassError};
use crate::ir::{DType, EditError, Graph, Imports, Model, NodeId, Operator, ValueId, opset_version};
use crate::ops::{Schema, Traits, schema};
use crate::proto;

/// The surroundings of a graph: its imports, the model's functions, and names that no pass may remove.
pub(super) struct Scope<'a> {
    /// Options and limits of the run.
    pub(super) context: &'a Context<'a>,
    /// Name of the pass.
    pub(super) pass: &'static str,
    imports: Imports,
    functions: &'a HashSet<(String, String)>,
    pinned: &'a HashSet<String>,
    /// What quantization annotations of the graph and its bodies name.
    annotated: HashSet<String>,
    /// Whether the graph is in a function, where a constant has to be a node.
    pub(super) in_function: bool,
}

impl Scope<'_> {
    /// The version of a domain that the graph imports.
    pub(super) fn version(&self, domain: &str) -> Option<i64> {
        opset_version(&self.imports, domain)
    }

    /// Whether the operator is a call of a model-local function.
    pub(super) fn is_function(&self, operator: &Operator) -> bool {
        !self.functions.is_empty()
            && self
                .functions
                .contains(&(operator.domain().to_owned(), operator.op_type.to_string()))
    }

    /// The specification's schema of the operator; `None` for a call of a model-local function, an operator of a domain that
    /// is not ONNX's own, and one that this opset does not have.
    pub(super) fn schema(&self, operator: &Operator) -> Option<&'static Schema> {
        if self.is_function(operator) {
            return None;
        }
        schema(
            operator.domain(),
            &operator.op_type,
            self.version(operator.domain())?,
        )
        .filter(|s| !s.deprecated)
    }

    /// Whether the operator is ONNX's own and two runs on the same inputs give the same bits.
    pub(super) fn deterministic(&self, graph: &Graph, id: NodeId, operator: &Operator) -> bool {
        self.schema(operator).is_some()
            && !Traits::of(operator.domain(), &operator.op_type).random
            && !self.may_drop_elements(graph, id, operator)
    }

    /// Whether a Dropout may run in training mode, and is random then.
    fn may_drop_elements(&self, graph: &Graph, id: NodeId, operator: &Operator) -> bool {
        if !operator.is("Dropout") {
            return false;
        }
        match self.version("") {
            Some(version) if version >= 12 => graph.input(id, 2).is_some_and(|mode| {
                let known = graph
                    .constant(mode)
                    .filter(|tensor| tensor.dtype() == DType::Bool);
                known
                    .and_then(|tensor| tensor.single_i64())
                    .is_none_or(|training| training != 0)
            }),
            Some(version) if version >= 7 => false,
            _ => operator.int("is_test").unwrap_or(0) == 0,
        }
    }

    /// Whether the node, or a value it produces, is protected: by a `keep` pattern, or because something outside of the
    /// graph's edges names it (a quantization annotation, training information).
    pub(super) fn protected(&self, graph: &Graph, id: NodeId) -> bool {
        let Some(node) = graph.get(id) else { return true };
        node.name.as_deref().is_some_and(|name| self.context.keeps(name))
            || node
                .outputs()
                .iter()
                .any(|value| self.context.keeps(&value.name) || self.is_pinned(&value.name))
    }

    fn is_pinned(&self, name: &str) -> bool {
        !name.is_empty() && (self.pinned.contains(name) || self.annotated.contains(name))
    }

    /// Turns an edit that should have been legal into the pass's error.
    pub(super) fn defect(&self, source: EditError) -> PassError {
        PassError::Edit {
            pass: self.pass,
            source,
        }
    }
}

/// Runs `change` on the main graph and on the graph of each function. Bodies are up to `change`.
pub(super) fn for_each_root(
    model: &mut Model,
    pass: &'static str,
    context: &Context<'_>,
    mut change: impl FnMut(&mut Graph, &Scope<'_>) -> Result<(), PassError>,
) -> Result<(), PassError> {
    let functions = function_names(model);
    let pinned = training_names(model);
    let nothing = HashSet::new();
    let scope = Scope {
        context,
        pass,
        imports: model.opset_imports.clone(),
        functions: &functions,
        pinned: &pinned,
        annotated: annotated_names(&model.graph),
        in_function: false,
    };
    change(&mut model.graph, &scope)?;
    for function in &mut model.functions {
        let imports = function.opset_imports.clone();
        let scope = Scope {
            context,
            pass,
            imports,
            functions: &functions,
            pinned: &nothing,
            annotated: annotated_names(&function.graph),
            in_function: true,
        };
        change(&mut function.graph, &scope)?;
    }
    Ok(())
}

/// Domain and name of each model-local function, ONNX's own domain as the empty text.
fn function_names(model: &Model) -> HashSet<(String, String)> {
    model
        .functions
        .iter()
        .map(|function| {
            let domain = function.header.domain.as_deref().unwrap_or("");
            let domain = if domain == "ai.onnx" { "" } else { domain };
            (
                domain.to_owned(),
                function.header.name.clone().unwrap_or_default(),
            )
        })
        .collect()
}

/// Names of parameters in the quantization annotations of a graph and its bodies.
fn annotated_names(graph: &Graph) -> HashSet<String> {
    let mut names = HashSet::new();
    let mut pending = vec![graph];
    while let Some(graph) = pending.pop() {
        let entries = graph
            .meta
            .quantization
            .iter()
            .flat_map(|annotation| &annotation.quant_parameter_tensor_names);
        names.extend(entries.filter_map(|entry| entry.value.clone()));
        let operators = graph.node_ids().filter_map(|id| graph.operator(id));
        pending.extend(operators.flat_map(Operator::bodies).map(|(_, body)| body));
    }
    names
}

/// Names of the main graph that training information refers to.
pub(super) fn training_names(model: &Model) -> HashSet<String> {
    let mut names = HashSet::new();
    for info in &model.header.training_info {
        let bindings = info.initialization_binding.iter().chain(&info.update_binding);
        names.extend(
            bindings
                .flat_map(|entry| [entry.key.clone(), entry.value.clone()])
                .flatten(),
        );
        for graph in info.initialization.iter().chain(&info.algorithm) {
            collect_inputs(graph, 0, &mut names);
        }
    }
    names
}

fn collect_inputs(graph: &proto::GraphProto, depth: usize, names: &mut HashSet<String>) {
    /// Bodies nested deeper than any reader accepts.
    const DEEPEST: usize = 128;
    if depth > DEEPEST {
        return;
    }
    for node in &graph.node {
        names.extend(node.input.iter().cloned());
        for attribute in &node.attribute {
            for body in attribute.g.iter().chain(&attribute.graphs) {
                collect_inputs(body, depth + 1, names);
            }
        }
    }
}

/// Numbers of readers by node index, graph outputs and captures included.
pub(super) fn reader_counts(graph: &Graph) -> Vec<u32> {
    let mut counts = vec![0u32; node_bound(graph)];
    let readers = graph.node_ids();
    for id in readers {
        for value in read_by(graph, id) {
            if let Some(count) = counts.get_mut(value.node.index()) {
                *count += 1;
            }
        }
    }
    counts
}

/// Every value that a node reads, once a slot, captures included.
pub(super) fn read_by(graph: &Graph, id: NodeId) -> impl Iterator<Item = ValueId> {
    graph
        .inputs_of(id)
        .into_iter()
        .chain(graph.captures_of(id))
        .flatten()
}

/// One more than the highest node index.
pub(super) fn node_bound(graph: &Graph) -> usize {
    graph.node_ids().map(|id| id.index() + 1).max().unwrap_or(0)
}

/// The captures of a body with the slots they read, in the order of node ids.
pub(super) fn captures_in(body: &Graph) -> Vec<(NodeId, u32)> {
    body.captures().collect()
}
