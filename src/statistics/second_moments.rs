//! Second moments of activations along an axis: Σ x² of each channel or feature, and the largest |x|.

use std::collections::BTreeMap;

use super::activations::StatisticsError;
use crate::data::Dataset;
use crate::engine::{CompileOptions, Engine, EngineError, RunValue, run_ordered};
use crate::ir::Model;
use crate::lower;

/// A value and one of its axes, from the front or, negative, from the back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Along {
    /// The value, by name.
    pub value: String,
    /// The axis.
    pub axis: i64,
}

/// Σ x² at each index of an axis, and how many elements each index has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecondMoments {
    /// Sums, one an index of the axis.
    pub squared: Vec<f64>,
    /// Largest magnitudes, one an index of the axis.
    pub largest: Vec<f32>,
    /// Elements an index.
    pub count: u64,
}

impl SecondMoments {
    /// ‖x‖₂ of each index over everything seen.
    pub fn norms(&self) -> Vec<f64> {
        self.squared.iter().map(|sum| sum.sqrt()).collect()
    }
}

/// Runs `model` over the data set's shard and adds up the squares of the values in `wanted` along their axes. Neither memory nor
/// the result depends on the number of samples or threads (`jobs`).
pub fn second_moments(
    model: &Model,
    wanted: &[Along],
    data: &Dataset,
    engine: &dyn Engine,
    jobs: usize,
    progress: &dyn Fn(u64),
) -> Result<BTreeMap<Along, SecondMoments>, StatisticsError> {
    let graph = &model.graph;
    let given = |name: &str| {
        let input = |id: &crate::ir::NodeId| {
            let value = graph.get(*id).and_then(|node| node.outputs().first());
            value.is_some_and(|value| value.name == *name)
        };
        graph.inputs().iter().any(input) || graph.outputs().iter().any(|output| output.name == *name)
    };
    let mut expose: Vec<String> = Vec::new();
    for along in wanted {
        if !given(&along.value) && !expose.contains(&along.value) {
            expose.push(along.value.clone());
        }
    }
    let options = CompileOptions {
        expose,
        optimise: true,
        threads: 1,
        ..CompileOptions::default()
    };
    let lowered = lower::for_engine(model, engine).map_err(EngineError::from)?;
    let session = engine.compile(&lowered, &options)?;
    let work = |index: u64| -> Result<(u64, Vec<SecondMoments>), StatisticsError> {
        let batch = data.batch(index)?;
        let outputs = session.run(&batch.inputs)?;
        let mut found = Vec::with_capacity(wanted.len());
        for along in wanted {
            let name = &along.value;
            let Some(RunValue::Tensor(tensor)) = outputs.get(name).or_else(|| batch.inputs.get(name)) else {
                return Err(StatisticsError::Missing(name.clone()));
            };
            let values = tensor
                .to_f32()
                .map_err(|_| StatisticsError::Missing(name.clone()))?;
            // A short last batch is filled up with repeats, which do not count. Where the batch is not the first axis, they do.
            let rows = tensor.dims().first().copied().unwrap_or(1).max(1);
            let real = match rows == data.batch_size() {
                true => values.len() as u64 / rows * (batch.count as u64).min(rows),
                false => values.len() as u64,
            };
            let values = values.get(..real as usize).unwrap_or(&values);
            let moments = squares(values, tensor.dims(), along.axis)
                .ok_or_else(|| StatisticsError::Missing(name.clone()))?;
            if !moments.squared.iter().all(|sum| sum.is_finite()) {
                return Err(StatisticsError::NotFinite {
                    value: name.clone(),
                    sample: batch.first,
                });
            }
            found.push(moments);
        }
        Ok((batch.first + batch.count as u64, found))
    };
    let mut sums: BTreeMap<Along, SecondMoments> = BTreeMap::new();
    let mut failure = None;
    run_ordered(data.batches(), jobs, work, |_, result| match result {
        Ok((done, found)) => {
            for (along, part) in wanted.iter().zip(found) {
                let sum = sums.entry(along.clone()).or_default();
                sum.squared.resize(sum.squared.len().max(part.squared.len()), 0.0);
                sum.squared
                    .iter_mut()
                    .zip(&part.squared)
                    .for_each(|(a, b)| *a += b);
                sum.largest.resize(sum.squared.len(), 0.0);
                sum.largest
                    .iter_mut()
                    .zip(&part.largest)
                    .for_each(|(a, b)| *a = a.max(*b));
                sum.count += part.count;
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
        None => Ok(sums),
    }
}

fn squares(values: &[f32], dims: &[u64], axis: i64) -> Option<SecondMoments> {
    let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
    let size = *dims.get(axis)? as usize;
    let inner = dims.iter().skip(axis + 1).product::<u64>().max(1) as usize;
    let (mut squared, mut largest) = (vec![0f64; size], vec![0f32; size]);
    for (row, chunk) in values.chunks(inner).enumerate() {
        if let Some(sum) = squared.get_mut(row % size.max(1)) {
            *sum += chunk.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        }
        if let Some(most) = largest.get_mut(row % size.max(1)) {
            *most = chunk.iter().fold(*most, |most, x| most.max(x.abs()));
        }
    }
    Some(SecondMoments {
        squared,
        largest,
        count: (values.len() / size.max(1)) as u64,
    })
}
