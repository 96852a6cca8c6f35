//! Helpers about constants: what they hold, and constants in the form that a replacement needs.

use crate::analysis::linear;
use crate::ir::{AttributeValue, DType, Dim, Tensor};
use crate::ops::is_view;

use super::super::canonical::number_tensor;
use super::super::matcher::filled_with;
use super::super::value::{Reason, Val};
use super::types::shape;
use super::{Helper, Kind, Scope, argument, id_of, int_of, normal_axis, truth, unknown};

/// Elements that a predicate reads at most.
const MOST: u64 = 1 << 24;
/// Operators that a predicate looks through at most.
const MOST_SOURCES: usize = 64;
/// Operators beside views whose results hold elements of their first operand and nothing else.
const MOVES: [&str; 6] = ["Expand", "Gather", "Slice", "Split", "Tile", "Transpose"];

/// Rows of the table.
pub(super) const TABLE: &[Helper] = &[
    Helper {
        name: "constant",
        arguments: &[("value", Kind::Value)],
        variadic: true,
        result: Kind::Truth,
        docs: "Each value is a constant, a captured one included, or an optional input that is left out. A graph input with a default is none.",
        run: |scope, a| {
            truth(
                a.iter()
                    .all(|value| value.is_absent() || scope.tensor(value).is_some()),
            )
        },
    },
    Helper {
        name: "scalar",
        arguments: &[("value", Kind::Value)],
        variadic: true,
        result: Kind::Truth,
        docs: "Each value has exactly one element, whatever its rank.",
        run: |scope, a| {
            for value in a {
                if !shape(scope, value)?.iter().all(|dim| *dim == Dim::Fixed(1)) {
                    return truth(false);
                }
            }
            truth(true)
        },
    },
    Helper {
        name: "value",
        arguments: &[("k", Kind::Constant)],
        variadic: false,
        result: Kind::Number,
        docs: "The one element of a constant.",
        run: |scope, a| {
            let tensor = scope.need_tensor(argument(a, 0))?;
            let found = match tensor.single_i64() {
                Some(value) => Some(Val::Int(value)),
                None => tensor.single_f64().map(Val::Float),
            };
            found.ok_or(unknown("the constant has more than one element"))
        },
    },
    Helper {
        name: "all",
        arguments: &[("k", Kind::Constant), ("number", Kind::Number)],
        variadic: false,
        result: Kind::Truth,
        docs: "Every element of the constant is this number.",
        run: |scope, a| {
            let number = argument(a, 1).number().ok_or(unknown("not a number"))?;
            truth(numbers(scope, argument(a, 0))?.iter().all(|v| *v == number))
        },
    },
    Helper {
        name: "uniform",
        arguments: &[("value", Kind::Value), ("number", Kind::Number)],
        variadic: false,
        result: Kind::Truth,
        docs: "Every element of the value is this number, bit for bit, at every size: it is a constant or a `ConstantOfShape`, or moves, repeats or joins elements of such.",
        run: uniform,
    },
    Helper {
        name: "within",
        arguments: &[
            ("k", Kind::Constant),
            ("low", Kind::Number),
            ("high", Kind::Number),
        ],
        variadic: false,
        result: Kind::Truth,
        docs: "Every element of the constant is at least `low` and at most `high`.",
        run: |scope, a| {
            let (Some(low), Some(high)) = (argument(a, 1).number(), argument(a, 2).number()) else {
                return Err(unknown("not a number"));
            };
            truth(
                numbers(scope, argument(a, 0))?
                    .iter()
                    .all(|v| *v >= low && *v <= high),
            )
        },
    },
    Helper {
        name: "positive",
        arguments: &[("k", Kind::Constant)],
        variadic: true,
        result: Kind::Truth,
        docs: "Every element of each constant is finite and above 0.",
        run: |scope, a| {
            for value in a {
                if !numbers(scope, value)?.iter().all(|v| *v > 0.0 && v.is_finite()) {
                    return truth(false);
                }
            }
            truth(true)
        },
    },
    Helper {
        name: "same_constant",
        arguments: &[("a", Kind::Value), ("b", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "Both are left out, the same value, or constants of equal type, shape and bits.",
        run: |scope, a| {
            let (left, right) = (argument(a, 0), argument(a, 1));
            if left.is_absent() || right.is_absent() {
                return truth(left.is_absent() && right.is_absent());
            }
            if left.same_as(right) {
                return truth(true);
            }
            match (scope.tensor(left), scope.tensor(right)) {
                (Some(x), Some(y)) => truth(x.same_as(&y)),
                _ => truth(false),
            }
        },
    },
    Helper {
        name: "safe_product",
        arguments: &[("a", Kind::Constant), ("b", Kind::Constant)],
        variadic: false,
        result: Kind::Truth,
        docs: "No product of an element of `a` and one of `b` overflows, underflows or loses precision near either; 0 is safe.",
        run: safe_product,
    },
    Helper {
        name: "covers_rows",
        arguments: &[("indices", Kind::Constant), ("x", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "The indices are `[[0], [1], ..., [n-1]]`, n being the first dimension of `x`.",
        run: |scope, a| {
            let indices = scope.need_tensor(argument(a, 0))?;
            let rows = shape(scope, argument(a, 1))?
                .first()
                .and_then(Dim::fixed)
                .ok_or(unknown("a dimension is no number"))?;
            let values = indices
                .to_i64()
                .map_err(|_| unknown("the indices are no integers"))?;
            truth(
                indices.dims() == [rows as u64, 1] && values.iter().enumerate().all(|(i, v)| *v == i as i64),
            )
        },
    },
    Helper {
        name: "content_known",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "Shape analysis knows every element of this tensor of integers or truth values.",
        run: |scope, a| truth(content(scope, argument(a, 0)).is_ok()),
    },
    Helper {
        name: "content",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Constant,
        docs: "The elements that shape analysis knows, as a constant.",
        run: |scope, a| content(scope, argument(a, 0)).map(Val::Tensor),
    },
    Helper {
        name: "along_axis",
        arguments: &[("k", Kind::Constant), ("x", Kind::Value), ("axis", Kind::Number)],
        variadic: false,
        result: Kind::Constant,
        docs: "`k`, of one element or one per channel, in the shape that broadcasts against `x` along this axis: `Reshape` to 1s and one -1.",
        run: along_axis,
    },
    Helper {
        name: "channels",
        arguments: &[("k", Kind::Constant), ("count", Kind::Number)],
        variadic: false,
        result: Kind::Constant,
        docs: "`k` as a vector of `count` elements: flattened, or its one element repeated.",
        run: channels,
    },
    Helper {
        name: "filled",
        arguments: &[
            ("number", Kind::Number),
            ("shape", Kind::List),
            ("like", Kind::Value),
        ],
        variadic: false,
        result: Kind::Constant,
        docs: "A constant of this shape and of the element type of `like`, every element this number.",
        run: |scope, a| {
            let dtype = scope
                .ty(argument(a, 2))
                .dtype()
                .ok_or(unknown("the element type is unknown"))?;
            let dims: Option<Vec<u64>> = super::ints_of(a, 1)?
                .iter()
                .map(|d| u64::try_from(*d).ok())
                .collect();
            let one = number_tensor(argument(a, 0), dtype)
                .ok_or(unknown("the element type does not hold the number"))?;
            repeat(&one, &dims.ok_or(unknown("a dimension is negative"))?)
        },
    },
];

/// Elements as `f64`, for constants of bounded size.
fn numbers(scope: &Scope<'_>, value: &Val) -> Result<Vec<f64>, Reason> {
    let tensor = scope.need_tensor(value)?;
    if tensor.elements() > MOST {
        return Err(unknown("the constant is too large to be looked through"));
    }
    tensor
        .to_f64()
        .map_err(|_| unknown("the constant holds no numbers"))
}

fn uniform(scope: &Scope<'_>, arguments: &[Val]) -> Result<Val, Reason> {
    let graph = scope.graph;
    let holds = |tensor: &Tensor| {
        number_tensor(argument(arguments, 1), tensor.dtype()).is_some_and(|one| filled_with(tensor, &one))
    };
    let mut pending = vec![id_of(arguments, 0)?];
    for _ in 0..MOST_SOURCES {
        let Some(value) = pending.pop() else {
            return truth(true);
        };
        if let Some(tensor) = graph.constant(value) {
            if !holds(tensor) {
                return truth(false);
            }
            continue;
        }
        let Some(operator) = graph.operator(value.node) else {
            return truth(false);
        };
        if operator.is("ConstantOfShape") {
            let fits = match operator.attribute("value") {
                Some(AttributeValue::Tensor(tensor)) => holds(tensor),
                Some(_) => false,
                None => holds(&Tensor::scalar(0f32)),
            };
            if !fits {
                return truth(false);
            }
        } else if operator.domain().is_empty()
            && (is_view(&operator.op_type) || MOVES.contains(&&*operator.op_type))
        {
            pending.push(
                graph
                    .input(value.node, 0)
                    .ok_or(unknown("an operand is left out"))?,
            );
        } else if operator.is("Concat") {
            let parts: Option<Vec<_>> = graph.inputs_of(value.node).into_iter().collect();
            pending.extend(parts.ok_or(unknown("an operand is left out"))?);
        } else {
            return truth(false);
        }
    }
    Err(unknown("the value has too many sources"))
}

fn safe_product(scope: &Scope<'_>, arguments: &[Val]) -> Result<Val, Reason> {
    let dtype = scope.need_tensor(argument(arguments, 0))?.dtype();
    if dtype.is_integer() {
        // Integer products wrap alike in any order.
        return truth(true);
    }
    let (low, high) = match dtype {
        DType::F32 | DType::BF16 => (1e-30, 1e30),
        DType::F64 => (1e-290, 1e290),
        DType::F16 => (1e-3, 1e4),
        _ => return truth(false),
    };
    let bounds = |values: Vec<f64>| {
        let nonzero = values.iter().map(|v| v.abs()).filter(|v| *v != 0.0);
        nonzero.fold((f64::INFINITY, 0.0f64), |(least, most), v| {
            if v.is_nan() {
                (0.0, v)
            } else {
                (least.min(v), most.max(v))
            }
        })
    };
    let (a, b) = (
        bounds(numbers(scope, argument(arguments, 0))?),
        bounds(numbers(scope, argument(arguments, 1))?),
    );
    let inside = |least: f64, most: f64| (least >= low || least == f64::INFINITY) && most <= high;
    truth(inside(a.0, a.1) && inside(b.0, b.1) && inside(a.0 * b.0, a.1 * b.1))
}

fn content(scope: &Scope<'_>, value: &Val) -> Result<Tensor, Reason> {
    let Val::Value(id) = value else {
        return Err(unknown("not a value of the graph"));
    };
    if linear::reads_codes(scope.graph, id.node) {
        return Err(unknown(
            "it reads the codes of a weight, which take less than what they stand for",
        ));
    }
    let found = scope
        .graph
        .value(*id)
        .ok_or(unknown("not a value of the graph"))?;
    found.content_tensor().ok_or(unknown(
        "the content is not known as int64 or int32 numbers or truth values",
    ))
}

fn along_axis(scope: &Scope<'_>, arguments: &[Val]) -> Result<Val, Reason> {
    let tensor = scope.need_tensor(argument(arguments, 0))?;
    let rank = shape(scope, argument(arguments, 1))?.len();
    let axis = normal_axis(int_of(arguments, 2)?, rank)?;
    let mut dims = vec![1u64; rank];
    if let Some(dim) = dims.get_mut(axis) {
        *dim = tensor.elements();
    }
    tensor
        .reshaped(&dims)
        .map(Val::Tensor)
        .map_err(|_| unknown("the constant has another size"))
}

fn channels(scope: &Scope<'_>, arguments: &[Val]) -> Result<Val, Reason> {
    let tensor = scope.need_tensor(argument(arguments, 0))?;
    let count = u64::try_from(int_of(arguments, 1)?).map_err(|_| unknown("a negative count"))?;
    if tensor.elements() == count {
        return tensor
            .reshaped(&[count])
            .map(Val::Tensor)
            .map_err(|_| unknown("the constant has another size"));
    }
    if tensor.elements() != 1 {
        return Err(unknown(
            "the constant has neither one element nor one per channel",
        ));
    }
    repeat(&tensor, &[count])
}

fn repeat(one: &Tensor, dims: &[u64]) -> Result<Val, Reason> {
    let count = dims
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim))
        .filter(|count| *count <= MOST);
    let count = count.ok_or(unknown("the constant would be too large"))?;
    if one.dtype().is_packed() {
        return Err(unknown("the element type is packed"));
    }
    let raw = one.raw().map_err(|_| unknown("the constant holds no numbers"))?;
    Tensor::from_raw(one.dtype(), dims.iter().copied(), raw.repeat(count as usize))
        .map(Val::Tensor)
        .map_err(|_| unknown("the constant has another size"))
}
