//! Weights before and after: histograms of those that changed, with the range of the codes.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::draw::{self, Histogram, text};
use crate::analysis::linear;
use crate::ir::{Graph, GraphPath, Model, NodeId, NodeKind, Tensor};
use crate::report::difference::nodes;
use crate::report::table::count;

/// Weights that are shown at most: those of the nodes that are furthest off, then the largest.
const SHOWN: usize = 24;
/// Bins of a histogram.
const BINS: usize = 72;

/// A weight of a node.
struct Weight {
    values: Vec<f64>,
    dims: Vec<u64>,
    /// Lowest and highest value that its codes stand for.
    range: Option<(f64, f64)>,
}

/// A weight in both models.
struct Pair<'a> {
    label: &'a str,
    before: (NodeId, usize),
    after: (NodeId, usize),
    elements: u64,
    error: Option<f64>,
}

/// The section on weights; empty where none changed. `errors` are those of nodes, by label.
pub(super) fn section(before: &Model, after: &Model, errors: &BTreeMap<String, f64>) -> String {
    let (left, right) = (nodes(&before.graph), nodes(&after.graph));
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for (label, id) in &left {
        let Some(other) = right.get(label) else { continue };
        let (Some(a), Some(b)) = (slot(&before.graph, *id), slot(&after.graph, *other)) else {
            continue;
        };
        let (Some(x), Some(y)) = (stored(before, *id, a), stored(after, *other, b)) else {
            continue;
        };
        if x.same_as(y) {
            continue;
        }
        pairs.push(Pair {
            label,
            before: (*id, a),
            after: (*other, b),
            elements: x.dims().iter().product(),
            error: errors.get(label).copied(),
        });
    }
    let total = pairs.len();
    pairs.sort_by(|a, b| {
        let error = |pair: &Pair<'_>| pair.error.unwrap_or(f64::INFINITY);
        error(a).total_cmp(&error(b)).then(b.elements.cmp(&a.elements))
    });
    pairs.truncate(SHOWN);
    let cards: Vec<String> = pairs
        .par_iter()
        .filter_map(|pair| {
            let x = read(before, pair.before.0, pair.before.1)?;
            let y = read(after, pair.after.0, pair.after.1)?;
            Some(card(pair, &x, &y))
        })
        .collect();
    if cards.is_empty() {
        return String::new();
    }
    format!(
        "<p>{} of {total} weights that differ, those of the nodes with the largest error first. Grey: before; line: after; dashed: the range of the codes. Heights are logarithms of counts.</p>\n<div class=\"cards\">\n{}</div>\n",
        cards.len(),
        cards.concat()
    )
}

fn card(pair: &Pair<'_>, before: &Weight, after: &Weight) -> String {
    let finite = before
        .values
        .iter()
        .chain(&after.values)
        .copied()
        .filter(|value| value.is_finite());
    // The ends of the codes are drawn, too.
    let ends = after.range.into_iter().flat_map(|(least, most)| [least, most]);
    let (low, high) = finite
        .chain(ends)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    let (low, high) = if low < high {
        (low, high)
    } else {
        (low.min(0.0) - 0.5, high.max(0.0) + 0.5)
    };
    let zeros = |weight: &Weight| weight.values.iter().filter(|value| **value == 0.0).count() as u64;
    let dims = |weight: &Weight| {
        weight
            .dims
            .iter()
            .map(u64::to_string)
            .collect::<Vec<_>>()
            .join(" x ")
    };
    let mut facts = vec![
        format!("{} before, {} after", dims(before), dims(after)),
        format!(
            "zeros {} before, {} after",
            count(zeros(before)),
            count(zeros(after))
        ),
    ];
    if let Some((least, most)) = after.range {
        let beyond = before
            .values
            .iter()
            .filter(|value| **value < least || **value > most)
            .count();
        facts.push(format!(
            "codes stand for {least:.5} to {most:.5}; {} elements are beyond",
            count(beyond as u64)
        ));
    }
    if before.dims == after.dims {
        let (signal, noise) = before
            .values
            .iter()
            .zip(&after.values)
            .fold((0.0, 0.0), |(signal, noise), (x, y)| {
                (signal + x * x, noise + (x - y) * (x - y))
            });
        if noise > 0.0 && signal > 0.0 {
            facts.push(format!(
                "the weight itself: {:.1} dB",
                10.0 * (signal / noise).log10()
            ));
        }
    }
    if let Some(error) = pair.error {
        facts.push(format!("the node: {error:.1} dB"));
    }
    facts.push(format!("drawn from {low:.4} to {high:.4}"));
    let words = format!("{}: {}", pair.label, facts.join("; "));
    let histogram = |weight: &Weight| histogram(&weight.values, low, high);
    let drawn = draw::histograms(&histogram(before), &histogram(after), after.range, &words);
    format!(
        "<div><h3>{}</h3>\n{drawn}<p class=\"quiet\">{}</p></div>\n",
        text(pair.label),
        facts
            .iter()
            .map(|fact| text(fact))
            .collect::<Vec<_>>()
            .join("<br>")
    )
}

