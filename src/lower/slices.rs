//! Slices whose bounds lie beyond the ends of an axis, which tract does not clamp.

use super::Rule;
use super::site::Site;
use crate::ir::EditError;

pub(super) const RULES: &[Rule] = &[("", "Slice", slice)];

/// Bounds as the specification clamps them, where the sizes of the axes are known and a bound lies outside.
fn slice(site: &mut Site<'_>) -> Result<bool, EditError> {
    let numbers = |site: &Site<'_>, index: usize| -> Option<Vec<i64>> {
        site.constant(site.input(index)?)?.to_i64().ok()
    };
    let (Some(x), Some(starts), Some(ends)) = (site.input(0), numbers(site, 1), numbers(site, 2)) else {
        return Ok(false);
    };
    let Some(shape) = site.shape(x) else {
        return Ok(false);
    };
    let axes = match site.input(3) {
        Some(_) => numbers(site, 3),
        None => Some((0..starts.len() as i64).collect()),
    };
    let steps = match site.input(4) {
        Some(_) => numbers(site, 4),
        None => Some(vec![1; starts.len()]),
    };
    let (Some(axes), Some(steps)) = (axes, steps) else {
        return Ok(false);
    };
    let rank = shape.len() as i64;
    let (mut clamped_starts, mut clamped_ends) = (starts.clone(), ends.clone());
    let bounds = clamped_starts.iter_mut().zip(&mut clamped_ends);
    for ((start, end), (axis, step)) in bounds.zip(axes.iter().zip(&steps)) {
        let at = if *axis < 0 {
            axis.saturating_add(rank)
        } else {
            *axis
        };
        let size = usize::try_from(at).ok().and_then(|at| shape.get(at)?.fixed());
        let Some(size) = size.filter(|_| *step > 0) else {
            continue;
        };
        let inside = |bound: i64| {
            let bound = if bound < 0 {
                bound.saturating_add(size)
            } else {
                bound
            };
            bound.clamp(0, size)
        };
        let outside = |bound: i64| bound > size || bound < -size;
        // The largest numbers mean "to the end", in tract as well.
        if outside(*start) || outside(*end) && *end < i64::from(i32::MAX) {
            *start = inside(*start);
            *end = inside(*end).max(*start);
        }
    }
    if clamped_starts == starts && clamped_ends == ends {
        return Ok(false);
    }
    let (starts, ends) = (site.ints(&clamped_starts), site.ints(&clamped_ends));
    let (axes, steps) = (site.ints(&axes), site.ints(&steps));
    let y = site.op("Slice", &[x, starts, ends, axes, steps])?;
    site.replace(0, y)?;
    Ok(true)
}
