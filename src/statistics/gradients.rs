//! Sums over the gradients of single samples: how much a loss depends on each parameter.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::StatisticsError;
use super::file::Subject;
use super::parts::{Joined, Seen, collected};
use crate::autodiff::{GradientOptions, Loss, Wrt, gradients};
use crate::data::{Batch, Dataset, targets};
use crate::engine::{CompileOptions, Engine, EngineError, RunValue, Session, run_ordered};
use crate::ir::{DType, Model, Shape, Tensor, ValueId, model_digest};
use crate::linalg::Sums;
use crate::lower;
use crate::parts::Work;

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

/// The same sums while they grow: the same bits in whatever order samples are added, and however they are grouped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GradientSums {
    /// Σ g, Σ |g| and Σ g².
    pub(super) sums: [Sums<2>; 3],
}

impl GradientSums {
    fn new(count: usize) -> Self {
        Self {
            sums: std::array::from_fn(|_| Sums::new(count)),
        }
    }

    fn add(&mut self, gradient: &[f32]) {
        let [sum, absolute, squared] = &mut self.sums;
        for (at, g) in gradient.iter().enumerate() {
            let g = f64::from(*g);
            sum.add(at, g);
            absolute.add(at, g.abs());
            squared.add(at, g * g);
        }
    }

    /// Adds the sums over other samples.
    pub(super) fn merge(&mut self, other: &Self) {
        let each = self.sums.iter_mut().zip(&other.sums);
        each.for_each(|(mine, more)| mine.merge(more));
    }

    /// The sums, rounded.
    pub(super) fn rounded(&self, dims: &[u64]) -> Gradient {
        let [sum, absolute, squared] = &self.sums;
        Gradient {
            dims: dims.to_vec(),
            sum: sum.values(),
            absolute: absolute.values(),
            squared: squared.values(),
        }
    }
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
    pub loss_sum: Sums<3>,
    /// Ranges of global sample indices, ascending and apart.
    pub ranges: Vec<(u64, u64)>,
    /// By parameter.
    pub values: BTreeMap<String, Gradient>,
    /// The same before rounding, where samples of other parts are to be added.
    pub sums: BTreeMap<String, GradientSums>,
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
const LANE_BYTES: u64 = 1 << 30;
/// Most lanes.
const LANES: u64 = 8;

/// Adds up the gradients of `objective` with respect to `wrt` over the data set's shard, a sample at a time, with `jobs`
/// threads.
///
/// Samples are dealt to a number of lanes that depends on the model alone. Sums have the same bits in any order, so the result depends
/// neither on the number of threads nor on how the data were cut into shards. A model that fixes its batch size
/// is differentiated a batch at a time, with respect to the batch's mean loss; a last batch that is not full is left out, and
/// [`GradientStatistics::gradients`] counts batches. Memory is 54 bytes a parameter and lane (at most 1 GiB from two lanes
/// on) and does not grow with the data.
///
/// For [`Loss::InnerProduct`] no labels are read: its targets are signs, drawn anew for each sample and element. The mean of g² is
/// then that of Σ (∂y/∂θ)² over the elements of the output (Hutchinson 1989), the diagonal of JᵀJ: how far the output moves with a parameter.
pub fn collect_gradients(
    model: &Model,
    objective: &Objective,
    wrt: &Wrt,
    data: &Dataset,
    engine: &dyn Engine,
    jobs: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<GradientStatistics, StatisticsError> {
    let per_run = data.largest_selection().unwrap_or(1);
    let all = data.sample_range();
    if all.start.div_ceil(per_run) >= all.end / per_run {
        return Err(StatisticsError::NoFullBatch {
            samples: all.end - all.start,
            batch: per_run,
        });
    }
    let work = || {
        Work::new(
            "gradients",
            [
                ("model", model_digest(model)),
                ("loss", objective.describe()),
                ("of", format!("{wrt:?}")),
                ("engine", engine.release()),
            ],
        )
    };
    let compile = || Prepared::new(model, objective, wrt, engine);
    let over = |prepared: &Prepared<'_>, batches: Range<u64>| {
        let within = (data, data.samples_of(&batches), per_run);
        Ok(Seen {
            found: prepared.over(within, jobs, progress)?,
            // Gradients of inputs that are zero say as much as any.
            zeros: None,
        })
    };
    collected(data, work, compile, over)
}

impl Joined for GradientStatistics {
    fn to_part(&self) -> Result<Vec<u8>, StatisticsError> {
        Ok(self.to_bytes()?)
    }

