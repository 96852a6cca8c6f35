//! Codes that keep the layer's output, from the second moments of what the layer reads.

use std::collections::BTreeMap;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, s};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WeightError;
use super::target::WeightTarget;
use crate::analysis::linear::Family;
use crate::ir::{DType, Graph, Model, NodeId, Tensor, ValueId};
use crate::parts::{Ledger, PartsError, Work};
use crate::passes::quantize::gram_statistics::{GramSource, grams};
use crate::passes::{Context, PassError};
use crate::quantize::{
    Grid, Parameters, QuantizeError, adaround, descend, gptq, pack, quantize_tensor_within, search_scales,
    shrinkage, tensor_parameters,
};
use crate::statistics::gram::{self, Gram, Grams, Layer};

/// Share of the mean second moment that is added to each, at least.
pub(in crate::passes::quantize) const DAMPING: f64 = 0.01;

/// Passes over the codes after GPTQ or AdaRound.
const SWEEPS: usize = 10;

/// Steps of AdaRound.
const STEPS: usize = 400;

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
    /// Up or down for each weight, all of a layer at once, by descent on a relaxation that is driven to whole codes (AdaRound,
    /// Nagel et al. 2020), on the same second moments and ranges; then single codes as long as that helps. Slower than `gptq`.
    Adaround,
}

/// A weight as codes.
#[derive(Clone, Debug)]
pub(in crate::passes::quantize) struct Coded {
    /// In the order of the scale tensor.
    pub(in crate::passes::quantize) parameters: Vec<Parameters>,
    /// In the shape of the weight.
    pub(in crate::passes::quantize) codes: Tensor,
}

/// Second moments of what the layers of the main graph read.
pub(in crate::passes::quantize) struct Moments {
    layers: BTreeMap<ValueId, Vec<Layer>>,
    grams: Grams,
    /// Weights whose codes were chosen already, by other processes or for them.
    solved: BTreeMap<ValueId, Solved>,
}

/// The codes of a weight, and what it loses by them: see [`reconstruct`].
type Solved = (Coded, Array3<f64>);

/// What is known of the rows that a weight multiplies.
pub(in crate::passes::quantize) struct Rows<'a> {
    /// The first layer that reads the weight; the others lay it out the same way.
    pub(in crate::passes::quantize) layer: &'a Layer,
    /// For each group the second moments, about the mean where a bias can make up for it. Summed over all readers.
    pub(in crate::passes::quantize) moments: Vec<Array2<f64>>,
    /// Rows behind them.
    pub(in crate::passes::quantize) count: u64,
    /// Mean row of each group, by reader.
    pub(super) means: Vec<(NodeId, Vec<Array1<f64>>)>,
}

/// Takes the moments from a file, or runs the model over the calibration data. `given` is the model before it was prepared.
pub(in crate::passes::quantize) fn collect(
    source: GramSource<'_>,
    given: &Model,
    model: &Model,
    operators: &[String],
    context: &Context<'_>,
) -> Result<Moments, PassError> {
    let (found, _) = gram::layers(&model.graph);
    let wanted: Vec<Layer> = found
        .into_iter()
        .filter(|layer| {
            model
                .graph
                .operator(layer.node)
                .is_some_and(|operator| operators.iter().any(|name| operator.is(name)))
        })
        .collect();
    let grams = grams(source, given, model, &wanted, context)?;
    let mut layers: BTreeMap<ValueId, Vec<Layer>> = BTreeMap::new();
    for layer in wanted {
        layers.entry(layer.weight).or_default().push(layer);
    }
    Ok(Moments {
        layers,
        grams,
        solved: BTreeMap::new(),
    })
}

