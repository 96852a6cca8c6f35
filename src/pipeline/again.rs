//! A pipeline once more: passes cannot be cloned, and are made anew from their options.

use super::definition::{Pipeline, Step, StepError};

impl Pipeline {
    /// The same pipeline again.
    ///
    /// # Errors
    ///
    /// A step of a pass that is not registered.
    pub fn again(&self) -> Result<Self, StepError> {
        let again = |step: &Step| {
            Ok(Step {
                spot: step.spot.clone(),
                ..Step::new(&step.name, step.options.clone())?
            })
        };
        Ok(Self {
            name: self.name.clone(),
            base: self.base.clone(),
            keep: self.keep.clone(),
            data: self.data.clone(),
            steps: self.steps.iter().map(again).collect::<Result<_, _>>()?,
            gates: self.gates.clone(),
            gate_places: self.gate_places.clone(),
            included: self.included.clone(),
        })
    }
}
