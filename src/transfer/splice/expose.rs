//! Values of a part as outputs of the model that it is in.

use crate::ir::{EditError, Graph, Model, Name, Operator, Value, ValueId};

/// Makes a value an output of the model, under its own name; one that is an input, a constant or an output already, or has no name,
/// gets `wanted` or, where that is taken, `PREFIX/WANTED`.
///
/// # Errors
/// A law of the IR that would be broken.
pub fn expose(model: &mut Model, value: ValueId, wanted: &Name, prefix: &str) -> Result<String, EditError> {
    let graph = &model.graph;
    let known = graph
        .value(value)
        .map(|value| value.name.to_string())
        .unwrap_or_default();
    let plain = graph.operator(value.node).is_some() && !known.is_empty() && !graph.is_graph_output(value);
    if plain {
        let ty = graph.ty(value).clone();
        let mut editor = model.graph.edit("splice");
        editor.add_graph_output(value, known.clone(), ty)?;
        return Ok(known);
    }
    let name = match graph.find_value(wanted) {
        None => wanted.clone(),
        Some(_) => free(graph, &format!("{prefix}/{wanted}")),
    };
    let ty = graph.ty(value).clone();
    let mut editor = model.graph.edit("splice");
    let identity = editor.add_operator(
        value.node,
        Operator::new("Identity"),
        &[Some(value)],
        vec![Value::typed(name.clone(), ty.clone())],
    )?;
    editor.add_graph_output(ValueId::new(identity, 0), name.clone(), ty)?;
    Ok(name.to_string())
}

/// `wanted`, or `wanted` with the lowest number that no value of the graph has.
pub fn free(graph: &Graph, wanted: &str) -> Name {
    let taken = |name: &str| graph.find_value(name).is_some();
    let mut name = wanted.to_owned();
    let mut number = 0u64;
    while taken(&name) {
        number += 1;
        name = format!("{wanted}_{number}");
    }
    Name::from(name)
}
