//! Pairs of convolutions: a channel's weights before and after get the same range.

use std::collections::BTreeMap;

use super::convolution::{Convolution, convolution};
use crate::ir::{Graph, NodeId, ValueId};
use crate::passes::Context;

/// Two convolutions and what is between them.
pub(super) struct Pair {
    pub(super) first: NodeId,
    pub(super) second: NodeId,
    /// The value that the second reads, by name, and the upper bound of a Clip that produces it.
    pub(super) bound: Option<(String, f32)>,
    /// Highest value of each channel, as scaled so far; empty without a bound.
    pub(super) highest: Vec<f64>,
    /// Channels that reach the bound.
    pub(super) reached: Vec<bool>,
}

/// Share of a Clip's bound that channels may be moved to.
const BELOW_BOUND: f64 = 0.9;

/// Pairs of convolutions whose channels belong to them alone.
pub(super) fn find(
    graph: &Graph,
    context: &Context<'_>,
    convolutions: &mut BTreeMap<NodeId, Convolution>,
) -> Vec<Pair> {
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
pub(super) fn is_private(graph: &Graph, value: ValueId) -> bool {
    graph.use_count(value) == 1 && !graph.is_graph_output(value)
}

/// The convolution behind a value, through nothing, a Relu or a Clip from 0, and the Clip's bound.
pub(super) fn source(graph: &Graph, value: ValueId) -> Option<(NodeId, Option<f32>)> {
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

/// Evens out one pair. Answers the largest relative change of a channel.
pub(super) fn equalize(
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
            first.divide_output(channel, factor);
        }
        if let Some(second) = convolutions.get_mut(&pair.second) {
            let ranges = second.reading(channel);
            second.scale(&ranges, factor);
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::super::convolution::tests::of;
    use super::*;

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
