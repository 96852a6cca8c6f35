//! Which parameters are trained, what they are before the first step, and how trained values come into the model.

use super::error::FinetuneError;
use super::training::{Masks, Training};
use crate::analysis::linear;
use crate::autodiff::{GradientOptions, Wrt, gradients};
use crate::ir::{DType, Graph, Model, NodeId, NodeKind, Tensor, ValueId};

/// What the parameters are before the first step: the model's own values, zero where a mask says so.
pub(super) fn starting_values(
    model: &Model,
    names: &[String],
    masks: &Masks,
) -> Result<Vec<(String, Tensor)>, FinetuneError> {
    let mut held: Vec<(String, Tensor)> = Vec::with_capacity(names.len());
    for name in names {
        let value = model
            .graph
            .find_value(name)
            .and_then(|value| model.graph.constant(value));
        let value = value.cloned().ok_or(FinetuneError::NoParameters)?;
        let value = match masks.get(name) {
            Some(mask) => masked(name, &value, mask)?,
            None => value,
        };
        held.push((name.clone(), value));
    }
    match masks.keys().find(|name| !names.contains(name)) {
        None => Ok(held),
        Some(name) => Err(FinetuneError::Mask {
            name: name.clone(),
            reason: "no parameter of this name is trained".to_owned(),
        }),
    }
}

/// One where an element of a parameter may move and zero where it stays zero; nothing where all may move. What is looked up in a codebook
/// is zero where the codebook is.
pub(super) fn kept_elements(
    graph: &Graph,
    name: &str,
    tensor: &Tensor,
    training: &Training<'_>,
) -> Option<Vec<f32>> {
    let holds = training.hold_zeros && (tensor.rank() >= 2 || is_codebook(graph, name));
    if let Some(mask) = training.masks.get(name).filter(|_| !holds) {
        return Some(mask.iter().map(|kept| f32::from(u8::from(*kept))).collect());
    }
    let values = tensor
        .view::<f32>()
        .ok()
        .filter(|values| holds && values.contains(&0.0))?;
    Some(
        values
            .iter()
            .map(|value| f32::from(u8::from(*value != 0.0)))
            .collect(),
    )
}

/// Whether a parameter holds the values that weights share.
fn is_codebook(graph: &Graph, name: &str) -> bool {
    graph.find_value(name).is_some_and(|value| {
        let mut readers = graph.readers_of(value);
        readers.any(|at| linear::codebook(graph, at.node) == Some(value))
    })
}

/// Puts trained values into the model.
pub(super) fn store(
    model: &mut Model,
    held: &[(String, Tensor)],
    values: Vec<Vec<f32>>,
) -> Result<(), FinetuneError> {
    for ((name, before), values) in held.iter().zip(values) {
        let Some(value) = model.graph.find_value(name) else {
            continue;
        };
        let mut tensor = Tensor::from_slice(before.dims(), &values)?;
        if let Some(meta) = before.meta() {
            tensor = tensor.with_meta(meta.clone());
        }
        model.graph.edit("finetune").set_constant(value.node, tensor)?;
    }
    Ok(())
}

/// The tensor with zeros where it does not stay.
fn masked(name: &str, tensor: &Tensor, mask: &[bool]) -> Result<Tensor, FinetuneError> {
    let values = tensor.view::<f32>()?;
    if values.len() != mask.len() {
        return Err(FinetuneError::Mask {
            name: name.to_owned(),
            reason: format!("it has {} elements instead of {}", mask.len(), values.len()),
        });
    }
    let kept = values.iter().zip(mask);
    let values: Vec<f32> = kept
        .map(|(value, kept)| if *kept { *value } else { 0.0 })
        .collect();
    let fresh = Tensor::from_slice(tensor.dims(), &values)?;
    Ok(match tensor.meta() {
        Some(meta) => fresh.with_meta(meta.clone()),
        None => fresh,
    })
}

/// Operators that take a single number of the architecture, as the bounds of ReLU6 or the 3 and the 6 of a hard swish.
const OF_NUMBERS: [&str; 8] = ["Add", "Clip", "Div", "Max", "Min", "Mul", "Pow", "Sub"];

/// Whether a constant is one number that only such operators read: no framework trains it.
fn is_number(graph: &Graph, value: ValueId) -> bool {
    let one = graph.constant(value).is_some_and(|tensor| tensor.elements() == 1);
    let of_number = |user: NodeId| {
        let operator = graph.operator(user);
        operator.is_some_and(|operator| OF_NUMBERS.iter().any(|name| operator.is(name)))
    };
    one && graph.readers_of(value).all(|user| of_number(user.node))
}

/// The float32 initializers that the loss depends on and that are not frozen, without single numbers of elementwise operators.
pub(super) fn trainable(model: &Model, training: &Training<'_>) -> Result<Vec<String>, FinetuneError> {
    let options = GradientOptions {
        output: training.objective.output.clone(),
        ..GradientOptions::default()
    };
    let all = gradients(model, &training.objective.loss, &Wrt::Parameters, &options)?;
    let graph = &model.graph;
    let names: Vec<String> = all
        .graph
        .outputs()
        .iter()
        .filter_map(|output| output.name.strip_prefix("grad/").map(str::to_owned))
        .filter(|name| {
            let value: Option<ValueId> = graph.find_value(name);
            let constant = value.filter(|value| {
                let node = graph.get(value.node);
                matches!(node.map(|node| &node.kind), Some(NodeKind::Constant(_)))
            });
            let tensor = constant.and_then(|value| graph.constant(value));
            tensor.is_some_and(|tensor| tensor.dtype() == DType::F32)
                && !value.is_some_and(|value| is_number(graph, value))
                && !(training.frozen)(name)
        })
        .collect();
    match names.is_empty() {
        true => Err(FinetuneError::NoParameters),
        false => Ok(names),
    }
}
