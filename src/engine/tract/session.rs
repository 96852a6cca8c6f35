//! A compiled model: plans by input shapes, and runs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tract_onnx::prelude::{
    IntoTValue as _, TValue, TVec, Tensor as TractTensor, TractResult, TypedRunnableModel,
};
use tract_onnx::tract_core::plan::eval;

use super::held::Held;
use super::program::{Binding, Program, ProgramInput, Size, tract_error};
use super::tensor::{from_tract_as, to_tract};
use super::{ENGINE, failed};
use crate::engine::bounded::{Extent, bounded};
use crate::engine::guard::quietly;
use crate::engine::{EngineError, HeldSession, Look, RunValue, RunValues, Session, worker};
use crate::ir::{DType, Tensor};

/// Plans kept by a session: enough for a model whose batch or sequence length takes a few values in turn.
const PLANS: usize = 8;

/// How much of the inputs a plan takes as constants. tract wants many shape-like operands (axes, pads, repeats, sizes) at
/// compile time; a model that feeds one through a graph input gets a plan for each of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Shapes only.
    Shapes,
    /// Also the elements of small vectors and scalars.
    Vectors,
    /// Also the elements of every tensor that is not large.
    Tensors,
}

const REACHES: [Reach; 3] = [Reach::Shapes, Reach::Vectors, Reach::Tensors];

impl Reach {
    fn binds(self, tensor: &Tensor) -> bool {
        match self {
            Self::Shapes => false,
            Self::Vectors => tensor.rank() <= 1 && tensor.elements() <= 1024,
            Self::Tensors => tensor.elements() <= 65_536,
        }
    }
}

/// What a plan was compiled for: one entry a graph input.
pub(super) type Key = Vec<KeyPart>;

#[derive(Clone, Debug)]
pub(super) enum KeyPart {
    Shape(Vec<u64>),
    Elements(Tensor),
    Default,
}

fn same(a: &[KeyPart], b: &[KeyPart]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|pair| match pair {
            (KeyPart::Shape(a), KeyPart::Shape(b)) => a == b,
            (KeyPart::Elements(a), KeyPart::Elements(b)) => a.same_as(b),
            (KeyPart::Default, KeyPart::Default) => true,
            _ => false,
        })
}

pub(super) type Plan = Arc<TypedRunnableModel>;

pub(super) struct TractSession {
    pub(super) program: Arc<Program>,
    extent: Extent,
    /// Compiling took too long once: it is not tried again.
    given_up: OnceLock<EngineError>,
    symbols: BTreeMap<String, i64>,
    plans: Mutex<VecDeque<(Key, Plan)>>,
    /// The least reach that worked, as an index into [`REACHES`].
    reach: AtomicU8,
}

impl TractSession {
    /// A session; the plan of a model with fixed shapes is compiled at once, so that an operator that tract lacks shows
    /// before the first run.
    pub(super) fn new(program: Program, extent: Extent, symbols: BTreeMap<String, i64>) -> Self {
        let session = Self {
            program: Arc::new(program),
            extent,
            given_up: OnceLock::new(),
            symbols,
            plans: Mutex::new(VecDeque::new()),
            reach: AtomicU8::new(0),
        };
        if let Some(bindings) = session.program.fixed_bindings() {
            let key = bindings
                .iter()
                .map(|binding| match binding {
                    Binding::Fed(dims) => KeyPart::Shape(dims.clone()),
                    Binding::Constant(_) => KeyPart::Default,
                })
                .collect();
            // A failure is not final: the first run tries again with more of its inputs bound, and reports.
            let _ = session.plan(key, || Ok(bindings));
        }
        session
    }

