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
use crate::parts::{Ledger, PartsError, Work};
use crate::passes::quantize::Precision;
use crate::passes::quantize::weights::{Layers, QuantizedLayer};
use crate::passes::{Context, PassError, PassReport, ResourceError, Resources};

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

/// A layer, by its place, with a precision.
type Case = (usize, Precision);

/// What the cases are of.
struct Subject<'a> {
    model: &'a Model,
    layers: &'a Layers<'a>,
    options: &'a SearchPrecision,
    engine: &'a dyn Engine,
    context: &'a Context<'a>,
    /// What the float model answers, once a case needs it.
    float: OnceLock<Reference>,
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
    let subject = Subject {
        model,
        layers,
        options,
        engine: resources.engine().map_err(resource)?,
        context,
        float: OnceLock::new(),
    };
    let cases: Vec<Case> = (0..layers.count())
        .flat_map(|layer| precisions.iter().map(move |precision| (layer, *precision)))
        .collect();
    let choices = match resources.ledger() {
        Some(ledger) => subject.shared(&cases, resources, ledger)?,
        None => subject.alone(&cases, resources.jobs())?,
    };
    let mut measured: Vec<Measured> = (0..layers.count())
        .map(|layer| Measured {
            name: layers.name(model, layer),
            choices: Vec::new(),
        })
        .collect();
    for ((layer, _), choice) in cases.iter().zip(choices) {
        if let Some(entry) = measured.get_mut(*layer) {
            entry.choices.push(choice);
        }
    }
    Ok(measured)
}

impl Subject<'_> {
    /// Every case, side by side.
    fn alone(&self, cases: &[Case], jobs: usize) -> Result<Vec<Choice>, PassError> {
        // What every case needs is made once, before the first of them.
        self.reference()?;
        let mut choices = Vec::with_capacity(cases.len());
        in_order(
            cases.iter().copied(),
            jobs,
            |case| self.choice(case),
            |choice| {
                choices.push(choice);
                let (done, total) = (choices.len() as u64, cases.len() as u64);
                (self.context.progress)("sensitivities", done, Some(total));
                Ok(())
            },
        )?;
        Ok(choices)
    }

    /// Every case, each a part that other processes may do.
    fn shared(
        &self,
        cases: &[Case],
        resources: &dyn Resources,
        ledger: &Ledger,
    ) -> Result<Vec<Choice>, PassError> {
        let (model, layers) = (self.model, self.layers);
        let name = |(layer, precision): &Case| format!("{} as {precision:?}", layers.name(model, *layer));
        let names: Vec<String> = cases.iter().map(name).collect();
        let data = resources
            .data(&self.options.data, &model.graph)
            .map_err(resource)?;
        let work = Work::new(
            "sensitivity",
            [
                ("model", model_digest(model)),
                ("options", format!("{:?}", self.options)),
                ("engine", self.engine.release()),
            ],
        );
        let wrap = |error: PartsError| resource(error);
        ledger.values(&data.described(work), &names, wrap, |index| {
            let case = cases.get(index).copied();
            case.map_or_else(|| Err(resource("no such layer")), |case| self.choice(case))
        })
    }

    /// What a layer costs and loses at a precision.
    fn choice(&self, (layer, precision): Case) -> Result<Choice, PassError> {
        let (model, layers) = (self.model, self.layers);
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
        let noise = match self.reference()? {
            None => own_noise.ok_or_else(|| {
                resource(format!(
                    "sensitivity: layer: there are no rows of {}; use sensitivity: output",
                    layers.name(model, layer)
                ))
            })?,
            Some(reference) => noise(&quantized, self.engine, reference).map_err(resource)?,
        };
        Ok(Choice {
            bits: u64::from(kind.bits()) * elements,
            bytes,
            noise,
        })
    }

    /// What the float model answers, where the options judge by that.
    fn reference(&self) -> Result<Option<&Reference>, PassError> {
        match (self.options.sensitivity, self.float.get()) {
            (Sensitivity::Layer, _) => Ok(None),
            (Sensitivity::Output, Some(known)) => Ok(Some(known)),
            (Sensitivity::Output, None) => {
                let found = reference(self.model, self.options, self.engine, self.context)?;
                Ok(Some(self.float.get_or_init(|| found)))
            }
        }
    }
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
