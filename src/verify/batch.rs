//! Whether a model with a batch computes for each sample what the model of one sample computes.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::interface::Names;
use super::kind::SampleKind;
use super::session::{prepare, shapes_of, shapes_under};
use super::sizes::{self, Sizes};
use super::synthesize::{SynthesisError, Synthesizer};
use crate::analysis::infer;
use crate::engine::compare::{Tolerances, Verdict, compare};
use crate::engine::{Engine, EngineError, RunValue, RunValues};
use crate::ir::{Model, Tensor};

/// A model of one sample, the same model with a batch, and where the batch is.
pub struct BatchTest<'a> {
    /// The model of one sample.
    pub single: &'a Model,
    /// The model with a batch.
    pub many: &'a Model,
    /// The axis of the batch of each input that has one.
    pub inputs: BTreeMap<String, usize>,
    /// The axis of the batch of each output; `None` for one that does not depend on it.
    pub outputs: BTreeMap<String, Option<usize>>,
    /// Sizes of other free dimensions.
    pub sizes: Sizes,
    /// Seed of the samples.
    pub seed: u64,
}

/// Why samples run together are not samples run one by one, or why that is not known.
#[derive(Clone, Debug)]
pub struct BatchFailure {
    /// The output or input.
    pub output: String,
    /// In words.
    pub message: String,
}

