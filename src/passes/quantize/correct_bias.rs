//! The pass `correct-bias`: biases that give back the mean outputs of the float model, layer after layer.
//!
//! Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (2019), appendix D (means from data).

use std::collections::HashMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis;
use crate::data::Dataset;
use crate::ir::{DType, EditError, Graph, Model, NodeId, NodeKind, Tensor, TensorError, ValueId};
use crate::passes::{
    About, Context, Needs, Pass, PassError, PassReport, ResourceError, Resources, Safety, prepare,
};
use crate::quantize::bias_codes;
use crate::statistics::{self, Wanted};

const NAME: &str = "correct-bias";

/// Moves the biases of a quantized model so that its layers give the mean outputs of the float model again.
///
/// From the first layer to the last, the mean of each output channel is compared with the float model's on the calibration data,
/// and the difference goes to the bias: what layers before it did is made up for, too. Biases in float and as 32-bit codes are
/// moved; layers are found by the names of their outputs. Takes a run over the data for each layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CorrectBias {
    /// The float model that the quantized one was made from.
    #[schemars(extend("x-file" = "read"))]
    pub reference: PathBuf,
    /// The role of the data.
    pub data: String,
    /// Simplify the float model first, as `quantize` does, so that the same layers are in it.
    pub prepare: bool,
}

impl Default for CorrectBias {
    fn default() -> Self {
        Self {
            reference: PathBuf::new(),
            data: "calibration".to_owned(),
            prepare: true,
        }
    }
}

/// Where a layer's bias is.
enum Bias {
    /// A float constant, or nothing yet.
    Float(Option<ValueId>),
    /// Codes with these scales, one or one a channel.
    Codes { codes: ValueId, scales: Vec<f32> },
}

/// A layer of the quantized model that the float model has, too.
struct Site {
    node: NodeId,
    output: String,
    bias: Bias,
    values: Vec<f64>,
}

#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// The slot of the bias in Conv, ConvTranspose and Gemm.
const SLOT: usize = 2;

/// Differences below this share of the channels' spread are rounding.
const LEAST: f64 = 1e-6;

impl Pass for CorrectBias {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs {
            calibration: true,
            source: true,
            ..Needs::default()
        })
    }

    fn data_roles(&self) -> Vec<String> {
        vec![self.data.clone()]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        if self.reference.as_os_str().is_empty() {
            return Err(PassError::Option {
                pass: NAME,
                message: "reference: name the float model that this one was made from".to_owned(),
            });
        }
        let resources = context.resources(NAME, "needs calibration data and the float model")?;
        let mut reference = resources.model(&self.reference).map_err(resource)?;
        let mut report = PassReport::default();
        prepare::simplify(&mut reference, self.prepare, context)?;
        for model in [&mut reference, &mut *model] {
            prepare::name(model);
        }
        let sites = sites(&model.graph, &reference.graph, &mut report.notes);
        if sites.is_empty() {
            report
                .notes
                .push("no layer with a bias that the float model has under the same name".to_owned());
            return Ok(report);
        }
        let data = resources.data(&self.data, &model.graph).map_err(resource)?;
        let names: Vec<String> = sites.iter().map(|site| site.output.clone()).collect();
        let expected = means(&reference, &names, &data, resources)?;
        let total = sites.len() as u64;
        let mut corrected = 0;
        for (index, site) in sites.iter().enumerate() {
            (context.progress)("layers", index as u64, Some(total));
            let found = means(model, std::slice::from_ref(&site.output), &data, resources)?;
            let (Some(wanted), Some(found)) = (expected.get(&site.output), found.get(&site.output)) else {
                continue;
            };
            if wanted.len() != site.values.len() || found.len() != wanted.len() {
                report.notes.push(format!(
                    "{} stays: its channels are not those of its bias",
                    site.output
                ));
                continue;
            }
            let size = wanted.iter().fold(0f64, |size, mean| size.max(mean.abs()));
            let moved: Vec<f64> = site
                .values
                .iter()
                .zip(wanted.iter().zip(found))
                .map(|(bias, (wanted, found))| bias + wanted - found)
                .collect();
            let most = moved
                .iter()
                .zip(&site.values)
                .fold(0f64, |most, (a, b)| most.max((a - b).abs()));
            if most <= LEAST * size {
                continue;
            }
            write(&mut model.graph, site, &moved).map_err(|error| match error {
                MoveError::Edit(source) => PassError::Edit { pass: NAME, source },
                MoveError::Tensor(error) => resource(ResourceError::of(&*site.output, error)),
            })?;
            corrected += 1;
        }
        analysis::infer(model);
        report.add("bias-corrected", corrected);
        Ok(report)
    }
}

