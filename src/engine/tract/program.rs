//! A model prepared for tract: its messages, its constants and what its inputs may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::prelude::{
    Framework as _, InferenceModelExt as _, Tensor as TractTensor, TypedRunnableModel,
};
use tract_onnx::tract_hir::internal::{InferenceFact, InferenceModel, InferenceOp};
use tract_onnx::tract_hir::ops::konst::Const;

use super::constants::{self, Constants};
use super::messages::{self, Messages};
use super::tensor::{datum_type, held, unsupported};
use super::{ENGINE, failed, kernels, widened};
use crate::engine::{CompileOptions, EngineError};
use crate::ir::{DType, Dim, Imports, Model, NodeKind, Tensor, ValueId};

/// What is known of one dimension of an input.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Size {
    Fixed(u64),
    Symbol(String),
    Any,
}

/// A graph input.
pub(super) struct ProgramInput {
    /// The input's name in the model.
    pub(super) name: String,
    /// Its name in the messages.
    pub(super) message: String,
    pub(super) dtype: DType,
    /// `None` when not even the rank is declared.
    pub(super) dims: Option<Vec<Size>>,
    /// The initializer of the same name, which holds unless the caller overrides it.
    pub(super) default: Option<Tensor>,
}

/// A graph output or an exposed value.
pub(super) struct ProgramOutput {
    pub(super) name: String,
    pub(super) dtype: Option<DType>,
}

/// What stands for one graph input in a plan.
pub(super) enum Binding {
    /// Fed at every run, always in this shape.
    Fed(Vec<u64>),
    /// The same elements in every run of the plan.
    Constant(Arc<TractTensor>),
}

/// What a program is made of, before tract has anything of it.
pub(super) struct Parts {
    pub(super) graph: pb::GraphProto,
    pub(super) imports: Imports,
    pub(super) constants: Vec<(String, Tensor)>,
    pub(super) inputs: Vec<ProgramInput>,
    pub(super) outputs: Vec<ProgramOutput>,
    pub(super) optimise: bool,
}

/// A model prepared for tract.
pub(super) struct Program {
    graph: pb::GraphProto,
    imports: Imports,
    constants: Constants,
    pub(super) inputs: Vec<ProgramInput>,
    pub(super) outputs: Vec<ProgramOutput>,
    optimise: bool,
}

impl Parts {
    /// Prepares a model. Values to expose come after the graph outputs.
    pub(super) fn new(model: &Model, options: &CompileOptions) -> Result<Self, EngineError> {
        let graph = &model.graph;
        let mut values = Vec::new();
        let mut outputs = Vec::new();
        for (output, value) in graph.outputs().iter().zip(graph.output_values()) {
            let value =
                value.ok_or_else(|| failed(format!("nothing produces the output {}", output.name)))?;
            if !matches!(
                output.ty,
                crate::ir::ValueType::Unknown | crate::ir::ValueType::Tensor(_)
            ) {
                return Err(no_tensor(&output.name));
            }
            values.push(value);
            outputs.push(ProgramOutput {
                name: output.name.to_string(),
                dtype: output.ty.dtype(),
            });
        }
        for name in &options.expose {
            if outputs.iter().any(|output| output.name == *name) {
                continue;
            }
            let value = graph.find_value(name).ok_or_else(|| EngineError::Input {
                name: name.clone(),
                reason: "the model has no value of this name to expose".to_owned(),
            })?;
            values.push(value);
            outputs.push(ProgramOutput {
                name: name.clone(),
                dtype: graph.ty(value).dtype(),
            });
        }
        let Messages {
            graph: message,
            inputs: names,
            constants,
        } = messages::graph_messages(model, &values)?;
        let mut inputs = Vec::new();
        for (id, message) in graph.inputs().iter().zip(names) {
            let Some(node) = graph.get(*id) else { continue };
            let NodeKind::Input(input) = &node.kind else {
                continue;
            };
            let value = ValueId::new(*id, 0);
            let name = graph.value(value).map(|v| v.name.to_string()).unwrap_or_default();
            let dtype = graph.ty(value).dtype().ok_or_else(|| no_tensor(&name))?;
            if datum_type(held(dtype)).is_none() {
                return Err(unsupported(dtype, &name));
            }
            let default = input.default.as_ref().map(|(tensor, _)| tensor.clone());
            let dims = graph
                .ty(value)
                .shape()
                .map(|dims| dims.iter().map(|dim| size(dim, &options.symbols)).collect());
            inputs.push(ProgramInput {
                name,
                message,
                dtype,
                dims,
                default,
            });
        }
        Ok(Self {
            graph: message,
            imports: model.opset_imports.clone(),
            constants,
            inputs,
            outputs,
            optimise: options.optimise,
        })
    }
}

