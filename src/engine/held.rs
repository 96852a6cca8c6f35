//! Sessions some of whose inputs stay in the engine's memory from run to run, to be changed in place between runs.

use super::{EngineError, RunValue, RunValues, Session};
use crate::ir::Tensor;

/// Float outputs of one run, in the engine's own memory where it has one.
pub trait FloatOutputs: Send {
    /// The elements of an output in row-major order.
    fn get(&self, name: &str) -> Result<&[f32], EngineError>;
}

/// A session that holds some of its inputs. Runs share them; a change waits for no run, as it takes the session for itself.
pub trait HeldSession: Send + Sync {
    /// Runs the model on the inputs that are not held.
    fn run(&self, inputs: &RunValues) -> Result<Box<dyn FloatOutputs>, EngineError>;

    /// The elements of a held input, by its place among those given.
    fn held(&self, index: usize) -> Result<&[f32], EngineError>;

    /// The same, to be changed.
    fn held_mut(&mut self, index: usize) -> Result<&mut [f32], EngineError>;
}

/// Holds `held` as inputs of `session`: shared with the engine where it can do that, else copied in every run.
pub fn hold<'s>(
    session: &'s dyn Session,
    held: &[(String, Tensor)],
) -> Result<Box<dyn HeldSession + 's>, EngineError> {
    if let Some(shared) = session.holding(held) {
        return shared;
    }
    let held = held
        .iter()
        .map(|(name, tensor)| match tensor.view::<f32>() {
            Ok(values) => Ok((name.clone(), tensor.dims().to_vec(), values.into_owned())),
            Err(error) => Err(wrong(name, error.to_string())),
        })
        .collect::<Result<_, _>>()?;
    Ok(Box::new(Copying { session, held }))
}

pub(super) fn wrong(name: &str, reason: String) -> EngineError {
    EngineError::Input {
        name: name.to_owned(),
        reason,
    }
}

/// Inputs that are handed over in every run.
struct Copying<'s> {
    session: &'s dyn Session,
    held: Vec<(String, Vec<u64>, Vec<f32>)>,
}

impl HeldSession for Copying<'_> {
    fn run(&self, inputs: &RunValues) -> Result<Box<dyn FloatOutputs>, EngineError> {
        let mut inputs = inputs.clone();
        for (name, dims, values) in &self.held {
            let tensor = Tensor::from_slice(dims, values).map_err(|error| wrong(name, error.to_string()))?;
            inputs.insert(name.clone(), RunValue::Tensor(tensor));
        }
        let results = self.session.run(&inputs)?;
        let copied = results.into_iter().filter_map(|(name, value)| match value {
            RunValue::Tensor(tensor) => Some((name, tensor.to_f32().ok()?.into_owned())),
            _ => None,
        });
        Ok(Box::new(Copied(copied.collect())))
    }

    fn held(&self, index: usize) -> Result<&[f32], EngineError> {
        let held = self
            .held
            .get(index)
            .ok_or_else(|| wrong("", "no such held input".to_owned()))?;
        Ok(&held.2)
    }

    fn held_mut(&mut self, index: usize) -> Result<&mut [f32], EngineError> {
        let held = self
            .held
            .get_mut(index)
            .ok_or_else(|| wrong("", "no such held input".to_owned()))?;
        Ok(&mut held.2)
    }
}

pub(super) struct Copied(pub(super) std::collections::BTreeMap<String, Vec<f32>>);

impl FloatOutputs for Copied {
    fn get(&self, name: &str) -> Result<&[f32], EngineError> {
        let values = self
            .0
            .get(name)
            .ok_or_else(|| wrong(name, "no such float output".to_owned()))?;
        Ok(values)
    }
}