/// Channel means of these values over the data.
fn means(
    model: &Model,
    names: &[String],
    data: &Dataset,
    resources: &dyn Resources,
) -> Result<HashMap<String, Vec<f64>>, PassError> {
    let wanted = Wanted {
        channel_means: true,
        ..Wanted::default()
    };
    let engine = resources.engine().map_err(resource)?;
    let found = statistics::collect(model, names, wanted, data, engine, resources.jobs(), &|_| {})
        .map_err(resource)?;
    Ok(found
        .into_iter()
        .filter_map(|(name, summary)| Some((name, summary.channel_means()?)))
        .collect())
}

/// Layers in topological order whose output the reference's layer of the same operator has the name of.
fn sites(graph: &Graph, reference: &Graph, notes: &mut Vec<String>) -> Vec<Site> {
    let mut known: HashMap<String, String> = HashMap::new();
    for id in reference.topological_order() {
        if let (Some(operator), Some(value)) = (
            reference.operator(id),
            reference.get(id).and_then(|node| node.outputs().first()),
        ) {
            known.insert(value.name.to_string(), operator.op_type.to_string());
        }
    }
    let mut found = Vec::new();
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id).filter(|operator| {
            operator.domain().is_empty()
                && ["Conv", "ConvTranspose", "Gemm"]
                    .iter()
                    .any(|name| operator.is(name))
        }) else {
            continue;
        };
        let Some(output) = graph
            .get(id)
            .and_then(|node| node.outputs().first())
            .map(|value| value.name.to_string())
        else {
            continue;
        };
        if known.get(&output).map(String::as_str) != Some(&*operator.op_type) {
            notes.push(format!("{output} stays: the float model has no such layer"));
            continue;
        }
        if operator.is("Gemm") && operator.float("beta").unwrap_or(1.0) != 1.0 {
            notes.push(format!("{output} stays: its bias is multiplied"));
            continue;
        }
        match bias(graph, id) {
            Some((bias, values)) => found.push(Site {
                node: id,
                output,
                bias,
                values,
            }),
            None => notes.push(format!("{output} stays: its bias is not constant")),
        }
    }
    found
}

fn constant(graph: &Graph, value: ValueId) -> Option<&Tensor> {
    let own = matches!(
        graph.get(value.node).map(|node| &node.kind),
        Some(NodeKind::Constant(_))
    );
    graph.constant(value).filter(|_| own)
}

/// The bias of a layer and its values; zeros where there is none and the channels are known.
fn bias(graph: &Graph, node: NodeId) -> Option<(Bias, Vec<f64>)> {
    let Some(value) = graph.input(node, SLOT) else {
        let shape = graph.ty(ValueId::new(node, 0)).shape()?;
        let channels = usize::try_from(shape.get(1)?.fixed()?).ok()?;
        return Some((Bias::Float(None), vec![0.0; channels]));
    };
    if let Some(tensor) = constant(graph, value) {
        let plain = tensor.dtype() == DType::F32 && tensor.rank() == 1;
        return plain
            .then(|| tensor.to_f64().ok())
            .flatten()
            .map(|values| (Bias::Float(Some(value)), values));
    }
    graph
        .operator(value.node)
        .filter(|operator| operator.is("DequantizeLinear"))?;
    let codes = graph.input(value.node, 0)?;
    let tensor =
        constant(graph, codes).filter(|tensor| tensor.dtype() == DType::I32 && tensor.rank() == 1)?;
    if graph.use_count(codes) != 1 || graph.use_count(value) != 1 {
        return None;
    }
    // 32-bit codes have no zero point but 0.
    let scales = constant(graph, graph.input(value.node, 1)?)?
        .to_f32()
        .ok()?
        .into_owned();
    let values: Vec<f64> = tensor
        .to_i64()
        .ok()?
        .iter()
        .enumerate()
        .map(|(channel, code)| {
            let scale = scales.get(channel).or(scales.first()).copied().unwrap_or(1.0);
            *code as f64 * f64::from(scale)
        })
        .collect();
    (scales.len() == 1 || scales.len() == values.len()).then_some((Bias::Codes { codes, scales }, values))
}

fn write(graph: &mut Graph, site: &Site, values: &[f64]) -> Result<(), MoveError> {
    let mut editor = graph.edit(NAME);
    match &site.bias {
        Bias::Codes { codes, scales } => {
            let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
            let scales: Vec<f32> = if scales.len() == 1 {
                vec![scales.first().copied().unwrap_or(1.0); values.len()]
            } else {
                scales.clone()
            };
            let tensor = Tensor::from_slice(&[values.len() as u64], &bias_codes(&values, &scales))?;
            editor.set_constant(codes.node, tensor)?;
        }
        Bias::Float(old) => {
            let tensor = Tensor::from_f64(DType::F32, &[values.len() as u64], values)?;
            let fresh = editor.add_constant(format!("{}_bias_corrected", site.output), tensor);
            editor.set_input(site.node, SLOT, Some(fresh))?;
            if let Some(old) = old {
                editor.remove_unused(old.node);
            }
        }
    }
    Ok(())
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
