//! The epochs.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::optimizer::{Optimizer, Rates, State};
use super::teacher::{Teacher, Teaching};
use crate::analysis;
use crate::autodiff::{AutodiffError, GradientOptions, Wrt, gradients};
use crate::data::{DataError, Dataset, targets};
use crate::engine::stream::in_order;
use crate::engine::{CompileOptions, Engine, EngineError, FloatOutputs, HeldSession, RunValue, hold};
use crate::ir::{DType, EditError, Model, NodeKind, Shape, Tensor, TensorError, ValueId};
use crate::lower;
use crate::statistics::{Objective, target_type};

/// Which elements of parameters stay: true where they do. The others are zero from the start and stay zero.
pub type Masks = BTreeMap<String, Vec<bool>>;

/// How to train.
pub struct Training<'a> {
    /// The loss; labels come with the data.
    pub objective: &'a Objective,
    /// Whose outputs are the targets of the loss; without one they are the labels of the data.
    pub teacher: Option<Teacher<'a>>,
    /// How parameters move.
    pub optimizer: Optimizer,
    /// Of the first step; it falls to zero along a half cosine.
    pub learning_rate: f64,
    /// Of stochastic gradient descent.
    pub momentum: f64,
    /// Share of a parameter that is taken off with each step, times the learning rate.
    pub weight_decay: f64,
    /// Passes over the data.
    pub epochs: u32,
    /// Samples a step.
    pub batch: u64,
    /// Share of the samples that are not trained on but say when to stop.
    pub validation: f64,
    /// Epochs without a lower validation loss before training stops.
    pub patience: u32,
    /// Seed of the split and of the order of samples.
    pub seed: u64,
    /// Whether zeros in parameters of two and more dimensions stay zero.
    pub hold_zeros: bool,
    /// Elements that are zero and stay zero, beside those.
    pub masks: &'a Masks,
    /// Parameters that stay as they are.
    pub frozen: &'a dyn Fn(&str) -> bool,
    /// Threads; the result does not depend on it.
    pub jobs: usize,
}

/// Mean losses of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// On the samples trained on, each before its step.
    pub loss: f64,
    /// On those held out, after the epoch.
    pub validation: Option<f64>,
}

/// What training did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Each epoch.
    pub epochs: Vec<Epoch>,
    /// Parameters that were trained.
    pub parameters: Vec<String>,
    /// The epoch whose parameters the model has, counted from 1; 0 if none was better than before.
    pub best: usize,
}

/// Why a model cannot be trained.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FinetuneError {
    #[error(transparent)]
    Autodiff(#[from] AutodiffError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// There is nothing to train.
    #[error("there is no float32 parameter to train")]
    NoParameters,
    /// Too few samples for one step.
    #[error("{samples} samples are too few to train on")]
    TooFew { samples: u64 },
    /// The teacher does not fit the model.
    #[error("the teacher: {reason}")]
    Teacher { reason: String },
    /// A mask does not fit a parameter.
    #[error("the mask of {name}: {reason}")]
    Mask { name: String, reason: String },
    /// The loss is NaN or infinite.
    #[error("the loss is not finite in epoch {epoch}, step {step}; a lower learning rate may help")]
    Diverged { epoch: usize, step: usize },
}

/// Multiply-accumulates of a step from which on it is split into halves that run in parallel: about 5 ms of work.
const SPLIT_MACS: u64 = 200_000_000;

