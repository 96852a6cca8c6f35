//! Operators that keep the elements and change the shape, and those that repeat elements.

use super::super::call::{Call, Facts, Rule, axis, product};
use super::super::content;
use super::broadcast;
use crate::ir::{Dim, Shape};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("DepthToSpace", depth_to_space),
    ("Expand", expand),
    ("Flatten", flatten),
    ("Reshape", reshape),
    ("SpaceToDepth", space_to_depth),
    ("Squeeze", squeeze),
    ("Tile", tile),
    ("Transpose", transpose),
    ("Unsqueeze", unsqueeze),
];

/// The listed elements of the input go through unchanged.
fn pass_content(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let (_, elements) = call.listed(0)?;
    let content = content::of_shape(facts.0.first()?.shape.as_ref()?, elements.into_owned())?;
    facts.content(0, content);
    Some(())
}

fn reshape(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let wanted: Vec<Dim> = match call.ints("shape") {
        Some(shape) => shape.iter().copied().map(Dim::Fixed).collect(),
        None => call.sizes(1)?.into_owned().elements,
    };
    let keep_zero = call.int_or("allowzero", 0) != 0;
    facts.shape(0, reshaped(call.shape(0), &wanted, keep_zero));
    pass_content(call, facts)
}

/// The shape that Reshape gives; 0 copies the input's dimension unless zeros are allowed, -1 takes the rest.
pub(super) fn reshaped(input: Option<&Shape>, wanted: &[Dim], keep_zero: bool) -> Shape {
    let mut shape: Shape = wanted
        .iter()
        .enumerate()
        .map(|(at, dim)| match dim {
            Dim::Fixed(0) if !keep_zero => input
                .and_then(|input| input.get(at))
                .cloned()
                .unwrap_or(Dim::Unknown),
            Dim::Fixed(size) if *size < 0 => Dim::Unknown,
            other => other.clone(),
        })
        .collect();
    let rest = match wanted.iter().position(|dim| *dim == Dim::Fixed(-1)) {
        Some(at) => Some(at),
        // One element that nothing is known of: whatever it says, the sizes must multiply up to the input's.
        None => {
            let mut unknown = shape
                .iter()
                .enumerate()
                .filter(|(_, dim)| !dim.is_known())
                .map(|(at, _)| at);
            match (unknown.next(), unknown.next()) {
                (Some(at), None) => Some(at),
                _ => None,
            }
        }
    };
    if let (Some(at), Some(input)) = (rest, input) {
        // Copied dimensions stand on both sides.
        let copied = |index: usize| !keep_zero && wanted.get(index) == Some(&Dim::Fixed(0));
        let total: Vec<&Dim> = input
            .iter()
            .enumerate()
            .filter(|(index, _)| !copied(*index))
            .map(|(_, dim)| dim)
            .collect();
        let others: Vec<Dim> = shape
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != at && !copied(*index))
            .map(|(_, dim)| dim.clone())
            .collect();
        let size = quotient(total, &others);
        if let Some(slot) = shape.get_mut(at) {
            *slot = size;
        }
    }
    shape
}

/// The product of `total` over the product of `parts`; dimensions in both are cancelled first, so that the others may be
/// unknown.
fn quotient(mut total: Vec<&Dim>, parts: &[Dim]) -> Dim {
    let mut divisor: Vec<&Dim> = Vec::new();
    for part in parts {
        match total
            .iter()
            .position(|dim| dim.same(part) && **dim != Dim::Fixed(0))
        {
            Some(at) => drop(total.swap_remove(at)),
            None => divisor.push(part),
        }
    }
    let (total, divisor) = (product(total), product(divisor));
    match (&total, &divisor) {
        (_, Dim::Fixed(0)) => Dim::Unknown,
        (Dim::Fixed(a), Dim::Fixed(b)) if a % b != 0 => Dim::Unknown,
        _ => total
            .exact_div(&divisor)
            .unwrap_or_else(|| total.floor_div(&divisor)),
    }
}

fn flatten(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let Some(shape) = call.shape(0) else {
        facts.shape(0, [Dim::Unknown, Dim::Unknown]);
        return None;
    };
    let at = call.int_or("axis", 1);
    // The axis may be the rank itself.
    let at = if at == shape.len() as i64 {
        shape.len()
    } else {
        axis(at, shape.len())?
    };
    let (outer, inner) = shape.split_at(at);
    facts.shape(0, [product(outer), product(inner)]);
    Some(())
}

fn squeeze(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    let kept: Vec<Dim> = match call.axes("axes", 1)? {
        Some(axes) => {
            let axes = axes
                .iter()
                .map(|at| axis(*at, shape.len()))
                .collect::<Option<Vec<usize>>>()?;
            shape
                .iter()
                .enumerate()
                .filter(|(at, _)| !axes.contains(at))
                .map(|(_, dim)| dim.clone())
                .collect()
        }
        // Which axes have size 1 must be known of each.
        None => {
            if shape.iter().any(|dim| dim.fixed().is_none() && !dim.at_least(2)) {
                return None;
            }
            shape
                .iter()
                .filter(|dim| **dim != Dim::Fixed(1))
                .cloned()
                .collect()
        }
    };
    facts.shape(0, kept);
    pass_content(call, facts)
}

