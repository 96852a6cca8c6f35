//! Judging operators against the table: they exist in the imported version, and their inputs, outputs, attributes and bodies
//! are those of their schema. Calls of model-local functions are judged against the function.

use super::schema::{Schema, schema};
use crate::ir::{
    AttributeValue, CheckError, Function, FunctionIndex, Graph, GraphPath, Model, Node, NodeId, Operator,
    Problem, opset_version,
};

/// The newest version of a domain that the table has; `None` for domains that it does not know.
pub fn newest_version(domain: &str) -> Option<i64> {
    // Tested against the table.
    match domain {
        "" => Some(28),
        "ai.onnx.ml" => Some(5),
        _ => None,
    }
}

/// Checks every operator of a model whose structure is sound.
pub fn check(model: &Model) -> Result<(), Vec<CheckError>> {
    let mut errors = Vec::new();
    for imports in
        std::iter::once(&model.opset_imports).chain(model.functions.iter().map(|f| &f.opset_imports))
    {
        for import in imports {
            let version = import.version.unwrap_or(0);
            if newest_version(import.domain()).is_some_and(|newest| !(1..=newest).contains(&version)) {
                let domain = import.domain().to_owned();
                errors.push(CheckError::of_model(Problem::UnsupportedOpset {
                    domain,
                    version,
                }));
            }
        }
    }
    let functions = model.function_index();
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        let mut nodes: Vec<NodeId> = graph
            .node_ids()
            .filter(|id| graph.operator(*id).is_some())
            .collect();
        nodes.sort_by_key(|id| (graph.get(*id).map(Node::position), *id));
        for id in nodes {
            let mut problems = Vec::new();
            operator(model, &functions, graph, &path, id, &mut problems);
            errors.extend(
                problems
                    .into_iter()
                    .map(|problem| CheckError::of_node(&path, graph, id, problem)),
            );
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn operator(
    model: &Model,
    functions: &FunctionIndex<'_>,
    graph: &Graph,
    path: &GraphPath,
    id: NodeId,
    problems: &mut Vec<Problem>,
) {
    let (Some(node), Some(operator)) = (graph.get(id), graph.operator(id)) else {
        return;
    };
    let (domain, op_type) = (operator.domain(), operator.op_type.as_str());
    if let Some(function) = functions.called_by(graph, id) {
        call(functions, operator, node, function, problems);
        return;
    }
    if newest_version(domain).is_none() {
        return;
    }
    // A model without any import is of the first version.
    let version = opset_version(model.opsets(path), domain).unwrap_or(1);
    match form(domain, op_type, version) {
        Err(problem) => problems.push(problem),
        Ok(schema) => {
            arity(graph, id, operator, node, schema, problems);
            attributes(operator, schema, problems);
            bodies(operator, node, schema, problems);
        }
    }
}

/// The form of an operator in a version of a domain that has a table, or what keeps it from having one.
fn form(domain: &str, op_type: &str, version: i64) -> Result<&'static Schema, Problem> {
    match schema(domain, op_type, version) {
        None => Err(Problem::UnknownOperator {
            domain: domain.to_owned(),
            op_type: op_type.to_owned(),
            version,
        }),
        Some(schema) if schema.deprecated => Err(Problem::DeprecatedOperator {
            op_type: op_type.to_owned(),
            since: schema.since,
        }),
        Some(schema) => Ok(schema),
    }
}

/// What keeps an operator of a domain that has a table from being in it; `None` for calls of model-local functions, operators
/// of other domains, and what the imported version has.
pub fn lacking(
    model: &Model,
    functions: &FunctionIndex<'_>,
    graph: &Graph,
    path: &GraphPath,
    id: NodeId,
) -> Option<Problem> {
    let operator = graph.operator(id)?;
    let (domain, op_type) = (operator.imported_domain(), operator.op_type.as_str());
    if newest_version(domain).is_none() || functions.called_by(graph, id).is_some() {
        return None;
    }
    // A model without any import is of the first version.
    let version = opset_version(model.opsets(path), domain).unwrap_or(1);
    form(domain, op_type, version).err()
}

fn within(what: &'static str, found: usize, (lowest, highest): (usize, usize), problems: &mut Vec<Problem>) {
    if !(lowest..=highest).contains(&found) {
        problems.push(Problem::WrongArity {
            what,
            found,
            lowest,
            highest,
        });
    }
}

fn call(
    functions: &FunctionIndex<'_>,
    operator: &Operator,
    node: &Node,
    function: &Function,
    problems: &mut Vec<Problem>,
) {
    within(
        "inputs",
        operator.input_count(),
        (0, function.graph.inputs().len()),
        problems,
    );
    within(
        "outputs",
        node.outputs().len(),
        (0, function.graph.outputs().len()),
        problems,
    );
    for attribute in &function.header.attribute {
        if operator.attribute(attribute).is_none()
            && needs(functions, function, &function.graph, attribute, 0)
        {
            problems.push(Problem::MissingAttribute {
                attribute: attribute.clone(),
            });
        }
    }
}

/// Whether a function cannot do without an attribute: what refers to one that a call leaves out is as if it was left out itself.
fn needs(
    functions: &FunctionIndex<'_>,
    function: &Function,
    graph: &Graph,
    attribute: &str,
    depth: usize,
) -> bool {
    /// Calls within calls that are followed; deeper ones are none that any runtime takes.
    const DEEPEST: usize = 32;
    let needed = |id: NodeId| -> Option<bool> {
        let operator = graph.operator(id)?;
        let refers =
            |value: &AttributeValue| matches!(value, AttributeValue::Reference(to, _) if *to == *attribute);
        let mut referring = operator.attributes().iter().filter(|one| refers(&one.value));
        let called = functions.called_by(graph, id);
        let version = opset_version(&function.opset_imports, operator.domain()).unwrap_or(1);
        let schema = schema(operator.domain(), &operator.op_type, version);
        let own = referring.any(|one| match called {
            Some(inner) => depth < DEEPEST && needs(functions, inner, &inner.graph, &one.name, depth + 1),
            // The one attribute of a Constant is its value.
            None if operator.is("Constant") => true,
            None => schema
                .and_then(|schema| schema.attribute(&one.name))
                .is_some_and(|formal| formal.required),
        });
        let inner = |body: &Graph| depth < DEEPEST && needs(functions, function, body, attribute, depth + 1);
        Some(own || operator.bodies().any(|(_, body)| inner(body)))
    };
    graph.node_ids().any(|id| needed(id).unwrap_or(false))
}

fn arity(
    graph: &Graph,
    id: NodeId,
    operator: &Operator,
    node: &Node,
    schema: &Schema,
    problems: &mut Vec<Problem>,
) {
    within("inputs", operator.input_count(), schema.inputs_range, problems);
    within("outputs", node.outputs().len(), schema.outputs_range, problems);
    let inputs = graph.inputs_of(id);
    for (slot, formal) in schema.inputs.iter().enumerate() {
        let left_out = inputs.get(slot).is_some_and(Option::is_none);
        if left_out && !formal.optional && !formal.variadic {
            problems.push(Problem::MissingInput {
                input: formal.name.to_owned(),
            });
        }
    }
}

fn kind_of(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::Int(_) => "int",
        AttributeValue::Float(_) => "float",
        AttributeValue::String(_) => "string",
        AttributeValue::Tensor(_) => "tensor",
        AttributeValue::Graph(_) => "graph",
        AttributeValue::Sparse(_) => "sparse_tensor",
        AttributeValue::Type(_) => "type_proto",
        AttributeValue::Ints(_) => "ints",
        AttributeValue::Floats(_) => "floats",
        AttributeValue::Strings(_) => "strings",
        AttributeValue::Tensors(_) => "tensors",
        AttributeValue::Graphs(_) => "graphs",
        AttributeValue::Sparses(_) => "sparse_tensors",
        AttributeValue::Types(_) => "type_protos",
        AttributeValue::Reference(..) => "reference",
        AttributeValue::Missing => "nothing",
    }
}

