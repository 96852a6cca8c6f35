//! tract: the engine that is built in.
//!
//! A model goes to tract as protobuf messages ([`program`]), each set of concrete input shapes gets a plan
//! ([`session`]), and a run takes a fresh state of a plan, so that runs on many threads share the plan and nothing else.
//! What tract is known to compute wrongly is refused before it is compiled ([`deny`]); what it lacks is
//! [`crate::lower`]'s to rewrite.

mod constants;
mod deny;
mod held;
mod kernels;
mod messages;
mod node;
mod program;
#[cfg(target_os = "linux")]
mod remote;
mod session;
mod tensor;
mod widened;

pub use deny::{refusals, runs};
pub use node::run_node;
#[cfg(target_os = "linux")]
pub(super) use remote::{receive, receive_node};

use super::bounded::Extent;
use super::{CompileOptions, Engine, EngineError, Session, calls};
use crate::ir::Model;

/// The engine's name in errors and reports.
const ENGINE: &str = "tract";

/// The engine behind [`Engine`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TractEngine;

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn release(&self) -> String {
        "tract 0.23.9".to_owned()
    }

    fn describe(&self) -> String {
        format!("{} (built in)", self.release())
    }

    fn compile(&self, model: &Model, options: &CompileOptions) -> Result<Box<dyn Session>, EngineError> {
        if let Some(refusal) = calls::refusal(model, ENGINE).or_else(|| deny::refusal(model)) {
            return Err(refusal);
        }
        let parts = program::Parts::new(model, options)?;
        #[cfg(target_os = "linux")]
        if let Some(host) = super::worker::host() {
            return remote::open(host, model, &parts, options);
        }
        Ok(Box::new(session::TractSession::new(
            program::Program::new(parts)?,
            Extent::of(model),
            options.symbols.clone(),
        )))
    }
}

fn failed(reason: impl Into<String>) -> EngineError {
    EngineError::Failed {
        engine: ENGINE,
        reason: reason.into(),
    }
}
