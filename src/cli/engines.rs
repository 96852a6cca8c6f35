//! The engine that `--engine` names.

use super::failure::Failure;
use super::global::{EngineName, Global};
use crate::engine::{Engine, TractEngine};

/// Makes the engine; nothing is loaded before.
pub(super) fn engine(global: &Global) -> Result<Box<dyn Engine>, Failure> {
    global.limit_threads();
    match global.engine {
        EngineName::Tract => Ok(Box::new(TractEngine)),
        EngineName::Ort => Err(Failure::new("engine-unavailable", "not yet")),
    }
}
