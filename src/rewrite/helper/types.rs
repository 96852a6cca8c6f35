//! Helpers about values of the graph: type, shape.

use crate::ir::{DType, Dim, Shape};

use super::super::value::{Reason, Val};
use super::{Helper, Kind, Scope, argument, int_of, ints_of, normal_axis, truth, unknown, values_of};

/// Rows of the table.
pub(super) const TABLE: &[Helper] = &[
    Helper {
        name: "given",
        arguments: &[("value", Kind::Any)],
        variadic: true,
        result: Kind::Truth,
        docs: "Each optional input or parameter is there.",
        run: |_, a| truth(a.iter().all(|value| !value.is_absent())),
    },
    Helper {
        name: "same_shape",
        arguments: &[("a", Kind::Value), ("b", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "Both shapes are known, and equal for every size of the symbols.",
        run: same_shape,
    },
    Helper {
        name: "same_type",
        arguments: &[("a", Kind::Value), ("b", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "Both element types are known and equal.",
        run: |scope, a| {
            let (left, right) = (scope.ty(argument(a, 0)).dtype(), scope.ty(argument(a, 1)).dtype());
            if left.is_none() || right.is_none() {
                Err(unknown("an element type is unknown"))
            } else {
                truth(left == right)
            }
        },
    },
    Helper {
        name: "shape_known",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "Every dimension is a number.",
        run: |scope, a| truth(scope.ty(argument(a, 0)).fixed_shape().is_some()),
    },
    Helper {
        name: "rank_known",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "The number of dimensions is known.",
        run: |scope, a| truth(scope.ty(argument(a, 0)).rank().is_some()),
    },
    Helper {
        name: "dtype",
        arguments: &[("value", Kind::Value), ("type", Kind::Text)],
        variadic: true,
        result: Kind::Truth,
        docs: "The element type is one of these (names as in ONNX text: `float`, `int64` ...).",
        run: |scope, a| {
            let dtype = scope
                .ty(argument(a, 0))
                .dtype()
                .ok_or(unknown("the element type is unknown"))?;
            truth(
                a.iter()
                    .skip(1)
                    .any(|name| matches!(name, Val::Text(text) if DType::from_name(text) == Some(dtype))),
            )
        },
    },
    Helper {
        name: "floating",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "The element type is `float`, `double`, `float16` or `bfloat16`.",
        run: |scope, a| {
            let dtype = scope
                .ty(argument(a, 0))
                .dtype()
                .ok_or(unknown("the element type is unknown"))?;
            truth(matches!(
                dtype,
                DType::F32 | DType::F64 | DType::F16 | DType::BF16
            ))
        },
    },
    Helper {
        name: "integer",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "The element type is a signed or unsigned integer.",
        run: |scope, a| {
            truth(
                scope
                    .ty(argument(a, 0))
                    .dtype()
                    .ok_or(unknown("the element type is unknown"))?
                    .is_integer(),
            )
        },
    },
    Helper {
        name: "element_type",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Number,
        docs: "The number of the element type, as `Cast` takes it.",
        run: |scope, a| {
            let dtype = scope
                .ty(argument(a, 0))
                .dtype()
                .ok_or(unknown("the element type is unknown"))?;
            Ok(Val::Int(i64::from(dtype.onnx())))
        },
    },
    Helper {
        name: "lossless",
        arguments: &[("from", Kind::Number), ("to", Kind::Number)],
        variadic: false,
        result: Kind::Truth,
        docs: "Every value of the first element type has the same value in the second (numbers as in `Cast`).",
        run: lossless,
    },
    Helper {
        name: "broadcasts_to",
        arguments: &[("a", Kind::Value), ("b", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "Broadcasting `a` with `b` gives the shape of `b`.",
        run: |scope, a| {
            let small = shape(scope, argument(a, 0))?;
            if small.is_empty() {
                return truth(true);
            }
            let large = shape(scope, argument(a, 1))?;
            truth(broadcast(&small, &large).is_some_and(|joined| same_dims(&joined, &large)))
        },
    },
    Helper {
        name: "broadcast_shape",
        arguments: &[("a", Kind::Value), ("b", Kind::Value), ("y", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "Broadcasting `a` with `b` gives the shape of `y`.",
        run: |scope, a| {
            let (left, right) = (shape(scope, argument(a, 0))?, shape(scope, argument(a, 1))?);
            let whole = shape(scope, argument(a, 2))?;
            truth(broadcast(&left, &right).is_some_and(|joined| same_dims(&joined, &whole)))
        },
    },
    Helper {
        name: "per_channel",
        arguments: &[("k", Kind::Value), ("x", Kind::Value), ("axis", Kind::Number)],
        variadic: false,
        result: Kind::Truth,
        docs: "`k` has one element, or broadcasts against `x` along this axis only and has one element per channel; the shape of `x` stays.",
        run: per_channel,
    },
    Helper {
        name: "ones_at",
        arguments: &[("x", Kind::Value), ("axes", Kind::List)],
        variadic: false,
        result: Kind::Truth,
        docs: "Each of these dimensions of `x` is 1.",
        run: |scope, a| {
            let dims = shape(scope, argument(a, 0))?;
            for axis in ints_of(a, 1)? {
                let at = normal_axis(*axis, dims.len())?;
                if dims.get(at) != Some(&Dim::Fixed(1)) {
                    return truth(false);
                }
            }
            truth(true)
        },
    },
    Helper {
        name: "moves_only_ones",
        arguments: &[("permutation", Kind::List), ("x", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "The permutation keeps the order of all dimensions of `x` that are not 1.",
        run: |scope, a| {
            let dims = shape(scope, argument(a, 1))?;
            let moved = ints_of(a, 0)?
                .iter()
                .filter(|at| dims.get(**at as usize) != Some(&Dim::Fixed(1)));
            let moved: Vec<i64> = moved.copied().collect();
            truth(
                moved
                    .windows(2)
                    .all(|pair| matches!(pair, [first, second] if first < second)),
            )
        },
    },
    Helper {
        name: "rank",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Number,
        docs: "Number of dimensions; fails when unknown.",
        run: |scope, a| Ok(Val::Int(shape(scope, argument(a, 0))?.len() as i64)),
    },
    Helper {
        name: "dim",
        arguments: &[("value", Kind::Value), ("axis", Kind::Number)],
        variadic: false,
        result: Kind::Number,
        docs: "One dimension; fails unless it is a number.",
        run: |scope, a| {
            let dims = shape(scope, argument(a, 0))?;
            let at = normal_axis(int_of(a, 1)?, dims.len())?;
            dims.get(at)
                .and_then(Dim::fixed)
                .map(Val::Int)
                .ok_or(unknown("a dimension is no number"))
        },
    },
    Helper {
        name: "shape",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::List,
        docs: "All dimensions; fails unless all are numbers.",
        run: |scope, a| {
            let dims = shape(scope, argument(a, 0))?;
            dims.iter()
                .map(Dim::fixed)
                .collect::<Option<Vec<i64>>>()
                .map(Val::Ints)
                .ok_or(unknown("a dimension is no number"))
        },
    },
    Helper {
        name: "elements",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Number,
        docs: "Number of elements; fails unless every dimension is a number.",
        run: |scope, a| {
            let dims = shape(scope, argument(a, 0))?;
            let product = dims
                .iter()
                .try_fold(1i64, |product, dim| product.checked_mul(dim.fixed()?));
            product.map(Val::Int).ok_or(unknown("a dimension is no number"))
        },
    },
    Helper {
        name: "same_trailing",
        arguments: &[("a", Kind::Value), ("x", Kind::Value), ("count", Kind::Number)],
        variadic: false,
        result: Kind::Truth,
        docs: "The shape of `a` is that of the last `count` dimensions of `x`.",
        run: |scope, a| {
            let (small, large) = (shape(scope, argument(a, 0))?, shape(scope, argument(a, 1))?);
            let count = usize::try_from(int_of(a, 2)?).map_err(|_| unknown("a negative count"))?;
            let tail = large.len().checked_sub(count).and_then(|from| large.get(from..));
            truth(tail.is_some_and(|tail| same_dims(&small, tail)))
        },
    },
    Helper {
        name: "same_dim",
        arguments: &[
            ("a", Kind::Value),
            ("axis", Kind::Number),
            ("b", Kind::Value),
            ("axis", Kind::Number),
        ],
        variadic: false,
        result: Kind::Truth,
        docs: "This dimension of `a` is known to be that dimension of `b`, for every size of the symbols: neither is repeated for the other.",
        run: |scope, a| {
            let (left, right) = (shape(scope, argument(a, 0))?, shape(scope, argument(a, 2))?);
            let (i, j) = (
                normal_axis(int_of(a, 1)?, left.len())?,
                normal_axis(int_of(a, 3)?, right.len())?,
            );
            truth(left.get(i).zip(right.get(j)).is_some_and(|(x, y)| x.same(y)))
        },
    },
    Helper {
        name: "never_empty",
        arguments: &[("x", Kind::Value), ("axes", Kind::List)],
        variadic: false,
        result: Kind::Truth,
        docs: "None of these dimensions of `x` can be 0.",
        run: |scope, a| {
            let dims = shape(scope, argument(a, 0))?;
            for axis in ints_of(a, 1)? {
                let at = normal_axis(*axis, dims.len())?;
                if !dims.get(at).is_some_and(|dim| dim.at_least(1)) {
                    return truth(false);
                }
            }
            truth(true)
        },
    },
    Helper {
        name: "view_shape",
        arguments: &[("x", Kind::Value), ("y", Kind::Value)],
        variadic: false,
        result: Kind::List,
        docs: "The `shape` with which `Reshape` turns `x` into the shape of `y`, at every size of the symbols: numbers, 0 for a symbol that stands at the same place in `x`, and at most one -1, beside dimensions of at least 1 only. Fails if that cannot be said.",
        run: |scope, a| view_shape(scope, a, &[]),
    },
    Helper {
        name: "view_shape_at",
        arguments: &[("x", Kind::Value), ("y", Kind::Value), ("places", Kind::List)],
        variadic: false,
        result: Kind::List,
        docs: "As `view_shape`, for a `Reshape` that has -1 at these places already: there -1 may also stand beside dimensions that can be 0, and nowhere else, because a 0 that was computed takes over a dimension of `x`.",
        run: |scope, a| view_shape(scope, a, ints_of(a, 2)?),
    },
    Helper {
        name: "inferred",
        arguments: &[("shape", Kind::Any)],
        variadic: false,
        result: Kind::List,
        docs: "The places at which a `shape` of `Reshape`, a list or a computed value, has -1.",
        run: inferred,
    },
    Helper {
        name: "element",
        arguments: &[("values", Kind::Values), ("index", Kind::Number)],
        variadic: false,
        result: Kind::Value,
        docs: "One of several values, counted from 0 (or from the end, below 0).",
        run: |_, a| {
            let values = values_of(a, 0)?;
            let at = normal_axis(int_of(a, 1)?, values.len())?;
            values
                .get(at)
                .copied()
                .flatten()
                .map(Val::Value)
                .ok_or(unknown("there is no such value"))
        },
    },
    Helper {
        name: "count",
        arguments: &[("values", Kind::Values)],
        variadic: false,
        result: Kind::Number,
        docs: "How many values a `*name` took.",
        run: |_, a| Ok(Val::Int(values_of(a, 0)?.len() as i64)),
    },
    Helper {
        name: "part",
        arguments: &[
            ("values", Kind::Values),
            ("axis", Kind::Number),
            ("start", Kind::Number),
            ("end", Kind::Number),
        ],
        variadic: false,
        result: Kind::Value,
        docs: "The one of the concatenated values that covers exactly `start` to `end` along the axis; fails if there is none.",
        run: part,
    },
];

pub(super) fn shape(scope: &Scope<'_>, value: &Val) -> Result<Shape, Reason> {
    scope
        .ty(value)
        .shape()
        .cloned()
        .ok_or(unknown("a shape is unknown"))
}

fn same_dims(a: &[Dim], b: &[Dim]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
}

fn same_shape(scope: &Scope<'_>, arguments: &[Val]) -> Result<Val, Reason> {
    if let (Val::Value(a), Val::Value(b)) = (argument(arguments, 0), argument(arguments, 1))
        && a == b
    {
        return truth(true);
    }
    let (a, b) = (
        shape(scope, argument(arguments, 0))?,
        shape(scope, argument(arguments, 1))?,
    );
    truth(same_dims(&a, &b))
}

/// The shape of broadcasting; `None` where it is not certain.
fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Shape> {
    let rank = a.len().max(b.len());
    let one = Dim::Fixed(1);
    let at = |dims: &[Dim], axis: usize| -> Dim {
        (axis + dims.len())
            .checked_sub(rank)
            .and_then(|i| dims.get(i))
            .cloned()
            .unwrap_or(one.clone())
    };
    (0..rank)
        .map(|axis| {
            let (x, y) = (at(a, axis), at(b, axis));
            if x == one || x.same(&y) {
                Some(y)
            } else if y == one || x.at_least(2) {
                // A dimension of at least 2 meets an equal one or 1.
                Some(x)
            } else if y.at_least(2) {
                Some(y)
            } else {
                None
            }
        })
        .collect()
}

fn per_channel(scope: &Scope<'_>, arguments: &[Val]) -> Result<Val, Reason> {
    let small = shape(scope, argument(arguments, 0))?;
    if small.is_empty() {
        return truth(true);
    }
    let large = shape(scope, argument(arguments, 1))?;
    let axis = normal_axis(int_of(arguments, 2)?, large.len())?;
    if small.len() > large.len() {
        return truth(false);
    }
    let shift = large.len() - small.len();
    truth(small.iter().enumerate().all(|(index, dim)| {
        *dim == Dim::Fixed(1)
            || index + shift == axis && large.get(axis).is_some_and(|channels| channels.same(dim))
    }))
}

fn lossless(_: &Scope<'_>, arguments: &[Val]) -> Result<Val, Reason> {
    let dtype =
        |index| int_of(arguments, index).map(|number| i32::try_from(number).ok().and_then(DType::from_onnx));
    let (Some(from), Some(to)) = (dtype(0)?, dtype(1)?) else {
        return Err(unknown("an element type is unknown"));
    };
    if from == to {
        return truth(true);
    }
    if let (Some(a), Some(b)) = (from.integer_range(), to.integer_range()) {
        return truth(b.0 <= a.0 && b.1 >= a.1);
    }
    // Bits of precision and of the exponent range; sub-normal numbers of the narrow type are normal in the wide one.
    let precision = |dtype: DType| match dtype {
        DType::F64 => Some((53, 1023)),
        DType::F32 => Some((24, 127)),
        DType::F16 => Some((11, 15)),
        DType::BF16 => Some((8, 127)),
        _ => None,
    };
    let Some((digits, range)) = precision(to) else {
        return truth(from == DType::Bool && to.is_integer());
    };
    truth(match (precision(from), from.integer_range()) {
        (Some((a, b)), _) => a <= digits && b <= range && !(from == DType::BF16 && to == DType::F16),
        (None, Some((low, high))) => {
            let bits = 128 - low.unsigned_abs().max(high.unsigned_abs()).leading_zeros();
            bits <= digits && bits <= range
        }
        (None, None) => from == DType::Bool,
    })
}

fn view_shape(scope: &Scope<'_>, arguments: &[Val], places: &[i64]) -> Result<Val, Reason> {
    let (from, to) = (
        shape(scope, argument(arguments, 0))?,
        shape(scope, argument(arguments, 1))?,
    );
    let mut free = None;
    let mut target = Vec::with_capacity(to.len());
    for (index, dim) in to.iter().enumerate() {
        target.push(match dim {
            // 0 means "as in x", whatever the opset.
            Dim::Fixed(0) if from.get(index) != Some(&Dim::Fixed(0)) => {
                return Err(unknown("a dimension is 0"));
            }
            Dim::Fixed(number) => *number,
            symbolic if from.get(index).is_some_and(|same| same.same(symbolic)) => 0,
            Dim::Expr(_) if free.is_some() => {
                return Err(unknown("more than one dimension would have to be inferred"));
            }
            Dim::Expr(_) => {
                free = Some(index);
                -1
            }
            Dim::Unknown => return Err(unknown("a dimension is unknown")),
        });
    }
    // Nothing can be inferred for a tensor without elements, unless it is that dimension alone that is 0.
    if free.is_some_and(|free| !places.is_empty() && !places.contains(&(free as i64))) {
        return Err(unknown("another dimension would be inferred than before"));
    }
    if let Some(free) = free
        && places.is_empty()
        && !to
            .iter()
            .enumerate()
            .all(|(index, dim)| index == free || dim.at_least(1))
    {
        return Err(unknown(
            "a dimension would have to be inferred beside one that may be 0",
        ));
    }
    Ok(Val::Ints(target))
}

fn inferred(scope: &Scope<'_>, arguments: &[Val]) -> Result<Val, Reason> {
    let elements: Vec<Dim> = match argument(arguments, 0) {
        Val::Ints(list) => list.iter().copied().map(Dim::Fixed).collect(),
        Val::Value(id) => scope
            .graph
            .value(*id)
            .and_then(|value| value.content.as_deref())
            .map(|content| content.elements.clone())
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    let places = elements
        .iter()
        .enumerate()
        .filter(|(_, dim)| **dim == Dim::Fixed(-1));
    Ok(Val::Ints(places.map(|(place, _)| place as i64).collect()))
}

fn part(scope: &Scope<'_>, arguments: &[Val]) -> Result<Val, Reason> {
    let values = values_of(arguments, 0)?;
    let (axis, start, end) = (
        int_of(arguments, 1)?,
        int_of(arguments, 2)?,
        int_of(arguments, 3)?,
    );
    let mut sizes = Vec::with_capacity(values.len());
    for value in values {
        let value = value.ok_or(unknown("an operand is left out"))?;
        let dims = shape(scope, &Val::Value(value))?;
        let at = normal_axis(axis, dims.len())?;
        sizes.push((
            value,
            dims.get(at)
                .and_then(Dim::fixed)
                .ok_or(unknown("a dimension is no number"))?,
        ));
    }
    let total: i64 = sizes.iter().map(|(_, size)| size).sum();
    let normal = |index: i64| {
        if index < 0 {
            (index + total).max(0)
        } else {
            index.min(total)
        }
    };
    let (start, end) = (
        normal(start),
        if end == 0 && start < 0 { total } else { normal(end) },
    );
    let mut offset = 0;
    for (value, size) in sizes {
        if offset == start && offset + size == end && size > 0 {
            return Ok(Val::Value(value));
        }
        offset += size;
    }
    Err(unknown("no single operand is covered"))
}
