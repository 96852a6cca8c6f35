//! Extremes and histograms of values over a data set.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::error::StatisticsError;
use super::file::{Statistics, Subject};
use super::parts::{Joined, Seen, collected, zeros};
use super::summary::Summary;
use crate::data::{Batch, Dataset};
use crate::engine::stream::{Sampled, Stream, in_order};
use crate::engine::{Engine, RunValue};
use crate::ir::{Model, model_digest};
use crate::linalg::Sums;
use crate::lower::Lowering;
use crate::parts::Work;
use crate::quantize::{self, extremes};

/// What to collect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    let work = || {
        Work::new(
            "ranges",
            [
                ("model", model_digest(model)),
                ("values", values.join(" ")),
                ("wanted", format!("{wanted:?}")),
                ("engine", engine.release()),
            ],
        )
    };
    let compile = || Ok(Stream::compile(model, values, &Lowering(engine))?);
    let over = |stream: &Stream<'_>, batches: Range<u64>| {
        let within = (data, batches.clone());
        let found = summaries((model, stream), values, wanted, within, jobs, progress)?;
        let subject = Subject {
            samples: data.samples(),
            ..Subject::default()
        };
        let range = data.samples_of(&batches);
        Ok(Seen {
            found: Statistics::of(subject, range, found, BTreeMap::new()),
            zeros: zeros(stream),
        })
    };
    Ok(collected(data, work, compile, over)?.values)
}

