//! The engine that `--engine` names.

use std::sync::Arc;

use super::global::Global;
use crate::api::Error;
use crate::engine::Engine;

/// Makes the engine; nothing is loaded before.
pub(super) fn engine(global: &Global) -> Result<Arc<dyn Engine>, Error> {
    global.limit_threads();
    global.options().make_engine()
}
