//! Operators that work element by element: unary, broadcast and variadic ones, casts, and their arithmetic on sizes.

use super::super::call::{Call, Facts, Rule};
use super::super::content;
use super::broadcast;
use crate::ir::{DType, Dim, ShapeContent};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Abs", |c, f| unary(c, f, |a, _| a.max(&a.mul(&Dim::Fixed(-1))))),
    ("Add", |c, f| binary(c, f, |a, b, _| a.add(b))),
    ("And", |c, f| binary(c, f, |a, b, _| logical(a, b, |a, b| a && b))),
    ("Bernoulli", random_like),
    ("BitCast", cast_shape),
    ("BitShift", binary_shape),
    ("BitwiseAnd", binary_shape),
    ("BitwiseOr", binary_shape),
    ("BitwiseXor", binary_shape),
    ("Cast", cast),
    ("CastLike", cast),
    ("Ceil", |c, f| unary(c, f, |a, _| a.clone())),
    ("Clip", clip),
    ("CumProd", same_shape),
    ("CumSum", same_shape),
    ("Div", |c, f| binary(c, f, divide)),
    ("Dropout", dropout),
    ("Equal", |c, f| {
        binary(c, f, |a, b, _| truth(a.same(b), a.differs(b)))
    }),
    ("Floor", |c, f| unary(c, f, |a, _| a.clone())),
    ("Greater", |c, f| binary(c, f, |a, b, _| order(a, b, 1))),
    ("GreaterOrEqual", |c, f| binary(c, f, |a, b, _| order(a, b, 0))),
    ("Identity", identity),
    ("Less", |c, f| binary(c, f, |a, b, _| order(b, a, 1))),
    ("LessOrEqual", |c, f| binary(c, f, |a, b, _| order(b, a, 0))),
    ("Max", |c, f| variadic(c, f, Dim::max)),
    ("Mean", |c, f| variadic(c, f, |_, _| Dim::Unknown)),
    ("Min", |c, f| variadic(c, f, Dim::min)),
    ("Mod", |c, f| {
        binary(
            c,
            f,
            if c.int_or("fmod", 0) == 0 {
                floored_modulo
            } else {
                truncated_modulo
            },
        )
    }),
    ("Mul", |c, f| binary(c, f, |a, b, _| a.mul(b))),
    ("Neg", |c, f| unary(c, f, |a, _| a.mul(&Dim::Fixed(-1)))),
    ("Not", |c, f| {
        unary(c, f, |a, _| {
            a.fixed().map_or(Dim::Unknown, |a| Dim::Fixed(i64::from(a == 0)))
        })
    }),
    ("Or", |c, f| binary(c, f, |a, b, _| logical(a, b, |a, b| a || b))),
    ("PRelu", prelu),
    ("Pow", |c, f| binary(c, f, power)),
    ("RandomNormalLike", random_like),
    ("RandomUniformLike", random_like),
    ("Relu", |c, f| unary(c, f, |a, _| a.max(&Dim::Fixed(0)))),
    ("Round", |c, f| unary(c, f, |a, _| a.clone())),
    ("Sub", |c, f| binary(c, f, |a, b, _| a.sub(b))),
    ("Sum", |c, f| variadic(c, f, Dim::add)),
    ("SwiGLU", same_shape),
    ("Where", select),
    ("Xor", |c, f| binary(c, f, |a, b, _| logical(a, b, |a, b| a != b))),
];

/// Output 0 has the shape of input 0.
pub(super) fn same_shape(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.shape(0, call.shape(0)?.iter().cloned());
    Some(())
}

/// The shape of the first operand, by ONNX's law. A wider slope stretches it in ONNX Runtime.
fn prelu(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let (x, slope) = (call.shape(0)?, call.shape(1));
    let wider = slope.is_some_and(|slope| {
        let mut aligned = slope.iter().rev().zip(x.iter().rev());
        slope.len() > x.len() || aligned.any(|(a, b)| b.fixed() == Some(1) && a.fixed() != Some(1))
    });
    if !wider {
        return same_shape(call, facts);
    }
    facts.shape(0, broadcast::inputs(call, 0, 2)?);
    Some(())
}

/// Whether a type carries sizes exactly.
fn carries_sizes(dtype: DType) -> bool {
    dtype.is_integer() || matches!(dtype, DType::Bool | DType::F32 | DType::F64)
}

/// The element, if a tensor of this type holds it exactly. Sizes given by symbols fit 32 bits and, as floats, 24.
pub(super) fn fitting(element: Dim, dtype: DType) -> Dim {
    let fits = match (&element, dtype) {
        (Dim::Unknown, _) => false,
        (Dim::Fixed(value), DType::F32 | DType::F64) => value.unsigned_abs() <= 1 << 24,
        (Dim::Fixed(value), DType::Bool) => (0..=1).contains(value),
        (Dim::Fixed(value), _) => dtype
            .integer_range()
            .is_some_and(|(low, high)| (low..=high).contains(&i128::from(*value))),
        (Dim::Expr(_), _) => matches!(dtype, DType::I64 | DType::I32 | DType::F32 | DType::F64),
    };
    if fits { element } else { Dim::Unknown }
}

