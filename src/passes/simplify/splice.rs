//! Copying the nodes of a body or function into the graph around it.

use std::collections::HashMap;

use crate::ir::{EditError, Editor, Graph, Name, NodeId, NodeKind, Operator, Value, ValueId, ValueType};

/// The names of one namespace: a main graph or a function, with all its bodies.
#[derive(Debug, Default)]
pub(in crate::passes) struct Names {
    count: HashMap<Name, u32>,
}

impl Names {
    /// The names in a graph and its bodies.
    pub(in crate::passes) fn of(graph: &Graph) -> Self {
        let mut names = Self::default();
        names.collect(graph);
        names
    }

    fn collect(&mut self, graph: &Graph) {
        for id in graph.node_ids() {
            let Some(node) = graph.get(id) else { continue };
            if !matches!(node.kind, NodeKind::Capture(_)) {
                for value in node.outputs().iter().filter(|value| !value.name.is_empty()) {
                    *self.count.entry(value.name.clone()).or_default() += 1;
                }
            }
            for (_, body) in node.operator().into_iter().flat_map(Operator::bodies) {
                self.collect(body);
            }
        }
        for output in graph.outputs() {
            self.count.entry(output.name.clone()).or_default();
        }
    }

    /// Whether a value is the only one of its name.
    fn is_unique(&self, name: &Name) -> bool {
        self.count.get(name).is_none_or(|count| *count <= 1)
    }

    /// `wanted`, or `wanted` with the lowest number that makes it new.
    pub(in crate::passes) fn fresh(&mut self, wanted: String) -> Name {
        let mut name = Name::from(wanted.as_str());
        let mut number = 0u64;
        while self.count.contains_key(&name) {
            number += 1;
            name = Name::from(format!("{wanted}_{number}"));
        }
        self.count.insert(name.clone(), 1);
        name
    }
}

/// How copied nodes and values are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// A body that goes away afterwards: a name that is unique stays.
    Move,
    /// A function that may be copied again: every name gets the prefix, and inferred types are dropped, as they were
    /// found without the caller's types.
    Copy,
}

/// What stands for a body's inputs and captures.
pub(super) struct Bindings<'a> {
    /// By input index; `None` where the caller leaves an input out.
    pub(super) inputs: &'a [Option<ValueId>],
    /// By capture slot.
    pub(super) captures: &'a [Option<ValueId>],
}

/// Why a body cannot be copied: a left-out input is captured by an inner body, or is an output.
pub(super) fn obstacle(body: &Graph, inputs: &[Option<ValueId>]) -> Option<String> {
    let left_out = |value: ValueId| {
        let index = body.inputs().iter().position(|id| *id == value.node);
        index.filter(|index| inputs.get(*index).copied().flatten().is_none())
    };
    for id in body.node_ids() {
        let must_be_there: Vec<ValueId> = match id == body.sink() {
            true => body.output_values().into_iter().flatten().collect(),
            false => body.captures_of(id).into_iter().flatten().collect(),
        };
        if let Some(value) = must_be_there.into_iter().find(|value| left_out(*value).is_some()) {
            let name = body
                .value(value)
                .map(|value| value.name.to_string())
                .unwrap_or_default();
            return Some(format!("input {name} is left out and needed as a value"));
        }
    }
    if !body.meta.quantization.is_empty() {
        return Some("its body has quantization annotations".to_owned());
    }
    if body.output_values().iter().any(Option::is_none) {
        return Some("an output has no value".to_owned());
    }
    None
}

/// What [`splice`] added.
pub(super) struct Spliced {
    /// What the body's outputs are in the graph, in order.
    pub(super) outputs: Vec<ValueId>,
    /// The new operators, in topological order.
    pub(super) operators: Vec<NodeId>,
}

