//! Operators that give the same elements another shape, or repeat them.

use super::super::elements::Axis;
use super::super::rule::{Axes, Rule};
use super::super::sizes;
use crate::ir::{Dim, Shape};

/// Axes of `x` and of `y` whose elements are the same run: `(from, to)` of each.
type Block = ((usize, usize), (usize, usize));

/// Cuts two shapes of the same elements where cumulative products agree, from the front and, behind the first place that is not
/// known, from the back.
fn blocks(x: &[(usize, Dim)], y: &[(usize, Dim)]) -> (Vec<Block>, Block) {
    let mut found = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < x.len() && j < y.len() {
        let Some((n, m)) = first_cut(&mut x[i..].iter().map(|d| &d.1), &mut y[j..].iter().map(|d| &d.1))
        else {
            break;
        };
        found.push(((i, i + n), (j, j + m)));
        (i, j) = (i + n, j + m);
    }
    let (mut k, mut l) = (x.len(), y.len());
    while k > i && l > j {
        let back = first_cut(
            &mut x[i..k].iter().rev().map(|d| &d.1),
            &mut y[j..l].iter().rev().map(|d| &d.1),
        );
        let Some((n, m)) = back else { break };
        found.push(((k - n, k), (l - m, l)));
        (k, l) = (k - n, l - m);
    }
    (found, ((i, k), (j, l)))
}

fn first_cut<'d>(
    x: &mut dyn Iterator<Item = &'d Dim>,
    y: &mut dyn Iterator<Item = &'d Dim>,
) -> Option<(usize, usize)> {
    let (mut a, mut b) = (x.next()?.clone(), y.next()?.clone());
    let (mut n, mut m) = (1, 1);
    while !a.same(&b) {
        if !a.is_known() || !b.is_known() {
            return None;
        }
        let left_is_smaller = match (a.fixed(), b.fixed()) {
            (Some(a), Some(b)) => a < b,
            _ => b.exact_div(&a).is_some(),
        };
        if left_is_smaller {
            a = a.mul(x.next()?);
            n += 1;
        } else {
            b = b.mul(y.next()?);
            m += 1;
        }
    }
    Some((n, m))
}

/// Ties the axes of `x` to those of `y`, two shapes of the same elements, and answers the axes of `y`.
fn regroup(rule: &mut Rule<'_>, x: &Shape, y: &Shape) -> Option<Axes> {
    let axes = rule.axes(0)?;
    let listed = |shape: &Shape| -> Vec<(usize, Dim)> {
        shape
            .iter()
            .cloned()
            .enumerate()
            .filter(|(_, dim)| dim.fixed() != Some(1))
            .collect()
    };
    let (xs, ys) = (listed(x), listed(y));
    let (blocks, rest) = blocks(&xs, &ys);
    let mut result = Axes::from_elem(Axis::Fixed, y.len());
    for (at, _) in xs.iter().take(rest.0.1).skip(rest.0.0) {
        rule.pin(0, *at, "the shapes around it have no common cut");
    }
    for ((from, to), (start, end)) in blocks {
        let (xs, ys) = (&xs[from..to], &ys[start..end]);
        if let ([(at, _)], [(into, _)]) = (xs, ys) {
            result[*into] = axes[*at];
            continue;
        }
        let sizes = |dims: &[(usize, Dim)]| -> Option<Vec<(usize, usize)>> {
            dims.iter()
                .map(|(at, dim)| Some((*at, usize::try_from(dim.fixed()?).ok().filter(|n| *n > 0)?)))
                .collect()
        };
        let factors = match (sizes(xs), sizes(ys)) {
            (Some(xs), Some(ys)) => refine(&xs, &ys).map(|parts| (xs, ys, parts)),
            _ => None,
        };
        let any_free = xs.iter().any(|(at, _)| axes[*at].is_free());
        let Some((xs, ys, Refined { parts, per_x, per_y })) = factors else {
            for (at, _) in xs {
                rule.pin(0, *at, "it is joined with an axis of unknown size");
            }
            continue;
        };
        if !any_free {
            continue;
        }
        // Each part is an axis of `x` as it is, a part of a fixed one, or new elements.
        let mut factors: Vec<(usize, Axis)> = Vec::with_capacity(parts.len());
        let mut next = 0;
        for ((at, _), count) in xs.iter().zip(&per_x) {
            let part = &parts[next..next + count];
            let whole = axes[*at];
            match (whole, part) {
                (Axis::Fixed, _) => factors.extend(part.iter().map(|size| (*size, Axis::Fixed))),
                (_, [size]) => factors.push((*size, whole)),
                _ => {
                    let split: Vec<(usize, Axis)> =
                        part.iter().map(|size| (*size, rule.fresh(*size))).collect();
                    rule.product(whole, &split, 0, *at);
                    factors.extend(split);
                }
            }
            next += count;
        }
        let mut next = 0;
        for ((into, size), count) in ys.iter().zip(&per_y) {
            let part = &factors[next..next + count];
            next += count;
            result[*into] = match part {
                [(_, axis)] => *axis,
                _ if part.iter().all(|(_, axis)| !axis.is_free()) => Axis::Fixed,
                _ => {
                    let whole = rule.fresh(*size);
                    rule.product(whole, part, 0, xs.first().map_or(0, |(at, _)| *at));
                    whole
                }
            };
        }
    }
    Some(result)
}

