//! A session that shares inputs with tract: each is one reference-counted tensor, changed in place between runs.

use std::sync::Arc;

use tract_onnx::prelude::{IntoTValue as _, TValue, Tensor as TractTensor};

use super::failed;
use super::program::{Binding, tract_error};
use super::session::{KeyPart, TractSession};
use super::tensor::to_tract;
use crate::engine::held::{FloatOutputs, HeldSession, wrong};
use crate::engine::{EngineError, RunValue, RunValues};
use crate::ir::Tensor;

pub(super) struct Held<'s> {
    session: &'s TractSession,
    tensors: Vec<Arc<TractTensor>>,
    /// For each graph input which of the tensors it is.
    places: Vec<Option<usize>>,
}

impl<'s> Held<'s> {
    pub(super) fn new(session: &'s TractSession, held: &[(String, Tensor)]) -> Result<Self, EngineError> {
        let inputs = &session.program.inputs;
        if let Some((name, _)) = held
            .iter()
            .find(|(name, _)| !inputs.iter().any(|i| i.name == *name))
        {
            return Err(wrong(name, "the model has no such input".to_owned()));
        }
        let tensors = held
            .iter()
            .map(|(name, tensor)| to_tract(tensor, name).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let places = inputs
            .iter()
            .map(|input| held.iter().position(|(name, _)| *name == input.name))
            .collect();
        Ok(Self {
            session,
            tensors,
            places,
        })
    }
}

impl HeldSession for Held<'_> {
    fn run(&self, inputs: &RunValues) -> Result<Box<dyn FloatOutputs>, EngineError> {
        let program = &self.session.program;
        let mut fed: Vec<Arc<TractTensor>> = Vec::with_capacity(self.places.len());
        let mut key = Vec::with_capacity(self.places.len());
        for (input, place) in program.inputs.iter().zip(&self.places) {
            let tensor = match place.and_then(|place| self.tensors.get(place)) {
                Some(held) => Arc::clone(held),
                None => match inputs.get(&input.name) {
                    Some(RunValue::Tensor(tensor)) => Arc::new(to_tract(tensor, &input.name)?),
                    _ => return Err(wrong(&input.name, "missing".to_owned())),
                },
            };
            key.push(KeyPart::Shape(
                tensor.shape().iter().map(|dim| *dim as u64).collect(),
            ));
            fed.push(tensor);
        }
        let bindings = key.iter().map(|part| match part {
            KeyPart::Shape(dims) => Ok(Binding::Fed(dims.clone())),
            _ => Err(failed("a held session binds no elements")),
        });
        let bindings = bindings.collect::<Result<Vec<_>, _>>()?;
        let plan = self.session.plan(key, || Ok(bindings))?;
        let elements = fed.iter().map(|tensor| tensor.len() as u64).sum();
        let fed = fed.into_iter().map(|tensor| tensor.into_tvalue()).collect();
        let values = self.session.run_plan(plan, fed, elements)?;
        let names = program.outputs.iter().map(|output| output.name.clone());
        Ok(Box::new(Outputs(names.zip(values).collect())))
    }

    fn held(&self, index: usize) -> Result<&[f32], EngineError> {
        let tensor = self
            .tensors
            .get(index)
            .ok_or_else(|| failed("no such held input"))?;
        elements(tensor)
    }

    fn held_mut(&mut self, index: usize) -> Result<&mut [f32], EngineError> {
        let tensor = self
            .tensors
            .get_mut(index)
            .ok_or_else(|| failed("no such held input"))?;
        // An output of the last run that is this very input would share it; then it is copied once.
        let view = Arc::make_mut(tensor)
            .to_plain_array_view_mut::<f32>()
            .map_err(tract_error)?;
        view.into_slice()
            .ok_or_else(|| failed("a held input is not contiguous"))
    }
}

fn elements(tensor: &TractTensor) -> Result<&[f32], EngineError> {
    let view = tensor.to_plain_array_view::<f32>().map_err(tract_error)?;
    view.to_slice()
        .ok_or_else(|| failed("a tensor is not contiguous"))
}

struct Outputs(Vec<(String, TValue)>);

impl FloatOutputs for Outputs {
    fn get(&self, name: &str) -> Result<&[f32], EngineError> {
        let found = self.0.iter().find(|(known, _)| known == name);
        elements(&found.ok_or_else(|| wrong(name, "no such output".to_owned()))?.1)
    }
}
