//! The pass `bind`.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{About, Context, Pass, PassError, PassReport, Safety};
use crate::analysis::{check, infer, is_private_symbol};
use crate::ir::edit::{Reshape, reshape};
use crate::ir::{Dim, EditError, Model, Name, NodeId, TensorType, ValueId, ValueType};

const NAME: &str = "bind";

/// Gives sizes to symbolic and unknown dimensions of the graph inputs.
///
/// A symbol gets its size wherever it stands: in graph inputs, graph outputs and bodies. A dimension without a name is given
/// as `input[axis]`. All shapes are inferred anew; a size that contradicts the model is an error, and so is a name that
/// does not exist.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Bind {
    /// Size by symbol (`batch: 1`) or by input and axis (`"x[0]": 1`).
    pub sizes: BTreeMap<String, u64>,
}

impl Pass for Bind {
    fn about(&self) -> About {
        About::new(NAME, Safety::Exact).tidying()
    }

    fn run(&self, model: &mut Model, _context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        if self.sizes.is_empty() {
            return Ok(report);
        }
        let known: BTreeSet<String> = infer(model).contradictions.into_iter().map(|c| c.value).collect();
        let plan = self.plan(model)?;
        let bound = plan.symbols.len() + plan.axes.len();
        if bound == 0 {
            return Ok(report);
        }
        let failed = |failure| match failure {
            Failure::Edit(source) => PassError::Edit { pass: NAME, source },
            Failure::Contradiction(node, message) => PassError::Model {
                pass: NAME,
                node,
                message,
            },
        };
        reshape::<Failure>(model, NAME, plan.changes(model), |model| {
            match infer(model)
                .contradictions
                .into_iter()
                .find(|contradiction| !known.contains(&contradiction.value))
            {
                None => match check(model) {
                    Ok(()) => Ok(()),
                    Err(errors) => {
                        let words = errors.first().map(|error| error.to_string()).unwrap_or_default();
                        Err(Failure::Contradiction(
                            "the model with these sizes".to_owned(),
                            words,
                        ))
                    }
                },
                Some(found) => Err(Failure::Contradiction(
                    found.value,
                    format!(
                        "these sizes give {} where the model says {}",
                        found.inferred, found.declared
                    ),
                )),
            }
        })
        .map_err(failed)?;
        let outputs = fixed_outputs(model);
        if !outputs.is_empty() {
            reshape::<Failure>(model, NAME, outputs, |model| {
                infer(model);
                Ok(())
            })
            .map_err(failed)?;
        }
        report.add("dimension", bound as u64);
        Ok(report)
    }
}

/// The graph outputs whose declared dimensions have become numbers.
fn fixed_outputs(model: &Model) -> Vec<Reshape> {
    let graph = &model.graph;
    let mut changes = Vec::new();
    for (index, (output, value)) in graph.outputs().iter().zip(graph.output_values()).enumerate() {
        let Some(value) = value else { continue };
        let (ValueType::Tensor(declared), ValueType::Tensor(found)) = (&output.ty, graph.ty(value)) else {
            continue;
        };
        let (Some(old), Some(new)) = (&declared.shape, &found.shape) else {
            continue;
        };
        if old.len() != new.len()
            || !old
                .iter()
                .zip(new)
                .any(|(old, new)| old.fixed().is_none() && new.fixed().is_some())
        {
            continue;
        }
        let shape = old.iter().zip(new).map(|(old, new)| {
            if new.fixed().is_some() {
                new.clone()
            } else {
                old.clone()
            }
        });
        let ty = ValueType::Tensor(TensorType {
            dtype: declared.dtype,
            shape: Some(shape.collect()),
        });
        changes.push(Reshape::Output(index, ty));
    }
    changes
}

enum Failure {
    Edit(EditError),
    Contradiction(String, String),
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}

/// What to bind.
#[derive(Default)]
struct Plan {
    symbols: BTreeMap<Name, i64>,
    /// Unknown dimensions, by graph input and axis.
    axes: BTreeMap<(NodeId, usize), i64>,
}

