//! What can go wrong with one product.

use crate::ir::{EditError, TensorError};
use crate::passes::quantize::weights::WeightError;
use crate::quantize::QuantizeError;

/// Why a product is not replaced.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProductError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Codes(#[from] QuantizeError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error(transparent)]
    Rows(WeightError),
}

impl From<WeightError> for ProductError {
    fn from(error: WeightError) -> Self {
        match error {
            WeightError::Edit(source) => Self::Edit(source),
            other => Self::Rows(other),
        }
    }
}
