//! Elements of small tensors that hold sizes.

use crate::ir::{DType, Dim, ShapeContent, Tensor};

/// Most elements that are listed as sizes.
pub(super) const MAX_ELEMENTS: usize = 1024;
/// Integers up to this size are exact in every float type that carries sizes.
const MAX_EXACT_FLOAT: f64 = 16_777_216.0;

/// A content of these elements.
pub(super) fn vector(elements: Vec<Dim>) -> ShapeContent {
    ShapeContent {
        scalar: false,
        elements,
    }
}

/// A content of rank 0.
pub(super) fn scalar(element: Dim) -> ShapeContent {
    ShapeContent {
        scalar: true,
        elements: vec![element],
    }
}

/// The elements of a small constant of rank 0 or 1.
pub(super) fn of_tensor(tensor: &Tensor) -> Option<ShapeContent> {
    if tensor.rank() > 1 {
        return None;
    }
    Some(ShapeContent {
        scalar: tensor.rank() == 0,
        elements: of_any_rank(tensor)?,
    })
}

/// The elements of a small constant: integers and booleans as numbers, floats only where they are integers.
pub(super) fn of_any_rank(tensor: &Tensor) -> Option<Vec<Dim>> {
    if tensor.elements() > MAX_ELEMENTS as u64 {
        return None;
    }
    match tensor.dtype() {
        // Numbers that a dimension does not hold are no sizes.
        DType::U64 => {
            let held = |v: &u64| i64::try_from(*v).map_or(Dim::Unknown, Dim::Fixed);
            Some(tensor.view::<u64>().ok()?.iter().map(held).collect())
        }
        dtype if dtype.is_integer() || dtype == DType::Bool => {
            Some(tensor.to_i64().ok()?.into_iter().map(Dim::Fixed).collect())
        }
        DType::F32 | DType::F64 => {
            let whole = |v: f64| {
                if v.fract() == 0.0 && v.abs() < MAX_EXACT_FLOAT {
                    Dim::Fixed(v as i64)
                } else {
                    Dim::Unknown
                }
            };
            Some(tensor.to_f64().ok()?.into_iter().map(whole).collect())
        }
        _ => None,
    }
}

/// A content of any rank: its elements in row-major order, when there are as many as the shape says.
pub(super) fn of_shape(shape: &[Dim], elements: Vec<Dim>) -> Option<ShapeContent> {
    let count = shape
        .iter()
        .try_fold(1i64, |product, dim| product.checked_mul(dim.fixed()?))?;
    (count == elements.len() as i64).then_some(ShapeContent {
        scalar: shape.is_empty(),
        elements,
    })
}

/// Whether anything is known of the elements. A content of no elements says that there are none.
pub(super) fn says_something(content: &ShapeContent) -> bool {
    content.elements.is_empty() || content.elements.iter().any(Dim::is_known)
}
