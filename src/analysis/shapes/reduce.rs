//! Reductions over axes.

use super::super::call::{Call, Facts, Rule, axis, product};
use super::super::content;
use crate::ir::{Dim, Shape};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ArgMax", arg),
    ("ArgMin", arg),
    ("ReduceL1", reduce),
    ("ReduceL2", reduce),
    ("ReduceLogSum", reduce),
    ("ReduceLogSumExp", reduce),
    ("ReduceMax", |c, f| {
        of_sizes(c, f, |d| d.iter().cloned().reduce(|a, b| a.max(&b)))
    }),
    ("ReduceMean", reduce),
    ("ReduceMin", |c, f| {
        of_sizes(c, f, |d| d.iter().cloned().reduce(|a, b| a.min(&b)))
    }),
    ("ReduceProd", |c, f| of_sizes(c, f, |d| Some(product(d)))),
    ("ReduceSum", |c, f| {
        of_sizes(c, f, |d| Some(d.iter().fold(Dim::Fixed(0), |a, b| a.add(b))))
    }),
    ("ReduceSumSquare", reduce),
];

/// A shape without, or with 1 for, the axes that `reduced` names; without axes all are reduced.
fn kept(shape: &[Dim], reduced: Option<&[i64]>, keep: bool) -> Option<Shape> {
    let axes = match reduced {
        Some(axes) => axes
            .iter()
            .map(|at| axis(*at, shape.len()))
            .collect::<Option<Vec<usize>>>()?,
        None => (0..shape.len()).collect(),
    };
    let sizes = shape
        .iter()
        .enumerate()
        .filter_map(|(at, dim)| match axes.contains(&at) {
            false => Some(dim.clone()),
            true if keep => Some(Dim::Fixed(1)),
            true => None,
        });
    Some(sizes.collect())
}

pub(super) fn reduce(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    let keep = call.int_or("keepdims", 1) != 0;
    let Some(axes) = call.axes("axes", 1) else {
        // Unknown axes: the rank stays if the reduced axes do.
        if keep {
            facts.shape(0, vec![Dim::Unknown; shape.len()]);
        } else if let Some([Dim::Fixed(count)]) = call.shape(1).map(|axes| axes.as_slice())
            && *count > 0
        {
            let rank = shape.len().checked_sub(usize::try_from(*count).ok()?)?;
            facts.shape(0, vec![Dim::Unknown; rank]);
        }
        return None;
    };
    let axes = axes.filter(|axes| !axes.is_empty());
    if axes.is_none() && call.int_or("noop_with_empty_axes", 0) != 0 {
        facts.shape(0, shape.iter().cloned());
        return None;
    }
    facts.shape(0, kept(shape, axes.as_deref(), keep)?);
    Some(())
}

/// The same, and the reduced element where the input's elements are listed.
fn of_sizes(call: &Call<'_>, facts: &mut Facts, of: fn(&[Dim]) -> Option<Dim>) -> Option<()> {
    reduce(call, facts)?;
    let sizes = call.sizes(0)?;
    let dtype = call.dtype(0)?;
    if sizes.scalar {
        return None;
    }
    let element = super::elementwise::fitting(of(&sizes.elements)?, dtype);
    facts.content(
        0,
        if call.int_or("keepdims", 1) != 0 {
            content::vector(vec![element])
        } else {
            content::scalar(element)
        },
    );
    Some(())
}

fn arg(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let at = call.int_or("axis", 0);
    facts.shape(
        0,
        kept(call.shape(0)?, Some(&[at]), call.int_or("keepdims", 1) != 0)?,
    );
    Some(())
}
