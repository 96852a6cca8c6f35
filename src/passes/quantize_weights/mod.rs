//! The pass `quantize-weights`: codes for constant weights only; activations and arithmetic stay float.

mod nbits;
mod rounding;
mod target;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::rounding::Rounding;
use self::rounding::{Moments, collect, reconstruct};
use self::target::{Reader, Target, targets};
use super::distinct::distinct_names;
use super::{Context, ConvertOpset, Needs, Pass, PassError, PassReport, Safety, Simplify};
use crate::analysis;
use crate::ir::{
    EditError, Editor, GraphPath, Model, Name, Operator, OpsetImport, Tensor, TensorError, Value, ValueId,
    opset_version,
};
use crate::linalg::LinalgError;
use crate::quantize::{
    Granularity, Kind, QuantizeError, Scheme, pack, quantize_tensor, scale_dims, tensor_parameters,
};

const NAME: &str = "quantize-weights";

/// How quantized weights are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A DequantizeLinear before each reader.
    #[default]
    Qdq,
    /// ONNX Runtime's operator MatMulNBits, for matrix products; the rest as `qdq`.
    MatMulNBits,
}

/// Stores the constant weights of matrix products as integers; activations stay float.
///
/// The file shrinks to a quarter (`int8`) or an eighth (`int4`), and so does the memory traffic of large matrix products.
/// Weights in bodies of If and Loop and in functions are covered; a weight with several readers is stored once. A weight that
/// something else reads as float is left alone, since the file would grow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct QuantizeWeights {
    /// Type of the codes.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Elements along the summed dimension that share a scale; 0: a whole output channel does.
    pub block: usize,
    /// One scale for each output channel; else one for the whole weight. Without effect on blocks.
    pub per_channel: bool,
    /// Zero is in the middle of the codes; else each scale has a zero point.
    pub symmetric: bool,
    /// How quantized weights are written.
    pub form: Form,
    /// How codes are chosen.
    pub rounding: Rounding,
    /// The role of the data that `gptq` runs the model over.
    pub data: String,
    /// Operators whose weights are quantized: MatMul, Gemm, Conv, ConvTranspose. ONNX Runtime dequantizes the weights of
    /// convolutions anew in every run.
    pub operators: Vec<String>,
    /// Weights with fewer elements stay float.
    pub minimum_elements: u64,
    /// Nodes whose weights stay float: regular expressions on node names and output names.
    pub exclude: Vec<String>,
    /// Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen.
    pub prepare: bool,
}

impl Default for QuantizeWeights {
    fn default() -> Self {
        Self {
            kind: Kind::Int8,
            block: 0,
            per_channel: true,
            symmetric: true,
            form: Form::default(),
            rounding: Rounding::default(),
            data: "calibration".to_owned(),
            operators: vec!["MatMul".to_owned(), "Gemm".to_owned()],
            minimum_elements: 1024,
            exclude: Vec::new(),
            prepare: true,
        }
    }
}

