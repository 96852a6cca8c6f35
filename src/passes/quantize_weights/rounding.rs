//! Codes that keep the layer's output, from the second moments of what the layer reads.

use std::collections::BTreeMap;

use ndarray::{Array2, Array3, Axis, s};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::target::Target;
use super::{NAME, QuantizeWeights, WeightError};
use crate::ir::{Model, Tensor, ValueId};
use crate::passes::{Context, PassError};
use crate::quantize::{Grid, Parameters, descend, gptq, pack, search_scales, tensor_parameters};
use crate::statistics::gram::{self, GramOptions, Grams, Layer};

/// Share of the mean second moment that is added to each.
const DAMPING: f64 = 0.01;

/// Passes over the codes after GPTQ.
const SWEEPS: usize = 10;

/// How codes are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// The code nearest to each weight, in the range from the lowest to the highest weight.
    #[default]
    Nearest,
    /// The codes that keep what the layer puts out on the calibration data: ranges by weighted error, columns one after the other
    /// with the error made up for by the rest (GPTQ, Frantar et al. 2022), then single codes as long as that helps.
    Gptq,
}

/// Second moments of what the layers of the main graph read.
pub(super) struct Moments {
    layers: BTreeMap<ValueId, Vec<Layer>>,
    grams: Grams,
}

/// Runs the model over the calibration data.
pub(super) fn collect(
    model: &Model,
    options: &QuantizeWeights,
    context: &Context<'_>,
) -> Result<Moments, PassError> {
    let resource = |message: String| PassError::Resource { pass: NAME, message };
    let resources = context
        .resources
        .ok_or_else(|| resource("rounding: gptq needs data and an engine".to_owned()))?;
    let (found, _) = gram::layers(&model.graph);
    let wanted: Vec<Layer> = found
        .into_iter()
        .filter(|layer| {
            model
                .graph
                .operator(layer.node)
                .is_some_and(|operator| options.operators.iter().any(|name| operator.is(name)))
        })
        .collect();
    let data = resources.data(&options.data, &model.graph).map_err(resource)?;
    let engine = resources.engine().map_err(resource)?;
    let samples = data.sample_range();
    let total = samples.end - samples.start;
    let progress = |done: u64| {
        (context.progress)("second moments", done.saturating_sub(samples.start), Some(total));
    };
    let grams = gram::collect(
        model,
        &wanted,
        GramOptions::default(),
        &data,
        engine,
        resources.jobs(),
        &progress,
    )
    .map_err(|error| resource(error.to_string()))?;
    let mut layers: BTreeMap<ValueId, Vec<Layer>> = BTreeMap::new();
    for layer in wanted {
        layers.entry(layer.weight).or_default().push(layer);
    }
    Ok(Moments { layers, grams })
}

impl Moments {
    /// A layer that reads the weight, and for each group the second moment of its rows, summed over all that read the weight
    /// the same way. `None` when a reader is unlike the target or has no rows.
    pub(super) fn of(&self, target: &Target) -> Option<(&Layer, Vec<Array2<f64>>)> {
        let layers = self.layers.get(&target.weight)?;
        let first = layers.first()?;
        if layers.len() != target.readers.len() {
            return None;
        }
        let mut sums: Vec<Array2<f64>> = Vec::new();
        for layer in layers {
            if layer.output_axis() != target.channel_axis || layer.groups != first.groups {
                return None;
            }
            let grams = self.grams.of(layer)?;
            if sums.is_empty() {
                sums = grams.iter().map(|gram| gram.matrix.clone()).collect();
            } else {
                for (sum, gram) in sums.iter_mut().zip(grams) {
                    if sum.dim() != gram.matrix.dim() {
                        return None;
                    }
                    *sum += &gram.matrix;
                }
            }
        }
        Some((first, sums))
    }
}

/// Parameters in the order of the scale tensor, and the codes in the shape of the weight.
pub(super) fn reconstruct(
    tensor: &Tensor,
    target: &Target,
    layer: &Layer,
    moments: &[Array2<f64>],
    options: &QuantizeWeights,
) -> Result<(Vec<Parameters>, Tensor), WeightError> {
    let scheme = options.scheme();
    let granularity = options.granularity(target.channel_axis, target.sum_axis);
    let weights = layer.matrices(tensor)?;
    let (groups, outputs, columns) = weights.dim();
    let blocked = options.block > 0 && target.sum_axis.is_some();
    let size = if blocked {
        options.block.min(columns.max(1))
    } else {
        columns.max(1)
    };
    let blocks = columns.div_ceil(size).max(1);
    let whole = if blocked || options.per_channel {
        None
    } else {
        tensor_parameters(tensor, granularity, &scheme)?.first().copied()
    };
    let mut codes = Array3::<i32>::zeros((groups, outputs, columns));
    let mut rows: Vec<Parameters> = Vec::with_capacity(groups * outputs * blocks);
    for (group, (weights, moment)) in weights.axis_iter(Axis(0)).zip(moments).enumerate() {
        let importance = moment.diag().mapv(|value| value.max(f64::MIN_POSITIVE));
        let mut found = Vec::with_capacity(outputs * blocks);
        for row in weights.rows() {
            for block in 0..blocks {
                let range = block * size..((block + 1) * size).min(columns);
                found.push(match whole {
                    Some(whole) => whole,
                    None => {
                        search_scales(row.slice(s![range.clone()]), importance.slice(s![range]), &scheme)?
                    }
                });
            }
        }
        let grid = Grid {
            kind: options.kind,
            parameters: found,
            blocks,
            size,
        };
        let mut part = gptq(weights, moment.view(), &grid, DAMPING)?;
        descend(weights, moment.view(), &grid, &mut part, DAMPING, SWEEPS);
        codes.index_axis_mut(Axis(0), group).assign(&part);
        rows.extend(grid.parameters);
    }
    let parameters = match whole {
        Some(whole) => vec![whole],
        // Scales have the layout of the weight: blocks come first where inputs do.
        None if blocked && target.channel_axis > 0 => (0..blocks)
            .flat_map(|block| rows.iter().skip(block).step_by(blocks).copied())
            .collect(),
        None => rows,
    };
    Ok((
        parameters,
        pack(tensor.dims(), &layer.flat(&codes), options.kind)?,
    ))
}
