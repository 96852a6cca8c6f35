//! The whole rewrite: forward copy, loss, backward pass, interface.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::emit::{Emitter, Var};
use super::forward::Forward;
use super::{AutodiffError, GradientOptions, Loss, Wrt, backward, loss};
use crate::analysis;
use crate::ir::edit::{Reshape, reshape};
use crate::ir::{Dim, Graph, Model, Name, NodeId, NodeKind, Operator, ValueId, ValueType};

/// The oldest opset whose operators suffice for every formula.
const OLDEST_OPSET: i64 = 9;

/// A model that computes the loss of `model` and its gradients out of plain ONNX operators of the same opset.
///
/// Its inputs are those of the model and `labels` or `targets` (see [`Loss`]); its outputs are `loss`, a scalar in the element
/// type of the differentiated output, and `grad/<name>` for each wanted value, in the value's shape and element type. The batch
/// may stay symbolic; sizes along which an operator's formula needs a number (the spatial ones of convolution and pooling, the
/// length of a recurrent layer) must be known or bound through [`GradientOptions::sizes`].
pub fn gradients(
    model: &Model,
    loss: &Loss,
    wrt: &Wrt,
    options: &GradientOptions,
) -> Result<Model, AutodiffError> {
    let opset = model.opset().unwrap_or(1);
    if opset < OLDEST_OPSET {
        return Err(AutodiffError::Opset {
            found: opset,
            needed: OLDEST_OPSET,
        });
    }
    let model = &bound(model, &options.sizes)?;
    let emitter = Emitter::new(opset);
    let forward = Forward::copy(model, &emitter, loss, wrt, options)?;
    let seeded = loss::emit(&emitter, loss, &forward)?;
    let mut found = match options.loss_only {
        true => HashMap::new(),
        false => backward::run(&emitter, &forward, seeded.at, seeded.gradient)?,
    };
    let mut outputs = vec![(Name::from("loss"), seeded.loss.id, known_type(&seeded.loss))];
    if options.keep_output {
        let output = &forward.output;
        outputs.push((forward.output_name.clone(), output.id, known_type(output)));
    }
    for wanted in forward.wanted.iter().filter(|_| !options.loss_only) {
        let gradient = found
            .remove(&wanted.value.id)
            .unwrap_or_else(|| wanted.value.zeros_like());
        let name = Name::from(format!("grad/{}", wanted.name));
        outputs.push((name, gradient.id, known_type(&wanted.value)));
    }
    // The last formula may have failed after its operator was done.
    if let Some(fault) = emitter.take_fault() {
        return Err(forward.form_error(None, fault));
    }
    let mut result = model.clone();
    result.header.training_info.clear();
    result.graph = emitter.finish();
    let name = model.graph.meta.name.clone().filter(|name| !name.is_empty());
    result.graph.meta.name = Some(name.unwrap_or_else(|| "gradients".to_owned()));
    expose(&mut result.graph, outputs)?;
    Ok(result)
}

fn known_type(var: &Var<'_>) -> ValueType {
    analysis::public_type(&ValueType::tensor(var.dtype, Some(var.shape.clone())))
}

/// The model with inferred types, its inputs with the given sizes.
fn bound(model: &Model, sizes: &BTreeMap<String, i64>) -> Result<Model, AutodiffError> {
    let mut model = model.clone();
    if sizes.is_empty() {
        analysis::infer(&mut model);
        return Ok(model);
    }
    let mut used = HashSet::new();
    let mut changes = Vec::new();
    for id in model.graph.inputs() {
        let Some(value) = model.graph.value(ValueId::new(*id, 0)) else {
            continue;
        };
        let ValueType::Tensor(tensor) = &value.ty else {
            continue;
        };
        let mut bound = tensor.clone();
        for (axis, dim) in bound.shape.iter_mut().flatten().enumerate() {
            let place = format!("{}[{axis}]", value.name);
            let symbol = dim.as_symbol().map(|name| name.to_string());
            let name = symbol.filter(|name| sizes.contains_key(name)).unwrap_or(place);
            if let (None, Some(size)) = (dim.fixed(), sizes.get(&name)) {
                *dim = Dim::Fixed(*size);
                used.insert(name);
            }
        }
        changes.push(Reshape::Input(*id, ValueType::Tensor(bound)));
    }
    if let Some(symbol) = sizes.keys().find(|name| !used.contains(*name)) {
        return Err(AutodiffError::NoSymbol {
            symbol: symbol.clone(),
        });
    }
    reshape(&mut model, "gradients", changes, |model| {
        analysis::infer(model);
        Ok::<(), AutodiffError>(())
    })?;
    Ok(model)
}

/// Makes values graph outputs and drops what none of them needs.
fn expose(graph: &mut Graph, outputs: Vec<(Name, ValueId, ValueType)>) -> Result<(), AutodiffError> {
    let taken: HashSet<Name> = outputs.iter().map(|(name, ..)| name.clone()).collect();
    let clashes: Vec<ValueId> = graph
        .node_ids()
        .flat_map(|id| {
            let values = graph.get(id).map_or(&[][..], |node| node.outputs());
            let clash = |(index, _)| ValueId::new(id, index);
            let taken = &taken;
            values
                .iter()
                .enumerate()
                .filter(move |(_, value)| taken.contains(&value.name))
                .map(clash)
                .collect::<Vec<_>>()
        })
        .collect();
    let mut editor = graph.edit("gradients");
    for value in clashes {
        if !outputs
            .iter()
            .any(|(name, id, _)| *id == value && editor.graph().value(value).is_some_and(|v| v.name == *name))
        {
            editor.rename(value, "")?;
        }
    }
    for (name, value, ty) in outputs {
        let named = editor.graph().value(value).is_some_and(|v| v.name == name);
        let value = if named && !editor.graph().is_graph_output(value) {
            value
        } else if is_operator(editor.graph(), value.node)
            && !editor.graph().is_graph_output(value)
            && editor.graph().value(value).is_some_and(|v| v.name.is_empty())
        {
            editor.rename(value, name.clone())?;
            value
        } else {
            let output = crate::ir::Value::typed(name.clone(), ty.clone());
            let node = editor.add_operator(
                value.node,
                Operator::new("Identity"),
                &[Some(value)],
                vec![output],
            )?;
            ValueId::new(node, 0)
        };
        editor.add_graph_output(value, name, ty)?;
    }
    let mut order = editor.graph().topological_order();
    order.reverse();
    for id in order {
        if editor.graph().is_live(id) {
            editor.remove_unused(id);
        }
    }
    drop(editor);
    graph.compact();
    Ok(())
}

fn is_operator(graph: &Graph, id: NodeId) -> bool {
    graph
        .get(id)
        .is_some_and(|node| matches!(node.kind, NodeKind::Operator(_)))
}
