//! Elements of small tensors that hold sizes.

use crate::ir::{DType, Dim, ShapeContent, Tensor};

/// Most elements of a constant that count as sizes.
const MAX_ELEMENTS: u64 = 1024;
/// Integers up to this size are exact in every float type that carries sizes.
const MAX_EXACT_FLOAT: f64 = 16_777_216.0;

/// A content of these elements.
pub(super) fn vector(elements: Vec<Dim>) -> ShapeContent {
    ShapeContent { scalar: false, elements }
}

/// A content of rank 0.
pub(super) fn scalar(element: Dim) -> ShapeContent {
    ShapeContent { scalar: true, elements: vec![element] }
}

/// The elements of a small constant of rank 0 or 1: integers and booleans as numbers, floats only where they are integers.
pub(super) fn of_tensor(tensor: &Tensor) -> Option<ShapeContent> {
    if tensor.rank() > 1 || tensor.elements() > MAX_ELEMENTS {
        return None;
    }
    let elements = match tensor.dtype() {
        dtype if dtype.is_integer() || dtype == DType::Bool => {
            tensor.to_i64().ok()?.into_iter().map(Dim::Fixed).collect()
        }
        DType::F32 | DType::F64 => tensor
            .to_f64()
            .ok()?
            .into_iter()
            .map(|v| if v.fract() == 0.0 && v.abs() < MAX_EXACT_FLOAT { Dim::Fixed(v as i64) } else { Dim::Unknown })
            .collect(),
        _ => return None,
    };
    Some(ShapeContent { scalar: tensor.rank() == 0, elements })
}

/// Whether anything is known of the elements. A content of no elements says that there are none.
pub(super) fn says_something(content: &ShapeContent) -> bool {
    content.elements.is_empty() || content.elements.iter().any(Dim::is_known)
}
