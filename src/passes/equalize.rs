//! The pass `equalize`: cross-layer equalization of convolutions.
//!
//! Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (2019), section 4.1. The bound of
//! a Clip between two convolutions is kept: a channel that reaches it on the data is left alone, the others stay below it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{About, Context, Needs, Pass, PassError, PassReport, Safety, Simplify};
use crate::analysis;
use crate::ir::{DType, EditError, Graph, Model, NodeId, NodeKind, Operator, Tensor, TensorError, ValueId};
use crate::statistics::{self, Wanted};

const NAME: &str = "equalize";

/// Evens out the ranges of the channels between convolutions, so that one scale for a whole tensor loses less.
///
/// A channel between two convolutions is divided by a number that its weights in the second one are multiplied with; with nothing
/// or Relu between them the result is the same up to rounding. Between them may also be a Clip from 0 to a bound: then the data
/// says how far each channel goes, channels that reach the bound stay as they are, and the others are not moved past
/// nine tenths of it. Run it before `quantize` with `per-channel: false`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Equalize {
    /// Sweeps over all pairs of convolutions at most.
    pub sweeps: u32,
    /// The role of the data that says how far channels below a Clip go.
    pub data: String,
    /// Simplify the model first, so that batch normalization is part of the convolutions.
    pub prepare: bool,
}

impl Default for Equalize {
    fn default() -> Self {
        Self {
            sweeps: 20,
            data: "calibration".to_owned(),
            prepare: true,
        }
    }
}

/// Two convolutions and what is between them.
struct Pair {
    first: NodeId,
    second: NodeId,
    /// The value that the second reads, by name, and the upper bound of a Clip that produces it.
    bound: Option<(String, f32)>,
    /// Highest value of each channel, as scaled so far; empty without a bound.
    highest: Vec<f64>,
    /// Channels that reach the bound.
    reached: Vec<bool>,
}

/// A convolution's weights in double precision.
struct Convolution {
    weight: ValueId,
    bias: Option<ValueId>,
    dims: Vec<u64>,
    group: usize,
    values: Vec<f64>,
    offsets: Option<Vec<f64>>,
}

/// Share of a Clip's bound that channels may be moved to.
const BELOW_BOUND: f64 = 0.9;

impl Pass for Equalize {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs::CALIBRATION)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        let original = model.clone();
        if self.prepare {
            report.changes = Simplify::default().run(model, context)?.changes;
        }
        model.name_values();
        analysis::infer(model);
        let mut convolutions: BTreeMap<NodeId, Convolution> = BTreeMap::new();
        let mut pairs = find(&model.graph, context, &mut convolutions);
        self.read_ranges(model, &mut pairs, context)?;
        let mut changed: BTreeMap<(NodeId, usize), f64> = BTreeMap::new();
        for _ in 0..self.sweeps {
            let mut largest = 0f64;
            for pair in &mut pairs {
                largest = largest.max(equalize(pair, &mut convolutions, &mut changed));
            }
            if largest < 1e-3 {
                break;
            }
        }
        let channels = changed
            .values()
            .filter(|factor| (**factor - 1.0).abs() > 1e-3)
            .count();
        if channels == 0 {
            *model = original;
            return Ok(PassReport {
                notes: vec!["no channel between two convolutions to even out".to_owned()],
                ..PassReport::default()
            });
        }
        write(&mut model.graph, &convolutions).map_err(|error| match error {
            WriteError::Edit(source) => PassError::Edit { pass: NAME, source },
            WriteError::Tensor(error) => PassError::Resource {
                pass: NAME,
                message: error.to_string(),
            },
        })?;
        analysis::infer(model);
        report.add("pair", pairs.len() as u64);
        report.add("channel", channels as u64);
        Ok(report)
    }
}

