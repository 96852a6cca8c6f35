//! Running a data set through a model and looking at its values, sample by sample where that is known.
//!
//! The one place that says which elements of a value belong to which sample, and that the repeats a short batch is filled up with
//! do not count. [`Stream`] runs batches, [`Sampled`] is a value of one with the placement of its samples, [`in_order`] takes
//! batches through several threads in the order of the samples. Where the placement of the samples is not known, a value belongs to
//! the run as a whole, and nothing of it is left out.

mod places;
mod tables;
mod varying;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

pub use places::{Placements, Places};

use super::{CompileOptions, Engine, EngineError, RunValue, RunValues, Session, run_ordered};
use crate::analysis::batch::Placement;
use crate::ir::{Model, Tensor};

/// Some samples, ready to run.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Index among all batches of the data set, of every shard.
    pub index: u64,
    /// Global index of the first sample.
    pub first: u64,
    /// Samples that count.
    pub count: usize,
    /// Samples that run: those that count, and the repeats that fill the batch up where the model fixes its size. Where each sample
    /// is a whole input, batch axis included, this is 1.
    pub ran: usize,
    /// Where the samples come from, for messages.
    pub origin: PathBuf,
    /// Whether the samples lie along the first axis of each input; else the inputs are one sample as a whole.
    pub stacked: bool,
    /// Values of the model's inputs.
    pub inputs: RunValues,
    /// Labels of the samples that count: `int64 [count, ...]` classes or float targets.
    pub labels: Option<Tensor>,
}

/// Does `work` on every item with `jobs` threads and hands the results to `consume` in the order of the items, up to the first
/// failure of either.
///
/// # Errors
/// The first failure, in the order of the items.
pub fn in_order<I: Send, R: Send, E: Send>(
    items: impl Iterator<Item = I> + Send,
    jobs: usize,
    work: impl Fn(I) -> Result<R, E> + Sync,
    mut consume: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let mut failure = None;
    run_ordered(items, jobs, work, |_, result| {
        failure = result.and_then(&mut consume).err();
        failure.is_none()
    });
    failure.map_or(Ok(()), Err)
}

/// A compiled model and the values of it that are looked at.
pub struct Stream<'m> {
    session: Box<dyn Session>,
    places: Places<'m>,
    names: Vec<String>,
    /// By place among the names: whether the value is an input of the model.
    fed: Vec<bool>,
    /// Names of the values that the engine computes, and their places among the names.
    computed: (Vec<String>, Vec<usize>),
    /// Values that repeats of a sample counted in, by place among the names.
    repeated: Mutex<BTreeSet<usize>>,
    lookups: Vec<tables::Lookup>,
    inputs: Mutex<varying::Inputs>,
}

impl<'m> Stream<'m> {
    /// Compiles `model` to look at the values in `names`: inputs, graph outputs, or any others. `engine` lowers what it cannot run.
    ///
    /// # Errors
    /// When the engine cannot run the model.
    pub fn compile(model: &'m Model, names: &[String], engine: &dyn Engine) -> Result<Self, EngineError> {
        let graph = &model.graph;
        let inputs: BTreeSet<&str> = graph
            .inputs()
            .iter()
            .filter_map(|id| graph.get(*id)?.outputs().first())
            .map(|value| &*value.name)
            .collect();
        let outputs: BTreeSet<&str> = graph
            .outputs()
            .iter()
            .map(|output| output.name.as_str())
            .collect();
        let fed: Vec<bool> = names.iter().map(|name| inputs.contains(name.as_str())).collect();
        let computed: (Vec<String>, Vec<usize>) = names
            .iter()
            .enumerate()
            .filter(|(_, name)| !inputs.contains(name.as_str()))
            .map(|(at, name)| (name.clone(), at))
            .unzip();
        let hidden: BTreeSet<&String> = computed
            .0
            .iter()
            .filter(|name| !outputs.contains(name.as_str()))
            .collect();
        let options = CompileOptions {
            expose: hidden.into_iter().cloned().collect(),
            ..CompileOptions::side_by_side()
        };
        Ok(Self {
            session: engine.compile(model, &options)?,
            places: Places::of(model),
            names: names.to_vec(),
            fed,
            computed,
            repeated: Mutex::default(),
            lookups: tables::lookups(graph),
            inputs: Mutex::default(),
        })
    }

    /// The compiled model.
    pub fn session(&self) -> &dyn Session {
        &*self.session
    }

