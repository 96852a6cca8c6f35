//! Operators that move elements without choosing among them.

use super::super::emit::Var;
use super::{Call, Grads, Rule, all, first, only};
use crate::ir::{Dim, Operator, Shape};

pub(super) const RULES: &[Rule] = &[
    all("Concat", concat),
    first("CumSum", |c| {
        let operator = Operator::new("CumSum")
            .with("exclusive", c.int("exclusive", 0))
            .with("reverse", 1 - c.int("reverse", 0).clamp(0, 1));
        let g = c.g();
        c.answer(c.e.one(operator, &[&g, &c.input(1)], g.dtype, g.shape.clone()))
    }),
    first("DepthToSpace", |c| blocks(c, true)),
    first("Expand", |c| {
        let (x, y) = (c.x(), c.y());
        c.answer(c.g().unbroadcast(&x, &[&y]))
    }),
    first("Flatten", back),
    only("Range", &[0, 2], range),
    first("Reshape", back),
    first("ReverseSequence", |c| {
        let g = c.g();
        c.answer(c.e.one(c.operator.clone(), &[&g, &c.input(1)], g.dtype, g.shape.clone()))
    }),
    first("SpaceToDepth", |c| blocks(c, false)),
    first("Split", |c| {
        let y = (0..c.outputs.len()).find_map(|output| c.outputs.get(output)?.as_ref());
        let axis = c.axis(0, y.map_or(0, Var::rank));
        let parts: Vec<Var<'_>> = (0..c.outputs.len()).map(|output| c.grad(output)).collect();
        c.e.concat(&parts, axis).map(|g| c.answer(g)).unwrap_or_default()
    }),
    first("Squeeze", back),
    first("Tile", tile),
    first("Transpose", |c| {
        let g = c.g();
        let rank = g.rank();
        let order = c.ints("perm").unwrap_or_else(|| (0..rank as i64).rev().collect());
        let mut inverse = vec![0; rank];
        for (to, from) in order.iter().enumerate() {
            if let Some(entry) = usize::try_from(*from).ok().and_then(|from| inverse.get_mut(from)) {
                *entry = to;
            }
        }
        c.answer(g.transpose(&inverse))
    }),
    first("Trilu", |c| {
        let g = c.g();
        let inputs: Vec<Option<&Var<'_>>> = vec![Some(&g), c.optional(1)];
        let kept = if c.optional(1).is_some() { 2 } else { 1 };
        let outputs = c.e.emit(
            c.operator.clone(),
            inputs.get(..kept).unwrap_or_default(),
            vec![(g.dtype, g.shape.clone())],
        );
        outputs.into_iter().map(Some).collect()
    }),
    first("Unsqueeze", back),
];

fn back<'e>(c: &Call<'e>) -> Grads<'e> {
    c.answer(c.g().reshape_like(&c.x()))
}

fn concat<'e>(c: &Call<'e>) -> Grads<'e> {
    let g = c.g();
    let axis = c.axis(1, g.rank());
    let sizes: Vec<i64> = (0..c.inputs.len())
        .map(|slot| c.input(slot).fixed(axis))
        .collect();
    g.split(axis, &sizes).into_iter().map(Some).collect()
}

/// Every axis with repeats becomes two, the outer one of which is summed.
fn tile<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, g) = (c.x(), c.g());
    let Some(repeats) = c.list("repeats", 1) else {
        return c.refuse("its repeats are computed at run time");
    };
    let (mut split, mut summed) = (Shape::new(), Vec::new());
    for (axis, repeat) in repeats.iter().enumerate() {
        if *repeat != 1 {
            summed.push(split.len());
            split.push(Dim::Fixed(*repeat));
        }
        split.push(x.dim(axis));
    }
    c.answer(g.reshape(&split).total_dropped(&summed))
}

/// DepthToSpace and SpaceToDepth are permutations; the gradient goes the other way round.
fn blocks<'e>(c: &Call<'e>, to_space: bool) -> Grads<'e> {
    let (x, g) = (c.x(), c.g());
    let block = c.int("blocksize", 1);
    let depth_first = c.operator.string("mode").unwrap_or("DCR") == "DCR";
    let b = Dim::Fixed(block);
    // The small image has the channels in depth, the large one in blocks.
    let (small, large) = if to_space { (&x, &g) } else { (&g, &x) };
    let (n, channels) = (large.dim(0), large.dim(1));
    let (h, w) = (small.dim(2), small.dim(3));
    let order: [usize; 6];
    let split: [Dim; 6];
    if to_space {
        split = [n, channels, h, b.clone(), w, b];
        order = if depth_first {
            [0, 3, 5, 1, 2, 4]
        } else {
            [0, 1, 3, 5, 2, 4]
        };
    } else if depth_first {
        split = [n, b.clone(), b, channels, h, w];
        order = [0, 3, 4, 1, 5, 2];
    } else {
        split = [n, channels, b.clone(), b, h, w];
        order = [0, 1, 4, 2, 5, 3];
    }
    c.answer(g.reshape(&split).transpose(&order).reshape_like(&x))
}

/// Element i is start + i·delta; the limit only decides how many there are.
fn range<'e>(c: &Call<'e>) -> Grads<'e> {
    let (start, delta, g) = (c.x(), c.input(2), c.g());
    let index = (c.y() - &start) / &delta;
    let total = |var: Var<'e>, like: &Var<'e>| var.total_dropped(&[0]).reshape_like(like);
    let dstart = c.needs(0).then(|| total(g.clone(), &start));
    vec![dstart, None, c.needs(2).then(|| total(&g * index, &delta))]
}
