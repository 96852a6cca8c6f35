//! Sums over the gradients of single samples: how much a loss depends on each parameter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::activations::StatisticsError;
use super::digest::model_digest;
use super::file::Subject;
use crate::autodiff::{GradientOptions, Loss, Wrt, gradients};
use crate::data::{Batch, Dataset, targets};
use crate::engine::{CompileOptions, Engine, EngineError, RunValue, Session, run_ordered};
use crate::ir::{DType, Model, Shape, Tensor, ValueId};
use crate::lower;

/// Sums over samples of what the gradient of one parameter tensor is, element by element in the tensor's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradient {
    /// Shape of the parameter.
    pub dims: Vec<u64>,
    /// Σ g.
    pub sum: Vec<f64>,
    /// Σ |g|. As a parameter θ is the same for every sample, Σ |g·θ| is this times |θ|.
    pub absolute: Vec<f64>,
    /// Σ g²: N times the diagonal of the empirical Fisher information.
    pub squared: Vec<f64>,
}

/// Gradient statistics of a model over some samples, by parameter (initializer) name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GradientStatistics {
    /// What they are of; others do not merge.
    pub subject: Subject,
    /// The loss, and the output that it sits on if that is not the first one.
    pub loss: String,
    /// How many gradients were added up: samples, or whole batches where the model fixes its batch size.
    pub gradients: u64,
    /// Σ of the loss.
    pub loss_sum: f64,
    /// Ranges of global sample indices, ascending and apart.
    pub ranges: Vec<(u64, u64)>,
    /// By parameter.
    pub values: BTreeMap<String, Gradient>,
}

/// What is differentiated.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The loss; labels or targets come with the data.
    pub loss: Loss,
    /// The output that it sits on; the first without a name.
    pub output: Option<String>,
}

impl Objective {
    /// How files name it.
    pub fn describe(&self) -> String {
        match &self.output {
            Some(output) => format!("{:?} on {output}", self.loss),
            None => format!("{:?}", self.loss),
        }
    }
}

/// Bytes that the sums of all lanes may take together.
const LANE_BYTES: u64 = 512 << 20;
/// Most lanes.
const LANES: u64 = 8;

