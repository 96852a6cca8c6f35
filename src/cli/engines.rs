//! The engine that `--engine` names.

use super::failure::Failure;
use super::global::{EngineName, Global};
use super::terminal;
use crate::engine::{Engine, OrtEngine, TractEngine};

/// Makes the engine; nothing is loaded before.
pub(super) fn engine(global: &Global) -> Result<Box<dyn Engine>, Failure> {
    global.limit_threads();
    match global.engine {
        EngineName::Tract => Ok(Box::new(TractEngine)),
        EngineName::Ort => {
            let engine = OrtEngine::load()?;
            if global.quiet == 0 {
                terminal::note(&format!("{}, {}", engine.describe(), engine.path().display()));
            }
            Ok(Box::new(engine))
        }
    }
}
