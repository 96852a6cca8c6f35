//! Rearranging and reducing [`Var`]s in the form that the model's opset has for it.

use super::emit::{Emitter, Fault, Var, shown};
use crate::ir::{Dim, Operator, Shape};

impl<'e> Var<'e> {
    /// The same elements in another shape.
    pub(super) fn reshape(&self, dims: &[Dim]) -> Var<'e> {
        if dims.len() == self.rank() && dims.iter().zip(&self.shape).all(|(a, b)| a.same(b)) {
            return self.clone();
        }
        // 0 keeps the axis of the same index, -1 is what remains; with two other sizes unknown they are read at run time.
        let mut target = Vec::with_capacity(dims.len());
        let mut open = 0;
        for (axis, dim) in dims.iter().enumerate() {
            target.push(match dim {
                Dim::Fixed(size) => *size,
                dim if dim.same(&self.dim(axis)) => 0,
                _ => {
                    open += 1;
                    -1
                }
            });
        }
        let empty = dims.contains(&Dim::Fixed(0));
        let target = if open <= 1 && !empty {
            self.e.ints(&target)
        } else {
            self.e.sizes(dims)
        };
        self.e.one(
            Operator::new("Reshape"),
            &[self, &target],
            self.dtype,
            dims.iter().cloned(),
        )
    }

    /// The same elements in the shape of another var of the same size.
    pub(super) fn reshape_like(&self, other: &Var<'e>) -> Var<'e> {
        self.reshape(&other.shape)
    }

    /// Inserts axes of size 1; `axes` count in the result and ascend.
    pub(super) fn unsqueeze(&self, axes: &[usize]) -> Var<'e> {
        if axes.is_empty() {
            return self.clone();
        }
        let mut shape: Shape = self.shape.clone();
        for axis in axes {
            shape.insert((*axis).min(shape.len()), Dim::Fixed(1));
        }
        self.with_axes("Unsqueeze", axes, 13, shape)
    }

    /// Drops axes of size 1.
    pub(super) fn squeeze(&self, axes: &[usize]) -> Var<'e> {
        if axes.is_empty() {
            return self.clone();
        }
        let kept = self
            .shape
            .iter()
            .enumerate()
            .filter(|(axis, _)| !axes.contains(axis))
            .map(|(_, dim)| dim.clone());
        self.with_axes("Squeeze", axes, 13, kept.collect())
    }

    fn with_axes(&self, operator: &str, axes: &[usize], input_since: i64, shape: Shape) -> Var<'e> {
        let axes: Vec<i64> = axes.iter().map(|axis| *axis as i64).collect();
        if self.e.opset >= input_since {
            return self.e.one(
                Operator::new(operator),
                &[self, &self.e.ints(&axes)],
                self.dtype,
                shape,
            );
        }
        self.e.one(
            Operator::new(operator).with("axes", axes),
            &[self],
            self.dtype,
            shape,
        )
    }

    /// Axes in another order: axis `i` of the result is axis `order[i]`.
    pub(super) fn transpose(&self, order: &[usize]) -> Var<'e> {
        if order.iter().enumerate().all(|(to, from)| to == *from) {
            return self.clone();
        }
        let shape: Shape = order.iter().map(|axis| self.dim(*axis)).collect();
        let order: Vec<i64> = order.iter().map(|axis| *axis as i64).collect();
        self.e.one(
            Operator::new("Transpose").with("perm", order),
            &[self],
            self.dtype,
            shape,
        )
    }

    /// Two axes exchanged.
    pub(super) fn swap(&self, a: usize, b: usize) -> Var<'e> {
        let mut order: Vec<usize> = (0..self.rank()).collect();
        order.swap(a, b);
        self.transpose(&order)
    }

    /// The last two axes exchanged.
    pub(super) fn transposed(&self) -> Var<'e> {
        match self.rank() {
            0 | 1 => self.clone(),
            rank => self.swap(rank - 2, rank - 1),
        }
    }

    /// Broadcasts to a shape.
    pub(super) fn expand(&self, dims: &[Dim]) -> Var<'e> {
        if dims.len() == self.rank() && dims.iter().zip(&self.shape).all(|(a, b)| a.same(b)) {
            return self.clone();
        }
        let target = self.e.sizes(dims);
        self.e.one(
            Operator::new("Expand"),
            &[self, &target],
            self.dtype,
            dims.iter().cloned(),
        )
    }

    /// Broadcasts to the shape of another var.
    pub(super) fn expand_like(&self, other: &Var<'e>) -> Var<'e> {
        if other.rank() == self.rank() && self.shape.iter().zip(&other.shape).all(|(a, b)| a.same(b)) {
            return self.clone();
        }
        let target = other.shape_vector();
        self.e.one(
            Operator::new("Expand"),
            &[self, &target],
            self.dtype,
            other.shape.iter().cloned(),
        )
    }

    /// Reduces over `axes`, which stay as axes of size 1.
    pub(super) fn reduce(&self, operator: &str, axes: &[usize]) -> Var<'e> {
        if axes.is_empty() {
            return self.clone();
        }
        let shape: Shape = self
            .shape
            .iter()
            .enumerate()
            .map(|(axis, dim)| {
                if axes.contains(&axis) {
                    Dim::Fixed(1)
                } else {
                    dim.clone()
                }
            })
            .collect();
        let axes: Vec<i64> = axes.iter().map(|axis| *axis as i64).collect();
        let input_since = if operator == "ReduceSum" { 13 } else { 18 };
        let operator = Operator::new(operator);
        if self.e.opset >= input_since {
            let operator = operator.with("keepdims", 1i64);
            return self
                .e
                .one(operator, &[self, &self.e.ints(&axes)], self.dtype, shape);
        }
        self.e.one(
            operator.with("axes", axes).with("keepdims", 1i64),
            &[self],
            self.dtype,
            shape,
        )
    }

    /// The sum over `axes`, which stay as axes of size 1.
    pub(super) fn total(&self, axes: &[usize]) -> Var<'e> {
        self.reduce("ReduceSum", axes)
    }

    /// The mean over `axes`, which stay as axes of size 1.
    pub(super) fn mean(&self, axes: &[usize]) -> Var<'e> {
        self.reduce("ReduceMean", axes)
    }

    /// The sum over `axes`, which are dropped.
    pub(super) fn total_dropped(&self, axes: &[usize]) -> Var<'e> {
        self.total(axes).squeeze(axes)
    }

    /// The sum over whatever broadcasting spread `target` over, in the shape of `target`. `others` are the operands that it
    /// was broadcast against.
    pub(super) fn unbroadcast(&self, target: &Var<'e>, others: &[&Var<'e>]) -> Var<'e> {
        let lead = self.rank().saturating_sub(target.rank());
        let mut axes: Vec<usize> = (0..lead).collect();
        for (axis, dim) in target.shape.iter().enumerate() {
            let from_end = target.rank() - axis;
            let beside = |other: &&Var<'e>| match other.rank().checked_sub(from_end) {
                Some(at) => other.dim(at),
                None => Dim::Fixed(1),
            };
            let spread = match dim {
                Dim::Fixed(1) => !self.dim(lead + axis).same(&Dim::Fixed(1)),
                Dim::Fixed(_) => false,
                dim => {
                    let clear = others
                        .iter()
                        .map(beside)
                        .all(|other| other == Dim::Fixed(1) || other.same(dim));
                    if !clear {
                        let shapes: Vec<String> = others.iter().map(|other| shown(&other.shape)).collect();
                        self.e.fault(Fault::Symbolic(format!(
                            "axis {axis} of {} beside {}",
                            shown(&target.shape),
                            shapes.join(" and ")
                        )));
                    }
                    false
                }
            };
            if spread {
                axes.push(lead + axis);
            }
        }
        let reduced = self.total(&axes);
        let dropped: Vec<usize> = (0..lead).collect();
        let mut result = reduced.squeeze(&dropped);
        result.shape = target.shape.clone();
        result
    }

    /// Elements `start..end` by `step` of one axis, which must lie inside; `step` is positive.
    pub(super) fn slice(&self, axis: usize, start: i64, end: i64, step: i64) -> Var<'e> {
        if start == 0 && step == 1 && self.dim(axis).same(&Dim::Fixed(end)) {
            return self.clone();
        }
        let count = (end - start + step - 1).div_euclid(step).max(0);
        let mut shape = self.shape.clone();
        if let Some(dim) = shape.get_mut(axis) {
            *dim = Dim::Fixed(count);
        }
        let (e, axis) = (self.e, axis as i64);
        if e.opset >= 10 {
            let (starts, ends, axes) = (e.ints(&[start]), e.ints(&[end]), e.ints(&[axis]));
            if step == 1 {
                return e.one(
                    Operator::new("Slice"),
                    &[self, &starts, &ends, &axes],
                    self.dtype,
                    shape,
                );
            }
            let steps = e.ints(&[step]);
            return e.one(
                Operator::new("Slice"),
                &[self, &starts, &ends, &axes, &steps],
                self.dtype,
                shape,
            );
        }
        if step == 1 {
            let operator = Operator::new("Slice")
                .with("axes", vec![axis])
                .with("starts", vec![start])
                .with("ends", vec![end]);
            return e.one(operator, &[self], self.dtype, shape);
        }
        let indices: Vec<i64> = (0..count).map(|index| start + index * step).collect();
        self.take(axis as usize, &indices)
    }

    /// Elements of one axis in the order of `indices`.
    pub(super) fn take(&self, axis: usize, indices: &[i64]) -> Var<'e> {
        let mut shape = self.shape.clone();
        if let Some(dim) = shape.get_mut(axis) {
            *dim = Dim::Fixed(indices.len() as i64);
        }
        let operator = Operator::new("Gather").with("axis", axis as i64);
        self.e
            .one(operator, &[self, &self.e.ints(indices)], self.dtype, shape)
    }

    /// Pads with a number; `pads` holds what comes before and after each axis and is not negative.
    pub(super) fn pad(&self, before: &[i64], after: &[i64], value: f64) -> Var<'e> {
        if before.iter().chain(after).all(|pad| *pad == 0) {
            return self.clone();
        }
        let widened = self
            .shape
            .iter()
            .zip(before.iter().zip(after))
            .map(|(dim, (b, a))| dim.add(&Dim::Fixed(b + a)));
        let shape: Shape = widened.collect();
        let pads: Vec<i64> = before.iter().chain(after).copied().collect();
        let e = self.e;
        if e.opset >= 11 {
            return e.one(
                Operator::new("Pad"),
                &[self, &e.ints(&pads), &self.number(value)],
                self.dtype,
                shape,
            );
        }
        e.one(
            Operator::new("Pad")
                .with("pads", pads)
                .with("value", value as f32),
            &[self],
            self.dtype,
            shape,
        )
    }

    /// Pads one axis with zeros.
    pub(super) fn pad_axis(&self, axis: usize, before: i64, after: i64) -> Var<'e> {
        let at = |amount: i64| {
            (0..self.rank())
                .map(|a| if a == axis { amount } else { 0 })
                .collect::<Vec<_>>()
        };
        self.pad(&at(before), &at(after), 0.0)
    }

    /// Crops or pads with zeros at the end, so that the axes from `first` on get these sizes.
    pub(super) fn fit(&self, first: usize, sizes: &[i64]) -> Var<'e> {
        let mut result = self.clone();
        let mut after = vec![0; self.rank()];
        for (at, size) in sizes.iter().enumerate() {
            let axis = first + at;
            let found = result.fixed(axis);
            if found > *size {
                result = result.slice(axis, 0, *size, 1);
            } else if let Some(pad) = after.get_mut(axis) {
                *pad = size - found;
            }
        }
        let before = vec![0; self.rank()];
        result.pad(&before, &after, 0.0)
    }

    /// Parts of one axis with these sizes.
    pub(super) fn split(&self, axis: usize, sizes: &[i64]) -> Vec<Var<'e>> {
        if sizes.len() == 1 {
            return vec![self.clone()];
        }
        let outputs = sizes
            .iter()
            .map(|size| {
                let mut shape = self.shape.clone();
                if let Some(dim) = shape.get_mut(axis) {
                    *dim = Dim::Fixed(*size);
                }
                (self.dtype, shape)
            })
            .collect();
        let operator = Operator::new("Split").with("axis", axis as i64);
        if self.e.opset >= 13 {
            return self
                .e
                .emit(operator, &[Some(self), Some(&self.e.ints(sizes))], outputs);
        }
        self.e
            .emit(operator.with("split", sizes.to_vec()), &[Some(self)], outputs)
    }

    /// Zeros in this var's type and shape.
    pub(super) fn zeros_like(&self) -> Var<'e> {
        self.number(0.0).expand_like(self)
    }
}

impl Emitter {
    /// Vars one after the other along an axis.
    pub(super) fn concat<'e>(&'e self, parts: &[Var<'e>], axis: usize) -> Option<Var<'e>> {
        let first = match parts {
            [] => return None,
            [only] => return Some(only.clone()),
            [first, ..] => first,
        };
        let mut shape = first.shape.clone();
        if let Some(dim) = shape.get_mut(axis) {
            *dim = parts
                .iter()
                .fold(Dim::Fixed(0), |sum, part| sum.add(&part.dim(axis)));
        }
        let inputs: Vec<&Var<'e>> = parts.iter().collect();
        Some(self.one(
            Operator::new("Concat").with("axis", axis as i64),
            &inputs,
            first.dtype,
            shape,
        ))
    }
}

/// The axes of a rank that are not in `axes`.
pub(super) fn others(rank: usize, axes: &[usize]) -> Vec<usize> {
    (0..rank).filter(|axis| !axes.contains(axis)).collect()
}

/// An axis counted from the end when negative.
pub(super) fn axis_of(value: i64, rank: usize) -> Option<usize> {
    let at = if value < 0 { value + rank as i64 } else { value };
    (0..rank as i64).contains(&at).then_some(at as usize)
}