fn histogram(values: &[f64], low: f64, high: f64) -> Histogram {
    let mut counts = vec![0_u64; BINS];
    for value in values.iter().filter(|value| value.is_finite()) {
        let place = ((value - low) / (high - low) * BINS as f64) as usize;
        if let Some(count) = counts.get_mut(place.min(BINS - 1)) {
            *count += 1;
        }
    }
    Histogram { low, high, counts }
}

/// The slot of a node that its weight is in.
fn slot(graph: &Graph, id: NodeId) -> Option<usize> {
    linear::weight_slots(graph.operator(id)?).first().copied()
}

/// The constant that a weight is stored as: codes where it is quantized.
fn stored(model: &Model, id: NodeId, slot: usize) -> Option<&Tensor> {
    let value = model.graph.input(id, slot)?;
    let graph = &model.graph;
    let source = match graph.operator(value.node) {
        Some(operator) if operator.is("DequantizeLinear") => graph.input(value.node, 0)?,
        _ => value,
    };
    // What a caller may replace is a weight all the same.
    if let Some(NodeKind::Input(input)) = graph.get(source.node).map(|node| &node.kind) {
        return input.default.as_ref().map(|(tensor, _)| tensor);
    }
    let origin = linear::origin(model, &GraphPath::MAIN, source)?;
    model.graph_at(&origin.path)?.get(origin.value.node)?.constant()
}

/// The elements of a weight as its node reads them, but for their order.
fn read(model: &Model, id: NodeId, slot: usize) -> Option<Weight> {
    let graph = &model.graph;
    let value = graph.input(id, slot)?;
    let tensor = stored(model, id, slot)?;
    let mut values = tensor.to_f64().ok()?;
    let dims = tensor.dims().to_vec();
    let mut range = None;
    if let Some(operator) = graph
        .operator(value.node)
        .filter(|operator| operator.is("DequantizeLinear"))
    {
        let constant = |slot: usize| -> Option<Vec<f64>> {
            let value = graph.input(value.node, slot)?;
            graph.get(value.node)?.constant()?.to_f64().ok()
        };
        let scales = constant(1)?;
        let zeros = constant(2).unwrap_or_else(|| vec![0.0; scales.len()]);
        let axis = operator.int("axis").unwrap_or(1);
        let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
        let block = operator.int("block_size").unwrap_or(0).max(0) as usize;
        let place = places(&dims, axis, block, scales.len())?;
        for (at, value) in values.iter_mut().enumerate() {
            let own = place(at);
            *value = (*value - zeros.get(own).copied().unwrap_or(0.0)) * scales.get(own).copied()?;
        }
        if let Some((least, most)) = tensor.dtype().integer_range() {
            let ends = scales
                .iter()
                .zip(&zeros)
                .map(|(scale, zero)| ((least as f64 - zero) * scale, (most as f64 - zero) * scale));
            range = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        }
    }
    Some(Weight { values, dims, range })
}

/// Which scale an element has.
fn places(dims: &[u64], axis: usize, block: usize, scales: usize) -> Option<Box<dyn Fn(usize) -> usize>> {
    if scales == 1 {
        return Some(Box::new(|_| 0));
    }
    let length = *dims.get(axis)? as usize;
    let inner = dims.get(axis + 1..)?.iter().product::<u64>() as usize;
    if block == 0 {
        return (scales == length).then(|| {
            Box::new(move |at: usize| at / inner.max(1) % length.max(1)) as Box<dyn Fn(usize) -> usize>
        });
    }
    let blocks = length.div_ceil(block);
    Some(Box::new(move |at: usize| {
        let (outer, rest) = (at / (inner * length).max(1), at % (inner * length).max(1));
        (outer * blocks + rest / inner.max(1) / block) * inner + rest % inner.max(1)
    }))
}
