//! One operator on constants.

use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::prelude::{Framework as _, InferenceModelExt as _, IntoRunnable as _};

use super::program::{bind_constants, constant, tract_error};
use super::tensor::from_tract;
use super::{ENGINE, deny, failed, kernels, messages};
use crate::engine::EngineError;
use crate::engine::bounded::{Extent, bounded};
use crate::engine::guard::quietly;
#[cfg(target_os = "linux")]
use crate::engine::worker;
use crate::ir::{Imports, Operator, OpsetImport, Tensor};

/// The outputs of one operator, as in opset `version` of its domain, on constant inputs. `None` is an optional input that
/// is left out; `outputs` says which outputs are asked for.
pub fn run_node(
    operator: &Operator,
    version: i64,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Result<Vec<Tensor>, EngineError> {
    let operand = |index: usize| match inputs.get(index).and_then(Option::as_ref) {
        Some(tensor) => deny::Operand {
            dtype: Some(tensor.dtype()),
            constant: Some(tensor),
        },
        None => deny::Operand::default(),
    };
    if let Some(refusal) = deny::operator(operator, version, &operand) {
        return Err(refusal);
    }
    let mut node = messages::operator_message(operator)?;
    node.name = "node".to_owned();
    let mut graph = pb::GraphProto {
        name: "graph".to_owned(),
        ..Default::default()
    };
    let mut constants = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let Some(tensor) = input else {
            node.input.push(String::new());
            continue;
        };
        let name = format!("i{index}");
        graph
            .input
            .push(messages::concrete(&name, tensor.dtype(), tensor.dims()));
        constants.push((name.clone(), tensor.clone()));
        node.input.push(name);
    }
    messages::trim(&mut node.input);
    for index in 0..outputs {
        let name = format!("o{index}");
        node.output.push(name.clone());
        graph.output.push(pb::ValueInfoProto {
            name,
            ..Default::default()
        });
    }
    graph.node.push(node);
    let mut imports = Imports::from(vec![OpsetImport {
        domain: Some(operator.domain().into()),
        version: Some(version),
    }]);
    if !operator.domain().is_empty() {
        imports.push(OpsetImport {
            domain: None,
            version: Some(17),
        });
    }
    let message = messages::model_message(graph, &imports);
    #[cfg(target_os = "linux")]
    if let Some(host) = worker::host() {
        return super::remote::run_node(host, &message, &constants, outputs);
    }
    evaluate(message, &constants, outputs)
}

/// Runs a model without inputs on its constants.
pub(super) fn evaluate(
    message: pb::ModelProto,
    constants: &[(String, Tensor)],
    outputs: usize,
) -> Result<Vec<Tensor>, EngineError> {
    let elements = constants.iter().map(|(_, tensor)| tensor.elements()).sum();
    let limit = Extent::default().running(elements);
    let constants = constants
        .iter()
        .map(|(name, tensor)| Ok((name.clone(), constant(tensor, name)?)))
        .collect::<Result<Vec<_>, EngineError>>()?;
    let evaluate = move || {
        let bound: Vec<(&str, Arc<_>)> = constants
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor.clone()))
            .collect();
        let mut model = kernels::framework()
            .model_for_proto_model(&message)
            .map_err(tract_error)?;
        bind_constants(&mut model, &bound)?;
        let plan = model
            .into_typed()
            .and_then(|typed| typed.into_runnable())
            .map_err(tract_error)?;
        plan.run(Default::default()).map_err(tract_error)
    };
    let values = bounded(ENGINE, "a constant", limit, move || quietly(ENGINE, evaluate))?;
    if values.len() != outputs {
        return Err(failed(format!("{} outputs instead of {outputs}", values.len())));
    }
    values
        .iter()
        .enumerate()
        .map(|(index, value)| quietly(ENGINE, || from_tract(value, &format!("output {index}"))))
        .collect()
}