impl Plan {
    fn changes(&self, model: &Model) -> Vec<Reshape> {
        let mut changes = Vec::new();
        for id in model.graph.inputs() {
            let sizes: Vec<(usize, i64)> = self
                .axes
                .iter()
                .filter(|((input, _), _)| input == id)
                .map(|((_, axis), size)| (*axis, *size))
                .collect();
            let ValueType::Tensor(tensor) = model.graph.ty(ValueId::new(*id, 0)) else {
                continue;
            };
            let Some(mut shape) = tensor.shape.clone().filter(|_| !sizes.is_empty()) else {
                continue;
            };
            for (axis, size) in sizes {
                if let Some(dim) = shape.get_mut(axis) {
                    *dim = Dim::Fixed(size);
                }
            }
            let ty = ValueType::Tensor(TensorType {
                dtype: tensor.dtype,
                shape: Some(shape),
            });
            changes.push(Reshape::Input(*id, ty));
        }
        changes.push(Reshape::Symbols(self.symbols.clone()));
        changes
    }

    /// Binds a symbol; twice to different sizes is a contradiction.
    fn symbol(&mut self, name: &Name, size: i64) -> Result<(), String> {
        match self.symbols.insert(name.clone(), size) {
            Some(other) if other != size => Err(format!("{name} cannot be {other} and {size}")),
            _ => Ok(()),
        }
    }
}

impl Bind {
    fn plan(&self, model: &Model) -> Result<Plan, PassError> {
        let option = |message: String| PassError::Option { pass: NAME, message };
        let declared = Declared::of(model);
        let mut plan = Plan::default();
        for (key, size) in &self.sizes {
            let size = i64::try_from(*size).map_err(|_| option(format!("{key}: {size} is not a size")))?;
            if let Some(symbol) = declared.symbols.get(key.as_str()) {
                plan.symbol(symbol, size).map_err(option)?;
                continue;
            }
            let place = declared.axis(key).ok_or_else(|| option(declared.unknown(key)))?;
            match place.dim {
                Dim::Fixed(fixed) if fixed == size => {}
                Dim::Fixed(fixed) => {
                    return Err(option(format!(
                        "{key} is {fixed} in the model, it cannot be {size}"
                    )));
                }
                Dim::Unknown => {
                    plan.axes.insert((place.input, place.axis), size);
                }
                Dim::Expr(_) => match place.dim.as_symbol() {
                    Some(symbol) => plan.symbol(symbol, size).map_err(option)?,
                    None => {
                        return Err(option(format!(
                            "{key} is {}, bind its symbols instead",
                            place.dim
                        )));
                    }
                },
            }
        }
        Ok(plan)
    }
}

/// One dimension of a graph input.
struct Place {
    input: NodeId,
    axis: usize,
    name: String,
    dim: Dim,
}

/// What the main graph's inputs declare.
struct Declared {
    symbols: BTreeSet<Name>,
    places: Vec<Place>,
}

impl Declared {
    fn of(model: &Model) -> Self {
        let mut declared = Self {
            symbols: BTreeSet::new(),
            places: Vec::new(),
        };
        let graph = &model.graph;
        for id in graph.inputs() {
            let value = ValueId::new(*id, 0);
            let Some(shape) = graph.ty(value).shape() else {
                continue;
            };
            let name = graph
                .value(value)
                .map(|value| value.name.clone())
                .unwrap_or_default();
            for (axis, dim) in shape.iter().enumerate() {
                // Exporters write `?` for any size: a name that names nothing.
                let unnamed = dim.as_symbol().is_some_and(|symbol| is_private_symbol(symbol));
                let dim = if unnamed { Dim::Unknown } else { dim.clone() };
                dim.for_each_symbol(&mut |symbol| {
                    declared.symbols.insert(symbol.clone());
                });
                declared.places.push(Place {
                    input: *id,
                    axis,
                    name: format!("{name}[{axis}]"),
                    dim,
                });
            }
        }
        declared
    }

    fn axis(&self, key: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.name == key)
    }

    fn unknown(&self, key: &str) -> String {
        let symbols: Vec<&str> = self.symbols.iter().map(Name::as_str).collect();
        let unnamed: Vec<&str> = self
            .places
            .iter()
            .filter(|place| !place.dim.is_known())
            .map(|place| place.name.as_str())
            .collect();
        let list = |what: &str, names: &[&str]| match names {
            [] => format!("no {what}"),
            names => format!("the {what} {}", names.join(", ")),
        };
        format!(
            "there is no dimension {key}; the graph inputs have {} and {}",
            list("symbols", &symbols),
            list("unnamed dimensions", &unnamed)
        )
    }
}
