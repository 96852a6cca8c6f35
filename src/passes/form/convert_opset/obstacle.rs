//! What stands in the way of a conversion.

use std::borrow::Cow;

use crate::ir::{EditError, TensorError};

/// Why an operator cannot be converted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    /// An edit broke a law of the IR: a defect of the adapter.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A constant does not hold what it declares, or what the other form needs.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// An adapter removed the node that it was given.
    #[error("the node is gone")]
    Gone,
    /// What the conversion depends on is not known of an input.
    #[error("the {what} of input {slot} is not known")]
    Unknown { what: &'static str, slot: usize },
    /// There is no value where the conversion reads one.
    #[error("input {slot} is left out")]
    LeftOut { slot: usize },
    /// An attribute of the enclosing function.
    #[error("its attribute {name} is the attribute {to} of a function; inline the function first")]
    Reference { name: String, to: String },
    /// An attribute of another kind than the operator's schema says.
    #[error("its attribute {name} is not {kind}")]
    Kind { name: String, kind: &'static str },
    /// An input that the other form has as an attribute, and that is no constant.
    #[error("its {name} is computed, and has to be written as an attribute")]
    Computed { name: String },
    /// An attribute or input that the conversion reads is not there.
    #[error("it has no {name}")]
    Absent { name: String },
    /// The operator is newer than the opset.
    #[error("opset {opset} introduces it")]
    Introduced { opset: i64 },
    /// The operator is gone from the opset.
    #[error("opset {opset} does not have it")]
    Withdrawn { opset: i64 },
    /// A change of form that nobody wrote an adapter for.
    #[error("its form changed, and there is no adapter")]
    NoAdapter,
    /// What this operator says the other form cannot say.
    #[error("{0}")]
    Inexpressible(Cow<'static, str>),
}

impl From<&'static str> for Obstacle {
    fn from(words: &'static str) -> Self {
        Self::Inexpressible(words.into())
    }
}

impl From<String> for Obstacle {
    fn from(words: String) -> Self {
        Self::Inexpressible(words.into())
    }
}
