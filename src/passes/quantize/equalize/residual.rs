//! Groups of values that additions tie together: their channels are scaled at once, so that each goes as far as the others.

use std::collections::BTreeMap;

use petgraph::unionfind::UnionFind;

use super::convolution::{Convolution, convolution};
use crate::ir::{Graph, NodeId, Slot, ValueId};
use crate::passes::Context;

/// Values with the same channels, the convolutions that give them and those that read them, and nothing else.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) channels: usize,
    /// Names of the values.
    pub(super) values: Vec<String>,
    pub(super) producers: Vec<NodeId>,
    pub(super) readers: Vec<NodeId>,
}

/// A channel that hardly occurs in the data is not scaled up further than by this.
const LEAST_SHARE: f64 = 0.01;

/// Operators through which a positive factor of a channel passes: `f(c x) = c f(x)`.
fn passes_factors(graph: &Graph, id: NodeId) -> bool {
    let Some(operator) = graph.operator(id).filter(|operator| operator.domain().is_empty()) else {
        return false;
    };
    let one_output = graph.get(id).is_some_and(|node| node.outputs().len() == 1);
    one_output
        && match &*operator.op_type {
            "Add" => {
                let shapes: Vec<_> = graph
                    .inputs_of(id)
                    .into_iter()
                    .flatten()
                    .map(|value| graph.ty(value).shape())
                    .collect();
                match shapes.as_slice() {
                    [Some(a), Some(b)] => {
                        a.len() >= 3 && a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.same(b))
                    }
                    _ => false,
                }
            }
            "LeakyRelu" => operator.float("alpha").unwrap_or(0.01) >= 0.0,
            "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" | "Identity" | "MaxPool" | "Relu" => true,
            _ => false,
        }
}

/// Every group with an addition in it, or where a convolution reads another one directly if `direct` is set; and why others are none.
pub(super) fn groups(
    graph: &Graph,
    direct: bool,
    context: &Context<'_>,
    convolutions: &mut BTreeMap<NodeId, Convolution>,
) -> (Vec<Group>, Vec<String>) {
    let order = graph.topological_order();
    let mut places: BTreeMap<ValueId, usize> = BTreeMap::new();
    for id in &order {
        if let Some(node) = graph.get(*id) {
            for output in 0..node.outputs().len() {
                let place = places.len();
                places.insert(ValueId::new(*id, output), place);
            }
        }
    }
    let mut sets = UnionFind::<usize>::new(places.len());
    for id in &order {
        if !passes_factors(graph, *id) {
            continue;
        }
        for value in graph.inputs_of(*id).into_iter().flatten() {
            if let (Some(a), Some(b)) = (places.get(&value), places.get(&ValueId::new(*id, 0))) {
                sets.union(*a, *b);
            }
        }
    }
    let mut members: BTreeMap<usize, Vec<ValueId>> = BTreeMap::new();
    for id in &order {
        for output in 0..graph.get(*id).map_or(0, |node| node.outputs().len()) {
            let value = ValueId::new(*id, output);
            if let Some(place) = places.get(&value) {
                members.entry(sets.find(*place)).or_default().push(value);
            }
        }
    }
    let mut sorted: Vec<Vec<ValueId>> = members.into_values().collect();
    sorted.sort_by_key(|values| values.first().and_then(|value| places.get(value)).copied());
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    for values in sorted {
        let has_addition = values.iter().any(|value| {
            graph
                .operator(value.node)
                .is_some_and(|operator| operator.is("Add"))
        });
        let is_direct = direct
            && matches!(values.as_slice(), [value]
                if graph.operator(value.node).is_some_and(|operator| operator.is("Conv")));
        if !has_addition && !is_direct {
            continue;
        }
        let mut own: BTreeMap<NodeId, Convolution> = BTreeMap::new();
        match group(graph, &values, context, &mut own) {
            Ok(group) => {
                for (id, convolution) in own {
                    convolutions.entry(id).or_insert(convolution);
                }
                found.push(group);
            }
            Err(reason) if has_addition => notes.push(reason.to_string()),
            Err(_) => {}
        }
    }
    (found, notes)
}

/// Why values that are added are not evened out.
#[derive(Debug, thiserror::Error)]
enum Uneven {
    #[error("{value} is not evened out: {node} {why}")]
    Node {
        value: String,
        node: String,
        why: &'static str,
    },
    #[error("{value} is not evened out: it is an output of the model")]
    Output { value: String },
    #[error("{value} is not evened out: no convolution on one side has its channels")]
    OneSided { value: String },
}