    /// Where samples lie in the model's values.
    pub fn places(&self) -> &Places<'m> {
        &self.places
    }

    /// Runs a batch and answers the graph outputs and the values that are looked at, inputs among them.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn run(&self, batch: &Batch) -> Result<RunValues, EngineError> {
        self.check(batch)?;
        let mut values = self.session.run(&batch.inputs)?;
        for (name, _) in self.names.iter().zip(&self.fed).filter(|(_, fed)| **fed) {
            if let Some(value) = batch.inputs.get(name) {
                values.insert(name.clone(), value.clone());
            }
        }
        Ok(values)
    }

    /// Runs a batch and shows each value that is looked at, in the engine's own memory where it can: `look` gets its place among
    /// the names.
    ///
    /// # Errors
    /// When the engine fails, or a value is not a float tensor.
    pub fn observe(
        &self,
        batch: &Batch,
        look: &mut dyn FnMut(usize, &Sampled<'_>),
    ) -> Result<(), EngineError> {
        self.check(batch)?;
        let known = self.places.of_batch(batch);
        let mut show = |at: usize, dims: &[u64], elements: &[f32]| {
            let Some(name) = self.names.get(at) else { return };
            let sampled = Sampled::new(elements, dims, batch, known.get(name).copied());
            if sampled.repeats() {
                let mut repeated = self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
                repeated.insert(at);
            }
            look(at, &sampled);
        };
        for (at, name) in self.names.iter().enumerate() {
            if self.fed.get(at) != Some(&true) {
                continue;
            }
            if let Some(RunValue::Tensor(tensor)) = batch.inputs.get(name)
                && let Ok(elements) = tensor.to_f32()
            {
                show(at, tensor.dims(), &elements);
            }
        }
        let (names, places) = &self.computed;
        self.session
            .observe(&batch.inputs, names, &mut |index, dims, elements| {
                if let Some(at) = places.get(index) {
                    show(*at, dims, elements);
                }
            })
    }

    /// Refuses inputs that the model cannot take, and remembers whether inputs ever change.
    fn check(&self, batch: &Batch) -> Result<(), EngineError> {
        tables::check(&self.lookups, batch)?;
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        inputs.see(&batch.inputs);
        Ok(())
    }

    /// The inputs with the only value that each ever had, when none of them changed in anything that ran.
    pub fn constant_inputs(&self) -> Option<Vec<(String, f64)>> {
        let inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        inputs.constant()
    }

    /// Values in which repeats that filled a batch up were counted, because it is not known which elements are theirs.
    pub fn repeated(&self) -> Vec<&str> {
        let repeated = self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
        repeated
            .iter()
            .filter_map(|at| self.names.get(*at).map(String::as_str))
            .collect()
    }
}

/// The elements of a value of one run, in row-major order, and where its samples are.
#[derive(Clone, Copy, Debug)]
pub struct Sampled<'v, T = f32> {
    elements: &'v [T],
    dims: &'v [u64],
    /// Samples that ran, those of them that count, and the index of the first.
    ran: usize,
    count: usize,
    /// Axis of the samples, and how many neighbouring elements belong to one; `None` where the value belongs to the run.
    place: Option<(Placement, usize)>,
}

impl<'v, T> Sampled<'v, T> {
    /// A value of `batch` with its samples at `placement`.
    pub fn new(elements: &'v [T], dims: &'v [u64], batch: &Batch, placement: Option<Placement>) -> Self {
        let place = placement.and_then(|placement| {
            let run = placement.run_length(dims, batch.ran as u64)? as usize;
            (run > 0 && elements.len().is_multiple_of(run * batch.ran)).then_some((placement, run))
        });
        Self {
            elements,
            dims,
            ran: batch.ran,
            count: batch.count,
            place,
        }
    }

