//! Private symbols: names for the dimensions of graph inputs that the file leaves unnamed.

use std::borrow::Cow;

use crate::ir::{Dim, TensorType, ValueType};

/// Private symbols begin with this, so no name of a file may be taken for one.
const PREFIX: &str = "?";

/// Whether a symbol was made by inference, for an unnamed dimension of a graph input. Such a symbol is never written to a
/// file.
pub fn is_private_symbol(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The type as it may be declared in a file: dimensions that depend on private symbols are unknown.
pub fn public_type(ty: &ValueType) -> ValueType {
    let public = |tensor: &TensorType| {
        let mut tensor = tensor.clone();
        for dim in tensor.shape.iter_mut().flatten() {
            let mut private = false;
            dim.for_each_symbol(&mut |name| private |= is_private_symbol(name));
            if private {
                *dim = Dim::Unknown;
            }
        }
        tensor
    };
    match ty {
        ValueType::Tensor(tensor) => ValueType::Tensor(public(tensor)),
        ValueType::Sparse(tensor) => ValueType::Sparse(public(tensor)),
        ValueType::Sequence(element) => ValueType::Sequence(Box::new(public_type(element))),
        ValueType::Optional(element) => ValueType::Optional(Box::new(public_type(element))),
        ValueType::Map(key, value) => ValueType::Map(*key, Box::new(public_type(value))),
        other => other.clone(),
    }
}

/// Whether a declared dimension names nothing: exporters write `?` for any size, and two of them need not be equal.
pub(super) fn is_anonymous(dim: &Dim) -> bool {
    match dim {
        Dim::Unknown => true,
        Dim::Expr(_) => dim.as_symbol().is_some_and(|name| is_private_symbol(name)),
        Dim::Fixed(_) => false,
    }
}

/// The type of a graph input with a private symbol for each unnamed dimension, the same at each call.
pub(super) fn with_private_symbols<'a>(name: &str, ty: &'a ValueType) -> Cow<'a, ValueType> {
    let ValueType::Tensor(TensorType {
        dtype,
        shape: Some(shape),
    }) = ty
    else {
        return Cow::Borrowed(ty);
    };
    if !shape.iter().any(is_anonymous) {
        return Cow::Borrowed(ty);
    }
    let named = shape
        .iter()
        .enumerate()
        .map(|(axis, dim)| {
            if is_anonymous(dim) {
                Dim::symbol(format!("{}{axis}]", private_prefix(name)))
            } else {
                dim.clone()
            }
        })
        .collect();
    Cow::Owned(ValueType::Tensor(TensorType {
        dtype: *dtype,
        shape: Some(named),
    }))
}

/// How the private symbols of the graph input `name` begin.
pub(super) fn private_prefix(name: &str) -> String {
    format!("{PREFIX}{name}[")
}
