//! One graph and its bodies.

use std::collections::{HashMap, HashSet};

use super::{CheckError, Problem, sparse};
use crate::ir::{
    Attribute, AttributeValue, ConstantOrigin, DType, Graph, GraphPath, Input, Model, Name, Node, NodeId,
    NodeKind, Operator, Position, Slot, ValueType, opset_version,
};
use crate::proto;

struct Checker<'a> {
    model: &'a Model,
    graph: &'a Graph,
    path: &'a GraphPath,
    errors: &'a mut Vec<CheckError>,
}

/// The names of a graph, each with the place of its node; `None` for what is there from the start.
pub(super) type Names = HashMap<Name, Option<Position>>;

/// A graph around a body: its names, and the place of the node that owns the body. What is defined behind that node the body does
/// not see, so it may use the name.
pub(super) type Scope = (Names, Option<Position>);

/// Checks a graph; `captures` is the number of capture slots of the node that owns it, for a body, and `scopes` holds the
/// names of the graphs around it.
pub(super) fn check(
    model: &Model,
    graph: &Graph,
    path: &GraphPath,
    captures: Option<usize>,
    scopes: &mut Vec<Scope>,
    errors: &mut Vec<CheckError>,
) {
    let mut checker = Checker {
        model,
        graph,
        path,
        errors,
    };
    let defined = checker.names(scopes);
    checker.outputs();
    for id in nodes(graph) {
        checker.node(id, captures);
    }
    checker.cycles();
    scopes.push((defined, None));
    for (owner, index) in graph.bodies() {
        if let Some((_, place)) = scopes.last_mut() {
            *place = graph.get(owner).map(Node::position);
        }
        if let Some(body) = graph.body(owner, index) {
            let slots = graph.operator(owner).map_or(0, Operator::capture_count);
            check(model, body, &path.body(owner, index), Some(slots), scopes, errors);
        }
    }
    scopes.pop();
}

/// Live nodes in the order of their positions.
fn nodes(graph: &Graph) -> Vec<NodeId> {
    let mut found: Vec<NodeId> = graph.node_ids().filter(|id| *id != graph.sink()).collect();
    found.sort_by_key(|id| (graph.get(*id).map(Node::position), *id));
    found
}

