//! The driver: goes over graphs in topological order, into bodies and called functions, and records what the rules find.

use std::sync::Arc;

use indexmap::IndexSet;

use super::call::{Call, Fact, size};
use super::functions::Functions;
use super::symbols::public_type;
use super::{content, shapes};
use crate::ir::{
    AttributeValue, Constant, ConstantOrigin, DType, Dim, Graph, GraphPath, Imports, Model, NodeId, NodeKind,
    Operator, ShapeContent, TensorType, ValueId, ValueType, opset_version, tensor_type,
};

/// A declaration of the file that no value can fulfil; what was inferred holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contradiction {
    /// The graph of the value.
    pub path: GraphPath,
    /// The node that produces it.
    pub node: String,
    /// Its name.
    pub value: String,
    /// The declared type.
    pub declared: String,
    /// The inferred type.
    pub inferred: String,
}

/// What [`infer`] found beside types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InferReport {
    /// Declared types of intermediate values and graph outputs that contradict what was inferred, in graph order.
    pub contradictions: Vec<Contradiction>,
}

/// Infers types, symbolic shapes and the elements of shape-valued tensors in every graph of the model: the main graph, its
/// bodies, and functions with the types of their calls. Declared types of inputs are taken as true, those of other
/// values only fill in what inference leaves open. Also refreshes what bodies know of the values they capture.
pub fn infer(model: &mut Model) -> InferReport {
    let functions = Functions::new(&model.functions);
    let nodes = count(&model.graph) + functions.nodes();
    let mut driver = Driver {
        functions: Some(&functions),
        contradictions: IndexSet::new(),
        fuel: fuel(nodes),
    };
    driver.graph(
        &mut model.graph,
        &Scope {
            imports: &model.opset_imports,
            path: GraphPath::MAIN,
            depth: 0,
        },
    );
    let mut inferred = Vec::with_capacity(model.functions.len());
    for (index, function) in model.functions.iter().enumerate() {
        let mut graph = function.graph.clone();
        functions.seed(index, &mut graph);
        driver.graph(
            &mut graph,
            &Scope {
                imports: &function.opset_imports,
                path: GraphPath::function(index),
                depth: 0,
            },
        );
        inferred.push(graph);
    }
    let contradictions = driver.contradictions.into_iter().collect();
    for (function, graph) in model.functions.iter_mut().zip(inferred) {
        function.graph = graph;
    }
    InferReport { contradictions }
}

/// Infers the outputs of one node, whose inputs are inferred already, and its bodies. `imports` are those of the graph's
/// model or function. Calls of model-local functions stay unknown: only [`infer`] sees those.
pub fn infer_node(graph: &mut Graph, node: NodeId, imports: &Imports) {
    let bodies = graph.operator(node).into_iter().flat_map(Operator::bodies);
    let nodes = bodies.map(|(_, body)| count(body)).sum();
    let mut driver = Driver {
        functions: None,
        contradictions: IndexSet::new(),
        fuel: fuel(nodes),
    };
    driver.node(
        graph,
        node,
        &Scope {
            imports,
            path: GraphPath::MAIN,
            depth: 0,
        },
    );
}

/// Where the driver is.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    /// Opset imports in force.
    pub(super) imports: &'a Imports,
    /// The graph.
    pub(super) path: GraphPath,
    /// Bodies and calls around it.
    pub(super) depth: usize,
}

/// Goes over graphs.
pub(super) struct Driver<'f> {
    pub(super) functions: Option<&'f Functions<'f>>,
    pub(super) contradictions: IndexSet<Contradiction>,
    /// Nodes of bodies that are inferred before the state of further loops counts as unknown: each loop around another may ask for
    /// a few rounds of it, so what loops within loops ask for doubles with each.
    pub(super) fuel: usize,
}

/// The nodes of a graph and of its bodies.
pub(super) fn count(graph: &Graph) -> usize {
    graph
        .node_ids()
        .map(|id| {
            let bodies = graph.operator(id).into_iter().flat_map(Operator::bodies);
            1 + bodies.map(|(_, body)| count(body)).sum::<usize>()
        })
        .sum()
}

/// How many nodes one run may infer in bodies and called functions that have so many between them: each some times, and a few in any
/// case.
pub(super) fn fuel(nodes: usize) -> usize {
    nodes.saturating_mul(ROUNDS).saturating_add(BASE)
}

const ROUNDS: usize = 64;
const BASE: usize = 20_000;