fn unary(call: &Call<'_>, facts: &mut Facts, of: fn(&Dim, DType) -> Dim) -> Option<()> {
    same_shape(call, facts)?;
    if call.rank(0)? > 1 {
        return None;
    }
    let dtype = call.dtype(0).filter(|dtype| carries_sizes(*dtype))?;
    let sizes = call.sizes(0)?;
    let elements = sizes
        .elements
        .iter()
        .map(|a| fitting(of(a, dtype), dtype))
        .collect();
    facts.content(
        0,
        ShapeContent {
            scalar: sizes.scalar,
            elements,
        },
    );
    Some(())
}

fn binary_shape(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    // Before opset 7 the second operand is stretched to the first on request, and never the other way round.
    if call
        .schema
        .is_some_and(|schema| schema.attribute("broadcast").is_some())
    {
        return same_shape(call, facts);
    }
    facts.shape(0, broadcast::inputs(call, 0, 2)?);
    Some(())
}

fn binary(call: &Call<'_>, facts: &mut Facts, of: fn(&Dim, &Dim, DType) -> Dim) -> Option<()> {
    binary_shape(call, facts)?;
    let dtype = call.dtype(0).filter(|dtype| carries_sizes(*dtype))?;
    let result = call
        .schema
        .and_then(|schema| schema.type_set(schema.output(0)?.ty)?.only_dtype())
        .unwrap_or(dtype);
    combined(call, facts, &[0, 1], &mut |elements| match elements {
        [a, b] => fitting(of(a, b, dtype), result),
        _ => Dim::Unknown,
    })
}

fn variadic(call: &Call<'_>, facts: &mut Facts, of: fn(&Dim, &Dim) -> Dim) -> Option<()> {
    if call.schema.is_some_and(|schema| schema.since < 8) {
        return same_shape(call, facts);
    }
    facts.shape(0, broadcast::inputs(call, 0, call.inputs.len())?);
    let dtype = call.dtype(0).filter(|dtype| carries_sizes(*dtype))?;
    let inputs: Vec<usize> = (0..call.inputs.len()).collect();
    combined(
        call,
        facts,
        &inputs,
        &mut |elements| match elements.split_first() {
            Some((first, rest)) => fitting(rest.iter().fold((*first).clone(), |a, b| of(&a, b)), dtype),
            None => Dim::Unknown,
        },
    )
}

/// Sets the content of output 0 from the broadcast elements of the inputs, where all are listed.
fn combined(
    call: &Call<'_>,
    facts: &mut Facts,
    inputs: &[usize],
    of: &mut dyn FnMut(&[&Dim]) -> Dim,
) -> Option<()> {
    if inputs
        .iter()
        .any(|input| call.rank(*input).is_none_or(|rank| rank > 1))
    {
        return None;
    }
    let sizes: Vec<_> = inputs
        .iter()
        .map(|input| call.sizes(*input))
        .collect::<Option<_>>()?;
    let length = sizes
        .iter()
        .map(|s| s.elements.len())
        .find(|length| *length != 1)
        .unwrap_or(1);
    if sizes
        .iter()
        .any(|s| s.elements.len() != 1 && s.elements.len() != length)
    {
        return None;
    }
    let mut elements = Vec::with_capacity(length);
    for index in 0..length {
        let row: Vec<&Dim> = sizes
            .iter()
            .filter_map(|s| s.elements.get(if s.elements.len() == 1 { 0 } else { index }))
            .collect();
        elements.push(of(&row));
    }
    facts.content(
        0,
        ShapeContent {
            scalar: sizes.iter().all(|s| s.scalar),
            elements,
        },
    );
    Some(())
}

fn truth(yes: bool, no: bool) -> Dim {
    match (yes, no) {
        (true, _) => Dim::Fixed(1),
        (_, true) => Dim::Fixed(0),
        _ => Dim::Unknown,
    }
}

/// Whether a - b is at least `by`.
fn order(a: &Dim, b: &Dim, by: i64) -> Dim {
    truth(a.sub(b).at_least(by), b.sub(a).at_least(1 - by))
}

fn logical(a: &Dim, b: &Dim, of: fn(bool, bool) -> bool) -> Dim {
    match (a.fixed(), b.fixed()) {
        (Some(a), Some(b)) => Dim::Fixed(i64::from(of(a != 0, b != 0))),
        _ => Dim::Unknown,
    }
}