/// Copies the nodes of `body` into the editor's graph, next to `near`.
/// [`obstacle`] must have found nothing.
pub(super) fn splice(
    editor: &mut Editor<'_>,
    near: NodeId,
    body: &Graph,
    bindings: &Bindings<'_>,
    naming: Naming,
    prefix: &str,
    names: &mut Names,
) -> Result<Spliced, EditError> {
    let mut operators = Vec::new();
    let mut copies: HashMap<ValueId, ValueId> = HashMap::new();
    for (index, id) in body.inputs().iter().enumerate() {
        if let Some(value) = bindings.inputs.get(index).copied().flatten() {
            copies.insert(ValueId::new(*id, 0), value);
        }
    }
    let results = body.output_values();
    for id in body.topological_order() {
        let Some(node) = body.get(id) else { continue };
        let mut outputs = || -> Vec<Value> {
            let copy = |(output, value): (usize, &Value)| {
                // What the body gives takes the name that it has outside.
                let is_result = results.contains(&Some(ValueId::new(id, output)));
                copy_value(value, is_result, naming, prefix, names)
            };
            node.outputs().iter().enumerate().map(copy).collect()
        };
        let copy = match &node.kind {
            NodeKind::Capture(capture) => {
                if let Some(value) = bindings.captures.get(capture.index as usize).copied().flatten() {
                    copies.insert(ValueId::new(id, 0), value);
                }
                continue;
            }
            NodeKind::Constant(constant) => {
                let value = outputs().into_iter().next().unwrap_or_default();
                editor.copy_constant(near, value, (**constant).clone()).node
            }
            NodeKind::Operator(operator) => {
                let outputs = outputs();
                let mut operator = operator.clone();
                if naming == Naming::Copy && operator.has_bodies() {
                    let mut renamed: HashMap<Name, Name> = HashMap::new();
                    operator.rename_body_values(&mut |name| {
                        let fresh = || names.fresh(format!("{prefix}/{name}"));
                        renamed.entry(name.clone()).or_insert_with(fresh).clone()
                    });
                }
                let copy = editor.copy_operator(near, (body, id), operator, &copies, outputs)?;
                operators.push(copy);
                copy
            }
            NodeKind::Input(_) | NodeKind::Output | NodeKind::Removed => continue,
        };
        if let Some(name) = node.name.as_ref().filter(|name| !name.is_empty()) {
            let name = if naming == Naming::Copy {
                Name::from(format!("{prefix}/{name}"))
            } else {
                name.clone()
            };
            editor.set_node_name(copy, Some(name))?;
        }
        if let Some(meta) = &node.meta {
            editor.set_node_meta(copy, (**meta).clone())?;
        }
        for output in 0..node.outputs().len() {
            copies.insert(ValueId::new(id, output), ValueId::new(copy, output));
        }
    }
    let sink = body.sink().index();
    let outputs = results
        .into_iter()
        .map(|value| {
            value
                .and_then(|value| copies.get(&value).copied())
                .ok_or(EditError::NoNode(sink))
        })
        .collect::<Result<_, _>>()?;
    Ok(Spliced { outputs, operators })
}

fn copy_value(value: &Value, is_result: bool, naming: Naming, prefix: &str, names: &mut Names) -> Value {
    let mut copy = Value {
        declared: None,
        ..value.clone()
    };
    if naming == Naming::Copy {
        copy.ty = ValueType::Unknown;
        copy.content = None;
    }
    if is_result {
        copy.name = Name::default();
    } else if !copy.name.is_empty() && (naming == Naming::Copy || !names.is_unique(&copy.name)) {
        copy.name = names.fresh(format!("{prefix}/{}", copy.name));
    }
    copy
}

/// Lets every reader of `old` read `new`; where `new` cannot take the name of a graph output, through an Identity.
pub(super) fn hand_over(editor: &mut Editor<'_>, old: ValueId, new: ValueId) -> Result<(), EditError> {
    match editor.replace(old, new) {
        Err(EditError::OutputName { .. }) => {
            let identity = editor.add_operator(
                old.node,
                Operator::new("Identity"),
                &[Some(new)],
                vec![Value::default()],
            )?;
            editor.replace(old, ValueId::new(identity, 0))
        }
        result => result,
    }
}