impl Driver<'_> {
    /// Infers a graph whose inputs and captures have their types.
    pub(super) fn graph(&mut self, graph: &mut Graph, scope: &Scope<'_>) {
        for id in graph.topological_order() {
            self.node(graph, id, scope);
        }
        for (value, output) in graph.output_values().into_iter().zip(graph.outputs()) {
            let Some(value) = value else { continue };
            let inferred = graph.ty(value);
            if inferred.contradicts(&output.ty) {
                self.report(graph, value.node, scope, &output.name, &output.ty, inferred);
            }
        }
    }

    fn report(
        &mut self,
        graph: &Graph,
        node: NodeId,
        scope: &Scope<'_>,
        value: &str,
        declared: &ValueType,
        inferred: &ValueType,
    ) {
        let found = Contradiction {
            path: scope.path.clone(),
            node: graph.label(node),
            value: value.to_owned(),
            declared: declared.to_string(),
            inferred: inferred.to_string(),
        };
        self.contradictions.insert(found);
    }

    fn node(&mut self, graph: &mut Graph, id: NodeId, scope: &Scope<'_>) {
        let facts = match graph.get(id).map(|node| &node.kind) {
            Some(NodeKind::Operator(operator)) if operator.has_bodies() => self.with_bodies(graph, id, scope),
            Some(NodeKind::Operator(operator)) => {
                let version = opset_version(scope.imports, operator.domain()).unwrap_or(0);
                let Some(call) = Call::of(graph, id, version) else {
                    return;
                };
                match self.functions.and_then(|functions| functions.find(graph, id)) {
                    Some(index) => self.call_function(index, &call, scope),
                    None => shapes::infer_operator(&call),
                }
            }
            Some(NodeKind::Constant(constant)) => {
                let (ty, content) = constant_facts(constant);
                if ty != ValueType::Unknown {
                    graph.set_facts(ValueId::new(id, 0), ty, content.map(Arc::new));
                }
                return;
            }
            Some(NodeKind::Input(input)) => {
                if let (ValueType::Unknown, Some((tensor, _))) =
                    (graph.ty(ValueId::new(id, 0)), &input.default)
                {
                    let ty = tensor_type(tensor);
                    graph.set_facts(ValueId::new(id, 0), ty, None);
                }
                return;
            }
            _ => return,
        };
        for (output, fact) in facts.0.into_iter().enumerate() {
            self.commit(graph, ValueId::new(id, output), fact, scope);
        }
    }

    /// Records a fact, filled up with what the file declares.
    fn commit(&mut self, graph: &mut Graph, id: ValueId, fact: Fact, scope: &Scope<'_>) {
        let (inferred, content) = fact.finish();
        let Some(value) = graph.value(id) else { return };
        let ty = match &value.ty {
            ValueType::Unknown => inferred,
            declared => {
                let declared = public_type(declared);
                if inferred.contradicts(&declared) {
                    // Without a declaration it is a fact from before a rewrite, or a pass's own guess.
                    if value.declared.is_some() {
                        self.report(graph, id.node, scope, &value.name, &declared, &inferred);
                    }
                    inferred
                } else {
                    filled(inferred, declared)
                }
            }
        };
        graph.set_facts(id, ty, content.map(Arc::new));
    }
}

/// The inferred type, where it leaves something open filled up from the declared one.
pub(super) fn filled(inferred: ValueType, declared: ValueType) -> ValueType {
    match (inferred, declared) {
        (ValueType::Unknown, declared) => declared,
        (ValueType::Tensor(inferred), ValueType::Tensor(declared)) => {
            let shape = match (inferred.shape, declared.shape) {
                (Some(mut inferred), Some(declared)) => {
                    for (dim, known) in inferred.iter_mut().zip(declared) {
                        if !dim.is_known() {
                            *dim = known;
                        }
                    }
                    Some(inferred)
                }
                (inferred, declared) => inferred.or(declared),
            };
            ValueType::Tensor(TensorType {
                dtype: inferred.dtype.or(declared.dtype),
                shape,
            })
        }
        (inferred, declared) => inferred.refined_by(&declared),
    }
}

fn constant_facts(constant: &Constant) -> (ValueType, Option<ShapeContent>) {
    if let Some(tensor) = &constant.tensor {
        return (
            tensor_type(tensor),
            content::of_tensor(tensor).filter(content::says_something),
        );
    }
    let sparse = match &constant.origin {
        ConstantOrigin::Sparse(sparse, _) => Some(&**sparse),
        ConstantOrigin::Node { attribute, .. } => match &attribute.value {
            AttributeValue::Sparse(sparse) => Some(&**sparse),
            _ => None,
        },
        ConstantOrigin::Initializer(_) => None,
    };
    let Some(sparse) = sparse else {
        return (ValueType::Unknown, None);
    };
    let dtype = sparse
        .values
        .as_ref()
        .and_then(|values| DType::from_onnx(values.data_type?));
    let shape = sparse.dims.iter().map(|dim| size(Dim::Fixed(*dim))).collect();
    (ValueType::tensor(dtype, Some(shape)), None)
}