    /// Dimensions, with the repeats.
    pub fn dims(&self) -> &'v [u64] {
        self.dims
    }

    /// Where the samples lie, if that is known.
    pub fn placement(&self) -> Option<Placement> {
        self.place.map(|(placement, _)| placement)
    }

    /// How many parts [`Sampled::sample`] has: a whole where the samples cannot be told apart.
    pub fn samples(&self) -> usize {
        if self.place.is_some() { self.count } else { 1 }
    }

    /// The same elements as one sample, where they cannot be cut into `unit`s of neighbours that each belong to one.
    pub fn in_units(mut self, unit: usize) -> Self {
        self.place = self.place.filter(|(_, run)| run.is_multiple_of(unit.max(1)));
        self
    }

    /// Elements of each sample.
    pub fn sample_size(&self) -> usize {
        match self.place {
            Some(_) => self.elements.len() / self.ran.max(1),
            None => self.elements.len(),
        }
    }

    /// The index of an element of one sample among all.
    pub fn index(&self, sample: usize, element: usize) -> usize {
        match self.place {
            Some((_, run)) => (element / run * self.ran + sample) * run + element % run,
            None => element,
        }
    }

    /// All elements, with the repeats.
    pub fn elements(&self) -> &'v [T] {
        self.elements
    }

    /// Whether repeats are among the elements, because it is not known which are theirs.
    pub fn repeats(&self) -> bool {
        self.place.is_none() && self.count < self.ran
    }

    /// The elements that count, as stretches of neighbours, each with the index of its first element.
    pub fn stretches(&self) -> impl Iterator<Item = (usize, &'v [T])> + use<'v, T> {
        match self.place {
            Some((_, run)) if self.count < self.ran => self.spread(0..self.count * run, run),
            _ => self.spread(0..self.elements.len(), self.elements.len()),
        }
    }

    /// The elements of one sample, as stretches of neighbours, each with the index of its first element.
    pub fn sample(&self, sample: usize) -> impl Iterator<Item = (usize, &'v [T])> + use<'v, T> {
        match self.place {
            Some((_, run)) => self.spread(sample * run..(sample + 1) * run, run),
            None => self.spread(0..self.elements.len(), self.elements.len()),
        }
    }

    /// The same range of every `ran` runs of `run` neighbours.
    fn spread(&self, range: Range<usize>, run: usize) -> impl Iterator<Item = (usize, &'v [T])> + use<'v, T> {
        let step = match self.place {
            Some(_) => run * self.ran,
            None => run,
        };
        let step = step.min(self.elements.len()).max(1);
        let elements = self.elements;
        (0..elements.len() / step).filter_map(move |block| {
            let start = block * step + range.start;
            Some((start, elements.get(start..block * step + range.end)?))
        })
    }
}

/// The samples of a tensor that count, with the samples as the first axis; the other axes follow in their order, those that were
/// one axis with the samples apart from them. `None` where it is not known which elements belong to which sample.
pub fn samples_first<'t>(
    tensor: &'t Tensor,
    batch: &Batch,
    placement: Option<Placement>,
) -> Option<Cow<'t, Tensor>> {
    let dims = tensor.dims();
    let placement = match placement {
        Some(placement) => placement,
        // One sample is all there is, with a batch axis of size 1 or none.
        None if batch.ran == 1 => {
            let whole = dims.first() == Some(&1);
            let own: Vec<u64> = if whole {
                dims.to_vec()
            } else {
                [1].iter().chain(dims).copied().collect()
            };
            return match whole {
                true => Some(Cow::Borrowed(tensor)),
                false => tensor.reshaped(&own).ok().map(Cow::Owned),
            };
        }
        None => return None,
    };
    let run = placement.run_length(dims, batch.ran as u64)?;
    if placement == Placement::FIRST && dims.first() == Some(&(batch.count as u64)) {
        return Some(Cow::Borrowed(tensor));
    }
    let outer = dims.get(placement.axis)? / (batch.ran as u64 * placement.minor);
    let beside = |size: u64| (size != 1).then_some(size);
    let own: Vec<u64> = std::iter::once(batch.count as u64)
        .chain(dims.iter().take(placement.axis).copied())
        .chain(beside(outer))
        .chain(beside(placement.minor))
        .chain(dims.iter().skip(placement.axis + 1).copied())
        .collect();
    let raw = tensor.raw_bytes().ok()?;
    let total = tensor.elements();
    let size = if total == 0 { 0 } else { raw.len() / total as usize };
    if size as u64 * total != raw.len() as u64 {
        return None;
    }
    let run = run as usize * size;
    let sampled = Sampled {
        elements: &raw[..],
        dims,
        ran: batch.ran,
        count: batch.count,
        place: Some((placement, run)),
    };
    let bytes: Vec<u8> = (0..batch.count)
        .flat_map(|sample| sampled.sample(sample))
        .flat_map(|(_, bytes)| bytes.iter().copied())
        .collect();
    Tensor::from_raw(tensor.dtype(), own, bytes).ok().map(Cow::Owned)
}