    fn of_part(bytes: &[u8]) -> Result<Self, StatisticsError> {
        Ok(Self::from_bytes(bytes)?)
    }

    fn join(&mut self, other: Self) -> Result<(), StatisticsError> {
        Ok(self.merge(&other)?)
    }
}

/// A differentiated model, compiled.
struct Prepared<'a> {
    session: Box<dyn Session>,
    outputs: Vec<(String, Shape)>,
    /// Element type and shape of the labels.
    target: (DType, Option<Shape>),
    objective: &'a Objective,
    /// What is known of the results before any sample.
    start: GradientStatistics,
}

impl<'a> Prepared<'a> {
    fn new(
        model: &Model,
        objective: &'a Objective,
        wrt: &Wrt,
        engine: &dyn Engine,
    ) -> Result<Self, StatisticsError> {
        let options = GradientOptions {
            output: objective.output.clone(),
            ..GradientOptions::default()
        };
        let differentiated = gradients(model, &objective.loss, wrt, &options)?;
        let lowered = lower::for_engine(&differentiated, engine).map_err(EngineError::from)?;
        let session = engine.compile(&lowered, &CompileOptions::side_by_side())?;
        Ok(Self {
            session,
            outputs: wanted(&differentiated),
            target: target_type(&differentiated, objective.loss.input_name()),
            objective,
            start: GradientStatistics {
                subject: Subject {
                    model: model_digest(model),
                    engine: engine.name().to_owned(),
                    ..Subject::default()
                },
                loss: objective.describe(),
                ..GradientStatistics::default()
            },
        })
    }

