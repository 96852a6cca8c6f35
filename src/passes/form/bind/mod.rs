//! The pass `bind`.

mod batch;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::{Dimensions, SizesError, check, infer};
use crate::ir::edit::{Reshape, reshape};
use crate::ir::{Dim, EditError, Model, Name, NodeId, TensorType, ValueId, ValueType};
use crate::passes::{About, Context, Needs, Pass, PassError, PassReport, Safety};

const NAME: &str = "bind";

/// Gives sizes to symbolic and unknown dimensions of the graph inputs, and makes a fixed batch of 1 free or larger.
///
/// A symbol gets its size wherever it stands: in graph inputs, graph outputs and bodies. A dimension without a name is given
/// as `input[axis]`. All shapes are inferred anew; a size that contradicts the model is an error, and so is a name that
/// does not exist.
///
/// A dimension that is 1 in the model is taken for its batch when it is given another size, or a name to make it free: Reshape
/// and whatever else has the 1 written into it is rewritten, and samples run together have to give what each gives alone. What
/// does not carry the batch on, or mixes its samples, is refused by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Bind {
    /// Size by symbol (`batch: 1`), by input and axis (`"x[0]": 1`) or of all axes of an input (`x: "1,3,224,224"`); for a fixed dimension
    /// of 1 also a name (`"x[0]": N`).
    pub sizes: BTreeMap<String, Size>,
}

/// What becomes of a dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Size {
    /// It has this size.
    Fixed(u64),
    /// It is free, under this name; with commas, one of either for each axis of an input.
    Symbol(String),
}

impl Size {
    /// What single dimensions become: `key` itself, or each axis of the input `key` that is given a list.
    ///
    /// # Errors
    ///
    /// A list that is not as long as the input has axes.
    pub fn each(&self, key: &str, declared: &Dimensions) -> Result<Vec<(String, Self)>, SizesError> {
        let Some(sizes) = self.list() else {
            return Ok(vec![(key.to_owned(), self.clone())]);
        };
        let axes = declared.listed(key, sizes)?.into_iter();
        Ok(axes
            .map(|(name, part)| match part.parse() {
                Ok(size) => (name, Self::Fixed(size)),
                Err(_) => (name, Self::Symbol(part.to_owned())),
            })
            .collect())
    }

    fn list(&self) -> Option<&str> {
        match self {
            Self::Symbol(sizes) if sizes.contains(',') => Some(sizes),
            _ => None,
        }
    }
}

impl From<u64> for Size {
    fn from(size: u64) -> Self {
        Self::Fixed(size)
    }
}

