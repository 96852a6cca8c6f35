//! Computing the outputs of one operator on constants.

use crate::ir::{Operator, Tensor};

/// Evaluates single operators; [`crate::fold`] backs it by an engine.
pub trait Evaluator: Sync {
    /// The outputs of `operator` (as in opset `version` of its domain) on constant inputs, `outputs` many.
    /// `None` stands for an optional input that is left out.
    fn evaluate(
        &self,
        operator: &Operator,
        version: i64,
        inputs: &[Option<Tensor>],
        outputs: usize,
    ) -> Result<Vec<Tensor>, EvaluateError>;
}

/// Why an operator was not evaluated.
#[derive(Debug, thiserror::Error, Clone)]
pub enum EvaluateError {
    /// No kernel, or one that is not trusted.
    #[error("{operator} cannot be evaluated: {reason}")]
    Unsupported {
        /// Operator type.
        operator: String,
        /// Why.
        reason: String,
    },
    /// The inputs are not valid for the operator.
    #[error("{operator} failed: {reason}")]
    Failed {
        /// Operator type.
        operator: String,
        /// Why.
        reason: String,
    },
}
