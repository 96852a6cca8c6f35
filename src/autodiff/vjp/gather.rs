//! Operators that pick elements, and those that put them.

use super::super::emit::{Fault, Var, dims};
use super::super::layout::others;
use super::{Call, Grads, Rule, first, only};
use crate::ir::{DType, Dim, Operator, Shape};

pub(super) const RULES: &[Rule] = &[
    first("Gather", gather),
    first("GatherElements", |c| {
        let x = c.x();
        let axis = c.axis(0, x.rank());
        c.answer(put_back(&x, &normal(&c.input(1), x.fixed(axis)), &c.g(), axis))
    }),
    first("GatherND", gather_nd),
    only("ScatterElements", &[0, 2], |c| scatter(c, false)),
    only("ScatterND", &[0, 2], |c| scatter(c, true)),
    first("TopK", |c| {
        let x = c.x();
        let axis = c.axis(-1, x.rank());
        match c.outputs.get(1).cloned().flatten() {
            Some(indices) => c.answer(put_back(&x, &indices, &c.g(), axis)),
            None => c.refuse("its indices are left out"),
        }
    }),
];

/// Up to this many rows a product with one-hot vectors costs less than scattering.
const ONE_HOT_ROWS: i64 = 64;

/// The opset from which scattering can add.
const ADDING_SCATTER: i64 = 16;

/// Indices counted from the start.
fn normal<'e>(indices: &Var<'e>, size: i64) -> Var<'e> {
    let indices = indices.cast(DType::I64);
    if let Some(tensor) = indices.e.tensor(indices.id)
        && tensor
            .to_i64()
            .is_ok_and(|all| all.iter().all(|index| *index >= 0))
    {
        return indices;
    }
    let zero = indices.e.ints(&[0]);
    let shape = indices.shape.clone();
    let mut result = indices
        .less(&zero)
        .choose(&(&indices + indices.e.ints(&[size])), &indices);
    // The vectors of one element only broadcast.
    result.shape = if shape.is_empty() { dims(&[1]) } else { shape };
    result
}

/// x along `axis` at indices of any rank.
fn gather<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, g, indices) = (c.x(), c.g(), c.input(1));
    let axis = c.axis(0, x.rank());
    let size = x.fixed(axis);
    let picked = indices.rank();
    // One constant index: g with zeros around.
    if let Some(index) = c.e.tensor(indices.id).and_then(|tensor| tensor.single_i64()) {
        let index = if index < 0 { index + size } else { index };
        let mut one = x.shape.clone();
        if let Some(dim) = one.get_mut(axis) {
            *dim = Dim::Fixed(1);
        }
        return c.answer(g.reshape(&one).pad_axis(axis, index, size - index - 1));
    }
    // [before, picked..., after] with the picked axes first and flat.
    let count = (axis..axis + picked).fold(Dim::Fixed(1), |product, at| product.mul(&g.dim(at)));
    let order: Vec<usize> = (axis..axis + picked)
        .chain(0..axis)
        .chain(axis + picked..g.rank())
        .collect();
    let kept = others(x.rank(), &[axis]);
    let rest: Shape = kept.iter().map(|axis| x.dim(*axis)).collect();
    let width = rest.iter().fold(Dim::Fixed(1), |product, dim| product.mul(dim));
    let rows = g.transpose(&order).reshape(&[count.clone(), width.clone()]);
    let indices = normal(&indices, size).reshape(&[count.clone(), Dim::Fixed(1)]);
    let sums = if size <= ONE_HOT_ROWS || c.e.opset < ADDING_SCATTER {
        let range = c.e.ints(&(0..size).collect::<Vec<_>>());
        indices.equal(&range).cast(g.dtype).transposed().matmul(&rows)
    } else {
        let places = indices.expand(&[count, width.clone()]);
        let zeros = x.number(0.0).expand(&[Dim::Fixed(size), width.clone()]);
        let operator = Operator::new("ScatterElements")
            .with("axis", 0i64)
            .with("reduction", "add");
        c.e.one(
            operator,
            &[&zeros, &places, &rows],
            x.dtype,
            [Dim::Fixed(size), width],
        )
    };
    let shape: Shape = std::iter::once(Dim::Fixed(size)).chain(rest).collect();
    let mut back: Vec<usize> = (1..x.rank()).collect();
    back.insert(axis.min(back.len()), 0);
    c.answer(sums.reshape(&shape).transpose(&back))
}

