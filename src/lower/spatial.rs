//! Operators that move blocks of pixels.

use super::Rule;
use super::site::Site;
use crate::ir::{EditError, Operator};

pub(super) const RULES: &[Rule] = &[
    ("", "SpaceToDepth", space_to_depth),
    ("", "Upsample", upsample),
    ("", "Pad", pad),
];

/// [N, C, H*b, W*b] -> [N, C, H, b, W, b] -> [N, b, b, C, H, W] (DCR) or [N, C, b, b, H, W] (CRD) -> [N, C*b*b, H, W].
fn space_to_depth(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some(x) = site.input(0) else { return Ok(false) };
    let block = site.int("blocksize", 0);
    let channels_first = site.operator.string("mode").unwrap_or("DCR") == "CRD";
    if block < 1 || !channels_first {
        return Ok(false);
    }
    let (n, c) = (site.dim(x, 0)?, site.dim(x, 1)?);
    let (h, w) = (site.dim(x, 2)?, site.dim(x, 3)?);
    let b = site.ints(&[block]);
    let (rows, columns) = (site.op("Div", &[h, b])?, site.op("Div", &[w, b])?);
    let split = site.join(&[n, c, rows, b, columns, b])?;
    let blocks = site.op("Reshape", &[x, split])?;
    let moved = site.node(
        Operator::new("Transpose").with("perm", vec![0, 1, 3, 5, 2, 4]),
        &[blocks],
    )?;
    let deep = site.ints(&[block * block]);
    let depth = site.op("Mul", &[c, deep])?;
    let shape = site.join(&[n, depth, rows, columns])?;
    let y = site.op("Reshape", &[moved, shape])?;
    site.replace(0, y)?;
    Ok(true)
}

/// Upsampling by whole factors to the nearest pixel: every axis [d] -> [d, 1] -> [d, factor] -> [d * factor].
fn upsample(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some(x) = site.input(0) else { return Ok(false) };
    let scales: Vec<f32> = match (site.operator.floats("scales"), site.input(1)) {
        (Some(scales), _) => scales.to_vec(),
        (None, Some(scales)) => match site.constant(scales).and_then(|scales| scales.view::<f32>().ok()) {
            Some(scales) => scales.into_owned(),
            None => return Ok(false),
        },
        (None, None) => return Ok(false),
    };
    let whole = scales
        .iter()
        .all(|scale| scale.fract() == 0.0 && (1.0..=1024.0).contains(scale));
    if site.operator.string("mode").unwrap_or("nearest") != "nearest" || !whole || scales.is_empty() {
        return Ok(false);
    }
    let one = site.ints(&[1]);
    let (mut apart, mut repeated, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for (axis, scale) in scales.iter().enumerate() {
        let length = site.dim(x, axis as i64)?;
        let factor = site.ints(&[*scale as i64]);
        apart.extend([length, one]);
        repeated.extend([length, factor]);
        joined.push(site.op("Mul", &[length, factor])?);
    }
    let apart = site.join(&apart)?;
    let split = site.op("Reshape", &[x, apart])?;
    let repeated = site.join(&repeated)?;
    let wide = site.op("Expand", &[split, repeated])?;
    let joined = site.join(&joined)?;
    let y = site.op("Reshape", &[wide, joined])?;
    site.replace(0, y)?;
    Ok(true)
}

/// Pads of some axes as pads of all.
fn pad(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(pads), Some(axes)) = (site.input(0), site.input(1), site.input(3)) else {
        return Ok(false);
    };
    let (Some(rank), Some(axes)) = (
        site.rank(x),
        site.constant(axes).and_then(|axes| axes.to_i64().ok()),
    ) else {
        return Ok(false);
    };
    // Each end of an axis takes its element of the pads, or the 0 behind them.
    let count = axes.len() as i64;
    let mut order = vec![2 * count; 2 * rank];
    for (at, axis) in axes.iter().enumerate() {
        let axis = if *axis < 0 { axis + rank as i64 } else { *axis };
        let Some(axis) = usize::try_from(axis).ok().filter(|axis| *axis < rank) else {
            return Ok(false);
        };
        for (side, slot) in [axis, rank + axis].into_iter().enumerate() {
            if let Some(element) = order.get_mut(slot) {
                *element = side as i64 * count + at as i64;
            }
        }
    }
    let nothing = site.ints(&[0]);
    let extended = site.join(&[pads, nothing])?;
    let order = site.ints(&order);
    let pads = site.node(Operator::new("Gather").with("axis", 0), &[extended, order])?;
    let operator = site.with_attributes(Operator::new("Pad"), &[]);
    let made = site.nodes(operator, &[Some(x), Some(pads), site.input(2)], 1)?;
    let Some(y) = made.first() else { return Ok(false) };
    site.replace(0, *y)?;
    Ok(true)
}