/// The coarsest factors that two lists of sizes are made of.
#[derive(Debug, PartialEq)]
struct Refined {
    parts: Vec<usize>,
    /// How many of them make up each size of the first list.
    per_x: Vec<usize>,
    /// The same for the second one.
    per_y: Vec<usize>,
}

/// The common factors of two lists of axes with their sizes; `None` where the cuts of one do not divide those of the other.
fn refine(x: &[(usize, usize)], y: &[(usize, usize)]) -> Option<Refined> {
    // Cuts as products counted from the back.
    let cuts = |sizes: &[(usize, usize)]| -> Option<Vec<usize>> {
        let mut product = 1usize;
        let mut cuts = vec![1];
        for (_, size) in sizes.iter().rev() {
            product = product.checked_mul(*size)?;
            cuts.push(product);
        }
        Some(cuts)
    };
    let (from_x, from_y) = (cuts(x)?, cuts(y)?);
    let mut all: Vec<usize> = from_x.iter().chain(&from_y).copied().collect();
    all.sort_unstable();
    all.dedup();
    let mut parts = Vec::with_capacity(all.len());
    for pair in all.windows(2) {
        if pair[1] % pair[0] != 0 {
            return None;
        }
        parts.push(pair[1] / pair[0]);
    }
    let counts = |cuts: &[usize]| -> Vec<usize> {
        let mut counts: Vec<usize> = cuts
            .windows(2)
            .map(|pair| {
                all.iter()
                    .filter(|cut| **cut > pair[0] && **cut <= pair[1])
                    .count()
            })
            .collect();
        counts.reverse();
        counts
    };
    parts.reverse();
    Some(Refined {
        per_x: counts(&from_x),
        per_y: counts(&from_y),
        parts,
    })
}

pub(super) fn reshape(rule: &mut Rule<'_>) -> Option<()> {
    let (x, y) = (rule.shape(0)?.clone(), rule.output_shape(0)?.clone());
    let axes = regroup(rule, &x, &y)?;
    let zero_copies = rule.int("allowzero", 0) == 0;
    let writable = sizes::reshape_target(&x, &y, zero_copies, &|_| None).is_some();
    if !writable {
        let mut settable = true;
        for at in 0..axes.len() {
            settable &= !axes[at].is_free() || sizes::settable(rule, 1, at);
        }
        if !settable {
            rule.pin_all(0, "the target shape is computed at run time");
        }
    }
    sizes::tie_entries(rule, 1, &axes, 0);
    rule.set(0, axes);
    Some(())
}

pub(super) fn flatten(rule: &mut Rule<'_>) -> Option<()> {
    let (x, y) = (rule.shape(0)?.clone(), rule.output_shape(0)?.clone());
    let axes = regroup(rule, &x, &y)?;
    rule.set(0, axes);
    Some(())
}

pub(super) fn transpose(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let order: Vec<i64> = match rule.operator.ints("perm") {
        Some(perm) => perm.to_vec(),
        None => (0..axes.len() as i64).rev().collect(),
    };
    let result = order
        .iter()
        .map(|at| axes.get(usize::try_from(*at).ok()?).copied())
        .collect::<Option<Axes>>()?;
    rule.set(0, result);
    Some(())
}

pub(super) fn squeeze(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let dropped: Vec<usize> = match rule.list("axes", 1)? {
        Some(list) => list
            .iter()
            .map(|at| rule.at(*at, axes.len()))
            .collect::<Option<_>>()?,
        None => {
            let shape = rule.shape(0)?;
            if shape.iter().any(|dim| dim.fixed().is_none()) {
                return None;
            }
            (0..axes.len())
                .filter(|at| shape[*at].fixed() == Some(1))
                .collect()
        }
    };
    let kept = axes
        .iter()
        .enumerate()
        .filter(|(at, _)| !dropped.contains(at))
        .map(|(_, axis)| *axis);
    rule.set(0, kept.collect::<Vec<_>>());
    Some(())
}

pub(super) fn unsqueeze(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let list = rule.list("axes", 1)??;
    let rank = axes.len() + list.len();
    let added: Vec<usize> = list.iter().map(|at| rule.at(*at, rank)).collect::<Option<_>>()?;
    let mut old = axes.iter();
    let result = (0..rank).map(|at| {
        if added.contains(&at) {
            Some(Axis::Fixed)
        } else {
            old.next().copied()
        }
    });
    let result = result.collect::<Option<Vec<_>>>()?;
    rule.set(0, result);
    Some(())
}

