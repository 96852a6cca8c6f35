//! What ladders stand on: the step without its search, the model, and what runs it.

use serde_json::{Map, Value};

use super::NamedStep;
use super::climb::{Found, Ladder};
use super::report::Searched;
use crate::ir::{Model, model_digest};
use crate::parts::Work;
use crate::passes::{Context, PassError};

/// A ladder that knows more of its candidates than the search asks.
pub(super) trait Told: Ladder {
    /// The step that makes the candidate.
    fn step(&self, choice: &[usize]) -> NamedStep;
    /// Says what is particular to the pass of the result.
    fn tell(&self, found: &Found, searched: &mut Searched);
}

/// What ladders are made of.
pub(super) struct Ground<'a> {
    pub(super) pass: &'static str,
    /// The options of the step but those of the search.
    pub(super) options: Map<String, Value>,
    pub(super) input: &'a Model,
    pub(super) context: &'a Context<'a>,
}

impl Ground<'_> {
    /// The options as the pass reads them.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, PassError> {
        serde_json::from_value(Value::Object(self.options.clone()))
            .map_err(|error| self.wrong(error.to_string()))
    }

    /// Work on the step, with what it depends on.
    pub(super) fn work(&self, name: &'static str) -> Work {
        let engine = self.context.engine().release();
        let options = Value::Object(self.options.clone()).to_string();
        Work::new(
            name,
            [
                ("model", model_digest(self.input)),
                ("step", format!("{} {options}", self.pass)),
                ("seed", self.context.seed.to_string()),
                ("engine", engine),
            ],
        )
    }

    pub(super) fn wrong(&self, message: String) -> PassError {
        PassError::Option {
            pass: self.pass,
            message,
        }
    }
}