impl Pass for Bind {
    fn about(&self) -> About {
        let mut about = About::new(NAME, Safety::Exact).tidying();
        // Which of them are fixed in the model, so that it has to be run, only the model says.
        let by_axis = |(key, size): (&String, &Size)| key.ends_with(']') || size.list().is_some();
        if self.sizes.iter().any(by_axis) {
            about = about.needing(Needs {
                engine: true,
                ..Needs::default()
            });
        }
        about
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        if self.sizes.is_empty() {
            return Ok(report);
        }
        let known: BTreeSet<String> = infer(model).contradictions.into_iter().map(|c| c.value).collect();
        let plan = self.plan(model)?;
        if let Some(target) = &plan.batch {
            let mut resized = model.clone();
            batch::free(&mut resized, &plan.resized, target, context, &mut report)?;
            *model = resized;
        }
        let mut symbols = plan.symbols.clone();
        symbols.extend(plan.batch.iter().filter_map(|target| target.size()));
        let bound = plan.symbols.len() + plan.axes.len();
        if symbols.is_empty() && plan.axes.is_empty() {
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
        reshape::<Failure>(model, NAME, plan.changes(model, symbols), |model| {
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

/// Two sizes for one dimension.
#[derive(Debug, thiserror::Error)]
enum Conflict {
    #[error("{name} cannot be {} and {}", sizes.0, sizes.1)]
    Symbol { name: Name, sizes: (i64, i64) },
    #[error("the batch cannot be {0} and {1}")]
    Batch(batch::BatchSize, batch::BatchSize),
}

/// What to bind.
#[derive(Default)]
struct BindPlan {
    symbols: BTreeMap<Name, i64>,
    /// Unknown dimensions, by graph input and axis.
    axes: BTreeMap<(NodeId, usize), Dim>,
    /// Dimensions of 1 that become the batch.
    resized: Vec<(NodeId, usize)>,
    /// What they become.
    batch: Option<batch::BatchSize>,
}

impl BindPlan {
    fn changes(&self, model: &Model, symbols: BTreeMap<Name, i64>) -> Vec<Reshape> {
        let mut changes = Vec::new();
        for id in model.graph.inputs() {
            let dims: Vec<(usize, &Dim)> = self
                .axes
                .iter()
                .filter(|((input, _), _)| input == id)
                .map(|((_, axis), dim)| (*axis, dim))
                .collect();
            let ValueType::Tensor(tensor) = model.graph.ty(ValueId::new(*id, 0)) else {
                continue;
            };
            let Some(mut shape) = tensor.shape.clone().filter(|_| !dims.is_empty()) else {
                continue;
            };
            for (axis, new) in dims {
                if let Some(dim) = shape.get_mut(axis) {
                    *dim = new.clone();
                }
            }
            let ty = ValueType::Tensor(TensorType {
                dtype: tensor.dtype,
                shape: Some(shape),
            });
            changes.push(Reshape::Input(*id, ty));
        }
        changes.push(Reshape::Symbols(symbols));
        changes
    }

    /// Binds a symbol; twice to different sizes is a contradiction.
    fn symbol(&mut self, name: &Name, size: i64) -> Result<(), Conflict> {
        match self.symbols.insert(name.clone(), size) {
            Some(other) if other != size => Err(Conflict::Symbol {
                name: name.clone(),
                sizes: (other, size),
            }),
            _ => Ok(()),
        }
    }

    /// Makes a dimension of 1 the batch, or a part of it.
    fn batch(&mut self, input: NodeId, axis: usize, target: batch::BatchSize) -> Result<(), Conflict> {
        match &self.batch {
            Some(other) if *other != target => {
                return Err(Conflict::Batch(other.clone(), target));
            }
            _ => self.batch = Some(target),
        }
        self.resized.push((input, axis));
        Ok(())
    }
}

impl Bind {
    fn plan(&self, model: &Model) -> Result<BindPlan, PassError> {
        let option = |message: String| PassError::Option { pass: NAME, message };
        let conflict = |conflict: Conflict| option(conflict.to_string());
        let declared = Dimensions::of(model);
        let mut plan = BindPlan::default();
        let mut sizes = Vec::new();
        for (key, size) in &self.sizes {
            sizes.extend(
                size.each(key, &declared)
                    .map_err(|error| option(error.to_string()))?,
            );
        }
        for (key, size) in &sizes {
            let size = match size {
                Size::Symbol(name) => Err(name),
                Size::Fixed(size) => {
                    Ok(i64::try_from(*size).map_err(|_| option(format!("{key}: {size} is not a size")))?)
                }
            };
            if let Some(symbol) = declared.symbol(key) {
                match size {
                    Ok(size) => plan.symbol(symbol, size).map_err(conflict)?,
                    Err(name) if *name == symbol.as_str() => {}
                    Err(name) => return Err(option(format!("{key}: {name:?} is not a size"))),
                }
                continue;
            }
            let place = declared.place(key).ok_or_else(|| option(declared.unknown(key)))?;
            match (&place.dim, size) {
                (Dim::Fixed(fixed), Ok(size)) if *fixed == size => {}
                (Dim::Fixed(1), size) => {
                    let target = match size {
                        Ok(0) => return Err(option(format!("{key} is 1 in the model, it cannot be 0"))),
                        Ok(size) => batch::BatchSize::sized(size, &declared),
                        Err(name) => batch::BatchSize::free(name, &declared)
                            .ok_or_else(|| option(format!("{key}: {name:?} is no name for a dimension")))?,
                    };
                    plan.batch(place.input, place.axis, target).map_err(conflict)?;
                }
                (Dim::Fixed(fixed), size) => {
                    let size = size.map_or_else(|name| format!("{name:?}"), |size| size.to_string());
                    return Err(option(format!(
                        "{key} is {fixed} in the model, it cannot be {size}; only a batch of 1 can be made free or larger"
                    )));
                }
                (Dim::Unknown, Ok(size)) => {
                    plan.axes.insert((place.input, place.axis), Dim::Fixed(size));
                }
                (Dim::Unknown, Err(name)) => {
                    let dim = Dim::symbol(name.as_str());
                    plan.axes.insert((place.input, place.axis), dim);
                }
                (Dim::Expr(_), size) => match (place.dim.as_symbol(), size) {
                    (Some(symbol), Ok(size)) => plan.symbol(symbol, size).map_err(conflict)?,
                    (Some(symbol), Err(name)) if symbol.as_str() == name => {}
                    (_, Err(name)) => {
                        return Err(option(format!(
                            "{key} is free already, as {}, not {name}",
                            place.dim
                        )));
                    }
                    (None, _) => {
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