impl Equalize {
    /// Fills in how far channels below a Clip go.
    fn read_ranges(&self, model: &Model, pairs: &mut [Pair], context: &Context<'_>) -> Result<(), PassError> {
        let resource = |message: String| PassError::Resource { pass: NAME, message };
        let mut names: Vec<String> = pairs
            .iter()
            .filter_map(|pair| Some(pair.bound.as_ref()?.0.clone()))
            .collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Ok(());
        }
        let resources = context.resources(NAME, "needs calibration data")?;
        let data = resources.data(&self.data, &model.graph).map_err(resource)?;
        let engine = resources.engine().map_err(resource)?;
        let wanted = Wanted {
            channel_extremes: true,
            ..Wanted::default()
        };
        let total = data.sample_range().end - data.sample_range().start;
        let progress = |done: u64| (context.progress)("calibrating", done, Some(total));
        let found = statistics::collect(model, &names, wanted, &data, engine, resources.jobs(), &progress)
            .map_err(|error| resource(error.to_string()))?;
        for pair in pairs {
            let Some((name, bound)) = &pair.bound else {
                continue;
            };
            let extremes = found
                .get(name)
                .and_then(|summary| summary.channel_extremes.as_ref());
            let extremes =
                extremes.ok_or_else(|| resource(format!("no channels in the values of {name}")))?;
            pair.highest = extremes.iter().map(|(_, high)| f64::from(*high)).collect();
            pair.reached = extremes.iter().map(|(_, high)| *high >= bound * 0.999).collect();
        }
        Ok(())
    }
}

/// Pairs of convolutions whose channels belong to them alone.
fn find(graph: &Graph, context: &Context<'_>, convolutions: &mut BTreeMap<NodeId, Convolution>) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for id in graph.topological_order() {
        if convolution(graph, id).is_none() {
            continue;
        }
        let Some(value) = graph.input(id, 0).filter(|value| is_private(graph, *value)) else {
            continue;
        };
        let Some((first, bound)) = source(graph, value) else {
            continue;
        };
        let (Some(a), Some(b)) = (convolution(graph, first), convolution(graph, id)) else {
            continue;
        };
        let protected = |id: NodeId| context.keeps(&graph.label(id));
        if protected(first) || protected(id) || a.outputs() != b.inputs() || a.weight == b.weight {
            continue;
        }
        convolutions.entry(first).or_insert(a);
        convolutions.entry(id).or_insert(b);
        let name = graph
            .value(value)
            .map(|value| value.name.to_string())
            .unwrap_or_default();
        pairs.push(Pair {
            first,
            second: id,
            bound: bound.map(|bound| (name, bound)),
            highest: Vec::new(),
            reached: Vec::new(),
        });
    }
    pairs
}

/// One reader, and no output of the graph.
fn is_private(graph: &Graph, value: ValueId) -> bool {
    graph.use_count(value) == 1 && !graph.is_graph_output(value)
}

/// The convolution behind a value, through nothing, a Relu or a Clip from 0, and the Clip's bound.
fn source(graph: &Graph, value: ValueId) -> Option<(NodeId, Option<f32>)> {
    let operator = graph.operator(value.node)?;
    if operator.is("Conv") {
        return Some((value.node, None));
    }
    let bound = match &*operator.op_type {
        "Relu" => None,
        "LeakyRelu" if operator.float("alpha").unwrap_or(0.01) >= 0.0 => None,
        "Clip" => {
            let constant = |slot: usize, name: &str| match graph.input(value.node, slot) {
                Some(value) => graph.constant(value).and_then(|tensor| tensor.single_f64()),
                None => operator.float(name).map(f64::from),
            };
            let (low, high) = (constant(1, "min")?, constant(2, "max")?);
            if low != 0.0 || high <= 0.0 {
                return None;
            }
            Some(high as f32)
        }
        _ => return None,
    };
    let before = graph
        .input(value.node, 0)
        .filter(|before| is_private(graph, *before))?;
    graph
        .operator(before.node)
        .filter(|operator| operator.is("Conv"))?;
    Some((before.node, bound))
}

