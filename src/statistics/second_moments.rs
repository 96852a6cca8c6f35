//! Second moments of activations along an axis: Σ x² of each channel or feature, and the largest |x|.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::error::{FileFault, StatisticsError};
use super::parts::{Joined, Seen, collected, zeros};
use crate::data::Dataset;
use crate::engine::Engine;
use crate::engine::stream::{Sampled, Stream, in_order};
use crate::ir::{Model, model_digest};
use crate::linalg::Sums;
use crate::lower::Lowering;
use crate::parts::Work;

/// A value and one of its axes, from the front or, negative, from the back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Along {
    /// The value, by name.
    pub value: String,
    /// The axis.
    pub axis: i64,
}

/// Σ x² at each index of an axis, and how many elements each index has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondMoments {
    /// Sums, one an index of the axis.
    pub squared: Sums<3>,
    /// Largest magnitudes, one an index of the axis.
    pub largest: Vec<f32>,
    /// Elements an index.
    pub count: u64,
}

impl SecondMoments {
    fn merge(&mut self, part: &Self) {
        if self.squared.len() < part.squared.len() {
            let mut longer = part.squared.clone();
            longer.merge(&self.squared);
            self.squared = longer;
        } else {
            self.squared.merge(&part.squared);
        }
        self.largest.resize(self.squared.len(), 0.0);
        self.largest
            .iter_mut()
            .zip(&part.largest)
            .for_each(|(a, b)| *a = a.max(*b));
        self.count += part.count;
    }

    /// ‖x‖₂ of each index over everything seen.
    pub fn norms(&self) -> Vec<f64> {
        self.squared.values().into_iter().map(f64::sqrt).collect()
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
    let names: BTreeSet<&String> = wanted.iter().map(|along| &along.value).collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let work = || {
        Work::new(
            "second-moments",
            [
                ("model", model_digest(model)),
                ("values", format!("{wanted:?}")),
                ("engine", engine.release()),
            ],
        )
    };
    let compile = || Ok(Stream::compile(model, &names, &Lowering(engine))?);
    let over = |stream: &Stream<'_>, batches: Range<u64>| {
        let sums = sums_over((stream, &names), wanted, (data, batches), jobs, progress)?;
        Ok(Seen {
            found: Part(wanted.iter().cloned().zip(sums).collect()),
            zeros: zeros(stream),
        })
    };
    Ok(collected(data, work, compile, over)?.0.into_iter().collect())
}

/// Sums over a part of the samples.
#[derive(Serialize, Deserialize)]
struct Part(Vec<(Along, SecondMoments)>);

impl Joined for Part {
    fn to_part(&self) -> Result<Vec<u8>, StatisticsError> {
        Ok(serde_json::to_vec(self).map_err(FileFault::from)?)
    }

    fn of_part(bytes: &[u8]) -> Result<Self, StatisticsError> {
        Ok(serde_json::from_slice(bytes).map_err(FileFault::from)?)
    }

    fn join(&mut self, other: Self) -> Result<(), StatisticsError> {
        let each = self.0.iter_mut().zip(&other.0);
        each.for_each(|((_, mine), (_, more))| mine.merge(more));
        Ok(())
    }
}

/// Sums over these batches, by place among what is wanted.
fn sums_over(
    (stream, names): (&Stream<'_>, &[String]),
    wanted: &[Along],
    (data, batches): (&Dataset, Range<u64>),
    jobs: usize,
    progress: &dyn Fn(u64),
) -> Result<Vec<SecondMoments>, StatisticsError> {
    let work = |index: u64| -> Result<(u64, Vec<SecondMoments>), StatisticsError> {
        let batch = data.batch(index)?;
        let mut found: Vec<Option<SecondMoments>> = vec![None; wanted.len()];
        stream.observe(&batch, &mut |at, value| {
            for (along, found) in wanted.iter().zip(&mut found) {
                if names.get(at) == Some(&along.value) {
                    *found = squares(value, along.axis);
                }
            }
        })?;
        let found = found.into_iter().zip(wanted).map(|(moments, along)| {
            let moments = moments.ok_or_else(|| StatisticsError::Missing(along.value.clone()))?;
            match moments.squared.is_finite() {
                true => Ok(moments),
                false => Err(StatisticsError::NotFinite {
                    value: along.value.clone(),
                    sample: batch.first,
                }),
            }
        });
        Ok((
            batch.first + batch.count as u64,
            found.collect::<Result<_, StatisticsError>>()?,
        ))
    };
    let mut sums = vec![SecondMoments::default(); wanted.len()];
    in_order(batches, jobs, work, |(done, found)| {
        sums.iter_mut()
            .zip(&found)
            .for_each(|(sum, part)| sum.merge(part));
        progress(done);
        Ok(())
    })?;
    Ok(sums)
}

fn squares(value: &Sampled<'_>, axis: i64) -> Option<SecondMoments> {
    let dims = value.dims();
    let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
    let size = *dims.get(axis)? as usize;
    let inner = dims.iter().skip(axis + 1).product::<u64>().max(1) as usize;
    let (mut squared, mut largest) = (vec![0f64; size], vec![0f32; size]);
    let mut count = 0;
    for (start, mut rest) in value.stretches() {
        let mut at = start;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at((inner - at % inner).min(rest.len()));
            let index = at / inner % size.max(1);
            squared[index] += chunk.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
            largest[index] = chunk.iter().fold(largest[index], |most, x| most.max(x.abs()));
            at += chunk.len();
            rest = behind;
        }
        count += at - start;
    }
    Some(SecondMoments {
        squared: Sums::of(&squared),
        largest,
        count: (count / size.max(1)) as u64,
    })
}