impl Moments {
    /// Chooses the codes of these weights of `graph` in parts that other processes may do, a weight each; `centred` says of each
    /// whether a bias makes up for its mean.
    pub(super) fn share(
        &mut self,
        (graph, targets): (&Graph, &[(WeightTarget, bool)]),
        (ledger, work): (&Ledger, &Work),
        rounding: Rounding,
    ) -> Result<(), PartsError> {
        let ready = |(target, centred): &(WeightTarget, bool)| self.of(target, *centred).is_some();
        let cases: Vec<&(WeightTarget, bool)> = targets.iter().filter(|case| ready(case)).collect();
        let tensor = |target: &WeightTarget| graph.constant(target.weight);
        let names: Vec<String> = cases
            .iter()
            .map(|(target, centred)| {
                let name = graph.value(target.weight).map(|value| value.name.to_string());
                format!("{} with {:?}, {centred}", name.unwrap_or_default(), target.coding)
            })
            .collect();
        let make = |index: usize| -> Result<Vec<u8>, PartsError> {
            let solved = cases.get(index).and_then(|(target, centred)| {
                let rows = self.of(target, *centred)?;
                reconstruct(tensor(target)?, target, &rows, rounding).ok()
            });
            // A weight that cannot be coded so is looked at again where that is said.
            Ok(solved.as_ref().and_then(stored).unwrap_or_default())
        };
        let mut found = BTreeMap::new();
        ledger.each(work, &names, make, |index, bytes| {
            if let Some((target, _)) = cases.get(index)
                && let Some(tensor) = tensor(target)
                && let Some(solved) = restored(&bytes, target, tensor)
            {
                found.insert(target.weight, solved);
            }
            Ok::<_, PartsError>(())
        })?;
        self.solved = found;
        Ok(())
    }

    /// The codes of a weight and what it loses by them, chosen before or now.
    pub(super) fn solve(
        &self,
        tensor: &Tensor,
        target: &WeightTarget,
        rows: &Rows<'_>,
        rounding: Rounding,
    ) -> Result<Solved, WeightError> {
        match self.solved.get(&target.weight) {
            Some(solved) => Ok(solved.clone()),
            None => reconstruct(tensor, target, rows, rounding),
        }
    }

    /// Why [`Self::of`] knows no rows of a weight; `own` are the moments of the weight's graph, if it has any.
    pub(in crate::passes::quantize) fn missing(own: Option<&Self>, target: &WeightTarget) -> &'static str {
        let Some(own) = own else {
            return "its layer is in a body or a function, and rows are those of the main graph";
        };
        let layers = own.layers.get(&target.weight).map_or(&[][..], Vec::as_slice);
        let family = |wanted: Family| target.readers.iter().any(|one| one.operand.family == wanted);
        if target.readers.iter().any(|one| !one.bodies.is_empty()) {
            "a body reads it, and rows are those of the main graph"
        } else if family(Family::Lookup) {
            "a Gather takes rows of it and sums up nothing"
        } else if family(Family::Einsum) {
            "an Einsum reads it, whose rows are not collected"
        } else if family(Family::Recurrent) {
            "a recurrent layer reads it, whose rows are its own outputs, too"
        } else if family(Family::ConvTranspose) {
            "a transposed convolution has no rows"
        } else if target.readers.iter().any(|one| one.operand.slot == 0) {
            "it is the first operand of a product, which has no rows"
        } else if layers.len() > target.readers.len() {
            "other layers share it"
        } else if layers.len() < target.readers.len() {
            "rows of a layer that reads it are not collected: it is behind Transpose or Cast, no matrix, or very wide"
        } else if layers.iter().any(|layer| own.grams.of(layer).is_none()) {
            "the data or the statistics have no rows of its layer"
        } else {
            "its layers lay it out in different ways"
        }
    }

    /// The rows of all that read the weight the same way, about their means if `centred`. `None` when a reader is unlike the
    /// target or has no rows.
    pub(in crate::passes::quantize) fn of(&self, target: &WeightTarget, centred: bool) -> Option<Rows<'_>> {
        let layers = self.layers.get(&target.weight)?;
        let first = layers.first()?;
        if layers.len() != target.readers.len() {
            return None;
        }
        let mut rows = Rows {
            layer: first,
            moments: Vec::new(),
            count: 0,
            means: Vec::new(),
        };
        for layer in layers {
            if layer.output_axis() != target.channel_axis || layer.groups != first.groups {
                return None;
            }
            let grams = self.grams.of(layer)?;
            let own = grams.iter().map(|gram| moment(gram, centred));
            if rows.moments.is_empty() {
                rows.moments = own.collect();
            } else {
                for (sum, own) in rows.moments.iter_mut().zip(own) {
                    if sum.dim() != own.dim() {
                        return None;
                    }
                    *sum += &own;
                }
            }
            rows.count += grams.iter().map(|gram| gram.rows).min().unwrap_or(0);
            rows.means
                .push((layer.node, grams.iter().map(Gram::mean).collect()));
        }
        Some(rows)
    }
}