/// The group of `values`, or who else gives or reads one of them.
fn group(
    graph: &Graph,
    values: &[ValueId],
    context: &Context<'_>,
    convolutions: &mut BTreeMap<NodeId, Convolution>,
) -> Result<Group, Uneven> {
    let mut found = Group {
        channels: 0,
        values: Vec::new(),
        producers: Vec::new(),
        readers: Vec::new(),
    };
    let mut name = String::new();
    for value in values {
        name = graph
            .value(*value)
            .map(|value| value.name.to_string())
            .unwrap_or_default();
        let refused = |id: NodeId, why: &'static str| {
            Err(Uneven::Node {
                value: name.clone(),
                node: graph.label(id),
                why,
            })
        };
        if graph.is_graph_output(*value) {
            return Err(Uneven::Output { value: name });
        }
        found.values.push(name.clone());
        if !passes_factors(graph, value.node) {
            if context.keeps(&graph.label(value.node)) {
                return refused(value.node, "is protected by keep");
            }
            let Some(given) = convolution(graph, value.node) else {
                return refused(
                    value.node,
                    "gives it and is no convolution with weights of its own",
                );
            };
            if found.channels != 0 && found.channels != given.outputs() {
                return refused(value.node, "gives another number of channels");
            }
            found.channels = given.outputs();
            found.producers.push(value.node);
            convolutions.insert(value.node, given);
        }
        for at in graph.uses(*value) {
            if passes_factors(graph, at.node) {
                continue;
            }
            if context.keeps(&graph.label(at.node)) {
                return refused(at.node, "is protected by keep");
            }
            let read = convolution(graph, at.node).filter(|_| at.slot == Slot::Input(0));
            let Some(read) = read else {
                return refused(at.node, "reads it and is no convolution with weights of its own");
            };
            found.readers.push(at.node);
            convolutions.insert(at.node, read);
        }
    }
    let fits = |id: &NodeId| {
        convolutions
            .get(id)
            .is_some_and(|read| read.inputs() == found.channels)
    };
    if found.producers.is_empty() || found.readers.is_empty() || !found.readers.iter().all(fits) {
        return Err(Uneven::OneSided { value: name });
    }
    Ok(found)
}

/// What each channel is divided by: how far it goes at most in any of the values, each measured by its own furthest channel, to
/// the power of `strength`, and around one. `largest` holds the absolute maxima of the channels of each value.
pub(super) fn factors(largest: &[Vec<f64>], channels: usize, strength: f64) -> Vec<f64> {
    let mut shares = vec![LEAST_SHARE; channels];
    for value in largest {
        let furthest = value.iter().copied().fold(0.0, f64::max);
        if furthest.is_normal() {
            for (share, own) in shares.iter_mut().zip(value) {
                *share = share.max(own / furthest);
            }
        }
    }
    let logs: f64 = shares.iter().map(|share| share.ln()).sum();
    let middle = (logs / channels.max(1) as f64).exp();
    shares
        .iter()
        .map(|share| (share / middle).powf(strength))
        .collect()
}

/// Divides the channels of the group's values by `factors`.
pub(super) fn apply(group: &Group, factors: &[f64], convolutions: &mut BTreeMap<NodeId, Convolution>) {
    for id in &group.producers {
        if let Some(given) = convolutions.get_mut(id) {
            for (channel, factor) in factors.iter().enumerate() {
                given.divide_output(channel, *factor);
            }
        }
    }
    for id in &group.readers {
        if let Some(read) = convolutions.get_mut(id) {
            for (channel, factor) in factors.iter().enumerate() {
                let ranges = read.reading(channel);
                read.scale(&ranges, *factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::factors;

    #[test]
    fn channels_that_go_less_far_are_divided_by_less() {
        let found = factors(&[vec![4.0, 1.0], vec![2.0, 1.0]], 2, 1.0);
        // Shares 1 and 1/2, around their geometric mean.
        assert!((found[0] / found[1] - 2.0).abs() < 1e-12);
        assert!((found[0] * found[1] - 1.0).abs() < 1e-12);
        assert_eq!(factors(&[vec![4.0, 1.0]], 2, 0.0), [1.0, 1.0]);
    }

    #[test]
    fn a_channel_that_is_never_used_is_not_scaled_without_bound() {
        let found = factors(&[vec![1.0, 0.0]], 2, 1.0);
        assert!((found[0] / found[1] - 100.0).abs() < 1e-9);
        let unused = factors(&[vec![0.0, 0.0]], 2, 1.0);
        assert!(
            unused.iter().all(|factor| (factor - 1.0).abs() < 1e-12),
            "{unused:?}"
        );
    }
}
