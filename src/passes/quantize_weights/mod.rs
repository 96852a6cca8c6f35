//! The pass `quantize-weights`: codes for constant weights only; activations and arithmetic stay float.

mod bias;
mod layers;
mod nbits;
mod options;
mod rounding;
mod target;
mod widths;

use std::collections::{BTreeMap, VecDeque};

use rayon::prelude::*;

pub(super) use self::layers::{Layers, QuantizedLayer};
pub(super) use self::options::Coding;
pub use self::options::{Form, LayerPrecision, Precision, QuantizeWeights};
pub use self::rounding::Rounding;
use self::rounding::nearest;
pub(super) use self::rounding::{Coded, Moments, collect, reconstruct};
pub(super) use self::target::Target;
use self::target::{Reader, targets};
pub use self::widths::{BitsBy, Widths};
use super::distinct::distinct_names;
use super::gram_statistics::GramSource;
use super::{About, Context, ConvertOpset, Needs, Pass, PassError, PassReport, Safety, Selector, Simplify};
use crate::analysis;
use crate::format::spill;
use crate::ir::{
    EditError, Editor, GraphPath, Model, Name, Operator, OpsetImport, Tensor, TensorError, Value, ValueId,
    opset_version,
};
use crate::linalg::LinalgError;
use crate::quantize::{Granularity, QuantizeError, pack, scale_dims};

const NAME: &str = "quantize-weights";

/// Weights that are coded at a time, on as many threads as there are.
const AHEAD: usize = 16;

/// Bytes of codes that stay in memory; those of further weights are kept in files without a name.
const HELD: u64 = 64 << 20;

/// What can go wrong with one weight.
#[derive(Debug, thiserror::Error)]
pub(super) enum WeightError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Codes(#[from] QuantizeError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error(transparent)]
    Moments(#[from] LinalgError),
}

impl Pass for QuantizeWeights {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs {
            calibration: self.rounding != Rounding::Nearest && self.stats.is_none(),
            training: self.criterion == BitsBy::LogGradient && self.gradient_stats.is_none(),
            ..Needs::default()
        })
    }

    fn data_roles(&self) -> Vec<String> {
        let needs = self.about().needs;
        let samples = needs.calibration.then(|| self.data.clone());
        let labels = needs.training.then(|| self.labelled.clone());
        samples.into_iter().chain(labels).collect()
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![
            Selector::new("exclude", &self.exclude),
            Selector::new("layers", self.layers.iter().map(|layer| &layer.pattern)),
        ]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        self.check()?;
        let original = model.clone();
        let mut report = PassReport::default();
        self.make_ready(model, context, &mut report)?;
        let needed = self.opset();
        let moments = match self.rounding {
            Rounding::Nearest => None,
            Rounding::Gptq | Rounding::Adaround => Some(self.moments(&original, model, context)?),
        };
        let mut plan = match self.criterion {
            BitsBy::Range => widths::Plan::new(),
            BitsBy::LogGradient => {
                let mut before = original.clone();
                before.name_values();
                widths::plan(model, &before, self, context, &mut report)?
            }
        };
        let (mut weights, mut uses_nbits) = (0, false);
        for path in model.graph_paths() {
            let Some(version) = opset_version(model.opsets(&path), "").filter(|version| *version >= needed)
            else {
                continue;
            };
            let mut found = {
                let Some(graph) = model.graph_at(&path) else {
                    continue;
                };
                targets(graph, self, context, &mut report.notes)?
            };
            if found.is_empty() {
                continue;
            }
            // Bodies and functions are not what gradients are of.
            for target in found.iter_mut().filter(|_| path == GraphPath::MAIN) {
                if let Some(planned) = plan.remove(&target.weight) {
                    target.coding.kind = planned.kind;
                    target.planned = Some(planned);
                }
            }
            let (count, nbits) = self.convert(model, &path, found, version, moments.as_ref(), &mut report)?;
            weights += count;
            uses_nbits |= nbits;
        }
        if weights == 0 {
            *model = original;
            report.changes.clear();
            report.changed = false;
            report
                .notes
                .push("no weight of the chosen operators: nothing to quantize".to_owned());
            return Ok(report);
        }
        if uses_nbits {
            import(model);
        }
        distinct_names(model, NAME).map_err(|source| PassError::Edit { pass: NAME, source })?;
        analysis::infer(model);
        report.add("weight", weights);
        Ok(report)
    }
}

