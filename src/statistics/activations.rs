//! Extremes and histograms of values over a data set.

use std::collections::BTreeMap;

use crate::autodiff::AutodiffError;
use crate::data::{DataError, Dataset};
use crate::engine::{CompileOptions, Engine, EngineError, RunValue, run_ordered};
use crate::ir::Model;
use crate::lower;

use crate::quantize::Histogram;

/// What is known of one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Extremes, and counts where they were asked for.
    pub histogram: Histogram,
    /// Sum and number of the elements of each channel (axis 1), where means were asked for.
    pub channels: Option<(Vec<f64>, u64)>,
    /// Lowest and highest value of each channel (axis 1), where they were asked for.
    pub channel_extremes: Option<Vec<(f32, f32)>>,
    /// Sums over the samples of each one's lowest and highest value, and their number, where they were asked for.
    pub sample_extremes: Option<(f64, f64, u64)>,
}

/// Why statistics could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsError {
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The engine cannot run the model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A value that is NaN or infinite.
    #[error("value {value:?} is not finite on sample {sample} of the data")]
    NotFinite {
        /// The value.
        value: String,
        /// First sample of the batch.
        sample: u64,
    },
    /// The data cannot be opened.
    #[error("{0}")]
    Opening(String),
    /// The model cannot be differentiated.
    #[error(transparent)]
    Autodiff(#[from] AutodiffError),
    /// The model fixes its batch size and there are fewer samples.
    #[error("{samples} samples do not fill one batch of {batch}, which the model fixes")]
    NoFullBatch {
        /// Samples there are.
        samples: u64,
        /// The batch size.
        batch: u64,
    },
    /// A value of another shape than the layer that reads it says.
    #[error("{node} reads a value of shape {dims:?}, which its weights do not fit")]
    Rows {
        /// The layer.
        node: String,
        /// Shape of the value.
        dims: Vec<u64>,
    },
    /// A value that the engine did not return.
    #[error("the engine did not return {0:?}")]
    Missing(String),
}

/// What to collect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Counts beside extremes.
    pub histograms: bool,
    /// Means of the channels.
    pub channel_means: bool,
    /// Extremes of the channels.
    pub channel_extremes: bool,
    /// Means of the samples' extremes.
    pub sample_extremes: bool,
}