/// A convolution with constant float weights that it alone reads.
fn convolution(graph: &Graph, id: NodeId) -> Option<Convolution> {
    let operator: &Operator = graph.operator(id).filter(|operator| operator.is("Conv"))?;
    let constant = |value: ValueId| {
        let own = matches!(
            graph.get(value.node).map(|node| &node.kind),
            Some(NodeKind::Constant(_))
        );
        graph
            .constant(value)
            .filter(|tensor| own && tensor.dtype() == DType::F32 && graph.use_count(value) == 1)
    };
    let weight = graph.input(id, 1)?;
    let tensor = constant(weight).filter(|tensor| tensor.rank() >= 3)?;
    let bias = graph.input(id, 2);
    let offsets = match bias {
        Some(bias) => Some(constant(bias)?.to_f64().ok()?),
        None => None,
    };
    let group = usize::try_from(operator.int("group").unwrap_or(1)).ok()?;
    Some(Convolution {
        weight,
        bias,
        dims: tensor.dims().to_vec(),
        group: group.max(1),
        values: tensor.to_f64().ok()?,
        offsets,
    })
}

impl Convolution {
    fn outputs(&self) -> usize {
        self.dims.first().copied().unwrap_or(0) as usize
    }

    fn inputs(&self) -> usize {
        self.dims.get(1).copied().unwrap_or(0) as usize * self.group
    }

    /// Flat ranges of the weights that multiply input channel `channel`.
    fn reading(&self, channel: usize) -> Vec<std::ops::Range<usize>> {
        let per_group = (self.inputs() / self.group).max(1);
        let place = self.dims.iter().skip(2).product::<u64>() as usize;
        let rows = self.outputs() / self.group;
        let group = channel / per_group;
        (group * rows..(group + 1) * rows)
            .map(|row| {
                let start = (row * per_group + channel % per_group) * place;
                start..start + place
            })
            .collect()
    }

    /// The flat range of the weights that give output channel `channel`.
    fn giving(&self, channel: usize) -> std::ops::Range<usize> {
        let size = self.values.len() / self.outputs().max(1);
        channel * size..(channel + 1) * size
    }

    fn largest(&self, ranges: &[std::ops::Range<usize>]) -> f64 {
        let values = ranges
            .iter()
            .flat_map(|range| self.values.get(range.clone()).unwrap_or(&[]));
        values.fold(0.0, |largest, value| largest.max(value.abs()))
    }

    fn scale(&mut self, ranges: &[std::ops::Range<usize>], factor: f64) {
        for range in ranges {
            if let Some(values) = self.values.get_mut(range.clone()) {
                values.iter_mut().for_each(|value| *value *= factor);
            }
        }
    }
}

/// Evens out one pair. Answers the largest relative change of a channel.
fn equalize(
    pair: &mut Pair,
    convolutions: &mut BTreeMap<NodeId, Convolution>,
    changed: &mut BTreeMap<(NodeId, usize), f64>,
) -> f64 {
    let (Some(first), Some(second)) = (convolutions.get(&pair.first), convolutions.get(&pair.second)) else {
        return 0.0;
    };
    let mut factors = Vec::with_capacity(first.outputs());
    for channel in 0..first.outputs() {
        let giving = first.largest(&[first.giving(channel)]);
        let reading = second.largest(&second.reading(channel));
        let mut factor = (giving / reading).sqrt();
        if !factor.is_normal() || pair.reached.get(channel) == Some(&true) {
            factor = 1.0;
        }
        if let (Some((_, bound)), Some(highest)) = (&pair.bound, pair.highest.get_mut(channel)) {
            // A channel above the share already may only shrink.
            let least = (*highest / (BELOW_BOUND * f64::from(*bound))).min(1.0);
            if pair.reached.get(channel) != Some(&true) {
                factor = factor.max(least);
                *highest /= factor;
            }
        }
        factors.push(factor);
    }
    let mut largest = 0f64;
    for (channel, factor) in factors.into_iter().enumerate() {
        largest = largest.max((factor - 1.0).abs());
        *changed.entry((pair.first, channel)).or_insert(1.0) *= factor;
        if let Some(first) = convolutions.get_mut(&pair.first) {
            let range = first.giving(channel);
            first.scale(&[range], 1.0 / factor);
            if let Some(offset) = first
                .offsets
                .as_mut()
                .and_then(|offsets| offsets.get_mut(channel))
            {
                *offset /= factor;
            }
        }
        if let Some(second) = convolutions.get_mut(&pair.second) {
            let ranges = second.reading(channel);
            second.scale(&ranges, factor);
        }
    }
    largest
}

