//! Declared types and constants of other shapes: what [`super::Editor`] refuses.

use std::collections::BTreeMap;

use super::EditError;
use crate::ir::build::tensor_type;
use crate::ir::graph::{Graph, Provenance};
use crate::ir::model::Model;
use crate::ir::name::Name;
use crate::ir::node::{Constant, ConstantOrigin, NodeId, NodeKind, ValueId};
use crate::ir::tensor::Tensor;
use crate::ir::types::ValueType;

/// A deliberate change of declared types and constants, for passes that change shapes: `bind`, channel pruning, float conversion.
#[derive(Clone, Debug)]
pub enum Reshape {
    /// The declared type of a graph input.
    Input(NodeId, ValueType),
    /// The default of a graph input.
    Default(NodeId, Tensor),
    /// The declared type of a graph output, by index.
    Output(usize, ValueType),
    /// The type of any other value; its `value_info` is dropped.
    Value(ValueId, ValueType),
    /// Another tensor, of any type and shape, for a constant.
    Constant(NodeId, Tensor),
    /// A graph input with a default becomes a constant.
    Fix(NodeId),
    /// Sizes for symbols, wherever inputs, outputs and bodies declare them.
    Symbols(BTreeMap<Name, i64>),
}

/// Applies `changes` to the main graph, forgets every inferred type, lets `infer` find them anew and `check` judge the
/// whole model. On an error the model is as it was.
pub fn reshape<E: From<EditError>>(
    model: &mut Model,
    origin: &str,
    changes: Vec<Reshape>,
    infer_and_check: impl FnOnce(&mut Model) -> Result<(), E>,
) -> Result<(), E> {
    let mut changed = model.clone();
    let graph = &mut changed.graph;
    let mut touched = Vec::new();
    for change in changes {
        apply(graph, change, &mut touched)?;
    }
    graph.forget_facts();
    graph.journal.push(Provenance {
        origin: origin.into(),
        before: touched.clone(),
        after: touched,
    });
    infer_and_check(&mut changed)?;
    *model = changed;
    Ok(())
}

fn apply(graph: &mut Graph, change: Reshape, touched: &mut Vec<String>) -> Result<(), EditError> {
    let change = match change {
        Reshape::Symbols(sizes) => {
            graph.bind_symbols(&sizes);
            touched.extend(graph.inputs.iter().map(|id| graph.label(*id)));
            return Ok(());
        }
        Reshape::Fix(id) => {
            touched.push(graph.label(id));
            return fix(graph, id);
        }
        change => change,
    };
    let id = match &change {
        Reshape::Input(id, _) | Reshape::Default(id, _) | Reshape::Constant(id, _) => *id,
        Reshape::Value(value, _) => value.node,
        Reshape::Output(..) | Reshape::Symbols(_) | Reshape::Fix(_) => graph.sink,
    };
    let label = graph.label(id);
    let node = graph
        .nodes
        .node_weight_mut(id)
        .filter(|n| n.is_live())
        .ok_or(EditError::NoNode(id.index()))?;
    match change {
        Reshape::Input(_, ty) => {
            let NodeKind::Input(input) = &mut node.kind else {
                return Err(EditError::Interface(label));
            };
            input.declared = None;
            if let Some(value) = node.outputs.first_mut() {
                value.ty = ty;
            }
        }
        Reshape::Default(_, tensor) => {
            let NodeKind::Input(input) = &mut node.kind else {
                return Err(EditError::Interface(label));
            };
            if let Some(default) = &mut input.default {
                default.0 = tensor;
            }
        }
        Reshape::Constant(_, tensor) => {
            let NodeKind::Constant(constant) = &mut node.kind else {
                return Err(EditError::NotOperator(label));
            };
            if let Some(value) = node.outputs.first_mut() {
                value.ty = tensor_type(&tensor);
                value.declared = None;
            }
            constant.tensor = Some(tensor);
        }
        Reshape::Value(value, ty) => {
            let value = node.outputs.get_mut(value.output as usize);
            let value = value.ok_or(EditError::NoOutput {
                node: label.clone(),
                output: 0,
            })?;
            value.ty = ty;
            value.declared = None;
        }
        Reshape::Output(index, ty) => {
            let output = graph.outputs.get_mut(index).ok_or(EditError::NoOutput {
                node: label,
                output: index as u32,
            })?;
            output.declared = None;
            output.ty = ty;
            touched.push(output.name.to_string());
            return Ok(());
        }
        Reshape::Symbols(_) | Reshape::Fix(_) => {}
    }
    touched.push(label);
    Ok(())
}

/// Makes a constant of a graph input with a default.
fn fix(graph: &mut Graph, id: NodeId) -> Result<(), EditError> {
    let label = graph.label(id);
    let node = graph
        .nodes
        .node_weight_mut(id)
        .filter(|n| n.is_live())
        .ok_or(EditError::NoNode(id.index()))?;
    let NodeKind::Input(input) = &node.kind else {
        return Err(EditError::Interface(label));
    };
    let Some((tensor, index)) = input.default.clone() else {
        return Err(EditError::Interface(label));
    };
    if let Some(value) = node.outputs.first_mut() {
        value.ty = tensor_type(&tensor);
        value.declared = None;
    }
    node.kind = NodeKind::Constant(Box::new(Constant {
        tensor: Some(tensor),
        origin: ConstantOrigin::Initializer(index),
        listed_input: None,
    }));
    graph.inputs.retain(|input| *input != id);
    Ok(())
}

impl Graph {
    /// Forgets inferred types and the declared types of intermediate values, in bodies too.
    fn forget_facts(&mut self) {
        for id in self.nodes.node_indices().collect::<Vec<_>>() {
            let Some(node) = self.nodes.node_weight_mut(id) else {
                continue;
            };
            match &mut node.kind {
                NodeKind::Operator(operator) => {
                    for attribute in &mut operator.attributes {
                        attribute
                            .value
                            .graphs_mut()
                            .iter_mut()
                            .for_each(Graph::forget_facts);
                    }
                }
                NodeKind::Capture(_) => {}
                _ => continue,
            }
            for value in &mut node.outputs {
                value.ty = ValueType::Unknown;
                value.content = None;
                value.declared = None;
            }
        }
    }
}
