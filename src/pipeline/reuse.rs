//! What runs of pipelines share whose first steps are the same: one goes on from where the steps of the last are its own.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use super::definition::Pipeline;
use super::done::Done;
use super::run::Found;
use crate::ir::Model;

/// The states after the steps of the last run. It is for runs whose [`RunOptions`](super::RunOptions) are otherwise the same; runs that
/// overlap in time share nothing.
#[derive(Debug, Default)]
pub struct Reached {
    states: Mutex<Vec<State>>,
}

/// What a run may go on from.
#[derive(Clone, Debug)]
pub struct Reuse {
    /// The states.
    pub reached: Arc<Reached>,
    /// What decides about the states beside the steps: the model and the data.
    pub scope: String,
}

/// What there is after a step.
#[derive(Debug)]
pub(super) struct State {
    /// Of the scope, the step and all before it.
    key: blake3::Hash,
    pub(super) model: Model,
    pub(super) done: Done,
    pub(super) found: Found,
}

/// The states of a run on its way.
pub(super) struct Trail<'a> {
    reuse: Option<&'a Reuse>,
    keys: Vec<blake3::Hash>,
    states: Vec<State>,
}

impl<'a> Trail<'a> {
    /// The states that the steps of `pipeline` begin with.
    pub(super) fn of(reuse: Option<&'a Reuse>, pipeline: &Pipeline) -> Self {
        let Some(own) = reuse else {
            return Self {
                reuse,
                keys: Vec::new(),
                states: Vec::new(),
            };
        };
        let keys = keys(&own.scope, pipeline);
        let mut states =
            std::mem::take(&mut *own.reached.states.lock().unwrap_or_else(PoisonError::into_inner));
        let same = states
            .iter()
            .zip(&keys)
            .take_while(|(state, key)| state.key == **key);
        states.truncate(same.count());
        Self { reuse, keys, states }
    }

    /// The state that the run starts from, and how many steps it has behind it.
    pub(super) fn start(&self) -> Option<(usize, &State)> {
        self.states.last().map(|state| (self.states.len(), state))
    }

    /// Keeps what there is after step `index`, unless it is the last.
    pub(super) fn reach(&mut self, index: usize, model: &Model, done: &Done, found: &Found) {
        if index + 1 < self.keys.len()
            && let Some(key) = self.keys.get(index)
        {
            self.states.push(State {
                key: *key,
                model: model.clone(),
                done: done.clone(),
                found: found.clone(),
            });
        }
    }
}

impl Drop for Trail<'_> {
    fn drop(&mut self) {
        if let Some(reuse) = self.reuse {
            let mut states = reuse
                .reached
                .states
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *states = std::mem::take(&mut self.states);
        }
    }
}

/// One key for each step.
fn keys(scope: &str, pipeline: &Pipeline) -> Vec<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut add = |value: serde_json::Value| {
        hasher.update(value.to_string().as_bytes());
        hasher.finalize()
    };
    add(json!([scope, pipeline.base, pipeline.keep]));
    let steps = pipeline.steps.iter();
    steps.map(|step| add(json!([step.name, step.options]))).collect()
}