/// An axis of size 1 that is expanded has elements of its own, if the target can be changed.
pub(super) fn expand(rule: &mut Rule<'_>) -> Option<()> {
    let (axes, x, y) = (
        rule.axes(0)?,
        rule.shape(0)?.clone(),
        rule.output_shape(0)?.clone(),
    );
    let target = rule.value(1)?;
    let entries = rule.graph.ty(target).fixed_shape()?.first().copied().unwrap_or(0) as usize;
    let writable = sizes::expand_target(&x, &y, &|_| None).is_some();
    let mut result = Axes::from_elem(Axis::Fixed, y.len());
    for at in 0..y.len() {
        let from = (at + x.len()).checked_sub(y.len());
        let settable = writable
            || (at + entries)
                .checked_sub(y.len())
                .is_none_or(|entry| sizes::settable(rule, 1, entry));
        let size = y[at].fixed().and_then(|size| usize::try_from(size).ok());
        result[at] = match (from, size) {
            (Some(from), _) if x[from].fixed() != Some(1) => {
                if !settable {
                    rule.pin(0, from, "the target shape is computed at run time");
                }
                axes[from]
            }
            (_, Some(size)) if settable => rule.fresh(size),
            _ => Axis::Fixed,
        };
    }
    sizes::tie_entries(rule, 1, &result, 0);
    rule.set(0, result);
    Some(())
}

/// A constant of a size that can be changed.
pub(super) fn constant_of_shape(rule: &mut Rule<'_>) -> Option<()> {
    let y = rule.output_shape(0)?.clone();
    let mut result = Axes::from_elem(Axis::Fixed, y.len());
    for (at, dim) in y.iter().enumerate() {
        let Some(size) = dim.fixed().and_then(|size| usize::try_from(size).ok()) else {
            continue;
        };
        if sizes::settable(rule, 0, at) {
            result[at] = rule.fresh(size);
        }
    }
    sizes::tie_entries(rule, 0, &result, 0);
    rule.set(0, result);
    Some(())
}

/// Constant repeats.
pub(super) fn tile(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    if rule.inputs.len() != 2 {
        return None;
    }
    let repeats = rule.numbers(1)?;
    if repeats.len() != axes.len() {
        return None;
    }
    let mut result = axes.clone();
    for (at, count) in repeats.iter().enumerate() {
        let count = usize::try_from(*count).ok()?;
        if count == 1 {
            continue;
        }
        result[at] = match (axes[at].count(), rule.size(0, at)) {
            (Some(len), Some(size)) if len == size && count > 0 => {
                let whole = rule.fresh(count.saturating_mul(len));
                rule.product(whole, &[(count, Axis::Fixed), (len, axes[at])], 0, at);
                whole
            }
            _ => {
                rule.pin(0, at, "it is repeated");
                Axis::Fixed
            }
        };
    }
    rule.set(0, result);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(sizes: &[i64]) -> Vec<(usize, Dim)> {
        sizes.iter().map(|size| Dim::Fixed(*size)).enumerate().collect()
    }

    #[test]
    fn shapes_are_cut_where_products_agree() {
        let (found, rest) = blocks(&dims(&[2, 768]), &dims(&[2, 12, 64]));
        assert_eq!(found, [((0, 1), (0, 1)), ((1, 2), (1, 3))]);
        assert_eq!(rest, ((2, 2), (3, 3)));
        let (n, s) = (Dim::symbol("N"), Dim::symbol("S"));
        let x = vec![(0, n.clone()), (1, s.clone()), (2, Dim::Fixed(8))];
        let y = vec![(0, n.mul(&s)), (1, Dim::Fixed(2)), (2, Dim::Fixed(4))];
        assert_eq!(blocks(&x, &y).0, [((0, 2), (0, 1)), ((2, 3), (1, 3))]);
        let y = vec![(0, Dim::Unknown), (1, Dim::Fixed(8))];
        let (found, rest) = blocks(&x, &y);
        assert_eq!((found, rest), (vec![((2, 3), (1, 2))], ((0, 2), (0, 1))));
    }

    #[test]
    fn sizes_refine_into_common_factors() {
        let sized = |sizes: &[usize]| sizes.iter().copied().enumerate().collect::<Vec<_>>();
        let refined = |parts: &[usize], per_x: &[usize], per_y: &[usize]| {
            Some(Refined {
                parts: parts.to_vec(),
                per_x: per_x.to_vec(),
                per_y: per_y.to_vec(),
            })
        };
        assert_eq!(
            refine(&sized(&[4, 6]), &sized(&[2, 12])),
            refined(&[2, 2, 6], &[2, 1], &[1, 2])
        );
        assert_eq!(
            refine(&sized(&[768]), &sized(&[12, 64])),
            refined(&[12, 64], &[2], &[1, 1])
        );
        assert_eq!(refine(&sized(&[2, 3]), &sized(&[3, 2])), None);
    }
}