impl Checker<'_> {
    fn report(&mut self, id: NodeId, problem: Problem) {
        self.errors
            .push(CheckError::of_node(self.path, self.graph, id, problem));
    }

    fn report_value(&mut self, id: NodeId, value: &str, problem: Problem) {
        self.errors
            .push(CheckError::of_node(self.path, self.graph, id, problem).with_value(value));
    }

    /// Names are unique in the graph and hide none of the graphs around. Values that a rewrite made have no name yet.
    fn names(&mut self, scopes: &[Scope]) -> Names {
        let mut defined = Names::new();
        for id in nodes(self.graph) {
            let Some(node) = self.graph.get(id) else { continue };
            let captured = matches!(node.kind, NodeKind::Capture(_));
            let place = matches!(&node.kind, NodeKind::Operator(_)).then(|| node.position());
            let seen = |(names, owner): &Scope, name: &Name| match names.get(name) {
                Some(Some(place)) => owner.as_ref().is_none_or(|owner| place < owner),
                Some(None) => true,
                None => false,
            };
            for value in node
                .outputs()
                .iter()
                .filter(|value| !value.name.is_empty() && !value.omitted)
            {
                let hides = !captured && scopes.iter().any(|scope| seen(scope, &value.name));
                if defined.insert(value.name.clone(), place).is_some() || hides {
                    self.report_value(id, &value.name, Problem::DuplicateValue);
                }
            }
        }
        defined
    }

    fn outputs(&mut self) {
        // One value may be listed twice.
        for (output, value) in self.graph.outputs().iter().zip(self.graph.output_values()) {
            let of_graph = |problem| CheckError::of_graph(self.path, problem).with_value(&output.name);
            if output.name.is_empty() {
                self.errors.push(CheckError::of_graph(
                    self.path,
                    Problem::MissingName {
                        what: "a graph output",
                    },
                ));
            }
            if value.is_none() {
                self.errors.push(of_graph(Problem::MissingOutput));
            }
            if let Some(number) = output.declared.as_ref().and_then(unknown_dtype) {
                self.errors.push(of_graph(Problem::UnknownDtype { number }));
            }
        }
    }

    fn node(&mut self, id: NodeId, captures: Option<usize>) {
        let Some(node) = self.graph.get(id) else { return };
        match &node.kind {
            NodeKind::Input(input) => self.input(id, input, node),
            NodeKind::Constant(constant) => {
                let problem = match &constant.origin {
                    ConstantOrigin::Sparse(tensor, _) => sparse::check(tensor).err(),
                    ConstantOrigin::Node { attribute, .. } => {
                        self.constant_value(attribute, constant.tensor.is_some())
                    }
                    ConstantOrigin::Initializer(_) if constant.tensor.is_none() => {
                        Some(Problem::ConstantValue { found: 0 })
                    }
                    ConstantOrigin::Initializer(_) => None,
                };
                if let Some(problem) = problem {
                    self.report(id, problem);
                }
                if let ConstantOrigin::Node { domain, .. } = &constant.origin {
                    self.import(id, domain.as_deref().unwrap_or(""));
                }
            }
            NodeKind::Capture(capture) => {
                if captures.is_none_or(|count| capture.index as usize >= count) {
                    self.report(
                        id,
                        Problem::UndefinedValue {
                            slot: format!("capture {}", capture.index),
                        },
                    );
                }
            }
            NodeKind::Operator(operator) => self.operator(id, operator),
            NodeKind::Output | NodeKind::Removed => {}
        }
        self.edges(id);
    }

    /// A `Constant` node keeps its attribute for what no tensor holds.
    fn constant_value(&self, attribute: &Attribute, has_tensor: bool) -> Option<Problem> {
        match &attribute.value {
            AttributeValue::Sparse(tensor) => sparse::check(tensor).err(),
            AttributeValue::Missing if !has_tensor => Some(Problem::ConstantValue { found: 0 }),
            _ => None,
        }
    }

    fn input(&mut self, id: NodeId, input: &Input, node: &Node) {
        let Some(value) = node.outputs().first() else {
            return;
        };
        if value.name.is_empty() {
            self.report(
                id,
                Problem::MissingName {
                    what: "a graph input",
                },
            );
        }
        let is_main = *self.path == GraphPath::MAIN;
        match &input.declared {
            Some(declared) => {
                if let Some(number) = unknown_dtype(declared) {
                    self.report_value(id, &value.name, Problem::UnknownDtype { number });
                } else if is_main
                    && declared.r#type.as_ref().is_none_or(|ty| ty.value.is_none())
                    && input.default.is_none()
                {
                    self.report_value(id, &value.name, Problem::MissingType);
                }
            }
            None if is_main && value.ty == ValueType::Unknown => {
                self.report_value(id, &value.name, Problem::MissingType);
            }
            None => {}
        }
    }

    fn operator(&mut self, id: NodeId, operator: &Operator) {
        if operator.op_type.is_empty() {
            self.report(id, Problem::MissingName { what: "the operator" });
        }
        self.import(id, operator.imported_domain());
        let mut names = HashSet::new();
        for attribute in operator.attributes() {
            let name = || attribute.name.to_string();
            if attribute.name.is_empty() {
                self.report(id, Problem::MissingName { what: "an attribute" });
            } else if !names.insert(attribute.name.clone()) {
                self.report(id, Problem::DuplicateAttribute { attribute: name() });
            }
            match &attribute.value {
                AttributeValue::Reference(..) if self.path.function.is_none() => {
                    self.report(id, Problem::AttributeReference { attribute: name() });
                }
                AttributeValue::Missing => {
                    let expected = "one value".to_owned();
                    self.report(
                        id,
                        Problem::AttributeType {
                            attribute: name(),
                            expected,
                            found: "nothing",
                        },
                    );
                }
                AttributeValue::Sparse(tensor) => {
                    if let Err(problem) = sparse::check(tensor) {
                        self.report(id, problem);
                    }
                }
                _ => {}
            }
        }
    }

    fn import(&mut self, id: NodeId, domain: &str) {
        let domain = if domain == "ai.onnx" { "" } else { domain };
        let imports = self.model.opsets(self.path);
        // A model of an IR version without imports, or without any, is judged as a whole.
        if imports.is_empty() && self.path.function.is_none() {
            return;
        }
        if opset_version(imports, domain).is_none() {
            self.report(
                id,
                Problem::MissingOpsetImport {
                    domain: domain.to_owned(),
                },
            );
        }
    }

    /// Slots are filled from outputs that exist; each capture slot is filled.
    fn edges(&mut self, id: NodeId) {
        let (inputs, captures) = match self.graph.operator(id) {
            Some(operator) => (operator.input_count(), operator.capture_count()),
            None => (0, 0),
        };
        let mut filled = HashSet::new();
        for (slot, value) in self.graph.wires.incoming(id) {
            let in_range = match slot {
                Slot::Input(index) => (index as usize) < inputs,
                Slot::Capture(index) => (index as usize) < captures,
            };
            let source = self
                .graph
                .get(value.node)
                .and_then(|node| node.outputs().get(value.output as usize));
            filled.insert(slot);
            if !in_range || source.is_none_or(|value| value.omitted) {
                let slot = match slot {
                    Slot::Input(index) => format!("input {index}"),
                    Slot::Capture(index) => format!("capture {index}"),
                };
                self.errors.push(CheckError::of_node(
                    self.path,
                    self.graph,
                    id,
                    Problem::UndefinedValue { slot },
                ));
            }
        }
        for index in 0..captures as u32 {
            if !filled.contains(&Slot::Capture(index)) {
                self.report(
                    id,
                    Problem::UndefinedValue {
                        slot: format!("capture {index}"),
                    },
                );
            }
        }
    }

    /// Names one node of each cycle's component that topological order cannot reach.
    fn cycles(&mut self) {
        let ordered: HashSet<NodeId> = self.graph.topological_order().into_iter().collect();
        let stuck: Vec<NodeId> = nodes(self.graph)
            .into_iter()
            .filter(|id| !ordered.contains(id))
            .collect();
        // Going back from a node that waits leads into a cycle.
        let Some(mut at) = stuck.first().copied() else {
            return;
        };
        let mut seen = HashSet::new();
        while seen.insert(at) {
            let before = self
                .graph
                .wires
                .incoming(at)
                .map(|(_, value)| value.node)
                .filter(|source| !ordered.contains(source))
                .min();
            match before {
                Some(source) => at = source,
                None => break,
            }
        }
        self.report(at, Problem::Cycle);
    }
}