impl QuantizeWeights {
    /// Simplifies, converts to an opset that has what the options ask for, and names and types every value.
    pub(super) fn make_ready(
        &self,
        model: &mut Model,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        if self.prepare {
            let prepared = Simplify::default().run(model, context)?;
            report.changes = prepared.changes;
        }
        let needed = self.opset();
        if model.opset().is_some_and(|version| version < needed) {
            let converted = ConvertOpset { version: needed }.run(model, context)?;
            report.merge(converted);
        }
        model.name_values();
        analysis::infer(model);
        Ok(())
    }

    /// Second moments of what the layers of `prepared`, which was made from `given`, read.
    fn moments(&self, given: &Model, prepared: &Model, context: &Context<'_>) -> Result<Moments, PassError> {
        let source = GramSource {
            pass: NAME,
            data: &self.data,
            stats: self.stats.as_deref(),
        };
        collect(source, given, prepared, &self.operators, context)
    }

    /// Whether the codes of a weight depend on nothing else.
    fn is_alone(&self, target: &Target, moments: Option<&Moments>) -> bool {
        moments.is_none() && self.rounding == Rounding::Nearest && target.planned.is_none()
    }

    /// Replaces the weights of one graph. Answers how many, and whether MatMulNBits was used.
    fn convert(
        &self,
        model: &mut Model,
        path: &GraphPath,
        found: Vec<Target>,
        version: i64,
        moments: Option<&Moments>,
        report: &mut PassReport,
    ) -> Result<(u64, bool), PassError> {
        // Bodies and functions are not what the moments are of.
        let moments = moments.filter(|_| *path == GraphPath::MAIN);
        let Some(graph) = model.graph_at_mut(path) else {
            return Ok((0, false));
        };
        let (mut weights, mut uses_nbits, mut held) = (0, false, 0u64);
        let mut editor = graph.edit(NAME);
        let mut ahead: VecDeque<Option<Result<Coded, QuantizeError>>> = VecDeque::new();
        for (at, target) in found.iter().enumerate() {
            if ahead.is_empty() && self.is_alone(target, moments) {
                let next = found.iter().skip(at).take(AHEAD);
                let next: Vec<&Target> = next.take_while(|next| self.is_alone(next, moments)).collect();
                let graph = editor.graph();
                let code = |next: &Target| graph.constant(next.weight).map(|tensor| nearest(tensor, next));
                let coded: Vec<_> = next.into_par_iter().map(code).collect();
                ahead.extend(coded);
            }
            let name = editor
                .graph()
                .value(target.weight)
                .map(|value| value.name.to_string())
                .unwrap_or_default();
            let nbits = self.form == Form::MatMulNBits && target.is_matrix_product;
            let coded = match ahead.pop_front() {
                // A weight that an earlier target has taken is left to `code`.
                Some(Some(coded)) if editor.graph().constant(target.weight).is_some() => {
                    coded.map(Some).map_err(WeightError::from)
                }
                _ => self.code(&mut editor, target, &name, moments, report),
            };
            let result = coded.and_then(|coded| match coded {
                None => Ok(()),
                Some(mut coded) => {
                    held += coded.codes.byte_len();
                    if held > HELD {
                        coded.codes = spilled(coded.codes)?;
                    }
                    match nbits {
                        true => nbits::replace(&mut editor, target, &coded),
                        false => dequantize(&mut editor, target, &name, &coded),
                    }
                }
            });
            match result {
                Ok(()) => {
                    weights += 1;
                    uses_nbits |= nbits;
                }
                Err(WeightError::Edit(source)) => return Err(PassError::Edit { pass: NAME, source }),
                Err(other) => report.notes.push(format!("{name} stays float: {other}")),
            }
        }
        debug_assert!(version >= self.opset());
        Ok((weights, uses_nbits))
    }

