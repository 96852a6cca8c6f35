//! Judging a whole model: structure, operators and types.

use super::infer::infer;
use crate::ir::{
    CheckError, FunctionIndex, Graph, GraphPath, Model, Node, NodeId, Problem, ValueType, opset_version,
};
use crate::{ir, ops};

/// Checks a model: its structure ([`ir::check`]), its operators ([`ops::check`]) and, when those are sound, its types.
/// Shapes that contradict declared ones are no error: [`infer`] reports them.
pub fn check(model: &Model) -> Result<(), Vec<CheckError>> {
    ir::check(model)?;
    ops::check(model)?;
    let mut inferred = model.clone();
    infer(&mut inferred);
    check_types(&inferred)
}

/// Checks a model as read from a file: [`check`], and its nodes must stand in topological order. Stricter than what is read,
/// see [`super::adopt()`].
pub fn check_as_read(model: &Model) -> Result<(), Vec<CheckError>> {
    ir::check(model)?;
    ir::check_sorted(model)?;
    check(model)
}

/// Checks the types of a sound model that has been inferred: each input is of a type that its operator allows, inputs that
/// share a type variable share their type, and graph outputs have their declared element types.
pub fn check_types(model: &Model) -> Result<(), Vec<CheckError>> {
    let mut errors = Vec::new();
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
            inputs(model, &functions, graph, &path, id, &mut errors);
        }
        for (output, value) in graph.outputs().iter().zip(graph.output_values()) {
            let Some(value) = value else { continue };
            let found = graph.ty(value);
            if element(found).contradicts(&element(&output.ty)) {
                let problem = Problem::TypeMismatch {
                    what: "graph output".to_owned(),
                    found: found.to_string(),
                    expected: output.ty.to_string(),
                };
                errors.push(CheckError::of_node(&path, graph, value.node, problem).with_value(&output.name));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The type without shapes.
fn element(ty: &ValueType) -> ValueType {
    match ty {
        ValueType::Tensor(tensor) => ValueType::tensor(tensor.dtype, None),
        ValueType::Sequence(inner) => ValueType::Sequence(Box::new(element(inner))),
        ValueType::Optional(inner) => ValueType::Optional(Box::new(element(inner))),
        ValueType::Map(key, value) => ValueType::Map(*key, Box::new(element(value))),
        other => other.clone(),
    }
}

fn inputs(
    model: &Model,
    functions: &FunctionIndex<'_>,
    graph: &Graph,
    path: &GraphPath,
    id: NodeId,
    errors: &mut Vec<CheckError>,
) {
    let Some(operator) = graph.operator(id) else {
        return;
    };
    if functions.called_by(graph, id).is_some() {
        return;
    }
    let version = opset_version(model.opsets(path), operator.domain()).unwrap_or(1);
    let Some(schema) = ops::schema(operator.domain(), &operator.op_type, version) else {
        return;
    };
    let mut bound: Vec<(&str, ValueType)> = Vec::new();
    for (slot, value) in graph.inputs_of(id).into_iter().enumerate() {
        let (Some(value), Some(formal)) = (value, schema.input(slot)) else {
            continue;
        };
        let ty = graph.ty(value);
        let mut report = |expected: String| {
            let what = format!("input {slot} ({})", formal.name);
            let problem = Problem::TypeMismatch {
                what,
                found: ty.to_string(),
                expected,
            };
            let name = graph
                .value(value)
                .map_or(String::new(), |value| value.name.to_string());
            errors.push(CheckError::of_node(path, graph, id, problem).with_value(&name));
        };
        if schema.type_set(formal.ty).is_some_and(|set| !set.admits(ty)) {
            report(format!("a type of {}", formal.ty));
            continue;
        }
        if !formal.homogeneous || formal.ty.ends_with(')') {
            continue;
        }
        let found = element(ty);
        match bound.iter_mut().find(|(variable, _)| *variable == formal.ty) {
            None => bound.push((formal.ty, found)),
            Some((_, known)) if known.contradicts(&found) => {
                report(format!("{known} as the other inputs of {}", formal.ty))
            }
            Some((_, known)) => *known = known.refined_by(&found),
        }
    }
}
