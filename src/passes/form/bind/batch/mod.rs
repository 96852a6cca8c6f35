//! Making a fixed batch of 1 free.
//!
//! The dimension gets a symbol, and shapes are inferred node by node. An operator that has the 1 of the batch written into it, in
//! a shape or in a constant that does not broadcast, is rewritten so that its result carries the symbol at the place of the 1;
//! every result that depends on the batch has to carry it along one axis. Then samples run together are compared with the same
//! samples run one by one: what mixes samples keeps its shapes, and shows here.

mod walk;

use std::collections::BTreeMap;
use std::fmt;

use self::walk::{Obstacle, Walk, batch_axis};
use super::NAME;
use crate::analysis::{Dimensions, check, infer};
use crate::engine::Engine;
use crate::ir::edit::{Reshape, reshape};
use crate::ir::{Dim, EditError, Model, Name, NodeId, TensorType, ValueId, ValueType};
use crate::passes::{Context, PassError, PassReport, ResourceError};
use crate::verify::{BatchTest, Sizes};

/// What the batch becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchSize {
    symbol: Name,
    size: Option<i64>,
}

impl BatchSize {
    /// A batch of this size. A symbol stands for it until all shapes are known.
    pub(super) fn sized(size: i64, declared: &Dimensions) -> Self {
        let mut symbol = "batch".to_owned();
        while declared.knows(&symbol) {
            symbol.push('_');
        }
        Self {
            symbol: symbol.into(),
            size: Some(size),
        }
    }

    /// A free batch; `None` for what is no name.
    pub(super) fn free(name: &str, declared: &Dimensions) -> Option<Self> {
        let fits = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.')
            && name.chars().next().is_some_and(|c| !c.is_numeric());
        (fits && !declared.knows(name)).then(|| Self {
            symbol: name.into(),
            size: None,
        })
    }

    /// The symbol and its size, where the batch gets one.
    pub(super) fn size(&self) -> Option<(Name, i64)> {
        Some((self.symbol.clone(), self.size?))
    }
}

impl fmt::Display for BatchSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            Some(size) => size.fmt(f),
            None => self.symbol.fmt(f),
        }
    }
}

/// Makes these dimensions of 1 the free batch of the model, and proves that it is one.
pub(super) fn free(
    model: &mut Model,
    places: &[(NodeId, usize)],
    target: &BatchSize,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let single = model.clone();
    open(model, places, &target.symbol)?;
    let mut walk = Walk::new(
        &target.symbol,
        &single.graph,
        &model.opset_imports,
        places.first().copied(),
    );
    for id in model.graph.topological_order() {
        walk.node(&mut model.graph, id)
            .map_err(|obstacle| match obstacle {
                Obstacle::Edit(source) => PassError::Edit { pass: NAME, source },
                other => PassError::Model {
                    pass: NAME,
                    node: single.graph.label(id),
                    message: other.to_string(),
                },
            })?;
    }
    let rewritten = walk.rewritten;
    let axes = outputs(model, &single, &target.symbol)?;
    infer(model);
    if let Some(error) = check(model).err().and_then(|errors| errors.into_iter().next()) {
        return Err(PassError::Model {
            pass: NAME,
            node: error.node.clone().unwrap_or_else(|| "the model".to_owned()),
            message: format!("with a free batch: {}", error.problem),
        });
    }
    prove(&single, model, places, axes, context)?;
    report.add("batch made free", places.len() as u64);
    report.add("operator with the batch written into it", rewritten);
    report.rebased |= target.size.is_some();
    Ok(())
}

/// Puts the symbol into the inputs, and forgets the shapes that the outputs declare.
fn open(model: &mut Model, places: &[(NodeId, usize)], symbol: &Name) -> Result<(), PassError> {
    let mut changes = Vec::new();
    let mut types: BTreeMap<NodeId, TensorType> = BTreeMap::new();
    for (input, axis) in places {
        let Some(tensor) = model.graph.ty(ValueId::new(*input, 0)).as_tensor() else {
            continue;
        };
        let ty = types.entry(*input).or_insert_with(|| tensor.clone());
        if let Some(dim) = ty.shape.as_mut().and_then(|shape| shape.get_mut(*axis)) {
            *dim = Dim::symbol(symbol.clone());
        }
    }
    changes.extend(
        types
            .into_iter()
            .map(|(input, ty)| Reshape::Input(input, ValueType::Tensor(ty))),
    );
    for (index, output) in model.graph.outputs().iter().enumerate() {
        let ty = ValueType::tensor(output.ty.dtype(), None);
        if output.ty.as_tensor().is_some() {
            changes.push(Reshape::Output(index, ty));
        }
    }
    reshape::<EditError>(model, NAME, changes, |_| Ok(()))
        .map_err(|source| PassError::Edit { pass: NAME, source })
}

/// Declares what the outputs are now, and answers where each carries the batch.
fn outputs(
    model: &mut Model,
    single: &Model,
    symbol: &Name,
) -> Result<BTreeMap<String, Option<usize>>, PassError> {
    let mut axes = BTreeMap::new();
    let mut changes = Vec::new();
    for (index, (output, value)) in model
        .graph
        .outputs()
        .iter()
        .zip(model.graph.output_values())
        .enumerate()
    {
        let Some(value) = value else { continue };
        let shape = model.graph.ty(value).shape().cloned();
        let axis = shape.as_ref().and_then(|shape| batch_axis(shape, symbol));
        axes.insert(output.name.to_string(), axis);
        let declared = single.graph.outputs().get(index).map(|output| output.ty.clone());
        let ty = match (axis, shape, declared) {
            (Some(axis), Some(shape), Some(ValueType::Tensor(declared))) => {
                let mut dims = declared.shape.clone().unwrap_or_else(|| shape.clone());
                if let (Some(dim), Some(new)) = (dims.get_mut(axis), shape.get(axis)) {
                    *dim = new.clone();
                }
                ValueType::tensor(declared.dtype, dims)
            }
            (_, _, Some(declared)) => declared,
            _ => continue,
        };
        changes.push(Reshape::Output(index, ty));
    }
    reshape::<EditError>(model, NAME, changes, |model| {
        infer(model);
        Ok(())
    })
    .map_err(|source| PassError::Edit { pass: NAME, source })?;
    Ok(axes)
}

fn prove(
    single: &Model,
    many: &Model,
    places: &[(NodeId, usize)],
    outputs: BTreeMap<String, Option<usize>>,
    context: &Context<'_>,
) -> Result<(), PassError> {
    let resources = context.resources(
        NAME,
        "a free batch is proved by running the model, and there is no engine",
    )?;
    let engine: &dyn Engine = resources.engine().map_err(resource)?;
    let inputs = places
        .iter()
        .map(|(input, axis)| (single.graph.label(*input), *axis))
        .collect();
    let test = BatchTest {
        single,
        many,
        inputs,
        outputs,
        sizes: Sizes::new(),
        seed: context.seed,
    };
    test.run(engine).map_err(|failure| PassError::Model {
        pass: NAME,
        node: failure.output,
        message: failure.message,
    })
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