/// What can go wrong with one weight.
#[derive(Debug, thiserror::Error)]
enum WeightError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Codes(#[from] QuantizeError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error(transparent)]
    Moments(#[from] LinalgError),
}

/// Operators that have weights.
const OPERATORS: [&str; 4] = ["MatMul", "Gemm", "Conv", "ConvTranspose"];

impl Pass for QuantizeWeights {
    fn name(&self) -> &'static str {
        NAME
    }

    fn safety(&self) -> Safety {
        Safety::Approximate
    }

    fn needs(&self) -> Needs {
        Needs {
            calibration: self.rounding == Rounding::Gptq,
            ..Needs::default()
        }
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        self.check()?;
        let original = model.clone();
        let mut report = PassReport::default();
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
        let moments = match self.rounding {
            Rounding::Nearest => None,
            Rounding::Gptq => Some(collect(model, self, context)?),
        };
        let (mut weights, mut uses_nbits) = (0, false);
        for path in model.graph_paths() {
            let Some(version) = opset_version(model.opsets(&path), "").filter(|version| *version >= needed)
            else {
                continue;
            };
            let found = {
                let Some(graph) = model.graph_at(&path) else {
                    continue;
                };
                targets(graph, self, context, &mut report.notes)?
            };
            if found.is_empty() {
                continue;
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
    fn check(&self) -> Result<(), PassError> {
        let wrong = |message: String| Err(PassError::Option { pass: NAME, message });
        if let Some(unknown) = self
            .operators
            .iter()
            .find(|name| !OPERATORS.contains(&name.as_str()))
        {
            return wrong(format!(
                "operators: {unknown} is none of {}",
                OPERATORS.join(", ")
            ));
        }
        if self.form == Form::MatMulNBits {
            if self.rounding != Rounding::Nearest {
                return wrong("rounding: mat-mul-n-bits is written with the nearest codes only".to_owned());
            }
            if !matches!(self.kind, Kind::Int4 | Kind::Uint4 | Kind::Int8 | Kind::Uint8) {
                return wrong("form: mat-mul-n-bits has 4 or 8 bits".to_owned());
            }
            if self.block < 16 || !self.block.is_power_of_two() {
                return wrong(format!(
                    "block: mat-mul-n-bits needs a power of two from 16 on, not {}",
                    self.block
                ));
            }
        }
        Ok(())
    }

    /// The first opset whose DequantizeLinear has what the options ask for.
    fn opset(&self) -> i64 {
        match self.kind {
            Kind::Int8 | Kind::Uint8 if self.block == 0 => 13,
            Kind::Int2 | Kind::Uint2 => 25,
            _ => 21,
        }
    }

    fn scheme(&self) -> Scheme {
        Scheme::new(self.kind, self.symmetric)
    }

    fn granularity(&self, channel_axis: usize, sum_axis: Option<usize>) -> Granularity {
        match sum_axis {
            Some(axis) if self.block > 0 => Granularity::Blocked {
                axis,
                size: self.block,
            },
            _ if self.per_channel => Granularity::PerChannel(channel_axis),
            _ => Granularity::PerTensor,
        }
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
        let (mut weights, mut uses_nbits) = (0, false);
        let mut editor = graph.edit(NAME);
        for target in found {
            let name = editor
                .graph()
                .value(target.weight)
                .map(|value| value.name.to_string())
                .unwrap_or_default();
            let nbits = self.form == Form::MatMulNBits && target.is_matrix_product;
            let result = if nbits {
                nbits::replace(&mut editor, &target, self)
            } else {
                self.dequantize(&mut editor, &target, &name, moments, report)
            };
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

    /// Codes once, and a DequantizeLinear for each reader: engines fuse one that has a single reader.
    fn dequantize(
        &self,
        editor: &mut Editor<'_>,
        target: &Target,
        name: &str,
        moments: Option<&Moments>,
        report: &mut PassReport,
    ) -> Result<(), WeightError> {
        let Some(tensor) = editor.graph().constant(target.weight).cloned() else {
            return Ok(());
        };
        let granularity = self.granularity(target.channel_axis, target.sum_axis);
        let (found, codes) = match moments.and_then(|moments| moments.of(target)) {
            Some((layer, moments)) => reconstruct(&tensor, target, layer, &moments, self)?,
            None => {
                if self.rounding != Rounding::Nearest {
                    report.notes.push(format!(
                        "{name} is rounded to the nearest codes: no rows of its layer"
                    ));
                }
                let found = tensor_parameters(&tensor, granularity, &self.scheme())?;
                let codes = quantize_tensor(&tensor, &found, granularity, self.kind)?;
                (found, codes)
            }
        };
        let dims = scale_dims(tensor.dims(), granularity);
        let scales: Vec<f32> = found.iter().map(|p| p.scale).collect();
        let zeros: Vec<i32> = found.iter().map(|p| p.zero_point).collect();
        let inputs = [
            editor.add_constant(suffixed(name, "quantized"), codes),
            editor.add_constant(suffixed(name, "scale"), Tensor::from_slice(&dims, &scales)?),
            editor.add_constant(suffixed(name, "zero_point"), pack(&dims, &zeros, self.kind)?),
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