/// Why samples were not run one by one.
#[derive(Debug, thiserror::Error)]
enum AloneError {
    #[error(transparent)]
    Synthesis(#[from] SynthesisError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Batches that are run. Different samples stand in each, so that one that looks at another shows.
const COUNTS: [usize; 3] = [1, 2, 3];

impl BatchTest<'_> {
    /// Runs different samples one by one and together.
    ///
    /// # Errors
    ///
    /// The first output that differs, or why the models could not be run.
    pub fn run(&self, engine: &dyn Engine) -> Result<(), BatchFailure> {
        let mut inferred = self.single.clone();
        infer(&mut inferred);
        let synthesizer = Synthesizer::new(&inferred);
        let (free, fixed) = sizes::free_dims(self.single, self.single, &Names::default(), &self.sizes);
        let mut reason = "the model has no sizes to run at".to_owned();
        for sizes in sizes::attempts(&free, &fixed, None) {
            match self.singles(&synthesizer, &sizes, engine) {
                Ok((samples, results)) => return self.together(&samples, &results, engine),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(BatchFailure {
            output: "the model".to_owned(),
            message: format!(
                "a free batch cannot be proved, as the model of one sample does not run: {reason}"
            ),
        })
    }

    /// Different samples, and what each gives alone.
    fn singles(
        &self,
        synthesizer: &Synthesizer,
        sizes: &Sizes,
        engine: &dyn Engine,
    ) -> Result<(Vec<RunValues>, Vec<RunValues>), AloneError> {
        const KINDS: [SampleKind; 3] = [SampleKind::Normal, SampleKind::Uniform, SampleKind::Mixed];
        let shapes = shapes_under(self.single, sizes);
        let session = prepare(self.single, engine, &shapes)
            .and_then(|prepared| prepared.compile(engine, Vec::new(), true))?;
        let (mut samples, mut results) = (Vec::new(), Vec::new());
        for (index, kind) in KINDS.into_iter().enumerate() {
            let mut sample = synthesizer.sample(sizes, kind, self.seed, index as u64)?;
            if let Some(first) = samples.first() {
                let shared = |first: &RunValues, name: &String| first.get(name).cloned();
                for (name, value) in &mut sample {
                    if !self.inputs.contains_key(name)
                        && let Some(same) = shared(first, name)
                    {
                        *value = same;
                    }
                }
            }
            results.push(session.run(&sample)?);
            samples.push(sample);
        }
        Ok((samples, results))
    }

    fn together(
        &self,
        samples: &[RunValues],
        results: &[RunValues],
        engine: &dyn Engine,
    ) -> Result<(), BatchFailure> {
        for count in COUNTS {
            let (samples, results) = (
                &samples[..count.min(samples.len())],
                &results[..count.min(results.len())],
            );
            let fail = |output: &str, message: String| BatchFailure {
                output: output.to_owned(),
                message,
            };
            let mut inputs = RunValues::new();
            for name in samples.first().into_iter().flat_map(|sample| sample.keys()) {
                let values: Vec<&RunValue> = samples.iter().filter_map(|sample| sample.get(name)).collect();
                let value = match (self.inputs.get(name), values.first()) {
                    (Some(axis), _) => join(&values, *axis)
                        .ok_or_else(|| fail(name, "its samples cannot be joined".to_owned()))?,
                    (None, Some(value)) => (*value).clone(),
                    (None, None) => continue,
                };
                inputs.insert(name.clone(), value);
            }
            let found = prepare(self.many, engine, &shapes_of(&inputs))
                .and_then(|prepared| prepared.compile(engine, Vec::new(), true))
                .and_then(|session| session.run(&inputs))
                .map_err(|error| {
                    fail(
                        "the model",
                        format!("it does not run with a batch of {count}: {error}"),
                    )
                })?;
            for (name, axis) in &self.outputs {
                let Some(whole) = found.get(name) else {
                    return Err(fail(name, "the model with a batch does not give it".to_owned()));
                };
                for (at, result) in results.iter().enumerate() {
                    let Some(alone) = result.get(name) else { continue };
                    let part = match axis {
                        Some(axis) => part(whole, *axis, at, count).ok_or_else(|| {
                            fail(name, format!("it has no part for each of {count} samples"))
                        })?,
                        None => whole.clone(),
                    };
                    let comparison = compare(alone, &part, &Tolerances::default());
                    if comparison.verdict() > Verdict::Within {
                        return Err(fail(
                            name,
                            format!(
                                "sample {} of {count} run together differs from the same sample alone by up to {:.3e}{}: something mixes the samples of a batch",
                                at + 1,
                                comparison.max_abs(),
                                comparison
                                    .reason()
                                    .map_or(String::new(), |why| format!(" ({why})"))
                            ),
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Elements before an axis, and bytes from it on.
fn strides(tensor: &Tensor, axis: usize) -> Option<(usize, usize)> {
    let outer: u64 = tensor.dims().get(..axis)?.iter().product();
    let outer = usize::try_from(outer).ok()?;
    let bytes = tensor.raw().ok()?.len();
    Some((outer, bytes.checked_div(outer).unwrap_or(0)))
}

/// Tensors side by side along an axis.
fn join(values: &[&RunValue], axis: usize) -> Option<RunValue> {
    let tensors: Vec<&Tensor> = values
        .iter()
        .map(|value| match value {
            RunValue::Tensor(tensor) if tensor.dtype().bits() % 8 == 0 => Some(tensor),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let first = *tensors.first()?;
    let mut dims = first.dims().to_vec();
    *dims.get_mut(axis)? = tensors.iter().filter_map(|tensor| tensor.dims().get(axis)).sum();
    let (outer, _) = strides(first, axis)?;
    let mut raw = BytesMut::new();
    for at in 0..outer {
        for tensor in &tensors {
            let (_, bytes) = strides(tensor, axis)?;
            raw.extend_from_slice(tensor.raw().ok()?.get(at * bytes..(at + 1) * bytes)?);
        }
    }
    Some(RunValue::Tensor(
        Tensor::from_raw(first.dtype(), dims, raw.freeze()).ok()?,
    ))
}

/// The part of one of `count` samples along an axis.
fn part(whole: &RunValue, axis: usize, at: usize, count: usize) -> Option<RunValue> {
    let RunValue::Tensor(tensor) = whole else {
        return None;
    };
    let mut dims = tensor.dims().to_vec();
    let size = dims.get_mut(axis)?;
    if !size.is_multiple_of(count as u64) || tensor.dtype().bits() % 8 != 0 {
        return None;
    }
    *size /= count as u64;
    let (outer, bytes) = strides(tensor, axis)?;
    let step = bytes / count;
    let content = tensor.raw().ok()?;
    let mut raw = BytesMut::new();
    for row in 0..outer {
        let start = row * bytes + at * step;
        raw.extend_from_slice(content.get(start..start + step)?);
    }
    Some(RunValue::Tensor(
        Tensor::from_raw(tensor.dtype(), dims, raw.freeze()).ok()?,
    ))
}