/// Runs `model` over the data set's shard and summarises the float values named in `values`, with `jobs` threads.
/// Memory does not depend on the number of samples, and the result not on the number of threads.
pub fn collect(
    model: &Model,
    values: &[String],
    wanted: Wanted,
    data: &Dataset,
    engine: &dyn Engine,
    jobs: usize,
    progress: &dyn Fn(u64),
) -> Result<BTreeMap<String, Summary>, StatisticsError> {
    let inputs: Vec<&str> = model
        .graph
        .inputs()
        .iter()
        .filter_map(|id| model.graph.get(*id)?.outputs().first().map(|value| &*value.name))
        .collect();
    let expose: Vec<String> = values
        .iter()
        .filter(|name| {
            !inputs.contains(&name.as_str()) && !model.graph.outputs().iter().any(|o| o.name == name.as_str())
        })
        .cloned()
        .collect();
    let options = CompileOptions {
        expose,
        optimise: true,
        threads: 1,
        ..CompileOptions::default()
    };
    let session = engine.compile(
        &lower::for_engine(model, engine).map_err(EngineError::from)?,
        &options,
    )?;
    let mut summaries: BTreeMap<String, Summary> = BTreeMap::new();
    let mut failure = None;
    let work = |index: u64| -> Result<(u64, Vec<Summary>), StatisticsError> {
        let batch = data.batch(index)?;
        let outputs = session.run(&batch.inputs)?;
        let mut found = Vec::with_capacity(values.len());
        for name in values {
            let value = outputs.get(name).or_else(|| batch.inputs.get(name));
            let Some(RunValue::Tensor(tensor)) = value else {
                return Err(StatisticsError::Missing(name.clone()));
            };
            let dims = tensor.dims();
            // A short last batch is filled up with repeats, which do not count.
            let rows = dims.first().copied().unwrap_or(1).max(1);
            let elements = tensor
                .to_f32()
                .map_err(|_| StatisticsError::Missing(name.clone()))?;
            let real = elements.len() as u64 / rows * (batch.count as u64).min(rows);
            let part = elements.get(..real as usize).unwrap_or(&elements);
            let mut summary = Summary::default();
            if wanted.histograms {
                summary.histogram.add(part);
            } else {
                summary.histogram.add_extremes(part);
            }
            if summary.histogram.not_finite() > 0 {
                return Err(StatisticsError::NotFinite {
                    value: name.clone(),
                    sample: batch.first,
                });
            }
            if wanted.channel_means {
                summary.channels = channel_sums(part, dims);
            }
            if wanted.channel_extremes {
                summary.channel_extremes = channel_extremes(part, dims);
            }
            if wanted.sample_extremes {
                // Where the batch is not the first axis, the whole value counts as one sample.
                let samples = if rows == data.batch_size() { batch.count } else { 1 };
                summary.sample_extremes = Some(sample_extremes(part, samples));
            }
            found.push(summary);
        }
        Ok((batch.first + batch.count as u64, found))
    };
    run_ordered(data.batches(), jobs, work, |_, result| match result {
        Ok((done, found)) => {
            for (name, part) in values.iter().zip(found) {
                match summaries.get_mut(name) {
                    Some(summary) => summary.merge(&part),
                    None => {
                        summaries.insert(name.clone(), part);
                    }
                }
            }
            progress(done);
            true
        }
        Err(error) => {
            failure = Some(error);
            false
        }
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(summaries),
    }
}

impl Summary {
    /// Adds what another part of the data says.
    pub fn merge(&mut self, other: &Summary) {
        self.histogram.merge(&other.histogram);
        match (&mut self.channels, &other.channels) {
            (Some((sums, count)), Some((more, number))) if sums.len() == more.len() => {
                sums.iter_mut().zip(more).for_each(|(a, b)| *a += b);
                *count += number;
            }
            (mine, _) => *mine = None,
        }
        match (&mut self.channel_extremes, &other.channel_extremes) {
            (Some(mine), Some(more)) if mine.len() == more.len() => {
                mine.iter_mut()
                    .zip(more)
                    .for_each(|(a, b)| *a = (a.0.min(b.0), a.1.max(b.1)));
            }
            (mine, _) => *mine = None,
        }
        self.sample_extremes = match (self.sample_extremes, other.sample_extremes) {
            (Some(a), Some(b)) => Some((a.0 + b.0, a.1 + b.1, a.2 + b.2)),
            _ => None,
        };
    }

    /// Means over the samples of their lowest and highest values.
    pub fn mean_extremes(&self) -> Option<(f32, f32)> {
        let (low, high, count) = self.sample_extremes.filter(|(_, _, count)| *count > 0)?;
        Some(((low / count as f64) as f32, (high / count as f64) as f32))
    }

    /// Means of the channels.
    pub fn channel_means(&self) -> Option<Vec<f64>> {
        let (sums, count) = self.channels.as_ref()?;
        Some(sums.iter().map(|sum| sum / (*count).max(1) as f64).collect())
    }
}

fn sample_extremes(values: &[f32], samples: usize) -> (f64, f64, u64) {
    let size = values.len().div_ceil(samples.max(1)).max(1);
    values
        .chunks(size)
        .fold((0.0, 0.0, 0), |(lows, highs, count), sample| {
            let (low, high) = sample
                .iter()
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| {
                    (low.min(*value), high.max(*value))
                });
            (lows + f64::from(low), highs + f64::from(high), count + 1)
        })
}

fn channel_sums(values: &[f32], dims: &[u64]) -> Option<(Vec<f64>, u64)> {
    let channels = *dims.get(1)? as usize;
    let inner = dims.iter().skip(2).product::<u64>() as usize;
    if channels == 0 || inner == 0 {
        return None;
    }
    let mut sums = vec![0f64; channels];
    for (row, chunk) in values.chunks(inner).enumerate() {
        if let Some(sum) = sums.get_mut(row % channels) {
            *sum += chunk.iter().map(|v| f64::from(*v)).sum::<f64>();
        }
    }
    Some((sums, (values.len() / channels) as u64))
}

fn channel_extremes(values: &[f32], dims: &[u64]) -> Option<Vec<(f32, f32)>> {
    let channels = *dims.get(1)? as usize;
    let inner = dims.iter().skip(2).product::<u64>() as usize;
    if channels == 0 || inner == 0 {
        return None;
    }
    let mut extremes = vec![(f32::INFINITY, f32::NEG_INFINITY); channels];
    for (row, chunk) in values.chunks(inner).enumerate() {
        if let Some((low, high)) = extremes.get_mut(row % channels) {
            chunk
                .iter()
                .for_each(|value| (*low, *high) = (low.min(*value), high.max(*value)));
        }
    }
    Some(extremes)
}