fn unsqueeze(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    let axes = call.axes("axes", 1)??;
    let rank = shape.len() + axes.len();
    let axes = axes
        .iter()
        .map(|at| axis(*at, rank))
        .collect::<Option<Vec<usize>>>()?;
    let mut old = shape.iter().cloned();
    let mut result = Vec::with_capacity(rank);
    for at in 0..rank {
        result.push(if axes.contains(&at) {
            Dim::Fixed(1)
        } else {
            old.next()?
        });
    }
    facts.shape(0, result);
    pass_content(call, facts)
}

fn transpose(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    let permuted: Vec<Dim> = match call.ints("perm") {
        Some(perm) if perm.len() == shape.len() => perm
            .iter()
            .map(|at| axis(*at, shape.len()).and_then(|at| shape.get(at)).cloned())
            .collect::<Option<_>>()?,
        Some(_) => return None,
        None => shape.iter().rev().cloned().collect(),
    };
    facts.shape(0, permuted);
    if shape.len() <= 1 {
        return pass_content(call, facts);
    }
    let (dims, elements) = call.listed(0)?;
    let perm: Vec<usize> = match call.ints("perm") {
        Some(perm) => perm
            .iter()
            .map(|at| axis(*at, dims.len()))
            .collect::<Option<_>>()?,
        None => (0..dims.len()).rev().collect(),
    };
    let selections: Vec<Vec<usize>> = dims.iter().map(|dim| (0..*dim).collect()).collect();
    let moved = select(&dims, &elements, &selections, &perm)?;
    facts.content(0, content::of_shape(facts.0.first()?.shape.as_ref()?, moved)?);
    Some(())
}

/// Elements of a row-major tensor: on each axis the indices of `selections`, axes in the order of `perm`.
pub(super) fn select(
    dims: &[usize],
    elements: &[Dim],
    selections: &[Vec<usize>],
    perm: &[usize],
) -> Option<Vec<Dim>> {
    let mut strides = vec![1usize; dims.len()];
    for at in (1..dims.len()).rev() {
        *strides.get_mut(at - 1)? = strides.get(at)? * dims.get(at)?;
    }
    let mut offsets = vec![0usize];
    for at in perm {
        let (stride, taken) = (strides.get(*at)?, selections.get(*at)?);
        offsets = offsets
            .iter()
            .flat_map(|offset| taken.iter().map(move |index| offset + index * stride))
            .collect();
    }
    offsets
        .into_iter()
        .map(|offset| elements.get(offset).cloned())
        .collect()
}

fn expand(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let wanted = call.sizes(1)?;
    let shape = broadcast::shapes(call.shape(0)?, &wanted.elements);
    facts.shape(0, shape.clone());
    let sizes = call.sizes(0)?;
    match (sizes.elements.as_slice(), shape.as_slice()) {
        ([element], [Dim::Fixed(count @ 0..=1024)]) => {
            facts.content(0, content::vector(vec![element.clone(); *count as usize]))
        }
        (_, []) => facts.content(0, sizes.into_owned()),
        (elements, [Dim::Fixed(count)]) if elements.len() as i64 == *count => {
            facts.content(0, sizes.into_owned())
        }
        _ => {}
    }
    Some(())
}

fn tile(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    // Opset 1 repeats along one axis: inputs `tiles` and `axis`.
    if call.schema.is_some_and(|schema| schema.since < 6) {
        let (tiles, at) = (call.single(1)?, axis(call.single(2)?.fixed()?, shape.len())?);
        facts.shape(
            0,
            shape
                .iter()
                .enumerate()
                .map(|(index, dim)| if index == at { dim.mul(&tiles) } else { dim.clone() }),
        );
        return Some(());
    }
    let Some(repeats) = call.sizes(1) else {
        facts.shape(0, vec![Dim::Unknown; shape.len()]);
        return None;
    };
    if repeats.elements.len() != shape.len() {
        return None;
    }
    facts.shape(
        0,
        shape
            .iter()
            .zip(&repeats.elements)
            .map(|(dim, repeat)| dim.mul(repeat)),
    );
    let (sizes, Some(repeat @ 0..=64)) = (call.sizes(0)?, repeats.elements.first()?.fixed()) else {
        return None;
    };
    let elements = (0..repeat).flat_map(|_| sizes.elements.iter().cloned()).collect();
    facts.content(0, content::vector(elements));
    Some(())
}

fn depth_to_space(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let block = Dim::Fixed(call.int("blocksize")?);
    let [n, c, h, w] = call.shape(0)?.as_slice() else {
        return None;
    };
    facts.shape(
        0,
        [
            n.clone(),
            c.floor_div(&block.mul(&block)),
            h.mul(&block),
            w.mul(&block),
        ],
    );
    Some(())
}

fn space_to_depth(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let block = Dim::Fixed(call.int("blocksize")?);
    let [n, c, h, w] = call.shape(0)?.as_slice() else {
        return None;
    };
    facts.shape(
        0,
        [
            n.clone(),
            c.mul(&block.mul(&block)),
            h.floor_div(&block),
            w.floor_div(&block),
        ],
    );
    Some(())
}
