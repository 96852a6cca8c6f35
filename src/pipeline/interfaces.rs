//! Steps that change what inputs and outputs are called, or which outputs there are: what the result is compared with is called like it.

use super::run::RunError;
use crate::ir::Model;
use crate::passes::{Interface, PassError};

/// How a step changed what callers see.
#[derive(Clone, Debug)]
pub(super) struct Recalled {
    /// The step, counted from 0.
    pub(super) index: usize,
    /// Its pass.
    pub(super) pass: &'static str,
    /// What it changed.
    pub(super) interface: Interface,
}

impl Recalled {
    /// Lets an earlier model be called as the one after the step is.
    pub(super) fn apply(&self, model: &mut Model) -> Result<(), RunError> {
        let (step, pass) = (self.index + 1, self.pass);
        self.interface
            .apply(model, pass)
            .map_err(|source| RunError::Pass {
                step,
                source: PassError::Edit { pass, source },
            })
    }
}

/// The input as callers call the result; `None` where they call it as it is.
pub(super) fn recalled(input: &Model, changes: &[Recalled]) -> Result<Option<Model>, RunError> {
    if changes.is_empty() {
        return Ok(None);
    }
    let mut model = input.clone();
    for change in changes {
        change.apply(&mut model)?;
    }
    Ok(Some(model))
}