impl Joined for Statistics {
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

/// What `stream` shows of the values over these batches.
fn summaries(
    (model, stream): (&Model, &Stream<'_>),
    values: &[String],
    wanted: Wanted,
    (data, batches): (&Dataset, Range<u64>),
    jobs: usize,
    progress: &dyn Fn(u64),
) -> Result<BTreeMap<String, Summary>, StatisticsError> {
    // Nothing of it depends on the order of the samples: it is kept by thread, so that nothing is allocated or merged for each.
    let idle: Mutex<Vec<Vec<Found>>> = Mutex::new(Vec::new());
    let work = |index: u64| -> Result<u64, StatisticsError> {
        let batch = data.batch(index)?;
        let mut own = idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_else(|| vec![Found::default(); values.len()]);
        let mut seen = vec![false; values.len()];
        stream.observe(&batch, &mut |at, value| {
            own[at].add(value, wanted);
            seen[at] = true;
        })?;
        for (name, seen) in values.iter().zip(&seen) {
            if !seen {
                return Err(StatisticsError::Missing(name.clone()));
            }
        }
        let is_wrong = |own: &Found| own.summary.histogram.not_finite() > 0;
        if own.iter().any(is_wrong) {
            let wrong = |at: &usize| own.get(*at).is_some_and(is_wrong);
            let wrong: BTreeSet<&str> = (0..values.len())
                .filter(wrong)
                .filter_map(|at| values.get(at).map(String::as_str))
                .collect();
            return Err(not_finite(model, &batch, &wrong, data));
        }
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(own);
        Ok(batch.first + batch.count as u64)
    };
    in_order(batches, jobs, work, |done| {
        progress(done);
        Ok(())
    })?;
    let mut parts = idle
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter();
    let mut whole = parts.next().unwrap_or_default();
    for part in parts {
        whole
            .iter_mut()
            .zip(&part)
            .for_each(|(whole, part)| whole.merge(part));
    }
    let summaries = whole.into_iter().map(|own| own.summary);
    let mut found: BTreeMap<String, Summary> = values.iter().cloned().zip(summaries).collect();
    for name in stream.repeated() {
        if let Some(summary) = found.get_mut(name) {
            summary.repeats = true;
        }
    }
    Ok(found)
}

/// What a thread has seen of a value.
#[derive(Clone, Debug, Default)]
struct Found {
    seen: bool,
    summary: Summary,
}

impl Found {
    fn add(&mut self, value: &Sampled<'_>, wanted: Wanted) {
        let own = Summary {
            channels: wanted.channel_means.then(|| channel_sums(value)).flatten(),
            channel_extremes: wanted.channel_extremes.then(|| channel_extremes(value)).flatten(),
            sample_extremes: wanted.sample_extremes.then(|| sample_extremes(value)),
            ..Summary::default()
        };
        let histogram = &mut self.summary.histogram;
        for (_, elements) in value.stretches() {
            if wanted.histograms {
                histogram.add(elements);
            } else {
                histogram.add_extremes(elements);
            }
        }
        if self.seen {
            self.summary.merge_sums(&own);
        } else {
            self.summary = Summary {
                histogram: std::mem::take(histogram),
                ..own
            };
        }
        self.seen = true;
    }

    fn merge(&mut self, other: &Self) {
        self.summary.merge(&other.summary);
    }
}

/// Who is to blame for NaN or infinity: an input of the model, or else the first operator that makes it of finite values.
fn not_finite(model: &Model, batch: &Batch, wrong: &BTreeSet<&str>, data: &Dataset) -> StatisticsError {
    for (name, value) in &batch.inputs {
        let RunValue::Tensor(tensor) = value else { continue };
        let Ok(elements) = tensor.to_f32() else { continue };
        let Some(at) = elements
            .iter()
            .position(|v| v.is_nan() || (!v.is_finite() && wrong.contains(name.as_str())))
        else {
            continue;
        };
        let row = (elements.len() / batch.ran.max(1)).max(1);
        let sample = batch.first + ((at / row) as u64).min(batch.count.saturating_sub(1) as u64);
        return StatisticsError::InputNotFinite {
            file: data.origin().to_owned(),
            input: name.clone(),
            sample,
            found: elements.get(at).copied().unwrap_or(f32::NAN),
        };
    }
    let graph = &model.graph;
    for node in graph.topological_order() {
        for value in graph.get(node).into_iter().flat_map(|node| node.outputs()) {
            if wrong.contains(&*value.name) {
                return StatisticsError::Produced {
                    value: value.name.to_string(),
                    node: graph.label(node),
                    sample: batch.first,
                };
            }
        }
    }
    StatisticsError::Missing(wrong.iter().next().copied().unwrap_or_default().to_owned())
}

impl Summary {
    /// Adds what another part of the data says.
    pub fn merge(&mut self, other: &Summary) {
        self.histogram.merge(&other.histogram);
        self.merge_sums(other);
        self.repeats |= other.repeats;
    }

    /// The same without what is counted.
    fn merge_sums(&mut self, other: &Summary) {
        merge_sums(&mut self.channels, &other.channels);
        merge_channels(&mut self.channel_extremes, &other.channel_extremes);
        merge_sums(&mut self.sample_extremes, &other.sample_extremes);
    }

    /// Means over the samples of their lowest and highest values.
    pub fn mean_extremes(&self) -> Option<(f32, f32)> {
        let (sums, count) = self.sample_extremes.as_ref().filter(|(_, count)| *count > 0)?;
        let mean = |at: usize| (sums.value(at) / *count as f64) as f32;
        Some((mean(0), mean(1)))
    }

    /// Means of the channels.
    pub fn channel_means(&self) -> Option<Vec<f64>> {
        let (sums, count) = self.channels.as_ref()?;
        let means = sums.values().into_iter().map(|sum| sum / (*count).max(1) as f64);
        Some(means.collect())
    }
}

/// Sums of parts with the same number of channels; without one, there are none.
fn merge_sums(mine: &mut Option<(Sums<3>, u64)>, other: &Option<(Sums<3>, u64)>) {
    match (mine, other) {
        (Some((sums, count)), Some((more, number))) if sums.len() == more.len() => {
            sums.merge(more);
            *count += number;
        }
        (mine, _) => *mine = None,
    }
}

/// Extremes of parts with the same number of channels; without one, there are none.
fn merge_channels(mine: &mut Option<Vec<(f32, f32)>>, other: &Option<Vec<(f32, f32)>>) {
    match (mine, other) {
        (Some(mine), Some(more)) if mine.len() == more.len() => {
            mine.iter_mut()
                .zip(more)
                .for_each(|(a, b)| *a = (a.0.min(b.0), a.1.max(b.1)));
        }
        (mine, _) => *mine = None,
    }
}

/// Lowest and highest value of each sample, added up. The engine's elements count as one sample where samples cannot be told apart.
fn sample_extremes(value: &Sampled<'_>) -> (Sums<3>, u64) {
    let mut sums = Sums::new(2);
    for sample in 0..value.samples() {
        let start = (f32::INFINITY, f32::NEG_INFINITY);
        let (low, high) = value.sample(sample).fold(start, |(low, high), (_, elements)| {
            let own = extremes(elements);
            (low.min(own.0), high.max(own.1))
        });
        sums.add(0, f64::from(low));
        sums.add(1, f64::from(high));
    }
    (sums, value.samples() as u64)
}

/// The axis of the channels of `[N, C, ...]`: their number, and how many neighbouring elements are of one. `None` where the samples
/// lie on that axis.
fn channel_axis(value: &Sampled<'_>) -> Option<(usize, usize)> {
    let channels = *value.dims().get(1)? as usize;
    let inner = value.dims().iter().skip(2).product::<u64>() as usize;
    let own = value.placement().is_none_or(|placement| placement.axis != 1);
    (own && channels > 0 && inner > 0).then_some((channels, inner))
}

/// Calls `add` with the neighbours of one channel, wherever they begin.
fn each_channel(value: &Sampled<'_>, (channels, inner): (usize, usize), mut add: impl FnMut(usize, &[f32])) {
    for (start, mut rest) in value.stretches() {
        let mut at = start;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at((inner - at % inner).min(rest.len()));
            add(at / inner % channels, chunk);
            at += chunk.len();
            rest = behind;
        }
    }
}

fn channel_sums(value: &Sampled<'_>) -> Option<(Sums<3>, u64)> {
    let axis = channel_axis(value)?;
    // Sample by sample, so that the size of a batch does not show.
    let mut sums = Sums::new(axis.0);
    let mut count = 0;
    each_channel(value, axis, |channel, elements| {
        sums.add(channel, quantize::sum(elements));
        count += elements.len();
    });
    Some((sums, (count / axis.0) as u64))
}

fn channel_extremes(value: &Sampled<'_>) -> Option<Vec<(f32, f32)>> {
    let axis = channel_axis(value)?;
    let mut found = vec![(f32::INFINITY, f32::NEG_INFINITY); axis.0];
    each_channel(value, axis, |channel, elements| {
        let (low, high, _) = extremes(elements);
        found[channel] = (found[channel].0.min(low), found[channel].1.max(high));
    });
    Some(found)
}