/// Codes as the bytes of a part: parameters, codes, losses, each behind its number.
fn stored((coded, apart): &Solved) -> Option<Vec<u8>> {
    let mut bytes = (coded.parameters.len() as u64).to_le_bytes().to_vec();
    for one in &coded.parameters {
        bytes.extend(one.scale.to_le_bytes());
        bytes.extend(one.zero_point.to_le_bytes());
    }
    let codes = coded.codes.raw().ok()?;
    bytes.extend((codes.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&codes);
    let (groups, outputs, columns) = apart.dim();
    for size in [groups, outputs, columns] {
        bytes.extend((size as u64).to_le_bytes());
    }
    bytes.extend(apart.iter().flat_map(|value| value.to_le_bytes()));
    Some(bytes)
}

/// What [`stored`] made of the codes of this weight; `None` where it made nothing.
fn restored(bytes: &[u8], target: &WeightTarget, tensor: &Tensor) -> Option<Solved> {
    fn number(bytes: &mut &[u8]) -> Option<usize> {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        *bytes = rest;
        usize::try_from(u64::from_le_bytes(*number)).ok()
    }
    let mut rest = bytes;
    let count = number(&mut rest)?;
    let (parameters, mut rest) = rest.split_at_checked(count.checked_mul(8)?)?;
    let parameters = parameters
        .as_chunks::<8>()
        .0
        .iter()
        .map(|[a, b, c, d, e, f, g, h]| Parameters {
            scale: f32::from_le_bytes([*a, *b, *c, *d]),
            zero_point: i32::from_le_bytes([*e, *f, *g, *h]),
        });
    let length = number(&mut rest)?;
    let (codes, mut rest) = rest.split_at_checked(length)?;
    let codes = Tensor::from_raw(
        target.coding.kind.dtype(),
        tensor.dims().iter().copied(),
        codes.to_vec(),
    );
    let dims = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
    let values = rest
        .as_chunks::<8>()
        .0
        .iter()
        .map(|value| f64::from_le_bytes(*value));
    let coded = Coded {
        parameters: parameters.collect(),
        codes: codes.ok()?,
    };
    Some((coded, Array3::from_shape_vec(dims, values.collect()).ok()?))
}

/// `sum x xᵀ`, of `x` less its mean if `centred`.
fn moment(gram: &Gram, centred: bool) -> Array2<f64> {
    let mut matrix = gram.matrix.clone();
    if centred {
        let mean = gram.mean().insert_axis(Axis(1));
        general_mat_mul(-(gram.rows as f64), &mean, &mean.t(), 1.0, &mut matrix);
    }
    matrix
}

/// The nearest scale that a type holds, but for none of zero.
pub(in crate::passes::quantize) fn held(scale: f32, dtype: DType) -> f32 {
    let (nearest, least) = match dtype {
        DType::F16 => (
            half::f16::from_f32(scale).to_f32(),
            half::f16::from_bits(1).to_f32(),
        ),
        DType::BF16 => (
            half::bf16::from_f32(scale).to_f32(),
            half::bf16::MIN_POSITIVE.to_f32(),
        ),
        _ => return scale,
    };
    if nearest > 0.0 { nearest } else { least }
}

/// The nearest codes in the range from the lowest to the highest weight.
pub(super) fn nearest(tensor: &Tensor, target: &WeightTarget) -> Result<Coded, QuantizeError> {
    let granularity = target.granularity();
    let scheme = target.coding.scheme();
    let mut parameters = tensor_parameters(tensor, granularity, &scheme)?;
    let dtype = target.scale_dtype();
    for one in &mut parameters {
        one.scale = held(one.scale, dtype);
    }
    let codes = quantize_tensor_within(tensor, &parameters, granularity, scheme.kind, scheme.limits())?;
    Ok(Coded { parameters, codes })
}

/// The codes, and what the weights lose by them as matrices `[groups, outputs, columns]`: weight minus its code's value.
pub(in crate::passes::quantize) fn reconstruct(
    tensor: &Tensor,
    target: &WeightTarget,
    rows: &Rows<'_>,
    rounding: Rounding,
) -> Result<(Coded, Array3<f64>), WeightError> {
    let coding = target.coding;
    let granularity = target.granularity();
    let layer = rows.layer;
    let weights = layer.matrices(tensor)?;
    let (groups, outputs, columns) = weights.dim();
    let blocked = coding.block > 0 && target.sum_axis.is_some();
    let size = if blocked {
        coding.block.min(columns.max(1))
    } else {
        columns.max(1)
    };
    let blocks = columns.div_ceil(size).max(1);
    let whole = if blocked || coding.per_channel {
        None
    } else {
        tensor_parameters(tensor, granularity, &coding.scheme())?
            .first()
            .copied()
    };
    let layout = GroupLayout {
        blocks,
        size,
        whole,
        rounding,
        rows: rows.count,
    };
    let cases: Vec<_> = weights
        .axis_iter(Axis(0))
        .zip(&rows.moments)
        .enumerate()
        .collect();
    let coded = cases
        .into_par_iter()
        .map(|(group, (weights, moment))| code_group(weights, moment, target, group * outputs, &layout))
        .collect::<Result<Vec<_>, _>>()?;
    let mut codes = Array3::<i32>::zeros((groups, outputs, columns));
    let mut apart = Array3::<f64>::zeros((groups, outputs, columns));
    let mut found_rows: Vec<Parameters> = Vec::with_capacity(groups * outputs * blocks);
    for (group, (grid, part)) in coded.into_iter().enumerate() {
        let weights = weights.index_axis(Axis(0), group);
        apart
            .index_axis_mut(Axis(0), group)
            .assign(&grid.errors(weights, &part));
        codes.index_axis_mut(Axis(0), group).assign(&part);
        found_rows.extend(grid.parameters);
    }
    let parameters = match whole {
        Some(whole) => vec![whole],
        // Scales have the layout of the weight: blocks come first where inputs do.
        None if blocked && target.channel_axis > 0 => (0..blocks)
            .flat_map(|block| found_rows.iter().skip(block).step_by(blocks).copied())
            .collect(),
        None => found_rows,
    };
    let codes = pack(tensor.dims(), &layer.flat(&codes), coding.kind)?;
    Ok((Coded { parameters, codes }, apart))
}

/// What the groups of a layer have in common.
struct GroupLayout {
    /// Scales of one output, and the columns that share one.
    blocks: usize,
    size: usize,
    /// The parameters of the whole weight, if it has only one scale.
    whole: Option<Parameters>,
    rounding: Rounding,
    /// Rows behind the moments.
    rows: u64,
}

/// Scales and codes of one group, whose outputs are counted from `first`.
fn code_group(
    weights: ArrayView2<'_, f64>,
    moment: &Array2<f64>,
    target: &WeightTarget,
    first: usize,
    layout: &GroupLayout,
) -> Result<(Grid, Array2<i32>), WeightError> {
    let (outputs, columns) = weights.dim();
    let importance = moment.diag().mapv(|value| value.max(f64::MIN_POSITIVE));
    let mut found = Vec::with_capacity(outputs * layout.blocks);
    let mut limits = Vec::with_capacity(outputs);
    for (output, row) in weights.rows().into_iter().enumerate() {
        let scheme = target.scheme(first + output);
        limits.push(scheme.limits());
        for block in 0..layout.blocks {
            let range = block * layout.size..((block + 1) * layout.size).min(columns);
            found.push(match layout.whole {
                Some(whole) => whole,
                None => search_scales(row.slice(s![range.clone()]), importance.slice(s![range]), &scheme)?,
            });
        }
    }
    let grid = Grid {
        kind: target.coding.kind,
        parameters: found,
        blocks: layout.blocks,
        size: layout.size,
        limits,
    };
    let damping = shrinkage(moment.view(), layout.rows).max(DAMPING);
    let mut codes = match layout.rounding {
        Rounding::Adaround => adaround(weights, moment.view(), &grid, damping, STEPS),
        Rounding::Gptq | Rounding::Nearest => gptq(weights, moment.view(), &grid, damping)?,
    };
    descend(weights, moment.view(), &grid, &mut codes, damping, SWEEPS);
    Ok((grid, codes))
}
