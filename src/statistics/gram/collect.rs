//! Streaming rows of every layer through an engine.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array2, Axis, concatenate, s};
use rayon::prelude::*;

use super::rows::gather;
use super::{Cross, Gram, Grams, Layer};
use crate::data::{Batch, Dataset};
use crate::engine::stream::{Sampled, Stream, in_order};
use crate::engine::{Engine, RunValue};
use crate::ir::Model;
use crate::lower::Lowering;
use crate::statistics::StatisticsError;
use crate::statistics::activations::check_varying;

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

/// Sums up the rows of `layers` over the data set's shard, with `jobs` threads. Memory does not depend on the number of samples,
/// and the result not on the number of threads.
///
/// # Errors
/// When the data cannot be read, the engine cannot run the model, or a value is not finite.
pub fn collect(
    model: &Model,
    layers: &[Layer],
    options: GramOptions,
    data: &Dataset,
    engine: &dyn Engine,
    jobs: usize,
    progress: &dyn Fn(u64),
) -> Result<Grams, StatisticsError> {
    let mut distinct: BTreeMap<String, &Layer> = BTreeMap::new();
    for layer in layers {
        distinct.entry(layer.key()).or_insert(layer);
    }
    let layers: Vec<&Layer> = distinct.values().copied().collect();
    let stream = compile(model, &layers, engine)?;
    let mut sums: Vec<(Vec<Gram>, Vec<Array2<f32>>)> = layers
        .iter()
        .map(|layer| (vec![Gram::new(layer.columns); layer.groups], Vec::new()))
        .collect();
    let work = |index: u64| -> Result<(u64, Vec<Array2<f32>>), StatisticsError> {
        let batch = data.batch(index)?;
        let rows = run(&stream, &layers, &batch, options)?;
        Ok((batch.first + batch.count as u64, rows))
    };
    in_order(data.batches(), jobs, work, |(done, found)| {
        sums.par_iter_mut()
            .zip(&layers)
            .zip(found)
            .for_each(|(((grams, waiting), layer), rows)| {
                waiting.push(rows);
                if waiting.iter().map(Array2::nrows).sum::<usize>() >= CHUNK {
                    add_up(layer, grams, waiting);
                }
            });
        progress(done);
        Ok(())
    })?;
    check_varying(&stream, data)?;
    sums.par_iter_mut()
        .zip(&layers)
        .for_each(|((grams, waiting), layer)| add_up(layer, grams, waiting));
    Ok(Grams {
        by_key: distinct
            .keys()
            .cloned()
            .zip(sums.into_iter().map(|(grams, _)| grams))
            .collect(),
    })
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

fn add_up(layer: &Layer, grams: &mut [Gram], waiting: &mut Vec<Array2<f32>>) {
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