fn attributes(operator: &Operator, schema: &Schema, problems: &mut Vec<Problem>) {
    for formal in schema.attributes.iter().filter(|formal| formal.required) {
        if operator.attribute(formal.name).is_none() {
            problems.push(Problem::MissingAttribute {
                attribute: formal.name.to_owned(),
            });
        }
    }
    for attribute in operator.attributes() {
        let name = attribute.name.to_string();
        let Some(formal) = schema.attribute(&attribute.name) else {
            problems.push(Problem::UnknownAttribute { attribute: name });
            continue;
        };
        let found = kind_of(&attribute.value);
        if found != formal.kind
            && !matches!(
                attribute.value,
                AttributeValue::Reference(..) | AttributeValue::Missing
            )
        {
            problems.push(Problem::AttributeType {
                attribute: name,
                expected: formal.kind.to_owned(),
                found,
            });
        }
    }
    if operator.is("Constant") && operator.attributes().len() != 1 {
        problems.push(Problem::ConstantValue {
            found: operator.attributes().len(),
        });
    }
}

/// Bodies have the inputs and outputs that their operator gives and takes.
fn bodies(operator: &Operator, node: &Node, schema: &Schema, problems: &mut Vec<Problem>) {
    let (inputs, outputs) = (operator.input_count(), node.outputs().len());
    for (index, body) in operator.bodies() {
        let name = operator
            .attributes()
            .get(index.attribute)
            .map_or(String::new(), |attribute| attribute.name.to_string());
        let (body_inputs, body_outputs) = match operator.op_type.as_str() {
            "If" => (Some(0), Some(outputs)),
            // Iteration and condition go in, the condition comes out.
            "Loop" => (Some(inputs.max(2)), Some(outputs + 1)),
            // Opset 8 has the sequence lengths in front.
            "Scan" => (
                Some(inputs.saturating_sub(usize::from(schema.since < 9))),
                Some(outputs),
            ),
            "SequenceMap" => (Some(inputs), Some(outputs)),
            _ => (None, None),
        };
        let mut compare = |what: &'static str, found: usize, expected: Option<usize>| {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                problems.push(Problem::BodyArity {
                    body: name.clone(),
                    what,
                    found,
                    expected,
                });
            }
        };
        compare("inputs", body.inputs().len(), body_inputs);
        compare("outputs", body.outputs().len(), body_outputs);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{operator_names, schemas};
    use super::*;

    #[test]
    fn the_newest_versions_are_those_of_the_table() {
        for domain in ["", "ai.onnx.ml"] {
            let newest = operator_names()
                .flat_map(|name| schemas(domain, name))
                .map(|schema| schema.since)
                .max();
            assert_eq!(newest_version(domain), newest);
        }
    }
}