/// The number of an element type that does not exist, in a declaration.
fn unknown_dtype(declared: &proto::ValueInfoProto) -> Option<i32> {
    use proto::type_proto::Value;
    fn of(ty: &proto::TypeProto) -> Option<i32> {
        let number =
            |number: Option<i32>| Some(number.unwrap_or(0)).filter(|n| DType::from_onnx(*n).is_none());
        match ty.value.as_ref()? {
            Value::TensorType(tensor) => number(tensor.elem_type),
            Value::SparseTensorType(tensor) => number(tensor.elem_type),
            Value::SequenceType(sequence) => of(sequence.elem_type.as_deref()?),
            Value::OptionalType(optional) => of(optional.elem_type.as_deref()?),
            Value::MapType(map) => of(map.value_type.as_deref()?),
            Value::OpaqueType(_) => None,
        }
    }
    of(declared.r#type.as_ref()?)
}

/// Reports nodes that stand before one they read from. Nodes that a rewrite inserted have no place of their own.
pub(super) fn sorted(graph: &Graph, path: &GraphPath, errors: &mut Vec<CheckError>) {
    let is_node = |node: &Node| match &node.kind {
        NodeKind::Operator(_) => true,
        NodeKind::Constant(constant) => matches!(constant.origin, ConstantOrigin::Node { .. }),
        _ => false,
    };
    for id in nodes(graph) {
        let Some(node) = graph
            .get(id)
            .filter(|node| node.operator().is_some() && node.position.serial == 0)
        else {
            continue;
        };
        for value in graph
            .inputs_of(id)
            .into_iter()
            .chain(graph.captures_of(id))
            .flatten()
        {
            let later = graph.get(value.node).is_some_and(|source| {
                is_node(source) && source.position.serial == 0 && source.position > node.position
            });
            if later {
                let reads = graph
                    .value(value)
                    .map_or(String::new(), |value| value.name.to_string());
                errors.push(CheckError::of_node(path, graph, id, Problem::NotSorted { reads }));
            }
        }
    }
}
