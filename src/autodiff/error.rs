//! Why a gradient cannot be had.

use crate::ir::{DType, EditError};

/// Why [`super::gradients()`] refuses a model. The model is never changed.
#[derive(Debug, thiserror::Error, Clone)]
pub enum AutodiffError {
    /// An operator without a rule lies between a wanted value and the loss.
    #[error("{node}: there is no gradient rule for {operator}, and it lies between {wanted} and the loss")]
    Operator {
        /// The node.
        node: String,
        /// Operator type, with its domain when that is not ONNX's own.
        operator: String,
        /// A wanted value that it depends on.
        wanted: String,
    },
    /// A body (If, Loop, Scan) lies between a wanted value and the loss.
    #[error(
        "{node}: gradients do not pass through the bodies of {operator}, and it lies between {wanted} and the loss"
    )]
    Body {
        /// The node.
        node: String,
        /// Operator type.
        operator: String,
        /// A wanted value that it depends on.
        wanted: String,
    },
    /// The operator has a rule, but not in this form.
    #[error("{node}: no gradient of this {operator}: {reason}")]
    Form {
        /// The node.
        node: String,
        /// Operator type.
        operator: String,
        /// What stands in the way.
        reason: String,
    },
    /// Type or rank of a value is unknown where a rule needs it.
    #[error(
        "{node}: the gradient of {operator} needs the type and rank of {value}, which are unknown; bind the model's sizes"
    )]
    UnknownType {
        /// The node.
        node: String,
        /// Operator type.
        operator: String,
        /// The value.
        value: String,
    },
    /// The model has no value of this name.
    #[error("the model has no value {name:?}")]
    NoValue {
        /// The name.
        name: String,
    },
    /// The wanted value is no tensor of real numbers.
    #[error("{name} is {found}: only float values have gradients")]
    NotFloat {
        /// The value.
        name: String,
        /// Its element type, if it is known.
        found: String,
    },
    /// The loss does not depend on a value that was asked for by name.
    #[error("the loss does not depend on {name}")]
    Unreachable {
        /// The value.
        name: String,
    },
    /// Nothing to differentiate.
    #[error("the loss depends on no float initializer")]
    NothingWanted,
    /// The model has no such output.
    #[error("the model has no output {name:?}")]
    NoOutput {
        /// The name; empty when the model has no output at all.
        name: String,
    },
    /// The output does not suit the loss.
    #[error("the {loss} loss does not fit the output {output}: {reason}")]
    Loss {
        /// The loss.
        loss: &'static str,
        /// The output.
        output: String,
        /// Why.
        reason: String,
    },
    /// A graph input already has the name of one that the loss adds.
    #[error("the model already has an input {name:?}, which is what the loss would add")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The opset is too old for the operators that gradients are made of.
    #[error("gradients need opset {needed} or later, the model has {found}")]
    Opset {
        /// The model's opset.
        found: i64,
        /// The oldest that serves.
        needed: i64,
    },
    /// The sizes given for symbols do not suit the model.
    #[error("{symbol} is no symbolic dimension of the model's inputs")]
    NoSymbol {
        /// The name.
        symbol: String,
    },
    /// The emitted graph is not well-formed: a defect of secateur.
    #[error("internal error while gradients were emitted: {0}; please report it")]
    Edit(#[from] EditError),
}

impl AutodiffError {
    /// Stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Operator { .. } => "autodiff-operator",
            Self::Body { .. } => "autodiff-body",
            Self::Form { .. } => "autodiff-form",
            Self::UnknownType { .. } => "autodiff-unknown-type",
            Self::NoValue { .. } => "autodiff-no-value",
            Self::NotFloat { .. } => "autodiff-not-float",
            Self::Unreachable { .. } => "autodiff-unreachable",
            Self::NothingWanted => "autodiff-nothing-wanted",
            Self::NoOutput { .. } => "autodiff-no-output",
            Self::Loss { .. } => "autodiff-loss",
            Self::NameTaken { .. } => "autodiff-name-taken",
            Self::Opset { .. } => "autodiff-opset",
            Self::NoSymbol { .. } => "autodiff-no-symbol",
            Self::Edit(_) => "autodiff-internal",
        }
    }

    /// The node that stands in the way, if the error names one.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Operator { node, .. }
            | Self::Body { node, .. }
            | Self::Form { node, .. }
            | Self::UnknownType { node, .. } => Some(node),
            _ => None,
        }
    }

    pub(super) fn not_float(name: &str, found: Option<DType>) -> Self {
        Self::NotFloat {
            name: name.to_owned(),
            found: found.map_or("of unknown type".to_owned(), |d| d.to_string()),
        }
    }
}