/// Trains the float32 initializers of `model`, and changes nothing else.
///
/// Every step computes the mean loss over its batch, in one run, or in two halves whose gradients are added in order where a
/// step is expensive; a model that fixes its batch size runs several times a step, and samples that do not fill a run wait for
/// another epoch. The last batch of an epoch may be shorter. Only the batch is fed anew in a step: parameters stay in the
/// engine's memory.
pub fn finetune(
    model: &mut Model,
    data: &Dataset,
    engine: &dyn Engine,
    training: &Training<'_>,
    progress: &dyn Fn(u64, u64),
) -> Result<Outcome, FinetuneError> {
    let names = trainable(model, training)?;
    let loss = &training.objective.loss;
    let (mut step_model, loss_model) = gradient_models(model, training, &names)?;
    let (dtype, shape) = target_type(&step_model, loss.input_name());
    let compile = CompileOptions::side_by_side();
    let compiled = |model: &Model| engine.compile(&lower::for_engine(model, engine)?, &compile);
    let (step_session, loss_session) = (compiled(&step_model)?, compiled(&loss_model)?);
    let held = starting_values(model, &names, training.masks)?;
    let teaching = match &training.teacher {
        Some(teacher) => Some(Teaching::new(teacher, &model.graph, dtype, engine)?),
        None => None,
    };
    let step = hold(&*step_session, &held)?;
    let mut order = samples(data, training);
    let split = (order.len() as f64 * training.validation.clamp(0.0, 0.9)) as usize;
    let validation: Vec<u64> = order.drain(..split).collect();
    let fixed = data.largest_selection();
    if order.is_empty() || fixed.is_some_and(|size| (order.len() as u64) < size) {
        return Err(FinetuneError::TooFew {
            samples: order.len() as u64,
        });
    }
    analysis::infer(&mut step_model);
    let batch = training.batch.max(fixed.unwrap_or(1)).max(1);
    let macs = analysis::cost(&step_model, &|_| Some(batch as i64))
        .macs
        .unwrap_or(0);
    let halves = fixed.is_none() && batch >= 2 && macs >= SPLIT_MACS;
    let feed = Feed {
        data,
        target: loss.input_name(),
        dtype,
        shape,
        teaching,
        jobs: training.jobs,
    };
    let steps = order.len().div_ceil(batch as usize);
    let mut course = Course {
        training,
        feed,
        outputs: names.iter().map(|name| format!("grad/{name}")).collect(),
        states: held
            .iter()
            .map(|(_, tensor)| State::new(training.optimizer, tensor.elements() as usize))
            .collect(),
        sums: held
            .iter()
            .map(|(_, tensor)| vec![0.0; tensor.elements() as usize])
            .collect(),
        kept: held
            .iter()
            .map(|(name, tensor)| kept_elements(name, tensor, training))
            .collect(),
        step,
        fixed,
        halves,
        batch,
        done: 0,
        total: steps as u64 * u64::from(training.epochs),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(training.seed ^ 0x5eed);
    let mut outcome = Outcome {
        parameters: names,
        ..Outcome::default()
    };
    let held_out = |course: &Course<'_, '_>| match validation.is_empty() {
        true => Ok(None),
        false => course
            .feed
            .loss(&*loss_session, &held, &*course.step, &validation, batch)
            .map(Some),
    };
    let mut best: Option<(f64, Vec<Vec<f32>>)> = match held_out(&course)? {
        Some(loss) => Some((loss, course.snapshot()?)),
        None => None,
    };
    for epoch in 1..=training.epochs as usize {
        shuffle(&mut order, &mut rng);
        let loss = course.epoch(&order, epoch, progress)?;
        let validation = held_out(&course)?;
        outcome.epochs.push(Epoch { loss, validation });
        match (validation, &best) {
            (Some(loss), Some((lowest, _))) if loss < *lowest => {
                best = Some((loss, course.snapshot()?));
                outcome.best = epoch;
            }
            (Some(_), _) if epoch - outcome.best >= training.patience.max(1) as usize => break,
            (Some(_), _) => {}
            (None, _) => outcome.best = epoch,
        }
    }
    let values = match best {
        Some((_, values)) => values,
        None => course.snapshot()?,
    };
    store(model, &held, values)?;
    Ok(outcome)
}

/// The model of a step, with the gradients of these parameters, and that of the loss alone; both take the parameters as inputs.
fn gradient_models(
    model: &Model,
    training: &Training<'_>,
    names: &[String],
) -> Result<(Model, Model), FinetuneError> {
    let options = |loss_only: bool| GradientOptions {
        output: training.objective.output.clone(),
        weights_as_inputs: true,
        loss_only,
        ..GradientOptions::default()
    };
    let (loss, wrt) = (&training.objective.loss, Wrt::Named(names.to_vec()));
    let step = gradients(model, loss, &wrt, &options(false))?;
    Ok((step, gradients(model, loss, &wrt, &options(true))?))
}

/// What the parameters are before the first step: the model's own values, zero where a mask says so.
fn starting_values(
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

/// One where an element of a parameter may move and zero where it stays zero; nothing where all may move.
fn kept_elements(name: &str, tensor: &Tensor, training: &Training<'_>) -> Option<Vec<f32>> {
    let holds = training.hold_zeros && tensor.rank() >= 2;
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

/// Puts trained values into the model.
fn store(model: &mut Model, held: &[(String, Tensor)], values: Vec<Vec<f32>>) -> Result<(), FinetuneError> {
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

/// Training on its way: the parameters as the engine holds them, and what the optimizer knows of each.
struct Course<'a, 's> {
    training: &'a Training<'a>,
    feed: Feed<'a>,
    step: Box<dyn HeldSession + 's>,
    /// Names of the gradients.
    outputs: Vec<String>,
    states: Vec<State>,
    /// Room for gradients that several runs add up to.
    sums: Vec<Vec<f32>>,
    kept: Vec<Option<Vec<f32>>>,
    /// The batch size that the model fixes.
    fixed: Option<u64>,
    halves: bool,
    batch: u64,
    done: u64,
    total: u64,
}

impl Course<'_, '_> {
    /// A step for each batch of samples, in this order. Answers the mean loss.
    fn epoch(
        &mut self,
        order: &[u64],
        epoch: usize,
        progress: &dyn Fn(u64, u64),
    ) -> Result<f64, FinetuneError> {
        let (mut loss_sum, mut seen) = (0.0, 0usize);
        for (index, rows) in order.chunks(self.batch as usize).enumerate() {
            self.done += 1;
            let parts = parts(rows, self.fixed, self.halves);
            let count: usize = parts.iter().map(|part| part.len()).sum();
            if count == 0 {
                continue;
            }
            let results = self.feed.run(&*self.step, &parts)?;
            let mut loss = 0.0;
            for (part, result) in parts.iter().zip(&results) {
                let value = result.get("loss")?.first().copied().unwrap_or(f32::NAN);
                loss += f64::from(value) * part.len() as f64;
            }
            if !loss.is_finite() {
                return Err(FinetuneError::Diverged {
                    epoch,
                    step: index + 1,
                });
            }
            (loss_sum, seen) = (loss_sum + loss, seen + count);
            self.advance(&parts, &results, count)?;
            progress(self.done, self.total);
        }
        Ok(loss_sum / seen.max(1) as f64)
    }

    /// Moves every parameter along the mean gradient of the runs of a step.
    fn advance(
        &mut self,
        parts: &[&[u64]],
        results: &[Box<dyn FloatOutputs>],
        count: usize,
    ) -> Result<(), FinetuneError> {
        let training = self.training;
        let way = (self.done - 1) as f64 / self.total.max(1) as f64;
        let rates = Rates {
            learning_rate: (training.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * way).cos())) as f32,
            momentum: training.momentum as f32,
            weight_decay: training.weight_decay as f32,
            step: i32::try_from(self.done).unwrap_or(i32::MAX),
        };
        for (at, (output, state)) in self.outputs.iter().zip(&mut self.states).enumerate() {
            let gradient: &[f32] = match (results, self.sums.get_mut(at)) {
                ([one], _) => one.get(output)?,
                (_, Some(sum)) => {
                    sum.fill(0.0);
                    for (part, result) in parts.iter().zip(results) {
                        let share = part.len() as f32 / count as f32;
                        sum.iter_mut()
                            .zip(result.get(output)?)
                            .for_each(|(sum, g)| *sum += share * g);
                    }
                    sum
                }
                _ => continue,
            };
            let kept = self.kept.get(at).and_then(Option::as_deref);
            state.step(training.optimizer, rates, self.step.held_mut(at)?, gradient, kept);
        }
        Ok(())
    }

    /// The parameters as they are now.
    fn snapshot(&self) -> Result<Vec<Vec<f32>>, FinetuneError> {
        (0..self.outputs.len())
            .map(|at| Ok(self.step.held(at)?.to_vec()))
            .collect()
    }
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

/// The float32 initializers that the loss depends on and that are not frozen.
fn trainable(model: &Model, training: &Training<'_>) -> Result<Vec<String>, FinetuneError> {
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
            tensor.is_some_and(|tensor| tensor.dtype() == DType::F32) && !(training.frozen)(name)
        })
        .collect();
    match names.is_empty() {
        true => Err(FinetuneError::NoParameters),
        false => Ok(names),
    }
}

/// The samples of the shard in a seeded order.
fn samples(data: &Dataset, training: &Training<'_>) -> Vec<u64> {
    let mut order: Vec<u64> = data.sample_range().collect();
    shuffle(&mut order, &mut ChaCha8Rng::seed_from_u64(training.seed));
    order
}

/// Fisher and Yates.
fn shuffle(items: &mut [u64], rng: &mut ChaCha8Rng) {
    for at in (1..items.len()).rev() {
        let other = (u128::from(rng.next_u64()) * (at as u128 + 1)) >> 64;
        items.swap(at, other as usize);
    }
}

/// The runs that a step consists of.
fn parts(rows: &[u64], fixed: Option<u64>, halves: bool) -> Vec<&[u64]> {
    match fixed {
        Some(size) => rows.chunks_exact(size as usize).collect(),
        None if halves && rows.len() >= 2 => rows.chunks(rows.len().div_ceil(2)).collect(),
        None => vec![rows],
    }
}

/// Samples as the gradient model takes them.
struct Feed<'a> {
    data: &'a Dataset,
    target: &'static str,
    dtype: DType,
    shape: Option<Shape>,
    teaching: Option<Teaching>,
    jobs: usize,
}