    /// The codes of one weight, and biases that make up for them.
    fn code(
        &self,
        editor: &mut Editor<'_>,
        target: &Target,
        name: &str,
        moments: Option<&Moments>,
        report: &mut PassReport,
    ) -> Result<Option<Coded>, WeightError> {
        let Some(tensor) = editor.graph().constant(target.weight).cloned() else {
            return Ok(None);
        };
        let places = bias::places(editor.graph(), target).filter(|_| self.correct_bias);
        match moments.and_then(|moments| moments.of(target, places.is_some())) {
            Some(rows) => {
                let (coded, apart) = rounding::reconstruct(&tensor, target, &rows, self.rounding)?;
                if let Some(places) = places {
                    let corrected = bias::correct(editor, &places, &rows, &apart)?;
                    report.add("bias-corrected", corrected);
                }
                Ok(Some(coded))
            }
            None => {
                if self.rounding != Rounding::Nearest {
                    report.notes.push(format!(
                        "{name} is rounded to the nearest codes: no rows of its layer"
                    ));
                }
                match &target.planned {
                    Some(planned) => Ok(Some(planned.codes(&tensor, target)?)),
                    None => Ok(Some(nearest(&tensor, target)?)),
                }
            }
        }
    }
}

/// Codes once, and a DequantizeLinear for each reader: engines fuse one that has a single reader.
fn dequantize(
    editor: &mut Editor<'_>,
    target: &Target,
    name: &str,
    coded: &Coded,
) -> Result<(), WeightError> {
    let kind = target.coding.kind;
    let granularity = target.granularity();
    let dims = scale_dims(coded.codes.dims(), granularity);
    let scales: Vec<f32> = coded.parameters.iter().map(|p| p.scale).collect();
    let zeros: Vec<i32> = coded.parameters.iter().map(|p| p.zero_point).collect();
    let inputs = [
        editor.add_constant(suffixed(name, "quantized"), coded.codes.clone()),
        editor.add_constant(suffixed(name, "scale"), Tensor::from_slice(&dims, &scales)?),
        editor.add_constant(suffixed(name, "zero_point"), pack(&dims, &zeros, kind)?),
    ];
    let mut operator = Operator::new("DequantizeLinear");
    match granularity {
        Granularity::PerTensor => {}
        Granularity::PerChannel(axis) => operator = operator.with("axis", axis as i64),
        Granularity::Blocked { axis, size } => {
            operator = operator.with("axis", axis as i64).with("block_size", size as i64);
        }
    }
    let ty = editor.graph().ty(target.weight).clone();
    for (at, Reader { node, slot }) in target.readers.iter().enumerate() {
        let suffix = if at == 0 {
            "dequantized".to_owned()
        } else {
            format!("dequantized_{at}")
        };
        let value = Value::typed(suffixed(name, &suffix), ty.clone());
        let dq = editor.add_operator(*node, operator.clone(), &inputs.map(Some), vec![value])?;
        editor.set_input(*node, *slot, Some(ValueId::new(dq, 0)))?;
    }
    editor.remove_unused(target.weight.node);
    Ok(())
}

/// The same codes, out of memory; where there is no place for a file they stay.
fn spilled(codes: Tensor) -> Result<Tensor, WeightError> {
    match spill(&codes.raw()?) {
        Ok(bytes) => Ok(Tensor::from_raw(
            codes.dtype(),
            codes.dims().iter().copied(),
            bytes,
        )?),
        Err(_) => Ok(codes),
    }
}

fn suffixed(stem: &str, suffix: &str) -> Name {
    Name::from(format!("{stem}_{suffix}"))
}

/// Imports the domain of MatMulNBits, in the model and in functions.
fn import(model: &mut Model) {
    let imports = std::iter::once(&mut model.opset_imports).chain(
        model
            .functions
            .iter_mut()
            .map(|function| &mut function.opset_imports),
    );
    for imports in imports {
        if !imports.iter().any(|import| import.domain() == nbits::DOMAIN) {
            imports.push(OpsetImport {
                domain: Some(nbits::DOMAIN.into()),
                version: Some(1),
            });
        }
    }
}

/// Weights by the value that holds them, in a stable order.
type Found = BTreeMap<ValueId, Target>;