    /// Sums over these samples.
    fn over(
        &self,
        (data, range, per_run): (&Dataset, Range<u64>, u64),
        jobs: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<GradientStatistics, StatisticsError> {
        let first = range.start.div_ceil(per_run);
        let last = (range.end / per_run).max(first);
        let whole = self.lanes((data, first..last, per_run), jobs, progress)?;
        whole.check_finite(&self.outputs, range.start)?;
        let mut found = self.start.clone();
        found.subject.data = data.digest().to_owned();
        found.subject.samples = data.samples();
        found.subject.batch = per_run;
        found.gradients = last - first;
        found.loss_sum = whole.loss;
        found
            .ranges
            .extend((first < last).then_some((first * per_run, last * per_run)));
        let complete = found.is_complete();
        for ((name, shape), sums) in self.outputs.iter().zip(whole.values) {
            found.values.insert(name.clone(), sums.rounded(&dims(shape)));
            if !complete {
                found.sums.insert(name.clone(), sums);
            }
        }
        Ok(found)
    }

    /// Deals runs to lanes, and adds up the lanes.
    fn lanes(
        &self,
        (data, runs, per_run): (&Dataset, Range<u64>, u64),
        jobs: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Lane, StatisticsError> {
        let elements: u64 = self.outputs.iter().map(|(_, shape)| elements(shape)).sum();
        let lanes = (LANE_BYTES / (54 * elements).max(1)).clamp(1, LANES);
        let done = AtomicU64::new(0);
        // The first run that failed; lanes go on up to it, so that the error does not depend on threads.
        let failed = AtomicU64::new(u64::MAX);
        let work = |lane: u64| {
            let mut sums = Lane::new(&self.outputs);
            for run in runs.clone().filter(|run| run % lanes == lane) {
                if run > failed.load(Ordering::Relaxed) {
                    break;
                }
                let samples: Vec<u64> = (run * per_run..(run + 1) * per_run).collect();
                if let Err(error) = self.add(data, &samples, &mut sums) {
                    failed.fetch_min(run, Ordering::Relaxed);
                    return Err((run, error));
                }
                progress(done.fetch_add(per_run, Ordering::Relaxed) + per_run);
            }
            Ok(sums)
        };
        let mut whole: Option<Lane> = None;
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
        match failure {
            Some((_, error)) => Err(error),
            None => Ok(whole.unwrap_or_else(|| Lane::new(&self.outputs))),
        }
    }

    /// Adds the gradients of one run.
    fn add(&self, data: &Dataset, samples: &[u64], sums: &mut Lane) -> Result<(), StatisticsError> {
        let batch = data.select(samples)?;
        let (dtype, shape) = &self.target;
        let labels = match self.objective.loss {
            Loss::InnerProduct => signs(samples, *dtype, shape.as_ref())?,
            _ => targets(data, &batch, *dtype, shape.as_ref())?,
        };
        let name = self.objective.loss.input_name();
        sums.add(&*self.session, batch, name, labels, &self.outputs)
    }
}

/// Signs for the elements of an output, the same for the same samples.
fn signs(samples: &[u64], dtype: DType, shape: Option<&Shape>) -> Result<Tensor, StatisticsError> {
    let count = samples.len().max(1);
    let dims = shape.map(|shape| {
        let each = shape.iter().enumerate();
        let size = |(axis, dim): (usize, &crate::ir::Dim)| match (axis, dim.fixed()) {
            (_, Some(size)) => u64::try_from(size).ok(),
            (0, None) => Some(count as u64),
            (_, None) => None,
        };
        each.map(size).collect::<Option<Vec<u64>>>()
    });
    let dims = dims.flatten().ok_or(StatisticsError::OutputSize)?;
    let elements = dims.iter().product::<u64>() as usize;
    let own = elements.div_ceil(count).max(1);
    let values: Vec<f64> = (0..elements)
        .map(|at| {
            let sample = samples.get(at / own).copied().unwrap_or_default();
            // The bits of a counter, mixed (splitmix64).
            let mut mixed = sample
                .wrapping_mul(0xD134_2543_DE82_EF95)
                .wrapping_add((at % own) as u64 + 1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15);
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            if (mixed ^ mixed >> 31) >> 40 & 1 == 0 {
                1.0
            } else {
                -1.0
            }
        })
        .collect();
    Ok(Tensor::from_f64(dtype, &dims, &values)?)
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

fn dims(shape: &Shape) -> Vec<u64> {
    let size = |dim: &crate::ir::Dim| dim.fixed().unwrap_or(1).max(0) as u64;
    shape.iter().map(size).collect()
}

fn elements(shape: &Shape) -> u64 {
    dims(shape).iter().product()
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
struct Lane {
    loss: Sums<3>,
    values: Vec<GradientSums>,
}

impl Lane {
    fn new(outputs: &[(String, Shape)]) -> Self {
        let one = |(_, shape): &(String, Shape)| GradientSums::new(elements(shape) as usize);
        Self {
            loss: Sums::new(1),
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
        self.loss.add(0, loss);
        for ((name, shape), sums) in outputs.iter().zip(&mut self.values) {
            let name = format!("grad/{name}");
            let gradient = tensor(&name)?
                .to_f32()
                .map_err(|_| StatisticsError::Missing(name.clone()))?;
            if gradient.len() as u64 != elements(shape) {
                return Err(StatisticsError::Missing(name));
            }
            sums.add(&gradient);
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.loss.merge(&other.loss);
        let each = self.values.iter_mut().zip(&other.values);
        each.for_each(|(mine, more)| mine.merge(more));
    }

    /// Refuses gradients that were not finite on samples from `first` on.
    fn check_finite(&self, outputs: &[(String, Shape)], first: u64) -> Result<(), StatisticsError> {
        let mut each = outputs.iter().zip(&self.values);
        match each.find(|(_, sums)| !sums.sums[0].is_finite()) {
            None => Ok(()),
            Some(((name, _), _)) => Err(StatisticsError::NotFinite {
                value: format!("grad/{name}"),
                sample: first,
            }),
        }
    }
}