/// g added up at `indices` along one axis, in the shape of x; `indices` have g's shape and are not negative.
fn put_back<'e>(x: &Var<'e>, indices: &Var<'e>, g: &Var<'e>, axis: usize) -> Var<'e> {
    let e = x.e;
    if e.opset >= ADDING_SCATTER {
        let operator = Operator::new("ScatterElements")
            .with("axis", axis as i64)
            .with("reduction", "add");
        return e.one(operator, &[&x.zeros_like(), indices, g], x.dtype, x.shape.clone());
    }
    let size = x.fixed(axis);
    let mut range = vec![1; x.rank() + 1];
    if let Some(dim) = range.get_mut(axis) {
        *dim = size;
    }
    let range = e.ints(&(0..size).collect::<Vec<_>>()).reshape(&dims(&range));
    let hit = indices.unsqueeze(&[axis]).equal(&range).cast(g.dtype);
    let sums = (hit * g.unsqueeze(&[axis])).total_dropped(&[axis + 1]);
    // Axes along which only a part of x was picked from.
    let sizes: Vec<i64> = (0..x.rank())
        .map(|at| {
            if x.dim(at).same(&sums.dim(at)) {
                -1
            } else {
                x.fixed(at)
            }
        })
        .collect();
    let mut result = sums;
    for (at, size) in sizes.iter().enumerate().filter(|(_, size)| **size >= 0) {
        let missing = size - result.fixed(at);
        result = result.pad_axis(at, 0, missing);
    }
    result
}

fn gather_nd<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, g, indices) = (c.x(), c.g(), c.input(1));
    if c.int("batch_dims", 0) != 0 {
        return c.refuse("it has batch dimensions");
    }
    if c.e.opset < ADDING_SCATTER {
        return c.refuse("gradients of it need opset 16 or later");
    }
    let operator = Operator::new("ScatterND").with("reduction", "add");
    c.answer(c.e.one(
        operator,
        &[&x.zeros_like(), &indices, &g],
        x.dtype,
        x.shape.clone(),
    ))
}

/// data with updates put at, or added to, the places of indices.
fn scatter<'e>(c: &Call<'e>, tuples: bool) -> Grads<'e> {
    let (g, indices, updates) = (c.g(), c.input(1), c.input(2));
    let axis = if tuples { 0 } else { c.axis(0, g.rank()) };
    let adds = match c.operator.string("reduction").unwrap_or("none") {
        "none" => false,
        "add" => true,
        _ => return c.refuse("its reduction is neither none nor add"),
    };
    let name = if tuples { "ScatterND" } else { "ScatterElements" };
    let with_axis = |operator: Operator| {
        if tuples {
            operator
        } else {
            operator.with("axis", axis as i64)
        }
    };
    let ddata = c.needs(0).then(|| {
        if adds {
            return g.clone();
        }
        c.e.one(
            with_axis(Operator::new(name)),
            &[&g, &indices, &updates.zeros_like()],
            g.dtype,
            g.shape.clone(),
        )
    });
    let dupdates = c.needs(2).then(|| {
        if tuples && c.e.opset < 11 {
            c.e.fault(Fault::Form("gradients of it need opset 11 or later".to_owned()));
        }
        let picker = Operator::new(if tuples { "GatherND" } else { "GatherElements" });
        c.e.one(with_axis(picker), &[&g, &indices], g.dtype, updates.shape.clone())
    });
    vec![ddata, None, dupdates]
}