enum WriteError {
    Edit(EditError),
    Tensor(TensorError),
}

fn write(graph: &mut Graph, convolutions: &BTreeMap<NodeId, Convolution>) -> Result<(), WriteError> {
    let mut editor = graph.edit(NAME);
    for convolution in convolutions.values() {
        let weight = Tensor::from_f64(DType::F32, &convolution.dims, &convolution.values)
            .map_err(WriteError::Tensor)?;
        editor
            .set_constant(convolution.weight.node, weight)
            .map_err(WriteError::Edit)?;
        if let (Some(bias), Some(offsets)) = (convolution.bias, &convolution.offsets) {
            let tensor =
                Tensor::from_f64(DType::F32, &[offsets.len() as u64], offsets).map_err(WriteError::Tensor)?;
            editor.set_constant(bias.node, tensor).map_err(WriteError::Edit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dims: &[u64], group: usize, values: Vec<f64>) -> Convolution {
        Convolution {
            weight: ValueId::new(NodeId::new(0), 0),
            bias: None,
            dims: dims.to_vec(),
            group,
            values,
            offsets: None,
        }
    }

    #[test]
    fn depthwise_and_dense_weights_are_found_by_channel() {
        let dense = of(&[2, 3, 1, 1], 1, vec![0., 1., 2., 3., 4., 5.]);
        assert_eq!(dense.reading(1), [1..2, 4..5]);
        assert_eq!(dense.giving(1), 3..6);
        let depthwise = of(&[3, 1, 1, 2], 3, vec![0.; 6]);
        assert_eq!(depthwise.reading(1).first(), Some(&(2..4)));
        assert_eq!((depthwise.inputs(), depthwise.outputs()), (3, 3));
    }

    #[test]
    fn ranges_meet_in_the_middle_and_bounds_hold() {
        let (a, b) = (NodeId::new(0), NodeId::new(1));
        let mut convolutions = BTreeMap::from([
            (a, of(&[2, 1, 1, 1], 1, vec![8.0, 2.0])),
            (b, of(&[1, 2, 1, 1], 1, vec![2.0, 8.0])),
        ]);
        let mut pair = Pair {
            first: a,
            second: b,
            bound: None,
            highest: Vec::new(),
            reached: Vec::new(),
        };
        assert!(equalize(&mut pair, &mut convolutions, &mut BTreeMap::new()) > 0.4);
        assert_eq!(convolutions[&a].values, [4.0, 4.0]);
        assert_eq!(convolutions[&b].values, [4.0, 4.0]);
        let mut convolutions = BTreeMap::from([
            (a, of(&[2, 1, 1, 1], 1, vec![8.0, 2.0])),
            (b, of(&[1, 2, 1, 1], 1, vec![2.0, 8.0])),
        ]);
        let mut pair = Pair {
            first: a,
            second: b,
            bound: Some(("v".to_owned(), 6.0)),
            highest: vec![6.0, 4.05],
            reached: vec![true, false],
        };
        equalize(&mut pair, &mut convolutions, &mut BTreeMap::new());
        assert_eq!(convolutions[&a].values[0], 8.0);
        assert!((pair.highest[1] - 5.4).abs() < 1e-9, "{}", pair.highest[1]);
    }
}