/// Integer division truncates towards zero; a quotient of floats is only kept when it is an integer.
fn divide(a: &Dim, b: &Dim, dtype: DType) -> Dim {
    match (a, b) {
        (Dim::Fixed(_), Dim::Fixed(0)) => Dim::Unknown,
        (Dim::Fixed(a), Dim::Fixed(b)) if dtype.is_integer() => {
            a.checked_div(*b).map_or(Dim::Unknown, Dim::Fixed)
        }
        (Dim::Fixed(a), Dim::Fixed(b)) if a.checked_rem(*b) == Some(0) => Dim::Fixed(a / b),
        _ if dtype.is_integer() && a.at_least(0) => a.floor_div(b),
        _ => a.exact_div(b).unwrap_or(Dim::Unknown),
    }
}

/// The remainder with the sign of the divisor.
fn floored_modulo(a: &Dim, b: &Dim, _: DType) -> Dim {
    if b.at_least(1) { a.modulo(b) } else { Dim::Unknown }
}

/// The remainder with the sign of the dividend: the same where neither is negative.
fn truncated_modulo(a: &Dim, b: &Dim, dtype: DType) -> Dim {
    if a.at_least(0) {
        floored_modulo(a, b, dtype)
    } else {
        Dim::Unknown
    }
}

fn power(a: &Dim, b: &Dim, _: DType) -> Dim {
    match b.fixed() {
        Some(exponent @ 0..=8) => (0..exponent).fold(Dim::Fixed(1), |product, _| product.mul(a)),
        _ => Dim::Unknown,
    }
}

fn identity(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.whole(0, call.ty(0)?.clone());
    let (_, elements) = call.listed(0)?;
    facts.content(0, content::of_shape(call.shape(0)?, elements.into_owned())?);
    Some(())
}

fn cast_shape(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(
        0,
        call.int("to")
            .and_then(|to| DType::from_onnx(i32::try_from(to).ok()?)),
    );
    same_shape(call, facts)
}

fn cast(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let dtype = match call.int("to") {
        Some(to) => i32::try_from(to).ok().and_then(DType::from_onnx),
        // Before opset 6 `to` is the type's name.
        None if call.operator.op_type == "Cast" => call
            .operator
            .string("to")
            .and_then(|name| DType::from_name(&name.to_lowercase())),
        None => call.dtype(1),
    };
    facts.dtype(0, dtype);
    same_shape(call, facts)?;
    let dtype = dtype.filter(|dtype| carries_sizes(*dtype))?;
    if !carries_sizes(call.dtype(0)?) {
        return None;
    }
    let (_, elements) = call.listed(0)?;
    let convert = |element: &Dim| match (element, dtype) {
        (Dim::Fixed(value), DType::Bool) => Dim::Fixed(i64::from(*value != 0)),
        (element, DType::Bool) if element.at_least(1) => Dim::Fixed(1),
        (element, dtype) => fitting(element.clone(), dtype),
    };
    let converted = elements.iter().map(convert).collect();
    facts.content(0, content::of_shape(call.shape(0)?, converted)?);
    Some(())
}

fn clip(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    same_shape(call, facts)?;
    if call.rank(0)? > 1 || !call.dtype(0).is_some_and(|dtype| dtype.is_integer()) {
        return None;
    }
    let sizes = call.sizes(0)?;
    let bound = |input: usize| {
        if call.has(input) {
            call.single(input).map(Some)
        } else {
            Some(None)
        }
    };
    let (low, high) = (bound(1)?, bound(2)?);
    let elements = sizes.elements.iter().map(|element| {
        let raised = low
            .as_ref()
            .map_or_else(|| element.clone(), |low| element.max(low));
        high.as_ref()
            .map_or_else(|| raised.clone(), |high| raised.min(high))
    });
    facts.content(
        0,
        ShapeContent {
            scalar: sizes.scalar,
            elements: elements.collect(),
        },
    );
    Some(())
}

fn dropout(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.shape(0, call.shape(0)?.iter().cloned());
    facts.shape(1, call.shape(0)?.iter().cloned());
    Some(())
}

/// Element type from the attribute `dtype`, by default that of the input.
fn random_like(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    match call.int("dtype") {
        Some(dtype) => facts.dtype(0, i32::try_from(dtype).ok().and_then(DType::from_onnx)),
        None => facts.dtype(0, call.dtype(0)),
    }
    same_shape(call, facts)
}

fn select(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.shape(0, broadcast::inputs(call, 0, 3)?);
    let dtype = call
        .dtype(1)
        .or_else(|| call.dtype(2))
        .filter(|dtype| carries_sizes(*dtype))?;
    combined(call, facts, &[0, 1, 2], &mut |elements| match elements {
        [condition, a, b] => match condition.fixed() {
            Some(0) => fitting((*b).clone(), dtype),
            Some(_) => fitting((*a).clone(), dtype),
            None if a.same(b) => fitting((*a).clone(), dtype),
            None => Dim::Unknown,
        },
        _ => Dim::Unknown,
    })
}
