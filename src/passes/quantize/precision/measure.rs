//! How much noise each layer makes at each precision, alone: everything else stays float.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::choose::Choice;
use super::{NAME, SearchPrecision, Sensitivity};
use crate::data::Batch;
use crate::engine::stream::{Sampled, Stream, in_order};
use crate::engine::{Engine, EngineError, RunValue, RunValues};
use crate::ir::{Model, model_digest};
use crate::lower::Lowering;
use crate::parts::{PartsError, Work};
use crate::passes::quantize::Precision;
use crate::passes::quantize::weights::{Layers, QuantizedLayer};
use crate::passes::{Context, PassError, PassReport, ResourceError};

/// A layer with what each precision costs.
pub(super) struct Measured {
    /// Name of the weight.
    pub(super) name: String,
    /// In the order of the precisions.
    pub(super) choices: Vec<Choice>,
}

/// What the float model answers on the samples.
struct Reference {
    batches: Vec<(Batch, RunValues)>,
}

/// Quantizes each of `layers` alone with each of `precisions` in `model`.
pub(super) fn measure(
    model: &Model,
    layers: &Layers<'_>,
    options: &SearchPrecision,
    precisions: &[Precision],
    context: &Context<'_>,
) -> Result<Vec<Measured>, PassError> {
    let resources = context.resources(NAME, "needs calibration data")?;
    let engine = resources.engine().map_err(resource)?;
    let float = OnceLock::new();
    let reference = || match options.sensitivity {
        Sensitivity::Layer => Ok(None),
        Sensitivity::Output => match float.get() {
            Some(known) => Ok(Some(known)),
            None => {
                let found = reference(model, options, engine, context)?;
                Ok(Some(float.get_or_init(|| found)))
            }
        },
    };
    let cases: Vec<(usize, Precision)> = (0..layers.count())
        .flat_map(|layer| precisions.iter().map(move |precision| (layer, *precision)))
        .collect();
    let total = cases.len() as u64;
    let work = |(layer, precision): (usize, Precision)| -> Result<Choice, PassError> {
        let elements = layers.elements(model, layer);
        let Some(kind) = precision.kind() else {
            return Ok(Choice {
                bits: u64::from(precision.bits()) * elements,
                bytes: 4 * elements,
                noise: 0.0,
            });
        };
        let mut quantized = model.clone();
        let QuantizedLayer { bytes, own_noise } =
            layers.quantize_one(&mut quantized, layer, kind, &mut PassReport::default())?;
        let noise = match reference()? {
            None => own_noise.ok_or_else(|| {
                resource(format!(
                    "sensitivity: layer: there are no rows of {}; use sensitivity: output",
                    layers.name(model, layer)
                ))
            })?,
            Some(reference) => noise(&quantized, engine, reference).map_err(resource)?,
        };
        Ok(Choice {
            bits: u64::from(kind.bits()) * elements,
            bytes,
            noise,
        })
    };
    let mut measured: Vec<Measured> = (0..layers.count())
        .map(|layer| Measured {
            name: layers.name(model, layer),
            choices: Vec::new(),
        })
        .collect();
    if let Some(ledger) = resources.ledger() {
        let names: Vec<String> = cases
            .iter()
            .map(|(layer, precision)| format!("{} as {precision:?}", layers.name(model, *layer)))
            .collect();
        let data = resources.data(&options.data, &model.graph).map_err(resource)?;
        let work_of = Work::new(
            "sensitivity",
            [
                ("model", model_digest(model)),
                ("options", format!("{options:?}")),
                ("engine", engine.name().to_owned()),
            ],
        );
        let wrap = |error: PartsError| resource(error);
        let choices = ledger.values(&data.described(work_of), &names, wrap, |index| {
            cases
                .get(index)
                .map_or_else(|| Err(resource("no such layer")), |case| work(*case))
        })?;
        for ((layer, _), choice) in cases.iter().zip(choices) {
            measured
                .get_mut(*layer)
                .into_iter()
                .for_each(|entry| entry.choices.push(choice));
        }
        return Ok(measured);
    }
    // What every case needs is made once, before the first of them.
    reference()?;
    let mut done = 0;
    in_order(
        cases.iter().copied(),
        resources.jobs(),
        |case| Ok((case.0, work(case)?)),
        |(layer, choice)| {
            if let Some(entry) = measured.get_mut(layer) {
                entry.choices.push(choice);
            }
            done += 1;
            (context.progress)("sensitivities", done, Some(total));
            Ok(())
        },
    )?;
    Ok(measured)
}

fn reference(
    model: &Model,
    options: &SearchPrecision,
    engine: &dyn Engine,
    context: &Context<'_>,
) -> Result<Reference, PassError> {
    let resources = context.resources(NAME, "needs calibration data")?;
    let data = resources.data(&options.data, &model.graph).map_err(resource)?;
    let stream = compile(model, engine).map_err(resource)?;
    let count = options.samples.div_ceil(data.batch_size()).max(1);
    let mut batches = Vec::new();
    for index in data.batches().take(count as usize) {
        let batch = data.batch(index).map_err(resource)?;
        let outputs = stream.run(&batch).map_err(resource)?;
        batches.push((batch, outputs));
    }
    Ok(Reference { batches })
}

fn compile<'m>(model: &'m Model, engine: &dyn Engine) -> Result<Stream<'m>, EngineError> {
    Stream::compile(model, &[], &Lowering(engine))
}

/// Power of the difference over power of the signal, summed over the float outputs.
fn noise(model: &Model, engine: &dyn Engine, reference: &Reference) -> Result<f64, EngineError> {
    let stream = compile(model, engine)?;
    let mut powers: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (batch, expected) in &reference.batches {
        let found = stream.run(batch)?;
        let placements = stream.places().of_batch(batch);
        for (name, value) in expected {
            let (RunValue::Tensor(value), Some(RunValue::Tensor(other))) = (value, found.get(name)) else {
                continue;
            };
            if !value.dtype().is_float() || value.dims() != other.dims() {
                continue;
            }
            let (Ok(expected_values), Ok(found_values)) = (value.to_f64(), other.to_f64()) else {
                continue;
            };
            let placement = placements.get(name).copied();
            let (expected, found) = (
                Sampled::new(&expected_values, value.dims(), batch, placement),
                Sampled::new(&found_values, other.dims(), batch, placement),
            );
            let entry = powers.entry(name).or_default();
            for ((_, a), (_, b)) in expected.stretches().zip(found.stretches()) {
                for (a, b) in a.iter().zip(b) {
                    entry.0 += a * a;
                    entry.1 += if b.is_finite() { (a - b) * (a - b) } else { a * a };
                }
            }
        }
    }
    Ok(powers
        .values()
        .map(|(signal, noise)| noise / signal.max(f64::MIN_POSITIVE))
        .sum())
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
