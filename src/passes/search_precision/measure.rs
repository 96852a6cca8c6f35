//! How much noise each layer makes at each precision, alone: everything else stays float.

use std::collections::BTreeMap;

use super::choose::Choice;
use super::{NAME, SearchPrecision, Sensitivity};
use crate::data::Batch;
use crate::engine::{CompileOptions, Engine, EngineError, RunValue, RunValues, Session, run_ordered};
use crate::ir::{GraphPath, Model};
use crate::lower;
use crate::passes::quantize_weights::{Layers, QuantizedLayer};
use crate::passes::{Context, PassError, PassReport, Precision};

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
    batch_size: u64,
}

/// Quantizes each of `layers` alone with each of `precisions` in `model`.
pub(super) fn measure(
    model: &Model,
    layers: &Layers<'_>,
    options: &SearchPrecision,
    precisions: &[Precision],
    context: &Context<'_>,
) -> Result<Vec<Measured>, PassError> {
    let resource = |message: String| PassError::Resource { pass: NAME, message };
    let resources = context.resources(NAME, "needs calibration data")?;
    let engine = resources.engine().map_err(resource)?;
    let reference = match options.sensitivity {
        Sensitivity::Layer => None,
        Sensitivity::Output => Some(reference(model, options, engine, context)?),
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
        let noise = match &reference {
            None => own_noise.ok_or_else(|| {
                resource(format!(
                    "sensitivity: layer: there are no rows of {}; use sensitivity: output",
                    layers.name(model, layer)
                ))
            })?,
            Some(reference) => {
                let session = compile(&quantized, engine).map_err(|error| resource(error.to_string()))?;
                noise(&*session, reference).map_err(|error| resource(error.to_string()))?
            }
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
    let mut failure = None;
    run_ordered(
        cases.iter().copied(),
        resources.jobs(),
        work,
        |index, choice| match (choice, cases.get(index)) {
            (Ok(choice), Some((layer, _))) => {
                if let Some(entry) = measured.get_mut(*layer) {
                    entry.choices.push(choice);
                }
                (context.progress)("sensitivities", index as u64 + 1, Some(total));
                true
            }
            (Err(error), _) => {
                failure = Some(error);
                false
            }
            (Ok(_), None) => false,
        },
    );
    match failure {
        Some(error) => Err(error),
        None => Ok(measured),
    }
}

fn compile(model: &Model, engine: &dyn Engine) -> Result<Box<dyn Session>, EngineError> {
    debug_assert!(model.graph_at(&GraphPath::MAIN).is_some());
    let options = CompileOptions {
        optimise: true,
        threads: 1,
        ..CompileOptions::default()
    };
    engine.compile(
        &lower::for_engine(model, engine).map_err(EngineError::from)?,
        &options,
    )
}

fn reference(
    model: &Model,
    options: &SearchPrecision,
    engine: &dyn Engine,
    context: &Context<'_>,
) -> Result<Reference, PassError> {
    let resource = |message: String| PassError::Resource { pass: NAME, message };
    let resources = context.resources(NAME, "needs calibration data")?;
    let data = resources.data(&options.data, &model.graph).map_err(resource)?;
    let session = compile(model, engine).map_err(|error| resource(error.to_string()))?;
    let count = options.samples.div_ceil(data.batch_size()).max(1);
    let mut batches = Vec::new();
    for index in data.batches().take(count as usize) {
        let batch = data.batch(index).map_err(|error| resource(error.to_string()))?;
        let outputs = session
            .run(&batch.inputs)
            .map_err(|error| resource(error.to_string()))?;
        batches.push((batch, outputs));
    }
    Ok(Reference {
        batches,
        batch_size: data.batch_size(),
    })
}

/// Power of the difference over power of the signal, summed over the float outputs.
fn noise(session: &dyn Session, reference: &Reference) -> Result<f64, EngineError> {
    let mut powers: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (batch, expected) in &reference.batches {
        let found = session.run(&batch.inputs)?;
        for (name, value) in expected {
            let (RunValue::Tensor(a), Some(RunValue::Tensor(b))) = (value, found.get(name)) else {
                continue;
            };
            if !a.dtype().is_float() || a.dims() != b.dims() {
                continue;
            }
            let (Ok(a), Ok(b)) = (a.to_f64(), b.to_f64()) else {
                continue;
            };
            // A short last batch is filled up with repeats, which do not count.
            let rows = expected_rows(value).max(1);
            let real = match rows == reference.batch_size {
                true => a.len() as u64 / rows * (batch.count as u64).min(rows),
                false => a.len() as u64,
            } as usize;
            let entry = powers.entry(name).or_default();
            for (a, b) in a.iter().zip(&b).take(real) {
                entry.0 += a * a;
                entry.1 += if b.is_finite() { (a - b) * (a - b) } else { a * a };
            }
        }
    }
    Ok(powers
        .values()
        .map(|(signal, noise)| noise / signal.max(f64::MIN_POSITIVE))
        .sum())
}

fn expected_rows(value: &RunValue) -> u64 {
    match value {
        RunValue::Tensor(tensor) => tensor.dims().first().copied().unwrap_or(1),
        _ => 1,
    }
}
