//! Streaming rows of every layer through an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ndarray::{Array2, Axis, concatenate, s};
use rayon::prelude::*;

use super::rows::gather;
use super::{Cross, GramSums, Grams, Layer, SumsByKey};
use crate::data::{Batch, Dataset};
use crate::engine::stream::{Sampled, Stream, in_order};
use crate::engine::{Engine, RunValue};
use crate::ir::{Model, model_digest};
use crate::lower::Lowering;
use crate::parts::Work;
use crate::statistics::parts::{Joined, Seen, collected, zeros};
use crate::statistics::{Statistics, StatisticsError, Subject};

/// How rows are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GramOptions {
    /// Rows of a layer that one sample gives at most: positions are chosen deterministically, others for each sample.
    pub rows_per_sample: usize,
}

impl Default for GramOptions {
    fn default() -> Self {
        Self { rows_per_sample: 64 }
    }
}

/// Rows that are gathered before they are added up: products of tall matrices are faster.
const CHUNK: usize = 256;

/// Samples whose rows are added up together. Where a chunk begins depends on the data set alone, so that shards have the same ones.
pub const CHUNK_SAMPLES: u64 = 8;

/// Moments of the rows of `layers` over the data set's shard: see [`collect_sums`].
///
/// # Errors
/// As [`collect_sums`].
pub fn collect(
    model: &Model,
    layers: &[Layer],
    options: GramOptions,
    data: &Dataset,
    engine: &dyn Engine,
    jobs: usize,
    progress: &dyn Fn(u64),
) -> Result<Grams, StatisticsError> {
    let (sums, _) = collect_sums(model, layers, options, data, engine, jobs, progress)?;
    Ok(Grams::of_sums(sums, true))
}

/// The batches of the chunks that begin in `own`, and how many batches a chunk has.
fn chunks(data: &Dataset, own: &Range<u64>) -> (Range<u64>, u64) {
    let size = (CHUNK_SAMPLES / data.batch_size()).max(1);
    let all = data.samples().div_ceil(data.batch_size());
    let begin = |batch: u64| batch.div_ceil(size).saturating_mul(size).min(all);
    (begin(own.start)..begin(own.end), size)
}

/// Sums up the rows of `layers` over the data set's shard, with `jobs` threads: of the chunks of samples that begin in it, so that shards
/// together give the bits of the whole. Answers the samples that they are of. Memory does not depend on the number of samples, and
/// the result not on the number of threads.
///
/// # Errors
/// When the data cannot be read, the engine cannot run the model, or a value is not finite.
pub fn collect_sums(
    model: &Model,
    layers: &[Layer],
    options: GramOptions,
    data: &Dataset,
    engine: &dyn Engine,
    jobs: usize,
    progress: &dyn Fn(u64),
) -> Result<(SumsByKey, Range<u64>), StatisticsError> {
    let mut distinct: BTreeMap<String, &Layer> = BTreeMap::new();
    for layer in layers {
        distinct.entry(layer.key()).or_insert(layer);
    }
    let layers: Vec<&Layer> = distinct.values().copied().collect();
    let work = || {
        let keys: Vec<&str> = distinct.keys().map(String::as_str).collect();
        Work::new(
            "gram",
            [
                ("model", model_digest(model)),
                ("layers", keys.join(" ")),
                ("rows", options.rows_per_sample.to_string()),
                ("engine", engine.release()),
            ],
        )
    };
    let over = |stream: &Stream<'_>, batches: Range<u64>| {
        let (own, size) = chunks(data, &batches);
        let within = (data, own.clone(), size);
        let sums = sums_over(stream, &layers, options, within, jobs, progress)?;
        Ok(Seen {
            zeros: if own.is_empty() {
                Some(Vec::new())
            } else {
                zeros(stream)
            },
            found: Part {
                range: data.samples_of(&own),
                sums: distinct.keys().cloned().zip(sums).collect(),
            },
        })
    };
    let whole = collected(data, work, || compile(model, &layers, engine), over)?;
    Ok((whole.sums, whole.range))
}

/// Sums over a part of the samples.
struct Part {
    range: Range<u64>,
    sums: SumsByKey,
}

impl Joined for Part {
    fn to_part(&self) -> Result<Vec<u8>, StatisticsError> {
        // Not complete, whatever the range: the sums are what is kept.
        let subject = Subject {
            samples: u64::MAX,
            ..Subject::default()
        };
        Statistics::of(subject, self.range.clone(), BTreeMap::new(), self.sums.clone()).to_part()
    }

    fn of_part(bytes: &[u8]) -> Result<Self, StatisticsError> {
        let found = Statistics::of_part(bytes)?;
        let range = found.ranges.first().map_or(0..0, |(start, end)| *start..*end);
        Ok(Self {
            range,
            sums: found.grams.sums,
        })
    }

    fn join(&mut self, other: Self) -> Result<(), StatisticsError> {
        for (key, groups) in other.sums {
            let mine = self.sums.get_mut(&key).into_iter().flatten();
            mine.zip(&groups).for_each(|(mine, more)| mine.merge(more));
        }
        if self.range.is_empty() {
            self.range = other.range;
        } else if !other.range.is_empty() {
            self.range.end = other.range.end;
        }
        Ok(())
    }
}