    pub(super) fn plan(
        &self,
        key: Key,
        bindings: impl FnOnce() -> Result<Vec<Binding>, EngineError>,
    ) -> Result<Plan, EngineError> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = plans.iter().position(|(known, _)| same(known, &key))
            && let Some(entry) = plans.remove(at)
        {
            let plan = entry.1.clone();
            plans.push_back(entry);
            return Ok(plan);
        }
        if let Some(error) = self.given_up.get() {
            return Err(error.clone());
        }
        let bindings = bindings()?;
        let program = Arc::clone(&self.program);
        let plan = bounded(ENGINE, "compiling", self.extent.compiling(), move || {
            quietly(ENGINE, || program.plan(&bindings))
        })
        .inspect_err(|error| {
            if matches!(error, EngineError::TimedOut { .. }) {
                // Another thread may have been there first, with the same answer.
                let _ = self.given_up.set(error.clone());
            }
        })?;
        if plans.len() >= PLANS {
            plans.pop_front();
        }
        plans.push_back((key, plan.clone()));
        Ok(plan)
    }

    /// Checks the inputs against the model's declaration and puts them into its order; `None` where a default holds.
    fn arrange<'v>(&self, inputs: &'v RunValues) -> Result<Vec<Option<&'v Tensor>>, EngineError> {
        let wrong = |name: &str, reason: String| EngineError::Input {
            name: name.to_owned(),
            reason,
        };
        if let Some(unknown) = inputs
            .keys()
            .find(|name| !self.program.inputs.iter().any(|i| i.name == **name))
        {
            return Err(wrong(unknown, "the model has no such input".to_owned()));
        }
        let mut sizes = self
            .symbols
            .iter()
            .map(|(name, size)| (name.as_str(), *size))
            .collect::<BTreeMap<_, _>>();
        let mut arranged = Vec::with_capacity(self.program.inputs.len());
        for input in &self.program.inputs {
            let tensor = match inputs.get(&input.name) {
                None if input.default.is_some() => {
                    arranged.push(None);
                    continue;
                }
                None => return Err(wrong(&input.name, "missing".to_owned())),
                Some(RunValue::Tensor(tensor)) => tensor,
                Some(_) => return Err(wrong(&input.name, "tract takes tensors only".to_owned())),
            };
            if tensor.dtype() != input.dtype {
                return Err(wrong(
                    &input.name,
                    format!("expected {}, got {}", input.dtype, tensor.dtype()),
                ));
            }
            fits(input, tensor, &mut sizes).map_err(|misfit| wrong(&input.name, misfit.to_string()))?;
            arranged.push(Some(tensor));
        }
        Ok(arranged)
    }

    fn run_with(&self, reach: Reach, inputs: &[Option<&Tensor>]) -> Result<TVec<TValue>, EngineError> {
        let key: Key = inputs
            .iter()
            .map(|tensor| match tensor {
                None => KeyPart::Default,
                Some(tensor) if reach.binds(tensor) => KeyPart::Elements((*tensor).clone()),
                Some(tensor) => KeyPart::Shape(tensor.dims().to_vec()),
            })
            .collect();
        let plan = self.plan(key.clone(), || {
            let one = |(part, input): (&KeyPart, &ProgramInput)| {
                Ok(match part {
                    KeyPart::Shape(dims) => Binding::Fed(dims.clone()),
                    KeyPart::Elements(tensor) => {
                        Binding::Constant(super::program::constant(tensor, &input.name)?)
                    }
                    KeyPart::Default => {
                        let default = input.default.as_ref();
                        let default =
                            default.ok_or_else(|| failed(format!("{} has no default", input.name)))?;
                        Binding::Constant(super::program::constant(default, &input.name)?)
                    }
                })
            };
            key.iter().zip(&self.program.inputs).map(one).collect()
        })?;
        let mut fed = Vec::new();
        for ((part, tensor), input) in key.iter().zip(inputs).zip(&self.program.inputs) {
            if let (KeyPart::Shape(_), Some(tensor)) = (part, tensor) {
                fed.push(to_tract(tensor, &input.name)?.into_tvalue());
            }
        }
        let elements = inputs.iter().flatten().map(|tensor| tensor.elements()).sum();
        let values = self.run_plan(plan, fed, elements)?;
        if values.len() != self.program.outputs.len() {
            return Err(failed(format!(
                "{} outputs instead of {}",
                values.len(),
                self.program.outputs.len()
            )));
        }
        Ok(values)
    }

    /// Runs a plan on its inputs, which have so many elements.
    pub(super) fn run_plan(
        &self,
        plan: Plan,
        fed: Vec<TValue>,
        elements: u64,
    ) -> Result<TVec<TValue>, EngineError> {
        bounded(ENGINE, "a run", self.extent.running(elements), move || {
            quietly(ENGINE, || {
                let fed = fed.into_iter().collect();
                let values = if worker::telling() {
                    run_telling(&plan, fed)
                } else {
                    plan.run(fed)
                };
                values.map_err(tract_error)
            })
        })
    }

    /// Runs the model with as few of its inputs bound as will do, and makes of the outputs what `take` does.
    fn run_and<R>(
        &self,
        inputs: &RunValues,
        mut take: impl FnMut(&[TValue]) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        let arranged = self.arrange(inputs)?;
        let start = usize::from(self.reach.load(Ordering::Relaxed));
        let mut first = None;
        for (index, reach) in REACHES.iter().enumerate().skip(start) {
            match self.run_with(*reach, &arranged).and_then(|values| take(&values)) {
                Ok(values) => {
                    self.reach.fetch_max(index as u8, Ordering::Relaxed);
                    return Ok(values);
                }
                Err(error) if error.ends_the_engine() => return Err(error),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
            if !arranged
                .iter()
                .flatten()
                .any(|tensor| Reach::Tensors.binds(tensor))
            {
                break;
            }
        }
        Err(first.unwrap_or_else(|| failed("no plan")))
    }

    fn results(&self, values: &[TValue]) -> Result<RunValues, EngineError> {
        let mut results = RunValues::new();
        for (output, value) in self.program.outputs.iter().zip(values) {
            let value: &TractTensor = value;
            let tensor = quietly(ENGINE, || from_tract_as(value, output.dtype, &output.name))?;
            results.insert(output.name.clone(), RunValue::Tensor(tensor));
        }
        Ok(results)
    }
}