impl Program {
    /// Copies the constants into tract.
    pub(super) fn new(parts: Parts) -> Result<Self, EngineError> {
        let mut graph = parts.graph;
        let mut copies = parts
            .constants
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), constant(tensor, name)?)))
            .collect::<Result<_, EngineError>>()?;
        widened::widen(&mut graph, &mut copies);
        let constants = Constants::new(copies, &parts.constants.into_iter().collect());
        Ok(Self {
            graph,
            imports: parts.imports,
            constants,
            inputs: parts.inputs,
            outputs: parts.outputs,
            optimise: parts.optimise,
        })
    }

    /// The bindings of a model whose input shapes are all known, defaults in place.
    pub(super) fn fixed_bindings(&self) -> Option<Vec<Binding>> {
        let one = |input: &ProgramInput| {
            if let Some(default) = &input.default {
                return constant(default, &input.name).ok().map(Binding::Constant);
            }
            let fixed = |size: &Size| {
                if let Size::Fixed(size) = size {
                    Some(*size)
                } else {
                    None
                }
            };
            Some(Binding::Fed(
                input.dims.as_ref()?.iter().map(fixed).collect::<Option<_>>()?,
            ))
        };
        self.inputs.iter().map(one).collect()
    }

    /// Compiles a plan for these bindings, one a graph input.
    pub(super) fn plan(&self, bindings: &[Binding]) -> Result<Arc<TypedRunnableModel>, EngineError> {
        let mut graph = self.graph.clone();
        let mut constants = self.constants.for_plan()?;
        for ((input, binding), declaration) in self.inputs.iter().zip(bindings).zip(&mut graph.input) {
            match binding {
                Binding::Fed(dims) => *declaration = messages::concrete(&input.message, input.dtype, dims),
                Binding::Constant(tensor) => constants.push((&input.message, tensor.clone())),
            }
        }
        let message = messages::model_message(graph, &self.imports);
        let onnx = kernels::framework();
        let mut model = onnx.model_for_proto_model(&message).map_err(tract_error)?;
        bind_constants(&mut model, &constants)?;
        drop(constants);
        let typed = if self.optimise {
            kernels::optimised(model)
        } else {
            model.into_typed()
        }
        .map_err(tract_error)?;
        tract_onnx::prelude::IntoRunnable::into_runnable(typed).map_err(tract_error)
    }
}

/// Turns the sources of these names into constants that share the tensors.
pub(super) fn bind_constants(
    model: &mut InferenceModel,
    constants: &[(&str, Arc<TractTensor>)],
) -> Result<(), EngineError> {
    let by_name: BTreeMap<&str, &Arc<TractTensor>> =
        constants.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let mut bound = Vec::new();
    for id in model.inputs.clone() {
        let node = model.node_mut(id.node);
        let Some(tensor) = by_name.get(node.name.as_str()) else {
            continue;
        };
        let op = Const::new(Arc::clone(tensor)).map_err(tract_error)?;
        node.op = Box::new(op) as Box<dyn InferenceOp>;
        let fact = InferenceFact::try_from(Arc::clone(tensor)).map_err(tract_error)?;
        if let Some(outlet) = node.outputs.first_mut() {
            outlet.fact = fact;
        }
        bound.push(id);
    }
    model.inputs.retain(|id| !bound.contains(id));
    Ok(())
}

/// Copies a constant of the IR into tract.
pub(super) fn constant(tensor: &Tensor, name: &str) -> Result<Arc<TractTensor>, EngineError> {
    constants::copy_of(tensor, name)
}

pub(super) fn tract_error(error: tract_onnx::prelude::TractError) -> EngineError {
    let text = format!("{error:#}");
    match text
        .split_once("Unimplemented(")
        .and_then(|(_, rest)| rest.split_once(')'))
    {
        Some((operator, _)) => EngineError::Unsupported {
            engine: ENGINE,
            operator: operator.to_owned(),
            node: None,
            reason: "tract has no such operator".to_owned(),
        },
        None => failed(text.chars().take(600).collect::<String>()),
    }
}

fn no_tensor(name: &str) -> EngineError {
    EngineError::Unsupported {
        engine: ENGINE,
        operator: "value that is no tensor".to_owned(),
        node: Some(name.to_owned()),
        reason: "sequences, optionals, maps and untyped inputs have no counterpart in tract".to_owned(),
    }
}

fn size(dim: &Dim, symbols: &BTreeMap<String, i64>) -> Size {
    if let Some(size) = dim.fixed() {
        return u64::try_from(size).map_or(Size::Any, Size::Fixed);
    }
    // Exporters write these for a size that they know nothing about, and repeat them for others.
    let named = |symbol: &&crate::ir::Name| **symbol != *"?" && !symbol.starts_with("unk__");
    match dim.as_symbol().filter(named) {
        Some(symbol) => match symbols.get(symbol.as_str()).map(|size| u64::try_from(*size)) {
            Some(Ok(size)) => Size::Fixed(size),
            _ => Size::Symbol(symbol.to_string()),
        },
        None => Size::Any,
    }
}