/// Sums over the rows of these batches, chunk by chunk.
fn sums_over(
    stream: &Stream<'_>,
    layers: &[&Layer],
    options: GramOptions,
    (data, batches, size): (&Dataset, Range<u64>, u64),
    jobs: usize,
    progress: &dyn Fn(u64),
) -> Result<Vec<Vec<GramSums>>, StatisticsError> {
    let mut sums: Vec<(Vec<GramSums>, Vec<Array2<f32>>)> = layers
        .iter()
        .map(|layer| (vec![GramSums::new(layer.columns); layer.groups], Vec::new()))
        .collect();
    let work = |index: u64| -> Result<(u64, u64, Vec<Array2<f32>>), StatisticsError> {
        let batch = data.batch(index)?;
        let rows = run(stream, layers, &batch, options)?;
        Ok((index + 1, batch.first + batch.count as u64, rows))
    };
    in_order(batches.clone(), jobs, work, |(next, done, found)| {
        let ends = next.is_multiple_of(size) || next == batches.end;
        sums.par_iter_mut()
            .zip(layers)
            .zip(found)
            .for_each(|(((grams, waiting), layer), rows)| {
                waiting.push(rows);
                if ends {
                    add_up(layer, grams, waiting);
                }
            });
        progress(done);
        Ok(())
    })?;
    Ok(sums.into_iter().map(|(grams, _)| grams).collect())
}

/// Rows that wait to be added to the moments of a pair.
struct Waiting {
    cross: Cross,
    first: Vec<Array2<f32>>,
    second: Vec<Array2<f32>>,
}

impl Waiting {
    fn add_up(&mut self) {
        if let (Some(x), Some(y)) = (joined(&mut self.first), joined(&mut self.second)) {
            self.cross.add(x.view(), y.view());
        }
    }
}

/// Moments of pairs of rows: of a layer in the first model, and of the layer at the same place in the second, which is another
/// form of it (it may lack input channels). Both layers of a pair have one group. One entry for each pair.
///
/// # Errors
/// As [`collect`].
pub fn collect_cross(
    models: (&Model, &Model),
    pairs: &[(Layer, Layer)],
    options: GramOptions,
    data: &Dataset,
    engine: &dyn Engine,
    jobs: usize,
    progress: &dyn Fn(u64),
) -> Result<Vec<Cross>, StatisticsError> {
    let (first, second): (Vec<&Layer>, Vec<&Layer>) = pairs.iter().map(|(a, b)| (a, b)).unzip();
    let streams = (
        compile(models.0, &first, engine)?,
        compile(models.1, &second, engine)?,
    );
    let mut sums: Vec<Waiting> = pairs
        .iter()
        .map(|(a, b)| Waiting {
            cross: Cross::new(a.columns, b.columns),
            first: Vec::new(),
            second: Vec::new(),
        })
        .collect();
    let work = |index: u64| -> Result<_, StatisticsError> {
        let batch = data.batch(index)?;
        let a = run(&streams.0, &first, &batch, options)?;
        let b = run(&streams.1, &second, &batch, options)?;
        Ok((batch.first + batch.count as u64, a, b))
    };
    in_order(data.batches(), jobs, work, |(done, a, b)| {
        sums.par_iter_mut()
            .zip(a.into_par_iter().zip(b))
            .for_each(|(waiting, (a, b))| {
                waiting.first.push(a);
                waiting.second.push(b);
                if waiting.first.iter().map(Array2::nrows).sum::<usize>() >= CHUNK {
                    waiting.add_up();
                }
            });
        progress(done);
        Ok(())
    })?;
    sums.par_iter_mut().for_each(Waiting::add_up);
    Ok(sums.into_iter().map(|waiting| waiting.cross).collect())
}

fn joined(waiting: &mut Vec<Array2<f32>>) -> Option<Array2<f64>> {
    let views: Vec<_> = waiting.iter().map(|rows| rows.view()).collect();
    let rows = concatenate(Axis(0), &views).ok()?.mapv(f64::from);
    waiting.clear();
    Some(rows)
}

fn add_up(layer: &Layer, grams: &mut [GramSums], waiting: &mut Vec<Array2<f32>>) {
    let Some(rows) = joined(waiting) else { return };
    for (group, gram) in grams.iter_mut().enumerate() {
        let start = group * layer.columns;
        gram.add(rows.slice(s![.., start..start + layer.columns]));
    }
}

fn compile<'m>(
    model: &'m Model,
    layers: &[&Layer],
    engine: &dyn Engine,
) -> Result<Stream<'m>, StatisticsError> {
    let names: BTreeSet<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    Ok(Stream::compile(model, &names, &Lowering(engine))?)
}

/// Rows of every layer for one batch.
fn run(
    stream: &Stream<'_>,
    layers: &[&Layer],
    batch: &Batch,
    options: GramOptions,
) -> Result<Vec<Array2<f32>>, StatisticsError> {
    let values = stream.run(batch)?;
    let placements = stream.places().of_batch(batch);
    layers
        .iter()
        .map(|layer| {
            let missing = || StatisticsError::Missing(layer.name.clone());
            let Some(RunValue::Tensor(tensor)) = values.get(&layer.name) else {
                return Err(missing());
            };
            let elements = tensor.to_f32().map_err(|_| missing())?;
            let placement = placements.get(&layer.name).copied();
            let value = Sampled::new(&elements, tensor.dims(), batch, placement);
            let rows = gather(layer, &value, batch, options.rows_per_sample).ok_or_else(|| {
                StatisticsError::Rows {
                    node: layer.label.clone(),
                    dims: tensor.dims().to_vec(),
                }
            })?;
            if rows.iter().all(|value| value.is_finite()) {
                Ok(rows)
            } else {
                Err(StatisticsError::NotFinite {
                    value: layer.name.clone(),
                    sample: batch.first,
                })
            }
        })
        .collect()
}