/// Runs a plan and says which node is next, by the name it has in the model.
fn run_telling(plan: &Plan, fed: TVec<TValue>) -> TractResult<TVec<TValue>> {
    plan.spawn()?
        .run_plan_with_eval(fed, |context, state, node, inputs| {
            worker::say_node(node.name.split_once('~').map_or(&*node.name, |(name, _)| name));
            eval(context, state, node, inputs)
        })
}

/// How the shape of a tensor is not one that its input may have.
#[derive(Debug, thiserror::Error)]
enum Misfit {
    #[error("expected rank {expected}, got shape {found:?}")]
    Rank { expected: usize, found: Vec<u64> },
    #[error("axis {axis} must be {expected}, got shape {found:?}")]
    Fixed {
        axis: usize,
        expected: u64,
        found: Vec<u64>,
    },
    #[error("axis {axis} is {found}, but {symbol} is {known} elsewhere")]
    Symbol {
        axis: usize,
        found: u64,
        symbol: String,
        known: i64,
    },
}

/// Whether a tensor has a shape that its input may have, given the symbols' sizes so far.
fn fits<'p>(
    input: &'p ProgramInput,
    tensor: &Tensor,
    sizes: &mut BTreeMap<&'p str, i64>,
) -> Result<(), Misfit> {
    let Some(dims) = &input.dims else { return Ok(()) };
    if dims.len() != tensor.rank() {
        return Err(Misfit::Rank {
            expected: dims.len(),
            found: tensor.dims().to_vec(),
        });
    }
    for (axis, (dim, size)) in dims.iter().zip(tensor.dims()).enumerate() {
        match dim {
            Size::Fixed(expected) if expected != size => {
                return Err(Misfit::Fixed {
                    axis,
                    expected: *expected,
                    found: tensor.dims().to_vec(),
                });
            }
            Size::Symbol(name) => {
                let known = *sizes.entry(name).or_insert(*size as i64);
                if known != *size as i64 {
                    return Err(Misfit::Symbol {
                        axis,
                        found: *size,
                        symbol: name.clone(),
                        known,
                    });
                }
            }
            Size::Fixed(_) | Size::Any => {}
        }
    }
    Ok(())
}

impl Session for TractSession {
    fn holding(&self, held: &[(String, Tensor)]) -> Option<Result<Box<dyn HeldSession + '_>, EngineError>> {
        let found = Held::new(self, held);
        Some(found.map(|held| Box::new(held) as Box<dyn HeldSession>))
    }

    fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
        self.run_and(inputs, |values| self.results(values))
    }

    fn observe(&self, inputs: &RunValues, names: &[String], look: Look<'_>) -> Result<(), EngineError> {
        let outputs = &self.program.outputs;
        let places = names.iter().map(|name| {
            let place = outputs.iter().position(|output| output.name == *name);
            place.ok_or_else(|| failed(format!("{name} is neither an output nor exposed")))
        });
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let values = self.run_and(inputs, |values| Ok(values.to_vec()))?;
        for (at, place) in places.into_iter().enumerate() {
            let (Some(output), Some(value)) = (outputs.get(place), values.get(place)) else {
                return Err(failed("an output is missing"));
            };
            let plain = matches!(output.dtype, None | Some(DType::F32));
            if plain
                && let Ok(view) = value.to_plain_array_view::<f32>()
                && let Some(elements) = view.as_slice()
            {
                let dims: Vec<u64> = value.shape().iter().map(|dim| *dim as u64).collect();
                look(at, &dims, elements);
                continue;
            }
            let value: &TractTensor = value;
            let tensor = quietly(ENGINE, || from_tract_as(value, output.dtype, &output.name))?;
            let elements = tensor.to_f32().map_err(|error| failed(error.to_string()))?;
            look(at, tensor.dims(), &elements);
        }
        Ok(())
    }
}
