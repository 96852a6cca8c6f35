//! Operators that move blocks of pixels.

use super::Rule;
use super::site::Site;
use crate::ir::{EditError, Operator, ValueId};

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

/// Pads of some axes as pads of all; what is cut off is cut off before; no constant beside another mode, which tract would take.
fn pad(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(pads)) = (site.input(0), site.input(1)) else {
        return Ok(false);
    };
    let constant_mode = site.operator.string("mode").unwrap_or("constant") == "constant";
    let fill = site.input(2).filter(|_| constant_mode);
    let whole = match site.input(3) {
        None => pads,
        Some(axes) => match pads_of_all_axes(site, x, pads, axes)? {
            Some(pads) => pads,
            None => return Ok(false),
        },
    };
    let (cut, rest) = cut_off(site, x, whole)?.unwrap_or((x, whole));
    if rest == pads && fill == site.input(2) {
        return Ok(false);
    }
    let operator = site.with_attributes(Operator::new("Pad"), &[]);
    let made = site.nodes(operator, &[Some(cut), Some(rest), fill], 1)?;
    let Some(y) = made.first() else { return Ok(false) };
    site.replace(0, *y)?;
    Ok(true)
}

/// The pads of all axes of `x`, from those of `axes`: each end of an axis takes its element of the pads, or the 0 behind them.
fn pads_of_all_axes(
    site: &mut Site<'_>,
    x: ValueId,
    pads: ValueId,
    axes: ValueId,
) -> Result<Option<ValueId>, EditError> {
    let axes = site.constant(axes).and_then(|axes| axes.to_i64().ok());
    let (Some(rank), Some(axes)) = (site.rank(x), axes) else {
        return Ok(None);
    };
    let count = axes.len() as i64;
    let mut order = vec![2 * count; 2 * rank];
    for (at, axis) in axes.iter().enumerate() {
        let axis = if *axis < 0 { axis + rank as i64 } else { *axis };
        let Some(axis) = usize::try_from(axis).ok().filter(|axis| *axis < rank) else {
            return Ok(None);
        };
        for (side, slot) in [axis, rank + axis].into_iter().enumerate() {
            if let Some(element) = order.get_mut(slot) {
                *element = side as i64 * count + at as i64;
            }
        }
    }
    let known = site.constant(pads).and_then(|pads| pads.to_i64().ok());
    if let Some(known) = known {
        let at = |element: &i64| {
            let element = usize::try_from(*element).ok();
            element.and_then(|element| known.get(element).copied())
        };
        let whole: Vec<i64> = order.iter().map(|element| at(element).unwrap_or(0)).collect();
        return Ok(Some(site.ints(&whole)));
    }
    let nothing = site.ints(&[0]);
    let extended = site.join(&[pads, nothing])?;
    let order = site.ints(&order);
    site.node(Operator::new("Gather").with("axis", 0), &[extended, order])
        .map(Some)
}

/// `x` without what negative constant pads cut off, and the pads that are left; `None` where none is negative.
fn cut_off(site: &mut Site<'_>, x: ValueId, pads: ValueId) -> Result<Option<(ValueId, ValueId)>, EditError> {
    let pads = site.constant(pads).and_then(|pads| pads.to_i64().ok());
    let Some(pads) = pads.filter(|pads| pads.iter().any(|pad| *pad < 0)) else {
        return Ok(None);
    };
    let (begins, ends) = pads.split_at(pads.len() / 2);
    let starts: Vec<i64> = begins.iter().map(|pad| pad.saturating_neg().max(0)).collect();
    let stops: Vec<i64> = ends
        .iter()
        .map(|pad| if *pad < 0 { *pad } else { i64::MAX })
        .collect();
    let axes: Vec<i64> = (0..begins.len() as i64).collect();
    let rest: Vec<i64> = pads.iter().map(|pad| (*pad).max(0)).collect();
    let (starts, stops, axes) = (site.ints(&starts), site.ints(&stops), site.ints(&axes));
    let cut = site.op("Slice", &[x, starts, stops, axes])?;
    Ok(Some((cut, site.ints(&rest))))
}