impl Feed<'_> {
    fn run(
        &self,
        session: &dyn HeldSession,
        parts: &[&[u64]],
    ) -> Result<Vec<Box<dyn FloatOutputs>>, FinetuneError> {
        let one = |rows: &[u64]| -> Result<Box<dyn FloatOutputs>, FinetuneError> {
            let batch = self.data.select(rows)?;
            let labels = match &self.teaching {
                Some(teaching) => teaching.targets(&batch.inputs)?,
                None => targets(self.data, &batch, self.dtype, self.shape.as_ref())?,
            };
            let mut inputs = batch.inputs;
            inputs.insert(self.target.to_owned(), RunValue::Tensor(labels));
            Ok(session.run(&inputs)?)
        };
        let mut results = Vec::with_capacity(parts.len());
        let jobs = self.jobs.min(parts.len());
        in_order(parts.iter().copied(), jobs, one, |outputs| {
            results.push(outputs);
            Ok(())
        })?;
        Ok(results)
    }

    /// The mean loss over samples with the parameters of `step`.
    fn loss(
        &self,
        session: &dyn crate::engine::Session,
        held: &[(String, Tensor)],
        step: &dyn HeldSession,
        rows: &[u64],
        batch: u64,
    ) -> Result<f64, FinetuneError> {
        let now: Vec<(String, Tensor)> = held
            .iter()
            .enumerate()
            .map(|(at, (name, tensor))| {
                Ok((name.clone(), Tensor::from_slice(tensor.dims(), step.held(at)?)?))
            })
            .collect::<Result<_, FinetuneError>>()?;
        let session = hold(session, &now)?;
        let size = self.data.largest_selection().unwrap_or(batch).max(1) as usize;
        let runs: Vec<&[u64]> = match self.data.largest_selection() {
            Some(_) => rows.chunks_exact(size).collect(),
            None => rows.chunks(size).collect(),
        };
        let (mut sum, mut count) = (0.0, 0usize);
        for group in runs.chunks(16) {
            for (part, result) in group.iter().zip(self.run(&*session, group)?) {
                let loss = result.get("loss")?.first().copied().unwrap_or(f32::NAN);
                sum += f64::from(loss) * part.len() as f64;
                count += part.len();
            }
        }
        Ok(sum / count.max(1) as f64)
    }
}
