//! Operators that make tensors from sizes: constants, ranges, random tensors, and sizes from tensors.

use super::super::call::{Call, Facts, Rule, product};
use super::super::content;
use crate::ir::{AttributeValue, DType, Dim, Tensor, ValueType, tensor_type};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
    ("EyeLike", eye_like),
    ("Multinomial", multinomial),
    ("RandomNormal", random),
    ("RandomUniform", random),
    ("Range", range),
    ("Shape", shape),
    ("Size", size),
];

/// Most elements of a filled or counted vector that are listed.
const MAX_LISTED: i64 = 1024;

fn dtype_attribute(call: &Call<'_>) -> Option<DType> {
    i32::try_from(call.int("dtype")?).ok().and_then(DType::from_onnx)
}

/// A Constant that is still an operator.
fn constant(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let mut set = |tensor: &Tensor| {
        facts.whole(0, tensor_type(tensor));
        if let Some(content) = content::of_tensor(tensor) {
            facts.content(0, content);
        }
    };
    for attribute in call.operator.attributes() {
        match (&*attribute.name, &attribute.value) {
            ("value", AttributeValue::Tensor(tensor)) => set(tensor),
            ("value_int", AttributeValue::Int(value)) => set(&Tensor::scalar(*value)),
            ("value_float", AttributeValue::Float(value)) => set(&Tensor::scalar(*value)),
            ("value_ints", AttributeValue::Ints(values)) => set(&Tensor::vector_i64(values)),
            ("value_floats", AttributeValue::Floats(values)) => {
                facts.whole(
                    0,
                    ValueType::tensor(
                        DType::F32,
                        Some([Dim::Fixed(values.len() as i64)].into_iter().collect()),
                    ),
                );
                return Some(());
            }
            ("value_string", AttributeValue::String(_)) => {
                facts.whole(
                    0,
                    ValueType::tensor(DType::String, Some([].into_iter().collect())),
                );
                return Some(());
            }
            ("value_strings", AttributeValue::Strings(values)) => {
                facts.whole(
                    0,
                    ValueType::tensor(
                        DType::String,
                        Some([Dim::Fixed(values.len() as i64)].into_iter().collect()),
                    ),
                );
                return Some(());
            }
            ("sparse_value", AttributeValue::Sparse(sparse)) => {
                let dtype = sparse
                    .values
                    .as_ref()
                    .and_then(|values| DType::from_onnx(values.data_type?));
                facts.dtype(0, dtype);
                facts.shape(0, sparse.dims.iter().copied().map(Dim::Fixed));
                return Some(());
            }
            _ => {}
        }
    }
    Some(())
}

fn constant_of_shape(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let value = call.operator.tensor("value");
    facts.dtype(0, Some(value.map_or(DType::F32, Tensor::dtype)));
    let Some(sizes) = call.sizes(0) else {
        // The rank is the length of the input.
        if let Some(rank @ 0..=64) = call.dim(0, 0).fixed() {
            facts.shape(0, vec![Dim::Unknown; rank as usize]);
        }
        return None;
    };
    facts.shape(0, sizes.elements.iter().cloned());
    let fill = match value {
        Some(value) => content::of_tensor(&value.reshaped(&[1]).ok()?)?.elements.pop()?,
        None => Dim::Fixed(0),
    };
    match sizes.elements.as_slice() {
        [] => facts.content(0, content::scalar(fill)),
        [Dim::Fixed(count @ 0..=MAX_LISTED)] => {
            facts.content(0, content::vector(vec![fill; *count as usize]))
        }
        _ => {}
    }
    Some(())
}

fn eye_like(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, dtype_attribute(call).or_else(|| call.dtype(0)));
    facts.shape(0, call.shape(0)?.iter().cloned());
    Some(())
}

fn multinomial(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, Some(dtype_attribute(call).unwrap_or(DType::I32)));
    facts.shape(0, [call.dim(0, 0), Dim::Fixed(call.int_or("sample_size", 1))]);
    Some(())
}

fn random(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, Some(dtype_attribute(call).unwrap_or(DType::F32)));
    facts.shape(0, call.ints("shape")?.iter().copied().map(Dim::Fixed));
    Some(())
}

fn range(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.shape(0, [Dim::Unknown]);
    if call.dtype(0).is_some_and(DType::is_float) {
        let number = |input: usize| call.tensor(input)?.single_f64();
        let (start, limit, delta) = (number(0)?, number(1)?, number(2)?);
        let count = ((limit - start) / delta).ceil().max(0.0);
        if count.is_finite() && count < 9e15 {
            facts.shape(0, [Dim::Fixed(count as i64)]);
        }
        return Some(());
    }
    let (start, limit, delta) = (call.single(0)?, call.single(1)?, call.single(2)?.fixed()?);
    let span = if delta > 0 {
        limit.sub(&start)
    } else {
        start.sub(&limit)
    };
    let step = delta.checked_abs().filter(|step| *step > 0)?;
    let count = span.ceil_div(&Dim::Fixed(step)).max(&Dim::Fixed(0));
    facts.shape(0, [count.clone()]);
    let count = count.fixed().filter(|count| *count <= MAX_LISTED)?;
    let elements = (0..count)
        .map(|index| start.add(&Dim::Fixed(index).mul(&Dim::Fixed(delta))))
        .collect();
    facts.content(0, content::vector(elements));
    Some(())
}

fn shape(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.shape(0, [Dim::Unknown]);
    let shape = call.shape(0)?;
    // Bounds are clamped, not refused.
    let clamp = |value: i64| {
        let rank = shape.len() as i64;
        (if value < 0 {
            value.saturating_add(rank)
        } else {
            value
        })
        .clamp(0, rank) as usize
    };
    let start = clamp(call.int_or("start", 0));
    let end = call.int("end").map_or(shape.len(), clamp);
    facts.sizes(0, content::vector(shape.get(start..end.max(start))?.to_vec()));
    Some(())
}

fn size(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.shape(0, []);
    facts.content(0, content::scalar(product(call.shape(0)?)));
    Some(())
}
