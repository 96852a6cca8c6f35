//! One compiled model at fixed input shapes.

use std::collections::BTreeMap;

use super::interface::{Names, input};
use super::sizes::{self, InputDim, Sizes};
use crate::analysis;
use crate::engine::{CompileOptions, Engine, EngineError, RunValue, RunValues, Session};
use crate::ir::edit::{self, Reshape};
use crate::ir::{Dim, EditError, Model, Shape, ValueType};
use crate::lower;

/// Concrete shapes of dense tensor inputs, by name.
pub(super) type Shapes = BTreeMap<String, Vec<i64>>;

/// The shapes of the required inputs under `sizes`.
pub(super) fn shapes_under(model: &Model, sizes: &Sizes) -> Shapes {
    sizes::required_inputs(model)
        .filter_map(|id| {
            let (name, ty) = input(model, id)?;
            ty.as_tensor()?;
            let dims = sizes::input_dims(model, id)?;
            Some((name, dims.iter().map(|dim| dim.size(sizes)).collect()))
        })
        .collect()
}

/// The shapes of given input values.
pub(super) fn shapes_of(inputs: &RunValues) -> Shapes {
    inputs
        .iter()
        .filter_map(|(name, value)| match value {
            RunValue::Tensor(tensor) => {
                Some((name.clone(), tensor.dims().iter().map(|d| *d as i64).collect()))
            }
            _ => None,
        })
        .collect()
}

/// The shapes by the model's names of the inputs.
pub(super) fn translated(shapes: &Shapes, names: &Names) -> Shapes {
    shapes
        .iter()
        .map(|(name, shape)| (names.input(name).to_owned(), shape.clone()))
        .collect()
}

/// A model with its inputs bound to `shapes` and lowered for `engine`.
pub(super) fn prepare(model: &Model, engine: &dyn Engine, shapes: &Shapes) -> Result<Prepared, EngineError> {
    let mut symbols = BTreeMap::new();
    let mut changes = Vec::new();
    for id in model.graph.inputs() {
        let Some((name, ty)) = input(model, *id) else {
            continue;
        };
        let (Some(shape), Some(tensor)) = (shapes.get(&name), ty.as_tensor()) else {
            continue;
        };
        for (dim, size) in sizes::input_dims(model, *id).iter().flatten().zip(shape) {
            if let InputDim::Free(key) = dim {
                symbols.entry(key.clone()).or_insert(*size);
            }
        }
        let bound: Shape = shape.iter().map(|size| Dim::Fixed(*size)).collect();
        if tensor.shape.as_ref() != Some(&bound) {
            changes.push(Reshape::Input(*id, ValueType::tensor(tensor.dtype, bound)));
        }
    }
    let mut bound = model.clone();
    if !changes.is_empty() {
        edit::reshape(&mut bound, "verify", changes, |_| Ok::<(), EditError>(())).map_err(|error| {
            EngineError::Failed {
                engine: engine.name(),
                reason: error.to_string(),
            }
        })?;
    }
    if let Some(conflict) = analysis::conflicts(&bound).into_iter().next() {
        return Err(EngineError::Shapes {
            node: conflict.node,
            operator: conflict.operator,
            reason: conflict.reason,
        });
    }
    let lowered = lower::for_engine(&bound, engine).map_err(|error| EngineError::Failed {
        engine: engine.name(),
        reason: error.to_string(),
    })?;
    Ok(Prepared {
        model: lowered,
        symbols,
    })
}

/// A model that an engine can compile.
pub(super) struct Prepared {
    /// The lowered model.
    pub(super) model: Model,
    symbols: BTreeMap<String, i64>,
}

impl Prepared {
    /// Compiles the model so that it also returns the values in `expose`.
    pub(super) fn compile(
        &self,
        engine: &dyn Engine,
        expose: Vec<String>,
        optimise: bool,
    ) -> Result<Box<dyn Session>, EngineError> {
        engine.compile(
            &self.model,
            &CompileOptions {
                expose,
                symbols: self.symbols.clone(),
                optimise,
                threads: 1,
            },
        )
    }
}