/// Adds up the gradients of `objective` with respect to `wrt` over the data set's shard, a sample at a time, with `jobs`
/// threads.
///
/// Samples are dealt to a number of lanes that depends on the model alone; each lane adds in the order of its samples and the
/// lanes are added in their order, so the result does not depend on the number of threads. A model that fixes its batch size
/// is differentiated a batch at a time, with respect to the batch's mean loss; a last batch that is not full is left out, and
/// [`GradientStatistics::gradients`] counts batches. Memory is three `f64` a parameter and lane (at most 512 MiB from two lanes
/// on) and does not grow with the data.
pub fn collect_gradients(
    model: &Model,
    objective: &Objective,
    wrt: &Wrt,
    data: &Dataset,
    engine: &dyn Engine,
    jobs: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<GradientStatistics, StatisticsError> {
    let options = GradientOptions {
        output: objective.output.clone(),
        ..GradientOptions::default()
    };
    let differentiated = gradients(model, &objective.loss, wrt, &options)?;
    let lowered = lower::for_engine(&differentiated, engine).map_err(EngineError::from)?;
    let compile = CompileOptions::side_by_side();
    let session = engine.compile(&lowered, &compile)?;
    let outputs = wanted(&differentiated);
    let (dtype, shape) = target_type(&differentiated, objective.loss.input_name());
    let per_run = data.largest_selection().unwrap_or(1);
    let range = data.sample_range();
    let first = range.start.div_ceil(per_run);
    let last = range.end / per_run;
    if first >= last {
        return Err(StatisticsError::NoFullBatch {
            samples: range.end - range.start,
            batch: per_run,
        });
    }
    let elements: u64 = outputs.iter().map(|(_, shape)| elements(shape)).sum();
    let lanes = (LANE_BYTES / (24 * elements).max(1)).clamp(1, LANES);
    let done = AtomicU64::new(0);
    // The first run that failed; lanes go on up to it, so that the error does not depend on threads.
    let failed = AtomicU64::new(u64::MAX);
    let work = |lane: u64| {
        let mut sums = Sums::new(&outputs);
        for run in (first..last).filter(|run| run % lanes == lane) {
            if run > failed.load(Ordering::Relaxed) {
                break;
            }
            let samples: Vec<u64> = (run * per_run..(run + 1) * per_run).collect();
            let one = data
                .select(&samples)
                .map_err(StatisticsError::from)
                .and_then(|batch| {
                    let labels = targets(data, &batch, dtype, shape.as_ref())?;
                    sums.add(&*session, batch, objective.loss.input_name(), labels, &outputs)
                });
            if let Err(error) = one {
                failed.fetch_min(run, Ordering::Relaxed);
                return Err((run, error));
            }
            progress(done.fetch_add(per_run, Ordering::Relaxed) + per_run);
        }
        Ok(sums)
    };
    let mut whole: Option<Sums> = None;
    let mut failure: Option<(u64, StatisticsError)> = None;
    run_ordered(0..lanes, jobs, work, |_, result| {
        match result {
            Ok(sums) => match &mut whole {
                Some(whole) => whole.merge(&sums),
                None => whole = Some(sums),
            },
            Err((run, error)) => {
                if failure.as_ref().is_none_or(|(earlier, _)| run < *earlier) {
                    failure = Some((run, error));
                }
            }
        }
        true
    });
    if let Some((_, error)) = failure {
        return Err(error);
    }
    let whole = whole.unwrap_or_else(|| Sums::new(&outputs));
    let loss_sum = whole.loss;
    let values = finite(&outputs, whole, range.start)?;
    Ok(GradientStatistics {
        subject: Subject {
            model: model_digest(model),
            data: data.digest().to_owned(),
            samples: data.samples(),
            batch: per_run,
            engine: engine.name().to_owned(),
            rows_per_sample: None,
        },
        loss: objective.describe(),
        gradients: last - first,
        loss_sum,
        ranges: vec![(first * per_run, last * per_run)],
        values,
    })
}

/// The parameters whose gradients a model answers, with their shapes.
fn wanted(differentiated: &Model) -> Vec<(String, Shape)> {
    differentiated
        .graph
        .outputs()
        .iter()
        .filter_map(|output| {
            let name = output.name.strip_prefix("grad/")?;
            Some((name.to_owned(), output.ty.shape().cloned().unwrap_or_default()))
        })
        .collect()
}

/// The sums by parameter, all of them finite.
fn finite(
    outputs: &[(String, Shape)],
    whole: Sums,
    first: u64,
) -> Result<BTreeMap<String, Gradient>, StatisticsError> {
    let values: BTreeMap<String, Gradient> = outputs
        .iter()
        .map(|(name, _)| name.clone())
        .zip(whole.values)
        .collect();
    match values
        .iter()
        .find(|(_, gradient)| !gradient.squared.iter().all(|sum| sum.is_finite()))
    {
        None => Ok(values),
        Some((name, _)) => Err(StatisticsError::NotFinite {
            value: format!("grad/{name}"),
            sample: first,
        }),
    }
}

fn elements(shape: &Shape) -> u64 {
    shape
        .iter()
        .map(|dim| dim.fixed().unwrap_or(1).max(0) as u64)
        .product()
}

/// Element type and shape of the input that a loss adds.
pub fn target_type(differentiated: &Model, name: &str) -> (DType, Option<Shape>) {
    let graph = &differentiated.graph;
    let input = graph
        .inputs()
        .iter()
        .map(|id| ValueId::new(*id, 0))
        .find(|value| graph.value(*value).is_some_and(|value| value.name == *name));
    match input.map(|value| graph.ty(value)) {
        Some(ty) => (ty.dtype().unwrap_or(DType::F32), ty.shape().cloned()),
        None => (DType::F32, None),
    }
}

/// The sums of one lane.
struct Sums {
    loss: f64,
    values: Vec<Gradient>,
}

impl Sums {
    fn new(outputs: &[(String, Shape)]) -> Self {
        let one = |(_, shape): &(String, Shape)| {
            let count = elements(shape) as usize;
            Gradient {
                dims: shape
                    .iter()
                    .map(|dim| dim.fixed().unwrap_or(1).max(0) as u64)
                    .collect(),
                sum: vec![0.0; count],
                absolute: vec![0.0; count],
                squared: vec![0.0; count],
            }
        };
        Self {
            loss: 0.0,
            values: outputs.iter().map(one).collect(),
        }
    }

    fn add(
        &mut self,
        session: &dyn Session,
        batch: Batch,
        target: &str,
        labels: Tensor,
        outputs: &[(String, Shape)],
    ) -> Result<(), StatisticsError> {
        let mut inputs = batch.inputs;
        inputs.insert(target.to_owned(), RunValue::Tensor(labels));
        let results = session.run(&inputs)?;
        let tensor = |name: &str| match results.get(name) {
            Some(RunValue::Tensor(tensor)) => Ok(tensor),
            _ => Err(StatisticsError::Missing(name.to_owned())),
        };
        let loss = tensor("loss")?.single_f64().unwrap_or(f64::NAN);
        if !loss.is_finite() {
            return Err(StatisticsError::NotFinite {
                value: "loss".to_owned(),
                sample: batch.first,
            });
        }
        self.loss += loss;
        for ((name, _), sums) in outputs.iter().zip(&mut self.values) {
            let name = format!("grad/{name}");
            let gradient = tensor(&name)?
                .to_f32()
                .map_err(|_| StatisticsError::Missing(name.clone()))?;
            if gradient.len() != sums.sum.len() {
                return Err(StatisticsError::Missing(name));
            }
            let sums = sums.sum.iter_mut().zip(&mut sums.absolute).zip(&mut sums.squared);
            for (((sum, absolute), squared), g) in sums.zip(gradient.iter()) {
                let g = f64::from(*g);
                *sum += g;
                *absolute += g.abs();
                *squared += g * g;
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.loss += other.loss;
        for (mine, more) in self.values.iter_mut().zip(&other.values) {
            mine.merge(more);
        }
    }
}

impl Gradient {
    /// Adds the sums over other samples.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, more) in [
            (&mut self.sum, &other.sum),
            (&mut self.absolute, &other.absolute),
            (&mut self.squared, &other.squared),
        ] {
            mine.iter_mut().zip(more).for_each(|(a, b)| *a += b);
        }
    }
}
